/* SPDX-License-Identifier: MIT
 *
 * The one table of errors.  Status codes at the ABI, their names and the exit codes of the command line are all taken from here;
 * nothing else numbers an error.
 *
 * CELL_ERROR_TABLE (X) calls X (NAME, code, Name, exit, text) once for each:
 *   NAME  gives the constant CELL_ERROR_NAME       Name  gives org.cellhost.Error.Name
 *   code  the status, never renumbered             exit  the exit code of cellctl      text  what it means, for a person
 */
#ifndef CELL_ERRORS_H
#define CELL_ERRORS_H

#define CELL_ERROR_TABLE(X) \
  X (FAILED,        -1, Failed,        1, "the cell reported an error of its own") \
  X (INVALID,       -2, Invalid,       2, "an argument is not acceptable") \
  X (NOT_FOUND,     -3, NotFound,      3, "there is no such cell, file or thing") \
  X (NO_METHOD,     -4, NoMethod,      3, "the cell has no such method, signal or property") \
  X (CONTRACT,      -5, Contract,      4, "the contract compiled into the caller does not fit the cell's") \
  X (TOO_LARGE,     -6, TooLarge,      5, "a message is larger than its limit; larger data travels as a blob") \
  X (BUSY,          -7, Busy,          6, "it is busy, or its queue is full; nothing was done") \
  X (DEADLINE,      -8, Deadline,      7, "the deadline passed; the call may have been executed all the same") \
  X (CANCELLED,     -9, Cancelled,     8, "the call was cancelled; it may have been executed all the same") \
  X (DEADLOCK,     -10, Deadlock,      9, "the call would wait for itself") \
  X (CORRUPT,      -11, Corrupt,      10, "a peer broke the protocol; its channel was ended") \
  X (CRASHED,      -12, Crashed,      11, "the cell or its host died while it had the call; it may or may not have been executed") \
  X (GONE,         -13, Gone,         12, "the cell, the client or the call is no longer there") \
  X (DENIED,       -14, Denied,       13, "this connection may not do that") \
  X (REFUSED,      -15, Refused,      14, "the file was looked at and refused") \
  X (EXISTS,       -16, Exists,       15, "there is one already, or it is so already") \
  X (UNSUPPORTED,  -17, Unsupported,  16, "this host, cell or machine cannot do that") \
  X (NO_RESOURCES, -18, NoResources,  17, "memory, descriptors, disk or another limit ran out") \
  X (UNREACHABLE,  -19, Unreachable,  18, "no host answers at that address") \
  X (STATE,        -20, State,        19, "the state could not be saved or restored") \
  X (INTERNAL,     -21, Internal,     20, "the host found itself in a state that it should not be in")

enum
{
  CELL_OK = 0,
  CELL_DEFERRED = 1,            /* a handler's answer only: cell_defer () was called, the reply comes later */
#define CELL_ERROR_CODE_(NAME, code, Name, exit, text) CELL_ERROR_##NAME = code,
  CELL_ERROR_TABLE (CELL_ERROR_CODE_)
#undef CELL_ERROR_CODE_
};

#endif

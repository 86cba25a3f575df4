/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What is said over a connection's Unix socket (SOCK_SEQPACKET): the handshake, the channels' memory and where a callee went.
 * No call passes through here.
 *
 * A message is a WireHeader, a body of one of the structs below, and for some types a tail of text; descriptors travel beside it.
 * Both ends are on one machine and of one protocol version, so bodies are C structs.  Everything is checked by the receiver:
 * the size of the body, the number of descriptors, that strings end, before any of it is looked at.
 *
 *   client → host                                           host → client
 *   HELLO                                                   WELCOME + {bell of the host, bell of the client}
 *   BIND + contract text of what the caller was built for   BOUND + u32 number of each method, then of each signal
 *   OPEN                                                    CHANNEL + {epoch, requests, replies, [bell]}
 *   MAPPED                                                  (the host seals the requests, and the channel is in use)
 *   CLOSE
 *   BLOB_NEW                                                BLOB + {memory to reserve and fill}
 *   BLOB_EXPORT + {sealed memory}                           BLOB (its id)
 *   BLOB_IMPORT                                             BLOB + {sealed memory}
 *   OFFENCE (the channel's peer, another process than the host, has broken a rule)
 *                                                           MOVED + {[replies, [bell]]} at any time
 *                                                           ERROR + message, in answer to anything
 *
 * The bell of a channel is the callee's own; where there is none it is the host's, of WELCOME.
 *
 * A runner is a client too: what its cell calls goes over the same connection.  The host also says to it:
 *
 *   LOAD + {plugin, statistics} + configuration             READY + contract text (with documentation if that fits)
 *   ATTACH + {requests, replies, bell of the caller}        DONE
 *   PLACE (callers that are attached: where to go on)       DONE
 *   DETACH                                                  DONE
 *   RESTORE + {state}                                       DONE
 *   START (serve what is attached)                          DONE
 *   STOP (finish what was taken within so long, take no more)   DONE
 *   RETIRE (the same for good: what its cell has asked others and not been told in a moment is cancelled)   DONE
 *   SAVE                                                    STATE + {state}
 *   GIVE                                                    STATE + {subscriptions and kept calls}
 *   TAKE + {the same}                                       DONE
 *   QUIT
 *
 * A runner says OFFENCE also of a channel that it was told to attach.  The host was not there: it takes it for what it is, a claim.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fault.h"

#define WIRE_PROTOCOL 2u
#define WIRE_TAIL_MAX (96u * 1024u)
#define WIRE_FDS_MAX 4u
#define WIRE_NAME_MAX 64u               /* of a cell, its NUL included */
#define WIRE_RULE_MAX 32u               /* of a rule of the membrane, likewise */
#define WIRE_METHODS_MAX 1024u
#define WIRE_NO_METHOD UINT32_MAX       /* in BOUND: the cell does not have it */

/* Calls to this number set what signals a channel gets: the request is one u64, a bit for each signal. */
#define WIRE_METHOD_SUBSCRIBE 0xfff0u
#define WIRE_SIGNALS_MAX 64u

typedef enum
{
  WIRE_HELLO = 1, WIRE_WELCOME, WIRE_BIND, WIRE_BOUND, WIRE_OPEN, WIRE_CHANNEL, WIRE_MAPPED, WIRE_CLOSE, WIRE_BLOB_NEW,
  WIRE_BLOB_EXPORT, WIRE_BLOB_IMPORT, WIRE_BLOB, WIRE_MOVED, WIRE_ERROR,
  WIRE_LOAD = 64, WIRE_READY, WIRE_ATTACH, WIRE_DETACH, WIRE_RESTORE, WIRE_START, WIRE_STOP, WIRE_SAVE, WIRE_STATE, WIRE_DONE,
  WIRE_QUIT, WIRE_TAKE, WIRE_GIVE, WIRE_RETIRE, WIRE_OFFENCE, WIRE_PLACE
} WireType;

typedef struct
{
  uint32_t size;                /* of everything, this header included */
  uint16_t type, n_fds;
  uint64_t serial;              /* an answer carries the question's */
} WireHeader;

typedef struct
{
  uint32_t protocol;
  uint16_t abi_major, abi_minor;
  uint32_t pid;
  uint32_t reserved;
  uint8_t token[32];            /* of a runner: what the host gave it; else zero */
} WireHello;

typedef struct
{
  uint32_t protocol;
  uint16_t abi_major, abi_minor;
  uint32_t pid;
  uint32_t reserved;
} WireWelcome;

typedef struct
{
  char cell[WIRE_NAME_MAX];
  char interface[128];
  uint64_t contract;            /* fingerprint of what the caller was built for; when it is the cell's the text need not be read */
  uint32_t version;
  uint32_t n_methods, n_signals;        /* the tail: that many lines "name fingerprint", then the contract text */
  uint32_t reserved;
} WireBind;

typedef struct
{
  uint64_t cell_id;             /* unique among this host's cells */
  uint32_t n_methods, n_signals;
  uint32_t max_reply;           /* of the largest method */
  uint32_t reserved;
} WireBound;

typedef struct
{
  char cell[WIRE_NAME_MAX];
  uint32_t request_capacity;    /* bytes wanted for requests; 0: the usual */
  uint32_t reserved;
  uint64_t cell_id;             /* as BOUND said: CELL_ERROR_GONE when the name is another cell's by now; 0: whichever it is */
} WireOpen;

typedef struct
{
  uint64_t channel;             /* names it on this connection */
  uint64_t generation;          /* odd: nobody writes to these replies; who does is told of by MOVED, as soon as he can be */
  uint64_t request_salt, reply_salt;
  uint64_t taken, answered;     /* positions to begin at */
  uint32_t request_capacity, reply_capacity;
  uint32_t epoch_word;          /* seen when the positions were taken */
  uint32_t untrusted;           /* the callee is another process than the host */
} WireChannel;

typedef struct
{
  uint64_t channel;
} WireRef;                      /* MAPPED, CLOSE, DETACH */

typedef struct
{
  uint64_t channel;
  uint64_t generation;          /* as in CHANNEL */
  uint64_t final_taken, final_reply;    /* of the generation before */
  uint64_t reply_salt;
  uint32_t reply_capacity;
  uint32_t crashed;
  uint32_t gone;                /* no successor, no descriptor */
  uint32_t untrusted;
} WireMoved;

typedef struct
{
  uint64_t id;
  uint64_t size;
} WireBlob;

typedef struct
{
  int32_t status;
  uint32_t reserved;
} WireError;                    /* the tail: the message */

typedef struct
{
  char cell[WIRE_NAME_MAX];
  uint64_t plugin_size;
  uint64_t generation;
  uint64_t numbers_size;        /* bytes at the end of the tail; 0: the cell's own numbers are its callers' */
} WireLoad;                     /* the tail: what is set for it, and the numbers that its callers know; see plugins/settings.h,
                                 * plugins/numbers.h */

typedef struct
{
  uint32_t threading;           /* CELL_SERIAL … */
  uint32_t saves;               /* it has a save () */
} WireReady;                    /* the tail: its contract */

typedef struct
{
  uint64_t channel;
  uint64_t request_salt, reply_salt;
  uint64_t taken, answered;
  uint64_t subscribed;
  uint32_t request_capacity, reply_capacity;
  uint32_t access;
  uint32_t reserved;
} WireAttach;

typedef struct
{
  uint64_t channel;
  uint64_t taken, answered;
} WirePlace;                    /* PLACE: the tail, so many of them */

#define WIRE_PLACES_MAX (WIRE_TAIL_MAX / sizeof (WirePlace))

typedef struct
{
  uint32_t version;
  uint32_t reserved;
  uint64_t size;
} WireState;                    /* so many bytes: in the memory that is passed; without any, they are the tail */

typedef struct
{
  uint32_t milliseconds;
  uint32_t reserved;
} WireStop;                     /* STOP, RETIRE: how long what was taken may go on; then it is refused, and all is as before */

typedef struct
{
  char rule[WIRE_RULE_MAX];
  uint64_t channel;
  uint32_t at;                  /* see Channel.broken_at */
  uint32_t reserved;
} WireOffence;

typedef union
{
  WireHello hello;
  WireWelcome welcome;
  WireBind bind;
  WireBound bound;
  WireOpen open;
  WireChannel channel;
  WireRef ref;
  WireMoved moved;
  WireBlob blob;
  WireError error;
  WireLoad load;
  WireReady ready;
  WireAttach attach;
  WireState state;
  WireStop stop;
  WireOffence offence;
} WireBody;

typedef struct
{
  WireHeader header;
  WireBody body;
  uint32_t tail_size;
  char *tail;                   /* NUL-terminated copy, or NULL */
  int fds[WIRE_FDS_MAX];        /* -1 from header.n_fds on */
} WireMessage;

/* Sends one message; body's size follows from the type.  fds are not taken.  deadline: CLOCK_MONOTONIC ns; 0: do not wait. */
bool wire_send (int socket, WireType type, uint64_t serial, const void *body, const void *tail, uint32_t tail_size, const int *fds,
                unsigned n_fds, uint64_t deadline, Fault *fault);
/* CELL_ERROR status as one message. */
bool wire_send_error (int socket, uint64_t serial, CellStatus status, const char *message, uint64_t deadline);

/* Receives and checks one message: 1; 0: nothing came before the deadline (0: do not wait); -1: the connection has ended or broke
 * the protocol: fault. */
int wire_receive (int socket, WireMessage *message, uint64_t deadline, Fault *fault);
/* Closes descriptors that were not taken (set to -1), frees the tail. */
void wire_message_clear (WireMessage *message);
/* Takes one descriptor out. */
int wire_message_take_fd (WireMessage *message, unsigned n);

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What a process in a sandbox writes into the pipe that it was given as LAST_WORD, when the kernel keeps it from a system call.
 *
 * The cell's code could write there, too: it is for people to read, and no reason to trust anybody.
 */
#pragma once
#include <stdint.h>

#define LAST_WORD 8
#define LAST_FILTER 9                   /* on which it reads what it confines itself to once its cell has begun, if it has that */

typedef struct
{
  uint32_t arch;                /* AUDIT_ARCH_… */
  int32_t number;               /* of the system call */
} LastWord;

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What went wrong below GLib: a status of the one error table and a sentence.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include <cell/abi.h>

typedef struct
{
  CellStatus status;
  char message[236];
} Fault;

/* Fills the fault, if there is one to fill, and returns false. */
bool fault_set (Fault *fault, CellStatus status, const char *format, ...) __attribute__ ((format (printf, 3, 4)));

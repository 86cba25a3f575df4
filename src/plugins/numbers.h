/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * By which numbers a cell's callers know its callables and signals, for a process in which another build of it is to serve them:
 * what an older build had comes first, in that order, and what is new comes behind.  As contract_number_like () has it.
 */
#pragma once
#include "contract.h"

typedef struct Numbers Numbers;

/* Those of a contract as it is. */
GBytes *numbers_pack (const Contract *older);
/* The same for another contract, which has all of it.  CELL_ERROR_CORRUPT: it makes no sense. */
Numbers *numbers_unpack (const void *data, gsize size, const Contract *contract, GError **error);
void numbers_free (Numbers *numbers);

uint32_t numbers_of_callable (const Numbers *numbers, const char *wire_name);
uint32_t numbers_of_signal (const Numbers *numbers, const char *name);

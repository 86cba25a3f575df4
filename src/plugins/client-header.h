/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once
#include "contract.h"

/* The typed C header of a contract's callers: what `#include <cell/remote/NAME.h>` finds and `cellctl client NAME` prints.  Names
 * were checked when the contract was made; documentation is escaped, so that none of it can become code.  CELL_ERROR_INVALID: two
 * items would have one name in C (the method get_total and the property total). */
char *client_header_new (const Contract *contract, GError **error);

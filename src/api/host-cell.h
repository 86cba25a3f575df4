/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The host is itself a cell: what it can do is declared once, with the SDK's macros.
 */
#pragma once
#include "host/host.h"

/* Whose cell it is; before the first call.  There is one host in a process. */
void host_cell_set_host (Host *host, void (*shut_down) (void));
const CellEntry *host_cell_entry (void);

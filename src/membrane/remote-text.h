/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What a caller was compiled for, as the text of a contract: the host reads it when its cell's contract is not the very same.
 */
#pragma once
#include <stdint.h>

#include <cell/client.h>

/* The contract that the tables of a generated header describe; to be freed.  NULL: no memory, or the tables nest without end. */
char *remote_to_text (const CellRemote *remote);
/* What goes before it in a WIRE_BIND: "name fingerprint\n" for each method, then for each signal. */
char *remote_to_lines (const CellRemote *remote);

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Binding: which number of the cell's is the method that a caller was compiled for, and may it be called.
 */
#pragma once
#include <cell/client.h>

#include "membrane/wire.h"
#include "plugins/contract.h"

/* From a message: u32 numbers of the methods, then of the signals.  Whoever sends it may be anybody. */
GByteArray *binding_from_wire (const Contract *contract, const WireBind *bind, const char *tail, uint32_t tail_size,
                               GError **error);
/* From the header that a cell in this process was compiled with. */
gboolean binding_from_remote (const Contract *contract, const CellRemote *remote, uint32_t *methods, uint32_t *signals,
                              GError **error);

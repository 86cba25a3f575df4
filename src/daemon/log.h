/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The daemon's log: with fields when standard error is the journal, else a line for each message.
 *
 *   PRIORITY, MESSAGE, GLIB_DOMAIN      as GLib has them
 *   CELLHOST_CELL                       the cell that said it
 */
#pragma once
#include "plugins/cell-error.h"

/* From here on messages that are less grave than `level` (debug, info, warning, error) are dropped. */
gboolean log_open (const char *level, GError **error);

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Small files that the host keeps for itself between two runs: nobody else could have written them, and they are replaced as a
 * whole or not at all.  What is in them is checked by whoever reads it: anybody of this user may have damaged them.
 */
#pragma once
#include <glib.h>

#include "plugins/cell-error.h"

/* NULL: ret_there says whether there is one, error what is wrong: with it (CELL_ERROR_STATE), or with reading it
 * (CELL_ERROR_NO_RESOURCES). */
GBytes *kept_file_read (const char *path, goffset most, gboolean *ret_there, GError **error);
/* Makes the folder, too.  durable: it outlives a loss of power from when this returns, which may take its time. */
gboolean kept_file_write (const char *path, const void *data, gsize size, gboolean durable, GError **error);
/* A variant of that type in normal form, or NULL: anything may be in there. */
GVariant *kept_variant (const char *type, GBytes *bytes);

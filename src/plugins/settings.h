/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the user has set for a cell, as bytes for the process that the cell is to run in: whatever is in a value, it is that value
 * there, too.
 */
#pragma once
#include <glib.h>

#include "cell-error.h"

#define SETTINGS_MAX_SIZE (64u * 1024u)         /* bytes */

/* Of char * → char *, UTF-8; NULL: nothing was set.  The same bytes for the same settings.  CELL_ERROR_TOO_LARGE. */
GBytes *settings_pack (GHashTable *settings, GError **error);
/* Of any bytes.  CELL_ERROR_CORRUPT: they are no settings. */
GHashTable *settings_unpack (const void *data, gsize size, GError **error);

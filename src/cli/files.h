/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Files that arguments come from and replies go to.
 */
#pragma once
#include <glib.h>

/* All of a file, which may be a pipe; "-": standard input.  CELL_ERROR_TOO_LARGE when there is more than limit bytes. */
GBytes *read_file (const char *path, gsize limit, GError **error);
/* Creates the file, or overwrites it; "-": standard output, which whoever ends the program looks after. */
gboolean write_file (const char *path, gconstpointer data, gsize size, GError **error);
/* FALSE: it does not look as if write_file () would do.  Nothing is made or changed. */
gboolean check_writable (const char *path, GError **error);

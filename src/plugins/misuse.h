/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Calls of the host's functions that were refused because they came from a thread that does not run the cell's code.  The first one
 * is always reported; a host that is debugged ($CELLHOST_DEBUG has "threads") reports all up to a limit, and ends there ("fatal").
 */
#pragma once
#include <glib.h>

#define MISUSE_DEBUG "CELLHOST_DEBUG"

/* Whether these words, with commas in between, are all known. */
gboolean misuse_knows (const char *words);
/* Reads the environment, once. */
void misuse_init (void);
/* cell: its name, or NULL when what it called with does not tell; then from, an address in the code that called, has to do.
 * where: one of … */
void misuse_report (const char *cell, const char *function, const char *tag, const char *where, const void *from);
#define MISUSE_THREAD "on a thread that does not run the cell's code"
#define MISUSE_GONE "on a thread that was left behind when the cell went"
#define MISUSE_TIME "at another time"

#define MISUSE_FROM __builtin_return_address (0)

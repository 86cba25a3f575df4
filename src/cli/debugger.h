/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What gdb is to be started with for a process that has cells in it.
 */
#pragma once
#include <glib.h>

/* Its words, the program first; to be freed.  A cell's code is a copy in memory, which gdb does not find by its name: it is told
 * where the symbols are and where the copy lies.  host: the host's process, which has the copies open; any other one has a root of
 * its own. */
char **debugger_words (guint pid, guint host);

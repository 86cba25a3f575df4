/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What bounds all processes of an ejected cell together: a cgroup, which systemd makes for whoever asks, as a transient scope.
 */
#pragma once
#include <glib.h>

/* Puts a process, and with it all that it will start, into a scope of its own, of so many bytes of memory.  TRUE: it is there.
 * CELL_ERROR_UNSUPPORTED: nobody makes any here.  After a failure nobody is asked again for a while.  Any thread that may wait for
 * a moment. */
gboolean scope_put (const char *cell, GPid pid, guint64 memory, GError **error);
/* One that has a scope has the least share of the processors from now on; where that fails, a warning says so.  The same
 * threads. */
void scope_goes_last (const char *cell, GPid pid);

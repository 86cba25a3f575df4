/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What processes in sandboxes can write to while they live, whatever the policy says by now and whatever it is called: they keep
 * what they were granted when they were started.  From any thread.
 */
#pragma once
#include <glib.h>

/* Before the process, known by `owner`, is started.  fd: the folder or file that it gets. */
void granted_add (gconstpointer owner, int fd);
/* It is gone. */
void granted_drop (gconstpointer owner);
/* Whether what lies there, or a folder on the way to it, is such a one. */
gboolean granted_has (const char *place);

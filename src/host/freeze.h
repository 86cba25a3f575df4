/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Stopping a process for good, without waiting for the milliseconds that the kernel takes to bury it.
 */
#pragma once
#include <glib.h>

typedef struct Freezer Freezer;

/* Opens what there is to look at, which takes as long as looking: while nobody waits.  pidfd: of the same process; not taken. */
Freezer *freezer_new (GPid pid, int pidfd);
void freezer_free (Freezer *freezer);
/* Stops the process and sees that it stands.  TRUE: none of its threads runs and it has started no other process, so that what it
 * has written is all that it will write until somebody lets it go on, or kills it.  FALSE: that cannot be seen, or it has not
 * stopped in time; it may stand or run. */
gboolean freezer_stop (const Freezer *freezer);

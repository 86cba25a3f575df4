/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Ends processes of cells that hang: a handler that runs far beyond its call's deadline.  In this process nothing can be done about
 * that.
 */
#pragma once
#include "link.h"

/* How long a handler may run on after its call's deadline, unless its cell's key file says otherwise. */
guint watchdog_hang_ms (const Host *host);
/* A cell has come to be in a process of its own, where its handlers may run on for so long.  From here on somebody looks now and
 * then, until there is no such cell any more. */
void watchdog_wake (Host *host, guint hang_ms);
/* The caller leaves, and the cell's process may be at a call of its.  With the cell's place locked. */
void watchdog_keep (Link *link);
/* How long those may have wanted to wait whose calls it is still at: ms.  With the cell's lock. */
guint watchdog_left_ms (HostCell *cell);
/* For what is kept so. */
GPtrArray *watchdog_left_new (void);
/* Nobody looks any more. */
void watchdog_end (Host *host);

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A cell's process that does harm has the processor time that others leave.
 */
#pragma once
#include "child.h"

/* why: what harm that is; said the first time.  Where the kernel shares processors out among sessions first it lets an ordinary
 * user lower ten of them in a second: this one's turn comes.  On a job's thread. */
void restrain (Host *host, Child *child, const char *why);
/* Nobody's turn comes any more. */
void restrain_end (Host *host);

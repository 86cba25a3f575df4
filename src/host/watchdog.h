/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Ends processes of cells that hang: a handler that runs far beyond its call's deadline.  In this process nothing can be done about that.
 */
#pragma once
#include "host.h"

/* A cell has come to be in a process of its own.  From here on somebody looks now and then, until there is no such cell any more. */
void watchdog_wake (Host *host);
/* Nobody looks any more. */
void watchdog_end (Host *host);

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Handlers of signals that a cell in this process may have installed.
 */
#pragma once
#include "host.h"

/* A cell may have installed handlers of the signals that crashes are told by: ours come first again, and that is said.  Costs
 * microseconds, so not in calls. */
void host_look_at_handlers (Host *host);

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What an ejected cell says on its standard error: "<6>text", with a priority of syslog; anything else is a warning.
 */
#pragma once
#include <glib.h>

#include "log-tail.h"

/* One line of a cell's log.  level: CELL_LOG_…. */
void cell_log_line (const char *cell, int level, const char *text);

/* What becomes a child's standard error; -1: no descriptor is left, and it may keep ours.  What comes is logged on the main
 * loop until the last who has it is gone, and is kept in the tail, which may be NULL. */
int child_log_open (const char *cell, LogTail *tail);

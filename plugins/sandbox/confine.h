/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the runner does to itself before it has anything to do with a cell, and cannot undo.
 */
#pragma once
#include <stdbool.h>

/* Sets limits, which hold for all that it starts, too; lets the host know of a system call that the kernel keeps it from, and sees
 * to Landlock. */
void confine (void);
/* If the host has given it a last filter: from now on no thread of it makes other system calls than that allows, and there is no
 * process that it has started.  NULL, or why that is not so. */
const char *confine_to_serving (void);

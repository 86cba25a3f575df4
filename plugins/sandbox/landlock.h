/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A second look at what files a sandbox may write to, by another part of the kernel than the one that made its mounts.
 */
#pragma once

#define LANDLOCK_LEAST 2                /* the first lets nobody move a file from one folder to another */

/* From now on this process, and all that it starts, writes to files below what is mounted for writing, makes no device nodes and
 * opens no terminals for writing; whatever else may be mounted or reached later, unless below those, can be read at most.  Where
 * the kernel has an older Landlock, or none, nothing changes; where the kernel has it and does not do it, a line on standard error
 * says so. */
void landlock_confine (void);

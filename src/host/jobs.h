/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Management work on threads that may wait: for a child, a gate, a disk.  The main loop, which everybody is spoken to through, may
 * not.  (A thread pool of GLib's would do, but for its locks, which ThreadSanitizer does not see.)
 *
 * Who is waited for may be hostile, and answer as late as it can.  So each job says who that is, and one has no further thread
 * unless there are more than four times as many left for others as it has.  A quarter of all threads is for jobs that wait for
 * nobody.  Of 64 one that keeps what it is given has 10, and those who do so together have to be many before there is none for the
 * next one.
 */
#pragma once
#include <glib.h>
#include <stdint.h>

typedef struct Jobs Jobs;

#define JOBS_FREE 0             /* it waits for nobody who may be hostile */

/* most: threads; they are started when they are needed. */
Jobs *jobs_new (guint most);
/* for_whom: it may wait for them; or JOBS_FREE.  Those for one and the same begin in order; and whoever has some that may begin has
 * his turn with all others. */
void jobs_submit (Jobs *jobs, uint64_t for_whom, void (*run) (gpointer data), gpointer data);
/* Waits for everything that was submitted, also by jobs. */
void jobs_free (Jobs *jobs);

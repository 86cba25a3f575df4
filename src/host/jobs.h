/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Management work on threads that may wait: for a child, a gate, a disk.  The main loop, which everybody is spoken to through, may
 * not.  (A thread pool of GLib's would do, but for its locks, which ThreadSanitizer does not see.)
 */
#pragma once
#include <glib.h>

typedef struct Jobs Jobs;

/* most: threads; they are started when they are needed. */
Jobs *jobs_new (guint most);
void jobs_submit (Jobs *jobs, void (*run) (gpointer data), gpointer data);
/* Waits for everything that was submitted, also by jobs. */
void jobs_free (Jobs *jobs);

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What is left of a crash: the signal, and which cells the thread was in, written by a signal handler into a file that was opened
 * when the host began.  The next host reads it.  A host that was killed, or lost its power, leaves an empty file and accuses
 * nobody.
 *
 * The thread's trail (membrane/trail.h) lies in ordinary memory, and nothing of the file is mapped: whoever shortened a mapped file
 * would make the next call of any cell a crash.
 */
#pragma once
#include <glib.h>

#include "membrane/trail.h"
#include "plugins/cell-error.h"

#define CRASH_NAME_MAX 64u      /* of a cell, its NUL included */

typedef struct
{
  char name[CRASH_NAME_MAX];    /* "": the host itself */
  char sha256[65];              /* of its file; "": it has none */
} CrashCell;

typedef struct
{
  int number;                   /* of the signal */
  gint64 thread;
  guint64 address;              /* that could not be had, or 0 */
  guint n_cells;
  CrashCell cells[TRAIL_MAX];   /* the innermost first */
} CrashReport;

/* Before there is a second thread: from now on each thread that runs cells can tell of its own stack's end. */
void crash_log_init (void);

/* What the last host has left there.  TRUE: it has crashed.  FALSE without an error: it has not; with one: the file is not what it
 * should be, and says nothing. */
gboolean crash_log_read (const char *path, CrashReport *ret, GError **error);
/* The same from memory. */
gboolean crash_report_parse (const void *data, gsize size, CrashReport *ret, GError **error);
/* For people: "in cell b, called by cell a (SIGSEGV at 0x0)". */
char *crash_report_text (const CrashReport *report);
/* SIGSEGV …; "signal 77". */
char *crash_signal_name (int number);
/* Whether a process that this signal has ended has crashed. */
gboolean crash_signal_is_crash (int number);

/* From now on a crash of this process is written there; what was there is gone. */
gboolean crash_log_open (const char *path, GError **error);
/* A cell may have installed handlers of its own: they come after ours again.  TRUE: there were some.  ret_handler (may be NULL):
 * the first of them; NULL: the signal was to have its way, or be ignored.  That is seven system calls. */
gboolean crash_log_go_first (const void **ret_handler);
/* A clean end: the file goes. */
void crash_log_close (void);

/* What trails call a cell from now on; 0: there are too many. */
guint32 crash_log_add (const char *name, const char *sha256);
void crash_log_remove (guint32 cell);

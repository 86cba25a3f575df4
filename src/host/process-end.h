/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * How the process of an ejected cell ended, in words.
 */
#pragma once
#include <glib.h>

typedef struct
{
  char *why;                    /* "its process was killed by SIGSEGV (Segmentation fault)" */
  gboolean normal;              /* by itself, with exit status 0 */
} ProcessEnd;

/* How often the kernel has killed a process because there was no memory: of this machine, or as much of it as is seen from here. */
guint64 process_end_count_memory_kills (void);
/* status: of a sandbox, which ends as what was in it did, or with 128 + the signal that it died of.  last_word: see
 * plugins/sandbox/last-word.h; -1: there is none.  memory_kills: when it began. */
void process_end_describe (int status, int last_word, guint64 memory_kills, ProcessEnd *ret);
/* What can be said of one that ended with 128 + SIGSYS: "made the system call ptrace, which is forbidden in a sandbox".  Reads its
 * last word. */
char *process_end_forbidden (int last_word);

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Another program's process.
 *
 * It is started without a copy of this one's memory, as fork () would make: after that each page that is written to costs its
 * writer a fault, and those are the callers of our cells.  Any thread may call any of these.
 */
#pragma once
#include <glib.h>
#include <sys/types.h>

typedef struct Process Process;

typedef struct
{
  int fd;                       /* here; taken */
  int as;                       /* its number there */
} ProcessFd;

/* fds: from 0 on; whatever else is open here is closed there.  argv[0]: found in PATH.  The parent is the calling thread. */
Process *process_start (const char *const *argv, const ProcessFd *fds, guint n_fds, GError **error);
/* Kills it, if that has not happened, and waits. */
void process_free (Process *process);
/* 0: it has ended, and has been waited for. */
pid_t process_get_pid (Process *process);
/* Readable when it has ended. */
int process_get_pidfd (const Process *process);
void process_kill (Process *process);
/* Waits until it has ended: its exit status, or 128 + the signal that it died of. */
int process_wait (Process *process);

G_DEFINE_AUTOPTR_CLEANUP_FUNC (Process, process_free)

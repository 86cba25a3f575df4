/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The kernel says of each thread in /proc whether it is stopped, and how often it has left a processor (proc_pid_status(5)).  When
 * a second look finds the same threads as the first, all stopped and with the same counts, then none has run in between; and if in
 * between there was no other process, there is nobody left who could let them go on, and nobody who could start another.
 */
#define _GNU_SOURCE
#include "freeze.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define FREEZE_US 20000
#define STEP_NS 20000
#define YIELDS 8u               /* before it sleeps: those that are to stop often wait for our processor */
#define THREADS_MAX 256u        /* of one with more the end is waited for */
#define OPENED_MAX 16u          /* threads whose files are opened beforehand */

typedef struct
{
  int id;
  int status, children;         /* those files of it, if they were opened beforehand; else -1 */
  guint64 runs;                 /* 1 + how often it has left a processor */
} Thread;

typedef struct
{
  guint n;
  Thread of[THREADS_MAX];
} Threads;

struct Freezer
{
  GPid pid;
  int pidfd;
  DIR *folder;                  /* of its threads; NULL: there is none */
  Threads opened;               /* with their files; the others have none */
};

static int
open_file (const Freezer *freezer, int thread, const char *name)
{
  char path[64];

  g_snprintf (path, sizeof path, "%d/%s", thread, name);
  return openat (dirfd (freezer->folder), path, O_RDONLY | O_CLOEXEC);
}

/* Up to size - 1 bytes; -1: there is no such file, or it cannot be read.  fd: it was opened already; -1: it was not. */
static ssize_t
read_file (const Freezer *freezer, int thread, const char *name, int opened, char *text, size_t size)
{
  int fd = opened >= 0 ? opened : open_file (freezer, thread, name);
  ssize_t n;

  if (fd < 0)
    return -1;
  n = pread (fd, text, size - 1, 0);
  if (opened < 0)
    close (fd);
  if (n >= 0)
    text[n] = '\0';
  return n;
}

static guint64
count_of (const char *text, const char *name)
{
  const char *at = strstr (text, name);

  return at != NULL ? g_ascii_strtoull (at + strlen (name), NULL, 10) : 0;
}

/* 0: it is not stopped.  A line of the file begins only with what the kernel says: in a name that has such an end the kernel writes
 * another. */
static guint64
look_at (const Freezer *freezer, const Thread *thread)
{
  char text[4096];

  if (read_file (freezer, thread->id, "status", thread->status, text, sizeof text) <= 0
      || strstr (text, "\nState:\tT (stopped)\n") == NULL)
    return 0;
  return 1 + count_of (text, "\nvoluntary_ctxt_switches:") + count_of (text, "\nnonvoluntary_ctxt_switches:");
}

/* A process that it has started has what it has, and goes on. */
static gboolean
is_alone (const Freezer *freezer, const Thread *thread)
{
  char text[16];

  return read_file (freezer, thread->id, "children", thread->children, text, sizeof text) == 0;
}

static Thread
thread_of (const Freezer *freezer, int id)
{
  for (guint i = 0; i < freezer->opened.n; i++)
    if (freezer->opened.of[i].id == id)
      return freezer->opened.of[i];
  return (Thread) { .id = id, .status = -1, .children = -1 };
}

static gboolean
list_threads (const Freezer *freezer, Threads *ret)
{
  struct dirent *entry;

  ret->n = 0;
  rewinddir (freezer->folder);
  while ((entry = readdir (freezer->folder)) != NULL)
    if (entry->d_name[0] != '.')
      {
        if (ret->n == THREADS_MAX)
          return FALSE;
        ret->of[ret->n++] = thread_of (freezer, atoi (entry->d_name));
      }
  return ret->n > 0;
}

static gboolean
stand (const Freezer *freezer, Threads *threads)
{
  for (guint i = 0; i < threads->n; i++)
    if ((threads->of[i].runs = look_at (freezer, &threads->of[i])) == 0)
      return FALSE;
  return TRUE;
}

static gboolean
are_same (const Threads *a, const Threads *b)
{
  guint i = 0;

  while (i < a->n && i < b->n && a->of[i].id == b->of[i].id && a->of[i].runs == b->of[i].runs)
    i++;
  return i == a->n && i == b->n;
}

/* The first thread last: when a process ends whose parent is another thread, that is who gets the processes it has started. */
static gboolean
are_alone (const Freezer *freezer, const Threads *threads)
{
  Thread first = thread_of (freezer, freezer->pid);

  for (guint i = 0; i < threads->n; i++)
    if (threads->of[i].id != freezer->pid && !is_alone (freezer, &threads->of[i]))
      return FALSE;
  return is_alone (freezer, &first);
}

static gboolean
wait_until_stopped (const Freezer *freezer)
{
  gint64 until = g_get_monotonic_time () + FREEZE_US;
  Threads before = { 0 }, now;
  guint yields = 0;

  do
    {
      if (!list_threads (freezer, &now))
        return FALSE;
      if (!stand (freezer, &now))
        {
          before.n = 0;
          if (yields++ < YIELDS)
            sched_yield ();
          else
            clock_nanosleep (CLOCK_MONOTONIC, 0, &(struct timespec) { 0, STEP_NS }, NULL);
          continue;
        }
      if (are_same (&before, &now))
        return TRUE;
      if (!are_alone (freezer, &now))
        return FALSE;
      before = now;
    }
  while (g_get_monotonic_time () < until);
  return FALSE;
}

static void
open_files (Freezer *freezer)
{
  Threads now;

  if (!list_threads (freezer, &now))
    return;
  freezer->opened.n = MIN (now.n, OPENED_MAX);
  for (guint i = 0; i < freezer->opened.n; i++)
    freezer->opened.of[i] = (Thread) { .id = now.of[i].id, .status = open_file (freezer, now.of[i].id, "status"),
                                       .children = open_file (freezer, now.of[i].id, "children") };
}

Freezer *
freezer_new (GPid pid, int pidfd)
{
  Freezer *freezer = g_new0 (Freezer, 1);
  g_autofree char *path = g_strdup_printf ("/proc/%d/task", (int) pid);

  freezer->pid = pid;
  freezer->pidfd = pidfd;
  freezer->folder = pid > 0 && pidfd >= 0 ? opendir (path) : NULL;
  if (freezer->folder != NULL)
    open_files (freezer);
  return freezer;
}

void
freezer_free (Freezer *freezer)
{
  if (freezer == NULL)
    return;
  for (guint i = 0; i < freezer->opened.n; i++)
    {
      close (freezer->opened.of[i].status);
      close (freezer->opened.of[i].children);
    }
  if (freezer->folder != NULL)
    closedir (freezer->folder);
  g_free (freezer);
}

gboolean
freezer_stop (const Freezer *freezer)
{
  if (freezer->folder == NULL || syscall (SYS_pidfd_send_signal, freezer->pidfd, SIGSTOP, NULL, 0) < 0
      || !wait_until_stopped (freezer))
    return FALSE;
  /* Still there to be signalled, so that what was looked at was it, and not another one with its number. */
  return syscall (SYS_pidfd_send_signal, freezer->pidfd, 0, NULL, 0) == 0;
}

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
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define FREEZE_US 20000
#define STEP_NS 20000
#define THREADS_MAX 256u        /* of one with more the end is waited for */

typedef struct
{
  guint n;
  int id[THREADS_MAX];
  guint64 runs[THREADS_MAX];    /* 1 + how often it has left a processor */
} Threads;

/* Up to size - 1 bytes; -1: there is no such file, or it cannot be read. */
static ssize_t
read_file (int folder, int thread, const char *name, char *text, size_t size)
{
  char path[64];
  ssize_t n;
  int fd;

  g_snprintf (path, sizeof path, "%d/%s", thread, name);
  fd = openat (folder, path, O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return -1;
  n = read (fd, text, size - 1);
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
look_at (int folder, int thread)
{
  char text[4096];

  if (read_file (folder, thread, "status", text, sizeof text) <= 0 || strstr (text, "\nState:\tT (stopped)\n") == NULL)
    return 0;
  return 1 + count_of (text, "\nvoluntary_ctxt_switches:") + count_of (text, "\nnonvoluntary_ctxt_switches:");
}

/* A process that it has started has what it has, and goes on. */
static gboolean
is_alone (int folder, int thread)
{
  char text[16];

  return read_file (folder, thread, "children", text, sizeof text) == 0;
}

static gboolean
list_threads (DIR *folder, Threads *ret)
{
  struct dirent *entry;

  ret->n = 0;
  rewinddir (folder);
  while ((entry = readdir (folder)) != NULL)
    if (entry->d_name[0] != '.')
      {
        if (ret->n == THREADS_MAX)
          return FALSE;
        ret->id[ret->n++] = atoi (entry->d_name);
      }
  return ret->n > 0;
}

static gboolean
stand (DIR *folder, Threads *threads)
{
  for (guint i = 0; i < threads->n; i++)
    if ((threads->runs[i] = look_at (dirfd (folder), threads->id[i])) == 0)
      return FALSE;
  return TRUE;
}

static gboolean
are_same (const Threads *a, const Threads *b)
{
  return a->n == b->n && memcmp (a->id, b->id, a->n * sizeof a->id[0]) == 0
         && memcmp (a->runs, b->runs, a->n * sizeof a->runs[0]) == 0;
}

/* The first thread last: when a process ends whose parent is another thread, that is who gets the processes it has started. */
static gboolean
are_alone (DIR *folder, GPid pid, const Threads *threads)
{
  for (guint i = 0; i < threads->n; i++)
    if (threads->id[i] != pid && !is_alone (dirfd (folder), threads->id[i]))
      return FALSE;
  return is_alone (dirfd (folder), pid);
}

static gboolean
wait_until_stopped (DIR *folder, GPid pid)
{
  gint64 until = g_get_monotonic_time () + FREEZE_US;
  Threads before = { 0 }, now;

  do
    {
      if (!list_threads (folder, &now))
        return FALSE;
      if (!stand (folder, &now))
        {
          before.n = 0;
          clock_nanosleep (CLOCK_MONOTONIC, 0, &(struct timespec) { 0, STEP_NS }, NULL);
          continue;
        }
      if (are_same (&before, &now))
        return TRUE;
      if (!are_alone (folder, pid, &now))
        return FALSE;
      before = now;
    }
  while (g_get_monotonic_time () < until);
  return FALSE;
}

gboolean
freeze_process (GPid pid, int pidfd)
{
  g_autofree char *path = g_strdup_printf ("/proc/%d/task", (int) pid);
  DIR *folder;
  gboolean stopped;

  if (pidfd < 0 || pid <= 0 || syscall (SYS_pidfd_send_signal, pidfd, SIGSTOP, NULL, 0) < 0)
    return FALSE;
  folder = opendir (path);
  if (folder == NULL)
    return FALSE;
  stopped = wait_until_stopped (folder, pid);
  closedir (folder);
  /* Still there to be signalled, so that what was looked at was it, and not another one with its number. */
  return stopped && syscall (SYS_pidfd_send_signal, pidfd, 0, NULL, 0) == 0;
}

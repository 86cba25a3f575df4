/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "plugins/cell-error.h"

struct Process
{
  pid_t pid;
  int pidfd;
  pthread_mutex_t lock;         /* of what follows */
  gboolean ended;
  int status;
};

/* The descriptors lie beyond all of their numbers there, so that none is written over before it is read.  FALSE: there are no
 * more. */
static gboolean
lift (const ProcessFd *fds, guint n_fds, int beyond, int *lifted)
{
  gboolean good = TRUE;

  for (guint i = 0; i < n_fds; i++)
    {
      lifted[i] = fcntl (fds[i].fd, F_DUPFD_CLOEXEC, beyond);
      good &= lifted[i] >= 0;
    }
  return good;
}

static void
close_all (const int *lifted, guint n)
{
  for (guint i = 0; i < n; i++)
    if (lifted[i] >= 0)
      close (lifted[i]);
}

static int
start (const char *const *argv, const ProcessFd *fds, guint n_fds, int beyond, const int *lifted, pid_t *ret_pid)
{
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  sigset_t set;
  int wrong;

  posix_spawn_file_actions_init (&actions);
  posix_spawnattr_init (&attributes);
  for (int i = 0; i < beyond; i++)
    posix_spawn_file_actions_addclose (&actions, i);
  for (guint i = 0; i < n_fds; i++)
    posix_spawn_file_actions_adddup2 (&actions, lifted[i], fds[i].as);
  posix_spawn_file_actions_addclosefrom_np (&actions, beyond);
  sigemptyset (&set);
  sigaddset (&set, SIGPIPE);
  posix_spawnattr_setsigdefault (&attributes, &set);
  posix_spawnattr_setflags (&attributes, POSIX_SPAWN_SETSIGDEF);
  wrong = posix_spawnp (ret_pid, argv[0], &actions, &attributes, (char *const *) argv, environ);
  posix_spawn_file_actions_destroy (&actions);
  posix_spawnattr_destroy (&attributes);
  return wrong;
}

static Process *
process_new (pid_t pid)
{
  Process *process = g_new0 (Process, 1);

  process->pid = pid;
  process->pidfd = (int) syscall (SYS_pidfd_open, pid, 0);
  pthread_mutex_init (&process->lock, NULL);
  if (process->pidfd >= 0)
    return process;
  kill (pid, SIGKILL);
  waitpid (pid, NULL, 0);
  process->ended = TRUE;
  process->status = 128 + SIGKILL;
  return process;
}

Process *
process_start (const char *const *argv, const ProcessFd *fds, guint n_fds, GError **error)
{
  g_autofree int *lifted = g_new (int, n_fds);
  int beyond = 0, wrong;
  pid_t pid;

  for (guint i = 0; i < n_fds; i++)
    beyond = MAX (beyond, fds[i].as + 1);
  wrong = lift (fds, n_fds, beyond, lifted) ? start (argv, fds, n_fds, beyond, lifted, &pid) : errno;
  close_all (lifted, n_fds);
  for (guint i = 0; i < n_fds; i++)
    close (fds[i].fd);
  if (wrong == 0)
    return process_new (pid);
  cell_set_error (error, CELL_ERROR_NO_RESOURCES, "%s cannot be started: %s", argv[0], g_strerror (wrong));
  return NULL;
}

pid_t
process_get_pid (Process *process)
{
  gboolean ended;

  pthread_mutex_lock (&process->lock);
  ended = process->ended;
  pthread_mutex_unlock (&process->lock);
  return ended ? 0 : process->pid;
}

int
process_get_pidfd (const Process *process)
{
  return process->pidfd;
}

/* Of one that has been waited for nobody else has the descriptor's number. */
void
process_kill (Process *process)
{
  if (process->pidfd >= 0)
    syscall (SYS_pidfd_send_signal, process->pidfd, SIGKILL, NULL, 0);
}

/* With the lock. */
static int
wait_for_end (Process *process)
{
  siginfo_t info = { 0 };
  int n;

  do
    n = waitid (P_PIDFD, (id_t) process->pidfd, &info, WEXITED);
  while (n < 0 && errno == EINTR);
  if (n < 0)
    return 128 + SIGKILL;               /* somebody else has waited for it */
  return info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
}

int
process_wait (Process *process)
{
  int status;

  pthread_mutex_lock (&process->lock);
  if (!process->ended)
    process->status = wait_for_end (process);
  process->ended = TRUE;
  status = process->status;
  pthread_mutex_unlock (&process->lock);
  return status;
}

void
process_free (Process *process)
{
  if (process == NULL)
    return;
  process_kill (process);
  process_wait (process);
  if (process->pidfd >= 0)
    close (process->pidfd);
  pthread_mutex_destroy (&process->lock);
  g_free (process);
}

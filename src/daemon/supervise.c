/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#define G_LOG_DOMAIN "cellhostd"
#include "supervise.h"

#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gi18n.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/crash-log.h"
#include "notify.h"

#define STARTS_MAX 5            /* that many new starts … */
#define WINDOW_MINUTES 10       /* … within so long; then it gives up */

typedef struct
{
  int signals;                  /* signalfd */
  sigset_t before;              /* the mask that the host gets */
  int ready_fd;                 /* of whoever started us; -1: he does not want to know */
  int ready;                    /* of the host that runs; -1: it has said so, or will not */
  gboolean said_ready, asked;   /* asked: to end */
  pid_t host;
  gint64 starts[STARTS_MAX];    /* when it was started again, monotonic µs, in turn */
  guint n_starts;
} Supervisor;

static gboolean
prepare (Supervisor *supervisor)
{
  sigset_t set;

  sigemptyset (&set);
  sigaddset (&set, SIGTERM);
  sigaddset (&set, SIGINT);
  sigaddset (&set, SIGHUP);
  sigaddset (&set, SIGCHLD);
  sigprocmask (SIG_BLOCK, &set, &supervisor->before);
  supervisor->signals = signalfd (-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  return supervisor->signals >= 0;
}

/* In the host's process.  A supervisor that is gone already cannot be waited for. */
static void
become_host (const Supervisor *supervisor, pid_t parent)
{
  prctl (PR_SET_PDEATHSIG, SIGTERM);
  if (getppid () != parent)
    _exit (0);
  setpgid (0, 0);               /* what a terminal sends comes once: from the supervisor */
  close (supervisor->signals);
  close (supervisor->ready);
  if (supervisor->ready_fd >= 0)
    close (supervisor->ready_fd);
  unsetenv ("NOTIFY_SOCKET");   /* the manager listens to the supervisor */
  sigprocmask (SIG_SETMASK, &supervisor->before, NULL);
}

/* In the host: 0; -1: error. */
static pid_t
start (Supervisor *supervisor, int *ret_ready)
{
  pid_t parent = getpid ();
  int ends[2];

  if (pipe2 (ends, O_CLOEXEC) < 0)
    return -1;
  supervisor->ready = ends[0];
  supervisor->host = fork ();
  if (supervisor->host == 0)
    {
      become_host (supervisor, parent);
      *ret_ready = ends[1];
      return 0;
    }
  close (ends[1]);
  return supervisor->host;
}

/* ---- while it runs ------------------------------------------------------------------------------------------ */

static void
hear (Supervisor *supervisor)
{
  char c;

  if (read (supervisor->ready, &c, 1) == 1 && !supervisor->said_ready)
    {
      supervisor->said_ready = TRUE;
      notify_ready (supervisor->ready_fd);
    }
  close (supervisor->ready);
  supervisor->ready = -1;
}

static void
pass_on (Supervisor *supervisor)
{
  struct signalfd_siginfo info;

  while (read (supervisor->signals, &info, sizeof info) == (ssize_t) sizeof info)
    if (info.ssi_signo != SIGCHLD)
      {
        if (!supervisor->asked)
          notify_manager ("STOPPING=1");
        supervisor->asked = TRUE;
        kill (supervisor->host, (int) info.ssi_signo);
      }
}

/* Until it has ended. */
static int
watch (Supervisor *supervisor)
{
  int status = 0;

  while (waitpid (supervisor->host, &status, WNOHANG) != supervisor->host)
    {
      struct pollfd fds[] = { { supervisor->signals, POLLIN, 0 }, { supervisor->ready, POLLIN, 0 } };

      if (poll (fds, G_N_ELEMENTS (fds), -1) < 0 && errno != EINTR)
        break;
      if (fds[0].revents != 0)
        pass_on (supervisor);
      if (fds[1].revents != 0)
        hear (supervisor);
    }
  if (supervisor->ready >= 0)
    hear (supervisor);
  return status;
}

/* ---- when it has ended ---------------------------------------------------------------------------------------- */

/* Like the host, but without a second core. */
static int
end_by (int number)
{
  sigset_t set;

  setrlimit (RLIMIT_CORE, &(struct rlimit) { 0, 0 });
  signal (number, SIG_DFL);
  sigemptyset (&set);
  sigaddset (&set, number);
  raise (number);
  sigprocmask (SIG_UNBLOCK, &set, NULL);
  return 128 + number;
}

static gboolean
is_too_often (Supervisor *supervisor)
{
  gint64 now = g_get_monotonic_time (), *oldest = &supervisor->starts[supervisor->n_starts % STARTS_MAX];

  if (supervisor->n_starts >= STARTS_MAX && now - *oldest < WINDOW_MINUTES * 60 * G_USEC_PER_SEC)
    return TRUE;
  *oldest = now;
  supervisor->n_starts++;
  return FALSE;
}

/* TRUE: once more.  Killed is not crashed, but it was not meant to end. */
static gboolean
look_at_status (Supervisor *supervisor, int status, int *ret_code)
{
  int number = WIFSIGNALED (status) ? WTERMSIG (status) : 0;
  g_autofree char *name = crash_signal_name (number);

  if (number == 0)
    *ret_code = WEXITSTATUS (status);
  else if (supervisor->asked || (number != SIGKILL && !crash_signal_is_crash (number)))
    *ret_code = end_by (number);
  else if (is_too_often (supervisor))
    {
      fprintf (stderr, _("cellhostd: the host was ended by %s, after %d new starts within %d minutes; it is not started again\n"),
               name, STARTS_MAX, WINDOW_MINUTES);
      *ret_code = end_by (number);
    }
  else
    {
      g_warning ("the host was ended by %s; it is started again", name);
      return TRUE;
    }
  return FALSE;
}

gboolean
supervise (int *ready_fd, int *ret_last_signal, int *ret_code)
{
  Supervisor supervisor = { .ready_fd = *ready_fd, .ready = -1 };
  pid_t pid = prepare (&supervisor) ? 1 : -1;
  int status = 0;

  *ret_last_signal = 0;
  do
    {
      if (WIFSIGNALED (status))
        *ret_last_signal = WTERMSIG (status);
      if (pid > 0)
        pid = start (&supervisor, ready_fd);
      if (pid == 0)
        return TRUE;
      if (pid < 0)
        {
          fprintf (stderr, _("cellhostd: the host cannot be supervised: %s\n"), g_strerror (errno));
          *ret_code = cell_error_exit_code (CELL_ERROR_NO_RESOURCES);
          return FALSE;
        }
      status = watch (&supervisor);
    }
  while (look_at_status (&supervisor, status, ret_code));
  return FALSE;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "daemon.h"

#include <glib-unix.h>
#include <glib/gi18n.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define READY_FD 7               /* in the host's process */
#define GRACE_MS 3000            /* that a call under way has after a signal */
#define LOOK_MS 20               /* how long an interruption is not seen while the host starts */

gint interrupted;

static int told[2];             /* a pipe: to the watching thread */
enum { A_SIGNAL = 's', THE_END = 'e' };

/* ---- interruptions ------------------------------------------------------------------------------------------ */

static void
tell (char what)
{
  if (write (told[1], &what, 1) < 0)
    return;                     /* full: it has been told often enough */
}

static void
on_signal (int number)
{
  (void) number;
  g_atomic_int_set (&interrupted, TRUE);
  tell (A_SIGNAL);
}

static gpointer
watch_main (gpointer data)
{
  Daemon *daemon = data;
  struct pollfd news = { .fd = told[0], .events = POLLIN };

  for (int patience = -1;; patience = GRACE_MS)
    {
      GSubprocess *process;
      char what = A_SIGNAL;

      if (poll (&news, 1, patience) > 0 && read (news.fd, &what, 1) == 1 && what == THE_END)
        return NULL;
      process = g_atomic_pointer_get (&daemon->process);
      if (patience >= 0 && process != NULL)
        g_subprocess_force_exit (process);
    }
}

void
daemon_watch (Daemon *daemon)
{
  static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
  struct sigaction caught = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
  g_autoptr(GError) error = NULL;

  if (!g_unix_open_pipe (told, FD_CLOEXEC, &error) || !g_unix_set_fd_nonblocking (told[1], TRUE, &error))
    g_error ("%s", error->message);
  daemon->watch = g_thread_new ("watch", watch_main, daemon);
  for (guint i = 0; i < G_N_ELEMENTS (signals); i++)
    sigaction (signals[i], &caught, NULL);
  signal (SIGPIPE, SIG_IGN);
}

/* ---- the process ------------------------------------------------------------------------------------------------ */

/* A terminal's Ctrl-C is for the demo, which ends the host when its call has been answered; and the host never outlives the
 * demo. */
static void
in_the_child (gpointer data)
{
  (void) data;
  setpgid (0, 0);
  prctl (PR_SET_PDEATHSIG, SIGTERM);
}

static gboolean
wait_until_ready (int fd)
{
  struct pollfd ready = { .fd = fd, .events = POLLIN };
  char byte;

  while (!g_atomic_int_get (&interrupted))
    if (poll (&ready, 1, LOOK_MS) > 0)
      return read (fd, &byte, 1) == 1;  /* else it is the end: the host is the only one who has the other side */
  return FALSE;
}

/* What it had to say, a line each; NULL: nothing. */
static char *
read_log (Daemon *daemon)
{
  char *text = NULL;

  if (daemon->log == NULL || !g_file_get_contents (daemon->log, &text, NULL, NULL))
    return NULL;
  g_strchomp (text);
  if (*text == 0)
    g_clear_pointer (&text, g_free);
  return text;
}

static void
set_why (Daemon *daemon, GError **error)
{
  g_autofree char *text = read_log (daemon);
  const char *last = text != NULL ? strrchr (text, '\n') : NULL;

  last = last != NULL ? last + 1 : text;
  if (g_atomic_int_get (&interrupted))
    g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_CANCELLED, _("interrupted"));
  else if (last != NULL)
    g_set_error (error, G_IO_ERROR, G_IO_ERROR_FAILED, _("the host did not start: %s"),
                 g_str_has_prefix (last, "cellhostd: ") ? last + strlen ("cellhostd: ") : last);
  else
    g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_FAILED, _("the host did not start"));
  g_clear_pointer (&daemon->log, g_free);       /* it has been said */
}

gboolean
daemon_start (Daemon *daemon, const char *folder, GError **error)
{
  g_autoptr(GSubprocessLauncher) launcher = g_subprocess_launcher_new (G_SUBPROCESS_FLAGS_NONE);
  g_autofree char *state = g_build_filename (folder, "state", NULL);
  GSubprocess *process;
  gboolean good;
  int ready[2];

  daemon->socket = g_build_filename (folder, "socket", NULL);
  daemon->log = g_build_filename (folder, "log", NULL);
  if (!g_unix_open_pipe (ready, FD_CLOEXEC, error))
    return FALSE;
  g_subprocess_launcher_take_fd (launcher, ready[1], READY_FD);
  g_subprocess_launcher_set_stderr_file_path (launcher, daemon->log);
  g_subprocess_launcher_set_child_setup (launcher, in_the_child, NULL, NULL);
  process = g_subprocess_launcher_spawn (launcher, error, DEMO_HOST, "--socket", daemon->socket, "--state-dir", state,
                                         "--log-level",
                                         "error", "--ready-fd", G_STRINGIFY (READY_FD), NULL);
  g_subprocess_launcher_close (launcher);       /* of the pipe's side that the host has now */
  g_atomic_pointer_set (&daemon->process, process);
  good = process != NULL && wait_until_ready (ready[0]);
  close (ready[0]);
  if (process != NULL && !good)
    {
      g_subprocess_force_exit (process);
      g_subprocess_wait (process, NULL, NULL);
      set_why (daemon, error);
    }
  return good;
}

void
daemon_wait (Daemon *daemon)
{
  if (daemon->process != NULL)
    g_subprocess_wait (daemon->process, NULL, NULL);
}

void
daemon_clear (Daemon *daemon)
{
  g_autofree char *text = read_log (daemon);

  if (text != NULL)
    g_printerr ("%s\n", text);
  if (daemon->watch != NULL)
    {
      tell (THE_END);
      g_thread_join (daemon->watch);
    }
  g_clear_object (&daemon->process);
  g_clear_pointer (&daemon->socket, g_free);
  g_clear_pointer (&daemon->log, g_free);
}

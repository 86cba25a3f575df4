/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * cellhostd: the host as a program.
 */
#define _GNU_SOURCE
#define G_LOG_DOMAIN "cellhostd"
#include "config.h"

#include <errno.h>
#include <glib-unix.h>
#include <glib/gi18n.h>
#include <glib/gstdio.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "api/host-cell.h"
#include "host/cell.h"
#include "log.h"

/* ---- what is asked for ------------------------------------------------------------------------------ */

typedef struct
{
  char *socket, *runner, *state_dir, *log_level, *debug;
  char **cells;
  gboolean allow_root, verbose, version;
  int ready_fd;
} Options;

static void
options_clear (Options *options)
{
  g_free (options->socket);
  g_free (options->runner);
  g_free (options->state_dir);
  g_free (options->log_level);
  g_free (options->debug);
  g_strfreev (options->cells);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Options, options_clear)

static gboolean
read_options (Options *options, int *argc, char ***argv, GError **error)
{
  const GOptionEntry entries[] = {
    { "socket", 's', 0, G_OPTION_ARG_FILENAME, &options->socket,
      N_("Where programs connect (default: $XDG_RUNTIME_DIR/cellhost/socket)"), N_("PATH") },
    { "cell", 'c', 0, G_OPTION_ARG_FILENAME_ARRAY, &options->cells, N_("Load this cell at the start; may be given again"),
      N_("FILE") },
    { "state-dir", 0, 0, G_OPTION_ARG_FILENAME, &options->state_dir,
      N_("Where cells' states are kept between runs (default: $XDG_STATE_HOME/cellhost)"), N_("FOLDER") },
    { "runner", 0, 0, G_OPTION_ARG_FILENAME, &options->runner, N_("The program that ejected cells run in"), N_("PATH") },
    { "allow-root", 0, 0, G_OPTION_ARG_NONE, &options->allow_root, N_("Run although this is root"), NULL },
    { "log-level", 'l', 0, G_OPTION_ARG_STRING, &options->log_level,
      N_("Log errors only, or also warning, info (the default), debug"), N_("LEVEL") },
    { "verbose", 'v', 0, G_OPTION_ARG_NONE, &options->verbose, N_("The same as --log-level debug"), NULL },
    { "debug", 0, 0, G_OPTION_ARG_STRING, &options->debug,
      N_("Report cells that call the host on a wrong thread (threads), or end at once (threads,fatal)"), N_("WHAT") },
    { "ready-fd", 0, 0, G_OPTION_ARG_INT, &options->ready_fd, N_("Write a byte to this descriptor when programs can connect"),
      N_("N") },
    { "version", 0, 0, G_OPTION_ARG_NONE, &options->version, N_("Say which version this is"), NULL },
    G_OPTION_ENTRY_NULL
  };
  g_autoptr(GOptionContext) context = g_option_context_new (NULL);
  g_autoptr(GError) why = NULL;

  g_option_context_set_translation_domain (context, GETTEXT_PACKAGE);
  g_option_context_add_main_entries (context, entries, GETTEXT_PACKAGE);
  g_option_context_set_summary (context, _("Runs cells, in the foreground; 'cellctl' speaks to it."));
  if (!g_option_context_parse (context, argc, argv, &why))
    return cell_set_error (error, CELL_ERROR_INVALID, _("%s; see 'cellhostd --help'"), why->message);
  if (*argc > 1)
    return cell_set_error (error, CELL_ERROR_INVALID, _("'%s' is not an option; see 'cellhostd --help'"), (*argv)[1]);
  if (options->debug != NULL && !host_debug (options->debug))
    return cell_set_error (error, CELL_ERROR_INVALID, _("--debug '%s': it is threads, or threads,fatal"), options->debug);
  return log_open (options->verbose ? "debug" : options->log_level != NULL ? options->log_level : "info", error);
}

/* Where clients look for it, too.  What GLib takes when there is no such folder is the cache, which is not gone at the end. */
static char *
find_socket (const Options *options, GError **error)
{
  const char *runtime = g_getenv ("XDG_RUNTIME_DIR");
  g_autofree char *usual = g_strdup_printf ("/run/user/%u", (guint) getuid ());

  if (options->socket != NULL)
    return g_canonicalize_filename (options->socket, NULL);
  if (runtime == NULL || *runtime == 0)
    runtime = usual;
  if (g_access (runtime, W_OK | X_OK) == 0)
    return g_build_filename (runtime, "cellhost", "socket", NULL);
  cell_set_error (error, CELL_ERROR_DENIED,
                  _("there is no folder %s to make a socket in; set XDG_RUNTIME_DIR, or say where with --socket"), runtime);
  return NULL;
}

static void
more_descriptors (void)
{
  struct rlimit limit;

  if (getrlimit (RLIMIT_NOFILE, &limit) == 0)
    {
      limit.rlim_cur = limit.rlim_max;
      setrlimit (RLIMIT_NOFILE, &limit);
    }
}

/* ---- telling who started us ------------------------------------------------------------------------------ */

/* sd_notify: one datagram; see sd_notify (3). */
static void
notify_manager (const char *text)
{
  const char *path = g_getenv ("NOTIFY_SOCKET");
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  size_t n = path != NULL ? strlen (path) : 0;
  int fd;

  if (n == 0 || n >= sizeof address.sun_path)
    return;
  memcpy (address.sun_path, path, n);
  if (path[0] == '@')
    address.sun_path[0] = 0;
  fd = socket (AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0)
    return;
  if (sendto (fd, text, strlen (text), MSG_NOSIGNAL, (struct sockaddr *) &address,
              (socklen_t) (offsetof (struct sockaddr_un, sun_path) + n)) < 0)
    g_debug ("the service manager cannot be told: %s", g_strerror (errno));
  close (fd);
}

/* ---- the end ------------------------------------------------------------------------------------------------ */

/* Flags, and no GMainLoop: one that is told to quit before it runs has not heard it. */
static int asked, stopped;

static void
raise_flag (int *flag)
{
  g_atomic_int_set (flag, TRUE);
  g_main_context_wakeup (NULL);
}

static void
run_until (const int *flag)
{
  while (!g_atomic_int_get (flag))
    g_main_context_iteration (NULL, TRUE);
}

static void
shut_down (void)
{
  raise_flag (&asked);
}

/* Removed, it leaves the signal as it was: the second one ends this process at once. */
static gboolean
on_signal (gpointer data)
{
  (void) data;
  raise_flag (&asked);
  return G_SOURCE_REMOVE;
}

/* What was lost, or NULL. */
static gpointer
stop_main (gpointer data)
{
  GError *error = NULL;

  host_stop (data, &error);
  raise_flag (&stopped);
  return error;
}

/* The main loop goes on meanwhile: children and clients are spoken to through it. */
static gboolean
stop (Host *host, GError **error)
{
  GThread *thread;
  GError *lost;

  g_info ("stopping");
  notify_manager ("STOPPING=1");
  thread = g_thread_new ("stop", stop_main, host);
  run_until (&stopped);
  lost = g_thread_join (thread);
  if (lost == NULL)
    return TRUE;
  g_propagate_error (error, lost);
  return FALSE;
}

static gboolean
load_cells (Host *host, char **cells, GError **error)
{
  for (guint i = 0; cells != NULL && cells[i] != NULL; i++)
    {
      g_autoptr(HostCell) cell = host_load (host, cells[i], NULL, NULL, error);

      if (cell == NULL)
        return FALSE;
    }
  return TRUE;
}

static void
say_ready (const Options *options, const Host *host)
{
  notify_manager ("READY=1");
  if (options->ready_fd >= 0 && write (options->ready_fd, "\n", 1) < 0)
    g_warning ("--ready-fd %d: %s", options->ready_fd, g_strerror (errno));
  g_info ("serving at %s", host->config.socket_path);
}

static gboolean
run (const Options *options, GError **error)
{
  g_auto(HostConfig) config = { .socket_path = find_socket (options, error), };
  g_autoptr(Host) host = NULL;
  g_autoptr(HostCell) own = NULL;

  if (config.socket_path == NULL)
    return FALSE;
  host_config_find_programs (&config);
  if (options->runner != NULL)
    {
      g_free (config.runner_path);
      config.runner_path = g_canonicalize_filename (options->runner, NULL);
    }
  config.state_dir = options->state_dir != NULL ? g_canonicalize_filename (options->state_dir, NULL)
                                                : g_build_filename (g_get_user_state_dir (), "cellhost", NULL);
  config.system_policy_path = g_strdup (SYSCONFDIR "/cellhost/policy");
  host = host_new (&config, error);
  /* The socket before the cells: where another host runs none is started, and no state is read.  Who connects meanwhile waits. */
  if (host == NULL || !host_listen (host, error))
    return FALSE;
  host_cell_set_host (host, shut_down);
  own = host_load_entry (host, host_cell_entry (), "host", error);
  if (own == NULL || !load_cells (host, options->cells, error))
    return FALSE;
  g_unix_signal_add (SIGTERM, on_signal, NULL);
  g_unix_signal_add (SIGINT, on_signal, NULL);
  g_unix_signal_add (SIGHUP, on_signal, NULL);
  say_ready (options, host);
  run_until (&asked);
  return stop (host, error);
}

/* In UTF-8 as the log is, whatever the locale. */
static int
complain (const GError *error)
{
  fprintf (stderr, "cellhostd: %s\n", error->message);
  return cell_error_exit_code (cell_status_from_error (error));
}

int
main (int argc, char **argv)
{
  g_auto(Options) options = { .ready_fd = -1 };
  g_autoptr(GError) error = NULL;

  setlocale (LC_ALL, "");
  bindtextdomain (GETTEXT_PACKAGE, LOCALEDIR);
  bind_textdomain_codeset (GETTEXT_PACKAGE, "UTF-8");
  textdomain (GETTEXT_PACKAGE);
  signal (SIGPIPE, SIG_IGN);
  if (!read_options (&options, &argc, &argv, &error))
    return complain (error);
  if (options.version)
    {
      g_print ("cellhostd %s\n", PACKAGE_VERSION);
      return 0;
    }
  if (geteuid () == 0 && !options.allow_root)
    {
      cell_set_error (&error, CELL_ERROR_DENIED,
                      _("this is root, and cells would be, too; start it as an ordinary user, or with --allow-root"));
      return complain (error);
    }
  more_descriptors ();
  return run (&options, &error) ? 0 : complain (error);
}

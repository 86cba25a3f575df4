/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * cellhostd: the host as a program.
 */
#define _GNU_SOURCE
#define G_LOG_DOMAIN "cellhostd"
#include <errno.h>
#include <glib-unix.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "api/host-cell.h"
#include "config.h"
#include "host/cell.h"

static GMainLoop *loop;

/* ---- what is asked for ------------------------------------------------------------------------------ */

typedef struct
{
  char *socket, *runner;
  char **cells;
  gboolean allow_root, version;
  int ready_fd;
} Options;

static void
options_clear (Options *options)
{
  g_free (options->socket);
  g_free (options->runner);
  g_strfreev (options->cells);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Options, options_clear)

static gboolean
read_options (Options *options, int *argc, char ***argv, GError **error)
{
  const GOptionEntry entries[] = {
    { "socket", 's', 0, G_OPTION_ARG_FILENAME, &options->socket, "Where programs connect (default: $XDG_RUNTIME_DIR/cellhost/socket)", "PATH" },
    { "cell", 'c', 0, G_OPTION_ARG_FILENAME_ARRAY, &options->cells, "Load this cell at the start; may be given again", "FILE" },
    { "runner", 0, 0, G_OPTION_ARG_FILENAME, &options->runner, "The program that ejected cells run in", "PATH" },
    { "allow-root", 0, 0, G_OPTION_ARG_NONE, &options->allow_root, "Run although this is root", NULL },
    { "ready-fd", 0, 0, G_OPTION_ARG_INT, &options->ready_fd, "Write a byte to this descriptor when programs can connect", "N" },
    { "version", 0, 0, G_OPTION_ARG_NONE, &options->version, "Say which version this is", NULL },
    G_OPTION_ENTRY_NULL
  };
  g_autoptr(GOptionContext) context = g_option_context_new ("– runs cells");

  g_option_context_add_main_entries (context, entries, GETTEXT_PACKAGE);
  if (!g_option_context_parse (context, argc, argv, error))
    return FALSE;
  if (*argc > 1)
    return cell_set_error (error, CELL_ERROR_INVALID, "“%s” is not an option; see --help", (*argv)[1]);
  return TRUE;
}

/* Beside this program in a build tree, or where it is installed. */
static char *
find_runner (void)
{
  g_autofree char *self = g_file_read_link ("/proc/self/exe", NULL);
  g_autofree char *folder = self != NULL ? g_path_get_dirname (self) : NULL;
  g_autofree char *built = folder != NULL ? g_build_filename (folder, "..", "runner", "cell-runner", NULL) : NULL;
  const char *said = g_getenv ("CELLHOST_RUNNER");

  if (said != NULL)
    return g_strdup (said);
  if (built != NULL && g_access (built, X_OK) == 0)
    return g_canonicalize_filename (built, NULL);
  return g_build_filename (LIBEXECDIR, "cell-runner", NULL);
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
  if (sendto (fd, text, strlen (text), MSG_NOSIGNAL, (struct sockaddr *) &address, (socklen_t) (offsetof (struct sockaddr_un, sun_path) + n)) < 0)
    g_debug ("the service manager cannot be told: %s", g_strerror (errno));
  close (fd);
}

/* ---- the end ------------------------------------------------------------------------------------------------ */

static gboolean
quit_cb (gpointer data)
{
  (void) data;
  g_main_loop_quit (loop);
  return G_SOURCE_REMOVE;
}

static void
shut_down (void)
{
  g_main_context_invoke (NULL, quit_cb, NULL);
}

static gpointer
stop_main (gpointer data)
{
  host_stop (data);
  g_main_context_invoke (NULL, quit_cb, NULL);
  return NULL;
}

/* The main loop goes on meanwhile: children and clients are spoken to through it. */
static void
stop (Host *host)
{
  g_autoptr(GThread) thread = NULL;

  notify_manager ("STOPPING=1");
  thread = g_thread_new ("stop", stop_main, g_steal_pointer (&host));
  g_main_loop_run (loop);
  g_thread_join (g_steal_pointer (&thread));
}

static gboolean
run (Options *options, GError **error)
{
  g_auto(HostConfig) config = { .socket_path = g_strdup (options->socket), .bwrap_path = g_find_program_in_path ("bwrap") };
  g_autoptr(Host) host = NULL;
  g_autoptr(HostCell) own = NULL;

  config.runner_path = options->runner != NULL ? g_canonicalize_filename (options->runner, NULL) : find_runner ();
  host = host_new (&config, error);
  if (host == NULL)
    return FALSE;
  host_cell_set_host (host, shut_down);
  own = host_load_entry (host, host_cell_entry (), "host", error);
  if (own == NULL)
    return FALSE;
  for (guint i = 0; options->cells != NULL && options->cells[i] != NULL; i++)
    {
      g_autoptr(HostCell) cell = host_load (host, options->cells[i], NULL, NULL, error);

      if (cell == NULL)
        return FALSE;
    }
  if (!host_listen (host, error))
    return FALSE;
  g_unix_signal_add (SIGTERM, quit_cb, NULL);
  g_unix_signal_add (SIGINT, quit_cb, NULL);
  notify_manager ("READY=1");
  if (options->ready_fd >= 0 && write (options->ready_fd, "\n", 1) < 0)
    g_warning ("--ready-fd %d: %s", options->ready_fd, g_strerror (errno));
  g_info ("serving at %s", host->config.socket_path);
  g_main_loop_run (loop);
  stop (host);
  return TRUE;
}

int
main (int argc, char **argv)
{
  g_auto(Options) options = { .ready_fd = -1 };
  g_autoptr(GError) error = NULL;

  signal (SIGPIPE, SIG_IGN);
  if (!read_options (&options, &argc, &argv, &error))
    {
      g_printerr ("cellhostd: %s\n", error->message);
      return 2;
    }
  if (options.version)
    {
      g_print ("cellhostd %s\n", PACKAGE_VERSION);
      return 0;
    }
  if (geteuid () == 0 && !options.allow_root)
    {
      g_printerr ("cellhostd: this is root, and cells would be, too; start it as an ordinary user, or with --allow-root\n");
      return cell_error_exit_code (CELL_ERROR_DENIED);
    }
  more_descriptors ();
  loop = g_main_loop_new (NULL, FALSE);
  if (!run (&options, &error))
    {
      g_printerr ("cellhostd: %s\n", error->message);
      return cell_error_exit_code (cell_status_from_error (error));
    }
  return 0;
}

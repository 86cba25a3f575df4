/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * cellhostd: the host as a program.
 */
#define _GNU_SOURCE
#define G_LOG_DOMAIN "cellhostd"
#include "config.h"

#include <glib-unix.h>
#include <glib/gi18n.h>
#include <glib/gstdio.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "api/host-cell.h"
#include "host/cell.h"
#include "host/come-back.h"
#include "host/crash-log.h"
#include "host/load.h"
#include "log.h"
#include "notify.h"
#include "supervise.h"

/* ---- what is asked for ------------------------------------------------------------------------------ */

typedef struct
{
  char *socket, *runner, *state_dir, *log_level, *debug;
  char **cells;
  gboolean allow_root, supervise, verbose, version;
  int ready_fd;
  int last_signal;              /* that ended the host before this one, as its supervisor has seen; 0: none */
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

/* What GLib prints of options: it writes an ellipsis as one letter, which not every locale has. */
static void
print_help (const char *text)
{
  g_auto(GStrv) parts = g_strsplit (text, "\u2026", -1);
  g_autofree char *plain = g_strjoinv ("...", parts);

  fputs (plain, stdout);
}

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
    { "supervise", 0, 0, G_OPTION_ARG_NONE, &options->supervise, N_("Start the host again when it has crashed"), NULL },
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

static const int signals[] = { SIGTERM, SIGINT, SIGHUP };
static guint signal_sources[G_N_ELEMENTS (signals)];

/* Removed, they leave the signals as they were: a second one, of whatever kind, ends this process at once. */
static gboolean
on_signal (gpointer data)
{
  (void) data;
  for (guint i = 0; i < G_N_ELEMENTS (signals); i++)
    g_source_remove (signal_sources[i]);
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

/* Cells that begin in a sandbox are spoken to through the main loop, so they are loaded beside it. */
typedef struct
{
  Host *host;
  const Options *options;
  GError *error;
  gboolean good;
} Begin;

static int begun;

static gpointer
begin_main (gpointer data)
{
  Begin *begin = data;

  begin->good = come_back (begin->host, begin->options->cells, begin->options->last_signal, &begin->error);
  raise_flag (&begun);
  return NULL;
}

static gboolean
begin_cells (Host *host, const Options *options, GError **error)
{
  Begin begin = { .host = host, .options = options };
  GThread *thread = g_thread_new ("begin", begin_main, &begin);

  run_until (&begun);
  g_thread_join (thread);
  if (!begin.good)
    g_propagate_error (error, begin.error);
  return begin.good;
}

static void
say_ready (const Options *options, const Host *host)
{
  notify_ready (options->ready_fd);
  g_info ("serving at %s", host->config.socket_path);
}

/* In UTF-8 as the log is, whatever the locale. */
static int
complain (const GError *error)
{
  fprintf (stderr, "cellhostd: %s\n", error->message);
  return cell_error_exit_code (cell_status_from_error (error));
}

static gboolean
serve (const Options *options, GError **error)
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
  crash_log_init ();
  host = host_new (&config, error);
  /* The socket before the cells: where another host runs none is started, and no state is read.  Who connects meanwhile waits. */
  if (host == NULL || !host_take_place (host, error))
    return FALSE;
  host_cell_set_host (host, shut_down);
  own = host_load_entry (host, host_cell_entry (), "host", error);
  if (own == NULL || !begin_cells (host, options, error) || !host_listen (host, error))
    return FALSE;
  for (guint i = 0; i < G_N_ELEMENTS (signals); i++)
    signal_sources[i] = g_unix_signal_add (signals[i], on_signal, NULL);
  say_ready (options, host);
  run_until (&asked);
  if (stop (host, error))
    return TRUE;
  /* A handler of a cell in this process may go on for ever, and nobody can take its thread from it: nothing is freed under it. */
  crash_log_close ();
  _exit (complain (*error));
}

static int
run (const Options *options)
{
  g_autoptr(GError) error = NULL;
  gboolean good;

  more_descriptors ();
  host_keep_memory ();
  good = serve (options, &error);
  crash_log_close ();
  return good ? 0 : complain (error);
}

int
main (int argc, char **argv)
{
  g_auto(Options) options = { .ready_fd = -1 };
  g_autoptr(GError) error = NULL;
  int code;

  setlocale (LC_ALL, "");
  bindtextdomain (GETTEXT_PACKAGE, LOCALEDIR);
  bind_textdomain_codeset (GETTEXT_PACKAGE, "UTF-8");
  textdomain (GETTEXT_PACKAGE);
  g_set_print_handler (print_help);
  setvbuf (stdout, NULL, _IOLBF, BUFSIZ);       /* wherever that goes: what cells print, beside the log */
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
  if (options.supervise && !supervise (&options.ready_fd, &options.last_signal, &code))
    return code;
  return run (&options);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * cellctl: the command line.
 */
#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "api/json-scan.h"
#include "command.h"
#include "plugins/suggest.h"

#define TIMEOUT_MAX (G_MAXINT / 1000)

static const struct CommandRow
{
  const char *name, *words, *what, *about;
  guint least, most;            /* words */
  Command run;
  gboolean alone;               /* needs no host */
} commands[] = {
  { "list", "", N_("every cell and where it is"), NULL, 0, 0, command_list },
  { "load", N_("FILE [NAME] [KEY=VALUE...]"), N_("load a cell"),
    N_("FILE is a module, or the name of one that is installed.  The cell is called NAME, or as its file says.  KEY=VALUE is what "
       "the cell reads of its configuration."),
    1, 1000, command_load },
  { "unload", N_("CELL"), N_("stop a cell; what it has accepted is answered"),
    N_("What the cell has accepted is answered first, for as long as its callers wait, a minute at most, and its state is kept.  "
       "If that cannot be, it goes on, and it is said why."),
    1, 1, command_unload },
  { "introspect", N_("CELL"), N_("what a cell offers"),
    N_("The cell's contract: its structs, methods, properties, signals and errors, and what is said about them.  --json takes it "
       "apart."),
    1, 1, command_introspect },
  { "client", N_("CELL"), N_("the C header for its callers"), NULL, 1, 1, command_client },
  { "call", N_("CELL METHOD [ARGUMENT...]"), N_("call a method"),
    N_("Arguments are given in the method's order, or as NAME=VALUE.  Arrays and structs are written as JSON, bytes as base64 or "
       "@FILE, a blob as @FILE.  A single argument {...} is all of them as one JSON object; a text or a struct that is alone and "
       "begins with { is given as NAME={...}.  The method @NAME reads a property, =NAME sets it.  Options stand before CELL."),
    2, 1000, command_call },
  { "eject", N_("CELL"), N_("move a cell into a sandbox"), NULL, 1, 1, command_eject },
  { "absorb", N_("CELL"), N_("take a cell back into the host"), NULL, 1, 1, command_absorb },
  { "trust", N_("FILE|CELL"), N_("trust a foreign file"),
    N_("A file that was made elsewhere, as far as that can be seen, runs in a sandbox unless it is trusted.  It is known by what "
       "is in it, wherever it lies.  --remove trusts it no more, and takes its SHA-256, too; --list shows all that are trusted."),
    0, 1, command_trust },
  { "restart", N_("CELL"), N_("start a cell anew, with its state"),
    N_("The same file once more, in a new process if the cell is in a sandbox.  One that is dead begins in a sandbox."), 1, 1,
    command_restart },
  { "swap", N_("CELL FILE"), N_("replace a cell by another build of it"),
    N_("FILE is as for load.  The cell keeps its state and its callers, who must be able to go on with what the new build offers; "
       "else it stays as it is."),
    2, 2, command_swap },
  { "grants", N_("CELL"), N_("what a cell may do from a sandbox"),
    N_("The role that the policy gives it, and of the cells that its key file lists or that it uses, those that it may call; for "
       "others, what is to be written where."),
    1, 1, command_grants },
  { "stats", N_("CELL"), N_("calls and latencies of its methods"),
    N_("How often each method was called, how often it failed, and the nanoseconds in its handler, right to "
       "an eighth; of a cell in a sandbox, as it says itself.  Timed is every 16th of a method's first 4096 calls, then every "
       "256th; so many are SAMPLES."),
    1, 1, command_stats },
  { "logs", N_("CELL"), N_("what a cell has said last"),
    N_("Up to 500 lines, wherever it was: its log, what its process in a sandbox has printed, and how that ended."), 1, 1,
    command_logs },
  { "debug", N_("CELL"), N_("how to attach a debugger to a cell"),
    N_("The command line of gdb for the process that the cell is in: its own, or the host's."), 1, 1, command_debug },
  { "validate", N_("FILE [KEY=VALUE...]"), N_("what a host would say of a file, rule by rule"),
    N_("Looks at a cell's file as a host does before it loads it, and tries it in a sandbox; no host is needed.  KEY=VALUE is what "
       "the cell reads of its configuration."),
    1, 1000, command_validate, TRUE },
  { "doctor", "", N_("what this machine enforces and what it does not"),
    N_("Tries what a host and the sandboxes of ejected cells are made of, and says what does not hold and what could be done; no "
       "host is needed.  It fails when something essential does not hold."),
    0, 0, command_doctor, TRUE },
  { "shutdown", "", N_("end the host; calls are answered, states saved"), NULL, 0, 0, command_shutdown },
};
typedef struct CommandRow CommandRow;

static gboolean version;
static Session session;

/* Nobody waits for no time at all: a method's own deadline holds when the option is not given. */
static gboolean
read_timeout (const char *option, const char *value, gpointer data, GError **error)
{
  guint64 seconds;

  (void) option;
  (void) data;
  if (!g_ascii_string_to_unsigned (value, 10, 1, TIMEOUT_MAX, &seconds, NULL))
    return cell_set_error (error, CELL_ERROR_INVALID, _("--timeout %s: give 1 to %d seconds"), value, TIMEOUT_MAX);
  session.timeout = (int) seconds;
  return TRUE;
}

static const GOptionEntry common_entries[] = {
  { "socket", 's', 0, G_OPTION_ARG_FILENAME, &session.socket,
    N_("The host's socket (default: $CELLHOST_SOCKET, or your own host's)"), N_("PATH") },
  { "json", 'j', 0, G_OPTION_ARG_NONE, &session.json, N_("Print JSON"), NULL },
  { "timeout", 't', 0, G_OPTION_ARG_CALLBACK, read_timeout,
    N_("Wait for up to so many seconds (default: what the method says, or 5)"), N_("SECONDS") },
  G_OPTION_ENTRY_NULL
};
static const GOptionEntry main_entries[] = {
  { "version", 0, 0, G_OPTION_ARG_NONE, &version, N_("Say which version this is"), NULL },
  G_OPTION_ENTRY_NULL
};
static const GOptionEntry debug_entries[] = {
  { "run", 'r', 0, G_OPTION_ARG_NONE, &session.run, N_("Run the debugger"), NULL },
  G_OPTION_ENTRY_NULL
};
static const GOptionEntry unload_entries[] = {
  { "force", 0, 0, G_OPTION_ARG_NONE, &session.force, N_("End it all the same after 5 seconds, and say what was lost"), NULL },
  G_OPTION_ENTRY_NULL
};
static const GOptionEntry trust_entries[] = {
  { "remove", 0, 0, G_OPTION_ARG_NONE, &session.remove, N_("Trust it no more"), NULL },
  { "list", 0, 0, G_OPTION_ARG_NONE, &session.list, N_("Show the files that are trusted"), NULL },
  G_OPTION_ENTRY_NULL
};
static const GOptionEntry call_entries[] = {
  { "input", 'i', 0, G_OPTION_ARG_FILENAME, &session.input,
    N_("Take the arguments from FILE, which has one JSON object (-: standard input)"), N_("FILE") },
  { "output", 'o', 0, G_OPTION_ARG_FILENAME, &session.output,
    N_("Write the reply's blob to FILE; a second one to FILE.2, and so on (-: standard output)"), N_("FILE") },
  G_OPTION_ENTRY_NULL
};

/* ---- output ------------------------------------------------------------------------------------------ */

void
print_text (const char *text)
{
  fputs (text, stdout);         /* check_output () sees what became of it */
}

void
print_json (JsonNode *node)
{
  g_autofree char *text = json_write (node, TRUE);

  print_text (text);
  print_text ("\n");
  json_node_unref (node);
}

/* What GLib prints of options: it writes an ellipsis as one letter, which not every locale has. */
static void
print_help (const char *text)
{
  g_auto(GStrv) parts = g_strsplit (text, "\u2026", -1);
  g_autofree char *plain = g_strjoinv ("...", parts);

  print_text (plain);
}

/* A full disk, or a reader that has gone. */
static gboolean
check_output (GError **error)
{
  if (fflush (stdout) == 0 && !ferror (stdout))
    return TRUE;
  return cell_set_error (error, CELL_ERROR_NO_RESOURCES, _("the output cannot be written: %s"), g_strerror (errno));
}

/* One line, whatever a cell has put into its message; in UTF-8 as replies are, whatever the locale. */
static int
complain (const GError *error)
{
  g_autofree char *valid = g_utf8_make_valid (error->message, -1), *line = json_escape_text (valid, 0, 0);

  fprintf (stderr, "cellctl: %s\n", line);
  return cell_error_exit_code (cell_status_from_error (error));
}

/* ---- Ctrl-C ------------------------------------------------------------------------------------------- */

static const char *interrupted;

static void
on_interrupt (int number)
{
  if (write (STDERR_FILENO, interrupted, strlen (interrupted)) < 0)
    _exit (128 + number);
  raise (number);               /* SA_RESETHAND: now it ends this process, and who started it sees why */
}

static void
watch_interrupts (void)
{
  const struct sigaction action = { .sa_handler = on_interrupt, .sa_flags = (int) SA_RESETHAND };
  const int numbers[] = { SIGINT, SIGTERM };
  struct sigaction before;

  interrupted = _("cellctl: interrupted; what was begun may be done all the same\n");
  for (guint i = 0; i < G_N_ELEMENTS (numbers); i++)
    if (sigaction (numbers[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN)     /* as nohup has it */
      sigaction (numbers[i], &action, NULL);
}

/* ---- what is asked for -------------------------------------------------------------------------------- */

static char *
usage_of (const CommandRow *row)
{
  return *row->words == 0 ? g_strdup (row->name) : g_strdup_printf ("%s %s", row->name, _(row->words));
}

static char *
summary (void)
{
  g_autoptr(GString) text = g_string_new (_("Commands:"));
  glong width = 0;

  for (guint i = 0; i < G_N_ELEMENTS (commands); i++)
    {
      g_autofree char *usage = usage_of (&commands[i]);

      width = MAX (width, g_utf8_strlen (usage, -1));
    }
  for (guint i = 0; i < G_N_ELEMENTS (commands); i++)
    {
      g_autofree char *usage = usage_of (&commands[i]);

      g_string_append_printf (text, "\n  %s%*s  %s", usage, (int) (width - g_utf8_strlen (usage, -1)), "", _(commands[i].what));
    }
  return g_string_free (g_steal_pointer (&text), FALSE);
}

static char *
names_of_commands (void)
{
  const char *names[G_N_ELEMENTS (commands) + 1] = { NULL };

  for (guint i = 0; i < G_N_ELEMENTS (commands); i++)
    names[i] = commands[i].name;
  return g_strjoinv (", ", (char **) names);
}

static const CommandRow *
find_command (const char *name, GError **error)
{
  const char *names[G_N_ELEMENTS (commands) + 1] = { NULL }, *meant;
  g_autofree char *all = names_of_commands (), *shown = NULL;

  for (guint i = 0; i < G_N_ELEMENTS (commands); i++)
    {
      if (g_str_equal (name, commands[i].name))
        return &commands[i];
      names[i] = commands[i].name;
    }
  meant = suggest (name, names);
  shown = g_utf8_make_valid (name, -1);
  if (meant != NULL)
    cell_set_error (error, CELL_ERROR_INVALID, _("there is no command %s; did you mean %s?"), shown, meant);
  else
    cell_set_error (error, CELL_ERROR_INVALID, _("there is no command %s; there are: %s"), shown, all);
  return NULL;
}

/* Reads options: those before the subcommand when row is NULL, else those behind it.  GLib's parser frees the words it takes. */
static gboolean
read_options (const CommandRow *row, char ***argv, GError **error)
{
  const char *words = row == NULL ? _("COMMAND [ARGUMENT...]") : *row->words != 0 ? _(row->words) : NULL;
  g_autoptr(GOptionContext) context = g_option_context_new (words);
  g_autofree char *text = row == NULL ? summary () : g_strdup (_(row->about != NULL ? row->about : row->what));
  g_autofree char *program = row == NULL ? g_strdup ("cellctl") : g_strdup_printf ("cellctl %s", row->name);
  g_autoptr(GError) why = NULL;

  g_set_prgname (program);
  g_option_context_set_translation_domain (context, GETTEXT_PACKAGE);
  g_option_context_add_main_entries (context, common_entries, GETTEXT_PACKAGE);
  if (row == NULL)
    g_option_context_add_main_entries (context, main_entries, GETTEXT_PACKAGE);
  else if (row->run == command_call)
    g_option_context_add_main_entries (context, call_entries, GETTEXT_PACKAGE);
  else if (row->run == command_debug)
    g_option_context_add_main_entries (context, debug_entries, GETTEXT_PACKAGE);
  else if (row->run == command_unload)
    g_option_context_add_main_entries (context, unload_entries, GETTEXT_PACKAGE);
  else if (row->run == command_trust)
    g_option_context_add_main_entries (context, trust_entries, GETTEXT_PACKAGE);
  g_option_context_set_summary (context, text);
  if (row == NULL)
    g_option_context_set_description (context, _("'cellctl COMMAND --help' says more of each, cellctl(1) all."));
  /* What follows the subcommand is the subcommand's; what follows CELL is the method's, also -5. */
  g_option_context_set_strict_posix (context, row == NULL || row->run == command_call);
  if (g_option_context_parse_strv (context, argv, &why))
    return TRUE;
  return cell_set_error (error, CELL_ERROR_INVALID, _("%s; see '%s --help'"), why->message, program);
}

static gboolean
check_words (const CommandRow *row, char **words, GError **error)
{
  g_autofree char *usage = usage_of (row);
  guint n = g_strv_length (words);

  if (n < row->least)
    return cell_set_error (error, CELL_ERROR_INVALID, _("a word is missing; usage: cellctl %s"), usage);
  if (n > row->most)
    return cell_set_error (error, CELL_ERROR_INVALID, _("'%s' is one word too many; usage: cellctl %s"), words[row->most], usage);
  for (guint i = 0; i < n; i++)
    if (!g_utf8_validate (words[i], -1, NULL))
      {
        g_autofree char *shown = g_utf8_make_valid (words[i], -1);

        return cell_set_error (error, CELL_ERROR_INVALID, _("'%s' is not UTF-8; write it in UTF-8, or give the file that has it"),
                               shown);
      }
  return TRUE;
}

static gboolean
run (const CommandRow *row, char **words, GError **error)
{
  CellResult why = { 0 };
  gboolean good;

  if (row->alone)
    {
      good = row->run (&session, words, error);
      return check_output (good ? error : NULL) && good;
    }
  session.bus = cell_open (session.socket);
  session.host = cell_bind (session.bus, Host, "host");
  if (session.timeout > 0)
    session.host->api->set_timeout (session.host, (uint32_t) session.timeout * 1000);
  if (cell_bus_check (session.bus, &why) != CELL_OK)
    {
      good = check_result (&why, NULL, error);
      cell_reply_free (&why);
    }
  else
    good = row->run (&session, words, error) && check_output (error);
  cell_close (session.bus);
  return good;
}

/* 'cellctl help [COMMAND]' is what 'cellctl [COMMAND] --help' is. */
static void
ask_for_help (char ***argv)
{
  g_autoptr(GStrvBuilder) builder = g_strv_builder_new ();

  if ((*argv)[0] == NULL || g_strcmp0 ((*argv)[1], "help") != 0)
    return;
  g_strv_builder_add_many (builder, (*argv)[0], (*argv)[2] != NULL ? (*argv)[2] : "--help", (*argv)[2] != NULL ? "--help" : NULL,
                           NULL);
  g_strfreev (*argv);
  *argv = g_strv_builder_end (builder);
}

static gboolean
act (char ***argv, GError **error)
{
  g_autofree char *all = names_of_commands ();
  const CommandRow *row;
  g_auto(GStrv) words = NULL;

  ask_for_help (argv);
  if (!read_options (NULL, argv, error))
    return FALSE;
  if (version)
    {
      print_text ("cellctl " PACKAGE_VERSION "\n");
      return check_output (error);
    }
  if ((*argv)[0] == NULL || (*argv)[1] == NULL)
    return cell_set_error (error, CELL_ERROR_INVALID, _("a command is missing: %s; 'cellctl --help' explains them"), all);
  row = find_command ((*argv)[1], error);
  if (row == NULL)
    return FALSE;
  words = g_strdupv (*argv + 1);
  if (!read_options (row, &words, error) || !check_words (row, words + 1, error))
    return FALSE;
  watch_interrupts ();
  return run (row, words + 1, error);
}

int
main (int argc, char **argv)
{
  g_auto(GStrv) words = g_strdupv (argv);
  g_autoptr(GError) error = NULL;
  gboolean good;

  (void) argc;
  setlocale (LC_ALL, "");
  bindtextdomain (GETTEXT_PACKAGE, LOCALEDIR);
  bind_textdomain_codeset (GETTEXT_PACKAGE, "UTF-8");
  textdomain (GETTEXT_PACKAGE);
  g_set_print_handler (print_help);
  good = act (&words, &error);
  g_free (session.socket);
  g_free (session.input);
  g_free (session.output);
  return good ? 0 : complain (error);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * cellctl: the command line.
 */
#include <locale.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "config.h"

static const struct
{
  const char *name, *usage, *what;
  Command run;
} commands[] = {
  { "list", "list", "every cell and where it is", command_list },
  { "load", "load FILE [NAME] [KEY=VALUE…]", "load a cell", command_load },
  { "unload", "unload CELL", "stop a cell", command_unload },
  { "introspect", "introspect CELL", "what a cell offers", command_introspect },
  { "client", "client CELL", "the C header for its callers", command_client },
  { "call", "call CELL METHOD [ARGUMENT…]", "call a method: values in order, NAME=VALUE, or one JSON object; @FILE for a blob", command_call },
  { "eject", "eject CELL", "move a cell into a sandbox", command_eject },
  { "absorb", "absorb CELL", "take a cell back into the host", command_absorb },
  { "stats", "stats CELL", "calls and latencies of its methods", command_stats },
  { "shutdown", "shutdown", "end the host", command_shutdown },
};

static char *
summary (void)
{
  GString *text = g_string_new ("Commands:\n");

  for (guint i = 0; i < G_N_ELEMENTS (commands); i++)
    g_string_append_printf (text, "  %-32s %s\n", commands[i].usage, commands[i].what);
  return g_string_free (text, FALSE);
}

static Command
find_command (const char *name, GError **error)
{
  g_autoptr(GString) names = g_string_new (NULL);

  for (guint i = 0; i < G_N_ELEMENTS (commands); i++)
    {
      if (g_str_equal (name, commands[i].name))
        return commands[i].run;
      g_string_append_printf (names, "%s%s", i > 0 ? ", " : "", commands[i].name);
    }
  cell_set_error (error, CELL_ERROR_INVALID, "there is no command %s; there are %s", name, names->str);
  return NULL;
}

static gboolean
run (char **args, const char *socket, gboolean json, int timeout, GError **error)
{
  Command command = find_command (args[0], error);
  Session session = { .json = json };
  CellResult why = { 0 };
  gboolean good;

  if (command == NULL)
    return FALSE;
  session.bus = cell_open (socket);
  session.host = cell_bind (session.bus, Host, "host");
  if (timeout > 0)
    session.host->api->set_timeout (session.host, (uint32_t) timeout * 1000);
  if (cell_bus_check (session.bus, &why) != CELL_OK)
    {
      good = check_result (&why, NULL, error);
      if (why.memory != NULL)
        why.release (why.memory);
    }
  else
    good = command (&session, args + 1, error);
  cell_close (session.bus);
  return good;
}

int
main (int argc, char **argv)
{
  g_autofree char *socket = NULL, *text = summary ();
  gboolean json = FALSE, version = FALSE;
  int timeout = 0;
  const GOptionEntry entries[] = {
    { "socket", 's', 0, G_OPTION_ARG_FILENAME, &socket, "Of the host (default: $CELLHOST_SOCKET, or the user's own)", "PATH" },
    { "json", 'j', 0, G_OPTION_ARG_NONE, &json, "Print JSON", NULL },
    { "timeout", 't', 0, G_OPTION_ARG_INT, &timeout, "Wait for so many seconds", "SECONDS" },
    { "version", 0, 0, G_OPTION_ARG_NONE, &version, "Say which version this is", NULL },
    G_OPTION_ENTRY_NULL
  };
  g_autoptr(GOptionContext) context = g_option_context_new ("COMMAND [ARGUMENT…]");
  g_autoptr(GError) error = NULL;

  setlocale (LC_ALL, "");
  g_option_context_add_main_entries (context, entries, GETTEXT_PACKAGE);
  g_option_context_set_summary (context, text);
  g_option_context_set_strict_posix (context, TRUE);    /* what follows the command is the command's */
  if (!g_option_context_parse (context, &argc, &argv, &error))
    {
      g_printerr ("cellctl: %s\n", error->message);
      return 2;
    }
  if (version)
    {
      g_print ("cellctl %s\n", PACKAGE_VERSION);
      return 0;
    }
  if (argc < 2)
    {
      g_printerr ("cellctl: which command?  See cellctl --help\n");
      return 2;
    }
  if (run (argv + 1, socket, json, timeout, &error))
    return 0;
  g_printerr ("cellctl: %s\n", error->message);
  return cell_error_exit_code (cell_status_from_error (error));
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * logs, debug: what a cell has said, and who could be asked for more.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "api/json-scan.h"
#include "command.h"
#include "debugger.h"

static char *
when (int64_t time)
{
  g_autoptr(GDateTime) seconds = g_date_time_new_from_unix_local (time / G_USEC_PER_SEC);
  g_autofree char *text = g_date_time_format (seconds, "%Y-%m-%d %H:%M:%S");

  return g_strdup_printf ("%s.%03d", text, (int) (time % G_USEC_PER_SEC / 1000));
}

static JsonNode *
lines_to_json (const HostLogs *logs)
{
  JsonArray *array = json_array_new ();
  JsonNode *node = json_node_new (JSON_NODE_ARRAY);

  for (uint32_t i = 0; i < logs->n_lines; i++)
    {
      JsonObject *line = json_object_new ();

      json_object_set_int_member (line, "time", logs->lines[i].time);
      json_object_set_string_member (line, "grade", logs->lines[i].grade);
      json_object_set_string_member (line, "text", logs->lines[i].text);
      json_array_add_object_element (array, line);
    }
  json_node_take_array (node, array);
  return node;
}

gboolean
command_logs (Session *session, char **args, GError **error)
{
  cell_auto HostLogs logs = host_logs (session->host, .name = args[0]);

  if (!check_cell (session, args[0], &logs.result, error))
    return FALSE;
  if (session->json)
    {
      print_json (lines_to_json (&logs));
      return TRUE;
    }
  for (uint32_t i = 0; i < logs.n_lines; i++)
    {
      g_autofree char *time = when (logs.lines[i].time), *text = json_escape_text (logs.lines[i].text, 0, 0);
      g_autofree char *line = g_strdup_printf ("%s %s %s\n", time, logs.lines[i].grade, text);

      print_text (line);
    }
  return TRUE;
}

/* Of the process that it is in; 0: it is in none. */
static gboolean
find_pid (Session *session, const char *name, uint32_t *ret_pid, uint32_t *ret_host, GError **error)
{
  CellResult none = { .status = CELL_ERROR_NOT_FOUND };
  cell_auto HostList list = host_list (session->host);
  cell_auto HostGetPid host = host_get_pid (session->host);

  if (!check_result (&list.result, NULL, error) || !check_result (&host.result, NULL, error))
    return FALSE;
  for (uint32_t i = 0; i < list.n_cells; i++)
    if (g_str_equal (list.cells[i].name, name))
      {
        *ret_host = host.value;
        *ret_pid = list.cells[i].pid != 0 ? list.cells[i].pid : g_str_equal (list.cells[i].location, "in process") ? host.value : 0;
        return *ret_pid != 0 || cell_set_error (error, CELL_ERROR_GONE, _("cell %s has no process now: %s"), name,
                                                list.cells[i].reason);
      }
  return check_cell (session, name, &none, error);
}

/* It takes the place of this program, and has its terminal. */
static gboolean
run_debugger (char **words, GError **error)
{
  execvp (words[0], words);
  return cell_set_error (error, CELL_ERROR_NOT_FOUND, _("gdb cannot be started: %s"), g_strerror (errno));
}

/* As a shell takes them. */
static char *
quote_words (char **words)
{
  GString *line = g_string_new (NULL);

  for (guint i = 0; words[i] != NULL; i++)
    {
      g_autofree char *quoted = strpbrk (words[i], " '\"\\$") != NULL ? g_shell_quote (words[i]) : g_strdup (words[i]);

      g_string_append_printf (line, "%s%s", i > 0 ? " " : "", quoted);
    }
  return g_string_free (line, FALSE);
}

gboolean
command_debug (Session *session, char **args, GError **error)
{
  g_auto(GStrv) words = NULL;
  g_autofree char *command = NULL, *line = NULL;
  JsonObject *object;
  uint32_t pid = 0, host = 0;

  if (!find_pid (session, args[0], &pid, &host, error))
    return FALSE;
  words = debugger_words (pid, host);
  if (session->run)
    return run_debugger (words, error);
  command = quote_words (words);
  line = g_strconcat (command, "\n", NULL);
  if (!session->json)
    {
      print_text (line);
      return TRUE;
    }
  object = json_object_new ();
  json_object_set_string_member (object, "name", args[0]);
  json_object_set_int_member (object, "pid", pid);
  json_object_set_string_member (object, "command", command);
  print_json (json_node_init_object (json_node_alloc (), object));
  json_object_unref (object);
  return TRUE;
}

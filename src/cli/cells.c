/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * list, load, unload, eject, absorb, shutdown, stats: what the host's own cell does.
 */
#include <locale.h>
#include <stdio.h>
#include <string.h>

#include "api/json-scan.h"
#include "command.h"
#include "table.h"

gboolean
check_result (const CellResult *result, const char *what, GError **error)
{
  if (result->status == CELL_OK)
    return TRUE;
  if (what != NULL)
    return cell_set_error (error, result->status, "%s: %s", what, result->message);
  return cell_set_error (error, result->status, "%s", result->message);
}

gboolean
check_args (char **args, guint least, guint most, const char *usage, GError **error)
{
  guint n = g_strv_length (args);

  if (n >= least && n <= most)
    return TRUE;
  return cell_set_error (error, CELL_ERROR_INVALID, "usage: cellctl %s", usage);
}

static void
print_table (const Session *session, Table *table)
{
  if (session->json)
    {
      g_autoptr(JsonNode) node = table_to_json (table);
      g_autofree char *text = json_write (node, TRUE);

      g_print ("%s\n", text);
    }
  else
    table_print (table, stdout);
}

gboolean
command_list (Session *session, char **args, GError **error)
{
  cell_auto HostList list = host_list (session->host);
  g_autoptr(Table) table = table_new ();

  if (!check_args (args, 0, 0, "list", error) || !check_result (&list.result, NULL, error))
    return FALSE;
  table_add_column (table, "name", "NAME", 0);
  table_add_column (table, "interface", "INTERFACE", TABLE_CUT);
  table_add_column (table, "location", "LOCATION", 0);
  table_add_column (table, "pid", "PID", TABLE_NUMBER);
  table_add_column (table, "generation", "GENERATION", TABLE_NUMBER);
  table_add_column (table, "moves", "MOVES", TABLE_NUMBER);
  table_add_column (table, "channels", "CHANNELS", TABLE_NUMBER);
  table_add_column (table, "calls", "CALLS", TABLE_NUMBER);
  table_add_column (table, "errors", "ERRORS", TABLE_NUMBER);
  table_add_column (table, "since", "SINCE", 0);
  for (uint32_t i = 0; i < list.n_cells; i++)
    {
      const HostCellInfo *cell = &list.cells[i];
      g_autoptr(GDateTime) since = g_date_time_new_from_unix_local (cell->since / G_USEC_PER_SEC);
      g_autofree char *pid = cell->pid != 0 ? g_strdup_printf ("%u", cell->pid) : NULL;
      g_autofree char *generation = g_strdup_printf ("%" PRIu64, cell->generation), *moves = g_strdup_printf ("%u", cell->moves);
      g_autofree char *channels = g_strdup_printf ("%u", cell->channels), *calls = g_strdup_printf ("%" PRIu64, cell->calls);
      g_autofree char *errors = g_strdup_printf ("%" PRIu64, cell->errors), *when = g_date_time_format_iso8601 (since);
      const char *const row[] = { cell->name, cell->interface, cell->location, pid, generation, moves, channels, calls, errors, when };

      table_add_row (table, row);
    }
  print_table (session, table);
  return TRUE;
}

gboolean
command_load (Session *session, char **args, GError **error)
{
  g_autofree char *path = NULL;
  g_autoptr(GArray) config = g_array_new (FALSE, FALSE, sizeof (HostSetting));
  const char *name = NULL;

  if (!check_args (args, 1, 100, "load FILE [NAME] [KEY=VALUE…]", error))
    return FALSE;
  /* The host may be in another folder. */
  path = strchr (args[0], '/') != NULL ? g_canonicalize_filename (args[0], NULL) : g_strdup (args[0]);
  for (char **arg = args + 1; *arg != NULL; arg++)
    {
      char *equals = strchr (*arg, '=');
      HostSetting setting;

      if (equals == NULL && name == NULL && arg == args + 1)
        {
          name = *arg;
          continue;
        }
      if (equals == NULL)
        return cell_set_error (error, CELL_ERROR_INVALID, "“%s” is not KEY=VALUE", *arg);
      *equals = 0;
      setting = (HostSetting) { *arg, equals + 1 };
      g_array_append_val (config, setting);
    }
  cell_auto HostLoad load = host_load (session->host, .path = path, .name = name, .has_name = name != NULL,
                                       .config = (const HostSetting *) config->data, .n_config = config->len);
  if (!check_result (&load.result, NULL, error))
    return FALSE;
  if (session->json)
    g_print ("{\"name\": \"%s\"}\n", load.name);
  else
    g_print ("%s is loaded\n", load.name);
  return TRUE;
}

gboolean
command_unload (Session *session, char **args, GError **error)
{
  if (!check_args (args, 1, 1, "unload CELL", error))
    return FALSE;
  cell_auto HostUnload reply = host_unload (session->host, .name = args[0]);
  return check_result (&reply.result, NULL, error);
}

gboolean
command_eject (Session *session, char **args, GError **error)
{
  if (!check_args (args, 1, 1, "eject CELL", error))
    return FALSE;
  cell_auto HostEject reply = host_eject (session->host, .name = args[0]);
  return check_result (&reply.result, NULL, error);
}

gboolean
command_absorb (Session *session, char **args, GError **error)
{
  if (!check_args (args, 1, 1, "absorb CELL", error))
    return FALSE;
  cell_auto HostAbsorb reply = host_absorb (session->host, .name = args[0]);
  return check_result (&reply.result, NULL, error);
}

gboolean
command_shutdown (Session *session, char **args, GError **error)
{
  if (!check_args (args, 0, 0, "shutdown", error))
    return FALSE;
  cell_auto HostShutdown reply = host_shutdown (session->host);
  return check_result (&reply.result, NULL, error);
}

gboolean
command_stats (Session *session, char **args, GError **error)
{
  static const char *const keys[] = { "calls", "errors", "samples", "p50", "p99", "p999" };
  static const char *const headings[] = { "CALLS", "ERRORS", "SAMPLES", "P50 ns", "P99 ns", "P99.9 ns" };
  g_autoptr(Table) table = table_new ();

  if (!check_args (args, 1, 1, "stats CELL", error))
    return FALSE;
  cell_auto HostStats stats = host_stats (session->host, .name = args[0]);
  if (!check_result (&stats.result, NULL, error))
    return FALSE;
  table_add_column (table, "method", "METHOD", 0);
  for (guint i = 0; i < G_N_ELEMENTS (keys); i++)
    table_add_column (table, keys[i], headings[i], TABLE_NUMBER);
  for (uint32_t i = 0; i < stats.n_methods; i++)
    {
      const HostMethodInfo *m = &stats.methods[i];
      const uint64_t values[] = { m->calls, m->errors, m->samples, m->p50, m->p99, m->p999 };
      char texts[G_N_ELEMENTS (values)][24];
      const char *row[1 + G_N_ELEMENTS (values)] = { m->method };

      for (guint k = 0; k < G_N_ELEMENTS (values); k++)
        {
          g_snprintf (texts[k], sizeof texts[k], "%" PRIu64, values[k]);
          row[1 + k] = k >= 3 && m->samples == 0 ? NULL : texts[k];
        }
      table_add_row (table, row);
    }
  print_table (session, table);
  return TRUE;
}

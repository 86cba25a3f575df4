/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * list, load, unload, eject, absorb, restart, swap, shutdown, grants, stats: what the host's own cell does.
 */
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "plugins/suggest.h"
#include "table.h"

#define RETIRED_MANY 200                /* as the host sees it … */
#define RETIRED_STEP 100                /* … and says it again */

/* A declared error's own name is what a script asks for; those of the table have exit codes. */
static const char *
short_name (const CellResult *result)
{
  if (result->error == NULL || g_str_has_prefix (result->error, CELL_ERROR_NAME_PREFIX) || strrchr (result->error, '.') == NULL)
    return NULL;
  return strrchr (result->error, '.') + 1;
}

gboolean
check_result (const CellResult *result, const char *what, GError **error)
{
  const char *message = result->message != NULL && *result->message != 0 ? result->message : cell_error_text (result->status);
  const char *name = short_name (result);

  if (result->status == CELL_OK)
    return TRUE;
  return cell_set_error (error, result->status, "%s%s%s%s%s%s", what != NULL ? what : "", what != NULL ? ": " : "", message,
                         name != NULL ? " (" : "", name != NULL ? name : "", name != NULL ? ")" : "");
}

gboolean
check_cell (Session *session, const char *cell, const CellResult *result, GError **error)
{
  g_autoptr(GPtrArray) names = g_ptr_array_new ();
  const char *meant;

  if (result->status != CELL_ERROR_NOT_FOUND)
    return check_result (result, NULL, error);
  cell_auto HostList list = host_list (session->host);
  for (uint32_t i = 0; i < list.n_cells; i++)
    g_ptr_array_add (names, (char *) list.cells[i].name);
  g_ptr_array_add (names, NULL);
  meant = suggest (cell, (const char *const *) names->pdata);
  if (meant != NULL)
    return cell_set_error (error, CELL_ERROR_NOT_FOUND, _("there is no cell %s; did you mean %s?"), cell, meant);
  return cell_set_error (error, CELL_ERROR_NOT_FOUND, _("there is no cell %s; 'cellctl list' shows those that there are"), cell);
}

static void
print_table (const Session *session, Table *table)
{
  if (session->json)
    print_json (table_to_json (table));
  else
    table_print (table, stdout);
}

gboolean
command_list (Session *session, char **args, GError **error)
{
  cell_auto HostList list = host_list (session->host);
  g_autoptr(Table) table = table_new ();

  (void) args;
  if (!check_result (&list.result, NULL, error))
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
  table_add_column (table, "retired", "RETIRED", TABLE_NUMBER);
  table_add_column (table, "restarts", "RESTARTS", TABLE_NUMBER);
  table_add_column (table, "origin", "ORIGIN", 0);
  table_add_column (table, "reason", "REASON", TABLE_CUT);
  for (uint32_t i = 0; i < list.n_cells; i++)
    {
      const HostCellInfo *cell = &list.cells[i];
      g_autoptr(GDateTime) since = g_date_time_new_from_unix_local (cell->since / G_USEC_PER_SEC);
      g_autofree char *pid = cell->pid != 0 ? g_strdup_printf ("%u", cell->pid) : NULL;
      g_autofree char *generation = g_strdup_printf ("%" PRIu64, cell->generation), *moves = g_strdup_printf ("%u", cell->moves);
      g_autofree char *channels = g_strdup_printf ("%u", cell->channels), *calls = g_strdup_printf ("%" PRIu64, cell->calls);
      g_autofree char *errors = g_strdup_printf ("%" PRIu64, cell->errors), *when = g_date_time_format_iso8601 (since);
      g_autofree char *retired = g_strdup_printf ("%u", cell->retired), *restarts = g_strdup_printf ("%u", cell->restarts);
      const char *const row[] = {
        cell->name, cell->interface, cell->location, pid, generation, moves, channels, calls, errors, when, retired, restarts,
        cell->origin, *cell->reason != 0 ? cell->reason : NULL
      };

      table_add_row (table, row);
    }
  print_table (session, table);
  return TRUE;
}

static gboolean
read_settings (char **words, GArray *config, GError **error)
{
  for (char **word = words; *word != NULL; word++)
    {
      char *equals = strchr (*word, '=');
      HostSetting setting;

      if (equals == NULL || equals == *word)
        return cell_set_error (error, CELL_ERROR_INVALID, _("'%s' is not KEY=VALUE; a cell's name stands right behind the file"),
                               *word);
      *equals = 0;
      setting = (HostSetting) { *word, equals + 1 };
      g_array_append_val (config, setting);
    }
  return TRUE;
}

/* lost: what it cost; "": nothing. */
static void
print_done_at_a_cost (const Session *session, const char *cell, const char *done, const char *lost)
{
  JsonNode *node;

  if (!session->json)
    {
      g_autofree char *line = g_strdup_printf ("%s: %s\n%s%s", cell, done, lost, *lost != 0 ? "\n" : "");

      print_text (line);
      return;
    }
  node = json_node_init_object (json_node_alloc (), json_object_new ());
  json_object_unref (json_node_get_object (node));
  json_object_set_string_member (json_node_get_object (node), "name", cell);
  if (*lost != 0)
    json_object_set_string_member (json_node_get_object (node), "lost", lost);
  print_json (node);
}

/* What became of a cell: one line, or one object. */
static void
print_done (const Session *session, const char *cell, const char *done)
{
  print_done_at_a_cost (session, cell, done, "");
}

/* Enough earlier builds to be worth a word. */
static void
print_retired (const Session *session, uint32_t retired)
{
  g_autofree char *line = NULL;

  if (session->json || retired < RETIRED_MANY || retired % RETIRED_STEP != 0)
    return;
  line = g_strdup_printf (_("%u earlier builds of it stay in the host's memory until the host is started anew\n"), retired);
  print_text (line);
}

char *
path_for_host (const char *file)
{
  if (strchr (file, '/') != NULL || g_str_has_suffix (file, ".so") || g_str_has_suffix (file, ".cell"))
    return g_canonicalize_filename (file, NULL);
  return g_strdup (file);
}

/* A name is looked for where cells are installed, and somebody who stands beside a file means that. */
gboolean
check_name_of_file (const char *file, CellStatus status, GError **error)
{
  static const char *const ends[] = { ".so", ".cell" };
  gboolean name = strchr (file, '/') == NULL;

  for (guint i = 0; name && i < G_N_ELEMENTS (ends); i++)
    name = !g_str_has_suffix (file, ends[i]);
  if (!name || (status != CELL_ERROR_NOT_FOUND && status != CELL_ERROR_INVALID))
    return TRUE;
  for (guint i = 0; i < G_N_ELEMENTS (ends); i++)
    {
      g_autofree char *meant = g_strconcat ("./", file, ends[i], NULL);

      if (g_file_test (meant, G_FILE_TEST_IS_REGULAR))
        return cell_set_error (error, status, _("no cell %s is installed; did you mean %s?"), file, meant);
    }
  if (g_file_test (file, G_FILE_TEST_EXISTS))
    return cell_set_error (error, CELL_ERROR_INVALID,
                           _("no cell %s is installed, and the file %s is no plugin: a cell's file is a module, NAME.so, or what "
                             "is said of one, NAME.cell"),
                           file, file);
  return TRUE;
}

static gboolean
check_file (const char *file, const CellResult *result, GError **error)
{
  return check_name_of_file (file, result->status, error) && check_result (result, NULL, error);
}

/* Why it is not where others are, and what can be done. */
static void
print_foreign (const Session *session, const char *cell, const char *foreign, gboolean by_key_file)
{
  g_autofree char *line = NULL;

  if (session->json || *foreign == 0)
    return;
  if (by_key_file)
    line = g_strdup_printf (_("its key file is foreign: %s; move that to where only you write, or load the module itself\n"),
                            foreign);
  else
    line = g_strdup_printf (_("its file is foreign: %s; 'cellctl trust %s' trusts it, then 'cellctl absorb %s' takes it into the "
                              "host\n"), foreign,
                            cell, cell);
  print_text (line);
}

gboolean
command_load (Session *session, char **args, GError **error)
{
  g_autofree char *path = NULL;
  g_autoptr(GArray) config = g_array_new (FALSE, FALSE, sizeof (HostSetting));
  const char *name = args[1] != NULL && strchr (args[1], '=') == NULL ? args[1] : NULL;

  if (!read_settings (args + (name != NULL ? 2 : 1), config, error))
    return FALSE;
  path = path_for_host (args[0]);
  cell_auto HostLoad load = host_load (session->host, .path = path, .name = name, .has_name = name != NULL,
                                       .config = (const HostSetting *) config->data, .n_config = config->len);
  if (!check_file (args[0], &load.result, error))
    return FALSE;
  print_done (session, load.name, *load.foreign == 0 ? _("loaded") : _("loaded into a sandbox"));
  print_foreign (session, load.name, load.foreign, load.by_key_file);
  print_retired (session, load.retired);
  return TRUE;
}

gboolean
command_unload (Session *session, char **args, GError **error)
{
  cell_auto HostUnload reply = host_unload (session->host, .name = args[0], .force = session->force, .has_force = session->force);

  if (!check_cell (session, args[0], &reply.result, error))
    return FALSE;
  print_done_at_a_cost (session, args[0], _("unloaded"), reply.lost);
  return TRUE;
}

gboolean
command_eject (Session *session, char **args, GError **error)
{
  cell_auto HostEject reply = host_eject (session->host, .name = args[0]);

  if (!check_cell (session, args[0], &reply.result, error))
    return FALSE;
  print_done (session, args[0], _("in a sandbox"));
  return TRUE;
}

gboolean
command_absorb (Session *session, char **args, GError **error)
{
  cell_auto HostAbsorb reply = host_absorb (session->host, .name = args[0]);

  if (!check_cell (session, args[0], &reply.result, error))
    return FALSE;
  print_done (session, args[0], _("in the host"));
  return TRUE;
}

gboolean
command_restart (Session *session, char **args, GError **error)
{
  cell_auto HostRestart reply = host_restart (session->host, .name = args[0]);

  if (!check_cell (session, args[0], &reply.result, error))
    return FALSE;
  print_done (session, args[0], _("restarted"));
  return TRUE;
}

gboolean
has_cell (Session *session, const char *name)
{
  cell_auto HostList list = host_list (session->host);

  for (uint32_t i = 0; i < list.n_cells; i++)
    if (g_str_equal (list.cells[i].name, name))
      return TRUE;
  return FALSE;
}

gboolean
command_swap (Session *session, char **args, GError **error)
{
  g_autofree char *path = path_for_host (args[1]);

  cell_auto HostSwap reply = host_swap (session->host, .name = args[0], .path = path);
  if (reply.result.status == CELL_ERROR_NOT_FOUND && has_cell (session, args[0]))
    return check_file (args[1], &reply.result, error);  /* it is the file that is not there */
  if (!check_cell (session, args[0], &reply.result, error))
    return FALSE;
  print_done (session, args[0], _("replaced"));
  print_retired (session, reply.retired);
  return TRUE;
}

gboolean
command_shutdown (Session *session, char **args, GError **error)
{
  cell_auto HostShutdown reply = host_shutdown (session->host);

  (void) args;
  if (!check_result (&reply.result, NULL, error))
    return FALSE;
  print_done (session, "host", _("ends"));
  return TRUE;
}

static Table *
table_of_grants (const HostGrants *grants)
{
  Table *table = table_new ();

  table_add_column (table, "cell", "CELL", 0);
  table_add_column (table, "granted", "GRANTED", TABLE_TYPED);
  table_add_column (table, "why_not", "WHY NOT", 0);
  for (uint32_t i = 0; i < grants->n_calls; i++)
    {
      const HostCellGrant *grant = &grants->calls[i];
      const char *const row[] = { grant->cell, grant->granted ? "true" : "false", grant->granted ? NULL : grant->why_not };

      table_add_row (table, row);
    }
  return table;
}

static Table *
table_of_permissions (const HostGrants *grants)
{
  Table *table = table_new ();

  table_add_column (table, "what", "ASKS FOR", 0);
  table_add_column (table, "granted", "GRANTED", TABLE_TYPED);
  table_add_column (table, "why_not", "WHY NOT", 0);
  for (uint32_t i = 0; i < grants->n_permissions; i++)
    {
      const HostCellPermission *permission = &grants->permissions[i];
      const char *const row[] = { permission->what, permission->granted ? "true" : "false",
                                  permission->granted ? NULL : permission->why_not };

      table_add_row (table, row);
    }
  return table;
}

gboolean
command_grants (Session *session, char **args, GError **error)
{
  g_autoptr(Table) table = NULL, permissions = NULL;
  g_autofree char *line = NULL;
  JsonObject *object;

  cell_auto HostGrants grants = host_grants (session->host, .name = args[0]);
  if (!check_cell (session, args[0], &grants.result, error))
    return FALSE;
  table = table_of_grants (&grants);
  permissions = table_of_permissions (&grants);
  if (session->json)
    {
      object = json_object_new ();
      json_object_set_string_member (object, "role", grants.role);
      json_object_set_member (object, "calls", table_to_json (table));
      json_object_set_member (object, "permissions", table_to_json (permissions));
      print_json (json_node_init_object (json_node_alloc (), object));
      json_object_unref (object);
      return TRUE;
    }
  line = g_strdup_printf ("role: %s\n", grants.role);
  print_text (line);
  table_print (table, stdout);
  if (grants.n_permissions > 0)
    table_print (permissions, stdout);
  return TRUE;
}

gboolean
command_stats (Session *session, char **args, GError **error)
{
  static const char *const keys[] = { "calls", "errors", "samples", "p50", "p99", "p999" };
  static const char *const headings[] = { "CALLS", "ERRORS", "SAMPLES", "P50 ns", "P99 ns", "P99.9 ns" };
  g_autoptr(Table) table = table_new ();

  cell_auto HostStats stats = host_stats (session->host, .name = args[0]);
  if (!check_cell (session, args[0], &stats.result, error))
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

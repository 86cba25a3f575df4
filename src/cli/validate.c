/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * validate: what a host would say of a file, without one.
 */
#include "host/validate.h"

#include <string.h>

#include "command.h"
#include "table.h"

static GHashTable *
read_values (char **words, GError **error)
{
  g_autoptr(GHashTable) values = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);

  for (char **word = words; *word != NULL; word++)
    {
      char *equals = strchr (*word, '=');

      if (equals == NULL || equals == *word)
        return cell_set_error (error, CELL_ERROR_INVALID, _("'%s' is not KEY=VALUE"), *word), NULL;
      g_hash_table_insert (values, g_strndup (*word, (gsize) (equals - *word)), equals + 1);
    }
  return g_steal_pointer (&values);
}

static void
print_rules (const Session *session, GPtrArray *rules)
{
  g_autoptr(Table) table = table_new ();

  table_add_column (table, "rule", "RULE", 0);
  table_add_column (table, "kept", "KEPT", 0);
  table_add_column (table, "said", "WHAT IS SAID", 0);
  for (guint i = 0; i < rules->len; i++)
    {
      const ValidateRule *rule = rules->pdata[i];
      gboolean kept = rule->status == CELL_OK;
      const char *const row[] = { rule->rule, kept ? "yes" : "NO", rule->said };

      table_add_row (table, row);
      table_set_json (table, "kept", json_node_init_boolean (json_node_alloc (), kept));
    }
  if (session->json)
    print_json (table_to_json (table));
  else
    table_print (table, stdout);
}

gboolean
command_validate (Session *session, char **args, GError **error)
{
  g_autoptr(GHashTable) values = read_values (args + 1, error);
  g_autoptr(GPtrArray) rules = NULL;
  const ValidateRule *last;

  if (values == NULL)
    return FALSE;
  rules = validate_file (args[0], values);
  last = rules->pdata[rules->len - 1];
  print_rules (session, rules);
  if (last->status == CELL_OK)
    return TRUE;
  if (!check_name_of_file (args[0], last->status, error))
    return FALSE;
  if (!session->json)           /* whoever reads this has just read what is wrong */
    return cell_set_error (error, last->status, _("a host would not load it: it breaks the rule '%s'"), last->rule);
  return cell_set_error (error, last->status, _("a host would not load it: %s"), last->said);
}

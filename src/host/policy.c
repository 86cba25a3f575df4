/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policy.h"

#include <stdlib.h>
#include <string.h>

#include "plugins/manifest.h"
#include "plugins/own-file.h"

#define CELL_GROUP "Cell "
#define DEFAULT_GROUP "Default"

static const char *const role_words[] = {
  [CELL_ACCESS_ANY] = "none", [CELL_ACCESS_VIEW] = "view", [CELL_ACCESS_OPERATE] = "operate", [CELL_ACCESS_ADMIN] = "admin",
};

typedef struct
{
  gboolean says_calls, says_role;
  char **calls;                 /* NULL: * */
  uint32_t role;
  Permits permits;
} Rule;

struct Policy
{
  GHashTable *rules;            /* group → Rule */
};

static void
rule_free (gpointer data)
{
  Rule *rule = data;

  g_strfreev (rule->calls);
  permits_clear (&rule->permits);
  g_free (rule);
}

Policy *
policy_new (void)
{
  Policy *policy = g_new0 (Policy, 1);

  policy->rules = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, rule_free);
  return policy;
}

void
policy_free (Policy *policy)
{
  if (policy == NULL)
    return;
  g_hash_table_unref (policy->rules);
  g_free (policy);
}

/* ---- what it says ----------------------------------------------------------------------------------- */

static gboolean
check_group (const char *group, GError **error)
{
  if (g_str_equal (group, DEFAULT_GROUP))
    return TRUE;
  if (g_str_has_prefix (group, CELL_GROUP))
    return manifest_check_name (group + strlen (CELL_GROUP), error) || (g_prefix_error (error, "[%s]: ", group), FALSE);
  return cell_set_error (error, CELL_ERROR_INVALID, "there is a group [%s]; [Default] and [Cell NAME] are known", group);
}

static gboolean
take_calls (GKeyFile *file, const char *group, Rule *rule, GError **error)
{
  g_autoptr (GError) local = NULL;
  g_auto (GStrv) calls = g_key_file_get_string_list (file, group, "Calls", NULL, &local);

  if (calls == NULL)
    return cell_set_error (error, CELL_ERROR_INVALID, "[%s] Calls: %s", group, local->message);
  rule->says_calls = TRUE;
  g_clear_pointer (&rule->calls, g_strfreev);
  if (calls[0] != NULL && calls[1] == NULL && g_str_equal (g_strstrip (calls[0]), "*"))
    return TRUE;
  for (guint i = 0; calls[i] != NULL; i++)
    if (!manifest_check_name (g_strstrip (calls[i]), error))
      return g_prefix_error (error, "[%s] Calls: ", group), FALSE;
  rule->calls = g_steal_pointer (&calls);
  return TRUE;
}

static gboolean
take_role (GKeyFile *file, const char *group, Rule *rule, GError **error)
{
  g_autofree char *word = g_key_file_get_string (file, group, "Role", NULL);

  rule->says_role = TRUE;
  for (rule->role = 0; word != NULL && rule->role < G_N_ELEMENTS (role_words); rule->role++)
    if (g_str_equal (word, role_words[rule->role]))
      return TRUE;
  return cell_set_error (error, CELL_ERROR_INVALID, "[%s] Role is none, view, operate or admin, not '%s'", group,
                         word != NULL ? word : "");
}

static gboolean
take_permit (GKeyFile *file, const char *group, const char *key, Rule *rule, GError **error)
{
  gboolean known;

  if (!permits_take (&rule->permits, file, group, key, &known, error))
    return g_prefix_error (error, "[%s] ", group), FALSE;
  return known
         || cell_set_error (error, CELL_ERROR_INVALID,
                            "[%s] has a key %s; Calls, Role, Network, ReadPaths, WritePaths and Devices are known", group, key);
}

static Rule *
rule_of (Policy *policy, const char *group)
{
  Rule *rule = g_hash_table_lookup (policy->rules, group);

  if (rule == NULL)
    {
      rule = g_new0 (Rule, 1);
      g_hash_table_insert (policy->rules, g_strdup (group), rule);
    }
  return rule;
}

static gboolean
take_group (Policy *policy, GKeyFile *file, const char *group, GError **error)
{
  g_auto (GStrv) keys = g_key_file_get_keys (file, group, NULL, NULL);
  Rule *rule;

  if (!check_group (group, error))
    return FALSE;
  rule = rule_of (policy, group);
  for (guint i = 0; keys != NULL && keys[i] != NULL; i++)
    if (g_str_equal (keys[i], "Calls"))
      {
        if (!take_calls (file, group, rule, error))
          return FALSE;
      }
    else if (g_str_equal (keys[i], "Role"))
      {
        if (!take_role (file, group, rule, error))
          return FALSE;
      }
    else if (!take_permit (file, group, keys[i], rule, error))
      return FALSE;
  return TRUE;
}

static gboolean
add (Policy *policy, const char *text, gsize length, GError **error)
{
  g_autoptr (GKeyFile) file = g_key_file_new ();
  g_autoptr (GError) local = NULL;
  g_auto (GStrv) groups = NULL;

  if (length > POLICY_MAX_SIZE)
    return cell_set_error (error, CELL_ERROR_INVALID, "it has %zu bytes; %zu are the most", length, POLICY_MAX_SIZE);
  if (length > 0 && !g_key_file_load_from_data (file, text, length, G_KEY_FILE_KEEP_TRANSLATIONS, &local))
    return cell_set_error (error, CELL_ERROR_INVALID, "%s", local->message);
  groups = g_key_file_get_groups (file, NULL);
  for (guint i = 0; groups[i] != NULL; i++)
    if (!take_group (policy, file, groups[i], error))
      return FALSE;
  return TRUE;
}

gboolean
policy_add (Policy *policy, const char *path, const char *text, gsize length, GError **error)
{
  g_autoptr (GError) local = NULL;
  g_autofree char *said = NULL;

  if (add (policy, text, length, &local))
    return TRUE;
  said = g_utf8_make_valid (local->message, -1);        /* what it quotes of the file may be anything */
  g_set_error (error, local->domain, local->code, "%s: %s", path, g_strdelimit (said, "\n\r\t", ' '));
  return FALSE;
}

Policy *
policy_load (const char *system_path, const char *user_path, GError **error)
{
  const char *const paths[] = { system_path, user_path };
  g_autoptr (Policy) policy = policy_new ();

  for (guint i = 0; i < G_N_ELEMENTS (paths); i++)
    {
      g_autoptr (GError) local = NULL;
      gsize length = 0;
      g_autofree char *text = paths[i] != NULL ? own_file_read (paths[i], POLICY_MAX_SIZE, &length, &local) : NULL;

      if (local != NULL)
        return g_propagate_error (error, g_steal_pointer (&local)), NULL;
      if (text != NULL && !policy_add (policy, paths[i], text, length, error))
        return NULL;
    }
  return g_steal_pointer (&policy);
}

/* ---- what that means -------------------------------------------------------------------------------- */

/* Its own, and that of those who have none. */
static void
rules_for (const Policy *policy, const char *cell, const Rule *ret_rules[2])
{
  g_autofree char *group = g_strconcat (CELL_GROUP, cell, NULL);

  ret_rules[0] = g_hash_table_lookup (policy->rules, group);
  ret_rules[1] = g_hash_table_lookup (policy->rules, DEFAULT_GROUP);
}

const char *const *
policy_get_calls (const Policy *policy, const char *cell)
{
  const Rule *rules[2];

  rules_for (policy, cell, rules);
  for (guint i = 0; i < 2; i++)
    if (rules[i] != NULL && rules[i]->says_calls)
      return (const char *const *) rules[i]->calls;
  return NULL;
}

uint32_t
policy_get_role (const Policy *policy, const char *cell)
{
  const Rule *rules[2];

  rules_for (policy, cell, rules);
  for (guint i = 0; i < 2; i++)
    if (rules[i] != NULL && rules[i]->says_role)
      return rules[i]->role;
  return CELL_ACCESS_ANY;
}

gboolean
policy_get_network (const Policy *policy, const char *cell, gboolean *ret)
{
  const Rule *rules[2];

  rules_for (policy, cell, rules);
  for (guint i = 0; i < 2; i++)
    if (rules[i] != NULL && rules[i]->permits.says_network)
      {
        *ret = rules[i]->permits.network;
        return TRUE;
      }
  return FALSE;
}

const char *const *
policy_get_paths (const Policy *policy, const char *cell, PermitKind kind)
{
  const Rule *rules[2];

  rules_for (policy, cell, rules);
  for (guint i = 0; i < 2; i++)
    if (rules[i] != NULL && rules[i]->permits.paths[kind] != NULL)
      return (const char *const *) rules[i]->permits.paths[kind];
  return NULL;
}

gboolean
policy_lets_write (const Policy *policy, const char *path)
{
  GHashTableIter iter;
  gpointer value;

  g_hash_table_iter_init (&iter, policy->rules);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    {
      char **granted = ((const Rule *) value)->permits.paths[PERMIT_WRITE];

      for (guint i = 0; granted != NULL && granted[i] != NULL; i++)
        {
          char *folder = realpath (granted[i], NULL);
          gboolean below = folder != NULL && permits_lies_below (path, folder);

          free (folder);
          if (below)
            return TRUE;
        }
    }
  return FALSE;
}

const char *
policy_role_word (uint32_t role)
{
  return role < G_N_ELEMENTS (role_words) ? role_words[role] : "?";
}

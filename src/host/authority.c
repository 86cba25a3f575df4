/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "authority.h"

#include <string.h>

#include "cell.h"
#include "connection.h"
#include "load.h"
#include "policy.h"
#include "trust.h"

typedef struct
{
  HostCell *caller;
  Manifest *manifest;
  Policy *policy;
} Authority;

static void
authority_clear (Authority *authority)
{
  g_clear_pointer (&authority->manifest, manifest_free);
  g_clear_pointer (&authority->policy, policy_free);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Authority, authority_clear)

static gboolean
authority_read (Authority *authority, HostCell *caller, const char *key_file, GError **error)
{
  const HostConfig *config = &caller->host->config;

  authority->caller = caller;
  if (key_file == NULL)
    return cell_set_error (error, CELL_ERROR_UNSUPPORTED, "cell %s is a part of the host and stays in it", caller->name);
  authority->manifest = trust_load_key_file (caller->host, key_file, error);
  if (authority->manifest == NULL)
    return FALSE;
  authority->policy = policy_load (config->system_policy_path, config->policy_path, error);
  return authority->policy != NULL;
}

/* ---- what is missing -------------------------------------------------------------------------------- */

static gboolean
has (const char *const *names, const char *name)
{
  return names != NULL && g_strv_contains (names, name);
}

static gboolean
is_listed (const Authority *authority, const char *name)
{
  return has ((const char *const *) authority->manifest->calls, name);
}

static gboolean
is_granted (const Authority *authority, const char *name)
{
  const char *const *calls = policy_get_calls (authority->policy, authority->caller->name);

  return calls == NULL || has (calls, name);
}

/* What is declared for nobody in particular is for anybody; the host's own cell is not. */
static gboolean
has_role (const Authority *authority, const char *name)
{
  g_autoptr(HostCell) cell = host_find (authority->caller->host, name, NULL);

  return cell == NULL || !cell->is_host || policy_get_role (authority->policy, authority->caller->name) != CELL_ACCESS_ANY;
}

static GPtrArray *
missing (const Authority *authority, const char *const *names, gboolean (*may) (const Authority *authority, const char *name))
{
  g_autoptr(GPtrArray) list = g_ptr_array_new ();

  for (guint i = 0; names[i] != NULL; i++)
    if (!may (authority, names[i]))
      g_ptr_array_add (list, (char *) names[i]);
  if (list->len == 0)
    return NULL;
  g_ptr_array_add (list, NULL);
  return g_steal_pointer (&list);
}

/* The line as it has to be: what it says now, and what is missing. */
static char *
calls_line (const char *const *now, GPtrArray *more)
{
  g_autoptr(GStrvBuilder) builder = g_strv_builder_new ();
  g_auto(GStrv) all = NULL;
  g_autofree char *list = NULL;

  if (now != NULL)
    g_strv_builder_addv (builder, (const char **) now);
  g_strv_builder_addv (builder, (const char **) more->pdata);
  all = g_strv_builder_end (builder);
  list = g_strjoinv (";", all);
  return g_strconcat ("Calls=", list, NULL);
}

static gboolean
deny (const Authority *authority, GPtrArray *names, const char *line, const char *group, const char *path, GError **error)
{
  g_autofree char *list = g_strjoinv (", ", (char **) names->pdata);

  return cell_set_error (error, CELL_ERROR_DENIED, "cell %s may not call %s from a sandbox; write %s below [%s] in %s",
                         authority->caller->name, list, line, group, path);
}

static gboolean
check (const Authority *authority, const char *const *names, GError **error)
{
  const char *name = authority->caller->name, *policy = authority->caller->host->config.policy_path;
  g_autofree char *group = g_strconcat ("Cell ", name, NULL), *line = NULL;
  g_autoptr(GPtrArray) unlisted = missing (authority, names, is_listed);
  g_autoptr(GPtrArray) withheld = missing (authority, names, is_granted);
  g_autoptr(GPtrArray) without_role = missing (authority, names, has_role);

  if (!trust_check_gives (authority->manifest, name, error))
    return FALSE;
  if (unlisted != NULL)
    {
      line = calls_line ((const char *const *) authority->manifest->calls, unlisted);
      return deny (authority, unlisted, line, "Cell", authority->manifest->path, error);
    }
  if (withheld != NULL)
    {
      line = calls_line (policy_get_calls (authority->policy, name), withheld);
      return deny (authority, withheld, line, group, policy, error);
    }
  return without_role == NULL || deny (authority, without_role, "Role=view (or operate, or admin)", group, policy, error);
}

/* ---- who asks --------------------------------------------------------------------------------------- */

HostCell *
authority_find (HostCell *caller, const char *key_file, const char *name, uint32_t *ret_role, GError **error)
{
  const char *const names[] = { name, NULL };
  g_auto(Authority) authority = { 0 };
  HostCell *cell;

  if (!authority_read (&authority, caller, key_file, error) || !check (&authority, names, error))
    return NULL;
  cell = host_find (caller->host, name, error);
  if (cell != NULL)
    *ret_role = policy_get_role (authority.policy, caller->name);
  return cell;
}

gboolean
authority_check (HostCell *caller, const char *key_file, const char *const *names, GError **error)
{
  g_auto(Authority) authority = { 0 };

  return names[0] == NULL || (authority_read (&authority, caller, key_file, error) && check (&authority, names, error));
}

static void
grant_free (gpointer data)
{
  Grant *grant = data;

  g_free (grant->cell);
  g_free (grant->why_not);
  g_free (grant);
}

static char **
uses_now (HostCell *caller)
{
  char **uses = NULL;

  pthread_mutex_lock (&caller->lock);
  if (caller->location == CELL_LOCATION_HERE && caller->instance != NULL)
    uses = cell_instance_get_uses (caller->instance);
  pthread_mutex_unlock (&caller->lock);
  return uses != NULL ? uses : g_new0 (char *, 1);
}

static void
add_grant (GPtrArray *grants, const Authority *authority, const char *name)
{
  const char *const names[] = { name, NULL };
  g_autoptr(GError) error = NULL;
  Grant *grant = g_new0 (Grant, 1);

  grant->cell = g_strdup (name);
  if (!check (authority, names, &error))
    grant->why_not = g_strdup (error->message);
  g_ptr_array_add (grants, grant);
}

GPtrArray *
authority_describe (HostCell *caller, uint32_t *ret_role, GError **error)
{
  g_autoptr(GPtrArray) grants = g_ptr_array_new_with_free_func (grant_free);
  g_auto(Authority) authority = { 0 };
  g_auto(GStrv) uses = uses_now (caller);
  char **listed;

  if (!authority_read (&authority, caller, caller->key_file, error))
    return NULL;
  listed = authority.manifest->calls;
  for (guint i = 0; listed != NULL && listed[i] != NULL; i++)
    add_grant (grants, &authority, listed[i]);
  for (guint i = 0; uses[i] != NULL; i++)
    if (!is_listed (&authority, uses[i]))
      add_grant (grants, &authority, uses[i]);
  *ret_role = policy_get_role (authority.policy, caller->name);
  return g_steal_pointer (&grants);
}

void
authority_say_denied (Channel *channel, uint32_t access, char *text, size_t size)
{
  const Connection *connection = channel->untrusted ? channel->freed_data : NULL;
  const HostCell *caller = connection != NULL ? connection->cell : NULL;
  const char *role = policy_role_word (access);

  if (caller != NULL)
    g_snprintf (text, size, "cell %s does not have the role '%s', which this asks for; write Role=%s below [Cell %s] in %s",
                caller->name, role, role, caller->name, caller->host->config.policy_path);
  else if (connection != NULL)
    g_snprintf (text, size, "this connection does not have the role '%s', which this asks for", role);
  else
    g_snprintf (text, size, "a cell in the host's process does not have the role '%s', which this asks for; programs have it",
                role);
}

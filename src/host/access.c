/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include "access.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "cell.h"
#include "plugins/manifest.h"
#include "policy.h"
#include "trust.h"

#define FIRST_FD 16                     /* in the sandbox, before bubblewrap has mounted them */

static const char *const to_do[PERMIT_KINDS] = {
  [PERMIT_READ] = "to read", [PERMIT_WRITE] = "to write to", [PERMIT_DEVICES] = "for the device",
};
static const char *const mount_options[PERMIT_KINDS] = {
  [PERMIT_READ] = "--ro-bind-fd", [PERMIT_WRITE] = "--bind-fd", [PERMIT_DEVICES] = "--dev-bind",
};

/* ---- what is asked and granted --------------------------------------------------------------------------- */

typedef struct
{
  HostCell *cell;
  Manifest *manifest;
  Policy *policy;
} Question;

static void
question_clear (Question *question)
{
  g_clear_pointer (&question->manifest, manifest_free);
  g_clear_pointer (&question->policy, policy_free);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Question, question_clear)

static gboolean
asks (const Permits *permits)
{
  gboolean any = permits->network;

  for (PermitKind kind = 0; kind < PERMIT_KINDS; kind++)
    any |= permits->paths[kind] != NULL;
  return any;
}

/* The policy only if it is of use: nonsense in there is nothing to a cell that asks for nothing. */
static gboolean
question_read (Question *question, HostCell *cell, const char *key_file, GError **error)
{
  const HostConfig *config = &cell->host->config;

  question->cell = cell;
  if (key_file == NULL)
    return cell_set_error (error, CELL_ERROR_UNSUPPORTED, "cell %s is a part of the host and stays in it", cell->name);
  question->manifest = trust_load_key_file (cell->host, key_file, error);
  if (question->manifest == NULL || !asks (&question->manifest->permits))
    return question->manifest != NULL;
  question->policy = policy_load (config->system_policy_path, config->policy_path, error);
  return question->policy != NULL;
}

/* line: what grants it; without: what withholds it. */
static char *
say_unsaid (const Question *question, const char *wish, const char *line, const char *without)
{
  const char *name = question->cell->name, *path = question->cell->host->config.policy_path;

  return g_strdup_printf ("cell %s asks %s, of which the policy says nothing; write %s below [Cell %s] in %s, or %s to have it do "
                          "without", name, wish, line, name, path, without);
}

typedef enum
{
  GRANTED,
  WITHHELD,                     /* the policy says so */
  UNSAID                        /* by the policy, or by a key file that is heard */
} Answer;

static gboolean
is_heard (const Question *question, char **ret_why_not)
{
  g_autoptr(GError) error = NULL;

  if (trust_check_gives (question->manifest, question->cell->name, &error))
    return TRUE;
  *ret_why_not = g_strdup (error->message);
  return FALSE;
}

static Answer
may_use_network (const Question *question, char **ret_why_not)
{
  gboolean granted;

  if (!is_heard (question, ret_why_not))
    return UNSAID;
  if (!policy_get_network (question->policy, question->cell->name, &granted))
    {
      *ret_why_not = say_unsaid (question, "for the network", "Network=true", "Network=false");
      return UNSAID;
    }
  if (!granted)
    *ret_why_not = g_strdup ("the policy withholds it");
  return granted ? GRANTED : WITHHELD;
}

static Answer
may_have (const Question *question, PermitKind kind, const char *path, char **ret_why_not)
{
  const char *const *granted = policy_get_paths (question->policy, question->cell->name, kind);
  const char *key = permits_key (kind);
  g_autofree char *wish = g_strconcat (to_do[kind], " ", path, NULL), *line = g_strconcat (key, "=", path, NULL);
  g_autofree char *without = g_strconcat (key, "=", NULL);

  if (!is_heard (question, ret_why_not))
    return UNSAID;
  if (granted == NULL)
    {
      *ret_why_not = say_unsaid (question, wish, line, without);
      return UNSAID;
    }
  if (permits_cover (granted, path))
    return GRANTED;
  *ret_why_not = g_strdup ("the policy withholds it");
  return WITHHELD;
}

static void
permission_free (gpointer data)
{
  Permission *permission = data;

  g_free (permission->what);
  g_free (permission->why_not);
  g_free (permission);
}

static void
add_permission (GPtrArray *list, char *what, Answer answer, char *why_not)
{
  Permission *permission = g_new0 (Permission, 1);

  *permission = (Permission) { what, answer == GRANTED, why_not };
  g_ptr_array_add (list, permission);
}

GPtrArray *
access_describe (HostCell *cell, GError **error)
{
  g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func (permission_free);
  g_auto(Question) question = { 0 };
  const Permits *asked;

  if (!question_read (&question, cell, cell->key_file, error))
    return NULL;
  asked = &question.manifest->permits;
  if (asked->network)
    {
      char *why_not = NULL;
      Answer answer = may_use_network (&question, &why_not);

      add_permission (list, g_strdup ("Network"), answer, why_not);
    }
  for (PermitKind kind = 0; kind < PERMIT_KINDS; kind++)
    for (char **path = asked->paths[kind]; path != NULL && *path != NULL; path++)
      {
        char *why_not = NULL;
        Answer answer = may_have (&question, kind, *path, &why_not);

        add_permission (list, g_strconcat (permits_key (kind), "=", *path, NULL), answer, why_not);
      }
  return g_steal_pointer (&list);
}

/* ---- what is opened -------------------------------------------------------------------------------------- */

/* A grant is for what it leads to when it is used: a cell could have put a link into a folder that it may write to. */
static gboolean
leads_astray (const Question *question, PermitKind kind, const char *real)
{
  const char *const *granted = policy_get_paths (question->policy, question->cell->name, kind);

  for (guint i = 0; granted[i] != NULL; i++)
    {
      char *folder = realpath (granted[i], NULL);
      gboolean below = folder != NULL && permits_lies_below (real, folder);

      free (folder);
      if (below)
        return FALSE;
    }
  return TRUE;
}

/* There it would be the user of this host, or say itself what it may. */
static gboolean
contains (const char *real, const char *file)
{
  char *target = file != NULL ? realpath (file, NULL) : NULL;
  gboolean below = target != NULL && permits_lies_below (target, real);

  free (target);
  return below;
}

/* The folder in which that is, or is to be made: one who can write there could have it made. */
static gboolean
contains_place_of (const char *real, const char *file)
{
  g_autofree char *folder = g_path_get_dirname (file);

  while (access (folder, F_OK) != 0 && !g_str_equal (folder, "/"))
    {
      char *above = g_path_get_dirname (folder);

      g_free (folder);
      folder = above;
    }
  return contains (real, folder);
}

static gboolean
check_target (const Question *question, PermitKind kind, const char *path, const char *real, GError **error)
{
  const HostConfig *config = &question->cell->host->config;
  const char *name = question->cell->name;

  if (leads_astray (question, kind, real))
    return cell_set_error (error, CELL_ERROR_DENIED, "cell %s: %s leads to %s, which is not granted", name, path, real);
  if (contains (real, config->socket_path))
    return cell_set_error (error, CELL_ERROR_DENIED, "cell %s: below %s lies the host's own socket, which no cell may have", name,
                           path);
  if (kind == PERMIT_WRITE && (contains (real, config->policy_path) || contains_place_of (real, config->policy_path)
                               || contains (real, config->trust_path) || contains_place_of (real, config->trust_path)))
    return cell_set_error (error, CELL_ERROR_DENIED, "cell %s: below %s lies what says what it may, and it could write to that",
                           name, path);
  return TRUE;
}

static gboolean
open_path (Access *access, const Question *question, PermitKind kind, const char *path, GError **error)
{
  int fd = open (path, O_PATH | O_CLOEXEC), why = errno, as = FIRST_FD + (int) access->fds->len;
  g_autofree char *link = g_strdup_printf ("/proc/self/fd/%d", fd), *number = g_strdup_printf ("%d", as);
  g_autofree char *real = fd >= 0 ? g_file_read_link (link, NULL) : NULL;
  const char *args[] = { mount_options[kind], kind == PERMIT_DEVICES ? real : number, path, NULL };

  if (real == NULL)
    return cell_set_error (error, CELL_ERROR_REFUSED, "cell %s asks %s %s, which cannot be opened: %s", question->cell->name,
                           to_do[kind], path, g_strerror (why));
  if (!check_target (question, kind, path, real, error))
    {
      close (fd);
      return FALSE;
    }
  g_strv_builder_addv (access->mounts, args);
  if (kind == PERMIT_DEVICES)
    close (fd);                         /* /dev is root's: nobody puts another in its place */
  else
    g_array_append_val (access->fds, ((ProcessFd) { fd, as }));
  if (kind == PERMIT_WRITE)
    g_array_append_val (access->writable, fd);
  return TRUE;
}

static gboolean
open_paths (Access *access, const Question *question, GError **error)
{
  for (PermitKind kind = 0; kind < PERMIT_KINDS; kind++)
    for (char **path = question->manifest->permits.paths[kind]; path != NULL && *path != NULL; path++)
      {
        g_autofree char *why_not = NULL;
        Answer answer = may_have (question, kind, *path, &why_not);

        if (answer == UNSAID)
          return cell_set_error (error, CELL_ERROR_DENIED, "%s", why_not);
        if (answer == GRANTED && !open_path (access, question, kind, *path, error))
          return FALSE;
      }
  return TRUE;
}

static gboolean
open_network (Access *access, const Question *question, GError **error)
{
  g_autofree char *why_not = NULL;
  Answer answer = question->manifest->permits.network ? may_use_network (question, &why_not) : WITHHELD;

  access->network = answer == GRANTED;
  return answer != UNSAID || cell_set_error (error, CELL_ERROR_DENIED, "%s", why_not);
}

gboolean
access_open (Access *access, HostCell *cell, const char *key_file, GError **error)
{
  g_auto(Question) question = { 0 };

  *access = (Access) { .mounts = g_strv_builder_new (), .fds = g_array_new (FALSE, FALSE, sizeof (ProcessFd)),
                       .writable = g_array_new (FALSE, FALSE, sizeof (int)) };
  if (question_read (&question, cell, key_file, error) && open_network (access, &question, error)
      && open_paths (access, &question, error))
    {
      access->hang_ms = question.manifest->watchdog * 1000;
      access->memory = (guint64) question.manifest->memory << 20;
      access->strict = question.manifest->strict;
      return TRUE;
    }
  access_clear (access);
  return FALSE;
}

void
access_clear (Access *access)
{
  for (guint i = 0; access->fds != NULL && i < access->fds->len; i++)
    close (g_array_index (access->fds, ProcessFd, i).fd);
  g_clear_pointer (&access->fds, g_array_unref);
  g_clear_pointer (&access->writable, g_array_unref);
  g_clear_pointer (&access->mounts, g_strv_builder_unref);
}

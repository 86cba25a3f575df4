/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * trust: which foreign files may be in the host's process.
 */
#include <stdio.h>

#include "command.h"
#include "table.h"

static gboolean
list (Session *session, GError **error)
{
  cell_auto HostTrusted trusted = host_trusted (session->host);
  g_autoptr(Table) table = table_new ();

  if (!check_result (&trusted.result, NULL, error))
    return FALSE;
  table_add_column (table, "file", "FILE", 0);
  table_add_column (table, "when", "WHEN", 0);
  table_add_column (table, "sha256", "SHA-256", 0);
  for (uint32_t i = 0; i < trusted.n_files; i++)
    {
      const HostTrustedFileInfo *file = &trusted.files[i];
      const char *const row[] = { file->file, file->when, file->sha256 };

      table_add_row (table, row);
    }
  if (session->json)
    print_json (table_to_json (table));
  else
    table_print (table, stdout);
  return TRUE;
}

static void
print_done (const Session *session, const HostTrust *reply)
{
  JsonObject *object;

  if (!session->json)
    {
      g_autofree char *line = g_strdup_printf ("%s: %s\n", reply->file,
                                               session->remove ? _("not trusted any more; a cell of it stays where it is")
                                                               : _("trusted"));

      print_text (line);
      return;
    }
  object = json_object_new ();
  json_object_set_string_member (object, "file", reply->file);
  json_object_set_string_member (object, "sha256", reply->sha256);
  print_json (json_node_init_object (json_node_alloc (), object));
  json_object_unref (object);
}

gboolean
command_trust (Session *session, char **args, GError **error)
{
  g_autofree char *what = NULL;

  if (session->list && (args[0] != NULL || session->remove))
    return cell_set_error (error, CELL_ERROR_INVALID, _("--list stands alone"));
  if (session->list)
    return list (session, error);
  if (args[0] == NULL)
    return cell_set_error (error, CELL_ERROR_INVALID, _("a word is missing; usage: cellctl %s"), "trust FILE|CELL");
  what = path_for_host (args[0]);
  cell_auto HostTrust reply = host_trust (session->host, .what = what, .remove = session->remove, .has_remove = true);
  /* What is to be removed may well be there, and not among those that are trusted. */
  if ((!session->remove && !check_name_of_file (args[0], reply.result.status, error))
      || !check_result (&reply.result, NULL, error))
    return FALSE;
  print_done (session, &reply);
  return TRUE;
}

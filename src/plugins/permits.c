/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "permits.h"

#include <string.h>

#define NETWORK "Network"
#define DEVICE_FOLDER "/dev"

static const char *const keys[PERMIT_KINDS] = {
  [PERMIT_READ] = "ReadPaths", [PERMIT_WRITE] = "WritePaths", [PERMIT_DEVICES] = "Devices",
};

const char *
permits_key (PermitKind kind)
{
  return keys[kind];
}

gboolean
permits_lies_below (const char *path, const char *folder)
{
  gsize n = strlen (folder);

  if (g_str_equal (folder, "/"))
    return TRUE;
  return strncmp (path, folder, n) == 0 && (path[n] == 0 || path[n] == '/');
}

gboolean
permits_cover (const char *const *paths, const char *path)
{
  for (guint i = 0; paths != NULL && paths[i] != NULL; i++)
    if (permits_lies_below (path, paths[i]))
      return TRUE;
  return FALSE;
}

/* Takes the path; NULL: it is none. */
static char *
tidy (char *path, PermitKind kind, GError **error)
{
  g_autofree char *said = path, *tidied = NULL;
  gboolean plain = TRUE;

  g_strstrip (said);
  for (const char *c = said; *c != 0; c++)
    plain = plain && !g_ascii_iscntrl (*c);
  if (!plain || !g_path_is_absolute (said))
    return cell_set_error (error, CELL_ERROR_INVALID, "%s: '%s' is not an absolute path", keys[kind], said), NULL;
  tidied = g_canonicalize_filename (said, NULL);
  if (kind == PERMIT_DEVICES && (!permits_lies_below (tidied, DEVICE_FOLDER) || g_str_equal (tidied, DEVICE_FOLDER)))
    return cell_set_error (error, CELL_ERROR_INVALID, "%s: '%s' does not lie below %s", keys[kind], said, DEVICE_FOLDER), NULL;
  return g_steal_pointer (&tidied);
}

static gboolean
take_paths (Permits *permits, GKeyFile *file, const char *group, PermitKind kind, GError **error)
{
  g_autoptr (GError) local = NULL;
  g_auto (GStrv) paths = g_key_file_get_string_list (file, group, keys[kind], NULL, &local);

  if (paths == NULL)
    return cell_set_error (error, CELL_ERROR_INVALID, "%s: %s", keys[kind], local->message);
  if (g_strv_length (paths) > PERMITS_MAX)
    return cell_set_error (error, CELL_ERROR_INVALID, "%s: %u are the most", keys[kind], PERMITS_MAX);
  for (guint i = 0; paths[i] != NULL; i++)
    {
      char *path = tidy (g_strdup (paths[i]), kind, error);

      if (path == NULL)
        return FALSE;
      g_free (paths[i]);
      paths[i] = path;
    }
  g_strfreev (permits->paths[kind]);
  permits->paths[kind] = g_steal_pointer (&paths);
  return TRUE;
}

static gboolean
take_network (Permits *permits, GKeyFile *file, const char *group, GError **error)
{
  g_autoptr (GError) local = NULL;

  permits->network = g_key_file_get_boolean (file, group, NETWORK, &local);
  permits->says_network = TRUE;
  return local == NULL || cell_set_error (error, CELL_ERROR_INVALID, NETWORK " is true or false");
}

gboolean
permits_take (Permits *permits, GKeyFile *file, const char *group, const char *key, gboolean *ret_known, GError **error)
{
  *ret_known = TRUE;
  if (g_str_equal (key, NETWORK))
    return take_network (permits, file, group, error);
  for (PermitKind kind = 0; kind < PERMIT_KINDS; kind++)
    if (g_str_equal (key, keys[kind]))
      return take_paths (permits, file, group, kind, error);
  *ret_known = FALSE;
  return TRUE;
}

void
permits_clear (Permits *permits)
{
  for (PermitKind kind = 0; kind < PERMIT_KINDS; kind++)
    g_strfreev (permits->paths[kind]);
  *permits = (Permits) { 0 };
}

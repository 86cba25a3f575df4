/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define G_LOG_DOMAIN "cellhost-probe"
#include "config.h"

#include "probe-memory.h"

#include <glib/gstdio.h>
#include <string.h>

#include "plugins/own-file.h"

#define GROUP "Probe"
#define SUFFIX ".probe"
#define FILE_MAX 4096u
#define KEPT_MAX 512u           /* when there are more, all are forgotten: trying a file again takes milliseconds */

char *
probe_memory_key (const ModuleFile *file, GHashTable *values)
{
  static const char host[] = PACKAGE_VERSION;
  g_autoptr(GChecksum) sum = g_checksum_new (G_CHECKSUM_SHA256);
  g_autoptr(GList) keys = values != NULL ? g_list_sort (g_hash_table_get_keys (values), (GCompareFunc) strcmp) : NULL;

  /* Each with its NUL, so that no two lists are the same bytes. */
  g_checksum_update (sum, (const guchar *) host, sizeof host);
  g_checksum_update (sum, (const guchar *) file->sha256, sizeof file->sha256);
  for (GList *key = keys; key != NULL; key = key->next)
    {
      const char *value = g_hash_table_lookup (values, key->data);

      g_checksum_update (sum, key->data, (gssize) strlen (key->data) + 1);
      g_checksum_update (sum, (const guchar *) value, (gssize) strlen (value) + 1);
    }
  return g_strdup (g_checksum_get_string (sum));
}

static char *
path_of (const HostConfig *config, const char *key)
{
  g_autofree char *base = g_strconcat (key, SUFFIX, NULL);

  return g_build_filename (config->cache_dir, base, NULL);
}

gboolean
probe_memory_read (const HostConfig *config, const char *key, char **ret_reason)
{
  g_autoptr(GKeyFile) file = g_key_file_new ();
  g_autofree char *path = NULL, *text = NULL;
  g_autoptr(GError) error = NULL;
  gsize size = 0;
  gboolean good;

  if (config->cache_dir == NULL)
    return FALSE;
  path = path_of (config, key);
  text = own_file_read (path, FILE_MAX, &size, NULL);
  if (text == NULL || !g_key_file_load_from_data (file, text, size, G_KEY_FILE_NONE, NULL))
    return FALSE;
  good = g_key_file_get_boolean (file, GROUP, "Good", &error);
  if (error != NULL)
    return FALSE;
  *ret_reason = good ? NULL : g_key_file_get_string (file, GROUP, "Reason", NULL);
  return good || *ret_reason != NULL;
}

static void
forget_if_many (const char *folder)
{
  g_autoptr(GDir) dir = g_dir_open (folder, 0, NULL);
  const char *name;
  guint n = 0;

  while (dir != NULL && g_dir_read_name (dir) != NULL)
    n++;
  if (n < KEPT_MAX)
    return;
  g_dir_rewind (dir);
  while ((name = g_dir_read_name (dir)) != NULL)
    if (g_str_has_suffix (name, SUFFIX))
      {
        g_autofree char *path = g_build_filename (folder, name, NULL);

        g_unlink (path);
      }
}

void
probe_memory_write (const HostConfig *config, const char *key, const char *reason)
{
  g_autoptr(GKeyFile) file = g_key_file_new ();
  g_autofree char *path = NULL, *text = NULL;
  g_autoptr(GError) error = NULL;
  gsize size;

  if (config->cache_dir == NULL)
    return;
  path = path_of (config, key);
  g_key_file_set_boolean (file, GROUP, "Good", reason == NULL);
  if (reason != NULL)
    g_key_file_set_string (file, GROUP, "Reason", reason);
  text = g_key_file_to_data (file, &size, NULL);
  if (g_mkdir_with_parents (config->cache_dir, 0700) == 0)
    forget_if_many (config->cache_dir);
  if (!g_file_set_contents_full (path, text, (gssize) size, G_FILE_SET_CONTENTS_CONSISTENT, 0600, &error))
    g_info ("what was learnt of a file is not kept: %s", error->message);
}

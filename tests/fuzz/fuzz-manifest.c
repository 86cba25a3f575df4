/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Any bytes as a cell's key file: refused with one sentence that names the file, or everything in it is what the rest of the host
 * takes for granted.
 */
#include <string.h>

#include "plugins/manifest.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (Manifest) manifest = manifest_parse ("/cells/bank.cell", (const char *) data, size, &error);
  GHashTableIter iter;
  gpointer key, value;

  if (manifest == NULL)
    {
      g_assert_true (error != NULL && error->domain == CELL_ERROR_DOMAIN && g_utf8_validate (error->message, -1, NULL));
      g_assert_true (strstr (error->message, "bank.cell") != NULL && strchr (error->message, '\n') == NULL);
      return 0;
    }
  g_assert_no_error (error);
  g_assert_true (manifest_check_name (manifest->name, NULL));
  g_assert_true (g_path_is_absolute (manifest->module));
  g_assert_true (manifest->restart <= RESTART_TEMPORARY);
  for (guint i = 0; manifest->calls != NULL && manifest->calls[i] != NULL; i++)
    g_assert_true (manifest_check_name (manifest->calls[i], NULL));
  for (PermitKind kind = 0; kind < PERMIT_KINDS; kind++)
    for (char **path = manifest->permits.paths[kind]; path != NULL && *path != NULL; path++)
      g_assert_true (g_path_is_absolute (*path) && strstr (*path, "/../") == NULL && strpbrk (*path, "\n\r") == NULL
                     && (kind != PERMIT_DEVICES || g_str_has_prefix (*path, "/dev/")));
  g_hash_table_iter_init (&iter, manifest->config);
  while (g_hash_table_iter_next (&iter, &key, &value))
    {
      g_assert_true (g_utf8_validate (key, -1, NULL) && g_utf8_validate (value, -1, NULL));
      g_assert_true (*(char *) key != 0 && strpbrk (key, "=\n") == NULL);
    }
  return 0;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Any bytes as what is set for a cell: refused, or text under names, which comes back the same when it is passed on.
 */
#include "plugins/settings.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GHashTable) settings = settings_unpack (data, size, &error), again = NULL;
  g_autoptr (GBytes) bytes = NULL;
  GHashTableIter iter;
  gpointer key, value;

  if (settings == NULL)
    {
      g_assert_error (error, CELL_ERROR_DOMAIN, -CELL_ERROR_CORRUPT);
      return 0;
    }
  g_assert_no_error (error);
  bytes = settings_pack (settings, &error);
  g_assert_no_error (error);
  again = settings_unpack (g_bytes_get_data (bytes, NULL), g_bytes_get_size (bytes), &error);
  g_assert_no_error (error);
  g_assert_cmpuint (g_hash_table_size (again), ==, g_hash_table_size (settings));
  g_hash_table_iter_init (&iter, settings);
  while (g_hash_table_iter_next (&iter, &key, &value))
    {
      g_assert_true (g_utf8_validate (key, -1, NULL) && g_utf8_validate (value, -1, NULL));
      g_assert_cmpstr (g_hash_table_lookup (again, key), ==, value);
    }
  return 0;
}

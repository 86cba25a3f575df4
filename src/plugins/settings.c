/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "settings.h"

#include <string.h>

#define SETTINGS_TYPE "a{ss}"

static gint
by_name (gconstpointer a, gconstpointer b)
{
  return strcmp (a, b);
}

GBytes *
settings_pack (GHashTable *settings, GError **error)
{
  g_auto (GVariantBuilder) builder = G_VARIANT_BUILDER_INIT (G_VARIANT_TYPE (SETTINGS_TYPE));
  g_autoptr (GVariant) variant = NULL;
  g_autoptr (GList) keys = settings != NULL ? g_list_sort (g_hash_table_get_keys (settings), by_name) : NULL;

  for (GList *key = keys; key != NULL; key = key->next)
    g_variant_builder_add (&builder, "{ss}", key->data, g_hash_table_lookup (settings, key->data));
  variant = g_variant_ref_sink (g_variant_builder_end (&builder));
  if (g_variant_get_size (variant) <= SETTINGS_MAX_SIZE)
    return g_variant_get_data_as_bytes (variant);
  cell_set_error (error, CELL_ERROR_TOO_LARGE, "what is set for the cell has %" G_GSIZE_FORMAT " bytes, and %u are the most",
                  g_variant_get_size (variant), SETTINGS_MAX_SIZE);
  return NULL;
}

GHashTable *
settings_unpack (const void *data, gsize size, GError **error)
{
  g_autoptr (GHashTable) settings = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
  g_autoptr (GBytes) bytes = g_bytes_new (data, MIN (size, SETTINGS_MAX_SIZE));
  g_autoptr (GVariant) variant = g_variant_ref_sink (g_variant_new_from_bytes (G_VARIANT_TYPE (SETTINGS_TYPE), bytes, FALSE));
  GVariantIter iter;
  char *key, *value;

  if (size > SETTINGS_MAX_SIZE || !g_variant_is_normal_form (variant))
    {
      cell_set_error (error, CELL_ERROR_CORRUPT, "what is said to be set for the cell makes no sense");
      return NULL;
    }
  g_variant_iter_init (&iter, variant);
  while (g_variant_iter_next (&iter, "{ss}", &key, &value))
    g_hash_table_insert (settings, key, value);
  return g_steal_pointer (&settings);
}

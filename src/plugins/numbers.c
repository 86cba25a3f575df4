/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "numbers.h"

#include "cell-error.h"

#define TYPE "(asas)"

struct Numbers
{
  GHashTable *callables, *signals;      /* name → number + 1 */
};

GBytes *
numbers_pack (const Contract *older)
{
  g_auto (GVariantBuilder) callables = G_VARIANT_BUILDER_INIT (G_VARIANT_TYPE ("as"));
  g_auto (GVariantBuilder) signals = G_VARIANT_BUILDER_INIT (G_VARIANT_TYPE ("as"));
  g_autoptr (GVariant) variant = NULL;

  for (guint i = 0; i < older->n_callables; i++)
    g_variant_builder_add (&callables, "s", older->callables[i].name);
  for (guint i = 0; i < older->n_signals; i++)
    g_variant_builder_add (&signals, "s", older->signals[i].name);
  variant = g_variant_ref_sink (g_variant_new (TYPE, &callables, &signals));
  return g_variant_get_data_as_bytes (variant);
}

static void
put (GHashTable *numbers, const char *name)
{
  if (!g_hash_table_contains (numbers, name))
    g_hash_table_insert (numbers, g_strdup (name), GUINT_TO_POINTER (g_hash_table_size (numbers) + 1));
}

static GHashTable *
take_names (GVariant *variant, gsize place)
{
  GHashTable *numbers = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  g_autoptr (GVariant) names = g_variant_get_child_value (variant, place);
  GVariantIter iter;
  const char *name;

  g_variant_iter_init (&iter, names);
  while (g_variant_iter_next (&iter, "&s", &name))
    put (numbers, name);
  return numbers;
}

Numbers *
numbers_unpack (const void *data, gsize size, const Contract *contract, GError **error)
{
  g_autoptr (GBytes) bytes = g_bytes_new (data, size);
  g_autoptr (GVariant) variant = g_variant_ref_sink (g_variant_new_from_bytes (G_VARIANT_TYPE (TYPE), bytes, FALSE));
  Numbers *numbers;

  if (!g_variant_is_normal_form (variant))
    return cell_set_error (error, CELL_ERROR_CORRUPT, "the numbers of what a cell offers make no sense"), NULL;
  numbers = g_new0 (Numbers, 1);
  numbers->callables = take_names (variant, 0);
  numbers->signals = take_names (variant, 1);
  for (guint i = 0; i < contract->n_callables; i++)
    put (numbers->callables, contract->callables[i].name);
  for (guint i = 0; i < contract->n_signals; i++)
    put (numbers->signals, contract->signals[i].name);
  return numbers;
}

void
numbers_free (Numbers *numbers)
{
  if (numbers == NULL)
    return;
  g_hash_table_unref (numbers->callables);
  g_hash_table_unref (numbers->signals);
  g_free (numbers);
}

static uint32_t
number_of (GHashTable *numbers, const char *name)
{
  return GPOINTER_TO_UINT (g_hash_table_lookup (numbers, name)) - 1;
}

uint32_t
numbers_of_callable (const Numbers *numbers, const char *wire_name)
{
  return number_of (numbers->callables, wire_name);
}

uint32_t
numbers_of_signal (const Numbers *numbers, const char *name)
{
  return number_of (numbers->signals, name);
}

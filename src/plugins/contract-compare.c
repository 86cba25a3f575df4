/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * May a caller that was compiled against one contract use another?  Names and places count, the names of structs do not: they are
 * the C compiler's affair and never travel.
 */
#include <string.h>

#include "contract-private.h"

/* Where we are: "method transfer: argument page". */
typedef struct
{
  const char *item;             /* "method transfer" */
  const char *role;             /* "argument", "output" */
  char path[(CONTRACT_MAX_DEPTH + 1) * (CONTRACT_MAX_NAME + 1)];
  GHashTable *done;             /* pairs of structs that were found to fit: without it, few structs could mean endless work */
} Place;

static gboolean fields_compatible (Place *place, const CellField *have, guint n_have, const CellField *wanted, guint n_wanted,
                                   gboolean may_grow, GError **error);

static gboolean
fail_types (const Place *place, const CellField *have, const CellField *wanted, GError **error)
{
  g_autoptr (GString) x = g_string_new (NULL), y = g_string_new (NULL);

  contract_append_type (x, wanted);
  contract_append_type (y, have);
  return cell_set_error (error, CELL_ERROR_CONTRACT, "%s: %s %s is %s in the caller and %s in the cell", place->item, place->role,
                         place->path, x->str, y->str);
}

static gboolean
field_compatible (Place *place, const CellField *have, const CellField *wanted, GError **error)
{
  const CellType *h = have->type, *w = wanted->type;
  gboolean may_grow = have->shape == CELL_SHAPE_ARRAY;
  g_autofree char *pair = NULL;

  if (have->shape != wanted->shape || h->kind != w->kind)
    return fail_types (place, have, wanted, error);
  if (h->kind != CELL_KIND_STRUCT)
    return h->size == w->size || fail_types (place, have, wanted, error);
  pair = g_strdup_printf ("%p %p %d", (const void *) h, (const void *) w, may_grow);
  if (g_hash_table_contains (place->done, pair))
    return TRUE;
  if (!fields_compatible (place, h->fields, h->n_fields, w->fields, w->n_fields, may_grow, error))
    return FALSE;
  g_hash_table_add (place->done, g_steal_pointer (&pair));
  return TRUE;
}

/* By place: the nth of one is the nth of the other. */
static gboolean
fields_compatible (Place *place, const CellField *have, guint n_have, const CellField *wanted, guint n_wanted, gboolean may_grow,
                   GError **error)
{
  size_t length = strlen (place->path);

  for (guint i = 0; i < MIN (n_have, n_wanted); i++)
    {
      const char *dot = length > 0 ? "." : "";

      if (strcmp (have[i].name, wanted[i].name) != 0)
        return cell_set_error (error, CELL_ERROR_CONTRACT, "%s: %s %u%s%s is called %s in the caller and %s in the cell",
                               place->item, place->role, i + 1, length > 0 ? " of " : "", place->path, wanted[i].name,
                               have[i].name);
      g_snprintf (place->path + length, sizeof place->path - length, "%s%s", dot, have[i].name);
      if (!field_compatible (place, &have[i], &wanted[i], error))
        return FALSE;
      place->path[length] = '\0';
    }
  if (n_have == n_wanted || may_grow)
    return TRUE;
  return cell_set_error (error, CELL_ERROR_CONTRACT,
                         "%s: %s %s is a struct embedded by value, which cannot grow, and the %s has %s too", place->item,
                         place->role, place->path, n_have > n_wanted ? "cell's" : "caller's",
                         n_have > n_wanted ? have[n_wanted].name : wanted[n_have].name);
}

static gboolean
rows_compatible (const char *item, const char *role, const CellField *have, guint n_have, const CellField *wanted, guint n_wanted,
                 GError **error)
{
  g_autoptr (GHashTable) done = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  Place place = { .item = item, .role = role, .path = "", .done = done };

  return fields_compatible (&place, have, n_have, wanted, n_wanted, TRUE, error);
}

/* A caller may repeat what it believes to be idempotent, and waits unless it believes the method to be oneway.  That a method is a
 * job is of no concern to who calls it. */
static gboolean
flags_compatible (const char *item, uint32_t have, uint32_t wanted, GError **error)
{
  for (int attribute = CELL_ATTRIBUTE_IDEMPOTENT; attribute <= CELL_ATTRIBUTE_ONEWAY; attribute++)
    {
      gboolean cell_is = (have >> attribute & 1) != 0, caller_thinks = (wanted >> attribute & 1) != 0;

      if (cell_is == caller_thinks || (attribute == CELL_ATTRIBUTE_IDEMPOTENT && cell_is))
        continue;
      return cell_set_error (error, CELL_ERROR_CONTRACT, "%s is %s in the %s only", item, contract_attribute_word (attribute),
                             cell_is ? "cell" : "caller");
    }
  return TRUE;
}

static char *
describe (const ContractCallable *callable)
{
  if (callable->name[0] == '@')
    return g_strdup_printf ("property %s", callable->name + 1);
  if (callable->name[0] == '=')
    return g_strdup_printf ("setter of property %s", callable->name + 1);
  return g_strdup_printf ("method %s", callable->name);
}

gboolean
contract_callable_compatible (const ContractCallable *have, const ContractCallable *wanted, GError **error)
{
  g_autofree char *item = describe (wanted);

  if (have->fingerprint == wanted->fingerprint)
    return TRUE;
  if (strcmp (have->name, wanted->name) != 0)
    return cell_set_error (error, CELL_ERROR_CONTRACT, "%s of the caller is %s in the cell", item, have->name);
  return rows_compatible (item, "argument", have->in, have->n_in, wanted->in, wanted->n_in, error)
         && rows_compatible (item, "output", have->out, have->n_out, wanted->out, wanted->n_out, error)
         && flags_compatible (item, have->flags, wanted->flags, error);
}

gboolean
contract_signal_compatible (const ContractSignal *have, const ContractSignal *wanted, GError **error)
{
  g_autofree char *item = g_strdup_printf ("signal %s", wanted->name);

  if (have->fingerprint == wanted->fingerprint)
    return TRUE;
  return rows_compatible (item, "argument", have->args, have->n_args, wanted->args, wanted->n_args, error);
}

static gboolean
fail_missing (const Contract *have, const char *item, GError **error)
{
  return cell_set_error (error, CELL_ERROR_NO_METHOD, "%s is in the caller, and %s has none", item, have->interface);
}

gboolean
contract_compatible (const Contract *have, const Contract *wanted, GError **error)
{
  if (strcmp (have->interface, wanted->interface) != 0)
    return cell_set_error (error, CELL_ERROR_CONTRACT, "the caller was compiled for %s, and the cell is %s", wanted->interface,
                           have->interface);
  for (guint i = 0; i < wanted->n_callables; i++)
    {
      const ContractCallable *mine = contract_find (have, wanted->callables[i].name);
      g_autofree char *item = describe (&wanted->callables[i]);

      if (mine == NULL)
        return fail_missing (have, item, error);
      if (!contract_callable_compatible (mine, &wanted->callables[i], error))
        return FALSE;
    }
  for (guint i = 0; i < wanted->n_signals; i++)
    {
      const ContractSignal *mine = contract_find_signal (have, wanted->signals[i].name);
      g_autofree char *item = g_strdup_printf ("signal %s", wanted->signals[i].name);

      if (mine == NULL)
        return fail_missing (have, item, error);
      if (!contract_signal_compatible (mine, &wanted->signals[i], error))
        return FALSE;
    }
  return TRUE;
}

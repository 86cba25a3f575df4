/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "contract.h"

#include <string.h>

#include "contract-private.h"
#include "contract-storage.h"

ContractStorage *
contract_storage_new (void)
{
  ContractStorage *contract = g_new0 (ContractStorage, 1);

  g_atomic_ref_count_init (&contract->references);
  contract->strings = g_string_chunk_new (1024);
  contract->blocks = g_ptr_array_new_with_free_func (g_free);
  contract->callables = g_hash_table_new (g_str_hash, g_str_equal);
  contract->signals = g_hash_table_new (g_str_hash, g_str_equal);
  contract->sources = g_hash_table_new (NULL, NULL);
  return contract;
}

Contract *
contract_ref (Contract *contract)
{
  g_atomic_ref_count_inc (&((ContractStorage *) contract)->references);
  return contract;
}

void
contract_unref (Contract *contract)
{
  ContractStorage *storage = (ContractStorage *) contract;

  if (!g_atomic_ref_count_dec (&storage->references))
    return;
  g_string_chunk_free (storage->strings);
  g_ptr_array_unref (storage->blocks);
  g_hash_table_unref (storage->callables);
  g_hash_table_unref (storage->signals);
  g_hash_table_unref (storage->sources);
  g_free (storage);
}

const char *
contract_storage_string (ContractStorage *contract, const char *string)
{
  if (string == NULL || *string == '\0')
    return "";
  return g_string_chunk_insert_const (contract->strings, string);
}

void *
contract_storage_block (ContractStorage *contract, size_t size)
{
  void *block = g_malloc0 (size);

  g_ptr_array_add (contract->blocks, block);
  return block;
}

/* Methods, properties, signals, errors: what one looks for first comes first. */
static int
rank (int kind)
{
  static const int ranks[] = { [CELL_ITEM_METHOD] = 0, [CELL_ITEM_PROPERTY] = 1, [CELL_ITEM_SIGNAL] = 2, [CELL_ITEM_ERROR] = 3 };

  return ranks[kind];
}

static gint
compare_items (gconstpointer a, gconstpointer b)
{
  const CellItem *x = *(const CellItem *const *) a, *y = *(const CellItem *const *) b;

  return x->kind != y->kind ? rank (x->kind) - rank (y->kind) : strcmp (x->name, y->name);
}

static guint
count_role (const CellItem *item, int role)
{
  guint n = 0;

  for (guint i = 0; i < item->n_fields; i++)
    n += item->fields[i].role == role;
  return n;
}

static void
read_attributes (ContractCallable *callable)
{
  for (guint i = 0; i < callable->item->n_fields; i++)
    {
      const CellField *row = &callable->item->fields[i];

      if (row->role != CELL_ROLE_ATTRIBUTE)
        continue;
      if (row->attribute == CELL_ATTRIBUTE_ACCESS)
        callable->access = row->value;
      else if (row->attribute == CELL_ATTRIBUTE_TIMEOUT)
        callable->timeout = row->value;
      else if (row->attribute == CELL_ATTRIBUTE_MAX_REPLY)
        callable->max_reply = row->value;
      else
        callable->flags |= 1u << row->attribute;
    }
}

/* Takes the place of `callables[n_callables]`. */
static void
add_callable (ContractStorage *contract, ContractCallable callable)
{
  ContractCallable *kept = (ContractCallable *) &contract->public.callables[contract->public.n_callables++];

  read_attributes (&callable);
  callable.fingerprint = contract_fingerprint_callable (&callable);
  *kept = callable;
  g_hash_table_insert (contract->callables, (char *) kept->name, kept);
}

/* The rows are sorted by role: arguments, then outputs. */
static void
add_method (ContractStorage *contract, const CellItem *item)
{
  ContractCallable callable = { .name = item->name, .item = item, .in_size = item->in_size, .out_size = item->out_size };

  callable.n_in = count_role (item, CELL_ROLE_IN);
  callable.n_out = count_role (item, CELL_ROLE_OUT);
  callable.in = item->fields;
  callable.out = item->fields + callable.n_in;
  add_callable (contract, callable);
}

static void
add_accessor (ContractStorage *contract, const CellItem *item, char sigil)
{
  CellField *row = contract_storage_block (contract, sizeof *row);
  char name[CONTRACT_MAX_NAME + 2];
  ContractCallable callable = { .item = item, .in = row, .out = row };

  g_snprintf (name, sizeof name, "%c%s", sigil, item->name);
  callable.name = contract_storage_string (contract, name);
  *row = (CellField) { .name = "value", .doc = item->doc, .type = item->type, .shape = CELL_SHAPE_PLAIN };
  row->role = sigil == '@' ? CELL_ROLE_OUT : CELL_ROLE_IN;
  if (sigil == '@')
    {
      callable.flags = 1u << CELL_ATTRIBUTE_IDEMPOTENT;
      callable.n_out = 1;
      callable.out_size = item->type->size;
    }
  else
    {
      callable.n_in = 1;
      callable.in_size = item->type->size;
    }
  add_callable (contract, callable);
}

static void
add_signal (ContractStorage *contract, const CellItem *item)
{
  ContractSignal *signal = (ContractSignal *) &contract->public.signals[contract->public.n_signals++];

  *signal = (ContractSignal) { .name = item->name, .item = item, .args = item->fields, .size = item->in_size };
  signal->n_args = count_role (item, CELL_ROLE_FIELD);
  signal->fingerprint = contract_fingerprint_signal (signal);
  g_hash_table_insert (contract->signals, (char *) signal->name, signal);
}

/* Methods, then getters, then setters: the numbers that a generated header counts with. */
static void
make_lists (ContractStorage *contract)
{
  const Contract *public = &contract->public;

  for (guint i = 0; i < public->n_items; i++)
    if (public->items[i].kind == CELL_ITEM_METHOD)
      add_method (contract, &public->items[i]);
    else if (public->items[i].kind == CELL_ITEM_PROPERTY)
      add_accessor (contract, &public->items[i], '@');
    else if (public->items[i].kind == CELL_ITEM_SIGNAL)
      add_signal (contract, &public->items[i]);
  for (guint i = 0; i < public->n_items; i++)
    if (public->items[i].kind == CELL_ITEM_PROPERTY && public->items[i].in_size != 0)
      add_accessor (contract, &public->items[i], '=');
}

static void
make_structs (ContractStorage *contract)
{
  Contract *public = &contract->public;
  g_autoptr (GArray) rows = g_array_new (FALSE, FALSE, sizeof (CellField));
  g_autoptr (GPtrArray) used = NULL;
  const CellType **structs;

  for (guint i = 0; i < public->n_items; i++)
    {
      const CellField value = { .type = public->items[i].type };

      g_array_append_vals (rows, public->items[i].fields, public->items[i].n_fields);
      g_array_append_val (rows, value);
    }
  used = contract_collect_structs ((const CellField *) rows->data, rows->len);
  structs = contract_storage_block (contract, MAX (used->len, 1) * sizeof *structs);
  for (guint i = 0; i < used->len; i++)
    structs[i] = used->pdata[i];
  public->structs = structs;
  public->n_structs = used->len;
}

/* The items move once, into sorted order, so what points at them follows. */
static void
redirect (ContractStorage *contract, GHashTable *moved)
{
  GHashTableIter iter;
  gpointer from, to;

  for (guint i = 0; i < contract->public.n_items; i++)
    {
      CellField *rows = (CellField *) contract->public.items[i].fields;

      for (guint k = 0; k < contract->public.items[i].n_fields; k++)
        if (rows[k].error != NULL)
          rows[k].error = g_hash_table_lookup (moved, rows[k].error);
    }
  g_hash_table_iter_init (&iter, contract->sources);
  while (g_hash_table_iter_next (&iter, &from, &to))
    g_hash_table_iter_replace (&iter, g_hash_table_lookup (moved, to));
}

void
contract_storage_end (ContractStorage *contract, GPtrArray *items)
{
  Contract *public = &contract->public;
  g_autoptr (GHashTable) moved = g_hash_table_new (NULL, NULL);
  g_autofree char *text = NULL;
  CellItem *sorted = contract_storage_block (contract, MAX (items->len, 1) * sizeof *sorted);

  g_ptr_array_sort (items, compare_items);
  for (guint i = 0; i < items->len; i++)
    {
      sorted[i] = *(const CellItem *) items->pdata[i];
      sorted[i].owner = public->service;
      g_hash_table_insert (moved, items->pdata[i], &sorted[i]);
    }
  public->items = sorted;
  public->n_items = items->len;
  redirect (contract, moved);

  public->callables = contract_storage_block (contract, (2 * items->len + 1) * sizeof (ContractCallable));
  public->signals = contract_storage_block (contract, (items->len + 1) * sizeof (ContractSignal));
  make_structs (contract);
  make_lists (contract);
  text = contract_to_text (public, FALSE);
  public->fingerprint = contract_fingerprint_text (text);
}

const ContractCallable *
contract_find (const Contract *contract, const char *wire_name)
{
  return g_hash_table_lookup (((const ContractStorage *) contract)->callables, wire_name);
}

const ContractSignal *
contract_find_signal (const Contract *contract, const char *name)
{
  return g_hash_table_lookup (((const ContractStorage *) contract)->signals, name);
}

const CellItem *
contract_find_item (const Contract *contract, int kind, const char *name)
{
  for (guint i = 0; i < contract->n_items; i++)
    if (contract->items[i].kind == kind && strcmp (contract->items[i].name, name) == 0)
      return &contract->items[i];
  return NULL;
}

const ContractSignal *
contract_find_signal_of (const Contract *contract, const CellItem *of_cell)
{
  const CellItem *item = g_hash_table_lookup (((const ContractStorage *) contract)->sources, of_cell);

  return item != NULL && item->kind == CELL_ITEM_SIGNAL ? contract_find_signal (contract, item->name) : NULL;
}

void
contract_override_fingerprint (Contract *contract, const char *wire_name, gboolean is_signal, uint64_t fingerprint)
{
  if (is_signal)
    ((ContractSignal *) contract_find_signal (contract, wire_name))->fingerprint = fingerprint;
  else
    ((ContractCallable *) contract_find (contract, wire_name))->fingerprint = fingerprint;
}

/* ---- numbers -------------------------------------------------------------------------------------------- */

/* rows: of `size` bytes, each of which begins with its name; places: name → row.  older: those that come first, in their order. */
static void
number_like (void *rows, guint n, gsize size, GHashTable *places, const void *older, guint n_older)
{
  g_autofree guint8 *before = g_malloc (MAX (n * size, 1));
  g_autofree gboolean *done = g_new0 (gboolean, n + 1);
  guint8 *to = rows;

  memcpy (before, rows, n * size);
  for (guint i = 0; i < n_older; i++)
    {
      const guint8 *row = g_hash_table_lookup (places, *(const char *const *) ((const guint8 *) older + i * size));
      gsize place = (gsize) (row - (const guint8 *) rows) / size;

      g_return_if_fail (row != NULL);
      done[place] = TRUE;
      memcpy (to, before + place * size, size);
      to += size;
    }
  for (guint i = 0; i < n; i++)
    if (!done[i])
      {
        memcpy (to, before + i * size, size);
        to += size;
      }
  for (guint i = 0; i < n; i++)
    g_hash_table_insert (places, *(char **) ((guint8 *) rows + i * size), (guint8 *) rows + i * size);
}

void
contract_number_like (Contract *contract, const Contract *older)
{
  ContractStorage *storage = (ContractStorage *) contract;

  G_STATIC_ASSERT (offsetof (ContractCallable, name) == 0 && offsetof (ContractSignal, name) == 0);
  number_like ((ContractCallable *) contract->callables, contract->n_callables, sizeof (ContractCallable), storage->callables,
               older->callables, older->n_callables);
  number_like ((ContractSignal *) contract->signals, contract->n_signals, sizeof (ContractSignal), storage->signals, older->signals,
               older->n_signals);
}

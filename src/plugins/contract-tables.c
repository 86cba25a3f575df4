/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Contracts of tables that a compiler laid down: a cell's, and those of a generated client header.
 */
#include <string.h>

#include <cell/client.h>

#include "contract-private.h"

typedef struct
{
  ContractBuilder *builder;
  const char *prefix;           /* of struct names, to be taken off: a header calls the cell's Entry LedgerEntry */
  uint16_t type_size, field_size;
  GHashTable *types;            /* CellType of the tables → CellType of the builder */
} TableReader;

/* What the other side does not have yet reads as zero. */
static void
copy_prefix (void *to, size_t size, const void *from, size_t from_size)
{
  memset (to, 0, size);
  memcpy (to, from, MIN (size, from_size));
}

static const CellType *convert_type (TableReader *reader, const CellType *type, guint depth, GError **error);

static gboolean
convert_field (TableReader *reader, const CellField *rows, guint i, guint depth, CellField *ret_row, GError **error)
{
  copy_prefix (ret_row, sizeof *ret_row, (const char *) rows + (size_t) i * reader->field_size, reader->field_size);
  if (ret_row->role == CELL_ROLE_FAILS || ret_row->role == CELL_ROLE_ATTRIBUTE || ret_row->role == CELL_ROLE_DOC)
    {
      ret_row->type = NULL;
      return TRUE;
    }
  if (ret_row->shape > CELL_SHAPE_OPTIONAL)
    return cell_set_error (error, CELL_ERROR_INVALID, "the field %s has shape %u, which this host does not know", ret_row->name,
                           ret_row->shape);
  if (ret_row->type == NULL)
    return cell_set_error (error, CELL_ERROR_INVALID, "the field %s has no type", ret_row->name);
  ret_row->type = convert_type (reader, ret_row->type, depth, error);
  return ret_row->type != NULL;
}

/* The compiler's layout must be the one that every other reader computes from the text.  size: G_MAXUINT32 where the C struct
 * has other members too. */
static gboolean
check_layout (const GArray *rows, int role, uint32_t size, const char *what, const char *name, GError **error)
{
  g_autoptr (GArray) computed = g_array_copy ((GArray *) rows);
  CellField *data = (CellField *) computed->data;
  uint32_t computed_size, align;

  if (!contract_lay_out (data, rows->len, role, &computed_size, &align))
    return cell_set_error (error, CELL_ERROR_INVALID, "%s %s is larger than %d bytes", what, name, CONTRACT_MAX_SIZE);
  for (guint i = 0; i < rows->len; i++)
    {
      const CellField *row = &g_array_index (rows, CellField, i);

      if (row->role != role)
        continue;
      if (row->offset != data[i].offset)
        return cell_set_error (error, CELL_ERROR_INVALID, "%s %s: %s lies at byte %u, and byte %u was computed", what, name,
                               row->name, row->offset, data[i].offset);
      if (row->shape != CELL_SHAPE_PLAIN && row->extra != data[i].extra)
        return cell_set_error (error, CELL_ERROR_INVALID,
                               "%s %s: the count or presence of %s lies at byte %u, and byte %u was computed", what, name,
                               row->name, row->extra, data[i].extra);
    }
  if (size != computed_size && size != G_MAXUINT32)
    return cell_set_error (error, CELL_ERROR_INVALID, "%s %s has %u bytes, and %u were computed", what, name, size, computed_size);
  return TRUE;
}

/* rows may be NULL when there are none. */
static GArray *
convert_fields (TableReader *reader, const CellField *rows, guint n_rows, guint depth, GError **error)
{
  g_autoptr (GArray) converted = g_array_new (FALSE, FALSE, sizeof (CellField));

  if (rows == NULL && n_rows != 0)
    return cell_set_error (error, CELL_ERROR_INVALID, "a table of %u fields is missing", n_rows), NULL;
  for (guint i = 0; i < n_rows; i++)
    {
      CellField row;

      if (!convert_field (reader, rows, i, depth, &row, error))
        return NULL;
      g_array_append_val (converted, row);
    }
  return g_steal_pointer (&converted);
}

static const CellType *
convert_struct (TableReader *reader, const CellType *type, guint depth, GError **error)
{
  const char *name = type->name;
  g_autoptr (GArray) rows = NULL;

  if (depth >= CONTRACT_MAX_DEPTH)
    return cell_set_error (error, CELL_ERROR_INVALID, "struct %s is nested deeper than %d", name, CONTRACT_MAX_DEPTH), NULL;
  rows = convert_fields (reader, type->fields, type->n_fields, depth + 1, error);
  if (rows == NULL || !check_layout (rows, CELL_ROLE_FIELD, type->size, "struct", name, error))
    return NULL;
  for (guint i = 0; i < rows->len; i++)
    if (g_array_index (rows, CellField, i).role != CELL_ROLE_FIELD)
      return cell_set_error (error, CELL_ERROR_INVALID, "struct %s has a row that is no member", name), NULL;
  if (reader->prefix != NULL && g_str_has_prefix (name, reader->prefix) && name[strlen (reader->prefix)] != '\0')
    name += strlen (reader->prefix);
  return contract_builder_add_struct (reader->builder, name, rows, error);
}

/* By kind and size, not by name: a compiler may spell bool as _Bool. */
static const CellType *
convert_scalar (TableReader *reader, const CellType *type, GError **error)
{
  static const char *const names[] = {
    "bool", "u8", "i8", "u16", "i16", "u32", "i32", "u64", "i64", "f64", "str", "bytes", "blob"
  };

  for (size_t i = 0; i < G_N_ELEMENTS (names); i++)
    {
      const CellType *known = contract_builder_find_type (reader->builder, names[i]);

      if (known->kind == type->kind && known->size == type->size && known->align == type->align)
        return known;
    }
  return cell_set_error (error, CELL_ERROR_INVALID, "the type %s (kind %u, %u bytes) is not one that this host knows", type->name,
                         type->kind, type->size), NULL;
}

static const CellType *
convert_type (TableReader *reader, const CellType *of_table, guint depth, GError **error)
{
  const CellType *known = g_hash_table_lookup (reader->types, of_table);
  CellType type;

  if (known != NULL)
    return known;
  copy_prefix (&type, sizeof type, of_table, reader->type_size);
  if (!contract_check_identifier (type.name, "type", error))
    return NULL;
  known = type.kind == CELL_KIND_STRUCT ? convert_struct (reader, &type, depth, error) : convert_scalar (reader, &type, error);
  if (known != NULL)
    g_hash_table_insert (reader->types, (gpointer) of_table, (gpointer) known);
  return known;
}

/* Documentation is a row where it stands among arguments, and a member where it stands alone. */
static void
take_doc (CellItem *item, GArray *rows)
{
  for (guint i = 0; i < rows->len;)
    {
      const CellField *row = &g_array_index (rows, CellField, i);

      if (row->role != CELL_ROLE_DOC)
        {
          i++;
          continue;
        }
      if (item->doc == NULL || *item->doc == '\0')
        item->doc = row->doc;
      g_array_remove_index (rows, i);
    }
}

static gboolean
check_item_layout (const CellItem *item, const GArray *rows, GError **error)
{
  const char *kind = contract_item_word (item->kind);

  if (item->kind == CELL_ITEM_METHOD)
    return check_layout (rows, CELL_ROLE_IN, item->in_size, kind, item->name, error)
           && check_layout (rows, CELL_ROLE_OUT, item->out_size, kind, item->name, error);
  if (item->kind == CELL_ITEM_SIGNAL)
    return check_layout (rows, CELL_ROLE_FIELD, item->in_size, kind, item->name, error);
  return TRUE;
}

static gboolean
read_property (TableReader *reader, CellItem *item, const CellType *of_table, GError **error)
{
  if (of_table == NULL)
    return cell_set_error (error, CELL_ERROR_INVALID, "property %s has no type", item->name);
  item->type = convert_type (reader, of_table, 0, error);
  if (item->type == NULL)
    return FALSE;
  if (item->out_size != item->type->size || (item->set != NULL && item->in_size != item->type->size))
    return cell_set_error (error, CELL_ERROR_INVALID, "property %s is read as %u and written as %u bytes, and its type has %u",
                           item->name, item->out_size, item->in_size, item->type->size);
  if (item->set == NULL)
    item->in_size = 0;
  return TRUE;
}

static gboolean
read_item (TableReader *reader, const CellItem *of_cell, GError **error)
{
  g_autoptr (GArray) rows = NULL;
  const CellItem *added;
  const CellType *type;
  CellItem item;

  if (of_cell->size < offsetof (CellItem, invoke))
    return cell_set_error (error, CELL_ERROR_INVALID, "an item has %u bytes, which is too few", of_cell->size);
  copy_prefix (&item, sizeof item, of_cell, of_cell->size);
  if (contract_item_word (item.kind) == NULL)
    return cell_set_error (error, CELL_ERROR_INVALID, "there is an item of kind %u, which this host does not know", item.kind);
  if (!contract_check_identifier (item.name, contract_item_word (item.kind), error))
    return FALSE;
  rows = convert_fields (reader, item.fields, item.n_fields, 0, error);
  if (rows == NULL)
    return g_prefix_error (error, "%s %s: ", contract_item_word (item.kind), item.name), FALSE;
  take_doc (&item, rows);
  type = item.type;
  item.type = NULL;
  if (!check_item_layout (&item, rows, error) || (item.kind == CELL_ITEM_PROPERTY && !read_property (reader, &item, type, error)))
    return FALSE;
  if (item.kind == CELL_ITEM_METHOD && item.invoke == NULL)
    return cell_set_error (error, CELL_ERROR_INVALID, "method %s has no handler", item.name);

  added = contract_builder_add_item (reader->builder, &item, rows, error);
  if (added == NULL)
    return FALSE;
  contract_builder_add_source (reader->builder, of_cell, added);
  return TRUE;
}

static gboolean
read_entry (TableReader *reader, const CellEntry *entry, GError **error)
{
  CellOptions options;

  if (reader->field_size < offsetof (CellField, reserved_) || reader->type_size < sizeof (CellType))
    return cell_set_error (error, CELL_ERROR_INVALID, "its tables have rows of %u and types of %u bytes, which is too few",
                           reader->field_size, reader->type_size);
  copy_prefix (&options, sizeof options, entry->options, entry->options != NULL ? entry->options_size : 0);
  if (!contract_builder_set_interface (reader->builder, entry->interface, entry->version, options.doc, error))
    return FALSE;
  for (const CellItem *const *item = entry->items; item < entry->items_end; item++)
    if (*item != NULL && !read_item (reader, *item, error))     /* a linker may pad the section */
      return FALSE;
  return TRUE;
}

Contract *
contract_new_from_entry (const CellEntry *entry, GError **error)
{
  g_autoptr (ContractBuilder) builder = contract_builder_new ();
  g_autoptr (GHashTable) types = g_hash_table_new (NULL, NULL);
  TableReader reader = { builder, NULL, entry->type_size, entry->field_size, types };
  g_autoptr (GError) local = NULL;
  Contract *contract = read_entry (&reader, entry, &local) ? contract_builder_end (builder, &local) : NULL;

  if (contract == NULL)
    cell_set_error (error, CELL_ERROR_REFUSED, "%s", local->message);
  return contract;
}

/* A header's rows are all of CELL_ROLE_FIELD. */
static gboolean
append_rows (TableReader *reader, const CellType *type, int role, GArray *to, GError **error)
{
  g_autoptr (GArray) rows = NULL;

  if (type == NULL)
    return TRUE;
  rows = convert_fields (reader, type->fields, type->n_fields, 0, error);
  if (rows == NULL || !check_layout (rows, CELL_ROLE_FIELD, G_MAXUINT32, "the header's struct", type->name, error))
    return FALSE;
  for (guint i = 0; i < rows->len; i++)
    {
      CellField row = g_array_index (rows, CellField, i);

      if (row.role != CELL_ROLE_FIELD)
        return cell_set_error (error, CELL_ERROR_INVALID, "the header's table of %s has a row that is no member", type->name);
      row.role = role;
      g_array_append_val (to, row);
    }
  return TRUE;
}

static void
append_attribute (GArray *to, int attribute, uint32_t value)
{
  CellField row = { .name = "", .doc = "", .value = value, .role = CELL_ROLE_ATTRIBUTE };

  row.attribute = attribute;
  g_array_append_val (to, row);
}

static gboolean
read_remote_method (TableReader *reader, const CellRemoteMethod *method, GError **error)
{
  g_autoptr (GArray) rows = g_array_new (FALSE, FALSE, sizeof (CellField));
  CellItem item = { .kind = CELL_ITEM_METHOD, .name = method->name };

  if (!append_rows (reader, method->args, CELL_ROLE_IN, rows, error)
      || !append_rows (reader, method->reply, CELL_ROLE_OUT, rows, error))
    return g_prefix_error (error, "method %s: ", method->name), FALSE;
  for (int attribute = CELL_ATTRIBUTE_IDEMPOTENT; attribute <= CELL_ATTRIBUTE_JOB; attribute++)
    if ((method->flags & 1u << attribute) != 0)
      append_attribute (rows, attribute, 0);
  if (method->timeout != 0)
    append_attribute (rows, CELL_ATTRIBUTE_TIMEOUT, method->timeout);
  return contract_builder_add_item (reader->builder, &item, rows, error) != NULL;
}

static const CellRemoteMethod *
remote_method (const CellRemote *remote, guint i)
{
  return (const CellRemoteMethod *) ((const char *) remote->methods + (size_t) i * remote->method_size);
}

static const CellRemoteSignal *
remote_signal (const CellRemote *remote, guint i)
{
  return (const CellRemoteSignal *) ((const char *) remote->signals + (size_t) i * remote->signal_size);
}

static gboolean
has_setter (const CellRemote *remote, const char *property)
{
  for (guint i = 0; i < remote->n_methods; i++)
    if (remote_method (remote, i)->name[0] == '=' && strcmp (remote_method (remote, i)->name + 1, property) == 0)
      return TRUE;
  return FALSE;
}

/* Getters have one output, setters one argument, called "value". */
static gboolean
read_remote_getter (TableReader *reader, const CellRemote *remote, const CellRemoteMethod *method, GError **error)
{
  g_autoptr (GArray) rows = g_array_new (FALSE, FALSE, sizeof (CellField)), none = g_array_new (FALSE, FALSE, sizeof (CellField));
  CellItem item = { .kind = CELL_ITEM_PROPERTY, .name = method->name + 1 };

  if (!append_rows (reader, method->reply, CELL_ROLE_OUT, rows, error))
    return FALSE;
  if (rows->len != 1 || g_array_index (rows, CellField, 0).shape != CELL_SHAPE_PLAIN)
    return cell_set_error (error, CELL_ERROR_INVALID, "property %s is not one plain value", item.name);
  item.type = g_array_index (rows, CellField, 0).type;
  item.in_size = has_setter (remote, item.name);
  return contract_builder_add_item (reader->builder, &item, none, error) != NULL;
}

static gboolean
read_remote_signal (TableReader *reader, const CellRemoteSignal *signal, GError **error)
{
  g_autoptr (GArray) rows = g_array_new (FALSE, FALSE, sizeof (CellField));
  CellItem item = { .kind = CELL_ITEM_SIGNAL, .name = signal->name };

  if (!append_rows (reader, signal->args, CELL_ROLE_FIELD, rows, error))
    return g_prefix_error (error, "signal %s: ", signal->name), FALSE;
  return contract_builder_add_item (reader->builder, &item, rows, error) != NULL;
}

static gboolean
read_remote (TableReader *reader, const CellRemote *remote, GError **error)
{
  if (remote->method_size < sizeof (CellRemoteMethod) || remote->signal_size < sizeof (CellRemoteSignal))
    return cell_set_error (error, CELL_ERROR_INVALID, "the header's tables have rows that are too short");
  if (!contract_builder_set_interface (reader->builder, remote->interface, remote->version, NULL, error))
    return FALSE;
  reader->prefix = strrchr (remote->interface, '.') + 1;
  for (guint i = 0; i < remote->n_methods; i++)
    {
      const CellRemoteMethod *method = remote_method (remote, i);

      if (method->name[0] == '@' ? !read_remote_getter (reader, remote, method, error)
                                 : method->name[0] != '=' && !read_remote_method (reader, method, error))
        return FALSE;
    }
  for (guint i = 0; i < remote->n_signals; i++)
    if (!read_remote_signal (reader, remote_signal (remote, i), error))
      return FALSE;
  return TRUE;
}

Contract *
contract_new_from_remote (const CellRemote *remote, GError **error)
{
  g_autoptr (ContractBuilder) builder = contract_builder_new ();
  g_autoptr (GHashTable) types = g_hash_table_new (NULL, NULL);
  TableReader reader = { builder, NULL, sizeof (CellType), sizeof (CellField), types };
  Contract *contract = read_remote (&reader, remote, error) ? contract_builder_end (builder, error) : NULL;

  if (contract == NULL)
    return NULL;
  for (guint i = 0; i < remote->n_methods; i++)
    if (contract_find (contract, remote_method (remote, i)->name) != NULL)
      contract_override_fingerprint (contract, remote_method (remote, i)->name, FALSE, remote_method (remote, i)->fingerprint);
  for (guint i = 0; i < remote->n_signals; i++)
    contract_override_fingerprint (contract, remote_signal (remote, i)->name, TRUE, remote_signal (remote, i)->fingerprint);
  contract->fingerprint = remote->contract;
  return contract;
}

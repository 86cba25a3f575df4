/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Contracts as text, and the fingerprints that are taken of it.
 */
#include <string.h>

#include "contract-private.h"

static const char *const item_words[] = {
  [CELL_ITEM_METHOD] = "method", [CELL_ITEM_SIGNAL] = "signal", [CELL_ITEM_PROPERTY] = "property", [CELL_ITEM_ERROR] = "error",
};

static const char *const access_words[] = {
  [CELL_ACCESS_ANY] = "any", [CELL_ACCESS_VIEW] = "view", [CELL_ACCESS_OPERATE] = "operate", [CELL_ACCESS_ADMIN] = "admin",
};

static const char *const attribute_words[] = {
  [CELL_ATTRIBUTE_IDEMPOTENT] = "idempotent", [CELL_ATTRIBUTE_ONEWAY] = "oneway",   [CELL_ATTRIBUTE_JOB] = "job",
  [CELL_ATTRIBUTE_ACCESS] = "access",         [CELL_ATTRIBUTE_TIMEOUT] = "timeout", [CELL_ATTRIBUTE_MAX_REPLY] = "max_reply",
};

const char *
contract_item_word (int kind)
{
  return kind >= 0 && kind < (int) G_N_ELEMENTS (item_words) ? item_words[kind] : NULL;
}

const char *
contract_access_word (uint32_t access)
{
  return access < G_N_ELEMENTS (access_words) ? access_words[access] : NULL;
}

const char *
contract_attribute_word (int attribute)
{
  return attribute >= 0 && attribute < (int) G_N_ELEMENTS (attribute_words) ? attribute_words[attribute] : NULL;
}

/* A space and a quoted string: \" \\ \n \t, and \xHH for the control characters that are left. */
static void
append_doc (GString *to, const char *doc)
{
  if (doc == NULL || *doc == '\0')
    return;
  g_string_append (to, " \"");
  for (const unsigned char *c = (const unsigned char *) doc; *c != '\0'; c++)
    if (*c == '"' || *c == '\\')
      g_string_append_printf (to, "\\%c", *c);
    else if (*c == '\n')
      g_string_append (to, "\\n");
    else if (*c == '\t')
      g_string_append (to, "\\t");
    else if (g_ascii_iscntrl (*c))
      g_string_append_printf (to, "\\x%02x", *c);
    else
      g_string_append_c (to, *c);
  g_string_append_c (to, '"');
}

void
contract_append_type (GString *to, const CellField *field)
{
  static const char *const shapes[] = { [CELL_SHAPE_ARRAY] = "array", [CELL_SHAPE_OPTIONAL] = "optional" };

  if (field->shape == CELL_SHAPE_PLAIN)
    g_string_append (to, field->type->name);
  else
    g_string_append_printf (to, "%s (%s)", shapes[field->shape], field->type->name);
}

static void
append_fields (GString *to, const CellField *rows, guint n_rows, int role, gboolean docs)
{
  const char *separator = "";

  for (guint i = 0; i < n_rows; i++)
    {
      if (rows[i].role != role)
        continue;
      g_string_append (to, separator);
      contract_append_type (to, &rows[i]);
      g_string_append_printf (to, " %s", rows[i].name);
      if (docs)
        append_doc (to, rows[i].doc);
      separator = ", ";
    }
}

void
contract_append_struct (GString *to, const CellType *type, gboolean docs)
{
  g_string_append_printf (to, "struct %s { ", type->name);
  append_fields (to, type->fields, type->n_fields, CELL_ROLE_FIELD, docs);
  g_string_append (to, " }\n");
}

static void
append_attribute (GString *to, const CellField *row)
{
  g_string_append_printf (to, " %s", contract_attribute_word (row->attribute));
  if (row->attribute == CELL_ATTRIBUTE_ACCESS)
    g_string_append_printf (to, " %s", contract_access_word (row->value));
  else if (row->attribute > CELL_ATTRIBUTE_ACCESS)
    g_string_append_printf (to, " %u", row->value);
}

static void
append_arguments (GString *to, const CellItem *item, gboolean docs)
{
  int role = item->kind == CELL_ITEM_METHOD ? CELL_ROLE_IN : CELL_ROLE_FIELD;

  g_string_append (to, " (");
  append_fields (to, item->fields, item->n_fields, role, docs);
  g_string_append_c (to, ')');
  if (item->kind != CELL_ITEM_METHOD)
    return;
  g_string_append (to, " -> (");
  append_fields (to, item->fields, item->n_fields, CELL_ROLE_OUT, docs);
  g_string_append_c (to, ')');
}

void
contract_append_item (GString *to, const CellItem *item, gboolean docs)
{
  g_string_append_printf (to, "%s %s", contract_item_word (item->kind), item->name);
  if (item->kind == CELL_ITEM_METHOD || item->kind == CELL_ITEM_SIGNAL)
    append_arguments (to, item, docs);
  else if (item->kind == CELL_ITEM_PROPERTY)
    g_string_append_printf (to, " %s%s", item->type->name, item->in_size != 0 ? " writable" : "");
  for (guint i = 0; i < item->n_fields; i++)
    if (item->fields[i].role == CELL_ROLE_FAILS)
      g_string_append_printf (to, " fails %s", item->fields[i].name);
    else if (item->fields[i].role == CELL_ROLE_ATTRIBUTE)
      append_attribute (to, &item->fields[i]);
  if (docs)
    append_doc (to, item->doc);
  g_string_append_c (to, '\n');
}

static void
collect_structs (GPtrArray *to, GHashTable *seen, const CellField *rows, guint n_rows)
{
  for (guint i = 0; i < n_rows; i++)
    {
      const CellType *type = rows[i].type;

      if (type == NULL || type->kind != CELL_KIND_STRUCT || g_hash_table_contains (seen, type))
        continue;
      collect_structs (to, seen, type->fields, type->n_fields);
      g_hash_table_add (seen, (gpointer) type);
      g_ptr_array_add (to, (gpointer) type);
    }
}

static gint
compare_types (gconstpointer a, gconstpointer b)
{
  return strcmp ((*(const CellType *const *) a)->name, (*(const CellType *const *) b)->name);
}

/* The builder bounds the depth of structs, and each is listed once, so this is linear in the rows of all. */
GPtrArray *
contract_collect_structs (const CellField *rows, guint n_rows)
{
  g_autoptr (GHashTable) used = g_hash_table_new (NULL, NULL), seen = g_hash_table_new (NULL, NULL);
  g_autoptr (GPtrArray) by_name = g_ptr_array_new ();
  GPtrArray *sorted = g_ptr_array_new ();

  collect_structs (by_name, used, rows, n_rows);
  g_ptr_array_sort (by_name, compare_types);
  for (guint i = 0; i < by_name->len; i++)
    {
      const CellField one = { .type = by_name->pdata[i] };

      collect_structs (sorted, seen, &one, 1);
    }
  return sorted;
}

char *
contract_to_text (const Contract *contract, gboolean docs)
{
  GString *text = g_string_new (NULL);

  g_string_append_printf (text, "interface %s %u", contract->interface, contract->version);
  if (docs)
    append_doc (text, contract->doc);
  g_string_append_c (text, '\n');
  for (guint i = 0; i < contract->n_structs; i++)
    contract_append_struct (text, contract->structs[i], docs);
  for (guint i = 0; i < contract->n_items; i++)
    contract_append_item (text, &contract->items[i], docs);
  return g_string_free (text, FALSE);
}

uint64_t
contract_fingerprint_text (const char *text)
{
  g_autoptr (GChecksum) checksum = g_checksum_new (G_CHECKSUM_SHA256);
  guint8 digest[32];
  gsize length = sizeof digest;
  uint64_t fingerprint = 0;

  g_checksum_update (checksum, (const guchar *) text, -1);
  g_checksum_get_digest (checksum, digest, &length);
  for (int i = 0; i < 8; i++)
    fingerprint = fingerprint << 8 | digest[i];
  return fingerprint;
}

/* What the rows refer to, then the item itself. */
static GString *
begin_fingerprint (const CellField *rows, guint n_rows)
{
  g_autoptr (GPtrArray) structs = contract_collect_structs (rows, n_rows);
  GString *text = g_string_new (NULL);

  for (guint i = 0; i < structs->len; i++)
    contract_append_struct (text, structs->pdata[i], FALSE);
  return text;
}

uint64_t
contract_fingerprint_callable (const ContractCallable *callable)
{
  const CellItem *item = callable->item;
  g_autoptr (GString) text = NULL;

  if (item->kind == CELL_ITEM_METHOD)
    {
      text = begin_fingerprint (item->fields, item->n_fields);
      contract_append_item (text, item, FALSE);
    }
  else
    {
      text = begin_fingerprint (callable->in, 1);       /* the one row of a getter or setter; in and out are the same */
      g_string_append_printf (text, "%s %s\n", callable->name, item->type->name);
    }
  return contract_fingerprint_text (text->str);
}

uint64_t
contract_fingerprint_signal (const ContractSignal *signal)
{
  g_autoptr (GString) text = begin_fingerprint (signal->args, signal->n_args);

  contract_append_item (text, signal->item, FALSE);
  return contract_fingerprint_text (text->str);
}

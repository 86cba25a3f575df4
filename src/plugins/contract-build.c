/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The builder: what is acceptable in a contract, and its layout.
 */
#include <string.h>

#include "contract-private.h"
#include "contract-storage.h"

struct ContractBuilder
{
  ContractStorage *contract;
  GHashTable *structs;          /* name → ContractStruct; the storage owns both */
  GPtrArray *items;             /* CellItem; the storage owns them */
  GHashTable *by_kind_and_name; /* "kind name" → CellItem */
  guint n_signals;
};

/* A struct and how many structs stand within each other in it. */
typedef struct
{
  CellType type;
  guint depth;
} ContractStruct;

static const CellType scalars[] = {
  { "bool", CELL_KIND_BOOL, 1, 0, 1, NULL },
  { "u8", CELL_KIND_UINT, 1, 0, 1, NULL },
  { "i8", CELL_KIND_INT, 1, 0, 1, NULL },
  { "u16", CELL_KIND_UINT, 2, 0, 2, NULL },
  { "i16", CELL_KIND_INT, 2, 0, 2, NULL },
  { "u32", CELL_KIND_UINT, 4, 0, 4, NULL },
  { "i32", CELL_KIND_INT, 4, 0, 4, NULL },
  { "u64", CELL_KIND_UINT, 8, 0, 8, NULL },
  { "i64", CELL_KIND_INT, 8, 0, 8, NULL },
  { "f64", CELL_KIND_FLOAT, 8, 0, 8, NULL },
  { "str", CELL_KIND_STR, 8, 0, 8, NULL },
  { "bytes", CELL_KIND_BYTES, 8, 0, 16, NULL },
  { "blob", CELL_KIND_BLOB, 8, 0, 8, NULL },
};

/* No C header can be written with these as names. */
static const char *const c_keywords[] = {
  "auto", "break", "case", "char", "const", "continue", "default", "do", "double", "else", "enum", "extern", "float", "for", "goto",
  "if", "inline", "int", "long", "register", "restrict", "return", "short", "signed", "sizeof", "static", "struct", "switch",
  "typedef", "union", "unsigned", "void", "volatile", "while", "asm", "typeof", NULL
};

/* Nor one for C++, or for a newer C, with these as names of members: those stand alone, all other names behind the service's. */
static const char *const member_keywords[] = {
  "alignas", "alignof", "and", "and_eq", "bitand", "bitor", "bool", "catch", "char8_t", "char16_t", "char32_t", "class", "co_await",
  "co_return", "co_yield", "compl", "concept", "const_cast", "consteval", "constexpr", "constinit", "decltype", "delete",
  "dynamic_cast", "explicit", "export", "false", "friend", "mutable", "namespace", "new", "noexcept", "not", "not_eq", "nullptr",
  "operator", "or", "or_eq", "private", "protected", "public", "reinterpret_cast", "requires", "static_assert", "static_cast",
  "template", "this", "thread_local", "throw", "true", "try", "typeid", "typename", "typeof_unqual", "using", "virtual", "wchar_t",
  "xor", "xor_eq", NULL
};

static gboolean
has_name_characters (const char *name)
{
  for (const char *c = name; *c != '\0'; c++)
    if (!g_ascii_isalpha (*c) && *c != '_' && (c == name || !g_ascii_isdigit (*c)))
      return FALSE;
  return *name != '\0';
}

gboolean
contract_check_identifier (const char *name, const char *what, GError **error)
{
  g_autofree char *begin = name != NULL ? g_strndup (name, CONTRACT_MAX_NAME) : g_strdup ("");
  g_autofree char *shown = g_strescape (begin, NULL);

  if (!has_name_characters (begin))
    return cell_set_error (error, CELL_ERROR_INVALID, "the %s cannot be called '%s': letters, digits and _ only", what, shown);
  if (strlen (begin) != strlen (name))
    return cell_set_error (error, CELL_ERROR_INVALID, "the name of the %s %s… is longer than %d characters", what, shown,
                           CONTRACT_MAX_NAME);
  if (g_str_has_prefix (name, "__") || g_strv_contains (c_keywords, name))
    return cell_set_error (error, CELL_ERROR_INVALID, "the %s cannot be called '%s': C reserves the name", what, name);
  return TRUE;
}

static gboolean
check_doc (const char *doc, const char *what, const char *name, GError **error)
{
  if (doc == NULL)
    return TRUE;
  if (strnlen (doc, CONTRACT_MAX_DOC + 1) > CONTRACT_MAX_DOC)
    return cell_set_error (error, CELL_ERROR_INVALID, "the documentation of %s %s is longer than %d bytes", what, name,
                           CONTRACT_MAX_DOC);
  if (!g_utf8_validate (doc, -1, NULL))
    return cell_set_error (error, CELL_ERROR_INVALID, "the documentation of %s %s is not UTF-8", what, name);
  return TRUE;
}

ContractBuilder *
contract_builder_new (void)
{
  ContractBuilder *builder = g_new0 (ContractBuilder, 1);

  builder->contract = contract_storage_new ();
  builder->structs = g_hash_table_new (g_str_hash, g_str_equal);
  builder->items = g_ptr_array_new ();
  builder->by_kind_and_name = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  return builder;
}

void
contract_builder_free (ContractBuilder *builder)
{
  if (builder->contract != NULL)
    contract_unref (&builder->contract->public);
  g_hash_table_unref (builder->structs);
  g_ptr_array_unref (builder->items);
  g_hash_table_unref (builder->by_kind_and_name);
  g_free (builder);
}

gboolean
contract_builder_set_interface (ContractBuilder *builder, const char *interface, uint32_t version, const char *doc, GError **error)
{
  Contract *contract = &builder->contract->public;
  g_auto (GStrv) parts = NULL;

  if (interface == NULL || strnlen (interface, CONTRACT_MAX_INTERFACE + 1) > CONTRACT_MAX_INTERFACE)
    return cell_set_error (error, CELL_ERROR_INVALID, "an interface's name has 1 to %d characters", CONTRACT_MAX_INTERFACE);
  parts = g_strsplit (interface, ".", -1);
  if (g_strv_length (parts) < 2)
    return cell_set_error (error, CELL_ERROR_INVALID, "an interface's name has two parts or more, such as org.example.Ledger");
  for (guint i = 0; parts[i] != NULL; i++)
    if (!contract_check_identifier (parts[i], "part of the interface's name", error))
      return FALSE;
  if (!check_doc (doc, "interface", interface, error))
    return FALSE;

  contract->interface = contract_storage_string (builder->contract, interface);
  contract->service = strrchr (contract->interface, '.') + 1;
  contract->doc = contract_storage_string (builder->contract, doc);
  contract->version = version;
  return TRUE;
}

const CellType *
contract_builder_find_type (ContractBuilder *builder, const char *name)
{
  for (size_t i = 0; i < G_N_ELEMENTS (scalars); i++)
    if (strcmp (scalars[i].name, name) == 0)
      return &scalars[i];
  return g_hash_table_lookup (builder->structs, name);
}

static uint64_t
align_up (uint64_t offset, uint32_t align)
{
  return (offset + align - 1) / align * align;
}

/* An array is a pointer, a count and a stride; an optional is the value and a bool right after it. */
static uint64_t
lay_out_field (CellField *field, uint64_t offset, uint32_t *align)
{
  if (field->shape == CELL_SHAPE_ARRAY)
    {
      *align = 8;
      field->offset = align_up (offset, 8);
      field->extra = field->offset + 8;
      return (uint64_t) field->offset + 16;
    }
  *align = field->type->align;
  field->offset = align_up (offset, *align);
  field->extra = 0;
  if (field->shape == CELL_SHAPE_PLAIN)
    return (uint64_t) field->offset + field->type->size;
  field->extra = field->offset + field->type->size;
  return (uint64_t) field->extra + 1;
}

gboolean
contract_lay_out (CellField *rows, guint n_rows, int role, uint32_t *ret_size, uint32_t *ret_align)
{
  uint64_t end = 0;
  uint32_t widest = 1;

  for (guint i = 0; i < n_rows; i++)
    {
      uint32_t align;

      if (rows[i].role != role)
        continue;
      end = lay_out_field (&rows[i], end, &align);
      widest = MAX (widest, align);
      if (end > CONTRACT_MAX_SIZE)
        return FALSE;
    }
  *ret_size = align_up (end, widest);
  *ret_align = widest;
  return TRUE;
}

/* The members that a field gets in C; the second one is NULL for a plain field, the third is an array's only. */
static void
member_names (const CellField *field, char *ret_names[3])
{
  ret_names[0] = g_strdup (field->name);
  ret_names[1] = ret_names[2] = NULL;
  if (field->shape == CELL_SHAPE_ARRAY)
    {
      ret_names[1] = g_strdup_printf ("n_%s", field->name);
      ret_names[2] = g_strdup_printf ("n_%s_stride_", field->name);
    }
  else if (field->shape == CELL_SHAPE_OPTIONAL)
    ret_names[1] = g_strdup_printf ("has_%s", field->name);
}

static gboolean
check_member_word (const CellField *field, const char *what, const char *owner, GError **error)
{
  const char *name = field->name;

  if (g_strv_contains (member_keywords, name) || (name[0] == '_' && g_ascii_isupper (name[1])))
    return cell_set_error (error, CELL_ERROR_INVALID, "%s %s has a field called '%s': C or C++ reserves the name", what, owner,
                           name);
  return TRUE;
}

static gboolean
check_member_names (const CellField *field, GHashTable *taken, const char *what, const char *owner, GError **error)
{
  char *names[3];
  gboolean fine = TRUE;

  member_names (field, names);
  for (int i = 0; i < 3; i++)
    {
      if (names[i] == NULL)
        continue;
      if (fine && g_hash_table_contains (taken, names[i]))
        fine = cell_set_error (error, CELL_ERROR_INVALID, "%s %s has two members called %s", what, owner, names[i]);
      g_hash_table_add (taken, names[i]);
    }
  return fine;
}

static gboolean
check_fields (const GArray *rows, int role, const char *what, const char *owner, GError **error)
{
  g_autoptr (GHashTable) taken = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  guint n = 0;

  for (guint i = 0; i < rows->len; i++)
    {
      const CellField *row = &g_array_index (rows, CellField, i);

      if (row->role != role)
        continue;
      if (++n > CONTRACT_MAX_FIELDS)
        return cell_set_error (error, CELL_ERROR_INVALID, "%s %s has more than %d of a kind; put them into a struct", what, owner,
                               CONTRACT_MAX_FIELDS);
      if (!contract_check_identifier (row->name, "field", error) || !check_member_word (row, what, owner, error)
          || !check_doc (row->doc, what, owner, error)
          || !check_member_names (row, taken, what, owner, error))
        return FALSE;
    }
  return TRUE;
}

static gint
compare_rows (gconstpointer a, gconstpointer b)
{
  const CellField *x = a, *y = b;

  if (x->role != y->role)
    return x->role - y->role;
  if (x->role == CELL_ROLE_FAILS)
    return strcmp (x->name, y->name);
  if (x->role == CELL_ROLE_ATTRIBUTE)
    return x->attribute - y->attribute;
  return 0;                     /* the sort is stable: arguments stay in their order */
}

/* Copies the rows; the drafts' strings are the reader's. */
static CellField *
keep_rows (ContractBuilder *builder, const GArray *rows)
{
  CellField *kept = contract_storage_block (builder->contract, MAX (rows->len, 1) * sizeof (CellField));

  for (guint i = 0; i < rows->len; i++)
    {
      kept[i] = g_array_index (rows, CellField, i);
      kept[i].name = contract_storage_string (builder->contract, kept[i].name);
      kept[i].doc = contract_storage_string (builder->contract, kept[i].doc);
    }
  return kept;
}

static guint
depth_of (ContractBuilder *builder, const CellField *row)
{
  const ContractStruct *type;

  if (row->type == NULL || row->type->kind != CELL_KIND_STRUCT)
    return 0;
  type = g_hash_table_lookup (builder->structs, row->type->name);
  return type->depth;
}

static gboolean
same_struct (const CellType *a, const CellType *b)
{
  g_autoptr (GString) x = g_string_new (NULL), y = g_string_new (NULL);

  contract_append_struct (x, a, TRUE);
  contract_append_struct (y, b, TRUE);
  return g_string_equal (x, y);
}

static gboolean
check_signals (ContractBuilder *builder, const CellItem *item, GError **error)
{
  if (item->kind != CELL_ITEM_SIGNAL || ++builder->n_signals <= CONTRACT_MAX_SIGNALS)
    return TRUE;
  return cell_set_error (error, CELL_ERROR_INVALID, "an interface has at most %d signals", CONTRACT_MAX_SIGNALS);
}

static gboolean
check_count (ContractBuilder *builder, GError **error)
{
  if (g_hash_table_size (builder->structs) + builder->items->len < CONTRACT_MAX_ITEMS)
    return TRUE;
  return cell_set_error (error, CELL_ERROR_INVALID, "an interface has at most %d items, structs included", CONTRACT_MAX_ITEMS);
}

const CellType *
contract_builder_add_struct (ContractBuilder *builder, const char *name, GArray *rows, GError **error)
{
  ContractStruct made = { .type = { .kind = CELL_KIND_STRUCT }, .depth = 1 }, *kept;
  const CellType *other;
  uint32_t align;

  if (!contract_check_identifier (name, "struct", error) || !check_fields (rows, CELL_ROLE_FIELD, "struct", name, error))
    return NULL;
  if (rows->len == 0)
    return cell_set_error (error, CELL_ERROR_INVALID, "struct %s has no members", name), NULL;
  for (guint i = 0; i < rows->len; i++)
    made.depth = MAX (made.depth, depth_of (builder, &g_array_index (rows, CellField, i)) + 1);
  if (made.depth > CONTRACT_MAX_DEPTH)
    return cell_set_error (error, CELL_ERROR_INVALID, "struct %s is nested deeper than %d", name, CONTRACT_MAX_DEPTH), NULL;
  if (!contract_lay_out ((CellField *) rows->data, rows->len, CELL_ROLE_FIELD, &made.type.size, &align))
    return cell_set_error (error, CELL_ERROR_INVALID, "struct %s is larger than %d bytes", name, CONTRACT_MAX_SIZE), NULL;

  if (strcmp (name, "array") == 0 || strcmp (name, "optional") == 0)
    return cell_set_error (error, CELL_ERROR_INVALID, "a struct cannot be called %s", name), NULL;
  made.type.name = name;
  made.type.align = align;
  made.type.n_fields = rows->len;
  made.type.fields = (const CellField *) rows->data;
  other = contract_builder_find_type (builder, name);
  if (other != NULL && other->kind == CELL_KIND_STRUCT && same_struct (&made.type, other))
    return other;
  if (other != NULL)
    return cell_set_error (error, CELL_ERROR_INVALID, "there are two different types called %s", name), NULL;
  if (!check_count (builder, error))
    return NULL;

  kept = contract_storage_block (builder->contract, sizeof *kept);
  *kept = made;
  kept->type.name = contract_storage_string (builder->contract, name);
  kept->type.fields = keep_rows (builder, rows);
  g_hash_table_insert (builder->structs, (char *) kept->type.name, kept);
  return &kept->type;
}

static gboolean
role_fits (int kind, int role)
{
  switch (role)
    {
    case CELL_ROLE_FIELD:
      return kind == CELL_ITEM_SIGNAL;
    case CELL_ROLE_IN:
    case CELL_ROLE_OUT:
    case CELL_ROLE_FAILS:
      return kind == CELL_ITEM_METHOD;
    case CELL_ROLE_ATTRIBUTE:
      return kind == CELL_ITEM_METHOD || kind == CELL_ITEM_PROPERTY;
    default:
      return FALSE;
    }
}

static const char *
role_word (int role)
{
  static const char *const words[] = { "rows without a role", "fields",    "arguments", "outputs", "documentation here",
                                       "errors of its own",   "attributes" };

  return role >= 0 && role < (int) G_N_ELEMENTS (words) ? words[role] : words[0];
}

static gboolean
check_attribute (const CellItem *item, const CellField *row, gboolean has_outputs, GError **error)
{
  const char *word = contract_attribute_word (row->attribute);

  if (word == NULL)
    return cell_set_error (error, CELL_ERROR_INVALID, "%s %s has the attribute %u, which this host does not know",
                           contract_item_word (item->kind), item->name, row->attribute);
  if (row->attribute == CELL_ATTRIBUTE_ACCESS && contract_access_word (row->value) == NULL)
    return cell_set_error (error, CELL_ERROR_INVALID, "%s %s: %u is no access", contract_item_word (item->kind), item->name,
                           row->value);
  if (row->attribute == CELL_ATTRIBUTE_ONEWAY && has_outputs)
    return cell_set_error (error, CELL_ERROR_INVALID, "method %s is oneway and has outputs", item->name);
  if (row->attribute <= CELL_ATTRIBUTE_JOB && item->kind != CELL_ITEM_METHOD)
    return cell_set_error (error, CELL_ERROR_INVALID, "%s %s cannot be %s", contract_item_word (item->kind), item->name, word);
  return TRUE;
}

/* rows are sorted: those that repeat each other are neighbours. */
static gboolean
check_rows (const CellItem *item, const GArray *rows, GError **error)
{
  const char *kind = contract_item_word (item->kind);
  gboolean has_outputs = FALSE;

  for (guint i = 0; i < rows->len; i++)
    {
      const CellField *row = &g_array_index (rows, CellField, i), *last = i > 0 ? row - 1 : NULL;

      if (!role_fits (item->kind, row->role))
        return cell_set_error (error, CELL_ERROR_INVALID, "%s %s cannot have %s", kind, item->name, role_word (row->role));
      has_outputs |= row->role == CELL_ROLE_OUT;
      if (row->role == CELL_ROLE_OUT && strcmp (row->name, "result") == 0)
        return cell_set_error (error, CELL_ERROR_INVALID,
                               "method %s: an output cannot be called result, as every reply has that member", item->name);
      if (row->role == CELL_ROLE_FAILS && !contract_check_identifier (row->name, "error", error))
        return FALSE;
      if (row->role != CELL_ROLE_ATTRIBUTE)
        continue;
      if (last != NULL && last->role == CELL_ROLE_ATTRIBUTE && last->attribute == row->attribute)
        return cell_set_error (error, CELL_ERROR_INVALID, "%s %s says %s twice", kind, item->name,
                               contract_attribute_word (row->attribute));
      if (!check_attribute (item, row, has_outputs, error))
        return FALSE;
    }
  return TRUE;
}

/* `fails (X), fails (X)` is one. */
static void
drop_repeated_errors (GArray *rows)
{
  for (guint i = 1; i < rows->len;)
    {
      const CellField *row = &g_array_index (rows, CellField, i), *last = row - 1;

      if (row->role == CELL_ROLE_FAILS && last->role == CELL_ROLE_FAILS && strcmp (row->name, last->name) == 0)
        g_array_remove_index (rows, i);
      else
        i++;
    }
}

static gboolean
lay_out_item (CellItem *item, GArray *rows, GError **error)
{
  CellField *data = (CellField *) rows->data;
  int in_role = item->kind == CELL_ITEM_SIGNAL ? CELL_ROLE_FIELD : CELL_ROLE_IN;
  uint32_t align;

  if (item->kind == CELL_ITEM_PROPERTY)
    {
      item->in_size = item->in_size != 0 ? item->type->size : 0;
      item->out_size = item->type->size;
      return TRUE;
    }
  if (contract_lay_out (data, rows->len, in_role, &item->in_size, &align)
      && contract_lay_out (data, rows->len, CELL_ROLE_OUT, &item->out_size, &align))
    return TRUE;
  return cell_set_error (error, CELL_ERROR_INVALID, "the arguments of %s %s are larger than %d bytes",
                         contract_item_word (item->kind), item->name, CONTRACT_MAX_SIZE);
}

static gboolean
same_item (const CellItem *a, const CellItem *b)
{
  g_autoptr (GString) x = g_string_new (NULL), y = g_string_new (NULL);

  contract_append_item (x, a, TRUE);
  contract_append_item (y, b, TRUE);
  return g_string_equal (x, y);
}

/* A declaration may stand in several files of a cell, a definition may not. */
static const CellItem *
merge_item (const CellItem *item, const CellItem *other, GError **error)
{
  const char *kind = contract_item_word (item->kind);

  if (item->kind == CELL_ITEM_METHOD || item->kind == CELL_ITEM_PROPERTY)
    return cell_set_error (error, CELL_ERROR_INVALID, "there are two of %s %s", kind, item->name), NULL;
  if (!same_item (item, other))
    return cell_set_error (error, CELL_ERROR_INVALID, "there are two different declarations of %s %s", kind, item->name), NULL;
  return other;
}

static gboolean
check_item (const CellItem *item, GArray *rows, GError **error)
{
  const char *kind = contract_item_word (item->kind);

  if (kind == NULL)
    return cell_set_error (error, CELL_ERROR_INVALID, "there is an item of kind %u, which this host does not know", item->kind);
  if (!contract_check_identifier (item->name, kind, error) || !check_doc (item->doc, kind, item->name, error))
    return FALSE;
  g_array_sort (rows, compare_rows);
  drop_repeated_errors (rows);
  return check_fields (rows, CELL_ROLE_IN, kind, item->name, error) && check_fields (rows, CELL_ROLE_OUT, kind, item->name, error)
         && check_fields (rows, CELL_ROLE_FIELD, kind, item->name, error) && check_rows (item, rows, error);
}

const CellItem *
contract_builder_add_item (ContractBuilder *builder, const CellItem *draft, GArray *rows, GError **error)
{
  CellItem made = *draft, *kept;
  const CellItem *other;
  g_autofree char *key = NULL;

  if (!check_item (draft, rows, error) || !lay_out_item (&made, rows, error))
    return NULL;
  made.size = sizeof made;
  made.n_fields = rows->len;
  made.fields = (const CellField *) rows->data;
  made.owner = "";
  made.doc = made.doc != NULL ? made.doc : "";
  key = g_strdup_printf ("%u %s", made.kind, made.name);
  other = g_hash_table_lookup (builder->by_kind_and_name, key);
  if (other != NULL)
    return merge_item (&made, other, error);
  if (!check_count (builder, error) || !check_signals (builder, &made, error))
    return NULL;

  kept = contract_storage_block (builder->contract, sizeof *kept);
  *kept = made;
  kept->name = contract_storage_string (builder->contract, made.name);
  kept->doc = contract_storage_string (builder->contract, made.doc);
  kept->fields = keep_rows (builder, rows);
  g_ptr_array_add (builder->items, kept);
  g_hash_table_insert (builder->by_kind_and_name, g_steal_pointer (&key), kept);
  return kept;
}

void
contract_builder_add_source (ContractBuilder *builder, const CellItem *of_cell, const CellItem *item)
{
  g_hash_table_insert (builder->contract->sources, (gpointer) of_cell, (gpointer) item);
}

/* Points the rows of CELL_ROLE_FAILS at the errors that they name. */
static gboolean
resolve_errors (ContractBuilder *builder, CellItem *item, GError **error)
{
  CellField *rows = (CellField *) item->fields;

  for (guint i = 0; i < item->n_fields; i++)
    {
      g_autofree char *key = NULL;

      if (rows[i].role != CELL_ROLE_FAILS)
        continue;
      key = g_strdup_printf ("%u %s", CELL_ITEM_ERROR, rows[i].name);
      rows[i].error = g_hash_table_lookup (builder->by_kind_and_name, key);
      if (rows[i].error == NULL)
        return cell_set_error (error, CELL_ERROR_INVALID, "method %s fails with %s, which is not declared", item->name,
                               rows[i].name);
    }
  return TRUE;
}

/* Each fingerprint covers all structs that its item uses: few bytes of text could ask for a lot of hashing. */
static gboolean
check_uses (ContractBuilder *builder, GError **error)
{
  guint uses = 0;

  for (guint i = 0; i < builder->items->len; i++)
    {
      const CellItem *item = builder->items->pdata[i];
      const CellField value = { .type = item->type };
      g_autoptr (GPtrArray) structs = item->type != NULL ? contract_collect_structs (&value, 1)
                                                         : contract_collect_structs (item->fields, item->n_fields);

      uses += structs->len;
      if (uses > CONTRACT_MAX_USES)
        return cell_set_error (error, CELL_ERROR_INVALID, "the structs that each item uses, counted together, are more than %d",
                               CONTRACT_MAX_USES);
    }
  return TRUE;
}

Contract *
contract_builder_end (ContractBuilder *builder, GError **error)
{
  g_autoptr (Contract) contract = NULL;
  g_autofree char *text = NULL;

  if (builder->contract->public.interface == NULL)
    return cell_set_error (error, CELL_ERROR_INVALID, "there is no interface"), NULL;
  for (guint i = 0; i < builder->items->len; i++)
    if (!resolve_errors (builder, builder->items->pdata[i], error))
      return NULL;

  if (!check_uses (builder, error))
    return NULL;
  contract_storage_end (builder->contract, builder->items);
  contract = &g_steal_pointer (&builder->contract)->public;
  text = contract_to_text (contract, TRUE);
  if (strlen (text) > CONTRACT_MAX_TEXT)        /* whoever gets it could not read it */
    return cell_set_error (error, CELL_ERROR_INVALID, "the contract is longer than %d bytes", CONTRACT_MAX_TEXT), NULL;
  return g_steal_pointer (&contract);
}

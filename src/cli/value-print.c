/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/value-print.h"

#include <string.h>

#include "cli/table.h"
#include "plugins/cell-error.h"

#define MAX_DEPTH 32

typedef struct
{
  const ValueHooks *hooks;
  GString *to;
  guint depth;
  GError **error;
} Printer;

static gboolean print_members (Printer *p, const CellField *rows, guint n_rows, int role, const guint8 *local);

/* ---- scalars -------------------------------------------------------------------------------- */

static char *
blob_text (Printer *p, CellBlob *blob)
{
  g_autoptr (JsonNode) node = NULL;

  if (blob == NULL)
    return g_strdup ("-");
  if (p->hooks == NULL || p->hooks->blob_to_json == NULL)
    return g_strdup ("(blob)");
  node = p->hooks->blob_to_json (blob, p->hooks->data, p->error);
  if (node == NULL)
    return NULL;
  if (JSON_NODE_HOLDS_VALUE (node) && json_node_get_value_type (node) == G_TYPE_STRING)
    return json_escape_text (json_node_get_string (node), 0, 0);
  return json_write (node, FALSE);
}

static char *
string_text (Printer *p, const char *text, gboolean quoted)
{
  text = text == NULL ? "" : text;
  if (g_utf8_validate (text, -1, NULL))
    return json_escape_text (text, 0, quoted || *text == 0 ? '"' : 0);
  cell_set_error (p->error, CELL_ERROR_INVALID, "a string is not UTF-8");
  return NULL;
}

/* NULL: error.  quoted: among others of its kind, where a comma inside could be taken for one outside. */
static char *
scalar_text (Printer *p, const CellType *type, const guint8 *at, gboolean quoted)
{
  const CellBytes *bytes = (const CellBytes *) at;

  switch (type->kind)
    {
    case CELL_KIND_BOOL:
      return g_strdup (*at != 0 ? "true" : "false");
    case CELL_KIND_UINT:
      return g_strdup_printf ("%" G_GUINT64_FORMAT, value_get_uint (type, at));
    case CELL_KIND_INT:
      return g_strdup_printf ("%" G_GINT64_FORMAT, value_get_int (type, at));
    case CELL_KIND_FLOAT:
      return json_write_double (*(const double *) at);
    case CELL_KIND_STR:
      return string_text (p, *(const char *const *) at, quoted);
    case CELL_KIND_BYTES:
      return bytes->size == 0 ? g_strdup ("-") : g_base64_encode (bytes->data, bytes->size);
    case CELL_KIND_BLOB:
      return blob_text (p, *(CellBlob *const *) at);
    default:
      cell_set_error (p->error, CELL_ERROR_INTERNAL, "the kind %u of %s is unknown", type->kind, type->name);
      return NULL;
    }
}

/* ---- lines ---------------------------------------------------------------------------------- */

static void
start_line (Printer *p, const char *name, const char *rest)
{
  for (guint i = 0; i < p->depth; i++)
    g_string_append (p->to, "  ");
  g_string_append_printf (p->to, "%s:%s", name, rest);
}

static gboolean
print_nested (Printer *p, const char *name, const CellType *type, const guint8 *at)
{
  gboolean ok;

  if (p->depth >= MAX_DEPTH)
    return cell_set_error (p->error, CELL_ERROR_INTERNAL, "%s: structs are nested more than %d deep", name, MAX_DEPTH);
  start_line (p, name, "\n");
  p->depth++;
  ok = print_members (p, type->fields, type->n_fields, CELL_ROLE_FIELD, at);
  p->depth--;
  return ok;
}

/* ---- arrays --------------------------------------------------------------------------------- */

typedef struct
{
  const CellField *row;
  const guint8 *data;
  guint32 n, stride;
} Elements;

static gboolean
is_flat (const CellType *type)
{
  for (guint i = 0; i < type->n_fields; i++)
    if (type->fields[i].shape == CELL_SHAPE_ARRAY || type->fields[i].type->kind == CELL_KIND_STRUCT)
      return FALSE;
  return TRUE;
}

static gboolean
print_scalars (Printer *p, const Elements *e)
{
  start_line (p, e->row->name, " ");
  for (guint32 i = 0; i < e->n; i++)
    {
      g_autofree char *text = scalar_text (p, e->row->type, e->data + (gsize) i * e->stride, TRUE);
      if (text == NULL)
        return FALSE;
      g_string_append_printf (p->to, "%s%s", i == 0 ? "" : ", ", text);
    }
  g_string_append_c (p->to, '\n');
  return TRUE;
}

static gboolean
add_table_row (Printer *p, Table *table, const CellType *type, const guint8 *element)
{
  g_autoptr (GPtrArray) cells = g_ptr_array_new_with_free_func (g_free);

  for (guint i = 0; i < type->n_fields; i++)
    {
      const CellField *f = &type->fields[i];
      gboolean absent = f->shape == CELL_SHAPE_OPTIONAL && element[f->extra] == 0;
      char *text = absent ? NULL : scalar_text (p, f->type, element + f->offset, FALSE);
      if (text == NULL && !absent)
        return FALSE;
      g_ptr_array_add (cells, text);
    }
  table_add_row (table, (const char *const *) cells->pdata);
  return TRUE;
}

static gboolean
print_table (Printer *p, const Elements *e)
{
  g_autoptr (Table) table = table_new ();
  const CellType *type = e->row->type;
  g_auto (GStrv) lines = NULL;
  g_autofree char *text = NULL;

  for (guint i = 0; i < type->n_fields; i++)
    {
      guint kind = type->fields[i].type->kind;
      gboolean number = kind == CELL_KIND_UINT || kind == CELL_KIND_INT || kind == CELL_KIND_FLOAT;
      table_add_column (table, type->fields[i].name, type->fields[i].name, number ? TABLE_NUMBER : 0);
    }
  for (guint32 i = 0; i < e->n; i++)
    if (!add_table_row (p, table, type, e->data + (gsize) i * e->stride))
      return FALSE;
  start_line (p, e->row->name, "\n");
  text = table_to_text (table, 0);
  lines = g_strsplit (text, "\n", -1);
  for (guint i = 0; lines[i] != NULL && *lines[i] != 0; i++)
    {
      for (guint k = 0; k <= p->depth; k++)
        g_string_append (p->to, "  ");
      g_string_append_printf (p->to, "%s\n", lines[i]);
    }
  return TRUE;
}

static gboolean
print_array (Printer *p, const CellField *row, const guint8 *local)
{
  Elements e = { .row = row };

  if (!value_get_array (row, local, &e.data, &e.n, &e.stride, p->error))
    {
      g_prefix_error (p->error, "%s: ", row->name);
      return FALSE;
    }
  if (e.n == 0)
    {
      start_line (p, row->name, " -\n");
      return TRUE;
    }
  if (row->type->kind != CELL_KIND_STRUCT)
    return print_scalars (p, &e);
  if (is_flat (row->type) && row->type->n_fields > 0)
    return print_table (p, &e);
  for (guint32 i = 0; i < e.n; i++)
    {
      g_autofree char *name = g_strdup_printf ("%s[%u]", row->name, i);
      if (!print_nested (p, name, row->type, e.data + (gsize) i * e.stride))
        return FALSE;
    }
  return TRUE;
}

static gboolean
print_field (Printer *p, const CellField *row, const guint8 *local)
{
  g_autofree char *text = NULL;

  if (row->shape == CELL_SHAPE_ARRAY)
    return print_array (p, row, local);
  if (row->shape == CELL_SHAPE_OPTIONAL && local[row->extra] == 0)
    {
      start_line (p, row->name, " -\n");
      return TRUE;
    }
  if (row->type->kind == CELL_KIND_STRUCT)
    return print_nested (p, row->name, row->type, local + row->offset);
  text = scalar_text (p, row->type, local + row->offset, FALSE);
  if (text == NULL)
    {
      g_prefix_error (p->error, "%s: ", row->name);
      return FALSE;
    }
  start_line (p, row->name, " ");
  g_string_append_printf (p->to, "%s\n", text);
  return TRUE;
}

static gboolean
print_members (Printer *p, const CellField *rows, guint n_rows, int role, const guint8 *local)
{
  for (guint i = 0; i < n_rows; i++)
    if (rows[i].role == role && !print_field (p, &rows[i], local))
      return FALSE;
  return TRUE;
}

gboolean
value_print (const CellField *rows, guint n_rows, int role, gconstpointer local, const ValueHooks *hooks, GString *to,
             GError **error)
{
  Printer p = { hooks, to, 0, error };

  return print_members (&p, rows, n_rows, role, local);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/table.h"

#include <libsmartcols.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "api/json-scan.h"
#include "api/json-value.h"

typedef struct
{
  char *key, *heading;
  unsigned flags;
} Column;

struct Table
{
  GArray *columns;              /* of Column */
  GPtrArray *rows;              /* of char **, NULLs among them: as long as columns */
  GPtrArray *objects;           /* of JsonObject, one for each row */
};

typedef struct libscols_table ScolsTable;
G_DEFINE_AUTOPTR_CLEANUP_FUNC (ScolsTable, scols_unref_table)

static void
column_clear (gpointer data)
{
  Column *column = data;

  g_free (column->key);
  g_free (column->heading);
}

Table *
table_new (void)
{
  Table *table = g_new0 (Table, 1);

  table->columns = g_array_new (FALSE, FALSE, sizeof (Column));
  g_array_set_clear_func (table->columns, column_clear);
  table->rows = g_ptr_array_new ();
  table->objects = g_ptr_array_new_with_free_func ((GDestroyNotify) json_object_unref);
  return table;
}

void
table_free (Table *table)
{
  if (table == NULL)
    return;
  for (guint i = 0; i < table->rows->len; i++)
    {
      char **cells = g_ptr_array_index (table->rows, i);
      for (guint k = 0; k < table->columns->len; k++)
        g_free (cells[k]);
      g_free (cells);
    }
  g_ptr_array_unref (table->rows);
  g_ptr_array_unref (table->objects);
  g_array_unref (table->columns);
  g_free (table);
}

void
table_add_column (Table *table, const char *key, const char *heading, unsigned flags)
{
  Column column = { g_strdup (key), g_strdup (heading), flags };

  g_return_if_fail (table->rows->len == 0);
  g_array_append_val (table->columns, column);
}

static JsonNode *
cell_to_json (const char *cell, unsigned flags)
{
  g_autoptr (JsonScan) scan = NULL;
  JsonNode *node;

  if (cell == NULL)
    return json_node_new (JSON_NODE_NULL);
  scan = flags & TABLE_TYPED ? json_scan_new (cell, -1, 0, NULL) : NULL;
  if (scan != NULL && json_scan_root (scan)->type == JSON_SCAN_INTEGER)
    return json_integer_node (cell);
  node = scan == NULL ? NULL : json_scan_to_node (json_scan_root (scan), NULL);
  return node != NULL ? node : json_node_init_string (json_node_alloc (), cell);
}

void
table_add_row (Table *table, const char *const *cells)
{
  char **row = g_new0 (char *, table->columns->len + 1);
  JsonObject *object = json_object_new ();

  for (guint i = 0; i < table->columns->len; i++)
    {
      const Column *column = &g_array_index (table->columns, Column, i);
      row[i] = cells[i] == NULL ? NULL : json_escape_text (cells[i], 0, 0);
      json_object_set_member (object, column->key, cell_to_json (cells[i], column->flags));
    }
  g_ptr_array_add (table->rows, row);
  g_ptr_array_add (table->objects, object);
}

void
table_set_json (Table *table, const char *key, JsonNode *value)
{
  g_return_if_fail (table->rows->len > 0);
  json_object_set_member (g_ptr_array_index (table->objects, table->objects->len - 1), key, value);
}

guint
table_get_n_rows (const Table *table)
{
  return table->rows->len;
}

static gboolean
fill (const Table *table, ScolsTable *to)
{
  for (guint i = 0; i < table->columns->len; i++)
    {
      const Column *column = &g_array_index (table->columns, Column, i);
      int flags = (column->flags & TABLE_RIGHT ? SCOLS_FL_RIGHT : 0) | (column->flags & TABLE_CUT ? SCOLS_FL_TRUNC : 0);
      if (scols_table_new_column (to, column->heading, 0, flags) == NULL)
        return FALSE;
    }
  for (guint i = 0; i < table->rows->len; i++)
    {
      char *const *cells = g_ptr_array_index (table->rows, i);
      struct libscols_line *line = scols_table_new_line (to, NULL);
      for (guint k = 0; k < table->columns->len; k++)
        if (line == NULL || scols_line_set_data (line, k, cells[k] == NULL ? "-" : cells[k]) != 0)
          return FALSE;
    }
  return TRUE;
}

/* The last column is padded as well: blanks that a person does not see and a diff does. */
static char *
strip_lines (const char *text)
{
  g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
  GString *to = g_string_new (NULL);

  for (guint i = 0; lines[i] != NULL; i++)
    if (lines[i + 1] != NULL || *lines[i] != 0)
      g_string_append_printf (to, "%s\n", g_strchomp (lines[i]));
  return g_string_free (to, FALSE);
}

char *
table_to_text (const Table *table, guint width)
{
  g_autoptr (ScolsTable) to = scols_new_table ();
  char *text = NULL, *stripped;

  if (to == NULL || table->rows->len == 0)
    return g_strdup ("");
  scols_table_set_termforce (to, width == 0 ? SCOLS_TERMFORCE_NEVER : SCOLS_TERMFORCE_ALWAYS);
  if (width != 0)
    scols_table_set_termwidth (to, width);
  if (!fill (table, to) || scols_print_table_to_string (to, &text) != 0)
    g_error ("no memory for a table of %u rows", table->rows->len);
  stripped = strip_lines (text);
  free (text);
  return stripped;
}

void
table_print (const Table *table, FILE *to)
{
  struct winsize size = { 0 };
  g_autofree char *text = NULL;

  if (isatty (fileno (to)))
    ioctl (fileno (to), TIOCGWINSZ, &size);
  text = table_to_text (table, size.ws_col);
  fputs (text, to);
}

JsonNode *
table_to_json (const Table *table)
{
  JsonArray *array = json_array_sized_new (table->objects->len);
  JsonNode *node = json_node_new (JSON_NODE_ARRAY);

  for (guint i = 0; i < table->objects->len; i++)
    json_array_add_object_element (array, json_object_ref (g_ptr_array_index (table->objects, i)));
  json_node_take_array (node, array);
  return node;
}

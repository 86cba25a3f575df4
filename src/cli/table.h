/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A list for people and for programs: libsmartcols draws it, --json takes the same cells.
 */
#pragma once
#include <json-glib/json-glib.h>
#include <stdio.h>

typedef struct Table Table;

enum /* of a column */
{
  TABLE_RIGHT = 1 << 0,         /* aligned right */
  TABLE_TYPED = 1 << 1,         /* in JSON the cell is what its text says: a number, true, false; else it is a string */
  TABLE_NUMBER = TABLE_RIGHT | TABLE_TYPED,
  TABLE_CUT = 1 << 2            /* gives way first when the terminal is narrow */
};

Table *table_new (void);
void table_free (Table *table);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Table, table_free)

/* All columns come before the first row.  key: the member's name in JSON. */
void table_add_column (Table *table, const char *key, const char *heading, unsigned flags);
/* A cell for each column, which is UTF-8; NULL: there is none, "-" and null. */
void table_add_row (Table *table, const char *const *cells);
/* What the last row's cell is in JSON, when its text was made for the eye ("1.2 MB"); takes the node. */
void table_set_json (Table *table, const char *key, JsonNode *value);
guint table_get_n_rows (const Table *table);

/* width: of the terminal; 0: as wide as it gets.  Every line ends with a newline; no rows, no text. */
char *table_to_text (const Table *table, guint width);
/* The same to a stream, which may be a terminal. */
void table_print (const Table *table, FILE *to);
/* An array of objects. */
JsonNode *table_to_json (const Table *table);

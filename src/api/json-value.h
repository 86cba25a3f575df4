/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * JSON to C values and back, by the tables of <cell/abi.h>.
 *
 *   u8 … u32, i8 … i32   a number without fraction or exponent, within the type's range
 *   u64, i64             the same; beyond ±2^53 written as a string of digits, because most readers keep numbers as doubles.
 *                        Both are read, whatever the size
 *   f64                  a number; NaN and infinities are refused both ways
 *   str, bytes           a string; a string of base64
 *   blob                 what the hooks make of it; null for none
 *   optional             the value; null or no member at all when there is none, null when written
 *   array, struct        an array; an object with every member that is not optional, and no other
 */
#pragma once
#include <json-glib/json-glib.h>

#include <cell/abi.h>

#include "api/json-scan.h"

/* ---- memory --------------------------------------------------------------------------------- */

#define VALUE_ARENA_LIMIT (16u << 20)

/* Owns what a value refers to.  Starts as VALUE_ARENA_INIT. */
typedef struct
{
  GArray *pieces;
  gsize taken, limit;           /* bytes; limit 0: VALUE_ARENA_LIMIT */
} ValueArena;

#define VALUE_ARENA_INIT { NULL, 0, 0 }

void value_arena_clear (ValueArena *arena);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (ValueArena, value_arena_clear)

/* Zeroed memory; NULL and an error when the limit would be passed. */
gpointer value_arena_alloc (ValueArena *arena, gsize size, GError **error);

/* ---- what only the caller knows ------------------------------------------------------------- */

/* Any may be NULL: then that kind of value is refused with a sentence that says so. */
typedef struct
{
  CellBlob *(*blob_from_text) (const char *text, gpointer data, GError **error);       /* a new reference */
  void (*blob_unref) (CellBlob *blob);                                                  /* given with blob_from_text */
  JsonNode *(*blob_to_json) (CellBlob *blob, gpointer data, GError **error);            /* blob: not NULL */
  GBytes *(*bytes_from_text) (const char *text, gpointer data, GError **error);        /* of a text that begins with @ */
  gpointer data;
} ValueHooks;

/* ---- conversion ----------------------------------------------------------------------------- */

/* Fills local, the zeroed struct whose members are the rows of `role`, from an object.  hooks may be NULL.  False: the error names
 * the path ("entries[3].amount: 300 does not fit in u8 …"); local is then undefined, the arena is to be cleared all the same. */
gboolean json_to_value (const CellField *rows, guint n_rows, int role, const JsonScanNode *json, const ValueHooks *hooks,
                        ValueArena *arena, gpointer local, GError **error);
/* The same from a text, scanned first. */
gboolean json_text_to_value (const CellField *rows, guint n_rows, int role, const char *text, gssize length,
                             const ValueHooks *hooks, ValueArena *arena, gpointer local, GError **error);
/* One member. */
gboolean json_to_field (const CellField *row, const JsonScanNode *json, const ValueHooks *hooks, ValueArena *arena, gpointer local,
                        GError **error);

/* An object with a member for each row of `role`; NULL: error. */
JsonNode *value_to_json (const CellField *rows, guint n_rows, int role, gconstpointer local, const ValueHooks *hooks,
                         GError **error);
JsonNode *field_to_json (const CellField *row, gconstpointer local, const ValueHooks *hooks, GError **error);

/* ---- for the other text forms --------------------------------------------------------------- */

/* Sets an integer from digits that json_scan_is_integer () likes.  False: "300 does not fit in u8 (0 to 255)". */
gboolean value_set_integer (const CellType *type, const char *digits, gpointer to, GError **error);
/* Sets a str, bytes or blob from a text: see above. */
gboolean value_set_text (const CellType *type, const char *text, gsize size, const ValueHooks *hooks, ValueArena *arena,
                         gpointer to, GError **error);

/* The node of a whole number: a string beyond ±2^53. */
JsonNode *json_integer_node (const char *digits);

gint64 value_get_int (const CellType *type, gconstpointer at);    /* of an INT */
guint64 value_get_uint (const CellType *type, gconstpointer at);  /* of a UINT */

/* An array's elements: *ret_stride is the distance of two of them.  False: the struct does not make sense. */
gboolean value_get_array (const CellField *row, gconstpointer local, const guint8 **ret_data, guint32 *ret_n, guint32 *ret_stride,
                          GError **error);

/* "u64", "array (Entry)", "optional (str)". */
char *value_type_name (const CellField *row);
/* The row of that role and name, or NULL. */
const CellField *value_find_row (const CellField *rows, guint n_rows, int role, const char *name);
/* "from, to, amount": the names of a role's rows. */
char *value_list_rows (const CellField *rows, guint n_rows, int role);

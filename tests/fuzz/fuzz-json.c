/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Any bytes as JSON, as the arguments of a call and as words: refused with a sentence, or the same again after having been written
 * and read.
 */
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "api/text-value.h"
#include "cli/value-print.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

/* ---- a struct with everything in it --------------------------------------------------------- */

typedef struct
{
  uint64_t u;
  int8_t i;
  const char *s;
} Inner;

typedef struct
{
  bool b;
  uint8_t u8;
  int16_t i16;
  uint32_t u32;
  int64_t i64;
  double f;
  const char *s;
  CellBytes y;
  Inner inner;
  const Inner *list;
  uint32_t n_list, list_stride;
  const uint16_t *numbers;
  uint32_t n_numbers, numbers_stride;
  Inner maybe;
  bool has_maybe;
} Outer;

static const CellType type_bool = { "bool", CELL_KIND_BOOL, 1, 0, 1, NULL };
static const CellType type_u8 = { "u8", CELL_KIND_UINT, 1, 0, 1, NULL };
static const CellType type_i8 = { "i8", CELL_KIND_INT, 1, 0, 1, NULL };
static const CellType type_u16 = { "u16", CELL_KIND_UINT, 2, 0, 2, NULL };
static const CellType type_i16 = { "i16", CELL_KIND_INT, 2, 0, 2, NULL };
static const CellType type_u32 = { "u32", CELL_KIND_UINT, 4, 0, 4, NULL };
static const CellType type_u64 = { "u64", CELL_KIND_UINT, 8, 0, 8, NULL };
static const CellType type_i64 = { "i64", CELL_KIND_INT, 8, 0, 8, NULL };
static const CellType type_f64 = { "f64", CELL_KIND_FLOAT, 8, 0, 8, NULL };
static const CellType type_str = { "str", CELL_KIND_STR, 8, 0, 8, NULL };
static const CellType type_bytes = { "bytes", CELL_KIND_BYTES, 8, 0, 16, NULL };

#define ROW(S, member, T, shape_, extra_) \
  { .name = #member, .doc = "", .type = &type_##T, .offset = offsetof (S, member), .extra = (extra_), \
    .shape = CELL_SHAPE_##shape_, .role = CELL_ROLE_FIELD }

static const CellField inner_fields[] = {
  ROW (Inner, u, u64, PLAIN, 0), ROW (Inner, i, i8, PLAIN, 0), ROW (Inner, s, str, PLAIN, 0),
};
static const CellType type_Inner = { "Inner", CELL_KIND_STRUCT, 8, 3, sizeof (Inner), inner_fields };
static const CellField rows[] = {
  ROW (Outer, b, bool, PLAIN, 0),
  ROW (Outer, u8, u8, PLAIN, 0),
  ROW (Outer, i16, i16, PLAIN, 0),
  ROW (Outer, u32, u32, PLAIN, 0),
  ROW (Outer, i64, i64, PLAIN, 0),
  ROW (Outer, f, f64, PLAIN, 0),
  ROW (Outer, s, str, PLAIN, 0),
  ROW (Outer, y, bytes, PLAIN, 0),
  ROW (Outer, inner, Inner, PLAIN, 0),
  ROW (Outer, list, Inner, ARRAY, offsetof (Outer, n_list)),
  ROW (Outer, numbers, u16, ARRAY, offsetof (Outer, n_numbers)),
  ROW (Outer, maybe, Inner, OPTIONAL, offsetof (Outer, has_maybe)),
};

/* ---- what must hold ------------------------------------------------------------------------- */

static void
check_error (const GError *error)
{
  g_assert_nonnull (error);
  g_assert_true (g_utf8_validate (error->message, -1, NULL));
  for (const char *p = error->message; *p != 0; p++)
    g_assert_true ((guchar) *p >= 0x20);
}

static void
check_node (const JsonScanNode *root)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (JsonNode) node = json_scan_to_node (root, &error), again = NULL;
  g_autoptr (JsonScan) scan = NULL;
  g_autofree char *text = NULL, *same = NULL;

  if (node == NULL)
    {
      check_error (error);
      return;
    }
  text = json_write (node, TRUE);
  scan = json_scan_new (text, -1, G_MAXINT32, &error);          /* indented it may be larger than what came in */
  g_assert_no_error (error);
  again = json_scan_to_node (json_scan_root (scan), &error);
  g_assert_no_error (error);
  same = json_write (again, TRUE);
  g_assert_cmpstr (text, ==, same);
}

static void
check_value (const Outer *value)
{
  g_auto (ValueArena) arena = VALUE_ARENA_INIT;
  g_autoptr (GError) error = NULL;
  g_autoptr (JsonNode) node = value_to_json (rows, G_N_ELEMENTS (rows), CELL_ROLE_FIELD, value, NULL, &error), again = NULL;
  g_autofree char *text = NULL, *same = NULL;
  g_autoptr (GString) lines = g_string_new (NULL);
  Outer copy = { 0 };

  g_assert_no_error (error);
  text = json_write (node, FALSE);
  json_text_to_value (rows, G_N_ELEMENTS (rows), CELL_ROLE_FIELD, text, -1, NULL, &arena, &copy, &error);
  g_assert_no_error (error);
  again = value_to_json (rows, G_N_ELEMENTS (rows), CELL_ROLE_FIELD, &copy, NULL, &error);
  same = json_write (again, FALSE);
  g_assert_cmpstr (text, ==, same);
  value_print (rows, G_N_ELEMENTS (rows), CELL_ROLE_FIELD, value, NULL, lines, &error);
  g_assert_no_error (error);
}

static void
check_words (const char *text)
{
  g_auto (ValueArena) arena = VALUE_ARENA_INIT;
  g_autoptr (GError) error = NULL;
  g_auto (GStrv) words = g_strsplit (text, "\n", 64);
  Outer value = { 0 };

  if (words_to_value (rows, G_N_ELEMENTS (rows), CELL_ROLE_FIELD, (const char *const *) words, NULL, &arena, &value, &error))
    check_value (&value);
  else
    check_error (error);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  g_auto (ValueArena) arena = VALUE_ARENA_INIT;
  g_autoptr (GError) error = NULL, refusal = NULL;
  g_autofree char *text = g_strndup ((const char *) data, size);
  g_autoptr (JsonScan) scan = size > 65536 ? NULL : json_scan_new ((const char *) data, (gssize) size, 0, &error);
  Outer value = { 0 };

  if (size > 65536)
    return 0;
  check_words (text);
  if (scan == NULL)
    {
      check_error (error);
      return 0;
    }
  check_node (json_scan_root (scan));
  if (json_to_value (rows, G_N_ELEMENTS (rows), CELL_ROLE_FIELD, json_scan_root (scan), NULL, &arena, &value, &refusal))
    check_value (&value);
  else
    check_error (refusal);
  return 0;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Values to and from JSON, arguments as words, replies as lines and tables.
 */
#include <gio/gio.h>
#include <glib/gstdio.h>
#include <locale.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "api/json-value.h"
#include "api/text-value.h"
#include "cli/table.h"
#include "cli/value-print.h"
#include "plugins/cell-error.h"
#include "random-scalars.h"

/* ---- tables to test with -------------------------------------------------------------------- */

static const CellType scalars[] = {
  { "bool", CELL_KIND_BOOL, 1, 0, 1, NULL }, { "u8", CELL_KIND_UINT, 1, 0, 1, NULL },  { "i8", CELL_KIND_INT, 1, 0, 1, NULL },
  { "u16", CELL_KIND_UINT, 2, 0, 2, NULL },  { "i16", CELL_KIND_INT, 2, 0, 2, NULL },  { "u32", CELL_KIND_UINT, 4, 0, 4, NULL },
  { "i32", CELL_KIND_INT, 4, 0, 4, NULL },   { "u64", CELL_KIND_UINT, 8, 0, 8, NULL }, { "i64", CELL_KIND_INT, 8, 0, 8, NULL },
  { "f64", CELL_KIND_FLOAT, 8, 0, 8, NULL }, { "str", CELL_KIND_STR, 8, 0, 8, NULL },  { "bytes", CELL_KIND_BYTES, 8, 0, 16, NULL },
  { "blob", CELL_KIND_BLOB, 8, 0, 8, NULL },
};
enum { T_BOOL, T_U8, T_I8, T_U16, T_I16, T_U32, T_I32, T_U64, T_I64, T_F64, T_STR, T_BYTES, T_BLOB };

typedef struct
{
  guint64 id;
  guint8 amount;
  const char *memo;
} Entry;

#define ROW(S, member, T, r) { #member, "", (T), NULL, offsetof (S, member), 0, 0, CELL_SHAPE_PLAIN, (r), 0, 0 }
#define ROW_ARRAY(S, member, T, r) \
  { #member, "", (T), NULL, offsetof (S, member), offsetof (S, n_##member), 0, CELL_SHAPE_ARRAY, (r), 0, 0 }
#define ROW_OPTIONAL(S, member, T, r) \
  { #member, "", (T), NULL, offsetof (S, member), offsetof (S, has_##member), 0, CELL_SHAPE_OPTIONAL, (r), 0, 0 }

static const CellField entry_fields[] = {
  ROW (Entry, id, &scalars[T_U64], CELL_ROLE_FIELD),
  ROW (Entry, amount, &scalars[T_U8], CELL_ROLE_FIELD),
  ROW (Entry, memo, &scalars[T_STR], CELL_ROLE_FIELD),
};
static const CellType entry_type = { "Entry", CELL_KIND_STRUCT, 8, 3, sizeof (Entry), entry_fields };

typedef struct
{
  guint64 from;
  gint64 amount;
  double rate;
  const char *memo;
  bool force;
  CellBytes key;
  CellBlob *picture;
  Entry first;
  const Entry *entries;
  guint32 n_entries, entries_stride;
  const guint16 *ports;
  guint32 n_ports, ports_stride;
  guint16 port;
  bool has_port;
} Args;

#define ARG(member, T) ROW (Args, member, T, CELL_ROLE_IN)
static const CellField args_rows[] = {
  { "Pays.", "", NULL, NULL, 0, 0, 0, 0, CELL_ROLE_DOC, 0, 0 },
  ARG (from, &scalars[T_U64]),
  ARG (amount, &scalars[T_I64]),
  { "balance", "", &scalars[T_I64], NULL, 0, 0, 0, 0, CELL_ROLE_OUT, 0, 0 },
  ARG (rate, &scalars[T_F64]),
  ARG (memo, &scalars[T_STR]),
  ARG (force, &scalars[T_BOOL]),
  ARG (key, &scalars[T_BYTES]),
  ARG (picture, &scalars[T_BLOB]),
  ARG (first, &entry_type),
  ROW_ARRAY (Args, entries, &entry_type, CELL_ROLE_IN),
  ROW_ARRAY (Args, ports, &scalars[T_U16], CELL_ROLE_IN),
  ROW_OPTIONAL (Args, port, &scalars[T_U16], CELL_ROLE_IN),
};

/* A caller's blobs: here "@0" to "@255", each one byte of this array; counted, so that a leak shows. */
static char blobs[256];
static int blobs_held;

static CellBlob *
test_blob_from_text (const char *text, gpointer data, GError **error)
{
  guint64 number;

  g_assert_true (data == blobs);
  if (*text != '@' || !g_ascii_string_to_unsigned (text + 1, 10, 0, 255, &number, NULL))
    {
      cell_set_error (error, CELL_ERROR_NOT_FOUND, "there is no blob %s", text);
      return NULL;
    }
  blobs_held++;
  return (CellBlob *) &blobs[number];
}

static void
test_blob_unref (CellBlob *blob)
{
  g_assert_true ((char *) blob >= blobs && (char *) blob < blobs + sizeof blobs);
  blobs_held--;
}

static JsonNode *
test_blob_to_json (CellBlob *blob, G_GNUC_UNUSED gpointer data, G_GNUC_UNUSED GError **error)
{
  char text[16];

  g_snprintf (text, sizeof text, "@%ld", (long) ((char *) blob - blobs));
  return json_node_init_string (json_node_alloc (), text);
}

static GBytes *
test_bytes_from_text (const char *text, G_GNUC_UNUSED gpointer data, GError **error)
{
  g_autofree char *contents = NULL;
  gsize size;

  return g_file_get_contents (text + 1, &contents, &size, error) ? g_bytes_new_take (g_steal_pointer (&contents), size) : NULL;
}

static const ValueHooks hooks = { test_blob_from_text, test_blob_unref, test_blob_to_json, test_bytes_from_text, blobs };

/* ---- sentences ------------------------------------------------------------------------------ */

typedef struct
{
  const char *text;
  const char *wrong;            /* how the error begins; NULL: it is accepted */
} Sample;

#define GOOD_FIRST "\"first\":{\"id\":1,\"amount\":2,\"memo\":\"m\"}"
#define GOOD_START "{\"from\":1,\"amount\":-2,\"rate\":0.5,\"memo\":\"rent\",\"force\":true,\"key\":\"AAEC\",\"picture\":\"@7\","
#define GOOD_END "\"entries\":[],\"ports\":[1,65535]}"

static const Sample calls[] = {
  { GOOD_START GOOD_FIRST "," GOOD_END, NULL },
  { GOOD_START GOOD_FIRST ",\"port\":null," GOOD_END, NULL },
  { "[]", "the arguments are given as one object, not an array" },
  { "{}", "the arguments from (u64), amount (i64), rate (f64), memo (str), force (bool), key (bytes), picture (blob), "
          "first (Entry), entries (array (Entry)), ports (array (u16)) are missing" },
  { GOOD_START GOOD_FIRST ",\"ports\":[]}", "the argument entries (array (Entry)) is missing" },
  { GOOD_START GOOD_FIRST ",\"balance\":1," GOOD_END,
    "there is no argument 'balance'; there are from, amount, rate, memo, force, key, picture, first, entries, ports, port" },
  { "{\"from\":-1}", "from: -1 does not fit in u64 (0 to 18446744073709551615)" },
  { "{\"from\":18446744073709551616}", "from: 18446744073709551616 does not fit in u64 (0 to 18446744073709551615)" },
  { "{\"from\":\"18446744073709551616\"}", "from: 18446744073709551616 does not fit in u64 (0 to 18446744073709551615)" },
  { "{\"from\":\"0x10\"}", "from: '0x10' is not a whole number, which u64 needs" },
  { "{\"from\":\"\"}", "from: '' is not a whole number, which u64 needs" },
  { "{\"from\":\" 1\"}", "from: ' 1' is not a whole number, which u64 needs" },
  { "{\"from\":\"\\u001b[2J\"}", "from: '\\u001b[2J' is not a whole number, which u64 needs" },
  { "{\"from\":1.0}", "from: a whole number is expected for u64, not 1.0" },
  { "{\"from\":1e3}", "from: a whole number is expected for u64, not 1e3" },
  { "{\"from\":null}", "from: a whole number is expected for u64, not null" },
  { "{\"from\":[1]}", "from: a whole number is expected for u64, not an array" },
  { "{\"amount\":9223372036854775808}",
    "amount: 9223372036854775808 does not fit in i64 (-9223372036854775808 to 9223372036854775807)" },
  { "{\"amount\":-9223372036854775809}",
    "amount: -9223372036854775809 does not fit in i64 (-9223372036854775808 to 9223372036854775807)" },
  { "{\"rate\":\"NaN\"}", "rate: a number is expected for f64, not a string" },
  { "{\"memo\":5}", "memo: a string is expected for str, not 5" },
  { "{\"memo\":null}", "memo: a string is expected for str, not null" },
  { "{\"force\":1}", "force: true or false is expected for bool, not 1" },
  { "{\"force\":\"true\"}", "force: true or false is expected for bool, not a string" },
  { "{\"key\":\"A\"}", "key: bytes are written as base64, with its padding; 'A' is not that" },
  { "{\"key\":\"AAE\"}", "key: bytes are written as base64, with its padding; 'AAE' is not that" },
  { "{\"key\":\"AAE=\\n\"}", "key: bytes are written as base64, with its padding; 'AAE=\\n' is not that" },
  { "{\"key\":\"AB==\"}", "key: bytes are written as base64, with its padding; 'AB==' is not that" },
  { "{\"key\":\"A===\"}", "key: bytes are written as base64, with its padding; 'A===' is not that" },
  { "{\"key\":\"____\"}", "key: bytes are written as base64, with its padding; '____' is not that" },
  { "{\"key\":\"@/nowhere/at/all\"}", "key: Failed to open file" },
  { "{\"picture\":\"@256\"}", "picture: there is no blob @256" },
  { "{\"picture\":256}", "picture: a string is expected for blob, not 256" },
  { "{\"first\":1}", "first: an object is expected for Entry, not 1" },
  { "{\"first\":{\"id\":1}}", "first: the members amount (u8), memo (str) are missing" },
  { "{\"first\":{\"idd\":1}}", "first: Entry has no member 'idd'; it has id, amount, memo" },
  { "{\"entries\":{}}", "entries: an array of Entry is expected, not an object" },
  { "{\"entries\":null}", "entries: an array of Entry is expected, not null" },
  { "{\"entries\":[{\"id\":1,\"amount\":255,\"memo\":\"\"},{\"id\":1,\"amount\":256,\"memo\":\"\"}]}",
    "entries[1].amount: 256 does not fit in u8 (0 to 255)" },
  { "{\"entries\":[[]]}", "entries[0]: an object is expected for Entry, not an array" },
  { "{\"ports\":[1,2,-3]}", "ports[2]: -3 does not fit in u16 (0 to 65535)" },
  { "{\"ports\":[\"1\"]}", "ports[0]: a whole number is expected for u16, not a string" },
  { "{\"port\":65536}", "port: 65536 does not fit in u16 (0 to 65535)" },
  { "{\"port\":-99999999999999999999999}", "port: -99999999999999999999999 does not fit in u16 (0 to 65535)" },
  { "{\"from\":1,\"from\":2}", "JSON, line 1, column 1: this object has the member 'from' twice" },
};

static gboolean
read_args (const char *text, const ValueHooks *with, ValueArena *arena, Args *args, GError **error)
{
  return json_text_to_value (args_rows, G_N_ELEMENTS (args_rows), CELL_ROLE_IN, text, -1, with, arena, args, error);
}

static void
test_value_sentences (void)
{
  for (gsize i = 0; i < G_N_ELEMENTS (calls); i++)
    {
      g_auto (ValueArena) arena = VALUE_ARENA_INIT;
      g_autoptr (GError) error = NULL;
      Args args = { 0 };
      gboolean ok = read_args (calls[i].text, &hooks, &arena, &args, &error);
      g_assert_cmpint (ok, ==, error == NULL);
      if (calls[i].wrong == NULL)
        g_assert_no_error (error);
      else if (ok)
        g_error ("accepted: %s", calls[i].text);
      else if (!g_str_has_prefix (error->message, calls[i].wrong))
        g_assert_cmpstr (error->message, ==, calls[i].wrong);
    }
  g_assert_cmpint (blobs_held, ==, 0);
}

static void
test_value_read (void)
{
  static const char text[] =
    "{\"port\":80,"
    "\"entries\":[{\"id\":\"18446744073709551615\",\"amount\":255,\"memo\":\"\"},{\"memo\":\"\xc3\xa9\",\"amount\":0,\"id\":-0}],"
    "\"from\":9007199254740993,\"amount\":\"-9223372036854775808\",\"rate\":-1e-3,\"memo\":\"a\\tb\",\"force\":false,"
    "\"key\":\"AP8=\",\"picture\":null,\"ports\":[]," GOOD_FIRST "}";
  g_auto (ValueArena) arena = VALUE_ARENA_INIT;
  g_autoptr (GError) error = NULL;
  Args args = { 0 };

  read_args (text, &hooks, &arena, &args, &error);
  g_assert_no_error (error);
  g_assert_cmpuint (args.from, ==, G_GUINT64_CONSTANT (9007199254740993));
  g_assert_cmpint (args.amount, ==, G_MININT64);
  g_assert_cmpfloat (args.rate, ==, -1e-3);
  g_assert_cmpstr (args.memo, ==, "a\tb");
  g_assert_false (args.force);
  g_assert_cmpmem (args.key.data, args.key.size, "\x00\xff", 2);
  g_assert_null (args.picture);
  g_assert_cmpuint (args.n_ports, ==, 0);
  g_assert_true (args.has_port);
  g_assert_cmpuint (args.port, ==, 80);
  g_assert_cmpuint (args.n_entries, ==, 2);
  g_assert_cmpuint (args.entries_stride, ==, sizeof (Entry));
  g_assert_cmpuint (args.entries[0].id, ==, G_MAXUINT64);
  g_assert_cmpuint (args.entries[0].amount, ==, 255);
  g_assert_cmpstr (args.entries[1].memo, ==, "\xc3\xa9");
  g_assert_cmpuint (args.first.amount, ==, 2);
}

static void
test_value_no_hooks (void)
{
  g_auto (ValueArena) arena = VALUE_ARENA_INIT;
  g_autoptr (GError) error = NULL;
  Args args = { 0 };

  g_assert_false (read_args ("{\"picture\":\"@1\"}", NULL, &arena, &args, &error));
  g_assert_error (error, CELL_ERROR_DOMAIN, -CELL_ERROR_UNSUPPORTED);
  g_assert_cmpstr (error->message, ==, "picture: a blob cannot be given here");
  g_clear_error (&error);
  /* Nobody who is not asked opens a file. */
  g_assert_false (read_args ("{\"key\":\"@/etc/passwd\"}", NULL, &arena, &args, &error));
  g_assert_error (error, CELL_ERROR_DOMAIN, -CELL_ERROR_INVALID);
  g_clear_error (&error);
  args.picture = (CellBlob *) &blobs[1];
  g_assert_null (value_to_json (args_rows, G_N_ELEMENTS (args_rows), CELL_ROLE_IN, &args, NULL, &error));
  g_assert_cmpstr (error->message, ==, "picture: a blob cannot be shown here");
}

/* A few bytes of text that stand for large structs. */
static void
test_value_bomb (void)
{
  static const CellField big_fields[] = { { "x", "", &scalars[T_U8], NULL, 0, 1, 0, CELL_SHAPE_OPTIONAL, CELL_ROLE_FIELD, 0, 0 } };
  static const CellType big = { "Big", CELL_KIND_STRUCT, 1, 1, 1 << 20, big_fields };
  static const CellField row = { "all", "", &big, NULL, 0, 8, 0, CELL_SHAPE_ARRAY, CELL_ROLE_IN, 0, 0 };
  g_auto (ValueArena) arena = VALUE_ARENA_INIT;
  g_auto (ValueArena) small = { .limit = 3 << 20 };
  g_autoptr (GError) error = NULL;
  g_autoptr (GString) text = g_string_new ("{\"all\":[{}");
  guint64 local[2] = { 0 };

  g_assert_false (json_text_to_value (&row, 1, CELL_ROLE_IN, "{\"all\":[{},{},{}]}", -1, NULL, &small, local, &error));
  g_assert_error (error, CELL_ERROR_DOMAIN, -CELL_ERROR_TOO_LARGE);
  g_clear_error (&error);
  g_assert_true (json_text_to_value (&row, 1, CELL_ROLE_IN, "{\"all\":[{},{}]}", -1, NULL, &small, local, &error));
  for (int i = 0; i < 1000000; i++)
    g_string_append (text, ",{}");
  g_string_append (text, "]}");
  g_assert_false (json_text_to_value (&row, 1, CELL_ROLE_IN, text->str, -1, NULL, &arena, local, &error));
  g_assert_error (error, CELL_ERROR_DOMAIN, -CELL_ERROR_TOO_LARGE);
  g_assert_true (g_str_has_prefix (error->message, "all: the value takes more than"));
}

static char *
to_text (const Args *args, GError **error)
{
  g_autoptr (JsonNode) node = value_to_json (args_rows, G_N_ELEMENTS (args_rows), CELL_ROLE_IN, args, &hooks, error);

  return node == NULL ? NULL : json_write (node, FALSE);
}

static void
test_value_write (void)
{
  g_autoptr (GError) error = NULL;
  struct { Entry entry; guint64 newer; } wide[2] = { { { 1, 2, "a" }, 99 }, { { G_MAXUINT64, 3, NULL }, 99 } };
  Args args = {
    .from = G_GUINT64_CONSTANT (1) << 53, .amount = -(G_GINT64_CONSTANT (1) << 53) - 1, .rate = 2.5, .memo = "\"\n\x1b\xc3\xa9",
    .force = true, .key = { "\x00\xff", 2, 0 }, .picture = (CellBlob *) &blobs[3], .first = { 4, 5, "six" },
    .entries = (const Entry *) wide, .n_entries = 2, .entries_stride = sizeof wide[0],
  };
  g_autofree char *text = to_text (&args, &error), *none = NULL;

  g_assert_no_error (error);
  g_assert_cmpstr (text, ==,
                   "{\"from\":9007199254740992,\"amount\":\"-9007199254740993\",\"rate\":2.5,\"memo\":\"\\\"\\n\\u001b\xc3\xa9\","
                   "\"force\":true,\"key\":\"AP8=\",\"picture\":\"@3\",\"first\":{\"id\":4,\"amount\":5,\"memo\":\"six\"},"
                   "\"entries\":[{\"id\":1,\"amount\":2,\"memo\":\"a\"},"
                   "{\"id\":\"18446744073709551615\",\"amount\":3,\"memo\":\"\"}],\"ports\":[],\"port\":null}");

  args.rate = NAN;
  g_assert_null (to_text (&args, &error));
  g_assert_cmpstr (error->message, ==, "rate: JSON has no way to write NaN");
  g_clear_error (&error);
  args.rate = -INFINITY;
  g_assert_null (to_text (&args, &error));
  g_assert_cmpstr (error->message, ==, "rate: JSON has no way to write infinity");
  g_clear_error (&error);
  args.rate = 0;
  wide[1].entry.memo = "\xff";
  g_assert_null (to_text (&args, &error));
  g_assert_cmpstr (error->message, ==, "entries[1].memo: the string is not UTF-8");
  g_clear_error (&error);
  args.entries_stride = 1;
  g_assert_null (to_text (&args, &error));
  g_assert_true (g_str_has_prefix (error->message, "entries: the array says"));
  g_clear_error (&error);
  none = to_text (&(Args) { 0 }, &error);
  g_assert_no_error (error);
  g_assert_nonnull (strstr (none, "\"key\":\"\",\"picture\":null"));
}

static void
test_value_one_field (void)
{
  static const CellField value = { "value", "", &scalars[T_U32], NULL, 0, 0, 0, CELL_SHAPE_PLAIN, CELL_ROLE_OUT, 0, 0 };
  g_auto (ValueArena) arena = VALUE_ARENA_INIT;
  g_autoptr (GError) error = NULL;
  g_autoptr (JsonScan) scan = json_scan_new ("4294967295", -1, 0, &error);
  g_autoptr (JsonNode) node = NULL;
  guint32 number = 0;

  g_assert_true (json_to_field (&value, json_scan_root (scan), NULL, &arena, &number, &error));
  g_assert_cmpuint (number, ==, G_MAXUINT32);
  node = field_to_json (&value, &number, NULL, &error);
  g_assert_cmpint (json_node_get_int (node), ==, G_MAXUINT32);
  g_assert_true (text_to_field (&value, "7", NULL, &arena, &number, &error));
  g_assert_cmpuint (number, ==, 7);
  g_assert_false (text_to_field (&value, "4294967296", NULL, &arena, &number, &error));
  g_assert_cmpstr (error->message, ==, "value: 4294967296 does not fit in u32 (0 to 4294967295)");
}

/* ---- random values of random schemas -------------------------------------------------------- */

/* Owns what a schema and its values are made of. */
typedef GPtrArray Pool;

static gpointer
pool_alloc (Pool *pool, gsize size)
{
  gpointer memory = g_malloc0 (MAX (size, 1));

  g_ptr_array_add (pool, memory);
  return memory;
}

static const CellType *random_struct (Pool *pool, guint depth, guint role);

static const CellType *
random_type (Pool *pool, guint depth)
{
  if (depth < 3 && g_test_rand_int_range (0, 4) == 0)
    return random_struct (pool, depth + 1, CELL_ROLE_FIELD);
  return &scalars[g_test_rand_int_range (0, G_N_ELEMENTS (scalars))];
}

static guint32
place (guint32 *size, guint32 align, guint32 n)
{
  guint32 at = (*size + align - 1) / align * align;

  *size = at + n;
  return at;
}

/* Lays a struct out as the C compiler does. */
static const CellType *
random_struct (Pool *pool, guint depth, guint role)
{
  guint n = (guint) g_test_rand_int_range (depth == 0 ? 0 : 1, 7);
  CellField *fields = pool_alloc (pool, n * sizeof *fields);
  CellType *type = pool_alloc (pool, sizeof *type);
  guint32 size = 0, align = 1;

  for (guint i = 0; i < n; i++)
    {
      CellField *f = &fields[i];
      char *name = pool_alloc (pool, 16);
      guint32 own;
      g_snprintf (name, 16, "m%u", i);
      *f = (CellField) { .name = name, .doc = "", .type = random_type (pool, depth), .role = (guint8) role };
      f->shape = (guint8) g_test_rand_int_range (0, 3);
      own = f->shape == CELL_SHAPE_ARRAY ? 8 : f->type->align;
      f->offset = place (&size, own, f->shape == CELL_SHAPE_ARRAY ? 8 : f->type->size);
      if (f->shape == CELL_SHAPE_ARRAY)
        f->extra = place (&size, 4, 8);
      else if (f->shape == CELL_SHAPE_OPTIONAL)
        f->extra = place (&size, 1, 1);
      align = MAX (align, own);
    }
  place (&size, align, 0);
  size = (size + align - 1) / align * align;
  *type = (CellType) { "S", CELL_KIND_STRUCT, (guint8) align, (guint16) n, size, fields };
  return type;
}

static void random_members (Pool *pool, const CellType *type, guint8 *at);

static void
random_plain (Pool *pool, const CellType *type, guint8 *at)
{
  guint64 bits = ((guint64) (guint32) g_test_rand_int () << 32 | (guint32) g_test_rand_int ()) >> g_test_rand_int_range (0, 64);
  double real = random_double ();
  char *text;
  CellBytes *bytes;

  switch (type->kind)
    {
    case CELL_KIND_STRUCT:
      random_members (pool, type, at);
      break;
    case CELL_KIND_BOOL:
      *(bool *) at = bits & 1;
      break;
    case CELL_KIND_FLOAT:
      memcpy (at, &real, sizeof real);
      break;
    case CELL_KIND_STR:
      text = random_string ();
      g_ptr_array_add (pool, text);
      *(const char **) at = text;
      break;
    case CELL_KIND_BYTES:
      bytes = (CellBytes *) at;
      bytes->size = (guint32) g_test_rand_int_range (0, 9);
      bytes->data = pool_alloc (pool, bytes->size);
      for (guint32 i = 0; i < bytes->size; i++)
        ((guint8 *) bytes->data)[i] = (guint8) g_test_rand_int ();
      break;
    case CELL_KIND_BLOB:
      *(CellBlob **) at = bits % 3 == 0 ? NULL : (CellBlob *) &blobs[bits % sizeof blobs];
      break;
    default:
      bits = g_test_rand_int_range (0, 4) == 0 ? ~bits : bits;
      memcpy (at, &bits, type->size);     /* little endian, as the ABI is */
    }
}

static void
random_members (Pool *pool, const CellType *type, guint8 *at)
{
  for (guint i = 0; i < type->n_fields; i++)
    {
      const CellField *f = &type->fields[i];
      guint32 n = (guint32) g_test_rand_int_range (0, 4);
      if (f->shape == CELL_SHAPE_PLAIN)
        random_plain (pool, f->type, at + f->offset);
      else if (f->shape == CELL_SHAPE_OPTIONAL && n > 0)
        {
          *(bool *) (at + f->extra) = true;
          /* An optional blob that is there and is none cannot be told from one that is not there. */
          do
            random_plain (pool, f->type, at + f->offset);
          while (f->type->kind == CELL_KIND_BLOB && *(CellBlob **) (at + f->offset) == NULL);
        }
      else if (f->shape == CELL_SHAPE_ARRAY)
        {
          guint8 *data = pool_alloc (pool, n * f->type->size);
          *(guint8 **) (at + f->offset) = data;
          ((guint32 *) (at + f->extra))[0] = n;
          ((guint32 *) (at + f->extra))[1] = g_test_rand_int_range (0, 2) ? f->type->size : 0;
          for (guint32 k = 0; k < n; k++)
            random_plain (pool, f->type, data + k * f->type->size);
        }
    }
}

static gboolean equal_members (const CellType *type, const guint8 *a, const guint8 *b);

static gboolean
equal_plain (const CellType *type, const guint8 *a, const guint8 *b)
{
  const CellBytes *x = (const CellBytes *) a, *y = (const CellBytes *) b;

  switch (type->kind)
    {
    case CELL_KIND_STRUCT:
      return equal_members (type, a, b);
    case CELL_KIND_STR:
      return strcmp (*(const char *const *) a, *(const char *const *) b) == 0;
    case CELL_KIND_BYTES:
      return x->size == y->size && (x->size == 0 || memcmp (x->data, y->data, x->size) == 0);
    default:
      return memcmp (a, b, type->size) == 0;
    }
}

static gboolean
equal_array (const CellField *f, const guint8 *a, const guint8 *b)
{
  const guint8 *x, *y;
  guint32 n, m, stride_x, stride_y;

  if (!value_get_array (f, a, &x, &n, &stride_x, NULL) || !value_get_array (f, b, &y, &m, &stride_y, NULL) || n != m)
    return FALSE;
  for (guint32 i = 0; i < n; i++)
    if (!equal_plain (f->type, x + i * stride_x, y + i * stride_y))
      return FALSE;
  return TRUE;
}

static gboolean
equal_members (const CellType *type, const guint8 *a, const guint8 *b)
{
  for (guint i = 0; i < type->n_fields; i++)
    {
      const CellField *f = &type->fields[i];
      gboolean absent = f->shape == CELL_SHAPE_OPTIONAL && !a[f->extra];
      if (f->shape == CELL_SHAPE_OPTIONAL && a[f->extra] != b[f->extra])
        return FALSE;
      if (f->shape == CELL_SHAPE_ARRAY ? !equal_array (f, a, b) : !absent && !equal_plain (f->type, a + f->offset, b + f->offset))
        return FALSE;
    }
  return TRUE;
}

/* Each member as a word: what JSON has, without the quotes of its strings. */
static char **
to_words (const CellType *type, const guint8 *local)
{
  g_autoptr (GStrvBuilder) words = g_strv_builder_new ();

  for (guint i = 0; i < type->n_fields; i++)
    {
      const CellField *f = &type->fields[i];
      g_autoptr (JsonNode) node = field_to_json (f, local, &hooks, NULL);
      gboolean string = JSON_NODE_HOLDS_VALUE (node) && json_node_get_value_type (node) == G_TYPE_STRING;
      g_autofree char *text = string ? json_node_dup_string (node) : json_write (node, FALSE);
      g_autofree char *word = g_strdup_printf ("%s=%s", f->name, text);
      if (!JSON_NODE_HOLDS_NULL (node))
        g_strv_builder_add (words, word);
      else if (f->shape == CELL_SHAPE_PLAIN)
        {
          g_autofree char *none = g_strdup_printf ("%s=@0", f->name);     /* a word cannot say that there is no blob */
          g_strv_builder_add (words, none);
        }
    }
  return g_strv_builder_end (words);
}

static gboolean
has_plain_null_blob (const CellType *type, const guint8 *local)
{
  for (guint i = 0; i < type->n_fields; i++)
    if (type->fields[i].shape == CELL_SHAPE_PLAIN && type->fields[i].type->kind == CELL_KIND_BLOB
        && *(CellBlob *const *) (local + type->fields[i].offset) == NULL)
      return TRUE;
  return FALSE;
}

static void
test_value_random (void)
{
  for (int i = 0; i < 4000; i++)
    {
      g_autoptr (GPtrArray) pool = g_ptr_array_new_with_free_func (g_free);
      g_auto (ValueArena) arena = VALUE_ARENA_INIT;
      g_autoptr (GError) error = NULL;
      const CellType *type = random_struct (pool, 0, CELL_ROLE_IN);
      guint8 *local = pool_alloc (pool, type->size), *again = pool_alloc (pool, type->size), *typed = pool_alloc (pool, type->size);
      g_autoptr (JsonNode) node = NULL;
      g_autofree char *text = NULL;
      g_auto (GStrv) words = NULL;
      g_autoptr (GString) lines = g_string_new (NULL);

      random_members (pool, type, local);
      node = value_to_json (type->fields, type->n_fields, CELL_ROLE_IN, local, &hooks, &error);
      g_assert_no_error (error);
      text = json_write (node, g_test_rand_int_range (0, 2));
      json_text_to_value (type->fields, type->n_fields, CELL_ROLE_IN, text, -1, &hooks, &arena, again, &error);
      g_assert_no_error (error);
      g_assert_true (equal_members (type, local, again));

      words = to_words (type, local);
      words_to_value (type->fields, type->n_fields, CELL_ROLE_IN, (const char *const *) words, &hooks, &arena, typed, &error);
      g_assert_no_error (error);
      if (!has_plain_null_blob (type, local))
        g_assert_true (equal_members (type, local, typed));

      value_print (type->fields, type->n_fields, CELL_ROLE_IN, local, &hooks, lines, &error);
      g_assert_no_error (error);
      g_assert_true (g_utf8_validate (lines->str, (gssize) lines->len, NULL));
      for (const char *p = lines->str; *p != 0; p++)
        g_assert_true (*p == '\n' || (guchar) *p >= 0x20);
    }
  g_assert_cmpint (blobs_held, ==, 0);
}

/* Whatever bytes of a good text are changed: a value that writes and reads again as itself, or a sentence. */
static void
test_value_corrupt (void)
{
  const char *good = GOOD_START GOOD_FIRST ",\"port\":8," GOOD_END;
  gsize size = strlen (good);
  guint accepted = 0;

  for (int i = 0; i < 20000; i++)
    {
      g_auto (ValueArena) arena = VALUE_ARENA_INIT;
      g_autoptr (GError) error = NULL;
      g_autofree char *text = g_strdup (good), *one = NULL, *two = NULL;
      Args args = { 0 }, again = { 0 };
      char byte = g_test_rand_int_range (0, 2) ? (char) g_test_rand_int_range (1, 256) : good[(gsize) i % size];
      text[g_test_rand_int_range (0, (gint32) size)] = byte;
      if (!read_args (text, &hooks, &arena, &args, &error))
        {
          g_assert_nonnull (error);
          g_assert_true (g_utf8_validate (error->message, -1, NULL));
          continue;
        }
      accepted++;
      one = to_text (&args, &error);
      g_assert_no_error (error);
      read_args (one, &hooks, &arena, &again, &error);
      g_assert_no_error (error);
      two = to_text (&again, &error);
      g_assert_cmpstr (one, ==, two);
    }
  g_assert_cmpuint (accepted, >, 100);
  g_assert_cmpint (blobs_held, ==, 0);
}

/* ---- words ---------------------------------------------------------------------------------- */

typedef struct
{
  guint64 from, to;
  gint16 amount;
  double rate;
  bool force;
  const char *memo;
  bool has_memo;
  const guint16 *ports;
  guint32 n_ports, ports_stride;
} Transfer;

static const CellField transfer_rows[] = {
  ROW (Transfer, from, &scalars[T_U64], CELL_ROLE_IN),
  ROW (Transfer, to, &scalars[T_U64], CELL_ROLE_IN),
  ROW (Transfer, amount, &scalars[T_I16], CELL_ROLE_IN),
  ROW (Transfer, rate, &scalars[T_F64], CELL_ROLE_IN),
  ROW (Transfer, force, &scalars[T_BOOL], CELL_ROLE_IN),
  ROW_OPTIONAL (Transfer, memo, &scalars[T_STR], CELL_ROLE_IN),
  ROW_ARRAY (Transfer, ports, &scalars[T_U16], CELL_ROLE_IN),
};
static const CellField echo_rows[] = { { "text", "", &scalars[T_STR], NULL, 0, 0, 0, CELL_SHAPE_PLAIN, CELL_ROLE_IN, 0, 0 } };

typedef struct
{
  const char *words;            /* separated by | */
  const char *wrong;
} WordSample;

#define USAGE "from=u64 to=u64 amount=i16 rate=f64 force=bool [memo=str] ports=array (u16)"
static const WordSample transfers[] = {
  { "1|2|-3|1e-2|true|rent|[1,2]", NULL },
  { "from=1|to=2|ports=[]|amount=-3|force=false|rate=5", NULL },
  { "1|2|-3|rate=.5|force=true|ports=[7]|memo=a=b \\", NULL },
  { "{\"from\":1,\"to\":2,\"amount\":3,\"rate\":0,\"force\":true,\"ports\":[]}", NULL },
  { "", "the arguments from, to, amount, rate, force, ports are missing; they are: " USAGE },
  { "1|2|3|4|true|x", "the argument ports is missing; they are: " USAGE },
  { "1|2|3|4|true|x|[]|y", "'y' is one argument too many; they are: " USAGE },
  { "from=1|2", "'2' follows an argument that has a name; give it a name as well (name=value)" },
  { "1|from=2", "from is given twice" },
  { "from=1|from=1", "from is given twice" },
  { "form=1", "there is no argument 'form'; there are from, to, amount, rate, force, memo, ports (a value" },
  { "abc", "from: 'abc' is not a whole number, which u64 needs" },
  { "from=", "from: '' is not a whole number, which u64 needs" },
  { "from=0x10", "from: '0x10' is not a whole number, which u64 needs" },
  { "from=-1", "from: -1 does not fit in u64 (0 to 18446744073709551615)" },
  { "from=1.0", "from: '1.0' is not a whole number, which u64 needs" },
  { "amount=32768", "amount: 32768 does not fit in i16 (-32768 to 32767)" },
  { "rate=nan", "rate: 'nan' is not a number, which f64 needs" },
  { "rate=inf", "rate: 'inf' is not a number, which f64 needs" },
  { "rate=", "rate: '' is not a number, which f64 needs" },
  { "rate=1e", "rate: '1e' is not a number, which f64 needs" },
  { "rate=e", "rate: 'e' is not a number, which f64 needs" },
  { "rate=0x1p3", "rate: '0x1p3' is not a number, which f64 needs" },
  { "rate=1e999", "rate: '1e999' is not a number that a double can hold, which f64 needs" },
  { "force=yes", "force: 'yes' is not true or false, which bool needs" },
  { "memo=\xff", "memo: the text is not UTF-8" },
  { "\xff", "an argument is not UTF-8 text" },
  { "ports=1,2", "ports: array (u16) is written as JSON, for example '[…, …]'. JSON, line 1, column 2: the text should end" },
  { "ports=[1,65536]", "ports[1]: 65536 does not fit in u16 (0 to 65535)" },
  { "{\"from\":1", "JSON, line 1, column 10: a comma or '}' is expected" },
};

static void
test_words_sentences (void)
{
  for (gsize i = 0; i < G_N_ELEMENTS (transfers); i++)
    {
      g_auto (ValueArena) arena = VALUE_ARENA_INIT;
      g_autoptr (GError) error = NULL;
      g_auto (GStrv) words = g_strsplit (transfers[i].words, "|", -1);
      Transfer args = { 0 };
      gboolean ok = words_to_value (transfer_rows, G_N_ELEMENTS (transfer_rows), CELL_ROLE_IN, (const char *const *) words, &hooks,
                                    &arena, &args, &error);
      g_assert_cmpint (ok, ==, error == NULL);
      if (transfers[i].wrong == NULL)
        {
          g_assert_no_error (error);
          g_assert_cmpuint (args.from, ==, 1);
        }
      else if (ok)
        g_error ("accepted: %s", transfers[i].words);
      else if (!g_str_has_prefix (error->message, transfers[i].wrong))
        g_assert_cmpstr (error->message, ==, transfers[i].wrong);
    }
}

static void
test_words_values (void)
{
  static const char *const words[] = { "1", "2", "-3", "2.5", "true", "memo=x=y, \"z\"\n", "ports=[80, 443]", NULL };
  static const char *const named[] = { "text={\"text\": 1}", NULL }, *const equation[] = { "text=a=b", NULL };
  static const char *const odd[] = { "1+1=2", NULL };
  static const char *const none[] = { NULL }, *const extra[] = { "x", NULL };
  g_auto (ValueArena) arena = VALUE_ARENA_INIT;
  g_autoptr (GError) error = NULL;
  Transfer args = { 0 };
  const char *text = NULL;

  words_to_value (transfer_rows, G_N_ELEMENTS (transfer_rows), CELL_ROLE_IN, words, NULL, &arena, &args, &error);
  g_assert_no_error (error);
  g_assert_cmpint (args.amount, ==, -3);
  g_assert_cmpfloat (args.rate, ==, 2.5);
  g_assert_true (args.force && args.has_memo);
  g_assert_cmpstr (args.memo, ==, "x=y, \"z\"\n");
  g_assert_cmpuint (args.n_ports, ==, 2);
  g_assert_cmpuint (args.ports[1], ==, 443);

  /* What a str may be is not taken for something else, if its name stands before it. */
  g_assert_true (words_to_value (echo_rows, 1, CELL_ROLE_IN, named, NULL, &arena, &text, &error));
  g_assert_cmpstr (text, ==, "{\"text\": 1}");
  g_assert_true (words_to_value (echo_rows, 1, CELL_ROLE_IN, equation, NULL, &arena, &text, &error));
  g_assert_cmpstr (text, ==, "a=b");
  g_assert_true (words_to_value (echo_rows, 1, CELL_ROLE_IN, odd, NULL, &arena, &text, &error));
  g_assert_cmpstr (text, ==, "1+1=2");

  g_assert_true (words_to_value (NULL, 0, CELL_ROLE_IN, none, NULL, &arena, NULL, &error));
  g_assert_false (words_to_value (NULL, 0, CELL_ROLE_IN, extra, NULL, &arena, NULL, &error));
  g_assert_cmpstr (error->message, ==, "'x' is one argument too many; there are none at all");
}

/* One argument in braces is all of them, also for a method that takes a text or a struct. */
static void
test_words_whole (void)
{
  static const CellField inner[] = { { "text", "", &scalars[T_STR], NULL, 0, 0, 0, CELL_SHAPE_PLAIN, CELL_ROLE_FIELD, 0, 0 } };
  const CellType note = { .name = "Note", .kind = CELL_KIND_STRUCT, .align = 8, .n_fields = 1, .size = 8, .fields = inner };
  const CellField note_rows[] = { { "note", "", &note, NULL, 0, 0, 0, CELL_SHAPE_PLAIN, CELL_ROLE_IN, 0, 0 } };
  const struct
  {
    const CellField *rows;
    const char *word, *text, *wrong;
  } wholes[] = {
    { echo_rows, "{\"text\": \"World\"}", "World", NULL },
    { echo_rows, " \n{\"text\": \"{x\"}", "{x", NULL },
    { echo_rows, "text={\"a\": 1}", "{\"a\": 1}", NULL },
    { echo_rows, "text={", "{", NULL },
    { echo_rows, "}{", "}{", NULL },
    { echo_rows, "{\"txt\": \"World\"}", NULL,
      "there is no argument 'txt'; there are text (one argument {...} is all of them as JSON; "
                                             "if it is text itself, write text={...})" },
    { echo_rows, "{\"text\": \"World\",}", NULL, "JSON, line 1, column 18: " },
    { echo_rows, "{World}", NULL, "JSON, line 1, column 2: " },
    { echo_rows, "{}", NULL, "the argument text (str) is missing (one argument" },
    { note_rows, "{\"note\": {\"text\": \"x\"}}", "x", NULL },
    { note_rows, "note={\"text\": \"x\"}", "x", NULL },
    { note_rows, "{\"text\": \"x\"}", NULL, "there is no argument 'text'; there are note (one argument {...} is all of them" },
  };

  for (gsize i = 0; i < G_N_ELEMENTS (wholes); i++)
    {
      g_auto (ValueArena) arena = VALUE_ARENA_INIT;
      g_autoptr (GError) error = NULL;
      const char *words[] = { wholes[i].word, NULL }, *text = NULL;
      gboolean ok = words_to_value (wholes[i].rows, 1, CELL_ROLE_IN, words, NULL, &arena, &text, &error);

      g_assert_cmpint (ok, ==, wholes[i].wrong == NULL);
      if (ok)
        g_assert_cmpstr (text, ==, wholes[i].text);
      else if (!g_str_has_prefix (error->message, wholes[i].wrong))
        g_assert_cmpstr (error->message, ==, wholes[i].wrong);
    }
}

static void
test_words_files (void)
{
  static const CellField rows[] = {
    { "key", "", &scalars[T_BYTES], NULL, 0, 0, 0, CELL_SHAPE_PLAIN, CELL_ROLE_IN, 0, 0 },
    { "picture", "", &scalars[T_BLOB], NULL, 16, 0, 0, CELL_SHAPE_PLAIN, CELL_ROLE_IN, 0, 0 },
  };
  struct { CellBytes key; CellBlob *picture; } args = { 0 };
  g_autoptr (GError) error = NULL;
  g_autofree char *path = NULL, *at = NULL;
  int fd = g_file_open_tmp (NULL, &path, &error);

  g_assert_no_error (error);
  g_close (fd, NULL);
  g_file_set_contents (path, "\0bin", 4, &error);
  g_assert_no_error (error);
  at = g_strconcat ("@", path, NULL);
  {
    const char *words[] = { at, "@9", NULL };
    g_auto (ValueArena) arena = VALUE_ARENA_INIT;
    words_to_value (rows, 2, CELL_ROLE_IN, words, &hooks, &arena, &args, &error);
    g_assert_no_error (error);
    g_assert_cmpmem (args.key.data, args.key.size, "\0bin", 4);
    g_assert_true ((char *) args.picture == &blobs[9]);
    g_assert_cmpint (blobs_held, ==, 1);
  }
  g_assert_cmpint (blobs_held, ==, 0);
  g_assert_cmpint (g_unlink (path), ==, 0);
}

/* ---- for people ----------------------------------------------------------------------------- */

static void
test_print (void)
{
  static const Entry entries[] = { { 1, 200, "rent" }, { 12345, 3, "a\x1b[2Jb\nc" } };
  static const guint16 ports[] = { 80, 443 };
  static const Args args = {
    .from = G_MAXUINT64, .amount = -5, .rate = 0.1, .memo = "two\nlines \x1b]0;x\x07\xe2\x80\xae", .force = true,
    .key = { "\x00\xff", 2, 0 }, .picture = (CellBlob *) &blobs[3], .first = { 4, 5, NULL },
    .entries = entries, .n_entries = 2, .ports = ports, .n_ports = 2,
  };
  g_autoptr (GString) to = g_string_new (NULL);
  g_autoptr (GError) error = NULL;

  value_print (args_rows, G_N_ELEMENTS (args_rows), CELL_ROLE_IN, &args, &hooks, to, &error);
  g_assert_no_error (error);
  g_assert_cmpstr (to->str, ==,
                   "from: 18446744073709551615\n"
                   "amount: -5\n"
                   "rate: 0.1\n"
                   "memo: two\\nlines \\u001b]0;x\\u0007\\u202e\n"
                   "force: true\n"
                   "key: AP8=\n"
                   "picture: @3\n"
                   "first:\n"
                   "  id: 4\n"
                   "  amount: 5\n"
                   "  memo: \"\"\n"
                   "entries:\n"
                   "     id amount memo\n"
                   "      1    200 rent\n"
                   "  12345      3 a\\u001b[2Jb\\nc\n"
                   "ports: 80, 443\n"
                   "port: -\n");
  g_string_truncate (to, 0);
  value_print (args_rows, G_N_ELEMENTS (args_rows), CELL_ROLE_OUT, &(gint64) { 500 }, NULL, to, &error);
  g_assert_cmpstr (to->str, ==, "balance: 500\n");
}

static Table *
sample_table (void)
{
  static const char *const rows[][4] = {
    { "ledger", "12", "1.2 MB", "true" }, { "a long name for a cell \xc3\xa9\x1b[31m", "18446744073709551615", NULL, "false" },
  };
  Table *table = table_new ();

  table_add_column (table, "name", "NAME", TABLE_CUT);
  table_add_column (table, "calls", "CALLS", TABLE_NUMBER);
  table_add_column (table, "memory", "MEMORY", TABLE_RIGHT);
  table_add_column (table, "moving", "MOVING", TABLE_TYPED);
  g_assert_cmpuint (table_get_n_rows (table), ==, 0);
  table_add_row (table, rows[0]);
  table_set_json (table, "memory", json_node_init_int (json_node_alloc (), 1200000));
  table_add_row (table, rows[1]);
  g_assert_cmpuint (table_get_n_rows (table), ==, 2);
  return table;
}

static void
test_table (void)
{
  g_autoptr (Table) table = sample_table (), empty = table_new ();
  g_autoptr (JsonNode) node = table_to_json (table), none = table_to_json (empty);
  g_autofree char *wide = table_to_text (table, 0), *narrow = table_to_text (table, 50), *nothing = table_to_text (empty, 80);
  g_autofree char *json = json_write (node, FALSE), *json_none = json_write (none, FALSE);
  g_auto (GStrv) lines = g_strsplit (narrow, "\n", -1);

  g_assert_cmpstr (wide, ==,
                   "NAME                                              CALLS MEMORY MOVING\n"
                   "ledger                                               12 1.2 MB true\n"
                   "a long name for a cell \xc3\xa9\\u001b[31m 18446744073709551615      - false\n");
  g_assert_cmpuint (g_strv_length (lines), ==, 4);
  for (guint i = 0; i < 3; i++)
    g_assert_cmpint (g_utf8_strlen (lines[i], -1), <=, 50);
  g_assert_nonnull (strstr (narrow, "18446744073709551615"));
  g_assert_cmpstr (json, ==,
                   "[{\"name\":\"ledger\",\"calls\":12,\"memory\":1200000,\"moving\":true},"
                   "{\"name\":\"a long name for a cell \xc3\xa9\\u001b[31m\",\"calls\":\"18446744073709551615\",\"memory\":null,"
                   "\"moving\":false}]");
  g_assert_cmpstr (nothing, ==, "");
  g_assert_cmpstr (json_none, ==, "[]");
}

int
main (int argc, char **argv)
{
  setlocale (LC_ALL, "");
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/json/value/sentences", test_value_sentences);
  g_test_add_func ("/json/value/read", test_value_read);
  g_test_add_func ("/json/value/no-hooks", test_value_no_hooks);
  g_test_add_func ("/json/value/bomb", test_value_bomb);
  g_test_add_func ("/json/value/write", test_value_write);
  g_test_add_func ("/json/value/one-field", test_value_one_field);
  g_test_add_func ("/json/value/random", test_value_random);
  g_test_add_func ("/json/value/corrupt", test_value_corrupt);
  g_test_add_func ("/json/words/sentences", test_words_sentences);
  g_test_add_func ("/json/words/values", test_words_values);
  g_test_add_func ("/json/words/whole", test_words_whole);
  g_test_add_func ("/json/words/files", test_words_files);
  g_test_add_func ("/json/print", test_print);
  g_test_add_func ("/json/table", test_table);
  return g_test_run ();
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Contracts from what a compiler laid down: this file is a cell, and its tables are read, and spoilt; and the header that is
 * generated from them is compiled, as C and as C++, loaded, and read again.
 */
#include <cell/cell.h>
#include <cell/client.h>

#include <glib/gstdio.h>
#include <gmodule.h>
#include <string.h>

#include "plugins/client-header.h"

/* ---- a cell with one of everything ------------------------------------------------------------ */

typedef struct
{
  uint32_t limit;
} Sample;

CELL_STRUCT (Point, field (i16, x), field (f64, y, "upwards"))
CELL_STRUCT (Line, field (Point, from), field (Point, to), field (array (Point), via), field (optional (u8), width),
             field (str, name))
CELL_ERROR (Sample, Empty, "There is nothing \"in\" it")
CELL_ERROR (Sample, Full)
CELL_SIGNAL (Sample, changed, doc ("Something changed."), field (array (str), what), field (u8, how))
CELL_SIGNAL (Sample, ping)

CELL_METHOD (Sample, everything, in (bool, a), in (u8, b), in (i8, c), in (u16, d), in (i16, e), in (u32, f), in (i32, g),
             in (u64, h), in (i64, i), in (f64, j), in (str, k), in (bytes, l), in (blob, m), in (Line, n), in (array (Line), o),
             in (optional (bool), p), in (optional (Point), q), in (array (bytes), r), out (u8, last))
{
  return CELL_OK;
}

CELL_METHOD (Sample, draw, doc ("Draws lines,\nall of them."), in (array (Line), lines), out (blob, pixels, "RGBA"),
             fails (Full), fails (Empty), idempotent, timeout (100), max_reply (8192), access (operate))
{
  return CELL_OK;
}

CELL_METHOD (Sample, wake, oneway)
{
  return CELL_OK;
}

CELL_PROPERTY (Sample, origin, Point, "Where it is")
{
  return (Point) { 0, 0 };
}

CELL_WRITABLE (Sample, limit, u32)
{
  return self->limit;
}
CELL_SETTER (Sample, limit)
{
  self->limit = value;
  return CELL_OK;
}

CELL_SERVICE (Sample, "org.example.Sample", 3, .doc = "One of everything")

static const char sample_text[] =
  "interface org.example.Sample 3 \"One of everything\"\n"
  "struct Point { i16 x, f64 y \"upwards\" }\n"
  "struct Line { Point from, Point to, array (Point) via, optional (u8) width, str name }\n"
  "method draw (array (Line) lines) -> (blob pixels \"RGBA\") fails Empty fails Full idempotent access operate timeout 100 "
  "max_reply 8192 \"Draws lines,\\nall of them.\"\n"
  "method everything (bool a, u8 b, i8 c, u16 d, i16 e, u32 f, i32 g, u64 h, i64 i, f64 j, str k, bytes l, blob m, Line n, "
  "array (Line) o, optional (bool) p, optional (Point) q, array (bytes) r) -> (u8 last)\n"
  "method wake () -> () oneway\n"
  "property limit u32 writable\n"
  "property origin Point \"Where it is\"\n"
  "signal changed (array (str) what, u8 how) \"Something changed.\"\n"
  "signal ping ()\n"
  "error Empty \"There is nothing \\\"in\\\" it\"\n"
  "error Full\n";

static Contract *
read_entry (const CellEntry *entry)
{
  g_autoptr (GError) error = NULL;
  Contract *contract = contract_new_from_entry (entry, &error);

  g_assert_no_error (error);
  return contract;
}

static Contract *
parse (const char *text)
{
  g_autoptr (GError) error = NULL;
  Contract *contract = contract_new_from_text (text, -1, &error);

  g_assert_no_error (error);
  return contract;
}

static void
assert_same_rows (const CellField *a, const CellField *b, guint n)
{
  for (guint i = 0; i < n; i++)
    {
      g_assert_cmpstr (a[i].name, ==, b[i].name);
      g_assert_cmpuint (a[i].offset, ==, b[i].offset);
      if (a[i].shape != CELL_SHAPE_PLAIN)
        g_assert_cmpuint (a[i].extra, ==, b[i].extra);
      g_assert_cmpuint (a[i].type->size, ==, b[i].type->size);
      g_assert_cmpuint (a[i].type->align, ==, b[i].type->align);
      if (a[i].type->kind == CELL_KIND_STRUCT)
        assert_same_rows (a[i].type->fields, b[i].type->fields, a[i].type->n_fields);
    }
}

/* The layout that is computed from text is the compiler's. */
static void
test_cell (void)
{
  g_autoptr (Contract) contract = read_entry (&cell_entry), parsed = parse (sample_text);
  g_autofree char *text = contract_to_text (contract, TRUE);
  const ContractCallable *everything = contract_find (contract, "everything");

  g_assert_cmpstr (text, ==, sample_text);
  g_assert_cmpuint (contract->fingerprint, ==, parsed->fingerprint);
  g_assert_cmpuint (everything->in_size, ==, sizeof (Sample_everything_in));
  g_assert_cmpuint (everything->in[17].offset, ==, offsetof (Sample_everything_in, r));
  g_assert_cmpuint (everything->in[16].extra, ==, offsetof (Sample_everything_in, has_q));
  g_assert_true (everything->item->invoke == Sample_everything_invoke);
  g_assert_true (contract_find (contract, "=limit")->item->set == Sample_limit_write);
  g_assert_true (contract_find_signal_of (contract, &Sample_ping_signal) == contract_find_signal (contract, "ping"));
  g_assert_null (contract_find_signal_of (contract, &cell_error_Full));
  for (guint i = 0; i < contract->n_callables; i++)
    {
      const ContractCallable *a = &contract->callables[i], *b = &parsed->callables[i];

      g_assert_cmpuint (a->fingerprint, ==, b->fingerprint);
      g_assert_cmpuint (a->in_size, ==, b->in_size);
      g_assert_cmpuint (a->out_size, ==, b->out_size);
      assert_same_rows (a->in, b->in, a->n_in);
      assert_same_rows (a->out, b->out, a->n_out);
    }
}

/* ---- spoilt tables ---------------------------------------------------------------------------- */

typedef struct
{
  CellField rows[4];
  CellField members[4];
  CellType type;
  CellItem item, other;
  const CellItem *items[4];
  CellEntry entry;
} Tables;

/* struct S { u8 a, u64 b }, method m (S s, array (S) t) -> () */
static void
sound_tables (Tables *t)
{
  memset (t, 0, sizeof *t);
  t->members[0] = (CellField) { .name = "a", .doc = "", .type = &cell_desc_u8, .role = CELL_ROLE_FIELD };
  t->members[1] = (CellField) { .name = "b", .doc = "", .type = &cell_desc_u64, .offset = 8, .role = CELL_ROLE_FIELD };
  t->type = (CellType) { "S", CELL_KIND_STRUCT, 8, 2, 16, t->members };
  t->rows[0] = (CellField) { .name = "s", .doc = "", .type = &t->type, .role = CELL_ROLE_IN };
  t->rows[1] = (CellField) { .name = "t", .doc = "", .type = &t->type, .offset = 16, .extra = 24, .shape = CELL_SHAPE_ARRAY,
                             .role = CELL_ROLE_IN };
  t->item = (CellItem) { sizeof (CellItem), CELL_ITEM_METHOD, 0, 2, 32, 0, "T", "m", "", t->rows, NULL, Sample_wake_invoke, NULL };
  t->other = t->item;
  t->other.name = "n";
  t->items[0] = &t->item;
  t->items[2] = &t->other;      /* a hole, as a sanitizer might leave one */
  t->entry = cell_entry;
  t->entry.items = t->items;
  t->entry.items_end = t->items + 3;
}

static void spoil_nothing (Tables *t) { (void) t; }
static void spoil_interface (Tables *t) { t->entry.interface = "Sample"; }
static void spoil_strides (Tables *t) { t->entry.field_size = 8; }
static void spoil_item_size (Tables *t) { t->item.size = 16; }
static void spoil_kind (Tables *t) { t->item.kind = 9; }
static void spoil_expander (Tables *t) { t->item.kind = CELL_ITEM_EXPANDER; }
static void spoil_name (Tables *t) { t->item.name = "a b"; }
static void spoil_no_name (Tables *t) { t->item.name = NULL; }
static void spoil_handler (Tables *t) { t->item.invoke = NULL; }
static void spoil_rows (Tables *t) { t->item.fields = NULL; }
static void spoil_twice (Tables *t) { t->other.name = "m"; }
static void spoil_offset (Tables *t) { t->rows[1].offset = 8; }
static void spoil_extra (Tables *t) { t->rows[1].extra = 28; }
static void spoil_in_size (Tables *t) { t->item.in_size = 40; }
static void spoil_out_size (Tables *t) { t->item.out_size = 1; }
static void spoil_member (Tables *t) { t->members[1].offset = 4; }
static void spoil_type_size (Tables *t) { t->type.size = 24; }
static void spoil_type_none (Tables *t) { t->rows[0].type = NULL; }
static void spoil_type_kind (Tables *t) { t->type.kind = 77; }
static void spoil_shape (Tables *t) { t->rows[0].shape = 3; }
static void spoil_role (Tables *t) { t->members[0].role = CELL_ROLE_OUT; }
static void spoil_recursion (Tables *t) { t->members[1].type = &t->type; }
static void spoil_doc (Tables *t) { t->item.doc = "\xff"; }
static void spoil_attribute (Tables *t) { t->rows[1].role = CELL_ROLE_ATTRIBUTE, t->rows[1].attribute = 99, t->item.in_size = 16; }
static void spoil_error (Tables *t) { t->rows[1].role = CELL_ROLE_FAILS, t->item.in_size = t->other.in_size = 16; }

static void
spoil_property (Tables *t)
{
  t->item.kind = CELL_ITEM_PROPERTY;
  t->item.n_fields = 0;
  t->item.type = &cell_desc_u64;
  t->item.out_size = 4;
}

static void
spoil_property_type (Tables *t)
{
  spoil_property (t);
  t->item.type = NULL;
}

static const struct
{
  void (*spoil) (Tables *tables);
  const char *message;
} spoilt[] = {
  { spoil_nothing, NULL },
  { spoil_interface, "an interface's name has two parts or more, such as org.example.Ledger" },
  { spoil_strides, "its tables have rows of 8 and types of 24 bytes, which is too few" },
  { spoil_item_size, "an item has 16 bytes, which is too few" },
  { spoil_kind, "there is an item of kind 9, which this host does not know" },
  { spoil_expander, "there is an item of kind 5, which this host does not know" },
  { spoil_name, "the method cannot be called 'a b': letters, digits and _ only" },
  { spoil_no_name, "the method cannot be called '': letters, digits and _ only" },
  { spoil_handler, "method m has no handler" },
  { spoil_rows, "method m: a table of 2 fields is missing" },
  { spoil_twice, "there are two of method m" },
  { spoil_offset, "method m: t lies at byte 8, and byte 16 was computed" },
  { spoil_extra, "method m: the count or presence of t lies at byte 28, and byte 24 was computed" },
  { spoil_in_size, "method m has 40 bytes, and 32 were computed" },
  { spoil_out_size, "method m has 1 bytes, and 0 were computed" },
  { spoil_member, "method m: struct S: b lies at byte 4, and byte 8 was computed" },
  { spoil_type_size, "method m: struct S has 24 bytes, and 16 were computed" },
  { spoil_type_none, "method m: the field s has no type" },
  { spoil_type_kind, "method m: the type S (kind 77, 16 bytes) is not one that this host knows" },
  { spoil_shape, "method m: the field s has shape 3, which this host does not know" },
  { spoil_role, "method m: struct S: b lies at byte 8, and byte 0 was computed" },
  { spoil_recursion, "method m: struct S is nested deeper than 15" },
  { spoil_doc, "the documentation of method m is not UTF-8" },
  { spoil_attribute, "method m has the attribute 99, which this host does not know" },
  { spoil_error, "method m fails with t, which is not declared" },
  { spoil_property, "property m is read as 4 and written as 32 bytes, and its type has 8" },
  { spoil_property_type, "property m has no type" },
};

static void
test_spoilt (void)
{
  for (size_t i = 0; i < G_N_ELEMENTS (spoilt); i++)
    {
      Tables tables;
      g_autoptr (GError) error = NULL;
      g_autoptr (Contract) contract = NULL;

      sound_tables (&tables);
      spoilt[i].spoil (&tables);
      contract = contract_new_from_entry (&tables.entry, &error);
      g_assert_cmpstr (error != NULL ? error->message : NULL, ==, spoilt[i].message);
      g_assert_cmpint (contract == NULL, ==, error != NULL);
      if (error != NULL)
        g_assert_error (error, CELL_ERROR_DOMAIN, -CELL_ERROR_REFUSED);
    }
}

/* A later ABI has longer rows and items; an earlier one had shorter items. */
static void
test_strides (void)
{
  struct { CellField row; char more[24]; } rows[2];
  struct { CellItem item; char more[16]; } item;
  const CellItem *items[2];
  Tables tables;
  g_autoptr (Contract) contract = NULL;

  sound_tables (&tables);
  memset (rows, 0xff, sizeof rows);
  memset (&item, 0xff, sizeof item);
  rows[0].row = (CellField) { .name = "a", .doc = "", .type = &cell_desc_u8, .role = CELL_ROLE_FIELD };
  rows[1].row = (CellField) { .name = "b", .doc = "", .type = &cell_desc_u8, .offset = 1, .role = CELL_ROLE_FIELD };
  item.item = Sample_changed_signal;
  item.item.size = sizeof item;
  item.item.fields = &rows[0].row;
  item.item.n_fields = 2;
  item.item.in_size = 2;
  tables.other = Sample_ping_signal;
  tables.other.size = offsetof (CellItem, invoke);
  items[0] = &item.item;
  items[1] = &tables.other;
  tables.entry.field_size = sizeof rows[0];
  tables.entry.items = items;
  tables.entry.items_end = items + 2;
  contract = read_entry (&tables.entry);
  g_assert_cmpuint (contract_find_signal (contract, "changed")->n_args, ==, 2);
  g_assert_nonnull (contract_find_signal (contract, "ping"));
}

/* ---- the generated header --------------------------------------------------------------------- */

static const char wild_text[] =
  "interface org.example.OrderBook 2 \"Ends */ here? /* no *\\\\/ ?\?/ \\n#error not on a line of its own\"\n"
  "struct Order { u64 id \"*/ ?\?/ ?\?= \\\" \\\\\", str note \"ü \\n\\t\\x01\\x7f \xe2\x80\xae reversed\" }\n"
  "struct Fill { Order order, array (Order) others }\n"
  "method order (Order order) -> (u64 id, Order order) fails TooLate job \"A method called like a struct. */ int x; /*\"\n"
  "method cancel (u64 id, optional (str) why) -> () oneway timeout 7 \"\\\\\"\n"
  "method fill (array (Fill) fills) -> (bool klass) idempotent\n"
  "method no_thing () -> () job idempotent\n"
  "property best Order writable \"?\?\?/\"\n"
  "property open bool\n"
  "signal cancel (u64 id) \"A signal called like a method\"\n"
  "signal tick ()\n"
  "error TooLate \"*/ #include \\\"/etc/passwd\\\"\\n/* ?\?/\"\n";

static const char empty_text[] = "interface org.example.Nothing 0\n";

static char *directory;         /* holds what the tests compile; removed at the end */

static void
write_file (const char *name, const char *text)
{
  g_autofree char *path = g_build_filename (directory, name, NULL);
  g_autoptr (GError) error = NULL;

  g_file_set_contents (path, text, -1, &error);
  g_assert_no_error (error);
}

/* Runs a compiler in the directory. */
static void
compile (const char *command)
{
  const char *tests = g_getenv ("G_TEST_SRCDIR");
  g_autofree char *root = tests != NULL ? g_path_get_dirname (tests) : g_get_current_dir ();
  g_autofree char *line = g_strdup_printf ("%s -Wall -Wextra -Wpedantic -Werror -fPIC -I %s/include", command, root);
  g_auto (GStrv) argv = NULL;
  g_autofree char *output = NULL;
  g_autoptr (GError) error = NULL;
  int status;

  g_assert_true (g_shell_parse_argv (line, NULL, &argv, &error));
  g_spawn_sync (directory, argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, &output, &status, &error);
  g_assert_no_error (error);
  if (!g_spawn_check_wait_status (status, NULL))
    g_test_message ("%s", output);
  g_assert_cmpint (status, ==, 0);
}

/* The table of the header, out of a module that was compiled with it. */
static const CellRemote *
load_remote (const char *module_name)
{
  g_autofree char *path = g_build_filename (directory, module_name, NULL);
  GModule *module = g_module_open (path, G_MODULE_BIND_LOCAL);
  gpointer symbol = NULL;

  if (module == NULL)
    g_error ("%s", g_module_error ());
  g_assert_true (g_module_symbol (module, "remote", &symbol));
  g_module_make_resident (module);
  return *(const CellRemote *const *) symbol;
}

/* What a header knows is what it was written from, apart from errors, access and reply sizes. */
static void
check_remote (const CellRemote *remote, const Contract *contract)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (Contract) known = contract_new_from_remote (remote, &error);

  g_assert_no_error (error);
  g_assert_cmpuint (known->fingerprint, ==, contract->fingerprint);
  g_assert_cmpstr (known->interface, ==, contract->interface);
  g_assert_cmpuint (known->version, ==, contract->version);
  g_assert_cmpuint (known->n_callables, ==, contract->n_callables);
  g_assert_cmpuint (known->n_signals, ==, contract->n_signals);
  for (guint i = 0; i < contract->n_callables; i++)
    {
      const ContractCallable *a = &known->callables[i], *b = &contract->callables[i];

      g_assert_cmpstr (remote->methods[i].name, ==, b->name);
      g_assert_cmpstr (a->name, ==, b->name);
      g_assert_cmpuint (a->fingerprint, ==, b->fingerprint);
      g_assert_cmpuint (a->flags, ==, b->flags);
      g_assert_cmpuint (a->timeout, ==, b->timeout);
      ((ContractCallable *) a)->fingerprint++;          /* so that the rows themselves are compared */
    }
  for (guint i = 0; i < contract->n_signals; i++)
    {
      g_assert_cmpstr (remote->signals[i].name, ==, contract->signals[i].name);
      g_assert_cmpuint (known->signals[i].fingerprint, ==, contract->signals[i].fingerprint);
      ((ContractSignal *) &known->signals[i])->fingerprint++;
    }
  contract_compatible (contract, known, &error);
  g_assert_no_error (error);
  contract_compatible (known, contract, &error);
  g_assert_no_error (error);
}

static void
check_header (const Contract *contract, gboolean is_cxx)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *header = client_header_new (contract, &error), *user = NULL;
  g_autofree char *command = NULL, *module_name = NULL;
  static int serial;

  g_assert_no_error (error);
  user = g_strdup_printf ("#include \"remote.h\"\n#include \"remote.h\"\n%s const CellRemote *const remote;\n"
                          "const CellRemote *const remote = &cell_remote_%s;\n",
                          is_cxx ? "extern \"C\"" : "extern", contract->service);
  write_file ("remote.h", header);
  write_file (is_cxx ? "user.cc" : "user.c", user);
  module_name = g_strdup_printf ("user-%d.so", serial++);
  command = is_cxx ? g_strdup_printf ("c++ -std=gnu++20 -shared -o %s user.cc", module_name)
                   : g_strdup_printf ("cc -std=gnu11 -shared -o %s user.c", module_name);
  compile (command);
  check_remote (load_remote (module_name), contract);
}

static void
test_header (gconstpointer is_cxx)
{
  g_autoptr (Contract) sample = read_entry (&cell_entry), wild = parse (wild_text), empty = parse (empty_text);

  check_header (sample, is_cxx != NULL);
  check_header (empty, is_cxx != NULL);
  check_header (wild, is_cxx != NULL);
}

/* Every function that a header declares is used as its comment says. */
static void
test_header_used (void)
{
  g_autoptr (Contract) sample = read_entry (&cell_entry);
  g_autofree char *header = client_header_new (sample, NULL);

  write_file ("remote.h", header);
  write_file ("used.c",
              "#include \"remote.h\"\n"
              "static void on_draw (const SampleDraw *reply, void *data) { (void) reply, (void) data; }\n"
              "static void on_changed (const SampleChanged *args, uint64_t missed, void *data)\n"
              "{ (void) args->n_what, (void) missed, (void) data; }\n"
              "int use (CellClient *c);\n"
              "int use (CellClient *c)\n"
              "{\n"
              "  SampleLine lines[] = { { .from = { .x = 1 }, .name = \"one\" } };\n"
              "  cell_auto SampleDraw a = sample_draw (c, .lines = lines, .n_lines = 1);\n"
              "  SampleDrawCall call = sample_draw_start (c, .lines = lines, .n_lines = 1);\n"
              "  cell_auto SampleDraw b = sample_draw_finish (call);\n"
              "  cell_auto SampleWake w = sample_wake (c);\n"
              "  cell_auto SampleGetLimit limit = sample_get_limit (c);\n"
              "  cell_auto SampleSetLimit set = sample_set_limit (c, limit.value + 1);\n"
              "  cell_auto SampleGetOrigin origin = sample_get_origin (c);\n"
              "  sample_draw_async (c, on_draw, NULL, .lines = lines, .n_lines = 1);\n"
              "  sample_on_changed (c, on_changed, NULL);\n"
              "  sample_off_changed (c);\n"
              "  return cell_is_error (&a.result, Sample_Empty) + (b.pixels != NULL) + w.result.status + set.result.status\n"
              "         + origin.value.x;\n"
              "}\n");
  compile ("cc -std=gnu11 -O2 -c used.c");
}

/* The same again for the same contract, and escaped documentation. */
static void
test_header_text (void)
{
  g_autoptr (Contract) wild = parse (wild_text);
  g_autofree char *header = client_header_new (wild, NULL), *again = client_header_new (wild, NULL);

  g_assert_cmpstr (header, ==, again);
  g_assert_nonnull (
    strstr (header, "/* Ends * / here? / * no *\\/ ? ?/ #error not on a line of its own */\n#ifndef CELL_REMOTE_ORDER_BOOK_H\n"));
  g_assert_nonnull (strstr (header, "field (u64, id, \"*/ ?\\?/ ?\\?= \\\" \\\\\")"));
  g_assert_nonnull (strstr (header, "\"ü \\n\\011\\001\\177 \\342\\200\\256 reversed\""));
  g_assert_nonnull (strstr (header, "/* * / #include \"/etc/passwd\" / * ? ?/ */\n"));
  g_assert_nonnull (strstr (header, "CELL_STRUCT (OrderBookOrderStruct,\n"));
  g_assert_nonnull (strstr (header, "CELL_STUBS (order_book, order, OrderBookOrder, 3)\n"));
  g_assert_nonnull (strstr (header, "CELL_STRUCT (OrderBookCancelSignal,\n"));
  g_assert_nonnull (strstr (header, "CELL_FLAG_IDEMPOTENT | CELL_FLAG_JOB)"));
}

static const char *const collisions[][2] = {
  { "method get_x () -> () property x u8", "method get_x and property x would both be called sample_get_x in C" },
  { "method a () -> () method a_start () -> ()", "method a and method a_start would both be called sample_a_start in C" },
  { "method a_b () -> () method aB () -> ()", "method aB and method a_b would both be called SampleAB in C" },
  { "method on_x () -> () signal x ()", "method on_x and signal x would both be called sample_on_x in C" },
  { "struct A { u8 x } struct AStruct { u8 x } method a (A x, AStruct y) -> () method a_struct () -> ()",
    "method a_struct and struct A would both be called SampleAStruct in C" },
};

static void
test_header_collisions (void)
{
  for (size_t i = 0; i < G_N_ELEMENTS (collisions); i++)
    {
      g_autofree char *text = g_strconcat ("interface a.Sample 1 ", collisions[i][0], NULL);
      g_autofree char *message = g_strconcat ("a header of a.Sample cannot be written: ", collisions[i][1], NULL);
      g_autoptr (Contract) contract = parse (text);
      g_autoptr (GError) error = NULL;

      g_assert_null (client_header_new (contract, &error));
      g_assert_error (error, CELL_ERROR_DOMAIN, -CELL_ERROR_INVALID);
      g_assert_cmpstr (error->message, ==, message);
    }
}

static void
remove_directory (void)
{
  g_autoptr (GDir) dir = g_dir_open (directory, 0, NULL);
  const char *name;

  while (dir != NULL && (name = g_dir_read_name (dir)) != NULL)
    {
      g_autofree char *path = g_build_filename (directory, name, NULL);
      g_unlink (path);
    }
  g_rmdir (directory);
}

int
main (int argc, char **argv)
{
  int status;

  g_test_init (&argc, &argv, NULL);
  directory = g_dir_make_tmp ("cellhost-contract-XXXXXX", NULL);
  g_assert_nonnull (directory);
  g_test_add_func ("/contract/tables/cell", test_cell);
  g_test_add_func ("/contract/tables/spoilt", test_spoilt);
  g_test_add_func ("/contract/tables/strides", test_strides);
  g_test_add_data_func ("/contract/header/c", NULL, test_header);
  g_test_add_data_func ("/contract/header/cxx", "c++", test_header);
  g_test_add_func ("/contract/header/used", test_header_used);
  g_test_add_func ("/contract/header/text", test_header_text);
  g_test_add_func ("/contract/header/collisions", test_header_collisions);
  status = g_test_run ();
  remove_directory ();
  g_free (directory);
  return status;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the macros of the SDK write down, looked at as a host does: built modules, through cell_entry alone.
 */
#include <dlfcn.h>
#include <glib.h>

#include "ledger-remote.h"

const CellRemote *remote_in_cxx (void);

/* ---- the smallest host: no extension, and it remembers what it was told ------------------------------ */

struct CellCall
{
  CellStatus status;
  const CellItem *error;
  char message[256];
  GPtrArray *memory;
};

static struct
{
  const CellItem *signal;
  guint n_signals, n_logs;
} seen;

static const void *
host_get_extension (const char *id G_GNUC_UNUSED)
{
  return NULL;
}

static void *
host_alloc (CellCall *call, size_t size)
{
  void *memory = g_malloc0 (MAX (size, 1));
  g_ptr_array_add (call->memory, memory);
  return memory;
}

static CellStatus G_GNUC_PRINTF (3, 4)
host_fail (CellCall *call, const CellItem *error, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_vsnprintf (call->message, sizeof call->message, format, args);
  va_end (args);
  call->error = error;
  return call->status = CELL_ERROR_FAILED;
}

static CellStatus G_GNUC_PRINTF (3, 4)
host_fail_status (CellCall *call, CellStatus status, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_vsnprintf (call->message, sizeof call->message, format, args);
  va_end (args);
  return call->status = status;
}

static const char * G_GNUC_PRINTF (2, 3)
host_print (CellCall *call, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  char *text = g_strdup_vprintf (format, args);
  va_end (args);
  g_ptr_array_add (call->memory, text);
  return text;
}

static void
host_emit (void *self G_GNUC_UNUSED, const CellItem *signal, const void *args)
{
  g_assert_nonnull (args);
  seen.signal = signal;
  seen.n_signals++;
}

static void G_GNUC_PRINTF (3, 4)
host_log (void *self G_GNUC_UNUSED, int32_t level, const char *format, ...)
{
  g_assert_cmpint (level, >=, CELL_LOG_DEBUG);
  g_assert_cmpint (level, <=, CELL_LOG_ERROR);
  g_assert_nonnull (format);
  seen.n_logs++;
}

static const CellHost host =
{
  sizeof (CellHost), CELL_ABI_MAJOR, CELL_ABI_MINOR, host_get_extension, host_alloc, host_fail, host_fail_status, host_print,
  host_emit, host_log
};

static void
call_clear (CellCall *call)
{
  g_ptr_array_unref (call->memory);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (CellCall, call_clear)
#define NEW_CALL { .memory = g_ptr_array_new_with_free_func (g_free) }

/* ---- modules ----------------------------------------------------------------------------------------- */

static const CellEntry *
open_module (const char *path)
{
  void *module = dlopen (path, RTLD_NOW | RTLD_LOCAL);          /* resident: a test's process is its lifetime */
  if (!module)
    g_error ("%s: %s", path, dlerror ());
  const CellEntry *entry = dlsym (module, CELL_ENTRY_SYMBOL);
  g_assert_nonnull (entry);
  *entry->host = &host;
  return entry;
}

static const CellEntry *
open_fixture (const char *name)
{
  g_autofree char *path = g_strdup_printf ("%s/%s.so", g_getenv ("SDK_MODULES"), name);
  return open_module (path);
}

static const CellItem *
find_item (const CellEntry *entry, int kind, const char *name)
{
  for (const CellItem *const *item = entry->items; item < entry->items_end; item++)
    if ((*item)->kind == kind && strcmp ((*item)->name, name) == 0)
      return *item;
  g_error ("%s has no item %s", entry->interface, name);
}

static const CellField *
find_row (const CellField *rows, uint16_t n, int role, const char *name)
{
  for (uint16_t i = 0; i < n; i++)
    if (rows[i].role == role && strcmp (rows[i].name, name) == 0)
      return &rows[i];
  g_error ("no row %s", name);
}

static void *
new_instance (const CellEntry *entry)
{
  void *self = g_aligned_alloc0 (1, entry->self_size, 16);
  if (entry->construct)
    g_assert_cmpint (entry->construct (self), ==, CELL_OK);
  if (entry->options->init)
    g_assert_cmpint (entry->options->init (self), ==, CELL_OK);
  return self;
}

static void
free_instance (const CellEntry *entry, void *self)
{
  if (entry->options->fini)
    entry->options->fini (self);
  if (entry->destruct)
    entry->destruct (self);
  g_aligned_free (self);
}

/* ---- what holds for the tables of every cell ------------------------------------------------------------ */

static void check_struct (const CellType *type);

/* One row's members lie inside the struct, are aligned, and lie behind those of the row before. */
static void
check_member (const CellField *row, uint32_t size, uint32_t *end)
{
  uint32_t at = row->offset, last = row->offset + row->type->size;
  g_assert_nonnull (row->type);
  g_assert_cmpuint (row->type->align, >, 0);
  if (row->type->kind == CELL_KIND_STRUCT)
    check_struct (row->type);
  if (row->shape == CELL_SHAPE_ARRAY)
    {
      g_assert_cmpuint (at % 8, ==, 0);
      g_assert_cmpuint (row->extra, ==, at + 8);
      last = at + 16;
    }
  else
    g_assert_cmpuint (at % row->type->align, ==, 0);
  if (row->shape == CELL_SHAPE_OPTIONAL)
    {
      g_assert_cmpuint (row->extra, ==, last);
      last++;
    }
  g_assert_cmpuint (at, >=, *end);
  g_assert_cmpuint (last, <=, size);
  *end = last;
}

static void
check_struct (const CellType *type)
{
  uint32_t end = 0;
  g_assert_cmpuint (type->n_fields, >, 0);
  for (uint16_t i = 0; i < type->n_fields; i++)
    {
      g_assert_cmpuint (type->fields[i].role, ==, CELL_ROLE_FIELD);
      check_member (&type->fields[i], type->size, &end);
    }
  g_assert_cmpuint (type->size - end, <, type->align);
}

static void
check_rows (const CellItem *item)
{
  uint32_t end[CELL_ROLE_OUT + 1] = { 0 };
  for (uint16_t i = 0; i < item->n_fields; i++)
    {
      const CellField *row = &item->fields[i];
      g_assert_nonnull (row->name);
      g_assert_nonnull (row->doc);
      if (row->role == CELL_ROLE_DOC)
        g_assert_cmpstr (row->doc, !=, "");
      else if (row->role == CELL_ROLE_FAILS)
        g_assert_cmpstr (row->error->name, ==, row->name);
      else if (row->role == CELL_ROLE_ATTRIBUTE)
        g_assert_cmpuint (row->attribute, >, 0);
      else
        check_member (row, row->role == CELL_ROLE_OUT ? item->out_size : item->in_size, &end[row->role]);
    }
  if (item->kind == CELL_ITEM_METHOD)
    g_assert_cmpint (item->in_size > 0, ==, end[CELL_ROLE_IN] > 0);
  if (item->kind == CELL_ITEM_METHOD)
    g_assert_cmpint (item->out_size > 0, ==, end[CELL_ROLE_OUT] > 0);
}

static void
test_tables (gconstpointer path)
{
  const CellEntry *entry = open_module (path);
  uint32_t known = CELL_BUILD_POINTER_64 | CELL_BUILD_ADDRESS_SANITIZER | CELL_BUILD_THREAD_SANITIZER | CELL_BUILD_CXX;
  g_assert_cmphex (entry->magic, ==, CELL_ABI_MAGIC);
  g_assert_cmpuint (entry->size, ==, sizeof (CellEntry));
  g_assert_cmpuint (entry->abi_major, ==, CELL_ABI_MAJOR);
  g_assert_cmpuint (entry->abi_minor, ==, CELL_ABI_MINOR);
  g_assert_cmphex (entry->build & ~known, ==, 0);
  g_assert_cmphex (entry->build & CELL_BUILD_POINTER_64, !=, 0);
  g_assert_cmpint (!!(entry->build & CELL_BUILD_CXX), ==, entry->construct != NULL);
  g_assert_cmpint (entry->construct != NULL, ==, entry->destruct != NULL);
  g_assert_cmpuint (entry->type_size, ==, sizeof (CellType));
  g_assert_cmpuint (entry->field_size, ==, sizeof (CellField));
  g_assert_cmpuint (entry->options_size, ==, sizeof (CellOptions));
  g_assert_true (g_str_has_suffix (entry->interface, entry->owner));
  g_assert_true (entry->items < entry->items_end);
  for (const CellItem *const *item = entry->items; item < entry->items_end; item++)
    {
      g_assert_cmpuint ((*item)->size, ==, sizeof (CellItem));
      g_assert_cmpstr ((*item)->owner, ==, entry->owner);
      g_assert_cmpint ((*item)->invoke != NULL, ==, (*item)->kind == CELL_ITEM_METHOD || (*item)->kind == CELL_ITEM_PROPERTY);
      check_rows (*item);
    }
}

/* ---- a cell that uses everything -------------------------------------------------------------------------- */

/* What the compiler makes of the rows, written out by hand. */
typedef struct { int32_t x, y; } HandPoint;
typedef struct
{
  bool flag;
  uint64_t number;
  uint8_t small;
  HandPoint point;
  const HandPoint *points; uint32_t n_points, points_stride;
  uint32_t maybe; bool has_maybe;
  const char *text;
  HandPoint maybe_point; bool has_maybe_point;
  const char *const *texts; uint32_t n_texts, texts_stride;
} HandMixed;
typedef struct
{
  bool in_bool;
  uint8_t in_u8;
  int8_t in_i8;
  uint16_t in_u16;
  int16_t in_i16;
  uint32_t in_u32;
  int32_t in_i32;
  uint64_t in_u64;
  int64_t in_i64;
  double in_f64;
  const char *in_str;
  CellBytes in_bytes;
  CellBlob *in_blob;
  HandMixed in_struct;
  const uint8_t *in_array; uint32_t n_in_array, in_array_stride;
  bool in_optional, has_in_optional;
  CellBlob *const *in_blobs; uint32_t n_in_blobs, in_blobs_stride;
  const HandMixed *in_structs; uint32_t n_in_structs, in_structs_stride;
  uint8_t in_last;
} HandIn;
typedef struct
{
  uint8_t out_u8;
  const HandMixed *out_structs; uint32_t n_out_structs, out_structs_stride;
  const char *out_optional; bool has_out_optional;
  CellBlob *out_blob;
  CellBytes out_bytes;
  bool out_last;
} HandOut;

typedef struct
{
  const char *name;
  uint32_t offset, extra;
  uint8_t role, shape, kind;
} Expected;
#define PLAIN(S, role, n, kind) { #n, offsetof (S, n), 0, role, CELL_SHAPE_PLAIN, kind }
#define ARRAY(S, role, n, kind) { #n, offsetof (S, n), offsetof (S, n_##n), role, CELL_SHAPE_ARRAY, kind }
#define OPTIONAL(S, role, n, kind) { #n, offsetof (S, n), offsetof (S, has_##n), role, CELL_SHAPE_OPTIONAL, kind }

static void
check_expected (const CellField *rows, uint16_t n_rows, const Expected *expected, guint n)
{
  for (guint i = 0; i < n; i++)
    {
      const CellField *row = find_row (rows, n_rows, expected[i].role, expected[i].name);
      g_test_message ("%s", row->name);
      g_assert_cmpuint (row->offset, ==, expected[i].offset);
      g_assert_cmpuint (row->extra, ==, expected[i].extra);
      g_assert_cmpuint (row->shape, ==, expected[i].shape);
      g_assert_cmpuint (row->type->kind, ==, expected[i].kind);
    }
}

static void
test_layout (void)
{
  const CellItem *method = find_item (open_fixture ("every"), CELL_ITEM_METHOD, "everything");
  const Expected rows[] = {
    PLAIN (HandIn, CELL_ROLE_IN, in_bool, CELL_KIND_BOOL), PLAIN (HandIn, CELL_ROLE_IN, in_u8, CELL_KIND_UINT),
    PLAIN (HandIn, CELL_ROLE_IN, in_i8, CELL_KIND_INT), PLAIN (HandIn, CELL_ROLE_IN, in_u16, CELL_KIND_UINT),
    PLAIN (HandIn, CELL_ROLE_IN, in_i16, CELL_KIND_INT), PLAIN (HandIn, CELL_ROLE_IN, in_u32, CELL_KIND_UINT),
    PLAIN (HandIn, CELL_ROLE_IN, in_i32, CELL_KIND_INT), PLAIN (HandIn, CELL_ROLE_IN, in_u64, CELL_KIND_UINT),
    PLAIN (HandIn, CELL_ROLE_IN, in_i64, CELL_KIND_INT), PLAIN (HandIn, CELL_ROLE_IN, in_f64, CELL_KIND_FLOAT),
    PLAIN (HandIn, CELL_ROLE_IN, in_str, CELL_KIND_STR), PLAIN (HandIn, CELL_ROLE_IN, in_bytes, CELL_KIND_BYTES),
    PLAIN (HandIn, CELL_ROLE_IN, in_blob, CELL_KIND_BLOB), PLAIN (HandIn, CELL_ROLE_IN, in_struct, CELL_KIND_STRUCT),
    ARRAY (HandIn, CELL_ROLE_IN, in_array, CELL_KIND_UINT), OPTIONAL (HandIn, CELL_ROLE_IN, in_optional, CELL_KIND_BOOL),
    ARRAY (HandIn, CELL_ROLE_IN, in_blobs, CELL_KIND_BLOB), ARRAY (HandIn, CELL_ROLE_IN, in_structs, CELL_KIND_STRUCT),
    PLAIN (HandIn, CELL_ROLE_IN, in_last, CELL_KIND_UINT),
    PLAIN (HandOut, CELL_ROLE_OUT, out_u8, CELL_KIND_UINT), ARRAY (HandOut, CELL_ROLE_OUT, out_structs, CELL_KIND_STRUCT),
    OPTIONAL (HandOut, CELL_ROLE_OUT, out_optional, CELL_KIND_STR), PLAIN (HandOut, CELL_ROLE_OUT, out_blob, CELL_KIND_BLOB),
    PLAIN (HandOut, CELL_ROLE_OUT, out_bytes, CELL_KIND_BYTES), PLAIN (HandOut, CELL_ROLE_OUT, out_last, CELL_KIND_BOOL),
  };
  const Expected mixed[] = {
    PLAIN (HandMixed, CELL_ROLE_FIELD, flag, CELL_KIND_BOOL), PLAIN (HandMixed, CELL_ROLE_FIELD, number, CELL_KIND_UINT),
    PLAIN (HandMixed, CELL_ROLE_FIELD, small, CELL_KIND_UINT), PLAIN (HandMixed, CELL_ROLE_FIELD, point, CELL_KIND_STRUCT),
    ARRAY (HandMixed, CELL_ROLE_FIELD, points, CELL_KIND_STRUCT), OPTIONAL (HandMixed, CELL_ROLE_FIELD, maybe, CELL_KIND_UINT),
    PLAIN (HandMixed, CELL_ROLE_FIELD, text, CELL_KIND_STR), OPTIONAL (HandMixed, CELL_ROLE_FIELD, maybe_point, CELL_KIND_STRUCT),
    ARRAY (HandMixed, CELL_ROLE_FIELD, texts, CELL_KIND_STR),
  };
  const CellType *type = find_row (method->fields, method->n_fields, CELL_ROLE_IN, "in_struct")->type;

  check_expected (method->fields, method->n_fields, rows, G_N_ELEMENTS (rows));
  g_assert_cmpuint (method->n_fields, ==, G_N_ELEMENTS (rows) + 3);           /* doc and two errors */
  g_assert_cmpuint (method->in_size, ==, sizeof (HandIn));
  g_assert_cmpuint (method->out_size, ==, sizeof (HandOut));
  check_expected (type->fields, type->n_fields, mixed, G_N_ELEMENTS (mixed));
  g_assert_cmpuint (type->n_fields, ==, G_N_ELEMENTS (mixed));
  g_assert_cmpuint (type->size, ==, sizeof (HandMixed));
  g_assert_cmpstr (type->name, ==, "Mixed");
  g_assert_cmpstr (find_row (method->fields, method->n_fields, CELL_ROLE_IN, "in_structs")->doc, ==, "documented");
  g_assert_cmpstr (find_row (method->fields, method->n_fields, CELL_ROLE_IN, "in_last")->doc, ==, "");
}

static void
test_handler (void)
{
  const CellEntry *entry = open_fixture ("every");
  g_auto (CellCall) call = NEW_CALL;
  const HandMixed mixed[] = { { .number = 1, .text = "one" }, { .number = 2, .text = "two" } };
  HandIn in = { .in_bool = true, .in_u8 = 8, .in_str = "text", .in_bytes = { "bytes", 5, 0 }, .in_structs = mixed,
                .n_in_structs = 2 };
  HandOut out = { 0 };
  void *self = new_instance (entry);

  g_assert_cmpint (find_item (entry, CELL_ITEM_METHOD, "everything")->invoke (self, &call, &in, &out), ==, CELL_OK);
  g_assert_cmpuint (out.out_u8, ==, 8);
  g_assert_cmpuint (out.n_out_structs, ==, 2);
  g_assert_cmpstr (out.out_structs[1].text, ==, "two");
  g_assert_true (out.has_out_optional);
  g_assert_cmpstr (out.out_optional, ==, "text");
  g_assert_cmpuint (out.out_bytes.size, ==, 5);
  g_assert_true (out.out_last);
  free_instance (entry, self);
}

static void
test_attributes (void)
{
  const CellItem *method = find_item (open_fixture ("every"), CELL_ITEM_METHOD, "attributes");
  const struct { const char *name; uint8_t attribute; uint32_t value; } expected[] = {
    { "idempotent", CELL_ATTRIBUTE_IDEMPOTENT, 1 }, { "oneway", CELL_ATTRIBUTE_ONEWAY, 1 }, { "job", CELL_ATTRIBUTE_JOB, 1 },
    { "access", CELL_ATTRIBUTE_ACCESS, CELL_ACCESS_ADMIN }, { "timeout", CELL_ATTRIBUTE_TIMEOUT, 30000 },
    { "max_reply", CELL_ATTRIBUTE_MAX_REPLY, 65536 },
  };
  g_assert_cmpuint (method->n_fields, ==, G_N_ELEMENTS (expected));
  for (guint i = 0; i < G_N_ELEMENTS (expected); i++)
    {
      const CellField *row = find_row (method->fields, method->n_fields, CELL_ROLE_ATTRIBUTE, expected[i].name);
      g_assert_cmpuint (row->attribute, ==, expected[i].attribute);
      g_assert_cmpuint (row->value, ==, expected[i].value);
    }
  g_assert_cmpuint (method->in_size, ==, 0);
  g_assert_cmpuint (method->out_size, ==, 0);
}

/* What a shared header declares is published by each file, but is one object. */
static void
test_files (void)
{
  const CellEntry *entry = open_fixture ("every");
  const CellItem *elsewhere = find_item (entry, CELL_ITEM_METHOD, "elsewhere"),
                 *shared = find_item (entry, CELL_ITEM_ERROR, "Shared");
  g_auto (CellCall) call = NEW_CALL;
  HandPoint to = { -5, 0 };
  guint n = 0;
  for (const CellItem *const *item = entry->items; item < entry->items_end; item++)
    if (strcmp ((*item)->name, "Shared") == 0)
      {
        g_assert_true (*item == shared);
        n++;
      }
  g_assert_cmpuint (n, ==, 2);
  g_assert_cmpint (elsewhere->invoke (NULL, &call, &to, NULL), ==, CELL_ERROR_FAILED);
  g_assert_true (call.error == shared);
  g_assert_cmpstr (call.message, ==, "-5 is to the left");
  to.x = 5;
  g_assert_cmpint (elsewhere->invoke (NULL, &call, &to, NULL), ==, CELL_OK);
  g_assert_true (seen.signal == find_item (entry, CELL_ITEM_SIGNAL, "moved"));
  g_assert_cmpuint (find_item (entry, CELL_ITEM_SIGNAL, "nothing")->in_size, ==, 0);
}

static void
test_properties (void)
{
  const CellEntry *entry = open_fixture ("every");
  const CellItem *fixed = find_item (entry, CELL_ITEM_PROPERTY, "fixed"), *limit = find_item (entry, CELL_ITEM_PROPERTY, "limit");
  g_auto (CellCall) call = NEW_CALL;
  void *self = new_instance (entry);
  const char *text = NULL;
  uint32_t number = 0;

  g_assert_null (fixed->set);
  g_assert_cmpuint (fixed->in_size, ==, 0);
  g_assert_cmpuint (fixed->out_size, ==, sizeof text);
  g_assert_cmpuint (fixed->type->kind, ==, CELL_KIND_STR);
  g_assert_cmpstr (fixed->doc, ==, "Never changes");
  g_assert_cmpint (fixed->invoke (self, &call, NULL, &text), ==, CELL_OK);
  g_assert_cmpstr (text, ==, "fixed");

  g_assert_cmpuint (limit->in_size, ==, sizeof number);
  g_assert_cmpint (limit->invoke (self, &call, NULL, &number), ==, CELL_OK);
  g_assert_cmpuint (number, ==, 10);
  number = 99;
  g_assert_cmpint (limit->set (self, &call, &number, NULL), ==, CELL_OK);
  number = 101;
  g_assert_cmpint (limit->set (self, &call, &number, NULL), ==, CELL_ERROR_FAILED);
  g_assert_cmpint (limit->invoke (self, &call, NULL, &number), ==, CELL_OK);
  g_assert_cmpuint (number, ==, 99);
  free_instance (entry, self);
}

static void
test_options (void)
{
  const CellOptions *options = open_fixture ("every")->options;
  g_assert_cmpstr (options->doc, ==, "Everything");
  g_assert_cmpuint (options->threading, ==, CELL_CONCURRENT);
  g_assert_cmpuint (options->state_version, ==, 7);
  g_assert_nonnull (options->save);
  g_assert_nonnull (options->restore);
  g_assert_cmpint (options->save (&(uint64_t[2]) { 0 }, NULL), ==, CELL_ERROR_UNSUPPORTED);
}

/* Where the host has no extensions, each wrapper says so and nothing else happens. */
static void
test_absent (void)
{
  const CellEntry *entry = open_fixture ("every");
  g_auto (CellCall) call = NEW_CALL;
  struct { uint64_t deferred; bool resumed, blob; int64_t number; int32_t saved; bool restored; int32_t called; int64_t balance;
           const char *message; } out;
  void *self = new_instance (entry);
  memset (&out, 0x5a, sizeof out);
  g_assert_cmpuint (find_item (entry, CELL_ITEM_METHOD, "extensions")->out_size, ==, sizeof out);
  g_assert_cmpint (find_item (entry, CELL_ITEM_METHOD, "extensions")->invoke (self, &call, NULL, &out), ==, CELL_OK);
  g_assert_cmpuint (out.deferred, ==, 0);
  g_assert_cmpint (call.status, ==, CELL_ERROR_UNSUPPORTED);
  g_assert_false (out.resumed);
  g_assert_false (out.blob);
  g_assert_cmpint (out.number, ==, 42);
  g_assert_cmpint (out.saved, ==, CELL_ERROR_UNSUPPORTED);
  g_assert_false (out.restored);
  g_assert_cmpint (out.called, ==, CELL_ERROR_UNSUPPORTED);
  g_assert_cmpint (out.balance, ==, 0);
  g_assert_cmpstr (out.message, ==, "this host lets no cell call another");
  g_assert_cmpint (find_item (entry, CELL_ITEM_METHOD, "later")->invoke (self, &call, &(const char *) { "" },
                                                                         &(const char *) { NULL }),
                   ==, CELL_ERROR_UNSUPPORTED);
  free_instance (entry, self);
}

/* ---- C++ ------------------------------------------------------------------------------------------------- */

static void
test_exceptions (void)
{
  const CellEntry *entry = open_fixture ("thrower");
  const CellItem *raise = find_item (entry, CELL_ITEM_METHOD, "raise"), *text = find_item (entry, CELL_ITEM_PROPERTY, "text");
  const struct { CellStatus status; const char *message; } expected[] = {
    { CELL_ERROR_INVALID, "not acceptable" }, { CELL_ERROR_INVALID, "too far" }, { CELL_ERROR_NO_RESOURCES, "out of memory" },
    { CELL_ERROR_FAILED, "broken" }, { CELL_ERROR_FAILED, "an exception that is not a std::exception" },
    { CELL_ERROR_FAILED, "said so" },
  };
  struct { const char *key; int64_t value; bool has_value; } const *pairs;
  struct { const char *text; const void *pairs; uint32_t n_pairs, stride; } out = { 0 };
  void *self = new_instance (entry);
  guint n_logs;

  for (uint8_t what = 0; what < G_N_ELEMENTS (expected); what++)
    {
      g_auto (CellCall) call = NEW_CALL;
      g_assert_cmpint (raise->invoke (self, &call, &what, &out), ==, expected[what].status);
      g_assert_cmpstr (call.message, ==, expected[what].message);
    }
  g_auto (CellCall) call = NEW_CALL;
  g_assert_cmpuint (raise->out_size, ==, sizeof out);
  g_assert_cmpint (raise->invoke (self, &call, &(uint8_t) { 100 }, &out), ==, CELL_OK);
  g_assert_cmpstr (out.text, ==, "constructed");
  g_assert_cmpuint (out.n_pairs, ==, 2);
  pairs = out.pairs;
  g_assert_false (pairs[0].has_value);
  g_assert_cmpint (pairs[1].value, ==, 2);
  g_assert_cmpint (text->set (self, &call, &(const char *) { "" }, NULL), ==, CELL_ERROR_INVALID);
  g_assert_cmpint (text->set (self, &call, &(const char *) { "set" }, NULL), ==, CELL_OK);
  n_logs = seen.n_logs;
  g_assert_cmpint (entry->options->save (self, NULL), ==, CELL_ERROR_FAILED);
  g_assert_cmpuint (seen.n_logs, ==, n_logs + 1);
  free_instance (entry, self);          /* its fini throws */
  g_assert_cmpuint (seen.n_logs, ==, n_logs + 2);
}

static void
test_object (void)
{
  const CellEntry *entry = open_fixture ("thrower");
  const CellItem *watch = find_item (entry, CELL_ITEM_METHOD, "watch");
  g_auto (CellCall) call = NEW_CALL;
  bool destroyed = false;
  int64_t balance = 1;
  void *self = new_instance (entry);
  g_assert_cmphex (entry->build & CELL_BUILD_CXX, !=, 0);
  g_assert_cmpuint (watch->out_size, ==, 0);                    /* an empty class has a size in C++, but no outputs */
  g_assert_cmpint (watch->invoke (self, &call, &(uint64_t) { (uintptr_t) &destroyed }, NULL), ==, CELL_OK);
  g_assert_cmpint (find_item (entry, CELL_ITEM_METHOD, "call_ledger")->invoke (self, &call, NULL, &balance), ==,
                   CELL_ERROR_UNSUPPORTED);
  g_assert_cmpint (balance, ==, 0);
  free_instance (entry, self);
  g_assert_true (destroyed);
}

/* ---- generated headers ------------------------------------------------------------------------------------- */

/* The two see the same members at the same places; rows: the cell's, of which `role` counts. */
static void
check_same (const CellType *type, const CellField *rows, uint16_t n_rows, int role)
{
  uint16_t n = 0;
  for (uint16_t i = 0; i < n_rows; i++)
    if (rows[i].role == role)
      {
        const CellField *mine = &type->fields[n++];
        g_assert_cmpuint (n, <=, type->n_fields);
        g_assert_cmpstr (mine->name, ==, rows[i].name);
        g_assert_cmpstr (mine->doc, ==, rows[i].doc);
        g_assert_cmpuint (mine->offset, ==, rows[i].offset);
        g_assert_cmpuint (mine->extra, ==, rows[i].extra);
        g_assert_cmpuint (mine->shape, ==, rows[i].shape);
        g_assert_cmpuint (mine->type->kind, ==, rows[i].type->kind);
        g_assert_cmpuint (mine->type->size, ==, rows[i].type->size);
        if (mine->type->kind == CELL_KIND_STRUCT)
          check_same (mine->type, rows[i].type->fields, rows[i].type->n_fields, CELL_ROLE_FIELD);
      }
  g_assert_cmpuint (n, ==, type->n_fields);
}

static void
check_remote (const CellRemote *remote, const CellEntry *entry)
{
  g_assert_cmpuint (remote->size, ==, sizeof (CellRemote));
  g_assert_cmpstr (remote->interface, ==, entry->interface);
  g_assert_cmpuint (remote->n_methods, ==, 9);
  g_assert_cmpuint (remote->n_signals, ==, 1);
  for (uint16_t i = 0; i < remote->n_methods; i++)
    {
      const CellRemoteMethod *method = &remote->methods[i];
      g_test_message ("%s", method->name);
      if (method->name[0] == '@' || method->name[0] == '=')
        {
          const CellItem *item = find_item (entry, CELL_ITEM_PROPERTY, method->name + 1);
          const CellType *value = method->name[0] == '@' ? method->reply : method->args;
          g_assert_cmpuint (method->args->n_fields + method->reply->n_fields, ==, 1);
          g_assert_cmpuint (value->fields[0].offset, ==, 0);
          g_assert_cmpuint (value->fields[0].type->kind, ==, item->type->kind);
          g_assert_true (method->name[0] == '@' || item->set);
        }
      else
        {
          const CellItem *item = find_item (entry, CELL_ITEM_METHOD, method->name);
          check_same (method->args, item->fields, item->n_fields, CELL_ROLE_IN);
          check_same (method->reply, item->fields, item->n_fields, CELL_ROLE_OUT);
          g_assert_cmpuint (method->args->size, ==, item->in_size);
          g_assert_cmpuint (method->reply->size, >=, item->out_size);
        }
    }
  const CellItem *signal = find_item (entry, CELL_ITEM_SIGNAL, remote->signals[0].name);
  check_same (remote->signals[0].args, signal->fields, signal->n_fields, CELL_ROLE_FIELD);
}

/* The model of a generated header describes the example that it was written for, in C and in C++. */
static void
test_remote (gconstpointer path)
{
  const CellEntry *entry = open_module (path);
  check_remote (&cell_remote_Ledger, entry);
  check_remote (remote_in_cxx (), entry);
}

/* A client that notes what the stubs ask of it and answers with what it is given. */
typedef struct
{
  CellClient client;
  uint32_t number;
  const void *args;
  LedgerTransferArgs transfer;
  guint n_freed;
} Probe;

static void
probe_release (void *memory)
{
  ((Probe *) memory)->n_freed++;
}

static void
probe_call (CellClient *client, uint32_t method, const void *args, CellResult *reply)
{
  Probe *probe = (Probe *) client;
  const CellType *type = cell_remote_Ledger.methods[method].reply;
  probe->number = method;
  probe->args = args;
  if (strcmp (cell_remote_Ledger.methods[method].name, "transfer") == 0)
    probe->transfer = *(const LedgerTransferArgs *) args;
  *reply = (CellResult) { .memory = probe, .release = probe_release };
  memset (reply + 1, 0, type->size);
  if (type->n_fields > 0 && type->fields[0].type->size == 8)
    memcpy ((char *) (reply + 1) + type->fields[0].offset, &(uint64_t) { 1000 + method }, 8);
}

static CellPending
probe_start (CellClient *client, uint32_t method, const void *args, CellDone done, void *data)
{
  LedgerTransfer reply;
  if (done)
    {
      g_assert_cmpstr (cell_remote_Ledger.methods[method].name, ==, "transfer");
      probe_call (client, method, args, &reply.result);
      done (&reply.result, data);
    }
  return (CellPending) { client, method };
}

static void
probe_finish (CellPending pending, CellResult *reply)
{
  probe_call (pending.client, (uint32_t) pending.id, NULL, reply);
}

static CellStatus
probe_subscribe (CellClient *client G_GNUC_UNUSED, uint32_t number, CellOnSignal on_signal, void *data)
{
  const LedgerTransferred args = { .from = 1, .to = 2, .amount = 3 };
  g_assert_cmpstr (cell_remote_Ledger.signals[number].name, ==, "transferred");
  on_signal (&args, 4, data);
  return CELL_OK;
}

static const CellClientApi probe_api =
{
  .size = sizeof (CellClientApi), .call = probe_call, .start = probe_start, .finish = probe_finish, .subscribe = probe_subscribe
};

static void
on_done (const LedgerTransfer *reply, void *data)
{
  *(int64_t *) data = reply->balance;
}

static void
on_transferred (const LedgerTransferred *args, uint64_t missed, void *data)
{
  *(int64_t *) data = args->amount * 10 + (int64_t) missed;
}

static const char *
called (const Probe *probe)
{
  return cell_remote_Ledger.methods[probe->number].name;
}

static void
test_stubs (void)
{
  Probe probe = { .client = { &probe_api } };
  CellClient *ledger = &probe.client;
  int64_t seen_there = 0;
  {
    cell_auto LedgerTransfer t = ledger_transfer (ledger, .from = 1, .to = 2, .amount = 500);
    g_assert_cmpstr (called (&probe), ==, "transfer");
    g_assert_cmpint (t.balance, ==, 1000 + probe.number);
    g_assert_cmpuint (probe.transfer.to, ==, 2);
    g_assert_cmpint (probe.transfer.amount, ==, 500);
    g_assert_null (probe.transfer.memo);
    cell_auto LedgerTransfer u = ledger_transfer (ledger, 3, 4, 5, "in order");
    g_assert_cmpstr (probe.transfer.memo, ==, "in order");
    g_assert_cmpint (u.result.status, ==, CELL_OK);
    cell_reply_free (&u);
    g_assert_cmpuint (probe.n_freed, ==, 1);
  }
  g_assert_cmpuint (probe.n_freed, ==, 2);

  ledger_reset (ledger);
  g_assert_cmpstr (called (&probe), ==, "reset");
  ledger_balance (ledger, .account = 1);
  g_assert_cmpstr (called (&probe), ==, "balance");
  ledger_history (ledger, .account = 1, .page = { .count = 5 });
  g_assert_cmpstr (called (&probe), ==, "history");
  ledger_import (ledger, .dry_run = true);
  g_assert_cmpstr (called (&probe), ==, "import");
  ledger_post (ledger);
  g_assert_cmpstr (called (&probe), ==, "post");
  g_assert_cmpint (ledger_get_total (ledger).value, ==, 1000 + probe.number);
  g_assert_cmpstr (called (&probe), ==, "@total");
  ledger_get_overdraft (ledger);
  g_assert_cmpstr (called (&probe), ==, "@overdraft");
  ledger_set_overdraft (ledger, 7);
  g_assert_cmpstr (called (&probe), ==, "=overdraft");

  LedgerTransferCall started = ledger_transfer_start (ledger, .from = 9);
  g_assert_cmpint (ledger_history_finish ((LedgerHistoryCall) { ledger_history_start (ledger).pending }).result.status, ==,
                   CELL_OK);
  g_assert_cmpstr (called (&probe), ==, "history");
  g_assert_true (started.pending.client == ledger);
  ledger_transfer_async (ledger, on_done, &seen_there, .from = 1);
  g_assert_cmpint (seen_there, ==, 1000 + probe.number);
  g_assert_cmpint (ledger_on_transferred (ledger, on_transferred, &seen_there), ==, CELL_OK);
  g_assert_cmpint (seen_there, ==, 34);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  for (int i = 1; i < argc; i++)
    {
      g_autofree char *name = g_path_get_basename (argv[i]), *path = g_strdup_printf ("/sdk/tables/%s", name);
      g_test_add_data_func (path, argv[i], test_tables);
      if (strcmp (name, "ledger.so") == 0)
        g_test_add_data_func ("/sdk/remote", argv[i], test_remote);
    }
  g_test_add_func ("/sdk/layout", test_layout);
  g_test_add_func ("/sdk/handler", test_handler);
  g_test_add_func ("/sdk/attributes", test_attributes);
  g_test_add_func ("/sdk/files", test_files);
  g_test_add_func ("/sdk/properties", test_properties);
  g_test_add_func ("/sdk/options", test_options);
  g_test_add_func ("/sdk/absent", test_absent);
  g_test_add_func ("/sdk/exceptions", test_exceptions);
  g_test_add_func ("/sdk/object", test_object);
  g_test_add_func ("/sdk/stubs", test_stubs);
  return g_test_run ();
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "random-types.h"

#define DEPTH 3
#define BLOBS 4

static CellBlob blobs[BLOBS];

void
maker_init (Maker *maker, guint32 seed)
{
  *maker = (Maker) { .rand = g_rand_new_with_seed (seed), .pieces = g_ptr_array_new_with_free_func (g_free), .poison = 0xa5 };
}

void
maker_clear (Maker *maker)
{
  g_rand_free (maker->rand);
  g_ptr_array_unref (maker->pieces);
}

static guint32
below (Maker *maker, guint32 n)
{
  return (guint32) g_rand_int_range (maker->rand, 0, (gint32) n);
}

/* Memory for a piece: of its own, so that a sanitizer sees its end, or in the payload. */
static void *
piece (Maker *maker, gsize size)
{
  gsize whole = (size + 7) & ~(gsize) 7;
  uint8_t *p;

  if (maker->built != NULL && below (maker, 3) != 0 && whole <= (gsize) (maker->built_end - maker->built_at))
    {
      p = maker->built_at;
      maker->built_at += whole;
      memset (p, 0, whole);
      return p;
    }
  p = g_malloc (size);
  g_ptr_array_add (maker->pieces, p);
  return p;
}

/* ---- tables ----------------------------------------------------------------------------------- */

static const CellType scalars[] = {
  { "bool", CELL_KIND_BOOL, 1, 0, 1, NULL }, { "u8", CELL_KIND_UINT, 1, 0, 1, NULL },   { "i8", CELL_KIND_INT, 1, 0, 1, NULL },
  { "u16", CELL_KIND_UINT, 2, 0, 2, NULL },  { "i16", CELL_KIND_INT, 2, 0, 2, NULL },   { "u32", CELL_KIND_UINT, 4, 0, 4, NULL },
  { "i32", CELL_KIND_INT, 4, 0, 4, NULL },   { "u64", CELL_KIND_UINT, 8, 0, 8, NULL },  { "i64", CELL_KIND_INT, 8, 0, 8, NULL },
  { "f64", CELL_KIND_FLOAT, 8, 0, 8, NULL }, { "str", CELL_KIND_STR, 8, 0, 8, NULL }, { "bytes", CELL_KIND_BYTES, 8, 0, 16, NULL },
  { "str", CELL_KIND_STR, 8, 0, 8, NULL },   { "blob", CELL_KIND_BLOB, 8, 0, 8, NULL },
};

static const CellType *
random_type (Maker *maker, unsigned depth)
{
  Layout layout;

  if (depth >= DEPTH || below (maker, 3) != 0)
    return &scalars[below (maker, G_N_ELEMENTS (scalars) - (maker->no_blobs ? 1 : 0))];
  layout_make (maker, &layout, 5, depth + 1);
  return layout_to_type (maker, &layout);
}

static uint32_t
aligned (uint32_t at, uint32_t align)
{
  return (at + align - 1) & ~(align - 1);
}

void
layout_append (Maker *maker, Layout *layout, unsigned depth)
{
  const CellType *type = random_type (maker, depth);
  uint8_t shape = (uint8_t) below (maker, 4);
  char *name = g_strdup_printf ("m%u", layout->n);
  uint32_t align;
  CellField *row = &layout->rows[layout->n++];

  g_assert_cmpuint (layout->n, <=, G_N_ELEMENTS (layout->rows));
  if (shape > CELL_SHAPE_OPTIONAL)
    shape = CELL_SHAPE_PLAIN;
  align = shape == CELL_SHAPE_ARRAY ? 8 : type->align;
  g_ptr_array_add (maker->pieces, name);
  *row = (CellField) { .name = name, .doc = "", .type = type, .shape = shape, .role = CELL_ROLE_FIELD };
  row->offset = aligned (layout->size, align);
  layout->align = MAX (layout->align, align);
  layout->size = row->offset + (shape == CELL_SHAPE_ARRAY ? 16 : type->size);
  if (shape == CELL_SHAPE_ARRAY)
    row->extra = row->offset + 8;
  if (shape == CELL_SHAPE_OPTIONAL)
    row->extra = layout->size++;
}

void
layout_end (Layout *layout)
{
  layout->size = aligned (layout->size, layout->align);
}

void
layout_make (Maker *maker, Layout *layout, unsigned most, unsigned depth)
{
  unsigned n = 1 + below (maker, most);

  *layout = (Layout) { .align = 1 };
  for (unsigned i = 0; i < n; i++)
    layout_append (maker, layout, depth);
  layout_end (layout);
}

const CellType *
layout_to_type (Maker *maker, const Layout *layout)
{
  CellType *type = g_new (CellType, 1);
  CellField *rows = g_memdup2 (layout->rows, sizeof layout->rows);

  g_ptr_array_add (maker->pieces, type);
  g_ptr_array_add (maker->pieces, rows);
  *type = (CellType) { "Struct", CELL_KIND_STRUCT, (uint8_t) layout->align, (uint16_t) layout->n, layout->size, rows };
  return type;
}

/* ---- values ----------------------------------------------------------------------------------- */

static const char *
random_text (Maker *maker)
{
  static const char *const parts[] = { "a", "plain text ", "\x7f", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf",
                                       "\xef\xbf\xbd", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf", "longer than a word of eight " };
  char text[256] = "";
  char *copy;
  guint32 kind = below (maker, 8);

  if (kind == 0)
    return NULL;
  if (kind == 1 && maker->last != NULL)
    return maker->last;
  for (guint32 i = below (maker, 6); i > 0; i--)
    g_strlcat (text, parts[below (maker, G_N_ELEMENTS (parts))], sizeof text);
  copy = piece (maker, strlen (text) + 1);
  memcpy (copy, text, strlen (text) + 1);
  maker->last = copy;
  return copy;
}

static void
make_scalar (Maker *maker, const CellType *type, uint8_t *to)
{
  const char *text;
  CellBytes bytes = { NULL, 0, 0 };
  CellBlob *blob;

  switch (type->kind)
    {
    case CELL_KIND_BOOL:
      *to = (uint8_t) below (maker, 2);
      break;
    case CELL_KIND_STR:
      text = random_text (maker);
      memcpy (to, &text, 8);
      break;
    case CELL_KIND_BYTES:
      bytes.size = below (maker, 2) == 0 ? 0 : below (maker, 40);
      if (bytes.size > 0)
        memset ((void *) (bytes.data = piece (maker, bytes.size)), (int) below (maker, 256), bytes.size);
      memcpy (to, &bytes, sizeof bytes);
      break;
    case CELL_KIND_BLOB:
      blob = below (maker, 2) == 0 ? NULL : &blobs[below (maker, BLOBS)];
      memcpy (to, &blob, 8);
      break;
    default:
      for (uint32_t i = 0; i < type->size; i++)
        to[i] = (uint8_t) below (maker, 256);
    }
}

static void
make_value (Maker *maker, const CellType *type, uint8_t *to)
{
  if (type->kind == CELL_KIND_STRUCT)
    value_make (maker, type->fields, type->n_fields, type->size, to);
  else
    make_scalar (maker, type, to);
}

static void
make_array (Maker *maker, const CellField *row, uint8_t *to)
{
  uint32_t count = below (maker, 3) == 0 ? 0 : below (maker, 6);
  uint8_t *data = count > 0 ? piece (maker, (gsize) count * row->type->size) : NULL;

  for (uint32_t i = 0; i < count; i++)
    make_value (maker, row->type, data + (gsize) i * row->type->size);
  memcpy (to + row->offset, &data, 8);
  memcpy (to + row->extra, &count, 4);
}

void
value_make (Maker *maker, const CellField *rows, unsigned n, uint32_t size, void *to)
{
  uint8_t *at = to;

  memset (to, maker->poison, size);
  for (unsigned i = 0; i < n; i++)
    {
      const CellField *row = &rows[i];

      if (row->shape == CELL_SHAPE_ARRAY)
        make_array (maker, row, at);
      else if (row->shape == CELL_SHAPE_OPTIONAL)
        {
          at[row->extra] = below (maker, 2) != 0;
          if (at[row->extra])
            make_value (maker, row->type, at + row->offset);
        }
      else
        make_value (maker, row->type, at + row->offset);
    }
}

/* ---- what must hold --------------------------------------------------------------------------- */

static void
assert_zero (const uint8_t *p, gsize n)
{
  for (gsize i = 0; i < n; i++)
    g_assert_cmpuint (p[i], ==, 0);
}

static void
assert_same (const CellType *type, const uint8_t *a, const uint8_t *b)
{
  const char *s, *t;
  CellBytes x, y;

  switch (type->kind)
    {
    case CELL_KIND_STRUCT:
      value_assert_equal (type->fields, type->n_fields, a, b);
      break;
    case CELL_KIND_STR:
      memcpy (&s, a, 8);
      memcpy (&t, b, 8);
      g_assert_cmpstr (s != NULL ? s : "", ==, t);
      break;
    case CELL_KIND_BYTES:
      memcpy (&x, a, sizeof x);
      memcpy (&y, b, sizeof y);
      g_assert_cmpmem (x.data, x.size, y.data, y.size);
      g_assert_cmpuint (y.reserved_, ==, 0);
      g_assert_true (y.size > 0 || y.data == NULL);
      break;
    default:
      g_assert_cmpmem (a, type->size, b, type->size);
    }
}

static void
assert_same_array (const CellField *row, const uint8_t *a, const uint8_t *b)
{
  const uint8_t *x, *y;
  uint32_t n, m, stride;

  memcpy (&x, a + row->offset, 8);
  memcpy (&y, b + row->offset, 8);
  memcpy (&n, a + row->extra, 4);
  memcpy (&m, b + row->extra, 4);
  memcpy (&stride, b + row->extra + 4, 4);
  g_assert_cmpuint (n, ==, m);
  g_assert_cmpuint (stride, ==, 0);
  g_assert_true (m > 0 || y == NULL);
  for (uint32_t i = 0; i < n; i++)
    assert_same (row->type, x + (gsize) i * row->type->size, y + (gsize) i * row->type->size);
}

void
value_assert_equal (const CellField *rows, unsigned n, const void *left, const void *right)
{
  const uint8_t *a = left, *b = right;

  for (unsigned i = 0; i < n; i++)
    {
      const CellField *row = &rows[i];

      if (row->shape == CELL_SHAPE_ARRAY)
        {
          assert_same_array (row, a, b);
          continue;
        }
      if (row->shape == CELL_SHAPE_OPTIONAL)
        {
          g_assert_cmpuint (a[row->extra], ==, b[row->extra]);
          if (!a[row->extra])
            {
              assert_zero (b + row->offset, row->type->size);
              continue;
            }
        }
      assert_same (row->type, a + row->offset, b + row->offset);
    }
}

static guint64
sum_of (const uint8_t *p, gsize n)
{
  guint64 sum = 0;

  for (gsize i = 0; i < n; i++)
    sum = sum * 31 + p[i];
  return sum;
}

static guint64
assert_sound (const CellType *type, const uint8_t *at)
{
  const char *s;
  CellBytes bytes;
  CellBlob *blob;

  g_assert_cmpuint ((guintptr) at % type->align, ==, 0);
  switch (type->kind)
    {
    case CELL_KIND_STRUCT:
      return value_assert_sound (type->fields, type->n_fields, at);
    case CELL_KIND_BOOL:
      g_assert_cmpuint (*at, <=, 1);
      return *at;
    case CELL_KIND_STR:
      memcpy (&s, at, 8);
      g_assert_true (g_utf8_validate (s, -1, NULL));
      return sum_of ((const uint8_t *) s, strlen (s));
    case CELL_KIND_BYTES:
      memcpy (&bytes, at, sizeof bytes);
      g_assert_true ((bytes.size == 0) == (bytes.data == NULL));
      return sum_of (bytes.data, bytes.size);
    case CELL_KIND_BLOB:
      memcpy (&blob, at, 8);
      g_assert_true (blob == NULL || (blob >= blobs && blob < blobs + BLOBS));
      return blob != NULL;
    default:
      return sum_of (at, type->size);
    }
}

guint64
value_assert_sound (const CellField *rows, unsigned n, const void *value)
{
  const uint8_t *at = value, *data;
  guint64 sum = 0;
  uint32_t count;

  for (unsigned i = 0; i < n; i++)
    {
      const CellField *row = &rows[i];

      if (row->shape == CELL_SHAPE_ARRAY)
        {
          memcpy (&data, at + row->offset, 8);
          memcpy (&count, at + row->extra, 4);
          g_assert_true ((count == 0) == (data == NULL));
          for (uint32_t k = 0; k < count; k++)
            sum += assert_sound (row->type, data + (gsize) k * row->type->size);
          continue;
        }
      if (row->shape == CELL_SHAPE_OPTIONAL)
        {
          g_assert_cmpuint (at[row->extra], <=, 1);
          if (!at[row->extra])
            {
              assert_zero (at + row->offset, row->type->size);
              continue;
            }
        }
      sum += assert_sound (row->type, at + row->offset);
    }
  return sum;
}

uint64_t
test_blob_export (void *data, CellBlob *blob)
{
  (void) data;
  g_assert_true (blob >= blobs && blob < blobs + BLOBS);
  return 100 + (uint64_t) (blob - blobs);
}

CellBlob *
test_blob_import (void *data, uint64_t id)
{
  (void) data;
  return id >= 100 && id < 100 + BLOBS ? &blobs[id - 100] : NULL;
}

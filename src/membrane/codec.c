/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "codec.h"

#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 16
#define STEPS_MAX 4096
#define SIZE_MAX_STRUCT (1u << 20)

enum
{
  STEP_GAP,                     /* offset, size: bytes between members */
  STEP_BOOL,
  STEP_OPTIONAL,                /* offset, size of the value; extra: presence; skip: steps of the value */
  STEP_STR,
  STEP_BYTES,
  STEP_BLOB,
  STEP_ARRAY                    /* extra: of the count */
};

struct CodecStep
{
  uint8_t op;
  uint16_t skip;
  uint32_t offset, extra, size;
  CodecPlan *element;
  const char *field;
};

/* What stands in the place of a pointer. */
typedef struct
{
  uint32_t offset, length;
} Reference;

/* ---- compiling tables ---------------------------------------------------------------------------- */

typedef struct
{
  CodecPlan *plan;
  uint32_t capacity;
  unsigned *total;              /* steps of the whole tree */
  const char *why;
} Builder;

static bool
refuse (Builder *b, const char *why)
{
  b->why = why;
  return false;
}

static CodecStep *
add_step (Builder *b, uint8_t op, uint32_t offset, const char *field)
{
  CodecPlan *plan = b->plan;

  if (++*b->total > STEPS_MAX)
    {
      b->why = "the type has too many parts";
      return NULL;
    }
  if (plan->n_steps == b->capacity)
    {
      uint32_t capacity = b->capacity == 0 ? 8 : b->capacity * 2;
      CodecStep *steps = realloc (plan->steps, capacity * sizeof *steps);

      if (steps == NULL)
        {
          b->why = "no memory for a type";
          return NULL;
        }
      plan->steps = steps;
      b->capacity = capacity;
    }
  plan->steps[plan->n_steps] = (CodecStep) { .op = op, .offset = offset, .field = field };
  return &plan->steps[plan->n_steps++];
}

static bool
add_gap (Builder *b, uint32_t from, uint32_t to)
{
  CodecStep *step;

  if (from == to)
    return true;
  step = add_step (b, STEP_GAP, from, "");
  if (step == NULL)
    return false;
  step->size = to - from;
  b->plan->trivial = false;
  return true;
}

static bool add_fields (Builder *b, const CellField *rows, uint32_t n, int role, uint32_t base, uint32_t size, unsigned depth);

static bool
type_is_sound (const CellType *type)
{
  static const uint8_t sizes[] = { [CELL_KIND_BOOL] = 1, [CELL_KIND_FLOAT] = 8, [CELL_KIND_STR] = 8, [CELL_KIND_BYTES] = 16, [CELL_KIND_BLOB] = 8 };

  if (type == NULL || type->name == NULL || type->align == 0 || type->align > 8 || (type->align & (type->align - 1)) != 0)
    return false;
  switch (type->kind)
    {
    case CELL_KIND_UINT:
    case CELL_KIND_INT:
      return (type->size == 1 || type->size == 2 || type->size == 4 || type->size == 8) && type->align == type->size;
    case CELL_KIND_STRUCT:
      return type->size > 0 && type->size <= SIZE_MAX_STRUCT && type->size % type->align == 0 && (type->fields != NULL || type->n_fields == 0);
    case CELL_KIND_BYTES:
      return type->size == 16 && type->align == 8;
    case CELL_KIND_BOOL:
    case CELL_KIND_FLOAT:
    case CELL_KIND_STR:
    case CELL_KIND_BLOB:
      return type->size == sizes[type->kind] && type->align == type->size;
    default:
      return false;
    }
}

/* One value at an offset: its steps. */
static bool
add_value (Builder *b, const CellType *type, uint32_t offset, const char *field, unsigned depth)
{
  switch (type->kind)
    {
    case CELL_KIND_BOOL:
      b->plan->trivial = false;
      return add_step (b, STEP_BOOL, offset, field) != NULL;
    case CELL_KIND_STR:
    case CELL_KIND_BYTES:
    case CELL_KIND_BLOB:
      b->plan->trivial = b->plan->flat = false;
      return add_step (b, type->kind == CELL_KIND_STR ? STEP_STR : type->kind == CELL_KIND_BYTES ? STEP_BYTES : STEP_BLOB, offset, field) != NULL;
    case CELL_KIND_STRUCT:
      return add_fields (b, type->fields, type->n_fields, CELL_ROLE_FIELD, offset, type->size, depth + 1);
    default:
      return true;
    }
}

static CodecPlan *plan_new (const CellField *rows, uint32_t n, int role, uint32_t size, uint32_t align, unsigned depth, unsigned *total,
                            const char **ret_why);

static bool
add_array (Builder *b, const CellField *field, uint32_t base, unsigned depth)
{
  CellField one = { .name = field->name, .type = field->type, .role = CELL_ROLE_FIELD };
  CodecStep *step;
  CodecPlan *element = plan_new (&one, 1, CELL_ROLE_FIELD, field->type->size, field->type->align, depth + 1, b->total, &b->why);

  if (element == NULL)
    return false;
  b->plan->trivial = b->plan->flat = false;
  step = add_step (b, STEP_ARRAY, base + field->offset, field->name);
  if (step == NULL)
    {
      codec_plan_free (element);
      return false;
    }
  step->extra = base + field->extra;
  step->element = element;
  return true;
}

static bool
add_optional (Builder *b, const CellField *field, uint32_t base, unsigned depth)
{
  CodecStep *step = add_step (b, STEP_OPTIONAL, base + field->offset, field->name);
  uint32_t at = b->plan->n_steps - 1;

  if (step == NULL)
    return false;
  step->extra = base + field->extra;
  step->size = field->type->size;
  b->plan->trivial = false;
  if (!add_value (b, field->type, base + field->offset, field->name, depth))
    return false;
  b->plan->steps[at].skip = (uint16_t) (b->plan->n_steps - 1 - at);
  return true;
}

/* The member's place: from offset up to the returned end; 0 when the table is wrong. */
static uint32_t
field_end (const CellField *field)
{
  const CellType *type = field->type;

  switch (field->shape)
    {
    case CELL_SHAPE_PLAIN:
      return field->offset % type->align == 0 ? field->offset + type->size : 0;
    case CELL_SHAPE_ARRAY:
      return field->offset % 8 == 0 && field->extra == field->offset + 8 ? field->offset + 16 : 0;
    case CELL_SHAPE_OPTIONAL:
      return field->offset % type->align == 0 && field->extra == field->offset + type->size ? field->extra + 1 : 0;
    default:
      return 0;
    }
}

static bool
add_fields (Builder *b, const CellField *rows, uint32_t n, int role, uint32_t base, uint32_t size, unsigned depth)
{
  uint32_t at = 0, end;

  if (depth > DEPTH_MAX)
    return refuse (b, "structs are nested too deeply");
  for (uint32_t i = 0; i < n; i++)
    {
      const CellField *field = &rows[i];

      if (field->role != role)
        continue;
      if (field->name == NULL || !type_is_sound (field->type))
        return refuse (b, "a member's type makes no sense");
      if (field->offset > SIZE_MAX_STRUCT || field->offset < at || (end = field_end (field)) == 0 || end > size)
        return refuse (b, "a member does not lie where it should");
      if (!add_gap (b, base + at, base + field->offset))
        return false;
      at = end;
      if (!(field->shape == CELL_SHAPE_ARRAY      ? add_array (b, field, base, depth)
            : field->shape == CELL_SHAPE_OPTIONAL ? add_optional (b, field, base, depth)
                                                  : add_value (b, field->type, base + field->offset, field->name, depth)))
        return false;
    }
  return add_gap (b, base + at, base + size);
}

static CodecPlan *
plan_new (const CellField *rows, uint32_t n, int role, uint32_t size, uint32_t align, unsigned depth, unsigned *total, const char **ret_why)
{
  CodecPlan *plan = calloc (1, sizeof *plan);
  Builder b = { plan, 0, total, NULL };

  if (plan == NULL)
    {
      *ret_why = "no memory for a type";
      return NULL;
    }
  plan->size = size;
  plan->align = align;
  plan->flat = plan->trivial = true;
  if (add_fields (&b, rows, n, role, 0, size, depth))
    return plan;
  *ret_why = b.why != NULL ? b.why : "a type makes no sense";
  codec_plan_free (plan);
  return NULL;
}

CodecPlan *
codec_plan_new (const CellField *rows, uint32_t n_rows, int role, uint32_t size, const char **ret_why)
{
  unsigned total = 0;
  const char *why = NULL;
  CodecPlan *plan = NULL;

  if (size > SIZE_MAX_STRUCT)
    why = "the struct is too large";
  else
    plan = plan_new (rows, n_rows, role, size, 8, 0, &total, &why);
  if (plan == NULL && ret_why != NULL)
    *ret_why = why;
  return plan;
}

void
codec_plan_free (CodecPlan *plan)
{
  if (plan == NULL)
    return;
  for (uint32_t i = 0; i < plan->n_steps; i++)
    codec_plan_free (plan->steps[i].element);
  free (plan->steps);
  free (plan);
}

/* ---- UTF-8 ------------------------------------------------------------------------------------------ */

/* Length of the well-formed sequence at s (Unicode 15, table 3-7), or 0.  s ends in a NUL, which no sequence contains. */
static uint32_t
sequence_length (const uint8_t *s)
{
  uint8_t a = s[0], low = 0x80, high = 0xbf;

  if (a >= 0xc2 && a <= 0xdf)
    return (s[1] & 0xc0) == 0x80 ? 2 : 0;
  if (a == 0xe0)
    low = 0xa0;
  else if (a == 0xed)
    high = 0x9f;
  else if (a == 0xf0)
    low = 0x90;
  else if (a == 0xf4)
    high = 0x8f;
  if (a < 0xe0 || a > 0xf4 || s[1] < low || s[1] > high || (s[2] & 0xc0) != 0x80)
    return 0;
  if (a < 0xf0)
    return 3;
  return (s[3] & 0xc0) == 0x80 ? 4 : 0;
}

bool
codec_is_utf8 (const uint8_t *s, uint32_t n)
{
  uint32_t i = 0;

  if (s[n] != 0)
    return false;
  while (i < n)
    {
      uint64_t word;

      if (n - i >= 8)
        {
          memcpy (&word, s + i, 8);
          /* No byte with its high bit, and none that is zero: a borrow into a byte's high bit. */
          if (((word | (word - 0x0101010101010101u)) & 0x8080808080808080u) == 0)
            {
              i += 8;
              continue;
            }
        }
      if (s[i] == 0)
        return false;
      if (s[i] < 0x80)
        i++;
      else
        {
          uint32_t length = sequence_length (s + i);

          if (length == 0 || length > n - i)
            return false;
          i += length;
        }
    }
  return true;
}

/* ---- encoding ------------------------------------------------------------------------------------------ */

typedef struct
{
  uint8_t *base;
  uint32_t used, capacity;
  uint32_t built_from, built_to;        /* what lies in the payload already */
  const CodecBlobs *blobs;
  CodecFault *fault;
} Encoder;

static bool
encode_fault (Encoder *e, CellStatus status, const char *rule, const CodecStep *step)
{
  *e->fault = (CodecFault) { status, rule, step->field, step->offset };
  return false;
}

/* Where n bytes from src stand in the payload; they are copied unless they were built there. */
static bool
place (Encoder *e, const CodecStep *step, const void *src, uint64_t n, uint32_t align, uint32_t *ret_offset)
{
  const uint8_t *s = src;
  uint32_t offset = (e->used + align - 1) & ~(align - 1);

  if (s >= e->base + e->built_from && s <= e->base + e->built_to && n <= (uint64_t) (e->base + e->built_to - s)
      && (uint32_t) (s - e->base) % align == 0)
    {
      *ret_offset = (uint32_t) (s - e->base);
      return true;
    }
  if (offset > e->capacity || n > e->capacity - offset)
    return encode_fault (e, CELL_ERROR_TOO_LARGE, "it does not fit into a message", step);
  memset (e->base + e->used, 0, offset - e->used);
  memcpy (e->base + offset, s, n);
  e->used = offset + (uint32_t) n;
  *ret_offset = offset;
  return true;
}

static bool encode_steps (Encoder *e, const CodecPlan *plan, uint8_t *to, const uint8_t *from);

static bool
encode_str (Encoder *e, const CodecStep *step, uint8_t *to, const char *s)
{
  Reference r = { 0, 0 };
  size_t n = s != NULL ? strlen (s) : 0;

  if (n > e->capacity)
    return encode_fault (e, CELL_ERROR_TOO_LARGE, "it does not fit into a message", step);
  if (n > 0)
    {
      r.length = (uint32_t) n;
      if (!codec_is_utf8 ((const uint8_t *) s, r.length))
        return encode_fault (e, CELL_ERROR_INVALID, "it is not UTF-8", step);
      if (!place (e, step, s, n + 1, 1, &r.offset))
        return false;
    }
  memcpy (to + step->offset, &r, 8);
  return true;
}

static bool
encode_bytes (Encoder *e, const CodecStep *step, uint8_t *to, const CellBytes *bytes)
{
  Reference r = { 0, bytes->size };
  uint32_t tail[2] = { bytes->size, 0 };

  if (bytes->size > 0 && bytes->data == NULL)
    return encode_fault (e, CELL_ERROR_INVALID, "it has a size and no data", step);
  if (bytes->size > 0 && !place (e, step, bytes->data, bytes->size, 8, &r.offset))
    return false;
  memcpy (to + step->offset, &r, 8);
  memcpy (to + step->offset + 8, tail, 8);
  return true;
}

static bool
encode_array (Encoder *e, const CodecStep *step, uint8_t *to, const uint8_t *from)
{
  const CodecPlan *element = step->element;
  const uint8_t *data;
  uint32_t count, stride = element->size;
  Reference r = { 0, 0 };

  memcpy (&data, from + step->offset, 8);
  memcpy (&count, from + step->extra, 4);
  if (count > 0)
    {
      uint64_t n = (uint64_t) count * stride;

      if (data == NULL)
        return encode_fault (e, CELL_ERROR_INVALID, "it has a count and no elements", step);
      if (n > e->capacity)
        return encode_fault (e, CELL_ERROR_TOO_LARGE, "it does not fit into a message", step);
      if (!place (e, step, data, n, 8, &r.offset))
        return false;
      r.length = (uint32_t) n;
      for (uint32_t i = 0; element->n_steps > 0 && i < count; i++)
        if (!encode_steps (e, element, e->base + r.offset + (size_t) i * stride, data + (size_t) i * stride))
          return false;
    }
  memcpy (to + step->offset, &r, 8);
  memcpy (to + step->extra, &count, 4);
  memcpy (to + step->extra + 4, &stride, 4);
  return true;
}

static bool
encode_blob (Encoder *e, const CodecStep *step, uint8_t *to, CellBlob *blob)
{
  uint64_t id = 0;

  if (blob != NULL)
    {
      id = e->blobs != NULL && e->blobs->export_blob != NULL ? e->blobs->export_blob (e->blobs->data, blob) : 0;
      if (id == 0)
        return encode_fault (e, CELL_ERROR_NO_RESOURCES, "the blob cannot be handed out", step);
    }
  memcpy (to + step->offset, &id, 8);
  return true;
}

/* `to` holds a copy of `from`, or is the same memory. */
static bool
encode_steps (Encoder *e, const CodecPlan *plan, uint8_t *to, const uint8_t *from)
{
  for (uint32_t i = 0; i < plan->n_steps; i++)
    {
      const CodecStep *step = &plan->steps[i];
      const void *pointer;
      CellBytes bytes;
      bool good = true;

      switch (step->op)
        {
        case STEP_GAP:
          memset (to + step->offset, 0, step->size);
          break;
        case STEP_BOOL:
          to[step->offset] = from[step->offset] != 0;
          break;
        case STEP_OPTIONAL:
          to[step->extra] = from[step->extra] != 0;
          if (from[step->extra] == 0)
            {
              memset (to + step->offset, 0, step->size);
              i += step->skip;
            }
          break;
        case STEP_STR:
          memcpy (&pointer, from + step->offset, 8);
          good = encode_str (e, step, to, pointer);
          break;
        case STEP_BYTES:
          memcpy (&bytes, from + step->offset, sizeof bytes);
          good = encode_bytes (e, step, to, &bytes);
          break;
        case STEP_BLOB:
          memcpy (&pointer, from + step->offset, 8);
          good = encode_blob (e, step, to, (CellBlob *) pointer);
          break;
        case STEP_ARRAY:
          good = encode_array (e, step, to, from);
          break;
        }
      if (!good)
        return false;
    }
  return true;
}

bool
codec_encode (const CodecPlan *plan, const void *local, uint8_t *payload, uint32_t capacity, uint32_t *ret_used, const CodecBlobs *blobs,
              CodecFault *fault)
{
  uint32_t built = *ret_used, root = (plan->size + 7) & ~7u;
  Encoder e = { payload, built > root ? built : plan->size, capacity, plan->size, built, blobs, fault };

  if (plan->size > capacity || built > capacity)
    {
      *fault = (CodecFault) { CELL_ERROR_TOO_LARGE, "it does not fit into a message", "", 0 };
      return false;
    }
  memcpy (payload, local, plan->size);
  if (!plan->trivial && !encode_steps (&e, plan, payload, local))
    return false;
  *ret_used = e.used;
  return true;
}

/* ---- decoding ------------------------------------------------------------------------------------------- */

typedef struct
{
  uint8_t *base;
  uint32_t length, budget;
  unsigned flags;
  Arena *arena;
  const CodecBlobs *blobs;
  CodecFault *fault;
} Decoder;

static bool
decode_fault (Decoder *d, CellStatus status, const char *rule, const CodecStep *step)
{
  *d->fault = (CodecFault) { status, rule, step->field, step->offset };
  return false;
}

/* Bytes that are referred to count once for each reference: a record cannot unfold to more than itself. */
static bool
spend (Decoder *d, const CodecStep *step, uint32_t offset, uint32_t length)
{
  if (offset > d->length || length > d->length - offset)
    return decode_fault (d, CELL_ERROR_CORRUPT, "reference-bounds", step);
  if (length > d->budget)
    return decode_fault (d, CELL_ERROR_CORRUPT, "reference-budget", step);
  d->budget -= length;
  return true;
}

static bool decode_steps (Decoder *d, const CodecPlan *plan, uint8_t *at);

static bool
decode_str (Decoder *d, const CodecStep *step, uint8_t *at, Reference r)
{
  const uint8_t *s = (const uint8_t *) "";

  if (r.offset != 0 || r.length != 0)
    {
      if (r.length == UINT32_MAX)
        return decode_fault (d, CELL_ERROR_CORRUPT, "reference-bounds", step);
      if (!spend (d, step, r.offset, r.length + 1))
        return false;
      s = d->base + r.offset;
      if (d->flags & CODEC_TRUSTED ? s[r.length] != 0 : !codec_is_utf8 (s, r.length))
        return decode_fault (d, CELL_ERROR_CORRUPT, "string-utf8", step);
    }
  memcpy (at + step->offset, &s, 8);
  return true;
}

static bool
decode_bytes (Decoder *d, const CodecStep *step, uint8_t *at, Reference r)
{
  const uint8_t *data = NULL;
  uint32_t tail[2] = { r.length, 0 };

  if (r.length > 0)
    {
      if (!spend (d, step, r.offset, r.length))
        return false;
      data = d->base + r.offset;
    }
  memcpy (at + step->offset, &data, 8);
  memcpy (at + step->offset + 8, tail, 8);
  return true;
}

/* Elements of another version, or with references to make where we may not write, are copied. */
static uint8_t *
elements (Decoder *d, const CodecStep *step, uint8_t *data, uint32_t count, uint32_t stride)
{
  const CodecPlan *element = step->element;
  uint32_t size = element->size, common = stride < size ? stride : size;
  uint8_t *copy;

  if (stride == size && (element->n_steps == 0 || element->flat || d->flags & CODEC_PRIVATE))
    return data;
  copy = arena_get (d->arena, (size_t) count * size);
  if (copy == NULL)
    {
      decode_fault (d, CELL_ERROR_NO_RESOURCES, "arena", step);
      return NULL;
    }
  for (uint32_t i = 0; i < count; i++)
    {
      memcpy (copy + (size_t) i * size, data + (size_t) i * stride, common);
      memset (copy + (size_t) i * size + common, 0, size - common);
    }
  return copy;
}

/* Elements in memory that is only read may hold bools: looked at, not changed. */
static bool
check_flat (Decoder *d, const CodecPlan *plan, const uint8_t *at)
{
  for (uint32_t i = 0; i < plan->n_steps; i++)
    {
      const CodecStep *step = &plan->steps[i];

      if (step->op == STEP_BOOL && at[step->offset] > 1)
        return decode_fault (d, CELL_ERROR_CORRUPT, "bool", step);
      if (step->op == STEP_OPTIONAL && at[step->extra] > 1)
        return decode_fault (d, CELL_ERROR_CORRUPT, "bool", step);
    }
  return true;
}

static bool
decode_array (Decoder *d, const CodecStep *step, uint8_t *at, Reference r)
{
  const CodecPlan *element = step->element;
  uint32_t count, stride;
  uint8_t *data = NULL;

  memcpy (&count, at + step->extra, 4);
  memcpy (&stride, at + step->extra + 4, 4);
  if (count > 0)
    {
      if (stride == 0 || r.offset % 8 != 0 || (uint64_t) count * stride != r.length)
        return decode_fault (d, CELL_ERROR_CORRUPT, "array-stride", step);
      if (!spend (d, step, r.offset, r.length))
        return false;
      data = elements (d, step, d->base + r.offset, count, stride);
      if (data == NULL)
        return false;
      for (uint32_t i = 0; element->n_steps > 0 && i < count; i++)
        {
          uint8_t *e = data + (size_t) i * element->size;

          if (element->flat ? !check_flat (d, element, e) : !decode_steps (d, element, e))
            return false;
        }
    }
  stride = 0;
  memcpy (at + step->offset, &data, 8);
  memcpy (at + step->extra + 4, &stride, 4);
  return true;
}

static bool
decode_blob (Decoder *d, const CodecStep *step, uint8_t *at)
{
  uint64_t id;
  CellBlob *blob = NULL;

  memcpy (&id, at + step->offset, 8);
  if (id != 0)
    {
      blob = d->blobs != NULL && d->blobs->import_blob != NULL ? d->blobs->import_blob (d->blobs->data, id) : NULL;
      if (blob == NULL)
        return decode_fault (d, CELL_ERROR_CORRUPT, "blob-id", step);
    }
  memcpy (at + step->offset, &blob, 8);
  return true;
}

/* `at` is memory of ours; relocated in place. */
static bool
decode_steps (Decoder *d, const CodecPlan *plan, uint8_t *at)
{
  for (uint32_t i = 0; i < plan->n_steps; i++)
    {
      const CodecStep *step = &plan->steps[i];
      Reference r;
      bool good = true;

      switch (step->op)
        {
        case STEP_GAP:
          break;
        case STEP_BOOL:
          good = at[step->offset] <= 1 || decode_fault (d, CELL_ERROR_CORRUPT, "bool", step);
          break;
        case STEP_OPTIONAL:
          good = at[step->extra] <= 1 || decode_fault (d, CELL_ERROR_CORRUPT, "bool", step);
          if (at[step->extra] == 0)
            {
              memset (at + step->offset, 0, step->size);
              i += step->skip;
            }
          break;
        case STEP_STR:
          memcpy (&r, at + step->offset, 8);
          good = decode_str (d, step, at, r);
          break;
        case STEP_BYTES:
          memcpy (&r, at + step->offset, 8);
          good = decode_bytes (d, step, at, r);
          break;
        case STEP_BLOB:
          good = decode_blob (d, step, at);
          break;
        case STEP_ARRAY:
          memcpy (&r, at + step->offset, 8);
          good = decode_array (d, step, at, r);
          break;
        }
      if (!good)
        return false;
    }
  return true;
}

/* A root that ends in the middle of a member would make half a reference of it. */
bool
codec_decode (const CodecPlan *plan, uint8_t *payload, uint32_t length, uint32_t root, unsigned flags, Arena *arena, const CodecBlobs *blobs,
              void *local, CodecFault *fault)
{
  Decoder d = { payload, length, length, flags, arena, blobs, fault };
  uint32_t n = root < plan->size ? root : plan->size;

  if (root > length)
    {
      *fault = (CodecFault) { CELL_ERROR_CORRUPT, "record-root", "", 0 };
      return false;
    }
  memcpy (local, payload, n);
  memset ((uint8_t *) local + n, 0, plan->size - n);
  return plan->trivial || decode_steps (&d, plan, local);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A plan is a list of steps that cover each byte of a struct once, those of structs within it included; arrays have a plan for
 * their elements.  Scalars, gaps and bools are handled in runs and in words with masks, not member by member.
 */
#include "codec.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"

#define DEPTH_MAX 16
#define STEPS_MAX 4096
#define ROWS_MAX (1u << 18)             /* that one plan may visit: tables may be few and refer to each other many times */
#define SIZE_MAX_STRUCT (1u << 20)
#define RELOCATED_MAX 16

enum
{
  STEP_WORD,                    /* scalars of eight bytes */
  STEP_COPY,                    /* more or less of them, without gaps */
  STEP_ZERO,                    /* a gap */
  STEP_MASK,                    /* 1, 2, 4 or 8 bytes of which some are gaps or bools */
  STEP_OPTIONAL,                /* a value of `size` bytes, of which the next `skip` steps are made, and its presence */
  STEP_STR,
  STEP_BYTES,
  STEP_BLOB,
  STEP_ARRAY
};

struct CodecStep
{
  uint8_t op;
  uint16_t skip;
  uint32_t offset, size;
  uint32_t extra;               /* of an array's count, of an optional's presence */
  uint64_t keep, clear;         /* a mask's: what is no gap; what a bool has none of */
  CodecPlan *element;
};

/* What stands in the place of a pointer. */
typedef struct
{
  uint32_t offset, length;
} Reference;

/* What stands behind an array's pointer. */
typedef struct
{
  uint32_t count, stride;
} Extent;

/* Two words in one store: whoever reads eight bytes would wait until two stores have reached the cache. */
static inline void
store_pair (uint8_t *to, uint32_t first, uint32_t second)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  uint64_t both = first | (uint64_t) second << 32;
#else
  uint64_t both = second | (uint64_t) first << 32;
#endif
  memcpy (to, &both, 8);
}

/* ---- compiling tables ---------------------------------------------------------------------------- */

enum /* what a byte of a word is */
{
  BYTE_GAP, BYTE_DATA, BYTE_BOOL
};

/* Of the whole tree. */
typedef struct
{
  unsigned n_steps, n_rows;
  const char *why;
} Budget;

typedef struct
{
  CodecPlan *plan;
  uint32_t capacity;
  uint32_t start, end;          /* bytes of one word that are not in a step yet */
  uint8_t bytes[8];
  Budget *budget;
} Builder;

static bool
refuse (Budget *budget, const char *why)
{
  budget->why = why;
  return false;
}

static CodecStep *
add_step (Builder *b, uint8_t op, uint32_t offset)
{
  CodecPlan *plan = b->plan;

  if (++b->budget->n_steps > STEPS_MAX)
    {
      refuse (b->budget, "the type has too many parts");
      return NULL;
    }
  if (plan->n_steps == b->capacity)
    {
      uint32_t capacity = b->capacity == 0 ? 8 : b->capacity * 2;
      CodecStep *steps = realloc (plan->steps, capacity * sizeof *steps);

      if (steps == NULL)
        {
          refuse (b->budget, "there is no memory for the type");
          return NULL;
        }
      plan->steps = steps;
      b->capacity = capacity;
    }
  plan->steps[plan->n_steps] = (CodecStep) { .op = op, .offset = offset };
  return &plan->steps[plan->n_steps++];
}

/* A run of scalars or a gap goes on where the one before ends. */
static bool
add_run (Builder *b, uint8_t op, uint32_t offset, uint32_t size)
{
  CodecPlan *plan = b->plan;
  CodecStep *step = plan->n_steps > 0 ? &plan->steps[plan->n_steps - 1] : NULL;

  if (step == NULL || (step->op == STEP_WORD ? STEP_COPY : step->op) != op || step->offset + step->size != offset)
    step = add_step (b, op, offset);
  if (step == NULL)
    return false;
  step->size += size;
  if (op == STEP_COPY)
    step->op = step->size == 8 ? STEP_WORD : STEP_COPY;
  else
    plan->trivial = false;
  return true;
}

static bool
add_mask (Builder *b, uint32_t offset, uint32_t size)
{
  uint8_t keep[8] = { 0 }, clear[8] = { 0 };
  CodecStep *step = add_step (b, STEP_MASK, offset);

  if (step == NULL)
    return false;
  for (uint32_t i = 0; i < size; i++)
    {
      keep[i] = b->bytes[(offset + i) % 8] == BYTE_GAP ? 0 : 0xff;
      clear[i] = b->bytes[(offset + i) % 8] == BYTE_BOOL ? 0xfe : 0;
    }
  step->size = size;
  memcpy (&step->keep, keep, 8);
  memcpy (&step->clear, clear, 8);
  b->plan->trivial = false;
  if (step->clear != 0)
    b->plan->checked = true;
  return true;
}

/* The bytes of a word, in pieces that one instruction loads. */
static bool
flush (Builder *b)
{
  while (b->start < b->end)
    {
      uint32_t size = 8, offset = b->start;
      bool same = true, good;
      uint8_t first = b->bytes[offset % 8];

      while (offset % size != 0 || size > b->end - offset)
        size /= 2;
      for (uint32_t i = 0; i < size; i++)
        same &= b->bytes[(offset + i) % 8] == first;
      good = !same || first == BYTE_BOOL ? add_mask (b, offset, size)
                                         : add_run (b, first == BYTE_DATA ? STEP_COPY : STEP_ZERO, offset, size);
      if (!good)
        return false;
      b->start += size;
    }
  return true;
}

static bool
add_bytes (Builder *b, uint8_t class, uint32_t from, uint32_t to)
{
  while (from < to)
    {
      if (b->start == b->end || b->end != from || from % 8 == 0)
        {
          uint32_t whole = (to - from) & ~7u;

          if (!flush (b))
            return false;
          if (class != BYTE_BOOL && from % 8 == 0 && whole > 0)
            {
              if (!add_run (b, class == BYTE_DATA ? STEP_COPY : STEP_ZERO, from, whole))
                return false;
              from += whole;
              continue;
            }
          b->start = b->end = from;
        }
      b->bytes[from++ % 8] = class;
      b->end = from;
    }
  return true;
}

static CodecStep *
add_slot (Builder *b, uint8_t op, uint32_t offset)
{
  if (!flush (b))
    return NULL;
  b->plan->trivial = false;
  if (op != STEP_OPTIONAL)
    b->plan->flat = false;
  if (op == STEP_BLOB)
    b->plan->blobs = true;
  return add_step (b, op, offset);
}

static bool
type_is_sound (const CellType *type)
{
  static const uint8_t sizes[] = { [CELL_KIND_BOOL] = 1, [CELL_KIND_FLOAT] = 8, [CELL_KIND_STR] = 8, [CELL_KIND_BLOB] = 8 };

  if (type == NULL || type->name == NULL || type->align == 0 || type->align > 8 || (type->align & (type->align - 1)) != 0)
    return false;
  switch (type->kind)
    {
    case CELL_KIND_UINT:
    case CELL_KIND_INT:
      return type->size <= 8 && type->align == type->size;
    case CELL_KIND_STRUCT:
      return type->size > 0 && type->size <= SIZE_MAX_STRUCT && type->size % type->align == 0
             && (type->fields != NULL || type->n_fields == 0);
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

typedef struct
{
  const CellField *rows;
  uint32_t n, size, align;
  int role;
} Members;

static bool add_members (Builder *b, const Members *members, uint32_t base, unsigned depth);

/* One value at an offset: its steps. */
static bool
add_value (Builder *b, const CellType *type, uint32_t offset, unsigned depth)
{
  Members members = { type->fields, type->n_fields, type->size, type->align, CELL_ROLE_FIELD };

  switch (type->kind)
    {
    case CELL_KIND_BOOL:
      return add_bytes (b, BYTE_BOOL, offset, offset + 1);
    case CELL_KIND_STR:
      return add_slot (b, STEP_STR, offset) != NULL;
    case CELL_KIND_BYTES:
      return add_slot (b, STEP_BYTES, offset) != NULL;
    case CELL_KIND_BLOB:
      return add_slot (b, STEP_BLOB, offset) != NULL;
    case CELL_KIND_STRUCT:
      return add_members (b, &members, offset, depth + 1);
    default:
      return add_bytes (b, BYTE_DATA, offset, offset + type->size);
    }
}

static CodecPlan *
plan_alloc (Builder *b, const Members *members, Budget *budget)
{
  CodecPlan *plan = calloc (1, sizeof *plan);

  if (plan == NULL)
    {
      refuse (budget, "there is no memory for the type");
      return NULL;
    }
  *plan = (CodecPlan) {
    .size = members->size, .align = members->align, .flat = true, .trivial = true,
    .rows = members->rows, .n_rows = members->n, .role = members->role, .name = "",
  };
  *b = (Builder) { .plan = plan, .budget = budget };
  return plan;
}

static CodecPlan *
element_plan_new (const CellField *field, Budget *budget, unsigned depth)
{
  const CellType *type = field->type;
  Builder b;
  CodecPlan *plan = plan_alloc (&b, &(Members) { type->fields, type->n_fields, type->size, type->align, CELL_ROLE_FIELD }, budget);

  if (plan == NULL)
    return NULL;
  if (type->kind != CELL_KIND_STRUCT)
    {
      plan->rows = NULL;
      plan->name = field->name;
    }
  if (add_value (&b, type, 0, depth) && flush (&b))
    return plan;
  codec_plan_free (plan);
  return NULL;
}

static bool
add_array (Builder *b, const CellField *field, uint32_t base, unsigned depth)
{
  CodecPlan *element = element_plan_new (field, b->budget, depth);
  CodecStep *step = element != NULL ? add_slot (b, STEP_ARRAY, base + field->offset) : NULL;

  if (step == NULL)
    {
      codec_plan_free (element);
      return false;
    }
  step->extra = base + field->extra;
  step->element = element;
  b->plan->blobs |= element->blobs;
  return true;
}

static bool
add_optional (Builder *b, const CellField *field, uint32_t base, unsigned depth)
{
  CodecStep *step = add_slot (b, STEP_OPTIONAL, base + field->offset);
  uint32_t at = b->plan->n_steps;

  if (step == NULL)
    return false;
  b->plan->checked = true;
  step->extra = base + field->extra;
  step->size = field->type->size;
  if (!add_value (b, field->type, base + field->offset, depth) || !flush (b))
    return false;
  b->plan->steps[at - 1].skip = (uint16_t) (b->plan->n_steps - at);
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

/* One row, and the gap before it, which begins at *at; its end becomes *at. */
static bool
add_member (Builder *b, const CellField *field, const Members *in, uint32_t base, uint32_t *at, unsigned depth)
{
  uint32_t end, start = *at;

  if (++b->budget->n_rows > ROWS_MAX)
    return refuse (b->budget, "the type has too many parts");
  if (field->role != in->role)
    return true;
  if (field->name == NULL || !type_is_sound (field->type))
    return refuse (b->budget, "a member's type makes no sense");
  if (field->offset > SIZE_MAX_STRUCT || field->offset < start || (end = field_end (field)) == 0 || end > in->size
      || (field->shape == CELL_SHAPE_ARRAY ? 8 : field->type->align) > in->align)
    return refuse (b->budget, "a member does not lie where it should");
  *at = end;
  if (!add_bytes (b, BYTE_GAP, base + start, base + field->offset))
    return false;
  return field->shape == CELL_SHAPE_ARRAY      ? add_array (b, field, base, depth)
         : field->shape == CELL_SHAPE_OPTIONAL ? add_optional (b, field, base, depth)
                                               : add_value (b, field->type, base + field->offset, depth);
}

static bool
add_members (Builder *b, const Members *members, uint32_t base, unsigned depth)
{
  uint32_t at = 0;

  if (depth > DEPTH_MAX)
    return refuse (b->budget, "structs are nested too deeply");
  for (uint32_t i = 0; i < members->n; i++)
    if (!add_member (b, &members->rows[i], members, base, &at, depth))
      return false;
  return add_bytes (b, BYTE_GAP, base + at, base + members->size);
}

CodecPlan *
codec_plan_new (const CellField *rows, uint32_t n_rows, int role, uint32_t size, const char **ret_why)
{
  Budget budget = { 0 };
  Members members = { rows, n_rows, size, 8, role };
  Builder b;
  CodecPlan *plan = NULL;

  if (size > SIZE_MAX_STRUCT)
    refuse (&budget, "the struct is too large");
  else if (rows == NULL && n_rows > 0)
    refuse (&budget, "there is no table");
  else
    plan = plan_alloc (&b, &members, &budget);
  if (plan != NULL && add_members (&b, &members, 0, 0) && flush (&b))
    return plan;
  codec_plan_free (plan);
  if (ret_why != NULL)
    *ret_why = budget.why;
  return NULL;
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

/* ---- faults ------------------------------------------------------------------------------------------ */

/* The innermost member that holds the byte; only faults ask. */
static const char *
member_at (const CodecPlan *plan, uint32_t offset)
{
  const CellField *rows = plan->rows;
  uint32_t n = plan->n_rows;
  int role = plan->role;
  const char *name = plan->name;

  for (uint32_t i = 0; rows != NULL && i < n; i++)
    {
      const CellField *field = &rows[i];

      if (field->role != role || offset < field->offset || offset >= field_end (field))
        continue;
      name = field->name;
      if (field->shape == CELL_SHAPE_ARRAY || field->type->kind != CELL_KIND_STRUCT || offset >= field->offset + field->type->size)
        break;
      offset -= field->offset;
      rows = field->type->fields;
      n = field->type->n_fields;
      role = CELL_ROLE_FIELD;
      i = UINT32_MAX;           /* from the first again */
    }
  return name;
}

static bool
set_fault (CodecFault *fault, CellStatus status, const char *rule, const CodecPlan *plan, uint32_t offset)
{
  *fault = (CodecFault) { status, rule, member_at (plan, offset), offset };
  return false;
}

/* ---- UTF-8 ------------------------------------------------------------------------------------------ */

#define ONES 0x0101010101010101u
#define HIGHS 0x8080808080808080u

static inline uint64_t
load_word (const uint8_t *at)
{
  uint64_t word;

  memcpy (&word, at, 8);
  return word;
}

/* High bits of the bytes that are no ASCII, or NUL.  A borrow goes upwards only: the lowest is right, and none is none. */
static inline uint64_t
not_ascii (uint64_t word)
{
  return (word | (word - ONES)) & HIGHS;
}

/* Length of the well-formed sequence at s (Unicode 15, table 3-7), or 0.  The text ends in a NUL, which no sequence contains. */
static inline uint32_t
sequence_length (const uint8_t *s)
{
  uint8_t a = s[0], low = 0x80, high = 0xbf;

  if (a >= 0xc2 && a <= 0xdf)
    return (s[1] & 0xc0) == 0x80 ? 2 : 0;
  if (a < 0xe0 || a > 0xf4)
    return 0;
  if (a == 0xe0)
    low = 0xa0;
  else if (a == 0xed)
    high = 0x9f;
  else if (a == 0xf0)
    low = 0x90;
  else if (a == 0xf4)
    high = 0x8f;
  if (s[1] < low || s[1] > high || (s[2] & 0xc0) != 0x80)
    return 0;
  if (a < 0xf0)
    return 3;
  return (s[3] & 0xc0) == 0x80 ? 4 : 0;
}

/* From i on, where something else than ASCII is near. */
static bool
is_utf8_from (const uint8_t *s, uint32_t n, uint32_t i)
{
  while (i < n)
    {
      uint64_t stop = 0;

      if (s[i] == 0)
        return false;
      if (s[i] >= 0x80)
        {
          uint32_t length = sequence_length (s + i);

          if (length == 0)
            return false;
          i += length;
        }
      else if (n - i < 8)
        i++;
      else if ((stop = not_ascii (load_word (s + i))) == 0)
        i += 8;
      else
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
        i += (uint32_t) __builtin_ctzll (stop) / 8;
#else
        i++;
#endif
    }
  return true;
}

bool
codec_is_utf8 (const uint8_t *s, uint32_t n)
{
  uint32_t i = 0;

  if (s[n] != 0)
    return false;
  if (n < 8)
    return is_utf8_from (s, n, 0);
  for (; n - i >= 16; i += 16)
    if ((not_ascii (load_word (s + i)) | not_ascii (load_word (s + i + 8))) != 0)
      return is_utf8_from (s, n, i);
  if (n - i >= 8 && not_ascii (load_word (s + i)) != 0)
    return is_utf8_from (s, n, i);
  /* The last eight bytes once more, rather than a few of them one by one. */
  return not_ascii (load_word (s + n - 8)) == 0 || is_utf8_from (s, n, i);
}

/* ---- words ------------------------------------------------------------------------------------------- */

static inline uint64_t
load_masked (const CodecStep *step, const uint8_t *from)
{
  uint64_t word = 0;

  from += step->offset;
  if (step->size == 8)
    memcpy (&word, from, 8);
  else if (step->size == 4)
    memcpy (&word, from, 4);
  else if (step->size == 2)
    memcpy (&word, from, 2);
  else
    memcpy (&word, from, 1);
  return word;
}

static inline void
store_masked (const CodecStep *step, uint8_t *to, uint64_t word)
{
  word &= step->keep;
  to += step->offset;
  if (step->size == 8)
    memcpy (to, &word, 8);
  else if (step->size == 4)
    memcpy (to, &word, 4);
  else if (step->size == 2)
    memcpy (to, &word, 2);
  else
    memcpy (to, &word, 1);
}

static inline void
copy_run (const CodecStep *step, uint8_t *to, const uint8_t *from)
{
  if (to != from)
    copy_bytes (to + step->offset, from + step->offset, step->size);
}

/* ---- encoding ------------------------------------------------------------------------------------------ */

typedef struct
{
  uint8_t *base;
  uint32_t used, capacity;
  uint32_t built_from, built_to;        /* what lies in the payload already */
  uint32_t spare;                       /* bytes of it that may yet be referred to: once on the average, or a decoder refuses it */
  uint32_t n_relocated;
  struct
  {
    uint32_t from, to;
  } relocated[RELOCATED_MAX];           /* arrays of it that have been turned into what the wire has */
  const CodecBlobs *blobs;
  CodecFault *fault;
} Encoder;

static bool encode_steps (Encoder *e, const CodecPlan *plan, uint8_t *to, const uint8_t *from);

/* Where src stands in the payload, if all of it was built there; else 0. */
static uint32_t
built_at (const Encoder *e, const void *src, uint64_t n)
{
  uint64_t offset = (uintptr_t) src - (uintptr_t) e->base;

  return offset >= e->built_from && offset <= e->built_to && n <= e->built_to - offset ? (uint32_t) offset : 0;
}

/* n bytes at the payload's end. */
static bool
append (Encoder *e, uint64_t n, uint32_t align, uint32_t *ret_offset)
{
  uint64_t offset = ((uint64_t) e->used + align - 1) & ~(uint64_t) (align - 1);

  if (offset > e->capacity || n > e->capacity - offset)
    return false;
  if (offset > e->used)
    memset (e->base + e->used, 0, (size_t) (offset - e->used));
  e->used = (uint32_t) (offset + n);
  *ret_offset = (uint32_t) offset;
  return true;
}

/* Bytes that refer to nothing; they are copied unless they were built there. */
static inline bool
place (Encoder *e, const void *src, uint32_t n, uint32_t align, uint32_t *ret_offset)
{
  uint32_t offset;

  if (unlikely (e->spare >= n) && (offset = built_at (e, src, n)) != 0 && offset % align == 0)
    {
      e->spare -= n;
      *ret_offset = offset;
      return true;
    }
  if (!append (e, n, align, &offset))
    return false;
  copy_bytes (e->base + offset, src, n);
  *ret_offset = offset;
  return true;
}

static bool
encode_fault (Encoder *e, CellStatus status, const char *rule, const CodecPlan *plan, const CodecStep *step)
{
  return set_fault (e->fault, status, rule, plan, step->offset);
}

static bool
too_large (Encoder *e, const CodecPlan *plan, const CodecStep *step)
{
  return encode_fault (e, CELL_ERROR_TOO_LARGE, "it does not fit into a message", plan, step);
}

static bool
encode_str (Encoder *e, const CodecPlan *plan, const CodecStep *step, uint8_t *to, const uint8_t *from)
{
  const char *s;
  size_t n;
  uint32_t offset = 0;

  memcpy (&s, from + step->offset, 8);
  n = s != NULL ? strlen (s) : 0;
  if (n > 0)
    {
      if (n >= e->capacity)
        return too_large (e, plan, step);
      if (!codec_is_utf8 ((const uint8_t *) s, (uint32_t) n))
        return encode_fault (e, CELL_ERROR_INVALID, "it is not UTF-8, as a str has to be", plan, step);
      if (!place (e, s, (uint32_t) n + 1, 1, &offset))
        return too_large (e, plan, step);
    }
  store_pair (to + step->offset, offset, (uint32_t) n);
  return true;
}

static bool
encode_bytes (Encoder *e, const CodecPlan *plan, const CodecStep *step, uint8_t *to, const uint8_t *from)
{
  const void *data;
  uint32_t size, offset = 0;

  memcpy (&data, from + step->offset, 8);
  memcpy (&size, from + step->offset + offsetof (CellBytes, size), 4);
  if (size > 0)
    {
      if (data == NULL)
        return encode_fault (e, CELL_ERROR_INVALID, "it has a size and no data", plan, step);
      if (!place (e, data, size, 8, &offset))
        return too_large (e, plan, step);
    }
  store_pair (to + step->offset, offset, size);
  store_pair (to + step->offset + 8, size, 0);
  return true;
}

/* Whether elements may be turned into what the wire has where they were built.  If they refer to something, that is noted. */
static bool
relocate_in_place (Encoder *e, uint32_t offset, uint32_t n, bool flat)
{
  if (offset == 0 || offset % 8 != 0 || n > e->spare || (!flat && e->n_relocated == RELOCATED_MAX))
    return false;
  e->spare -= n;
  if (!flat)
    {
      e->relocated[e->n_relocated].from = offset;
      e->relocated[e->n_relocated++].to = offset + n;
    }
  return true;
}

/* Whether some of the elements have been turned into what the wire has: they are no pointers any longer. */
static bool
is_relocated (const Encoder *e, const uint8_t *data, uint64_t n)
{
  uint64_t from = (uintptr_t) data - (uintptr_t) e->base;

  for (uint32_t i = 0; i < e->n_relocated; i++)
    if (from < e->relocated[i].to && from + n > e->relocated[i].from)
      return true;
  return false;
}

static bool
encode_elements (Encoder *e, const CodecPlan *plan, const CodecStep *step, const uint8_t *data, uint32_t n, uint32_t *ret_offset)
{
  const CodecPlan *element = step->element;
  uint32_t offset;

  if (element->trivial)
    return place (e, data, n, 8, ret_offset) || too_large (e, plan, step);
  if (!element->flat && is_relocated (e, data, n))
    return encode_fault (e, CELL_ERROR_INVALID, "its elements are used twice", plan, step);
  offset = built_at (e, data, n);
  if (!relocate_in_place (e, offset, n, element->flat) && !append (e, n, 8, &offset))
    return too_large (e, plan, step);
  *ret_offset = offset;
  for (uint32_t i = 0; i < n; i += element->size)
    if (!encode_steps (e, element, e->base + offset + i, data + i))
      return false;
  return true;
}

static bool
encode_array (Encoder *e, const CodecPlan *plan, const CodecStep *step, uint8_t *to, const uint8_t *from)
{
  const uint8_t *data;
  uint32_t count, offset = 0;
  uint64_t n;

  memcpy (&data, from + step->offset, 8);
  memcpy (&count, from + step->extra, 4);
  n = (uint64_t) count * step->element->size;
  if (count > 0)
    {
      if (data == NULL)
        return encode_fault (e, CELL_ERROR_INVALID, "it has a count and no elements", plan, step);
      if (n > e->capacity)
        return too_large (e, plan, step);
      if (!encode_elements (e, plan, step, data, (uint32_t) n, &offset))
        return false;
    }
  store_pair (to + step->offset, offset, (uint32_t) n);
  store_pair (to + step->extra, count, step->element->size);
  return true;
}

static bool
encode_blob (Encoder *e, const CodecPlan *plan, const CodecStep *step, uint8_t *to, const uint8_t *from)
{
  const CodecBlobs *blobs = e->blobs;
  CellBlob *blob;
  uint64_t id = 0;

  memcpy (&blob, from + step->offset, 8);
  if (blob != NULL)
    {
      if (blobs == NULL || blobs->export_blob == NULL)
        return encode_fault (e, CELL_ERROR_INVALID, "no blob can be handed out here", plan, step);
      id = blobs->export_blob (blobs->data, blob);
      if (id == 0)
        return encode_fault (e, CELL_ERROR_NO_RESOURCES, "the blob cannot be handed out", plan, step);
    }
  memcpy (to + step->offset, &id, 8);
  return true;
}

/* The presence of an optional, and its value when there is none.  Returns how many steps to skip: those of an absent value. */
static uint32_t
encode_optional (const CodecStep *step, uint8_t *to, const uint8_t *from)
{
  bool present = from[step->extra] != 0;

  to[step->extra] = present;
  if (present)
    return 0;
  memset (to + step->offset, 0, step->size);
  return step->skip;
}

static uint64_t
make_bools (const CodecStep *step, uint64_t word)
{
  uint8_t bytes[8], clear[8];

  memcpy (bytes, &word, 8);
  memcpy (clear, &step->clear, 8);
  for (unsigned i = 0; i < 8; i++)
    if (clear[i] != 0)
      bytes[i] = bytes[i] != 0;
  memcpy (&word, bytes, 8);
  return word;
}

static inline void
encode_mask (const CodecStep *step, uint8_t *to, const uint8_t *from)
{
  uint64_t word = load_masked (step, from);

  if (unlikely ((word & step->clear) != 0))
    word = make_bools (step, word);
  store_masked (step, to, word);
}

/* `to` may be the same memory as `from`.  No switch: what is frequent comes first, and a jump through a table is guessed worse. */
static bool
encode_steps (Encoder *e, const CodecPlan *plan, uint8_t *to, const uint8_t *from)
{
  for (const CodecStep *step = plan->steps, *end = step + plan->n_steps; step < end; step++)
    {
      bool good = true;

      if (step->op == STEP_WORD)
        memcpy (to + step->offset, from + step->offset, 8);
      else if (step->op == STEP_STR)
        good = encode_str (e, plan, step, to, from);
      else if (step->op == STEP_MASK)
        encode_mask (step, to, from);
      else if (step->op == STEP_COPY)
        copy_run (step, to, from);
      else if (step->op == STEP_ARRAY)
        good = encode_array (e, plan, step, to, from);
      else if (step->op == STEP_ZERO)
        memset (to + step->offset, 0, step->size);
      else if (step->op == STEP_BYTES)
        good = encode_bytes (e, plan, step, to, from);
      else if (step->op == STEP_BLOB)
        good = encode_blob (e, plan, step, to, from);
      else
        step += encode_optional (step, to, from);
      if (unlikely (!good))
        return false;
    }
  return true;
}

bool
codec_encode (const CodecPlan *plan, const void *local, uint8_t *payload, uint32_t capacity, uint32_t *ret_used,
              const CodecBlobs *blobs, CodecFault *fault)
{
  uint32_t from = codec_built_from (plan->size), built = *ret_used > from ? *ret_used : plan->size;
  Encoder e;                            /* not zeroed: the list in it is long */

  if (unlikely (built > capacity))
    return set_fault (fault, CELL_ERROR_TOO_LARGE, "it does not fit into a message", plan, UINT32_MAX);
  e.base = payload;
  e.used = built;
  e.capacity = capacity;
  e.built_from = from;
  e.built_to = built;
  e.spare = built > from ? built - from : 0;
  e.n_relocated = 0;
  e.blobs = blobs;
  e.fault = fault;
  if (e.spare > 0)
    memset (payload + plan->size, 0, from - plan->size);
  if (plan->trivial)
    {
      if (payload != local)
        copy_bytes (payload, local, plan->size);
    }
  else if (unlikely (!encode_steps (&e, plan, payload, local)))
    return false;
  *ret_used = e.used;
  return true;
}

/* ---- decoding ------------------------------------------------------------------------------------------- */

typedef struct
{
  const uint8_t *base;
  uint32_t length, budget;
  bool shared;                  /* somebody may write the payload at any time */
  bool trusted;
  Arena *arena;
  const CodecBlobs *blobs;
  CodecFault *fault;
} Decoder;

static bool decode_steps (Decoder *d, const CodecPlan *plan, uint8_t *to, const uint8_t *from);

static bool
corrupt (Decoder *d, const char *rule, const CodecPlan *plan, const CodecStep *step)
{
  return set_fault (d->fault, CELL_ERROR_CORRUPT, rule, plan, step->offset);
}

static uint8_t *
take_memory (Decoder *d, const CodecPlan *plan, const CodecStep *step, size_t n)
{
  uint8_t *memory = arena_get (d->arena, n);

  if (memory == NULL)
    set_fault (d->fault, CELL_ERROR_NO_RESOURCES, "arena", plan, step->offset);
  return memory;
}

/* From here on only the copy is looked at. */
static inline void
copy_shared (void *to, const void *from, size_t n)
{
  memcpy (to, from, n);
  atomic_signal_fence (memory_order_seq_cst);
}

/* Bytes that are referred to count once for each reference: a record cannot unfold to more than itself. */
static const uint8_t *
referred (Decoder *d, const CodecPlan *plan, const CodecStep *step, uint32_t offset, uint64_t n)
{
  if (unlikely (offset > d->length || n > d->length - offset))
    {
      corrupt (d, "reference-bounds", plan, step);
      return NULL;
    }
  if (unlikely (n > d->budget))
    {
      corrupt (d, "reference-budget", plan, step);
      return NULL;
    }
  d->budget -= (uint32_t) n;
  return d->base + offset;
}

/* The same, where it can be used. */
static inline const uint8_t *
referred_stable (Decoder *d, const CodecPlan *plan, const CodecStep *step, uint32_t offset, uint64_t n)
{
  const uint8_t *data = referred (d, plan, step, offset, n);
  uint8_t *copy;

  if (data == NULL || !d->shared)
    return data;
  copy = take_memory (d, plan, step, (size_t) n);
  if (copy != NULL)
    copy_shared (copy, data, (size_t) n);
  return copy;
}

static bool
decode_str (Decoder *d, const CodecPlan *plan, const CodecStep *step, uint8_t *to, const uint8_t *from)
{
  const uint8_t *s = (const uint8_t *) "";
  Reference r;

  memcpy (&r, from + step->offset, 8);
  if (r.offset != 0 || r.length != 0)
    {
      s = referred_stable (d, plan, step, r.offset, (uint64_t) r.length + 1);
      if (s == NULL)
        return false;
      if (d->trusted ? s[r.length] != 0 : !codec_is_utf8 (s, r.length))
        return corrupt (d, "string-utf8", plan, step);
    }
  memcpy (to + step->offset, &s, 8);
  return true;
}

static bool
decode_bytes (Decoder *d, const CodecPlan *plan, const CodecStep *step, uint8_t *to, const uint8_t *from)
{
  Reference r;
  const void *data = NULL;

  memcpy (&r, from + step->offset, 8);
  if (r.length > 0)
    {
      data = referred_stable (d, plan, step, r.offset, r.length);
      if (data == NULL)
        return false;
    }
  memcpy (to + step->offset, &data, 8);
  store_pair (to + step->offset + offsetof (CellBytes, size), r.length, 0);
  return true;
}

/* An absent value is zero, in every byte. */
static bool
optional_is_sound (Decoder *d, const CodecPlan *plan, const CodecStep *step, const uint8_t *from, uint8_t presence)
{
  if (presence == 1)
    return true;
  if (presence > 1)
    return set_fault (d->fault, CELL_ERROR_CORRUPT, "bool", plan, step->extra);
  for (uint32_t i = 0; i < step->size; i++)
    if (from[step->offset + i] != 0)
      return set_fault (d->fault, CELL_ERROR_CORRUPT, "optional", plan, step->extra);
  return true;
}

/* A word that has a bool in it that is none. */
static bool
bool_fault (Decoder *d, const CodecPlan *plan, const CodecStep *step, uint64_t word)
{
  uint8_t bytes[8];
  uint32_t i = 0;

  word &= step->clear;
  memcpy (bytes, &word, 8);
  while (i < step->size - 1 && bytes[i] == 0)
    i++;
  return set_fault (d->fault, CELL_ERROR_CORRUPT, "bool", plan, step->offset + i);
}

/* An element that refers to nothing and is used where it lies: it is looked at, and not changed. */
static bool
check_steps (Decoder *d, const CodecPlan *plan, const uint8_t *from)
{
  for (const CodecStep *step = plan->steps, *end = step + plan->n_steps; step < end; step++)
    if (step->op == STEP_MASK)
      {
        uint64_t word = load_masked (step, from);

        if (unlikely ((word & step->clear) != 0))
          return bool_fault (d, plan, step, word);
      }
    else if (step->op == STEP_OPTIONAL)
      {
        uint8_t presence = from[step->extra];

        if (unlikely (!optional_is_sound (d, plan, step, from, presence)))
          return false;
        if (presence == 0)
          step += step->skip;
      }
  return true;
}

/* Elements for which there has to be other memory, since they have references in them or are another version's. */
static uint8_t *
decode_copies (Decoder *d, const CodecPlan *plan, const CodecStep *step, const uint8_t *data, Extent extent)
{
  const CodecPlan *element = step->element;
  uint32_t size = element->size, common = extent.stride < size ? extent.stride : size;
  bool same = extent.stride == size, direct = same && !d->shared;
  uint8_t *copy = take_memory (d, plan, step, (size_t) extent.count * size), *at = copy;

  if (copy == NULL)
    return NULL;
  if (same && !direct)
    copy_shared (copy, data, (size_t) extent.count * size);
  for (uint32_t i = 0; i < extent.count; i++, at += size, data += extent.stride)
    {
      if (!same)
        {
          copy_shared (at, data, common);
          memset (at + common, 0, size - common);
        }
      if (!decode_steps (d, element, at, direct ? data : at))
        return NULL;
    }
  return copy;
}

static const uint8_t *
decode_elements (Decoder *d, const CodecPlan *plan, const CodecStep *step, const uint8_t *data, Extent extent)
{
  const CodecPlan *element = step->element;

  if (d->shared || !element->flat || extent.stride != element->size)
    return decode_copies (d, plan, step, data, extent);
  if (element->checked)
    for (uint32_t i = 0; i < extent.count; i++)
      if (!check_steps (d, element, data + (size_t) i * element->size))
        return NULL;
  return data;
}

static bool
decode_array (Decoder *d, const CodecPlan *plan, const CodecStep *step, uint8_t *to, const uint8_t *from)
{
  const uint8_t *data = NULL;
  Reference r;
  Extent extent;

  memcpy (&r, from + step->offset, 8);
  memcpy (&extent, from + step->extra, 8);
  if (unlikely ((uint64_t) extent.count * extent.stride != r.length))
    return corrupt (d, "array-stride", plan, step);
  if (extent.count > 0)
    {
      if (unlikely (extent.stride == 0 || r.offset % 8 != 0))
        return corrupt (d, "array-stride", plan, step);
      data = referred (d, plan, step, r.offset, r.length);
      if (data == NULL || (data = decode_elements (d, plan, step, data, extent)) == NULL)
        return false;
    }
  memcpy (to + step->offset, &data, 8);
  store_pair (to + step->extra, extent.count, 0);
  return true;
}

static bool
decode_blob (Decoder *d, const CodecPlan *plan, const CodecStep *step, uint8_t *to, const uint8_t *from)
{
  const CodecBlobs *blobs = d->blobs;
  uint64_t id;
  CellBlob *blob = NULL;

  memcpy (&id, from + step->offset, 8);
  if (id != 0)
    {
      if (blobs == NULL || blobs->import_blob == NULL)
        return corrupt (d, "blob-id", plan, step);
      /* There never was one, or nobody has fetched it in time: that is not to be told apart, and the second is nobody's lie. */
      blob = blobs->import_blob (blobs->data, id);
      if (blob == NULL)
        return set_fault (d->fault, CELL_ERROR_GONE, "blob-id", plan, step->offset);
    }
  memcpy (to + step->offset, &blob, 8);
  return true;
}

static inline bool
decode_mask (Decoder *d, const CodecPlan *plan, const CodecStep *step, uint8_t *to, const uint8_t *from)
{
  uint64_t word = load_masked (step, from);

  store_masked (step, to, word);
  return likely ((word & step->clear) == 0) || bool_fault (d, plan, step, word);
}

static bool
decode_optional (Decoder *d, const CodecPlan *plan, const CodecStep *step, uint8_t *to, const uint8_t *from, uint32_t *ret_skip)
{
  uint8_t presence = from[step->extra];

  if (!optional_is_sound (d, plan, step, from, presence))
    return false;
  to[step->extra] = presence;
  if (presence == 0)
    {
      memset (to + step->offset, 0, step->size);
      *ret_skip = step->skip;
    }
  return true;
}

/* `to` is memory of ours, and may be the same as `from`. */
static bool
decode_steps (Decoder *d, const CodecPlan *plan, uint8_t *to, const uint8_t *from)
{
  for (const CodecStep *step = plan->steps, *end = step + plan->n_steps; step < end; step++)
    {
      bool good = true;
      uint32_t skip = 0;

      if (step->op == STEP_WORD)
        memcpy (to + step->offset, from + step->offset, 8);
      else if (step->op == STEP_STR)
        good = decode_str (d, plan, step, to, from);
      else if (step->op == STEP_MASK)
        good = decode_mask (d, plan, step, to, from);
      else if (step->op == STEP_COPY)
        copy_run (step, to, from);
      else if (step->op == STEP_ARRAY)
        good = decode_array (d, plan, step, to, from);
      else if (step->op == STEP_ZERO)
        memset (to + step->offset, 0, step->size);
      else if (step->op == STEP_BYTES)
        good = decode_bytes (d, plan, step, to, from);
      else if (step->op == STEP_BLOB)
        good = decode_blob (d, plan, step, to, from);
      else
        good = decode_optional (d, plan, step, to, from, &skip);
      if (unlikely (!good))
        return false;
      step += skip;
    }
  return true;
}

/* The sender's root may end in the middle of what is a member here.  An honest one has zeroes there, which were padding. */
bool
codec_decode (const CodecPlan *plan, const uint8_t *payload, uint32_t length, uint32_t root, unsigned flags, Arena *arena,
              const CodecBlobs *blobs, void *local, CodecFault *fault)
{
  Decoder d;

  if (unlikely (root > length))
    return set_fault (fault, CELL_ERROR_CORRUPT, "record-root", plan, UINT32_MAX);
  d.shared = (flags & (CODEC_PRIVATE | CODEC_TRUSTED)) == 0;
  if (plan->trivial || d.shared || root < plan->size)
    {
      uint32_t n = root < plan->size ? root : plan->size;

      copy_bytes (local, payload, n);
      if (unlikely (n < plan->size))
        memset ((uint8_t *) local + n, 0, plan->size - n);
      if (plan->trivial)
        return true;
      atomic_signal_fence (memory_order_seq_cst);       /* as in copy_shared () */
    }
  d.base = payload;
  d.length = d.budget = length;
  d.trusted = (flags & CODEC_TRUSTED) != 0;
  d.arena = arena;
  d.blobs = blobs;
  d.fault = fault;
  return decode_steps (&d, plan, local, d.shared || root < plan->size ? local : payload);
}

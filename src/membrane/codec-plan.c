/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdlib.h>

#include "codec-own.h"

#define DEPTH_MAX 16
#define STEPS_MAX 4096
#define ROWS_MAX (1u << 18)             /* that one plan may visit: tables may be few and refer to each other many times */
#define SIZE_MAX_STRUCT (1u << 20)

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

bool
codec_fault (CodecFault *fault, CellStatus status, const char *rule, const CodecPlan *plan, uint32_t offset)
{
  *fault = (CodecFault) { status, rule, member_at (plan, offset), offset };
  return false;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "codec-own.h"

#define RELOCATED_MAX 16

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
  return codec_fault (e->fault, status, rule, plan, step->offset);
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
    return codec_fault (fault, CELL_ERROR_TOO_LARGE, "it does not fit into a message", plan, UINT32_MAX);
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

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdatomic.h>
#include <string.h>

#include "codec-own.h"

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
  return codec_fault (d->fault, CELL_ERROR_CORRUPT, rule, plan, step->offset);
}

static uint8_t *
take_memory (Decoder *d, const CodecPlan *plan, const CodecStep *step, size_t n)
{
  uint8_t *memory = arena_get (d->arena, n);

  if (memory == NULL)
    codec_fault (d->fault, CELL_ERROR_NO_RESOURCES, "arena", plan, step->offset);
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
    return codec_fault (d->fault, CELL_ERROR_CORRUPT, "bool", plan, step->extra);
  for (uint32_t i = 0; i < step->size; i++)
    if (from[step->offset + i] != 0)
      return codec_fault (d->fault, CELL_ERROR_CORRUPT, "optional", plan, step->extra);
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
  return codec_fault (d->fault, CELL_ERROR_CORRUPT, "bool", plan, step->offset + i);
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
        return codec_fault (d->fault, CELL_ERROR_GONE, "blob-id", plan, step->offset);
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
    return codec_fault (fault, CELL_ERROR_CORRUPT, "record-root", plan, UINT32_MAX);
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

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the files of the codec have in common: codec-plan.c compiles tables, codec-encode.c and codec-decode.c go by them.
 *
 * A plan is a list of steps that cover each byte of a struct once, those of structs within it included; arrays have a plan for
 * their elements.  Scalars, gaps and bools are handled in runs and in words with masks, not member by member.
 */
#pragma once
#include <string.h>

#include "bytes.h"
#include "codec.h"

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

/* Fills in the fault, with the member that holds the byte; returns false. */
bool codec_fault (CodecFault *fault, CellStatus status, const char *rule, const CodecPlan *plan, uint32_t offset);

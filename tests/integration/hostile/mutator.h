/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Changes words of a half while others look at it: cursors and wake words, heads of records, payloads, anything.  Most changes last
 * for a moment, so that what is read twice is read differently, and the channel lives to be lied to again.  What is changed, and to
 * what, follows from the seed; when it is seen does not.
 */
#pragma once
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define MUTATOR_PAGE 4096u
#define MUTATOR_LATER 16 /* changes that are taken back so many changes later */

typedef struct
{
  uint8_t *base;     /* its page of words, then its data */
  uint32_t capacity; /* of the data */
} MutatorHalf;

typedef struct
{
  uint8_t *at; /* NULL: none */
  unsigned size;
  uint64_t was, wrote;
} MutatorChange;

typedef struct
{
  uint64_t random, n; /* n: changes that were made */
  MutatorChange later[MUTATOR_LATER];
} Mutator;

/* splitmix64 */
static inline uint64_t
mutator_next (Mutator *self)
{
  uint64_t z = self->random += 0x9e3779b97f4a7c15u;

  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

static inline uint32_t
mutator_below (Mutator *self, uint32_t n)
{
  return (uint32_t) (mutator_next (self) >> 32) % n;
}

/* Of the words of a half: how far its own side has read.  That side trusts itself, and a cell that is hostile shares a process with
 * it; it stays a position. */
#define MUTATOR_OWN 64

static inline uint64_t
mutator_read (const uint8_t *at, unsigned size)
{
  switch (size)
    {
    case 2:
      return *(const volatile uint16_t *) (const void *) at;
    case 4:
      return *(const volatile uint32_t *) (const void *) at;
    default:
      return *(const volatile uint64_t *) (const void *) at;
    }
}

static inline void
mutator_write (uint8_t *at, unsigned size, uint64_t value)
{
  switch (size)
    {
    case 2:
      *(volatile uint16_t *) (void *) at = (uint16_t) value;
      break;
    case 4:
      *(volatile uint32_t *) (void *) at = (uint32_t) value;
      break;
    default:
      *(volatile uint64_t *) (void *) at = value;
    }
}

/* What cursors, lengths and counts trip over, or anything. */
static inline uint64_t
mutator_value (Mutator *self, uint64_t was, uint32_t capacity)
{
  switch (mutator_below (self, 12))
    {
    case 0:
      return 0;
    case 1:
      return UINT64_MAX;
    case 2:
      return was + 1;
    case 3:
      return was - 1;
    case 4:
      return was + 64;
    case 5:
      return was - 64;
    case 6:
    case 7:
      return was ^ (uint64_t) 1 << mutator_below (self, 64);
    case 8:
      return capacity - mutator_below (self, 129) + 64;
    case 9:
      return mutator_below (self, 64);
    case 10:
      return (uint64_t) 0x7fffffff + mutator_below (self, 3);
    default:
      return mutator_next (self);
    }
}

/* near: position where a record begins that may be looked at now. */
static inline uint8_t *
mutator_place (Mutator *self, const MutatorHalf *half, uint64_t near, unsigned *ret_size)
{
  static const struct
  {
    uint8_t offset, size;
  } words[] = { { 0, 8 }, { 64, 8 }, { 72, 8 }, { 128, 4 }, { 132, 4 }, { 136, 4 } },
    heads[] = { { 0, 8 }, { 8, 8 }, { 16, 4 }, { 20, 4 }, { 24, 2 }, { 26, 2 }, { 28, 4 }, { 32, 4 }, { 36, 4 }, { 40, 8 } };
  uint8_t *data = half->base + MUTATOR_PAGE;
  uint32_t kind = mutator_below (self, 8), n;

  if (kind == 0)
    {
      n = mutator_below (self, sizeof words / sizeof *words);
      *ret_size = words[n].size;
      return half->base + words[n].offset;
    }
  near += mutator_below (self, 4) * (uint64_t) 64 - 128;
  if (kind < 5)
    {
      n = mutator_below (self, sizeof heads / sizeof *heads);
      *ret_size = heads[n].size;
      return data + ((near + heads[n].offset) & (half->capacity - 1));
    }
  *ret_size = 4;
  if (kind < 7)
    return data + ((near + 48 + 4 * mutator_below (self, 64)) & (half->capacity - 1));
  return half->base + 4 * mutator_below (self, (MUTATOR_PAGE + half->capacity) / 4);
}

/* Unless somebody has written there since. */
static inline void
mutator_undo (MutatorChange *change)
{
  if (change->at && mutator_read (change->at, change->size) == change->wrote)
    mutator_write (change->at, change->size, change->was);
  change->at = NULL;
}

static inline void
mutator_change (Mutator *self, const MutatorHalf *half, uint64_t near)
{
  MutatorChange change;
  uint32_t lasts = mutator_below (self, 2048);
  uint64_t value;

  change.at = mutator_place (self, half, near, &change.size);
  change.was = mutator_read (change.at, change.size);
  value = mutator_value (self, change.was, half->capacity);
  if (change.at == half->base + MUTATOR_OWN)
    value &= ~(uint64_t) 63;
  mutator_write (change.at, change.size, value);
  change.wrote = mutator_read (change.at, change.size);
  self->n++;
  if (lasts == 0)
    return; /* for good */
  if (lasts < 20)
    {
      MutatorChange *old = &self->later[self->n % MUTATOR_LATER];

      mutator_undo (old);
      *old = change;
      return;
    }
  for (uint32_t i = lasts % 48; i > 0; i--)
    atomic_signal_fence (memory_order_seq_cst);
  mutator_undo (&change);
}

/* Before the half goes. */
static inline void
mutator_settle (Mutator *self)
{
  for (unsigned i = 0; i < MUTATOR_LATER; i++)
    mutator_undo (&self->later[i]);
}

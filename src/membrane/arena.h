/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Memory of one call: taken piece by piece, given back all at once.  Bounded, so that no request can make the host grow.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

typedef struct ArenaChunk ArenaChunk;
typedef struct
{
  uint8_t *at, *end;            /* of the current chunk */
  ArenaChunk *chunks;           /* newest first */
  size_t taken, limit;          /* bytes of all chunks, and their bound */
} Arena;

typedef struct
{
  uint8_t *at, *end;
  ArenaChunk *chunks;
} ArenaMark;

void arena_init (Arena *arena, size_t limit);
void arena_clear (Arena *arena);

/* A new chunk; not for callers. */
void *arena_grow (Arena *arena, size_t size);

/* `size` bytes, 16-byte aligned, not zeroed; NULL when the bound or memory is exhausted. */
static inline void *
arena_get (Arena *arena, size_t size)
{
  uint8_t *p = (uint8_t *) (((uintptr_t) arena->at + 15) & ~(uintptr_t) 15);

  if (p != NULL && p <= arena->end && size <= (size_t) (arena->end - p))
    {
      arena->at = p + size;
      return p;
    }
  return arena_grow (arena, size);
}

/* Nested calls on one thread share its arena: what was taken since the mark is given back.  One chunk is always kept. */
static inline ArenaMark
arena_mark (const Arena *arena)
{
  return (ArenaMark) { arena->at, arena->end, arena->chunks };
}
void arena_release_slow (Arena *arena, ArenaMark mark);
static inline void
arena_release (Arena *arena, ArenaMark mark)
{
  if (arena->chunks == mark.chunks)
    arena->at = mark.at;
  else
    arena_release_slow (arena, mark);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "arena.h"

#include <stdlib.h>

#define CHUNK_SIZE (64u * 1024u - 64u)

struct ArenaChunk
{
  ArenaChunk *next;
  size_t size;                  /* of bytes */
  _Alignas (16) uint8_t bytes[];
};

void
arena_init (Arena *arena, size_t limit)
{
  *arena = (Arena) { .limit = limit };
}

static void
drop_newest (Arena *arena)
{
  ArenaChunk *chunk = arena->chunks;

  arena->chunks = chunk->next;
  arena->taken -= chunk->size;
  free (chunk);
}

void
arena_clear (Arena *arena)
{
  while (arena->chunks != NULL)
    drop_newest (arena);
  arena->at = arena->end = NULL;
}

void *
arena_grow (Arena *arena, size_t size)
{
  size_t left = arena->limit - arena->taken, bytes = size > CHUNK_SIZE ? size : CHUNK_SIZE;
  ArenaChunk *chunk;

  if (bytes > left)
    bytes = size;
  if (bytes > left || bytes > SIZE_MAX - sizeof *chunk)
    return NULL;
  chunk = malloc (sizeof *chunk + bytes);
  if (chunk == NULL)
    return NULL;
  chunk->next = arena->chunks;
  chunk->size = bytes;
  arena->chunks = chunk;
  arena->taken += bytes;
  arena->at = chunk->bytes + size;
  arena->end = chunk->bytes + bytes;
  return chunk->bytes;
}

void
arena_release_slow (Arena *arena, ArenaMark mark)
{
  /* One ordinary chunk is kept, so that a thread that serves does not allocate for each call. */
  while (arena->chunks != mark.chunks && (mark.chunks != NULL || arena->chunks->next != NULL || arena->chunks->size > CHUNK_SIZE))
    drop_newest (arena);
  if (arena->chunks == mark.chunks)
    {
      arena->at = mark.at;
      arena->end = mark.end;
    }
  else
    {
      arena->at = arena->chunks->bytes;
      arena->end = arena->at + arena->chunks->size;
    }
}

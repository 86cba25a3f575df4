/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Records one way.  The reader copies each out and says after every eighth of the ring how far it has come; the writer looks at
 * that only when it has used up the room that it knows of.  A batch becomes visible when its first record does, which is written
 * last.
 */
#include "limits.h"

#include <stdlib.h>

typedef struct
{
  _Alignas (64) _Atomic uint64_t released;
  LimitRing ring;
} Stream;

typedef struct
{
  LimitPair pair;
  uint64_t position, limit;     /* limit: known to be free up to there */
  uint32_t batch;
  uint64_t header[5], payload[8];
} Writer;

static void
stream_serve (void *memory)
{
  Stream *stream = memory;
  uint64_t header[5], payload[8];

  for (uint64_t position = 0;; position++)
    {
      if (position % (LIMIT_RING_RECORDS / 8) == 0)
        atomic_store_explicit (&stream->released, position, memory_order_release);
      limit_get (limit_slot (&stream->ring, position), position, header, payload);
      limit_use (header);
      limit_use (payload);
    }
}

static void
wait_for_room (Writer *writer, uint32_t n)
{
  Stream *stream = writer->pair.memory;

  while (writer->position + n > writer->limit)
    {
      limit_pause ();
      writer->limit = atomic_load_explicit (&stream->released, memory_order_acquire) + LIMIT_RING_RECORDS;
    }
}

static bool
stream_run (void *state, uint32_t n)
{
  Writer *writer = state;
  Stream *stream = writer->pair.memory;

  for (uint32_t done = 0; done < n; done += writer->batch)
    {
      uint64_t first = writer->position;

      wait_for_room (writer, writer->batch);
      for (uint64_t position = first + 1; position < first + writer->batch; position++)
        limit_put_ahead (limit_slot (&stream->ring, position), position, writer->header, writer->payload);
      limit_put (limit_slot (&stream->ring, first), first, writer->header, writer->payload);
      writer->position += writer->batch;
    }
  return true;
}

static void
stream_teardown (void *state)
{
  Writer *writer = state;

  limit_pair_stop (&writer->pair);
  free (writer);
}

static void *
stream_setup (const BenchPlace *place, uint64_t option, BenchProblem *problem)
{
  Writer *writer = calloc (1, sizeof *writer);

  if (writer)
    writer->batch = (uint32_t) option;
  if (writer && limit_pair_start (&writer->pair, sizeof (Stream), stream_serve, place, problem))
    return writer;
  free (writer);
  return NULL;
}

/* run's n must be a multiple of the batch. */
const BenchSubject limit_stream = { "stream", 1, stream_setup, stream_run, stream_teardown, true };
const BenchSubject limit_stream_100 = { "stream.100", 100, stream_setup, stream_run, stream_teardown, true };

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Two rings; each side copies a record in and a record out, and polls the sequence word of the record that comes next.  There is
 * one record on its way at a time, so nobody needs to know how far the other has read.
 */
#include "limits.h"

#include <stdlib.h>

typedef struct
{
  LimitRing there, back;
} Rings;

typedef struct
{
  LimitPair pair;
  uint64_t position;
  uint64_t header[5], payload[8];
} Caller;

static void
ring_serve (void *memory)
{
  Rings *rings = memory;
  uint64_t header[5], payload[8];

  for (uint64_t position = 0;; position++)
    {
      limit_get (limit_slot (&rings->there, position), position, header, payload);
      limit_put (limit_slot (&rings->back, position), position, header, payload);
    }
}

static bool
ring_run (void *state, uint32_t n)
{
  Caller *caller = state;
  Rings *rings = caller->pair.memory;

  for (; n > 0; n--, caller->position++)
    {
      limit_put (limit_slot (&rings->there, caller->position), caller->position, caller->header, caller->payload);
      limit_get (limit_slot (&rings->back, caller->position), caller->position, caller->header, caller->payload);
      limit_use (caller->payload);
    }
  return true;
}

static void
ring_teardown (void *state)
{
  Caller *caller = state;

  limit_pair_stop (&caller->pair);
  free (caller);
}

static void *
ring_setup (const BenchPlace *place, uint64_t option, BenchProblem *problem)
{
  Caller *caller = calloc (1, sizeof *caller);

  (void) option;
  if (caller && limit_pair_start (&caller->pair, sizeof (Rings), ring_serve, place, problem))
    return caller;
  free (caller);
  return NULL;
}

const BenchSubject limit_ring = { "ring", 0, ring_setup, ring_run, ring_teardown, true };

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * One side copies private memory into a shared buffer and changes a word; the other, which spins on it, adds up all that is in
 * the buffer where it lies, and answers with the sum.
 */
#include "limits.h"

#include <stdlib.h>
#include <string.h>

#include "sum.h"

typedef struct
{
  _Alignas (64) _Atomic uint64_t there;
  uint64_t size;
  _Alignas (64) _Atomic uint64_t back;
  uint64_t sum;
  _Alignas (4096) uint8_t data[];
} Shared;

typedef struct
{
  LimitPair pair;
  uint64_t round;
  size_t size;
  uint64_t *source, sum;
  BenchProblem *problem;
} Caller;

static void
buffer_serve (void *memory)
{
  Shared *shared = memory;

  for (uint64_t round = 1;; round++)
    {
      while (atomic_load_explicit (&shared->there, memory_order_acquire) != round)
        limit_pause ();
      shared->sum = limit_buffer_sum (shared->data, shared->size);
      atomic_store_explicit (&shared->back, round, memory_order_release);
    }
}

static bool
buffer_run (void *state, uint32_t n)
{
  Caller *caller = state;
  Shared *shared = caller->pair.memory;

  for (; n > 0; n--)
    {
      caller->round++;
      memcpy (shared->data, caller->source, caller->size);
      atomic_store_explicit (&shared->there, caller->round, memory_order_release);
      while (atomic_load_explicit (&shared->back, memory_order_acquire) != caller->round)
        limit_pause ();
      if (shared->sum != caller->sum)
        return bench_fail (caller->problem, "buffer: what was read is not what was written");
    }
  return true;
}

static void
buffer_teardown (void *state)
{
  Caller *caller = state;

  limit_pair_stop (&caller->pair);
  free (caller->source);
  free (caller);
}

static void *
buffer_setup (const BenchPlace *place, uint64_t option, BenchProblem *problem)
{
  Caller *caller = calloc (1, sizeof *caller);

  if (caller)
    {
      *caller = (Caller) { .size = option, .source = malloc (option), .problem = problem };
      for (size_t i = 0; caller->source && i < option / sizeof *caller->source; i++)
        caller->source[i] = i * UINT64_C (0x9e3779b97f4a7c15);
    }
  if (!caller || !caller->source || !limit_pair_start (&caller->pair, sizeof (Shared) + option, buffer_serve, place, problem))
    {
      free (caller ? caller->source : NULL);
      free (caller);
      return NULL;
    }
  caller->sum = limit_buffer_sum (caller->source, option);
  ((Shared *) caller->pair.memory)->size = option;      /* before the first round says that there is anything to read */
  return caller;
}

const BenchSubject limit_buffer_64k = { "buffer.64k", 64 << 10, buffer_setup, buffer_run, buffer_teardown, true };
const BenchSubject limit_buffer_1m = { "buffer.1m", 1 << 20, buffer_setup, buffer_run, buffer_teardown, true };

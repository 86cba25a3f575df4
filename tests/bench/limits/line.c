/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * One word in one line: odd numbers go there, even ones come back.
 */
#include "limits.h"

#include <stdlib.h>

typedef struct
{
  LimitPair pair;
  uint64_t last;
} Line;

static void
line_serve (void *memory)
{
  _Atomic uint64_t *word = memory;

  for (uint64_t expected = 1;; expected += 2)
    {
      while (atomic_load_explicit (word, memory_order_acquire) != expected)
        limit_pause ();
      atomic_store_explicit (word, expected + 1, memory_order_release);
    }
}

static bool
line_run (void *state, uint32_t n)
{
  Line *line = state;
  _Atomic uint64_t *word = line->pair.memory;
  uint64_t last = line->last;

  for (; n > 0; n--, last += 2)
    {
      atomic_store_explicit (word, last + 1, memory_order_release);
      while (atomic_load_explicit (word, memory_order_acquire) != last + 2)
        limit_pause ();
    }
  line->last = last;
  return true;
}

static void
line_teardown (void *state)
{
  Line *line = state;

  limit_pair_stop (&line->pair);
  free (line);
}

static void *
line_setup (const BenchPlace *place, uint64_t option, BenchProblem *problem)
{
  Line *line = calloc (1, sizeof *line);

  (void) option;
  if (line && limit_pair_start (&line->pair, 4096, line_serve, place, problem))
    return line;
  free (line);
  return NULL;
}

const BenchSubject limit_line = { "line", 0, line_setup, line_run, line_teardown, true };

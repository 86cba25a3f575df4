/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What a call costs that is no more than a call: the pointer is loaded each time, the callee copies 64 bytes once.
 */
#include "limits.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "fnptr-callee.h"

typedef struct
{
  _Alignas (64) uint64_t from[8];
  uint64_t to[8];
  _Alignas (64) atomic_uintptr_t gate;
} Buffers;

static void (*volatile callee) (void *to, const void *from) = limit_fnptr_callee;

static bool
fnptr_run (void *state, uint32_t n)
{
  Buffers *buffers = state;

  for (; n > 0; n--)
    callee (buffers->to, buffers->from);
  return true;
}

/* Each call copies what the one before has copied. */
static bool
fnptr_run_chained (void *state, uint32_t n)
{
  Buffers *buffers = state;

  for (uint32_t i = 0; i < n; i++)
    if (i % 2 == 0)
      callee (buffers->to, buffers->from);
    else
      callee (buffers->from, buffers->to);
  return true;
}

/* Each call takes a gate that nobody else wants, and lets go of it: what no call of a serial cell can go below. */
static bool
fnptr_run_gated (void *state, uint32_t n)
{
  Buffers *buffers = state;

  for (; n > 0; n--)
    {
      uintptr_t is_free = 0, held = 1;

      if (!atomic_compare_exchange_strong_explicit (&buffers->gate, &is_free, 1, memory_order_acquire, memory_order_relaxed))
        return false;
      callee (buffers->to, buffers->from);
      if (!atomic_compare_exchange_strong_explicit (&buffers->gate, &held, 0, memory_order_release, memory_order_relaxed))
        return false;
    }
  return true;
}

static void *
fnptr_setup (const BenchPlace *place, uint64_t option, BenchProblem *problem)
{
  Buffers *buffers;

  (void) place;
  (void) option;
  (void) problem;
  buffers = aligned_alloc (64, sizeof *buffers);
  if (buffers)
    *buffers = (Buffers) { 0 };
  return buffers;
}

const BenchSubject limit_fnptr = { "fnptr", 0, fnptr_setup, fnptr_run, free, false };
const BenchSubject limit_fnptr_chained = { "fnptr.chained", 0, fnptr_setup, fnptr_run_chained, free, false };
const BenchSubject limit_fnptr_gated = { "fnptr.gated", 0, fnptr_setup, fnptr_run_gated, free, false };

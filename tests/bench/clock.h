/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A clock for single calls: the processor's counter where it is invariant, otherwise CLOCK_MONOTONIC.
 */
#pragma once
#include <stdint.h>

typedef struct
{
  double ns_per_tick;
  uint64_t step;                /* ticks by which it moves at least: on some virtual machines ten nanoseconds */
  const char *name;             /* "tsc", "monotonic" */
} BenchClock;

/* Chooses and calibrates; takes 20 ms. */
void bench_clock_init (void);
extern BenchClock bench_clock;

uint64_t bench_clock_monotonic (void);  /* nanoseconds */

#ifdef __x86_64__
extern _Bool bench_clock_is_tsc;
#endif

/* Nothing before it is still running and nothing after it has begun. */
static inline uint64_t
bench_clock_ticks (void)
{
#ifdef __x86_64__
  uint64_t ticks;

  if (__builtin_expect (bench_clock_is_tsc, 1))
    {
      __builtin_ia32_lfence ();
      ticks = __builtin_ia32_rdtsc ();
      __builtin_ia32_lfence ();
      return ticks;
    }
#endif
  return bench_clock_monotonic ();
}

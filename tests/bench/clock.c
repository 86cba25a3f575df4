/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "clock.h"

#include <time.h>
#ifdef __x86_64__
# include <cpuid.h>
#endif

BenchClock bench_clock = { 1, 1, "monotonic" };

uint64_t
bench_clock_monotonic (void)
{
  struct timespec now;

  clock_gettime (CLOCK_MONOTONIC, &now);
  return (uint64_t) now.tv_sec * 1000000000u + (uint64_t) now.tv_nsec;
}

#ifdef __x86_64__
_Bool bench_clock_is_tsc;

/* One moment on both clocks: the tightest of several looks, since the process may be interrupted between the two. */
static void
look_at_both (uint64_t *ticks, uint64_t *ns)
{
  uint64_t tightest = UINT64_MAX;

  for (int i = 0; i < 32; i++)
    {
      uint64_t before = bench_clock_ticks (), monotonic = bench_clock_monotonic (), after = bench_clock_ticks ();

      if (after - before >= tightest)
        continue;
      tightest = after - before;
      *ticks = before + (after - before) / 2;
      *ns = monotonic;
    }
}

static uint64_t
greatest_divisor (uint64_t a, uint64_t b)
{
  while (b > 0)
    {
      uint64_t rest = a % b;

      a = b;
      b = rest;
    }
  return a;
}

static uint64_t
find_step (void)
{
  uint64_t start = bench_clock_ticks (), step = 0;

  for (int i = 0; i < 1000; i++)
    step = greatest_divisor (bench_clock_ticks () - start, step);
  return step > 0 ? step : 1;
}

static void
calibrate (void)
{
  uint64_t ticks[2], ns[2];
  uint64_t until = bench_clock_monotonic () + 20000000;

  look_at_both (&ticks[0], &ns[0]);
  while (bench_clock_monotonic () < until)
    continue;
  look_at_both (&ticks[1], &ns[1]);
  bench_clock = (BenchClock) { (double) (ns[1] - ns[0]) / (double) (ticks[1] - ticks[0]), find_step (), "tsc" };
}
#endif

void
bench_clock_init (void)
{
#ifdef __x86_64__
  uint32_t a, b, c, d;

  /* The counter must run at one rate whatever the processor does. */
  bench_clock_is_tsc = __get_cpuid (0x80000007, &a, &b, &c, &d) && (d & 1u << 8);
  if (bench_clock_is_tsc)
    calibrate ();
#endif
}

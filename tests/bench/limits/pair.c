/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "limits.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "../place.h"

bool
limit_pair_start (LimitPair *pair, size_t size, void (*serve) (void *memory), const BenchPlace *place, BenchProblem *problem)
{
  void *memory = mmap (NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

  if (memory == MAP_FAILED)
    return bench_fail (problem, "cannot map %zu bytes: %s", size, strerror (errno));
  *pair = (LimitPair) { memory, size, bench_fork (place->peer_cpu, serve, memory, problem) };
  if (pair->peer > 0)
    return true;
  limit_pair_stop (pair);
  return false;
}

void
limit_pair_stop (LimitPair *pair)
{
  bench_kill (pair->peer);
  munmap (pair->memory, pair->size);
}

void
limit_idle (void *state)
{
  (void) state;
  clock_nanosleep (CLOCK_MONOTONIC, 0, &(struct timespec) { 0, 500000 }, NULL);
}

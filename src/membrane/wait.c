/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include "wait.h"

#include <errno.h>
#include <linux/futex.h>
#include <limits.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_futex_waitv
# define SYS_futex_waitv 449
#endif
#ifndef FUTEX_32                /* Debian 12's headers have them; older ones do not */
# define FUTEX_32 2
struct futex_waitv { uint64_t val, uaddr; uint32_t flags, __reserved; };
#endif

#define WORDS_MAX 4
#define ASK_MS 100u             /* after which a process looks again if it still has one processor */

uint64_t
monotonic_ns (void)
{
  struct timespec now;

  clock_gettime (CLOCK_MONOTONIC, &now);
  return (uint64_t) now.tv_sec * 1000000000u + (uint64_t) now.tv_nsec;
}

uint32_t
coarse_ms (void)
{
  struct timespec now;

  clock_gettime (CLOCK_MONOTONIC_COARSE, &now);
  return (uint32_t) ((uint64_t) now.tv_sec * 1000u + (uint64_t) now.tv_nsec / 1000000u);
}

unsigned
processors (void)
{
  static _Atomic unsigned known;
  static _Atomic uint32_t asked_at;
  unsigned n = load_relaxed (&known);

  /* One may be for a while: see host/placement.h. */
  if (n == 0 || (n == 1 && coarse_ms () - load_relaxed (&asked_at) > ASK_MS))
    {
      cpu_set_t set;

      n = sched_getaffinity (0, sizeof set, &set) == 0 ? (unsigned) CPU_COUNT (&set) : 1;
      store_relaxed (&known, n);
      store_relaxed (&asked_at, coarse_ms ());
    }
  return n;
}

unsigned
current_cpu (void)
{
  int cpu = sched_getcpu ();    /* glibc ≥ 2.35 reads the rseq area: no system call */

  return cpu < 0 ? 0 : (unsigned) cpu;
}

int
futex_wake (const _Atomic uint32_t *word, int n)
{
  long woken = syscall (SYS_futex, word, FUTEX_WAKE, n, NULL, NULL, 0);

  return woken < 0 ? 0 : (int) woken;
}

bool
futex_wait_until (const _Atomic uint32_t *word, uint32_t value, uint64_t deadline)
{
  return futex_wait_any (&(FutexWord) { word, value }, 1, deadline);
}

bool
futex_wait_any (const FutexWord *words, unsigned n, uint64_t deadline)
{
  struct futex_waitv waiters[WORDS_MAX];
  struct timespec until = { (time_t) (deadline / 1000000000u), (long) (deadline % 1000000000u) };

  for (unsigned i = 0; i < n && i < WORDS_MAX; i++)
    waiters[i] = (struct futex_waitv) { .val = words[i].value, .uaddr = (uintptr_t) words[i].word, .flags = FUTEX_32 };
  if (syscall (SYS_futex_waitv, waiters, n, 0, &until, CLOCK_MONOTONIC) >= 0)
    return true;
  return errno != ETIMEDOUT;
}

uint32_t
spin_budget (const SpinBudget *budget, uint32_t peer_cpu)
{
  /* The other side cannot run while we spin on its processor. */
  if (peer_cpu != 0)
    return peer_cpu != 1 + current_cpu () ? budget->budget_ns : 0;
  return processors () >= 2 ? budget->budget_ns : 0;
}

void
spin_won (SpinBudget *budget)
{
  budget->misses = 0;
  budget->budget_ns = SPIN_MAX_NS;
}

/* An answer that takes longer than the whole budget three times in a row is not worth spinning for: short looks until one
 * comes in time again. */
void
spin_lost (SpinBudget *budget)
{
  if (++budget->misses >= 3)
    budget->budget_ns = budget->misses % 16 == 0 ? SPIN_MAX_NS / 4 : SPIN_MIN_NS;
}

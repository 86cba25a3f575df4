/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Each side changes the other's word, wakes it, and sleeps on its own until that changes.
 */
#include "limits.h"

#include <linux/futex.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef struct
{
  _Alignas (64) _Atomic uint32_t there;
  _Alignas (64) _Atomic uint32_t back;
} Words;

typedef struct
{
  LimitPair pair;
  uint32_t round;
} Caller;

static void
tell (_Atomic uint32_t *word, uint32_t round)
{
  atomic_store_explicit (word, round, memory_order_release);
  syscall (SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void
sleep_until (_Atomic uint32_t *word, uint32_t round)
{
  while (atomic_load_explicit (word, memory_order_acquire) != round)
    syscall (SYS_futex, word, FUTEX_WAIT, round - 1, NULL, NULL, 0);
}

static void
futex_serve (void *memory)
{
  Words *words = memory;

  for (uint32_t round = 1;; round++)
    {
      sleep_until (&words->there, round);
      tell (&words->back, round);
    }
}

static bool
futex_run (void *state, uint32_t n)
{
  Caller *caller = state;
  Words *words = caller->pair.memory;

  for (; n > 0; n--)
    {
      caller->round++;
      tell (&words->there, caller->round);
      sleep_until (&words->back, caller->round);
    }
  return true;
}

static void
futex_teardown (void *state)
{
  Caller *caller = state;

  limit_pair_stop (&caller->pair);
  free (caller);
}

static void *
futex_setup (const BenchPlace *place, uint64_t option, BenchProblem *problem)
{
  Caller *caller = calloc (1, sizeof *caller);

  (void) option;
  if (caller && limit_pair_start (&caller->pair, sizeof (Words), futex_serve, place, problem))
    return caller;
  free (caller);
  return NULL;
}

const BenchSubject limit_futex = { "futex", 0, futex_setup, futex_run, futex_teardown, false };
const BenchSubject limit_futex_idle = { "futex.idle", 0, futex_setup, futex_run, futex_teardown, false, limit_idle };

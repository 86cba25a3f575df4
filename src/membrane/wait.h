/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Waiting: spin for as long as answers usually take, then sleep on several futex words at once.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "atomic.h"

#define SPIN_MAX_NS 200000u
#define SPIN_MIN_NS 5000u

uint64_t monotonic_ns (void);
/* Milliseconds, to a few of them, for next to nothing. */
uint32_t coarse_ms (void);
/* How many processors this process may run on, looked at once a second at most by those who ask. */
unsigned processors (void);
/* The processor this thread runs on; a load from memory that the kernel keeps up to date, where there is rseq. */
unsigned current_cpu (void);

/* Wakes up to n sleepers; returns how many there were. */
int futex_wake (const _Atomic uint32_t *word, int n);

/* Sleeps while *word is value.  False: the deadline (CLOCK_MONOTONIC, ns) passed. */
bool futex_wait_until (const _Atomic uint32_t *word, uint32_t value, uint64_t deadline);

typedef struct
{
  const _Atomic uint32_t *word;
  uint32_t value;
} FutexWord;

/* Sleeps while every word has its value.  False: the deadline passed. */
bool futex_wait_any (const FutexWord *words, unsigned n, uint64_t deadline);

/* How long to spin: learnt from how long answers took.  One per channel. */
typedef struct
{
  uint32_t budget_ns;           /* to spin before sleeping */
  uint32_t misses;              /* sleeps in a row */
} SpinBudget;

#define SPIN_BUDGET_INIT { SPIN_MAX_NS, 0 }

/* peer_cpu: 1 + the processor on which the other side was last seen, or 0. */
uint32_t spin_budget (const SpinBudget *budget, uint32_t peer_cpu);
void spin_won (SpinBudget *budget);
void spin_lost (SpinBudget *budget);

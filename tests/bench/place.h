/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Processors, and processes pinned to them.
 */
#pragma once
#include <stdbool.h>
#include <sys/types.h>

#include "harness.h"

/* Chooses two processors among those that this process may use: two cores of one package if there are such. */
bool bench_place_choose (BenchPlacement placement, BenchPlace *place, BenchProblem *problem);

/* Pins the calling thread; -1 gives it all the processors back that the process started with. */
bool bench_pin (int cpu);

/* Pins all threads that a process has. */
bool bench_pin_process (pid_t pid, int cpu, BenchProblem *problem);

/* Forks a process that is pinned, calls serve (data), and ends when this one does.  -1: problem says why. */
pid_t bench_fork (int cpu, void (*serve) (void *data), void *data, BenchProblem *problem);
/* The same for a program. */
pid_t bench_spawn (int cpu, char *const argv[], BenchProblem *problem);
/* Kills a process at once and reaps it; nothing for 0 and below. */
void bench_kill (pid_t pid);

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The tables of figures, one for each bench-*.c; each ends with a figure that has no name.
 */
#pragma once
#include "harness.h"

extern const BenchFigure bench_limit_figures[], bench_call_figures[], bench_load_figures[], bench_memory_figures[],
  bench_relocate_figures[], bench_exchange_figures[], bench_hostile_figures[], bench_host_figures[], bench_recover_figures[];

/* bubblewrap as cells have it, and in it what does nothing. */
extern const BenchSubject bench_limit_sandbox;

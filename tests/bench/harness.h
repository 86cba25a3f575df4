/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * How a figure is measured: beside its limit, interleaved.  Limit, candidate, limit, candidate, limit … : a candidate's
 * reading and the limit's readings before and after it are a pair, which is thrown away when the two limits differ by more than
 * 1.6 times, since then the machine itself moved.  Enough pairs must be left, or the figure is called unsteady.  The median of
 * the ratios counts.
 *
 * A reading makes calls for a fixed time and takes a sample for each, or for each batch of a few where a call takes nanoseconds.
 * Its value is the median sample, for a rate as well: where others use the machine the mean says how much they do.  A rate's
 * batch must therefore be many times what fits in the ring, so that each sample has its share of waiting for room.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "histogram.h"

typedef struct BenchFigure BenchFigure;

typedef enum
{
  BENCH_TWO_CORES,              /* the measuring process on one, its peer on another; skipped where there is one only */
  BENCH_ONE_CORE,               /* both on the same */
  BENCH_ANYWHERE                /* not pinned */
} BenchPlacement;

/* Where to run.  The measuring thread is pinned to `cpu` before setup is called; a peer that setup starts belongs on `peer_cpu`. */
typedef struct
{
  int cpu, peer_cpu;            /* -1: anywhere */
  bool one_core;                /* two processors, but threads of one core: there was nothing better */
} BenchPlace;

/* What went wrong; it lives as long as what setup returned. */
typedef struct
{
  bool is_set, is_skip;         /* skip: this machine cannot do it, which is no failure */
  char text[240];
} BenchProblem;

/* Each sets the problem and returns false. */
bool bench_fail (BenchProblem *problem, const char *format, ...) __attribute__ ((format (printf, 2, 3)));
bool bench_skip (BenchProblem *problem, const char *format, ...) __attribute__ ((format (printf, 2, 3)));

/* A limit or a candidate. */
typedef struct
{
  const char *name;
  uint64_t option;              /* for setup: a size, a batch */
  void *(*setup) (const BenchPlace *place, uint64_t option, BenchProblem *problem);     /* NULL: problem says why */
  bool (*run) (void *state, uint32_t n);        /* makes n calls; false: problem says why */
  void (*teardown) (void *state);
  bool restarts;                /* its peer spins while it is set up, so it is set up for each reading.  What stays must be quiet
                                 * between its readings. */
  void (*pause) (void *state);  /* NULL, or: called before each sample, which does not count it */
} BenchSubject;

typedef enum
{
  BENCH_NO_TARGET,
  BENCH_RATIO_AT_MOST, BENCH_RATIO_AT_LEAST,
  BENCH_VALUE_AT_MOST
} BenchTarget;

typedef struct
{
  bool pairs;                   /* there is a ratio */
  bool unsteady;                /* too few pairs were left */
  BenchProblem problem;
  double value, p50, p99, p999; /* in the figure's unit; percentiles are NAN when there are none */
  double limit_value, ratio;
  double lowest, highest;       /* the spread: of the ratio, or of the value when there is no limit */
  double beside_value;          /* NAN: none */
  double instructions, limit_instructions;      /* per call, in user mode; NAN: not counted */
  uint32_t n_kept, n_discarded; /* pairs or readings */
  char note[160];               /* whatever else a reader should know */
} BenchResult;

typedef struct
{
  bool quick;                   /* as short as can be: a test that it runs */
  uint64_t reading_ns;
  uint32_t n_pairs, max_attempts;
} BenchSettings;

/* One line of the output.  Without `run` the candidate is measured beside the limit, or alone where there is none. */
struct BenchFigure
{
  const char *name, *unit;      /* "ns" is time per call; "/s" is a rate; with `run`: anything */
  BenchPlacement placement;
  uint32_t batch;               /* calls per sample; 0 is 1 */
  BenchTarget target_kind;
  double target;
  const BenchSubject *limit, *candidate;
  const BenchSubject *beside;   /* another limit, for comparison */
  bool instructions;            /* count them as well: all work is on the measuring thread */
  uint32_t timeout;             /* seconds after which the whole program ends; 0 is 120 */
  void (*run) (const BenchFigure *figure, const BenchSettings *settings, const BenchPlace *place, BenchResult *result);
};

bool bench_is_rate (const BenchFigure *figure);
/* Whether there is a target, and a value to hold against it. */
bool bench_has_target (const BenchFigure *figure, const BenchResult *result);
bool bench_target_met (const BenchFigure *figure, const BenchResult *result);

/* Measures one figure.  Problems are in the result. */
void bench_measure (const BenchFigure *figure, const BenchSettings *settings, BenchResult *result);

/* For a figure's own `run`: the same as would be done without, for another figure of the same shape. */
void bench_pair (const BenchFigure *figure, const BenchSettings *settings, const BenchPlace *place, BenchResult *result);
/* For a figure's own `run`: percentiles of nanoseconds per call, where the samples were recorded as picoseconds. */
void bench_result_percentiles (const BenchFigure *figure, BenchResult *result, const Histogram *picoseconds);

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The harness itself: percentiles against sorted values, and what it makes of subjects that misbehave.
 */
#include <glib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "harness.h"
#include "report.h"

enum
{
  N_VALUES = 20000
};

static int
compare_values (const void *a, const void *b)
{
  uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

  return (x > y) - (x < y);
}

static void
test_percentiles (void)
{
  static const double shares[] = { 0.001, 0.5, 0.9, 0.99, 0.999, 1 };
  g_autofree Histogram *histogram = g_new0 (Histogram, 1), *sum = g_new0 (Histogram, 1);
  g_autofree uint64_t *values = g_new (uint64_t, N_VALUES);

  for (int i = 0; i < N_VALUES; i++)    /* over all octaves */
    {
      values[i] = ((uint64_t) (uint32_t) g_test_rand_int () << 15) >> g_test_rand_int_range (0, 44);
      histogram_record (i % 2 ? histogram : sum, values[i]);
    }
  histogram_add (sum, histogram);
  g_assert_cmpuint (sum->n, ==, N_VALUES);
  qsort (values, N_VALUES, sizeof *values, compare_values);
  g_assert_cmpuint (sum->max, ==, values[N_VALUES - 1]);
  for (guint i = 0; i < G_N_ELEMENTS (shares); i++)
    {
      double exact = (double) values[(int) ceil (shares[i] * N_VALUES) - 1];

      g_assert_cmpfloat_with_epsilon (histogram_percentile (sum, shares[i]), exact, exact / 128 + 0.5);
    }
}

static void
test_histogram_edges (void)
{
  g_autofree Histogram *histogram = g_new0 (Histogram, 1);

  g_assert_cmpfloat (histogram_percentile (histogram, 0.5), ==, 0);
  histogram_record (histogram, 0);
  g_assert_cmpfloat (histogram_percentile (histogram, 0.999), ==, 0);
  histogram_record (histogram, UINT64_MAX);
  g_assert_cmpfloat (histogram_percentile (histogram, 0.5), ==, 0);
  g_assert_cmpfloat (histogram_percentile (histogram, 1), >, 1e14);
}

typedef struct
{
  int setups, teardowns;
  uint64_t calls, fails_at, pauses;
} Counts;

static Counts counts;

static void *
count_setup (const BenchPlace *place, uint64_t option, BenchProblem *problem)
{
  (void) place;
  if (option == 1)
    bench_skip (problem, "no such device");
  if (option > 0)
    return NULL;
  counts.setups++;
  return &counts;
}

static bool
count_run (void *state, uint32_t n)
{
  Counts *c = state;

  c->calls += n;
  return c->fails_at == 0 || c->calls < c->fails_at;
}

static void
count_teardown (void *state)
{
  ((Counts *) state)->teardowns++;
}

static void
count_pause (void *state)
{
  ((Counts *) state)->pauses++;
  g_usleep (1000);
}

static const BenchSubject pausing = { "pausing", 0, count_setup, count_run, count_teardown, false, count_pause };
static const BenchSubject good = { "good", 0, count_setup, count_run, count_teardown, false };
static const BenchSubject restarting = { "restarting", 0, count_setup, count_run, count_teardown, true };
static const BenchSubject missing = { "missing", 1, count_setup, count_run, count_teardown, false };
static const BenchSubject broken = { "broken", 2, count_setup, count_run, count_teardown, false };
static const BenchSettings settings = { .quick = true, .reading_ns = 100000, .n_pairs = 3, .max_attempts = 5 };

static BenchResult
measure (const BenchSubject *limit, const BenchSubject *candidate, uint64_t fails_at)
{
  BenchFigure figure = { .name = "f", .unit = "ns", .placement = BENCH_ONE_CORE, .batch = 7, .limit = limit,
                         .candidate = candidate };
  BenchResult result;

  counts = (Counts) { .fails_at = fails_at };
  bench_measure (&figure, &settings, &result);
  g_assert_cmpint (counts.setups, ==, counts.teardowns);
  g_assert_cmpuint (counts.calls % 7, ==, 0);
  return result;
}

static void
test_readings (void)
{
  BenchResult result = measure (&good, &good, 0);
  int readings;

  g_assert_false (result.problem.is_set);
  g_assert_cmpint (counts.setups, ==, 2);
  g_assert_cmpuint (result.n_kept + result.n_discarded, >=, 3);
  g_assert_cmpuint (result.n_kept + result.n_discarded, <=, 5);
  g_assert_true (result.unsteady == (result.n_kept < 3));

  /* Limit, candidate, limit … : one reading of the limit more than there are pairs, each with a new peer; one candidate. */
  result = measure (&restarting, &good, 0);
  readings = (int) (result.n_kept + result.n_discarded) + 1;
  g_assert_cmpint (counts.setups, ==, readings + 1);

  result = measure (NULL, &good, 0);
  g_assert_false (result.pairs);
  g_assert_true (isnan (result.ratio));
  g_assert_cmpuint (result.n_kept, ==, 3);
}

static void
test_problems (void)
{
  BenchResult result = measure (&good, &missing, 0);

  g_assert_true (result.problem.is_set && result.problem.is_skip);
  g_assert_cmpstr (result.problem.text, ==, "no such device");
  result = measure (&broken, &good, 0);
  g_assert_true (result.problem.is_set && !result.problem.is_skip);
  g_assert_nonnull (strstr (result.problem.text, "broken"));
  result = measure (&good, &good, 100);
  g_assert_true (result.problem.is_set && !result.problem.is_skip);
  g_assert_nonnull (strstr (result.problem.text, "good"));
}

static void
test_targets (void)
{
  BenchFigure figure = { .name = "f", .unit = "ns", .target_kind = BENCH_RATIO_AT_MOST, .target = 1.25 };
  BenchResult result = { .pairs = true, .ratio = 1.25, .value = 10 };

  g_assert_true (bench_has_target (&figure, &result) && bench_target_met (&figure, &result));
  result.ratio = 1.26;
  g_assert_false (bench_target_met (&figure, &result));
  figure.target_kind = BENCH_RATIO_AT_LEAST;
  g_assert_true (bench_target_met (&figure, &result));
  result.pairs = false;
  g_assert_false (bench_has_target (&figure, &result));
  figure.target_kind = BENCH_VALUE_AT_MOST;
  g_assert_true (bench_has_target (&figure, &result) && !bench_target_met (&figure, &result));
  figure.target = 10;
  g_assert_true (bench_target_met (&figure, &result));
  result.unsteady = true;
  g_assert_false (bench_has_target (&figure, &result));
}

/* One before each sample, which is none of it: all of the samples together take less than one of them. */
static void
test_pauses (void)
{
  BenchResult result = measure (NULL, &pausing, 0);

  g_assert_false (result.problem.is_set);
  g_assert_cmpuint (counts.pauses, ==, counts.calls / 7);
  g_assert_cmpfloat (result.value, <, 1000000 / 7);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  bench_clock_init ();
  g_test_add_func ("/bench/percentiles", test_percentiles);
  g_test_add_func ("/bench/histogram-edges", test_histogram_edges);
  g_test_add_func ("/bench/readings", test_readings);
  g_test_add_func ("/bench/pauses", test_pauses);
  g_test_add_func ("/bench/problems", test_problems);
  g_test_add_func ("/bench/targets", test_targets);
  return g_test_run ();
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "harness.h"

#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "instructions.h"
#include "place.h"

#define STEADY 1.6              /* how far two readings of a limit may be apart */
#define ENOUGH_PAIRS 5          /* for a result, if there cannot be as many as wanted */
#define MAX_PAIRS 64

/* What a subject's calls took. */
typedef struct
{
  double ns;                    /* per call: the median sample */
  Histogram samples;            /* picoseconds per call */
} Reading;

typedef struct
{
  const BenchSubject *subject;
  void *state;                  /* NULL: not set up */
} Seat;

typedef struct
{
  double limit, candidate, ratio;
} Pair;

bool
bench_fail (BenchProblem *problem, const char *format, ...)
{
  va_list args;

  problem->is_set = true;
  problem->is_skip = false;
  va_start (args, format);
  vsnprintf (problem->text, sizeof problem->text, format, args);
  va_end (args);
  return false;
}

bool
bench_skip (BenchProblem *problem, const char *format, ...)
{
  va_list args;

  problem->is_set = problem->is_skip = true;
  va_start (args, format);
  vsnprintf (problem->text, sizeof problem->text, format, args);
  va_end (args);
  return false;
}

bool
bench_is_rate (const BenchFigure *figure)
{
  return strstr (figure->unit, "/s") != NULL;
}

static bool
is_ratio_target (const BenchFigure *figure)
{
  return figure->target_kind == BENCH_RATIO_AT_MOST || figure->target_kind == BENCH_RATIO_AT_LEAST;
}

bool
bench_has_target (const BenchFigure *figure, const BenchResult *result)
{
  return figure->target_kind != BENCH_NO_TARGET && !result->problem.is_set && !result->unsteady
         && (result->pairs || !is_ratio_target (figure));
}

bool
bench_target_met (const BenchFigure *figure, const BenchResult *result)
{
  double got = is_ratio_target (figure) ? result->ratio : result->value;
  bool at_most = figure->target_kind == BENCH_RATIO_AT_MOST || figure->target_kind == BENCH_VALUE_AT_MOST;

  return at_most ? got <= figure->target : got >= figure->target;
}

static uint32_t
batch_of (const BenchFigure *figure)
{
  return figure->batch > 0 ? figure->batch : 1;
}

/* Nanoseconds per call in the figure's unit.  So p99 of a rate is what 99 % of the samples reached. */
static double
in_unit (const BenchFigure *figure, double ns)
{
  if (!bench_is_rate (figure))
    return ns;
  return ns > 0 ? 1e9 / ns : NAN;
}

/* ---- readings ------------------------------------------------------------------------------- */

static bool
run_nothing (void *state, uint32_t n)
{
  (void) state;
  (void) n;
  return true;
}

/* Ticks that a sample takes when there is nothing to run: two looks at the clock, one call of run.  The mean, without the samples
 * that were interrupted. */
static double
sampling_cost (void)
{
  enum { N = 4096 };
  static double cost;
  bool (*volatile run) (void *, uint32_t) = run_nothing;
  uint64_t least = UINT64_MAX, sum = 0, n = 0, taken[N];

  if (cost > 0)
    return cost;
  for (int i = 0; i < N; i++)
    {
      uint64_t start = bench_clock_ticks ();

      run (NULL, 1);
      taken[i] = bench_clock_ticks () - start;
      least = taken[i] < least ? taken[i] : least;
    }
  for (int i = 0; i < N; i++)
    if (taken[i] <= 2 * least + 2 * bench_clock.step)
      {
        sum += taken[i];
        n++;
      }
  cost = (double) sum / (double) n;
  return cost;
}

/* A random part of the clock's step, from minus to plus a half, so that percentiles do not come in steps. */
static double
dither (void)
{
  static uint64_t random = 1;

  random = random * UINT64_C (6364136223846793005) + UINT64_C (1442695040888963407);
  return ((double) (random >> 40) / (1 << 24) - 0.5) * (double) bench_clock.step;
}

static bool
warm_up (const Seat *seat, uint32_t batch, uint64_t ns)
{
  uint64_t until = bench_clock_monotonic () + ns;

  do
    {
      if (seat->subject->pause)
        seat->subject->pause (seat->state);
      if (!seat->subject->run (seat->state, batch))
        return false;
    }
  while (bench_clock_monotonic () < until);
  return true;
}

static bool
take_samples (const Seat *seat, const BenchFigure *figure, uint64_t ns, Reading *reading)
{
  bool (*run) (void *, uint32_t) = seat->subject->run;
  uint32_t batch = batch_of (figure);
  double cost = sampling_cost (), ps_per_tick = bench_clock.ns_per_tick * 1000 / batch;
  uint64_t start, end, until = bench_clock_ticks () + (uint64_t) ((double) ns / bench_clock.ns_per_tick);

  histogram_reset (&reading->samples);
  do
    {
      double taken;

      if (seat->subject->pause)
        seat->subject->pause (seat->state);
      start = bench_clock_ticks ();
      if (!run (seat->state, batch))
        return false;
      end = bench_clock_ticks ();
      taken = fmax ((double) (end - start) - cost + dither (), 0);
      histogram_record (&reading->samples, (uint64_t) (taken * ps_per_tick));
    }
  while (end < until);
  reading->ns = histogram_percentile (&reading->samples, 0.5) / 1000;
  return true;
}

static bool
sit (Seat *seat, const BenchSubject *subject, const BenchPlace *place, BenchProblem *problem)
{
  seat->subject = subject;
  if (!seat->state)
    seat->state = subject->setup (place, subject->option, problem);
  if (!seat->state && !problem->is_set)
    bench_fail (problem, "%s cannot be set up", subject->name);
  return seat->state != NULL;
}

static void
rise (Seat *seat)
{
  if (seat->state)
    seat->subject->teardown (seat->state);
  seat->state = NULL;
}

static bool
take_reading (Seat *seat, const BenchSubject *subject, const BenchFigure *figure, const BenchSettings *settings,
              const BenchPlace *place, Reading *reading, BenchProblem *problem)
{
  bool good;

  if (!sit (seat, subject, place, problem))
    return false;
  good = warm_up (seat, batch_of (figure), settings->reading_ns / 8) && take_samples (seat, figure, settings->reading_ns, reading);
  if (!good && !problem->is_set)
    bench_fail (problem, "%s: a call failed", subject->name);
  if (subject->restarts)
    rise (seat);
  return good;
}

/* ---- pairs ---------------------------------------------------------------------------------- */

static int
compare_doubles (const void *a, const void *b)
{
  double x = *(const double *) a, y = *(const double *) b;

  return (x > y) - (x < y);
}

static double
median (double *values, uint32_t n)
{
  if (n == 0)
    return NAN;
  qsort (values, n, sizeof *values, compare_doubles);
  return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

void
bench_result_percentiles (const BenchFigure *figure, BenchResult *result, const Histogram *picoseconds)
{
  result->p50 = in_unit (figure, histogram_percentile (picoseconds, 0.5) / 1000);
  result->p99 = in_unit (figure, histogram_percentile (picoseconds, 0.99) / 1000);
  result->p999 = in_unit (figure, histogram_percentile (picoseconds, 0.999) / 1000);
}

static void
summarise_pairs (const BenchFigure *figure, const Pair *pairs, uint32_t n, BenchResult *result)
{
  double limits[MAX_PAIRS], candidates[MAX_PAIRS], ratios[MAX_PAIRS];

  for (uint32_t i = 0; i < n; i++)
    {
      limits[i] = pairs[i].limit;
      candidates[i] = pairs[i].candidate;
      ratios[i] = pairs[i].ratio;
    }
  result->pairs = true;
  result->value = in_unit (figure, median (candidates, n));
  result->limit_value = in_unit (figure, median (limits, n));
  result->ratio = median (ratios, n);
  result->lowest = n > 0 ? ratios[0] : NAN;
  result->highest = n > 0 ? ratios[n - 1] : NAN;
}

/* Two limits that differ too much say that the machine moved in between. */
static bool
steady (double before, double after)
{
  return fmax (before, after) <= STEADY * fmin (before, after);
}

static Pair
make_pair (const BenchFigure *figure, double before, double candidate, double after)
{
  Pair pair = { (before + after) / 2, candidate, 0 };

  pair.ratio = bench_is_rate (figure) ? pair.limit / pair.candidate : pair.candidate / pair.limit;
  return pair;
}

typedef struct
{
  const BenchFigure *figure;
  const BenchSettings *settings;
  const BenchPlace *place;
  BenchResult *result;
  Seat limit, candidate;
  Reading reading;
  Histogram kept, all;          /* the candidate's samples: of the pairs that were kept, of every reading */
} Measurement;

static bool
read_subject (Measurement *m, Seat *seat, const BenchSubject *subject, double *ret_ns)
{
  if (!take_reading (seat, subject, m->figure, m->settings, m->place, &m->reading, &m->result->problem))
    return false;
  *ret_ns = m->reading.ns;
  return true;
}

/* Limit, candidate, limit, candidate, limit … until enough pairs are left.  False: a problem. */
static bool
collect_pairs (Measurement *m, Pair *kept, Pair *all)
{
  BenchResult *result = m->result;
  double before, candidate, after;

  if (!read_subject (m, &m->limit, m->figure->limit, &before))
    return false;
  for (uint32_t i = 0; i < m->settings->max_attempts && result->n_kept < m->settings->n_pairs; i++, before = after)
    {
      Histogram samples;

      if (!read_subject (m, &m->candidate, m->figure->candidate, &candidate))
        return false;
      samples = m->reading.samples;
      histogram_add (&m->all, &samples);
      if (!read_subject (m, &m->limit, m->figure->limit, &after))
        return false;
      all[i] = make_pair (m->figure, before, candidate, after);
      if (!steady (before, after))
        {
          result->n_discarded++;
          continue;
        }
      histogram_add (&m->kept, &samples);
      kept[result->n_kept++] = all[i];
    }
  return true;
}

static void
measure_pairs (Measurement *m)
{
  BenchResult *result = m->result;
  Pair kept[MAX_PAIRS], all[MAX_PAIRS];

  if (!collect_pairs (m, kept, all))
    return;
  result->unsteady = result->n_kept < m->settings->n_pairs && result->n_kept < ENOUGH_PAIRS;
  if (result->n_kept > 0)
    summarise_pairs (m->figure, kept, result->n_kept, result);
  else
    summarise_pairs (m->figure, all, result->n_discarded, result);
  bench_result_percentiles (m->figure, result, result->n_kept > 0 ? &m->kept : &m->all);
}

static void
measure_alone (Measurement *m)
{
  BenchResult *result = m->result;
  double values[MAX_PAIRS];

  for (; result->n_kept < m->settings->n_pairs; result->n_kept++)
    {
      double ns;

      if (!read_subject (m, &m->candidate, m->figure->candidate, &ns))
        return;
      values[result->n_kept] = in_unit (m->figure, ns);
      histogram_add (&m->all, &m->reading.samples);
    }
  result->value = median (values, result->n_kept);
  result->lowest = values[0];
  result->highest = values[result->n_kept - 1];
  result->unsteady = !steady (result->lowest, result->highest);
  bench_result_percentiles (m->figure, result, &m->all);
}

static void
measure_beside (Measurement *m)
{
  Seat seat = { 0 };
  double values[3];
  uint32_t n = 0;

  while (n < 3 && read_subject (m, &seat, m->figure->beside, &values[n]))
    n++;
  rise (&seat);
  if (n > 0)
    m->result->beside_value = in_unit (m->figure, median (values, n));
}

static double
count_instructions (Measurement *m, Seat *seat, const BenchSubject *subject)
{
  double count = NAN;

  if (sit (seat, subject, m->place, &m->result->problem))
    count = bench_instructions (subject, seat->state, batch_of (m->figure) * 16);
  if (subject->restarts)
    rise (seat);
  return count;
}

void
bench_pair (const BenchFigure *figure, const BenchSettings *settings, const BenchPlace *place, BenchResult *result)
{
  Measurement *m = calloc (1, sizeof *m);

  if (!m)
    {
      bench_fail (&result->problem, "no memory");
      return;
    }
  m->figure = figure;
  m->settings = settings;
  m->place = place;
  m->result = result;
  (figure->limit ? measure_pairs : measure_alone) (m);
  if (figure->instructions && !result->problem.is_set)
    {
      result->instructions = count_instructions (m, &m->candidate, figure->candidate);
      if (figure->limit)
        result->limit_instructions = count_instructions (m, &m->limit, figure->limit);
    }
  rise (&m->candidate);
  rise (&m->limit);
  if (figure->beside && !result->problem.is_set)
    measure_beside (m);
  free (m);
}

/* ---- one figure ----------------------------------------------------------------------------- */

static const char *watched;

/* A peer that died leaves its partner spinning: the limits look at nothing but their word. */
static void
on_alarm (int signal)
{
  static const char before[] = "cellhost-bench: ", after[] = " does not come to an end\n";
  ssize_t written;

  (void) signal;
  written = write (STDERR_FILENO, before, sizeof before - 1);
  written = write (STDERR_FILENO, watched, strlen (watched));
  written = write (STDERR_FILENO, after, sizeof after - 1);
  (void) written;
  _exit (1);
}

static void
watch (const BenchFigure *figure)
{
  struct sigaction action = { .sa_handler = on_alarm };

  watched = figure->name;
  sigaction (SIGALRM, &action, NULL);
  alarm (figure->timeout > 0 ? figure->timeout : 120);
}

void
bench_measure (const BenchFigure *figure, const BenchSettings *settings, BenchResult *result)
{
  BenchPlace place;

  *result = (BenchResult) { .value = NAN, .p50 = NAN, .p99 = NAN, .p999 = NAN, .limit_value = NAN, .ratio = NAN, .lowest = NAN,
                            .highest = NAN, .beside_value = NAN, .instructions = NAN, .limit_instructions = NAN };
  if (!bench_place_choose (figure->placement, &place, &result->problem))
    return;
  if (!bench_pin (place.cpu))
    {
      bench_fail (&result->problem, "cannot be pinned to processor %d", place.cpu);
      return;
    }
  if (place.one_core)
    snprintf (result->note, sizeof result->note, "the two processors are threads of one core");
  watch (figure);
  (figure->run ? figure->run : bench_pair) (figure, settings, &place, result);
  alarm (0);
  bench_pin (-1);
}

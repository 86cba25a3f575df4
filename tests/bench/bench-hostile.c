/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * An honest cell in its sandbox, called by a program, while 31 others in theirs do harm.
 */
#include <glib.h>
#include <math.h>
#include <stdlib.h>

#include <cell/remote/echo.h>
#include <cell/remote/host.h>
#include <cell/remote/hostile.h>

#include "clock.h"
#include "daemon.h"
#include "figures.h"
#include "place.h"

enum
{
  HOSTILES = 31,
  TURNS = 7, ENOUGH = 5, ATTEMPTS = 30, /* as pairs are made elsewhere; see harness.h */
  MEASURED_MS = 300,
  QUICK_MS = 20
};

#define MOVED 1.6

typedef struct
{
  BenchDaemon *daemon;
  CellClient *host, *echo;
  uint32_t n, ms, pause;                /* hostile cells; how long a reading takes; between two times that each does harm, µs */
  Histogram *samples;                   /* of all calls beside them */
} Scene;

static bool
load_hostile (Scene *scene, uint32_t i, BenchProblem *problem)
{
  g_autofree char *name = g_strdup_printf ("hostile%u", i);
  cell_auto HostLoad loaded = host_load (scene->host, .path = BENCH_HOSTILE, .has_name = true, .name = name);

  if (!bench_check (&loaded.result, problem))
    return false;
  cell_auto HostEject ejected = host_eject (scene->host, .name = name);
  return bench_check (&ejected.result, problem);
}

/* Both ends each on a processor of its own: where the kernel puts them is luck, and the whole figure. */
static bool
pin_echo (Scene *scene, int cpu, BenchProblem *problem)
{
  cell_auto HostList list = host_list (scene->host);

  if (!bench_check (&list.result, problem))
    return false;
  for (uint32_t i = 0; i < list.n_cells; i++)
    if (g_str_equal (list.cells[i].name, "bench-echo"))
      return bench_pin_process ((pid_t) list.cells[i].pid, cpu, problem);
  return bench_fail (problem, "there is no bench-echo");
}

static bool
set_up (Scene *scene, const BenchPlace *place, BenchProblem *problem)
{
  static const char *const cells[] = { BENCH_ECHO, NULL };

  scene->daemon = bench_daemon_start (-1, cells, problem);
  if (scene->daemon == NULL)
    return false;
  scene->host = cell_bind (scene->daemon->bus, Host, "host");
  scene->echo = cell_bind (scene->daemon->bus, Echo, "bench-echo");
  cell_auto HostEject ejected = host_eject (scene->host, .name = "bench-echo");
  if (ejected.result.status == CELL_ERROR_UNSUPPORTED)
    return bench_skip (problem, "%s", ejected.result.message);
  if (!bench_check (&ejected.result, problem) || !pin_echo (scene, place->peer_cpu, problem))
    return false;
  for (uint32_t i = 0; i < scene->n; i++)
    if (!load_hostile (scene, i, problem))
      return false;
  return true;
}

/* p99 in ns of calls one after the other. */
static bool
read_p99 (Scene *scene, Histogram *samples, double *ret_p99, BenchProblem *problem)
{
  uint64_t until = bench_clock_monotonic () + scene->ms * 1000000ull, began;
  g_autofree Histogram *own = g_new0 (Histogram, 1);

  while ((began = bench_clock_monotonic ()) < until)
    {
      cell_auto EchoEcho echo = echo_echo (scene->echo, .a = began);

      if (!bench_check (&echo.result, problem))
        return false;
      if (echo.a != began)
        return bench_fail (problem, "an answer was another call's");
      histogram_record (own, (bench_clock_monotonic () - began) * 1000);
    }
  *ret_p99 = histogram_percentile (own, 0.99) / 1000;
  if (samples != NULL)
    histogram_add (samples, own);
  return true;
}

/* Each is told through a channel of its own, which it breaks. */
static bool
begin_harm (Scene *scene, uint32_t ms, BenchProblem *problem)
{
  for (uint32_t i = 0; i < scene->n; i++)
    {
      g_autofree char *name = g_strdup_printf ("hostile%u", i);
      CellClient *hostile = cell_bind (scene->daemon->bus, Hostile, name);
      cell_auto HostileHarm harm = hostile_harm (hostile, .milliseconds = ms, .pause = scene->pause);

      cell_client_close (hostile);
      if (!bench_check (&harm.result, problem))
        return false;
    }
  return true;
}

static int
compare_doubles (const void *a, const void *b)
{
  double x = *(const double *) a, y = *(const double *) b;

  return (x > y) - (x < y);
}

/* False: problem says why.  Alone, beside them, and alone again when they have ended. */
static bool
take_turn (Scene *scene, double *alone, double *ret_beside, double *ret_after, BenchProblem *problem)
{
  if (*alone == 0 && !read_p99 (scene, NULL, alone, problem))
    return false;
  if (!begin_harm (scene, 2 * scene->ms, problem) || !read_p99 (scene, scene->samples, ret_beside, problem))
    return false;
  g_usleep (4 * scene->ms * 1000);
  return read_p99 (scene, NULL, ret_after, problem);
}

static void
take_turns (Scene *scene, uint32_t wanted, BenchResult *result)
{
  double ratios[TURNS], alone[TURNS], beside[TURNS], before = 0, after;

  while (result->n_kept < wanted && result->n_kept + result->n_discarded < ATTEMPTS)
    {
      uint32_t i = result->n_kept;

      if (!take_turn (scene, &before, &beside[i], &after, &result->problem))
        return;
      alone[i] = (before + after) / 2;
      ratios[i] = beside[i] / alone[i];
      if (wanted == 1 || (before < MOVED * after && after < MOVED * before))
        result->n_kept++;
      else
        result->n_discarded++;          /* the machine itself moved */
      before = after;
    }
  result->pairs = true;
  result->unsteady = wanted > 1 && result->n_kept < ENOUGH;
  if (result->n_kept == 0)
    {
      result->value = result->limit_value = result->ratio = result->lowest = result->highest = NAN;
      return;
    }
  qsort (ratios, result->n_kept, sizeof *ratios, compare_doubles);
  qsort (beside, result->n_kept, sizeof *beside, compare_doubles);
  qsort (alone, result->n_kept, sizeof *alone, compare_doubles);
  result->value = beside[result->n_kept / 2];
  result->limit_value = alone[result->n_kept / 2];
  result->ratio = ratios[result->n_kept / 2];
  result->lowest = ratios[0];
  result->highest = ratios[result->n_kept - 1];
}

static void
measure_p99 (const BenchFigure *figure, const BenchSettings *settings, const BenchPlace *place, BenchResult *result)
{
  g_autofree Histogram *samples = g_new0 (Histogram, 1);
  Scene scene = { .pause = (uint32_t) figure->candidate->option, .n = settings->quick ? 2 : HOSTILES,
                  .ms = settings->quick ? QUICK_MS : MEASURED_MS, .samples = samples };

  if (set_up (&scene, place, &result->problem))
    take_turns (&scene, settings->quick ? 1 : TURNS, result);
  if (!result->problem.is_set)
    bench_result_percentiles (figure, result, samples);
  if (scene.daemon != NULL)
    bench_daemon_stop (scene.daemon);
}

static const BenchSubject alone = { .name = "alone" };
/* Each does harm a thousand times a second, or without end.  Held against the same calls alone, and not beside 31 that are merely
 * busy: what these get is the kernel's to say, and who does harm is to cost others nothing.  In the first tenth of a second of it
 * the host finds that out. */
static const BenchSubject beside = { .name = "beside", .option = 1000 }, beside_busy = { .name = "beside.busy" };

const BenchFigure bench_hostile_figures[] = {
  { .name = "hostile.p99", .unit = "ns", .target_kind = BENCH_RATIO_AT_MOST, .target = 2,
    .timeout = 120, .limit = &alone, .candidate = &beside, .run = measure_p99 },
  { .name = "hostile.p99.busy", .unit = "ns", .timeout = 120, .limit = &alone,
    .candidate = &beside_busy,
    .run = measure_p99 },
  { 0 }
};

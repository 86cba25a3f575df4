/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A cell leaves its host and comes back, again and again, while a program, a cell in the host and one in a sandbox call it without
 * a pause.
 */
#include <glib.h>

#include <cell/remote/ballast.h>
#include <cell/remote/caller.h>
#include <cell/remote/host.h>
#include <cell/remote/sequence.h>

#include "clock.h"
#include "daemon.h"
#include "figures.h"

enum
{
  PROGRAM = 1, CELL = 2, EJECTED = 3,   /* who calls */
  PIPELINE = 16,                /* calls under way at a time */
  CALLS_OF_CELL = 4096          /* that it is asked to make at a time */
};

typedef bool (*MoveFunc) (CellClient *host, uint64_t number, BenchProblem *problem);

typedef struct
{
  BenchDaemon *daemon;
  MoveFunc move;
  uint64_t n_calls, n_moves;    /* of each caller, at least; in all */
  _Atomic bool moved, failed;
} Run;

typedef struct
{
  Run *run;
  const char *cell;             /* that calls; NULL: a program does */
  uint64_t who, sent, lost, reordered, longest_ns;
  BenchProblem problem;         /* why the first one was lost */
} Caller;

/* Calls go on until there were enough of them and the last move is over. */
static bool
goes_on (const Caller *caller)
{
  return !caller->run->failed && (caller->sent < caller->run->n_calls || !caller->run->moved);
}

static gpointer
program_main (gpointer data)
{
  Caller *caller = data;
  CellClient *sequence = cell_bind (caller->run->daemon->bus, Sequence, "bench-sequence");
  SequenceNextCall calls[PIPELINE];

  while (goes_on (caller))
    {
      uint64_t began = bench_clock_monotonic (), took;

      for (int i = 0; i < PIPELINE; i++)
        calls[i] = sequence_next_start (sequence, .who = caller->who, .number = ++caller->sent);
      for (int i = 0; i < PIPELINE; i++)
        {
          cell_auto SequenceNext s = sequence_next_finish (calls[i]);

          if (!bench_check (&s.result, &caller->problem))
            caller->lost++;
          else
            caller->reordered += s.number != caller->sent - PIPELINE + 1 + (uint64_t) i;
        }
      took = bench_clock_monotonic () - began;
      caller->longest_ns = MAX (caller->longest_ns, took);
    }
  cell_client_close (sequence);
  return NULL;
}

static gpointer
cell_main (gpointer data)
{
  Caller *caller = data;
  CellClient *cell = cell_bind (caller->run->daemon->bus, Caller, caller->cell);

  while (goes_on (caller))
    {
      cell_auto CallerCount done = caller_count (cell, .who = caller->who, .first = caller->sent + 1, .n = CALLS_OF_CELL);

      if (!bench_check (&done.result, &caller->problem))
        {
          caller->run->failed = true;
          break;
        }
      if (done.lost > 0)
        bench_fail (&caller->problem, "%s", done.problem);
      caller->sent += CALLS_OF_CELL;
      caller->lost += done.lost;
      caller->reordered += done.reordered;
    }
  cell_client_close (cell);
  return NULL;
}

static bool
eject (CellClient *host, const char *name, BenchProblem *problem)
{
  cell_auto HostEject done = host_eject (host, .name = name);

  if (done.result.status == CELL_ERROR_UNSUPPORTED)
    return bench_skip (problem, "%s", done.result.message);
  return bench_check (&done.result, problem);
}

static bool
load_ejected (Run *run, const char *name, BenchProblem *problem)
{
  CellClient *host = cell_bind (run->daemon->bus, Host, "host");
  cell_auto HostLoad done = host_load (host, .path = BENCH_CALLER, .name = name, .has_name = true);
  bool good = bench_check (&done.result, problem) && eject (host, name, problem);

  cell_client_close (host);
  return good;
}

static bool
move (CellClient *host, uint64_t number, const char *cell, BenchProblem *problem)
{
  if (number % 2 == 0)
    return eject (host, cell, problem);
  cell_auto HostAbsorb done = host_absorb (host, .name = cell);
  return bench_check (&done.result, problem);
}

static bool
move_out_and_back (CellClient *host, uint64_t number, BenchProblem *problem)
{
  return move (host, number, "bench-sequence", problem);
}

static bool
swap (CellClient *host, uint64_t number, BenchProblem *problem)
{
  cell_auto HostSwap done = host_swap (host, .name = "bench-sequence", .path = BENCH_SEQUENCE);

  (void) number;
  return bench_check (&done.result, problem);
}

/* What the cell has seen of one caller: a call that succeeded and was not executed is lost, too. */
static void
add_report (Run *run, const Caller *caller, BenchResult *result)
{
  CellClient *sequence = cell_bind (run->daemon->bus, Sequence, "bench-sequence");
  cell_auto SequenceReport report = sequence_report (sequence, .who = caller->who);
  uint64_t missing = caller->sent - caller->lost - MIN (report.executed, caller->sent - caller->lost);

  if (caller->problem.is_set)
    bench_fail (&result->problem, "%" PRIu64 " calls failed: %s", caller->lost, caller->problem.text);
  if (bench_check (&report.result, &result->problem))
    result->value += (double) (caller->lost + missing + caller->reordered + report.repeated + report.reordered);
  cell_client_close (sequence);
}

static void
call_and_move (Run *run, BenchResult *result)
{
  Caller callers[] = {
    { .run = run, .who = PROGRAM }, { .run = run, .who = CELL, .cell = "bench-caller" },
    { .run = run, .who = EJECTED, .cell = "bench-caller-out" },
  };
  CellClient *host = cell_bind (run->daemon->bus, Host, "host");
  uint64_t began = bench_clock_monotonic (), took, sent = 0;
  GThread *threads[G_N_ELEMENTS (callers)];

  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    threads[i] = g_thread_new ("caller", callers[i].cell != NULL ? cell_main : program_main, &callers[i]);
  for (uint64_t i = 0; i < run->n_moves && !run->failed; i++)
    if (!run->move (host, i, &result->problem))
      run->failed = true;
  took = bench_clock_monotonic () - began;
  run->moved = true;
  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    {
      g_thread_join (threads[i]);
      sent += callers[i].sent;
    }
  result->value = 0;
  for (guint i = 0; i < G_N_ELEMENTS (callers) && !result->problem.is_set; i++)
    add_report (run, &callers[i], result);
  if (result->value > 0 && !result->problem.is_set)
    bench_fail (&result->problem, "%.0f calls were lost, repeated or out of order in %" PRIu64 " moves", result->value,
                run->n_moves);
  g_snprintf (result->note, sizeof result->note,
              "%.2f M calls, %.2f M/s, %" PRIu64 " moves in %.1f ms each; the longest wait took %.1f ms",
              (double) sent / 1e6, (double) sent * 1e3 / (double) (bench_clock_monotonic () - began), run->n_moves,
              (double) took / 1e6 / (double) run->n_moves, (double) callers[0].longest_ns / 1e6);
  cell_client_close (host);
}

static void
measure_loss (const BenchFigure *figure, const BenchSettings *settings, const BenchPlace *place, BenchResult *result)
{
  static const char *const cells[] = { BENCH_SEQUENCE, BENCH_CALLER, NULL };
  Run run = { .move = move_out_and_back, .n_calls = settings->quick ? 5000 : 500000, .n_moves = settings->quick ? 4 : 100 };

  (void) figure;
  run.daemon = bench_daemon_start (place->cpu, cells, &result->problem);
  if (!run.daemon)
    return;
  if (load_ejected (&run, "bench-caller-out", &result->problem))
    call_and_move (&run, result);
  bench_daemon_stop (run.daemon);
}

/* ---- a thousand builds -------------------------------------------------------------------------------------------------- */

#define GROWN_MOST 64.0                 /* MiB */

static double
private_mib (const BenchDaemon *daemon)
{
  g_autofree char *path = g_strdup_printf ("/proc/%d/smaps_rollup", (int) daemon->pid), *text = NULL;

  return g_file_get_contents (path, &text, NULL, NULL) ? bench_sum_of_lines (text, "Private_") / 1024 : 0;
}

static void
measure_swaps (const BenchFigure *figure, const BenchSettings *settings, const BenchPlace *place, BenchResult *result)
{
  static const char *const cells[] = { BENCH_SEQUENCE, BENCH_CALLER, NULL };
  Run run = { .move = swap, .n_calls = settings->quick ? 5000 : 500000, .n_moves = settings->quick ? 4 : 1000 };
  g_autofree char *note = NULL;
  double before, grown;

  (void) figure;
  run.daemon = bench_daemon_start (place->cpu, cells, &result->problem);
  if (!run.daemon)
    return;
  before = private_mib (run.daemon);
  if (load_ejected (&run, "bench-caller-out", &result->problem))
    call_and_move (&run, result);
  grown = private_mib (run.daemon) - before;
  note = g_strdup_printf ("%s; memory grew by %.1f MiB", result->note, grown);
  g_strlcpy (result->note, note, sizeof result->note);
  if (grown > GROWN_MOST && !result->problem.is_set)
    bench_fail (&result->problem, "the host has %.1f MiB more after %" PRIu64 " swaps", grown, run.n_moves);
  bench_daemon_stop (run.daemon);
}

/* ---- the longest gap ---------------------------------------------------------------------------------------------------- */

typedef struct
{
  BenchDaemon *daemon;
  _Atomic uint64_t longest_ns;  /* since somebody looked */
  _Atomic bool done;
  BenchProblem problem;
} Gaps;

static gpointer
gaps_main (gpointer data)
{
  Gaps *gaps = data;
  CellClient *ballast = cell_bind (gaps->daemon->bus, Ballast, "bench-ballast");
  uint64_t before = bench_clock_monotonic (), now;

  for (uint64_t n = 0; !gaps->done; n++, before = now)
    {
      cell_auto BallastNext next = ballast_next (ballast, .n = n);

      if (!bench_check (&next.result, &gaps->problem)
          || ((next.n != n || next.before != n) && !bench_fail (&gaps->problem, "call %" PRIu64 " was lost or repeated", n)))
        break;
      now = bench_clock_monotonic ();
      if (now - before > gaps->longest_ns)
        gaps->longest_ns = now - before;
    }
  cell_client_close (ballast);
  return NULL;
}

/* The longest gap of each move, and of as much time without one. */
static void
watch_moves (Gaps *gaps, uint64_t n_moves, Histogram *moving, Histogram *resting, BenchProblem *problem)
{
  CellClient *host = cell_bind (gaps->daemon->bus, Host, "host");

  for (uint64_t i = 0; i < n_moves && !problem->is_set && !gaps->problem.is_set; i++)
    {
      uint64_t began = bench_clock_monotonic (), took;

      gaps->longest_ns = 0;
      if (!move (host, i, "bench-ballast", problem))
        break;
      took = bench_clock_monotonic () - began;
      histogram_record (moving, gaps->longest_ns * 1000);
      gaps->longest_ns = 0;
      g_usleep (took / 1000);
      histogram_record (resting, gaps->longest_ns * 1000);
    }
  cell_client_close (host);
}

static void
measure_blackout (const BenchFigure *figure, const BenchSettings *settings, const BenchPlace *place, BenchResult *result)
{
  static const char *const cells[] = { BENCH_BALLAST, NULL };
  static Histogram moving, resting;
  Gaps gaps = { .daemon = bench_daemon_start (place->cpu, cells, &result->problem) };
  GThread *thread;

  if (!gaps.daemon)
    return;
  histogram_reset (&moving);
  histogram_reset (&resting);
  thread = g_thread_new ("gaps", gaps_main, &gaps);
  watch_moves (&gaps, settings->quick ? 4 : 200, &moving, &resting, &result->problem);
  gaps.done = true;
  g_thread_join (thread);
  if (gaps.problem.is_set && !result->problem.is_set)
    result->problem = gaps.problem;
  bench_result_percentiles (figure, result, &moving);
  result->value = result->p50;
  g_snprintf (result->note, sizeof result->note, "p99 may be 10 ms; as much time without a move: p50 %.0f, p99 %.0f ns",
              (double) histogram_percentile (&resting, 0.5) / 1000, (double) histogram_percentile (&resting, 0.99) / 1000);
  bench_daemon_stop (gaps.daemon);
}

const BenchFigure bench_relocate_figures[] = {
  { .name = "relocate.loss", .unit = "calls", .placement = BENCH_ANYWHERE, .target_kind = BENCH_VALUE_AT_MOST, .target = 0,
    .timeout = 600, .run = measure_loss },
  { .name = "relocate.blackout", .unit = "ns", .placement = BENCH_ANYWHERE, .target_kind = BENCH_VALUE_AT_MOST, .target = 1e6,
    .timeout = 300,
    .run = measure_blackout },
  { .name = "swap.thousand", .unit = "calls", .placement = BENCH_ANYWHERE, .target_kind = BENCH_VALUE_AT_MOST, .target = 0,
    .timeout = 600,
    .run = measure_swaps },
  { 0 }
};

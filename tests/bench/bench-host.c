/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What a host costs that has nothing to do: the time until it is ready, memory that only it uses, and how often it wakes up.
 */
#include <glib.h>
#include <stdlib.h>
#include <string.h>

#include <cell/remote/exchange.h>
#include <cell/remote/ledger.h>

#include "clock.h"
#include "daemon.h"
#include "figures.h"

static const char *const three_cells[] = { BENCH_LEDGER, BENCH_EXCHANGE, BENCH_THIRD, NULL };

/* ---- how soon it is ready -------------------------------------------------------------------- */

static int
compare_doubles (const void *a, const void *b)
{
  double x = *(const double *) a, y = *(const double *) b;

  return (x > y) - (x < y);
}

static void
measure_start (const BenchFigure *figure, const BenchSettings *settings, const BenchPlace *place, BenchResult *result)
{
  enum { STARTS = 25 };
  double ms[STARTS];
  uint32_t n = settings->quick ? 1 : STARTS;

  (void) figure;
  for (uint32_t i = 0; i < n; i++)
    {
      BenchDaemon *daemon = bench_daemon_start (place->cpu, three_cells, &result->problem);

      if (!daemon)
        return;
      ms[i] = (double) daemon->start_ns / 1e6;
      bench_daemon_stop (daemon);
    }
  qsort (ms, n, sizeof *ms, compare_doubles);
  result->value = result->p50 = ms[n / 2];
  result->p99 = result->highest = ms[n - 1];
  result->lowest = ms[0];
  result->n_kept = n;
}

/* ---- a host that does nothing ---------------------------------------------------------------- */

/* Three cells, each of which was called; the client stays. */
static BenchDaemon *
start_idle (const BenchPlace *place, BenchProblem *problem)
{
  BenchDaemon *daemon = bench_daemon_start (place->cpu, three_cells, problem);

  if (!daemon)
    return NULL;
  CellClient *ledger = cell_bind (daemon->bus, Ledger, "ledger"), *exchange = cell_bind (daemon->bus, Exchange, "exchange");
  cell_auto LedgerTransfer t = ledger_transfer (ledger, .from = 1, .to = 2, .amount = 1, .memo = "rent");
  cell_auto ExchangePlace p = exchange_place (exchange, .side = 0, .price = 100, .quantity = 1, .trader = 1);

  if (bench_check (&t.result, problem) && bench_check (&p.result, problem))
    return daemon;
  bench_daemon_stop (daemon);
  return NULL;
}

static void
measure_private (const BenchFigure *figure, const BenchSettings *settings, const BenchPlace *place, BenchResult *result)
{
  BenchDaemon *daemon = start_idle (place, &result->problem);
  g_autofree char *path = NULL, *text = NULL;
  g_autoptr(GError) error = NULL;

  (void) figure;
  (void) settings;
  if (!daemon)
    return;
  path = g_strdup_printf ("/proc/%d/smaps_rollup", (int) daemon->pid);
  if (g_file_get_contents (path, &text, NULL, &error))
    {
      result->value = bench_sum_of_lines (text, "Private_") / 1024;
      g_snprintf (result->note, sizeof result->note, "all its memory, its share of what others use too: %.1f MiB",
                  bench_sum_of_lines (text, "Pss:") / 1024);
    }
  else
    bench_fail (&result->problem, "%s", error->message);
  bench_daemon_stop (daemon);
}

/* How often each of its threads has come to a processor: id → number. */
static GHashTable *
switches (pid_t pid)
{
  GHashTable *counts = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  g_autofree char *folder = g_strdup_printf ("/proc/%d/task", (int) pid);
  g_autoptr(GDir) threads = g_dir_open (folder, 0, NULL);
  const char *name;

  while (threads != NULL && (name = g_dir_read_name (threads)) != NULL)
    {
      g_autofree char *path = g_build_filename (folder, name, "status", NULL), *text = NULL;
      double n;

      if (!g_file_get_contents (path, &text, NULL, NULL))
        continue;
      n = bench_sum_of_lines (text, "voluntary_ctxt_switches") + bench_sum_of_lines (text, "nonvoluntary_ctxt_switches");
      g_hash_table_insert (counts, g_strdup (name), GUINT_TO_POINTER ((guint) n));
    }
  return counts;
}

/* Of threads that are there now; one that ended in between has woken up for that. */
static guint
switched (GHashTable *before, GHashTable *after)
{
  GHashTableIter iter;
  gpointer name, count;
  guint sum = 0;

  g_hash_table_iter_init (&iter, after);
  while (g_hash_table_iter_next (&iter, &name, &count))
    sum += GPOINTER_TO_UINT (count) - GPOINTER_TO_UINT (g_hash_table_lookup (before, name));
  g_hash_table_iter_init (&iter, before);
  while (g_hash_table_iter_next (&iter, &name, NULL))
    sum += !g_hash_table_contains (after, name);
  return sum;
}

static void
measure_idle (const BenchFigure *figure, const BenchSettings *settings, const BenchPlace *place, BenchResult *result)
{
  BenchDaemon *daemon = start_idle (place, &result->problem);
  g_autoptr(GHashTable) before = NULL, after = NULL;
  uint64_t began;

  (void) figure;
  if (!daemon)
    return;
  /* Until it has come to rest; GLib's threads give up half a second after their last work.  If it does not, that shows. */
  g_usleep (settings->quick ? 50000 : 2000000);
  began = bench_clock_monotonic ();
  before = switches (daemon->pid);
  g_usleep (settings->quick ? 100000 : 5000000);
  after = switches (daemon->pid);
  result->value = switched (before, after) * 1e9 / (double) (bench_clock_monotonic () - began);
  g_snprintf (result->note, sizeof result->note, "%u threads, %u wake-ups in all", g_hash_table_size (after),
              switched (before, after));
  bench_daemon_stop (daemon);
}

const BenchFigure bench_host_figures[] = {
  { .name = "host.start", .unit = "ms", .placement = BENCH_ANYWHERE, .target_kind = BENCH_VALUE_AT_MOST, .target = 50,
    .run = measure_start },
  { .name = "host.private", .unit = "MiB", .placement = BENCH_ANYWHERE, .target_kind = BENCH_VALUE_AT_MOST, .target = 4,
    .run = measure_private },
  { .name = "host.idle", .unit = "1/s", .placement = BENCH_ANYWHERE, .target_kind = BENCH_VALUE_AT_MOST, .target = 0,
    .run = measure_idle },
  { 0 }
};

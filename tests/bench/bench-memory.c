/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What memory a cell costs.
 */
#include <glib.h>

#include <cell/remote/echo.h>
#include <cell/remote/host.h>

#include "daemon.h"
#include "figures.h"

static double
private_kib (pid_t pid)
{
  g_autofree char *path = g_strdup_printf ("/proc/%d/smaps_rollup", (int) pid), *text = NULL;

  return g_file_get_contents (path, &text, NULL, NULL) ? bench_sum_of_lines (text, "Private_") : -1;
}

#define CHANNELS_OF_BUS 256u            /* a connection may have 512 */

/* Each is loaded, called once by a program, and so has one channel, which stays. */
static bool
load_cells (BenchDaemon *daemon, GPtrArray *buses, uint32_t first, uint32_t n, BenchProblem *problem)
{
  CellClient *host = cell_bind (daemon->bus, Host, "host");

  for (uint32_t i = first; i < first + n; i++)
    {
      g_autofree char *path = bench_new_file (daemon->folder, i, problem), *name = g_strdup_printf ("echo%u", i);
      CellClient *echo;

      if (path == NULL)
        return false;
      cell_auto HostLoad load = host_load (host, .path = path);
      if (!bench_check (&load.result, problem))
        return false;
      if (i / CHANNELS_OF_BUS >= buses->len)
        g_ptr_array_add (buses, cell_open (daemon->socket));
      echo = cell_bind (buses->pdata[buses->len - 1], Echo, name);
      cell_auto EchoEcho reply = echo_echo (echo, .a = 1);
      if (!bench_check (&reply.result, problem))
        return false;
    }
  return true;
}

static void
measure_overhead (const BenchFigure *figure, const BenchSettings *settings, const BenchPlace *place, BenchResult *result)
{
  const char *const none[] = { NULL };
  uint32_t n = settings->quick ? 4 : 1000;
  BenchDaemon *daemon = bench_daemon_start (place->cpu, none, &result->problem);
  g_autoptr(GPtrArray) buses = g_ptr_array_new_with_free_func ((GDestroyNotify) cell_close);
  double before, after;

  (void) figure;
  if (daemon == NULL)
    return;
  /* The first few pay for what all have in common. */
  if (load_cells (daemon, buses, 0, 4, &result->problem))
    {
      before = private_kib (daemon->pid);
      if (load_cells (daemon, buses, 4, n, &result->problem))
        {
          after = private_kib (daemon->pid);
          result->value = (after - before) / n;
          g_snprintf (result->note, sizeof result->note, "%u cells of as many files: from %.1f to %.1f MiB", n, before / 1024,
                      after / 1024);
        }
    }
  g_ptr_array_set_size (buses, 0);
  bench_daemon_stop (daemon);
}

const BenchFigure bench_memory_figures[] = {
  { .name = "cell.overhead", .unit = "KiB", .placement = BENCH_ANYWHERE, .target_kind = BENCH_VALUE_AT_MOST, .target = 64,
    .timeout = 300,
    .run = measure_overhead },
  { 0 }
};

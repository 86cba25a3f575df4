/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "inside.h"

#include <string.h>

#include "daemon.h"
#include "host/provider.h"
#include "host/relocate.h"
#include "place.h"

struct BenchInside
{
  guint refs;
  Host *host;
  GMainLoop *loop;
  GThread *thread;
  GPtrArray *cells;
  char *folder;
};

static BenchInside *the_inside;

static gpointer
loop_main (gpointer data)
{
  g_main_loop_run (data);
  return NULL;
}

/* From inside the loop, since one that has not begun to run would not hear of it. */
static gboolean
quit_cb (gpointer loop)
{
  g_main_loop_quit (loop);
  return G_SOURCE_REMOVE;
}

static void
inside_free (BenchInside *inside)
{
  g_clear_pointer (&inside->cells, g_ptr_array_unref);
  if (inside->host != NULL)
    host_stop (inside->host, NULL);
  if (inside->thread != NULL)
    {
      g_idle_add (quit_cb, inside->loop);
      g_thread_join (inside->thread);
      g_main_loop_unref (inside->loop);
    }
  host_free (inside->host);
  bench_remove_folder (inside->folder);
  g_free (inside->folder);
  g_free (inside);
}

static BenchInside *
inside_new (GError **error)
{
  g_auto(HostConfig) config = { .runner_path = g_strdup (BENCH_RUNNER), .bwrap_path = g_find_program_in_path ("bwrap") };
  BenchInside *inside = g_new0 (BenchInside, 1);

  inside->folder = g_dir_make_tmp ("cellhost-bench-XXXXXX", error);
  if (inside->folder != NULL)
    {
      config.socket_path = g_build_filename (inside->folder, "socket", NULL);
      config.cache_dir = g_build_filename (inside->folder, "probes", NULL);
      inside->host = host_new (&config, error);
    }
  if (inside->host == NULL || !host_listen (inside->host, error))
    {
      inside_free (inside);
      return NULL;
    }
  inside->cells = g_ptr_array_new_with_free_func ((GDestroyNotify) host_cell_unref);
  inside->loop = g_main_loop_new (NULL, FALSE);
  inside->thread = g_thread_new ("main-loop", loop_main, inside->loop);
  return inside;
}

BenchInside *
bench_inside_ref (BenchProblem *problem)
{
  g_autoptr(GError) error = NULL;

  if (the_inside == NULL)
    the_inside = inside_new (&error);
  if (the_inside == NULL)
    {
      bench_fail (problem, "%s", error->message);
      return NULL;
    }
  the_inside->refs++;
  return the_inside;
}

void
bench_inside_unref (BenchInside *inside)
{
  if (--inside->refs > 0)
    return;
  the_inside = NULL;
  inside_free (inside);
}

Host *
bench_inside_host (BenchInside *inside)
{
  return inside->host;
}

HostCell *
bench_inside_load (BenchInside *inside, const char *path, const char *name, BenchProblem *problem)
{
  g_autoptr(GError) error = NULL;
  HostCell *cell = host_find (inside->host, name, NULL);

  if (cell == NULL)
    cell = host_load (inside->host, path, name, NULL, &error);
  if (cell == NULL)
    {
      bench_fail (problem, "%s", error->message);
      return NULL;
    }
  g_ptr_array_add (inside->cells, cell);
  return cell;
}

CellClient *
bench_inside_use (BenchInside *inside, const char *name, const CellRemote *remote, BenchProblem *problem)
{
  /* Whoever calls inside a host is a cell: this one has nothing else to do. */
  HostCell *caller = bench_inside_load (inside, BENCH_ECHO, "bench", problem);
  CellClient *client;
  CellResult result;
  bool good;

  if (caller == NULL)
    return NULL;
  client = client_new (&host_provider, caller, name, remote, CLIENT_OF_SERIAL);
  good = client->api->check (client, &result) == CELL_OK || bench_fail (problem, "%s: %s", name, result.message);
  cell_reply_free (&result);
  if (good)
    return client;
  cell_client_close (client);
  return NULL;
}

bool
bench_inside_eject (BenchInside *inside, const char *name, int cpu, BenchProblem *problem)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(HostCell) cell = host_find (inside->host, name, &error);
  HostCellInfo place;

  if (inside->host->config.bwrap_path == NULL)
    return bench_skip (problem, "there is no bubblewrap, and cells are ejected into a sandbox only");
  if (cell == NULL || !relocate_eject (cell, &error))
    return bench_fail (problem, "%s", error->message);
  host_cell_describe (cell, &place);
  return cpu < 0 || bench_pin_process (place.pid, cpu, problem);
}

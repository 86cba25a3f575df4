/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * How long it takes until a cell serves in a sandbox: because somebody wants it there, or because its process was killed.
 */
#include <glib.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <unistd.h>

#include <cell/remote/echo.h>

#include "daemon.h"
#include "figures.h"
#include "host/relocate.h"
#include "inside.h"

#define WINDOW_US 1100000               /* restarts of before do not count after that */

static const char keys[] = "[Cell]\nRestartIntensity=1000\nRestartWindow=1\n";

typedef struct
{
  BenchInside *inside;
  BenchProblem *problem;
  char *folder;
  HostCell *cell;
  HostCell *self;               /* whose client it is: what it is told of a move it hears on any thread that has its gate */
  CellClient *client;
  GThread *load;                /* it calls all the time; NULL: nobody does */
  _Atomic bool done;
  uint64_t kill;                /* option */
} Recover;

/* A crash may be what this one is told of, too. */
static gpointer
load_main (gpointer data)
{
  Recover *recover = data;
  CellBus *bus = cell_open (bench_inside_host (recover->inside)->config.socket_path);
  CellClient *client = cell_bind (bus, Echo, "recovering");

  while (!recover->done)
    {
      cell_auto EchoEcho echo = echo_echo (client, .a = 1);

      if (echo.result.status != CELL_OK && echo.result.status != CELL_ERROR_CRASHED)
        break;
    }
  cell_close (bus);
  return NULL;
}

static void
recover_teardown (void *state)
{
  Recover *recover = state;

  recover->done = true;
  if (recover->load != NULL)
    g_thread_join (recover->load);
  if (recover->client != NULL)
    cell_client_close (recover->client);
  if (recover->cell != NULL)
    host_cell_stop (recover->cell, HOST_STOP_BY_FORCE, NULL);
  if (recover->inside != NULL)
    bench_inside_unref (recover->inside);
  bench_remove_folder (recover->folder);
  g_free (recover->folder);
  g_free (recover);
}

static bool
load_cell (Recover *recover)
{
  g_autofree char *path = bench_new_file (recover->folder, 1, recover->problem),
                  *key_file = g_build_filename (recover->folder, "echo1.cell", NULL);

  if (path == NULL || !g_file_set_contents (key_file, keys, -1, NULL))
    return false;
  recover->cell = bench_inside_load (recover->inside, path, "recovering", recover->problem);
  return recover->cell != NULL && (!recover->kill || bench_inside_eject (recover->inside, "recovering", -1, recover->problem));
}

static void *
recover_setup (const BenchPlace *place, uint64_t option, BenchProblem *problem)
{
  Recover *recover = g_new0 (Recover, 1);

  (void) place;
  recover->problem = problem;
  recover->kill = option;
  recover->folder = g_dir_make_tmp ("cellhost-bench-XXXXXX", NULL);
  recover->inside = bench_inside_ref (problem);
  if (recover->inside != NULL && load_cell (recover))
    {
      recover->client = bench_inside_use (recover->inside, "recovering", &cell_remote_Echo, problem);
      recover->self = bench_inside_load (recover->inside, BENCH_ECHO, "bench", problem);
    }
  if (recover->client != NULL && bench_inside_host (recover->inside)->config.bwrap_path == NULL)
    bench_skip (problem, "there is no bubblewrap, and cells are ejected into a sandbox only");
  if (recover->client == NULL || problem->is_set)
    {
      recover_teardown (recover);
      return NULL;
    }
  if (option)
    recover->load = g_thread_new ("load", load_main, recover);
  return recover;
}

static EchoEcho
call_as_a_cell (Recover *recover)
{
  ThreadContext *thread = thread_context ();
  Gate *gate = &recover->self->endpoint->gate;
  EchoEcho echo;

  while (!gate_stop (gate, thread, UINT64_MAX))
    continue;
  echo = echo_echo (recover->client, .a = 7);
  gate_leave (gate, thread);
  return echo;
}

static bool
serves (Recover *recover)
{
  cell_auto EchoEcho echo = call_as_a_cell (recover);

  return echo.result.status == CELL_ERROR_CRASHED || (bench_check (&echo.result, recover->problem) && echo.a == 7);
}

/* Not counted: it is in the host again. */
static void
eject_pause (void *state)
{
  Recover *recover = state;
  g_autoptr(GError) error = NULL;
  HostCellInfo place;

  host_cell_describe (recover->cell, &place);
  if (place.location == CELL_LOCATION_CHILD && !relocate_absorb (recover->cell, &error))
    bench_fail (recover->problem, "%s", error->message);
}

static bool
eject_run (void *state, uint32_t n)
{
  Recover *recover = state;
  g_autoptr(GError) error = NULL;

  (void) n;
  return (relocate_eject (recover->cell, &error) || bench_fail (recover->problem, "%s", error->message)) && serves (recover);
}

/* Not counted: its next restart is the first one within the window, which is made at once. */
static void
kill_pause (void *state)
{
  (void) state;
  g_usleep (WINDOW_US);
}

/* Until a call has been answered by another process. */
static bool
kill_run (void *state, uint32_t n)
{
  Recover *recover = state;
  HostCellInfo before, now;

  (void) n;
  host_cell_describe (recover->cell, &before);
  if (before.pid == 0 || kill (before.pid, SIGKILL) < 0)
    return bench_fail (recover->problem, "its process is not to be found");
  do
    {
      if (!serves (recover))
        return false;
      host_cell_describe (recover->cell, &now);
    }
  while (now.pid == 0 || now.pid == before.pid);
  return serves (recover);
}

static const BenchSubject eject_ready = { "eject.ready", 0, recover_setup, eject_run, recover_teardown, false, eject_pause };
static const BenchSubject recover_kill = { "recover.kill", 1, recover_setup, kill_run, recover_teardown, false, kill_pause };

const BenchFigure bench_recover_figures[] = {
  { .name = "eject.ready", .unit = "ns", .placement = BENCH_ANYWHERE, .target_kind = BENCH_RATIO_AT_MOST, .target = 2,
    .limit = &bench_limit_sandbox,
    .candidate = &eject_ready },
  { .name = "recover.kill", .unit = "ns", .placement = BENCH_ANYWHERE, .target_kind = BENCH_RATIO_AT_MOST, .target = 2,
    .limit = &bench_limit_sandbox, .candidate = &recover_kill },
  { 0 }
};

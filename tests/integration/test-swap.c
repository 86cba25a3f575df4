/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Cells that are replaced: by another build, or by themselves; here and in a sandbox, under load, and with a kill at every step.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <string.h>

#include <cell/remote/pacer.h>
#include <cell/remote/phoenix-next.h>
#include <cell/remote/sequence.h>

#include "counting.h"
#include "host-fixture.h"

#define N_MOVES 24                      /* under load */

/* When a child is killed. */
typedef struct
{
  _Atomic guint n, at;                  /* steps that there were; the step before which it is, from 1; 0: never */
} Killer;

typedef struct
{
  HostFixture host;
  Killer killer;
  HostCell *phoenix;
  CellBus *bus;
  CellClient *client;
  gboolean skipped;
} Scene;

static void
on_step (const char *cell, const char *step, GPid child, gpointer data)
{
  Killer *killer = data;

  (void) cell;
  if (++killer->n != killer->at)
    return;
  g_test_message ("killed when it was to %s", step);
  kill (child, SIGKILL);
}

static void
set_up (Scene *scene, gconstpointer data)
{
  (void) data;
  scene->host.on_step = on_step;
  scene->host.on_step_data = &scene->killer;
  host_fixture_set_up (&scene->host, NULL);
  scene->skipped = !host_fixture_has_sandbox ();
  scene->bus = cell_open (scene->host.socket);
  scene->client = cell_bind (scene->bus, Phoenix, "phoenix");
}

static void
tear_down (Scene *scene, gconstpointer data)
{
  (void) data;
  cell_close (scene->bus);
  host_cell_unref (scene->phoenix);
  host_fixture_tear_down (&scene->host, NULL);
}

static char *
file_of (const char *build)
{
  g_autofree char *base = g_strconcat (build, ".so", NULL);

  return g_build_filename (g_getenv ("TEST_CELLS"), base, NULL);
}

static void
swap (HostCell *cell, const char *build)
{
  g_autofree char *path = file_of (build);
  g_autoptr(GError) error = NULL;

  relocate_swap (cell, path, &error);
  g_assert_no_error (error);
}

/* It has counted so far, and which build of it counts now. */
static void
check_adds (Scene *scene, guint64 before, guint build)
{
  cell_auto PhoenixAdd add = phoenix_add (scene->client, .n = 1);

  g_assert_cmpstr (add.result.message, ==, NULL);
  g_assert_cmpuint (add.value, ==, before + 1);
  g_assert_cmpuint (add.build, ==, build);
}

typedef struct
{
  const char *build, *next;
  gboolean there;
} Case;

static const Case cases[] = {
  { "phoenix", "phoenix-next", FALSE }, { "phoenix-loop", "phoenix-loop-next", FALSE },
  { "phoenix-many", "phoenix-many-next", FALSE },
  { "phoenix", "phoenix-next", TRUE },  { "phoenix-loop", "phoenix-loop-next", TRUE },
  { "phoenix-many", "phoenix-many-next", TRUE },
};

static void
begin (Scene *scene, const Case *of)
{
  scene->phoenix = host_fixture_load (&scene->host, of->build, "phoenix", NULL);
  if (of->there)
    host_fixture_eject (scene->phoenix);
}

/* ---- another build ---------------------------------------------------------------------------------------------- */

typedef struct
{
  guint64 rose, ashes, missed;
} Heard;

static void
on_rose (const PhoenixRose *args, uint64_t missed, void *data)
{
  Heard *heard = data;

  g_assert_cmpuint (args->value, >, 0);
  heard->rose++;
  heard->missed += missed;
}

static void
on_ashes (const PhoenixAshes *args, uint64_t missed, void *data)
{
  Heard *heard = data;

  (void) args;
  heard->ashes++;
  heard->missed += missed;
}

static void
hear (CellBus *bus, const guint64 *what, guint64 n)
{
  gint64 until = g_get_monotonic_time () + 60 * G_USEC_PER_SEC;

  while (*what < n)
    {
      g_assert_cmpint (g_get_monotonic_time (), <, until);
      cell_bus_dispatch (bus, 100);
    }
}

static void
rise (Scene *scene)
{
  cell_auto PhoenixRise rise = phoenix_rise (scene->client);

  g_assert_cmpstr (rise.result.message, ==, NULL);
}

/* Old callers notice nothing, though all numbers of the new contract are others; new ones can use what is new. */
static void
test_build (Scene *scene, gconstpointer data)
{
  const Case *of = data;
  Heard heard = { 0 };
  HostCellInfo before, after;

  if (of->there && scene->skipped)
    return;
  begin (scene, of);
  g_assert_cmpint (phoenix_on_rose (scene->client, on_rose, &heard), ==, CELL_OK);
  check_adds (scene, 0, 1);
  rise (scene);
  hear (scene->bus, &heard.rose, 1);
  host_cell_describe (scene->phoenix, &before);
  swap (scene->phoenix, of->next);
  host_cell_describe (scene->phoenix, &after);
  g_assert_cmpuint (after.generation, >, before.generation);
  g_assert_cmpint (after.location, ==, before.location);
  check_adds (scene, 2, 2);
  rise (scene);
  hear (scene->bus, &heard.rose, 2);
  CellBus *bus = cell_open (scene->host.socket);
  CellClient *newer = cell_bind (bus, Phoenix, "phoenix");
  cell_auto PhoenixAbide abide = phoenix_abide (newer);
  g_assert_cmpstr (abide.result.message, ==, NULL);
  g_assert_cmpuint (abide.value, ==, 4);
  /* And so it does where it comes to. */
  if (!scene->skipped)
    {
      (of->there ? host_fixture_absorb : host_fixture_eject) (scene->phoenix);
      check_adds (scene, 4, 2);
      rise (scene);
      hear (scene->bus, &heard.rose, 3);
      swap (scene->phoenix, of->next);
      check_adds (scene, 6, 2);
    }
  g_assert_cmpint (phoenix_on_ashes (newer, on_ashes, &heard), ==, CELL_OK);
  cell_auto PhoenixAbide again = phoenix_abide (newer);
  g_assert_cmpstr (again.result.message, ==, NULL);
  hear (bus, &heard.ashes, 1);
  cell_close (bus);
  g_assert_cmpuint (heard.missed, ==, 0);
}

/* ---- builds that do not do ----------------------------------------------------------------------------------------- */

typedef struct
{
  const char *build;
  CellStatus status;
  const char *says;
} Refusal;

static const Refusal refusals[] = {
  { "phoenix-narrow", CELL_ERROR_NO_METHOD, "its callers cannot go on with" },
  { "phoenix-stubborn", CELL_ERROR_STATE, "its restore failed" },
  { "phoenix-loop", CELL_ERROR_CONTRACT, "is a loop cell, and it is a serial one" },
  { "sequence", CELL_ERROR_CONTRACT, "its callers cannot go on with" },
  { "broken-magic", CELL_ERROR_REFUSED, "cell_entry.magic" },
  { "nothing", CELL_ERROR_NOT_FOUND, "there is no file" },
};

/* It goes on as if nothing had happened. */
static void
test_refused (Scene *scene, gconstpointer data)
{
  const Case *of = data;
  HostCellInfo before, after;

  if (of->there && scene->skipped)
    return;
  begin (scene, of);
  check_adds (scene, 0, 1);
  host_cell_describe (scene->phoenix, &before);
  for (guint i = 0; i < G_N_ELEMENTS (refusals); i++)
    {
      g_autofree char *path = file_of (refusals[i].build);
      g_autoptr(GError) error = NULL;

      g_assert_false (relocate_swap (scene->phoenix, path, &error));
      g_test_message ("%s", error->message);
      g_assert_cmpint (cell_status_from_error (error), ==, refusals[i].status);
      g_assert_nonnull (strstr (error->message, refusals[i].says));
      check_adds (scene, i + 1, 1);
    }
  host_cell_describe (scene->phoenix, &after);
  g_assert_cmpuint (after.generation, ==, before.generation);
  g_assert_cmpint (after.pid, ==, before.pid);
}

/* ---- the same once more ----------------------------------------------------------------------------------------------- */

static void
test_restart (Scene *scene, gconstpointer data)
{
  const Case *of = data;
  g_autoptr(GError) error = NULL;
  HostCellInfo before, after;

  if (of->there && scene->skipped)
    return;
  begin (scene, of);
  check_adds (scene, 0, 1);
  host_cell_describe (scene->phoenix, &before);
  relocate_restart (scene->phoenix, &error);
  g_assert_no_error (error);
  host_cell_describe (scene->phoenix, &after);
  g_assert_cmpint (after.location, ==, before.location);
  g_assert_cmpint (after.pid != before.pid, ==, of->there);
  g_assert_cmpuint (after.generation, >, before.generation);
  g_assert_cmpuint (after.restarts, ==, 0);             /* which counts what nobody has asked for */
  check_adds (scene, 1, 1);
}

/* One that has failed is forgiven. */
static void
test_from_the_dead (Scene *scene, gconstpointer data)
{
  gint64 until = g_get_monotonic_time () + 60 * G_USEC_PER_SEC;
  g_autoptr(GError) error = NULL;

  (void) data;
  if (scene->skipped)
    return;
  begin (scene, &cases[3]);
  while (strcmp (host_cell_location_name (scene->phoenix), "dead") != 0)
    {
      cell_auto PhoenixBurn burnt = phoenix_burn (scene->client, .how = "fault");

      g_assert_cmpint (burnt.result.status, !=, CELL_OK);
      g_assert_cmpint (g_get_monotonic_time (), <, until);
    }
  g_assert_false (relocate_absorb (scene->phoenix, &error));
  g_assert_error (error, CELL_ERROR_DOMAIN, -CELL_ERROR_GONE);
  g_clear_error (&error);
  relocate_restart (scene->phoenix, &error);
  g_assert_no_error (error);
  cell_auto PhoenixAdd last = phoenix_add (scene->client, .n = 1);
  if (last.result.status != CELL_OK)
    check_adds (scene, 0, 1);
  cell_auto PhoenixBurn burnt = phoenix_burn (scene->client, .how = "fault");
  g_assert_cmpint (burnt.result.status, ==, CELL_ERROR_CRASHED);
  check_adds (scene, 0, 1);
}

/* ---- a kill at every step ----------------------------------------------------------------------------------------------- */

typedef struct
{
  const char *name;
  gboolean from_there;
  gboolean (*move) (HostCell *cell, GError **error);
} Target;

static gboolean
swap_it (HostCell *cell, GError **error)
{
  g_autofree char *path = file_of ("phoenix-next");

  return relocate_swap (cell, path, error);
}

static const Target targets[] = {
  { "eject", FALSE, relocate_eject }, { "absorb", TRUE, relocate_absorb }, { "restart", TRUE, relocate_restart },
  { "swap", TRUE, swap_it },
};

/* However it came out, the cell works: with its state, or, if that died with the process that had it, with what it had when it was
 * loaded. */
static void
check_works (Scene *scene, gboolean good, guint64 now, guint64 loaded)
{
  cell_auto PhoenixAdd add = phoenix_add (scene->client, .n = 1);

  g_assert_cmpstr (add.result.message, ==, NULL);
  g_assert_true (add.value == now + 1 || (!good && add.value == loaded + 1));
}

/* Returns how many steps there were. */
static guint
kill_at (Scene *scene, const Target *target, guint step)
{
  g_autoptr(GError) error = NULL;
  gboolean good;

  begin (scene, &cases[target->from_there ? 3 : 0]);
  cell_auto PhoenixAdd had = phoenix_add (scene->client, .n = 41);
  scene->killer.n = 0;
  scene->killer.at = step;
  good = target->move (scene->phoenix, &error);
  if (error != NULL)
    g_test_message ("%s", error->message);
  scene->killer.at = 0;
  check_works (scene, good, had.value, had.value - 41);
  g_assert_true (host_unload (scene->host.host, "phoenix", NULL));
  g_clear_pointer (&scene->phoenix, host_cell_unref);
  cell_client_close (scene->client);
  scene->client = cell_bind (scene->bus, Phoenix, "phoenix");
  return scene->killer.n;
}

static void
test_kill (Scene *scene, gconstpointer data)
{
  guint step = 1;

  if (scene->skipped)
    return;
  /* Until there is no such step any more.  Each of those has a child that is asked for something. */
  while (kill_at (scene, data, step) >= step)
    step++;
  g_assert_cmpuint (step, >, 3);
}

/* ---- under load ------------------------------------------------------------------------------------------------------------- */

typedef struct
{
  Counting counting;
  _Atomic gboolean done;
} Load;

static gpointer
program_main (gpointer data)
{
  Load *load = data;

  do
    counting_thousand (&load->counting);
  while (load->counting.wrong[0] == 0 && !load->done);
  return NULL;
}

static gpointer
cell_main (gpointer data)
{
  Load *load = data;
  CellClient *pacer = load->counting.sequence;

  do
    {
      cell_auto PacerRun ran = pacer_run (pacer, .who = 2, .thousands = 1);

      g_assert_cmpstr (ran.result.message, ==, NULL);
      g_strlcpy (load->counting.wrong, ran.wrong, sizeof load->counting.wrong);
      load->counting.next += 1000;
    }
  while (load->counting.wrong[0] == 0 && !load->done);
  return NULL;
}

/* Every call of a program and of a cell in the host arrives once, in its order, and is answered. */
static void
test_load (Scene *scene, gconstpointer data)
{
  const Case *of = data;
  g_autofree char *file = g_strconcat ("sequence", strchr (of->build, '-'), NULL), *path = file_of (file);
  g_autoptr(HostCell) sequence = NULL, pacer = NULL;
  CellBus *buses[] = { cell_open (scene->host.socket), cell_open (scene->host.socket) };
  Load program = { .counting = { .sequence = cell_bind (buses[0], Sequence, "sequence"), .who = 1 } };
  Load cell = { .counting = { .sequence = cell_bind (buses[1], Pacer, "pacer") } };
  GThread *threads[2];

  if (!of->there || !scene->skipped)
    {
      sequence = host_fixture_load (&scene->host, file, "sequence", NULL);
      pacer = host_fixture_load (&scene->host, "pacer", NULL, NULL);
      if (of->there)
        host_fixture_eject (sequence);
      threads[0] = g_thread_new ("program", program_main, &program);
      threads[1] = g_thread_new ("cell", cell_main, &cell);
      for (guint i = 0; i < N_MOVES; i++)
        {
          g_autoptr(GError) error = NULL;

          if (i % 3 == 2)
            relocate_restart (sequence, &error);
          else
            relocate_swap (sequence, path, &error);
          g_assert_no_error (error);
        }
      program.done = cell.done = TRUE;
      g_thread_join (threads[0]);
      g_thread_join (threads[1]);
      g_assert_cmpstr (program.counting.wrong, ==, "");
      g_assert_cmpstr (cell.counting.wrong, ==, "");
      CellClient *client = cell_bind (scene->bus, Sequence, "sequence");
      cell_auto SequenceTotals totals = sequence_totals (client);
      g_assert_cmpuint (totals.calls, ==, program.counting.next + cell.counting.next);
      g_assert_cmpuint (totals.skipped, ==, 0);
      g_assert_cmpuint (totals.repeated, ==, 0);
      g_test_message ("%" G_GUINT64_FORMAT " calls", totals.calls);
    }
  cell_close (buses[0]);
  cell_close (buses[1]);
}

static void
add (const char *path, gconstpointer data, void (*test) (Scene *scene, gconstpointer data))
{
  g_test_add (path, Scene, data, set_up, test, tear_down);
}

static void
add_cases (const char *name, void (*test) (Scene *scene, gconstpointer data))
{
  for (guint i = 0; i < G_N_ELEMENTS (cases); i++)
    {
      g_autofree char *path = g_strdup_printf ("/swap/%s/%s/%s", name, cases[i].build, cases[i].there ? "sandbox" : "host");

      add (path, &cases[i], test);
    }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_log_set_always_fatal (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL);    /* a warning that a child died is what is wanted */
  add_cases ("build", test_build);
  add ("/swap/refused/host", &cases[0], test_refused);
  add ("/swap/refused/sandbox", &cases[3], test_refused);
  add_cases ("restart", test_restart);
  add ("/swap/from-the-dead", NULL, test_from_the_dead);
  for (guint i = 0; i < G_N_ELEMENTS (targets); i++)
    {
      g_autofree char *path = g_strconcat ("/swap/kill/", targets[i].name, NULL);

      add (path, &targets[i], test_kill);
    }
  add_cases ("load", test_load);
  return g_test_run ();
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Moves that fail, and what becomes of callers then: whatever goes wrong before the hand-over, the cell goes on where it was.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <string.h>

#include <cell/remote/sequence.h>
#include <cell/remote/traveller.h>

#include "host-fixture.h"

#define STEP_MS 3000            /* how long a child that hangs is waited for */

typedef struct
{
  HostFixture host;
  HostCell *traveller;
  CellBus *bus;
  CellClient *client;           /* of the traveller */
  gboolean skipped;
  gboolean armed;               /* the next child that is to start is killed */
} Scene;

static void
set_up (Scene *scene, gconstpointer data)
{
  (void) data;
  scene->host.step_ms = STEP_MS;
  scene->host.on_step = host_fixture_kill_once;
  scene->host.on_step_data = &scene->armed;
  host_fixture_set_up (&scene->host, NULL);
  scene->skipped = !host_fixture_has_sandbox ();
  scene->bus = cell_open (scene->host.socket);
  scene->client = cell_bind (scene->bus, Traveller, "traveller");
}

static void
tear_down (Scene *scene, gconstpointer data)
{
  (void) data;
  cell_close (scene->bus);
  host_cell_unref (scene->traveller);
  host_fixture_tear_down (&scene->host, NULL);
}

/* It serves in this place, and has forgotten nothing. */
static void
check_place (Scene *scene, const char *place)
{
  cell_auto TravellerTotals before = traveller_totals (scene->client), after = { 0 };
  cell_auto TravellerSay say = traveller_say (scene->client, .n = 1);

  g_assert_cmpstr (before.result.message, ==, NULL);
  g_assert_cmpstr (say.result.message, ==, NULL);
  after = traveller_totals (scene->client);
  g_assert_cmpuint (after.spoken, ==, before.spoken + 1);
  g_assert_cmpstr (host_cell_location_name (scene->traveller), ==, place);
}

/* ---- steps that fail ------------------------------------------------------------------------------------- */

typedef struct
{
  const char *trouble, *where;
  gboolean back;                /* it fails when the cell is taken back, not when it is ejected */
  CellStatus status;
  const char *says;
} Trouble;

static void
test_trouble (Scene *scene, gconstpointer data)
{
  const Trouble *trouble = data;
  g_autoptr(GError) error = NULL;
  g_autofree char *lost = NULL;

  if (scene->skipped)
    return;
  scene->traveller = host_fixture_load (&scene->host, "traveller", NULL, "trouble", trouble->trouble, "where", trouble->where,
                                        NULL);
  traveller_say (scene->client, .n = 41);
  if (trouble->back)
    host_fixture_eject (scene->traveller);
  g_assert_false (trouble->back ? relocate_absorb (scene->traveller, &error) : relocate_eject (scene->traveller, &error));
  g_test_message ("%s", error->message);
  g_assert_cmpint (cell_status_from_error (error), ==, trouble->status);
  g_assert_nonnull (strstr (error->message, trouble->says));
  if (g_str_has_prefix (trouble->trouble, "hang") && trouble->back)
    {
      /* It hangs still, and only that it can be ended is left. */
      g_clear_error (&error);
      g_assert_false (host_unload (scene->host.host, "traveller", &error));
      g_assert_cmpint (cell_status_from_error (error), ==, CELL_ERROR_DEADLINE);
      g_clear_error (&error);
      g_assert_true (host_unload_by_force (scene->host.host, "traveller", &lost, &error));
      g_assert_no_error (error);
      g_assert_nonnull (strstr (lost, "its process was killed, and its state is lost"));
      return;
    }
  check_place (scene, trouble->back ? "sandbox" : "in process");
  cell_auto TravellerTotals totals = traveller_totals (scene->client);
  g_assert_cmpuint (totals.spoken, ==, 42);
}

static const Trouble troubles[] = {
  { "init", "sandbox", FALSE, CELL_ERROR_UNREACHABLE, "its init failed" },
  { "restore", "sandbox", FALSE, CELL_ERROR_STATE, "its restore failed" },
  { "save", "host", FALSE, CELL_ERROR_STATE, "its save failed" },
  { "save", "sandbox", TRUE, CELL_ERROR_STATE, "its save failed" },
  { "restore", "host", TRUE, CELL_ERROR_STATE, "its restore failed" },
  { "hang-init", "sandbox", FALSE, CELL_ERROR_DEADLINE, "load the cell" },
  { "hang-restore", "sandbox", FALSE, CELL_ERROR_DEADLINE, "restore its state" },
  { "hang-save", "sandbox", TRUE, CELL_ERROR_DEADLINE, "save its state" },
};

/* It has state, and no way to take it along. */
static void
test_forgetful (Scene *scene, gconstpointer data)
{
  g_autoptr(GError) error = NULL;

  (void) data;
  scene->traveller = host_fixture_load (&scene->host, "traveller-forgetful", "traveller", NULL);
  g_assert_false (relocate_eject (scene->traveller, &error));
  g_assert_cmpint (cell_status_from_error (error), ==, CELL_ERROR_STATE);
  check_place (scene, "in process");
}

/* ---- a cell that asks for it itself ------------------------------------------------------------------------ */

static Scene *of_the_mover;
static _Atomic int how;

static int32_t
move_it (void)
{
  g_autoptr(GError) error = NULL;

  switch (how)
    {
    case 0: relocate_eject (of_the_mover->traveller, &error); break;
    case 1: relocate_absorb (of_the_mover->traveller, &error); break;
    default: host_unload (of_the_mover->host.host, "traveller", &error);
    }
  if (error != NULL)
    g_test_message ("%s", error->message);
  return cell_status_from_error (error);
}

/* Whatever it asks for from one of its own calls cannot be before that has ended: it is told so, and not by a deadline. */
static void
test_itself (Scene *scene, gconstpointer data)
{
  static const CellStatus expected[] = { CELL_ERROR_DEADLOCK, CELL_ERROR_EXISTS, CELL_ERROR_DEADLOCK };
  g_autofree char *function = g_strdup_printf ("%p", (void *) move_it);

  if (scene->skipped)
    return;
  of_the_mover = scene;
  scene->traveller = host_fixture_load (&scene->host, data, "traveller", "mover", function, NULL);
  for (how = 0; how < 3; how++)
    {
      cell_auto TravellerMoveMe move = traveller_move_me (scene->client);

      g_assert_cmpstr (move.result.message, ==, NULL);
      g_assert_cmpint (move.status, ==, expected[how]);
      check_place (scene, "in process");
    }
  host_fixture_eject (scene->traveller);
  check_place (scene, "sandbox");
}

/* ---- a child that dies --------------------------------------------------------------------------------------- */

/* Neither the old one, which has let go, nor the new one is there any more.  The one that comes then knows what the old one did. */
static void
test_killed_at_start (Scene *scene, gconstpointer data)
{
  g_autoptr(GError) error = NULL;

  (void) data;
  if (scene->skipped)
    return;
  scene->traveller = host_fixture_load (&scene->host, "traveller", NULL, NULL);
  traveller_say (scene->client, .n = 41);
  scene->armed = TRUE;
  g_assert_false (relocate_eject (scene->traveller, &error));
  g_assert_cmpint (cell_status_from_error (error), ==, CELL_ERROR_CRASHED);
  g_assert_false (scene->armed);
  check_place (scene, "sandbox");
  cell_auto TravellerTotals totals = traveller_totals (scene->client);
  g_assert_cmpuint (totals.spoken, ==, 42);
}

/* A call that does not end: the move gives up, and what cannot be stopped can be killed. */
static void
test_busy (Scene *scene, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  g_autofree char *lost = NULL;
  TravellerHangCall hang;

  (void) data;
  if (scene->skipped)
    return;
  scene->traveller = host_fixture_load (&scene->host, "traveller", NULL, NULL);
  host_fixture_eject (scene->traveller);
  hang = traveller_hang_start (scene->client);
  host_fixture_wait_taken (scene->traveller, 1);
  g_assert_false (relocate_absorb (scene->traveller, &error));
  g_assert_cmpint (cell_status_from_error (error), ==, CELL_ERROR_BUSY);
  g_clear_error (&error);
  g_assert_true (host_unload_by_force (scene->host.host, "traveller", &lost, &error));
  g_assert_no_error (error);
  g_assert_nonnull (strstr (lost, "its process was killed"));
  cell_auto TravellerHang taken = traveller_hang_finish (hang);
  g_assert_cmpint (taken.result.status, ==, CELL_ERROR_CRASHED);
}

/* Its process does not listen: it is replaced, and whoever has come to it is served by the next one. */
static void
test_deaf (Scene *scene, gconstpointer data)
{
  HostCellInfo info;

  (void) data;
  if (scene->skipped)
    return;
  scene->traveller = host_fixture_load (&scene->host, "traveller", NULL, NULL);
  host_fixture_eject (scene->traveller);
  host_cell_describe (scene->traveller, &info);
  g_assert_cmpint (kill (info.pid, SIGSTOP), ==, 0);
  cell_set_timeout (scene->client, 60000);
  cell_auto TravellerTotals totals = traveller_totals (scene->client);
  g_assert_cmpstr (totals.result.message, ==, NULL);
  host_cell_describe (scene->traveller, &info);
  g_assert_cmpuint (info.restarts, ==, 1);
  g_assert_nonnull (strstr (info.reason, "it does not listen to the host"));
}

/* ---- many who move it ------------------------------------------------------------------------------------------ */

typedef struct
{
  Scene *scene;
  guint number;
  _Atomic guint *running;
} Mover;

#define MOVERS 4
#define MOVES 12

static void
check_allowed (GError *error)
{
  static const CellStatus allowed[] = {
    CELL_OK, CELL_ERROR_NOT_FOUND, CELL_ERROR_EXISTS, CELL_ERROR_GONE, CELL_ERROR_BUSY,
  };
  CellStatus status = cell_status_from_error (error);

  for (guint i = 0; i < G_N_ELEMENTS (allowed); i++)
    if (status == allowed[i])
      return;
  g_error ("%s", error->message);
}

static void *
mover_main (void *data)
{
  Mover *mover = data;
  Host *host = mover->scene->host.host;

  for (guint i = 0; i < MOVES; i++)
    {
      g_autoptr(GError) error = NULL;
      g_autoptr(HostCell) cell = host_find (host, "sequence", NULL);
      g_autofree char *path = g_build_filename (g_getenv ("TEST_CELLS"), "sequence.so", NULL);

      switch ((i + mover->number) % 4)
        {
        case 0:
        case 1:
          if (cell != NULL)
            relocate_eject (cell, &error);
          break;
        case 2:
          if (cell != NULL)
            relocate_absorb (cell, &error);
          break;
        default:
          if (i % 8 == 7)
            host_unload (host, "sequence", &error);
          break;
        }
      check_allowed (error);
      g_clear_error (&error);
      host_cell_unref (host_load (host, path, NULL, NULL, &error));
      check_allowed (error);
    }
  atomic_fetch_sub (mover->running, 1);
  return NULL;
}

/* Whoever calls meanwhile is answered, or told that the cell is not there. */
static void
call_while (Scene *scene, _Atomic guint *running)
{
  CellClient *client = cell_bind (scene->bus, Sequence, "sequence");
  guint64 good = 0, bad = 0;

  while (atomic_load (running) > 0 || good == 0)
    {
      cell_auto SequenceNext reply = sequence_next (client, .who = 1, .number = 7);

      if (reply.result.status == CELL_OK)
        {
          g_assert_cmpuint (reply.number, ==, 7);
          good++;
        }
      else
        {
          g_assert_true (reply.result.status == CELL_ERROR_GONE || reply.result.status == CELL_ERROR_NOT_FOUND);
          bad++;
        }
    }
  g_test_message ("%" G_GUINT64_FORMAT " answered, %" G_GUINT64_FORMAT " not", good, bad);
}

static void
test_many_movers (Scene *scene, gconstpointer data)
{
  _Atomic guint running = MOVERS;
  pthread_t threads[MOVERS];
  Mover movers[MOVERS];

  (void) data;
  if (scene->skipped)
    return;
  for (guint i = 0; i < MOVERS; i++)
    {
      movers[i] = (Mover) { scene, i, &running };
      g_assert_cmpint (pthread_create (&threads[i], NULL, mover_main, &movers[i]), ==, 0);
    }
  call_while (scene, &running);
  for (guint i = 0; i < MOVERS; i++)
    pthread_join (threads[i], NULL);
}

/* ---- the end of a child, heard of twice ---------------------------------------------------------------------- */

/* The host's threads share one processor, so that its main loop is late, and what they start has the others. */
static void
pin_host (HostFixture *fixture)
{
  g_autoptr(HostCell) cell = host_fixture_load (fixture, g_getenv ("TEST_LEDGER"), NULL, NULL);
  cpu_set_t one;

  host_fixture_eject (cell);            /* the thread that starts processes is there from now on */
  host_fixture_stop (fixture);
  CPU_ZERO (&one);
  CPU_SET ((size_t) sched_getcpu (), &one);
  g_assert_cmpint (sched_setaffinity (0, sizeof one, &one), ==, 0);
  host_fixture_start (fixture);
}

/* Who ends it and the main loop hear of it, and the cell may be gone by then. */
static void
test_unloaded (Scene *scene, gconstpointer data)
{
  cpu_set_t all;

  (void) data;
  if (scene->skipped)
    return;
  g_assert_cmpint (sched_getaffinity (0, sizeof all, &all), ==, 0);
  pin_host (&scene->host);
  for (guint i = 0; i < 100; i++)
    {
      g_autoptr(GError) error = NULL;
      HostCell *cell = host_fixture_load (&scene->host, g_getenv ("TEST_LEDGER"), NULL, NULL);

      host_fixture_eject (cell);
      host_cell_unref (cell);
      g_assert_true (host_unload (scene->host.host, "ledger", &error));
      g_assert_no_error (error);
    }
  g_assert_cmpint (sched_setaffinity (0, sizeof all, &all), ==, 0);
}

static void
add (const char *path, gconstpointer data, void (*test) (Scene *scene, gconstpointer data))
{
  g_test_add (path, Scene, data, set_up, test, tear_down);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_log_set_always_fatal (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL);    /* a warning that a child died is what is wanted */
  for (guint i = 0; i < G_N_ELEMENTS (troubles); i++)
    {
      const char *part = g_str_has_prefix (troubles[i].trouble, "hang") ? "waits/" : "";
      g_autofree char *path = g_strdup_printf ("/moves-fail/%s%s/%s", part, troubles[i].trouble, troubles[i].where);

      add (path, &troubles[i], test_trouble);
    }
  add ("/moves-fail/forgetful", NULL, test_forgetful);
  add ("/moves-fail/itself/serial", "traveller", test_itself);
  add ("/moves-fail/itself/loop", "traveller-loop", test_itself);
  add ("/moves-fail/itself/many", "traveller-many", test_itself);
  add ("/moves-fail/busy", NULL, test_busy);
  add ("/moves-fail/killed-at-start", NULL, test_killed_at_start);
  add ("/moves-fail/deaf", NULL, test_deaf);
  add ("/moves-fail/movers", NULL, test_many_movers);
  add ("/moves-fail/waits/unloaded", NULL, test_unloaded);
  return g_test_run ();
}

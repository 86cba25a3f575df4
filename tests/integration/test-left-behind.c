/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Threads that a cell has left behind go on calling the host's functions while the cell is ejected, absorbed and unloaded.
 */
#include <sched.h>

#include <cell/remote/straggler.h>

#include "host-fixture.h"
#include "straggler.h"

#define PATIENCE_US (60 * G_USEC_PER_SEC)

typedef struct
{
  HostFixture host;
  HostCell *ledger, *straggler;
  CellBus *bus;
  CellClient *client;
  StragglerWatch watch;
} Scene;

static void
set_up (Scene *scene, gconstpointer build)
{
  g_autofree char *address = g_strdup_printf ("%p", (void *) &scene->watch);

  host_fixture_set_up (&scene->host, NULL);
  scene->ledger = host_fixture_load (&scene->host, g_getenv ("TEST_LEDGER"), NULL, NULL);
  scene->straggler = host_fixture_load (&scene->host, build, "straggler", "watch", address, NULL);
  scene->bus = cell_open (scene->host.socket);
  scene->client = cell_bind (scene->bus, Straggler, "straggler");
}

static uint32_t
look (const uint32_t *word)
{
  return __atomic_load_n (word, __ATOMIC_SEQ_CST);
}

static void
wait_for (const uint32_t *word, uint32_t wanted)
{
  gint64 until = g_get_monotonic_time () + PATIENCE_US;

  while (look (word) < wanted)
    {
      g_assert_cmpint (g_get_monotonic_time (), <, until);
      sched_yield ();
    }
}

static void
some_rounds (Scene *scene, int32_t status)
{
  wait_for (&scene->watch.rounds, look (&scene->watch.rounds) + 3);
  if (look (&scene->watch.surprises) > 0)
    g_error ("%u calls were let through; the last: %s", look (&scene->watch.surprises), scene->watch.surprise);
  g_assert_cmpint (__atomic_load_n (&scene->watch.status, __ATOMIC_SEQ_CST), ==, status);
}

static void
tear_down (Scene *scene, gconstpointer data)
{
  (void) data;
  cell_close (scene->bus);
  host_cell_unref (scene->straggler);
  host_cell_unref (scene->ledger);
  host_fixture_tear_down (&scene->host, NULL);
  if (look (&scene->watch.rounds) > 0)
    {
      some_rounds (scene, CELL_ERROR_GONE);
      __atomic_store_n (&scene->watch.stop, 1, __ATOMIC_SEQ_CST);
      wait_for (&scene->watch.ended, 1);
    }
}

static void
leave (Scene *scene)
{
  cell_auto StragglerLeave left = straggler_leave (scene->client);

  g_assert_cmpstr (left.result.message, ==, NULL);
}

static void
assert_works (Scene *scene)
{
  cell_auto StragglerWork w = straggler_work (scene->client);

  g_assert_cmpstr (w.result.message, ==, NULL);
}

/* One thread stays in the host, others in sandboxes, which end with them. */
static void
test_moves (Scene *scene, gconstpointer data)
{
  StragglerKeepCall kept;

  (void) data;
  if (!host_fixture_has_sandbox ())
    return;
  kept = straggler_keep_start (scene->client, .text = "kept");
  leave (scene);
  some_rounds (scene, CELL_ERROR_DENIED);
  for (guint i = 0; i < 3; i++)
    {
      host_fixture_eject (scene->straggler);
      some_rounds (scene, CELL_ERROR_GONE);
      assert_works (scene);
      leave (scene);
      assert_works (scene);
      host_fixture_absorb (scene->straggler);
      some_rounds (scene, CELL_ERROR_GONE);
      assert_works (scene);
    }
  {
    cell_auto StragglerAnswer answered = straggler_answer (scene->client);
    cell_auto StragglerKeep k = straggler_keep_finish (kept);

    g_assert_cmpstr (k.result.message, ==, NULL);
    g_assert_cmpstr (k.text, ==, "kept!");
    g_assert_true (answered.answered);
  }
}

static void
test_unload (Scene *scene, gconstpointer data)
{
  g_autoptr(GError) error = NULL;

  (void) data;
  leave (scene);
  some_rounds (scene, CELL_ERROR_DENIED);
  g_assert_true (host_unload (scene->host.host, "straggler", &error));
  g_assert_no_error (error);
  some_rounds (scene, CELL_ERROR_GONE);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_unsetenv ("CELLHOST_DEBUG");
  g_log_set_always_fatal (G_LOG_FATAL_MASK | G_LOG_LEVEL_CRITICAL);     /* the host warns of what is done here */
  g_test_add ("/left-behind/moves", Scene, "straggler", set_up, test_moves, tear_down);
  g_test_add ("/left-behind/moves-loop", Scene, "straggler-loop", set_up, test_moves, tear_down);
  g_test_add ("/left-behind/moves-many", Scene, "straggler-many", set_up, test_moves, tear_down);
  g_test_add ("/left-behind/unload", Scene, "straggler", set_up, test_unload, tear_down);
  return g_test_run ();
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A thread that a cell has left behind calls every function of the host's, with everything that its cell had: while the cell lives,
 * when another build has taken over, and when it has gone and others have come.  Nothing of that does anything, and nothing that
 * was freed is touched, which is for the sanitizers to see.
 */
#include <sched.h>

#include <cell/remote/ledger.h>
#include <cell/remote/straggler.h>

#include "straggler.h"
#include "town.h"

static const char *const builds[] = { "straggler", "straggler-loop", "straggler-many" };

static uint32_t
look (const uint32_t *word)
{
  return __atomic_load_n (word, __ATOMIC_SEQ_CST);
}

static void
wait_for (const uint32_t *word, uint32_t wanted)
{
  uint64_t deadline = monotonic_ns () + TOWN_PATIENCE_S * 1000000000ull;

  while (look (word) < wanted)
    {
      g_assert_cmpuint (monotonic_ns (), <, deadline);
      sched_yield ();
    }
}

/* Whole rounds of the thread's that begin from now on. */
static void
some_rounds (StragglerWatch *watch)
{
  wait_for (&watch->rounds, look (&watch->rounds) + 3);
  if (look (&watch->surprises) > 0)
    g_error ("%u calls were let through; the last: %s", look (&watch->surprises), watch->surprise);
}

static int32_t
status_of (StragglerWatch *watch)
{
  return __atomic_load_n (&watch->status, __ATOMIC_SEQ_CST);
}

static void
assert_works (CellClient *client, guint64 n)
{
  cell_auto StragglerWork w = straggler_work (client);

  g_assert_cmpstr (w.result.message, ==, NULL);
  g_assert_cmpuint (w.n, ==, n);
}

static void
on_ping (const StragglerPing *args, uint64_t missed, void *data)
{
  g_assert_cmpuint (args->n, <, 100);   /* the thread says another number */
  *(uint64_t *) data += missed + 1;
}

static void
test_left_behind (gconstpointer build)
{
  Town *town = town_new ();
  StragglerWatch *watch = g_new0 (StragglerWatch, 1);
  g_autofree char *address = g_strdup_printf ("%p", (void *) watch);
  g_autoptr (CellModule) module = town_module (build);
  g_autoptr (GError) error = NULL;
  TownCell *ledger = town_load (town, "ledger", "ledger", NULL),
           *cell = town_load (town, build, "straggler", "watch", address, NULL);
  CellClient *client = town_use (town, Straggler, "straggler");
  StragglerKeepCall kept = straggler_keep_start (client, .text = "kept");
  uint64_t pings = 0;

  g_assert_cmpint (straggler_on_ping (client, on_ping, &pings), ==, CELL_OK);
  {
    cell_auto StragglerLeave left = straggler_leave (client);
    g_assert_cmpstr (left.result.message, ==, NULL);
  }
  some_rounds (watch);
  g_assert_cmpint (status_of (watch), ==, CELL_ERROR_DENIED);
  assert_works (client, 1);

  /* Another instance takes its place; what it keeps is not the thread's to answer. */
  g_assert_true (town_swap (cell, module, &error));
  g_assert_no_error (error);
  some_rounds (watch);
  g_assert_cmpint (status_of (watch), ==, CELL_ERROR_GONE);
  assert_works (client, 1);
  {
    cell_auto StragglerAnswer answered = straggler_answer (client);
    cell_auto StragglerKeep k = straggler_keep_finish (kept);

    g_assert_true (answered.answered);
    g_assert_cmpstr (k.text, ==, "kept!");
  }
  town_dispatch_until (town, &pings, 2);

  /* It goes, and others come to where it was. */
  town_unload (cell);
  for (guint i = 0; i < 20; i++)
    {
      g_autofree char *name = g_strdup_printf ("other-%u", i);
      TownCell *other = town_load (town, build, name, NULL);
      CellClient *of_other = town_use (town, Straggler, name);

      assert_works (of_other, 1);
      cell_client_close (of_other);
      if (i % 2 == 0)
        town_unload (other);
    }
  some_rounds (watch);
  g_assert_cmpuint (pings, ==, 2);
  g_assert_false (town_has_logged (ledger, "still here"));
  cell_client_close (client);
  town_free (town);

  some_rounds (watch);                  /* where there is no host any more */
  __atomic_store_n (&watch->stop, 1, __ATOMIC_SEQ_CST);
  wait_for (&watch->ended, 1);
  g_free (watch);
}

/* ---- a host that is debugged ------------------------------------------------------------------------------ */

static void
test_caught (void)
{
  if (g_test_subprocess ())
    {
      g_setenv ("CELLHOST_DEBUG", "threads,fatal", TRUE);
      test_left_behind (builds[0]);
      return;
    }
  g_test_trap_subprocess (NULL, 0, G_TEST_SUBPROCESS_DEFAULT);
  g_test_trap_assert_failed ();
  g_test_trap_assert_stderr ("*straggler* called alloc, which is for ?cell? only, on a thread that does not run the cell's code*");
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_unsetenv ("CELLHOST_DEBUG");
  g_log_set_always_fatal (G_LOG_FATAL_MASK | G_LOG_LEVEL_CRITICAL);     /* the host warns of what is done here */
  for (guint i = 0; i < G_N_ELEMENTS (builds); i++)
    {
      g_autofree char *path = g_strdup_printf ("/straggler/left-behind/%s", builds[i]);
      g_test_add_data_func (path, builds[i], test_left_behind);
    }
  g_test_add_func ("/straggler/caught", test_caught);
  return g_test_run ();
}

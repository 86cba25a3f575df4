/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What a move carries, what stops one, and what becomes of callers when it goes wrong.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>

#include <cell/remote/ledger.h>

#include "host-fixture.h"

static void
test_killed (HostFixture *fixture, gconstpointer data)
{
  g_autoptr(HostCell) cell = NULL;
  CellBus *bus;
  CellClient *ledger;
  CellStatus status = CELL_OK;

  (void) data;
  if (!host_fixture_has_sandbox ())
    return;
  cell = host_fixture_load (fixture, g_getenv ("TEST_LEDGER"), NULL, NULL);
  bus = cell_open (fixture->socket);
  ledger = cell_bind (bus, Ledger, "ledger");
  host_fixture_eject (cell);
  cell_auto LedgerTransfer before = ledger_transfer (ledger, .from = 1, .to = 2, .amount = 1);
  g_assert_cmpint (before.balance, ==, -1);
  kill (child_get_pid (cell->child), SIGKILL);
  /* Those that come before the signal does are answered; then one finds out, and not by its deadline. */
  for (guint i = 0; i < 10 * 1000 * 1000 && status == CELL_OK; i++)
    {
      cell_auto LedgerTransfer after = ledger_transfer (ledger, .from = 1, .to = 2, .amount = 1);

      status = after.result.status;
    }
  g_assert_true (status == CELL_ERROR_CRASHED || status == CELL_ERROR_GONE);
  cell_close (bus);
}

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

/* The end of a child is heard of twice, by who ends it and by the main loop, and the cell may be gone by then. */
static void
test_unloaded (HostFixture *fixture, gconstpointer data)
{
  (void) data;
  if (!host_fixture_has_sandbox ())
    return;
  pin_host (fixture);
  for (guint i = 0; i < 100; i++)
    {
      g_autoptr(GError) error = NULL;
      HostCell *cell = host_fixture_load (fixture, g_getenv ("TEST_LEDGER"), NULL, NULL);

      host_fixture_eject (cell);
      host_cell_unref (cell);
      g_assert_true (host_unload (fixture->host, "ledger", &error));
      g_assert_no_error (error);
    }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_log_set_always_fatal (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL);    /* a warning that a child died is what is wanted */
  g_test_add ("/moves/killed", HostFixture, NULL, host_fixture_set_up, test_killed, host_fixture_tear_down);
  g_test_add ("/moves/unloaded", HostFixture, NULL, host_fixture_set_up, test_unloaded, host_fixture_tear_down);
  return g_test_run ();
}

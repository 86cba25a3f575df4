/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What a move carries, what stops one, and what becomes of callers when it goes wrong.
 */
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

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_log_set_always_fatal (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL);    /* a warning that a child died is what is wanted */
  g_test_add ("/moves/killed", HostFixture, NULL, host_fixture_set_up, test_killed, host_fixture_tear_down);
  return g_test_run ();
}

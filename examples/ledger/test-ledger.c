/* SPDX-License-Identifier: MIT
 *
 * The ledger as its callers see it: loaded like any cell, called through its generated header.
 */
#include <cell/remote/ledger.h>

#include "town.h"

static void
test_ledger (void)
{
  Town *town = town_new ();
  TownCell *cell = town_load (town, "ledger", "ledger", "overdraft", "1000", NULL);
  CellClient *ledger = town_use (town, Ledger, "ledger");
  const LedgerPosting postings[] = { { 1, -300 }, { 5, 100 }, { 6, 200 } }, odd[] = { { 1, 1 }, { 2, 2 } };

  {
    cell_auto LedgerTransfer t = ledger_transfer (ledger, .from = 1, .to = 2, .amount = 500, .memo = "rent");
    cell_auto LedgerTransfer bad = ledger_transfer (ledger, .from = 1, .to = 2, .amount = -1);
    cell_auto LedgerTransfer poor = ledger_transfer (ledger, .from = 1, .to = 2, .amount = 501);
    cell_auto LedgerTransfer nobody = ledger_transfer (ledger, 1, 5000, 1);

    assert_ok (&t.result);
    g_assert_cmpint (t.balance, ==, -500);
    assert_failed (&bad.result, CELL_ERROR_FAILED, Ledger_InvalidAmount, "amount must be positive, got -1");
    assert_failed (&poor.result, CELL_ERROR_FAILED, Ledger_NotEnough, "account 1 has -500 and may not go below -1000");
    g_assert_cmpint (poor.balance, ==, 0);
    assert_failed (&nobody.result, CELL_ERROR_FAILED, Ledger_NoSuchAccount, "no account 5000");
  }
  {
    cell_auto LedgerPost p = ledger_post (ledger, .postings = postings, .n_postings = 3, .memo = "split");
    cell_auto LedgerPost unbalanced = ledger_post (ledger, .postings = odd, .n_postings = 2);
    cell_auto LedgerHistory h = ledger_history (ledger, .account = 1, .page = { .count = 10 });
    cell_auto LedgerHistory second = ledger_history (ledger, .account = 1, .page = { .first = 1, .count = 1 });

    assert_ok (&p.result);
    g_assert_cmpuint (p.id, ==, 2);
    assert_failed (&unbalanced.result, CELL_ERROR_FAILED, Ledger_Unbalanced, "2 postings add up to 3");
    assert_ok (&h.result);
    g_assert_cmpuint (h.n_entries, ==, 2);
    g_assert_cmpint (h.entries[0].amount, ==, -300);
    g_assert_cmpstr (h.entries[0].memo, ==, "split");
    g_assert_cmpint (h.entries[0].balance, ==, -800);
    g_assert_cmpstr (h.entries[1].memo, ==, "rent");
    g_assert_cmpuint (second.n_entries, ==, 1);
    g_assert_cmpstr (second.entries[0].memo, ==, "rent");
  }
  {
    const LedgerEntry entries[] = { { .account = 7, .amount = 10, .memo = "a" },
                                    { .account = 8, .amount = 20, .memo = "" },
                                    { .account = 9, .amount = 40, .memo = NULL } };
    cell_auto LedgerImport dry = ledger_import (ledger, .entries = entries, .n_entries = 3, .dry_run = true);
    cell_auto LedgerImport two = ledger_import (ledger, .entries = entries, .n_entries = 3, .limit = 2, .has_limit = true);
    cell_auto LedgerBalance b7 = ledger_balance (ledger, .account = 7), b9 = ledger_balance (ledger, .account = 9);

    assert_ok (&dry.result);
    g_assert_cmpint (dry.sum, ==, 70);
    g_assert_cmpstr (dry.note, ==, "0 of 3 taken (dry run)");
    g_assert_cmpint (two.sum, ==, 30);
    g_assert_cmpstr (two.note, ==, "2 of 3 taken");
    g_assert_cmpint (b7.balance, ==, 10);
    g_assert_cmpint (b9.balance, ==, 0);
  }
  {
    cell_auto LedgerGetTotal total = ledger_get_total (ledger);
    cell_auto LedgerGetOverdraft before = ledger_get_overdraft (ledger), after;
    cell_auto LedgerSetOverdraft set = ledger_set_overdraft (ledger, 77), negative = ledger_set_overdraft (ledger, -1);

    after = ledger_get_overdraft (ledger);
    assert_ok (&total.result);
    g_assert_cmpint (total.value, ==, 0);
    g_assert_cmpint (before.value, ==, 1000);
    assert_ok (&set.result);
    assert_failed (&negative.result, CELL_ERROR_INVALID, "org.cellhost.Error.Invalid", "an overdraft is not negative, got -1");
    g_assert_cmpint (after.value, ==, 77);
  }
  {
    cell_auto LedgerReset reset = ledger_reset (ledger);
    cell_auto LedgerBalance b = ledger_balance (ledger, .account = 1);

    assert_ok (&reset.result);
    g_assert_cmpint (b.balance, ==, 0);
  }
  g_assert_cmpuint (atomic_load (&cell->stats[0].calls), >, 0);
  cell_client_close (ledger);
  town_free (town);
}

/* Many under way, answered in order, whatever their kind. */
static void
test_pipelined (void)
{
  enum { N = 500 };
  Town *town = town_new ();
  CellClient *ledger;
  g_autofree LedgerTransferCall *calls = g_new (LedgerTransferCall, N);
  g_autofree LedgerBalanceCall *balances = g_new (LedgerBalanceCall, N);

  town_load (town, "ledger", "ledger", NULL);
  ledger = town_use (town, Ledger, "ledger");
  for (guint i = 0; i < N; i++)
    {
      calls[i] = ledger_transfer_start (ledger, .from = 1, .to = 2, .amount = 1, .memo = i % 3 == 0 ? "third" : NULL);
      balances[i] = ledger_balance_start (ledger, .account = 2);
    }
  for (guint i = 0; i < N; i++)
    {
      cell_auto LedgerTransfer t = ledger_transfer_finish (calls[i]);
      cell_auto LedgerBalance b = ledger_balance_finish (balances[i]);

      assert_ok (&t.result);
      g_assert_cmpint (t.balance, ==, -(int64_t) (i + 1));
      g_assert_cmpint (b.balance, ==, i + 1);
    }
  cell_client_close (ledger);
  town_free (town);
}

static void
on_transfer (const LedgerTransfer *reply, void *data)
{
  uint64_t *done = data;

  assert_ok (&reply->result);
  g_assert_cmpint (reply->balance, ==, -(int64_t) ++*done);
}

static void
on_refused (const LedgerTransfer *reply, void *data)
{
  assert_failed (&reply->result, CELL_ERROR_FAILED, Ledger_InvalidAmount, "got 0");
  ++*(uint64_t *) data;
}

static void
test_async (void)
{
  enum { N = 300 };
  Town *town = town_new ();
  CellClient *ledger;
  uint64_t done = 0, refused = 0;

  town_load (town, "ledger", "ledger", NULL);
  ledger = town_use (town, Ledger, "ledger");
  for (guint i = 0; i < N; i++)
    ledger_transfer_async (ledger, on_transfer, &done, .from = 1, .to = 2, .amount = 1);
  ledger_transfer_async (ledger, on_refused, &refused, .from = 1, .to = 2);
  town_dispatch_until (town, &refused, 1);
  g_assert_cmpuint (done, ==, N);
  cell_client_close (ledger);
  town_free (town);
}

typedef struct
{
  uint64_t n, missed;
  int64_t sum;
} Heard;

static void
on_transferred (const LedgerTransferred *args, uint64_t missed, void *data)
{
  Heard *heard = data;

  g_assert_cmpuint (args->from, ==, 1);
  heard->n += 1 + missed;
  heard->missed += missed;
  heard->sum += args->amount;
}

/* Those who subscribed hear of it, those who did not and those who left do not, and who does not read learns how much was
 * missed. */
static void
test_signals (void)
{
  enum { FLOOD = 20000 };
  Town *town = town_new ();
  CellClient *ledger, *listener, *other;
  Heard heard = { 0 }, other_heard = { 0 };

  town_load (town, "ledger", "ledger", NULL);
  ledger = town_use (town, Ledger, "ledger");
  listener = town_use (town, Ledger, "ledger");
  other = town_use (town, Ledger, "ledger");
  g_assert_cmpint (ledger_on_transferred (listener, on_transferred, &heard), ==, CELL_OK);
  g_assert_cmpint (ledger_on_transferred (other, on_transferred, &other_heard), ==, CELL_OK);
  for (guint i = 1; i <= 10; i++)
    {
      cell_auto LedgerTransfer t = ledger_transfer (ledger, .from = 1, .to = 2, .amount = i);
      assert_ok (&t.result);
    }
  town_dispatch_until (town, &heard.n, 10);
  town_dispatch_until (town, &other_heard.n, 10);
  g_assert_cmpint (heard.sum, ==, 55);
  g_assert_cmpuint (heard.missed, ==, 0);
  ledger_off_transferred (other);
  for (guint i = 0; i < FLOOD; i++)
    {
      cell_auto LedgerTransfer t = ledger_transfer (ledger, .from = 1, .to = 2, .amount = 1);
      assert_ok (&t.result);
    }
  /* What was missed is told with the next that fits. */
  while (heard.n < FLOOD + 10 + 1)
    {
      cell_auto LedgerTransfer t = ledger_transfer (ledger, .from = 1, .to = 2, .amount = 1);
      uint64_t before = heard.n;

      assert_ok (&t.result);
      town_dispatch_until (town, &heard.n, before + 1);
    }
  g_assert_cmpuint (heard.missed, >, 0);
  g_assert_cmpuint (other_heard.n, ==, 10);
  cell_client_close (ledger);
  cell_client_close (listener);
  cell_client_close (other);
  town_free (town);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/ledger/methods", test_ledger);
  g_test_add_func ("/ledger/pipelined", test_pipelined);
  g_test_add_func ("/ledger/async", test_async);
  g_test_add_func ("/ledger/signals", test_signals);
  return g_test_run ();
}

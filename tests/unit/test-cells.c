/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The example cells and those that use everything, called as their callers call them: through the generated headers, over channels.
 */
#include <string.h>

#include <cell/remote/alarm.h>
#include <cell/remote/asker.h>
#include <cell/remote/counter.h>
#include <cell/remote/every.h>
#include <cell/remote/exchange.h>
#include <cell/remote/ledger.h>
#include <cell/remote/thrower.h>
#include <cell/remote/thumbnailer.h>
#include <cell/remote/trader.h>

#include "membrane/blob.h"

#include "town.h"

static void
assert_ok (const CellResult *result)
{
  if (result->status != CELL_OK)
    g_error ("%d %s: %s", result->status, result->error, result->message);
  g_assert_null (result->error);
  g_assert_null (result->message);
}

static void
assert_failed (const CellResult *result, CellStatus status, const char *error, const char *message)
{
  g_assert_cmpint (result->status, ==, status);
  g_assert_cmpstr (result->error, ==, error);
  if (strstr (result->message, message) == NULL)
    g_error ("expected “%s”, got “%s”", message, result->message);
}

/* ---- ledger ----------------------------------------------------------------------------------------- */

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

/* ---- exchange and trader ------------------------------------------------------------------------------ */

static void
on_traded (const ExchangeTraded *args, uint64_t missed, void *data)
{
  Heard *heard = data;

  heard->n += 1 + missed;
  heard->sum += args->quantity;
}

static void
test_exchange (void)
{
  Town *town = town_new ();
  CellClient *exchange;
  Heard heard = { 0 };

  town_load (town, "exchange", "exchange", NULL);
  exchange = town_use (town, Exchange, "exchange");
  g_assert_cmpint (exchange_on_traded (exchange, on_traded, &heard), ==, CELL_OK);
  {
    cell_auto ExchangePlace sell = exchange_place (exchange, .side = 1, .price = 100, .quantity = 10, .trader = 1);
    cell_auto ExchangePlace more = exchange_place (exchange, .side = 1, .price = 101, .quantity = 10, .trader = 2);
    cell_auto ExchangePlace buy = exchange_place (exchange, .side = 0, .price = 101, .quantity = 15, .trader = 3);
    cell_auto ExchangePlace bad = exchange_place (exchange, .side = 2, .price = 1, .quantity = 1);
    cell_auto ExchangeBest best = exchange_best (exchange);
    cell_auto ExchangeDepth depth = exchange_depth (exchange, .levels = 5);
    cell_auto ExchangeStats stats = exchange_stats (exchange);
    cell_auto ExchangeGetLastPrice last = exchange_get_last_price (exchange);

    assert_ok (&buy.result);
    g_assert_cmpuint (sell.waiting, ==, 10);
    g_assert_cmpuint (buy.filled, ==, 15);
    g_assert_cmpuint (buy.n_fills, ==, 2);
    g_assert_cmpuint (buy.fills[0].order, ==, sell.order);
    g_assert_cmpuint (buy.fills[1].order, ==, more.order);
    g_assert_cmpuint (buy.fills[1].quantity, ==, 5);
    assert_failed (&bad.result, CELL_ERROR_FAILED, Exchange_InvalidOrder, "side is 0 to buy or 1 to sell, got 2");
    g_assert_cmpuint (best.ask, ==, 101);
    g_assert_cmpuint (best.ask_quantity, ==, 5);
    g_assert_cmpuint (best.bid, ==, 0);
    g_assert_cmpuint (depth.n_asks, ==, 1);
    g_assert_cmpuint (depth.n_bids, ==, 0);
    g_assert_cmpuint (stats.volume, ==, 15);
    g_assert_cmpuint (last.value, ==, 101);
    {
      cell_auto ExchangeCancel theirs = exchange_cancel (exchange, .order = more.order, .trader = 1);
      cell_auto ExchangeCancel mine = exchange_cancel (exchange, .order = more.order, .trader = 2);
      cell_auto ExchangeCancel again = exchange_cancel (exchange, .order = more.order, .trader = 2);

      assert_failed (&theirs.result, CELL_ERROR_FAILED, Exchange_NotYours, "trader 1's");
      g_assert_cmpuint (mine.quantity, ==, 5);
      assert_failed (&again.result, CELL_ERROR_FAILED, Exchange_NoSuchOrder, "does not wait");
    }
  }
  town_dispatch_until (town, &heard.n, 2);
  g_assert_cmpint (heard.sum, ==, 15);
  {
    cell_auto ExchangeClear clear = exchange_clear (exchange);
    cell_auto ExchangeStats stats = exchange_stats (exchange);

    assert_ok (&clear.result);
    g_assert_cmpuint (stats.placed, ==, 0);
  }
  cell_client_close (exchange);
  town_free (town);
}

/* A cell that calls another for each order. */
static void
test_trader (void)
{
  Town *town = town_new ();
  CellClient *trader, *exchange;

  town_load (town, "trader", "trader", "exchange", "market", NULL);
  trader = town_use (town, Trader, "trader");
  {
    cell_auto TraderRun early = trader_run (trader, .orders = 10, .seed = 1);
    assert_failed (&early.result, CELL_ERROR_FAILED, Trader_ExchangeFailed, "there is no cell called market");
  }
  town_load (town, "exchange", "market", NULL);
  exchange = town_use (town, Exchange, "market");
  {
    cell_auto TraderRun run = trader_run (trader, .orders = 5000, .seed = 1);
    cell_auto ExchangeStats stats = exchange_stats (exchange);

    assert_ok (&run.result);
    g_assert_cmpuint (run.placed, >, 3000);
    g_assert_cmpuint (stats.placed, ==, run.placed);
    g_assert_cmpuint (stats.volume, ==, run.volume);
    g_assert_cmpuint (stats.cancelled, ==, run.cancelled);
    g_assert_cmpuint (run.n_took, ==, 2500);            /* of 5000 calls */
    for (guint i = 0; i < run.n_took; i++)
      g_assert_cmpuint (run.took[i], <, run.elapsed);
  }
  cell_client_close (trader);
  cell_client_close (exchange);
  town_free (town);
}

/* ---- C++ ---------------------------------------------------------------------------------------------- */

static void
on_changed (const CounterChanged *args, uint64_t missed, void *data)
{
  Heard *heard = data;

  g_assert_cmpstr (args->name, ==, "apples");
  heard->n += 1 + missed;
  heard->sum = args->value;
}

static void
test_counter (void)
{
  Town *town = town_new ();
  CellClient *counter;
  Heard heard = { 0 };

  town_load (town, "counter", "counter", NULL);
  counter = town_use (town, Counter, "counter");
  g_assert_cmpint (counter_on_changed (counter, on_changed, &heard), ==, CELL_OK);
  {
    cell_auto CounterAdd add = counter_add (counter, .name = "apples", .by = 3);
    cell_auto CounterAdd nameless = counter_add (counter, .name = "", .by = 3);
    cell_auto CounterGet get = counter_get (counter, .name = "apples"), none = counter_get (counter, .name = "pears");
    cell_auto CounterList list = counter_list (counter);
    cell_auto CounterGetSize size = counter_get_size (counter);

    assert_ok (&add.result);
    assert_failed (&nameless.result, CELL_ERROR_INVALID, "org.cellhost.Error.Invalid", "a counter has a name");
    g_assert_cmpint (get.value, ==, 3);
    assert_failed (&none.result, CELL_ERROR_FAILED, Counter_Unknown, "there is no counter \"pears\"");
    g_assert_cmpuint (list.n_items, ==, 1);
    g_assert_cmpstr (list.items[0].name, ==, "apples");
    g_assert_cmpuint (size.value, ==, 1);
  }
  town_dispatch_until (town, &heard.n, 1);
  g_assert_cmpint (heard.sum, ==, 3);
  cell_client_close (counter);
  town_free (town);
}

static void
test_exceptions (void)
{
  static const struct
  {
    CellStatus status;
    const char *error, *message;
  } expected[] = {
    { CELL_ERROR_INVALID, "org.cellhost.Error.Invalid", "not acceptable" },
    { CELL_ERROR_INVALID, "org.cellhost.Error.Invalid", "too far" },
    { CELL_ERROR_NO_RESOURCES, "org.cellhost.Error.NoResources", "out of memory" },
    { CELL_ERROR_FAILED, "org.cellhost.Error.Failed", "broken" },
    { CELL_ERROR_FAILED, "org.cellhost.Error.Failed", "not a std::exception" },
    { CELL_ERROR_FAILED, Thrower_Declared, "said so" },
  };
  Town *town = town_new ();
  TownCell *cell = town_load (town, "thrower", "thrower", NULL);
  CellClient *thrower = town_use (town, Thrower, "thrower");
  bool destroyed = false;

  for (guint i = 0; i < G_N_ELEMENTS (expected); i++)
    {
      cell_auto ThrowerRaise raise = thrower_raise (thrower, .what = (uint8_t) i);

      assert_failed (&raise.result, expected[i].status, expected[i].error, expected[i].message);
    }
  {
    cell_auto ThrowerRaise fine = thrower_raise (thrower, .what = 99);
    cell_auto ThrowerSetText empty = thrower_set_text (thrower, ""), set = thrower_set_text (thrower, "changed");
    cell_auto ThrowerGetText get = thrower_get_text (thrower);
    cell_auto ThrowerWatch watch = thrower_watch (thrower, .flag = (uintptr_t) &destroyed);
    cell_auto ThrowerCallLedger call = thrower_call_ledger (thrower);

    assert_ok (&fine.result);
    g_assert_cmpstr (fine.text, ==, "constructed");
    g_assert_cmpuint (fine.n_pairs, ==, 2);
    g_assert_false (fine.pairs[0].has_value);
    g_assert_cmpint (fine.pairs[1].value, ==, 2);
    assert_failed (&empty.result, CELL_ERROR_INVALID, "org.cellhost.Error.Invalid", "empty");
    assert_ok (&set.result);
    g_assert_cmpstr (get.value, ==, "changed");
    assert_ok (&watch.result);
    assert_failed (&call.result, CELL_ERROR_NOT_FOUND, "org.cellhost.Error.NotFound", "");
  }
  cell_client_close (thrower);
  town_unload (cell);
  g_assert_true (destroyed);
  town_free (town);
}

/* ---- everything ----------------------------------------------------------------------------------------- */

static CellBlob *
blob_of (const char *text)
{
  CellBlob *blob = blob_new (strlen (text) + 1, NULL);

  memcpy (blob_data (blob), text, strlen (text) + 1);
  return blob;
}

static void
test_everything (void)
{
  Town *town = town_new ();
  CellClient *every;
  const EveryPoint path[] = { { 1, 2 }, { 3, 4 } };
  const char *texts[] = { "one", "", "three" };
  const EveryMixed mixed[] = {
    { .flag = true, .number = 7, .points = path, .n_points = 2, .text = "a", .texts = texts, .n_texts = 3 },
    { .maybe = 5, .has_maybe = true, .maybe_point = { 8, 9 }, .has_maybe_point = true },
  };
  CellBlob *blob = blob_of ("the bytes of a blob");

  town_load (town, "every", "every", NULL);
  every = town_use (town, Every, "every");
  {
    cell_auto EveryEverything e =
      every_everything (every, .in_bool = true, .in_u8 = 200, .in_str = "text", .in_bytes = { .data = "\0\1\2", .size = 3 },
                        .in_blob = blob, .in_structs = mixed, .n_in_structs = 2);

    assert_ok (&e.result);
    g_assert_cmpuint (e.out_u8, ==, 200);
    g_assert_true (e.out_last);
    g_assert_true (e.has_out_optional);
    g_assert_cmpstr (e.out_optional, ==, "text");
    g_assert_cmpmem (e.out_bytes.data, e.out_bytes.size, "\0\1\2", 3);
    g_assert_cmpuint (cell_blob_size (e.out_blob), ==, strlen ("the bytes of a blob") + 1);
    g_assert_cmpstr (cell_blob_data (e.out_blob), ==, "the bytes of a blob");
    g_assert_cmpuint (e.n_out_structs, ==, 2);
    g_assert_true (e.out_structs[0].flag);
    g_assert_cmpint (e.out_structs[0].points[1].y, ==, 4);
    g_assert_cmpstr (e.out_structs[0].texts[2], ==, "three");
    g_assert_cmpstr (e.out_structs[1].text, ==, "");
    g_assert_cmpuint (e.out_structs[1].maybe, ==, 5);
    g_assert_true (e.out_structs[1].has_maybe_point);
    g_assert_cmpint (e.out_structs[1].maybe_point.x, ==, 8);
  }
  blob_unref (blob);
  g_assert_cmpuint (blob_transit_bytes (), ==, 0);
  cell_client_close (every);
  town_free (town);
}

static void
on_nothing (const EveryNothing *args, uint64_t missed, void *data)
{
  (void) args;
  *(uint64_t *) data += 1 + missed;
}

static void
on_moved (const EveryMoved *args, uint64_t missed, void *data)
{
  g_assert_cmpint (args->to.x, ==, 4);
  g_assert_cmpuint (args->n_path, ==, 0);
  g_assert_cmpstr (args->why, ==, "asked");
  *(uint64_t *) data += 1 + missed;
}

/* Attributes: nobody waits, who may call; properties; a call that is kept and answered before its handler returns. */
static void
test_attributes (void)
{
  Town *town = town_new ();
  CellClient *every, *viewer;
  uint64_t nothings = 0, moves = 0;

  town_load (town, "every", "every", NULL);
  every = town_use (town, Every, "every");
  g_assert_cmpint (every_on_nothing (every, on_nothing, &nothings), ==, CELL_OK);
  g_assert_cmpint (every_on_moved (every, on_moved, &moves), ==, CELL_OK);
  town->access = CELL_ACCESS_VIEW;
  viewer = town_use (town, Every, "every");
  {
    cell_auto EveryAttributes refused = every_attributes (viewer), sent = every_attributes (every);
    cell_auto EveryElsewhere moved = every_elsewhere (viewer, .to = { 4, 5 }), left = every_elsewhere (every, .to = { -4, 5 });
    cell_auto EveryLater later = every_later (every, .text = "x"), failed = every_later (every, .text = "");
    cell_auto EveryGetFixed fixed = every_get_fixed (every);
    cell_auto EverySetLimit set = every_set_limit (every, 50), too_much = every_set_limit (every, 101);
    cell_auto EveryGetLimit limit = every_get_limit (every);

    assert_ok (&sent.result);
    assert_ok (&refused.result);        /* nobody waits for its answer, so nobody is told; what it does is not done */
    assert_ok (&moved.result);
    assert_failed (&left.result, CELL_ERROR_FAILED, Every_Shared, "-4 is to the left");
    assert_ok (&later.result);
    g_assert_cmpstr (later.text, ==, "later");
    assert_failed (&failed.result, CELL_ERROR_FAILED, Every_Shared, "no text in 1");
    g_assert_cmpstr (fixed.value, ==, "fixed");
    assert_ok (&set.result);
    assert_failed (&too_much.result, CELL_ERROR_FAILED, Every_Shared, "101 is more than 100");
    g_assert_cmpuint (limit.value, ==, 50);
  }
  town_dispatch_until (town, &nothings, 1);
  town_dispatch_until (town, &moves, 1);
  g_assert_cmpuint (nothings, ==, 1);
  cell_client_close (every);
  cell_client_close (viewer);
  town_free (town);
}

/* Who may call is the channel's. */
static void
test_access (void)
{
  Town *town = town_new ();
  CellClient *ledger, *viewer;

  town_load (town, "ledger", "ledger", NULL);
  ledger = town_use (town, Ledger, "ledger");
  {
    cell_auto LedgerReset reset = ledger_reset (ledger);
    assert_ok (&reset.result);
  }
  town->access = CELL_ACCESS_VIEW;
  viewer = town_use (town, Ledger, "ledger");
  {
    cell_auto LedgerReset reset = ledger_reset (viewer);
    cell_auto LedgerBalance balance = ledger_balance (viewer, .account = 1);

    assert_failed (&reset.result, CELL_ERROR_DENIED, "org.cellhost.Error.Denied", "may not call");
    assert_ok (&balance.result);
  }
  cell_client_close (ledger);
  cell_client_close (viewer);
  town_free (town);
}

static void
test_extensions (void)
{
  Town *town = town_new ();
  TownCell *cell = town_load (town, "every", "every", "number", "1234", NULL);
  CellClient *every = town_use (town, Every, "every");

  town_load (town, "ledger", "ledger", NULL);
  {
    cell_auto EveryExtensions e = every_extensions (every);

    /* It keeps its call and answers all the same: what it returned is what counts. */
    assert_ok (&e.result);
    g_assert_cmpuint (e.deferred, !=, 0);
    g_assert_false (e.resumed);
    g_assert_true (e.blob);
    g_assert_cmpint (e.number, ==, 1234);
    g_assert_cmpint (e.saved, ==, CELL_ERROR_INVALID);
    g_assert_false (e.restored);
    g_assert_cmpint (e.called, ==, CELL_OK);
  }
  g_assert_true (town_has_logged (cell, "0 looked at every extension\n"));
  cell_client_close (every);
  town_free (town);
}

/* ---- blobs and loops --------------------------------------------------------------------------------------- */

/* 2 × 1 pixels, red and blue. */
static const uint8_t png[] = {
  0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48, 0x44, 0x52, 0x00, 0x00,
  0x00, 0x02, 0x00, 0x00, 0x00, 0x01, 0x08, 0x02, 0x00, 0x00, 0x00, 0x7b, 0x40, 0xe8, 0xdd, 0x00, 0x00, 0x00,
  0x0d, 0x49, 0x44, 0x41, 0x54, 0x78, 0xda, 0x63, 0xf8, 0xcf, 0x00, 0x04, 0xff, 0x01, 0x07, 0x00, 0x01, 0xff,
  0x3d, 0x7d, 0x8c, 0x49, 0x00, 0x00, 0x00, 0x00, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82,
};

static void
test_thumbnailer (void)
{
  Town *town = town_new ();
  CellClient *thumbnailer;
  CellBlob *noise = blob_of ("this is no picture"), *picture = blob_new (sizeof png, NULL);

  memcpy (blob_data (picture), png, sizeof png);
  town_load (town, "thumbnailer", "thumbnailer", NULL);
  thumbnailer = town_use (town, Thumbnailer, "thumbnailer");
  {
    cell_auto ThumbnailerThumbnail none = thumbnailer_thumbnail (thumbnailer, .size = 10);
    cell_auto ThumbnailerThumbnail bad = thumbnailer_thumbnail (thumbnailer, .picture = noise, .size = 10);

    assert_failed (&none.result, CELL_ERROR_FAILED, Thumbnailer_NotAPicture, "there are no bytes");
    cell_auto ThumbnailerThumbnail good = thumbnailer_thumbnail (thumbnailer, .picture = picture, .size = 10);
    const uint8_t *pixels = cell_blob_data (good.pixels);

    assert_failed (&bad.result, CELL_ERROR_FAILED, Thumbnailer_NotAPicture, "");
    assert_ok (&good.result);
    g_assert_cmpuint (good.width, ==, 2);
    g_assert_cmpuint (good.height, ==, 1);
    g_assert_cmpstr (good.format, ==, "RGB");
    g_assert_cmpuint (cell_blob_size (good.pixels), >=, 6);
    g_assert_cmpmem (pixels, 6, "\xff\0\0\0\0\xff", 6);
  }
  blob_unref (noise);
  blob_unref (picture);
  cell_client_close (thumbnailer);
  town_free (town);
}

static void
on_alarm (const AlarmWait *reply, void *data)
{
  assert_ok (&reply->result);
  g_assert_cmpint (reply->late, >=, 0);
  ++*(uint64_t *) data;
}

/* Calls that are kept, and answered by timers of the cell's own main loop, in the order of their times. */
static void
test_alarm (void)
{
  Town *town = town_new ();
  CellClient *alarm;
  uint64_t done = 0;
  AlarmWaitCall calls[20];

  town_load (town, "alarm", "alarm", NULL);
  alarm = town_use (town, Alarm, "alarm");
  {
    cell_auto AlarmWait w = alarm_wait (alarm, .ms = 1, .text = "now");

    assert_ok (&w.result);
    g_assert_cmpstr (w.text, ==, "now");
  }
  for (guint i = 0; i < G_N_ELEMENTS (calls); i++)
    {
      g_autofree char *text = g_strdup_printf ("call %u", i);

      calls[i] = alarm_wait_start (alarm, .ms = 20 - i, .text = text);
    }
  for (guint i = 0; i < 10; i++)
    alarm_wait_async (alarm, on_alarm, &done, .ms = i);
  for (guint i = 0; i < G_N_ELEMENTS (calls); i++)
    {
      g_autofree char *text = g_strdup_printf ("call %u", i);
      cell_auto AlarmWait w = alarm_wait_finish (calls[i]);

      assert_ok (&w.result);
      g_assert_cmpstr (w.text, ==, text);
    }
  town_dispatch_until (town, &done, 10);
  {
    cell_auto AlarmGetWaiting waiting = alarm_get_waiting (alarm);
    g_assert_cmpuint (waiting.value, ==, 0);
  }
  cell_client_close (alarm);
  town_free (town);
}

/* ---- cells that call cells ----------------------------------------------------------------------------------- */

static void
test_asker (gconstpointer fixture)
{
  Town *town = town_new ();
  TownCell *cell = town_load (town, fixture, "asker", NULL);
  CellClient *asker = town_use (town, Asker, "asker"), *ledger;
  uint64_t patience = monotonic_ns () + TOWN_PATIENCE_S * 1000000000ull, heard = 0;

  {
    cell_auto AskerPay early = asker_pay (asker, .amount = 1);
    g_assert_cmpstr (early.error, ==, "org.cellhost.Error.NotFound: transfer: there is no cell called ledger");
  }
  town_load (town, "ledger", "ledger", NULL);
  ledger = town_use (town, Ledger, "ledger");
  {
    cell_auto AskerListen listen = asker_listen (asker);
    cell_auto AskerPay pay = asker_pay (asker, .amount = 5), bad = asker_pay (asker, .amount = -5);
    cell_auto AskerPayMany many = asker_pay_many (asker, .n = 64);
    cell_auto AskerPayLater later = asker_pay_later (asker, .n = 50);

    assert_ok (&listen.result);
    assert_ok (&pay.result);
    g_assert_cmpstr (pay.error, ==, "");
    g_assert_cmpint (pay.balance, ==, -5);
    g_assert_cmpstr (bad.error, ==, "org.example.Ledger.InvalidAmount: amount must be positive, got -5");
    g_assert_cmpuint (many.done, ==, 64);
    g_assert_cmpint (many.balance, ==, -64);
    assert_ok (&later.result);
  }
  /* Its completions and what it listens to run in its own context, whoever calls it meanwhile. */
  while (heard < 1 + 64 + 50)
    {
      cell_auto AskerGetDone done = asker_get_done (asker);
      cell_auto AskerGetHeard signals = asker_get_heard (asker);

      assert_ok (&signals.result);
      heard = MIN (signals.value, 65 + done.value);
      g_assert_cmpuint (monotonic_ns (), <, patience);
      sched_yield ();
    }
  (void) cell;
  cell_client_close (asker);
  cell_client_close (ledger);
  town_free (town);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/cells/ledger", test_ledger);
  g_test_add_func ("/cells/pipelined", test_pipelined);
  g_test_add_func ("/cells/async", test_async);
  g_test_add_func ("/cells/signals", test_signals);
  g_test_add_func ("/cells/exchange", test_exchange);
  g_test_add_func ("/cells/trader", test_trader);
  g_test_add_func ("/cells/counter", test_counter);
  g_test_add_func ("/cells/exceptions", test_exceptions);
  g_test_add_func ("/cells/everything", test_everything);
  g_test_add_func ("/cells/attributes", test_attributes);
  g_test_add_func ("/cells/access", test_access);
  g_test_add_func ("/cells/extensions", test_extensions);
  g_test_add_func ("/cells/thumbnailer", test_thumbnailer);
  g_test_add_func ("/cells/alarm", test_alarm);
  g_test_add_data_func ("/cells/asker/serial", "asker", test_asker);
  g_test_add_data_func ("/cells/asker/loop", "asker-loop", test_asker);
  g_test_add_data_func ("/cells/asker/concurrent", "asker-many", test_asker);
  return g_test_run ();
}

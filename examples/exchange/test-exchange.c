/* SPDX-License-Identifier: MIT
 *
 * The exchange as its callers see it, and the trader that calls it.  What becomes of an order is in test-book.c.
 */
#include <cell/remote/exchange.h>
#include <cell/remote/trader.h>

#include "town.h"

typedef struct
{
  uint64_t n;
  int64_t sum;
} Heard;

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

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/exchange/methods", test_exchange);
  g_test_add_func ("/exchange/trader", test_trader);
  return g_test_run ();
}

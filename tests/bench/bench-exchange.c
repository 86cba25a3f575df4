/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Orders through a real order book.  They are made as in examples/exchange/trader.c, but here, so that each can be timed.
 */
#include <stdlib.h>

#include <cell/remote/exchange.h>

#include "clock.h"
#include "figures.h"
#include "inside.h"
#include "daemon.h"

#define N_REMEMBERED 1024               /* orders that may still wait */
#define SLICE 1000                      /* orders between two looks at the clock */

enum
{
  HERE, EJECTED                         /* where the exchange is */
};

typedef struct
{
  BenchInside *inside;
  CellClient *exchange;
  BenchProblem *problem;
  uint64_t random, ours[N_REMEMBERED];
  uint32_t middle;                      /* price around which orders are put */
  uint64_t placed, cancelled, volume;
} Trader;

static uint32_t
random_below (Trader *trader, uint32_t n)
{
  trader->random = trader->random * UINT64_C (6364136223846793005) + UINT64_C (1442695040888963407);
  return (uint32_t) ((trader->random >> 32) * n >> 32);
}

static bool
cancel (Trader *trader, uint64_t *order)
{
  cell_auto ExchangeCancel c = exchange_cancel (trader->exchange, .order = *order, .trader = 1);

  *order = 0;
  trader->cancelled += c.result.status == CELL_OK;
  /* It may have been filled meanwhile. */
  return cell_is_error (&c.result, Exchange_NoSuchOrder) || bench_check (&c.result, trader->problem);
}

/* Of ten orders six wait or trade, as prices are; one trades at any price; three are taken back. */
static bool
trade (Trader *trader)
{
  uint32_t dice = random_below (trader, 100), step = random_below (trader, 32), side = dice & 1, distance;
  uint64_t *place = &trader->ours[random_below (trader, N_REMEMBERED)];

  if (dice < 30 && *place)
    return cancel (trader, place);
  trader->middle += step == 0 && trader->middle < 60000 ? 1 : step == 1 && trader->middle > 1000 ? -1u : 0;
  for (distance = 0; distance < 100 && random_below (trader, 8) != 0;)
    distance++;
  cell_auto ExchangePlace p = exchange_place (trader->exchange, .side = (uint8_t) side, .quantity = 1 + random_below (trader, 100),
                                              .price = dice >= 90 ? 0 : side ? trader->middle - 2 + distance
                                                                             : trader->middle + 2 - distance,
                                              .trader = 1);
  if (!bench_check (&p.result, trader->problem))
    return false;
  trader->placed++;
  trader->volume += p.filled;
  if (p.waiting)
    *place = p.order;
  return true;
}

static bool
trader_run (void *state, uint32_t n)
{
  while (n > 0 && trade (state))
    n--;
  return n == 0;
}

/* The exchange's own books say the same as ours. */
static void
trader_teardown (void *state)
{
  Trader *trader = state;

  if (trader->exchange)
    {
      cell_auto ExchangeStats s = exchange_stats (trader->exchange);

      if (bench_check (&s.result, trader->problem)
          && (s.placed != trader->placed || s.cancelled != trader->cancelled || s.volume != trader->volume))
        bench_fail (trader->problem, "%" PRIu64 " orders, volume %" PRIu64 "; the exchange has %" PRIu64 " and %" PRIu64,
                    trader->placed, trader->volume, s.placed, s.volume);
      cell_client_close (trader->exchange);
    }
  if (trader->inside)
    bench_inside_unref (trader->inside);
  free (trader);
}

static void *
trader_setup (const BenchPlace *place, uint64_t option, BenchProblem *problem)
{
  Trader *trader = calloc (1, sizeof *trader);

  if (!trader)
    return NULL;
  *trader = (Trader) { .inside = bench_inside_ref (problem), .problem = problem, .random = 1, .middle = 30000 };
  if (trader->inside && bench_inside_load (trader->inside, BENCH_EXCHANGE, "exchange", problem)
      && (option == HERE || bench_inside_eject (trader->inside, "exchange", place->peer_cpu, problem)))
    trader->exchange = bench_inside_use (trader->inside, "exchange", &cell_remote_Exchange, problem);
  if (trader->exchange)
    return trader;
  trader_teardown (trader);
  return NULL;
}

static int
compare_doubles (const void *a, const void *b)
{
  double x = *(const double *) a, y = *(const double *) b;

  return (x > y) - (x < y);
}

/* Orders differ, so the median of single ones, which is what a reading takes, is no rate. */
static void
measure_rate (const BenchFigure *figure, const BenchSettings *settings, const BenchPlace *place, BenchResult *result)
{
  enum { MAX_READINGS = 16 };
  Trader *trader = figure->candidate->setup (place, figure->candidate->option, &result->problem);
  double rates[MAX_READINGS];
  uint32_t n = settings->n_pairs < MAX_READINGS ? settings->n_pairs : MAX_READINGS;
  bool good = trader != NULL;

  for (uint32_t i = 0; good && i < n; i++)
    {
      uint64_t began = bench_clock_monotonic (), orders = 0, took = 0;

      for (; good && took < settings->reading_ns; took = bench_clock_monotonic () - began, orders += SLICE)
        good = figure->candidate->run (trader, SLICE);
      rates[i] = (double) orders * 1e9 / (double) took;
    }
  if (trader)
    figure->candidate->teardown (trader);
  if (!good || result->problem.is_set)
    return;
  qsort (rates, n, sizeof *rates, compare_doubles);
  result->value = rates[n / 2];
  result->lowest = rates[0];
  result->highest = rates[n - 1];
}

static void
measure_orders (const BenchFigure *figure, const BenchSettings *settings, const BenchPlace *place, BenchResult *result)
{
  bench_pair (figure, settings, place, result);
  if (result->problem.is_set)
    return;
  g_snprintf (result->note, sizeof result->note, "an order: p50 %.0f ns, p99 %.0f ns, p99.9 %.0f ns", 1e9 / result->p50,
              1e9 / result->p99, 1e9 / result->p999);
  measure_rate (figure, settings, place, result);
}

static const BenchSubject here = { "exchange", HERE, trader_setup, trader_run, trader_teardown, false, NULL };
static const BenchSubject ejected = { "exchange.ejected", EJECTED, trader_setup, trader_run, trader_teardown, false, NULL };

const BenchFigure bench_exchange_figures[] = {
  { .name = "exchange.orders", .unit = "orders/s", .placement = BENCH_ONE_CORE, .candidate = &here, .run = measure_orders },
  { .name = "exchange.orders.ejected", .unit = "orders/s", .candidate = &ejected, .run = measure_orders },
  { 0 }
};

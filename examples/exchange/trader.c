/* SPDX-License-Identifier: MIT
 *
 * A cell that trades on the exchange: limit orders around a price that wanders, market orders, and orders taken back, as they come
 * in real markets.  The same seed gives the same orders.
 */
#include <time.h>

#include <cell/cell.h>
#include <cell/remote/exchange.h>

#define N_TIMED 4096                    /* orders of a run, at most, of which is said how long they took */
#define N_REMEMBERED 1024               /* orders of ours that may still wait; a power of two */

typedef struct
{
  CellClient *exchange;
} Trader;

CELL_ERROR (Trader, ExchangeFailed, "The exchange did not answer, or refused a good order")

/* xorshift64*: small, fast, and the same everywhere */
static uint64_t
next_random (uint64_t *state)
{
  *state ^= *state >> 12;
  *state ^= *state << 25;
  *state ^= *state >> 27;
  return *state * UINT64_C (0x2545f4914f6cdd1d);
}

static uint32_t
random_below (uint64_t *state, uint32_t n)
{
  return (uint32_t) ((next_random (state) >> 32) * n >> 32);
}

/* how far from the middle an order is put: mostly close, seldom far */
static uint32_t
random_distance (uint64_t *state)
{
  uint32_t distance = 0;
  while (distance < 100 && random_below (state, 8) != 0)
    distance++;
  return distance;
}

static uint64_t
now_ns (void)
{
  struct timespec t;
  clock_gettime (CLOCK_MONOTONIC, &t);
  return (uint64_t) t.tv_sec * 1000000000u + (uint64_t) t.tv_nsec;
}

/* price in ticks, between 1,000 and 60,000 */
static uint32_t
wander (uint64_t *state, uint32_t price)
{
  uint32_t step = random_below (state, 32);
  return step == 0 && price > 1000 ? price - 1 : step == 1 && price < 60000 ? price + 1 : price;
}

CELL_METHOD (Trader, run, doc ("Sends orders, one after the other, and says what became of them."), timeout (600000),
             in (u32, orders, "how many"), in (u64, seed),
             out (u64, placed), out (u64, filled, "orders that traded at once, at least in part"), out (u64, cancelled),
             out (u64, volume, "traded"), out (u64, elapsed, "nanoseconds"),
             out (array (u32), took, "nanoseconds, by each of a sample of the orders"), max_reply (32768),
             fails (ExchangeFailed))
{
  uint64_t random = in->seed * 2 + 1, ours[N_REMEMBERED] = { 0 }, started = now_ns ();
  uint32_t middle = 30000, every = in->orders / N_TIMED + 1, *took = cell_array (call, out, took, N_TIMED);
  if (!took)
    return cell_fail_status (call, CELL_ERROR_NO_RESOURCES, "there is no memory for the times of %d orders", N_TIMED);
  out->n_took = 0;
  for (uint32_t i = 0; i < in->orders; i++)
    {
      uint32_t *timed = i % every == 0 ? &took[out->n_took++] : NULL;
      uint32_t dice = random_below (&random, 100);
      uint64_t *place = &ours[random_below (&random, N_REMEMBERED)];
      middle = wander (&random, middle);
      if (dice < 30 && *place)
        {
          uint64_t before = timed ? now_ns () : 0;
          cell_auto ExchangeCancel c = exchange_cancel (self->exchange, .order = *place, .trader = in->seed);
          if (timed)
            *timed = (uint32_t) (now_ns () - before);
          if (!c.result.status)
            out->cancelled++;
          else if (!cell_is_error (&c.result, Exchange_NoSuchOrder))    /* it was filled meanwhile */
            return cell_fail (call, ExchangeFailed, "order %u, cancel: %s", i, c.result.message);
          *place = 0;
          continue;
        }
      uint8_t side = (uint8_t) random_below (&random, 2);
      uint32_t distance = random_distance (&random);
      uint64_t before = timed ? now_ns () : 0;
      cell_auto ExchangePlace p = exchange_place (self->exchange, .side = side, .quantity = 1 + random_below (&random, 100),
                                                  .price = dice >= 90 ? 0 : side ? middle - 2 + distance : middle + 2 - distance,
                                                  .trader = in->seed);
      if (timed)
        *timed = (uint32_t) (now_ns () - before);
      if (p.result.status)
        return cell_fail (call, ExchangeFailed, "order %u: %s", i, p.result.message);
      out->placed++;
      out->filled += p.filled > 0;
      out->volume += p.filled;
      if (p.waiting)
        *place = p.order;
    }
  out->elapsed = now_ns () - started;
  return CELL_OK;
}

CELL_INIT (Trader, trader_init)
{
  const char *name = cell_config (self, "exchange");
  self->exchange = cell_use (self, Exchange, name ? name : "exchange");
  return CELL_OK;
}

CELL_SERVICE (Trader, "org.example.Trader", 1, .doc = "Trades on the exchange", .threading = CELL_SERIAL, .init = trader_init)

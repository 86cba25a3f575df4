/* SPDX-License-Identifier: MIT
 *
 * What the market looks like: methods of the exchange that only read.
 */
#include "exchange.h"

CELL_METHOD (Exchange, best, doc ("The top of the book; a price of 0: nobody buys, or sells."), idempotent,
             out (u32, bid), out (u64, bid_quantity), out (u32, ask), out (u64, ask_quantity))
{
  out->bid = book_best (&self->book, BOOK_BUY);
  out->ask = book_best (&self->book, BOOK_SELL);
  out->bid_quantity = out->bid ? self->book.levels[out->bid].quantity : 0;
  out->ask_quantity = out->ask ? self->book.levels[out->ask].quantity : 0;
  return CELL_OK;
}

/* fills up to n levels, best first; returns how many there were */
static uint32_t
list_levels (const Book *book, BookSide side, PriceLevel *level, uint32_t n)
{
  uint32_t i = 0;
  for (uint32_t price = book_best (book, side); price && i < n; price = book_next (book, side, price))
    level[i++] = (PriceLevel) { .price = price, .quantity = book->levels[price].quantity };
  return i;
}

CELL_METHOD (Exchange, depth, doc ("What waits at each price, best first."), idempotent,
             in (u32, levels, "of each side; 100 at most"),
             out (array (PriceLevel), bids), out (array (PriceLevel), asks))
{
  uint32_t n = in->levels < 100 ? in->levels : 100;
  PriceLevel *bid = cell_array (call, out, bids, n), *ask = cell_array (call, out, asks, n);
  if (!bid || !ask)
    return cell_fail_status (call, CELL_ERROR_NO_RESOURCES, "%u levels do not fit in the call", n);
  out->n_bids = list_levels (&self->book, BOOK_BUY, bid, n);
  out->n_asks = list_levels (&self->book, BOOK_SELL, ask, n);
  return CELL_OK;
}

CELL_METHOD (Exchange, stats, doc ("Figures since the exchange was opened."), idempotent,
             out (u64, placed), out (u64, cancelled), out (u64, trades), out (u64, volume),
             out (u32, waiting, "orders in the book"))
{
  out->placed = self->placed;
  out->cancelled = self->cancelled;
  out->trades = self->trades;
  out->volume = self->volume;
  out->waiting = self->book.n_resting;
  return CELL_OK;
}

CELL_PROPERTY (Exchange, last_price, u32, "Of the last trade, in ticks; 0 before the first")
{
  return self->last_price;
}

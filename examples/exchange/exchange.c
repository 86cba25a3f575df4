/* SPDX-License-Identifier: MIT
 *
 * An exchange for one thing: orders that come are matched with those that wait, best price first and, within a price, oldest first.
 * What is not filled waits.  What the market looks like is in market.c, how it is stored in book.c.
 */
#include "exchange.h"

static void
trade (Exchange *self, BookOrder *maker, uint32_t quantity, BookSide side)
{
  self->trades++;
  self->volume += quantity;
  self->last_price = maker->price;
  cell_emit (self, Exchange, traded, .order = maker->id, .price = maker->price, .quantity = quantity, .side = (uint8_t) side);
  book_reduce (&self->book, maker, quantity);
}

CELL_METHOD (Exchange, place, doc ("Places an order, which trades at once as far as it can; the rest of a limit order waits."),
             in (u8, side, "0 buys, 1 sells"), in (u32, price, "the worst one, in ticks; 0 takes any price and never waits"),
             in (u32, quantity), in (u64, trader),
             out (u64, order, "its id"), out (u32, filled, "how much was traded"), out (u32, waiting, "how much is in the book"),
             out (u32, n_more_fills, "that the list has no room for"), out (array (Fill), fills, "64 at most"),
             fails (InvalidOrder), fails (BookFull))
{
  if (in->side > BOOK_SELL)
    return cell_fail (call, InvalidOrder, "side is 0 to buy or 1 to sell, got %u", in->side);
  if (in->price >= BOOK_N_PRICES)
    return cell_fail (call, InvalidOrder, "price is below %d ticks, got %u", BOOK_N_PRICES, in->price);
  if (in->quantity == 0)
    return cell_fail (call, InvalidOrder, "quantity is at least 1");

  BookSide side = (BookSide) in->side;
  uint32_t limit = in->price ? in->price : side == BOOK_BUY ? BOOK_N_PRICES - 1 : 1, left = in->quantity, n = 0;
  BookOrder *maker = book_match (&self->book, side, limit);
  Fill *fill = maker ? cell_array (call, out, fills, MAX_FILLS) : NULL;
  for (; left && maker; maker = book_match (&self->book, side, limit))
    {
      uint32_t quantity = left < maker->quantity ? left : maker->quantity;
      if (fill && n < MAX_FILLS)
        fill[n++] = (Fill) { .order = maker->id, .trader = maker->trader, .price = maker->price, .quantity = quantity };
      else
        out->n_more_fills++;
      trade (self, maker, quantity, side);
      left -= quantity;
    }
  out->n_fills = n;
  out->filled = in->quantity - left;
  self->placed++;
  if (left && in->price && book_add (&self->book, side, in->price, left, in->trader, &out->order))
    out->waiting = left;
  else if (left == in->quantity && in->price)
    return cell_fail (call, BookFull, "%u orders wait already", self->book.n_resting);
  else
    out->order = book_next_id (&self->book);
  return CELL_OK;
}

CELL_METHOD (Exchange, cancel, doc ("Takes a waiting order back."),
             in (u64, order), in (u64, trader, "whose it is"),
             out (u32, quantity, "that had not been traded"),
             fails (NoSuchOrder), fails (NotYours))
{
  BookOrder *order = book_find (&self->book, in->order);
  if (!order)
    return cell_fail (call, NoSuchOrder, "order %" PRIu64 " does not wait", in->order);
  if (order->trader != in->trader)
    return cell_fail (call, NotYours, "order %" PRIu64 " is not trader %" PRIu64 "'s", in->order, in->trader);
  out->quantity = order->quantity;
  book_reduce (&self->book, order, order->quantity);
  self->cancelled++;
  return CELL_OK;
}

CELL_METHOD (Exchange, clear, doc ("Forgets all orders and figures."), access (operate))
{
  book_clear (&self->book);
  self->placed = self->cancelled = self->trades = self->volume = self->last_price = 0;
  return CELL_OK;
}

/* ---- life: the whole book moves along, level by level and oldest first, so that priorities are kept ---- */

CELL_STRUCT (SavedOrder, field (u64, id), field (u64, trader), field (u32, price), field (u32, quantity), field (u8, side))
CELL_STRUCT (SavedExchange,
             field (array (SavedOrder), orders), field (u64, sequence),
             field (u64, placed), field (u64, cancelled), field (u64, trades), field (u64, volume), field (u32, last_price))

CELL_FINI (Exchange, exchange_fini)
{
  book_clear (&self->book);
}

CELL_SAVE (Exchange, exchange_save)
{
  const Book *book = &self->book;
  SavedOrder *orders = calloc (book->n_resting + 1, sizeof *orders);
  uint32_t n = 0;
  if (!orders)
    return CELL_ERROR_NO_RESOURCES;
  for (int side = BOOK_BUY; side <= BOOK_SELL; side++)
    for (uint32_t price = book_best (book, (BookSide) side); price; price = book_next (book, (BookSide) side, price))
      for (uint32_t slot = book->levels[price].oldest; slot; slot = book->orders[slot].newer)
        {
          const BookOrder *o = &book->orders[slot];
          orders[n++] = (SavedOrder) { .id = o->id, .trader = o->trader, .price = o->price, .quantity = o->quantity,
                                       .side = (uint8_t) o->side };
        }
  SavedExchange saved = { .orders = orders, .n_orders = n, .sequence = book->sequence, .placed = self->placed,
                          .cancelled = self->cancelled, .trades = self->trades, .volume = self->volume,
                          .last_price = self->last_price };
  CellStatus status = cell_save (to, SavedExchange, &saved);
  free (orders);
  return status;
}

CELL_RESTORE (Exchange, exchange_restore)
{
  const SavedExchange *saved = cell_restore (from, SavedExchange);
  if (!saved)
    return CELL_ERROR_STATE;
  for (uint32_t i = 0; i < saved->n_orders; i++)
    {
      const SavedOrder *o = &saved->orders[i];
      if (o->side > BOOK_SELL || !book_add_with_id (&self->book, (BookSide) o->side, o->price, o->quantity, o->trader, o->id))
        return CELL_ERROR_STATE;
    }
  book_settle (&self->book);
  self->book.sequence = saved->sequence;
  self->placed = saved->placed;
  self->cancelled = saved->cancelled;
  self->trades = saved->trades;
  self->volume = saved->volume;
  self->last_price = saved->last_price;
  return CELL_OK;
}

CELL_SERVICE (Exchange, "org.example.Exchange", 1, .doc = "A limit order book with price-time priority", .threading = CELL_SERIAL,
              .state_version = 1, .fini = exchange_fini, .save = exchange_save, .restore = exchange_restore)

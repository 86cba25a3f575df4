/* SPDX-License-Identifier: MIT */
#include "book.h"

#include <stdlib.h>
#include <string.h>

/* ---- which levels are in use --------------------------------------------------------------------- */

static void
mark (Book *book, BookSide side, uint32_t price, bool used)
{
  uint32_t word = price / 64;
  uint64_t *bits = &book->used[side][word], *words = &book->used_words[side][word / 64];
  *bits = used ? *bits | UINT64_C (1) << price % 64 : *bits & ~(UINT64_C (1) << price % 64);
  *words = *bits ? *words | UINT64_C (1) << word % 64 : *words & ~(UINT64_C (1) << word % 64);
}

static uint32_t
lowest_bit (uint64_t bits)
{
  return (uint32_t) __builtin_ctzll (bits);
}

static uint32_t
highest_bit (uint64_t bits)
{
  return 63 - (uint32_t) __builtin_clzll (bits);
}

/* the lowest used price that is at least `from`, or 0 */
static uint32_t
price_from (const Book *book, BookSide side, uint32_t from)
{
  uint32_t word = from / 64;
  uint64_t bits = book->used[side][word] & UINT64_MAX << from % 64;
  if (bits)
    return word * 64 + lowest_bit (bits);
  uint32_t group = word / 64;
  uint64_t words = word % 64 == 63 ? 0 : book->used_words[side][group] & UINT64_MAX << (word % 64 + 1);
  while (!words && ++group < BOOK_N_PRICES / 64 / 64)
    words = book->used_words[side][group];
  if (!words)
    return 0;
  word = group * 64 + lowest_bit (words);
  return word * 64 + lowest_bit (book->used[side][word]);
}

/* the highest used price that is at most `from`, or 0 */
static uint32_t
price_to (const Book *book, BookSide side, uint32_t from)
{
  uint32_t word = from / 64;
  uint64_t bits = book->used[side][word] & UINT64_MAX >> (63 - from % 64);
  if (bits)
    return word * 64 + highest_bit (bits);
  uint32_t group = word / 64;
  uint64_t words = word % 64 == 0 ? 0 : book->used_words[side][group] & UINT64_MAX >> (64 - word % 64);
  while (!words && group-- > 0)
    words = book->used_words[side][group];
  if (!words)
    return 0;
  word = group * 64 + highest_bit (words);
  return word * 64 + highest_bit (book->used[side][word]);
}

uint32_t
book_best (const Book *book, BookSide side)
{
  return side == BOOK_BUY ? price_to (book, side, BOOK_N_PRICES - 1) : price_from (book, side, 1);
}

uint32_t
book_next (const Book *book, BookSide side, uint32_t price)
{
  if (side == BOOK_BUY)
    return price > 1 ? price_to (book, side, price - 1) : 0;
  return price < BOOK_N_PRICES - 1 ? price_from (book, side, price + 1) : 0;
}

/* ---- slots ----------------------------------------------------------------------------------------- */

static uint32_t
slot_of (uint64_t id)
{
  return (uint32_t) (id & (BOOK_MAX_ORDERS - 1));
}

/* room for slots below n, in powers of two */
static bool
grow (Book *book, uint32_t n)
{
  uint32_t capacity = 256;
  if (n <= book->n_slots)
    return true;
  while (capacity < n)
    capacity *= 2;
  BookOrder *orders = realloc (book->orders, capacity * sizeof *orders);
  if (!orders)
    return false;
  memset (orders + book->n_slots, 0, (capacity - book->n_slots) * sizeof *orders);
  book->orders = orders;
  book->n_slots = capacity;
  return true;
}

void
book_settle (Book *book)
{
  book->free_slot = 0;
  for (uint32_t slot = book->n_slots; slot-- > 1;)
    if (!book->orders[slot].id)
      {
        book->orders[slot].newer = book->free_slot;
        book->free_slot = slot;
      }
}

static bool
have_free_slot (Book *book)
{
  if (book->free_slot)
    return true;
  if (book->n_slots >= BOOK_MAX_ORDERS || !grow (book, book->n_slots ? book->n_slots * 2 : 1))
    return false;
  book_settle (book);
  return true;
}

/* ---- queues ---------------------------------------------------------------------------------------- */

static void
enqueue (Book *book, BookOrder *order)
{
  uint32_t slot = slot_of (order->id);
  BookLevel *level = &book->levels[order->price];
  order->older = level->newest;
  order->newer = 0;
  if (level->newest)
    book->orders[level->newest].newer = slot;
  else
    {
      level->oldest = slot;
      mark (book, order->side, order->price, true);
    }
  level->newest = slot;
  level->quantity += order->quantity;
  book->n_resting++;
}

static void
dequeue (Book *book, BookOrder *order)
{
  BookLevel *level = &book->levels[order->price];
  if (order->older)
    book->orders[order->older].newer = order->newer;
  else
    level->oldest = order->newer;
  if (order->newer)
    book->orders[order->newer].older = order->older;
  else
    level->newest = order->older;
  if (!level->oldest)
    mark (book, order->side, order->price, false);
  order->newer = book->free_slot;
  book->free_slot = slot_of (order->id);
  order->id = 0;
  book->n_resting--;
}

BookOrder *
book_match (Book *book, BookSide side, uint32_t limit)
{
  uint32_t price = book_best (book, side == BOOK_BUY ? BOOK_SELL : BOOK_BUY);
  if (!price || (side == BOOK_BUY ? price > limit : price < limit))
    return NULL;
  return &book->orders[book->levels[price].oldest];
}

void
book_reduce (Book *book, BookOrder *order, uint32_t quantity)
{
  book->levels[order->price].quantity -= quantity;
  order->quantity -= quantity;
  if (order->quantity == 0)
    dequeue (book, order);
}

uint64_t
book_next_id (Book *book)
{
  return ++book->sequence << BOOK_SLOT_BITS;
}

bool
book_add (Book *book, BookSide side, uint32_t price, uint32_t quantity, uint64_t trader, uint64_t *ret_id)
{
  if (!have_free_slot (book))
    return false;
  uint32_t slot = book->free_slot;
  BookOrder *order = &book->orders[slot];
  book->free_slot = order->newer;
  *order = (BookOrder) { .id = book_next_id (book) | slot, .trader = trader, .price = price, .quantity = quantity, .side = side };
  enqueue (book, order);
  *ret_id = order->id;
  return true;
}

bool
book_add_with_id (Book *book, BookSide side, uint32_t price, uint32_t quantity, uint64_t trader, uint64_t id)
{
  uint32_t slot = slot_of (id);
  if (price == 0 || price >= BOOK_N_PRICES || quantity == 0 || slot == 0 || !grow (book, slot + 1) || book->orders[slot].id
      || book_match (book, side, price))
    return false;
  book->orders[slot] = (BookOrder) { .id = id, .trader = trader, .price = price, .quantity = quantity, .side = side };
  enqueue (book, &book->orders[slot]);
  return true;
}

BookOrder *
book_find (Book *book, uint64_t id)
{
  uint32_t slot = slot_of (id);
  return slot && slot < book->n_slots && book->orders[slot].id == id ? &book->orders[slot] : NULL;
}

void
book_clear (Book *book)
{
  free (book->orders);
  memset (book, 0, sizeof *book);
}

/* SPDX-License-Identifier: MIT
 *
 * A limit order book with price-time priority.  Prices are whole ticks, and a level per tick is an array element with its queue, so
 * that adding, filling and cancelling are O(1); the best price is found in a two-level bitmap.  An id holds its order's slot, so
 * finding an order by id is O(1) too.  All zero is an empty book.
 */
#ifndef BOOK_H
#define BOOK_H

#include <stdbool.h>
#include <stdint.h>

#define BOOK_N_PRICES 65536             /* 1 … 65,535; 0 is no price */
#define BOOK_SLOT_BITS 20               /* of an id; the rest is a sequence number, so that ids grow and are never reused */
#define BOOK_MAX_ORDERS (1u << BOOK_SLOT_BITS)

typedef enum { BOOK_BUY, BOOK_SELL } BookSide;

typedef struct
{
  uint64_t id;                          /* 0: a free slot */
  uint64_t trader;
  uint32_t price, quantity;
  uint32_t older, newer;                /* slots in the queue of its level, or of the free list; 0: none */
  BookSide side;
} BookOrder;

typedef struct
{
  uint32_t oldest, newest;              /* slots */
  uint64_t quantity;
} BookLevel;

typedef struct
{
  BookLevel levels[BOOK_N_PRICES];      /* of one side at a time: a book is never crossed */
  uint64_t used[2][BOOK_N_PRICES / 64];
  uint64_t used_words[2][BOOK_N_PRICES / 64 / 64];
  BookOrder *orders;                    /* by slot; slot 0 is not used */
  uint32_t n_slots, free_slot, n_resting;
  uint64_t sequence;
} Book;

/* The best price of a side, or 0. */
uint32_t book_best (const Book *book, BookSide side);
/* The next worse price after `price`, or 0. */
uint32_t book_next (const Book *book, BookSide side, uint32_t price);
/* The order that one of the other side at `limit` would trade with first, or NULL. */
BookOrder *book_match (Book *book, BookSide side, uint32_t limit);
/* Takes quantity off an order; what has none left is removed. */
void book_reduce (Book *book, BookOrder *order, uint32_t quantity);
/* Gives a number to an order that does not rest. */
uint64_t book_next_id (Book *book);
/* Queues an order behind all others of its price; false when the book is full or there is no memory. */
bool book_add (Book *book, BookSide side, uint32_t price, uint32_t quantity, uint64_t trader, uint64_t *ret_id);
/* Queues a saved order under the id that it had; false when the id's slot is taken, or the book cannot hold it. */
bool book_add_with_id (Book *book, BookSide side, uint32_t price, uint32_t quantity, uint64_t trader, uint64_t id);
/* The free list of a book that was filled with book_add_with_id (). */
void book_settle (Book *book);
/* The resting order of that id, or NULL. */
BookOrder *book_find (Book *book, uint64_t id);
void book_clear (Book *book);

#endif

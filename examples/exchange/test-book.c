/* SPDX-License-Identifier: MIT
 *
 * The book against the plainest one there is: an array of orders that is searched from end to end.
 */
#include <glib.h>

#include "book.h"

#define N_STEPS 20000

typedef struct
{
  uint64_t id, trader;
  uint32_t price, quantity;
  BookSide side;
} Plain;

/* the order of the array that one at `limit` trades with first: best price, then oldest; -1: none */
static int
plain_match (GArray *plain, BookSide side, uint32_t limit)
{
  int best = -1;
  for (guint i = 0; i < plain->len; i++)
    {
      const Plain *o = &g_array_index (plain, Plain, i), *b = best < 0 ? NULL : &g_array_index (plain, Plain, best);
      if (o->side == side || (side == BOOK_BUY ? o->price > limit : o->price < limit))
        continue;
      if (!b || (side == BOOK_BUY ? o->price < b->price : o->price > b->price))
        best = (int) i;
    }
  return best;
}

static void
place (Book *book, GArray *plain, BookSide side, uint32_t price, uint32_t quantity)
{
  BookOrder *maker;
  while (quantity > 0 && (maker = book_match (book, side, price)))
    {
      int i = plain_match (plain, side, price);
      g_assert_cmpint (i, >=, 0);
      Plain *expected = &g_array_index (plain, Plain, i);
      uint32_t traded = MIN (quantity, maker->quantity);
      g_assert_cmpuint (maker->id, ==, expected->id);
      g_assert_cmpuint (maker->price, ==, expected->price);
      g_assert_cmpuint (maker->quantity, ==, expected->quantity);
      book_reduce (book, maker, traded);
      expected->quantity -= traded;
      quantity -= traded;
      if (expected->quantity == 0)
        g_array_remove_index (plain, (guint) i);
    }
  if (quantity == 0)
    return;
  g_assert_cmpint (plain_match (plain, side, price), ==, -1);
  Plain o = { .trader = 7, .price = price, .quantity = quantity, .side = side };
  g_assert_true (book_add (book, side, price, quantity, 7, &o.id));
  g_array_append_val (plain, o);
}

static void
cancel (Book *book, GArray *plain, guint i)
{
  uint64_t id = g_array_index (plain, Plain, i).id;
  BookOrder *order = book_find (book, id);
  g_assert_nonnull (order);
  book_reduce (book, order, order->quantity);
  g_assert_null (book_find (book, id));
  g_array_remove_index (plain, i);
}

static void
check_levels (Book *book, GArray *plain)
{
  for (int side = BOOK_BUY; side <= BOOK_SELL; side++)
    {
      uint64_t listed = 0, there = 0;
      uint32_t last = 0;
      for (uint32_t price = book_best (book, (BookSide) side); price; price = book_next (book, (BookSide) side, price))
        {
          g_assert_true (!last || (side == BOOK_BUY ? price < last : price > last));
          g_assert_cmpuint (book->levels[price].quantity, >, 0);
          listed += book->levels[price].quantity;
          last = price;
        }
      for (guint i = 0; i < plain->len; i++)
        if (g_array_index (plain, Plain, i).side == (BookSide) side)
          there += g_array_index (plain, Plain, i).quantity;
      g_assert_cmpuint (listed, ==, there);
    }
  g_assert_cmpuint (book->n_resting, ==, plain->len);
}

/* Mostly, sides that overlap a little, so that queues grow long; sometimes any price, so that bitmaps are crossed from end to
 * end. */
static uint32_t
random_price (BookSide side)
{
  if (g_test_rand_int_range (0, 50) == 0)
    return (uint32_t) g_test_rand_int_range (1, BOOK_N_PRICES);
  return (uint32_t) (side == BOOK_BUY ? g_test_rand_int_range (32600, 32770) : g_test_rand_int_range (32760, 32930));
}

static void
test_random (void)
{
  g_autoptr (GArray) plain = g_array_new (FALSE, FALSE, sizeof (Plain));
  g_autofree Book *book = g_new0 (Book, 1);
  guint longest = 0;
  for (int step = 0; step < N_STEPS; step++)
    {
      BookSide side = g_test_rand_int_range (0, 2) ? BOOK_BUY : BOOK_SELL;
      longest = MAX (longest, plain->len);
      if (plain->len > 0 && g_test_rand_int_range (0, 3) == 0)
        cancel (book, plain, (guint) g_test_rand_int_range (0, (gint32) plain->len));
      else
        place (book, plain, side, random_price (side), (uint32_t) g_test_rand_int_range (1, 100));
      if (step % 500 == 0)
        check_levels (book, plain);
    }
  check_levels (book, plain);
  g_assert_cmpuint (longest, >, 100);           /* or nothing was tried */
  g_test_message ("%u orders waited at most", longest);
  book_clear (book);
  g_assert_cmpuint (book_best (book, BOOK_BUY), ==, 0);
}

static void
test_ends (void)
{
  g_autofree Book *book = g_new0 (Book, 1);
  uint64_t low, high;
  g_assert_cmpuint (book_best (book, BOOK_BUY), ==, 0);
  g_assert_cmpuint (book_best (book, BOOK_SELL), ==, 0);
  g_assert_true (book_add (book, BOOK_BUY, 1, 1, 1, &low));
  g_assert_true (book_add (book, BOOK_SELL, BOOK_N_PRICES - 1, 1, 1, &high));
  g_assert_cmpuint (book_best (book, BOOK_BUY), ==, 1);
  g_assert_cmpuint (book_next (book, BOOK_BUY, 1), ==, 0);
  g_assert_cmpuint (book_best (book, BOOK_SELL), ==, BOOK_N_PRICES - 1);
  g_assert_cmpuint (book_next (book, BOOK_SELL, BOOK_N_PRICES - 1), ==, 0);
  g_assert_cmpuint (low, <, high);
  g_assert_null (book_find (book, 0));
  g_assert_null (book_find (book, UINT64_MAX));
  book_clear (book);
}

/* What was saved in order comes back with its ids, and new orders get others. */
static void
test_restore (void)
{
  g_autoptr (GHashTable) ids = g_hash_table_new (g_int64_hash, g_int64_equal);
  g_autofree Book *old = g_new0 (Book, 1), *book = g_new0 (Book, 1);
  uint64_t id[300];
  for (uint32_t i = 0; i < 300; i++)
    g_assert_true (book_add (old, BOOK_SELL, 100 + i % 3, i + 1, i, &id[i]));
  for (uint32_t i = 0; i < 300; i += 2)
    book_reduce (old, book_find (old, id[i]), i + 1);
  for (uint32_t i = 1; i < 300; i += 2)
    g_assert_true (book_add_with_id (book, BOOK_SELL, 100 + i % 3, i + 1, i, id[i]));
  g_assert_false (book_add_with_id (book, BOOK_SELL, 100, 1, 1, id[1]));        /* taken */
  g_assert_false (book_add_with_id (book, BOOK_BUY, 200, 1, 1, id[2]));         /* crosses */
  g_assert_false (book_add_with_id (book, BOOK_SELL, 0, 1, 1, id[2]));
  g_assert_false (book_add_with_id (book, BOOK_SELL, BOOK_N_PRICES, 1, 1, id[2]));
  book_settle (book);
  book->sequence = old->sequence;
  g_assert_cmpuint (book->n_resting, ==, old->n_resting);
  for (BookOrder *a, *b; (a = book_match (old, BOOK_BUY, 200));
       book_reduce (old, a, a->quantity), book_reduce (book, b, b->quantity))
    {
      b = book_match (book, BOOK_BUY, 200);
      g_assert_nonnull (b);
      g_assert_cmpuint (a->id, ==, b->id);
    }
  for (uint32_t i = 0; i < 300; i++)
    g_hash_table_add (ids, &id[i]);
  for (uint32_t i = 0; i < 400; i++)
    {
      uint64_t fresh;
      g_assert_true (book_add (book, BOOK_BUY, 50, 1, 1, &fresh));
      g_assert_false (g_hash_table_contains (ids, &fresh));
    }
  book_clear (book);
  book_clear (old);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/book/random", test_random);
  g_test_add_func ("/book/ends", test_ends);
  g_test_add_func ("/book/restore", test_restore);
  return g_test_run ();
}

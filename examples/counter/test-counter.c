/* SPDX-License-Identifier: MIT
 *
 * The counter as its callers see it: nothing shows that it is C++.
 */
#include <cell/remote/counter.h>

#include "town.h"

typedef struct
{
  uint64_t n;
  int64_t sum;
} Heard;

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

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/counter/methods", test_counter);
  return g_test_run ();
}

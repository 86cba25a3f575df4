/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Cells that use everything, called as their callers call them: through the generated headers, over channels.  The examples' tests
 * are in their own folders.
 */
#include <string.h>

#include <cell/remote/asker.h>
#include <cell/remote/every.h>
#include <cell/remote/ledger.h>
#include <cell/remote/thrower.h>

#include "membrane/blob.h"

#include "town.h"

/* ---- C++ ---------------------------------------------------------------------------------------------- */

/* Two completions and two handlers of signals that throw: whoever called them goes on. */
static void
check_called_back (Town *town, CellClient *thrower)
{
  TownCell *ledger = town_load (town, "ledger", "ledger", NULL);
  gint64 patience = g_get_monotonic_time () + TOWN_PATIENCE_S * G_USEC_PER_SEC;
  cell_auto ThrowerCallLater later = thrower_call_later (thrower);
  guint32 n = 0;

  assert_ok (&later.result);
  while (n < 4)
    {
      cell_auto ThrowerGetNCalled called = thrower_get_n_called (thrower);

      assert_ok (&called.result);
      n = called.value;
      g_assert_cmpint (g_get_monotonic_time (), <, patience);
    }
  town_unload (ledger);
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
  check_called_back (town, thrower);
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

    assert_failed (&reset.result, CELL_ERROR_DENIED, "org.cellhost.Error.Denied",
                   "does not have the role 'operate', which this method asks for");
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
  g_test_add_func ("/cells/exceptions", test_exceptions);
  g_test_add_func ("/cells/everything", test_everything);
  g_test_add_func ("/cells/attributes", test_attributes);
  g_test_add_func ("/cells/access", test_access);
  g_test_add_func ("/cells/extensions", test_extensions);
  g_test_add_data_func ("/cells/asker/serial", "asker", test_asker);
  g_test_add_data_func ("/cells/asker/loop", "asker-loop", test_asker);
  g_test_add_data_func ("/cells/asker/concurrent", "asker-many", test_asker);
  return g_test_run ();
}

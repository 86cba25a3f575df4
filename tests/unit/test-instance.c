/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The life of an instance: how it begins and ends, what it saves, and how one build takes over from another while it is called.
 */
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include <cell/remote/alarm.h>
#include <cell/remote/counter.h>
#include <cell/remote/exchange.h>
#include <cell/remote/ledger.h>
#include <cell/remote/memory.h>

#include "town.h"

static GHashTable *
config_with (const char *key, const char *value)
{
  GHashTable *config = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);

  g_hash_table_insert (config, g_strdup (key), g_strdup (value));
  return config;
}

static void
on_nobody (const MemoryAdd *reply, void *data)
{
  (void) reply;
  (void) data;
}

/* ---- beginning and end ---------------------------------------------------------------------------------- */

static void
test_init_fails (void)
{
  Town *town = town_new ();
  g_autoptr (CellModule) module = town_module ("memory");
  g_autoptr (GHashTable) config = config_with ("failing", "init");
  g_autoptr (GError) error = NULL;

  g_assert_null (town_add (town, module, "memory", config, &error));
  g_assert_error (error, CELL_ERROR_DOMAIN, -CELL_ERROR_UNREACHABLE);
  g_assert_true (g_str_has_prefix (error->message, "memory: its init failed: "));
  town_free (town);
}

static void
test_fini (void)
{
  Town *town = town_new ();
  int ended = 0;
  g_autofree char *address = g_strdup_printf ("%p", (void *) &ended);
  TownCell *first = town_load (town, "memory", "first", "ended", address, NULL),
           *second = town_load (town, "memory", "second", NULL);

  town_unload (second);
  g_assert_cmpint (ended, ==, 0);
  town_unload (first);
  g_assert_cmpint (ended, ==, 1);
  town_free (town);
}

/* Instances of one module have nothing in common but its code. */
static void
test_instances (void)
{
  Town *town = town_new ();
  CellClient *first, *second;

  town_load (town, "memory", "first", NULL);
  town_load (town, "memory", "second", NULL);
  first = town_use (town, Memory, "first");
  second = town_use (town, Memory, "second");
  {
    cell_auto MemoryAdd a = memory_add (first, .text = "one"), b = memory_add (first, .text = "two"),
                        c = memory_add (second, .text = "other");
    cell_auto MemoryRead r = memory_read (second, .id = 1);

    g_assert_cmpuint (a.id, ==, 1);
    g_assert_cmpuint (b.id, ==, 2);
    g_assert_cmpuint (c.id, ==, 1);
    g_assert_cmpstr (r.text, ==, "other");
  }
  cell_client_close (first);
  cell_client_close (second);
  town_free (town);
}

/* A cell that ends answers what it has kept, and who calls it then is told. */
static void
test_kept_end (void)
{
  Town *town = town_new ();
  TownCell *cell = town_load (town, "alarm", "alarm", NULL);
  CellClient *alarm = town_use (town, Alarm, "alarm");
  AlarmWaitCall calls[5];

  for (guint i = 0; i < G_N_ELEMENTS (calls); i++)
    calls[i] = alarm_wait_start (alarm, .ms = 3600000, .text = "never");
  {
    cell_auto AlarmGetWaiting waiting = alarm_get_waiting (alarm);
    g_assert_cmpuint (waiting.value, ==, 5);
  }
  g_assert_cmpuint (cell_instance_count_kept (cell->instance), ==, 5);
  town_unload (cell);
  for (guint i = 0; i < G_N_ELEMENTS (calls); i++)
    {
      cell_auto AlarmWait w = alarm_wait_finish (calls[i]);

      g_assert_cmpint (w.result.status, ==, CELL_ERROR_GONE);
      g_assert_cmpstr (w.result.message, ==, "the cell was stopped before it answered");
    }
  {
    cell_auto AlarmWait late = alarm_wait (alarm, .ms = 1), later = alarm_wait (alarm, .ms = 1);
    g_assert_cmpint (late.result.status, ==, CELL_ERROR_GONE);
    g_assert_cmpint (later.result.status, ==, CELL_ERROR_NOT_FOUND);
  }
  cell_client_close (alarm);
  town_free (town);
}

static void
note_thread (void *data)
{
  *(GThread **) data = g_thread_self ();
}

/* A loop cell's code runs on one thread, which is not the one that asks. */
static void
test_where_it_runs (void)
{
  Town *town = town_new ();
  TownCell *alarm = town_load (town, "alarm", "alarm", NULL), *ledger = town_load (town, "ledger", "ledger", NULL);
  GThread *first = NULL, *second = NULL, *serial = NULL;

  g_assert_true (town_stop (alarm));
  cell_instance_run (alarm->instance, note_thread, &first);
  cell_instance_run (alarm->instance, note_thread, &second);
  town_resume (alarm);
  g_assert_true (town_stop (ledger));
  cell_instance_run (ledger->instance, note_thread, &serial);
  town_resume (ledger);
  g_assert_true (first == second);
  g_assert_true (first != g_thread_self ());
  g_assert_true (serial == g_thread_self ());
  town_free (town);
}

/* What a build does not have is said by each call, and the numbers of what it has do not change. */
static void
test_missing_methods (void)
{
  Town *town = town_new ();
  TownCell *cell = town_load (town, "memory", "memory", NULL);
  CellClient *memory = town_use (town, Memory, "memory");
  g_autoptr (CellModule) grown = town_module ("memory-grown");
  g_autoptr (GError) error = NULL;

  {
    cell_auto MemoryAdd add = memory_add (memory, .text = "kept");
    cell_auto MemoryRemoved there = memory_removed (memory);

    assert_ok (&add.result);
    assert_ok (&there.result);
    g_assert_cmpuint (there.answer, ==, 41);
  }
  g_assert_true (town_swap (cell, grown, &error));
  g_assert_no_error (error);
  {
    cell_auto MemoryRead read = memory_read (memory, .id = 1);
    cell_auto MemoryRemoved gone = memory_removed (memory);

    assert_ok (&read.result);
    g_assert_cmpstr (read.text, ==, "kept");
    g_assert_cmpuint (read.version, ==, 1);
    g_assert_cmpint (gone.result.status, ==, CELL_ERROR_NO_METHOD);
    g_assert_cmpuint (gone.answer, ==, 0);
  }
  cell_client_close (memory);
  town_free (town);
}

/* ---- state ------------------------------------------------------------------------------------------------- */

static GBytes *
saved (TownCell *cell, uint32_t *ret_version)
{
  g_autoptr (GError) error = NULL;
  GBytes *bytes;

  g_assert_true (town_stop (cell));
  bytes = cell_instance_save (cell->instance, ret_version, &error);
  town_resume (cell);
  g_assert_no_error (error);
  return bytes;
}

static gboolean
restored (TownCell *cell, uint32_t version, GBytes *bytes, GError **error)
{
  gboolean good;

  g_assert_true (town_stop (cell));
  good = cell_instance_restore (cell->instance, version, bytes, error);
  town_resume (cell);
  return good;
}

static void
fill_ledger (CellClient *ledger)
{
  for (guint i = 0; i < 100; i++)
    {
      g_autofree char *memo = g_strdup_printf ("number %u", i);
      cell_auto LedgerTransfer t = ledger_transfer (ledger, .from = i % 7, .to = 100 + i, .amount = i + 1, .memo = memo);
      assert_ok (&t.result);
    }
}

static void
test_ledger_state (void)
{
  Town *town = town_new ();
  TownCell *from = town_load (town, "ledger", "from", "overdraft", "9999", NULL), *to = town_load (town, "ledger", "to", NULL);
  CellClient *old = town_use (town, Ledger, "from"), *new = town_use (town, Ledger, "to");
  g_autoptr (GBytes) bytes = NULL, again = NULL;
  g_autoptr (GError) error = NULL;
  uint32_t version;

  fill_ledger (old);
  bytes = saved (from, &version);
  g_assert_cmpuint (version, ==, 1);
  g_assert_true (restored (to, version, bytes, &error));
  g_assert_no_error (error);
  again = saved (to, &version);
  g_assert_true (g_bytes_equal (bytes, again));
  {
    cell_auto LedgerHistory h = ledger_history (new, .account = 3, .page = { .count = 1 });
    cell_auto LedgerGetOverdraft overdraft = ledger_get_overdraft (new);

    g_assert_cmpstr (h.entries[0].memo, ==, "number 94");
    g_assert_cmpint (overdraft.value, ==, 9999);
  }
  cell_client_close (old);
  cell_client_close (new);
  town_free (town);
}

static void
test_other_states (void)
{
  Town *town = town_new ();
  TownCell *market = town_load (town, "exchange", "market", NULL), *new_market = town_load (town, "exchange", "new-market", NULL);
  TownCell *counters = town_load (town, "counter", "counters", NULL),
           *new_counters = town_load (town, "counter", "new-counters", NULL);
  CellClient *exchange = town_use (town, Exchange, "market"), *counter = town_use (town, Counter, "counters");
  CellClient *new_exchange = town_use (town, Exchange, "new-market"), *new_counter = town_use (town, Counter, "new-counters");
  g_autoptr (GError) error = NULL;
  g_autoptr (GBytes) of_market = NULL, of_counters = NULL;
  uint32_t version;

  for (guint i = 1; i <= 1000; i++)
    {
      cell_auto ExchangePlace p =
        exchange_place (exchange, .side = i & 1, .price = i & 1 ? 5000 + i : 4000 - i, .quantity = i, .trader = i);
      assert_ok (&p.result);
    }
  {
    cell_auto CounterAdd a = counter_add (counter, .name = "apples", .by = 3), b = counter_add (counter, .name = "größe", .by = -1);
    assert_ok (&a.result);
    assert_ok (&b.result);
  }
  of_market = saved (market, &version);
  g_assert_true (restored (new_market, version, of_market, &error));
  of_counters = saved (counters, &version);
  g_assert_true (restored (new_counters, version, of_counters, &error));
  {
    cell_auto ExchangeDepth was = exchange_depth (exchange, .levels = 100), is = exchange_depth (new_exchange, .levels = 100);
    cell_auto CounterGet value = counter_get (new_counter, .name = "größe");

    g_assert_cmpuint (is.n_asks, ==, was.n_asks);
    g_assert_cmpmem (is.asks, is.n_asks * sizeof *is.asks, was.asks, was.n_asks * sizeof *was.asks);
    g_assert_cmpmem (is.bids, is.n_bids * sizeof *is.bids, was.bids, was.n_bids * sizeof *was.bids);
    g_assert_cmpint (value.value, ==, -1);
  }
  cell_client_close (exchange);
  cell_client_close (counter);
  cell_client_close (new_exchange);
  cell_client_close (new_counter);
  town_free (town);
}

/* What the first build saved, the second reads: members that it did not have are zero.  And back: members that the first does not
 * know are skipped. */
static void
test_grown_state (void)
{
  Town *town = town_new ();
  TownCell *small = town_load (town, "memory", "small", NULL), *grown = town_load (town, "memory-grown", "grown", NULL);
  TownCell *back = town_load (town, "memory", "back", NULL);
  CellClient *old = town_use (town, Memory, "small"), *new = town_use (town, Memory, "grown"),
             *third = town_use (town, Memory, "back");
  g_autoptr (GBytes) of_small = NULL, of_grown = NULL;
  g_autoptr (GError) error = NULL;
  uint32_t version;

  for (guint i = 0; i < 10; i++)
    {
      g_autofree char *text = g_strdup_printf ("note %u", i);
      cell_auto MemoryAdd add = memory_add (old, .text = text);
      assert_ok (&add.result);
    }
  of_small = saved (small, &version);
  g_assert_cmpuint (version, ==, 1);
  g_assert_true (restored (grown, version, of_small, &error));
  g_assert_no_error (error);
  of_grown = saved (grown, &version);
  g_assert_cmpuint (version, ==, 2);
  g_assert_true (restored (back, version, of_grown, &error));
  g_assert_no_error (error);
  for (guint i = 0; i < 10; i++)
    {
      g_autofree char *text = g_strdup_printf ("note %u", i);
      cell_auto MemoryRead a = memory_read (new, .id = i + 1), b = memory_read (third, .id = i + 1);

      g_assert_cmpstr (a.text, ==, text);
      g_assert_cmpuint (a.weight, ==, 0);
      g_assert_cmpstr (a.author, ==, "");
      g_assert_cmpstr (b.text, ==, text);
      g_assert_cmpuint (b.version, ==, 2);
    }
  cell_client_close (old);
  cell_client_close (new);
  cell_client_close (third);
  town_free (town);
}

/* Whatever the bytes are, reading them is safe: each prefix, and bytes that have been changed. */
static void
test_foreign_state (void)
{
  Town *town = town_new ();
  TownCell *from = town_load (town, "memory-grown", "from", NULL), *to;
  CellClient *memory = town_use (town, Memory, "from");
  g_autoptr (GBytes) bytes = NULL;
  g_autoptr (CellModule) module = town_module ("memory-grown");
  uint32_t version;
  gsize size;
  const guint8 *data;
  guint good = 0;

  for (guint i = 0; i < 5; i++)
    {
      cell_auto MemoryAdd add = memory_add (memory, .text = "some text");
      assert_ok (&add.result);
    }
  bytes = saved (from, &version);
  data = g_bytes_get_data (bytes, &size);
  to = from;
  for (guint i = 0; i < 2000; i++)
    {
      g_autoptr (CellInstance) instance = NULL;
      g_autoptr (GError) error = NULL;
      gsize length = i < size ? i : size;
      g_autofree guint8 *changed = g_memdup2 (data, MAX (length, 1));
      g_autoptr (GBytes) foreign = NULL;

      for (guint changes = i < size ? 0 : (guint) g_test_rand_int_range (1, 6); changes > 0; changes--)
        changed[g_test_rand_int_range (0, (gint32) size)] = (guint8) g_test_rand_int_range (0, 256);
      foreign = g_bytes_new_take (g_steal_pointer (&changed), length);
      instance = cell_instance_new (module, &to->env, "foreign", NULL, &error);
      g_assert_no_error (error);
      if (cell_instance_restore (instance, version, foreign, &error))
        good++;
      else
        g_assert_error (error, CELL_ERROR_DOMAIN, -CELL_ERROR_STATE);
      g_assert_true (length == size || error != NULL);
    }
  g_test_message ("%u of the changed ones were states all the same", good);
  cell_client_close (memory);
  town_free (town);
}

static void
test_state_refused (void)
{
  Town *town = town_new ();
  TownCell *failing = town_load (town, "memory", "failing", "failing", "save", NULL);
  TownCell *asker = town_load (town, "asker", "asker", NULL);
  g_autoptr (GError) cannot = NULL, none = NULL;
  g_autoptr (GBytes) bytes = NULL, some = g_bytes_new_static ("some bytes", 10);
  uint32_t version = 0;

  g_assert_true (town_stop (failing));
  g_assert_null (cell_instance_save (failing->instance, &version, &cannot));
  town_resume (failing);
  g_assert_error (cannot, CELL_ERROR_DOMAIN, -CELL_ERROR_STATE);
  g_assert_true (g_str_has_prefix (cannot->message, "failing: its save failed: "));
  /* A cell without state moves, and takes nothing. */
  bytes = saved (asker, &version);
  g_assert_cmpuint (g_bytes_get_size (bytes), ==, 0);
  g_assert_true (restored (asker, 0, bytes, &none));
  g_assert_false (restored (asker, 0, some, &none));
  g_assert_error (none, CELL_ERROR_DOMAIN, -CELL_ERROR_STATE);
  town_free (town);
}

/* ---- builds that follow each other ----------------------------------------------------------------------------- */

#define CALLERS 3

typedef struct
{
  Town *town;
  const char *name;
  _Atomic bool stop;
  _Atomic uint64_t calls[CALLERS];
} Traffic;

typedef struct
{
  Traffic *traffic;
  guint number;
} Caller;

/* Sync, pipelined and large calls; each has to be answered, and once. */
static void *
call_ledger (void *data)
{
  Caller *caller = data;
  Traffic *traffic = caller->traffic;
  CellClient *ledger = town_use (traffic->town, Ledger, traffic->name);
  uint64_t account = 10 + caller->number, n = 0;

  while (!atomic_load (&traffic->stop))
    {
      LedgerTransferCall started[8];

      for (guint i = 0; i < G_N_ELEMENTS (started); i++)
        started[i] = ledger_transfer_start (ledger, .from = account, .to = 900, .amount = 1, .memo = "started");
      for (guint i = 0; i < G_N_ELEMENTS (started); i++)
        {
          cell_auto LedgerTransfer t = ledger_transfer_finish (started[i]);

          assert_ok (&t.result);
          g_assert_cmpint (t.balance, ==, -(int64_t) ++n);
        }
      {
        cell_auto LedgerTransfer t = ledger_transfer (ledger, .from = account, .to = 900, .amount = 1);
        cell_auto LedgerBalance b = ledger_balance (ledger, .account = account);

        assert_ok (&t.result);
        g_assert_cmpint (t.balance, ==, -(int64_t) ++n);
        g_assert_cmpint (b.balance, ==, -(int64_t) n);
      }
      atomic_store (&traffic->calls[caller->number], n);
    }
  cell_client_close (ledger);
  return NULL;
}

/* Each of them has been answered since it was last looked at. */
static void
wait_for_calls (Traffic *traffic)
{
  uint64_t deadline = monotonic_ns () + TOWN_PATIENCE_S * 1000000000ull;

  for (guint i = 0; i < CALLERS; i++)
    for (uint64_t seen = atomic_load (&traffic->calls[i]); atomic_load (&traffic->calls[i]) < seen + 10;)
      {
        g_assert_cmpuint (monotonic_ns (), <, deadline);
        sched_yield ();
      }
}

static void
test_swap_under_load (void)
{
  enum { SWAPS = 20 };
  Town *town = town_new ();
  TownCell *cell = town_load (town, "ledger", "ledger", NULL);
  Traffic traffic = { .town = town, .name = "ledger" };
  Caller callers[CALLERS];
  pthread_t threads[CALLERS];
  CellClient *ledger;
  uint64_t sum = 0;

  for (guint i = 0; i < CALLERS; i++)
    {
      callers[i] = (Caller) { &traffic, i };
      g_assert_cmpint (pthread_create (&threads[i], NULL, call_ledger, &callers[i]), ==, 0);
    }
  for (guint i = 0; i < SWAPS; i++)
    {
      g_autoptr (CellModule) module = town_module ("ledger");
      g_autoptr (GError) error = NULL;

      wait_for_calls (&traffic);
      g_assert_true (town_swap (cell, module, &error));
      g_assert_no_error (error);
    }
  wait_for_calls (&traffic);
  atomic_store (&traffic.stop, true);
  for (guint i = 0; i < CALLERS; i++)
    {
      pthread_join (threads[i], NULL);
      sum += traffic.calls[i];
    }
  ledger = town_use (town, Ledger, "ledger");
  {
    cell_auto LedgerBalance b = ledger_balance (ledger, .account = 900);
    cell_auto LedgerGetTotal total = ledger_get_total (ledger);

    g_assert_cmpint (b.balance, ==, sum);
    g_assert_cmpint (total.value, ==, 0);
  }
  g_assert_cmpuint (sum, >, 0);
  cell_client_close (ledger);
  town_free (town);
}

/* Calls that are kept go along, and so does the order of their times. */
static void
test_swap_kept (void)
{
  enum { N = 30 };
  Town *town = town_new ();
  TownCell *cell = town_load (town, "alarm", "alarm", NULL);
  CellClient *alarm = town_use (town, Alarm, "alarm");
  AlarmWaitCall calls[N];

  for (guint i = 0; i < N; i++)
    {
      g_autofree char *text = g_strdup_printf ("%u", i);
      calls[i] = alarm_wait_start (alarm, .ms = i * 5, .text = text);
    }
  for (guint i = 0; i < 4; i++)
    {
      g_autoptr (CellModule) module = town_module ("alarm");
      g_autoptr (GError) error = NULL;
      cell_auto AlarmWait w = alarm_wait (alarm, .ms = 5, .text = "between");

      assert_ok (&w.result);
      g_assert_true (town_swap (cell, module, &error));
      g_assert_no_error (error);
    }
  for (guint i = 0; i < N; i++)
    {
      g_autofree char *text = g_strdup_printf ("%u", i);
      cell_auto AlarmWait w = alarm_wait_finish (calls[i]);

      assert_ok (&w.result);
      g_assert_cmpstr (w.text, ==, text);
    }
  cell_client_close (alarm);
  town_free (town);
}

/* A build that cannot take over leaves the old one serving, as if nothing had happened. */
static void
test_swap_fails (void)
{
  Town *town = town_new ();
  TownCell *cell = town_load (town, "memory", "memory", "failing", "save", NULL),
           *other = town_load (town, "ledger", "ledger", NULL);
  CellClient *memory = town_use (town, Memory, "memory"), *ledger = town_use (town, Ledger, "ledger");
  g_autoptr (CellModule) grown = town_module ("memory-grown"), stateless = town_module ("asker");
  g_autoptr (GError) error = NULL, no_restore = NULL;

  {
    cell_auto MemoryAdd add = memory_add (memory, .text = "here");
    cell_auto LedgerTransfer t = ledger_transfer (ledger, .from = 1, .to = 2, .amount = 3);
    assert_ok (&add.result);
    assert_ok (&t.result);
  }
  g_assert_false (town_swap (cell, grown, &error));
  g_assert_error (error, CELL_ERROR_DOMAIN, -CELL_ERROR_STATE);
  g_assert_false (town_swap (other, stateless, &no_restore));
  g_assert_error (no_restore, CELL_ERROR_DOMAIN, -CELL_ERROR_STATE);
  {
    cell_auto MemoryRead read = memory_read (memory, .id = 1);
    cell_auto LedgerBalance b = ledger_balance (ledger, .account = 2);
    assert_ok (&read.result);
    g_assert_cmpstr (read.text, ==, "here");
    g_assert_cmpint (b.balance, ==, 3);
  }
  memory_add_async (memory, on_nobody, NULL, .text = "given up");
  cell_client_close (memory);
  cell_client_close (ledger);
  town_free (town);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/instance/init-fails", test_init_fails);
  g_test_add_func ("/instance/fini", test_fini);
  g_test_add_func ("/instance/instances", test_instances);
  g_test_add_func ("/instance/kept-end", test_kept_end);
  g_test_add_func ("/instance/where-it-runs", test_where_it_runs);
  g_test_add_func ("/instance/missing-methods", test_missing_methods);
  g_test_add_func ("/instance/state/ledger", test_ledger_state);
  g_test_add_func ("/instance/state/others", test_other_states);
  g_test_add_func ("/instance/state/grown", test_grown_state);
  g_test_add_func ("/instance/state/foreign", test_foreign_state);
  g_test_add_func ("/instance/state/refused", test_state_refused);
  g_test_add_func ("/instance/swap/under-load", test_swap_under_load);
  g_test_add_func ("/instance/swap/kept", test_swap_kept);
  g_test_add_func ("/instance/swap/fails", test_swap_fails);
  return g_test_run ();
}

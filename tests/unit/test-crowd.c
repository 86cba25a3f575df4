/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Cells whose code runs on several threads at once: what one call does to the channel of another.
 */
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include <cell/remote/alarm.h>
#include <cell/remote/crowd.h>

#include "town.h"

#define THREADS 4

typedef struct
{
  Town *town;
  guint number;
  uint64_t heard, missed;               /* by a listener */
  uint64_t last[THREADS];               /* of each speaker */
  _Atomic uint64_t done;
  _Atomic bool *stop;
} Person;

/* Runs each on a thread of its own. */
static void
crowd_start (Town *town, Person *persons, pthread_t *threads, guint n, void *(*run) (void *))
{
  for (guint i = 0; i < n; i++)
    {
      persons[i] = (Person) { .town = town, .number = i };
      g_assert_cmpint (pthread_create (&threads[i], NULL, run, &persons[i]), ==, 0);
    }
}

static void
crowd_join (pthread_t *threads, guint n)
{
  for (guint i = 0; i < n; i++)
    pthread_join (threads[i], NULL);
}

/* ---- signals ------------------------------------------------------------------------------------------- */

#define SAYS 200
#define SIGNALS 40                      /* of each call */

static void
on_said (const CrowdSaid *args, uint64_t missed, void *data)
{
  Person *person = data;

  g_assert_cmpuint (args->who, <, THREADS);
  g_assert_cmpstr (args->what, ==, "something");
  /* Each speaker's come in order, though some may be missing. */
  g_assert_cmpuint (args->n, >, person->last[args->who]);
  person->last[args->who] = args->n;
  person->heard += 1 + missed;
  person->missed += missed;
}

/* Speaks and listens on the same client: others send into the channel that its own calls are served on. */
static void *
speak_and_listen (void *data)
{
  Person *person = data;
  CellClient *crowd = town_use (person->town, Crowd, "crowd");
  ThreadContext *thread = thread_context ();

  g_assert_cmpint (crowd_on_said (crowd, on_said, person), ==, CELL_OK);
  /* Nobody begins before everybody listens. */
  {
    cell_auto CrowdHold hold = crowd_hold (crowd);
    assert_ok (&hold.result);
  }
  for (guint i = 0; i < SAYS; i++)
    {
      cell_auto CrowdSay say = crowd_say (crowd, .who = person->number, .first = 1 + i * SIGNALS, .count = SIGNALS);

      assert_ok (&say.result);
      client_dispatch_thread (person->town, thread, false);
    }
  /* Everybody has spoken. */
  {
    cell_auto CrowdHold hold = crowd_hold (crowd);
    assert_ok (&hold.result);
  }
  town_dispatch_until (person->town, &person->heard, THREADS * SAYS * SIGNALS + 1);
  cell_client_close (crowd);
  atomic_store (&person->done, 1);
  return NULL;
}

static void
test_signals (void)
{
  Town *town = town_new ();
  Person persons[THREADS];
  pthread_t threads[THREADS];
  CellClient *crowd;
  uint64_t said = SAYS * SIGNALS;

  town_load (town, "crowd", "crowd", NULL);
  crowd = town_use (town, Crowd, "crowd");
  crowd_start (town, persons, threads, THREADS, speak_and_listen);
  {
    cell_auto CrowdLetGo begin = crowd_let_go (crowd, .wanted = THREADS), end = crowd_let_go (crowd, .wanted = THREADS);

    assert_ok (&begin.result);
    assert_ok (&end.result);
  }
  /* What somebody has missed last is told with the next that he gets. */
  for (guint i = 0; i < THREADS; i++)
    for (; atomic_load (&persons[i].done) == 0; said++)
      {
        cell_auto CrowdSay more = crowd_say (crowd, .who = 0, .first = 1 + said, .count = 1);

        assert_ok (&more.result);
        sched_yield ();
      }
  crowd_join (threads, THREADS);
  for (guint i = 0; i < THREADS; i++)
    g_assert_cmpuint (persons[i].heard, <=, (THREADS - 1) * SAYS * SIGNALS + said);
  cell_client_close (crowd);
  town_free (town);
}

/* ---- calls that others answer ------------------------------------------------------------------------------ */

#define KEPT 16
#define ROUNDS 100

static void *
keep_and_answer (void *data)
{
  Person *person = data;
  CellClient *crowd = town_use (person->town, Crowd, "crowd");

  for (guint round = 0; round < ROUNDS; round++)
    {
      CrowdKeepCall kept[KEPT];

      for (guint i = 0; i < KEPT; i++)
        {
          g_autofree char *text = g_strdup_printf ("%u/%u/%u", person->number, round, i);

          kept[i] = crowd_keep_start (crowd, .number = person->number * 1000 + i, .text = text);
        }
      {
        cell_auto CrowdAnswer answer = crowd_answer (crowd);
        assert_ok (&answer.result);
      }
      for (guint i = 0; i < KEPT; i++)
        {
          g_autofree char *text = g_strdup_printf ("%u/%u/%u", person->number, round, i);
          cell_auto CrowdKeep keep = crowd_keep_finish (kept[i]);

          assert_ok (&keep.result);
          g_assert_cmpuint (keep.number, ==, person->number * 1000 + i + 1);
          g_assert_cmpstr (keep.text, ==, text);
        }
    }
  cell_client_close (crowd);
  return NULL;
}

/* Whoever looks answers what all have asked, into channels that their owners are using. */
static void
test_kept (void)
{
  Town *town = town_new ();
  TownCell *cell = town_load (town, "crowd", "crowd", NULL);
  Person persons[THREADS];
  pthread_t threads[THREADS];

  crowd_start (town, persons, threads, THREADS, keep_and_answer);
  crowd_join (threads, THREADS);
  g_assert_cmpuint (cell_instance_count_kept (cell->instance), ==, 0);
  town_free (town);
}

/* ---- many at a time ------------------------------------------------------------------------------------------ */

static void *
be_held (void *data)
{
  Person *person = data;
  CellClient *crowd = town_use (person->town, Crowd, "crowd");
  cell_auto CrowdHold hold = crowd_hold (crowd);

  assert_ok (&hold.result);
  g_assert_cmpuint (hold.inside, ==, THREADS);
  cell_client_close (crowd);
  return NULL;
}

static void
test_together (void)
{
  Town *town = town_new ();
  Person persons[THREADS];
  pthread_t threads[THREADS];
  CellClient *crowd;

  town_load (town, "crowd", "crowd", NULL);
  crowd = town_use (town, Crowd, "crowd");
  crowd_start (town, persons, threads, THREADS, be_held);
  {
    cell_auto CrowdLetGo let_go = crowd_let_go (crowd, .wanted = THREADS);
    assert_ok (&let_go.result);
  }
  crowd_join (threads, THREADS);
  cell_client_close (crowd);
  town_free (town);
}

/* ---- builds that follow each other ----------------------------------------------------------------------------- */

static void *
call_until (void *data)
{
  Person *person = data;
  CellClient *crowd = town_use (person->town, Crowd, "crowd");
  ThreadContext *thread = thread_context ();

  g_assert_cmpint (crowd_on_said (crowd, on_said, person), ==, CELL_OK);
  for (uint64_t n = 1; !atomic_load (person->stop); n++)
    {
      cell_auto CrowdSay say = crowd_say (crowd, .who = person->number, .first = n, .count = 1);

      assert_ok (&say.result);
      client_dispatch_thread (person->town, thread, false);
      atomic_fetch_add (&person->done, 1);
    }
  cell_client_close (crowd);
  return NULL;
}

static void
wait_for_calls (Person *persons)
{
  uint64_t deadline = monotonic_ns () + TOWN_PATIENCE_S * 1000000000ull;

  for (guint i = 0; i < THREADS; i++)
    for (uint64_t seen = atomic_load (&persons[i].done); atomic_load (&persons[i].done) < seen + 10;)
      {
        g_assert_cmpuint (monotonic_ns (), <, deadline);
        sched_yield ();
      }
}

static void
test_swap (void)
{
  enum { SWAPS = 20 };
  Town *town = town_new ();
  TownCell *cell = town_load (town, "crowd", "crowd", NULL);
  Person persons[THREADS];
  pthread_t threads[THREADS];
  _Atomic bool stop = false;

  for (guint i = 0; i < THREADS; i++)
    {
      persons[i] = (Person) { .town = town, .number = i, .stop = &stop };
      g_assert_cmpint (pthread_create (&threads[i], NULL, call_until, &persons[i]), ==, 0);
    }
  for (guint i = 0; i < SWAPS; i++)
    {
      g_autoptr (CellModule) module = town_module ("crowd");
      g_autoptr (GError) error = NULL;

      wait_for_calls (persons);
      g_assert_true (town_swap (cell, module, &error));
      g_assert_no_error (error);
    }
  wait_for_calls (persons);
  atomic_store (&stop, true);
  crowd_join (threads, THREADS);
  town_free (town);
}

/* ---- a loop ------------------------------------------------------------------------------------------------------- */

static void *
call_alarm (void *data)
{
  Person *person = data;
  CellClient *alarm = town_use (person->town, Alarm, "alarm");

  while (!atomic_load (person->stop))
    {
      AlarmWaitCall calls[8];

      for (guint i = 0; i < G_N_ELEMENTS (calls); i++)
        calls[i] = alarm_wait_start (alarm, .ms = i % 3, .text = "x");
      for (guint i = 0; i < G_N_ELEMENTS (calls); i++)
        {
          cell_auto AlarmWait w = alarm_wait_finish (calls[i]);

          assert_ok (&w.result);
          g_assert_cmpstr (w.text, ==, "x");
          atomic_fetch_add (&person->done, 1);
        }
    }
  cell_client_close (alarm);
  return NULL;
}

/* Each build has a thread of its own, and the calls that are kept go from one to the next. */
static void
test_swap_loop (void)
{
  enum { SWAPS = 20 };
  Town *town = town_new ();
  TownCell *cell = town_load (town, "alarm", "alarm", NULL);
  Person persons[THREADS];
  pthread_t threads[THREADS];
  _Atomic bool stop = false;

  for (guint i = 0; i < THREADS; i++)
    {
      persons[i] = (Person) { .town = town, .number = i, .stop = &stop };
      g_assert_cmpint (pthread_create (&threads[i], NULL, call_alarm, &persons[i]), ==, 0);
    }
  for (guint i = 0; i < SWAPS; i++)
    {
      g_autoptr (CellModule) module = town_module ("alarm");
      g_autoptr (GError) error = NULL;

      wait_for_calls (persons);
      g_assert_true (town_swap (cell, module, &error));
      g_assert_no_error (error);
    }
  wait_for_calls (persons);
  atomic_store (&stop, true);
  crowd_join (threads, THREADS);
  town_free (town);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/crowd/signals", test_signals);
  g_test_add_func ("/crowd/kept", test_kept);
  g_test_add_func ("/crowd/together", test_together);
  g_test_add_func ("/crowd/swap", test_swap);
  g_test_add_func ("/crowd/swap-loop", test_swap_loop);
  return g_test_run ();
}

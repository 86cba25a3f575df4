/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The gate: one at a time, nobody forgotten, passed on when enough was served, and no waiting for oneself.
 */
#define _GNU_SOURCE
#include "membrane-fixture.h"

#include <limits.h>
#include <sched.h>
#include <string.h>

/* ---- by hand, in one thread ------------------------------------------------------------------------ */

static unsigned n_kicks;

static void
count_kick (Gate *gate)
{
  (void) gate;
  n_kicks++;
}

typedef struct
{
  GateNode node;
  unsigned more;                /* how often it has more to do */
  unsigned runs, drops;
  unsigned number;
} Item;

static GString *order;

static NodeResult
item_run (GateNode *node, ThreadContext *thread)
{
  Item *item = (Item *) node;

  (void) thread;
  item->runs++;
  if (order != NULL)
    g_string_append_printf (order, "%u ", item->number);
  if (item->more == 0)
    return NODE_DONE;
  item->more--;
  return NODE_MORE;
}

static void
item_drop (GateNode *node)
{
  ((Item *) node)->drops++;
}

static void
items_init (Item *items, unsigned n)
{
  memset (items, 0, n * sizeof *items);
  for (unsigned i = 0; i < n; i++)
    {
      items[i].node.run = item_run;
      items[i].node.drop = item_drop;
      items[i].number = i;
    }
}

static void
test_order (void)
{
  ThreadContext *thread = thread_context ();
  Item items[4];
  Gate gate;

  gate_init (&gate, count_kick);
  items_init (items, 4);
  order = g_string_new (NULL);
  items[1].more = 2;
  g_assert_true (gate_enter (&gate, thread));
  g_assert_false (gate_enter (&gate, thread));
  g_assert_true (gate.holder == thread);
  for (unsigned i = 0; i < 4; i++)
    {
      g_assert_cmpint (gate_push (&gate, &items[i].node, thread), ==, PUSH_QUEUED);
      g_assert_cmpint (gate_push (&gate, &items[i].node, thread), ==, PUSH_ALREADY);
    }
  gate_leave (&gate, thread);
  g_assert_cmpstr (order->str, ==, "0 1 2 3 1 1 ");
  g_assert_cmpuint (gate.word, ==, 0);
  g_assert_null (gate.holder);

  g_string_truncate (order, 0);
  g_assert_cmpint (gate_push (&gate, &items[2].node, thread), ==, PUSH_HOLDING);
  g_assert_cmpint (gate_push (&gate, &items[3].node, thread), ==, PUSH_QUEUED);
  gate_leave (&gate, thread);
  g_assert_cmpstr (order->str, ==, "2 3 ");
  g_string_free (order, TRUE);
  order = NULL;
}

/* After 64 for others the holder passes the gate on, to exactly one. */
static void
test_budget (void)
{
  ThreadContext *thread = thread_context ();
  Item *items = g_aligned_alloc (100, sizeof (Item), 16);
  unsigned runs = 0;
  Gate gate;

  gate_init (&gate, count_kick);
  items_init (items, 100);
  n_kicks = 0;
  g_assert_true (gate_enter (&gate, thread));
  for (unsigned i = 0; i < 100; i++)
    gate_push (&gate, &items[i].node, thread);
  gate_leave (&gate, thread);
  for (unsigned i = 0; i < 100; i++)
    runs += items[i].runs;
  g_assert_cmpuint (runs, ==, GATE_BUDGET);
  g_assert_cmpuint (n_kicks, ==, 1);
  g_assert_cmpuint (gate.word & GATE_FLAGS, ==, GATE_HELD | GATE_PASS);
  g_assert_null (gate.holder);
  g_assert_false (gate_enter (&gate, thread));
  g_assert_true (gate_claim (&gate, thread));
  g_assert_false (gate_claim (&gate, thread));
  g_assert_true (gate.holder == thread);
  gate_leave_slow (&gate, thread);
  for (unsigned i = 0; i < 100; i++)
    g_assert_cmpuint (items[i].runs, ==, 1);
  g_assert_cmpuint (gate.word, ==, 0);
  g_aligned_free (items);
}

/* A push onto a gate that was passed on takes it over. */
static void
test_push_takes_over (void)
{
  ThreadContext *thread = thread_context ();
  Item *items = g_aligned_alloc (70, sizeof (Item), 16);
  Gate gate;

  gate_init (&gate, count_kick);
  items_init (items, 70);
  g_assert_true (gate_enter (&gate, thread));
  for (unsigned i = 0; i < 69; i++)
    gate_push (&gate, &items[i].node, thread);
  gate_leave (&gate, thread);
  g_assert_cmpuint (gate.word & GATE_PASS, !=, 0);
  g_assert_cmpint (gate_push (&gate, &items[69].node, thread), ==, PUSH_HOLDING);
  g_assert_false (gate_claim (&gate, thread));
  gate_leave (&gate, thread);
  for (unsigned i = 0; i < 70; i++)
    g_assert_cmpuint (items[i].runs, ==, 1);
  g_assert_cmpuint (gate.word, ==, 0);
  g_aligned_free (items);
}

static void
test_close_drops (void)
{
  ThreadContext *thread = thread_context ();
  Item items[3];
  Gate gate;

  gate_init (&gate, count_kick);
  items_init (items, 3);
  g_assert_true (gate_stop (&gate, thread, 0));
  gate_push (&gate, &items[0].node, thread);
  gate_push (&gate, &items[1].node, thread);
  gate_close (&gate);
  g_assert_true (gate_is_closed (&gate));
  g_assert_cmpuint (items[0].drops + items[1].drops, ==, 2);
  g_assert_cmpint (gate_push (&gate, &items[0].node, thread), ==, PUSH_CLOSED);
  g_assert_cmpint (gate_push (&gate, &items[2].node, thread), ==, PUSH_CLOSED);
  g_assert_false (gate_enter (&gate, thread));
  g_assert_false (gate_claim (&gate, thread));
  g_assert_false (gate_stop (&gate, thread, 0));
  gate_open (&gate, thread);
  g_assert_cmpint (gate_push (&gate, &items[0].node, thread), ==, PUSH_QUEUED);
  gate_leave (&gate, thread);
  g_assert_cmpuint (items[0].runs, ==, 1);
  g_assert_cmpuint (items[1].runs + items[2].runs, ==, 0);
}

/* ---- many threads -------------------------------------------------------------------------------------- */

#define PUSHERS 4

typedef struct Crowd Crowd;

typedef struct
{
  GateNode node;
  Crowd *crowd;
  _Atomic uint32_t wanted, done;        /* done is written by the holder */
  unsigned seed;
  pthread_t thread;
} Pusher;

struct Crowd
{
  Gate gate;                    /* first: found from it */
  Pusher pushers[PUSHERS];
  unsigned n_each;
  uint64_t runs;                /* plain: the gate orders it */
  int inside;
  uint32_t overlaps;
  bool stopped;                 /* plain: nobody may run while somebody has stopped the gate */
  _Atomic uint32_t kicks, stopping;
  _Atomic uint32_t n_dropped, n_closed;
  _Atomic uint32_t n_in_list;   /* pushes that were let in and not let go */
  pthread_barrier_t start;
};

static NodeResult
pusher_run (GateNode *node, ThreadContext *thread)
{
  Pusher *pusher = (Pusher *) node;
  Crowd *crowd = pusher->crowd;

  (void) thread;
  crowd->overlaps += crowd->inside++ != 0 || crowd->stopped;
  if (atomic_load (&pusher->done) < atomic_load (&pusher->wanted))
    {
      crowd->runs++;
      atomic_fetch_add (&pusher->done, 1);
    }
  crowd->inside--;
  return atomic_load (&pusher->done) < atomic_load (&pusher->wanted) ? NODE_MORE : NODE_DONE;
}

static void
pusher_drop (GateNode *node)
{
  atomic_fetch_add (&((Pusher *) node)->crowd->n_dropped, 1);
}

static void
pusher_release (GateNode *node)
{
  atomic_fetch_sub (&((Pusher *) node)->crowd->n_in_list, 1);
}

static void
crowd_kick (Gate *gate)
{
  Crowd *crowd = (Crowd *) gate;

  atomic_fetch_add (&crowd->kicks, 1);
  futex_wake (&crowd->kicks, 1);
}

static void *
crowd_worker (void *data)
{
  Crowd *crowd = data;
  ThreadContext *thread = thread_context ();
  uint32_t seen = 0;

  while (!atomic_load (&crowd->stopping))
    {
      uint32_t kicks = atomic_load (&crowd->kicks);

      if (kicks != seen)
        gate_continue (&crowd->gate, thread);
      else
        futex_wait_until (&crowd->kicks, kicks, monotonic_ns () + 1000000000u);
      seen = kicks;
    }
  return NULL;
}

/* Asks for up to a hundred runs at once, and for the next when they are done; relies on nobody but the gate. */
static void *
pusher_main (void *data)
{
  Pusher *pusher = data;
  Crowd *crowd = pusher->crowd;
  ThreadContext *thread = thread_context ();
  uint32_t wanted = 0;

  pthread_barrier_wait (&crowd->start);
  while (wanted < crowd->n_each)
    {
      pusher->seed = pusher->seed * 1103515245u + 12345u;
      wanted = MIN (wanted + 1 + (pusher->seed >> 16) % 100, crowd->n_each);
      atomic_store (&pusher->wanted, wanted);
      while (atomic_load (&pusher->done) < wanted)
        {
          uint32_t dropped = atomic_load (&crowd->n_dropped);
          PushResult result;

          atomic_fetch_add (&crowd->n_in_list, 1);
          result = gate_push (&crowd->gate, &pusher->node, thread);
          if (result == PUSH_CLOSED || result == PUSH_ALREADY)
            atomic_fetch_sub (&crowd->n_in_list, 1);
          if (result == PUSH_CLOSED)
            {
              atomic_fetch_add (&crowd->n_closed, 1);
              sched_yield ();
              continue;
            }
          if (result == PUSH_HOLDING)
            gate_leave (&crowd->gate, thread);
          /* A node that was dropped is its owner's to push again; else somebody runs it: a waiter, or the worker that is kicked. */
          while (atomic_load (&pusher->done) < wanted && atomic_load (&crowd->n_dropped) == dropped)
            {
              if (pusher->seed & 0x40000)
                gate_continue (&crowd->gate, thread);
              sched_yield ();
            }
        }
    }
  return NULL;
}

static void
crowd_init (Crowd *crowd, unsigned n_each)
{
  gate_init (&crowd->gate, crowd_kick);
  crowd->n_each = n_each;
  for (unsigned i = 0; i < PUSHERS; i++)
    {
      Pusher *pusher = &crowd->pushers[i];

      pusher->node.run = pusher_run;
      pusher->node.drop = pusher_drop;
      pusher->node.release = pusher_release;
      pusher->crowd = crowd;
      pusher->seed = g_test_rand_int ();
    }
}

static Crowd *
crowd_start (unsigned n_each, pthread_t *ret_worker)
{
  Crowd *crowd = g_aligned_alloc0 (1, sizeof *crowd, 64);

  crowd_init (crowd, n_each);
  pthread_barrier_init (&crowd->start, NULL, PUSHERS);
  g_assert_cmpint (pthread_create (ret_worker, NULL, crowd_worker, crowd), ==, 0);
  for (unsigned i = 0; i < PUSHERS; i++)
    g_assert_cmpint (pthread_create (&crowd->pushers[i].thread, NULL, pusher_main, &crowd->pushers[i]), ==, 0);
  return crowd;
}

static void
crowd_finish (Crowd *crowd, pthread_t worker)
{
  for (unsigned i = 0; i < PUSHERS; i++)
    pthread_join (crowd->pushers[i].thread, NULL);
  atomic_store (&crowd->stopping, 1);
  atomic_fetch_add (&crowd->kicks, 1);
  futex_wake (&crowd->kicks, INT_MAX);
  pthread_join (worker, NULL);
  g_assert_cmpuint (crowd->overlaps, ==, 0);
  g_assert_cmpuint (crowd->n_in_list, ==, 0);
  g_assert_cmpuint (crowd->runs, ==, PUSHERS * crowd->n_each);
  g_assert_cmpuint (crowd->gate.word, ==, 0);
  pthread_barrier_destroy (&crowd->start);
  g_aligned_free (crowd);
}

static void
test_crowd (void)
{
  pthread_t worker;
  Crowd *crowd = crowd_start (scaled (1500000), &worker);

  for (unsigned i = 0; i < PUSHERS; i++)
    while (atomic_load (&crowd->pushers[i].done) < crowd->n_each)
      sched_yield ();
  g_test_message ("passed on %u times without a waiter", crowd->kicks);
  crowd_finish (crowd, worker);
}

/* Somebody stops the gate again and again, and closes it now and then; while it is stopped nobody runs. */
static void
test_stop_in_a_crowd (void)
{
  pthread_t worker;
  Crowd *crowd = crowd_start (scaled (500000), &worker);
  ThreadContext *thread = thread_context ();
  unsigned n_stops = 0, n_closes = 0;

  for (bool busy = true; busy; n_stops++)
    {
      busy = false;
      for (unsigned i = 0; i < PUSHERS; i++)
        busy |= atomic_load (&crowd->pushers[i].done) < crowd->n_each;
      g_assert_true (gate_stop (&crowd->gate, thread, monotonic_ns () + 10000000000u));
      g_assert_true (crowd->gate.holder == thread);
      g_assert_cmpint (crowd->inside, ==, 0);
      crowd->stopped = true;
      if (n_stops % 3 == 0)
        {
          sched_yield ();
          crowd->stopped = false;
          gate_close (&crowd->gate);
          sched_yield ();
          gate_open (&crowd->gate, thread);
          n_closes++;
        }
      crowd->stopped = false;
      gate_leave (&crowd->gate, thread);
      sched_yield ();
    }
  g_test_message ("stopped %u times, closed %u times; %u nodes dropped, %u pushes refused", n_stops, n_closes, crowd->n_dropped,
                  crowd->n_closed);
  crowd_finish (crowd, worker);
}

/* A gate that its owner holds for good: the owner alone serves, when it is kicked, and waits while somebody has stopped the
 * gate. */
static void *
owner_main (void *data)
{
  Crowd *crowd = data;
  ThreadContext *thread = thread_context ();
  uint32_t seen = 0;

  atomic_store (&crowd->gate.owner, thread);
  crowd->gate.owner_runs = true;
  g_assert_true (gate_enter (&crowd->gate, thread));
  pthread_barrier_wait (&crowd->start);
  while (!atomic_load (&crowd->stopping))
    {
      uint32_t kicks = atomic_load (&crowd->kicks);

      switch (gate_owner_serve (&crowd->gate, thread))
        {
        case OWNER_MORE:
          break;
        case OWNER_DONE:
        case OWNER_WAITS:
          if (kicks == seen)
            futex_wait_until (&crowd->kicks, kicks, monotonic_ns () + 1000000000u);
        }
      seen = kicks;
    }
  return NULL;
}

static void
test_owner (void)
{
  Crowd *crowd = g_aligned_alloc0 (1, sizeof *crowd, 64);
  ThreadContext *thread = thread_context ();
  pthread_t owner;
  unsigned n_stops = 0;
  bool busy = true;

  crowd_init (crowd, scaled (300000));
  pthread_barrier_init (&crowd->start, NULL, PUSHERS + 2);       /* with the owner and ourselves */
  g_assert_cmpint (pthread_create (&owner, NULL, owner_main, crowd), ==, 0);
  for (unsigned i = 0; i < PUSHERS; i++)
    g_assert_cmpint (pthread_create (&crowd->pushers[i].thread, NULL, pusher_main, &crowd->pushers[i]), ==, 0);
  pthread_barrier_wait (&crowd->start);
  for (; busy; n_stops++)
    {
      busy = false;
      for (unsigned i = 0; i < PUSHERS; i++)
        busy |= atomic_load (&crowd->pushers[i].done) < crowd->n_each;
      g_assert_true (gate_stop (&crowd->gate, thread, monotonic_ns () + 10000000000u));
      g_assert_false (gate_owner_holds (&crowd->gate, crowd->gate.owner));
      g_assert_cmpint (crowd->inside, ==, 0);
      crowd->stopped = true;
      sched_yield ();
      crowd->stopped = false;
      gate_leave_slow (&crowd->gate, thread);
      sched_yield ();
    }
  for (unsigned i = 0; i < PUSHERS; i++)
    pthread_join (crowd->pushers[i].thread, NULL);
  atomic_store (&crowd->stopping, 1);
  crowd_kick (&crowd->gate);
  pthread_join (owner, NULL);
  g_test_message ("stopped %u times", n_stops);
  g_assert_cmpuint (crowd->overlaps, ==, 0);
  g_assert_cmpuint (crowd->n_in_list, ==, 0);
  g_assert_cmpuint (crowd->runs, ==, PUSHERS * crowd->n_each);
  g_assert_true (crowd->gate.holder == crowd->gate.owner);
  pthread_barrier_destroy (&crowd->start);
  g_aligned_free (crowd);
}

/* ---- stopping ------------------------------------------------------------------------------------------- */

typedef struct
{
  Gate gate;
  uint64_t deadline;
  _Atomic (ThreadContext *) stopper;
  _Atomic uint32_t stopped, go_on;
  bool granted;
} Stopping;

static void *
stopper_main (void *data)
{
  Stopping *stopping = data;
  ThreadContext *thread = thread_context ();

  stopping->stopper = thread;
  stopping->granted = gate_stop (&stopping->gate, thread, stopping->deadline);
  atomic_store (&stopping->stopped, 1);
  futex_wake (&stopping->stopped, 1);
  if (stopping->granted)
    {
      wait_at_least (&stopping->go_on, 1);
      gate_leave (&stopping->gate, thread);
    }
  return NULL;
}

static void
wait_for_node (Gate *gate)
{
  while ((atomic_load (&gate->word) & ~GATE_FLAGS) == 0)
    sched_yield ();
}

/* Whoever let go does not look like the holder until the one that stops has woken up: waiting for the gate then would be taken for
 * a deadlock. */
static void
test_stop_is_granted (void)
{
  Stopping *stopping = g_aligned_alloc0 (1, sizeof *stopping, 64);
  ThreadContext *thread = thread_context ();
  pthread_t other;
  Item behind;

  items_init (&behind, 1);
  gate_init (&stopping->gate, count_kick);
  stopping->deadline = monotonic_ns () + 10000000000u;
  g_assert_true (gate_enter (&stopping->gate, thread));
  g_assert_cmpint (pthread_create (&other, NULL, stopper_main, stopping), ==, 0);
  wait_for_node (&stopping->gate);
  g_assert_cmpint (gate_push (&stopping->gate, &behind.node, thread), ==, PUSH_QUEUED);
  gate_leave (&stopping->gate, thread);
  g_assert_true (stopping->gate.holder == stopping->stopper);
  g_assert_cmpuint (behind.runs, ==, 0);
  g_assert_false (gate_is_deadlock (&stopping->gate, thread));
  g_assert_true (wait_at_least (&stopping->stopped, 1));
  g_assert_true (stopping->granted);
  g_assert_false (gate_enter (&stopping->gate, thread));
  atomic_store (&stopping->go_on, 1);
  futex_wake (&stopping->go_on, 1);
  pthread_join (other, NULL);
  g_assert_cmpuint (behind.runs, ==, 1);        /* by whoever had stopped it, when it let go */
  g_assert_cmpuint (stopping->gate.word, ==, 0);
  g_aligned_free (stopping);
}

static ThreadContext *seen_holder;
static Gate *seen_gate;

static NodeResult
look_at_holder (GateNode *node, ThreadContext *thread)
{
  (void) node;
  (void) thread;
  seen_holder = seen_gate->holder;
  return NODE_DONE;
}

/* Who gives up leaves its node behind; the gate goes on, and nothing leaks. */
static void
test_stop_gives_up (void)
{
  Stopping *stopping = g_aligned_alloc0 (1, sizeof *stopping, 64);
  GateNode behind = { .run = look_at_holder };
  ThreadContext *thread = thread_context ();
  pthread_t other;

  gate_init (&stopping->gate, count_kick);
  stopping->deadline = monotonic_ns () + 1000000u;
  g_assert_true (gate_enter (&stopping->gate, thread));
  g_assert_cmpint (pthread_create (&other, NULL, stopper_main, stopping), ==, 0);
  g_assert_true (wait_at_least (&stopping->stopped, 1));
  g_assert_false (stopping->granted);
  g_assert_true (stopping->gate.holder == thread);
  seen_gate = &stopping->gate;
  gate_push (&stopping->gate, &behind, thread);
  gate_leave (&stopping->gate, thread);
  g_assert_true (seen_holder == thread);
  pthread_join (other, NULL);
  g_assert_cmpuint (stopping->gate.word, ==, 0);
  g_assert_null (stopping->gate.holder);

  /* The same, but the gate is closed over it. */
  stopping->stopped = 0;
  stopping->deadline = monotonic_ns () + 10000000000u;
  g_assert_true (gate_enter (&stopping->gate, thread));
  g_assert_cmpint (pthread_create (&other, NULL, stopper_main, stopping), ==, 0);
  wait_for_node (&stopping->gate);
  gate_close (&stopping->gate);
  g_assert_true (wait_at_least (&stopping->stopped, 1));
  g_assert_false (stopping->granted);
  pthread_join (other, NULL);
  g_aligned_free (stopping);
}

/* ---- who waits for whom ------------------------------------------------------------------------------------ */

/* Chains of every length: the last thread waits for a gate of ours, or for one that is free. */
static void
test_chains (void)
{
  enum { LONGEST = 40 };
  Gate *gates = g_aligned_alloc0 (LONGEST + 1, sizeof (Gate), 64);
  ThreadContext *threads = g_new0 (ThreadContext, LONGEST + 1);
  ThreadContext *self = &threads[0];

  for (unsigned i = 0; i <= LONGEST; i++)
    gate_init (&gates[i], count_kick);
  for (unsigned n = 0; n < LONGEST; n++)
    {
      /* Thread i holds gate i and waits for gate i + 1; the last gate's holder is ourselves. */
      for (unsigned i = 1; i <= n; i++)
        {
          gates[i].holder = &threads[i];
          threads[i].waits_for = &gates[i + 1];
        }
      gates[n + 1].holder = self;
      self->waits_for = &gates[1];
      g_assert_true (gate_is_deadlock (&gates[1], self));
      for (unsigned i = 1; i <= n; i++)
        {
          threads[i].waits_for = NULL;
          g_assert_false (gate_is_deadlock (&gates[1], self));
          threads[i].waits_for = &gates[i + 1];
          gates[i].holder = NULL;
          g_assert_false (gate_is_deadlock (&gates[1], self));
          gates[i].holder = &threads[i];
        }
      /* A cycle that we are not part of is not ours to break, and does not catch us. */
      gates[n + 1].holder = &threads[LONGEST];
      threads[LONGEST].waits_for = &gates[1];
      g_assert_false (gate_is_deadlock (&gates[1], self));
      threads[LONGEST].waits_for = NULL;
    }
  g_free (threads);
  g_aligned_free (gates);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/gate/order", test_order);
  g_test_add_func ("/gate/budget", test_budget);
  g_test_add_func ("/gate/push-takes-over", test_push_takes_over);
  g_test_add_func ("/gate/close-drops", test_close_drops);
  g_test_add_func ("/gate/crowd", test_crowd);
  g_test_add_func ("/gate/stop-in-a-crowd", test_stop_in_a_crowd);
  g_test_add_func ("/gate/owner", test_owner);
  g_test_add_func ("/gate/stop-is-granted", test_stop_is_granted);
  g_test_add_func ("/gate/stop-gives-up", test_stop_gives_up);
  g_test_add_func ("/gate/chains", test_chains);
  return g_test_run ();
}

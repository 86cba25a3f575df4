/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Bells that are rung for nothing: they are listened to less and less, and no ring is lost by that.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "membrane-fixture.h"
#include "membrane/lanes.h"

#define VAIN_MOST 16u           /* as lanes-bells.c has it */
#define PATIENCE_US (20 * G_USEC_PER_SEC)

typedef struct
{
  Lanes *lanes;
  Bell *bell;
  int fd;
  _Atomic uint32_t n_rang, n_flooded, brings;
} Belfry;

static void
rang (void *data)
{
  atomic_fetch_add (&((Belfry *) data)->n_rang, 1);
}

static bool
brings (void *data)
{
  return atomic_load (&((Belfry *) data)->brings) != 0;
}

static void
flooded (void *data)
{
  atomic_fetch_add (&((Belfry *) data)->n_flooded, 1);
}

static const BellLimit limit = { brings, flooded };

static void
set_up (Belfry *self, gconstpointer data)
{
  Fault fault = { 0 };

  (void) data;
  self->fd = eventfd (0, EFD_CLOEXEC);  /* blocking, as whoever rings it can make it */
  self->lanes = lanes_start (&fault);
  g_assert_cmpstr (fault.message, ==, "");
  self->bell = lanes_add_bell (self->lanes, self->fd, rang, self);
  g_assert_nonnull (self->bell);
  lanes_limit_bell (self->lanes, self->bell, &limit, self);
}

static void
tear_down (Belfry *self, gconstpointer data)
{
  (void) data;
  lanes_remove_bell (self->lanes, self->bell);
  lanes_stop (self->lanes);
  close (self->fd);
}

/* Rings, and waits until that was heard: as often as it is rung. */
static void
ring (Belfry *self, uint32_t n)
{
  gint64 until = g_get_monotonic_time () + PATIENCE_US;
  uint64_t one = 1;

  for (uint32_t i = 0; i < n; i++)
    {
      uint32_t before = atomic_load (&self->n_rang);

      g_assert_cmpint (write (self->fd, &one, sizeof one), ==, sizeof one);
      while (atomic_load (&self->n_rang) == before)
        {
          g_assert_cmpint (g_get_monotonic_time (), <, until);
          g_thread_yield ();
        }
    }
}

/* Nobody takes anything out of a bell that is listened to; of one that is not, what it holds is what came since. */
static bool
is_empty (Belfry *self)
{
  return poll (&(struct pollfd) { self->fd, POLLIN, 0 }, 1, 0) == 0;
}

static void
test_vain (Belfry *self, gconstpointer data)
{
  (void) data;
  ring (self, VAIN_MOST - 1);
  g_assert_false (is_empty (self));
  ring (self, 1);
  g_assert_true (is_empty (self));
  /* Each is heard all the same, and so is what is rung without end. */
  ring (self, 5);
  g_assert_cmpuint (atomic_load (&self->n_flooded), ==, 0);
  ring (self, 2);
  g_assert_cmpuint (atomic_load (&self->n_flooded), ==, 1);
  ring (self, 8);
  g_assert_cmpuint (atomic_load (&self->n_flooded), ==, 2);
}

/* One that brings something is believed again. */
static void
test_honest (Belfry *self, gconstpointer data)
{
  (void) data;
  for (unsigned i = 0; i < 4; i++)
    {
      ring (self, VAIN_MOST + 2);
      g_assert_true (is_empty (self));
      atomic_store (&self->brings, 1);
      ring (self, 1);
      atomic_store (&self->brings, 0);
    }
  ring (self, VAIN_MOST - 1);
  g_assert_false (is_empty (self));
  atomic_store (&self->brings, 1);
  ring (self, 1000);
  g_assert_false (is_empty (self));
  g_assert_cmpuint (atomic_load (&self->n_flooded), ==, 0);
}

/* Several at once, each with a time of its own. */
static void
test_several (Belfry *self, gconstpointer data)
{
  Belfry others[8] = { 0 };

  (void) data;
  for (unsigned i = 0; i < G_N_ELEMENTS (others); i++)
    {
      others[i].lanes = self->lanes;
      others[i].fd = eventfd (0, EFD_CLOEXEC);
      others[i].bell = lanes_add_bell (self->lanes, others[i].fd, rang, &others[i]);
      lanes_limit_bell (self->lanes, others[i].bell, &limit, &others[i]);
    }
  for (uint32_t n = 0; n < VAIN_MOST + 4; n++)
    for (unsigned i = 0; i < G_N_ELEMENTS (others); i++)
      ring (&others[i], 1 + i % 2);
  for (unsigned i = 0; i < G_N_ELEMENTS (others); i++)
    {
      lanes_remove_bell (self->lanes, others[i].bell);
      close (others[i].fd);
    }
  ring (self, VAIN_MOST + 3);
}

/* Of those who ring one that many ring, none waits for as long as for another that was rung for nothing as often. */
static void
test_shared (Belfry *self, gconstpointer data)
{
  static const BellLimit shared = { .brings = brings, .shared = true };
  gint64 until = g_get_monotonic_time () + 3 * PATIENCE_US;
  Belfry other = { .lanes = self->lanes, .fd = eventfd (0, EFD_CLOEXEC) };
  uint64_t one = 1;
  bool first = false;

  (void) data;
  other.bell = lanes_add_bell (self->lanes, other.fd, rang, &other);
  lanes_limit_bell (self->lanes, other.bell, &limit, &other);
  lanes_limit_bell (self->lanes, self->bell, &shared, self);
  ring (&other, VAIN_MOST + 8);
  ring (self, VAIN_MOST + 30);
  while (!first)
    {
      uint32_t before, before_other;

      g_assert_cmpint (g_get_monotonic_time (), <, until);      /* once is enough, for this thread may be held up */
      ring (&other, 1);
      ring (self, 1);
      g_assert_true (is_empty (self));
      before = atomic_load (&self->n_rang);
      before_other = atomic_load (&other.n_rang);
      g_assert_true (write (other.fd, &one, sizeof one) == sizeof one && write (self->fd, &one, sizeof one) == sizeof one);
      while (atomic_load (&self->n_rang) == before)
        g_thread_yield ();
      first = atomic_load (&other.n_rang) == before_other;
    }
  lanes_remove_bell (self->lanes, other.bell);
  close (other.fd);
}

typedef struct
{
  LaneTask task;
  _Atomic uint32_t runs, go_on, ended;
} Stuck;

static void
stuck_run (LaneTask *task, ThreadContext *thread)
{
  Stuck *stuck = (Stuck *) task;

  (void) thread;
  atomic_store (&stuck->runs, 1);
  while (!atomic_load (&stuck->go_on))
    futex_wait_until (&stuck->go_on, 0, monotonic_ns () + 100000000u);
  atomic_store (&stuck->ended, 1);
}

static void
wait_for (const _Atomic uint32_t *word)
{
  gint64 until = g_get_monotonic_time () + PATIENCE_US;

  while (!atomic_load (word))
    {
      g_assert_cmpint (g_get_monotonic_time (), <, until);
      g_thread_yield ();
    }
}

/* A cell that goes on is served by a task, and its handler may take long: another cell's only caller does not wait for that. */
static void
test_stuck (Belfry *self, gconstpointer data)
{
  Rig *rig = rig_new (CELL_SERIAL);
  Pair *pair = pair_new (rig, 16384, 16384);
  Stuck stuck = { .task = { .run = stuck_run } };

  (void) data;
  pair->caller->callee_bell = self->fd;
  lanes_add (self->lanes, self->bell, pair->callee);
  lanes_submit (self->lanes, &stuck.task);
  wait_for (&stuck.runs);
  g_assert_cmpint (call_token (pair->caller, ECHO, 1, 1, 0), ==, CELL_OK);
  atomic_store (&stuck.go_on, 1);
  futex_wake (&stuck.go_on, 1);
  wait_for (&stuck.ended);
  lanes_remove (self->lanes, pair->callee);
  pair_free (pair);
  rig_free (rig);
}

typedef struct
{
  LaneTask task;                /* first */
  Lanes *lanes;
  Stuck *first, *second;
} Both;

static void
submit_both (LaneTask *task, ThreadContext *thread)
{
  Both *both = (Both *) task;

  (void) thread;
  lanes_submit (both->lanes, &both->first->task);
  lanes_submit (both->lanes, &both->second->task);
}

/* Two tasks that come together: the second does not wait for a first that takes long. */
static void
test_two_tasks (Belfry *self, gconstpointer data)
{
  Stuck first = { .task = { .run = stuck_run } }, second = { .task = { .run = stuck_run }, .go_on = 1 };
  Both both = { { .run = submit_both }, self->lanes, &first, &second };

  (void) data;
  lanes_submit (self->lanes, &both.task);
  wait_for (&second.ended);
  g_assert_cmpuint (atomic_load (&first.runs), ==, 1);
  g_assert_cmpuint (atomic_load (&first.ended), ==, 0);
  atomic_store (&first.go_on, 1);
  futex_wake (&first.go_on, 1);
  wait_for (&first.ended);
}

/* Nor when nobody was awake, and both came with one wake-up. */
static void
test_two_at_once (Belfry *self, gconstpointer data)
{
  (void) data;
  for (unsigned i = 0; i < 20; i++)
    {
      Stuck first = { .task = { .run = stuck_run } }, second = { .task = { .run = stuck_run }, .go_on = 1 };

      lanes_submit (self->lanes, &first.task);
      lanes_submit (self->lanes, &second.task);
      wait_for (&second.ended);
      atomic_store (&first.go_on, 1);
      futex_wake (&first.go_on, 1);
      wait_for (&first.ended);
    }
}

/* What is refused is quick, and says nothing of the method that has the same bit. */
static void
test_refused (Belfry *self, gconstpointer data)
{
  Rig *rig = rig_new (CELL_SERIAL);
  Pair *pair = pair_new (rig, 16384, 16384);
  CallPlan plan = plan_of[HOLD];
  Token answer;

  (void) data;
  atomic_store (&rig->endpoint.slow, endpoint_slow_bit (HOLD));
  plan.number = HOLD + 64;
  call_plan_finish (&plan);
  pair->caller->callee_bell = self->fd;
  lanes_add (self->lanes, self->bell, pair->callee);
  for (unsigned i = 0; i < 3; i++)
    g_assert_cmpint (finish_token (pair->caller, start_token (pair->caller, &plan, 1, 0), &answer), ==, CELL_ERROR_NO_METHOD);
  g_assert_cmpuint (atomic_load (&rig->endpoint.slow), ==, endpoint_slow_bit (HOLD));
  lanes_remove (self->lanes, pair->callee);
  pair_free (pair);
  rig_free (rig);
}

#define ROUNDS 14u              /* with the first one less than it takes until the time is taken again */

static void
go_on (Rig *slow)
{
  atomic_fetch_add (&slow->let_go, 1);
  futex_wake (&slow->let_go, INT_MAX);
}

/* A call of a method that is known to take long is begun, and another cell's caller is served meanwhile. */
static void
call_beside (Pair *slow, Rig *slow_rig, Pair *quick, uint32_t round)
{
  uint64_t id = start_token (slow->caller, &plan_of[HOLD], 1, 0);
  Token answer;

  g_assert_true (wait_at_least (&slow_rig->holding, round));
  g_assert_cmpint (call_token (quick->caller, ECHO, 1, 0, 0), ==, CELL_OK);
  go_on (slow_rig);
  g_assert_cmpint (finish_token (slow->caller, id, &answer), ==, CELL_OK);
}

/* Nobody has to find out each time that the thread which polls is stuck: the others poll from the beginning. */
static void
test_slow (Belfry *self, gconstpointer data)
{
  Rig *quick_rig = rig_new (CELL_SERIAL), *slow_rig = rig_new (CELL_SERIAL);
  Pair *quick = pair_new (quick_rig, 16384, 16384), *slow = pair_new (slow_rig, 16384, 16384);
  uint32_t good = 0;

  if (g_str_equal (data, "job"))
    atomic_store (&slow_rig->endpoint.jobs, endpoint_slow_bit (HOLD));
  quick->caller->callee_bell = slow->caller->callee_bell = self->fd;
  lanes_add (self->lanes, self->bell, quick->callee);
  lanes_add (self->lanes, self->bell, slow->callee);
  /* Only the time of the first call is taken for certain, and this one takes until the thread that polls has been overtaken. */
  call_beside (slow, slow_rig, quick, 1);
  for (uint32_t i = 0; i < ROUNDS; i++)
    {
      uint32_t before = lanes_overtaken (self->lanes);

      call_beside (slow, slow_rig, quick, i + 2);
      good += lanes_overtaken (self->lanes) == before;
    }
  /* Without that there is none; on a busy machine somebody may be taken for stuck who has no processor. */
  g_assert_cmpuint (good, >, 0);
  lanes_remove (self->lanes, quick->callee);
  lanes_remove (self->lanes, slow->callee);
  pair_free (quick);
  pair_free (slow);
  rig_free (quick_rig);
  rig_free (slow_rig);
}

#define MANY 200u
#define BUSY 2u

typedef struct
{
  Pair *pair;
  _Atomic uint32_t stop, calls;
} Busy;

static gpointer
busy_main (gpointer data)
{
  Busy *busy = data;

  while (!atomic_load (&busy->stop))
    {
      g_assert_cmpint (call_token (busy->pair->caller, ECHO, 1, 0, 0), ==, CELL_OK);
      atomic_fetch_add (&busy->calls, 1);
    }
  return NULL;
}

typedef struct
{
  LaneTask task;                /* first */
  Lanes *lanes;
  _Atomic uint32_t stop, ended;
} Again;

static void
again_run (LaneTask *task, ThreadContext *thread)
{
  Again *again = (Again *) task;

  (void) thread;
  if (atomic_load (&again->stop))
    atomic_store (&again->ended, 1);
  else
    lanes_submit (again->lanes, task);
}

/* Many who call now and then beside some who call without a pause, and a task that comes again and again, so that the thread which
 * polls never rests: each is served. */
static void
test_many (Belfry *self, gconstpointer data)
{
  Rig *rig = rig_new (CELL_SERIAL);
  Pair *pairs[MANY];
  Busy busy[BUSY] = { 0 };
  Again again = { .task = { .run = again_run }, .lanes = self->lanes };
  GThread *threads[BUSY];

  (void) data;
  lanes_submit (self->lanes, &again.task);
  for (unsigned i = 0; i < MANY; i++)
    {
      pairs[i] = pair_new (rig, 4096, 4096);
      pairs[i]->caller->callee_bell = self->fd;
      lanes_add (self->lanes, self->bell, pairs[i]->callee);
    }
  for (unsigned i = 0; i < BUSY; i++)
    {
      busy[i].pair = pairs[i];
      threads[i] = g_thread_new ("busy", busy_main, &busy[i]);
      wait_for (&busy[i].calls);
    }
  for (unsigned i = BUSY; i < MANY; i++)
    g_assert_cmpint (call_token (pairs[i]->caller, ECHO, 2, 0, 0), ==, CELL_OK);
  for (unsigned i = 0; i < BUSY; i++)
    {
      atomic_store (&busy[i].stop, 1);
      g_thread_join (threads[i]);
    }
  atomic_store (&again.stop, 1);
  wait_for (&again.ended);
  for (unsigned i = 0; i < MANY; i++)
    {
      lanes_remove (self->lanes, pairs[i]->callee);
      pair_free (pairs[i]);
    }
  rig_free (rig);
}

/* Lanes that end while they are told of a cell leave nothing behind: a sanitizer would say so. */
static void
test_ends (void)
{
  Fault fault = { 0 };
  Epoch epoch = { 0 };

  for (unsigned i = 0; i < 200; i++)
    {
      Lanes *lanes = lanes_start (&fault);
      Endpoint *endpoint = endpoint_new (&epoch, CELL_CONCURRENT, lanes_kick_gate);

      endpoint_resume (endpoint, thread_context ());
      lanes_stop (lanes);
      endpoint_unref (endpoint);
    }
}

static void
add (const char *path, void (*test) (Belfry *self, gconstpointer data))
{
  g_test_add (path, Belfry, strrchr (path, '/') + 1, set_up, test, tear_down);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  add ("/lanes/vain", test_vain);
  add ("/lanes/honest", test_honest);
  add ("/lanes/several", test_several);
  add ("/lanes/shared", test_shared);
  add ("/lanes/stuck", test_stuck);
  add ("/lanes/tasks", test_two_tasks);
  add ("/lanes/tasks/at-once", test_two_at_once);
  add ("/lanes/many", test_many);
  add ("/lanes/refused", test_refused);
  add ("/lanes/slow/job", test_slow);
  add ("/lanes/slow/learnt", test_slow);
  g_test_add_func ("/lanes/ends", test_ends);
  return g_test_run ();
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The threads of the lanes: who polls, who watches, who sleeps.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

#include "lanes-own.h"

#define TICK_MS 1               /* a handler may keep the poller for one to two of these before another thread takes over */
#define IDLE_LOOKS 8192u        /* in vain at hot channels, while others are served, before each of them is to ring again */
#define VAIN_HANDOVERS 8u       /* then a channel is not believed any more */
#define SPIN_NS 100000u
#define SETTLE_LOOKS 1000u      /* at threads that begin; then nobody waits for them any more */
#define STAY_LOOKS 256u         /* looks at the only hot channel before the lock is taken again */

typedef struct
{
  Lanes *lanes;
  uint32_t number;
} LaneThread;

static Lanes *the_lanes;

/* ---- what is there to do --------------------------------------------------------------------------- */

/* Serving what comes next takes so long that others are not to wait for it: a hint, and nothing is lost when it is wrong.  A gate
 * that is held, or closed, sends whoever comes away at once. */
static bool
channel_is_slow (const Channel *channel)
{
  const RingReader *requests = &channel->requests;
  uint64_t slow = load_relaxed (&channel->endpoint->slow) | load_relaxed (&channel->endpoint->jobs);
  uint64_t at = load_relaxed (&requests->own->taken);
  const volatile Record *record = (const Record *) (requests->data + (at & requests->mask));

  return slow != 0 && load_relaxed (&channel->endpoint->gate.word) == 0
         && load_acquire (&record->sequence) == requests->salt + at && (slow & endpoint_slow_bit (record->method)) != 0;
}

/* What the poller does counts as progress; only the poller writes it, or one that is just being overtaken. */
static void
progressed (Lanes *lanes, uint32_t number)
{
  if (load_relaxed (&lanes->poller) == number)
    store_relaxed (&lanes->progress, load_relaxed (&lanes->progress) + 1);
}

static bool
has_tasks (const Lanes *lanes)
{
  return lanes->due != NULL || load_relaxed (&lanes->tasks) != NULL;
}

/* Whether the poller may stay with the one channel that it has: nobody wants anything else of it. */
static bool
may_stay (Lanes *lanes, uint32_t number)
{
  return load_relaxed (&lanes->n_hot) <= 1 && load_relaxed (&lanes->wanted) == 0 && load_relaxed (&lanes->tasks) == NULL
         && load_relaxed (&lanes->poller) == number && !load_relaxed (&lanes->stopping);
}

/* After something that was done without it. */
static void
lock_again (Lanes *lanes, uint32_t number)
{
  if (load_relaxed (&lanes->poller) == number)
    pthread_mutex_lock (&lanes->lock);
  else
    lanes_lock (lanes);
}

static void
let_others_lock (Lanes *lanes)
{
  while (load_relaxed (&lanes->wanted) != 0)
    {
      pthread_mutex_unlock (&lanes->lock);
      sched_yield ();
      pthread_mutex_lock (&lanes->lock);
    }
}

/* What came while this thread served the channel, and others left to it. */
static void
look_again (Lanes *lanes, Channel *channel)
{
  Entry *entry = channel_is_ready (channel) ? lanes_find (lanes, channel, NULL) : NULL;

  if (entry == NULL || entry->place != 0)
    return;
  lanes_make_hot (lanes, entry);
  if (load_relaxed (&lanes->poller) == NOBODY)
    lanes_ring (lanes);
}

/* Before something that takes long: whoever sleeps polls now, for all but this channel.  False: nobody sleeps. */
static bool
let_others_poll (Lanes *lanes, Entry *entry)
{
  if (lanes->spares == 0)
    return false;
  lanes_make_cold (lanes, entry);
  store_relaxed (&lanes->poller, NOBODY);
  if (lanes->n_hot > 0 || has_tasks (lanes))
    lanes_ring (lanes);
  return true;
}

/* After it.  If nobody was in need of a thread that polls, this one goes on. */
static void
come_back (Lanes *lanes, uint32_t number, Entry *entry, uint64_t left_at)
{
  entry->vain = monotonic_ns () - left_at < SLOW_NS ? entry->vain + 1 : 0;
  if (load_relaxed (&lanes->poller) != NOBODY)
    return;
  store_relaxed (&lanes->poller, number);
  lanes_make_hot (lanes, entry);
}

/* Its caller cannot go on while this thread looks for his next request, for he was on this processor last. */
static bool
waits_for_processor (const Channel *channel)
{
  return load_relaxed (&channel->answers.peer->cpu) == 1 + current_cpu ();
}

/* Without the lock.  alone: no other is hot, and the next request of this caller is looked for at once, without taking the lock in
 * between. */
static void
serve_channel (Lanes *lanes, uint32_t number, Channel *channel, ThreadContext *thread, bool alone)
{
  channel_serve_ready (channel, thread);
  progressed (lanes, number);
  alone = alone && !waits_for_processor (channel);
  for (unsigned looks = 0; alone && looks < STAY_LOOKS && may_stay (lanes, number); looks++)
    if (channel_is_ready (channel))
      {
        if (channel_is_slow (channel))
          break;
        channel_serve_ready (channel, thread);
        progressed (lanes, number);
        looks = 0;
      }
    else
      cpu_relax ();
}

/* Meanwhile the channel cannot be removed. */
static void
serve (Lanes *lanes, uint32_t number, Entry *entry, ThreadContext *thread)
{
  Channel *channel = channel_ref (entry->channel);
  bool alone = lanes->n_hot == 1 && lanes->due == NULL, slow = entry->vain < VAIN_HANDOVERS && channel_is_slow (channel);
  uint64_t left_at = slow && let_others_poll (lanes, entry) ? monotonic_ns () : 0;

  lanes->in_use[number] = channel;
  lanes->forgotten[number] = false;
  pthread_mutex_unlock (&lanes->lock);
  serve_channel (lanes, number, channel, thread, alone && left_at == 0);
  lock_again (lanes, number);
  lanes->in_use[number] = NULL;
  if (!lanes->forgotten[number])
    {
      if (left_at != 0)
        come_back (lanes, number, entry, left_at);
      look_again (lanes, channel);
      channel_unref (channel);          /* not the last: the entry has another */
      return;
    }
  pthread_mutex_unlock (&lanes->lock);
  channel_unref (channel);
  lock_again (lanes, number);
}

/* The one that has waited longest, or NULL. */
static LaneTask *
take_task (Lanes *lanes)
{
  LaneTask *task, *next;

  if (lanes->due == NULL && load_relaxed (&lanes->tasks) != NULL)
    for (task = atomic_exchange (&lanes->tasks, NULL); task != NULL; task = next)
      {
        next = task->next;
        task->next = lanes->due;
        lanes->due = task;
      }
  task = lanes->due;
  if (task != NULL)
    lanes->due = task->next;
  return task;
}

static void
ask_for_a_watch (Lanes *lanes)
{
  if (lanes->watched || lanes->spares == 0)
    return;
  lanes->watched = true;
  lanes_ring (lanes);
}

/* One at a time: it may take long, and then another thread runs the next. */
static bool
run_task (Lanes *lanes, uint32_t number, ThreadContext *thread)
{
  LaneTask *task = take_task (lanes);

  if (task == NULL)
    return false;
  lanes->in_task[number] = true;
  if (has_tasks (lanes))
    ask_for_a_watch (lanes);
  pthread_mutex_unlock (&lanes->lock);
  task->run (task, thread);
  lock_again (lanes, number);
  lanes->in_task[number] = false;
  return true;
}

/* Those that are looked at in vain would cost the others more than a ring costs their callers. */
static void
rest (Lanes *lanes, Entry *entry)
{
  if ((uint64_t) (lanes->round - entry->ready_at) * lanes->n_hot >= IDLE_LOOKS && lanes_make_cold (lanes, entry))
    lanes_make_hot (lanes, entry);
}

/* One round over the hot channels.  May have been overtaken when it returns. */
static bool
round_of_hot (Lanes *lanes, uint32_t number, ThreadContext *thread)
{
  bool any = false;
  uint32_t hand = lanes->hand++;

  for (unsigned i = 0; i < lanes->n_hot && load_relaxed (&lanes->poller) == number; i++)
    {
      Entry *entry = lanes->hot[(hand + i) % lanes->n_hot];

      if (!entry_is_ready (lanes, entry))
        {
          rest (lanes, entry);
          continue;
        }
      any = true;
      entry->ready_at = lanes->round;
      serve (lanes, number, entry, thread);
    }
  lanes->round += any;
  return any;
}

/* ---- sleeping ----------------------------------------------------------------------------------------- */

/* Makes all channels cold.  False: something has come, and there is no sleep yet. */
static bool
cool_down (Lanes *lanes)
{
  bool again = false;

  while (lanes->n_hot > 0)
    again |= lanes_make_cold (lanes, lanes->hot[0]);
  if (again)
    for (Bell *bell = lanes->bells; bell != NULL; bell = bell->next)
      for (Entry *entry = bell->entries; entry != NULL; entry = entry->next)
        if (entry_is_ready (lanes, entry))
          lanes_make_hot (lanes, entry);
  return lanes->n_hot == 0 && !has_tasks (lanes);
}

static uint32_t
spin_for (Lanes *lanes)
{
  if (processors () < 2 && lanes->n_hot == 0)
    return 0;
  for (unsigned i = 0; i < lanes->n_hot; i++)
    if (waits_for_processor (lanes->hot[i]->channel))
      return 0;
  return lanes->n_hot > 0 ? SPIN_NS : 0;
}

/* Whether a stuck poller would keep others waiting who ring no bell.  The one whose handler it is in may have been removed
 * meanwhile. */
static bool
is_to_be_watched (Lanes *lanes)
{
  uint32_t poller = load_relaxed (&lanes->poller);
  const Channel *served = poller != NOBODY ? lanes->in_use[poller] : NULL;

  return lanes->n_hot > 1 || (lanes->n_hot == 1 && served != NULL && lanes->hot[0]->channel != served)
         || (lanes->n_hot == 1 && poller != NOBODY && lanes->in_task[poller])
         || has_tasks (lanes);
}

/* False: a task has come, whose submitter may have seen that somebody polls. */
static bool
retire (Lanes *lanes, uint32_t number)
{
  atomic_store (&lanes->poller, NOBODY);
  if (atomic_load (&lanes->tasks) == NULL)
    return true;
  store_relaxed (&lanes->poller, number);
  return false;
}

/* Polls until there is nothing to do, another thread has taken over, or the end. */
static void
poll_lanes (Lanes *lanes, uint32_t number, ThreadContext *thread)
{
  uint64_t idle_since = 0;
  unsigned looks = 0;
  bool any;

  while (load_relaxed (&lanes->poller) == number && !load_relaxed (&lanes->stopping))
    {
      progressed (lanes, number);
      if (lanes->n_hot > 1)
        ask_for_a_watch (lanes);
      let_others_lock (lanes);
      any = run_task (lanes, number, thread);
      if (round_of_hot (lanes, number, thread) || any)
        {
          idle_since = 0;
          continue;
        }
      if (load_relaxed (&lanes->poller) != number)
        break;
      cpu_relax ();
      if ((++looks & 63) != 0 && idle_since != 0)
        continue;
      if (idle_since == 0)
        idle_since = monotonic_ns ();
      if (monotonic_ns () - idle_since < spin_for (lanes))
        continue;
      if (cool_down (lanes) && retire (lanes, number))
        break;
      idle_since = 0;
    }
}

/* ---- threads --------------------------------------------------------------------------------------------- */

static bool start_thread (Lanes *lanes);

/* Waits for bells, for so many milliseconds (-1: for ever), and hears those that rang. */
static void
hear (Lanes *lanes, int milliseconds)
{
  struct epoll_event events[16];
  int n;

  pthread_mutex_unlock (&lanes->lock);
  n = epoll_wait (lanes->epoll, events, 16, milliseconds);
  lanes_lock (lanes);
  for (int i = 0; i < n; i++)
    if (events[i].data.ptr == &lanes->timer)
      lanes_listen_again (lanes);
    else if (events[i].data.ptr != NULL)
      lanes_hear_bell (lanes, events[i].data.ptr);
}

/* While the poller is busy and others depend on it: if it is stuck in a handler this thread polls in its place.  Bells are heard,
 * too, for there may be nobody else. */
static void
watch (Lanes *lanes, uint32_t number)
{
  uint32_t seen = load_relaxed (&lanes->progress);
  uint64_t since = monotonic_ns ();

  atomic_store (&lanes->watching, 1);
  lanes->watched = true;
  while (is_to_be_watched (lanes) && load_relaxed (&lanes->poller) != NOBODY && !load_relaxed (&lanes->stopping))
    {
      if (load_relaxed (&lanes->progress) != seen)
        {
          seen = load_relaxed (&lanes->progress);
          since = monotonic_ns ();
        }
      else if (monotonic_ns () - since >= TICK_MS * 1000000ull)
        {
          atomic_fetch_add (&lanes->overtaken, 1);
          store_relaxed (&lanes->poller, number);
          break;
        }
      hear (lanes, TICK_MS);
    }
  atomic_store (&lanes->watching, 0);   /* what is submitted from now on is rung for; what was before is looked for next */
  full_fence ();
  lanes->watched = false;
}

/* Waits for a bell: all threads but the poller do, in one epoll, which wakes one of them for each ring.  It returns when this
 * thread polls, since none did or the one that did is stuck; or at the end. */
static void
wait_for_bell (Lanes *lanes, uint32_t number)
{
  lanes->spares++;
  while (load_relaxed (&lanes->poller) != number && !load_relaxed (&lanes->stopping))
    {
      if (!load_relaxed (&lanes->watching) && load_relaxed (&lanes->poller) != NOBODY && is_to_be_watched (lanes))
        watch (lanes, number);
      else
        {
          hear (lanes, -1);
          lanes->watched = load_relaxed (&lanes->watching);     /* whoever asked for it asks again */
        }
      if (load_relaxed (&lanes->poller) == NOBODY)
        store_relaxed (&lanes->poller, number);
    }
  lanes->spares--;
}

static void *
lane_main (void *data)
{
  LaneThread self = *(LaneThread *) data;
  Lanes *lanes = self.lanes;
  ThreadContext *thread;
  sigset_t all;

  free (data);
  sigfillset (&all);
  pthread_sigmask (SIG_BLOCK, &all, NULL);
  thread = thread_context ();           /* after that: see thread_begins */
  lanes_lock (lanes);
  while (!load_relaxed (&lanes->stopping))
    {
      wait_for_bell (lanes, self.number);
      if (lanes->spares == 0)
        start_thread (lanes);
      poll_lanes (lanes, self.number, thread);
    }
  pthread_mutex_unlock (&lanes->lock);
  lanes_ring (lanes);                    /* the next one */
  return NULL;
}

/* With the lock. */
static bool
start_thread (Lanes *lanes)
{
  LaneThread *thread;

  if (lanes->n_threads == THREADS_MAX || load_relaxed (&lanes->stopping) || (thread = malloc (sizeof *thread)) == NULL)
    return false;
  *thread = (LaneThread) { lanes, lanes->n_threads };
  if (pthread_create (&lanes->threads[lanes->n_threads], NULL, lane_main, thread) != 0)
    {
      free (thread);
      return false;
    }
  lanes->n_threads++;
  return true;
}

void
lanes_settle (Lanes *lanes)
{
  bool wait = true;

  for (unsigned i = 0; wait && i < SETTLE_LOOKS; i++)
    {
      lanes_lock (lanes);
      wait = lanes->spares + (load_relaxed (&lanes->poller) != NOBODY) < lanes->n_threads;
      pthread_mutex_unlock (&lanes->lock);
      if (wait)
        sched_yield ();
    }
}

void
lanes_run_on (Lanes *lanes, const cpu_set_t *set)
{
  lanes_lock (lanes);
  for (uint32_t i = 0; i < lanes->n_threads; i++)
    if (!pthread_equal (lanes->threads[i], pthread_self ()))
      pthread_setaffinity_np (lanes->threads[i], sizeof *set, set);
  pthread_mutex_unlock (&lanes->lock);
}

Lanes *
lanes_start (Fault *fault)
{
  Lanes *lanes = calloc (1, sizeof *lanes);
  struct epoll_event event = { .events = EPOLLIN | EPOLLET }, timer = { .events = EPOLLIN | EPOLLET, .data.ptr = &lanes->timer };
  bool started;

  if (lanes == NULL)
    return NULL;
  pthread_mutex_init (&lanes->lock, NULL);
  lanes->epoll = epoll_create1 (EPOLL_CLOEXEC);
  lanes->kick = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  lanes->timer = timerfd_create (CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  if (lanes->epoll < 0 || lanes->kick < 0 || lanes->timer < 0 || epoll_ctl (lanes->epoll, EPOLL_CTL_ADD, lanes->kick, &event) < 0
      || epoll_ctl (lanes->epoll, EPOLL_CTL_ADD, lanes->timer, &timer) < 0)
    {
      fault_set (fault, CELL_ERROR_NO_RESOURCES, "no descriptors for the serving threads: %s", strerror (errno));
      return NULL;
    }
  the_lanes = lanes;
  lanes_lock (lanes);
  started = start_thread (lanes) && start_thread (lanes);
  pthread_mutex_unlock (&lanes->lock);
  if (started)
    return lanes;
  fault_set (fault, CELL_ERROR_NO_RESOURCES, "no threads to serve with");
  return NULL;
}

uint32_t
lanes_overtaken (const Lanes *lanes)
{
  return load_relaxed (&lanes->overtaken);
}

static uint32_t
count_threads (Lanes *lanes)
{
  uint32_t n;

  lanes_lock (lanes);
  n = lanes->n_threads;
  pthread_mutex_unlock (&lanes->lock);
  return n;
}

static void
drop_tasks (Lanes *lanes)
{
  for (LaneTask *task = take_task (lanes); task != NULL; task = take_task (lanes))
    if (task->drop != NULL)
      task->drop (task);
}

void
lanes_stop (Lanes *lanes)
{
  atomic_store (&lanes->stopping, 1);
  lanes_ring (lanes);
  for (uint32_t i = 0; i < count_threads (lanes); i++)
    pthread_join (lanes->threads[i], NULL);
  if (the_lanes == lanes)
    the_lanes = NULL;
  drop_tasks (lanes);
  while (lanes->bells != NULL)
    lanes_remove_bell (lanes, lanes->bells);
  close (lanes->epoll);
  close (lanes->kick);
  close (lanes->timer);
  pthread_mutex_destroy (&lanes->lock);
  free (lanes->hot);
  free (lanes);
}

/* ---- tasks ---------------------------------------------------------------------------------------------------- */

void
lanes_submit (Lanes *lanes, LaneTask *task)
{
  task->next = load_relaxed (&lanes->tasks);
  while (!atomic_compare_exchange_weak (&lanes->tasks, &task->next, task))
    continue;
  /* Whoever polls looks for it, and another one looks whether he does: to wake that one for each task would cost more than it. */
  if (atomic_load (&lanes->poller) == NOBODY || !atomic_load (&lanes->watching))
    lanes_ring (lanes);
}

/* The cell may have ended before it runs. */
typedef struct
{
  LaneTask task;
  Endpoint *endpoint;           /* a reference */
} EndpointTask;

static void
endpoint_task_run (LaneTask *task, ThreadContext *thread)
{
  EndpointTask *self = (EndpointTask *) task;

  endpoint_continue (self->endpoint, thread);
  endpoint_unref (self->endpoint);
  free (self);
}

static void
endpoint_task_drop (LaneTask *task)
{
  endpoint_unref (((EndpointTask *) task)->endpoint);
  free (task);
}

void
lanes_kick_gate (Gate *gate)
{
  EndpointTask *task = malloc (sizeof *task);

  if (task == NULL || the_lanes == NULL)
    {
      free (task);
      return;                           /* a waiter's bounded look finds the gate */
    }
  *task = (EndpointTask) { { NULL, endpoint_task_run, endpoint_task_drop }, endpoint_ref (endpoint_of (gate)) };
  lanes_submit (the_lanes, &task->task);
}

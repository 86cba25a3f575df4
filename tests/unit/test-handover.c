/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A cell that moves while it is called: no accepted call is lost, repeated or reordered, and after a crash each one is answered.
 */
#define _GNU_SOURCE
#include "membrane-fixture.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define HALF_SIZE 16384u
#define CHANNELS 3

/* ---- a cell with two places to be ------------------------------------------------------------------------- */

/* Here, behind the rig's gate, or there: another endpoint over the same state, served by a poller, as another process would. */
typedef struct
{
  Rig *rig;
  Endpoint there;
  Service service;
  Channel *here_ends[CHANNELS];         /* the callers' channels, whose callee's ends are used when the cell is here */
  Channel *there_ends[CHANNELS];
  unsigned n;
  Poller poller;
  bool is_there;
  uint64_t generation;
} Mover;

static void
kick_nobody (Gate *gate)
{
  (void) gate;
}

static void
mover_init (Mover *mover, Rig *rig, Channel *const *channels, unsigned n)
{
  memset (mover, 0, sizeof *mover);
  mover->rig = rig;
  mover->n = n;
  memcpy (mover->here_ends, channels, n * sizeof *channels);
  gate_init (&mover->there.gate, kick_nobody);
  mover->there.epoch = rig->epoch;
  mover->there.threading = CELL_SERIAL;
  mover->service = rig->service;
  mover->service.endpoint = &mover->there;
  mover->there.service = &mover->service;
  for (unsigned i = 0; i < n; i++)
    endpoint_add (&rig->endpoint, channels[i]);
}

static Half *
fresh_half (void)
{
  Fault fault = { 0 };
  Half *half = half_new ("test-replies", HALF_SIZE, &fault);

  g_assert (half != NULL);
  return half;
}

/* Says that the consumer of a channel is a new one, from where the one before stopped. */
static void
hand_over (Channel *caller, Channel *from, Channel *to, bool crashed)
{
  Half *half = fresh_half ();
  MovedHalf *moved = calloc (1, sizeof *moved);

  g_assert (moved != NULL);
  *moved = (MovedHalf) {
    .half = half_ref (half), .final_taken = from->requests.at, .final_reply = from->answers.head, .crashed = crashed, .bell = -1,
  };
  channel_set_callee (to, half_ref (caller->caller_half), half, moved->final_taken, moved->final_reply);
  channel_moved (caller, moved);
}

static void
move_there (Mover *mover)
{
  ThreadContext *thread = thread_context ();

  g_assert_true (endpoint_stop (&mover->rig->endpoint, thread, monotonic_ns () + 10000000000u));
  for (unsigned i = 0; i < mover->n; i++)
    {
      mover->there_ends[i] = channel_new (&mover->there);
      hand_over (mover->here_ends[i], mover->here_ends[i], mover->there_ends[i], false);
    }
  endpoint_close (&mover->rig->endpoint);
  epoch_step (mover->rig, EPOCH_SERVING);
  poller_start (&mover->poller, mover->there_ends, mover->n);
  mover->is_there = true;
}

static void
move_here (Mover *mover)
{
  poller_stop (&mover->poller);
  for (unsigned i = 0; i < mover->n; i++)
    hand_over (mover->here_ends[i], mover->there_ends[i], mover->here_ends[i], false);
  epoch_step (mover->rig, EPOCH_SERVING);
  endpoint_resume (&mover->rig->endpoint, thread_context ());
  for (unsigned i = 0; i < mover->n; i++)
    channel_unref (mover->there_ends[i]);
  mover->is_there = false;
}

static void
mover_finish (Mover *mover)
{
  if (mover->is_there)
    move_here (mover);
  for (unsigned i = 0; i < mover->n; i++)
    endpoint_remove (&mover->rig->endpoint, mover->here_ends[i]);
}

/* ---- under load ------------------------------------------------------------------------------------------------ */

typedef struct
{
  Channel *channel;
  unsigned caller, n;
  uint64_t sent;
  _Atomic uint32_t finished;
  pthread_t thread;
} Caller;

static void *
caller_main (void *data)
{
  Caller *caller = data;

  caller->sent = mixed_calls (caller->channel, caller->caller, caller->n);
  atomic_store (&caller->finished, 1);
  return NULL;
}

static bool
any_calls (const Caller *callers, unsigned n)
{
  for (unsigned i = 0; i < n; i++)
    if (atomic_load (&callers[i].finished) == 0)
      return true;
  return false;
}

static uint64_t
n_echoes (Rig *rig)
{
  return atomic_load (&rig->stats[ECHO].calls);
}

static void
test_there_and_back (void)
{
  Rig *rig = rig_new (CELL_SERIAL);
  g_autoptr (GRand) random = g_rand_new_with_seed (g_test_rand_int ());
  Channel *channels[CHANNELS];
  Caller callers[CHANNELS];
  Mover mover;
  uint64_t sent = 0;
  unsigned n_moves = 0;

  for (unsigned i = 0; i < CHANNELS; i++)
    channels[i] = rig_channel (rig);
  mover_init (&mover, rig, channels, CHANNELS);
  for (unsigned i = 0; i < CHANNELS; i++)
    {
      callers[i] = (Caller) { .channel = channels[i], .caller = i + 1, .n = scaled (400000) };
      g_assert_cmpint (pthread_create (&callers[i].thread, NULL, caller_main, &callers[i]), ==, 0);
    }
  while (any_calls (callers, CHANNELS))
    {
      uint64_t until;

      if (mover.is_there)
        move_here (&mover);
      else
        move_there (&mover);
      n_moves++;
      until = n_echoes (rig) + (uint64_t) g_rand_int_range (random, 0, 600);
      while (any_calls (callers, CHANNELS) && n_echoes (rig) < until)
        sched_yield ();
    }
  for (unsigned i = 0; i < CHANNELS; i++)
    {
      pthread_join (callers[i].thread, NULL);
      g_assert_cmpuint (callers[i].sent, >, 0);
      sent += callers[i].sent;
    }
  g_test_message ("%u moves under %" G_GUINT64_FORMAT " calls", n_moves, sent);
  g_assert_cmpuint (n_moves, >, 10);
  mover_finish (&mover);
  g_assert_cmpuint (rig->disorder, ==, 0);
  g_assert_cmpuint (rig->executed, ==, sent);
  for (unsigned i = 0; i < CHANNELS; i++)
    channel_unref (channels[i]);
  rig_free (rig);
}

/* ---- by hand ---------------------------------------------------------------------------------------------------------- */

/* Consumers of one caller's channel, one after the other, none of them in this process as far as the caller knows. */
typedef struct
{
  Rig *rig;
  Pair *pair;                   /* its caller; pair->callee is the consumer of now */
  uint64_t ids[400];
  CellStatus expected[400];
  unsigned n;
} Line;

static void
line_init (Line *line, Rig *rig)
{
  memset (line, 0, sizeof *line);
  line->rig = rig;
  line->pair = pair_new (rig, 65536, HALF_SIZE);
}

static void
line_send (Line *line, unsigned method, unsigned n)
{
  for (; n > 0; n--)
    {
      line->ids[line->n] = start_token (line->pair->caller, &plan_of[method], 1, line->n + 1);
      line->expected[line->n] = CELL_OK;
      g_assert_cmpuint (line->ids[line->n], !=, 0);
      line->n++;
    }
}

/* A new consumer; the one before is gone. */
static void
line_move (Line *line, bool crashed)
{
  Channel *next = channel_new (&line->rig->endpoint);

  next->untrusted = true;
  hand_over (line->pair->caller, line->pair->callee, next, crashed);
  channel_unref (line->pair->callee);
  line->pair->callee = next;
  epoch_step (line->rig, EPOCH_SERVING);
}

static void
line_finish (Line *line)
{
  for (unsigned i = 0; i < line->n; i++)
    {
      Token token;

      g_assert_cmpint (finish_token (line->pair->caller, line->ids[i], &token), ==, line->expected[i]);
      if (line->expected[i] == CELL_OK)
        g_assert_cmpuint (token.sequence, ==, i + 1);
    }
  g_assert_cmpuint (line->pair->caller->n_pending, ==, 0);
  line->n = 0;
}

/* A caller that looks only now finds five moves, replies in each of the memories, and requests that nobody has taken. */
static void
test_several_moves (void)
{
  Rig *rig = rig_new (CELL_SERIAL);
  ThreadContext *thread = thread_context ();
  Line line;

  line_init (&line, rig);
  for (unsigned round = 0; round < 100; round++)
    {
      for (unsigned move = 0; move < 5; move++)
        {
          line_send (&line, ECHO, (round * 3 + move) % 8);
          if ((round + move) % 3 != 0)
            channel_serve_ready (line.pair->callee, thread);
          line_move (&line, (round + move) % 2 == 0);           /* a crash takes nothing but what was taken */
        }
      channel_serve_ready (line.pair->callee, thread);
      line_finish (&line);
      rig->next[1] = 0;
    }
  g_assert_cmpuint (rig->disorder, ==, 0);
  pair_free (line.pair);
  rig_free (rig);
}

/* Exactly the calls that were taken and not answered end as crashed. */
static void
test_crashed (void)
{
  Rig *rig = rig_new (CELL_SERIAL);
  ThreadContext *thread = thread_context ();

  for (unsigned round = 0; round < 60; round++)
    {
      Line line;

      line_init (&line, rig);
      rig->next[1] = 0;
      for (unsigned crash = 0; crash < 1 + round % 4; crash++)
        {
          unsigned first = line.n;

          line_send (&line, ECHO, round % 5);
          if (round % 7 != 0)
            line_send (&line, LATER, 1 + round % 2);
          line_send (&line, ECHO, round % 3);
          channel_serve_ready (line.pair->callee, thread);
          for (unsigned i = first + round % 5; i < line.n - round % 3; i++)
            line.expected[i] = CELL_ERROR_CRASHED;
          line_send (&line, ECHO, crash);       /* not taken: for the successor */
          if (round % 2 == 0)
            channel_drain (line.pair->caller, thread);
          line.pair->callee->broken = CELL_ERROR_GONE;  /* the dead say nothing */
          line_move (&line, true);
          deferred_end_all (&rig->service, CELL_ERROR_GONE, "");
          rig->n_kept = 0;
          channel_serve_ready (line.pair->callee, thread);
        }
      line_finish (&line);
      pair_free (line.pair);
    }
  g_assert_cmpuint (rig->disorder, ==, 0);
  rig_free (rig);
}

/* A move to a consumer whose memory is smaller than what its caller has not read yet. */
static void
test_smaller_memory (void)
{
  Rig *rig = rig_new (CELL_SERIAL);
  ThreadContext *thread = thread_context ();
  Pair *pair = pair_new (rig, 65536, 65536);
  Half *small;
  Fault fault = { 0 };
  MovedHalf *moved = calloc (1, sizeof *moved);
  Channel *next = channel_new (&rig->endpoint);
  uint64_t ids[300];

  for (unsigned i = 0; i < 150; i++)
    ids[i] = start_token (pair->caller, &plan_of[ECHO], 1, i + 1);
  channel_serve_ready (pair->callee, thread);
  small = half_new ("test-replies", 8192, &fault);
  g_assert (small != NULL && moved != NULL);
  *moved = (MovedHalf) { .half = half_ref (small), .final_taken = pair->callee->requests.at,
                         .final_reply = pair->callee->answers.head, .bell = -1 };
  g_assert_cmpuint (moved->final_reply, >, 8192);
  next->untrusted = true;
  channel_set_callee (next, half_ref (pair->requests), small, moved->final_taken, moved->final_reply);
  channel_moved (pair->caller, moved);
  epoch_step (rig, EPOCH_SERVING);
  /* The new one serves before the caller has looked. */
  for (unsigned i = 150; i < 180; i++)
    {
      Fault none = { 0 };
      Record *record = ring_reserve (&pair->caller->out, 64, &none);

      g_assert (record != NULL);
      *(Token *) record->payload = (Token) { .caller = 1, .sequence = i + 1 };
      record_set_head (record, &plan_of[ECHO].head, 100000 + i);
      ring_commit (&pair->caller->out, record, 64);
    }
  channel_serve_ready (next, thread);
  g_assert_cmpint (next->broken, ==, CELL_OK);
  g_assert_cmpuint (rig->next[1], ==, 180);
  for (unsigned i = 0; i < 150; i++)
    g_assert_cmpint (finish_token (pair->caller, ids[i], NULL), ==, CELL_OK);
  for (unsigned i = 180; i < 300; i++)
    {
      ids[i] = start_token (pair->caller, &plan_of[ECHO], 1, i + 1);
      channel_serve_ready (next, thread);
      g_assert_cmpint (finish_token (pair->caller, ids[i], NULL), ==, CELL_OK);
    }
  g_assert_cmpint (next->broken, ==, CELL_OK);
  g_assert_cmpuint (rig->disorder, ==, 0);
  channel_unref (next);
  pair_free (pair);
  rig_free (rig);
}

static void
note_status (const CellResult *result, void *data)
{
  *(CellStatus *) data = result->status;
}

/* What another process has answered is looked at as such, although the cell is in this one by the time that somebody asks for it.
 * data: a completion is called. */
static void
test_kept_reply (const void *data)
{
  Rig *rig = rig_new (CELL_SERIAL);
  ThreadContext *thread = thread_context ();
  CellStatus status = CELL_OK;
  LetterReply reply;
  Channel *caller, *callee;
  Record *record;
  uint64_t id;
  char *text;
  Line line;

  line_init (&line, rig);
  caller = line.pair->caller;
  callee = line.pair->callee;
  record = (Record *) (void *) (callee->answers.data + (callee->answers.head & callee->answers.mask));
  id = channel_start (caller, thread, letter_plan (), &(Letter) { 1, "spoilt" }, data != NULL ? note_status : NULL, &status, NULL);
  channel_serve_ready (callee, thread);
  text = memmem (record->payload, record->length, "spoilt", 6);
  g_assert (text != NULL);
  *text = '\xff';                       /* no UTF-8 */
  line_move (&line, false);
  channel_look (caller, thread);
  g_assert_false (caller->replies_untrusted);
  if (data != NULL)
    channel_dispatch (caller, thread);
  else
    {
      g_assert_true (channel_finish (caller, thread, id, NULL, &reply.result));
      status = reply.result.status;
      reply_free (&reply.result);
    }
  g_assert_cmpint (status, ==, CELL_ERROR_CORRUPT);
  pair_free (line.pair);
  rig_free (rig);
}

/* A call that the old consumer had taken is not said to be unexecuted because the new one's words are fresh. */
static void
test_give_up_after_a_move (void)
{
  Rig *rig = rig_new (CELL_SERIAL);
  ThreadContext *thread = thread_context ();
  CallPlan hurried = plan_with (ECHO, 20);
  Line line;
  TokenReply reply;
  uint64_t executed;

  line_init (&line, rig);
  line_send (&line, LATER, 1);
  channel_serve_ready (line.pair->callee, thread);
  line_move (&line, false);
  channel_drain (line.pair->caller, thread);
  /* Nobody serves: given up; marked, so that it is not run when somebody does. */
  executed = rig->executed;
  channel_call (line.pair->caller, thread, &hurried, &(Token) { .caller = 1, .sequence = 99 }, &reply.result);
  g_assert_cmpint (reply.result.status, ==, CELL_ERROR_DEADLINE);
  reply_free (&reply.result);
  channel_serve_ready (line.pair->callee, thread);
  g_assert_cmpuint (rig->executed, ==, executed);
  /* The kept one must not be marked: that record's space may be another's by now. */
  channel_cancel (line.pair->caller, line.ids[0]);
  g_assert_cmpuint (((Record *) line.pair->caller->out.data)->flags, ==, 0);
  pair_free (line.pair);
  rig_free (rig);
}

/* The end: what was taken is not known, what was not taken has nobody; all are told. */
static void
test_gone (void)
{
  Rig *rig = rig_new (CELL_SERIAL);
  MovedHalf *moved = calloc (1, sizeof *moved);
  Line line;

  g_assert (moved != NULL);
  line_init (&line, rig);
  line_send (&line, ECHO, 3);
  channel_serve_ready (line.pair->callee, thread_context ());
  line_send (&line, ECHO, 3);
  *moved = (MovedHalf) { .final_taken = line.pair->callee->requests.at, .final_reply = line.pair->callee->answers.head,
                         .bell = -1 };
  channel_moved (line.pair->caller, moved);
  epoch_step (rig, EPOCH_SERVING);
  for (unsigned i = 3; i < 6; i++)
    line.expected[i] = CELL_ERROR_GONE;
  line_finish (&line);
  g_assert_cmpint (call_token (line.pair->caller, ECHO, 1, 1, 0), ==, CELL_ERROR_GONE);
  pair_free (line.pair);
  rig_free (rig);
}

/* ---- who sleeps meanwhile ------------------------------------------------------------------------------------------------ */

typedef struct
{
  Channel *channel;
  _Atomic int32_t tid;
  CellStatus status;
  pthread_t thread;
} Sleeper;

static void *
sleeper_main (void *data)
{
  Sleeper *self = data;

  atomic_store (&self->tid, thread_id ());
  self->status = call_token (self->channel, ECHO, 1, 0, 0);
  return NULL;
}

/* A caller that sleeps while its cell is stopped is woken by the new epoch, and is served there. */
static void
test_sleeper_moves (void)
{
  Rig *rig = rig_new (CELL_SERIAL);
  Channel *channel = rig_channel (rig);
  Mover mover;

  mover_init (&mover, rig, &channel, 1);
  for (unsigned round = 0; round < 50; round++)
    {
      Sleeper sleeper = { .channel = channel };
      ThreadContext *thread = thread_context ();

      if (mover.is_there)
        poller_stop (&mover.poller);
      else
        g_assert_true (endpoint_stop (&rig->endpoint, thread, monotonic_ns () + 10000000000u));
      g_assert_cmpint (pthread_create (&sleeper.thread, NULL, sleeper_main, &sleeper), ==, 0);
      while (sleeper.tid == 0 || load_relaxed (&channel->caller_half->control->waiting) != WAITING_FUTEX)
        sched_yield ();
      wait_until_asleep (getpid (), sleeper.tid);
      if (mover.is_there)
        {
          poller_start (&mover.poller, mover.there_ends, 1);
          move_here (&mover);
        }
      else
        {
          mover.there_ends[0] = channel_new (&mover.there);
          hand_over (channel, channel, mover.there_ends[0], false);
          endpoint_close (&rig->endpoint);
          epoch_step (rig, EPOCH_SERVING);
          poller_start (&mover.poller, mover.there_ends, 1);
          mover.is_there = true;
        }
      pthread_join (sleeper.thread, NULL);
      g_assert_cmpint (sleeper.status, ==, CELL_OK);
    }
  mover_finish (&mover);
  channel_unref (channel);
  rig_free (rig);
}

/* ---- callers outside
 * ---------------------------------------------------------------------------------------------------------- */

static void
count_signal (Channel *channel, uint32_t number, uint64_t missed, Kept *signal, void *data)
{
  (void) channel;
  (void) number;
  (void) signal;
  *(uint64_t *) data += 1 + missed;
}

/* After a crash a caller in the host has the half that will be written to before he hears who it is that writes: what is in it by
 * then is read once. */
static void
test_told_twice (void)
{
  enum { SIGNALS = 20 };
  Rig *rig = rig_new (CELL_SERIAL);
  Pair *pair = pair_new (rig, 16384, HALF_SIZE);
  ThreadContext *thread = thread_context ();
  MovedHalf *again = calloc (1, sizeof *again);
  Channel *next = channel_new (&rig->endpoint);
  uint64_t heard = 0;

  g_assert (again != NULL);
  pair->caller->on_signal = count_signal;
  pair->caller->context = &heard;
  hand_over (pair->caller, pair->callee, next, true);
  channel_look (pair->caller, thread);
  *again = (MovedHalf) { .half = half_ref (next->answer_half), .generation = 7, .final_taken = next->requests.at,
                         .final_reply = next->answers.head, .bell = -1 };
  for (unsigned i = 0; i < SIGNALS; i++)
    g_assert_true (channel_send (next, RECORD_SIGNAL, 0, 0, CELL_OK, &(Token){ 0 }, sizeof (Token), sizeof (Token)));
  channel_moved (pair->caller, again);
  channel_look (pair->caller, thread);
  channel_dispatch (pair->caller, thread);
  g_assert_cmpuint (heard, ==, SIGNALS);
  g_assert_cmpuint (pair->caller->callee_generation, ==, 7);
  g_assert_cmpuint (pair->caller->replies.at, ==, next->answers.head);
  channel_unref (next);
  pair_free (pair);
  rig_free (rig);
}

#define MOVES_MAX 60

/* What the host says to a caller outside, as the connection would: which memory is next, and where the one before ended.  The
 * memory is made before the child is, and mapped by both. */
typedef struct
{
  _Atomic uint32_t n;
  struct { uint64_t final_taken, final_reply; bool crashed; } moves[MOVES_MAX];
} Log;

typedef struct
{
  Pair *pair;
  Half *halves[MOVES_MAX];
  Log *log;                     /* shared */
  unsigned seen;                /* by the caller */
  unsigned n;
  uint64_t *count;              /* shared */
} Outside;

static bool
look_at_log (Channel *channel)
{
  Outside *outside = channel->context;

  while (outside->seen < atomic_load (&outside->log->n))
    {
      MovedHalf *moved = calloc (1, sizeof *moved);
      unsigned i = outside->seen++;

      if (moved == NULL)
        return false;
      *moved = (MovedHalf) {
        .half = half_ref (outside->halves[i]), .final_taken = outside->log->moves[i].final_taken,
        .final_reply = outside->log->moves[i].final_reply, .crashed = outside->log->moves[i].crashed, .untrusted = true, .bell = -1,
      };
      channel_moved (channel, moved);
    }
  return true;
}

static void
outside_init (Outside *outside, Rig *rig)
{
  memset (outside, 0, sizeof *outside);
  outside->pair = pair_new (rig, 16384, HALF_SIZE);
  outside->log = shared_memory (sizeof (Log) + 64);
  outside->count = (uint64_t *) (outside->log + 1);
  for (unsigned i = 0; i < MOVES_MAX; i++)
    outside->halves[i] = fresh_half ();
  outside->pair->caller->look = look_at_log;
  outside->pair->caller->context = outside;
}

static void
outside_clear (Outside *outside)
{
  for (unsigned i = 0; i < MOVES_MAX; i++)
    half_unref (outside->halves[i]);
  munmap (outside->log, sizeof (Log) + 64);
  pair_free (outside->pair);
}

/* The next consumer of its requests, from these positions. */
static void
outside_move (Outside *outside, Rig *rig, uint64_t taken, uint64_t answered, bool crashed)
{
  unsigned i = atomic_load (&outside->log->n);
  Channel *next = channel_new (&rig->endpoint);

  g_assert_cmpuint (i, <, MOVES_MAX);
  next->untrusted = true;
  channel_set_callee (next, half_ref (outside->pair->requests), half_ref (outside->halves[i]), taken, answered);
  channel_unref (outside->pair->callee);
  outside->pair->callee = next;
  outside->log->moves[i].final_taken = taken;
  outside->log->moves[i].final_reply = answered;
  outside->log->moves[i].crashed = crashed;
  atomic_store (&outside->log->n, i + 1);
  epoch_step (rig, EPOCH_SERVING);
}

static int
outside_calls (void *data)
{
  Outside *outside = data;

  *outside->count = mixed_calls (outside->pair->caller, 2, outside->n);
  return *outside->count > 0 ? 0 : 1;
}

/* A process that calls while its cell moves; stopped in the middle, it delays neither the moves nor anybody else. */
static void
test_outside (void)
{
  Rig *rig = rig_new (CELL_SERIAL);
  Channel *local = rig_channel (rig);
  Outside outside;
  Poller poller;
  uint64_t sequence = 0;
  bool ended = false;
  pid_t pid;

  outside_init (&outside, rig);
  outside.n = scaled (600000);
  pid = child_start (outside_calls, &outside);
  poller_start (&poller, &outside.pair->callee, 1);
  for (unsigned move = 0; move < MOVES_MAX && !ended; move++)
    {
      int status = 0;
      bool stop = move % 10 == 3, go_on = move % 10 == 8;

      if (stop)
        {
          kill (pid, SIGSTOP);
          g_assert_cmpint (waitpid (pid, &status, WUNTRACED), ==, pid);
          ended = WIFEXITED (status);           /* it has made all of its calls: a fast machine */
          if (ended ? move < 10 || WEXITSTATUS (status) != 0 : !WIFSTOPPED (status))
            g_error ("the child ended with 0x%x after %u moves", (unsigned) status, move);
        }
      poller_stop (&poller);
      outside_move (&outside, rig, outside.pair->callee->requests.at, outside.pair->callee->answers.head, false);
      poller_start (&poller, &outside.pair->callee, 1);
      for (unsigned i = 0; i < 1000; i++)
        echo (local, 1, ++sequence);
      if (go_on)
        kill (pid, SIGCONT);
    }
  if (!ended)
    child_join (pid);
  poller_stop (&poller);
  g_assert_cmpuint (rig->disorder, ==, 0);
  g_assert_cmpuint (rig->next[2], ==, *outside.count);
  g_assert_cmpuint (rig->next[1], ==, sequence);
  outside_clear (&outside);
  channel_unref (local);
  rig_free (rig);
}

/* ---- consumers that die
 * ------------------------------------------------------------------------------------------------------------ */

typedef struct
{
  Outside *outside;
  Channel *callee;
} Dying;

/* A process that serves for ever. */
static int G_GNUC_NORETURN
consumer (void *data)
{
  Dying *dying = data;
  ThreadContext *thread = thread_context ();

  for (;;)
    {
      if (ring_peek (&dying->callee->requests) != NULL)
        channel_serve_ready (dying->callee, thread);
      else
        sched_yield ();
    }
}

typedef struct
{
  Outside *outside;
  _Atomic uint32_t stop, finished;
  uint64_t n_ok, n_crashed, n_other;
  pthread_t thread;
} Stream;

/* Keeps up to twenty calls open, and looks at how each one ends. */
static void *
stream_main (void *data)
{
  Stream *stream = data;
  Channel *caller = stream->outside->pair->caller;
  uint64_t ids[20];
  unsigned head = 0, tail = 0;

  while (!atomic_load (&stream->stop) || head != tail)
    {
      if (head - tail < 20 && !atomic_load (&stream->stop))
        {
          ids[head % 20] = channel_start (caller, thread_context (), &plan_of[ECHO],
                                          &(Token) { .caller = 60, .argument = { 0, 0, 0, 0, 1000 } }, NULL, NULL, NULL);
          if (ids[head % 20] == 0)
            {
              stream->n_other++;
              break;
            }
          head++;
          continue;
        }
      switch (finish_token (caller, ids[tail++ % 20], NULL))
        {
        case CELL_OK:
          stream->n_ok++;
          break;
        case CELL_ERROR_CRASHED:
          stream->n_crashed++;
          break;
        default:
          stream->n_other++;
        }
    }
  atomic_store (&stream->finished, 1);
  return NULL;
}

/* The consumer is a process that is killed, again and again, at any instruction.  Each call ends: with an answer, or as crashed,
 * and of a serial cell that keeps no calls a crash can have had only one. */
static void
test_killed_consumer (void)
{
  enum { KILLS = 50 };
  Rig *rig = rig_new (CELL_SERIAL);
  Outside outside;
  Stream stream = { .outside = &outside };
  g_autoptr (GRand) random = g_rand_new_with_seed (g_test_rand_int ());
  Half *replies;

  outside_init (&outside, rig);
  replies = outside.pair->replies;
  g_assert_cmpint (pthread_create (&stream.thread, NULL, stream_main, &stream), ==, 0);
  for (unsigned i = 0; i < KILLS; i++)
    {
      Dying dying = { .outside = &outside, .callee = outside.pair->callee };
      uint64_t start = outside.pair->callee->requests.at, until = start + (uint64_t) g_rand_int_range (random, 0, 200) * 128;
      uint64_t end, from, first_reply = outside.pair->callee->answers.head;
      pid_t pid = child_start (consumer, &dying);

      while (atomic_load (&replies->control->taken) < until)
        sched_yield ();
      /* Every other time while it is in a handler, as far as can be seen; requests and replies are of one size. */
      for (unsigned looks = 0; i % 2 == 0 && looks < 1000
           && atomic_load (&replies->control->taken) - start <= atomic_load (&replies->control->head) - first_reply; looks++)
        sched_yield ();
      kill (pid, SIGKILL);
      g_assert_cmpint (waitpid (pid, NULL, 0), ==, pid);
      /* Where its replies end is found from what its caller has not passed: its cursor, once that is in this memory. */
      from = MAX (atomic_load (&outside.pair->requests->control->released), outside.pair->callee->answers.head);
      end = half_end (replies, from);
      outside_move (&outside, rig, atomic_load (&replies->control->taken), end, true);
      replies = outside.halves[i];
    }
  /* The last consumer lives. */
  atomic_store (&stream.stop, 1);
  while (!atomic_load (&stream.finished))
    if (ring_peek (&outside.pair->callee->requests) != NULL)
      channel_serve_ready (outside.pair->callee, thread_context ());
    else
      sched_yield ();
  pthread_join (stream.thread, NULL);
  g_test_message ("%" G_GUINT64_FORMAT " answered, %" G_GUINT64_FORMAT " crashed under %d kills", stream.n_ok, stream.n_crashed,
                  KILLS);
  g_assert_cmpint (outside.pair->callee->broken, ==, CELL_OK);
  g_assert_cmpuint (stream.n_other, ==, 0);
  g_assert_cmpuint (stream.n_crashed, >, 0);
  g_assert_cmpuint (stream.n_crashed, <=, KILLS);
  g_assert_cmpuint (outside.pair->caller->n_pending, ==, 0);
  outside_clear (&outside);
  rig_free (rig);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/handover/there-and-back", test_there_and_back);
  g_test_add_func ("/handover/several-moves", test_several_moves);
  g_test_add_func ("/handover/told-twice", test_told_twice);
  g_test_add_func ("/handover/crashed", test_crashed);
  g_test_add_func ("/handover/smaller-memory", test_smaller_memory);
  g_test_add_data_func ("/handover/kept-reply", NULL, test_kept_reply);
  g_test_add_data_func ("/handover/kept-reply-of-a-completion", "completion", test_kept_reply);
  g_test_add_func ("/handover/give-up-after-a-move", test_give_up_after_a_move);
  g_test_add_func ("/handover/gone", test_gone);
  g_test_add_func ("/handover/sleeper-moves", test_sleeper_moves);
  g_test_add_func ("/handover/outside", test_outside);
  g_test_add_func ("/handover/killed-consumer", test_killed_consumer);
  return g_test_run ();
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Channels whose both ends are in this process: everything a call may be, and what must not happen between threads.
 */
#define _GNU_SOURCE
#include "membrane-fixture.h"

#include <sched.h>
#include <string.h>

#include "membrane/blob.h"
#include "membrane/result.h"

/* ---- one thread ---------------------------------------------------------------------------------------- */

static void
test_calls (void)
{
  Rig *rig = rig_new (CELL_SERIAL);
  Channel *channel = rig_channel (rig);
  CallPlan unknown = plan_of[ECHO];

  for (uint64_t i = 1; i <= 1000; i++)
    echo (channel, 1, i);
  g_assert_cmpuint (rig->executed, ==, 1000);
  for (unsigned i = 0; i < 500; i++)
    {
      CellResult result = { .status = -1 };

      channel_call (channel, thread_context (), &plan_of[NOTHING], NULL, &result);
      g_assert_cmpint (result.status, ==, CELL_OK);
    }
  unknown.number = unknown.head.method = 99;
  for (unsigned i = 1; i <= 300; i++)
    {
      Token token = { .sequence = i };
      TokenReply reply;
      g_autofree char *wanted = g_strdup_printf ("number %u is not liked", i);

      channel_call (channel, thread_context (), &plan_of[FAIL], &token, &reply.result);
      g_assert_cmpint (reply.result.status, ==, CELL_ERROR_FAILED);
      g_assert_cmpstr (reply.result.error, ==, "org.example.Test.NotLiked");
      g_assert_cmpstr (reply.result.message, ==, wanted);
      g_assert_cmpuint (reply.out.sequence, ==, 0);
      reply_free (&reply.result);
      channel_call (channel, thread_context (), &unknown, &token, &reply.result);
      g_assert_cmpint (reply.result.status, ==, CELL_ERROR_NO_METHOD);
      g_assert_cmpstr (reply.result.error, ==, "org.cellhost.Error.NoMethod");
      reply_free (&reply.result);
    }
  echo (channel, 1, 1001);
  g_assert_cmpuint (rig->disorder, ==, 0);
  g_assert_cmpuint (channel->n_pending, ==, 0);
  channel_unref (channel);
  rig_free (rig);
}

static CellStatus
send_letter (Channel *channel, uint64_t number, const char *text)
{
  LetterReply reply;
  CellStatus status;

  channel_call (channel, thread_context (), letter_plan (), &(Letter) { number, text }, &reply.result);
  status = reply.result.status;
  if (status == CELL_OK)
    {
      g_assert_cmpuint (reply.out.number, ==, number);
      g_assert_cmpstr (reply.out.text, ==, text);
    }
  reply_free (&reply.result);
  return status;
}

static void
test_letters (void)
{
  Rig *rig = rig_new (CELL_SERIAL);
  Channel *channel = rig_channel (rig);
  g_autofree char *text = g_malloc (40001);

  memset (text, 'x', 40000);
  text[40000] = 0;
  for (unsigned n = scaled (30000), length = 0; n > 0; n--, length = (length * 5 + 77) % 4000)
    {
      text[length] = 0;
      g_assert_cmpint (send_letter (channel, n, text), ==, CELL_OK);
      text[length] = 'x';
    }
  /* Over max_reply: an error of the callee's; over the ring: of the caller's; neither costs anybody else anything. */
  text[8000] = 0;
  g_assert_cmpint (send_letter (channel, 1, text), ==, CELL_ERROR_TOO_LARGE);
  text[8000] = 'x';
  g_assert_cmpint (send_letter (channel, 1, text), ==, CELL_ERROR_TOO_LARGE);
  g_assert_cmpint (send_letter (channel, 1, "\xff\xfe"), !=, CELL_OK);
  g_assert_cmpint (send_letter (channel, 1, "still there"), ==, CELL_OK);
  channel_unref (channel);
  rig_free (rig);
}

/* A reply ring that is smaller than max_reply limits replies; it stops nothing. */
static void
test_small_reply_ring (void)
{
  Rig *rig = rig_new (CELL_SERIAL);
  Channel *channel;
  g_autofree char *text = g_strnfill (6000, 'x');

  rig->methods[LETTER].max_reply = 20000;
  channel = rig_channel_sized (rig, CHANNEL_CAPACITY, 4096);
  for (unsigned i = 0; i < 100; i++)
    {
      g_assert_cmpint (send_letter (channel, i, "short"), ==, CELL_OK);
      g_assert_cmpint (send_letter (channel, i, text), ==, CELL_ERROR_TOO_LARGE);
    }
  channel_unref (channel);
  rig_free (rig);
}

/* Started calls, finished in any order, with synchronous and one-way ones between; executed in the order of sending. */
static void
test_pipelined (void)
{
  Rig *rig = rig_new (CELL_SERIAL);
  Channel *channel = rig_channel (rig);
  g_autoptr (GRand) random = g_rand_new_with_seed (g_test_rand_int ());
  uint64_t ids[90], sequences[90], sequence = 0;
  unsigned n = 0;

  for (unsigned round = scaled (100000); round > 0; round--)
    switch (g_rand_int_range (random, 0, 8))
      {
      case 0:
        echo (channel, 1, ++sequence);
        break;
      case 1:
        g_assert_cmpint (call_token (channel, NOTE, 1, ++sequence, 0), ==, CELL_OK);
        break;
      case 2: case 3: case 4:
        if (n == G_N_ELEMENTS (ids))
          break;
        sequences[n] = ++sequence;
        ids[n] = start_token (channel, &plan_of[ECHO], 1, sequence);
        g_assert_cmpuint (ids[n++], !=, 0);
        break;
      default:
        if (n > 0)
          {
            unsigned i = (unsigned) g_rand_int_range (random, 0, (int) n);
            Token token;

            g_assert_cmpint (finish_token (channel, ids[i], &token), ==, CELL_OK);
            g_assert_cmpuint (token.sequence, ==, sequences[i]);
            g_assert_cmpint (finish_token (channel, ids[i], NULL), ==, CELL_ERROR_GONE);
            ids[i] = ids[--n];
            sequences[i] = sequences[n];
          }
      }
  for (; n > 0; n--)
    g_assert_cmpint (finish_token (channel, ids[n - 1], NULL), ==, CELL_OK);
  g_assert_cmpuint (rig->disorder, ==, 0);
  g_assert_cmpuint (rig->executed, ==, sequence);
  g_assert_cmpuint (channel->n_pending, ==, 0);
  channel_unref (channel);
  rig_free (rig);
}

typedef struct
{
  uint64_t sequence;
  unsigned n_done, n_errors;
  CellStatus last;
  Channel *channel;             /* if not NULL: called again from the completion */
} Completions;

static void
on_done (const CellResult *result, void *data)
{
  Completions *completions = data;
  const Token *token = (const Token *) (result + 1);

  completions->n_done++;
  completions->last = result->status;
  if (result->status != CELL_OK)
    completions->n_errors++;
  else if (token->sequence != 0)
    g_assert_cmpuint (token->sequence, ==, ++completions->sequence);
  if (completions->channel != NULL)
    echo (completions->channel, 2, completions->n_done);
}

static unsigned n_notified;

static void
count_notify (Channel *channel)
{
  (void) channel;
  n_notified++;
}

static void
test_completions (void)
{
  Rig *rig = rig_new (CELL_SERIAL);
  Channel *channel = rig_channel (rig);
  ThreadContext *thread = thread_context ();
  Completions completions = { .channel = channel };
  uint64_t sequence = 0, id = 0;

  channel->notify = count_notify;
  for (unsigned round = 0; round < 200; round++)
    {
      unsigned n = 1 + round % 60;

      n_notified = 0;
      for (unsigned i = 0; i < n; i++)
        {
          Token token = { .caller = 1, .sequence = ++sequence };

          id = channel_start (channel, thread, &plan_of[ECHO], &token, on_done, &completions, NULL);
          g_assert_cmpuint (id, !=, 0);
        }
      g_assert_cmpuint (n_notified, >, 0);
      g_assert_cmpuint (channel_dispatch (channel, thread), ==, n);
      g_assert_cmpuint (completions.sequence, ==, sequence);
    }
  /* A completion that was cancelled after its answer had arrived is not run, and nothing is left of it. */
  id = channel_start (channel, thread, &plan_of[ECHO], &(Token) { .caller = 1, .sequence = ++sequence }, on_done, &completions,
                      NULL);
  channel_drain (channel, thread);
  channel_cancel (channel, id);
  n_notified = completions.n_done;
  channel_dispatch (channel, thread);
  g_assert_cmpuint (completions.n_done, ==, n_notified);
  g_assert_cmpuint (channel->n_pending, ==, 0);
  g_assert_cmpuint (rig->disorder, ==, 0);
  channel_unref (channel);
  rig_free (rig);
}

/* ---- a thread that is in the cell ------------------------------------------------------------------------- */

typedef struct
{
  Channel *channel;
  pthread_t thread;
  CellStatus status;
} Holder;

static void *
holder_main (void *data)
{
  Holder *holder = data;

  holder->status = call_token (holder->channel, HOLD, 0, 0, 0);
  return NULL;
}

static void
hold (Rig *rig, Holder *holder)
{
  uint32_t before = atomic_load (&rig->holding);

  holder->channel = rig_channel (rig);
  g_assert_cmpint (pthread_create (&holder->thread, NULL, holder_main, holder), ==, 0);
  g_assert_true (wait_at_least (&rig->holding, before + 1));
}

static void
let_go (Rig *rig, Holder *holder)
{
  atomic_fetch_add (&rig->let_go, 1);
  futex_wake (&rig->let_go, INT32_MAX);
  pthread_join (holder->thread, NULL);
  g_assert_cmpint (holder->status, ==, CELL_OK);
  channel_unref (holder->channel);
}

/* What is given up before it was taken is not executed; what was given up is forgotten. */
static void
test_cancel (void)
{
  Rig *rig = rig_new (CELL_SERIAL);
  Channel *channel = rig_channel (rig);
  uint64_t executed = 0;

  for (unsigned round = 0; round < 20; round++)
    {
      Holder holder;
      uint64_t ids[100];

      hold (rig, &holder);
      for (unsigned i = 0; i < 100; i++)
        ids[i] = start_token (channel, &plan_of[ECHO], 1, executed + i / 2 + 1);
      for (unsigned i = 0; i < 100; i += 2)
        channel_cancel (channel, ids[i]);
      g_assert_cmpuint (channel->n_pending, ==, 50);
      let_go (rig, &holder);
      for (unsigned i = 1; i < 100; i += 2)
        g_assert_cmpint (finish_token (channel, ids[i], NULL), ==, CELL_OK);
      executed += 50;
      g_assert_cmpuint (rig->executed, ==, executed);
      g_assert_cmpuint (channel->n_pending, ==, 0);
    }
  g_assert_cmpuint (rig->disorder, ==, 0);
  g_assert_cmpuint (channel->pending_mask, <, 512);
  channel_unref (channel);
  rig_free (rig);
}

/* Nobody reads an answer to what was given up: it leaves nothing behind that would stop what comes after it. */
static void
test_cancel_and_post (void)
{
  Rig *rig = rig_new (CELL_SERIAL);
  Channel *channel = rig_channel (rig);

  for (unsigned round = 0; round < 50; round++)
    {
      Holder holder;

      hold (rig, &holder);
      for (unsigned i = 0; i < 100; i++)
        channel_cancel (channel, start_token (channel, &plan_of[ECHO], 1, 1));
      let_go (rig, &holder);
      g_assert_cmpint (call_token (channel, NOTE, 1, round + 1, 0), ==, CELL_OK);
      g_assert_cmpuint (rig->executed, ==, round + 1);
    }
  channel_unref (channel);
  rig_free (rig);
}

/* Marked at the moment when it is taken: its caller has seen that it was too late and waits on, and is told that it would wait for
 * itself.  What a handler says of itself is not that. */
static void
test_cancel_too_late (void)
{
  Rig *rig = rig_new (CELL_SERIAL);
  Channel *channel = rig_channel (rig);
  Record *record;
  Holder holder;
  uint64_t id;

  hold (rig, &holder);
  record = (Record *) (channel->out.data + (channel->out.head & channel->out.mask));
  id = start_token (channel, &plan_of[ECHO], 1, 1);
  atomic_fetch_or (&record->flags, RECORD_CANCELLED);
  let_go (rig, &holder);
  g_assert_cmpint (finish_token (channel, id, NULL), ==, CELL_ERROR_DEADLOCK);
  g_assert_cmpuint (rig->executed, ==, 0);
  echo (channel, 1, 1);
  channel_unref (channel);
  rig_free (rig);
}

static void
test_deadline (void)
{
  Rig *rig = rig_new (CELL_SERIAL);
  Channel *channel = rig_channel (rig);
  CallPlan hurried = plan_with (ECHO, 30);
  TokenReply reply;
  Holder holder;

  hold (rig, &holder);
  for (unsigned i = 0; i < 3; i++)
    {
      channel_call (channel, thread_context (), &hurried, &(Token) { .caller = 1, .sequence = 7 }, &reply.result);
      g_assert_cmpint (reply.result.status, ==, CELL_ERROR_DEADLINE);
      g_assert_nonnull (strstr (reply.result.message, "not executed"));
      reply_free (&reply.result);
    }
  let_go (rig, &holder);
  echo (channel, 1, 1);
  g_assert_cmpuint (rig->executed, ==, 1);

  /* One that was taken and kept: nobody knows; its answer finds nobody. */
  hurried = plan_with (LATER, 30);
  channel_call (channel, thread_context (), &hurried, &(Token) { .caller = 1, .sequence = 2 }, &reply.result);
  g_assert_cmpint (reply.result.status, ==, CELL_ERROR_DEADLINE);
  g_assert_null (strstr (reply.result.message, "not executed"));
  reply_free (&reply.result);
  g_assert_cmpint (call_token (channel, ANSWER, 1, 0, 1), ==, CELL_OK);
  echo (channel, 1, 3);
  g_assert_cmpuint (channel->n_pending, ==, 0);
  g_assert_cmpuint (rig->disorder, ==, 0);
  channel_unref (channel);
  rig_free (rig);
}

/* Completions of calls that nobody waits for end in time, once. */
static void
test_expire (void)
{
  Rig *rig = rig_new (CELL_SERIAL);
  Channel *channel = rig_channel (rig), *other = rig_channel (rig);
  ThreadContext *thread = thread_context ();
  Completions completions = { 0 };
  CallPlan later = plan_with (LATER, 1000);
  uint64_t id;

  channel->notify = count_notify;
  channel_start (channel, thread, &later, &(Token) { 0 }, on_done, &completions, NULL);
  id = start_token (channel, &later, 0, 0);
  channel_expire (channel, thread, coarse_ms () + 500);
  g_assert_cmpuint (channel_dispatch (channel, thread), ==, 0);
  channel_expire (channel, thread, coarse_ms () + 2000);
  channel_expire (channel, thread, coarse_ms () + 2000);
  g_assert_cmpuint (channel_dispatch (channel, thread), ==, 1);
  g_assert_cmpint (completions.last, ==, CELL_ERROR_DEADLINE);
  g_assert_cmpint (call_token (other, ANSWER, 0, 0, 2), ==, CELL_OK);
  g_assert_cmpuint (rig->n_kept, ==, 0);
  channel_dispatch (channel, thread);
  g_assert_cmpuint (completions.n_done, ==, 1);
  g_assert_cmpint (finish_token (channel, id, NULL), ==, CELL_ERROR_DEADLINE);
  g_assert_cmpuint (channel->n_pending, ==, 0);
  g_assert_cmpuint (channel->reserved, ==, 0);
  channel_unref (channel);
  channel_unref (other);
  rig_free (rig);
}

/* ---- kept calls ------------------------------------------------------------------------------------------------- */

/* Answered later, in any order, from a handler on the same channel or on another. */
static void
test_kept (void)
{
  Rig *rig = rig_new (CELL_SERIAL);
  Channel *channel = rig_channel_sized (rig, CHANNEL_CAPACITY, 65536), *other = rig_channel (rig);
  uint64_t sequence = 0;

  for (unsigned round = 0; round < 300; round++)
    {
      uint64_t ids[8], first = sequence + 1;
      Channel *from = round % 2 ? channel : other;
      unsigned n = 1 + round % 8;

      for (unsigned i = 0; i < n; i++)
        ids[i] = start_token (channel, &plan_of[LATER], 1, ++sequence);
      g_assert_cmpuint (rig->n_kept, ==, n);
      echo (channel, 1, ++sequence);
      for (unsigned left = n; left > 0;)
        {
          Token token = { .argument = { 1 + round % 3, round % 5 } };
          TokenReply reply;

          channel_call (from, thread_context (), &plan_of[ANSWER], &token, &reply.result);
          g_assert_cmpint (reply.result.status, ==, CELL_OK);
          left -= MIN (left, 1 + round % 3);
          g_assert_cmpuint (rig->n_kept, ==, left);
        }
      for (unsigned i = n; i > 0; i--)
        {
          Token token;

          g_assert_cmpint (finish_token (channel, ids[i - 1], &token), ==, CELL_OK);
          g_assert_cmpuint (token.sequence, ==, first + i - 1);
          g_assert_cmpuint (token.argument[5], ==, 77);
        }
      g_assert_cmpuint (channel->reserved, ==, 0);
    }
  g_assert_cmpuint (rig->disorder, ==, 0);
  channel_unref (channel);
  channel_unref (other);
  rig_free (rig);
}

/* Whoever has a call kept and goes leaves nothing behind for long; who stays is answered. */
static void
test_kept_and_gone (void)
{
  Rig *rig = rig_new (CELL_SERIAL);
  Channel *stays = rig_channel (rig);
  uint64_t id = start_token (stays, &plan_of[LATER], 1, 1), last = 0;

  for (unsigned i = 0; i < 200; i++)
    {
      Channel *goes = rig_channel (rig);

      endpoint_add (&rig->endpoint, goes);
      start_token (goes, &plan_of[LATER], 2, i + 1);
      last = rig->kept[rig->n_kept - 1];
      endpoint_remove (&rig->endpoint, goes);
      channel_unref (goes);
      g_assert_cmpuint (deferred_count (&rig->service), <=, 10);
    }
  g_assert_nonnull (call_resume (&rig->service, last));
  g_assert_null (call_resume (&rig->service, rig->kept[1]));
  g_assert_cmpint (call_token (stays, ANSWER, 0, 0, rig->n_kept), ==, CELL_OK);
  g_assert_cmpint (finish_token (stays, id, NULL), ==, CELL_OK);
  g_assert_cmpuint (deferred_count (&rig->service), ==, 0);
  channel_unref (stays);
  rig_free (rig);
}

static CellStatus
keep_it (void *self, CellCall *call, const void *in, void *out)
{
  (void) self;
  (void) in;
  (void) out;
  return call_defer (call) != 0 ? CELL_DEFERRED : CELL_ERROR_NO_RESOURCES;
}

/* What nobody waits for has a limit, too. */
static void
test_kept_without_end (void)
{
  Rig *rig = rig_new (CELL_SERIAL);
  Channel *channel = rig_channel (rig);
  CallPlan plan = plan_of[NOTHING];
  unsigned n;

  plan.oneway = true;
  call_plan_finish (&plan);
  rig->methods[NOTHING].invoke = keep_it;
  for (n = 0; n < 100000 && deferred_count (&rig->service) == n; n++)
    channel_start (channel, thread_context (), &plan, NULL, NULL, NULL, NULL);
  g_assert_cmpuint (deferred_count (&rig->service), ==, 16384);
  g_assert_cmpuint (n, ==, 16385);
  channel_unref (channel);
  rig_free (rig);
}

static CellBlob *the_blob;

static CellStatus
keep_with_blobs (void *self, CellCall *call, const void *in, void *out)
{
  (void) self;
  (void) in;
  (void) out;
  for (unsigned i = 0; i < 3; i++)
    call_keep_blob (call, blob_ref (the_blob));
  return call_defer (call) != 0 ? CELL_DEFERRED : CELL_ERROR_NO_RESOURCES;
}

/* Each blob is a descriptor: of these there may be less. */
static void
test_kept_blobs (void)
{
  Rig *rig = rig_new (CELL_SERIAL);
  Channel *channel = rig_channel (rig), *other = rig_channel (rig);
  CallPlan plan = plan_of[NOTHING];
  Fault fault = { 0 };
  BlobPort port = { 0 };

  the_blob = blob_new (1, &fault);
  g_assert_nonnull (the_blob);
  plan.oneway = true;
  call_plan_finish (&plan);
  rig->methods[NOTHING].invoke = keep_with_blobs;
  for (unsigned n = 0; n < 1000; n++)
    channel_start (channel, thread_context (), &plan, NULL, NULL, NULL, NULL);
  /* One caller alone has half of the room, and leaves the rest to others. */
  g_assert_cmpuint (deferred_count (&rig->service), ==, 512 / 3);
  other->blobs = &port;
  for (unsigned n = 0; n < 1000; n++)
    channel_start (other, thread_context (), &plan, NULL, NULL, NULL, NULL);
  g_assert_cmpuint (deferred_count (&rig->service), ==, 512 / 3 + 256 / 3);
  /* Calls without any are kept all the same, and with room there is room for blobs. */
  rig->methods[NOTHING].invoke = keep_it;
  channel_start (channel, thread_context (), &plan, NULL, NULL, NULL, NULL);
  g_assert_cmpuint (deferred_count (&rig->service), ==, 512 / 3 + 256 / 3 + 1);
  deferred_end_all (&rig->service, CELL_ERROR_GONE, "");
  g_assert_cmpuint (rig->service.n_deferred_blobs, ==, 0);
  rig->methods[NOTHING].invoke = keep_with_blobs;
  channel_start (channel, thread_context (), &plan, NULL, NULL, NULL, NULL);
  g_assert_cmpuint (rig->service.n_deferred_blobs, ==, 3);
  channel_unref (other);
  channel_unref (channel);
  rig_free (rig);
  blob_unref (the_blob);
}

/* A cell that keeps calls and forgets them: when nobody waits for them any more others get the room that was promised to their
 * answers.  One that the cell has in its hands stays. */
static void
test_kept_too_long (void)
{
  Rig *rig = rig_new (CELL_SERIAL);
  Channel *channel = rig_channel (rig);
  CallPlan plan = plan_of[LATER];
  uint64_t ids[64];
  unsigned n = 0;

  plan.timeout = 1;
  call_plan_finish (&plan);
  while (n < G_N_ELEMENTS (ids) && rig->n_kept == n)
    {
      ids[n] = start_token (channel, &plan, 1, n + 1);
      n++;
    }
  g_assert_cmpuint (n, >, 2);
  g_assert_cmpuint (n, <, G_N_ELEMENTS (ids));  /* the last one waits for room */
  g_assert_nonnull (call_resume (&rig->service, rig->kept[0]));
  g_assert_cmpint (call_token (channel, ECHO, 1, 0, 0), ==, CELL_OK);
  for (unsigned i = 1; i < n - 1; i++)
    {
      g_assert_null (call_resume (&rig->service, rig->kept[i]));
      g_assert_cmpint (finish_token (channel, ids[i], NULL), ==, CELL_ERROR_DEADLINE);
    }
  g_assert_cmpint (call_token (channel, ANSWER, 0, 0, rig->n_kept), ==, CELL_OK);
  g_assert_cmpint (finish_token (channel, ids[0], NULL), ==, CELL_OK);
  g_assert_cmpint (finish_token (channel, ids[n - 1], NULL), ==, CELL_OK);
  g_assert_cmpuint (channel->reserved, ==, 0);
  g_assert_cmpuint (deferred_count (&rig->service), ==, 0);
  channel_unref (channel);
  rig_free (rig);
}

/* A kept call that waits for ever does not get in the way of a hundred thousand others. */
static void
test_one_stays_open (void)
{
  Rig *rig = rig_new (CELL_SERIAL);
  Channel *channel = rig_channel (rig);
  uint64_t id = start_token (channel, &plan_of[LATER], 0, 0), sequence = 0;

  for (unsigned n = scaled (150000); n > 0; n--)
    echo (channel, 1, ++sequence);
  g_assert_cmpuint (channel->pending_mask, <, 64);
  g_assert_cmpint (call_token (channel, ANSWER, 0, 0, 1), ==, CELL_OK);
  g_assert_cmpint (finish_token (channel, id, NULL), ==, CELL_OK);
  g_assert_cmpuint (channel->n_pending, ==, 0);
  channel_unref (channel);
  rig_free (rig);
}

/* Room for one reply: the channel is set aside when a kept call has it, goes on when that has been read, and nobody else
 * notices. */
static void
test_credits (void)
{
  Rig *rig = rig_new (CELL_SERIAL);
  Channel *channel = rig_channel_sized (rig, CHANNEL_CAPACITY, 8192), *other = rig_channel (rig);
  uint64_t ids[50], sequence = 0;

  for (unsigned i = 0; i < G_N_ELEMENTS (ids); i++)
    ids[i] = start_token (channel, &plan_of[LATER], 1, i + 1);
  for (unsigned i = 0; i < G_N_ELEMENTS (ids); i++)
    {
      g_assert_cmpuint (rig->next[1], ==, i + 1);       /* this one and not the next */
      g_assert_cmpuint (rig->n_kept, ==, 1);
      echo (other, 2, ++sequence);
      g_assert_cmpint (call_token (other, ANSWER, 0, 0, 1), ==, CELL_OK);
      g_assert_cmpint (finish_token (channel, ids[i], NULL), ==, CELL_OK);
    }
  g_assert_cmpuint (rig->disorder, ==, 0);
  g_assert_cmpuint (channel->reserved, ==, 0);
  channel_unref (channel);
  channel_unref (other);
  rig_free (rig);
}

/* What cannot be taken is refused when its time is up; what was accepted is answered. */
static void
test_busy (void)
{
  Rig *rig = rig_new (CELL_SERIAL);
  Channel *channel = rig_channel_sized (rig, 4096, 8192), *other = rig_channel (rig);
  CallPlan hurried = plan_with (LATER, 20);
  uint64_t ids[200];
  unsigned n = 0, n_busy = 0;

  while (n_busy < 5)
    {
      TokenReply reply = { 0 };
      uint64_t id;

      id = channel_start (channel, thread_context (), &hurried, &(Token) { .caller = 1, .sequence = n + 1 }, NULL, NULL,
                          &reply.result);
      if (id != 0)
        ids[n++] = id;
      else
        {
          g_assert_cmpint (reply.result.status, ==, CELL_ERROR_BUSY);
          n_busy++;
        }
      reply_free (&reply.result);
      g_assert_cmpuint (n, <, G_N_ELEMENTS (ids));
    }
  g_test_message ("%u accepted before it was busy", n);
  g_assert_cmpuint (n, ==, 1 + 4096 / 128);
  for (unsigned i = 0; i < n; i++)
    {
      Token token;

      g_assert_cmpint (call_token (other, ANSWER, 0, 0, 1), ==, CELL_OK);
      g_assert_cmpint (finish_token (channel, ids[i], &token), ==, CELL_OK);
      g_assert_cmpuint (token.sequence, ==, i + 1);
    }
  g_assert_cmpuint (rig->disorder, ==, 0);
  g_assert_cmpuint (channel->n_pending, ==, 0);
  channel_unref (channel);
  channel_unref (other);
  rig_free (rig);
}

/* A request with a blob that waits for room is written many times; the blob leaves once. */
static void
test_busy_with_a_blob (void)
{
  typedef struct { CellBlob *blob; const char *text; } Parcel;
  static const CellType blob_type = { .name = "blob", .kind = CELL_KIND_BLOB, .align = 8, .size = 8 };
  static const CellType str_type = { .name = "str", .kind = CELL_KIND_STR, .align = 8, .size = 8 };
  static const CellField rows[] = {
    { .name = "blob", .doc = "", .type = &blob_type, .offset = offsetof (Parcel, blob), .role = CELL_ROLE_FIELD },
    { .name = "text", .doc = "", .type = &str_type, .offset = offsetof (Parcel, text), .role = CELL_ROLE_FIELD },
  };
  Rig *rig = rig_new (CELL_SERIAL);
  Channel *channel = rig_channel_sized (rig, 4096, 8192);
  CodecPlan *plan = codec_plan_new (rows, G_N_ELEMENTS (rows), CELL_ROLE_FIELD, sizeof (Parcel), NULL);
  CallPlan parcel = { .args = plan, .number = LATER, .timeout = 20, .name = "parcel" }, later = plan_with (LATER, 20);
  g_autofree char *text = g_strnfill (3000, 'x');
  CellBlob *blob = blob_new (4096, NULL);
  TokenReply reply;

  call_plan_finish (&parcel);
  channel->blobs = blob_transit ();
  /* Half full: the root fits, the text does not. */
  for (unsigned i = 0; i < 16; i++)
    g_assert_cmpuint (start_token (channel, &later, 1, i + 1), !=, 0);
  g_assert_cmpuint (channel_start (channel, thread_context (), &parcel, &(Parcel) { blob, text }, NULL, NULL, &reply.result), ==,
                    0);
  g_assert_cmpint (reply.result.status, ==, CELL_ERROR_BUSY);
  reply_free (&reply.result);
  g_assert_cmpuint (blob_transit_bytes (), ==, 4096);
  blob_unref (blob);
  codec_plan_free (plan);
  channel_unref (channel);
  rig_free (rig);
}

static uint64_t
export_nothing (BlobPort *port, CellBlob *blob)
{
  (void) port;
  (void) blob;
  return 1;
}

static CellBlob *
import_nothing (BlobPort *port, uint64_t id)
{
  (void) port;
  (void) id;
  return NULL;
}

/* What was not fetched in time is nobody's lie: the call ends, and the channel goes on. */
static void
test_a_blob_that_is_gone (void)
{
  typedef struct { CellBlob *blob; } Picture;
  static const CellType blob_type = { .name = "blob", .kind = CELL_KIND_BLOB, .align = 8, .size = 8 };
  static const CellField rows[] = { { .name = "blob", .doc = "", .type = &blob_type, .role = CELL_ROLE_FIELD } };
  static BlobPort gone = { export_nothing, import_nothing };
  Rig *rig = rig_new (CELL_SERIAL);
  Channel *channel = rig_channel (rig);
  CodecPlan *plan = codec_plan_new (rows, G_N_ELEMENTS (rows), CELL_ROLE_FIELD, sizeof (Picture), NULL);
  CallPlan letter = { .args = plan, .number = NOTHING, .timeout = 10000, .name = "letter" };
  CellBlob *blob = blob_new (4096, NULL);
  TokenReply reply;

  call_plan_finish (&letter);
  rig->methods[NOTHING].in = plan;
  method_finish (&rig->methods[NOTHING], NOTHING);
  channel->blobs = &gone;
  for (unsigned i = 0; i < 2; i++)
    {
      channel->untrusted = i == 1;
      channel_call (channel, thread_context (), &letter, &(Picture) { blob }, &reply.result);
      g_assert_cmpint (reply.result.status, ==, CELL_ERROR_GONE);
      g_assert_nonnull (strstr (reply.result.message, "not there any more"));
      reply_free (&reply.result);
      g_assert_cmpint (channel->broken, ==, CELL_OK);
    }
  blob_unref (blob);
  codec_plan_free (plan);
  channel_unref (channel);
  rig_free (rig);
}

/* ---- signals --------------------------------------------------------------------------------------------------------- */

typedef struct
{
  uint64_t sequence, received, missed;
} Heard;

static void
on_signal (Channel *channel, uint32_t number, uint64_t missed, Kept *signal, void *data)
{
  Heard *heard = data;
  const Token *token = (const Token *) signal->payload;

  (void) channel;
  g_assert_cmpuint (number, ==, 3);
  g_assert_cmpuint (signal->length, ==, sizeof *token);
  heard->received++;
  heard->missed += missed;
  /* Everything before it was either heard or counted. */
  g_assert_cmpuint (token->sequence, ==, heard->sequence + missed + 1);
  heard->sequence = token->sequence;
}

static void
emit (Channel *through, uint64_t *sequence, unsigned n)
{
  TokenReply reply;

  channel_call (through, thread_context (), &plan_of[EMIT], &(Token) { .sequence = *sequence, .argument = { n } }, &reply.result);
  g_assert_cmpint (reply.result.status, ==, CELL_OK);
  *sequence = reply.out.sequence;
}

static void
test_signals (void)
{
  Rig *rig = rig_new (CELL_SERIAL);
  Channel *channel = rig_channel (rig), *other = rig_channel (rig);
  ThreadContext *thread = thread_context ();
  g_autoptr (GRand) random = g_rand_new_with_seed (g_test_rand_int ());
  uint64_t sequence = 0;
  Heard heard = { 0 };

  channel->on_signal = on_signal;
  channel->context = &heard;
  rig->subscribers[0] = channel;
  for (unsigned round = scaled (5000); round > 0; round--)
    switch (g_rand_int_range (random, 0, 5))
      {
      case 0:
        channel_dispatch (channel, thread);
        break;
      case 1:
        echo (channel, 1, 0);           /* drains, and dispatches nothing */
        g_assert_cmpuint (channel->n_signals_kept, <=, SIGNALS_KEPT_MAX);
        break;
      case 2:
        emit (channel, &sequence, (unsigned) g_rand_int_range (random, 0, 300));        /* while a reply is being built there */
        break;
      default:
        emit (other, &sequence, (unsigned) g_rand_int_range (random, 0, 300));
      }
  for (unsigned i = 0; i < 2; i++)
    {
      channel_dispatch (channel, thread);
      emit (other, &sequence, 1);       /* tells of what was missed last */
    }
  channel_dispatch (channel, thread);
  g_test_message ("%" G_GUINT64_FORMAT " sent, %" G_GUINT64_FORMAT " heard", sequence, heard.received);
  g_assert_cmpuint (heard.sequence, ==, sequence);
  /* More than are kept: the newest is, and nothing more has to be said for the gap to be known. */
  for (unsigned i = 0; i < 2 * SIGNALS_KEPT_MAX / 100; i++)
    {
      emit (other, &sequence, 100);
      echo (channel, 1, 0);
    }
  g_assert_cmpuint (channel->n_signals_kept, ==, SIGNALS_KEPT_MAX);
  channel_dispatch (channel, thread);
  g_assert_cmpuint (heard.sequence, ==, sequence);
  g_assert_cmpuint (heard.received + heard.missed, ==, sequence);
  g_assert_cmpuint (heard.missed, >, 0);
  /* Calls still have all the room that they were promised. */
  echo (channel, 1, 0);
  channel_unref (channel);
  channel_unref (other);
  rig_free (rig);
}

/* Nobody says anything more: the newest of what was said comes all the same as soon as there is room, and tells of the rest. */
static void
test_last_signal (gconstpointer data)
{
  Rig *rig = rig_new ((uint32_t) GPOINTER_TO_UINT (data));
  Channel *channel = rig_channel (rig), *other = rig_channel (rig);
  ThreadContext *thread = thread_context ();
  uint64_t sequence = 0;
  Heard heard = { 0 };

  channel->on_signal = on_signal;
  channel->context = &heard;
  rig->subscribers[0] = channel;
  for (unsigned round = 0; round < 20; round++)
    {
      emit (round % 2 == 0 ? other : channel, &sequence, 2000);
      while (channel_dispatch (channel, thread) > 0)
        continue;
      g_assert_cmpuint (heard.sequence, ==, sequence);
      g_assert_cmpuint (heard.received + heard.missed, ==, sequence);
      g_assert_cmpuint (load_relaxed (&channel->answers.own->blocked), ==, 0);
    }
  g_assert_cmpuint (heard.missed, >, 0);
  emit (other, &sequence, 2000);        /* one is left behind */
  channel_unref (channel);
  channel_unref (other);
  rig_free (rig);
}

/* ---- who waits for himself ---------------------------------------------------------------------------------------------- */

static void
test_self_call (void)
{
  Rig *rig = rig_new (CELL_SERIAL);
  Channel *channel = rig_channel (rig);

  rig->forward = rig_channel (rig);
  for (unsigned i = 0; i < 100; i++)
    {
      g_assert_cmpint (call_token (channel, FORWARD, 0, 0, i % 3), ==, CELL_ERROR_DEADLOCK);
      g_assert_cmpuint (rig->forward->n_pending, ==, 0);
      echo (channel, 1, i + 1);
    }
  g_assert_cmpuint (rig->disorder, ==, 0);
  channel_unref (rig->forward);
  channel_unref (channel);
  rig_free (rig);
}

typedef struct
{
  Channel *channel;
  pthread_t thread;
  pthread_barrier_t *barrier;
  unsigned rounds, steps;
  uint64_t n_ok, n_deadlock;
  CellStatus other;             /* the first that is neither */
} Forwarder;

static void *
forwarder_main (void *data)
{
  Forwarder *self = data;

  for (unsigned i = 0; i < self->rounds; i++)
    {
      CellStatus status;

      pthread_barrier_wait (self->barrier);
      status = call_token (self->channel, FORWARD, 0, 0, self->steps);
      self->n_ok += status == CELL_OK;
      self->n_deadlock += status == CELL_ERROR_DEADLOCK;
      if (self->other == CELL_OK && status != CELL_ERROR_DEADLOCK)
        self->other = status;
      pthread_barrier_wait (self->barrier);
    }
  return NULL;
}

/* n cells in a ring, each held by a thread that calls the next one: it is found out each time, by at least one, long before the
 * deadline of 20 s; and then all goes on.  between: the calls go through a concurrent cell, which nobody holds and the thread is
 * in. */
static void
check_cycle (unsigned n, bool between)
{
  Rig *rigs[4], *others[4];
  Forwarder forwarders[4];
  _Atomic uint32_t meet = 0;
  pthread_barrier_t barrier;
  unsigned rounds = scaled (2000);
  uint64_t n_deadlock = 0, n_ok = 0;

  pthread_barrier_init (&barrier, NULL, n + 1);
  for (unsigned i = 0; i < n; i++)
    {
      rigs[i] = rig_new (CELL_SERIAL);
      rigs[i]->meet = &meet;
    }
  for (unsigned i = 0; i < n; i++)
    {
      others[i] = between ? rig_new (CELL_CONCURRENT) : NULL;
      if (between)
        others[i]->forward = rig_channel (rigs[(i + 1) % n]);
      rigs[i]->forward = rig_channel (between ? others[i] : rigs[(i + 1) % n]);
      forwarders[i] = (Forwarder) { .channel = rig_channel (rigs[i]), .barrier = &barrier, .rounds = rounds, .steps = between };
      g_assert_cmpint (pthread_create (&forwarders[i].thread, NULL, forwarder_main, &forwarders[i]), ==, 0);
    }
  for (unsigned round = 0; round < rounds; round++)
    {
      for (unsigned i = 0; i < n; i++)
        rigs[i]->meet_at = (round + 1) * n;
      pthread_barrier_wait (&barrier);
      pthread_barrier_wait (&barrier);
    }
  for (unsigned i = 0; i < n; i++)
    {
      pthread_join (forwarders[i].thread, NULL);
      n_ok += forwarders[i].n_ok;
      n_deadlock += forwarders[i].n_deadlock;
      g_assert_cmpint (forwarders[i].other, ==, CELL_OK);
      echo (forwarders[i].channel, 1, 1);
      channel_unref (forwarders[i].channel);
    }
  g_test_message ("%u cells%s: %" G_GUINT64_FORMAT " refused, %" G_GUINT64_FORMAT " went through", n,
                  between ? " and others between" : "", n_deadlock, n_ok);
  g_assert_cmpuint (n_deadlock, >=, rounds);
  for (unsigned i = 0; i < n; i++)
    {
      channel_unref (rigs[i]->forward);
      rigs[i]->forward = NULL;
      if (between)
        channel_unref (others[i]->forward);
    }
  for (unsigned i = 0; i < n; i++)
    {
      rig_free (rigs[i]);
      if (between)
        rig_free (others[i]);
    }
  pthread_barrier_destroy (&barrier);
}

static void
test_cycles (void)
{
  for (unsigned n = 2; n <= 4; n++)
    {
      check_cycle (n, false);
      check_cycle (n, true);
    }
}

typedef struct
{
  Channel *channels[3];
  unsigned kind, n;
  uint64_t errors;
  pthread_t thread;
} Caller;

static void *
chain_main (void *data)
{
  Caller *self = data;

  for (unsigned i = 0; i < self->n; i++)
    {
      unsigned to = self->kind < 3 ? self->kind : i % 3;
      CellStatus status = self->kind < 2 ? call_token (self->channels[to], FORWARD, 0, 0, 1 - to)
                                         : call_token (self->channels[to], ECHO, 0, 0, 0);

      self->errors += status != CELL_OK;
    }
  return NULL;
}

/* Calls that only go down, A → B → C, can never wait for themselves, whatever threads go on with whatever gates. */
static void
test_no_false_deadlock (void)
{
  enum { THREADS = 5 };
  Rig *rigs[3];
  Caller callers[THREADS] = { 0 };

  for (unsigned i = 0; i < 3; i++)
    rigs[i] = rig_new (CELL_SERIAL);
  rigs[0]->forward = rig_channel (rigs[1]);
  rigs[1]->forward = rig_channel (rigs[2]);
  for (unsigned i = 0; i < THREADS; i++)
    {
      callers[i].kind = i;
      callers[i].n = scaled (60000);
      for (unsigned k = 0; k < 3; k++)
        callers[i].channels[k] = rig_channel (rigs[k]);
    }
  for (unsigned i = 0; i < THREADS; i++)
    g_assert_cmpint (pthread_create (&callers[i].thread, NULL, chain_main, &callers[i]), ==, 0);
  for (unsigned i = 0; i < THREADS; i++)
    {
      pthread_join (callers[i].thread, NULL);
      g_assert_cmpuint (callers[i].errors, ==, 0);
      for (unsigned k = 0; k < 3; k++)
        channel_unref (callers[i].channels[k]);
    }
  channel_unref (rigs[0]->forward);
  channel_unref (rigs[1]->forward);
  for (unsigned i = 0; i < 3; i++)
    rig_free (rigs[i]);
}

/* ---- who sleeps ------------------------------------------------------------------------------------------------------------ */

typedef struct
{
  Channel *channel;
  unsigned method;
  _Atomic uint32_t started;
  pid_t tid;
  CellStatus status;
  pthread_t thread;
} Sleeper;

static void *
sleeper_main (void *data)
{
  Sleeper *self = data;

  self->tid = thread_id ();
  atomic_store (&self->started, 1);
  self->status = call_token (self->channel, self->method, 0, 0, 0);
  return NULL;
}

static void
sleeper_start (Sleeper *sleeper, Channel *channel, unsigned method)
{
  *sleeper = (Sleeper) { .channel = channel, .method = method };
  g_assert_cmpint (pthread_create (&sleeper->thread, NULL, sleeper_main, sleeper), ==, 0);
  while (!atomic_load (&sleeper->started) || load_relaxed (&channel->caller_half->control->waiting) != WAITING_FUTEX)
    sched_yield ();
  wait_until_asleep (getpid (), sleeper->tid);
}

/* Whoever sleeps in a call watches the next reply, the epoch and the gate, and is woken by each. */
static void
test_sleepers (void)
{
  Rig *rig = rig_new (CELL_SERIAL);
  Channel *channel = rig_channel (rig), *other = rig_channel (rig);
  Sleeper sleeper;
  Holder holder;
  unsigned n_seen = 0;

  for (unsigned round = 0; round < 20; round++)
    {
      /* by an answer */
      sleeper_start (&sleeper, channel, LATER);
      if (sleeps_on (sleeper.tid, ring_next_word (&channel->replies)))
        {
          g_assert_true (sleeps_on (sleeper.tid, &rig->endpoint.gate.turn));
          g_assert_true (sleeps_on (sleeper.tid, &rig->epoch->word));
          n_seen++;
        }
      g_assert_cmpint (call_token (other, ANSWER, 0, 0, 1), ==, CELL_OK);
      pthread_join (sleeper.thread, NULL);
      g_assert_cmpint (sleeper.status, ==, CELL_OK);
      /* by whoever held the gate */
      hold (rig, &holder);
      sleeper_start (&sleeper, channel, ECHO);
      let_go (rig, &holder);
      pthread_join (sleeper.thread, NULL);
      g_assert_cmpint (sleeper.status, ==, CELL_OK);
    }
  g_test_message ("saw the words of %u sleepers", n_seen);
  /* by the end of the cell */
  sleeper_start (&sleeper, channel, LATER);
  epoch_step (rig, EPOCH_DEAD);
  pthread_join (sleeper.thread, NULL);
  g_assert_cmpint (sleeper.status, ==, CELL_ERROR_GONE);
  g_assert_cmpint (call_token (channel, ECHO, 0, 0, 0), ==, CELL_ERROR_GONE);
  g_assert_cmpuint (rig->endpoint.gate.sleepers, ==, 0);
  channel_unref (channel);
  channel_unref (other);
  rig_free (rig);
}

/* The gate is passed on to a waiter that sleeps and has its answer already: it goes on with the gate all the same. */
static void
test_passed_to_one_that_leaves (void)
{
  enum { OTHERS = 150 };
  Rig *rig = rig_new (CELL_SERIAL);
  Channel *channel = rig_channel (rig), *others[OTHERS];
  uint64_t ids[OTHERS];
  Sleeper sleeper;
  Holder holder;

  for (unsigned i = 0; i < OTHERS; i++)
    others[i] = rig_channel_sized (rig, 4096, 8192);
  for (unsigned round = 0; round < scaled (200); round++)
    {
      hold (rig, &holder);
      /* The first in the list; so it is answered at once, and woken; 64 later the gate is passed on, to it. */
      sleeper_start (&sleeper, channel, ECHO);
      for (unsigned i = 0; i < OTHERS; i++)
        ids[i] = start_token (others[i], &plan_of[ECHO], 0, 0);
      let_go (rig, &holder);
      pthread_join (sleeper.thread, NULL);
      g_assert_cmpint (sleeper.status, ==, CELL_OK);
      /* Nobody waits for these: only those who were woken or kicked can have served them. */
      for (unsigned i = 0; i < OTHERS; i++)
        {
          uint64_t until = monotonic_ns () + 10000000000u;

          while (ring_peek (&others[i]->replies) == NULL)
            {
              g_assert_cmpuint (monotonic_ns (), <, until);
              sched_yield ();
            }
        }
      for (unsigned i = 0; i < OTHERS; i++)
        g_assert_cmpint (finish_token (others[i], ids[i], NULL), ==, CELL_OK);
    }
  g_test_message ("kicked %u times", rig->kicks);
  for (unsigned i = 0; i < OTHERS; i++)
    channel_unref (others[i]);
  channel_unref (channel);
  rig_free (rig);
}

/* ---- many
 * ---------------------------------------------------------------------------------------------------------------------- */

typedef struct
{
  Rig *rig;
  Channel *channel;
  unsigned caller, n;
  uint64_t sent;
  pthread_t thread;
} Worker;

static void *
mixed_main (void *data)
{
  Worker *self = data;

  self->sent = mixed_calls (self->channel, self->caller, self->n);
  g_assert_cmpuint (self->sent, >, 0);
  return NULL;
}

#define WORKERS 4

static void
test_threads (void)
{
  Rig *rig = rig_new (CELL_SERIAL);
  Worker workers[WORKERS];
  uint64_t sent = 0;

  for (unsigned i = 0; i < WORKERS; i++)
    {
      workers[i] = (Worker) { .rig = rig, .channel = rig_channel (rig), .caller = i + 1, .n = scaled (250000) };
      g_assert_cmpint (pthread_create (&workers[i].thread, NULL, mixed_main, &workers[i]), ==, 0);
    }
  for (unsigned i = 0; i < WORKERS; i++)
    {
      pthread_join (workers[i].thread, NULL);
      sent += workers[i].sent;
      channel_unref (workers[i].channel);
    }
  g_assert_cmpuint (rig->disorder, ==, 0);
  g_assert_cmpuint (rig->executed, ==, sent);
  g_assert_cmpuint (rig->endpoint.gate.word, ==, 0);
  rig_free (rig);
}

/* Sends what the rings hold and reads nothing.  Returns how many were accepted. */
static unsigned
flood (Channel *channel, unsigned caller)
{
  Fault fault = { 0 };
  Record *record;
  unsigned n = 0;

  while ((record = ring_reserve (&channel->out, sizeof (Token), &fault)) != NULL)
    {
      *(Token *) record->payload = (Token) { .caller = caller, .sequence = ++n };
      record_set_head (record, &plan_of[ECHO].head, n);
      ring_commit (&channel->out, record, sizeof (Token));
      channel_kick (channel, thread_context ());
    }
  g_assert_cmpint (fault.status, ==, CELL_OK);
  return n;
}

/* A caller that never reads its replies is set aside: nobody serves more of it than fits, others go on as ever, and when it reads
 * at last it finds everything that was accepted, in order. */
static void
test_never_reads (void)
{
  Rig *rig = rig_new (CELL_SERIAL);
  Channel *lazy = rig_channel (rig);
  ThreadContext *thread = thread_context ();
  Worker workers[WORKERS];
  unsigned accepted = flood (lazy, 60), answered = 0;
  uint64_t served = rig->next[60];

  g_assert_cmpuint (served, >, 0);
  g_assert_cmpuint (served, <, accepted);
  for (unsigned i = 0; i < WORKERS; i++)
    {
      workers[i] = (Worker) { .rig = rig, .channel = rig_channel (rig), .caller = i + 1, .n = scaled (50000) };
      g_assert_cmpint (pthread_create (&workers[i].thread, NULL, mixed_main, &workers[i]), ==, 0);
    }
  for (unsigned i = 0; i < 1000; i++)
    {
      g_assert_cmpuint (flood (lazy, 60), ==, 0);
      channel_kick (lazy, thread);
    }
  for (unsigned i = 0; i < WORKERS; i++)
    {
      pthread_join (workers[i].thread, NULL);
      channel_unref (workers[i].channel);
    }
  g_assert_cmpuint (rig->next[60], ==, served);
  while (answered < accepted)
    {
      Record *reply = ring_peek (&lazy->replies);

      if (reply == NULL)
        {
          channel_kick (lazy, thread);
          reply = ring_peek (&lazy->replies);
        }
      g_assert (reply != NULL);
      g_assert_cmpuint (reply->id, ==, ++answered);
      g_assert_cmpint (reply->status, ==, CELL_OK);
      ring_take (&lazy->replies, reply->length);
      ring_release (&lazy->replies);
    }
  g_assert_cmpuint (rig->next[60], ==, accepted);
  g_assert_cmpuint (rig->disorder, ==, 0);
  channel_unref (lazy);
  rig_free (rig);
}

/* ---- concurrent cells
 * --------------------------------------------------------------------------------------------------------------- */

/* Closing waits for nobody who comes, and sees everybody out. */
static void
test_concurrent (void)
{
  Rig *rig = rig_new (CELL_CONCURRENT);
  Worker workers[WORKERS];
  ThreadContext *thread = thread_context ();
  unsigned n_stops = 0;
  bool busy = true;

  for (unsigned i = 0; i < WORKERS; i++)
    {
      workers[i] = (Worker) { .rig = rig, .channel = rig_channel (rig), .caller = i + 1, .n = scaled (100000) };
      endpoint_add (&rig->endpoint, workers[i].channel);
      g_assert_cmpint (pthread_create (&workers[i].thread, NULL, mixed_main, &workers[i]), ==, 0);
    }
  for (; busy; n_stops++)
    {
      uint64_t calls;

      busy = false;
      for (unsigned i = 0; i < WORKERS; i++)
        busy |= atomic_load (&rig->stats[ECHO].calls) + atomic_load (&rig->stats[NOTE].calls) < (uint64_t) WORKERS * workers[0].n;
      g_assert_true (endpoint_stop (&rig->endpoint, thread, monotonic_ns () + 10000000000u));
      g_assert_cmpuint (rig->inside, ==, 0);
      calls = atomic_load (&rig->stats[ECHO].calls);
      sched_yield ();
      g_assert_cmpuint (rig->inside, ==, 0);
      g_assert_cmpuint (atomic_load (&rig->stats[ECHO].calls), ==, calls);
      endpoint_resume (&rig->endpoint, thread);
    }
  g_test_message ("stopped %u times", n_stops);
  for (unsigned i = 0; i < WORKERS; i++)
    {
      pthread_join (workers[i].thread, NULL);
      g_assert_cmpuint (rig->next[i + 1], ==, workers[i].sent);
      endpoint_remove (&rig->endpoint, workers[i].channel);
      channel_unref (workers[i].channel);
    }
  g_assert_cmpuint (rig->disorder, ==, 0);
  rig_free (rig);
}

/* A thread that comes back to a concurrent cell through a channel that it is serving would wait for itself. */
static void
test_concurrent_recursion (void)
{
  Rig *rig = rig_new (CELL_CONCURRENT);
  Channel *channel = rig_channel (rig);

  rig->forward = rig_channel (rig);
  for (unsigned i = 0; i < 50; i++)
    {
      g_assert_cmpint (call_token (channel, FORWARD, 0, 0, 0), ==, CELL_OK);
      g_assert_cmpint (call_token (channel, FORWARD, 0, 0, 1), ==, CELL_ERROR_DEADLOCK);
    }
  channel_unref (rig->forward);
  channel_unref (channel);
  rig_free (rig);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/channel/calls", test_calls);
  g_test_add_func ("/channel/letters", test_letters);
  g_test_add_func ("/channel/small-reply-ring", test_small_reply_ring);
  g_test_add_func ("/channel/pipelined", test_pipelined);
  g_test_add_func ("/channel/completions", test_completions);
  g_test_add_func ("/channel/cancel", test_cancel);
  g_test_add_func ("/channel/cancel-and-post", test_cancel_and_post);
  g_test_add_func ("/channel/cancel-too-late", test_cancel_too_late);
  g_test_add_func ("/channel/deadline", test_deadline);
  g_test_add_func ("/channel/expire", test_expire);
  g_test_add_func ("/channel/kept", test_kept);
  g_test_add_func ("/channel/kept-and-gone", test_kept_and_gone);
  g_test_add_func ("/channel/kept-without-end", test_kept_without_end);
  g_test_add_func ("/channel/kept-blobs", test_kept_blobs);
  g_test_add_func ("/channel/kept-too-long", test_kept_too_long);
  g_test_add_func ("/channel/one-stays-open", test_one_stays_open);
  g_test_add_func ("/channel/credits", test_credits);
  g_test_add_func ("/channel/busy", test_busy);
  g_test_add_func ("/channel/busy-with-a-blob", test_busy_with_a_blob);
  g_test_add_func ("/channel/a-blob-that-is-gone", test_a_blob_that_is_gone);
  g_test_add_func ("/channel/signals", test_signals);
  g_test_add_data_func ("/channel/signals/last", GUINT_TO_POINTER (CELL_SERIAL), test_last_signal);
  g_test_add_func ("/channel/self-call", test_self_call);
  g_test_add_func ("/channel/cycles", test_cycles);
  g_test_add_func ("/channel/no-false-deadlock", test_no_false_deadlock);
  g_test_add_func ("/channel/sleepers", test_sleepers);
  g_test_add_func ("/channel/passed-to-one-that-leaves", test_passed_to_one_that_leaves);
  g_test_add_func ("/channel/threads", test_threads);
  g_test_add_func ("/channel/never-reads", test_never_reads);
  g_test_add_func ("/channel/concurrent", test_concurrent);
  g_test_add_func ("/channel/concurrent-recursion", test_concurrent_recursion);
  return g_test_run ();
}

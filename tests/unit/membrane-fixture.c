/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include "membrane-fixture.h"

#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "slow.h"

/* ---- plans ------------------------------------------------------------------------------------- */

static CodecPlan token_plan;

static const CellType type_u64 = { .name = "u64", .kind = CELL_KIND_UINT, .align = 8, .size = 8 };
static const CellType type_str = { .name = "str", .kind = CELL_KIND_STR, .align = 8, .size = 8 };
static const CellField letter_rows[] = {
  { .name = "number", .doc = "", .type = &type_u64, .offset = offsetof (Letter, number), .role = CELL_ROLE_FIELD },
  { .name = "text", .doc = "", .type = &type_str, .offset = offsetof (Letter, text), .role = CELL_ROLE_FIELD },
};

#define TOKEN_ROW(member, place) \
  { .name = member, .doc = "", .type = &type_u64, .offset = 8 * (place), .role = CELL_ROLE_FIELD }

static const CellField token_rows[] = {
  TOKEN_ROW ("caller", 0), TOKEN_ROW ("sequence", 1), TOKEN_ROW ("a", 2), TOKEN_ROW ("b", 3),
  TOKEN_ROW ("c", 4), TOKEN_ROW ("d", 5), TOKEN_ROW ("e", 6), TOKEN_ROW ("f", 7),
};

/* Before main (), so that the table of calls can be a constant. */
__attribute__ ((constructor)) static void
make_token_plan (void)
{
  CodecPlan *made = codec_plan_new (token_rows, G_N_ELEMENTS (token_rows), CELL_ROLE_FIELD, sizeof (Token), NULL);

  token_plan = *made;
  free (made);                          /* not its steps */
  g_assert (token_plan.trivial);
}

#define TOKEN_CALL(number_, name_) \
  { .args = &token_plan, .reply = &token_plan, .number = number_, .timeout = 20000, .fast = true, .reply_size = sizeof (Token), \
    .name = name_, \
    .head = { .length = sizeof (Token), .root = sizeof (Token), .kind = RECORD_REQUEST, .method = number_, .timeout = 20000 } }

const CallPlan plan_of[N_METHODS] = {
  [ECHO] = TOKEN_CALL (ECHO, "echo"),
  [FAIL] = TOKEN_CALL (FAIL, "fail"),
  [LATER] = TOKEN_CALL (LATER, "later"),
  [ANSWER] = TOKEN_CALL (ANSWER, "answer"),
  [NOTE] = { .args = &token_plan, .number = NOTE, .timeout = 20000, .oneway = true, .name = "note" },
  [FORWARD] = TOKEN_CALL (FORWARD, "forward"),
  [HOLD] = TOKEN_CALL (HOLD, "hold"),
  [NOTHING] = { .number = NOTHING, .timeout = 20000, .fast = true, .name = "nothing",
                .head = { .kind = RECORD_REQUEST, .method = NOTHING, .timeout = 20000 } },
  [EMIT] = TOKEN_CALL (EMIT, "emit"),
};

CallPlan
plan_with (unsigned method, uint32_t timeout_ms)
{
  CallPlan plan = plan_of[method];

  plan.timeout = timeout_ms;
  call_plan_finish (&plan);
  return plan;
}

static CodecPlan *
letter_codec (void)
{
  static CodecPlan *plan;
  const char *why = NULL;

  if (g_once_init_enter (&plan))
    {
      CodecPlan *made = codec_plan_new (letter_rows, G_N_ELEMENTS (letter_rows), CELL_ROLE_FIELD, sizeof (Letter), &why);

      g_assert_cmpstr (why, ==, NULL);
      g_once_init_leave (&plan, made);
    }
  return plan;
}

const CallPlan *
letter_plan (void)
{
  static gsize done;
  static CallPlan plan;

  if (g_once_init_enter (&done))
    {
      plan = (CallPlan) { .args = letter_codec (), .reply = letter_codec (), .number = LETTER, .timeout = 20000, .name = "letter" };
      call_plan_finish (&plan);
      g_once_init_leave (&done, 1);
    }
  return &plan;
}

/* ---- the cell ------------------------------------------------------------------------------------ */

static void
enter (Rig *rig)
{
  if (atomic_fetch_add (&rig->inside, 1) != 0 && rig->endpoint.threading == CELL_SERIAL)
    atomic_fetch_add (&rig->overlaps, 1);
}

static void
leave (Rig *rig)
{
  atomic_fetch_sub (&rig->inside, 1);
}

/* Each caller counts from 1; sequence 0 is not looked at. */
static void
look_at_sequence (Rig *rig, const Token *in)
{
  if (in->sequence == 0 || in->caller >= CALLERS)
    return;
  if (rig->endpoint.threading == CELL_SERIAL)
    rig->executed++;
  if (in->sequence != ++rig->next[in->caller])
    {
      rig->disorder++;
      rig->next[in->caller] = in->sequence;
    }
}

static CellStatus
do_echo (void *self, CellCall *call, const void *in, void *out)
{
  (void) call;
  enter (self);
  look_at_sequence (self, in);
  for (uint64_t n = MIN (((const Token *) in)->argument[4], PAUSES_MAX); n > 0; n--)
    cpu_relax ();
  *(Token *) out = *(const Token *) in;
  leave (self);
  return CELL_OK;
}

static CellStatus
do_letter (void *self, CellCall *call, const void *in, void *out)
{
  const Letter *letter = in;
  size_t size = strlen (letter->text) + 1;
  char *text = call_alloc (call, size);

  enter (self);
  if (text == NULL)
    {
      leave (self);
      return CELL_ERROR_NO_RESOURCES;
    }
  memcpy (text, letter->text, size);
  *(Letter *) out = (Letter) { .number = letter->number, .text = text };
  leave (self);
  return CELL_OK;
}

static CellStatus
do_fail (void *self, CellCall *call, const void *in, void *out)
{
  const Token *token = in;
  char *message = call_alloc (call, 64);

  (void) out;
  enter (self);
  if (message != NULL)
    snprintf (message, 64, "number %llu is not liked", (unsigned long long) token->sequence);
  call->error = "org.example.Test.NotLiked";
  call->message = message;
  leave (self);
  return CELL_ERROR_FAILED;
}

static CellStatus
do_later (void *self, CellCall *call, const void *in, void *out)
{
  Rig *rig = self;
  uint64_t id;

  (void) out;
  enter (rig);
  look_at_sequence (rig, in);
  id = rig->n_kept < G_N_ELEMENTS (rig->kept) ? call_defer (call) : 0;
  if (id != 0)
    rig->kept[rig->n_kept++] = id;
  leave (rig);
  return id != 0 ? CELL_DEFERRED : CELL_ERROR_NO_RESOURCES;
}

static CellStatus
do_answer (void *self, CellCall *call, const void *in, void *out)
{
  Rig *rig = self;
  const Token *token = in;

  (void) call;
  enter (rig);
  for (uint64_t n = token->argument[0]; n > 0 && rig->n_kept > 0; n--)
    {
      unsigned i = token->argument[1] != 0 ? rig->n_kept - 1 : 0;
      CellCall *kept = call_resume (&rig->service, rig->kept[i]);
      Token reply;

      memmove (&rig->kept[i], &rig->kept[i + 1], (rig->n_kept - i - 1) * sizeof rig->kept[0]);
      rig->n_kept--;
      if (kept == NULL)
        continue;
      reply = *(const Token *) call_request (kept);
      reply.argument[5] = 77;
      call_answer (kept, CELL_OK, &reply);
    }
  *(Token *) out = *token;
  leave (rig);
  return CELL_OK;
}

static CellStatus
do_forward (void *self, CellCall *call, const void *in, void *out)
{
  Rig *rig = self;
  Token token = *(const Token *) in;
  TokenReply reply;
  unsigned method = token.argument[0] > 0 ? FORWARD : ECHO;
  CellStatus status;

  enter (rig);
  if (token.argument[0] > 0)
    token.argument[0]--;
  if (rig->meet != NULL)
    {
      atomic_fetch_add (rig->meet, 1);
      futex_wake (rig->meet, INT_MAX);
      wait_at_least (rig->meet, rig->meet_at);
    }
  channel_call (rig->forward, thread_context (), &plan_of[method], &token, &reply.result);
  *(Token *) out = reply.out;
  status = reply.result.status;
  call->message = status != CELL_OK ? status_text (status) : NULL;
  if (reply.result.memory != NULL)
    reply.result.release (reply.result.memory);
  leave (rig);
  return status;
}

static CellStatus
do_hold (void *self, CellCall *call, const void *in, void *out)
{
  Rig *rig = self;
  uint32_t turn, let_go;

  (void) call;
  enter (rig);
  turn = atomic_fetch_add (&rig->holding, 1) + 1;
  futex_wake (&rig->holding, INT_MAX);
  while ((let_go = atomic_load (&rig->let_go)) < turn)
    futex_wait_until (&rig->let_go, let_go, monotonic_ns () + 100000000u);
  *(Token *) out = *(const Token *) in;
  leave (rig);
  return CELL_OK;
}

static CellStatus
do_nothing (void *self, CellCall *call, const void *in, void *out)
{
  (void) call;
  (void) in;
  (void) out;
  enter (self);
  leave (self);
  return CELL_OK;
}

static CellStatus
do_emit (void *self, CellCall *call, const void *in, void *out)
{
  Rig *rig = self;
  Token token = *(const Token *) in;

  (void) call;
  for (uint64_t n = 0; n < token.argument[0]; n++)
    for (unsigned i = 0; i < G_N_ELEMENTS (rig->subscribers) && rig->subscribers[i] != NULL; i++)
      {
        Channel *to = rig->subscribers[i];

        token.sequence++;
        serve_signal (to, 0, 3, &token, sizeof token, sizeof token);
      }
  *(Token *) out = token;
  return CELL_OK;
}

static const CellInvoke handlers[N_METHODS] = {
  [ECHO] = do_echo, [LETTER] = do_letter, [FAIL] = do_fail, [LATER] = do_later, [ANSWER] = do_answer, [NOTE] = do_echo,
  [FORWARD] = do_forward, [HOLD] = do_hold, [NOTHING] = do_nothing, [EMIT] = do_emit,
};

/* ---- who goes on with a gate ---------------------------------------------------------------------- */

static void
kick (Gate *gate)
{
  Rig *rig = (Rig *) gate;

  atomic_fetch_add (&rig->kicks, 1);
  futex_wake (&rig->kicks, 1);
}

static void *
worker_main (void *data)
{
  Rig *rig = data;
  ThreadContext *thread = thread_context ();
  uint32_t seen = 0;

  atomic_store (&rig->works, 1);
  while (!atomic_load (&rig->stopping))
    {
      uint32_t kicks = atomic_load (&rig->kicks);

      if (kicks != seen)
        endpoint_continue (&rig->endpoint, thread);
      else
        futex_wait_until (&rig->kicks, kicks, monotonic_ns () + 1000000000u);
      seen = kicks;
    }
  return NULL;
}

Rig *
rig_new (uint32_t threading)
{
  Rig *rig = aligned_alloc (_Alignof (Rig), sizeof *rig);

  g_assert_nonnull (rig);
  memset (rig, 0, sizeof *rig);
  rig->epoch = shared_memory (sizeof (Epoch));
  gate_init (&rig->endpoint.gate, kick);
  rig->endpoint.epoch = rig->epoch;
  rig->endpoint.service = &rig->service;
  rig->endpoint.threading = threading;
  pthread_mutex_init (&rig->endpoint.lock, NULL);
  for (unsigned i = 0; i < N_METHODS; i++)
    {
      const CodecPlan *plan = i == LETTER ? letter_codec () : i == NOTHING ? NULL : &token_plan;

      rig->methods[i] = (Method) {
        .invoke = handlers[i], .in = plan, .out = plan, .max_reply = REPLY_MAX_DEFAULT, .name = "",
        .stats = &rig->stats[i],
      };
      method_finish (&rig->methods[i], i);
    }
  rig->service = (Service) { .self = rig, .n_methods = N_METHODS, .methods = rig->methods, .endpoint = &rig->endpoint };
  g_assert_cmpint (pthread_create (&rig->worker, NULL, worker_main, rig), ==, 0);
  /* A process that is forked while it still allocates would find the allocator of a sanitizer locked for ever. */
  while (!atomic_load (&rig->works))
    sched_yield ();
  return rig;
}

void
rig_free (Rig *rig)
{
  atomic_store (&rig->stopping, 1);
  atomic_fetch_add (&rig->kicks, 1);
  futex_wake (&rig->kicks, INT_MAX);
  pthread_join (rig->worker, NULL);
  endpoint_continue (&rig->endpoint, thread_context ());        /* it may not have come so far */
  g_assert_cmpuint (rig->overlaps, ==, 0);
  deferred_end_all (&rig->service, CELL_ERROR_GONE, "the test is over");
  pthread_mutex_destroy (&rig->endpoint.lock);
  munmap (rig->epoch, sizeof (Epoch));
  free (rig);
}

static void
through_the_gate (Rig *rig, uint64_t *ret_last, unsigned caller, unsigned *ret_n_kept)
{
  ThreadContext *thread = thread_context ();

  g_assert_true (gate_stop (&rig->endpoint.gate, thread, monotonic_ns () + 10000000000u));
  *ret_last = rig->next[caller];
  *ret_n_kept = rig->n_kept;
  gate_leave (&rig->endpoint.gate, thread);
}

uint64_t
rig_last (Rig *rig, unsigned caller)
{
  uint64_t last;
  unsigned n_kept;

  through_the_gate (rig, &last, caller, &n_kept);
  return last;
}

unsigned
rig_n_kept (Rig *rig)
{
  uint64_t last;
  unsigned n_kept;

  through_the_gate (rig, &last, 0, &n_kept);
  return n_kept;
}

void
rig_wait_kept (Rig *rig, unsigned n)
{
  uint64_t deadline = monotonic_ns () + 10000000000u;

  while (rig_n_kept (rig) < n)
    {
      g_assert_cmpuint (monotonic_ns (), <, deadline);
      sched_yield ();
    }
}

Channel *
rig_channel_sized (Rig *rig, uint32_t requests, uint32_t replies)
{
  Fault fault = { 0 };
  Channel *channel = channel_new_local (&rig->endpoint, requests, replies, &fault);

  if (channel == NULL)
    g_error ("%s", fault.message);
  return channel;
}

Channel *
rig_channel (Rig *rig)
{
  return rig_channel_sized (rig, CHANNEL_CAPACITY, CHANNEL_CAPACITY);
}

void
echo (Channel *channel, uint64_t caller, uint64_t sequence)
{
  Token token = { .caller = caller, .sequence = sequence, .argument = { ~sequence, caller * sequence } };
  TokenReply reply;

  memset (&reply, 0xff, sizeof reply);
  channel_call (channel, thread_context (), &plan_of[ECHO], &token, &reply.result);
  if (reply.result.status != CELL_OK)
    g_error ("call %llu of caller %llu: %s", (unsigned long long) sequence, (unsigned long long) caller, reply.result.message);
  g_assert_cmpmem (&reply.out, sizeof reply.out, &token, sizeof token);
}

void
reply_free (CellResult *result)
{
  if (result->memory != NULL)
    result->release (result->memory);
  result->memory = NULL;
}

CellStatus
call_token (Channel *channel, unsigned method, uint64_t caller, uint64_t sequence, uint64_t argument)
{
  Token token = { .caller = caller, .sequence = sequence, .argument = { argument } };
  TokenReply reply;

  channel_call (channel, thread_context (), &plan_of[method], &token, &reply.result);
  reply_free (&reply.result);
  return reply.result.status;
}

uint64_t
start_token (Channel *channel, const CallPlan *plan, uint64_t caller, uint64_t sequence)
{
  Token token = { .caller = caller, .sequence = sequence };
  TokenReply reply = { 0 };
  uint64_t id = channel_start (channel, thread_context (), plan, &token, NULL, NULL, &reply.result);

  reply_free (&reply.result);
  return id;
}

CellStatus
finish_token (Channel *channel, uint64_t id, Token *ret)
{
  TokenReply reply;

  channel_finish (channel, thread_context (), id, NULL, &reply.result);
  reply_free (&reply.result);
  if (ret != NULL)
    *ret = reply.out;
  return reply.result.status;
}

static bool
is_echoed (unsigned caller, uint64_t sequence, const TokenReply *reply)
{
  if (reply->result.status == CELL_OK && reply->out.caller == caller && reply->out.sequence == sequence)
    return true;
  fprintf (stderr, "caller %u, call %llu: status %d (%s), %llu came back\n", caller, (unsigned long long) sequence,
           reply->result.status,
           reply->result.message != NULL ? reply->result.message : "", (unsigned long long) reply->out.sequence);
  return false;
}

/* A host judges by it whether a bell that is rung brought something. */
static bool
says_what_it_read (const Channel *channel)
{
  return !channel->remote || load_relaxed (&channel->caller_half->control->taken) == channel->replies.at;
}

uint64_t
mixed_calls (Channel *channel, unsigned caller, unsigned n)
{
  ThreadContext *thread = thread_context ();
  unsigned seed = caller * 7919;
  uint64_t sequence = 0;
  bool good = true;

  while (sequence < n && good)
    {
      uint64_t ids[60];
      unsigned burst, kind;
      TokenReply reply;

      seed = seed * 1103515245u + 12345u;
      burst = 1 + (seed >> 16) % 60;
      kind = seed >> 24 & 3;
      for (unsigned i = 0; i < burst && good; i++)
        {
          Token token = { .caller = caller, .sequence = ++sequence };

          if (kind == 0)
            ids[i] = channel_start (channel, thread, &plan_of[ECHO], &token, NULL, NULL, NULL);
          else if (kind == 1 && i == 0)
            {
              channel_call (channel, thread, &plan_of[NOTE], &token, &reply.result);
              good = reply.result.status == CELL_OK;
            }
          else
            {
              channel_call (channel, thread, &plan_of[ECHO], &token, &reply.result);
              good = is_echoed (caller, sequence, &reply) && says_what_it_read (channel);
            }
        }
      for (unsigned i = 0; i < burst && kind == 0 && good; i++)
        {
          channel_finish (channel, thread, ids[i], NULL, &reply.result);
          good = is_echoed (caller, sequence - burst + i + 1, &reply);
        }
    }
  return good ? sequence : 0;
}

/* ---- across processes -------------------------------------------------------------------------- */

static void
kick_nobody (Gate *gate)
{
  (void) gate;
}

Pair *
pair_new (Rig *rig, uint32_t request_capacity, uint32_t reply_capacity)
{
  Pair *pair = aligned_alloc (_Alignof (Pair), sizeof *pair);
  Fault fault = { 0 };

  g_assert_nonnull (pair);
  memset (pair, 0, sizeof *pair);
  gate_init (&pair->elsewhere.gate, kick_nobody);
  pair->elsewhere.gate.word = GATE_CLOSED;
  pair->elsewhere.epoch = rig->epoch;
  pair->requests = half_new ("test-requests", request_capacity, &fault);
  pair->replies = half_new ("test-replies", reply_capacity, &fault);
  g_assert_true (pair->requests != NULL && pair->replies != NULL);
  pair->caller = channel_new (&pair->elsewhere);
  pair->caller->remote = true;
  pair->caller->replies_untrusted = true;
  channel_set_caller (pair->caller, half_ref (pair->requests), half_ref (pair->replies), 0, 0);
  pair->callee = channel_new (&rig->endpoint);
  pair->callee->untrusted = true;
  channel_set_callee (pair->callee, half_ref (pair->requests), half_ref (pair->replies), 0, 0);
  return pair;
}

void
pair_free (Pair *pair)
{
  channel_unref (pair->caller);
  channel_unref (pair->callee);
  half_unref (pair->requests);
  half_unref (pair->replies);
  free (pair);
}

/* By the words that stay where they are: whoever serves the channel may be another thread. */
static bool
is_ready (Channel *channel)
{
  const RingReader *requests = &channel->requests;
  uint64_t at = load_acquire (&requests->own->taken);
  const Record *record = (const Record *) (requests->data + (at & requests->mask));

  return load_acquire (&record->sequence) == requests->salt + at && !channel_is_blocked (channel) && channel->broken == CELL_OK;
}

static void
poller_sleep (Poller *poller)
{
  FutexWord words[POLLER_MAX + 1];
  bool ready = false, woken = true;

  words[0] = (FutexWord) { &poller->stop, 0 };
  for (unsigned i = 0; i < poller->n; i++)
    {
      const RingReader *requests = &poller->channels[i]->requests;
      uint64_t at = load_acquire (&requests->own->taken);
      const _Atomic uint32_t *word = (const _Atomic uint32_t *) (requests->data + (at & requests->mask));

      words[i + 1] = (FutexWord) { word, load_acquire (word) };
      atomic_exchange (&requests->own->waiting, WAITING_FUTEX);
    }
  for (unsigned i = 0; i < poller->n; i++)
    ready |= is_ready (poller->channels[i]);
  if (!ready)
    woken = futex_wait_any (words, poller->n + 1, monotonic_ns () + 500000000u);
  for (unsigned i = 0; i < poller->n; i++)
    {
      store_relaxed (&poller->channels[i]->requests.own->waiting, WAITING_NOT);
      poller->hints_lost += !woken && is_ready (poller->channels[i]);
    }
}

static void *
poller_main (void *data)
{
  Poller *poller = data;
  ThreadContext *thread = thread_context ();
  unsigned idle = 0;

  atomic_store (&poller->tid, thread_id ());
  while (!atomic_load (&poller->stop))
    {
      bool any = false;

      for (unsigned i = 0; i < poller->n; i++)
        if (is_ready (poller->channels[i]))
          {
            channel_serve_ready (poller->channels[i], thread);
            any = true;
          }
      if (any)
        idle = 0;
      else if (++idle < 200)
        cpu_relax ();
      else
        poller_sleep (poller);
    }
  return NULL;
}

void
poller_start (Poller *poller, Channel *const *channels, unsigned n)
{
  g_assert_cmpuint (n, <=, POLLER_MAX);
  *poller = (Poller) { .n = n };
  for (unsigned i = 0; i < n; i++)
    poller->channels[i] = channels[i];
  g_assert_cmpint (pthread_create (&poller->thread, NULL, poller_main, poller), ==, 0);
  while (atomic_load (&poller->tid) == 0)       /* as in rig_new () */
    sched_yield ();
}

void
poller_stop (Poller *poller)
{
  atomic_store (&poller->stop, 1);
  futex_wake (&poller->stop, INT_MAX);
  pthread_join (poller->thread, NULL);
}

pid_t
child_start (int (*run) (void *data), void *data)
{
  pid_t parent = getpid (), pid;

  thread_context ();                    /* the child goes on with this one: making one takes a lock that may be held just now */
  fflush (NULL);
  pid = fork ();
  g_assert_cmpint (pid, >=, 0);
  if (pid != 0)
    return pid;
  prctl (PR_SET_PDEATHSIG, SIGKILL);
  if (getppid () != parent)
    _exit (2);
  _exit (run (data));
}

void
child_join (pid_t pid)
{
  int status = 0;

  g_assert_cmpint (waitpid (pid, &status, 0), ==, pid);
  if (!WIFEXITED (status) || WEXITSTATUS (status) != 0)
    g_error ("a child ended with status 0x%x", (unsigned) status);
}

/* ---- odds and ends ---------------------------------------------------------------------------------- */

unsigned
scaled (unsigned count)
{
  const char *preload = g_getenv ("LD_PRELOAD");
  unsigned slow = preload != NULL && strstr (preload, "vgpreload") != NULL ? 100 : SLOW;

  return MAX (count / slow, 1);
}

bool
wait_at_least (_Atomic uint32_t *word, uint32_t value)
{
  uint64_t deadline = monotonic_ns () + 10000000000u;
  uint32_t now;

  while ((now = atomic_load (word)) < value)
    if (!futex_wait_until (word, now, deadline))
      return false;
  return true;
}

bool
is_asleep (pid_t pid, pid_t tid)
{
  g_autofree char *path = g_strdup_printf ("/proc/%d/task/%d/stat", (int) pid, (int) tid);
  g_autofree char *line = NULL;
  const char *state;

  if (!g_file_get_contents (path, &line, NULL, NULL))
    return false;
  state = strrchr (line, ')');
  return state != NULL && state[1] == ' ' && (state[2] == 'S' || state[2] == 'T');
}

/* Looks at what the kernel says; there is no event for it. */
void
wait_until_asleep (pid_t pid, pid_t tid)
{
  uint64_t deadline = monotonic_ns () + 10000000000u;

  while (!is_asleep (pid, tid))
    {
      g_assert_cmpuint (monotonic_ns (), <, deadline);
      sched_yield ();
    }
}

bool
sleeps_on (pid_t tid, const void *word)
{
  g_autofree char *path = g_strdup_printf ("/proc/self/task/%d/syscall", (int) tid);
  g_autofree char *line = NULL;
  unsigned long number = 0, at = 0, n = 0;
  struct { uint64_t value, address; uint32_t flags, reserved; } words[8];
  struct iovec to = { words, sizeof words }, from;

  if (!g_file_get_contents (path, &line, NULL, NULL) || sscanf (line, "%lu 0x%lx 0x%lx", &number, &at, &n) != 3 || number != 449
      || n > G_N_ELEMENTS (words))
    return false;
  from = (struct iovec) { (void *) at, n * sizeof words[0] };
  if (process_vm_readv (getpid (), &to, 1, &from, 1, 0) != (ssize_t) (n * sizeof words[0]))
    return false;
  for (unsigned long i = 0; i < n; i++)
    if (words[i].address == (uintptr_t) word)
      return true;
  return false;
}

pid_t
thread_id (void)
{
  return (pid_t) syscall (SYS_gettid);
}

void *
shared_memory (size_t size)
{
  void *at = mmap (NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

  g_assert_true (at != MAP_FAILED);
  return at;
}

void
epoch_step (Rig *rig, uint32_t state)
{
  uint64_t generation = atomic_fetch_add (&rig->epoch->generation, 1) + 1;

  atomic_store (&rig->epoch->word, (uint32_t) (generation << 2) | state);
  futex_wake (&rig->epoch->word, INT_MAX);
}

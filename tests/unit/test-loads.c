/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Whoever reads what a peer can write loads each word of a record's head once: what was checked is what is used.  Counted where it
 * happens, in the code that the compiler made: the memory may not be read, each instruction that does so faults, is let do it
 * alone, and the memory is taken away again.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "membrane-fixture.h"

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

# define TRAP_FLAG 0x100

enum
{
  WORDS = sizeof (Record)
};

/* What is watched: a half's data, which is mapped twice in a row, and in it the record at one place. */
static uint8_t *watched;
static size_t watched_size;
static uint32_t watched_capacity, watched_place;
static unsigned loads[WORDS]; /* by offset in the record */
static bool steps;            /* one instruction is let do it */

static void
on_fault (int number, siginfo_t *info, void *data)
{
  ucontext_t *context = data;
  size_t at = (size_t) ((uint8_t *) info->si_addr - watched);

  if (watched == NULL || at >= watched_size)
    {
      signal (number, SIG_DFL);
      return;
    }
  at = (at % watched_capacity + watched_capacity - watched_place) % watched_capacity;
  if (at < WORDS)
    loads[at]++;
  mprotect (watched, watched_size, PROT_READ | PROT_WRITE);
  context->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
  steps = true;
}

static void
on_step (int number, siginfo_t *info, void *data)
{
  ucontext_t *context = data;

  (void) info;
  if (!steps)
    {
      signal (number, SIG_DFL); /* a check has failed, and GLib says so this way */
      raise (number);
      return;
    }
  steps = false;
  if (watched != NULL)
    mprotect (watched, watched_size, PROT_NONE);
  context->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
}

static void
watch (const Half *half, uint64_t position)
{
  memset (loads, 0, sizeof loads);
  watched_capacity = half->capacity;
  watched_place = (uint32_t) (position & (half->capacity - 1));
  watched_size = 2 * (size_t) half->capacity;
  watched = half->data;
  mprotect (watched, watched_size, PROT_NONE);
}

static void
unwatch (void)
{
  uint8_t *at = watched;

  watched = NULL;
  mprotect (at, watched_size, PROT_READ | PROT_WRITE);
}

/* The sequence word is polled: whoever finds another number goes away. */
static void
assert_once (const char *who, const size_t *used, size_t n_used)
{
  g_assert_cmpuint (loads[offsetof (Record, sequence)], >=, 1);
  for (size_t i = sizeof (uint64_t); i < WORDS; i++)
    if (loads[i] > 1)
      g_error ("%s: %u loads of byte %zu of the head", who, loads[i], i);
  /* A look that sees nothing proves nothing. */
  for (size_t i = 0; i < n_used; i++)
    if (loads[used[i]] != 1)
      g_error ("%s: %u loads of byte %zu of the head, which it needs", who, loads[used[i]], used[i]);
}

static void
write_record (RingWriter *writer, const RecordHead *head, uint64_t id, const void *payload)
{
  Fault fault = { 0 };
  Record *record = ring_reserve (writer, head->length, &fault);

  g_assert (record != NULL);
  memcpy (record->payload, payload, head->length);
  record_set_head (record, head, id);
  ring_commit (writer, record, head->length);
}

/* ---- requests ---------------------------------------------------------------------------------------------- */

static const size_t request_words[] = { offsetof (Record, id),   offsetof (Record, length), offsetof (Record, root),
                                        offsetof (Record, kind), offsetof (Record, method), offsetof (Record, flags) };

static void
test_request (void)
{
  Rig *rig = rig_new (CELL_SERIAL);
  Pair *pair = pair_new (rig, 16384, 16384);
  ThreadContext *thread = thread_context ();
  Token token = { .caller = 1 };

  write_record (&pair->caller->out, &plan_of[ECHO].head, 1, &token);
  g_assert_true (gate_enter (&rig->endpoint.gate, thread));
  watch (pair->requests, 0);
  g_assert_cmpint (serve_one (pair->callee, thread, &rig->service, false), ==, SERVE_DONE);
  unwatch ();
  gate_leave (&rig->endpoint.gate, thread);
  assert_once ("serve_one", request_words, G_N_ELEMENTS (request_words));
  pair_free (pair);
  rig_free (rig);
}

/* The short way of plain requests, which must not look and then leave it to the other. */
static void
test_request_quick (void)
{
  Rig *rig = rig_new (CELL_SERIAL);
  Pair *pair = pair_new (rig, 16384, 16384);
  ThreadContext *thread = thread_context ();
  Token token = { .caller = 1 };

  write_record (&pair->caller->out, &plan_of[ECHO].head, 1, &token);
  watch (pair->requests, 0);
  channel_serve_ready (pair->callee, thread);
  unwatch ();
  g_assert_cmpuint (pair->callee->requests.at, ==, record_size (sizeof token));
  assert_once ("channel_serve", request_words, G_N_ELEMENTS (request_words));
  pair_free (pair);
  rig_free (rig);
}

/* ---- replies ------------------------------------------------------------------------------------------------ */

static const size_t reply_words[] = { offsetof (Record, id), offsetof (Record, length), offsetof (Record, root),
                                      offsetof (Record, kind), offsetof (Record, status) };

static void
test_reply (void)
{
  Rig *rig = rig_new (CELL_SERIAL);
  Pair *pair = pair_new (rig, 16384, 16384);
  Token token = { .sequence = 9 }, answer;
  uint64_t id = start_token (pair->caller, &plan_of[ECHO], 1, 9);

  write_record (&pair->callee->answers, &(RecordHead){ .length = sizeof token, .root = sizeof token, .kind = RECORD_REPLY }, id,
                &token);
  watch (pair->replies, 0);
  channel_drain (pair->caller, thread_context ());
  unwatch ();
  assert_once ("channel_drain", reply_words, G_N_ELEMENTS (reply_words));
  g_assert_cmpint (finish_token (pair->caller, id, &answer), ==, CELL_OK);
  g_assert_cmpuint (answer.sequence, ==, 9);
  pair_free (pair);
  rig_free (rig);
}

/* The answer is there before the call is made, so that the caller finds it at its first look. */
static void
test_reply_quick (void)
{
  Rig *rig = rig_new (CELL_SERIAL);
  Pair *pair = pair_new (rig, 16384, 16384);
  Token token = { .sequence = 9 };
  TokenReply reply;

  write_record (&pair->callee->answers, &(RecordHead){ .length = sizeof token, .root = sizeof token, .kind = RECORD_REPLY },
                pair->caller->next_id + 1, &token);
  watch (pair->replies, 0);
  channel_call (pair->caller, thread_context (), &plan_of[ECHO], &token, &reply.result);
  unwatch ();
  g_assert_cmpint (reply.result.status, ==, CELL_OK);
  g_assert_cmpuint (reply.out.sequence, ==, 9);
  g_assert_cmpuint (pair->caller->n_pending, ==, 0);
  assert_once ("channel_call", reply_words, G_N_ELEMENTS (reply_words));
  pair_free (pair);
  rig_free (rig);
}

/* What a child has left, when its host takes over. */
static void
test_end (void)
{
  static const size_t words[] = { offsetof (Record, length) };
  Rig *rig = rig_new (CELL_SERIAL);
  Pair *pair = pair_new (rig, 16384, 16384);
  Token token = { 0 };

  write_record (&pair->callee->answers, &(RecordHead){ .length = sizeof token, .kind = RECORD_REPLY }, 1, &token);
  watch (pair->replies, 0);
  g_assert_cmpuint (half_end (pair->replies, 0), ==, record_size (sizeof token));
  unwatch ();
  assert_once ("half_end", words, G_N_ELEMENTS (words));
  pair_free (pair);
  rig_free (rig);
}

int
main (int argc, char **argv)
{
  const struct sigaction fault = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
  const struct sigaction step = { .sa_sigaction = on_step, .sa_flags = SA_SIGINFO };

  g_test_init (&argc, &argv, NULL);
  sigaction (SIGSEGV, &fault, NULL);
  sigaction (SIGTRAP, &step, NULL);
  g_test_add_func ("/loads/request", test_request);
  g_test_add_func ("/loads/request-quick", test_request_quick);
  g_test_add_func ("/loads/reply", test_reply);
  g_test_add_func ("/loads/reply-quick", test_reply_quick);
  g_test_add_func ("/loads/end", test_end);
  return g_test_run ();
}

#else

int
main (void)
{
  puts ("1..0 # SKIP this counts instructions of x86-64 as they are without a sanitizer");
  return 0;
}

#endif

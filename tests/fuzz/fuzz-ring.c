/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Any bytes as what a peer writes into its half of a channel, between the steps of whoever reads it: records, cursors, wake
 * words, single bytes.  A callee serves it or a caller takes its answers; in the end the channel goes on or has ended as corrupt,
 * and what handlers and callers were given was sound.
 *
 * The first byte chooses the end that is tried.  Then steps: u8 what, u8 how, and what it needs.
 */
#include <string.h>
#include <sys/mman.h>

#include <cell/cell.h>

#include "membrane/defer.h"
#include "membrane/endpoint.h"
#include "membrane/serve.h"
#include "membrane/wire.h"
#include "unit/random-types.h"

#define CAPACITY 8192u
#define KEPT_MAX 8u

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

const CellHost *cell_host;              /* what <cell/cell.h> declares; nothing here calls it */

CELL_STRUCT (Pair, field (u64, a), field (u64, b))
CELL_STRUCT (Entry, field (u64, id), field (str, memo), field (bool, open))
CELL_STRUCT (Tree, field (array (Entry), entries), field (bytes, raw), field (optional (Entry), maybe), field (array (u16), small))

static const CellType *const types[] = { &cell_desc_Pair, &cell_desc_Entry, &cell_desc_Tree };

enum { N_TYPES = G_N_ELEMENTS (types), N_METHODS = 2 * N_TYPES + 1 };

typedef struct
{
  Service service;
  Method methods[N_METHODS];
  MethodStats stats[N_METHODS];
  CodecPlan *plans[N_TYPES];
  CallPlan calls[N_TYPES];
  Epoch epoch;
  Endpoint *endpoint;           /* where it is served */
  Endpoint *elsewhere;          /* as its caller sees it */
  Half *peer, *own;             /* the peer's, which is fuzzed; ours */
  uint64_t kept[KEPT_MAX];
  unsigned n_kept;
} Scene;

static Scene scene;

/* ---- the cell ------------------------------------------------------------------------------------------------ */

static const CellType *
type_of (const CellCall *call)
{
  return types[call->number % N_TYPES];
}

/* Looks at all of it, and gives it back. */
static CellStatus
mirror (void *self, CellCall *call, const void *in, void *out)
{
  const CellType *type = type_of (call);

  (void) self;
  value_assert_sound (type->fields, type->n_fields, in);
  memcpy (out, in, type->size);
  return CELL_OK;
}

static CellStatus
keep (void *self, CellCall *call, const void *in, void *out)
{
  const CellType *type = type_of (call);
  uint64_t id;

  (void) self;
  (void) out;
  value_assert_sound (type->fields, type->n_fields, in);
  id = scene.n_kept < KEPT_MAX ? call_defer (call) : 0;
  if (id == 0)
    return CELL_ERROR_BUSY;
  scene.kept[scene.n_kept++] = id;
  return CELL_DEFERRED;
}

static CellStatus
fail (void *self, CellCall *call, const void *in, void *out)
{
  (void) self;
  (void) in;
  (void) out;
  call->message = "it does not like it";
  return CELL_ERROR_FAILED;
}

static void
answer_one (void)
{
  CellCall *kept = scene.n_kept > 0 ? call_resume (&scene.service, scene.kept[--scene.n_kept]) : NULL;
  const CellType *type;

  if (kept == NULL)
    return;
  type = type_of (kept);
  value_assert_sound (type->fields, type->n_fields, call_request (kept));
  call_answer (kept, CELL_OK, call_request (kept));
}

static void
kick_nobody (Gate *gate)
{
  (void) gate;
}

static void
set_up (void)
{
  Fault fault = { 0 };

  for (unsigned i = 0; i < N_TYPES; i++)
    {
      scene.plans[i] = codec_plan_new (types[i]->fields, types[i]->n_fields, CELL_ROLE_FIELD, types[i]->size, NULL);
      scene.calls[i] =
        (CallPlan){ .args = scene.plans[i], .reply = scene.plans[i], .number = i, .timeout = 60000, .name = "mirror" };
      call_plan_finish (&scene.calls[i]);
    }
  for (unsigned i = 0; i < N_METHODS; i++)
    {
      const CodecPlan *plan = i < 2 * N_TYPES ? scene.plans[i % N_TYPES] : NULL;

      scene.methods[i] = (Method) {
        .invoke = i < N_TYPES ? mirror : i < 2 * N_TYPES ? keep : fail, .in = plan, .out = plan, .max_reply = 2048, .name = "",
        .stats = &scene.stats[i],
      };
      method_finish (&scene.methods[i], i);
    }
  scene.endpoint = endpoint_new (&scene.epoch, CELL_SERIAL, kick_nobody);
  scene.elsewhere = endpoint_new (&scene.epoch, CELL_SERIAL, NULL);
  scene.service = (Service) { .n_methods = N_METHODS, .methods = scene.methods, .endpoint = scene.endpoint };
  pthread_mutex_init (&scene.service.lock, NULL);
  scene.endpoint->service = &scene.service;
  endpoint_resume (scene.endpoint, thread_context ());
  scene.peer = half_new ("fuzz-peer", CAPACITY, &fault);
  scene.own = half_new ("fuzz-own", CAPACITY, &fault);
  g_assert_true (scene.peer != NULL && scene.own != NULL);
}

/* ---- what the peer writes ----------------------------------------------------------------------------------------- */

typedef struct
{
  const uint8_t *data;
  size_t size;
} Input;

/* The next n bytes; zeros where there are no more. */
static void
take (Input *input, void *to, size_t n)
{
  size_t have = MIN (n, input->size);

  memset (to, 0, n);
  memcpy (to, input->data, have);
  input->data += have;
  input->size -= have;
}

enum /* bits of `how` */
{
  MEND_KIND = 1 << 0, MEND_METHOD = 1 << 1, MEND_LENGTH = 1 << 2, MEND_ROOT = 1 << 3, SOUND = 1 << 4
};

/* A value as its sender would write it, so that not everything ends with the first look. */
static uint32_t
write_value (unsigned type, Input *input, uint8_t *payload, uint32_t room)
{
  char memo[16];
  Entry entries[3];
  Pair pair;
  Tree tree = { 0 };
  const void *value = &pair;
  uint32_t used = types[type]->size;
  CodecFault fault;

  take (input, &pair, sizeof pair);
  take (input, memo, sizeof memo);
  for (unsigned i = 0; i < sizeof memo; i++)
    memo[i] &= 0x7f;
  memo[sizeof memo - 1] = 0;
  for (unsigned i = 0; i < G_N_ELEMENTS (entries); i++)
    entries[i] = (Entry) { .id = pair.a + i, .memo = memo + i, .open = i & 1 };
  tree.entries = entries;
  tree.n_entries = (uint32_t) pair.b % 4;
  tree.maybe = entries[0];
  tree.has_maybe = pair.a & 1;
  if (type > 0)
    value = type == 1 ? (const void *) entries : &tree;
  return codec_encode (scene.plans[type], value, payload, room, &used, NULL, &fault) ? used : 0;
}

/* At the position that the reader looks at. */
static void
write_record (Input *input, RingReader *reader, uint16_t kind, uint64_t id, uint8_t how)
{
  Record *record = (Record *) (scene.peer->data + (reader->at & reader->mask));
  RecordHead head;
  uint32_t room;
  uint8_t n;

  take (input, &head, sizeof head);
  take (input, &n, 1);
  if (how & MEND_KIND)
    head.kind = kind;
  if (how & MEND_METHOD)
    head.method = head.method % 16 == 15 ? WIRE_METHOD_SUBSCRIBE : (uint16_t) (head.method % N_METHODS);
  room = how & MEND_LENGTH ? 1024 : n;
  if (how & SOUND)
    head.root = types[head.method % N_TYPES]->size, head.length = write_value (head.method % N_TYPES, input, record->payload, 1024);
  else
    take (input, record->payload, room);
  if (how & MEND_LENGTH && !(how & SOUND))
    head.length %= 1025;
  if (how & MEND_ROOT && !(how & SOUND))
    head.root = head.length < UINT32_MAX ? head.root % (head.length + 1) : head.root;
  record_set_head (record, &head, id);
  atomic_store (&record->sequence, reader->salt + reader->at);
}

static void
write_words (Input *input, uint64_t ours, uint8_t how)
{
  HalfControl *control = scene.peer->control;
  uint64_t word;

  take (input, &word, sizeof word);
  switch (how % 6)
    {
    case 0: atomic_store (&control->released, word); break;
    case 1:
      atomic_store (&control->taken, ours - word % CAPACITY / 64 * 64);
      atomic_store (&control->released, ours - word % CAPACITY / 64 * 64);
      break;
    case 2: atomic_store (&control->taken, word); break;
    case 3: atomic_store (&control->waiting, (uint32_t) word); break;
    case 4: atomic_store (&control->cpu, (uint32_t) word); break;
    default: atomic_store (&control->blocked, (uint32_t) word);
    }
}

static void
write_byte (Input *input)
{
  struct { uint16_t at; uint8_t byte; } __attribute__ ((packed)) where;

  take (input, &where, sizeof where);
  if (where.at & 0x8000)
    ((uint8_t *) scene.peer->control)[where.at % HALF_PAGE] = where.byte;
  else
    scene.peer->data[where.at % CAPACITY] = where.byte;
}

/* ---- the two ends ---------------------------------------------------------------------------------------------------- */

static void
check_end (const Channel *channel)
{
  g_assert_true (channel->broken == CELL_OK || (channel->broken == CELL_ERROR_CORRUPT && channel->broken_rule != NULL));
}

static void
try_callee (Input *input)
{
  ThreadContext *thread = thread_context ();
  Channel *channel = channel_new (scene.endpoint);
  uint8_t step[2];

  channel->untrusted = true;
  channel->access = CELL_ACCESS_ADMIN;
  channel_set_callee (channel, half_ref (scene.peer), half_ref (scene.own), 0, 0);
  endpoint_add (scene.endpoint, channel);
  while (input->size > 0)
    {
      take (input, step, sizeof step);
      switch (step[0] % 8)
        {
        case 0:
        case 1:
        case 2: write_record (input, &channel->requests, RECORD_REQUEST, 1 + step[0], step[1]); break;
        case 3: write_words (input, channel->answers.head, step[1]); break;
        case 4: write_byte (input); break;
        case 5: answer_one (); break;
        case 6: endpoint_emit (scene.endpoint, thread, step[1] % 64, scene.plans[0], &(Pair) { 1, 2 }, &(CodecFault) { 0 }); break;
        }
      channel_serve_ready (channel, thread);
      check_end (channel);
      g_assert_cmpuint (channel->answers.head - atomic_load (&channel->answers.own->head), <=, CAPACITY);
      g_assert_cmpuint (channel->reserved, <=, CAPACITY);
    }
  while (scene.n_kept > 0)
    answer_one ();
  g_assert_cmpuint (channel->reserved == 0 || channel->broken != CELL_OK, ==, 1);
  endpoint_remove (scene.endpoint, channel);
  channel_unref (channel);
}

typedef struct
{
  CellResult result;
  uint64_t out[(sizeof (Tree) + sizeof (Entry)) / 8];   /* right behind it */
} Reply;

static void
check_reply (const Reply *reply, unsigned type)
{
  if (reply->result.status == CELL_OK)
    value_assert_sound (types[type]->fields, types[type]->n_fields, reply->out);
  else
    g_assert_true (g_utf8_validate (reply->result.message, -1, NULL) && g_utf8_validate (reply->result.error, -1, NULL));
  if (reply->result.memory != NULL)
    reply->result.release (reply->result.memory);
}

static void
on_signal (Channel *channel, uint32_t number, uint64_t missed, Kept *kept, void *data)
{
  (void) channel;
  (void) number;
  (void) missed;
  (void) kept;
  (void) data;
}

static void
try_caller (Input *input)
{
  ThreadContext *thread = thread_context ();
  Channel *channel = channel_new (scene.elsewhere);
  const Tree args = { 0 };
  uint64_t ids[64];
  unsigned n = 0, kinds[64];
  uint8_t step[2];

  channel->remote = true;
  channel->replies_untrusted = true;
  channel->on_signal = on_signal;
  channel_set_caller (channel, half_ref (scene.own), half_ref (scene.peer), 0, 0);
  while (input->size > 0)
    {
      take (input, step, sizeof step);
      switch (step[0] % 8)
        {
        case 0:
        case 1:
        case 2:
          write_record (input, &channel->replies, step[1] & 32 ? RECORD_SIGNAL : RECORD_REPLY, n > 0 ? ids[step[0] / 8 % n] : 1,
                        step[1]);
          break;
        case 3: write_words (input, channel->out.head, step[1]); break;
        case 4: write_byte (input); break;
        case 5:
          /* While there is room, whatever the peer says: waiting for it is tried elsewhere. */
          if (n < G_N_ELEMENTS (ids) && channel->out.head + 1024 < channel->out.limit + CAPACITY
              && channel->out.head < CAPACITY / 2)
            {
              kinds[n] = step[1] % N_TYPES;
              ids[n] = channel_start (channel, thread, &scene.calls[kinds[n]], &args, NULL, NULL, NULL);
              n += ids[n] != 0;
            }
          break;
        }
      channel_dispatch (channel, thread);
      check_end (channel);
    }
  if (channel->broken == CELL_OK)
    {
      /* Those that were not answered end here. */
      atomic_store (&((Record *) (scene.peer->data + (channel->replies.at & channel->replies.mask)))->sequence,
                    channel->replies.salt + channel->replies.at);
      ((Record *) (scene.peer->data + (channel->replies.at & channel->replies.mask)))->kind = 0;
      channel_dispatch (channel, thread);
      check_end (channel);
      g_assert_cmpint (channel->broken, !=, CELL_OK);
    }
  for (unsigned i = 0; i < n; i++)
    {
      Reply reply;

      channel_finish (channel, thread, ids[i], NULL, &reply.result);
      check_reply (&reply, kinds[i]);
    }
  channel_unref (channel);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  Input input = { data, size };
  uint8_t which;

  if (scene.endpoint == NULL)
    set_up ();
  memset (scene.peer->control, 0, HALF_PAGE + CAPACITY);
  memset (scene.own->control, 0, HALF_PAGE + CAPACITY);
  take (&input, &which, 1);
  if (which & 1)
    try_caller (&input);
  else
    try_callee (&input);
  g_assert_cmpuint (scene.service.n_deferred, ==, 0);
  return 0;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The caller's end of a channel.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "blob.h"
#include "defer.h"
#include "direct.h"

#define LOOK_NS 100000000u              /* a stolen or lost hint costs one look after so long */
#define SPINS_BARE 2000u                /* looks before the first pause: a pause is as long as half a round trip */

uint32_t
coarse_ms (void)
{
  struct timespec now;

  clock_gettime (CLOCK_MONOTONIC_COARSE, &now);
  return (uint32_t) ((uint64_t) now.tv_sec * 1000u + (uint64_t) now.tv_nsec / 1000000u);
}

/* ---- results ---------------------------------------------------------------------------------- */

typedef struct
{
  Arena arena;
  uint32_t n_blobs;
  CellBlob *blobs[];
} ReplyMemory;

static void
reply_memory_free (void *data)
{
  ReplyMemory *memory = data;

  for (uint32_t i = 0; i < memory->n_blobs; i++)
    blob_unref (memory->blobs[i]);
  arena_clear (&memory->arena);
  free (memory);
}

#define REPLY_BLOBS_MAX 64u

typedef struct
{
  BlobPort *port;
  ReplyMemory *memory;
} ReplyImport;

static CellBlob *
reply_import (void *data, uint64_t id)
{
  ReplyImport *import = data;
  CellBlob *blob;

  if (import->port == NULL || import->memory->n_blobs >= REPLY_BLOBS_MAX)
    return NULL;
  blob = import->port->import_blob (import->port, id);
  if (blob != NULL)
    import->memory->blobs[import->memory->n_blobs++] = blob;
  return blob;
}

/* Fills a result from a reply's payload, which is private or written by this process; it is copied. */
static void
result_fill (CellResult *result, const CallPlan *plan, int32_t status, const uint8_t *payload, uint32_t length, uint32_t root, bool untrusted,
             BlobPort *port)
{
  const CodecPlan *reply = plan->reply;
  uint8_t *outputs = result_outputs (result), *copy;
  ReplyMemory *memory;
  CodecFault fault;

  if (status != CELL_OK)
    {
      result_from_error (result, status, payload, length);
      if (reply != NULL)
        memset (outputs, 0, reply->size);
      return;
    }
  *result = (CellResult) { .status = CELL_OK };
  if (reply == NULL)
    return;
  if (reply->trivial)
    {
      uint32_t n = root < reply->size ? root : reply->size;

      copy_bytes (outputs, payload, n);
      zero_bytes (outputs + n, reply->size - n);
      return;
    }
  if (reply->flat)
    {
      Arena none = { 0 };

      if (!codec_decode (reply, (uint8_t *) payload, length, root, untrusted ? 0 : CODEC_TRUSTED, &none, NULL, outputs, &fault))
        {
          memset (outputs, 0, reply->size);
          result_set_error (result, CELL_ERROR_CORRUPT, "the reply breaks the rule '%s'", fault.rule);
        }
      return;
    }
  memory = calloc (1, sizeof *memory + REPLY_BLOBS_MAX * sizeof (CellBlob *));
  copy = NULL;
  if (memory != NULL)
    {
      arena_init (&memory->arena, 8u << 20);
      copy = arena_get (&memory->arena, length);
    }
  if (copy == NULL)
    {
      free (memory);
      memset (outputs, 0, reply->size);
      *result = (CellResult) { .status = CELL_ERROR_NO_RESOURCES, .error = status_name (CELL_ERROR_NO_RESOURCES),
                               .message = status_text (CELL_ERROR_NO_RESOURCES) };
      return;
    }
  memcpy (copy, payload, length);
  ReplyImport import = { port, memory };
  CodecBlobs blobs = { NULL, reply_import, &import };
  if (!codec_decode (reply, copy, length, root, CODEC_PRIVATE | (untrusted ? 0 : CODEC_TRUSTED), &memory->arena, &blobs, outputs, &fault))
    {
      reply_memory_free (memory);
      memset (outputs, 0, reply->size);
      result_set_error (result, CELL_ERROR_CORRUPT, "the reply breaks the rule '%s'", fault.rule);
      return;
    }
  result->memory = memory;
  result->release = reply_memory_free;
}

static void
result_error_for (CellResult *result, const CallPlan *plan, CellStatus status, const char *message)
{
  result_set_error (result, status, "%s: %s", plan->name, message);
  if (plan->reply != NULL)
    memset (result_outputs (result), 0, plan->reply->size);
}

/* ---- open calls -------------------------------------------------------------------------------- */

#define PENDING_MAX 65536u              /* open calls of a channel */

static Pending *
pending_find (Channel *channel, uint64_t id)
{
  Pending *pending = channel->pending != NULL ? &channel->pending[id & channel->pending_mask] : NULL;

  return pending != NULL && pending->id == id ? pending : NULL;
}

static bool
pending_grow (Channel *channel)
{
  uint32_t old_n = channel->pending != NULL ? channel->pending_mask + 1 : 0, n = old_n == 0 ? 16 : old_n * 2;
  Pending *table;

  if (n > 2 * PENDING_MAX || (table = calloc (n, sizeof *table)) == NULL)
    return false;
  for (uint32_t i = 0; i < old_n; i++)
    if (channel->pending[i].id != 0)
      table[channel->pending[i].id & (n - 1)] = channel->pending[i];
  free (channel->pending);
  channel->pending = table;
  channel->pending_mask = n - 1;
  return true;
}

static Pending *
pending_put (Channel *channel, uint64_t id)
{
  while (channel->pending == NULL || channel->pending[id & channel->pending_mask].id != 0)
    if (!pending_grow (channel))
      return NULL;
  channel->n_pending++;
  channel->pending[id & channel->pending_mask].id = id;
  return &channel->pending[id & channel->pending_mask];
}

/* Opens a call by the next id whose place in the table is free: one that stays open for long is stepped around. */
static Pending *
pending_add (Channel *channel)
{
  if ((channel->pending == NULL || channel->n_pending > channel->pending_mask / 2) && !pending_grow (channel))
    return NULL;
  do
    channel->next_id++;
  while (channel->pending[channel->next_id & channel->pending_mask].id != 0);
  return pending_put (channel, channel->next_id);
}

static void
pending_remove (Channel *channel, Pending *pending)
{
  free (pending->kept);
  *pending = (Pending) { 0 };
  channel->n_pending--;
}

static void
ready_append (Channel *channel, Kept *kept)
{
  bool first = channel->ready == NULL;

  if (first)
    channel->ready_end = &channel->ready;
  kept->next = NULL;
  *channel->ready_end = kept;
  channel->ready_end = &kept->next;
  if (first && channel->notify != NULL)
    channel->notify (channel);
}

static Kept *
kept_new (uint16_t kind, uint64_t id, uint16_t method, int32_t status, const void *payload, uint32_t length, uint32_t root)
{
  Kept *kept = malloc (sizeof *kept + length);

  if (kept == NULL)
    return NULL;
  *kept = (Kept) { .id = id, .length = length, .root = root, .status = status, .kind = kind, .method = method };
  memcpy (kept->payload, payload, length);
  return kept;
}

/* ---- what arrives -------------------------------------------------------------------------------- */

static void
channel_break (Channel *channel, ThreadContext *thread, CellStatus status, const char *rule);

static void
take_reply (Channel *channel, uint64_t id, int32_t status, const uint8_t *payload, uint32_t length, uint32_t root)
{
  Pending *pending = pending_find (channel, id);

  if (pending == NULL || pending->state != PENDING_OPEN)
    return;                             /* given up, answered already, or never sent */
  if (pending->result != NULL)
    {
      result_fill (pending->result, pending->plan, status, payload, length, root, channel->replies_untrusted, channel->blobs);
      pending_remove (channel, pending);
      return;
    }
  pending->state = PENDING_ANSWERED;
  pending->kept = kept_new (RECORD_REPLY, id, 0, status, payload, length, root);
  if (pending->async)
    channel->n_async--;
  if (pending->done != NULL)
    {
      Kept *token = kept_new (RECORD_REPLY, id, 0, 0, "", 0, 0);

      if (token != NULL)
        ready_append (channel, token);
    }
}

static void
take_signal (Channel *channel, uint64_t missed, uint16_t number, const uint8_t *payload, uint32_t length, uint32_t root)
{
  Kept *kept = NULL;

  channel->signals_dropped += missed;
  if (channel->n_signals_kept < SIGNALS_KEPT_MAX)
    kept = kept_new (RECORD_SIGNAL, channel->signals_dropped, number, 0, payload, length, root);
  if (kept == NULL)
    {
      channel->signals_dropped++;
      return;
    }
  channel->signals_dropped = 0;
  channel->n_signals_kept++;
  ready_append (channel, kept);
}

/* A full fence when it is the doorbell: from there on whoever commits rings it, and whoever calls this looks once more. */
void
channel_rest (Channel *channel)
{
  HalfControl *own = channel->caller_half->control;
  uint32_t rest = channel->n_async != 0 || channel->listens ? WAITING_DOORBELL : WAITING_NOT;

  if (load_relaxed (&own->waiting) == rest)
    return;
  if (rest == WAITING_NOT)
    store_relaxed (&own->waiting, rest);
  else
    atomic_exchange (&own->waiting, rest);
}

/* The callee said that it waits for room. */
static void
unblock (Channel *channel, ThreadContext *thread)
{
  full_fence ();
  if (load_relaxed (&channel->out.peer->blocked))
    channel_kick (channel, thread);
}

void
channel_drain (Channel *channel, ThreadContext *thread)
{
  ArenaMark mark = arena_mark (&thread->arena);
  Record *record;
  bool released = false;

  while (channel->broken == CELL_OK && (record = ring_peek (&channel->replies)) != NULL)
    {
      volatile Record *r = record;
      uint64_t id = r->id;
      uint32_t length = r->length, root = r->root;
      uint16_t kind = r->kind, method = r->method;
      int32_t status = r->status;
      uint8_t *payload = record->payload;

      if (length > channel->replies.mask + 1 - sizeof (Record) || length > RECORD_MAX_PAYLOAD || root > length
          || (kind != RECORD_REPLY && kind != RECORD_SIGNAL))
        {
          channel_break (channel, thread, CELL_ERROR_CORRUPT, "reply-header");
          break;
        }
      if (channel->replies_untrusted)
        {
          payload = arena_get (&thread->arena, length);
          if (payload == NULL)
            break;
          copy_bytes (payload, record->payload, length);
          atomic_signal_fence (memory_order_seq_cst);
        }
      ring_take (&channel->replies, length);
      if (kind == RECORD_REPLY)
        take_reply (channel, id, status, payload, length, root);
      else
        take_signal (channel, id, method, payload, length, root);
      ring_release (&channel->replies);
      released = true;
      arena_release (&thread->arena, mark);
    }
  if (released)
    {
      unblock (channel, thread);
      channel_rest (channel);
    }
}

bool
channel_take_arrival (Channel *channel, Arrival *ret)
{
  Kept *kept;

  while ((kept = channel->ready) != NULL)
    {
      Pending *pending;

      *ret = (Arrival) { .kept = kept };
      channel->ready = kept->next;
      if (kept->kind == RECORD_SIGNAL)
        {
          channel->n_signals_kept--;
          return true;
        }
      pending = pending_find (channel, kept->id);
      if (pending != NULL && pending->state == PENDING_ANSWERED)
        {
          ret->pending = *pending;
          pending->kept = NULL;
          pending_remove (channel, pending);
          if (ret->pending.done != NULL)
            return true;
          free (ret->pending.kept);             /* cancelled since it was answered */
        }
      free (kept);
    }
  return false;
}

static void
run_completion (Channel *channel, ThreadContext *thread, Pending *call)
{
  uint32_t size = call->plan->reply != NULL ? call->plan->reply->size : 0;
  ArenaMark mark = arena_mark (&thread->arena);
  CellResult *result = arena_get (&thread->arena, sizeof *result + size);
  CellResult no_memory = { .status = CELL_ERROR_NO_RESOURCES, .error = status_name (CELL_ERROR_NO_RESOURCES),
                           .message = status_text (CELL_ERROR_NO_RESOURCES) };

  if (result != NULL && call->kept != NULL)
    result_fill (result, call->plan, call->kept->status, call->kept->payload, call->kept->length, call->kept->root,
                 channel->replies_untrusted, channel->blobs);
  else if (result != NULL)
    result_error_for (result, call->plan, CELL_ERROR_NO_RESOURCES, status_text (CELL_ERROR_NO_RESOURCES));
  free (call->kept);
  call->done (result != NULL ? result : &no_memory, call->data);
  if (result != NULL && result->memory != NULL)
    result->release (result->memory);
  arena_release (&thread->arena, mark);
}

void
channel_run_arrival (Channel *channel, ThreadContext *thread, Arrival *arrival)
{
  if (arrival->kept->kind != RECORD_SIGNAL)
    run_completion (channel, thread, &arrival->pending);
  else if (channel->on_signal != NULL)
    channel->on_signal (channel, arrival->kept->method, arrival->kept->id, arrival->kept, channel->context);
  free (arrival->kept);
}

static bool
look_at_epoch (Channel *channel, ThreadContext *thread);

unsigned
channel_dispatch (Channel *channel, ThreadContext *thread)
{
  unsigned n = 0;
  Arrival arrival;

  channel_ref (channel);
  channel_drain (channel, thread);
  if (channel->broken == CELL_OK)
    look_at_epoch (channel, thread);
  for (; channel_take_arrival (channel, &arrival); n++)
    channel_run_arrival (channel, thread, &arrival);
  channel_unref (channel);
  return n;
}

bool
channel_is_idle (const Channel *channel)
{
  if (channel->ready != NULL)
    return false;
  for (uint32_t i = 0; channel->pending != NULL && i <= channel->pending_mask; i++)
    {
      const Pending *pending = &channel->pending[i];

      if (pending->id != 0 && (pending->state == PENDING_ANSWERED || (pending->state == PENDING_OPEN && channel->broken == CELL_OK)))
        return false;
    }
  return true;
}

/* Answers open calls ourselves: those whose request lies before `position`. */
static void
fail_open (Channel *channel, uint64_t position, CellStatus status, const char *message)
{
  uint8_t payload[512];
  uint32_t length = error_payload (payload, sizeof payload, status_name (status), message);

  for (uint32_t i = 0; channel->pending != NULL && i <= channel->pending_mask; i++)
    if (channel->pending[i].id != 0 && channel->pending[i].end <= position)
      take_reply (channel, channel->pending[i].id, status, payload, length, 0);
}

static void
channel_break (Channel *channel, ThreadContext *thread, CellStatus status, const char *rule)
{
  (void) thread;
  channel->broken = status;
  channel->broken_rule = rule;
  fail_open (channel, UINT64_MAX, status, status == CELL_ERROR_CORRUPT ? rule : status_text (status));
  if (channel->on_broken != NULL)
    channel->on_broken (channel);
}

/* ---- the callee moved ------------------------------------------------------------------------------ */

void
channel_moved (Channel *channel, MovedHalf *moved)
{
  moved->next = NULL;
  pthread_mutex_lock (&channel->lock);
  for (MovedHalf **link = &channel->moved;; link = &(*link)->next)
    if (*link == NULL)
      {
        *link = moved;
        break;
      }
  pthread_mutex_unlock (&channel->lock);
}

static MovedHalf *
next_move (Channel *channel)
{
  MovedHalf *moved;

  pthread_mutex_lock (&channel->lock);
  moved = channel->moved;
  pthread_mutex_unlock (&channel->lock);
  return moved;
}

/* Drains the old half up to where it ended, and goes on to the next.  What the old consumer claims to have written beyond what can be
 * read is not waited for: it is gone. */
static void
channel_adopt (Channel *channel, ThreadContext *thread)
{
  MovedHalf *moved;

  while ((moved = next_move (channel)) != NULL)
    {
      channel_drain (channel, thread);
      if (moved->crashed)
        fail_open (channel, moved->final_taken, CELL_ERROR_CRASHED, status_text (CELL_ERROR_CRASHED));
      pthread_mutex_lock (&channel->lock);
      channel->moved = moved->next;
      pthread_mutex_unlock (&channel->lock);
      if (moved->half == NULL)
        channel_break (channel, thread, CELL_ERROR_GONE, NULL);
      else
        {
          /* Positions go on where the old half ended, so that cursors never go back. */
          ring_reader_init (&channel->replies, moved->half, channel->caller_half->control, moved->final_reply);
          store_release (&channel->caller_half->control->taken, moved->final_reply);
          store_release (&channel->caller_half->control->released, moved->final_reply);
          ring_writer_set_peer (&channel->out, moved->half->control, moved->final_taken);
          half_unref (channel->callee_half);
          channel->callee_half = moved->half;
          channel->replies_untrusted = moved->untrusted;
          if (moved->bell >= 0)
            channel->callee_bell = moved->bell;
        }
      free (moved);
    }
}

/* True: something changed, look at everything again. */
static bool
look_at_epoch (Channel *channel, ThreadContext *thread)
{
  uint32_t word = load_acquire (&channel->endpoint->epoch->word);

  if (likely (word == channel->epoch_seen))
    return false;
  channel->epoch_seen = word;
  if (channel->look != NULL && !channel->look (channel))
    channel_break (channel, thread, CELL_ERROR_UNREACHABLE, NULL);
  channel_adopt (channel, thread);
  if ((word & 3) == EPOCH_DEAD && channel->broken == CELL_OK)
    channel_break (channel, thread, CELL_ERROR_GONE, NULL);
  if (channel->broken == CELL_OK && channel->n_pending > 0)
    channel_kick (channel, thread);
  return true;
}

static void
adopt_and_go_on (Channel *channel, ThreadContext *thread)
{
  channel_adopt (channel, thread);
  if (channel->broken == CELL_OK && channel->n_pending > 0)
    channel_kick (channel, thread);
}

void
channel_look (Channel *channel, ThreadContext *thread)
{
  if (channel->broken == CELL_OK && !look_at_epoch (channel, thread) && next_move (channel) != NULL)
    adopt_and_go_on (channel, thread);
}

/* What no word tells: the host is gone, or what it has to say came later than the word. */
static void
look_again (Channel *channel, ThreadContext *thread)
{
  if (look_at_epoch (channel, thread) || channel->look == NULL || channel->broken != CELL_OK)
    return;
  if (!channel->look (channel))
    channel_break (channel, thread, CELL_ERROR_UNREACHABLE, NULL);
  else if (next_move (channel) != NULL)
    adopt_and_go_on (channel, thread);
}

/* ---- sending ---------------------------------------------------------------------------------------- */

/* A consumer that has taken over and served nothing yet may not have said where it began. */
static uint64_t
taken_by_peer (Channel *channel)
{
  uint64_t taken = atomic_load (&channel->out.peer->taken);

  return taken > channel->out.base ? taken : channel->out.base;
}

/* A full fence lies between what was sent and this. */
static void
wake_remote (Channel *channel)
{
  uint64_t one = 1;
  uint32_t waiting;

  waiting = load_relaxed (&channel->out.peer->waiting);
  if (likely (waiting == WAITING_NOT))
    return;
  if (waiting == WAITING_FUTEX)
    {
      /* It sleeps on the word of the next record that it has not taken; that is somewhere between `taken` and our head. */
      uint64_t taken = taken_by_peer (channel);

      futex_wake ((const _Atomic uint32_t *) (channel->out.data + (taken & channel->out.mask & ~(uint64_t) (RECORD_ALIGN - 1))), 1);
    }
  else if (channel->callee_bell >= 0 && write (channel->callee_bell, &one, sizeof one) < 0)
    return;                             /* full: it has been rung */
}

void
channel_kick (Channel *channel, ThreadContext *thread)
{
  /* A gate that is opened after this has been found closed is opened by somebody who then sees what was committed. */
  full_fence ();
  if (channel->remote || gate_is_closed (&channel->endpoint->gate))
    wake_remote (channel);
  else
    channel_serve_ready (channel, thread);
}

/* The blobs of one request, in their order: a request that has to wait for room is written again and again, but each of them leaves
 * once. */
typedef struct
{
  BlobPort *port;
  uint32_t n, next;
  uint64_t ids[REPLY_BLOBS_MAX];
} SentBlobs;

static uint64_t
send_blob (void *data, CellBlob *blob)
{
  SentBlobs *sent = data;
  uint64_t id;

  if (sent->next < sent->n)
    return sent->ids[sent->next++];
  id = sent->n < REPLY_BLOBS_MAX ? call_export_blob (sent->port, blob) : 0;
  if (id != 0)
    {
      sent->ids[sent->n++] = id;
      sent->next++;
    }
  return id;
}

static CellStatus
encode_request (const CallPlan *plan, const void *args, Record *record, uint32_t capacity, uint32_t *ret_length, SentBlobs *sent, Fault *fault)
{
  CodecFault wrong = { 0 };
  CodecBlobs blobs = { send_blob, NULL, sent };

  sent->next = 0;

  *ret_length = plan->args != NULL ? plan->args->size : 0;
  if (plan->args == NULL)
    return CELL_OK;
  if (codec_encode (plan->args, args, record->payload, capacity, ret_length, &blobs, &wrong))
    return CELL_OK;
  if (wrong.status == CELL_ERROR_TOO_LARGE)
    fault_set (fault, wrong.status, "the request is larger than %u bytes; larger data travels as a blob", RECORD_MAX_PAYLOAD);
  else
    fault_set (fault, wrong.status, "argument %s: %s", wrong.field, wrong.rule);
  return wrong.status;
}

/* One bounded attempt to get more room: whoever has to release it is made to go on, and what we owe the callee, which is reading its
 * replies, is done. */
static void
make_room (Channel *channel, ThreadContext *thread)
{
  uint64_t released = load_relaxed (&channel->out.peer->released);

  channel_kick (channel, thread);
  channel_drain (channel, thread);
  look_at_epoch (channel, thread);
  for (unsigned spins = 0; spins < SPINS_BARE; spins++)
    {
      if (load_relaxed (&channel->out.peer->released) != released)
        return;
      cpu_relax ();
    }
  /* Nobody wakes us for space: that would cost every call a look.  A nap is bounded, and only a flood gets here. */
  clock_nanosleep (CLOCK_MONOTONIC, 0, &(struct timespec) { 0, 50000 }, NULL);
}

static CellStatus
fault_too_large (Fault *fault)
{
  fault_set (fault, CELL_ERROR_TOO_LARGE, "the request is larger than %u bytes; larger data travels as a blob", RECORD_MAX_PAYLOAD);
  return CELL_ERROR_TOO_LARGE;
}

/* What has been read without saying so. */
static void
release_replies (Channel *channel)
{
  HalfControl *own = channel->replies.own;

  store_release (&own->taken, channel->replies.at);
  store_release (&own->released, channel->replies.at);
}

/* Writes a request into the ring, if there is room for it now: CELL_OK, or CELL_ERROR_BUSY, or what is wrong with it. */
static CellStatus
try_send (Channel *channel, const CallPlan *plan, const void *args, uint64_t id, SentBlobs *sent, Fault *fault)
{
  uint32_t root = plan->args != NULL ? plan->args->size : 0, length, capacity;
  uint64_t room;
  Record *record;
  CellStatus status;

  release_replies (channel);            /* the callee may be waiting for room itself */
  record = ring_reserve (&channel->out, root, fault);
  if (record == NULL && fault->status == CELL_OK && record_size (root) > channel->out.mask + 1)
    {
      channel->too_small = true;
      return fault_too_large (fault);
    }
  if (record == NULL)
    return fault->status != CELL_OK ? fault->status : CELL_ERROR_BUSY;
  ring_writer_refresh (&channel->out, 0, NULL);
  room = channel->out.limit - channel->out.head - sizeof (Record);
  capacity = room < RECORD_MAX_PAYLOAD ? (uint32_t) room : RECORD_MAX_PAYLOAD;
  status = encode_request (plan, args, record, capacity, &length, sent, fault);
  if (status == CELL_ERROR_TOO_LARGE && capacity < RECORD_MAX_PAYLOAD)
    {
      channel->too_small = channel->out.limit - channel->out.head == channel->out.mask + 1;
      return channel->too_small ? CELL_ERROR_TOO_LARGE : CELL_ERROR_BUSY;
    }
  if (status != CELL_OK)
    return status;
  record_set_head (record,
                   &(RecordHead) { .length = length, .root = root, .kind = RECORD_REQUEST, .method = (uint16_t) plan->number,
                                   .flags = plan->oneway ? RECORD_ONEWAY : 0, .timeout = plan->timeout }, id);
  ring_commit_far (&channel->out, record, length);
  channel->sent_length = length;
  return CELL_OK;
}

/* Sends, waiting for room for as long as the call may take.  CELL_ERROR_TOO_LARGE with channel->too_small: not a fault of the request. */
static CellStatus
send_request (Channel *channel, ThreadContext *thread, const CallPlan *plan, const void *args, uint64_t id, Fault *fault)
{
  uint64_t deadline = 0, look_at = 0, now;
  SentBlobs sent;
  CellStatus status;

  sent.port = channel->blobs;
  sent.n = 0;
  channel->too_small = false;
  look_at_epoch (channel, thread);
  for (;;)
    {
      *fault = (Fault) { CELL_OK, "" };
      if (channel->broken != CELL_OK)
        {
          fault_set (fault, channel->broken, "%s", channel->broken_rule != NULL ? channel->broken_rule : status_text (channel->broken));
          return channel->broken;
        }
      status = try_send (channel, plan, args, id, &sent, fault);
      if (status != CELL_ERROR_BUSY)
        return status;
      now = monotonic_ns ();
      if (deadline == 0)
        {
          deadline = now + plan->timeout * 1000000ull;
          look_at = now + LOOK_NS;
        }
      else if (now > deadline)
        {
          fault_set (fault, CELL_ERROR_BUSY, "%s", status_text (CELL_ERROR_BUSY));
          return CELL_ERROR_BUSY;
        }
      else if (now > look_at)
        {
          look_again (channel, thread);
          look_at = now + LOOK_NS;
        }
      make_room (channel, thread);
    }
}

bool
channel_wait_taken (Channel *channel, ThreadContext *thread, uint64_t deadline)
{
  while (channel->broken == CELL_OK && taken_by_peer (channel) < channel->out.head)
    {
      if (monotonic_ns () > deadline)
        return false;
      make_room (channel, thread);
      look_again (channel, thread);
    }
  return true;
}

/* ---- waiting ------------------------------------------------------------------------------------------ */

static bool
something_new (Channel *channel)
{
  return ring_peek (&channel->replies) != NULL || load_acquire (&channel->endpoint->epoch->word) != channel->epoch_seen
         || (load_relaxed (&channel->endpoint->gate.word) & (GATE_PASS | GATE_CLOSED)) == GATE_PASS;
}

static bool
spin (Channel *channel)
{
  uint32_t budget = spin_budget (&channel->spin, load_relaxed (&channel->out.peer->cpu));
  uint64_t until = 0;

  if (budget == 0)
    return something_new (channel);
  for (unsigned n = 0;; n++)
    {
      if (something_new (channel))
        {
          spin_won (&channel->spin);
          return true;
        }
      cpu_relax ();
      if ((n & 127) == 127)
        {
          uint64_t now = monotonic_ns ();

          if (until == 0)
            until = now + budget;
          else if (now > until)
            {
              spin_lost (&channel->spin);
              return false;
            }
        }
    }
}

/* Sleeps on the word of the next reply, the epoch and, for a cell that is here, its gate's turn.  False: nothing woke it.  The caller
 * drains next, whatever woke it. */
static bool
sleep_once (Channel *channel, uint64_t deadline)
{
  HalfControl *own = channel->caller_half->control;
  Gate *gate = &channel->endpoint->gate;
  const _Atomic uint32_t *next = ring_next_word (&channel->replies);
  uint64_t until = monotonic_ns () + LOOK_NS;
  FutexWord words[3] = {
    { next, load_acquire (next) },
    { &channel->endpoint->epoch->word, channel->epoch_seen },
    { &gate->turn, load_acquire (&gate->turn) },
  };
  bool local = !channel->remote, woken = true;

  store_relaxed (&own->cpu, 1 + current_cpu ());
  if (local)
    atomic_fetch_add (&gate->sleepers, 1);
  atomic_exchange (&own->waiting, WAITING_FUTEX);       /* a full fence: from here on whoever commits wakes us */
  if (!something_new (channel))
    woken = futex_wait_any (words, local ? 3 : 2, until < deadline ? until : deadline);
  channel_rest (channel);
  if (local)
    atomic_fetch_sub (&gate->sleepers, 1);
  return woken;
}

static bool
is_here (Channel *channel)
{
  return !channel->remote && !gate_is_closed (&channel->endpoint->gate);
}

/* Gives up a call that waits for a gate.  False: it has been taken already, and its answer has to be waited for; or it may have been, by a
 * consumer that we have not heard of yet. */
static bool
withdraw (Channel *channel, Pending *pending)
{
  Record *record = (Record *) (channel->out.data + (pending->start & channel->out.mask));

  /* Once taken its space may be in use by a later record. */
  if (taken_by_peer (channel) > pending->start)
    return false;
  atomic_fetch_or (&record->flags, RECORD_CANCELLED);
  if (taken_by_peer (channel) > pending->start || atomic_load (&channel->endpoint->epoch->word) != channel->epoch_seen)
    return false;
  return true;
}

/* Waits until the call is answered or its deadline has passed. */
static void
wait_reply (Channel *channel, ThreadContext *thread, uint64_t id, CellResult *result)
{
  Pending *pending = pending_find (channel, id);
  const CallPlan *plan = pending->plan;
  uint64_t deadline = 0;
  bool here, slept = false;

  while ((pending = pending_find (channel, id)) != NULL && pending->state == PENDING_OPEN)
    {
      channel_drain (channel, thread);
      if ((pending = pending_find (channel, id)) == NULL || pending->state != PENDING_OPEN)
        break;
      if (look_at_epoch (channel, thread))
        continue;
      if (gate_claim (&channel->endpoint->gate, thread))
        {
          gate_leave_slow (&channel->endpoint->gate, thread);
          continue;
        }
      here = is_here (channel);
      if (here)
        {
          atomic_store (&thread->waits_for, &channel->endpoint->gate);
          if ((gate_is_deadlock (&channel->endpoint->gate, thread) || load_relaxed (&channel->server) == thread)
              && withdraw (channel, pending))
            {
              pending_remove (channel, pending);
              atomic_store (&thread->waits_for, NULL);
              result_error_for (result, plan, CELL_ERROR_DEADLOCK, "the call would wait for itself: a cell on this chain is waiting for it");
              return;
            }
        }
      if (!spin (channel))
        {
          uint64_t now = monotonic_ns ();

          if (deadline == 0)
            deadline = now + plan->timeout * 1000000ull;
          if (now >= deadline)
            {
              bool taken = !withdraw (channel, pending);

              pending_remove (channel, pending);
              atomic_store (&thread->waits_for, NULL);
              if (taken || !here)
                result_error_for (result, plan, CELL_ERROR_DEADLINE, status_text (CELL_ERROR_DEADLINE));
              else
                result_error_for (result, plan, CELL_ERROR_DEADLINE, "the deadline passed before the call was taken; it was not executed");
              return;
            }
          if (!sleep_once (channel, deadline))
            {
              channel->hints_lost += ring_peek (&channel->replies) != NULL;
              look_again (channel, thread);
              if (channel->broken == CELL_OK)
                channel_kick (channel, thread);         /* a wake-up can be stolen from whoever should serve us */
            }
          slept = true;
        }
      atomic_store (&thread->waits_for, NULL);
    }
  /* The wake-up that passed the gate on may have been ours, and somebody counts on it. */
  if (slept)
    gate_continue (&channel->endpoint->gate, thread);
}

/* ---- calls --------------------------------------------------------------------------------------------- */

/* Sends a request and opens a call for it.  NULL: fault. */
static Pending *
open_call (Channel *channel, ThreadContext *thread, const CallPlan *plan, const void *args, Fault *fault)
{
  Pending *pending = pending_add (channel);
  CellStatus status;
  uint64_t id;

  if (pending == NULL)
    {
      fault_set (fault, CELL_ERROR_BUSY, "%u calls are open on this channel already", channel->n_pending);
      return NULL;
    }
  id = pending->id;
  *pending = (Pending) { .id = id, .plan = plan, .state = PENDING_SENDING };
  status = send_request (channel, thread, plan, args, id, fault);
  pending = pending_find (channel, id);         /* the table may have moved */
  if (status != CELL_OK)
    {
      fault->status = status;
      pending_remove (channel, pending);
      return NULL;
    }
  pending->end = channel->out.head;
  pending->start = pending->end - record_size (channel->sent_length);
  pending->state = PENDING_OPEN;
  return pending;
}

/* A hand-over between our look and the kick may have sent the kick to where nobody is any more. */
static void
kick_sent (Channel *channel, ThreadContext *thread)
{
  do
    channel_kick (channel, thread);
  while (channel->broken == CELL_OK && look_at_epoch (channel, thread));
}

/* Opens a call whose request has been sent, and waits for it. */
static void
sent_call (Channel *channel, ThreadContext *thread, const CallPlan *plan, uint64_t id, uint64_t start, CellResult *result)
{
  Pending *pending = pending_put (channel, id);

  if (pending == NULL)
    {
      result_error_for (result, plan, CELL_ERROR_NO_RESOURCES, "no memory for an open call");
      return;
    }
  *pending = (Pending) {
    .id = id, .start = start, .end = channel->out.head, .plan = plan, .result = result, .state = PENDING_OPEN,
  };
  wait_reply (channel, thread, id, result);
}

/* Sends a request to a cell whose gate this thread holds, and serves it.  False: it has not been sent. */
static bool
send_and_serve (Channel *channel, ThreadContext *thread, const CallPlan *plan, const void *args, uint64_t id)
{
  SentBlobs sent;                       /* these two are large, and not zeroed for nothing */
  Fault fault;

  sent.n = 0;
  fault.status = CELL_OK;
  /* In a channel where something waits, somebody else may look for this record, or for its answer. */
  if (channel->requests.at != channel->out.head || channel->replies.at != channel->answers.head || channel->callee_half != channel->answer_half
      || try_send (channel, plan, args, id, &sent, &fault) != CELL_OK)
    return false;
  serve_one (channel, thread, channel->endpoint->service, true);
  return true;
}

/* A call whose values have pointers, to a cell that is here and whose gate is free.  False: nothing has happened. */
static bool
call_here (Channel *channel, ThreadContext *thread, const CallPlan *plan, const void *args, CellResult *result)
{
  Gate *gate = &channel->endpoint->gate;
  uint64_t id = channel->next_id + 1, start = channel->out.head;
  const Record *reply;
  bool sent;

  /* Blobs leave once: what may have to be sent again some other way does not carry any. */
  if (channel->endpoint->threading != CELL_SERIAL || plan->oneway || (plan->args != NULL && plan->args->blobs) || channel->n_pending != 0
      || channel->broken != CELL_OK || !gate_enter (gate, thread))
    return false;
  sent = send_and_serve (channel, thread, plan, args, id);
  gate_leave (gate, thread);
  if (!sent)
    return false;
  channel->next_id = id;
  reply = ring_peek (&channel->replies);
  if (reply == NULL || reply->id != id || reply->kind != RECORD_REPLY)
    {
      channel_kick (channel, thread);
      sent_call (channel, thread, plan, id, start, result);
    }
  else
    {
      result_fill (result, plan, reply->status, reply->payload, reply->length, reply->root, false, channel->blobs);
      ring_take (&channel->replies, reply->length);
      ring_release (&channel->replies);
    }
  return true;
}

static void
call_slow (Channel *channel, ThreadContext *thread, const CallPlan *plan, const void *args, CellResult *result)
{
  Fault fault = { 0 };
  Pending *pending;
  uint64_t id;

  if (call_here (channel, thread, plan, args, result))
    return;
  pending = open_call (channel, thread, plan, args, &fault);
  if (pending == NULL)
    {
      result_error_for (result, plan, fault.status, fault.message);
      return;
    }
  id = pending->id;
  if (plan->oneway)
    {
      pending_remove (channel, pending);
      *result = (CellResult) { .status = CELL_OK };
      kick_sent (channel, thread);
      return;
    }
  pending->result = result;
  channel_kick (channel, thread);
  wait_reply (channel, thread, id, result);
}

void
direct_missed (Channel *channel, ThreadContext *thread, const CallPlan *plan, uint64_t id, uint64_t start, CellResult *result)
{
  sent_call (channel, thread, plan, id, start, result);
}

/* The answer to the only open call, if it is the next record and has neither an error nor pointers.  False: it has to be looked at as
 * all that arrives is.  Its space is released with the next request. */
static bool
quick_reply (Channel *channel, const CallPlan *plan, uint64_t id, CellResult *result)
{
  const volatile Record *record = ring_peek (&channel->replies);
  uint32_t length, root, n;

  if (record == NULL || record->id != id || record->kind != RECORD_REPLY || record->status != CELL_OK)
    return false;
  length = record->length;
  root = record->root;
  if (root > length || length > channel->replies.mask + 1 - sizeof (Record))
    return false;
  n = root < plan->reply_size ? root : plan->reply_size;
  *result = (CellResult) { .status = CELL_OK };
  copy_bytes (result_outputs (result), (const uint8_t *) record->payload, n);
  if (n < plan->reply_size)
    memset ((uint8_t *) result_outputs (result) + n, 0, plan->reply_size - n);
  channel->replies.at += record_size (length);
  return true;
}

/* A request without pointers to a cell that is here, when no other call is open. */
static void
call_near (Channel *channel, ThreadContext *thread, const CallPlan *plan, const void *args, CellResult *result)
{
  uint32_t size = plan->head.root;
  uint64_t id, start = channel->out.head;
  Record *record = ring_reserve (&channel->out, size, NULL);

  if (record == NULL)
    {
      call_slow (channel, thread, plan, args, result);
      return;
    }
  id = ++channel->next_id;
  copy_bytes (record->payload, args, size);
  record_set_head (record, &plan->head, id);
  release_replies (channel);
  ring_commit (&channel->out, record, size);
  channel_kick (channel, thread);
  sent_call (channel, thread, plan, id, start, result);
}

/* The same to a cell that is in another process: mostly the answer comes while this looks for it. */
static void
call_across (Channel *channel, ThreadContext *thread, const CallPlan *plan, const void *args, CellResult *result)
{
  uint32_t size = plan->head.root;
  uint64_t id, start = channel->out.head;
  Record *record = ring_reserve (&channel->out, size, NULL);

  if (unlikely (record == NULL))
    {
      call_slow (channel, thread, plan, args, result);
      return;
    }
  id = ++channel->next_id;
  ring_write_far (record, args, size);
  record_set_head (record, &plan->head, id);
  release_replies (channel);
  ring_commit_far (&channel->out, record, size);
  full_fence ();
  wake_remote (channel);
  if (unlikely (!spin (channel) || !quick_reply (channel, plan, id, result)))
    sent_call (channel, thread, plan, id, start, result);
}

/* A request without pointers that nobody answers, to a cell that is in another process. */
static void
post_across (Channel *channel, ThreadContext *thread, const CallPlan *plan, const void *args, CellResult *result)
{
  uint32_t size = plan->head.root;
  Record *record = ring_reserve (&channel->out, size, NULL);

  if (unlikely (record == NULL))
    {
      call_slow (channel, thread, plan, args, result);
      return;
    }
  ring_write_far (record, args, size);
  record_set_head (record, &plan->head, ++channel->next_id);
  release_replies (channel);
  ring_commit (&channel->out, record, size);
  full_fence ();
  wake_remote (channel);
  if (unlikely (load_relaxed (&channel->endpoint->epoch->word) != channel->epoch_seen) && look_at_epoch (channel, thread))
    kick_sent (channel, thread);
  *result = (CellResult) { .status = CELL_OK };
}

void
channel_call_far (Channel *channel, ThreadContext *thread, const CallPlan *plan, const void *args, CellResult *result)
{
  bool across = channel->remote || gate_is_closed (&channel->endpoint->gate);

  if (unlikely (channel->broken != CELL_OK))
    call_slow (channel, thread, plan, args, result);
  else if (across && plan->oneway && plan->plain)
    post_across (channel, thread, plan, args, result);
  else if (!plan->fast || channel->n_pending != 0)
    call_slow (channel, thread, plan, args, result);
  else if (across)
    call_across (channel, thread, plan, args, result);
  else
    call_near (channel, thread, plan, args, result);
}

void
channel_call (Channel *channel, ThreadContext *thread, const CallPlan *plan, const void *args, CellResult *result)
{
  if (!direct_call (channel, thread, plan, args, result))
    channel_call_far (channel, thread, plan, args, result);
}

uint64_t
channel_start (Channel *channel, ThreadContext *thread, const CallPlan *plan, const void *args, CellDone done, void *data, CellResult *result)
{
  Fault fault = { 0 };
  bool async = done != NULL && !plan->oneway;
  Pending *pending;
  uint64_t id;

  /* Said before the request can be seen, so that its answer finds it said. */
  if (async)
    {
      channel->n_async++;
      channel_rest (channel);
    }
  pending = open_call (channel, thread, plan, args, &fault);
  if (pending == NULL)
    {
      channel->n_async -= async;
      if (result != NULL)
        result_error_for (result, plan, fault.status, fault.message);
      return 0;
    }
  id = pending->id;
  pending->done = done;
  pending->data = data;
  pending->async = async;
  pending->since = coarse_ms ();
  if (plan->oneway)
    {
      static const uint8_t nothing[2];

      take_reply (channel, id, CELL_OK, nothing, 0, 0);
    }
  kick_sent (channel, thread);
  return id;
}

void
channel_finish (Channel *channel, ThreadContext *thread, uint64_t id, CellResult *result)
{
  Pending *pending = pending_find (channel, id);

  if (pending == NULL || pending->done != NULL)
    {
      result_set_error (result, CELL_ERROR_GONE, "there is no such open call");
      return;
    }
  if (pending->state == PENDING_OPEN)
    {
      pending->result = result;
      wait_reply (channel, thread, id, result);
      return;
    }
  if (pending->kept != NULL)
    result_fill (result, pending->plan, pending->kept->status, pending->kept->payload, pending->kept->length, pending->kept->root,
                 channel->replies_untrusted, channel->blobs);
  else
    result_error_for (result, pending->plan, CELL_ERROR_NO_RESOURCES, status_text (CELL_ERROR_NO_RESOURCES));
  pending_remove (channel, pending);
}

void
channel_cancel (Channel *channel, uint64_t id)
{
  Pending *pending = pending_find (channel, id);

  if (pending == NULL || pending->state == PENDING_SENDING)
    return;
  if (pending->state == PENDING_OPEN)
    {
      withdraw (channel, pending);
      channel->n_async -= pending->async;
    }
  pending_remove (channel, pending);    /* a reply that comes all the same finds nobody */
}

void
channel_expire (Channel *channel, ThreadContext *thread, uint32_t now)
{
  uint8_t payload[512];
  uint32_t length = error_payload (payload, sizeof payload, status_name (CELL_ERROR_DEADLINE), status_text (CELL_ERROR_DEADLINE));

  channel_drain (channel, thread);
  look_again (channel, thread);
  for (uint32_t i = 0; channel->pending != NULL && i <= channel->pending_mask; i++)
    {
      Pending *pending = &channel->pending[i];

      if (pending->id != 0 && pending->state == PENDING_OPEN && pending->result == NULL && now - pending->since > pending->plan->timeout)
        {
          Record *record = (Record *) (channel->out.data + (pending->start & channel->out.mask));

          if (taken_by_peer (channel) <= pending->start)
            atomic_fetch_or (&record->flags, RECORD_CANCELLED);
          take_reply (channel, pending->id, CELL_ERROR_DEADLINE, payload, length, 0);
        }
    }
}

uint32_t
channel_due (const Channel *channel, uint32_t now)
{
  uint32_t due = UINT32_MAX;

  for (uint32_t i = 0; channel->n_async != 0 && i <= channel->pending_mask; i++)
    {
      const Pending *pending = &channel->pending[i];
      uint32_t past = now - pending->since;

      if (pending->id == 0 || !pending->async || pending->state != PENDING_OPEN)
        continue;
      if (past >= pending->plan->timeout)
        return 0;
      if (pending->plan->timeout - past < due)
        due = pending->plan->timeout - past;
    }
  return due;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include "serve.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bell.h"
#include "defer.h"
#include "result.h"
#include "wire.h"

#define SERVE_RECORDS 256               /* of one channel in a row, so that one flood cannot starve the others */
#define SERVE_BYTES (1u << 20)

/* What is read of a record's header, once. */
typedef struct
{
  uint64_t id, trace;
  uint32_t length, root, timeout;
  uint16_t kind, method;
} Header;

static ServeResult
broken (Channel *channel, const char *rule, uint32_t at)
{
  channel->broken_rule = rule;
  channel->broken_at = at;
  channel->broken = CELL_ERROR_CORRUPT;
  return SERVE_BROKEN;
}

/* NULL: fine.  ret_word: offset of the word that breaks the rule. */
static const char *
header_read (Channel *channel, const Record *record, Header *ret, size_t *ret_word)
{
  const volatile Record *r = record;

  *ret = (Header) {
    .id = r->id, .trace = r->trace, .length = r->length, .root = r->root, .timeout = r->timeout, .kind = r->kind,
    .method = r->method,
  };
  *ret_word = offsetof (Record, kind);
  if (ret->kind != RECORD_REQUEST)
    return "record-kind";
  *ret_word = offsetof (Record, length);
  if (ret->length > channel->requests.mask + 1 - sizeof (Record) || ret->length > RECORD_MAX_PAYLOAD)
    return "record-length";
  *ret_word = offsetof (Record, root);
  if (ret->root > ret->length)
    return "record-root";
  return NULL;
}

/* Only of what the cell has: a refusal is quick, whatever was asked for.  Several methods may share a bit: then whoever polls is a
 * little too careful, or not enough. */
static void
learn_slow (const Service *service, const Method *method, uint32_t number, bool slow)
{
  uint64_t bit = endpoint_slow_bit (number), known = load_relaxed (&service->endpoint->slow);

  if (number >= service->n_methods || method != &service->methods[number])
    return;
  if (slow && !(known & bit))
    atomic_fetch_or (&service->endpoint->slow, bit);
  else if (!slow && (known & bit))
    atomic_fetch_and (&service->endpoint->slow, ~bit);
}

void
stats_sample (const Service *service, const Method *method, uint32_t number, uint64_t started)
{
  uint64_t ns = monotonic_ns () - started;
  unsigned bucket = 0;

  if (ns >= 16)
    {
      unsigned octave = 63u - (unsigned) __builtin_clzll (ns);

      bucket = (octave - 4) * 4 + (unsigned) (ns >> (octave - 2) & 3);
    }
  if (bucket >= LATENCY_BUCKETS)
    bucket = LATENCY_BUCKETS - 1;
  atomic_fetch_add_explicit (&method->stats->latency[bucket], 1, memory_order_relaxed);
  learn_slow (service, method, number, ns > SLOW_NS);
}

void
serve_wake_slow (Channel *channel, Record *record, uint32_t waiting)
{
  if (waiting == WAITING_FUTEX)
    futex_wake ((const _Atomic uint32_t *) &record->sequence, 1);
  else if (waiting == WAITING_DOORBELL && channel->caller_bell >= 0)
    bell_ring (channel->caller_bell);
  else if (waiting == WAITING_DOORBELL && channel->notify != NULL)
    channel->notify (channel);
}

/* ---- replies ---------------------------------------------------------------------------------- */

static void
reply_write (Channel *channel, Record *reply, uint16_t kind, uint64_t id, uint16_t method, CellStatus status, uint32_t length,
             uint32_t root, uint64_t trace)
{
  record_set_head (reply, &(RecordHead) { .length = length, .root = root, .kind = kind, .method = method, .status = status,
                                          .trace = trace }, id);
  ring_commit_far (&channel->answers, reply, length);
  ring_publish_head (&channel->answers);
}

static void
reply_commit (Channel *channel, Record *reply, uint16_t kind, uint64_t id, uint16_t method, CellStatus status, uint32_t length,
              uint32_t root, uint64_t trace)
{
  reply_write (channel, reply, kind, id, method, status, length, root, trace);
  serve_wake (channel, reply);
}

const char *
serve_check_status (CellStatus *status, char text[SERVE_TEXT])
{
  if (status_is_known (*status))
    return NULL;
  if (*status == CELL_DEFERRED)
    snprintf (text, SERVE_TEXT, "the handler ended with CELL_DEFERRED, which is for a call that cell_defer () has just kept; it "
                                "returns 0 when it has not");
  else
    snprintf (text, SERVE_TEXT, "the handler ended with %d, which is neither CELL_OK nor an error of <cell/errors.h>", *status);
  *status = CELL_ERROR_INTERNAL;
  return text;
}

static void
serve_error (CellCall *call)
{
  const char *name = call->error, *message = call->message, *wrong;
  char text[SERVE_TEXT];

  wrong = serve_check_status (&call->status, text);
  if (wrong != NULL)
    {
      message = wrong;
      name = NULL;
    }
  if (name == NULL)
    name = call->status == CELL_ERROR_FAILED ? "" : status_name (call->status);
  if (message == NULL)
    message = status_text (call->status);
  call->used = error_payload (call->reply->payload, call->capacity, name, message);
  call->root_out = 0;
}

void
serve_failed (CellCall *call, CellStatus status)
{
  Channel *channel = call->channel;

  if (status < 0)
    atomic_fetch_add_explicit (&call->method->stats->errors, 1, memory_order_relaxed);
  if ((status != CELL_DEFERRED || call->deferred == NULL) && !(call->flags & RECORD_ONEWAY))
    {
      call->status = status;
      serve_error (call);
      reply_commit (channel, call->reply, RECORD_REPLY, call->id, (uint16_t) call->number, call->status, call->used, 0, 0);
    }
  call_clean (call);
  *call = (CellCall) { .channel = channel, .build_in_place = true };
}

void
call_clean (CellCall *call)
{
  call_release_blobs (call);
  if (call->dirty)
    arena_release (&call->thread->arena, call->mark);
  call->dirty = false;
  call->error = call->message = NULL;
  call->deferred = NULL;
}

bool
channel_send (Channel *channel, uint16_t kind, uint64_t id, uint16_t method, CellStatus status, const void *payload,
              uint32_t length, uint32_t root)
{
  Record *reply;

  if (channel->building)
    {
      Kept *kept = kind != RECORD_SIGNAL || channel->n_stashed < SIGNALS_KEPT_MAX ? malloc (sizeof *kept + length) : NULL;

      if (kept == NULL)
        return false;
      *kept = (Kept) { .id = id, .length = length, .root = root, .status = status, .kind = kind, .method = method };
      memcpy (kept->payload, payload, length);
      if (channel->stash == NULL)
        channel->stash_end = &channel->stash;
      *channel->stash_end = kept;
      channel->stash_end = &kept->next;
      channel->n_stashed++;
      return true;
    }
  /* A signal may not use what was promised to calls. */
  reply = ring_reserve (&channel->answers, length + (kind == RECORD_SIGNAL ? channel->reserved : 0), NULL);
  if (reply == NULL)
    return false;
  memcpy (reply->payload, payload, length);
  reply_commit (channel, reply, kind, id, method, status, length, root, 0);
  return true;
}

void
serve_flush_stash (Channel *channel)
{
  Kept *kept, *next;
  uint64_t missed;

  kept = channel->stash;
  channel->stash = NULL;
  channel->n_stashed = 0;
  missed = channel->stash_missed;
  channel->stash_missed = 0;
  for (; kept != NULL; kept = next)
    {
      next = kept->next;
      if (kept->kind == RECORD_SIGNAL)
        serve_signal (channel, kept->id, kept->method, kept->payload, kept->length, kept->root);
      else
        channel_send (channel, kept->kind, kept->id, kept->method, kept->status, kept->payload, kept->length, kept->root);
      free (kept);
    }
  channel->missed += missed;
}

/* ---- a signal that there is no room for --------------------------------------------------------- */

/* The caller says when it has read something, however late it does, and calls are served meanwhile. */
static void
ask_for_room (Channel *channel)
{
  HalfControl *own = channel->answers.own;

  store_relaxed (&channel->unsent_at, load_acquire (&channel->answers.peer->released));
  if (load_relaxed (&own->blocked) == 0)
    store_relaxed (&channel->blocked_at, BLOCKED_SIGNAL);
  store_relaxed (&own->blocked, 1);
  full_fence ();
}

void
channel_drop_signal (Channel *channel)
{
  free (channel->unsent);
  channel->unsent = NULL;
  store_relaxed (&channel->has_unsent, 0);
}

static bool
send_unsent (Channel *channel)
{
  const Kept *kept = channel->unsent;

  if (!channel_send (channel, RECORD_SIGNAL, channel->missed, kept->method, CELL_OK, kept->payload, kept->length, kept->root))
    return false;
  channel->missed = 0;
  channel_drop_signal (channel);
  if (load_relaxed (&channel->blocked_at) == BLOCKED_SIGNAL)
    store_relaxed (&channel->answers.own->blocked, 0);
  return true;
}

/* The signal that waits for room, if it is there now. */
static void
flush_signal (Channel *channel)
{
  if (channel->unsent == NULL || send_unsent (channel))
    return;
  ask_for_room (channel);
  send_unsent (channel);                /* what was read before it was asked for */
}

void
channel_keep_signal (Channel *channel, uint16_t number, const void *payload, uint32_t length, uint32_t root)
{
  Kept *kept = record_size (length) <= channel->answers.mask + 1 ? malloc (sizeof *kept + length) : NULL;

  if (channel->unsent != NULL)
    {
      channel->missed++;
      channel_drop_signal (channel);
    }
  if (kept == NULL)
    {
      channel->missed++;                /* there will never be room for it, or there is no memory */
      return;
    }
  *kept = (Kept) { .length = length, .root = root, .kind = RECORD_SIGNAL, .method = number };
  memcpy (kept->payload, payload, length);
  channel->unsent = kept;
  store_relaxed (&channel->has_unsent, 1);
}

/* While a reply is being built what is sent waits for it; the newest signals do. */
static void
stash_signal (Channel *channel, uint64_t missed, uint16_t number, const void *payload, uint32_t length, uint32_t root)
{
  channel->stash_missed += missed;
  if (channel->n_stashed >= SIGNALS_KEPT_MAX && kept_drop_signal (&channel->stash, &channel->stash_end, &channel->stash_missed))
    channel->n_stashed--;
  if (channel_send (channel, RECORD_SIGNAL, channel->stash_missed, number, CELL_OK, payload, length, root))
    channel->stash_missed = 0;
  else
    channel->stash_missed++;
}

void
serve_signal (Channel *channel, uint64_t missed, uint16_t number, const void *payload, uint32_t length, uint32_t root)
{
  if (channel->building != NULL)
    {
      stash_signal (channel, missed, number, payload, length, root);
      return;
    }
  flush_signal (channel);
  channel->missed += missed;
  if (channel->unsent == NULL && channel_send (channel, RECORD_SIGNAL, channel->missed, number, CELL_OK, payload, length, root))
    {
      channel->missed = 0;
      return;
    }
  channel_keep_signal (channel, number, payload, length, root);
  flush_signal (channel);
}

/* ---- one request, whatever it is --------------------------------------------------------------- */

/* The request's struct, checked, in private memory or where nobody else can change it. */
static const void *
request_decode (CellCall *call, Record *record, const Header *header, CodecFault *fault)
{
  Channel *channel = call->channel;
  const CodecPlan *plan = call->method->in;
  Arena *arena = &call->thread->arena;
  uint8_t *payload = record->payload, *local;
  unsigned flags = channel->untrusted ? CODEC_PRIVATE : CODEC_TRUSTED;

  if (plan == NULL)
    return payload;
  if (channel->untrusted)
    {
      payload = arena_get (arena, header->length);
      if (payload == NULL)
        {
          *fault = (CodecFault) { CELL_ERROR_NO_RESOURCES, "arena", "", 0 };
          return NULL;
        }
      copy_bytes (payload, record->payload, header->length);
      atomic_signal_fence (memory_order_seq_cst);       /* from here on only the copy is looked at */
    }
  if (plan->trivial && header->root >= plan->size)
    return payload;
  local = arena_get (arena, plan->size);
  if (local == NULL)
    {
      *fault = (CodecFault) { CELL_ERROR_NO_RESOURCES, "arena", "", 0 };
      return NULL;
    }
  return codec_decode (plan, payload, header->length, header->root, flags, arena, &(CodecBlobs) { NULL, call_import_blob, call },
                       local, fault) ? local : NULL;
}

static void
run_handler (CellCall *call, Method *method)
{
  Service *service = call->service;
  const CodecPlan *plan = method->out;
  uint32_t size = plan != NULL ? plan->size : 0;
  void *out = call->reply->payload;
  uint64_t started = 0;
  CodecFault fault;

  if (!method->fast || call->channel->untrusted)
    {
      out = arena_get (&call->thread->arena, size);
      if (out == NULL)
        {
          call->status = CELL_ERROR_NO_RESOURCES;
          return;
        }
    }
  zero_bytes (out, size);
  if (stats_is_sampled (load_relaxed (&method->stats->calls)))
    started = monotonic_ns ();
  frame_enter (&call->frame, service, call->thread);
  call->status = method->invoke (service->self, call, call->in, out);
  frame_leave (&call->frame, call->thread);
  if (started != 0)
    stats_sample (service, method, call->number, started);
  if (call->status != CELL_OK || plan == NULL)
    {
      call->used = 0;
      return;
    }
  if (plan->trivial)
    {
      if (out != call->reply->payload)
        copy_bytes (call->reply->payload, out, size);
      call->used = size;
    }
  else if (!codec_encode (plan, out, call->reply->payload, call->capacity, &call->used,
                          &(CodecBlobs) { call_export_blob, NULL, call->channel->blobs }, &fault))
    {
      char *text = arena_get (&call->thread->arena, SERVE_TEXT);

      call->status = serve_reply_fault (&fault, call->capacity, text);
      call->message = text;
    }
  call->root_out = size;
}

/* Its author can do something about it, who is told which output it is, or which bound. */
CellStatus
serve_reply_fault (const CodecFault *fault, uint32_t capacity, char *text)
{
  bool large = fault->status == CELL_ERROR_TOO_LARGE;

  if (text != NULL && large)
    snprintf (text, SERVE_TEXT, "the reply is larger than %u bytes, the method's max_reply; larger data travels as a blob",
              capacity);
  else if (text != NULL)
    snprintf (text, SERVE_TEXT, "the handler's output %s: %s", fault->field, fault->rule);
  return large || fault->status == CELL_ERROR_NO_RESOURCES ? fault->status : CELL_ERROR_INTERNAL;
}

/* own: the caller is this thread, and does not sleep. */
static void
answer (CellCall *call, uint16_t number, bool own)
{
  Channel *channel = call->channel;

  channel->building = NULL;
  if (call->flags & RECORD_ONEWAY)
    return;
  if (call->status == CELL_DEFERRED && call->deferred != NULL)
    return;
  if (call->status != CELL_OK)
    serve_error (call);
  reply_write (channel, call->reply, RECORD_REPLY, call->id, number, call->status, call->used, call->root_out, call->trace);
  if (!own)
    serve_wake (channel, call->reply);
}

static MethodStats no_method_stats;

static CellStatus
no_method (void *self, CellCall *call, const void *in, void *out)
{
  (void) self;
  (void) in;
  (void) out;
  call->message = "the cell that serves now does not have this method";
  return CELL_ERROR_NO_METHOD;
}

#define DENIED_MAX 400u         /* bytes; an error has room for a little more */

static CellStatus
denied (void *self, CellCall *call, const void *in, void *out)
{
  static const char *const general[] = {
    [CELL_ACCESS_VIEW] = "its caller does not have the role 'view', which this method asks for; an ejected cell's is Role= in the "
                         "policy",
    [CELL_ACCESS_OPERATE] = "its caller does not have the role 'operate', which this method asks for; an ejected cell's is Role= "
                            "in the policy",
    [CELL_ACCESS_ADMIN] = "its caller does not have the role 'admin', which this method asks for; an ejected cell's is Role= in "
                          "the policy",
  };
  Channel *channel = call->channel;
  uint32_t access = call->method->access;
  char *text = channel->endpoint->say_denied != NULL ? arena_get (&call->thread->arena, DENIED_MAX) : NULL;

  (void) self;
  (void) in;
  (void) out;
  call->message = general[access <= CELL_ACCESS_ADMIN ? access : CELL_ACCESS_ADMIN];
  if (text != NULL)
    {
      channel->endpoint->say_denied (channel, access, text, DENIED_MAX);
      call->message = text;
    }
  return CELL_ERROR_DENIED;
}

/* A call to WIRE_METHOD_SUBSCRIBE: which signals this channel gets. */
static CellStatus
subscribe (void *self, CellCall *call, const void *in, void *out)
{
  (void) self;
  (void) out;
  if (call->root < sizeof (uint64_t))
    return CELL_ERROR_INVALID;
  channel_subscribe (call->channel, *(const volatile uint64_t *) in);   /* where it lies: without a plan nothing is copied */
  return CELL_OK;
}

/* What is called by that number: `none`, which is filled in, if it is nothing, or nothing that the caller may call. */
static Method *
choose_method (const Channel *channel, Service *service, uint32_t number, Method *none)
{
  Method *method = number < service->n_methods ? &service->methods[number] : NULL;

  if (method != NULL && method->invoke != NULL && method->access <= channel->access)
    return method;
  *none = (Method) { .invoke = number == WIRE_METHOD_SUBSCRIBE ? subscribe : no_method, .max_reply = ERROR_ROOM, .name = "",
                     .stats = &no_method_stats };
  if (method != NULL && method->invoke != NULL)
    {
      none->invoke = denied;
      none->access = method->access;
      none->stats = method->stats;
    }
  return none;
}

/* SERVE_DONE: there is room for a reply. */
static ServeResult
reserve_reply (Channel *channel, Service *service, uint32_t capacity, Record **ret_reply)
{
  RingWriter *answers = &channel->answers;
  Fault fault = { 0 };
  Record *reply = ring_reserve (answers, capacity + channel->reserved, &fault);

  if (reply == NULL && fault.status == CELL_OK && channel->reserved != 0 && deferred_end_overdue (service, channel))
    reply = ring_reserve (answers, capacity + channel->reserved, &fault);
  if (reply == NULL && fault.status == CELL_OK)
    {
      /* The caller's cursor as it was before the last look: what it reads from here on changes it. */
      store_relaxed (&channel->blocked_at, load_acquire (&answers->peer->released));
      store_relaxed (&answers->own->blocked, 1);
      full_fence ();
      reply = ring_reserve (answers, capacity + channel->reserved, &fault);
      if (reply == NULL && fault.status == CELL_OK)
        return SERVE_BLOCKED;
    }
  if (reply == NULL)
    return broken (channel, "released-cursor", offsetof (HalfControl, released));
  if (load_relaxed (&answers->own->blocked) != 0)
    {
      store_relaxed (&channel->blocked_at, BLOCKED_SIGNAL);
      store_relaxed (&answers->own->blocked, load_relaxed (&channel->has_unsent));
    }
  *ret_reply = reply;
  return SERVE_DONE;
}

/* False: the request is not what it should be; nothing has run. */
static bool
execute (CellCall *call, Method *method, Record *record, const Header *header, CodecFault *fault)
{
  ThreadContext *thread = call->thread;
  uint32_t depth;

  call->channel->building = call;
  call->in = request_decode (call, record, header, fault);
  if (call->in == NULL && fault->status == CELL_ERROR_CORRUPT)
    {
      call->channel->building = NULL;
      return false;
    }
  if (method->out != NULL && method->out->size > call->capacity)
    call->status = CELL_ERROR_TOO_LARGE;
  else if (call->in != NULL)
    {
      /* The reply belongs to it: what that points to may be wrong. */
      depth = trail_enter (&thread->trail, call->service->endpoint->cell);
      run_handler (call, method);
      trail_leave (&thread->trail, depth);
    }
  else
    {
      call->status = fault->status;
      call->message = fault->status == CELL_ERROR_GONE ? BLOB_GONE : NULL;
    }
  stats_count (call->service->endpoint, method, call->status < 0);
  return true;
}

ServeResult
serve_one (Channel *channel, ThreadContext *thread, Service *service, bool own)
{
  Record *record = ring_peek (&channel->requests), *reply;
  ArenaMark mark = arena_mark (&thread->arena);
  uint64_t at = channel->requests.at;
  uint32_t capacity, whole = (uint32_t) (channel->answers.mask + 1 - sizeof (Record));
  CodecFault fault = { 0 };
  const char *rule;
  Method *method, none;
  ServeResult room;
  Header header;
  CellCall call;
  size_t word;

  if (record == NULL)
    return SERVE_EMPTY;
  rule = header_read (channel, record, &header, &word);
  if (rule != NULL)
    return broken (channel, rule, ring_place (&channel->requests, at, word));
  method = choose_method (channel, service, header.method, &none);
  /* A ring that is smaller than the largest reply is a limit, not a reason to wait for ever. */
  capacity = method->max_reply < whole ? method->max_reply : whole;
  room = reserve_reply (channel, service, capacity, &reply);
  if (room != SERVE_DONE)
    return room;

  /* Not as one compound literal: the compiler fills so many bytes with an instruction that takes its time to start. */
  zero_bytes (&call, sizeof call);
  call.channel = channel;
  call.service = service;
  call.method = method;
  call.thread = thread;
  call.id = header.id;
  call.number = header.method;
  call.trace = header.trace;
  call.reply = reply;
  call.capacity = capacity;
  call.request = record;
  call.length = header.length;
  call.root = header.root;
  call.used = codec_built_from (method->out != NULL ? method->out->size : 0);
  call.build_in_place = !channel->untrusted && call.used <= capacity;
  ring_take (&channel->requests, header.length);
  /* Who gives a call up marks it and then looks at `taken`: one of us sees the other.  Another process is never told that its call
   * was not executed. */
  if (!own && !channel->untrusted)
    full_fence ();
  call.flags = load_relaxed (&record->flags);
  if (call.flags & RECORD_CANCELLED)
    {
      /* Mostly nobody waits any more, and the mark says so: answers that nobody reads would leave no room for others.  Who marks it
       * and waits would have waited for itself, saw that we took it, and not that we saw the mark. */
      call.status = CELL_ERROR_DEADLOCK;
      call.message = WAITS_FOR_ITSELF;
    }
  else if (!execute (&call, method, record, &header, &fault))
    {
      call_release_blobs (&call);
      arena_release (&thread->arena, mark);
      return broken (channel, fault.rule, ring_place (&channel->requests, at, sizeof (Record)));
    }
  answer (&call, header.method, own);
  call_release_blobs (&call);
  arena_release (&thread->arena, mark);
  ring_release (&channel->requests);
  if (channel->stash != NULL)
    serve_flush_stash (channel);
  return SERVE_DONE;
}

#define QUICK_MAX 256u                  /* bytes of a request or reply that are copied to and from the stack */

/* Serves the next record if it is the plainest there is from another process: no pointers, not cancelled, room for the reply.
 * False: it is not, or there is none; nothing has happened. */
static bool
serve_quick (Channel *channel, ThreadContext *thread, Service *service)
{
  const volatile Record *record = ring_peek (&channel->requests);
  uint64_t id, in[QUICK_MAX / 8], out[QUICK_MAX / 8];
  uint32_t number, length, root, in_size, out_size, flags;
  const Method *method;
  Record *reply = NULL;
  CellStatus status;

  if (record == NULL)
    return false;
  id = record->id;
  number = record->method;
  length = record->length;
  root = record->root;
  flags = load_relaxed (&record->flags);
  if (number >= service->n_methods || record->kind != RECORD_REQUEST || (flags & ~RECORD_ONEWAY) != 0)
    return false;
  method = &service->methods[number];
  in_size = method->in_size;
  out_size = method->head.root;
  if (!method->fast || length > QUICK_MAX || root > length || in_size > root || in_size > QUICK_MAX || out_size > QUICK_MAX
      || channel->reserved != 0 || load_relaxed (&channel->answers.own->blocked) != 0)
    return false;
  if (flags == 0 && (reply = ring_reserve (&channel->answers, method->max_reply, NULL)) == NULL)
    return false;

  copy_bytes (in, (const uint8_t *) record->payload, in_size);
  atomic_signal_fence (memory_order_seq_cst);           /* from here on only the copy is looked at */
  ring_take (&channel->requests, length);
  channel->trivial_call.flags = flags;
  status = serve_trivial (channel, thread, service, method, id, reply, in, out, out_size);
  if (likely (status == CELL_OK && flags == 0))
    {
      ring_write_far (reply, out, out_size);
      record_set_head (reply, &method->head, id);
      ring_commit_far (&channel->answers, reply, out_size);
      ring_publish_head (&channel->answers);
      serve_wake (channel, reply);
    }
  else if (status != CELL_OK)
    serve_failed (&channel->trivial_call, status);
  if (unlikely (channel->trivial_call.dirty))
    call_clean (&channel->trivial_call);
  ring_release (&channel->requests);
  if (unlikely (channel->stash != NULL))
    serve_flush_stash (channel);
  return true;
}

NodeResult
channel_serve (Channel *channel, ThreadContext *thread)
{
  Endpoint *endpoint = channel->endpoint;
  uint64_t start = channel->requests.at;

  if (unlikely (load_relaxed (&channel->has_unsent) != 0) && channel->broken == CELL_OK)
    flush_signal (channel);
  for (unsigned n = 0; n < SERVE_RECORDS && channel->requests.at - start < SERVE_BYTES; n++)
    {
      if (channel->broken != CELL_OK || load_relaxed (&channel->ended) != 0)
        return NODE_DONE;
      if (channel->untrusted && serve_quick (channel, thread, endpoint->service))
        continue;
      switch (serve_one (channel, thread, endpoint->service, false))
        {
        case SERVE_DONE:
          continue;
        case SERVE_BROKEN:
          if (channel->on_broken != NULL)
            channel->on_broken (channel);
          return NODE_DONE;
        case SERVE_EMPTY:
        case SERVE_BLOCKED:
          return NODE_DONE;
        }
    }
  return NODE_MORE;
}

void
channel_serve_ready (Channel *channel, ThreadContext *thread)
{
  Endpoint *endpoint = channel->endpoint;

  if (endpoint->threading == CELL_CONCURRENT)
    {
      NodeResult result;
      bool again;

      do
        {
          if (!concurrent_enter (channel, thread))
            break;
          channel_flush_posted (channel);
          result = channel_serve (channel, thread);
          again = concurrent_leave (channel);
        }
      while (again || (result == NODE_MORE && !channel->untrusted));    /* who is polled is come back to: others wait too */
      return;
    }
  if (gate_enter (&endpoint->gate, thread))
    {
      NodeResult result = channel_serve (channel, thread);

      gate_leave (&endpoint->gate, thread);
      if (result != NODE_MORE || channel->untrusted)    /* who is polled is come back to */
        return;
    }
  /* The list has a reference: a caller may have its answer, and close its channel, while the holder still looks for more. */
  channel_ref (channel);
  switch (gate_push (&endpoint->gate, &channel->node, thread))
    {
    case PUSH_HOLDING:
      gate_leave (&endpoint->gate, thread);
      break;
    case PUSH_QUEUED:
      break;
    case PUSH_ALREADY:
    case PUSH_CLOSED:
      channel_unref (channel);
      break;
    }
}

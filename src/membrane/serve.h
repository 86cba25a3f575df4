/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The callee's end: taking requests, running handlers, answering.
 */
#pragma once
#include "bytes.h"
#include "channel.h"

typedef enum
{
  SERVE_EMPTY,                  /* nothing there */
  SERVE_DONE,
  SERVE_BLOCKED,                /* no room for the reply: the channel is set aside until its caller has read some */
  SERVE_BROKEN                  /* the peer broke the protocol: the channel has ended */
} ServeResult;

/* Serves the next record.  The caller of this holds the gate, or the channel of a concurrent cell.  own: whoever sent it is this
 * very thread and looks by itself. */
ServeResult serve_one (Channel *channel, ThreadContext *thread, Service *service, bool own);
/* The handler of a call without pointers failed or deferred. */
void serve_failed (CellCall *call, CellStatus status);
#define SERVE_TEXT 200u                 /* room for such a sentence */
/* NULL: a handler may end with that error.  Else what its author is told, with CELL_ERROR_INTERNAL. */
const char *serve_check_status (CellStatus *status, char text[SERVE_TEXT]);
/* The status and, unless it is NULL, the sentence of a reply that cannot be encoded into its room. */
CellStatus serve_reply_fault (const CodecFault *fault, uint32_t capacity, char *text);
void serve_flush_stash (Channel *channel);
/* Sends a signal, or keeps it in the place of one that waits for room.  missed: before it, that the channel does not know of. */
void serve_signal (Channel *channel, uint64_t missed, uint16_t number, const void *payload, uint32_t length, uint32_t root);
/* Gives back what such a call has taken besides its reply. */
void call_clean (CellCall *call);
/* Tells a caller that sleeps. */
void serve_wake_slow (Channel *channel, Record *record, uint32_t waiting);
/* The handler of a call that began at `started` (monotonic ns) has returned.  Whoever polls for others goes by what that says of
 * the next ones. */
void stats_sample (const Service *service, const Method *method, uint32_t number, uint64_t started);

/* The caller sleeps?  The fence orders the commit before the look; a caller looks again between saying so and sleeping. */
static inline void
serve_wake (Channel *channel, Record *record)
{
  uint32_t waiting;

  full_fence ();
  waiting = load_relaxed (&channel->answers.peer->waiting);
  if (unlikely (waiting != WAITING_NOT))
    serve_wake_slow (channel, record, waiting);
}

/* Whether the time in the handler is taken of the n-th call.  Two looks at the clock cost more than a short call does. */
static inline bool
stats_is_sampled (uint64_t n)
{
  return (n & (n < 4096 ? 15u : 255u)) == 0;
}

static inline void
stats_count (Endpoint *endpoint, Method *method, bool failed)
{
  MethodStats *stats = method->stats;

  if (likely (endpoint->threading != CELL_CONCURRENT))
    store_relaxed (&stats->calls, load_relaxed (&stats->calls) + 1);
  else
    atomic_fetch_add_explicit (&stats->calls, 1, memory_order_relaxed);
  if (unlikely (failed))
    atomic_fetch_add_explicit (&stats->errors, 1, memory_order_relaxed);
}

/* Runs the handler of a call whose request and reply have no pointers.  in: in the record where the caller is this process,
 * otherwise a private copy; out: likewise, `size` bytes, zeroed here. */
static inline CellStatus
serve_trivial (Channel *channel, ThreadContext *thread, Service *service, const Method *method, uint64_t id, Record *reply,
               const void *in, void *out, uint32_t size)
{
  CellCall *call = &channel->trivial_call;
  MethodStats *stats = method->stats;
  uint64_t n = load_relaxed (&stats->calls), started = 0;
  uint32_t depth;
  CellStatus status;

  /* Mostly the same as last time: fewer stores, which are what a call waits for. */
  if (unlikely (call->method != method || call->thread != thread || call->service != service))
    {
      call->method = method;
      call->thread = thread;
      call->frame.service = call->service = service;
      call->number = method->head.method;
      call->capacity = method->max_reply;
      call->build_in_place = !channel->untrusted;
    }
  call->used = size;
  call->id = id;
  call->in = in;
  call->reply = reply;
  channel->building = call;
  call->frame.outer = thread->frame;
  thread->frame = &call->frame;
  zero_bytes (out, size);
  if (unlikely (stats_is_sampled (n)))
    started = monotonic_ns ();
  if (service->endpoint->threading != CELL_CONCURRENT)
    store_relaxed (&stats->calls, n + 1);
  else
    atomic_fetch_add_explicit (&stats->calls, 1, memory_order_relaxed);
  depth = trail_enter (&thread->trail, service->endpoint->cell);
  status = method->invoke (service->self, call, in, out);
  thread->frame = call->frame.outer;
  trail_leave (&thread->trail, depth);
  channel->building = NULL;
  if (unlikely (started != 0))
    stats_sample (service, method, call->number, started);
  return status;
}

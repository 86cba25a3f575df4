/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Serving one record, inlined where a caller runs the callee.
 */
#pragma once
#include <string.h>

#include "channel.h"

typedef enum
{
  SERVE_EMPTY,                  /* nothing there */
  SERVE_DONE,
  SERVE_BLOCKED,                /* no room for the reply: the channel is set aside until its caller has read some */
  SERVE_BROKEN                  /* the peer broke the protocol: the channel has ended */
} ServeResult;

/* Every other case: strings and arrays, a caller in another process, cancelled, deferred … */
ServeResult serve_slow (Channel *channel, ThreadContext *thread, Service *service, Record *record, bool own);
/* The fast path's handler failed or deferred. */
void serve_failed (CellCall *call, CellStatus status);
void serve_flush_stash (Channel *channel);
/* Gives back what a fast call has taken besides its reply. */
void call_clean (CellCall *call);
/* Tells a caller that sleeps. */
void serve_wake_slow (Channel *channel, Record *record, uint32_t waiting);
void stats_sample (Method *method, uint64_t started);

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

static inline void
zero_words (void *to, size_t n)
{
  uint8_t *d = to;

  if (unlikely (n > 256))
    {
      memset (d, 0, n);
      return;
    }
  for (; n >= 32; n -= 32, d += 32)
    __builtin_memset (d, 0, 32);
  for (; n >= 8; n -= 8, d += 8)
    __builtin_memset (d, 0, 8);
  for (; n > 0; n--)
    *d++ = 0;
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

/* Serves the next record of a caller in this process; the caller of this holds the gate.  own: the caller is this very thread and
 * looks by itself. */
static inline ServeResult
serve_one (Channel *channel, ThreadContext *thread, Service *service, bool own)
{
  Record *record = ring_peek (&channel->requests), *reply;
  Method *method;
  uint32_t number, size;
  CellStatus status;
  CellCall *call = &channel->fast_call;
  uint64_t started = 0;

  if (record == NULL)
    return SERVE_EMPTY;
  number = record->method;
  if (unlikely (channel->untrusted || !own || number >= service->n_methods || !service->methods[number].fast
                || channel->reserved != 0 || load_relaxed (&record->flags) != 0))
    return serve_slow (channel, thread, service, record, own);
  method = &service->methods[number];
  size = method->head.root;
  if (unlikely (record->root < (method->in != NULL ? method->in->size : 0)
                || (reply = ring_reserve (&channel->answers, method->max_reply, NULL)) == NULL))
    return serve_slow (channel, thread, service, record, own);

  if (unlikely (call->method != method || call->thread != thread || call->service != service))
    {
      call->method = method;
      call->number = number;
      call->thread = thread;
      call->service = service;
      call->capacity = method->max_reply;
      call->deferred = NULL;
    }
  call->request = record;
  call->reply = reply;
  call->used = size;
  channel->building = call;
  zero_words (reply->payload, size);
  ring_take (&channel->requests, record->length);
  if (unlikely ((load_relaxed (&method->stats->calls) & 63) == 0))
    started = monotonic_ns ();
  status = method->invoke (service->self, call, record->payload, reply->payload);
  if (unlikely (started != 0))
    stats_sample (method, started);
  stats_count (service->endpoint, method, status < 0);
  channel->building = NULL;
  if (unlikely (status != CELL_OK))
    serve_failed (call, status);
  else
    {
      record_set_head (reply, &method->head, record->id);
      ring_commit (&channel->answers, reply, size);
    }
  if (unlikely (call->dirty))
    call_clean (call);
  ring_release (&channel->requests);
  if (unlikely (channel->stash != NULL))
    serve_flush_stash (channel);
  return SERVE_DONE;
}

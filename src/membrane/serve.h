/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The callee's end: taking requests, running handlers, answering.
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

/* Serves the next record.  The caller of this holds the gate, or the channel of a concurrent cell.  own: whoever sent it is this
 * very thread and looks by itself. */
ServeResult serve_one (Channel *channel, ThreadContext *thread, Service *service, bool own);
/* A direct call's handler failed or deferred. */
void serve_failed (CellCall *call, CellStatus status);
void serve_flush_stash (Channel *channel);
/* Gives back what a direct call has taken besides its reply. */
void call_clean (CellCall *call);
/* Tells a caller that sleeps. */
void serve_wake_slow (Channel *channel, Record *record, uint32_t waiting);
void stats_sample (const Method *method, uint64_t started);

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

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the callee's end sends besides replies: signals, and answers to calls that were kept.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "blob.h"
#include "defer.h"
#include "serve.h"

#define SPINS_BEFORE_YIELD 100u

/* ---- one channel ------------------------------------------------------------------------------- */

void
channel_flush_posted (Channel *channel)
{
  Kept *kept, *next;
  uint64_t missed;

  if (likely (load_relaxed (&channel->n_posted) == 0))
    return;
  pthread_mutex_lock (&channel->lock);
  kept = channel->posted;
  missed = channel->posted_missed;
  channel->posted = NULL;
  channel->posted_missed = 0;
  store_relaxed (&channel->n_posted, 0);
  pthread_mutex_unlock (&channel->lock);
  for (; kept != NULL; kept = next)
    {
      next = kept->next;
      channel->reserved -= kept->credit;
      if (kept->kind == RECORD_SIGNAL)
        serve_signal (channel, kept->id, kept->method, kept->payload, kept->length, kept->root);
      else
        channel_send (channel, kept->kind, kept->id, kept->method, kept->status, kept->payload, kept->length, kept->root);
      free (kept);
    }
  channel->missed += missed;
}

uint32_t
concurrent_await_sent (Channel *channel)
{
  uint32_t busy;

  for (unsigned n = 0; (busy = atomic_load (&channel->busy)) == BUSY_SENDING; n++)
    {
      if (n < SPINS_BEFORE_YIELD)
        cpu_relax ();
      else
        sched_yield ();
    }
  return busy;
}

/* Makes sure that what has been posted is sent: by whoever has the channel, or here. */
static void
send_posted (Channel *channel)
{
  uint32_t busy = BUSY_NOT;

  for (;;)
    {
      if (busy == BUSY_SENDING)
        busy = concurrent_await_sent (channel);
      if (atomic_compare_exchange_weak (&channel->busy, &busy, busy == BUSY_NOT ? BUSY_SENDING : BUSY_AGAIN))
        break;
    }
  if (busy != BUSY_NOT)
    return;
  channel_flush_posted (channel);
  atomic_store (&channel->busy, BUSY_NOT);
}

/* An answer is never refused: there is one for each kept call, and its room was promised.  payload NULL: a signal that is only
 * counted. */
static void
post (Channel *channel, const Kept *head, const void *payload)
{
  Kept *kept = payload != NULL ? malloc (sizeof *kept + head->length) : NULL;
  bool posted;

  if (kept == NULL && head->kind != RECORD_SIGNAL)
    abort ();
  pthread_mutex_lock (&channel->lock);
  if (kept != NULL && head->kind == RECORD_SIGNAL && load_relaxed (&channel->n_posted) >= SIGNALS_KEPT_MAX
      && kept_drop_signal (&channel->posted, &channel->posted_end, &channel->posted_missed))
    store_relaxed (&channel->n_posted, load_relaxed (&channel->n_posted) - 1);
  posted = kept != NULL && (head->kind != RECORD_SIGNAL || load_relaxed (&channel->n_posted) < SIGNALS_KEPT_MAX);
  if (posted)
    {
      memcpy (kept, head, sizeof *kept);
      memcpy (kept->payload, payload, head->length);
      if (head->kind == RECORD_SIGNAL)
        {
          kept->id = channel->posted_missed;
          channel->posted_missed = 0;
        }
      if (channel->posted == NULL)
        channel->posted_end = &channel->posted;
      *channel->posted_end = kept;
      channel->posted_end = &kept->next;
      store_relaxed (&channel->n_posted, load_relaxed (&channel->n_posted) + 1);
    }
  else
    channel->posted_missed++;
  pthread_mutex_unlock (&channel->lock);
  if (posted)
    send_posted (channel);
  else
    free (kept);
}

/* In a serial cell whoever runs its code has all its channels; in a concurrent one, the one that it serves. */
static bool
has_channel (const Channel *channel, const ThreadContext *thread)
{
  return channel->endpoint->threading != CELL_CONCURRENT || load_relaxed (&channel->server) == thread;
}

void
channel_send_answer (Channel *channel, ThreadContext *thread, uint64_t id, uint16_t method, CellStatus status, const void *payload,
                     uint32_t length, uint32_t root, uint32_t credit)
{
  if (!has_channel (channel, thread))
    {
      Kept head = {
        .id = id, .length = length, .root = root, .status = status, .kind = RECORD_REPLY, .method = method, .credit = credit,
      };

      post (channel, &head, payload);
      return;
    }
  channel->reserved -= credit;
  channel_send (channel, RECORD_REPLY, id, method, status, payload, length, root);
}

/* ---- signals ------------------------------------------------------------------------------------- */

void
channel_subscribe (Channel *channel, uint64_t signals)
{
  Endpoint *endpoint = channel->endpoint;

  pthread_mutex_lock (&endpoint->lock);
  store_relaxed (&channel->subscribed, signals);
  if (channel->answer_half != NULL)
    store_relaxed (&channel->answer_half->control->subscribed, signals);
  atomic_fetch_or (&endpoint->subscribed, signals);
  pthread_mutex_unlock (&endpoint->lock);
}

/* References to the channels that want a signal; to be freed.  NULL: there are none. */
static Channel **
subscribers (Endpoint *endpoint, uint64_t bit, uint32_t *ret_n)
{
  Channel **channels = NULL;
  uint32_t n = 0;

  pthread_mutex_lock (&endpoint->lock);
  for (Channel *channel = endpoint->channels; channel != NULL; channel = channel->next_in_endpoint)
    n += (load_relaxed (&channel->subscribed) & bit) != 0;
  if (n == 0)
    atomic_fetch_and (&endpoint->subscribed, ~bit);
  else
    channels = malloc (n * sizeof *channels);
  *ret_n = 0;
  for (Channel *channel = endpoint->channels; channel != NULL && channels != NULL; channel = channel->next_in_endpoint)
    if (load_relaxed (&channel->subscribed) & bit)
      channels[(*ret_n)++] = channel_ref (channel);
  pthread_mutex_unlock (&endpoint->lock);
  return channels;
}

typedef struct
{
  BlobPort *port;
  bool any;
} SignalBlobs;

static uint64_t
export_noted (void *data, CellBlob *blob)
{
  SignalBlobs *blobs = data;

  blobs->any = true;
  return call_export_blob (blobs->port, blob);
}

/* The payload of a signal, in the thread's arena; NULL: it cannot be sent, and is counted as missed. */
static uint8_t *
signal_encode (ThreadContext *thread, const CodecPlan *plan, const void *args, SignalBlobs *blobs, uint32_t *ret_length,
               CodecFault *fault)
{
  CodecBlobs codec = { export_noted, NULL, blobs };

  *fault = (CodecFault) { CELL_ERROR_NO_RESOURCES, "there is no memory for it", "", 0 };
  for (uint32_t capacity = plan->size + 4096; capacity <= RECORD_MAX_PAYLOAD; capacity *= 4)
    {
      uint8_t *payload = arena_get (&thread->arena, capacity);

      *ret_length = plan->size;
      if (payload == NULL || codec_encode (plan, args, payload, capacity, ret_length, &codec, fault))
        return payload;
      if (fault->status != CELL_ERROR_TOO_LARGE)
        break;
    }
  return NULL;
}

static void
signal_to (Channel *channel, ThreadContext *thread, uint16_t number, const uint8_t *payload, uint32_t length, uint32_t root)
{
  if (load_relaxed (&channel->broken) != CELL_OK)
    return;
  if (has_channel (channel, thread) && payload != NULL)
    serve_signal (channel, 0, number, payload, length, root);
  else if (has_channel (channel, thread))
    *(channel->building != NULL ? &channel->stash_missed : &channel->missed) += 1;
  else
    post (channel, &(Kept) { .length = length, .root = root, .kind = RECORD_SIGNAL, .method = number }, payload);
}

bool
endpoint_emit (Endpoint *endpoint, ThreadContext *thread, uint16_t number, const CodecPlan *plan, const void *args,
               CodecFault *fault)
{
  uint64_t bit = number < 64 ? (uint64_t) 1 << number : 0;
  ArenaMark mark = arena_mark (&thread->arena);
  uint32_t n, length = 0, root = plan != NULL ? plan->size : 0;
  const uint8_t *payload = (const uint8_t *) "";
  SignalBlobs blobs = { NULL, true };
  bool good = true;
  Channel **channels;

  if (likely ((load_relaxed (&endpoint->subscribed) & bit) == 0))
    return true;
  channels = subscribers (endpoint, bit, &n);
  for (uint32_t i = 0; i < n; i++)
    {
      /* Each channel has its own names for blobs; without any, all get the same bytes. */
      if (plan != NULL && blobs.any)
        {
          blobs = (SignalBlobs) { channels[i]->blobs, false };
          payload = signal_encode (thread, plan, args, &blobs, &length, fault);
          good &= payload != NULL;
        }
      signal_to (channels[i], thread, number, payload, length, root);
      channel_unref (channels[i]);
    }
  free (channels);
  arena_release (&thread->arena, mark);
  return good;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A caller sends requests.
 */
#define _GNU_SOURCE
#include <string.h>
#include <time.h>

#include "bell.h"
#include "caller.h"
#include "defer.h"

/* A consumer that has taken over and served nothing yet may not have said where it began. */
uint64_t
caller_taken_by_peer (Channel *channel)
{
  uint64_t taken = atomic_load (&channel->out.peer->taken);

  return taken > channel->out.base ? taken : channel->out.base;
}

/* A full fence lies between what was sent and this.  A callee that has moved is not rung for where it was: whoever calls this looks
 * at the epoch next, and kicks again. */
void
caller_wake_callee (Channel *channel)
{
  uint32_t waiting;

  waiting = load_relaxed (&channel->out.peer->waiting);
  if (likely (waiting == WAITING_NOT) || load_acquire (&channel->endpoint->epoch->word) != channel->epoch_seen)
    return;
  if (waiting == WAITING_FUTEX)
    {
      /* It sleeps on the word of the next record that it has not taken; that is somewhere between `taken` and our head. */
      uint64_t taken = caller_taken_by_peer (channel);

      futex_wake ((const _Atomic uint32_t *) (channel->out.data + (taken & channel->out.mask & ~(uint64_t) (RECORD_ALIGN - 1))), 1);
    }
  else
    bell_ring (channel->callee_bell);
}

void
channel_kick (Channel *channel, ThreadContext *thread)
{
  /* A gate that is opened after this has been found closed is opened by somebody who then sees what was committed. */
  full_fence ();
  if (channel->remote || gate_is_closed (&channel->endpoint->gate))
    caller_wake_callee (channel);
  else
    channel_serve_ready (channel, thread);
}

static uint64_t
send_blob (void *data, CellBlob *blob)
{
  SentBlobs *sent = data;
  uint64_t id;

  if (sent->next < sent->n)
    return sent->ids[sent->next++];
  id = sent->n < CALL_BLOBS_MAX ? call_export_blob (sent->port, blob) : 0;
  if (id != 0)
    {
      sent->ids[sent->n++] = id;
      sent->next++;
    }
  return id;
}

static CellStatus
encode_request (const CallPlan *plan, const void *args, Record *record, uint32_t capacity, uint32_t *ret_length, SentBlobs *sent,
                Fault *fault)
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

/* One bounded attempt to get more room: whoever has to release it is made to go on, and what we owe the callee, which is reading
 * its replies, is done. */
static void
make_room (Channel *channel, ThreadContext *thread, bool ring)
{
  uint64_t released = load_relaxed (&channel->out.peer->released);

  /* Somebody in another process has been rung for, and to ring again and again is what those do who mean harm. */
  if (ring || !(channel->remote || gate_is_closed (&channel->endpoint->gate)))
    channel_kick (channel, thread);
  channel_drain (channel, thread);
  caller_look_at_epoch (channel, thread);
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
void
caller_release_replies (Channel *channel)
{
  HalfControl *own = channel->replies.own;

  store_release (&own->taken, channel->replies.at);
  store_release (&own->released, channel->replies.at);
}

/* Writes a request into the ring, if there is room for it now: CELL_OK, or CELL_ERROR_BUSY, or what is wrong with it. */
CellStatus
caller_try_send (Channel *channel, const CallPlan *plan, const void *args, uint64_t id, SentBlobs *sent, Fault *fault)
{
  uint32_t root = plan->args != NULL ? plan->args->size : 0, length, capacity;
  uint64_t room;
  Record *record;
  CellStatus status;

  caller_release_replies (channel);            /* the callee may be waiting for room itself */
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
  ring_announce (&channel->out, length);
  ring_commit_far (&channel->out, record, length);
  channel->sent_length = length;
  return CELL_OK;
}

/* Sends, waiting for room for as long as the call may take.  CELL_ERROR_TOO_LARGE with channel->too_small: not a fault of the
 * request. */
CellStatus
caller_send (Channel *channel, ThreadContext *thread, const CallPlan *plan, const void *args, uint64_t id, Fault *fault)
{
  uint64_t deadline = 0, look_at = 0, now;
  SentBlobs sent;
  CellStatus status;
  bool ring = false;                    /* what is in the ring was rung for */

  sent.port = channel->blobs;
  sent.n = 0;
  channel->too_small = false;
  caller_look_at_epoch (channel, thread);
  for (;;)
    {
      *fault = (Fault) { CELL_OK, "" };
      if (channel->broken != CELL_OK)
        {
          fault_set (fault, channel->broken, "%s", channel->broken_rule != NULL ? channel->broken_rule
                                                                                : status_text (channel->broken));
          return channel->broken;
        }
      status = caller_try_send (channel, plan, args, id, &sent, fault);
      if (status == CELL_ERROR_CORRUPT)
        caller_break (channel, status, "released-cursor", offsetof (HalfControl, released));
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
          caller_look_again (channel, thread);
          look_at = now + LOOK_NS;
          ring = true;
        }
      make_room (channel, thread, ring);
      ring = false;
    }
}

bool
channel_wait_taken (Channel *channel, ThreadContext *thread, uint64_t deadline)
{
  while (channel->broken == CELL_OK && caller_taken_by_peer (channel) < channel->out.head)
    {
      if (monotonic_ns () > deadline)
        return false;
      make_room (channel, thread, true);
      caller_look_again (channel, thread);
    }
  return true;
}

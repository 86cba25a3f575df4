/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Calls, from the caller's end.
 */
#include <string.h>

#include "caller.h"

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
  status = caller_send (channel, thread, plan, args, id, fault);
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
  while (channel->broken == CELL_OK && caller_look_at_epoch (channel, thread));
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
  caller_wait (channel, thread, id, NULL, result);
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
  if (channel->requests.at != channel->out.head || channel->replies.at != channel->answers.head
      || channel->callee_half != channel->answer_half || caller_try_send (channel, plan, args, id, &sent, &fault) != CELL_OK)
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
  if (channel->endpoint->threading != CELL_SERIAL || plan->oneway || (plan->args != NULL && plan->args->blobs)
      || channel->n_pending != 0 || channel->broken != CELL_OK || !gate_enter (gate, thread))
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
  caller_wait (channel, thread, id, NULL, result);
}

void
direct_missed (Channel *channel, ThreadContext *thread, const CallPlan *plan, uint64_t id, uint64_t start, CellResult *result)
{
  sent_call (channel, thread, plan, id, start, result);
}

/* The answer to the only open call, if it is the next record and has neither an error nor pointers.  False: it has to be looked at
 * as all that arrives is.  Its space is released with the next request. */
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
  ring_take (&channel->replies, length);
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
  caller_release_replies (channel);
  ring_announce (&channel->out, size);          /* another process may be the one that takes it */
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
  caller_release_replies (channel);
  ring_announce (&channel->out, size);
  ring_commit_far (&channel->out, record, size);
  full_fence ();
  caller_wake_callee (channel);
  if (unlikely (!caller_spin (channel) || !quick_reply (channel, plan, id, result)))
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
  caller_release_replies (channel);
  ring_announce (&channel->out, size);
  ring_commit (&channel->out, record, size);
  ring_fetch_ahead (&channel->out, record_size (size));
  full_fence ();
  caller_wake_callee (channel);
  if (unlikely (load_relaxed (&channel->endpoint->epoch->word) != channel->epoch_seen) && caller_look_at_epoch (channel, thread))
    kick_sent (channel, thread);
  if (unlikely (channel->vacant))
    caller_look_again (channel, thread);
  *result = (CellResult) { .status = CELL_OK };
}

void
channel_call_far (Channel *channel, ThreadContext *thread, const CallPlan *plan, const void *args, CellResult *result)
{
  bool across = channel->remote || gate_is_closed (&channel->endpoint->gate);

  if (unlikely (channel->former_half != NULL))
    caller_drop_former (channel);
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
channel_start (Channel *channel, ThreadContext *thread, const CallPlan *plan, const void *args, CellDone done, void *data,
               CellResult *result)
{
  Fault fault = { 0 };
  bool async = done != NULL && !plan->oneway;
  Pending *pending;
  uint64_t id;

  if (unlikely (channel->former_half != NULL))
    caller_drop_former (channel);
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
  pending->due = coarse_ms () + (plan->timeout < INT32_MAX ? plan->timeout : INT32_MAX);
  if (plan->oneway)
    {
      static const uint8_t nothing[2];

      pending_answer (channel, id, CELL_OK, nothing, 0, 0);
    }
  kick_sent (channel, thread);
  return id;
}

bool
channel_finish (Channel *channel, ThreadContext *thread, uint64_t id, const FutexWord *interrupt, CellResult *result)
{
  Pending *pending = pending_find (channel, id);

  if (pending == NULL || pending->done != NULL)
    {
      result_set_error (result, CELL_ERROR_GONE, "there is no such open call");
      return true;
    }
  if (pending->state == PENDING_OPEN)
    {
      pending->result = result;
      if (caller_wait (channel, thread, id, interrupt, result))
        return true;
      pending_find (channel, id)->result = NULL;
      return false;
    }
  if (pending->kept != NULL)
    result_fill (result, pending->plan, pending->kept->status, pending->kept->payload, pending->kept->length, pending->kept->root,
                 pending->kept->untrusted, channel->blobs);
  else
    result_error_for (result, pending->plan, CELL_ERROR_NO_RESOURCES, status_text (CELL_ERROR_NO_RESOURCES));
  pending_remove (channel, pending);
  return true;
}

void
channel_cancel (Channel *channel, uint64_t id)
{
  Pending *pending = pending_find (channel, id);

  if (pending == NULL || pending->state == PENDING_SENDING)
    return;
  if (pending->state == PENDING_OPEN)
    {
      caller_withdraw (channel, pending, RECORD_GIVEN_UP);
      channel->n_async -= pending->async;
    }
  pending_remove (channel, pending);    /* a reply that comes all the same finds nobody */
}

/* Answers an open call ourselves. */
static void
answer_ourselves (Channel *channel, uint64_t id, CellStatus status, const char *text)
{
  uint8_t payload[512];
  uint32_t length = error_payload (payload, sizeof payload, status_name (status), text);

  pending_answer (channel, id, status, payload, length, 0);
}

void
channel_end_cancelled (Channel *channel, uint64_t id)
{
  Pending *pending = pending_find (channel, id);
  bool here = !channel->remote && !gate_is_closed (&channel->endpoint->gate);

  if (pending == NULL || pending->state != PENDING_OPEN || pending->done != NULL)
    channel_cancel (channel, id);
  else if (caller_withdraw (channel, pending, RECORD_GIVEN_UP) && here)
    answer_ourselves (channel, id, CELL_ERROR_CANCELLED, "the call was cancelled before it was taken; it was not executed");
  else
    answer_ourselves (channel, id, CELL_ERROR_CANCELLED, status_text (CELL_ERROR_CANCELLED));
}

void
channel_end_all (Channel *channel)
{
  for (uint32_t i = 0; channel->pending != NULL && i <= channel->pending_mask; i++)
    {
      Pending *pending = &channel->pending[i];

      if (pending->id == 0 || pending->state != PENDING_OPEN)
        continue;
      caller_withdraw (channel, pending, RECORD_GIVEN_UP);
      answer_ourselves (channel, pending->id, CELL_ERROR_CANCELLED, status_text (CELL_ERROR_CANCELLED));
    }
}

static bool
is_overdue (const Pending *pending, uint32_t now)
{
  return (int32_t) (now - pending->due) > 0;
}

void
channel_expire (Channel *channel, ThreadContext *thread, uint32_t now)
{
  channel_drain (channel, thread);
  caller_look_again (channel, thread);
  for (uint32_t i = 0; channel->pending != NULL && i <= channel->pending_mask; i++)
    {
      Pending *pending = &channel->pending[i];

      if (pending->id != 0 && pending->state == PENDING_OPEN && pending->result == NULL && is_overdue (pending, now))
        {
          Record *record = (Record *) (channel->out.data + (pending->start & channel->out.mask));

          if (caller_taken_by_peer (channel) <= pending->start)
            atomic_fetch_or (&record->flags, RECORD_GIVEN_UP);
          answer_ourselves (channel, pending->id, CELL_ERROR_DEADLINE, status_text (CELL_ERROR_DEADLINE));
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

      if (pending->id == 0 || !pending->async || pending->state != PENDING_OPEN)
        continue;
      if (is_overdue (pending, now))
        return 0;
      if (pending->due - now + 1 < due)
        due = pending->due - now + 1;
    }
  return due;
}

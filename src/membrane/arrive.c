/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What arrives for a caller: replies and signals, to those who wait and to those who are called.
 */
#include <stdlib.h>
#include <string.h>

#include "caller.h"

static void
caller_keep (Channel *channel, Kept *kept)
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

const char *
pending_answer (Channel *channel, uint64_t id, int32_t status, const uint8_t *payload, uint32_t length, uint32_t root)
{
  Pending *pending = pending_find (channel, id);

  if (pending == NULL || pending->state != PENDING_OPEN)
    return NULL;                        /* given up, answered already, or never sent */
  if (pending->result != NULL)
    {
      const char *rule =
        result_fill (pending->result, pending->plan, status, payload, length, root, channel->replies_untrusted, channel->blobs);

      pending_remove (channel, pending);
      return rule;
    }
  pending->state = PENDING_ANSWERED;
  pending->kept = kept_new (RECORD_REPLY, id, 0, status, payload, length, root);
  if (pending->kept != NULL)
    pending->kept->untrusted = channel->replies_untrusted;
  if (pending->async)
    channel->n_async--;
  if (pending->done != NULL)
    {
      Kept *token = kept_new (RECORD_REPLY, id, 0, 0, "", 0, 0);

      if (token != NULL)
        caller_keep (channel, token);
    }
  return NULL;
}

static Kept **
next_signal (Kept **link)
{
  while (*link != NULL && (*link)->kind != RECORD_SIGNAL)
    link = &(*link)->next;
  return link;
}

/* The next one tells of it, which may be the one that is to come.  Were it the newest that goes, a subscriber would not learn of a
 * gap until something else is said. */
static void
drop_oldest_signal (Channel *channel)
{
  Kept **link = next_signal (&channel->ready), *oldest = *link;
  Kept *next = *next_signal (&oldest->next);

  if (next != NULL)
    next->id += oldest->id + 1;
  else
    channel->signals_dropped += oldest->id + 1;
  *link = oldest->next;
  if (channel->ready_end == &oldest->next)
    channel->ready_end = link;
  channel->n_signals_kept--;
  channel->signal_bytes -= oldest->length;
  free (oldest);
}

static void
take_signal (Channel *channel, uint64_t missed, uint16_t number, const uint8_t *payload, uint32_t length, uint32_t root)
{
  Kept *kept;

  channel->signals_dropped += missed;
  while (channel->n_signals_kept > 0
         && (channel->n_signals_kept >= SIGNALS_KEPT_MAX || channel->signal_bytes + length > SIGNAL_BYTES_MAX))
    drop_oldest_signal (channel);
  kept = kept_new (RECORD_SIGNAL, channel->signals_dropped, number, 0, payload, length, root);
  if (kept == NULL)
    {
      channel->signals_dropped++;
      return;
    }
  channel->signals_dropped = 0;
  channel->n_signals_kept++;
  channel->signal_bytes += length;
  caller_keep (channel, kept);
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

/* NULL: fine.  ret_word: offset of the word that breaks the rule. */
static const char *
check_header (const Channel *channel, uint16_t kind, uint32_t length, uint32_t root, size_t *ret_word)
{
  *ret_word = offsetof (Record, kind);
  if (kind != RECORD_REPLY && kind != RECORD_SIGNAL)
    return "reply-kind";
  *ret_word = offsetof (Record, length);
  if (length > channel->replies.mask + 1 - sizeof (Record) || length > RECORD_MAX_PAYLOAD)
    return "reply-length";
  *ret_word = offsetof (Record, root);
  return root > length ? "reply-root" : NULL;
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
  uint64_t start = channel->replies.at;
  Record *record;
  bool released = false;

  /* Once around, and no more: who answers faster than we read must not keep us here. */
  while (channel->broken == CELL_OK && channel->replies.at - start <= channel->replies.mask
         && (record = ring_peek (&channel->replies)) != NULL)
    {
      volatile Record *r = record;
      uint64_t id = r->id, at = channel->replies.at;
      uint32_t length = r->length, root = r->root;
      uint16_t kind = r->kind, method = r->method;
      int32_t status = r->status;
      uint8_t *payload = record->payload;
      size_t word;
      const char *rule = check_header (channel, kind, length, root, &word);

      if (rule != NULL)
        {
          caller_break (channel, CELL_ERROR_CORRUPT, rule, ring_place (&channel->replies, at, word));
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
        rule = pending_answer (channel, id, status, payload, length, root);
      else
        take_signal (channel, id, method, payload, length, root);
      ring_release (&channel->replies);
      released = true;
      arena_release (&thread->arena, mark);
      if (rule != NULL && channel->replies_untrusted)
        caller_break (channel, CELL_ERROR_CORRUPT, rule, ring_place (&channel->replies, at, sizeof (Record)));
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
          channel->signal_bytes -= kept->length;
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
                 call->kept->untrusted, channel->blobs);
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

unsigned
channel_dispatch (Channel *channel, ThreadContext *thread)
{
  unsigned n = 0;
  Arrival arrival;

  channel_ref (channel);
  channel_drain (channel, thread);
  if (channel->broken == CELL_OK)
    caller_look_at_epoch (channel, thread);
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

      if (pending->id != 0
          && (pending->state == PENDING_ANSWERED || (pending->state == PENDING_OPEN && channel->broken == CELL_OK)))
        return false;
    }
  return true;
}

/* Answers open calls ourselves: those whose request lies before `position`. */
void
pending_fail_all (Channel *channel, uint64_t position, CellStatus status, const char *message)
{
  uint8_t payload[512];
  uint32_t length = error_payload (payload, sizeof payload, status_name (status), message);

  for (uint32_t i = 0; channel->pending != NULL && i <= channel->pending_mask; i++)
    if (channel->pending[i].id != 0 && channel->pending[i].end <= position)
      pending_answer (channel, channel->pending[i].id, status, payload, length, 0);
}

void
caller_break (Channel *channel, CellStatus status, const char *rule, uint32_t at)
{
  channel->broken_rule = rule;
  channel->broken_at = at;
  channel->broken = status;
  pending_fail_all (channel, UINT64_MAX, status, status == CELL_ERROR_CORRUPT ? rule : status_text (status));
  if (channel->on_broken != NULL)
    channel->on_broken (channel);
}

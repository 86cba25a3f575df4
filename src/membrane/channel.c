/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "channel.h"

#include <stdlib.h>

static NodeResult
node_run (GateNode *node, ThreadContext *thread)
{
  return channel_serve ((Channel *) node, thread);
}

static void
node_release (GateNode *node)
{
  channel_unref ((Channel *) node);
}

_Static_assert (offsetof (Channel, node) == 0, "a channel is found from its node");

void
call_plan_finish (CallPlan *plan)
{
  uint32_t size = plan->args != NULL ? plan->args->size : 0;

  plan->reply_size = plan->reply != NULL ? plan->reply->size : 0;
  plan->plain = plan->args == NULL || plan->args->trivial;
  plan->fast = !plan->oneway && plan->plain && (plan->reply == NULL || plan->reply->trivial);
  plan->encoded = !plan->oneway && !plan->plain && !plan->args->blobs && (plan->reply == NULL || plan->reply->trivial);
  plan->head = (RecordHead) {
    .length = size, .root = size, .kind = RECORD_REQUEST, .method = (uint16_t) plan->number, .timeout = plan->timeout,
    .flags = plan->oneway ? RECORD_ONEWAY : 0,
  };
}

void
method_finish (Method *method, uint32_t number)
{
  uint32_t size = method->out != NULL ? method->out->size : 0;

  if (method->max_reply < ERROR_ROOM)
    method->max_reply = ERROR_ROOM;
  if (method->max_reply < size)
    method->max_reply = size;
  method->in_size = method->in != NULL ? method->in->size : 0;
  /* Who may call is looked at on the way that is not fast. */
  method->plain_reply = (method->out == NULL || method->out->trivial) && method->access == CELL_ACCESS_ANY
                        && method->invoke != NULL;
  method->fast = method->plain_reply && (method->in == NULL || method->in->trivial);
  method->head = (RecordHead) { .length = size, .root = size, .kind = RECORD_REPLY, .method = (uint16_t) number };
}

Channel *
channel_new (Endpoint *endpoint)
{
  Channel *channel = aligned_alloc (_Alignof (Channel), sizeof *channel);

  if (channel == NULL)
    return NULL;
  *channel = (Channel) {
    .node = { .run = node_run, .release = node_release }, .endpoint = endpoint, .refs = 1, .spin = SPIN_BUDGET_INIT,
    .caller_bell = -1, .callee_bell = -1,
    .access = CELL_ACCESS_ADMIN,
  };
  if (endpoint->epoch != NULL)
    channel->epoch_seen = load_acquire (&endpoint->epoch->word);
  channel->trivial_call = (CellCall) { .channel = channel, .build_in_place = true };
  pthread_mutex_init (&channel->lock, NULL);
  return channel;
}

Channel *
channel_ref (Channel *channel)
{
  atomic_fetch_add (&channel->refs, 1);
  return channel;
}

static void
kept_free (Kept *kept)
{
  while (kept != NULL)
    {
      Kept *next = kept->next;

      free (kept);
      kept = next;
    }
}

bool
kept_drop_signal (Kept **list, Kept ***end, uint64_t *missed)
{
  Kept **link = list, *oldest, *next;

  while (*link != NULL && (*link)->kind != RECORD_SIGNAL)
    link = &(*link)->next;
  oldest = *link;
  if (oldest == NULL)
    return false;
  next = oldest->next;
  while (next != NULL && next->kind != RECORD_SIGNAL)
    next = next->next;
  *(next != NULL ? &next->id : missed) += oldest->id + 1;
  if (*end == &oldest->next)
    *end = link;
  *link = oldest->next;
  free (oldest);
  return true;
}

void
channel_unref (Channel *channel)
{
  MovedHalf *moved;

  if (channel == NULL || atomic_fetch_sub (&channel->refs, 1) != 1)
    return;
  if (channel->freed != NULL)
    channel->freed (channel);
  for (uint32_t i = 0; channel->pending != NULL && i <= channel->pending_mask; i++)
    free (channel->pending[i].kept);
  free (channel->pending);
  kept_free (channel->ready);
  kept_free (channel->stash);
  kept_free (channel->posted);
  kept_free (channel->unsent);
  while ((moved = channel->moved) != NULL)
    {
      channel->moved = moved->next;
      half_unref (moved->half);
      free (moved);
    }
  half_unref (channel->caller_half);
  half_unref (channel->callee_half);
  half_unref (channel->former_half);
  half_unref (channel->request_half);
  half_unref (channel->answer_half);
  pthread_mutex_destroy (&channel->lock);
  free (channel);
}

void
channel_set_caller (Channel *channel, Half *caller, Half *callee, uint64_t taken, uint64_t answered)
{
  half_unref (channel->caller_half);
  half_unref (channel->callee_half);
  channel->caller_half = caller;
  channel->callee_half = callee;
  ring_writer_init (&channel->out, caller, callee->control, taken);
  ring_reader_init (&channel->replies, callee, caller->control, answered);
}

void
channel_set_callee (Channel *channel, Half *caller, Half *callee, uint64_t taken, uint64_t answered)
{
  half_unref (channel->request_half);
  half_unref (channel->answer_half);
  channel->request_half = caller;
  channel->answer_half = callee;
  ring_reader_init (&channel->requests, caller, callee->control, taken);
  ring_writer_init (&channel->answers, callee, caller->control, answered);
  store_relaxed (&callee->control->taken, taken);
  store_release (&callee->control->released, taken);
}

Channel *
channel_new_local (Endpoint *endpoint, uint32_t request_capacity, uint32_t reply_capacity, Fault *fault)
{
  Half *caller = half_new ("cell-requests", request_capacity, fault);
  Half *callee = caller != NULL ? half_new ("cell-replies", reply_capacity, fault) : NULL;
  Channel *channel = callee != NULL ? channel_new (endpoint) : NULL;

  if (channel == NULL)
    {
      half_unref (caller);
      half_unref (callee);
      return NULL;
    }
  channel_set_caller (channel, half_ref (caller), half_ref (callee), 0, 0);
  channel_set_callee (channel, caller, callee, 0, 0);
  return channel;
}

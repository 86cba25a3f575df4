/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The shortest way through both rings: the callee is a serial cell in this process, its gate is free, nothing waits in the
 * channel, and the reply has no pointers.  Then the caller takes the gate, writes its record, runs the handler
 * on it where it lies, has the reply built in its record, lets go, and reads it.  Whatever is not so is left to others.
 *
 * The gate comes first, also because of what a compare-and-swap does: it waits until earlier stores have reached the cache.  The
 * copies behind it may then be wide, however narrow the stores were that wrote the arguments or the reply.
 */
#pragma once
#include "result.h"
#include "serve.h"

/* The rest of a call that has been served this way and has no plain answer: it failed, or was kept to be answered later. */
void direct_missed (Channel *channel, ThreadContext *thread, const CallPlan *plan, uint64_t id, uint64_t start, CellResult *result);

/* Nothing else waits in the channel; the gate is held.  The callee's half that the caller reads is another one while it has yet to
 * learn of a move. */
static inline bool
direct_is_quiet (const Channel *channel)
{
  return channel->requests.at == channel->out.head && channel->replies.at == channel->answers.head
         && channel->callee_half == channel->answer_half && channel->reserved == 0;
}

/* The reply of this build of the cell may have less or more than what the caller was compiled for. */
static inline void
direct_read (Channel *channel, const CallPlan *plan, const Record *reply, uint32_t root, CellResult *result)
{
  uint32_t size = plan->reply_size, n = root < size ? root : size;

  *result = (CellResult) { .status = CELL_OK };
  copy_bytes (result_outputs (result), reply->payload, n);
  if (unlikely (n < size))
    memset ((uint8_t *) result_outputs (result) + n, 0, size - n);
  ring_take (&channel->replies, root);
  ring_release (&channel->replies);
}

/* Runs the handler and writes what it answers; the request's record has been taken. */
static inline CellStatus
direct_serve (Channel *channel, ThreadContext *thread, Service *service, const Method *method, uint64_t id, Record *reply,
              const void *in)
{
  uint32_t root = method->head.root;
  CellStatus status = serve_trivial (channel, thread, service, method, id, reply, in, reply->payload, root);

  if (likely (status == CELL_OK))
    {
      record_set_head (reply, &method->head, id);
      ring_commit (&channel->answers, reply, root);
    }
  else
    serve_failed (&channel->trivial_call, status);
  if (unlikely (channel->trivial_call.dirty))
    call_clean (&channel->trivial_call);
  ring_release (&channel->requests);
  if (unlikely (channel->stash != NULL))
    serve_flush_stash (channel);
  return status;
}

/* For a request without pointers. */
static inline bool
direct_call_plain (Channel *channel, ThreadContext *thread, const CallPlan *plan, const void *args, CellResult *result)
{
  Endpoint *endpoint = channel->endpoint;
  Service *service;
  const Method *method;
  Record *request, *reply;
  uint64_t id, start;
  uint32_t root;                        /* a method may go with its service once the gate is free */
  CellStatus status;

  if (unlikely (endpoint->threading != CELL_SERIAL || channel->broken != CELL_OK
                || !gate_enter (&endpoint->gate, thread)))
    return false;
  service = endpoint->service;
  method = &service->methods[plan->number];
  if (unlikely (!direct_is_quiet (channel) || plan->number >= service->n_methods || !method->fast
                || plan->head.root < method->in_size || (request = ring_reserve (&channel->out, plan->head.root, NULL)) == NULL
                || (reply = ring_reserve (&channel->answers, method->max_reply, NULL)) == NULL))
    {
      gate_leave (&endpoint->gate, thread);
      return false;
    }

  id = ++channel->next_id;
  start = channel->out.head;
  root = method->head.root;
  copy_bytes (request->payload, args, plan->head.root);
  record_set_head (request, &plan->head, id);
  ring_commit (&channel->out, request, plan->head.root);
  ring_take (&channel->requests, plan->head.root);
  status = direct_serve (channel, thread, service, method, id, reply, request->payload);
  gate_leave (&endpoint->gate, thread);

  if (likely (status == CELL_OK))
    direct_read (channel, plan, reply, root, result);
  else
    direct_missed (channel, thread, plan, id, start, result);
  return true;
}

/* For one that has pointers, but carries no blobs. */
bool direct_call_encoded (Channel *channel, ThreadContext *thread, const CallPlan *plan, const void *args, CellResult *result);

/* False: nothing has happened; channel_call_far () is the other way. */
static inline bool
direct_call (Channel *channel, ThreadContext *thread, const CallPlan *plan, const void *args, CellResult *result)
{
  if (likely (plan->fast))
    return direct_call_plain (channel, thread, plan, args, result);
  return plan->encoded && direct_call_encoded (channel, thread, plan, args, result);
}

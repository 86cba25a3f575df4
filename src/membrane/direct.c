/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The shortest way for a request with pointers: encoded into the record, checked and decoded from it.
 */
#include "direct.h"

/* The request in its record, and decoded from there; NULL: it has to go another way, where it is also said what is wrong with
 * it. */
static const void *
write_request (Channel *channel, ThreadContext *thread, const CallPlan *plan, const Method *method, const void *args,
               Record *request, uint32_t *ret_length)
{
  uint64_t room = channel->out.limit - channel->out.head - sizeof (Record);
  uint32_t root = plan->args->size;
  CodecFault fault;
  void *in;

  *ret_length = root;
  if (!codec_encode (plan->args, args, request->payload, room < RECORD_MAX_PAYLOAD ? (uint32_t) room : RECORD_MAX_PAYLOAD,
                     ret_length, NULL, &fault)
      || (in = arena_get (&thread->arena, method->in_size)) == NULL)
    return NULL;
  return codec_decode (method->in, request->payload, *ret_length, root, CODEC_TRUSTED, &thread->arena, NULL, in, &fault) ? in
                                                                                                                         : NULL;
}

static bool
serve_encoded (Channel *channel, ThreadContext *thread, const CallPlan *plan, const void *args, CellResult *result)
{
  Gate *gate = &channel->endpoint->gate;
  Service *service = channel->endpoint->service;
  const Method *method = &service->methods[plan->number];
  Record *request, *reply;
  const void *in;
  uint64_t id, start = channel->out.head;
  uint32_t root, length;
  CellStatus status;

  if (!direct_is_quiet (channel) || plan->number >= service->n_methods || !method->plain_reply || method->in == NULL
      || method->in->blobs || (request = ring_reserve (&channel->out, plan->args->size, NULL)) == NULL
      || (reply = ring_reserve (&channel->answers, method->max_reply, NULL)) == NULL
      || (in = write_request (channel, thread, plan, method, args, request, &length)) == NULL)
    {
      gate_leave (gate, thread);
      return false;
    }
  id = ++channel->next_id;
  root = method->head.root;
  record_set_head (request, &plan->head, id);
  request->length = length;
  ring_commit (&channel->out, request, length);
  ring_take (&channel->requests, length);
  channel->trivial_call.request = request;
  channel->trivial_call.length = length;
  channel->trivial_call.root = plan->head.root;
  status = direct_serve (channel, thread, service, method, id, reply, in);
  gate_leave (gate, thread);
  if (status == CELL_OK)
    direct_read (channel, plan, reply, root, result);
  else
    direct_missed (channel, thread, plan, id, start, result);
  return true;
}

bool
direct_call_encoded (Channel *channel, ThreadContext *thread, const CallPlan *plan, const void *args, CellResult *result)
{
  ArenaMark mark = arena_mark (&thread->arena);
  bool served;

  if (channel->endpoint->threading != CELL_SERIAL || channel->broken != CELL_OK || !gate_enter (&channel->endpoint->gate, thread))
    return false;
  served = serve_encoded (channel, thread, plan, args, result);
  arena_release (&thread->arena, mark);
  return served;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dispatch.h"

#include <stdlib.h>

struct Dispatch
{
  GateNode node;                /* in the calling cell's gate; first */
  LaneTask task;
  Endpoint *endpoint;
  Lanes *lanes;
  Channel *channel;
  _Atomic uint32_t refs, queued, ended;
};

_Static_assert (offsetof (Dispatch, node) == 0, "a dispatch is found from its node");

static void
unref (Dispatch *dispatch)
{
  if (atomic_fetch_sub (&dispatch->refs, 1) != 1)
    return;
  channel_unref (dispatch->channel);
  free (dispatch);
}

/* In the cell's own context.  Cleared before looking: what comes later queues it again. */
static void
take_up (Dispatch *dispatch, ThreadContext *thread)
{
  atomic_exchange (&dispatch->queued, 0);
  if (!atomic_load (&dispatch->ended))
    client_dispatch (dispatch->channel, thread);
}

static NodeResult
node_run (GateNode *node, ThreadContext *thread)
{
  take_up ((Dispatch *) node, thread);
  return NODE_DONE;
}

static void
node_drop (GateNode *node)
{
  atomic_exchange (&((Dispatch *) node)->queued, 0);    /* the cell has gone from here, and its channel goes with it */
}

static void
node_release (GateNode *node)
{
  unref ((Dispatch *) node);
}

/* On a lane, which holds no gate: taking one here cannot be waiting for oneself. */
static void
task_run (LaneTask *task, ThreadContext *thread)
{
  Dispatch *dispatch = (Dispatch *) ((uint8_t *) task - offsetof (Dispatch, task));
  Gate *gate = &dispatch->endpoint->gate;

  if (atomic_load (&dispatch->ended))
    ;
  else if (dispatch->endpoint->threading == CELL_CONCURRENT)
    take_up (dispatch, thread);
  else
    {
      atomic_fetch_add (&dispatch->refs, 1);
      switch (gate_push (gate, &dispatch->node, thread))
        {
        case PUSH_HOLDING:
          gate_leave (gate, thread);
          break;
        case PUSH_QUEUED:
          break;
        case PUSH_ALREADY:
          unref (dispatch);
          break;
        case PUSH_CLOSED:
          atomic_exchange (&dispatch->queued, 0);
          unref (dispatch);
          break;
        }
    }
  unref (dispatch);
}

Dispatch *
dispatch_new (Endpoint *endpoint, Lanes *lanes, Channel *channel)
{
  Dispatch *dispatch = aligned_alloc (_Alignof (Dispatch), (sizeof *dispatch + _Alignof (Dispatch) - 1) / _Alignof (Dispatch) * _Alignof (Dispatch));

  if (dispatch == NULL)
    abort ();
  *dispatch = (Dispatch) {
    .node = { .run = node_run, .drop = node_drop, .release = node_release }, .task = { .run = task_run }, .endpoint = endpoint,
    .lanes = lanes, .channel = channel_ref (channel), .refs = 1,
  };
  return dispatch;
}

void
dispatch_queue (Dispatch *dispatch)
{
  if (atomic_exchange (&dispatch->queued, 1) != 0 || atomic_load (&dispatch->ended))
    return;
  atomic_fetch_add (&dispatch->refs, 1);
  lanes_submit (dispatch->lanes, &dispatch->task);
}

void
dispatch_free (Dispatch *dispatch)
{
  if (dispatch == NULL)
    return;
  atomic_store (&dispatch->ended, 1);
  unref (dispatch);
}

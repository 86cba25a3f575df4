/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dispatch.h"

#include <sched.h>
#include <stdlib.h>

struct Dispatch
{
  GateNode node;                /* in the calling cell's gate; first */
  LaneTask task;
  Endpoint *endpoint;
  Lanes *lanes;
  Channel *channel;             /* whose it is; what is queued has a reference */
  _Atomic uint32_t queued, ended;
  void *held;
  void (*let_go) (void *held);
};

_Static_assert (offsetof (Dispatch, node) == 0, "a dispatch is found from its node");

/* In the cell's own context.  Cleared before looking: what comes later queues it again. */
static void
take_up (Dispatch *dispatch, ThreadContext *thread)
{
  uint32_t depth = trail_enter (&thread->trail, dispatch->endpoint->cell);

  atomic_exchange (&dispatch->queued, 0);
  if (!atomic_load (&dispatch->ended))
    client_dispatch (dispatch->channel, thread);
  trail_leave (&thread->trail, depth);
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
  channel_unref (((Dispatch *) node)->channel);
}

static void
submit (Dispatch *dispatch)
{
  channel_ref (dispatch->channel);
  lanes_submit (dispatch->lanes, &dispatch->task);
}

/* Its code runs on any thread, but not while somebody has stopped it. */
static void
take_up_concurrent (Dispatch *dispatch, ThreadContext *thread)
{
  if (endpoint_enter (dispatch->endpoint))
    {
      take_up (dispatch, thread);
      endpoint_leave (dispatch->endpoint);
      return;
    }
  sched_yield ();
  submit (dispatch);
}

/* Under the gate, which may be taken here: a lane holds none, so that cannot be waiting for oneself. */
static void
take_up_under_gate (Dispatch *dispatch, ThreadContext *thread)
{
  Gate *gate = &dispatch->endpoint->gate;

  channel_ref (dispatch->channel);
  switch (gate_push (gate, &dispatch->node, thread))
    {
    case PUSH_HOLDING:
      gate_leave (gate, thread);
      break;
    case PUSH_QUEUED:
      break;
    case PUSH_ALREADY:
      channel_unref (dispatch->channel);
      break;
    case PUSH_CLOSED:
      atomic_exchange (&dispatch->queued, 0);
      channel_unref (dispatch->channel);
      break;
    }
}

static void
task_run (LaneTask *task, ThreadContext *thread)
{
  Dispatch *dispatch = (Dispatch *) ((uint8_t *) task - offsetof (Dispatch, task));
  Channel *channel = dispatch->channel;

  if (atomic_load (&dispatch->ended))
    ;
  else if (dispatch->endpoint->threading == CELL_CONCURRENT)
    take_up_concurrent (dispatch, thread);
  else
    take_up_under_gate (dispatch, thread);
  channel_unref (channel);
}

/* The lanes have stopped before it ran. */
static void
task_drop (LaneTask *task)
{
  Dispatch *dispatch = (Dispatch *) ((uint8_t *) task - offsetof (Dispatch, task));

  channel_unref (dispatch->channel);
}

static void
notify (Channel *channel)
{
  dispatch_queue (channel->freed_data);
}

static void
freed (Channel *channel)
{
  Dispatch *dispatch = channel->freed_data;

  if (dispatch->let_go != NULL)
    dispatch->let_go (dispatch->held);
  free (dispatch);
}

Dispatch *
dispatch_new (Endpoint *endpoint, Lanes *lanes, Channel *channel)
{
  Dispatch *dispatch =
    aligned_alloc (_Alignof(Dispatch), (sizeof *dispatch + _Alignof(Dispatch) - 1) / _Alignof(Dispatch) * _Alignof(Dispatch));

  if (dispatch == NULL)
    abort ();
  *dispatch = (Dispatch) {
    .node = { .run = node_run, .drop = node_drop, .release = node_release }, .task = { .run = task_run, .drop = task_drop },
    .endpoint = endpoint, .lanes = lanes, .channel = channel,
  };
  channel->freed_data = dispatch;
  channel->freed = freed;
  channel->notify = notify;
  return dispatch;
}

void
dispatch_hold (Dispatch *dispatch, void *what, void (*let_go) (void *what))
{
  dispatch->held = what;
  dispatch->let_go = let_go;
}

void
dispatch_queue (Dispatch *dispatch)
{
  if (atomic_exchange (&dispatch->queued, 1) == 0 && !atomic_load (&dispatch->ended))
    submit (dispatch);
}

void
dispatch_end (Dispatch *dispatch)
{
  atomic_store (&dispatch->ended, 1);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gate.h"

#include <stdlib.h>

#include "wait.h"

#define WALK_LIMIT 1024         /* threads in one wait-for chain */

void
gate_init (Gate *gate, void (*kick) (Gate *gate))
{
  *gate = (Gate) { .kick = kick };
}

static GateNode *
word_nodes (uintptr_t word)
{
  return (GateNode *) (word & ~GATE_FLAGS);
}

static void
append (Gate *gate, GateNode *node)
{
  node->next = NULL;
  if (gate->first == NULL)
    gate->first = node;
  else
    gate->last->next = node;
  gate->last = node;
}

/* Takes the word's nodes, newest first, behind those that the holder has, oldest first. */
static void
take_nodes (Gate *gate)
{
  GateNode *node = word_nodes (atomic_exchange_explicit (&gate->word, GATE_HELD, memory_order_acq_rel)), *reversed = NULL;

  while (node != NULL)
    {
      GateNode *next = node->next;

      node->next = reversed;
      reversed = node;
      node = next;
    }
  while (reversed != NULL)
    {
      GateNode *next = reversed->next;

      append (gate, reversed);
      reversed = next;
    }
}

static GateNode *
pop (Gate *gate)
{
  GateNode *node = gate->first;

  if (node != NULL)
    gate->first = node->next;
  return node;
}

/* Nobody holds the gate now, but it is not free: there is work.  A waiter that sleeps is woken to go on with it, and if none does,
 * a worker. */
static void
pass_on (Gate *gate)
{
  store_relaxed (&gate->holder, NULL);
  atomic_fetch_add (&gate->turn, 1);
  atomic_fetch_or_explicit (&gate->word, GATE_PASS, memory_order_seq_cst);
  if (atomic_load (&gate->sleepers) == 0 || futex_wake (&gate->turn, 1) == 0)
    gate->kick (gate);
}

/* False: the gate is somebody else's now. */
static bool
run_node (Gate *gate, GateNode *node, ThreadContext *thread)
{
  void (*release) (GateNode *) = node->release;

  /* Cleared before the node looks at its ring: what is committed after that look pushes it again. */
  atomic_exchange (&node->queued, 0);
  switch (node->run (node, thread))
    {
    case NODE_TOOK_GATE:
      return false;
    case NODE_MORE:
      if (atomic_exchange (&node->queued, 1) == 0)
        append (gate, node);
      else if (release != NULL)
        release (node);                 /* somebody has pushed it: it is there once more than it was let go */
      break;
    case NODE_DONE:
      if (release != NULL)
        release (node);
      break;
    }
  return true;
}

/* A loop cell's gate goes back to its thread, with all that waits. */
static void
hand_back (Gate *gate)
{
  store_release (&gate->holder, load_relaxed (&gate->owner));
  gate->kick (gate);
}

void
gate_leave_slow (Gate *gate, ThreadContext *thread)
{
  if (unlikely (gate->owner_runs))
    {
      hand_back (gate);
      return;
    }
  store_release (&gate->holder, thread);
  for (unsigned served = 0;;)
    {
      GateNode *node;

      take_nodes (gate);
      while ((node = pop (gate)) != NULL)
        {
          if (!run_node (gate, node, thread))
            return;
          if (++served >= GATE_BUDGET && gate->first != NULL)
            {
              pass_on (gate);
              return;
            }
        }
      store_relaxed (&gate->holder, NULL);
      uintptr_t held = GATE_HELD;
      if (atomic_compare_exchange_strong_explicit (&gate->word, &held, 0, memory_order_release, memory_order_relaxed))
        return;
      store_release (&gate->holder, thread);
      if (served >= GATE_BUDGET)
        {
          pass_on (gate);
          return;
        }
    }
}

void
gate_leave_to_others (Gate *gate)
{
  uintptr_t held = GATE_HELD;

  if (unlikely (gate->owner_runs))
    {
      hand_back (gate);
      return;
    }
  store_relaxed (&gate->holder, NULL);
  if (gate->first != NULL
      || !atomic_compare_exchange_strong_explicit (&gate->word, &held, 0, memory_order_release, memory_order_relaxed))
    pass_on (gate);
}

PushResult
gate_push (Gate *gate, GateNode *node, ThreadContext *thread)
{
  uintptr_t word, next;

  /* Marked first: the holder that popped it before has either seen the caller's record or clears the mark before it looks. */
  if (atomic_exchange (&node->queued, 1) != 0)
    return gate_is_closed (gate) ? PUSH_CLOSED : PUSH_ALREADY;
  word = load_acquire (&gate->word);
  do
    {
      while (word & GATE_CLOSED)
        {
          /* Who finds the mark set relies on us: a gate that has been opened meanwhile is tried again. */
          atomic_store (&node->queued, 0);
          word = atomic_load (&gate->word);
          if (word & GATE_CLOSED)
            return PUSH_CLOSED;
          if (atomic_exchange (&node->queued, 1) != 0)
            return PUSH_ALREADY;
        }
      node->next = word_nodes (word);
      next = (uintptr_t) node | GATE_HELD;      /* free or passed on: ours now */
    }
  while (!atomic_compare_exchange_weak_explicit (&gate->word, &word, next, memory_order_acq_rel, memory_order_acquire));
  if ((word & GATE_HELD) != 0 && (word & GATE_PASS) == 0)
    {
      if (gate->owner_runs && word_nodes (word) == NULL)
        gate->kick (gate);
      return PUSH_QUEUED;
    }
  store_release (&gate->holder, thread);
  return PUSH_HOLDING;
}

bool
gate_claim (Gate *gate, ThreadContext *thread)
{
  uintptr_t word = load_acquire (&gate->word);

  while (word & GATE_PASS)
    if (atomic_compare_exchange_weak_explicit (&gate->word, &word, word & ~GATE_PASS, memory_order_acq_rel, memory_order_acquire))
      {
        store_release (&gate->holder, thread);
        return true;
      }
  return false;
}

void
gate_continue (Gate *gate, ThreadContext *thread)
{
  if (gate_claim (gate, thread))
    gate_leave_slow (gate, thread);
}

OwnerResult
gate_owner_serve (Gate *gate, ThreadContext *thread)
{
  GateNode *node;

  if (!gate_owner_holds (gate, thread))
    return OWNER_WAITS;
  if (gate->first == NULL)
    take_nodes (gate);
  for (unsigned served = 0; served < GATE_BUDGET && (node = pop (gate)) != NULL; served++)
    if (!run_node (gate, node, thread))
      return OWNER_WAITS;
  /* What has been pushed meanwhile kicks, unless something was in the word already. */
  return gate->first != NULL || word_nodes (load_relaxed (&gate->word)) != NULL ? OWNER_MORE : OWNER_DONE;
}

/* ---- stopping ------------------------------------------------------------------------------- */

enum
{
  STOP_WAITING, STOP_GRANTED, STOP_GIVEN_UP, STOP_REFUSED
};

/* On the heap: who gives up leaves it in the list, and whoever pops it later frees it. */
typedef struct
{
  GateNode node;
  Gate *gate;
  ThreadContext *thread;        /* who stops */
  _Atomic uint32_t state;
} Stop;

static bool
stop_settle (Stop *stop, uint32_t state)
{
  uint32_t waiting = STOP_WAITING;

  if (!atomic_compare_exchange_strong (&stop->state, &waiting, state))
    {
      free (stop);
      return false;
    }
  futex_wake (&stop->state, 1);
  return true;
}

static NodeResult
stop_run (GateNode *node, ThreadContext *thread)
{
  Stop *stop = (Stop *) node;
  Gate *gate = stop->gate;

  /* The new holder is named before it may go on: it wakes later, and this thread may by then be waiting for the same gate, which
   * must not look as if it waited for itself. */
  store_release (&gate->holder, stop->thread);
  if (stop_settle (stop, STOP_GRANTED))
    return NODE_TOOK_GATE;
  store_release (&gate->holder, thread);
  return NODE_DONE;
}

static void
stop_drop (GateNode *node)
{
  stop_settle ((Stop *) node, STOP_REFUSED);
}

static bool
stop_wait (Gate *gate, Stop *stop, ThreadContext *thread, uint64_t deadline)
{
  uint32_t state;

  while ((state = atomic_load (&stop->state)) == STOP_WAITING)
    {
      if (gate_claim (gate, thread))
        gate_leave_slow (gate, thread);         /* goes on with the list, in which the stop node is */
      else if (!futex_wait_until (&stop->state, STOP_WAITING, deadline))
        {
          if (atomic_compare_exchange_strong (&stop->state, &state, STOP_GIVEN_UP))
            return false;
        }
    }
  free (stop);
  return state == STOP_GRANTED;
}

bool
gate_stop (Gate *gate, ThreadContext *thread, uint64_t deadline)
{
  Stop *stop;

  if (gate_enter (gate, thread))
    return true;
  stop = aligned_alloc (_Alignof (Stop), sizeof *stop);
  if (stop == NULL)
    return false;
  *stop = (Stop) { .node = { .run = stop_run, .drop = stop_drop }, .gate = gate, .thread = thread };
  switch (gate_push (gate, &stop->node, thread))
    {
    case PUSH_CLOSED:
      free (stop);
      return false;
    case PUSH_HOLDING:
      gate_leave_slow (gate, thread);           /* serves what was before it and then pops the stop node */
      break;
    case PUSH_QUEUED:
    case PUSH_ALREADY:
      break;
    }
  return stop_wait (gate, stop, thread, deadline);
}

static void
drop (GateNode *node)
{
  void (*release) (GateNode *) = node->release;

  atomic_store (&node->queued, 0);
  if (node->drop != NULL)
    node->drop (node);
  if (release != NULL)
    release (node);
}

void
gate_close (Gate *gate)
{
  GateNode *node, *next;

  store_relaxed (&gate->holder, NULL);
  take_nodes (gate);
  node = word_nodes (atomic_exchange (&gate->word, GATE_CLOSED));
  while ((next = pop (gate)) != NULL)
    drop (next);
  for (; node != NULL; node = next)
    {
      next = node->next;
      drop (node);
    }
}

void
gate_open (Gate *gate, ThreadContext *thread)
{
  store_release (&gate->holder, thread);
  atomic_store (&gate->word, GATE_HELD);
}

/* ---- the wait-for graph ----------------------------------------------------------------------- */

/* Follows gate → holder → the gate it waits for …; returns the number of steps to `thread`, or 0 when the chain ends. */
static unsigned
walk (Gate *gate, ThreadContext *thread, uintptr_t *ret_path)
{
  uintptr_t path = 0;

  for (unsigned steps = 1; gate != NULL && steps < WALK_LIMIT; steps++)
    {
      ThreadContext *holder = atomic_load (&gate->holder);

      path = path * 31 + (uintptr_t) holder;
      *ret_path = path;
      if (holder == thread)
        return steps;
      if (holder == NULL)
        return 0;
      gate = atomic_load (&holder->waits_for);
      path = path * 31 + (uintptr_t) gate;
    }
  return 0;
}

bool
gate_is_deadlock (Gate *gate, ThreadContext *thread)
{
  uintptr_t first, again;
  unsigned steps = walk (gate, thread, &first);

  /* Threads on the way may let go while we look.  The last one of a chain waits for a gate that we hold: it stands still from when
   * that was seen.  A second look that finds the same says that it held its own gate all along, so the one before it stands still
   * too, and so on: one look for each thread of the chain. */
  for (unsigned looks = 1; looks < steps; looks++)
    if (walk (gate, thread, &again) != steps || again != first)
      return false;
  return steps != 0;
}

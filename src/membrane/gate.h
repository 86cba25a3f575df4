/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The gate of a serial cell: whoever holds it runs the cell's code.  A caller takes it with one compare-and-swap and serves its
 * own request; a caller that finds it held leaves a node in the gate's ready list, and the holder serves it before it goes.
 *
 * The word is free (0), or a stack of ready nodes with flags in its low bits:
 *   HELD     somebody runs the cell
 *   PASS     with HELD: the last holder had served enough; whoever sees this takes over by clearing PASS
 *   CLOSED   the cell is not in this process (any more): nothing may be pushed, the caller has to look where it went
 *
 * The word's list is newest first; a holder takes all of it at once and keeps it, oldest first, in `first`.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "thread.h"

#define GATE_HELD ((uintptr_t) 1)
#define GATE_PASS ((uintptr_t) 2)
#define GATE_CLOSED ((uintptr_t) 4)
#define GATE_FLAGS ((uintptr_t) 7)

#define GATE_BUDGET 64          /* nodes that a holder serves for others before it passes the gate on */

typedef enum
{
  NODE_DONE,
  NODE_MORE,                    /* more to do: goes to the end of the list */
  NODE_TOOK_GATE                /* the gate now belongs to somebody else: the holder just goes */
} NodeResult;

typedef struct GateNode GateNode;
struct GateNode
{
  _Alignas (16) GateNode *next;
  _Atomic uint32_t queued;
  NodeResult (*run) (GateNode *node, ThreadContext *thread);
  void (*drop) (GateNode *node);        /* the gate was closed while the node waited in it; may be NULL */
  void (*release) (GateNode *node);     /* the list has let go of it: after a run, or after drop; may be NULL */
};

struct Gate
{
  _Alignas (64) _Atomic uintptr_t word;
  _Atomic (ThreadContext *) holder;     /* stored with release: whoever walks the wait-for graph looks into it */
  GateNode *first, *last;               /* the holder's */
  _Atomic uint32_t turn;                /* futex word: changes when the gate is passed on */
  _Atomic uint32_t sleepers;            /* threads that sleep, or are about to, with `turn` among their words */
  void (*kick) (Gate *gate);            /* finds a thread that calls gate_continue () */
  bool owner_runs;                      /* a loop cell: held for good by its owner; pushing kicks */
  _Atomic (ThreadContext *) owner;      /* whoever stopped it hands it back to this thread, and kicks */
};

void gate_init (Gate *gate, void (*kick) (Gate *gate));

/* Takes a free gate. */
static inline bool
gate_enter (Gate *gate, ThreadContext *thread)
{
  uintptr_t free_word = 0;

  if (unlikely (load_relaxed (&gate->word) != 0
                || !atomic_compare_exchange_strong_explicit (&gate->word, &free_word, GATE_HELD, memory_order_acquire,
                                                             memory_order_relaxed)))
    return false;
  store_release (&gate->holder, thread);
  return true;
}

void gate_leave_slow (Gate *gate, ThreadContext *thread);

/* Lets go, having served what came meanwhile. */
static inline void
gate_leave (Gate *gate, ThreadContext *thread)
{
  uintptr_t held = GATE_HELD;

  if (likely (gate->first == NULL))
    {
      store_relaxed (&gate->holder, NULL);
      if (likely (atomic_compare_exchange_strong_explicit (&gate->word, &held, 0, memory_order_release, memory_order_relaxed)))
        return;
    }
  gate_leave_slow (gate, thread);
}

/* Lets go without serving: what came meanwhile is somebody else's to do. */
void gate_leave_to_others (Gate *gate);

typedef enum
{
  PUSH_QUEUED,                  /* somebody will run it */
  PUSH_ALREADY,                 /* it was in the list before: the same, but the list got no more than it had */
  PUSH_HOLDING,                 /* the gate was free: the caller holds it now and must gate_leave () */
  PUSH_CLOSED                   /* not here */
} PushResult;

/* Puts a node in the ready list, unless it is there already. */
PushResult gate_push (Gate *gate, GateNode *node, ThreadContext *thread);
/* Takes over a gate that was passed on: true when the caller is its holder now. */
bool gate_claim (Gate *gate, ThreadContext *thread);
/* For workers: takes over a gate that was passed on, if nobody has yet, and serves. */
void gate_continue (Gate *gate, ThreadContext *thread);

/* Waits for the gate like any caller, and holds it, however busy it is.  False: the deadline (CLOCK_MONOTONIC, ns) passed. */
bool gate_stop (Gate *gate, ThreadContext *thread, uint64_t deadline);
/* For the owner of a gate that is held for good: serves what waits.  OWNER_WAITS: somebody has stopped the gate, or it is closed;
 * nothing of the cell may run until it is handed back, which kicks. */
typedef enum
{
  OWNER_DONE,
  OWNER_MORE,                   /* enough for now; there is more */
  OWNER_WAITS
} OwnerResult;
OwnerResult gate_owner_serve (Gate *gate, ThreadContext *thread);

static inline bool
gate_owner_holds (Gate *gate, ThreadContext *thread)
{
  return load_acquire (&gate->holder) == thread;
}

/* The holder closes it; nodes that wait are dropped: their owners find out where the cell went. */
void gate_close (Gate *gate);
/* Opens a closed gate; the caller holds it and must gate_leave (). */
void gate_open (Gate *gate, ThreadContext *thread);

/* Whether waiting for the gate's holder would be waiting for oneself, through whatever chain of threads.  The caller has
 * published thread->waits_for. */
bool gate_is_deadlock (Gate *gate, ThreadContext *thread);

static inline bool
gate_is_closed (Gate *gate)
{
  return (load_acquire (&gate->word) & GATE_CLOSED) != 0;
}

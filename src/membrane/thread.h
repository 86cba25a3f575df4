/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the membrane keeps for each thread: the arena of the calls it serves, for whom it waits, and whose code it is in.
 */
#pragma once
#include <stdint.h>

#include "arena.h"
#include "atomic.h"
#include "trail.h"

typedef struct Gate Gate;
typedef struct Service Service;
typedef struct ThreadContext ThreadContext;
typedef struct Frame Frame;

/* A cell's code on a thread: a call that is being served, or a completion, init, save…  What a cell is given on the host (its self,
 * a call, a client) is of use in its own frames only.  That is looked at before any of it is touched, so a thread that a cell has
 * left behind, which has no frame, finds nothing that was freed. */
struct Frame
{
  const Service *service;       /* whose code it is; NULL: nobody's */
  Frame *outer;                 /* the frame that made this one's call, or NULL */
};

struct ThreadContext
{
  Frame *frame;                 /* the innermost; never NULL */
  _Atomic (Gate *) waits_for;   /* while it is parked, or about to be: the gate whose holder has to finish first */
  Arena arena;
  Trail trail;
  uint32_t n_slots;
  void **slots;                 /* what each client keeps for this thread, by the client's number; client.c's */
  void *signal_stack;           /* of whoever set thread_begins */
  ThreadContext *next;          /* all contexts, or the free ones; a context is reused, never freed: others may look at it */
};

extern __thread ThreadContext *thread_context_ __attribute__ ((tls_model ("initial-exec")));
ThreadContext *thread_context_new (void);

static inline ThreadContext *
thread_context (void)
{
  ThreadContext *thread = thread_context_;

  return likely (thread != NULL) ? thread : thread_context_new ();
}

static inline void
frame_enter (Frame *frame, const Service *service, ThreadContext *thread)
{
  *frame = (Frame) { service, thread->frame };
  thread->frame = frame;
}

static inline void
frame_leave (const Frame *frame, ThreadContext *thread)
{
  thread->frame = frame->outer;
}

/* Called when a thread ends that has slots: frees them. */
extern void (*thread_slots_end) (ThreadContext *thread);
/* Called on each thread that gets a context, and on the same thread when it ends: NULL, or set before there are others.  The first
 * may let signals through that the thread has blocked before. */
extern void (*thread_begins) (ThreadContext *thread);
extern void (*thread_ends) (ThreadContext *thread);

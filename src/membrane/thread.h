/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the membrane keeps for each thread: the arena of the calls it serves, and for whom it waits.
 */
#pragma once
#include <stdint.h>

#include "arena.h"
#include "atomic.h"

typedef struct Gate Gate;
typedef struct ThreadContext ThreadContext;

struct ThreadContext
{
  _Atomic (Gate *) waits_for;   /* while it is parked, or about to be: the gate whose holder has to finish first */
  Arena arena;
  uint32_t n_slots;
  void **slots;                 /* what each client keeps for this thread, by the client's number; client.c's */
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

/* Called when a thread ends that has slots: frees them. */
extern void (*thread_slots_end) (ThreadContext *thread);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "thread.h"

#include <pthread.h>
#include <stdlib.h>

#define ARENA_LIMIT (64u << 20)         /* of one thread: a request, its reply and what they refer to, for each nested call */

__thread ThreadContext *thread_context_;
void (*thread_slots_end) (ThreadContext *thread);
void (*thread_begins) (ThreadContext *thread);
void (*thread_ends) (ThreadContext *thread);

static Frame outside;                   /* of threads that run no cell's code */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static ThreadContext *unused;

static void
thread_ended (void *data)
{
  ThreadContext *thread = data;

  if (thread->slots != NULL && thread_slots_end != NULL)
    thread_slots_end (thread);
  if (thread_ends != NULL)
    thread_ends (thread);
  arena_clear (&thread->arena);
  pthread_mutex_lock (&lock);
  thread->next = unused;
  unused = thread;
  pthread_mutex_unlock (&lock);
}

static void
make_key (void)
{
  if (pthread_key_create (&key, thread_ended) != 0)
    abort ();
}

ThreadContext *
thread_context_new (void)
{
  ThreadContext *thread;

  pthread_once (&once, make_key);
  pthread_mutex_lock (&lock);
  thread = unused;
  if (thread != NULL)
    unused = thread->next;
  pthread_mutex_unlock (&lock);
  if (thread == NULL)
    thread = calloc (1, sizeof *thread);
  if (thread == NULL)
    abort ();                           /* no memory for a thread's first hundred bytes: nothing can be answered */
  arena_init (&thread->arena, ARENA_LIMIT);
  thread->frame = &outside;
  trail_leave (&thread->trail, 0);      /* a thread may have ended in the middle of a cell */
  pthread_setspecific (key, thread);
  thread_context_ = thread;
  if (thread_begins != NULL)
    thread_begins (thread);
  return thread;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include "loop.h"

#include <pthread.h>
#include <signal.h>

#include "cell-error.h"
#include "membrane/channel.h"

typedef struct Task Task;
struct Task
{
  Task *next;
  void (*run) (gpointer data);
  gpointer data;
  gboolean done;
};

/* Its locks are not GLib's, which ThreadSanitizer does not see. */
struct Loop
{
  char name[16];
  const Service *service;
  uint32_t number;              /* what trails call it */
  pthread_t id;
  GMainContext *context;
  ThreadContext *thread;        /* set before loop_new () returns */
  pthread_mutex_t lock;         /* of what follows */
  pthread_cond_t changed;
  Gate *gate;                   /* that it owns */
  Task *tasks;                  /* in the order in which they are to be run */
  gboolean kicked, ending;
};

/* Gate → Loop.  Whoever kicks has pushed to the gate and knows nothing of its owner, which may be ending. */
static pthread_mutex_t owners_lock = PTHREAD_MUTEX_INITIALIZER;
static GHashTable *owners;

/* With its lock, or before anybody else knows it. */
static void
wake (Loop *loop)
{
  pthread_cond_broadcast (&loop->changed);
  g_main_context_wakeup (loop->context);
}

static void
kick (Gate *gate)
{
  Loop *loop;

  pthread_mutex_lock (&owners_lock);
  loop = owners != NULL ? g_hash_table_lookup (owners, gate) : NULL;
  if (loop != NULL)
    {
      pthread_mutex_lock (&loop->lock);
      loop->kicked = TRUE;
      wake (loop);
      pthread_mutex_unlock (&loop->lock);
    }
  pthread_mutex_unlock (&owners_lock);
}

/* ---- the thread ---------------------------------------------------------------------------------- */

/* With the lock. */
static void
run_tasks (Loop *loop)
{
  Task *task;

  while ((task = loop->tasks) != NULL)
    {
      loop->tasks = task->next;
      pthread_mutex_unlock (&loop->lock);
      task->run (task->data);
      pthread_mutex_lock (&loop->lock);
      task->done = TRUE;
      pthread_cond_broadcast (&loop->changed);
    }
}

/* One round.  What is pushed to the gate after it was looked at wakes the context. */
static OwnerResult
serve (Loop *loop, Gate *gate)
{
  OwnerResult result = gate != NULL ? gate_owner_serve (gate, loop->thread) : OWNER_WAITS;

  if (result != OWNER_WAITS)
    g_main_context_iteration (loop->context, result == OWNER_DONE);
  return result;
}

static void *
loop_main (void *data)
{
  Loop *loop = data;
  Frame frame;
  sigset_t all;

  sigfillset (&all);
  pthread_sigmask (SIG_BLOCK, &all, NULL);
  pthread_setname_np (pthread_self (), loop->name);
  g_main_context_push_thread_default (loop->context);
  pthread_mutex_lock (&loop->lock);
  loop->thread = thread_context ();     /* with its signals blocked: see thread_begins */
  trail_enter (&loop->thread->trail, loop->number);    /* always, its timers and sockets included */
  frame_enter (&frame, loop->service, loop->thread);
  pthread_cond_broadcast (&loop->changed);
  while (!loop->ending)
    {
      OwnerResult result;
      Gate *gate;

      run_tasks (loop);
      gate = loop->gate;
      loop->kicked = FALSE;
      pthread_mutex_unlock (&loop->lock);
      result = serve (loop, gate);
      pthread_mutex_lock (&loop->lock);
      while (result == OWNER_WAITS && !loop->kicked && !loop->ending && loop->tasks == NULL)
        pthread_cond_wait (&loop->changed, &loop->lock);
    }
  pthread_mutex_unlock (&loop->lock);
  frame_leave (&frame, loop->thread);
  g_main_context_pop_thread_default (loop->context);
  return NULL;
}

static void
loop_destroy (Loop *loop)
{
  g_main_context_unref (loop->context);
  pthread_mutex_destroy (&loop->lock);
  pthread_cond_destroy (&loop->changed);
  g_free (loop);
}

Loop *
loop_new (const char *name, const Service *service, uint32_t number, GError **error)
{
  Loop *loop = g_new0 (Loop, 1);
  int failed;

  loop->service = service;
  loop->number = number;
  g_strlcpy (loop->name, name, sizeof loop->name);
  pthread_mutex_init (&loop->lock, NULL);
  pthread_cond_init (&loop->changed, NULL);
  loop->context = g_main_context_new ();
  failed = pthread_create (&loop->id, NULL, loop_main, loop);
  if (failed != 0)
    {
      cell_set_error (error, CELL_ERROR_NO_RESOURCES, "no thread for a cell with a loop: %s", g_strerror (failed));
      loop_destroy (loop);
      return NULL;
    }
  pthread_mutex_lock (&loop->lock);
  while (loop->thread == NULL)
    pthread_cond_wait (&loop->changed, &loop->lock);
  pthread_mutex_unlock (&loop->lock);
  return loop;
}

void
loop_free (Loop *loop)
{
  if (loop == NULL)
    return;
  pthread_mutex_lock (&loop->lock);
  loop->ending = TRUE;
  wake (loop);
  pthread_mutex_unlock (&loop->lock);
  pthread_join (loop->id, NULL);
  loop_destroy (loop);
}

void
loop_own (Loop *loop, Gate *gate)
{
  pthread_mutex_lock (&owners_lock);
  if (owners == NULL)
    owners = g_hash_table_new (NULL, NULL);
  g_hash_table_insert (owners, gate, loop);
  pthread_mutex_lock (&loop->lock);
  loop->gate = gate;
  pthread_mutex_unlock (&loop->lock);
  pthread_mutex_unlock (&owners_lock);
  if (!gate->owner_runs)
    {
      /* Closed and new: nobody else reads these yet. */
      gate->kick = kick;
      gate->owner_runs = true;
    }
  store_relaxed (&gate->owner, loop->thread);
}

void
loop_disown (Loop *loop)
{
  Gate *gate;

  pthread_mutex_lock (&owners_lock);
  pthread_mutex_lock (&loop->lock);
  gate = loop->gate;
  loop->gate = NULL;
  if (gate != NULL && g_hash_table_lookup (owners, gate) == loop)
    {
      g_hash_table_remove (owners, gate);
      store_relaxed (&gate->owner, NULL);
    }
  pthread_mutex_unlock (&loop->lock);
  pthread_mutex_unlock (&owners_lock);
}

void
loop_run (Loop *loop, void (*run) (gpointer data), gpointer data)
{
  Task task = { .run = run, .data = data };
  Task **end;

  pthread_mutex_lock (&loop->lock);
  for (end = &loop->tasks; *end != NULL; end = &(*end)->next)
    continue;
  *end = &task;
  wake (loop);
  while (!task.done)
    pthread_cond_wait (&loop->changed, &loop->lock);
  pthread_mutex_unlock (&loop->lock);
}

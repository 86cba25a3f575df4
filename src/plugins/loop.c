/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "loop.h"

#include <signal.h>

#include "cell-error.h"

typedef struct Task Task;
struct Task
{
  Task *next;
  void (*run) (gpointer data);
  gpointer data;
  gboolean done;
};

struct Loop
{
  GThread *gthread;
  GMainContext *context;
  ThreadContext *thread;        /* set before loop_new () returns */
  GMutex lock;                  /* of what follows */
  GCond changed;
  Gate *gate;                   /* that it owns */
  Task *tasks;                  /* in the order in which they are to be run */
  gboolean kicked, ending;
};

/* Gate → Loop.  Whoever kicks has pushed to the gate and knows nothing of its owner, which may be ending. */
static GMutex owners_lock;
static GHashTable *owners;

/* With its lock, or before anybody else knows it. */
static void
wake (Loop *loop)
{
  g_cond_broadcast (&loop->changed);
  g_main_context_wakeup (loop->context);
}

static void
kick (Gate *gate)
{
  Loop *loop;

  g_mutex_lock (&owners_lock);
  loop = owners != NULL ? g_hash_table_lookup (owners, gate) : NULL;
  if (loop != NULL)
    {
      g_mutex_lock (&loop->lock);
      loop->kicked = TRUE;
      wake (loop);
      g_mutex_unlock (&loop->lock);
    }
  g_mutex_unlock (&owners_lock);
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
      g_mutex_unlock (&loop->lock);
      task->run (task->data);
      g_mutex_lock (&loop->lock);
      task->done = TRUE;
      g_cond_broadcast (&loop->changed);
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

static gpointer
loop_main (gpointer data)
{
  Loop *loop = data;
  sigset_t all;

  sigfillset (&all);
  pthread_sigmask (SIG_BLOCK, &all, NULL);
  g_main_context_push_thread_default (loop->context);
  g_mutex_lock (&loop->lock);
  loop->thread = thread_context ();
  g_cond_broadcast (&loop->changed);
  while (!loop->ending)
    {
      OwnerResult result;
      Gate *gate;

      run_tasks (loop);
      gate = loop->gate;
      loop->kicked = FALSE;
      g_mutex_unlock (&loop->lock);
      result = serve (loop, gate);
      g_mutex_lock (&loop->lock);
      while (result == OWNER_WAITS && !loop->kicked && !loop->ending && loop->tasks == NULL)
        g_cond_wait (&loop->changed, &loop->lock);
    }
  g_mutex_unlock (&loop->lock);
  g_main_context_pop_thread_default (loop->context);
  return NULL;
}

Loop *
loop_new (const char *name, GError **error)
{
  Loop *loop = g_new0 (Loop, 1);
  g_autofree char *short_name = g_strndup (name, 15);
  g_autoptr (GError) local = NULL;

  g_mutex_init (&loop->lock);
  g_cond_init (&loop->changed);
  loop->context = g_main_context_new ();
  loop->gthread = g_thread_try_new (short_name, loop_main, loop, &local);
  if (loop->gthread == NULL)
    {
      cell_set_error (error, CELL_ERROR_NO_RESOURCES, "no thread for a cell with a loop: %s", local->message);
      loop_free (loop);
      return NULL;
    }
  g_mutex_lock (&loop->lock);
  while (loop->thread == NULL)
    g_cond_wait (&loop->changed, &loop->lock);
  g_mutex_unlock (&loop->lock);
  return loop;
}

void
loop_free (Loop *loop)
{
  if (loop == NULL)
    return;
  g_mutex_lock (&loop->lock);
  loop->ending = TRUE;
  wake (loop);
  g_mutex_unlock (&loop->lock);
  if (loop->gthread != NULL)
    g_thread_join (loop->gthread);
  g_main_context_unref (loop->context);
  g_mutex_clear (&loop->lock);
  g_cond_clear (&loop->changed);
  g_free (loop);
}

void
loop_own (Loop *loop, Gate *gate)
{
  g_mutex_lock (&owners_lock);
  if (owners == NULL)
    owners = g_hash_table_new (NULL, NULL);
  g_hash_table_insert (owners, gate, loop);
  g_mutex_lock (&loop->lock);
  loop->gate = gate;
  g_mutex_unlock (&loop->lock);
  g_mutex_unlock (&owners_lock);
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

  g_mutex_lock (&owners_lock);
  g_mutex_lock (&loop->lock);
  gate = loop->gate;
  loop->gate = NULL;
  if (gate != NULL && g_hash_table_lookup (owners, gate) == loop)
    {
      g_hash_table_remove (owners, gate);
      store_relaxed (&gate->owner, NULL);
    }
  g_mutex_unlock (&loop->lock);
  g_mutex_unlock (&owners_lock);
}

void
loop_run (Loop *loop, void (*run) (gpointer data), gpointer data)
{
  Task task = { .run = run, .data = data };
  Task **end;

  g_mutex_lock (&loop->lock);
  for (end = &loop->tasks; *end != NULL; end = &(*end)->next)
    continue;
  *end = &task;
  wake (loop);
  while (!task.done)
    g_cond_wait (&loop->changed, &loop->lock);
  g_mutex_unlock (&loop->lock);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs.h"

#include <pthread.h>
#include <signal.h>

#define SHARE 4u                /* so many times what one has has to be left when it gets more */

typedef struct
{
  void (*run) (gpointer data);
  gpointer data;
} Job;

/* Those for one and the same. */
typedef struct
{
  uint64_t for_whom;
  guint n_running;
  GQueue waiting;               /* of Job */
} Line;

struct Jobs
{
  pthread_mutex_t lock;
  pthread_cond_t changed;
  GHashTable *lines;            /* for whom → Line, owned: those that have any jobs */
  GQueue turns;                 /* of Line: those in which somebody waits, the next one first */
  guint n_waiting, n_places;    /* places: threads for jobs that may have to wait for somebody, less those that they have */
  guint n_idle, n_threads, most;
  gboolean ending;
  pthread_t *threads;
};

/* ---- whose turn it is: with the lock -------------------------------------------------------------------------- */

static Line *
line_for (Jobs *jobs, uint64_t for_whom)
{
  Line *line = g_hash_table_lookup (jobs->lines, &for_whom);

  if (line != NULL)
    return line;
  line = g_new0 (Line, 1);
  line->for_whom = for_whom;
  g_queue_init (&line->waiting);
  g_hash_table_insert (jobs->lines, &line->for_whom, line);
  return line;
}

/* The place in `turns` of the first that may begin one more. */
static GList *
first_in_turn (Jobs *jobs)
{
  for (GList *turn = jobs->turns.head; turn != NULL; turn = turn->next)
    {
      const Line *line = turn->data;

      if (line->for_whom == JOBS_FREE || SHARE * line->n_running < jobs->n_places)
        return turn;
    }
  return NULL;
}

/* NULL: nobody may begin now. */
static Job *
begin (Jobs *jobs, Line **ret_line)
{
  GList *turn = first_in_turn (jobs);
  Line *line = turn != NULL ? turn->data : NULL;
  Job *job;

  if (line == NULL)
    return NULL;
  job = g_queue_pop_head (&line->waiting);
  g_queue_delete_link (&jobs->turns, turn);
  if (!g_queue_is_empty (&line->waiting))
    g_queue_push_tail (&jobs->turns, line);
  jobs->n_waiting--;
  line->n_running++;
  jobs->n_places -= line->for_whom != JOBS_FREE;
  /* Who has ended may have made room for more than one. */
  if (jobs->n_idle > 0 && first_in_turn (jobs) != NULL)
    pthread_cond_signal (&jobs->changed);
  *ret_line = line;
  return job;
}

static void
end (Jobs *jobs, Line *line)
{
  line->n_running--;
  jobs->n_places += line->for_whom != JOBS_FREE;
  if (line->n_running == 0 && g_queue_is_empty (&line->waiting))
    g_hash_table_remove (jobs->lines, &line->for_whom);
}

/* ---- threads --------------------------------------------------------------------------------------------------- */

static void *
jobs_main (void *data)
{
  Jobs *jobs = data;
  Line *line;
  sigset_t all;

  sigfillset (&all);
  pthread_sigmask (SIG_BLOCK, &all, NULL);
  pthread_mutex_lock (&jobs->lock);
  for (;;)
    {
      Job *job = begin (jobs, &line);

      if (job != NULL)
        {
          pthread_mutex_unlock (&jobs->lock);
          job->run (job->data);
          g_free (job);
          pthread_mutex_lock (&jobs->lock);
          end (jobs, line);
          continue;
        }
      jobs->n_idle++;
      /* The last one that is at work may submit more. */
      if (jobs->ending && jobs->n_idle == jobs->n_threads)
        pthread_cond_broadcast (&jobs->changed);
      if (jobs->ending && jobs->n_idle == jobs->n_threads)
        break;
      pthread_cond_wait (&jobs->changed, &jobs->lock);
      if (jobs->ending && jobs->n_idle == jobs->n_threads && jobs->n_waiting == 0)
        break;
      jobs->n_idle--;
    }
  pthread_mutex_unlock (&jobs->lock);
  return NULL;
}

Jobs *
jobs_new (guint most)
{
  Jobs *jobs = g_new0 (Jobs, 1);

  pthread_mutex_init (&jobs->lock, NULL);
  pthread_cond_init (&jobs->changed, NULL);
  jobs->lines = g_hash_table_new_full (g_int64_hash, g_int64_equal, NULL, g_free);
  g_queue_init (&jobs->turns);
  jobs->most = most;
  jobs->n_places = most - most / 4;
  jobs->threads = g_new (pthread_t, most);
  return jobs;
}

void
jobs_submit (Jobs *jobs, uint64_t for_whom, void (*run) (gpointer data), gpointer data)
{
  Job *job = g_new (Job, 1);
  Line *line;

  *job = (Job) { run, data };
  pthread_mutex_lock (&jobs->lock);
  line = line_for (jobs, for_whom);
  if (g_queue_is_empty (&line->waiting))
    g_queue_push_tail (&jobs->turns, line);
  g_queue_push_tail (&line->waiting, job);
  jobs->n_waiting++;
  if (jobs->n_idle < jobs->n_waiting && jobs->n_threads < jobs->most && first_in_turn (jobs) != NULL
      && pthread_create (&jobs->threads[jobs->n_threads], NULL, jobs_main, jobs) == 0)
    jobs->n_threads++;
  if (jobs->n_threads == 0)
    g_error ("no thread for management work");
  pthread_cond_signal (&jobs->changed);
  pthread_mutex_unlock (&jobs->lock);
}

/* While others are at work they may start one more. */
static gboolean
find_thread (Jobs *jobs, guint i, pthread_t *ret)
{
  gboolean found;

  pthread_mutex_lock (&jobs->lock);
  found = i < jobs->n_threads;
  if (found)
    *ret = jobs->threads[i];
  pthread_mutex_unlock (&jobs->lock);
  return found;
}

void
jobs_free (Jobs *jobs)
{
  pthread_t thread;

  pthread_mutex_lock (&jobs->lock);
  jobs->ending = TRUE;
  pthread_cond_broadcast (&jobs->changed);
  pthread_mutex_unlock (&jobs->lock);
  for (guint i = 0; find_thread (jobs, i, &thread); i++)
    pthread_join (thread, NULL);
  pthread_mutex_destroy (&jobs->lock);
  pthread_cond_destroy (&jobs->changed);
  g_hash_table_unref (jobs->lines);
  g_free (jobs->threads);
  g_free (jobs);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs.h"

#include <pthread.h>
#include <signal.h>

typedef struct
{
  void (*run) (gpointer data);
  gpointer data;
} Job;

struct Jobs
{
  pthread_mutex_t lock;
  pthread_cond_t changed;
  GQueue waiting;               /* of Job */
  guint n_idle, n_threads, most;
  gboolean ending;
  pthread_t *threads;
};

static void *
jobs_main (void *data)
{
  Jobs *jobs = data;
  sigset_t all;

  sigfillset (&all);
  pthread_sigmask (SIG_BLOCK, &all, NULL);
  pthread_mutex_lock (&jobs->lock);
  for (;;)
    {
      Job *job = g_queue_pop_head (&jobs->waiting);

      if (job != NULL)
        {
          pthread_mutex_unlock (&jobs->lock);
          job->run (job->data);
          g_free (job);
          pthread_mutex_lock (&jobs->lock);
          continue;
        }
      jobs->n_idle++;
      /* The last one that is at work may submit more. */
      if (jobs->ending && jobs->n_idle == jobs->n_threads)
        pthread_cond_broadcast (&jobs->changed);
      if (jobs->ending && jobs->n_idle == jobs->n_threads)
        break;
      pthread_cond_wait (&jobs->changed, &jobs->lock);
      if (jobs->ending && jobs->n_idle == jobs->n_threads && g_queue_is_empty (&jobs->waiting))
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
  g_queue_init (&jobs->waiting);
  jobs->most = most;
  jobs->threads = g_new (pthread_t, most);
  return jobs;
}

void
jobs_submit (Jobs *jobs, void (*run) (gpointer data), gpointer data)
{
  Job *job = g_new (Job, 1);

  *job = (Job) { run, data };
  pthread_mutex_lock (&jobs->lock);
  g_queue_push_tail (&jobs->waiting, job);
  if (jobs->n_idle < g_queue_get_length (&jobs->waiting) && jobs->n_threads < jobs->most
      && pthread_create (&jobs->threads[jobs->n_threads], NULL, jobs_main, jobs) == 0)
    jobs->n_threads++;
  if (jobs->n_threads == 0)
    g_error ("no thread for management work");
  pthread_cond_signal (&jobs->changed);
  pthread_mutex_unlock (&jobs->lock);
}

void
jobs_free (Jobs *jobs)
{
  pthread_mutex_lock (&jobs->lock);
  jobs->ending = TRUE;
  pthread_cond_broadcast (&jobs->changed);
  pthread_mutex_unlock (&jobs->lock);
  for (guint i = 0; i < jobs->n_threads; i++)
    pthread_join (jobs->threads[i], NULL);
  pthread_mutex_destroy (&jobs->lock);
  pthread_cond_destroy (&jobs->changed);
  g_free (jobs->threads);
  g_free (jobs);
}

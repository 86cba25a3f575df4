/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Jobs that wait for somebody who does not answer leave threads to all others, and every one of them is run.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "host/jobs.h"

#define THREADS 64u
#define CONSPIRATORS 13u        /* who have all places but one */
#define EACH 100u

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static gboolean answered;
static _Atomic guint n_begun, n_done;
static guint last;

static void
reset (void)
{
  answered = FALSE;
  last = n_begun = n_done = 0;
}

/* Until somebody lets all of them go on. */
static void
wait_run (gpointer data)
{
  (void) data;
  n_begun++;
  pthread_mutex_lock (&lock);
  while (!answered)
    pthread_cond_wait (&changed, &lock);
  pthread_mutex_unlock (&lock);
  n_done++;
}

static void
answer_all (void)
{
  pthread_mutex_lock (&lock);
  answered = TRUE;
  pthread_cond_broadcast (&changed);
  pthread_mutex_unlock (&lock);
}

static void
honest_run (gpointer data)
{
  pthread_mutex_lock (&lock);
  *(gboolean *) data = TRUE;
  pthread_cond_broadcast (&changed);
  pthread_mutex_unlock (&lock);
}

/* It has a thread though nobody answers the others. */
static void
assert_runs (Jobs *jobs, uint64_t for_whom)
{
  gint64 patience = g_get_real_time () + 60 * G_USEC_PER_SEC;
  const struct timespec until = { (time_t) (patience / G_USEC_PER_SEC), 0 };
  gboolean ran = FALSE;
  int result = 0;

  jobs_submit (jobs, for_whom, honest_run, &ran);
  pthread_mutex_lock (&lock);
  while (!ran && result == 0)
    result = pthread_cond_timedwait (&changed, &lock, &until);
  if (!ran)
    g_error ("%u jobs wait for an answer, and there is no thread for %s", n_begun,
             for_whom == JOBS_FREE ? "who waits for nobody" : "somebody else");
  g_assert_false (answered);
  pthread_mutex_unlock (&lock);
}

static void
submit_waiting (Jobs *jobs, guint n_whom)
{
  for (guint whom = 1; whom <= n_whom; whom++)
    for (guint i = 0; i < EACH; i++)
      jobs_submit (jobs, whom, wait_run, NULL);
}

/* data: how many of them there are. */
static void
test_wait (gconstpointer data)
{
  guint n_whom = GPOINTER_TO_UINT (data);
  Jobs *jobs = jobs_new (THREADS);

  reset ();
  submit_waiting (jobs, n_whom);
  assert_runs (jobs, JOBS_FREE);
  if (n_whom <= CONSPIRATORS)
    assert_runs (jobs, n_whom + 1);
  answer_all ();
  jobs_free (jobs);
  g_assert_cmpuint (n_done, ==, n_whom * EACH);
}

static void
count_run (gpointer data)
{
  guint number = GPOINTER_TO_UINT (data);

  pthread_mutex_lock (&lock);
  g_assert_cmpuint (number, ==, last + 1);
  last = number;
  pthread_mutex_unlock (&lock);
}

/* Of 4 threads one gets 1, so that they end in the order in which they begin. */
static void
test_order (void)
{
  Jobs *jobs = jobs_new (4);

  reset ();
  for (guint i = 1; i <= 10 * EACH; i++)
    {
      jobs_submit (jobs, 1, count_run, GUINT_TO_POINTER (i));
      jobs_submit (jobs, 2 + i % 7, wait_run, NULL);
      if (i == EACH)
        answer_all ();
    }
  jobs_free (jobs);
  g_assert_cmpuint (last, ==, 10 * EACH);
  g_assert_cmpuint (n_done, ==, 10 * EACH);
}

typedef struct
{
  Jobs *jobs;
  guint left;
} Chain;

static void
chain_run (gpointer data)
{
  Chain *chain = data;

  n_done++;
  if (--chain->left > 0)
    jobs_submit (chain->jobs, chain->left % 5, chain_run, chain);
}

/* What jobs submit when it is to end is run, too. */
static void
test_end (void)
{
  Chain chains[8];
  Jobs *jobs = jobs_new (THREADS);

  reset ();
  for (guint i = 0; i < G_N_ELEMENTS (chains); i++)
    {
      chains[i] = (Chain) { jobs, 1000 };
      jobs_submit (jobs, i, chain_run, &chains[i]);
    }
  jobs_free (jobs);
  g_assert_cmpuint (n_done, ==, G_N_ELEMENTS (chains) * 1000);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_data_func ("/jobs/one-does-not-answer", GUINT_TO_POINTER (1), test_wait);
  g_test_add_data_func ("/jobs/several-do-not-answer", GUINT_TO_POINTER (CONSPIRATORS), test_wait);
  g_test_add_data_func ("/jobs/a-crowd-does-not-answer", GUINT_TO_POINTER (3 * THREADS), test_wait);
  g_test_add_func ("/jobs/order", test_order);
  g_test_add_func ("/jobs/end", test_end);
  return g_test_run ();
}

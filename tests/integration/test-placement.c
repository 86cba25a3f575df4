/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A cell's callers keep their processor while it moves; and when it has moved everybody runs where they did before, threads that a
 * cell has pinned or has started meanwhile included.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#include "counting.h"
#include "host-fixture.h"
#include "host/link.h"

typedef struct
{
  HostFixture host;
  cpu_set_t given, pinned;      /* of this process; and the first of them */
  int cpu;
  guint n_steps;                /* at which somebody was looked at */
  _Atomic gboolean called, done;
} Scene;

static gboolean
may_run (pid_t thread, int cpu)
{
  cpu_set_t set;

  return sched_getaffinity (thread, sizeof set, &set) == 0 && CPU_ISSET (cpu, &set);
}

static pid_t
parent_of (pid_t pid)
{
  g_autofree char *path = g_strdup_printf ("/proc/%d/status", (int) pid), *text = NULL;
  const char *at;

  g_assert_true (g_file_get_contents (path, &text, NULL, NULL));
  at = strstr (text, "\nPPid:");
  g_assert_nonnull (at);
  return (pid_t) g_ascii_strtoll (at + strlen ("\nPPid:"), NULL, 10);
}

/* On the thread that moves the cell.  Its sandbox begins elsewhere; what is in it is let go before the cell is. */
static void
look (const char *cell, const char *step, GPid child, gpointer data)
{
  Scene *scene = data;

  (void) cell;
  if (!scene->called)
    return;
  g_assert_false (may_run (0, scene->cpu));
  if (g_str_equal (step, "load the cell"))
    {
      g_assert_false (may_run (parent_of (child), scene->cpu));
      g_assert_true (may_run (child, scene->cpu));
    }
  scene->n_steps++;
}

static void
set_up (Scene *scene, gconstpointer data)
{
  g_assert_cmpint (sched_getaffinity (0, sizeof scene->given, &scene->given), ==, 0);
  while (!CPU_ISSET (scene->cpu, &scene->given))
    scene->cpu++;
  CPU_SET (scene->cpu, &scene->pinned);
  scene->host.on_step = look;
  scene->host.on_step_data = scene;
  host_fixture_set_up (&scene->host, data);
}

static void
tear_down (Scene *scene, gconstpointer data)
{
  host_fixture_tear_down (&scene->host, data);
}

static gpointer
caller_main (gpointer data)
{
  Scene *scene = data;
  CellBus *bus;
  Counting counting = { .who = 1 };

  g_assert_cmpint (sched_setaffinity (0, sizeof scene->pinned, &scene->pinned), ==, 0);
  bus = cell_open (scene->host.socket);
  counting.sequence = cell_bind (bus, Sequence, "sequence");
  for (; !scene->done; scene->called = TRUE)
    counting_single (&counting);
  g_assert_cmpstr (counting.wrong, ==, "");
  cell_close (bus);
  return NULL;
}

static gpointer
pinned_main (gpointer data)
{
  Scene *scene = data;

  g_assert_cmpint (sched_setaffinity (0, sizeof scene->pinned, &scene->pinned), ==, 0);
  scene->called = TRUE;
  while (!scene->done)
    g_usleep (1000);
  return NULL;
}

/* How many of its threads have these processors, and no other. */
static guint
count_threads (pid_t pid, const cpu_set_t *set)
{
  g_autofree char *folder = g_strdup_printf ("/proc/%d/task", (int) pid);
  g_autoptr(GDir) dir = g_dir_open (folder, 0, NULL);
  const char *name;
  cpu_set_t now;
  guint n = 0;

  while ((name = g_dir_read_name (dir)) != NULL)
    n += sched_getaffinity (atoi (name), sizeof now, &now) == 0 && CPU_EQUAL (&now, set);
  return n;
}

static guint
count_all (pid_t pid)
{
  g_autofree char *folder = g_strdup_printf ("/proc/%d/task", (int) pid);
  g_autoptr(GDir) dir = g_dir_open (folder, 0, NULL);
  guint n = 0;

  while (g_dir_read_name (dir) != NULL)
    n++;
  return n;
}

/* All but the caller, and the one that is pinned: threads that are about to end do not count either way. */
static void
assert_as_before (Scene *scene, HostCell *cell)
{
  const gint64 until = g_get_monotonic_time () + 60 * G_USEC_PER_SEC;
  HostCellInfo info;

  while (count_threads (getpid (), &scene->given) + 2 != count_all (getpid ()))
    g_assert_cmpint (g_get_monotonic_time (), <, until);
  g_assert_cmpuint (count_threads (getpid (), &scene->pinned), ==, 2);
  host_cell_describe (cell, &info);
  if (info.location == CELL_LOCATION_CHILD)
    while (count_threads (info.pid, &scene->given) != count_all (info.pid))
      g_assert_cmpint (g_get_monotonic_time (), <, until);
}

/* Until its caller has waited for an answer, and said where. */
static void
wait_seen (HostCell *cell)
{
  const gint64 until = g_get_monotonic_time () + 60 * G_USEC_PER_SEC;
  guint cpu;

  do
    {
      g_assert_cmpint (g_get_monotonic_time (), <, until);
      pthread_mutex_lock (&cell->lock);
      cpu = atomic_load (&((Link *) g_ptr_array_index (cell->links, 0))->requests->control->cpu);
      pthread_mutex_unlock (&cell->lock);
    }
  while (cpu == 0);
}

static GThread *
start (Scene *scene, const char *name, GThreadFunc function)
{
  GThread *thread = g_thread_new (name, function, scene);

  while (!scene->called)
    g_thread_yield ();
  return thread;
}

static void
test_moves (Scene *scene, gconstpointer data)
{
  g_autoptr(HostCell) cell = NULL;
  GThread *pinned, *caller;
  guint n = 0;

  if (!host_fixture_has_sandbox ())
    return;
  if (CPU_COUNT (&scene->given) < 2)
    {
      g_test_skip ("there is one processor only, which everybody has to share");
      return;
    }
  cell = host_fixture_load (&scene->host, data, "sequence", NULL);
  pinned = start (scene, "pinned", pinned_main);
  scene->called = FALSE;
  caller = start (scene, "caller", caller_main);
  wait_seen (cell);
  for (guint i = 0; i < 4; i++, n = scene->n_steps)
    {
      (i % 2 == 0 ? host_fixture_eject : host_fixture_absorb) (cell);
      g_assert_cmpuint (scene->n_steps, >, n);
      assert_as_before (scene, cell);
    }
  scene->done = TRUE;
  g_thread_join (caller);
  g_thread_join (pinned);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_log_set_always_fatal (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL);
  g_test_add ("/placement/serial", Scene, "sequence", set_up, test_moves, tear_down);
  /* Its thread is started by whoever moves it. */
  g_test_add ("/placement/loop", Scene, "sequence-loop", set_up, test_moves, tear_down);
  return g_test_run ();
}

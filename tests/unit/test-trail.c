/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Which cells a thread is in.
 */
#include <glib.h>

#include "membrane/thread.h"

static void
test_nested (void)
{
  Trail trail = { 0 };
  uint32_t cells[TRAIL_MAX], a, b;

  g_assert_cmpuint (trail_read (&trail, cells), ==, 0);
  a = trail_enter (&trail, 7);
  b = trail_enter (&trail, 9);
  g_assert_cmpuint (trail_read (&trail, cells), ==, 2);
  g_assert_cmpuint (cells[0], ==, 9);
  g_assert_cmpuint (cells[1], ==, 7);
  trail_leave (&trail, b);
  b = trail_enter (&trail, 11);
  g_assert_cmpuint (trail_read (&trail, cells), ==, 2);
  g_assert_cmpuint (cells[0], ==, 11);
  trail_leave (&trail, b);
  trail_leave (&trail, a);
  g_assert_cmpuint (trail_read (&trail, cells), ==, 0);
}

/* Of a longer one the innermost are left, and it comes back whole. */
static void
test_deep (void)
{
  Trail trail = { 0 };
  uint32_t cells[TRAIL_MAX], depths[1000];

  for (uint32_t i = 0; i < G_N_ELEMENTS (depths); i++)
    depths[i] = trail_enter (&trail, i + 1);
  g_assert_cmpuint (trail_read (&trail, cells), ==, TRAIL_MAX);
  for (uint32_t i = 0; i < TRAIL_MAX; i++)
    g_assert_cmpuint (cells[i], ==, G_N_ELEMENTS (depths) - i);
  for (uint32_t i = G_N_ELEMENTS (depths); i-- > 0; trail_leave (&trail, depths[i]))
    g_assert_cmpuint (atomic_load (&trail.depth), ==, i + 1);
  g_assert_cmpuint (trail_read (&trail, cells), ==, 0);
}

static guint n_begun, n_ended;

static void
begins (ThreadContext *thread)
{
  uint32_t cells[TRAIL_MAX];

  g_assert_cmpuint (trail_read (&thread->trail, cells), ==, 0);
  n_begun++;
}

static void
ends (ThreadContext *thread)
{
  g_assert_true (thread == thread_context ());
  n_ended++;
}

static gpointer
end_in_a_cell (gpointer data)
{
  trail_enter (&thread_context ()->trail, 5);
  return data;
}

static void
test_threads (void)
{
  thread_begins = begins;
  thread_ends = ends;
  for (guint i = 1; i <= 3; i++)
    {
      g_thread_join (g_thread_new ("in-a-cell", end_in_a_cell, NULL));
      g_assert_cmpuint (n_begun, ==, i);
      g_assert_cmpuint (n_ended, ==, i);
    }
  thread_begins = thread_ends = NULL;
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/trail/nested", test_nested);
  g_test_add_func ("/trail/deep", test_deep);
  g_test_add_func ("/trail/threads", test_threads);
  return g_test_run ();
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What is kept of what a cell says: the newest, and no more than there is room for.
 */
#include <string.h>

#include "host/log-tail.h"

static LogTail *
tail_of (guint n, gsize length)
{
  LogTail *tail = log_tail_new ();

  for (guint i = 0; i < n; i++)
    {
      g_autofree char *filler = g_strnfill (length, '.'), *text = g_strdup_printf ("%u%s", i, filler);

      log_tail_add (tail, (int) (i % 4), text);
    }
  return tail;
}

static void
check_newest (LogTail *tail, guint n)
{
  g_autoptr(GPtrArray) list = log_tail_list (tail);
  gsize bytes = 0;

  g_assert_cmpuint (list->len, >, 0);
  g_assert_cmpuint (list->len, <=, LOG_TAIL_LINES);
  for (guint i = 0; i < list->len; i++)
    {
      const LogLine *line = g_ptr_array_index (list, i);
      guint number = n - list->len + i;

      bytes += strlen (line->text);
      g_assert_cmpuint (g_ascii_strtoull (line->text, NULL, 10), ==, number);
      g_assert_cmpint (line->level, ==, number % 4);
    }
  g_assert_cmpuint (bytes, <=, LOG_TAIL_BYTES);
}

static void
test_few (void)
{
  LogTail *tail = tail_of (3, 10);
  g_autoptr(GPtrArray) list = log_tail_list (tail);

  g_assert_cmpuint (list->len, ==, 3);
  check_newest (tail, 3);
  log_tail_unref (tail);
}

static void
test_bounds (void)
{
  LogTail *lines = tail_of (3 * LOG_TAIL_LINES, 0), *bytes = tail_of (100, LOG_TAIL_BYTES / 10);
  g_autoptr(GPtrArray) list = log_tail_list (lines);

  g_assert_cmpuint (list->len, ==, LOG_TAIL_LINES);
  check_newest (lines, 3 * LOG_TAIL_LINES);
  check_newest (bytes, 100);
  log_tail_unref (lines);
  log_tail_unref (bytes);
}

static void
test_not_utf8 (void)
{
  LogTail *tail = log_tail_new ();
  g_autoptr(GPtrArray) list = NULL;

  log_tail_add (tail, 0, "\xff\xfe what");
  list = log_tail_list (tail);
  g_assert_true (g_utf8_validate (((const LogLine *) g_ptr_array_index (list, 0))->text, -1, NULL));
  log_tail_unref (tail);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/log-tail/few", test_few);
  g_test_add_func ("/log-tail/bounds", test_bounds);
  g_test_add_func ("/log-tail/not-utf8", test_not_utf8);
  return g_test_run ();
}

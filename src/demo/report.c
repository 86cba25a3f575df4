/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "report.h"

#include <unistd.h>

void
latencies_add (Latencies *latencies, guint64 ns)
{
  if (latencies->ns == NULL)
    latencies->ns = g_array_new (FALSE, FALSE, sizeof (guint64));
  g_array_append_val (latencies->ns, ns);
}

static gint
by_size (gconstpointer a, gconstpointer b)
{
  guint64 x = *(const guint64 *) a, y = *(const guint64 *) b;

  return x < y ? -1 : x > y;
}

void
latencies_print (Latencies *latencies)
{
  guint n = latencies->ns != NULL ? latencies->ns->len : 0;
  double at[3] = { 0.5, 0.99, 0.999 }, us[3];

  if (n == 0)
    return;
  g_array_sort (latencies->ns, by_size);
  for (guint i = 0; i < 3; i++)
    us[i] = (double) g_array_index (latencies->ns, guint64, MIN (n - 1, (guint) (at[i] * n))) / 1000;
  g_print ("  %-12s %-11s %8u calls   p50 %9.1f   p99 %9.1f   p99.9 %9.1f   most %9.1f µs\n", latencies->cell, latencies->location, n, us[0], us[1],
           us[2], (double) g_array_index (latencies->ns, guint64, n - 1) / 1000);
}

void
progress (guint done, guint all, const char *what)
{
  static gint64 shown;
  gint64 now = g_get_monotonic_time ();

  if (!isatty (STDERR_FILENO) || now - shown < 50000)
    return;
  shown = now;
  g_printerr ("\r%u of %u  %-60.60s\033[K", done, all, what);
}

void
progress_end (void)
{
  if (isatty (STDERR_FILENO))
    g_printerr ("\r\033[K");
}

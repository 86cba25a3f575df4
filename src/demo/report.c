/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "report.h"

#include <glib/gi18n.h>
#include <unistd.h>

/* Headings are translated, so they are as wide as they have letters. */
static int
padding (const char *text, glong width)
{
  return (int) MAX (width - g_utf8_strlen (text, -1), 0);
}

void
say (const char *about, const char *format, ...)
{
  g_autofree char *rest = NULL;
  va_list args;

  va_start (args, format);
  rest = g_strdup_vprintf (format, args);
  va_end (args);
  g_print ("%s%*s %s\n", about, padding (about, 9), "", rest);
}

char *
plain_text (const char *text)
{
  char *plain = g_utf8_make_valid (text, -1);

  for (char *c = plain; *c != 0; c++)
    if (g_ascii_iscntrl (*c))
      *c = '?';
  return plain;
}

void
latencies_add (Latencies *latencies, guint64 ns, guint n_calls)
{
  latencies->n_calls += n_calls;
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
  g_autofree char *where = NULL, *rest = NULL;

  if (n == 0)
    return;
  g_array_sort (latencies->ns, by_size);
  for (guint i = 0; i < 3; i++)
    us[i] = (double) g_array_index (latencies->ns, guint64, MIN (n - 1, (guint) (at[i] * n))) / 1000;
  where = latencies->from != NULL ? g_strdup_printf (_("%s, from %s"), _(latencies->location), latencies->from)
                                  : g_strdup (_(latencies->location));
  rest = g_strdup_printf (_("%8llu calls   p50 %8.1f   p99 %8.1f   p99.9 %8.1f   most %8.1f µs"),
                          (unsigned long long) latencies->n_calls,
                          us[0], us[1], us[2], (double) g_array_index (latencies->ns, guint64, n - 1) / 1000);
  g_print ("  %s%*s %s%*s %s\n", latencies->cell, padding (latencies->cell, 12), "", where, padding (where, 23), "", rest);
}

void
progress (guint done, guint all, const char *what)
{
  static gint64 shown;
  gint64 now = g_get_monotonic_time ();
  g_autofree char *plain = NULL, *cut = NULL, *line = NULL;

  if (!isatty (STDERR_FILENO) || now - shown < 50000)
    return;
  shown = now;
  plain = plain_text (what);
  cut = g_utf8_substring (plain, 0, MIN (g_utf8_strlen (plain, -1), 60));
  line = g_strdup_printf (_("%u of %u  %s"), done, all, cut);
  g_printerr ("\r%s\033[K", line);
}

void
progress_end (void)
{
  if (isatty (STDERR_FILENO))
    g_printerr ("\r\033[K");
}

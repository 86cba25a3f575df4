/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "random-scalars.h"

#include <math.h>
#include <string.h>

static gunichar
random_char (void)
{
  static const gunichar edges[] = { 1, 8, '\t', '\n', 0x1b, 0x1f, '"', '\\', '/', 0x7f, 0x80, 0x7ff, 0x800, 0xd7ff, 0xe000, 0xfeff,
                                    0xfffd, 0xffff, 0x10000, 0x10ffff };
  gunichar c;

  if (g_test_rand_int_range (0, 3) == 0)
    return edges[g_test_rand_int_range (0, G_N_ELEMENTS (edges))];
  if (g_test_rand_int_range (0, 2) == 0)
    return (gunichar) g_test_rand_int_range (' ', 0x7f);
  c = (gunichar) g_test_rand_int_range (1, 0x110000);
  return c >= 0xd800 && c < 0xe000 ? 'x' : c;
}

char *
random_string (void)
{
  GString *text = g_string_new (NULL);

  for (int n = g_test_rand_int_range (0, 9); n > 0; n--)
    g_string_append_unichar (text, random_char ());
  return g_string_free (text, FALSE);
}

double
random_double (void)
{
  double value;

  do
    {
      guint64 bits = (guint64) (guint32) g_test_rand_int () << 32 | (guint32) g_test_rand_int ();
      memcpy (&value, &bits, sizeof value);
    }
  while (!isfinite (value));
  return g_test_rand_int_range (0, 3) == 0 ? g_test_rand_int_range (-100, 100) / 8.0 : value;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "suggest.h"

#include <string.h>

#define NAME_MAX_BYTES 64

/* How many letters have to be typed, left out, changed, or swapped with their neighbours (optimal string alignment). */
static guint
distance (const char *a, gsize n, const char *b, gsize m)
{
  guint rows[3][NAME_MAX_BYTES + 1], *before = rows[0], *above = rows[1], *row = rows[2];

  for (gsize k = 0; k <= m; k++)
    above[k] = (guint) k;
  for (gsize i = 1; i <= n; i++)
    {
      guint *oldest = before;

      row[0] = (guint) i;
      for (gsize k = 1; k <= m; k++)
        {
          row[k] = above[k - 1] + (a[i - 1] != b[k - 1]);
          row[k] = MIN (row[k], MIN (above[k], row[k - 1]) + 1);
          if (i > 1 && k > 1 && a[i - 1] == b[k - 2] && a[i - 2] == b[k - 1])
            row[k] = MIN (row[k], before[k - 2] + 1);
        }
      before = above;
      above = row;
      row = oldest;
    }
  return above[m];
}

const char *
suggest (const char *typed, const char *const *names)
{
  gsize n = strlen (typed);
  guint least = (guint) n / 3 + 1;      /* with more mistakes than that it is another word */
  const char *best = NULL;

  if (n > NAME_MAX_BYTES)
    return NULL;
  for (; *names != NULL; names++)
    {
      gsize m = strlen (*names);
      guint d = m <= NAME_MAX_BYTES ? distance (typed, n, *names, m) : G_MAXUINT;

      if (d < least || (d == least && best == NULL && d < n))
        {
          least = d;
          best = *names;
        }
    }
  return best;
}

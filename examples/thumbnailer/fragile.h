/* SPDX-License-Identifier: MIT
 *
 * What a decoder's mistakes come to, for a build that the demo runs in a sandbox: a picture that bears one of these marks, behind
 * its end for instance, makes it crash, hang, or eat memory.  No other build includes this.
 */
#pragma once
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <glib.h>

#define FRAGILE_CRASH "cellhost-demo: crash"
#define FRAGILE_HANG "cellhost-demo: hang"
#define FRAGILE_MEMORY "cellhost-demo: memory"
#define FRAGILE_PIECE ((size_t) 16 << 20)
#define FRAGILE_PIECES 64               /* where nothing bounds it, that is enough to see */

static bool
fragile_is_marked (const guchar *bytes, size_t n, const char *mark)
{
  return memmem (bytes, n, mark, strlen (mark)) != NULL;
}

/* What is never written to costs nothing, and counts.  It ends as programs do that get no more. */
static void
fragile_eat (void)
{
  volatile char *piece;
  unsigned n = 0;

  while (n < FRAGILE_PIECES && (piece = malloc (FRAGILE_PIECE)))
    piece[n++] = 1;
  fprintf (stderr, "there is no memory for %zu bytes more, after %u times as many\n", FRAGILE_PIECE, n);
  abort ();
}

static void
fragile_look (const guchar *bytes, size_t n)
{
  volatile int *volatile nowhere = NULL;

  if (fragile_is_marked (bytes, n, FRAGILE_CRASH))
    *nowhere = 1;
  for (volatile bool hangs = fragile_is_marked (bytes, n, FRAGILE_HANG); hangs;)
    continue;
  if (fragile_is_marked (bytes, n, FRAGILE_MEMORY))
    fragile_eat ();
}

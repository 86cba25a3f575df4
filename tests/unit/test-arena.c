/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The arena: pieces, marks and bounds.
 */
#include <glib.h>
#include <string.h>

#include "membrane/arena.h"

static void
test_pieces (void)
{
  Arena arena;
  ArenaMark mark, inner;
  uint8_t *first, *p;

  arena_init (&arena, 1u << 20);
  mark = arena_mark (&arena);
  first = arena_get (&arena, 100);
  g_assert_nonnull (first);
  memset (first, 1, 100);
  inner = arena_mark (&arena);
  for (gsize size = 0, sum = 0; sum < 500000; size = size * 2 % 70001 + 1, sum += size)
    {
      p = arena_get (&arena, size);
      g_assert_nonnull (p);
      g_assert_cmpuint ((guintptr) p % 16, ==, 0);
      memset (p, 0xff, size);
    }
  g_assert_cmpuint (arena.taken, <=, arena.limit);
  arena_release (&arena, inner);
  for (unsigned i = 0; i < 100; i++)
    g_assert_cmpuint (first[i], ==, 1);
  arena_release (&arena, mark);
  g_assert_true (arena_get (&arena, 1) == first);       /* the first chunk was kept */
  g_assert_null (arena_get (&arena, (1u << 20) + 1));
  g_assert_null (arena_get (&arena, SIZE_MAX));
  g_assert_null (arena_get (&arena, SIZE_MAX - 14));
  arena_clear (&arena);
  g_assert_cmpuint (arena.taken, ==, 0);

  arena_init (&arena, 1000);
  g_assert_nonnull (arena_get (&arena, 1000));
  g_assert_null (arena_get (&arena, 1));
  arena_clear (&arena);
}

/* A big piece and small ones, nested at random: as a stack would do it. */
static void
test_nested (void)
{
  Arena arena;

  arena_init (&arena, 4u << 20);
  for (unsigned round = 0; round < 300; round++)
    {
      ArenaMark marks[20];
      struct { uint8_t *p; gsize size; } taken[20];
      unsigned n = (unsigned) g_test_rand_int_range (1, 20);

      for (unsigned i = 0; i < n; i++)
        {
          marks[i] = arena_mark (&arena);
          taken[i].size = (gsize) g_test_rand_int_range (0, i % 5 == 0 ? 150000 : 3000);
          taken[i].p = arena_get (&arena, taken[i].size);
          g_assert_nonnull (taken[i].p);
          memset (taken[i].p, (int) i, taken[i].size);
        }
      while (n-- > 0)
        {
          for (gsize k = 0; k < taken[n].size; k++)
            g_assert_cmpuint (taken[n].p[k], ==, n);
          arena_release (&arena, marks[n]);
        }
      g_assert_cmpuint (arena.taken, <, 100000);
    }
  arena_clear (&arena);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/arena/pieces", test_pieces);
  g_test_add_func ("/arena/nested", test_nested);
  return g_test_run ();
}

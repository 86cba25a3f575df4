/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the codec takes for UTF-8 is what GLib takes for it.
 */
#include <glib.h>
#include <string.h>

#include "membrane/codec.h"

static void
same_verdict (const uint8_t *s, uint32_t n)
{
  bool expected = g_utf8_validate ((const char *) s, n, NULL);

  if (codec_is_utf8 (s, n) != expected)
    {
      for (uint32_t i = 0; i < n; i++)
        g_test_message ("%02x", s[i]);
      g_error ("%u bytes: %s", n, expected ? "refused" : "accepted");
    }
}

/* All sequences up to three bytes; four with the boundaries; each alone, and where the words of eight begin and end. */
static void
test_sequences (void)
{
  static const uint8_t edges[] = { 0, 1, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc2, 0xe0, 0xed, 0xf0, 0xf4, 0xff };
  uint8_t s[32];

  for (uint32_t i = 0; i < 0x1000000; i++)
    {
      s[0] = (uint8_t) (i >> 16);
      s[1] = (uint8_t) (i >> 8);
      s[2] = (uint8_t) i;
      s[3] = 0;
      if ((i & 0xffff) == 0)
        {
          s[1] = 0;
          same_verdict (s, 1);
        }
      if (s[0] >= 0x80 || s[1] >= 0x80)
        same_verdict (s, 3);
    }
  for (unsigned a = 0; a < 256; a++)
    for (unsigned b = 0; b < 256; b++)
      {
        s[0] = (uint8_t) a;
        s[1] = (uint8_t) b;
        s[2] = 0;
        same_verdict (s, 2);
        for (unsigned c = 0; c < G_N_ELEMENTS (edges); c++)
          for (unsigned d = 0; d < G_N_ELEMENTS (edges); d++)
            {
              uint8_t sequence[5] = { (uint8_t) a, (uint8_t) b, edges[c], edges[d], 0 };

              same_verdict (sequence, 4);
              if (a < 0xe0)
                continue;
              memset (s, 'a', sizeof s);
              memcpy (s + (a + b + c + d) % 20, sequence, 4);
              s[24] = 0;
              same_verdict (s, 24);
            }
      }
}

static void
test_random (void)
{
  static const char *const parts[] = { "a", "bc", "defghijk", "\xc2\x80", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xed\x9f\xbf",
                                       "\xef\xbf\xbf" };

  for (unsigned i = 0; i < 300000; i++)
    {
      uint8_t s[80];
      uint32_t n = 0, most = (uint32_t) g_test_rand_int_range (0, 64);

      while (n < most)
        {
          const char *part = parts[g_test_rand_int_range (0, i % 4 == 0 ? 3 : G_N_ELEMENTS (parts))];

          memcpy (s + n, part, strlen (part));
          n += (uint32_t) strlen (part);
        }
      s[n] = 0;
      g_assert_true (codec_is_utf8 (s, n));
      if (n == 0)
        continue;
      s[g_test_rand_int_range (0, (gint32) n)] = (uint8_t) g_test_rand_int ();
      same_verdict (s, n);
      s[n] = 'x';
      g_assert_false (codec_is_utf8 (s, n));
    }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/utf8/sequences", test_sequences);
  g_test_add_func ("/utf8/random", test_random);
  return g_test_run ();
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "codec.h"

#define ONES 0x0101010101010101u
#define HIGHS 0x8080808080808080u

static inline uint64_t
load_word (const uint8_t *at)
{
  uint64_t word;

  memcpy (&word, at, 8);
  return word;
}

/* High bits of the bytes that are no ASCII, or NUL.  A borrow goes upwards only: the lowest is right, and none is none. */
static inline uint64_t
not_ascii (uint64_t word)
{
  return (word | (word - ONES)) & HIGHS;
}

/* Length of the well-formed sequence at s (Unicode 15, table 3-7), or 0.  The text ends in a NUL, which no sequence contains. */
static inline uint32_t
sequence_length (const uint8_t *s)
{
  uint8_t a = s[0], low = 0x80, high = 0xbf;

  if (a >= 0xc2 && a <= 0xdf)
    return (s[1] & 0xc0) == 0x80 ? 2 : 0;
  if (a < 0xe0 || a > 0xf4)
    return 0;
  if (a == 0xe0)
    low = 0xa0;
  else if (a == 0xed)
    high = 0x9f;
  else if (a == 0xf0)
    low = 0x90;
  else if (a == 0xf4)
    high = 0x8f;
  if (s[1] < low || s[1] > high || (s[2] & 0xc0) != 0x80)
    return 0;
  if (a < 0xf0)
    return 3;
  return (s[3] & 0xc0) == 0x80 ? 4 : 0;
}

/* From i on, where something else than ASCII is near. */
static bool
is_utf8_from (const uint8_t *s, uint32_t n, uint32_t i)
{
  while (i < n)
    {
      uint64_t stop = 0;

      if (s[i] == 0)
        return false;
      if (s[i] >= 0x80)
        {
          uint32_t length = sequence_length (s + i);

          if (length == 0)
            return false;
          i += length;
        }
      else if (n - i < 8)
        i++;
      else if ((stop = not_ascii (load_word (s + i))) == 0)
        i += 8;
      else
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
        i += (uint32_t) __builtin_ctzll (stop) / 8;
#else
        i++;
#endif
    }
  return true;
}

bool
codec_is_utf8 (const uint8_t *s, uint32_t n)
{
  uint32_t i = 0;

  if (s[n] != 0)
    return false;
  if (n < 8)
    return is_utf8_from (s, n, 0);
  for (; n - i >= 16; i += 16)
    if ((not_ascii (load_word (s + i)) | not_ascii (load_word (s + i + 8))) != 0)
      return is_utf8_from (s, n, i);
  if (n - i >= 8 && not_ascii (load_word (s + i)) != 0)
    return is_utf8_from (s, n, i);
  /* The last eight bytes once more, rather than a few of them one by one. */
  return not_ascii (load_word (s + n - 8)) == 0 || is_utf8_from (s, n, i);
}

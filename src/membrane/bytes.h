/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Copying and zeroing structs: few bytes, but how many the compiler does not know.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "atomic.h"

/* The last step overlaps the one before. */
static inline void
copy_bytes (void *to, const void *from, size_t n)
{
  uint8_t *d = to, *end = d + n;
  const uint8_t *s = from, *from_end = s + n;

  if (unlikely (n > 128))
    memcpy (d, s, n);
  else if (n >= 32)
    {
      for (; d + 32 < end; d += 32, s += 32)
        __builtin_memcpy (d, s, 32);
      __builtin_memcpy (end - 32, from_end - 32, 32);
    }
  else if (n >= 16)
    {
      __builtin_memcpy (d, s, 16);
      __builtin_memcpy (end - 16, from_end - 16, 16);
    }
  else if (n >= 8)
    {
      __builtin_memcpy (d, s, 8);
      __builtin_memcpy (end - 8, from_end - 8, 8);
    }
  else
    for (; d < end; d++, s++)
      *d = *s;
}

static inline void
zero_bytes (void *to, size_t n)
{
  uint8_t *d = to, *end = d + n;

  if (unlikely (n > 256))
    memset (d, 0, n);
  else if (n >= 32)
    {
      for (; d + 32 < end; d += 32)
        __builtin_memset (d, 0, 32);
      __builtin_memset (end - 32, 0, 32);
    }
  else if (n >= 8)
    {
      for (; d + 8 < end; d += 8)
        __builtin_memset (d, 0, 8);
      __builtin_memset (end - 8, 0, 8);
    }
  else
    for (; d < end; d++)
      *d = 0;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Reading a buffer: the same work for the limit and for the cell that is held against it.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Reads every word; size is a multiple of 64.  Eight sums, so that an addition need not wait for the one before. */
static inline uint64_t
limit_buffer_sum (const void *data, size_t size)
{
  uint64_t words[8], sums[8] = { 0 }, sum = 0;

  for (size_t i = 0; i < size; i += sizeof words)
    {
      memcpy (words, (const char *) data + i, sizeof words);
      for (size_t j = 0; j < 8; j++)
        sums[j] += words[j];
    }
  for (size_t j = 0; j < 8; j++)
    sum += sums[j];
  return sum;
}

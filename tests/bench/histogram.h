/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Counts of values in buckets whose width grows with the value: 128 to the octave, so a percentile is exact to 0.8 %.
 * Values are picoseconds, because a call may take two nanoseconds.
 */
#pragma once
#include <stdint.h>

enum
{
  HISTOGRAM_STEPS = 128,                /* to the octave */
  HISTOGRAM_OCTAVES = 40,               /* from 128 ps, below which every value has its bucket, up to 140 s */
  HISTOGRAM_BUCKETS = HISTOGRAM_STEPS * (HISTOGRAM_OCTAVES + 1)
};

typedef struct
{
  uint64_t n, max;
  uint64_t counts[HISTOGRAM_BUCKETS];
} Histogram;

void histogram_reset (Histogram *histogram);
void histogram_record (Histogram *histogram, uint64_t value);
void histogram_add (Histogram *to, const Histogram *from);
/* The smallest value that at least that share of all values does not exceed (share 0.99: p99), taken at its bucket's middle.  0
 * when there are none. */
double histogram_percentile (const Histogram *histogram, double share);

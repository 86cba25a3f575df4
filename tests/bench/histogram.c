/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "histogram.h"

#include <string.h>

#define STEP_BITS 7

_Static_assert (1 << STEP_BITS == HISTOGRAM_STEPS, "");

static uint32_t
bucket_of (uint64_t value)
{
  uint32_t octave, bucket;

  if (value < HISTOGRAM_STEPS)
    return (uint32_t) value;
  octave = 63 - (uint32_t) __builtin_clzll (value) - STEP_BITS;
  bucket = (octave + 1) * HISTOGRAM_STEPS + (uint32_t) (value >> octave) - HISTOGRAM_STEPS;
  return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

static double
middle_of (uint32_t bucket)
{
  uint32_t octave;

  if (bucket < HISTOGRAM_STEPS)
    return bucket;
  octave = bucket / HISTOGRAM_STEPS - 1;
  return ((double) (bucket % HISTOGRAM_STEPS + HISTOGRAM_STEPS) + 0.5) * (double) (UINT64_C (1) << octave);
}

void
histogram_reset (Histogram *histogram)
{
  memset (histogram, 0, sizeof *histogram);
}

void
histogram_record (Histogram *histogram, uint64_t value)
{
  histogram->n++;
  histogram->counts[bucket_of (value)]++;
  if (value > histogram->max)
    histogram->max = value;
}

void
histogram_add (Histogram *to, const Histogram *from)
{
  to->n += from->n;
  if (from->max > to->max)
    to->max = from->max;
  for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
    to->counts[i] += from->counts[i];
}

double
histogram_percentile (const Histogram *histogram, double share)
{
  double wanted = share * (double) histogram->n;
  uint64_t seen = 0;

  for (uint32_t i = 0; histogram->n > 0 && i < HISTOGRAM_BUCKETS; i++)
    {
      seen += histogram->counts[i];
      if (seen > 0 && (double) seen >= wanted)
        return middle_of (i) < (double) histogram->max ? middle_of (i) : (double) histogram->max;
    }
  return 0;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The limits themselves, so that one can see what the machine gives.
 */
#include "figures.h"
#include "limits/limits.h"

const BenchFigure bench_limit_figures[] = {
  { .name = "limit.line", .unit = "ns", .candidate = &limit_line },
  { .name = "limit.ring", .unit = "ns", .candidate = &limit_ring, .limit = &limit_line },
  { .name = "limit.stream", .unit = "records/s", .batch = 10000, .candidate = &limit_stream },
  { .name = "limit.stream.100", .unit = "records/s", .batch = 10000, .candidate = &limit_stream_100 },
  { .name = "limit.fnptr", .unit = "ns", .placement = BENCH_ONE_CORE, .batch = 64, .candidate = &limit_fnptr,
    .instructions = true },
  { .name = "limit.fnptr.chained", .unit = "ns", .placement = BENCH_ONE_CORE, .batch = 64, .candidate = &limit_fnptr_chained,
    .limit = &limit_fnptr, .instructions = true },
  { .name = "limit.fnptr.gated", .unit = "ns", .placement = BENCH_ONE_CORE, .batch = 64, .candidate = &limit_fnptr_gated,
    .limit = &limit_fnptr, .instructions = true },
  { .name = "limit.futex.two", .unit = "ns", .candidate = &limit_futex },
  { .name = "limit.futex.one", .unit = "ns", .placement = BENCH_ONE_CORE, .candidate = &limit_futex },
  { .name = "limit.futex.idle", .unit = "ns", .candidate = &limit_futex_idle },
  { .name = "limit.buffer.64k", .unit = "ns", .candidate = &limit_buffer_64k },
  { .name = "limit.buffer.1m", .unit = "ns", .candidate = &limit_buffer_1m },
  { 0 }
};

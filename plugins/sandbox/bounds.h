/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What a cell in a sandbox may use up: as limits of its processes, which the runner sets, and of all of them together, where the
 * host can.
 */
#pragma once
#include <stdint.h>
#include <unistd.h>

#define BOUNDS_PROCESSES 512u           /* and threads */

/* Bytes. */
static inline uint64_t
bounds_memory (void)
{
  const uint64_t most = (uint64_t) 4 << 30, half = (uint64_t) sysconf (_SC_PHYS_PAGES) * (uint64_t) sysconf (_SC_PAGESIZE) / 2;

  return half < most ? half : most;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Which cells' code a thread is in: A, which has called B, which has called C.  It is written for whoever looks at a process that
 * has crashed, and is read by nobody else.  Cells are numbers here, which the host gives them; 0 is the host itself, or nobody.
 *
 * Only its own thread writes it, between two loads and two stores of which the processor waits for none.
 */
#pragma once
#include <stdint.h>

#include "atomic.h"

#define TRAIL_MAX 16u           /* innermost cells that are remembered; a power of two */

typedef struct
{
  _Atomic uint32_t depth;       /* how many; cells[depth - 1] is the innermost, modulo TRAIL_MAX */
  _Atomic uint32_t cells[TRAIL_MAX];
} Trail;

/* From here on the thread is in this cell.  What is returned is for trail_leave (). */
static inline uint32_t
trail_enter (Trail *trail, uint32_t cell)
{
  uint32_t depth = load_relaxed (&trail->depth);

  store_relaxed (&trail->cells[depth % TRAIL_MAX], cell);
  atomic_signal_fence (memory_order_release);           /* a signal handler of this thread may look in between */
  store_relaxed (&trail->depth, depth + 1);
  return depth;
}

static inline void
trail_leave (Trail *trail, uint32_t depth)
{
  store_relaxed (&trail->depth, depth);
}

/* The innermost cells, the innermost first; returns how many there are in `ret_cells`. */
static inline uint32_t
trail_read (const Trail *trail, uint32_t ret_cells[TRAIL_MAX])
{
  uint32_t depth = load_relaxed (&trail->depth), n = depth < TRAIL_MAX ? depth : TRAIL_MAX;

  for (uint32_t i = 0; i < n; i++)
    ret_cells[i] = load_relaxed (&trail->cells[(depth - 1 - i) % TRAIL_MAX]);
  return n;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * While a cell moves its callers wait for what it saves to be copied two or three times, and to get the pages for that from the kernel takes
 * longer than the copying.  So a process keeps as much as a usual state takes; it is given back with what is larger.
 */
#pragma once
#include <malloc.h>

#define HEAP_KEPT (256 * 1024)          /* bytes at the end of each arena, of one in which a megabyte is free there */

static inline void
heap_keep (void)
{
  mallopt (M_MMAP_THRESHOLD, HEAP_KEPT);
  mallopt (M_TRIM_THRESHOLD, 4 * HEAP_KEPT);
  mallopt (M_TOP_PAD, HEAP_KEPT);
}

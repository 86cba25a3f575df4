/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * While a cell moves its callers wait for what it saves to be copied two or three times, and to get the pages for that from the
 * kernel takes longer than the copying; so it is with the copy of a large record.  So a process keeps as much as these take.  All
 * three are said, since the C library, once it is told one, learns none of them by itself any more.
 */
#pragma once
#include <malloc.h>
#include <stdint.h>
#include <sys/mman.h>

#define HEAP_AHEAD (256 * 1024)         /* bytes that are got at a time */
#define HEAP_LARGEST (2 * 1024 * 1024)  /* of one block that is kept: the largest record fits in, and more travels as a blob */

static inline void
heap_keep (void)
{
  mallopt (M_MMAP_THRESHOLD, HEAP_LARGEST);
  mallopt (M_TRIM_THRESHOLD, 2 * HEAP_LARGEST);
  mallopt (M_TOP_PAD, HEAP_AHEAD);
}

/* Gets pages that hold nothing yet at once, and uses each: under a hypervisor that keeps page tables of its own the first use of a
 * page takes longer than to fill it. */
static inline void
heap_warm (void *pages, size_t size)
{
  volatile uint8_t *bytes = pages;
  const uintptr_t page = 4096, from = ((uintptr_t) pages + page - 1) & ~(page - 1), to = ((uintptr_t) pages + size) & ~(page - 1);

  if (from < to)
    madvise ((void *) from, to - from, MADV_POPULATE_WRITE);
  for (size_t at = 0; at < size; at += page)
    bytes[at] = 0;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A cell's statistics.
 */
#pragma once
#include "cell.h"

/* What was counted of one callable, or of all, wherever the cell was.  Of a sandboxed process these are what it says. */
typedef struct
{
  uint64_t calls, errors;
  uint64_t samples, latency[LATENCY_BUCKETS];
} HostCellStats;

void host_cell_read_stats (HostCell *cell, guint callable, HostCellStats *ret);
void host_cell_count_calls (HostCell *cell, uint64_t *ret_calls, uint64_t *ret_errors);
/* With its lock: its child goes, and what that has counted stays. */
void host_cell_keep_stats (HostCell *cell);

/* So many callables are counted from now on, at least. */
void host_cell_make_room_for_stats (HostCell *cell, guint n);
/* Where its instances count one of them.  data: the cell; NULL: it has no such callable. */
MethodStats *host_cell_method_stats (void *data, uint32_t number);

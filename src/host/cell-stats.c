/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A cell's statistics: what was counted of its callables here, and by processes that it has left, with what its own process counts.
 */
#include "cell-stats.h"

#include "child.h"

MethodStats *
host_cell_method_stats (void *data, uint32_t number)
{
  HostCell *cell = data;
  MethodStats *stats;

  pthread_mutex_lock (&cell->lock);
  stats = number < cell->n_stats ? cell->stats[number] : NULL;
  pthread_mutex_unlock (&cell->lock);
  return stats;
}

void
host_cell_make_room_for_stats (HostCell *cell, guint n)
{
  pthread_mutex_lock (&cell->lock);
  cell->stats = g_renew (MethodStats *, cell->stats, MAX (n, cell->n_stats) + 1);
  for (; cell->n_stats < n; cell->n_stats++)
    cell->stats[cell->n_stats] = g_new0 (MethodStats, 1);
  pthread_mutex_unlock (&cell->lock);
}

/* With the lock.  NULL: it is not in a process of its own. */
static const MethodStats *
stats_there (HostCell *cell, guint callable)
{
  const StatsPage *page = cell->child != NULL ? child_get_stats (cell->child) : NULL;

  return page != NULL && callable < page->n ? &page->stats[callable] : NULL;
}

void
host_cell_read_stats (HostCell *cell, guint callable, HostCellStats *ret)
{
  const MethodStats *from[] = { NULL, NULL };

  *ret = (HostCellStats) { 0 };
  pthread_mutex_lock (&cell->lock);
  from[0] = callable < cell->n_stats ? cell->stats[callable] : NULL;   /* a process may say that it has none */
  from[1] = stats_there (cell, callable);
  for (guint i = 0; i < G_N_ELEMENTS (from) && from[i] != NULL; i++)
    {
      ret->calls += load_relaxed (&from[i]->calls);
      ret->errors += load_relaxed (&from[i]->errors);
      for (guint k = 0; k < LATENCY_BUCKETS; k++)
        ret->latency[k] += load_relaxed (&from[i]->latency[k]);
    }
  pthread_mutex_unlock (&cell->lock);
  for (guint k = 0; k < LATENCY_BUCKETS; k++)
    ret->samples += ret->latency[k];
}

void
host_cell_count_calls (HostCell *cell, uint64_t *ret_calls, uint64_t *ret_errors)
{
  *ret_calls = *ret_errors = 0;
  for (guint i = 0; i < cell->contract->n_callables; i++)
    {
      HostCellStats stats;

      host_cell_read_stats (cell, i, &stats);
      *ret_calls += stats.calls;
      *ret_errors += stats.errors;
    }
}

static void
add_relaxed (_Atomic uint64_t *to, const _Atomic uint64_t *from)
{
  atomic_fetch_add_explicit (to, load_relaxed (from), memory_order_relaxed);
}

void
host_cell_keep_stats (HostCell *cell)
{
  for (guint i = 0; i < cell->contract->n_callables; i++)
    {
      const MethodStats *there = stats_there (cell, i);

      if (there == NULL)
        continue;
      add_relaxed (&cell->stats[i]->calls, &there->calls);
      add_relaxed (&cell->stats[i]->errors, &there->errors);
      for (guint k = 0; k < LATENCY_BUCKETS; k++)
        add_relaxed (&cell->stats[i]->latency[k], &there->latency[k]);
    }
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define G_LOG_DOMAIN "cellhost-watchdog"
#include "watchdog.h"

#include "cell.h"
#include "child.h"
#include "handlers.h"
#include "load.h"

#define HANG_MS 10000u          /* beyond its deadline */
#define LEFT_MAX 16u            /* callers */

guint
watchdog_hang_ms (const Host *host)
{
  return host->config.hang_ms != 0 ? host->config.hang_ms : HANG_MS;
}

/* Of a caller that has left. */
typedef struct
{
  Half *requests, *replies;
  Watched watched;
} Left;

/* NULL: all is well, as far as the child says. */
static char *
look_at_halves (HostCell *cell, const Half *requests, const Half *replies, Watched *watched, gint64 now)
{
  const HalfControl *said = replies->control;
  uint64_t taken = atomic_load (&said->taken), released = atomic_load (&said->released);
  guint64 limit, since = watched->since;
  guint hang_ms = child_get_hang_ms (cell->child);
  const char *method;

  if (taken <= released || released % RECORD_ALIGN != 0 || taken != watched->end)
    {
      *watched = (Watched) { taken > released ? taken : 0, (guint64) now };
      return NULL;
    }
  limit = (guint64) link_request_ms (cell, requests, released, &method) + hang_ms;
  if (((guint64) now - since) / 1000 <= limit)
    return NULL;
  return g_strdup_printf ("it hung: %s had not ended %.1f s after its deadline", method, (double) hang_ms / 1000);
}

/* One that is locked is being made or closed, which may take as long as its child takes to answer: next time. */
static char *
try_link (Link *link, gint64 now)
{
  char *why = NULL;

  if (pthread_mutex_trylock (&link->lock) != 0)
    return NULL;
  if (link->mapped && !link->gone)
    why = look_at_halves (link->cell, link->requests, link->replies, &link->watched, now);
  pthread_mutex_unlock (&link->lock);
  return why;
}

/* With the cell's lock.  What has been finished meanwhile is forgotten. */
static char *
look_at_left (HostCell *cell, gint64 now)
{
  char *why = NULL;

  for (guint i = 0; i < cell->left->len && why == NULL; i++)
    {
      Left *left = g_ptr_array_index (cell->left, i);

      why = look_at_halves (cell, left->requests, left->replies, &left->watched, now);
      if (left->watched.end == 0)
        g_ptr_array_remove_index_fast (cell->left, i--);
    }
  return why;
}

/* TRUE: it may have to be looked at again. */
static gboolean
look_at_cell (HostCell *cell, gint64 now)
{
  g_autofree char *why = NULL;
  gboolean there;

  if (pthread_rwlock_tryrdlock (&cell->place) != 0)
    return TRUE;                        /* it is moving */
  there = cell->location == CELL_LOCATION_CHILD;
  pthread_mutex_lock (&cell->lock);
  for (guint i = 0; there && i < cell->links->len && why == NULL; i++)
    why = try_link (g_ptr_array_index (cell->links, i), now);
  if (there && why == NULL)
    why = look_at_left (cell, now);
  pthread_mutex_unlock (&cell->lock);
  if (why != NULL)
    child_condemn (cell->child, why);
  pthread_rwlock_unlock (&cell->place);
  return there;
}

static gboolean
tick_cb (gpointer data)
{
  Host *host = data;
  g_autoptr(GPtrArray) cells = NULL;
  gint64 now = g_get_monotonic_time ();
  gboolean goes_on = FALSE, succeeded;

  pthread_mutex_lock (&host->lock);
  succeeded = g_main_current_source () != host->watch;
  host->watch_more &= succeeded;
  pthread_mutex_unlock (&host->lock);
  if (succeeded)
    return G_SOURCE_REMOVE;             /* by one that looks more often */
  host_look_at_handlers (host);
  cells = host_list (host);
  for (guint i = 0; i < cells->len; i++)
    goes_on |= look_at_cell (g_ptr_array_index (cells, i), now);
  pthread_mutex_lock (&host->lock);
  goes_on |= host->watch_more || g_main_current_source () != host->watch;
  if (!goes_on)
    g_clear_pointer (&host->watch, g_source_unref);
  pthread_mutex_unlock (&host->lock);
  return goes_on;
}

void
watchdog_wake (Host *host, guint hang_ms)
{
  pthread_mutex_lock (&host->lock);
  host->watch_more = TRUE;
  if (host->watch != NULL && hang_ms / 2 < host->watch_ms)
    {
      g_source_destroy (host->watch);   /* one that is about to look does so once more */
      g_clear_pointer (&host->watch, g_source_unref);
    }
  if (host->watch == NULL)
    {
      host->watch_ms = hang_ms / 2;
      host->watch = g_timeout_source_new (host->watch_ms);
      g_source_set_callback (host->watch, tick_cb, host, NULL);
      g_source_attach (host->watch, NULL);
    }
  pthread_mutex_unlock (&host->lock);
}

static void
left_free (gpointer data)
{
  Left *left = data;

  half_unref (left->requests);
  half_unref (left->replies);
  g_free (left);
}

GPtrArray *
watchdog_left_new (void)
{
  return g_ptr_array_new_with_free_func (left_free);
}

void
watchdog_keep (Link *link)
{
  HostCell *cell = link->cell;
  Left *left;

  pthread_mutex_lock (&cell->lock);
  if (cell->left->len < LEFT_MAX)       /* those that are there are enough to see that it hangs */
    {
      left = g_new (Left, 1);
      *left = (Left) { half_ref (link->requests), half_ref (link->replies), link->watched };
      g_ptr_array_add (cell->left, left);
    }
  pthread_mutex_unlock (&cell->lock);
}

guint
watchdog_left_ms (HostCell *cell)
{
  guint most = 0;

  for (guint i = 0; i < cell->left->len; i++)
    {
      const Left *left = g_ptr_array_index (cell->left, i);

      most = MAX (most, link_accepted_ms (cell, left->requests, left->replies));
    }
  return most;
}

void
watchdog_end (Host *host)
{
  GSource *watch;

  pthread_mutex_lock (&host->lock);
  watch = g_steal_pointer (&host->watch);
  pthread_mutex_unlock (&host->lock);
  if (watch == NULL)
    return;
  g_source_destroy (watch);
  g_source_unref (watch);
}

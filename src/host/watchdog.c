/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define G_LOG_DOMAIN "cellhost-watchdog"
#include "watchdog.h"

#include "cell.h"
#include "child.h"
#include "membrane/wait.h"

#define HANG_MS 10000u          /* beyond its deadline */

guint
watchdog_hang_ms (const Host *host)
{
  return host->config.hang_ms != 0 ? host->config.hang_ms : HANG_MS;
}

/* The request that has been taken and not finished.  A caller may say that it waits for longer than the method asks for, and not for less: its impatience
 * is no fault of the cell's. */
static guint64
look_at_request (Link *link, uint64_t at, const char **ret_method)
{
  const Contract *contract = link->cell->contract;
  const Record *record = (const Record *) (link->requests->data + (at & (link->requests->capacity - 1)));
  guint number = *(const volatile uint16_t *) &record->method, timeout = *(const volatile uint32_t *) &record->timeout;
  const ContractCallable *callable = number < contract->n_callables ? &contract->callables[number] : NULL;

  *ret_method = callable != NULL ? callable->name : "a call";
  return MAX (timeout, callable != NULL && callable->timeout != 0 ? callable->timeout : CHANNEL_TIMEOUT_MS);
}

/* NULL: all is well, as far as the child says. */
static char *
look_at_link (Link *link, gint64 now)
{
  const HalfControl *said = link->replies->control;
  uint64_t taken = atomic_load (&said->taken), released = atomic_load (&said->released);
  guint64 limit, since = link->watched_since;
  guint hang_ms = child_get_hang_ms (link->cell->child);
  const char *method;

  if (taken <= released || released % RECORD_ALIGN != 0 || taken != link->watched)
    {
      link->watched = taken > released ? taken : 0;
      link->watched_since = (guint64) now;
      return NULL;
    }
  limit = look_at_request (link, released, &method) + hang_ms;
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
    why = look_at_link (link, now);
  pthread_mutex_unlock (&link->lock);
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

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define G_LOG_DOMAIN "cellhost"
#include "restrain.h"

#define TURN_MS 110u            /* a little more than a tenth of a second: see sched_autogroup in the kernel */

/* Those whose turn it was, the oldest first; a reference.  NULL: there is none. */
static Child *
next_in_turn (Host *host)
{
  Child *child;

  pthread_mutex_lock (&host->lock);
  child = host->restrained != NULL && host->restrained->len > 0 ? child_ref (g_ptr_array_index (host->restrained, 0)) : NULL;
  if (child == NULL)
    g_clear_pointer (&host->restrain_turn, g_source_unref);
  pthread_mutex_unlock (&host->lock);
  return child;
}

static void
leave_turn (Host *host, Child *child)
{
  g_autoptr(GPtrArray) left = g_ptr_array_new_with_free_func ((GDestroyNotify) child_unref);
  guint place;

  pthread_mutex_lock (&host->lock);
  if (host->restrained != NULL && g_ptr_array_find (host->restrained, child, &place))
    g_ptr_array_add (left, g_ptr_array_steal_index (host->restrained, place));
  pthread_mutex_unlock (&host->lock);
}

static gboolean
turn_cb (gpointer data)
{
  Host *host = data;
  Child *child;
  gboolean done = TRUE;

  while (done && (child = next_in_turn (host)) != NULL)
    {
      done = child_is_closed (child) || child_restrain (child, "");    /* that was said */
      if (done)
        leave_turn (host, child);
      child_unref (child);
    }
  return done ? G_SOURCE_REMOVE : G_SOURCE_CONTINUE;
}

static void
wait_for_turn (Host *host, Child *child)
{
  pthread_mutex_lock (&host->lock);
  if (host->restrained == NULL)
    host->restrained = g_ptr_array_new_with_free_func ((GDestroyNotify) child_unref);
  if (!g_ptr_array_find (host->restrained, child, NULL))
    g_ptr_array_add (host->restrained, child_ref (child));
  if (host->restrain_turn == NULL)
    {
      host->restrain_turn = g_timeout_source_new (TURN_MS);
      g_source_set_callback (host->restrain_turn, turn_cb, host, NULL);
      g_source_attach (host->restrain_turn, NULL);
    }
  pthread_mutex_unlock (&host->lock);
}

void
restrain (Host *host, Child *child, const char *why)
{
  if (!child_restrain (child, why))
    wait_for_turn (host, child);
}

void
restrain_end (Host *host)
{
  g_autoptr(GPtrArray) left = NULL;
  GSource *turn;

  pthread_mutex_lock (&host->lock);
  turn = g_steal_pointer (&host->restrain_turn);
  left = g_steal_pointer (&host->restrained);
  pthread_mutex_unlock (&host->lock);
  if (turn == NULL)
    return;
  g_source_destroy (turn);
  g_source_unref (turn);
}

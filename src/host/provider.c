/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "provider.h"

#include "binding.h"
#include "load.h"
#include "plugins/dispatch.h"

/* ---- the clock: calls that nobody answers end --------------------------------------------------------- */

/* One for each channel that has made asynchronous calls. */
typedef struct Timer
{
  GSource *source;
  Channel *channel;             /* a reference */
  _Atomic gint64 at;            /* when it goes off: monotonic µs; 0: it is not set */
} Timer;

/* Not GLib's, so that ThreadSanitizer sees that the main loop gets a timer from whoever made it. */
static pthread_mutex_t timer_lock = PTHREAD_MUTEX_INITIALIZER;

static gboolean
timer_dispatch (GSource *source, GSourceFunc callback, gpointer data)
{
  (void) source;
  return callback (data);
}

static gboolean
timer_cb (gpointer data)
{
  Timer *timer = data;
  Channel *channel;

  pthread_mutex_lock (&timer_lock);
  atomic_store (&timer->at, 0);
  g_source_set_ready_time (timer->source, -1);
  channel = timer->channel;
  pthread_mutex_unlock (&timer_lock);
  client_time_is_up (channel);          /* one that was closed meanwhile finds that out */
  return G_SOURCE_CONTINUE;
}

static void
timer_free (gpointer data)
{
  Timer *timer = data;

  pthread_mutex_lock (&timer_lock);
  pthread_mutex_unlock (&timer_lock);
  channel_unref (timer->channel);
  g_free (timer);
}

static Timer *
timer_new (Channel *channel)
{
  static GSourceFuncs functions = { .dispatch = timer_dispatch };
  Timer *timer = g_new0 (Timer, 1);

  timer->channel = channel_ref (channel);
  timer->source = g_source_new (&functions, sizeof (GSource));
  g_source_set_callback (timer->source, timer_cb, timer, timer_free);
  pthread_mutex_lock (&timer_lock);
  pthread_mutex_unlock (&timer_lock);
  g_source_attach (timer->source, NULL);
  return timer;
}

static void
timer_end (Timer *timer)
{
  GSource *source = timer->source;

  g_source_destroy (source);            /* and the timer, unless it is just going off */
  g_source_unref (source);
}

static void
provider_expects (void *data, Channel *channel, uint32_t milliseconds)
{
  Link *link = channel->owner;
  gint64 at = g_get_monotonic_time () + (gint64) milliseconds * 1000, before;
  Timer *timer = link->timer;

  (void) data;
  if (timer == NULL)
    timer = link->timer = timer_new (channel);
  before = atomic_load (&timer->at);
  if (before != 0 && before <= at)
    return;                             /* then it is asked for again */
  pthread_mutex_lock (&timer_lock);
  before = atomic_load (&timer->at);
  if (before == 0 || before > at)
    {
      atomic_store (&timer->at, at);
      g_source_set_ready_time (timer->source, at);
    }
  pthread_mutex_unlock (&timer_lock);
}

/* ---- names and channels ------------------------------------------------------------------------------- */

static bool
take_error (Fault *fault, GError *error)
{
  fault_set (fault, cell_status_from_error (error), "%s", error->message);
  g_error_free (error);
  return false;
}

static bool
provider_bind (void *data, const char *name, const CellRemote *remote, uint32_t *methods, uint32_t *signals, uint64_t *ret_cell,
               Fault *fault)
{
  HostCell *caller = data;
  GError *error = NULL;
  g_autoptr(HostCell) cell = host_find (caller->host, name, &error);

  if (cell == NULL || !binding_from_remote (cell->contract, remote, methods, signals, &error))
    return take_error (fault, error);
  *ret_cell = cell->id;
  return true;
}

static Channel *
provider_open (void *data, const char *name, uint64_t id, uint32_t request_capacity, Fault *fault)
{
  HostCell *caller = data;
  GError *error = NULL;
  g_autoptr(HostCell) cell = host_find (caller->host, name, &error);
  Link *link;

  if (cell != NULL && cell->id != id)
    cell_set_error (&error, CELL_ERROR_GONE, "cell %s is another one now", name);
  link = error == NULL ? link_new (cell, NULL, caller, CELL_ACCESS_OPERATE, request_capacity, &error) : NULL;
  if (link == NULL)
    {
      take_error (fault, error);
      return NULL;
    }
  return link->channel;                 /* whose owner the link is, until it is closed */
}

static void
provider_close (void *data, Channel *channel)
{
  Link *link = channel->owner;

  (void) data;
  dispatch_end (link->dispatch);
  if (link->timer != NULL)
    timer_end (g_steal_pointer (&link->timer));
  link_close (link);
  link_unref (link);
}

const ClientProvider host_provider = {
  .bind = provider_bind, .open = provider_open, .close = provider_close, .expects = provider_expects,
};

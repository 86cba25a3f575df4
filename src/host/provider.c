/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "provider.h"

#include "binding.h"
#include "plugins/dispatch.h"

static bool
take_error (Fault *fault, GError *error)
{
  fault_set (fault, cell_status_from_error (error), "%s", error->message);
  g_error_free (error);
  return false;
}

static bool
provider_bind (void *data, const char *name, const CellRemote *remote, uint32_t *methods, uint32_t *signals, uint64_t *ret_cell, Fault *fault)
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
  link_close (link);
  link_unref (link);
}

/* ---- the clock: calls that nobody answers end --------------------------------------------------------- */

#define EXPECTED_STEP (64 * 1000)       /* µs */

static pthread_mutex_t due_lock = PTHREAD_MUTEX_INITIALIZER;

typedef struct
{
  Channel *channel;             /* a reference */
} Due;

static gboolean
due_cb (gpointer data)
{
  Due *due = data;
  Channel *channel;

  pthread_mutex_lock (&due_lock);
  channel = due->channel;
  pthread_mutex_unlock (&due_lock);
  channel->notify (channel);            /* one that was closed meanwhile finds that out */
  channel_unref (channel);
  g_free (due);
  return G_SOURCE_REMOVE;
}

static void
provider_expects (void *data, Channel *channel, uint32_t milliseconds)
{
  Link *link = channel->owner;
  gint64 at = g_get_monotonic_time () + (gint64) milliseconds * 1000;
  Due *due;

  (void) data;
  if (at < link->expected + EXPECTED_STEP)
    return;                             /* one look ends all that are due about then */
  link->expected = at + EXPECTED_STEP;
  milliseconds += EXPECTED_STEP / 1000;
  due = g_new (Due, 1);
  pthread_mutex_lock (&due_lock);
  due->channel = channel_ref (channel);
  pthread_mutex_unlock (&due_lock);
  g_timeout_add (milliseconds + 1, due_cb, due);
}

const ClientProvider host_provider = {
  .bind = provider_bind, .open = provider_open, .close = provider_close, .expects = provider_expects,
};

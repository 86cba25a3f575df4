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
  link = error == NULL ? link_new (cell, NULL, request_capacity, &error) : NULL;
  if (link == NULL)
    {
      take_error (fault, error);
      return NULL;
    }
  link->caller = caller;               /* which owns the client that owns the channel */
  link->dispatch = dispatch_new (caller->endpoint, caller->host->lanes, link->channel);
  return link->channel;
}

static void
provider_close (void *data, Channel *channel)
{
  Link *link = channel->owner;

  (void) data;
  g_mutex_lock (&link->caller->lock);
  dispatch_end (g_steal_pointer (&link->dispatch));
  channel->owner = NULL;
  g_mutex_unlock (&link->caller->lock);
  link_close (link);
}

typedef struct
{
  HostCell *caller;             /* a reference */
  Channel *channel;             /* likewise */
} Due;

static gboolean
due_cb (gpointer data)
{
  Due *due = data;
  Link *link;

  /* A channel that was closed meanwhile has no link any more. */
  g_mutex_lock (&due->caller->lock);
  link = due->channel->owner;
  if (link != NULL && link->dispatch != NULL)
    dispatch_queue (link->dispatch);
  g_mutex_unlock (&due->caller->lock);
  channel_unref (due->channel);
  host_cell_unref (due->caller);
  g_free (due);
  return G_SOURCE_REMOVE;
}

static void
provider_expects (void *data, Channel *channel, uint32_t milliseconds)
{
  Due *due = g_new (Due, 1);

  *due = (Due) { host_cell_ref (data), channel_ref (channel) };
  g_timeout_add (milliseconds + 1, due_cb, due);
}

const ClientProvider host_provider = {
  .bind = provider_bind, .open = provider_open, .close = provider_close, .expects = provider_expects,
};

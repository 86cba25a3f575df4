/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "provider.h"

#include "binding.h"
#include "plugins/context.h"

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

/* Something has come for a cell in this process: its own code takes it up, in its own time. */
static void
channel_notify (Channel *channel)
{
  Link *link = channel->owner;

  context_dispatch (link->caller->endpoint, link->caller->host->lanes, channel);
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
  link->caller = caller;
  link->channel->notify = channel_notify;
  return link->channel;
}

static void
provider_close (void *data, Channel *channel)
{
  (void) data;
  link_close (channel->owner);
}

static void
provider_expects (void *data, Channel *channel, uint32_t milliseconds)
{
  HostCell *caller = data;

  context_dispatch_later (caller->endpoint, caller->host->lanes, channel, milliseconds);
}

const ClientProvider host_provider = {
  .bind = provider_bind, .open = provider_open, .close = provider_close, .expects = provider_expects,
};

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Clients: CellClientApi of <cell/client.h> over channels.  The same code serves cells in the host, cells in a runner and programs
 * outside; what differs is how a name is bound and where a channel comes from.
 */
#pragma once
#include "channel.h"

typedef struct
{
  /* Finds the cell called `name` and the numbers of the remote's methods and signals there (WIRE_NO_METHOD: it does not have it).
   * False: fault.  Called by the client's first user, again after a failure, and again when the cell was gone. */
  bool (*bind) (void *data, const char *name, const CellRemote *remote, uint32_t *methods, uint32_t *signals, Fault *fault);
  /* A new channel to it for one context; its notify, look and context members are the provider's to set.  request_capacity: at least
   * so many bytes.  NULL: fault.  */
  Channel *(*open) (void *data, const char *name, uint32_t request_capacity, Fault *fault);
  /* The client is done with a channel. */
  void (*close) (void *data, Channel *channel);
} ClientProvider;

/* per_thread: every thread that calls gets a channel of its own (concurrent cells, programs); else the client has one, used by its
 * cell's code only.  remote must outlive the client.  NULL: no memory. */
CellClient *client_new (const ClientProvider *provider, void *data, const char *name, const CellRemote *remote, bool per_thread);
/* Runs completions and signal handlers of one channel of this client's: channel->owner is the client.  In its context. */
unsigned client_dispatch (Channel *channel, ThreadContext *thread);
void client_free (CellClient *client);

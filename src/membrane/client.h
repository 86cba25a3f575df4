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
   * ret_cell: which cell that is; another one may get its name.  False: fault.  Called by the client's first user, again after a
   * failure, and again when the cell was gone. */
  bool (*bind) (void *data, const char *name, const CellRemote *remote, uint32_t *methods, uint32_t *signals, uint64_t *ret_cell,
                Fault *fault);
  /* A new channel to it for one context; its notify, look and context members are the provider's to set, line and on_signal are the
   * client's.  cell: as bind said; CELL_ERROR_GONE when the name is another cell's now.  request_capacity: at least so many bytes;
   * 0: the usual.  NULL: fault. */
  Channel *(*open) (void *data, const char *name, uint64_t cell, uint32_t request_capacity, Fault *fault);
  /* The client is done with a channel. */
  void (*close) (void *data, Channel *channel);

  /* The rest may be NULL. */

  /* An asynchronous call is open: client_time_is_up () has to be called in so many milliseconds, or earlier if something else was
   * expected earlier; what comes later is then said again.  CLIENT_OF_PROGRAM: client_thread_due () tells, too. */
  void (*expects) (void *data, Channel *channel, uint32_t milliseconds);
  /* An asynchronous call could not be sent: client_dispatch_failed () says so to whoever made it.  NULL: it is said at once. */
  void (*failed) (void *data, CellClient *client);
  /* The client was closed by its user; it is freed when this returns. */
  void (*closed) (void *data, CellClient *client);
} ClientProvider;

typedef enum
{
  CLIENT_OF_SERIAL,             /* one channel, used by the code of a cell that runs on one thread at a time */
  CLIENT_OF_CONCURRENT,         /* each thread that calls gets a channel; completions and signals have one for all threads */
  CLIENT_OF_PROGRAM             /* each thread gets a channel, and dispatches what it started */
} ClientContext;

/* remote must outlive the client.  NULL: no memory. */
CellClient *client_new (const ClientProvider *provider, void *data, const char *name, const CellRemote *remote,
                        ClientContext context);
#define CLIENTS_CLOSED_KEPT 1024u

/* From now on only frames of that service may use it, until it is closed; whoever else does gets CELL_ERROR_DENIED, and when it was
 * closed CELL_ERROR_GONE.  When the cell is gone its first bytes are never freed: a thread that the cell has left behind may still
 * call through them.  Of those that cells have closed themselves the latest are kept.  cell: the owner's name.  False: no
 * memory. */
bool client_belong_to (CellClient *client, const Service *owner, const char *cell);
/* Told of every call that was refused for that; from: an address in the code that called.  NULL: nobody is.  From any thread. */
extern void (*client_on_refused) (const char *cell, const char *function, bool gone, const void *from);
/* Runs completions and signal handlers of one channel of a client's, and ends its asynchronous calls that are overdue.  In the
 * channel's context; CLIENT_OF_CONCURRENT: on any thread.  Harmless for a channel that its client has closed. */
unsigned client_dispatch (Channel *channel, ThreadContext *thread);
/* As a provider has been asked to: client_dispatch () looks for what is overdue, and says what is expected next.  On any thread
 * that has a reference to the channel. */
void client_time_is_up (Channel *channel);
/* Tells those whose asynchronous calls could not be sent.  In the client's context. */
unsigned client_dispatch_failed (CellClient *client, ThreadContext *thread);
/* Everything that this thread has to dispatch of the clients that were made with `data`; CLIENT_OF_PROGRAM.  look: something has
 * happened to their connection. */
unsigned client_dispatch_thread (const void *data, ThreadContext *thread, bool look);
/* In how many milliseconds it should be called again even if nothing comes; UINT32_MAX: no need. */
uint32_t client_thread_due (const void *data, ThreadContext *thread);

/* ---- of a cell that moves: in its context, while it is held ------------------------------------------------------ */

/* Runs what has come.  NULL: nothing that it has asked for is under way any more; else the name of such a method. */
const char *client_settle (CellClient *client, ThreadContext *thread);
/* Cancels all that it has asked for and has not got, and tells those who are to be called. */
void client_give_up (CellClient *client, ThreadContext *thread);
const char *client_get_name (const CellClient *client);
/* Its cell takes over from another instance, which has had the signals so far: those that have come are dropped, and each
 * subscription's next one tells of a gap. */
void client_take_over (CellClient *client, ThreadContext *thread);
/* References to its channels that have a context of their own; to be freed.  NULL: there are none. */
Channel **client_channels (CellClient *client, size_t *ret_n);

/* Ends it and all its channels; what it has started is given up.  No thread may be using it. */
void client_free (CellClient *client);

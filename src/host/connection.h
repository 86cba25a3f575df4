/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The host's side of a connection: what a program, or a runner on behalf of its cell, asks for over its socket.
 */
#pragma once
#include "membrane/wire.h"

#include "cell.h"

struct Connection
{
  gatomicrefcount refs;
  Host *host;
  uint64_t serial;              /* names it among all that there have been */
  int socket;
  GSource *source;
  pid_t pid;
  uint32_t access;              /* CELL_ACCESS_… of its calls */
  gboolean greeted;
  gboolean closed;
  int host_bell, client_bell;   /* eventfds: it rings us, we ring it */
  Bell *bell;
  GMutex lock;                  /* of the links and of what waits to be sent */
  GHashTable *links;            /* serial → Link */
  GQueue outgoing;
  GSource *writable;
  HostCell *cell;               /* of a runner: whose it is */
  struct Child *child;
  /* A runner's answers; TRUE: taken. */
  gboolean (*on_answer) (Connection *connection, WireMessage *message);
  void (*on_greeted) (Connection *connection);
  void (*on_closed) (Connection *connection);
  void (*on_ended) (Connection *connection);    /* its links and its bell are gone, too */
  gpointer data;
};

/* Takes the socket. */
Connection *connection_new (Host *host, int socket, GError **error);
Connection *connection_ref (Connection *connection);
void connection_unref (Connection *connection);
/* Starts to read; on the main loop. */
void connection_start (Connection *connection);
/* Ends it and all its links; any thread. */
void connection_close (Connection *connection);
/* Never waits: what does not fit now is kept for later, up to a bound, beyond which the connection ends.  fds are duplicated. */
void connection_send (Connection *connection, WireType type, uint64_t serial, const void *body, const void *tail, uint32_t tail_size,
                      const int *fds, unsigned n_fds);

/* The socket that programs connect to. */
typedef struct Listener Listener;
Listener *listener_new (Host *host, const char *path, GError **error);
void listener_free (Listener *listener);

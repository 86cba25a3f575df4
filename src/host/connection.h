/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The host's side of a connection: what a program, or a runner on behalf of its cell, asks for over its socket.
 */
#pragma once
#include "membrane/blob.h"
#include "membrane/wire.h"

#include "cell.h"

struct Connection
{
  _Atomic guint refs;
  Host *host;
  uint64_t serial;              /* names it among all that there have been */
  int socket;
  GSource *source;
  pid_t pid;
  uint32_t access;              /* of a program: CELL_ACCESS_… of its calls, admin for those of the user's own; who lets somebody
                                 * else in gives less.  What a runner's cell may do is not its connection's to say: see
                                 * authority.h */
  _Atomic gboolean denied;      /* it has asked for what it may not have, and that was said */
  _Atomic gboolean flooded;     /* it has rung for nothing without end, and that was said */
  gboolean greeted;
  gboolean closed;
  guint questions;              /* that jobs are working at, by their weight: it is not taken apart before they are through */
  gboolean waits;               /* they are as many as there may be: until there are less it is not read */
  int host_bell, client_bell;   /* it rings us (an eventfd), we ring it */
  Bell *bell;
  pthread_mutex_t lock;         /* of the links, the questions, the source, of what waits to be sent, and of child */
  GHashTable *links;            /* serial → Link */
  BlobShare blobs;              /* what cells in this process answer it with, until it fetches them */
  GQueue outgoing;
  GSource *writable;
  HostCell *cell;               /* of a runner: whose it is, a reference; NULL: of a program */
  const char *key_file;         /* likewise: of the build that it runs; interned */
  Child *child;                 /* likewise, until it is closed */
};

/* Takes the socket. */
Connection *connection_new (Host *host, int socket, GError **error);
Connection *connection_ref (Connection *connection);
void connection_unref (Connection *connection);
/* Listens to the bell of a program, and stops if it rings for nothing. */
void connection_hear_bell (Connection *connection);
/* Starts to read; on the main loop. */
void connection_start (Connection *connection);
/* Ends it and all its links; any thread. */
void connection_close (Connection *connection);
/* What its calls have handed out and nobody has fetched; if it has ended. */
void connection_forget_blobs (Connection *connection);
/* Closes one link, and tells the peer that it is gone.  Where there is none by that serial any more nothing happens. */
void connection_end_link (Connection *connection, uint64_t serial);
/* The connection gets a reference to the link, by its serial.  FALSE: it has closed, or has as many as it may. */
gboolean connection_keep_link (Connection *connection, Link *link, GError **error);
/* A reference to the link by that serial; NULL: it has none. */
Link *connection_get_link (Connection *connection, uint64_t serial);
/* The connection's own reference: it has no such link any more. */
Link *connection_take_link (Connection *connection, uint64_t serial);
/* Of the program at its other end, or of the runner, which is not the process that the socket was made in. */
pid_t connection_peer_pid (Connection *connection);
/* A reference to the child at its other end; NULL: it is a program's, or closed. */
Child *connection_get_child (Connection *connection);
/* Logs that something is wrong with what it says. */
void connection_complain (Connection *connection, const char *wrong, const char *what_follows);
/* Never waits: what does not fit now is kept for later, up to a bound, beyond which the connection ends.  fds are duplicated. */
void connection_send (Connection *connection, WireType type, uint64_t serial, const void *body, const void *tail,
                      uint32_t tail_size, const int *fds, unsigned n_fds);
/* The answer to a question that comes to nothing. */
void connection_send_error (Connection *connection, uint64_t serial, CellStatus status, const char *text);

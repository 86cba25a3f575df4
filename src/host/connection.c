/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#define G_LOG_DOMAIN "cellhost-connection"
#include "connection.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "answers.h"
#include "child.h"
#include "handlers.h"
#include "load.h"
#include "membrane/bell.h"
#include "membrane/blob.h"
#include "plugins/sandbox/bounds.h"

#define OUTGOING_MAX 4096u              /* messages that wait for a peer that does not read */
#define QUESTIONS_MAX 128u              /* of a program, that wait for their answers or whose answers it has not read */
#define QUESTIONS_OF_CELL_MAX (2 * BOUNDS_PROCESSES)    /* its answers come over the same socket: more than its threads can ask at
                                                         * once */
#define LINKS_MAX 512u                  /* of one connection */
#define LINK_BYTES_MAX (256u << 20)     /* memory for the requests and replies of all of them */

static void listen_for (Connection *connection, GIOCondition condition);

/* ---- what it may ask ---------------------------------------------------------------------------- */

/* What it does not read of the answers counts, too: they may have descriptors. */
static gboolean
asks_too_much (Connection *connection)
{
  guint n = connection->questions + g_queue_get_length (&connection->outgoing);

  return n >= (connection->cell != NULL ? QUESTIONS_OF_CELL_MAX : QUESTIONS_MAX);
}

/* If it has had to wait, and need not any more.  With the lock. */
static void
listen_again (Connection *connection)
{
  if (!connection->waits || asks_too_much (connection))
    return;
  connection->waits = FALSE;
  listen_for (connection, G_IO_IN);
}

/* ---- sending ------------------------------------------------------------------------------------ */

typedef struct
{
  WireType type;
  uint64_t serial;
  WireBody body;
  GBytes *tail;
  int fds[WIRE_FDS_MAX];
  unsigned n_fds;
  gboolean owns;                /* its descriptors */
} Outgoing;

static void
outgoing_free (gpointer data)
{
  Outgoing *outgoing = data;

  for (unsigned i = 0; outgoing->owns && i < outgoing->n_fds; i++)
    close (outgoing->fds[i]);
  g_clear_pointer (&outgoing->tail, g_bytes_unref);
  g_free (outgoing);
}

static size_t
body_size (WireType type)
{
  switch (type)
    {
    case WIRE_WELCOME: return sizeof (WireWelcome);
    case WIRE_BOUND: return sizeof (WireBound);
    case WIRE_CHANNEL: return sizeof (WireChannel);
    case WIRE_BLOB: return sizeof (WireBlob);
    case WIRE_MOVED: return sizeof (WireMoved);
    case WIRE_ERROR: return sizeof (WireError);
    case WIRE_LOAD: return sizeof (WireLoad);
    case WIRE_ATTACH: return sizeof (WireAttach);
    case WIRE_DETACH: return sizeof (WireRef);
    case WIRE_STOP:
    case WIRE_RETIRE: return sizeof (WireStop);
    case WIRE_RESTORE:
    case WIRE_TAKE: return sizeof (WireState);
    default: return 0;
    }
}

typedef enum
{
  SENT, SENT_LATER, SENT_NEVER
} Sent;

static Sent
send_now (Connection *connection, const Outgoing *outgoing)
{
  gsize tail_size = 0;
  const void *tail = outgoing->tail != NULL ? g_bytes_get_data (outgoing->tail, &tail_size) : NULL;
  Fault fault = { 0 };

  if (wire_send (connection->socket, outgoing->type, outgoing->serial, &outgoing->body, tail, (uint32_t) tail_size, outgoing->fds,
                 outgoing->n_fds, 0, &fault))
    return SENT;
  return fault.status == CELL_ERROR_BUSY ? SENT_LATER : SENT_NEVER;
}

static gboolean
writable_cb (gint fd, GIOCondition condition, gpointer data)
{
  Connection *connection = data;
  Outgoing *outgoing;
  Sent sent = SENT;

  (void) fd;
  (void) condition;
  pthread_mutex_lock (&connection->lock);
  while (sent == SENT && (outgoing = g_queue_peek_head (&connection->outgoing)) != NULL)
    {
      sent = send_now (connection, outgoing);
      if (sent == SENT)
        outgoing_free (g_queue_pop_head (&connection->outgoing));
    }
  if (sent != SENT_LATER)
    g_clear_pointer (&connection->writable, g_source_unref);
  listen_again (connection);
  pthread_mutex_unlock (&connection->lock);
  if (sent == SENT_NEVER)
    connection_close (connection);
  return sent == SENT_LATER;
}

static void
wait_until_writable (Connection *connection)
{
  if (connection->writable != NULL)
    return;
  connection->writable = g_unix_fd_source_new (connection->socket, G_IO_OUT);
  g_source_set_callback (connection->writable, (GSourceFunc) (void (*) (void)) writable_cb, connection_ref (connection),
                         (GDestroyNotify) connection_unref);
  g_source_attach (connection->writable, NULL);
}

static Outgoing *
outgoing_new (WireType type, uint64_t serial, const void *body, const void *tail, uint32_t tail_size, const int *fds,
              unsigned n_fds)
{
  Outgoing *outgoing = g_new0 (Outgoing, 1);

  outgoing->type = type;
  outgoing->serial = serial;
  if (body != NULL)
    memcpy (&outgoing->body, body, body_size (type));
  if (tail_size > 0)
    outgoing->tail = g_bytes_new (tail, tail_size);
  for (; outgoing->n_fds < n_fds; outgoing->n_fds++)
    outgoing->fds[outgoing->n_fds] = fds[outgoing->n_fds];
  return outgoing;
}

/* For later: whoever sends it may close them meanwhile.  FALSE: there are no descriptors for that. */
static gboolean
own_descriptors (Outgoing *outgoing)
{
  unsigned n = 0;

  for (; n < outgoing->n_fds; n++)
    {
      int fd = fcntl (outgoing->fds[n], F_DUPFD_CLOEXEC, 3);

      if (fd < 0)
        break;
      outgoing->fds[n] = fd;
    }
  outgoing->owns = TRUE;
  if (n == outgoing->n_fds)
    return TRUE;
  outgoing->n_fds = n;
  return FALSE;
}

void
connection_send (Connection *connection, WireType type, uint64_t serial, const void *body, const void *tail, uint32_t tail_size,
                 const int *fds, unsigned n_fds)
{
  Outgoing *outgoing = outgoing_new (type, serial, body, tail, tail_size, fds, n_fds);
  Sent sent = SENT;
  gboolean full = FALSE;

  pthread_mutex_lock (&connection->lock);
  if (!connection->closed)
    sent = g_queue_is_empty (&connection->outgoing) ? send_now (connection, outgoing) : SENT_LATER;
  if (sent == SENT_LATER && !own_descriptors (outgoing))
    sent = SENT_NEVER;
  if (sent == SENT_LATER)
    {
      g_queue_push_tail (&connection->outgoing, outgoing);
      full = g_queue_get_length (&connection->outgoing) > OUTGOING_MAX;
      wait_until_writable (connection);
    }
  pthread_mutex_unlock (&connection->lock);
  if (sent != SENT_LATER)
    outgoing_free (outgoing);
  if (full)
    {
      g_autofree char *who = offence_name (connection);

      g_warning ("%s does not read what it is told; its connection ends", who);
    }
  /* Who has missed a message, be it for want of descriptors, can no longer know where its calls are. */
  if (full || sent == SENT_NEVER)
    connection_close (connection);
}

void
connection_send_error (Connection *connection, uint64_t serial, CellStatus status, const char *text)
{
  WireError body = { .status = status };

  connection_send (connection, WIRE_ERROR, serial, &body, text, (uint32_t) strlen (text), NULL, 0);
}

/* ---- its links ------------------------------------------------------------------------------------------ */

gboolean
connection_keep_link (Connection *connection, Link *link, GError **error)
{
  gboolean closed, full, large;
  guint64 bytes = atomic_load (&link->bytes);
  GHashTableIter iter;
  gpointer other;

  pthread_mutex_lock (&connection->lock);
  g_hash_table_iter_init (&iter, connection->links);
  while (g_hash_table_iter_next (&iter, NULL, &other))
    bytes += atomic_load (&((Link *) other)->bytes);
  closed = connection->closed;
  full = g_hash_table_size (connection->links) >= LINKS_MAX;
  large = bytes > LINK_BYTES_MAX;
  if (!closed && !full && !large)
    g_hash_table_insert (connection->links, &link->serial, link_ref (link));
  pthread_mutex_unlock (&connection->lock);
  if (full)
    return cell_set_error (error, CELL_ERROR_NO_RESOURCES, "this connection has %u channels already", LINKS_MAX);
  if (large)
    return cell_set_error (error, CELL_ERROR_NO_RESOURCES, "this connection's channels would take more than %u MiB",
                           LINK_BYTES_MAX >> 20);
  return !closed || cell_set_error (error, CELL_ERROR_GONE, "the connection has ended");
}

void
connection_complain (Connection *connection, const char *wrong, const char *what_follows)
{
  g_autofree char *who = offence_name (connection);

  offence_warn (connection->host, "%s: %s%s", who, wrong, what_follows);
}

static Link *
take_link (Connection *connection, uint64_t serial, gboolean steal)
{
  Link *link;

  pthread_mutex_lock (&connection->lock);
  link = g_hash_table_lookup (connection->links, &serial);
  if (link != NULL && steal)
    g_hash_table_remove (connection->links, &serial);
  else if (link != NULL)
    link_ref (link);
  pthread_mutex_unlock (&connection->lock);
  return link;
}

Link *
connection_get_link (Connection *connection, uint64_t serial)
{
  return take_link (connection, serial, FALSE);
}

Link *
connection_take_link (Connection *connection, uint64_t serial)
{
  return take_link (connection, serial, TRUE);
}

/* ---- questions: on a job's thread ------------------------------------------------------------------------- */

typedef struct
{
  Connection *connection;
  WireMessage message;
  guint weight;
} Question;

static void take_apart (gpointer data);

/* The cell whose process, or whose move, it may have to wait for: a reference.  NULL: no cell's. */
static HostCell *
find_concerned (Connection *connection, const WireMessage *message)
{
  HostCell *cell = NULL;
  Link *link;

  if (message->header.type == WIRE_OPEN)
    return host_find (connection->host, message->body.open.cell, NULL);
  if (message->header.type == WIRE_BIND)
    return NULL;
  link = connection_get_link (connection, message->body.ref.channel);
  if (link != NULL)
    cell = host_cell_ref (link->cell);
  link_unref (link);
  return cell;
}

/* One with a long text counts for several. */
static guint
weight_of (const WireMessage *message)
{
  return 1 + message->tail_size / 4096;
}

/* TRUE: it was the last one of a connection that is to be taken apart. */
static gboolean
question_ends (Connection *connection, guint weight)
{
  gboolean last;

  pthread_mutex_lock (&connection->lock);
  connection->questions -= weight;
  listen_again (connection);
  last = connection->questions == 0 && connection->closed;
  pthread_mutex_unlock (&connection->lock);
  return last;
}

static void
question_run (gpointer data)
{
  Question *question = data;
  Connection *connection = question->connection;
  WireMessage *message = &question->message;
  guint weight = question->weight;

  host_look_at_handlers (connection->host);
  switch (message->header.type)
    {
    case WIRE_BIND: answer_bind (connection, message); break;
    case WIRE_OPEN: answer_open (connection, message); break;
    case WIRE_MAPPED: answer_mapped (connection, message); break;
    case WIRE_CLOSE: answer_close (connection, message); break;
    default: break;
    }
  wire_message_clear (message);
  g_free (question);
  if (question_ends (connection, weight))
    take_apart (connection_ref (connection));
  connection_unref (connection);
}

/* As if it had asked for that: it is not taken apart meanwhile, and one that is to be takes its links along. */
void
connection_end_link (Connection *connection, uint64_t serial)
{
  gboolean closed;
  Link *link;

  pthread_mutex_lock (&connection->lock);
  closed = connection->closed;
  connection->questions += !closed;
  pthread_mutex_unlock (&connection->lock);
  if (closed)
    return;
  link = connection_take_link (connection, serial);
  if (link != NULL)
    {
      link_refuse (link);
      link_close (link);
    }
  link_unref (link);
  if (question_ends (connection, 1))
    take_apart (connection_ref (connection));
}

static void
submit_question (Connection *connection, WireMessage *message)
{
  g_autoptr(HostCell) concerned = find_concerned (connection, message);
  Question *question = g_new0 (Question, 1);
  gboolean closed;

  question->connection = connection_ref (connection);
  question->message = *message;
  question->weight = weight_of (message);
  *message = (WireMessage) { .fds = { -1, -1, -1, -1 } };
  pthread_mutex_lock (&connection->lock);
  closed = connection->closed;
  if (!closed)
    connection->questions += question->weight;
  pthread_mutex_unlock (&connection->lock);
  if (!closed)
    {
      host_submit (connection->host, concerned, question_run, question);
      return;
    }
  wire_message_clear (&question->message);
  connection_unref (connection);
  g_free (question);
}

/* ---- receiving: on the main loop ------------------------------------------------------------------------ */

static const char *
greet (Connection *connection, const WireMessage *message)
{
  WireWelcome welcome = {
    .protocol = WIRE_PROTOCOL, .abi_major = CELL_ABI_MAJOR, .abi_minor = CELL_ABI_MINOR, .pid = (uint32_t) getpid (),
  };
  int bells[2] = { connection->host_bell, connection->client_bell };
  Child *child;

  if (message->header.type != WIRE_HELLO)
    return "the first message is not a greeting";
  if (message->body.hello.protocol != WIRE_PROTOCOL)
    {
      g_autofree char *text = g_strdup_printf ("this host speaks protocol %u, the caller %u: use the library of the same version",
                                               WIRE_PROTOCOL, message->body.hello.protocol);

      connection_send_error (connection, message->header.serial, CELL_ERROR_UNSUPPORTED, text);
      return "it speaks another protocol";
    }
  connection->greeted = TRUE;
  connection_send (connection, WIRE_WELCOME, message->header.serial, &welcome, NULL, 0, bells, 2);
  child = connection_get_child (connection);
  if (child != NULL)
    child_greeted (child);
  child_unref (child);
  return NULL;
}

/* NULL: fine. */
static const char *
receive (Connection *connection, WireMessage *message)
{
  gboolean wanted;
  Child *child;

  if (!connection->greeted)
    return greet (connection, message);
  switch (message->header.type)
    {
    case WIRE_BIND:
    case WIRE_OPEN:
    case WIRE_MAPPED:
    case WIRE_CLOSE:
      submit_question (connection, message);
      return NULL;
    /* These wait for nothing, and others wait for them. */
    case WIRE_BLOB_NEW:
      answer_blob_new (connection, message);
      return NULL;
    case WIRE_BLOB_EXPORT:
      answer_blob_export (connection, message);
      return NULL;
    case WIRE_BLOB_IMPORT:
      answer_blob_import (connection, message);
      return NULL;
    case WIRE_OFFENCE:
      return offence_claim (connection, &message->body.offence);
    case WIRE_READY:
    case WIRE_DONE:
    case WIRE_STATE:
    case WIRE_ERROR:
      child = connection_get_child (connection);
      wanted = child != NULL && child_answered (child, message);
      child_unref (child);
      return wanted ? NULL : "it answers what nobody asked";
    default:
      return "it says what only a host says";
    }
}

/* TRUE: it has asked as much as it may, and is listened to again when something of that was answered.  What it sends meanwhile
 * stays in its socket, where there is room for so much and no more. */
static gboolean
has_to_wait (Connection *connection)
{
  gboolean waits;

  pthread_mutex_lock (&connection->lock);
  waits = !connection->closed && asks_too_much (connection);
  if (waits && !connection->waits)
    {
      connection->waits = TRUE;
      listen_for (connection, 0);
    }
  pthread_mutex_unlock (&connection->lock);
  return waits;
}

/* FALSE: it is to be closed.  ended: nobody is at its other end any more. */
static gboolean
read_messages (Connection *connection, gboolean ended)
{
  for (int n = 0; n < 64; n++)
    {
      WireMessage message;
      Fault fault = { 0 };
      const char *wrong = NULL;
      int got;

      if (has_to_wait (connection))
        return !ended;
      got = wire_receive (connection->socket, &message, 0, &fault);
      if (got == 0)
        return TRUE;
      if (got < 0 && fault.status == CELL_ERROR_CORRUPT)
        wrong = fault.message;
      else if (got > 0)
        wrong = receive (connection, &message);
      if (got > 0)
        wire_message_clear (&message);
      if (wrong != NULL)
        connection_complain (connection, wrong, "; its connection ends");
      if (got < 0 || wrong != NULL)
        return FALSE;
    }
  return TRUE;
}

static gboolean
readable_cb (gint fd, GIOCondition condition, gpointer data)
{
  Connection *connection = data;
  gboolean goes_on;

  (void) fd;
  /* The lock tells ThreadSanitizer what GLib's order: who made it has, and who takes it apart will have. */
  pthread_mutex_lock (&connection->lock);
  pthread_mutex_unlock (&connection->lock);
  goes_on = read_messages (connection, (condition & (G_IO_HUP | G_IO_ERR)) != 0);
  pthread_mutex_lock (&connection->lock);
  pthread_mutex_unlock (&connection->lock);
  if (!goes_on)
    connection_close (connection);
  return goes_on;
}

/* ---- life ------------------------------------------------------------------------------------------------- */

Connection *
connection_new (Host *host, int socket, GError **error)
{
  Connection *connection = g_new0 (Connection, 1);
  struct ucred peer = { 0 };
  socklen_t size = sizeof peer;

  connection->refs = 1;
  pthread_mutex_init (&connection->lock, NULL);
  g_queue_init (&connection->outgoing);
  connection->host = host;
  connection->serial = host_next_generation (host);
  blob_share_init (&connection->blobs, connection->serial);
  connection->socket = socket;
  connection->access = CELL_ACCESS_ADMIN;
  connection->links = g_hash_table_new (g_int64_hash, g_int64_equal);
  connection->host_bell = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  connection->client_bell = bell_new ();
  if (getsockopt (socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0)
    connection->pid = peer.pid;
  if (connection->host_bell < 0 || connection->client_bell < 0)
    {
      cell_set_error (error, CELL_ERROR_NO_RESOURCES, "no descriptors for a connection: %s", g_strerror (errno));
      wire_send_error (socket, 0, CELL_ERROR_NO_RESOURCES, "this host has no more descriptors", 0);
      connection_unref (connection);
      return NULL;
    }
  pthread_mutex_lock (&host->lock);
  g_ptr_array_add (host->connections, connection_ref (connection));
  pthread_mutex_unlock (&host->lock);
  return connection;
}

Connection *
connection_ref (Connection *connection)
{
  atomic_fetch_add (&connection->refs, 1);
  return connection;
}

void
connection_unref (Connection *connection)
{
  if (connection == NULL || atomic_fetch_sub (&connection->refs, 1) != 1)
    return;
  close (connection->socket);
  if (connection->host_bell >= 0)
    close (connection->host_bell);
  if (connection->client_bell >= 0)
    close (connection->client_bell);
  g_hash_table_unref (connection->links);
  host_cell_unref (connection->cell);
  g_queue_clear_full (&connection->outgoing, outgoing_free);
  pthread_mutex_destroy (&connection->lock);
  g_free (connection);
}

/* Its end is always heard of.  With the lock. */
static void
listen_for (Connection *connection, GIOCondition condition)
{
  if (connection->closed)
    return;
  if (connection->source != NULL)
    g_source_destroy (connection->source);
  g_clear_pointer (&connection->source, g_source_unref);
  connection->source = g_unix_fd_source_new (connection->socket, condition | G_IO_HUP | G_IO_ERR);
  /* It never does; but around each call of a source that may not GLib wakes itself up, twice. */
  g_source_set_can_recurse (connection->source, TRUE);
  g_source_set_callback (connection->source, (GSourceFunc) (void (*) (void)) readable_cb, connection_ref (connection),
                         (GDestroyNotify) connection_unref);
  g_source_attach (connection->source, NULL);
}

void
connection_start (Connection *connection)
{
  pthread_mutex_lock (&connection->lock);
  listen_for (connection, G_IO_IN);
  pthread_mutex_unlock (&connection->lock);
}

Child *
connection_get_child (Connection *connection)
{
  Child *child;

  pthread_mutex_lock (&connection->lock);
  child = connection->child;
  if (child != NULL)
    child_ref (child);
  pthread_mutex_unlock (&connection->lock);
  return child;
}

pid_t
connection_peer_pid (Connection *connection)
{
  Child *child = connection_get_child (connection);
  pid_t pid = child != NULL ? child_get_pid (child) : connection->cell != NULL ? 0 : connection->pid;

  child_unref (child);
  return pid;
}

static Link *
any_link (Connection *connection)
{
  GHashTableIter iter;
  gpointer link = NULL;

  pthread_mutex_lock (&connection->lock);
  g_hash_table_iter_init (&iter, connection->links);
  if (g_hash_table_iter_next (&iter, NULL, &link))
    g_hash_table_iter_remove (&iter);
  pthread_mutex_unlock (&connection->lock);
  return link;
}

/* A program's go with its calls, or one after the other would fill the table.  A child's may be in answers that are still to be
 * read. */
void
connection_forget_blobs (Connection *connection)
{
  gboolean closed;

  pthread_mutex_lock (&connection->lock);
  closed = connection->closed;
  pthread_mutex_unlock (&connection->lock);
  if (closed && connection->cell == NULL)
    blob_transit_drop (connection->serial);
}

typedef struct
{
  Connection *connection;
  Link *link;
} Leaving;

static void
leave_run (gpointer data)
{
  g_autofree Leaving *leaving = data;

  link_close (leaving->link);
  link_unref (leaving->link);
  take_apart (leaving->connection);
}

/* Takes a reference.  Each link is closed when there is a thread for its cell. */
static void
take_apart (gpointer data)
{
  Connection *connection = data;
  Link *link = any_link (connection);
  Child *child;

  if (link != NULL)
    {
      Leaving *leaving = g_new (Leaving, 1);

      *leaving = (Leaving) { connection, link };
      host_submit (connection->host, link->cell, leave_run, leaving);
      return;
    }
  connection_forget_blobs (connection);
  if (connection->bell != NULL)
    lanes_remove_bell (connection->host->lanes, g_steal_pointer (&connection->bell));
  pthread_mutex_lock (&connection->lock);
  child = g_steal_pointer (&connection->child);
  pthread_mutex_unlock (&connection->lock);
  child_unref (child);
  connection_unref (connection);
}

void
connection_close (Connection *connection)
{
  Host *host = connection->host;
  g_autoptr(GSource) reading = NULL, writable = NULL;
  gboolean first, idle;
  Child *child;

  pthread_mutex_lock (&connection->lock);
  first = !connection->closed;
  idle = connection->questions == 0;
  connection->closed = TRUE;
  reading = g_steal_pointer (&connection->source);
  writable = g_steal_pointer (&connection->writable);
  pthread_mutex_unlock (&connection->lock);
  if (reading != NULL)
    g_source_destroy (reading);
  if (writable != NULL)
    g_source_destroy (writable);
  if (!first)
    return;
  shutdown (connection->socket, SHUT_RDWR);
  child = connection_get_child (connection);
  if (child != NULL)
    child_closed (child);
  child_unref (child);
  connection_ref (connection);
  if (idle)
    host_submit (host, NULL, take_apart, connection_ref (connection));
  pthread_mutex_lock (&host->lock);
  g_ptr_array_remove_fast (host->connections, connection);
  pthread_mutex_unlock (&host->lock);
  connection_unref (connection);
}

/* ---- a program that rings for nothing ------------------------------------------------------------------------- */

static void
flooded_job (gpointer data)
{
  connection_complain (data, "it rings its bell without end, and brings nothing", "");
  connection_unref (data);
}

static void
bell_flooded (void *data)
{
  Connection *connection = data;

  if (!atomic_exchange (&connection->flooded, TRUE))
    host_submit (connection->host, NULL, flooded_job, connection_ref (connection));
}

static const BellLimit bell_limit = { NULL, bell_flooded };

void
connection_hear_bell (Connection *connection)
{
  Lanes *lanes = connection->host->lanes;

  connection->bell = lanes_add_bell (lanes, connection->host_bell, NULL, NULL);
  if (connection->bell != NULL)
    lanes_limit_bell (lanes, connection->bell, &bell_limit, connection);
}

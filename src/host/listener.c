/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#define G_LOG_DOMAIN "cellhost-connection"
#include "listener.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "connection.h"
#include "descriptors.h"

#define CONNECTIONS_MAX 1024u
#define PAUSE_MS 100u                   /* until it is tried again whether there are descriptors */

struct Listener
{
  gatomicrefcount references;
  Host *host;
  char *path;
  int socket, lock;
  int spare;                    /* given up for a moment when there is no other descriptor; without it nobody is accepted */
  gboolean bound;
  pthread_mutex_t mutex;        /* of what follows, and of the descriptors once it listens */
  gboolean closed;
  GSource *source;              /* has a reference */
};

static void
listener_unref (gpointer data)
{
  Listener *listener = data;

  if (!g_atomic_ref_count_dec (&listener->references))
    return;
  pthread_mutex_destroy (&listener->mutex);
  g_free (listener->path);
  g_free (listener);
}

/* Whoever waits to be accepted when there is no descriptor for him would make the main loop turn for ever: he is told instead. */
static void
refuse_one (Listener *listener)
{
  int socket;

  close (listener->spare);
  socket = accept4 (listener->socket, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (socket >= 0)
    {
      wire_send_error (socket, 0, CELL_ERROR_NO_RESOURCES, "this host has no more descriptors", 0);
      close (socket);
    }
  listener->spare = open ("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void
accept_one (Listener *listener)
{
  Host *host = listener->host;
  int socket = accept4 (listener->socket, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  struct ucred peer = { 0 };
  socklen_t size = sizeof peer;
  g_autoptr(GError) error = NULL;
  Connection *connection;
  guint n;

  if (socket < 0)
    {
      if (errno == EMFILE || errno == ENFILE)
        refuse_one (listener);
      return;
    }
  pthread_mutex_lock (&host->lock);
  n = host->connections->len;
  pthread_mutex_unlock (&host->lock);
  if (getsockopt (socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 || peer.uid != geteuid ())
    {
      wire_send_error (socket, 0, CELL_ERROR_DENIED, "this host belongs to another user", 0);
      close (socket);
    }
  else if (descriptors_run_out (socket))
    {
      wire_send_error (socket, 0, CELL_ERROR_NO_RESOURCES, DESCRIPTORS_SHORT, 0);
      close (socket);
    }
  else if (n >= CONNECTIONS_MAX)
    {
      wire_send_error (socket, 0, CELL_ERROR_NO_RESOURCES, "this host has too many connections", 0);
      close (socket);
    }
  else if ((connection = connection_new (host, socket, &error)) != NULL)
    {
      connection_hear_bell (connection);
      connection_start (connection);
      connection_unref (connection);
    }
  else
    g_warning ("%s", error->message);
}

static void wait_for_somebody (Listener *listener);

static gboolean
accept_cb (gint fd, GIOCondition condition, gpointer data)
{
  Listener *listener = data;
  gboolean goes_on;

  (void) fd;
  (void) condition;
  pthread_mutex_lock (&listener->mutex);
  if (!listener->closed)
    accept_one (listener);
  goes_on = !listener->closed && listener->spare >= 0;
  if (!listener->closed && !goes_on)
    wait_for_somebody (listener);
  pthread_mutex_unlock (&listener->mutex);
  return goes_on;
}

static gboolean
again_cb (gpointer data)
{
  Listener *listener = data;

  pthread_mutex_lock (&listener->mutex);
  if (!listener->closed)
    wait_for_somebody (listener);
  pthread_mutex_unlock (&listener->mutex);
  return G_SOURCE_REMOVE;
}

/* Or, when somebody else has taken the place of the spare descriptor, for one that can be in its place.  With the mutex. */
static void
wait_for_somebody (Listener *listener)
{
  GSourceFunc func = again_cb;

  g_clear_pointer (&listener->source, g_source_unref);
  if (listener->spare < 0)
    listener->spare = open ("/dev/null", O_RDONLY | O_CLOEXEC);
  if (listener->spare >= 0)
    {
      listener->source = g_unix_fd_source_new (listener->socket, G_IO_IN);
      func = (GSourceFunc) (void (*) (void)) accept_cb;
    }
  else
    listener->source = g_timeout_source_new (PAUSE_MS);
  g_atomic_ref_count_inc (&listener->references);
  g_source_set_callback (listener->source, func, listener, listener_unref);
  g_source_attach (listener->source, NULL);
}

/* A lock beside the socket says whether its owner lives: a socket that a crash left behind is replaced, one in use is not. */
static gboolean
take_lock (Listener *listener, GError **error)
{
  g_autofree char *path = g_strconcat (listener->path, ".lock", NULL);
  struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

  listener->lock = open (path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (listener->lock < 0)
    return cell_set_error (error, CELL_ERROR_DENIED, "%s cannot be made: %s", path, g_strerror (errno));
  if (fcntl (listener->lock, F_OFD_SETLK, &lock) < 0)
    return cell_set_error (error, CELL_ERROR_EXISTS, "another host is running at %s; 'cellctl shutdown' ends it", listener->path);
  return TRUE;
}

/* What lies there is taken away only when it is a socket that nobody listens at. */
static gboolean
clear_place (Listener *listener, const struct sockaddr_un *address, GError **error)
{
  struct stat st;

  if (lstat (listener->path, &st) < 0)
    return TRUE;                        /* bind () will say what else there is */
  if (!S_ISSOCK (st.st_mode))
    return cell_set_error (error, CELL_ERROR_EXISTS, "%s is there and is no socket; move it away, or choose another place",
                           listener->path);
  if (connect (listener->socket, (const struct sockaddr *) address, sizeof *address) == 0 || errno != ECONNREFUSED)
    return cell_set_error (error, CELL_ERROR_EXISTS, "another program listens at %s; choose another place", listener->path);
  unlink (listener->path);
  return TRUE;
}

static gboolean
bind_socket (Listener *listener, GError **error)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  mode_t mask;
  int bound;

  g_strlcpy (address.sun_path, listener->path, sizeof address.sun_path);
  listener->socket = socket (AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (listener->socket < 0)
    return cell_set_error (error, CELL_ERROR_NO_RESOURCES, "no socket: %s", g_strerror (errno));
  if (!clear_place (listener, &address, error))
    return FALSE;
  mask = umask (0177);                  /* 0600 from its first moment */
  bound = bind (listener->socket, (struct sockaddr *) &address, sizeof address);
  umask (mask);
  if (bound < 0 || listen (listener->socket, 128) < 0)
    return cell_set_error (error, CELL_ERROR_DENIED, "%s cannot be made: %s", listener->path, g_strerror (errno));
  return TRUE;
}

/* Whoever can write to the folder can put a socket of his own in the place of ours.  In a sticky one he cannot. */
static gboolean
check_folder (const char *folder, GError **error)
{
  struct stat st;

  if (stat (folder, &st) < 0)
    return cell_set_error (error, CELL_ERROR_DENIED, "%s cannot be looked at: %s", folder, g_strerror (errno));
  if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0 && (st.st_mode & S_ISVTX) == 0)
    return cell_set_error (error, CELL_ERROR_DENIED,
                           "others can write to %s, where the socket is to be: its mode is %04o; 'chmod 700 %s' mends it", folder,
                           st.st_mode & 07777, folder);
  if (st.st_uid != geteuid () && (st.st_uid != 0 || (st.st_mode & S_ISVTX) == 0))
    return cell_set_error (error, CELL_ERROR_DENIED,
                           "%s, where the socket is to be, belongs to user %u, and you are user %u; have it removed, or choose "
                           "another place with --socket",
                           folder, st.st_uid, geteuid ());
  return TRUE;
}

Listener *
listener_new (Host *host, const char *path, GError **error)
{
  Listener *listener = g_new0 (Listener, 1);
  g_autofree char *folder = g_path_get_dirname (path);

  g_atomic_ref_count_init (&listener->references);
  pthread_mutex_init (&listener->mutex, NULL);
  listener->host = host;
  listener->path = g_strdup (path);
  listener->socket = listener->lock = -1;
  listener->spare = open ("/dev/null", O_RDONLY | O_CLOEXEC);
  if (strlen (path) >= sizeof ((struct sockaddr_un *) NULL)->sun_path)
    cell_set_error (error, CELL_ERROR_INVALID, "%s: the path of a socket can have up to %zu bytes", path,
                    sizeof ((struct sockaddr_un *) NULL)->sun_path - 1);
  else if (g_mkdir_with_parents (folder, 0700) < 0)
    cell_set_error (error, CELL_ERROR_DENIED, "%s cannot be made: %s", folder, g_strerror (errno));
  else if (check_folder (folder, error) && take_lock (listener, error) && bind_socket (listener, error))
    {
      listener->bound = TRUE;
      return listener;
    }
  listener_free (listener);
  return NULL;
}

void
listener_accept (Listener *listener)
{
  pthread_mutex_lock (&listener->mutex);
  if (listener->source == NULL)
    wait_for_somebody (listener);
  pthread_mutex_unlock (&listener->mutex);
}

void
listener_free (Listener *listener)
{
  if (listener == NULL)
    return;
  pthread_mutex_lock (&listener->mutex);
  listener->closed = TRUE;
  if (listener->source != NULL)
    g_source_destroy (listener->source);
  g_clear_pointer (&listener->source, g_source_unref);
  if (listener->bound)
    unlink (listener->path);
  if (listener->socket >= 0)
    close (listener->socket);
  if (listener->spare >= 0)
    close (listener->spare);
  if (listener->lock >= 0)
    close (listener->lock);
  pthread_mutex_unlock (&listener->mutex);
  listener_unref (listener);
}

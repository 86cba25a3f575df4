/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#define G_LOG_DOMAIN "cellhost-child"
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cell.h"
#include "connection.h"
#include "membrane/wait.h"
#include "relocate.h"

#define GREETING_US (10 * G_USEC_PER_SEC)

struct Child
{
  gatomicrefcount refs;
  HostCell *cell;               /* a reference */
  Connection *connection;
  GSubprocess *process;
  GMutex lock;
  GCond answered;
  uint64_t last_serial;
  uint64_t waiting_for;         /* serial of the question that is open; one at a time */
  gboolean greeted, got, closed;
  WireMessage answer;
  GMutex asking;
};

/* ---- the spawner: bubblewrap's --die-with-parent follows the thread that started it ------------------- */

typedef struct
{
  const char *const *argv;
  int socket;
  GSubprocess *process;
  GError *error;
  GMutex lock;
  GCond done;
  gboolean finished;
} Spawn;

static gpointer
spawner_main (gpointer data)
{
  GAsyncQueue *queue = data;

  for (;;)
    {
      Spawn *spawn = g_async_queue_pop (queue);
      g_autoptr(GSubprocessLauncher) launcher = g_subprocess_launcher_new (G_SUBPROCESS_FLAGS_NONE);

      g_subprocess_launcher_take_fd (launcher, spawn->socket, 3);
      spawn->process = g_subprocess_launcher_spawnv (launcher, spawn->argv, &spawn->error);
      g_mutex_lock (&spawn->lock);
      spawn->finished = TRUE;
      g_cond_signal (&spawn->done);
      g_mutex_unlock (&spawn->lock);
    }
  return NULL;
}

/* Takes the socket. */
static GSubprocess *
spawn_on_spawner (const char *const *argv, int socket, GError **error)
{
  static GAsyncQueue *queue;
  Spawn spawn = { .argv = argv, .socket = socket };

  if (g_once_init_enter (&queue))
    {
      GAsyncQueue *made = g_async_queue_new ();

      g_thread_unref (g_thread_new ("spawner", spawner_main, made));
      g_once_init_leave (&queue, made);
    }
  g_mutex_init (&spawn.lock);
  g_cond_init (&spawn.done);
  g_async_queue_push (queue, &spawn);
  g_mutex_lock (&spawn.lock);
  while (!spawn.finished)
    g_cond_wait (&spawn.done, &spawn.lock);
  g_mutex_unlock (&spawn.lock);
  g_mutex_clear (&spawn.lock);
  g_cond_clear (&spawn.done);
  if (spawn.error != NULL)
    {
      cell_set_error (error, CELL_ERROR_UNSUPPORTED, "the sandbox cannot be started: %s", spawn.error->message);
      g_clear_error (&spawn.error);
    }
  return spawn.process;
}

/* An empty root with the system's libraries, no network, no other process, no capability.  (The sandbox organ adds permissions,
 * system call filters and limits.) */
static GStrv
sandbox_argv (const HostConfig *config)
{
  g_autoptr(GStrvBuilder) builder = g_strv_builder_new ();
  static const char *const always[] = {
    "--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL", "--as-pid-1",
    "--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64",
    "--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache", "--ro-bind-try", "/etc/fonts", "/etc/fonts",
    "--proc", "/proc", "--dev", "/dev", "--size", "67108864", "--tmpfs", "/tmp", "--chdir", "/tmp", "--setenv", "LANG", "C.UTF-8",
    "--setenv", "ASAN_OPTIONS", "detect_leaks=0", NULL
  };

  g_strv_builder_add (builder, config->bwrap_path);
  for (unsigned i = 0; always[i] != NULL; i++)
    g_strv_builder_add (builder, always[i]);
  g_strv_builder_add (builder, "--ro-bind");
  g_strv_builder_add (builder, config->runner_path);
  g_strv_builder_add (builder, "/run/cell-runner");
  g_strv_builder_add (builder, "/run/cell-runner");
  return g_strv_builder_end (builder);
}

/* ---- questions and answers ----------------------------------------------------------------------------- */

static gboolean
on_answer (Connection *connection, WireMessage *message)
{
  Child *child = connection->data;
  gboolean wanted;

  g_mutex_lock (&child->lock);
  wanted = message->header.serial <= child->last_serial;
  if (wanted && message->header.serial == child->waiting_for && !child->got)
    {
      child->answer = *message;
      *message = (WireMessage) { .fds = { -1, -1, -1, -1 } };
      child->got = TRUE;
      g_cond_signal (&child->answered);
    }
  g_mutex_unlock (&child->lock);
  return wanted;                        /* an answer that came too late is nobody's */
}

static void
on_greeted (Connection *connection)
{
  Child *child = connection->data;

  g_mutex_lock (&child->lock);
  child->greeted = TRUE;
  g_cond_signal (&child->answered);
  g_mutex_unlock (&child->lock);
}

/* Nothing may be said to it before it has greeted. */
static gboolean
wait_for_greeting (Child *child, GError **error)
{
  gint64 until = g_get_monotonic_time () + GREETING_US;
  gboolean greeted;

  g_mutex_lock (&child->lock);
  while (!child->greeted && !child->closed && g_cond_wait_until (&child->answered, &child->lock, until))
    continue;
  greeted = child->greeted;
  g_mutex_unlock (&child->lock);
  if (greeted)
    return TRUE;
  return cell_set_error (error, CELL_ERROR_UNSUPPORTED, "the sandbox does not start here; `bwrap --unshare-all --unshare-user --ro-bind / / true` "
                                                        "may say why");
}

static void
closed_job (gpointer data)
{
  Child *child = data;

  relocate_child_died (child->cell, child);
  child_unref (child);
}

static void
on_closed (Connection *connection)
{
  Child *child = connection->data;

  g_mutex_lock (&child->lock);
  child->closed = TRUE;
  g_cond_signal (&child->answered);
  g_mutex_unlock (&child->lock);
  child_ref (child);
  host_submit (connection->host, closed_job, child);
}

static gboolean
unref_child (gpointer data)
{
  child_unref (data);
  return G_SOURCE_REMOVE;
}

/* Not before the main loop is through with a message that it may be reading. */
static void
on_ended (Connection *connection)
{
  g_idle_add (unref_child, connection->data);
}

gboolean
child_ask (Child *child, WireType type, const void *body, const void *tail, uint32_t tail_size, const int *fds, unsigned n_fds,
           WireType expected, WireMessage *answer, unsigned milliseconds, GError **error)
{
  gint64 until = g_get_monotonic_time () + (gint64) milliseconds * 1000;
  uint64_t serial;
  gboolean got;

  g_mutex_lock (&child->asking);
  g_mutex_lock (&child->lock);
  serial = child->waiting_for = ++child->last_serial;
  child->got = FALSE;
  g_mutex_unlock (&child->lock);
  connection_send (child->connection, type, serial, body, tail, tail_size, fds, n_fds);
  g_mutex_lock (&child->lock);
  while (!child->got && !child->closed && g_cond_wait_until (&child->answered, &child->lock, until))
    continue;
  got = child->got;
  *answer = child->answer;
  child->answer = (WireMessage) { .fds = { -1, -1, -1, -1 } };
  child->waiting_for = 0;
  g_mutex_unlock (&child->lock);
  g_mutex_unlock (&child->asking);
  if (!got)
    return cell_set_error (error, child->closed ? CELL_ERROR_CRASHED : CELL_ERROR_DEADLINE, "cell %s: its process %s", child->cell->name,
                           child->closed ? "died" : "does not answer");
  if (answer->header.type == expected)
    return TRUE;
  if (answer->header.type == WIRE_ERROR)
    cell_set_error (error, answer->body.error.status, "%s", answer->tail != NULL ? answer->tail : "no reason given");
  else
    cell_set_error (error, CELL_ERROR_CORRUPT, "cell %s: its process answers something else than it was asked", child->cell->name);
  wire_message_clear (answer);
  return FALSE;
}

/* ---- life -------------------------------------------------------------------------------------------------- */

static gboolean
start_reading (gpointer data)
{
  connection_start (data);
  return G_SOURCE_REMOVE;
}

static void
bell_rang (void *data)
{
  relocate_bell_rang (data);
}

Child *
child_spawn (Host *host, HostCell *cell, GError **error)
{
  Child *child;
  int sockets[2];
  g_auto(GStrv) argv = NULL;

  if (host->config.bwrap_path == NULL)
    {
      cell_set_error (error, CELL_ERROR_UNSUPPORTED, "there is no sandbox here: install bubblewrap, or leave the cell in process");
      return NULL;
    }
  if (socketpair (AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sockets) < 0)
    {
      cell_set_error (error, CELL_ERROR_NO_RESOURCES, "no socket for a child: %s", g_strerror (errno));
      return NULL;
    }
  child = g_new0 (Child, 1);
  g_atomic_ref_count_init (&child->refs);
  g_mutex_init (&child->lock);
  g_mutex_init (&child->asking);
  g_cond_init (&child->answered);
  child->cell = host_cell_ref (cell);
  child->answer = (WireMessage) { .fds = { -1, -1, -1, -1 } };
  child->connection = connection_new (host, sockets[0], error);
  argv = sandbox_argv (&host->config);
  if (child->connection == NULL)
    close (sockets[1]);
  else
    child->process = spawn_on_spawner ((const char *const *) argv, sockets[1], error);
  if (child->process == NULL)
    {
      if (child->connection != NULL)
        connection_close (child->connection);
      child_unref (child);
      return NULL;
    }
  child->connection->access = CELL_ACCESS_ANY;
  child->connection->cell = cell;
  child->connection->data = child;
  child_ref (child);
  child->connection->on_answer = on_answer;
  child->connection->on_greeted = on_greeted;
  child->connection->on_closed = on_closed;
  child->connection->on_ended = on_ended;
  child->connection->bell = lanes_add_bell (host->lanes, child->connection->host_bell, bell_rang, cell);
  g_main_context_invoke (NULL, start_reading, child->connection);
  if (wait_for_greeting (child, error))
    return child;
  child_kill (child);
  child_unref (child);
  return NULL;
}

void
child_quit (Child *child)
{
  struct pollfd fd = { child->connection->socket, 0, 0 };

  connection_send (child->connection, WIRE_QUIT, 0, NULL, NULL, 0, NULL, 0);
  poll (&fd, 1, 2000);
  child_kill (child);
}

void
child_kill (Child *child)
{
  struct pollfd fd = { child->connection->socket, 0, 0 };

  if (child->process != NULL)
    {
      g_subprocess_force_exit (child->process);
      g_subprocess_wait (child->process, NULL, NULL);
    }
  /* A process gives up its memory before its descriptors: once the socket has hung up it cannot write to a ring any more. */
  poll (&fd, 1, 2000);
  connection_close (child->connection);
}

GPid
child_get_pid (Child *child)
{
  const char *id = child->process != NULL ? g_subprocess_get_identifier (child->process) : NULL;

  return id != NULL ? (GPid) g_ascii_strtoll (id, NULL, 10) : 0;
}

int
child_get_bell (Child *child)
{
  return child->connection->client_bell;
}

int
child_get_bell_to_host (Child *child)
{
  return child->connection->host_bell;
}

void
child_ref (Child *child)
{
  g_atomic_ref_count_inc (&child->refs);
}

void
child_unref (Child *child)
{
  if (child == NULL || !g_atomic_ref_count_dec (&child->refs))
    return;
  if (child->connection != NULL)
    connection_unref (child->connection);
  g_clear_object (&child->process);
  host_cell_unref (child->cell);
  wire_message_clear (&child->answer);
  g_mutex_clear (&child->lock);
  g_mutex_clear (&child->asking);
  g_cond_clear (&child->answered);
  g_free (child);
}

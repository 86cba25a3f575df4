/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#define G_LOG_DOMAIN "cellhost-child"
#include "child-own.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "access.h"
#include "cell.h"
#include "child-log.h"
#include "offence.h"
#include "placement.h"
#include "restrain.h"
#include "plugins/sandbox/bounds.h"
#include "plugins/sandbox/granted.h"
#include "plugins/sandbox/sandbox.h"
#include "plugins/sandbox/scope.h"
#include "relocate.h"
#include "supervise.h"
#include "watchdog.h"

#define GREETING_MS 10000u
#define QUIT_MS 2000
#define GONE_MS 5000
#define END_MS 2000             /* for one that has closed its connection to end, and for bubblewrap to say how */

/* ---- its connection --------------------------------------------------------------------------------------- */

/* The info that bubblewrap has written before it started the runner: { "child-pid": 1234, … }. */
static GPid
read_pid (int info)
{
  static const char key[] = "\"child-pid\":";
  char text[512];
  ssize_t n = read (info, text, sizeof text - 1);
  const char *at;

  if (n <= 0)
    return 0;
  text[n] = 0;
  at = strstr (text, key);
  return at != NULL ? (GPid) g_ascii_strtoll (at + strlen (key), NULL, 10) : 0;
}

/* With the lock. */
static void
learn_pid (Child *child)
{
  if (child->pid == 0)
    child->pid = read_pid (child->info);
  if (child->pid > 0 && child->pidfd < 0)
    child->pidfd = (int) syscall (SYS_pidfd_open, child->pid, 0);
}

void
child_greeted (Child *child)
{
  pthread_mutex_lock (&child->lock);
  learn_pid (child);
  if (child->pid > 0)
    sandbox_goes_first (child->pid);
  child->greeted = TRUE;
  pthread_cond_broadcast (&child->changed);
  pthread_mutex_unlock (&child->lock);
}

/* Nothing may be said to it before it has greeted. */
static gboolean
wait_for_greeting (Child *child, GError **error)
{
  struct timespec until = in_milliseconds (GREETING_MS);
  gboolean greeted;

  pthread_mutex_lock (&child->lock);
  while (!child->greeted && !child->closed && wait_until (child, &until))
    continue;
  greeted = child->greeted;
  pthread_mutex_unlock (&child->lock);
  if (greeted)
    return TRUE;
  return cell_set_error (error, CELL_ERROR_UNSUPPORTED, "the sandbox does not start here; "
                                                        "'bwrap --unshare-all --unshare-user --ro-bind / / true' may say why");
}

static void
died_job (gpointer data)
{
  Child *child = data;

  supervise_child_died (child->cell, child);
  child_unref (child);
}

void
child_closed (Child *child)
{
  gboolean by_itself;

  pthread_mutex_lock (&child->lock);
  child->closed = TRUE;
  by_itself = !child->killed;
  pthread_cond_broadcast (&child->changed);
  pthread_mutex_unlock (&child->lock);
  if (by_itself)
    host_submit_restart (child->cell->host, died_job, child_ref (child));
}

/* ---- life -------------------------------------------------------------------------------------------------- */

/* ThreadSanitizer does not see that the main loop gets it from us. */
static pthread_mutex_t handed_over = PTHREAD_MUTEX_INITIALIZER;

static gboolean
start_reading (gpointer data)
{
  pthread_mutex_lock (&handed_over);
  pthread_mutex_unlock (&handed_over);
  connection_start (data);
  return G_SOURCE_REMOVE;
}

static void
bell_rang (void *data)
{
  relocate_bell_rang (data);
}

static bool
bell_brings (void *data)
{
  return relocate_bell_brings (((Child *) data)->cell);
}

static void
flooded_job (gpointer data)
{
  Child *child = data;

  restrain (child->cell->host, child, "it rings its bell without end, and brings nothing");
  child_unref (child);
}

static void
bell_flooded (void *data)
{
  Child *child = data;

  host_submit (child->cell->host, NULL, flooded_job, child_ref (child));
}

static const BellLimit bell_limit = { bell_brings, bell_flooded };

static Child *
child_new (HostCell *cell, Connection *connection, int info)
{
  Child *child = g_new0 (Child, 1);
  pthread_condattr_t attributes;

  child->refs = 1;
  pthread_mutex_init (&child->lock, NULL);
  pthread_mutex_init (&child->ending, NULL);
  pthread_condattr_init (&attributes);
  pthread_condattr_setclock (&attributes, CLOCK_MONOTONIC);
  pthread_cond_init (&child->changed, &attributes);
  pthread_condattr_destroy (&attributes);
  child->cell = host_cell_ref (cell);
  child->connection = connection;
  child->info = info;
  child->pidfd = child->last_word = -1;
  child->stats = (StatsPage) STATS_PAGE_INIT;
  child->memory_kills = process_end_count_memory_kills ();
  return child;
}

/* Both ends of a socket for messages and of a pipe: {ours, theirs}. */
static gboolean
make_ends (int sockets[2], int info[2], GError **error)
{
  if (socketpair (AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sockets) < 0)
    return cell_set_error (error, CELL_ERROR_NO_RESOURCES, "no socket for a child: %s", g_strerror (errno));
  if (pipe2 (info, O_CLOEXEC | O_NONBLOCK) == 0)
    return TRUE;
  cell_set_error (error, CELL_ERROR_NO_RESOURCES, "no pipe for a child: %s", g_strerror (errno));
  close (sockets[0]);
  close (sockets[1]);
  return FALSE;
}

/* Takes both descriptors, and those of what it may have. */
static void
start_sandbox (Child *child, Access *access, int socket, int info, GError **error)
{
  g_auto(GStrv) mounts = g_strv_builder_end (access->mounts);
  const SandboxAccess what = { access->network, access->strict, (const char *const *) mounts,
                               placement_processors () };
  const ProcessFd own[] = { { socket, 3 }, { info, SANDBOX_INFO } };

  for (guint i = 0; i < access->writable->len; i++)
    granted_add (child, g_array_index (access->writable, int, i));
  g_array_append_vals (access->fds, own, G_N_ELEMENTS (own));
  child->process = sandbox_spawn (host_config_tools (&child->cell->host->config), &what, NULL,
                                  (const ProcessFd *) (void *) access->fds->data,
                                  access->fds->len, child_log_open (child->cell->name, child->cell->log), &child->last_word, error);
  g_array_set_size (access->fds, 0);
}

/* Its end of the connection is not read yet. */
static Child *
child_start (Host *host, HostCell *cell, Access *access, GError **error)
{
  Connection *connection;
  int sockets[2], info[2];
  Child *child;

  if (!make_ends (sockets, info, error))
    return NULL;
  connection = connection_new (host, sockets[0], error);
  if (connection == NULL)
    {
      close (sockets[1]);
      close (info[0]);
      close (info[1]);
      return NULL;
    }
  child = child_new (cell, connection, info[0]);
  child->hang_ms = access->hang_ms != 0 ? access->hang_ms : watchdog_hang_ms (host);
  child->memory = access->memory != 0 ? MIN (access->memory, bounds_memory ()) : bounds_memory ();
  connection->access = CELL_ACCESS_ANY;
  connection->cell = host_cell_ref (cell);
  close (connection->client_bell);
  connection->client_bell = fcntl (cell->bell, F_DUPFD_CLOEXEC, 3);
  start_sandbox (child, access, sockets[1], info[1], error);
  if (child->process != NULL)
    {
      connection->child = child_ref (child);
      return child;
    }
  connection_close (connection);
  child_unref (child);
  return NULL;
}

/* The sanitizers' shadow would count, too. */
static void
limit_memory (GPid pid, guint64 most)
{
#if !defined __SANITIZE_ADDRESS__ && !defined __SANITIZE_THREAD__
  const struct rlimit limit = { most, most };

  if (most < bounds_memory () && prlimit (pid, RLIMIT_DATA, &limit, NULL) < 0)
    g_warning ("process %d cannot be bounded to what its key file says: %s", (int) pid, g_strerror (errno));
#else
  (void) pid, (void) most;
#endif
}

/* Before anything of the cell is in it.  What its own limits do not bound is not where nobody makes scopes; `cellctl doctor`
 * says so. */
static void
bound (Child *child)
{
  g_autoptr(GError) error = NULL;
  GPid pid = child_get_pid (child);

  if (pid > 0)
    limit_memory (pid, child->memory);
  if (pid > 0 && !scope_put (child->cell->name, pid, child->memory, &error))
    g_debug ("cell %s: no scope of its own: %s", child->cell->name, error->message);
}

Child *
child_spawn (Host *host, HostCell *cell, const char *key_file, GError **error)
{
  Access access;
  Child *child;

  if (!sandbox_check (host_config_tools (&host->config), error))
    return NULL;
  if (!access_open (&access, cell, key_file, error))
    return NULL;
  child = child_start (host, cell, &access, error);
  access_clear (&access);
  if (child == NULL)
    return NULL;
  child->connection->key_file = key_file;
  child->connection->bell = lanes_add_bell (host->lanes, child->connection->host_bell, bell_rang, cell);
  if (child->connection->bell != NULL)
    lanes_limit_bell (host->lanes, child->connection->bell, &bell_limit, child);
  pthread_mutex_lock (&handed_over);
  pthread_mutex_unlock (&handed_over);
  g_main_context_invoke_full (NULL, G_PRIORITY_DEFAULT, start_reading, connection_ref (child->connection),
                              (GDestroyNotify) connection_unref);
  if (wait_for_greeting (child, error))
    {
      placement_let_go (child_get_live_pid (child));
      bound (child);
      return child;
    }
  child_kill (child);
  child_unref (child);
  return NULL;
}

static gboolean
is_gone (Child *child, int milliseconds)
{
  /* A process gives up its memory before it can be waited for, and before its descriptors. */
  struct pollfd fd = { child->pidfd >= 0 ? child->pidfd : child->connection->socket, child->pidfd >= 0 ? POLLIN : 0, 0 };
  int n;

  do
    n = poll (&fd, 1, milliseconds);
  while (n < 0 && errno == EINTR);
  return n > 0;
}

void
child_quit (Child *child)
{
  connection_send (child->connection, WIRE_QUIT, 0, NULL, NULL, 0, NULL, 0);
  is_gone (child, QUIT_MS);
  child_kill (child);
}

void
child_expect_end (Child *child)
{
  pthread_mutex_lock (&child->lock);
  child->killed = TRUE;
  pthread_mutex_unlock (&child->lock);
}

static void
send_signal (Child *child, int number)
{
  if (child->pidfd >= 0)
    syscall (SYS_pidfd_send_signal, child->pidfd, number, NULL, 0);
}

void
child_pause (Child *child)
{
  send_signal (child, SIGSTOP);
}

void
child_resume (Child *child)
{
  send_signal (child, SIGCONT);
}

void
child_will_freeze (Child *child)
{
  freezer_free (child->freezer);
  child->freezer = freezer_new (child_get_pid (child), child->pidfd);
}

gboolean
child_freeze (Child *child)
{
  return (child->freezer != NULL && freezer_stop (child->freezer)) || child_kill (child);
}

void
child_kill_frozen (Child *child)
{
  send_signal (child, SIGKILL);
}

void
child_take_aside (Child *child)
{
  placement_take (child_get_live_pid (child));
  if (child->process != NULL)
    placement_take (process_get_pid (child->process));
}

/* Bubblewrap says who the runner is and then lets it begin.  Killed in between it would leave the runner to wait for that for
 * ever. */
static void
wait_for_pid (Child *child)
{
  struct pollfd fd = { child->info, POLLIN, 0 };
  int n;

  if (child->process == NULL || child->pidfd >= 0)
    return;
  do
    n = poll (&fd, 1, GONE_MS);
  while (n < 0 && errno == EINTR);
  pthread_mutex_lock (&child->lock);
  learn_pid (child);
  pthread_mutex_unlock (&child->lock);
}

gboolean
child_kill (Child *child)
{
  gboolean gone;

  child_expect_end (child);
  wait_for_pid (child);
  child_kill_frozen (child);
  if (child->process != NULL)
    {
      process_kill (child->process);
      process_wait (child->process);
    }
  gone = is_gone (child, GONE_MS);
  if (gone)
    granted_drop (child);
  connection_close (child->connection);
  return gone;
}

gboolean
child_is_closed (Child *child)
{
  gboolean closed;

  pthread_mutex_lock (&child->lock);
  closed = child->closed;
  pthread_mutex_unlock (&child->lock);
  return closed;
}

/* ---- how it ended --------------------------------------------------------------------------------------------- */

guint
child_get_hang_ms (const Child *child)
{
  return child->hang_ms;
}

gboolean
child_restrain (Child *child, const char *why)
{
  gboolean first, done;

  pthread_mutex_lock (&child->lock);
  first = !child->restrained && !child->closed;
  child->restrained = TRUE;
  done = child->lowered;
  pthread_mutex_unlock (&child->lock);
  if (first)
    offence_warn (child->cell->host, "the process %d of cell %s: %s; from now on it has the processor time that others leave",
                  (int) child_get_pid (child), child->cell->name, why);
  if (done)
    return TRUE;                        /* what it has started since is like itself, and the kernel's turn is somebody else's */
  /* One that has not been waited for keeps its number. */
  done = child->pidfd < 0 || syscall (SYS_pidfd_send_signal, child->pidfd, 0, NULL, 0) < 0
         || sandbox_goes_last (child_get_pid (child));
  if (first)
    scope_goes_last (child->cell->name, child_get_pid (child));
  pthread_mutex_lock (&child->lock);
  child->lowered = done;
  pthread_mutex_unlock (&child->lock);
  return done;
}

void
child_condemn (Child *child, const char *why)
{
  pthread_mutex_lock (&child->lock);
  if (child->condemned == NULL)
    child->condemned = g_strdup (why);
  pthread_mutex_unlock (&child->lock);
  if (child->pidfd >= 0)
    syscall (SYS_pidfd_send_signal, child->pidfd, SIGKILL, NULL, 0);
  else if (child->process != NULL)
    process_kill (child->process);
}

static gboolean
wait_for_bwrap (Child *child)
{
  struct pollfd fd = { process_get_pidfd (child->process), POLLIN, 0 };

  return poll (&fd, 1, END_MS) > 0;
}

static void
find_end (Child *child, ProcessEnd *ret)
{
  gboolean ended = is_gone (child, END_MS) && wait_for_bwrap (child);

  child_kill (child);
  pthread_mutex_lock (&child->lock);
  ret->why = g_strdup (child->condemned);
  pthread_mutex_unlock (&child->lock);
  if (ret->why == NULL && ended)
    process_end_describe (process_wait (child->process), child->last_word, child->memory_kills, ret);
  if (ret->why == NULL)
    ret->why = g_strdup (ended ? "its process died" : "its process has closed its connection to the host, and was killed");
}

void
child_wait_end (Child *child, ProcessEnd *ret)
{
  pthread_mutex_lock (&child->ending);
  if (child->end.why == NULL)
    find_end (child, &child->end);
  *ret = child->end;
  ret->why = g_strdup (child->end.why);
  pthread_mutex_unlock (&child->ending);
}

GPid
child_get_pid (Child *child)
{
  GPid pid;

  pthread_mutex_lock (&child->lock);
  pid = child->pid;
  pthread_mutex_unlock (&child->lock);
  return pid;
}

/* One that has not been waited for keeps its number. */
GPid
child_get_live_pid (Child *child)
{
  return child->pidfd < 0 || syscall (SYS_pidfd_send_signal, child->pidfd, 0, NULL, 0) == 0 ? child_get_pid (child) : 0;
}

int
child_get_bell_to_host (Child *child)
{
  return child->connection->host_bell;
}

StatsPage *
child_get_stats (Child *child)
{
  return &child->stats;
}

Child *
child_ref (Child *child)
{
  atomic_fetch_add (&child->refs, 1);
  return child;
}

void
child_unref (Child *child)
{
  if (child == NULL || atomic_fetch_sub (&child->refs, 1) != 1)
    return;
  granted_drop (child);
  freezer_free (child->freezer);
  connection_unref (child->connection);
  process_free (child->process);
  host_cell_unref (child->cell);
  close (child->info);
  if (child->pidfd >= 0)
    close (child->pidfd);
  g_free (child->condemned);
  g_free (child->end.why);
  if (child->last_word >= 0)
    close (child->last_word);
  stats_page_clear (&child->stats);
  pthread_mutex_destroy (&child->lock);
  pthread_mutex_destroy (&child->ending);
  pthread_cond_destroy (&child->changed);
  g_free (child);
}

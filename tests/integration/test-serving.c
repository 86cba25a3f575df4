/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Callers from outside when handlers take long: those of other cells are served all the same.
 */
#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cell/remote/blocker.h>
#include <cell/remote/crowd.h>
#include <cell/remote/ledger.h>

#include "host-fixture.h"
#include "host/connection.h"
#include "host/link.h"

#define BLOCKERS 6
#define CALLS 2000
#define GONE 20                         /* more than have threads for management with one cell */

typedef struct
{
  HostFixture *fixture;
  char *name, *fifo;
  GThread *thread;
  gint blocks;                  /* the call has been sent; atomic */
} Blocked;

static gpointer
block (gpointer data)
{
  Blocked *blocked = data;
  CellBus *bus = cell_open (blocked->fixture->socket);
  CellClient *blocker = cell_bind (bus, Blocker, blocked->name);
  CellBus *other = cell_open (blocked->fixture->socket);

  {
    cell_auto BlockerTouch t = blocker_touch (blocker);

    g_assert_cmpint (t.result.status, ==, CELL_OK);
  }
  g_atomic_int_set (&blocked->blocks, 1);
  {
    cell_auto BlockerBlock b = blocker_block (blocker, .fifo = blocked->fifo);

    g_assert_cmpint (b.result.status, ==, CELL_OK);
    g_assert_true (b.opened);
  }
  cell_close (other);
  cell_close (bus);
  return NULL;
}

static void
start_blocking (Blocked *blocked, HostFixture *fixture, guint number)
{
  g_autoptr(HostCell) cell = NULL;

  blocked->fixture = fixture;
  blocked->name = g_strdup_printf ("blocker%u", number);
  blocked->fifo = g_strdup_printf ("%s/fifo%u", fixture->folder, number);
  g_assert_no_errno (mkfifo (blocked->fifo, 0600));
  cell = host_fixture_load (fixture, "blocker", blocked->name, NULL);
  blocked->thread = g_thread_new (blocked->name, block, blocked);
  while (!g_atomic_int_get (&blocked->blocks))
    g_thread_yield ();
}

/* The handler has the FIFO open, or is about to: opening waits for it. */
static void
stop_blocking (Blocked *blocked)
{
  int fd = open (blocked->fifo, O_WRONLY | O_CLOEXEC);

  g_assert_no_errno (fd);
  g_thread_join (blocked->thread);
  close (fd);
  g_unlink (blocked->fifo);
  g_free (blocked->name);
  g_free (blocked->fifo);
}

static void
use_ledger (CellClient *ledger)
{
  for (guint i = 0; i < CALLS; i++)
    {
      cell_auto LedgerBalance b = ledger_balance (ledger, .account = 1);

      g_assert_cmpint (b.result.status, ==, CELL_OK);
    }
}

/* One handler after the other gets stuck, and those who call another cell, on a connection that they have had or on a new one, are
 * served. */
static void
test_stuck (HostFixture *fixture, gconstpointer data)
{
  g_autoptr(HostCell) cell = host_fixture_load (fixture, g_getenv ("TEST_LEDGER"), "ledger", NULL);
  CellBus *bus = cell_open (fixture->socket);
  CellClient *ledger = cell_bind (bus, Ledger, "ledger");
  Blocked blocked[BLOCKERS] = { 0 };

  (void) data;
  use_ledger (ledger);
  for (guint i = 0; i < BLOCKERS; i++)
    {
      CellBus *fresh;

      start_blocking (&blocked[i], fixture, i);
      use_ledger (ledger);
      fresh = cell_open (fixture->socket);
      use_ledger (cell_bind (fresh, Ledger, "ledger"));
      cell_close (fresh);
    }
  for (guint i = 0; i < BLOCKERS; i++)
    {
      stop_blocking (&blocked[i]);
      use_ledger (ledger);
    }
  cell_close (bus);
}

/* Another process: this program again.  It says a byte when it has called. */
static int
block_and_wait (const char *socket, const char *name, const char *fifo)
{
  CellBus *bus = cell_open (socket);
  BlockerBlockCall call = blocker_block_start (cell_bind (bus, Blocker, name), .fifo = fifo);

  if (write (STDOUT_FILENO, ".", 1) != 1)
    return 1;
  cell_auto BlockerBlock b = blocker_block_finish (call);
  return b.result.status != CELL_OK;
}

static int
hold_and_wait (const char *socket)
{
  CellBus *bus = cell_open (socket);
  CrowdHoldCall call = crowd_hold_start (cell_bind (bus, Crowd, "crowd"));

  if (write (STDOUT_FILENO, ".", 1) != 1)
    return 1;
  cell_auto CrowdHold h = crowd_hold_finish (call);
  return h.result.status != CELL_OK;
}

static GPid
start_program (const char *what, const char *socket, const char *name, const char *fifo)
{
  const char *const argv[] = { "/proc/self/exe", what, socket, name, fifo, NULL };
  g_autoptr(GError) error = NULL;
  char dot;
  GPid pid;
  int out;

  g_spawn_async_with_pipes (NULL, (char **) argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL, &pid, NULL, &out, NULL, &error);
  g_assert_no_error (error);
  g_assert_cmpint (read (out, &dot, 1), ==, 1);
  close (out);
  return pid;
}

static guint
count_channels (HostCell *cell)
{
  HostCellInfo info;

  host_cell_describe (cell, &info);
  return info.channels;
}

/* The first call is in its handler. */
static void
wait_until_taken (HostCell *cell)
{
  gboolean taken = FALSE;

  while (!taken)
    {
      g_thread_yield ();
      pthread_mutex_lock (&cell->lock);
      if (cell->links->len > 0)
        {
          const Link *link = g_ptr_array_index (cell->links, 0);

          taken = atomic_load (&link->replies->control->taken) > link->taken;
        }
      pthread_mutex_unlock (&cell->lock);
    }
}

/* Callers of a handler that is stuck die, more of them than there are threads for management; others are served meanwhile, and
 * nothing is left of those callers but the handlers. */
static void
test_gone (HostFixture *fixture, gconstpointer data)
{
  g_autoptr(HostCell) cell = host_fixture_load (fixture, g_getenv ("TEST_LEDGER"), "ledger", NULL), blocker = NULL;
  g_autofree char *fifo = g_build_filename (fixture->folder, "fifo", NULL);
  CellBus *bus = cell_open (fixture->socket);
  CellClient *ledger = cell_bind (bus, Ledger, "ledger");
  CellClient *client;
  int fd;

  (void) data;
  g_assert_no_errno (mkfifo (fifo, 0600));
  blocker = host_fixture_load (fixture, "blocker", "blocker", NULL);
  use_ledger (ledger);
  for (guint i = 0; i < GONE; i++)
    {
      GPid pid = start_program ("--block", fixture->socket, "blocker", fifo);

      /* No other caller is looked at: nobody watches whether the one who serves this one comes back. */
      if (i == 0)
        wait_until_taken (blocker);
      g_assert_no_errno (kill (pid, SIGKILL));
      g_assert_cmpint (waitpid (pid, NULL, 0), ==, pid);
      while (count_channels (blocker) > 0)
        g_thread_yield ();
      use_ledger (ledger);
    }
  fd = open (fifo, O_RDWR | O_CLOEXEC);         /* nobody waits for it from now on */
  g_assert_no_errno (fd);
  client = cell_bind (bus, Blocker, "blocker");
  {
    cell_auto BlockerTouch t = blocker_touch (client);

    g_assert_cmpint (t.result.status, ==, CELL_OK);
  }
  close (fd);
  cell_close (bus);
}

/* The handlers of a concurrent cell are known by their callers' channels; one whose caller has gone is in the cell all the same. */
static void
test_gone_concurrent (HostFixture *fixture, gconstpointer data)
{
  g_autoptr(HostCell) crowd = host_fixture_load (fixture, "crowd", NULL, NULL);
  g_autoptr(GError) error = NULL;
  CellBus *bus;
  GPid pid;

  (void) data;
  if (!host_fixture_has_sandbox ())
    return;
  pid = start_program ("--hold", fixture->socket, NULL, NULL);
  wait_until_taken (crowd);
  g_assert_no_errno (kill (pid, SIGKILL));
  g_assert_cmpint (waitpid (pid, NULL, 0), ==, pid);
  while (count_channels (crowd) > 0)
    g_thread_yield ();
  g_assert_false (relocate_eject (crowd, &error));
  g_assert_cmpint (cell_status_from_error (error), ==, CELL_ERROR_BUSY);
  bus = cell_open (fixture->socket);
  {
    cell_auto CrowdLetGo l = crowd_let_go (cell_bind (bus, Crowd, "crowd"), .wanted = 1);

    g_assert_cmpint (l.result.status, ==, CELL_OK);
  }
  host_fixture_eject (crowd);
  cell_close (bus);
}

/* Many callers of a cell in a sandbox die while its handlers run, and whoever comes then is not kept waiting. */
static void
test_gone_ejected (HostFixture *fixture, gconstpointer data)
{
  g_autoptr(HostCell) crowd = host_fixture_load (fixture, "crowd", NULL, NULL);
  g_autoptr(HostCell) ledger = host_fixture_load (fixture, g_getenv ("TEST_LEDGER"), "ledger", NULL);
  GPid pids[GONE];
  CellBus *bus;

  (void) data;
  if (!host_fixture_has_sandbox ())
    return;
  host_fixture_eject (crowd);
  for (guint i = 0; i < GONE; i++)
    pids[i] = start_program ("--hold", fixture->socket, NULL, NULL);
  for (guint i = 0; i < GONE; i++)
    {
      g_assert_no_errno (kill (pids[i], SIGKILL));
      g_assert_cmpint (waitpid (pids[i], NULL, 0), ==, pids[i]);
    }
  bus = cell_open (fixture->socket);
  use_ledger (cell_bind (bus, Ledger, "ledger"));
  while (count_channels (crowd) > 0)
    g_thread_yield ();
  {
    cell_auto CrowdLetGo l = crowd_let_go (cell_bind (bus, Crowd, "crowd"), .wanted = 0);

    g_assert_cmpint (l.result.status, ==, CELL_OK);
  }
  cell_close (bus);
}

static gpointer
call_on (gpointer data)
{
  HostFixture *fixture = data;
  CellBus *bus = cell_open (fixture->socket);
  CellClient *ledger = cell_bind (bus, Ledger, "ledger");

  for (guint i = 0; i < 10; i++)
    use_ledger (ledger);
  cell_close (bus);
  return NULL;
}

/* One that never pauses does not keep those from being served who had gone to sleep; each of them comes from sleep again and
 * again. */
static void
test_busy (HostFixture *fixture, gconstpointer data)
{
  g_autoptr(HostCell) cell = host_fixture_load (fixture, g_getenv ("TEST_LEDGER"), "ledger", NULL);
  CellBus *bus = cell_open (fixture->socket);
  CellClient *ledger = cell_bind (bus, Ledger, "ledger");
  GThread *thread;

  (void) data;
  use_ledger (ledger);
  thread = g_thread_new ("busy", call_on, fixture);
  for (guint i = 0; i < 50; i++)
    {
      cell_auto LedgerBalance b = ledger_balance (ledger, .account = 1);

      g_assert_cmpint (b.result.status, ==, CELL_OK);
      g_usleep (500);                   /* so that its channel is put to sleep: nothing depends on it */
    }
  g_thread_join (thread);
  cell_close (bus);
}

typedef struct
{
  CellClient *blocker;
  const char *fifo;
  BlockerBlockCall call;
  gint started;                         /* atomic */
  CellStatus status;
} Waiter;

static gpointer
wait_for_blocker (gpointer data)
{
  Waiter *waiter = data;

  waiter->call = blocker_block_start (waiter->blocker, .fifo = waiter->fifo);
  g_atomic_int_set (&waiter->started, 1);
  {
    cell_auto BlockerBlock b = blocker_block_finish (waiter->call);

    waiter->status = b.result.status;
  }
  return NULL;
}

/* The handler is stuck, and who waits for it is let go by another thread. */
static void
test_cancel (HostFixture *fixture, gconstpointer data)
{
  g_autoptr(HostCell) cell = host_fixture_load (fixture, "blocker", "blocker", NULL);
  g_autofree char *fifo = g_build_filename (fixture->folder, "fifo", NULL);
  CellBus *bus = cell_open (fixture->socket);
  CellClient *blocker = cell_bind (bus, Blocker, "blocker");
  Waiter waiter = { .blocker = blocker, .fifo = fifo };
  GThread *thread;
  bool free_again = false;

  (void) data;
  g_assert_no_errno (mkfifo (fifo, 0600));
  cell_set_timeout (blocker, 120000);
  thread = g_thread_new ("waiter", wait_for_blocker, &waiter);
  while (!g_atomic_int_get (&waiter.started))
    g_thread_yield ();
  cell_cancel (waiter.call.pending);
  g_thread_join (thread);
  g_assert_cmpint (waiter.status, ==, CELL_ERROR_CANCELLED);
  /* The handler may be in it, or is never going to be. */
  cell_set_timeout (blocker, 200);
  while (!free_again)
    {
      int fd = open (fifo, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
      cell_auto BlockerTouch t = blocker_touch (blocker);

      free_again = t.result.status == CELL_OK;
      if (fd >= 0)
        close (fd);
    }
  cell_close (bus);
}

#define BELOW 64                        /* descriptors that are all in use: more than the main loop polls at a time */
#define MOST 256
#define RESERVED 16                     /* while the host starts */

static gint rests;                      /* how often nothing came about for as long as the main loop has waited; atomic */

static gint
poll_and_count (GPollFD *fds, guint n, gint timeout)
{
  gint found = g_poll (fds, n, timeout);

  if (found == 0 && timeout > 0)
    g_atomic_int_inc (&rests);
  return found;
}

static guint
count_connections (Host *host)
{
  guint n;

  pthread_mutex_lock (&host->lock);
  n = host->connections->len;
  pthread_mutex_unlock (&host->lock);
  return n;
}

static int
make_socket (void)
{
  int fd = socket (AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

  g_assert_no_errno (fd);
  return fd;
}

static void
connect_socket (int fd, const char *path)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };

  g_strlcpy (address.sun_path, path, sizeof address.sun_path);
  g_assert_no_errno (connect (fd, (struct sockaddr *) &address, sizeof address));
}

static void
set_limit (rlim_t most, struct rlimit *before)
{
  g_assert_no_errno (getrlimit (RLIMIT_NOFILE, before));
  g_assert_no_errno (setrlimit (RLIMIT_NOFILE, &(struct rlimit) { most, before->rlim_max }));
}

/* Where not even the spare descriptor can be had again, the main loop rests, and who waits is accepted when there are
 * descriptors. */
static void
test_descriptors (HostFixture *fixture, gconstpointer data)
{
  int waiter = make_socket (), refused = make_socket (), reserved[RESERVED], held[MOST], fd;
  guint n_held = 0;
  struct rlimit before;
  WireMessage message;
  Fault fault = { 0 };
  uint64_t until;

  (void) data;
  do
    g_assert_no_errno (held[n_held] = dup (0));
  while (held[n_held++] < BELOW);
  for (guint i = 0; i < RESERVED; i++)
    g_assert_no_errno (reserved[i] = dup (0));
  g_main_context_set_poll_func (NULL, poll_and_count);
  host_fixture_set_up (fixture, NULL);
  for (guint i = 0; i < RESERVED; i++)
    close (reserved[i]);

  set_limit (BELOW, &before);           /* what the host has lies above */
  connect_socket (waiter, fixture->socket);
  for (int n = g_atomic_int_get (&rests); g_atomic_int_get (&rests) < n + 2;)
    g_thread_yield ();
  g_assert_cmpuint (count_connections (fixture->host), ==, 0);
  g_assert_no_errno (setrlimit (RLIMIT_NOFILE, &before));
  while (count_connections (fixture->host) == 0)
    g_thread_yield ();

  /* And there is a spare one again. */
  set_limit (MOST, &before);
  while ((fd = dup (0)) >= 0)
    held[n_held++] = fd;
  connect_socket (refused, fixture->socket);
  until = (uint64_t) (g_get_monotonic_time () + 60 * G_USEC_PER_SEC) * 1000;
  g_assert_cmpint (wire_receive (refused, &message, until, &fault), ==, 1);
  g_assert_cmpint (message.header.type, ==, WIRE_ERROR);
  g_assert_cmpint (message.body.error.status, ==, CELL_ERROR_NO_RESOURCES);
  wire_message_clear (&message);
  g_assert_no_errno (setrlimit (RLIMIT_NOFILE, &before));
  while (n_held > 0)
    close (held[--n_held]);
  close (refused);
  close (waiter);
  host_fixture_tear_down (fixture, NULL);
  g_main_context_set_poll_func (NULL, NULL);
}

/* ---- signals that cannot be sent ------------------------------------------------------------------------------------ */

static void
on_said (const CrowdSaid *args, uint64_t missed, void *data)
{
  uint64_t *all_missed = data;

  g_assert_cmpstr (args->what, ==, "something");
  *all_missed += missed;
}

static guint
count_said (HostCell *cell, const char *what)
{
  g_autoptr(GPtrArray) lines = log_tail_list (cell->log);
  guint n = 0;

  for (guint i = 0; i < lines->len; i++)
    n += strstr (((const LogLine *) g_ptr_array_index (lines, i))->text, what) != NULL;
  return n;
}

/* Twice, and another one that can be sent. */
static void
mumble (CellBus *bus, CellClient *crowd, const uint64_t *missed)
{
  gint64 patience = g_get_monotonic_time () + 60 * G_USEC_PER_SEC;
  uint64_t before = *missed;

  for (guint i = 0; i < 2; i++)
    {
      cell_auto CrowdMumble m = crowd_mumble (crowd);

      g_assert_cmpint (m.result.status, ==, CELL_OK);
    }
  cell_auto CrowdSay s = crowd_say (crowd, .who = 1, .first = 1, .count = 1);
  g_assert_cmpint (s.result.status, ==, CELL_OK);
  while (*missed == before && g_get_monotonic_time () < patience)
    cell_bus_dispatch (bus, 100);
  g_assert_cmpuint (*missed, ==, before + 2);
}

/* It is the author's mistake: he reads in the log which signal it was, and what was wrong, once in each place. */
static void
test_unsent (HostFixture *fixture, gconstpointer data)
{
  static const char what[] = "the signal said cannot be sent, and its subscribers miss it: what: it is not UTF-8";
  g_autoptr(HostCell) cell = host_fixture_load (fixture, "crowd", NULL, NULL);
  gint64 patience = g_get_monotonic_time () + 60 * G_USEC_PER_SEC;
  CellBus *bus = cell_open (fixture->socket);
  CellClient *crowd = cell_bind (bus, Crowd, "crowd");
  uint64_t missed = 0;

  (void) data;
  g_log_set_always_fatal (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL);    /* its log is the host's, too */
  g_assert_cmpint (crowd_on_said (crowd, on_said, &missed), ==, CELL_OK);
  mumble (bus, crowd, &missed);
  g_assert_cmpuint (count_said (cell, what), ==, 1);
  if (host_fixture_has_sandbox ())
    {
      host_fixture_eject (cell);
      mumble (bus, crowd, &missed);
      while (count_said (cell, what) < 2 && g_get_monotonic_time () < patience)
        g_thread_yield ();
      g_assert_cmpuint (count_said (cell, what), ==, 2);
    }
  cell_close (bus);
}

int
main (int argc, char **argv)
{
  if (argc == 5 && g_str_equal (argv[1], "--block"))
    return block_and_wait (argv[2], argv[3], argv[4]);
  if (argc == 3 && g_str_equal (argv[1], "--hold"))
    return hold_and_wait (argv[2]);
  g_test_init (&argc, &argv, NULL);
  g_test_add ("/serving/gone/serial", HostFixture, NULL, host_fixture_set_up, test_gone, host_fixture_tear_down);
  g_test_add ("/serving/gone/concurrent", HostFixture, NULL, host_fixture_set_up, test_gone_concurrent, host_fixture_tear_down);
  g_test_add ("/serving/gone/ejected", HostFixture, NULL, host_fixture_set_up, test_gone_ejected, host_fixture_tear_down);
  g_test_add ("/serving/stuck", HostFixture, NULL, host_fixture_set_up, test_stuck, host_fixture_tear_down);
  g_test_add ("/serving/busy", HostFixture, NULL, host_fixture_set_up, test_busy, host_fixture_tear_down);
  g_test_add ("/serving/cancel", HostFixture, NULL, host_fixture_set_up, test_cancel, host_fixture_tear_down);
  g_test_add ("/serving/descriptors", HostFixture, NULL, NULL, test_descriptors, NULL);
  g_test_add ("/serving/unsent", HostFixture, NULL, host_fixture_set_up, test_unsent, host_fixture_tear_down);
  return g_test_run ();
}

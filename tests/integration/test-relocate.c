/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A cell moves out of the host and back while a program keeps calling: every call is answered, once, in order.
 */
#include <gio/gio.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <unistd.h>

#include <cell/remote/ledger.h>

#include "host/cell.h"
#include "host/child.h"
#include "host/host.h"
#include "host/relocate.h"

typedef struct
{
  Host *host;
  HostCell *ledger;
  GMainLoop *loop;
  GThread *thread;
  char *folder, *socket;
} Fixture;

static gpointer
loop_main (gpointer data)
{
  g_main_loop_run (data);
  return NULL;
}

static void
set_up (Fixture *fixture, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  g_autofree char *bwrap = g_find_program_in_path ("bwrap");
  g_autoptr(GHashTable) config = g_hash_table_new (g_str_hash, g_str_equal);
  HostConfig host_config = { 0 };

  (void) data;
  fixture->folder = g_dir_make_tmp ("cellhost-XXXXXX", &error);
  g_assert_no_error (error);
  fixture->socket = g_build_filename (fixture->folder, "socket", NULL);
  host_config.socket_path = fixture->socket;
  host_config.runner_path = (char *) g_getenv ("TEST_RUNNER");
  host_config.bwrap_path = bwrap;
  fixture->host = host_new (&host_config, &error);
  g_assert_no_error (error);
  g_assert_true (host_listen (fixture->host, &error));
  g_assert_no_error (error);
  g_hash_table_insert (config, (char *) "overdraft", (char *) "1000000000000");
  fixture->ledger = host_load (fixture->host, g_getenv ("TEST_LEDGER"), NULL, config, &error);
  g_assert_no_error (error);
  fixture->loop = g_main_loop_new (NULL, FALSE);
  fixture->thread = g_thread_new ("main-loop", loop_main, fixture->loop);
}

static void
tear_down (Fixture *fixture, gconstpointer data)
{
  (void) data;
  host_cell_unref (fixture->ledger);
  host_stop (fixture->host);
  g_main_loop_quit (fixture->loop);
  g_thread_join (fixture->thread);
  g_main_loop_unref (fixture->loop);
  host_free (fixture->host);
  g_rmdir (fixture->folder);
  g_free (fixture->folder);
  g_free (fixture->socket);
}

static gboolean
has_sandbox (void)
{
  const char *const argv[] = { "bwrap", "--unshare-all", "--unshare-user", "--ro-bind", "/", "/", "true", NULL };
  int status = 1;

  return g_spawn_sync (NULL, (char **) argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL | G_SPAWN_STDERR_TO_DEV_NULL, NULL, NULL,
                       NULL, NULL, &status, NULL)
         && status == 0;
}

static void
test_call (Fixture *fixture, gconstpointer data)
{
  CellBus *bus = cell_open (fixture->socket);
  CellClient *ledger = cell_bind (bus, Ledger, "ledger");

  (void) data;
  for (int i = 1; i <= 1000; i++)
    {
      cell_auto LedgerTransfer t = ledger_transfer (ledger, .from = 1, .to = 2, .amount = 1, .memo = "one");

      g_assert_cmpstr (t.result.message, ==, NULL);
      g_assert_cmpint (t.balance, ==, -i);
    }
  cell_auto LedgerTransfer bad = ledger_transfer (ledger, .from = 1, .to = 2, .amount = -5);
  g_assert_cmpint (bad.result.status, ==, CELL_ERROR_FAILED);
  g_assert_cmpstr (bad.result.error, ==, "org.example.Ledger.InvalidAmount");
  cell_close (bus);
}

typedef struct
{
  const char *socket;
  uint64_t account;
  uint32_t n_calls;
  gint finished;
} Caller;

#define PIPELINE 16

/* Each reply must be the one after the last: a call that is lost, repeated or out of order shows in the balance. */
static gpointer
caller_main (gpointer data)
{
  Caller *caller = data;
  CellBus *bus = cell_open (caller->socket);
  CellClient *ledger = cell_bind (bus, Ledger, "ledger");
  LedgerTransferCall calls[PIPELINE];
  int64_t expected = 0;

  for (uint32_t sent = 0; sent < caller->n_calls; sent += PIPELINE)
    {
      for (int i = 0; i < PIPELINE; i++)
        calls[i] = ledger_transfer_start (ledger, .from = caller->account, .to = 1000, .amount = 1);
      for (int i = 0; i < PIPELINE; i++)
        {
          cell_auto LedgerTransfer t = ledger_transfer_finish (calls[i]);

          g_assert_cmpstr (t.result.message, ==, NULL);
          g_assert_cmpint (t.balance, ==, --expected);
        }
    }
  cell_close (bus);
  g_atomic_int_set (&caller->finished, 1);
  return NULL;
}

static void
test_moves (Fixture *fixture, gconstpointer data)
{
  Caller callers[2] = { { fixture->socket, 1, 32 * 1024, 0 }, { fixture->socket, 2, 32 * 1024, 0 } };
  GThread *threads[2];
  guint moves = 0;

  (void) data;
  if (!has_sandbox ())
    {
      g_test_skip ("bubblewrap cannot make a sandbox here");
      return;
    }
  for (guint i = 0; i < G_N_ELEMENTS (callers); i++)
    threads[i] = g_thread_new ("caller", caller_main, &callers[i]);
  while (moves < 6 || (moves < 200 && !(g_atomic_int_get (&callers[0].finished) && g_atomic_int_get (&callers[1].finished))))
    {
      g_autoptr(GError) error = NULL;

      relocate_eject (fixture->ledger, &error);
      g_assert_no_error (error);
      g_assert_cmpstr (host_cell_location_name (fixture->ledger), ==, "sandbox");
      relocate_absorb (fixture->ledger, &error);
      g_assert_no_error (error);
      g_assert_cmpstr (host_cell_location_name (fixture->ledger), ==, "in process");
      moves += 2;
    }
  for (guint i = 0; i < G_N_ELEMENTS (callers); i++)
    g_thread_join (threads[i]);
  g_test_message ("%u moves", moves);
}

static void
test_killed (Fixture *fixture, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  CellBus *bus;
  CellClient *ledger;
  CellStatus status = CELL_OK;

  (void) data;
  if (!has_sandbox ())
    {
      g_test_skip ("bubblewrap cannot make a sandbox here");
      return;
    }
  bus = cell_open (fixture->socket);
  ledger = cell_bind (bus, Ledger, "ledger");
  g_assert_true (relocate_eject (fixture->ledger, &error));
  g_assert_no_error (error);
  cell_auto LedgerTransfer before = ledger_transfer (ledger, .from = 1, .to = 2, .amount = 1);
  g_assert_cmpint (before.balance, ==, -1);
  kill (child_get_pid (fixture->ledger->child), SIGKILL);
  /* Those that come before the signal does are answered; then one finds out, and not by its deadline. */
  for (guint i = 0; i < 10 * 1000 * 1000 && status == CELL_OK; i++)
    {
      cell_auto LedgerTransfer after = ledger_transfer (ledger, .from = 1, .to = 2, .amount = 1);

      status = after.result.status;
    }
  g_assert_true (status == CELL_ERROR_CRASHED || status == CELL_ERROR_GONE);
  cell_close (bus);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_log_set_always_fatal (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL);    /* a warning that a child died is what is wanted */
  g_test_add ("/host/call", Fixture, NULL, set_up, test_call, tear_down);
  g_test_add ("/host/moves", Fixture, NULL, set_up, test_moves, tear_down);
  g_test_add ("/host/killed", Fixture, NULL, set_up, test_killed, tear_down);
  return g_test_run ();
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * State over a clean stop of the host: what a cell has saved is there when it is loaded again, and a file that is not what it
 * should be is refused with a sentence and set aside.
 */
#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cell/remote/ledger.h>
#include <cell/remote/traveller.h>

#include "host-fixture.h"
#include "host/kept-file.h"
#include "host/state-file.h"
#include "plugins/state.h"

static HostCell *
load_ledger (HostFixture *fixture)
{
  return host_fixture_load (fixture, g_getenv ("TEST_LEDGER"), NULL, NULL);
}

static gint64
pay (HostFixture *fixture, gint64 amount, const char *memo)
{
  CellBus *bus = cell_open (fixture->socket);
  gint64 balance;

  {
    cell_auto LedgerTransfer t = ledger_transfer (cell_bind (bus, Ledger, "ledger"), .from = 1, .to = 2, .amount = amount,
                                                  .memo = memo);

    g_assert_cmpstr (t.result.message, ==, NULL);
    balance = t.balance;
  }
  cell_close (bus);
  return balance;
}

static char *
state_of (HostFixture *fixture, const char *name)
{
  g_autofree char *base = g_strconcat (name, ".state", NULL);

  return g_build_filename (fixture->state_dir, base, NULL);
}

/* How many files of the folder have this in their names. */
static guint
count_files (const char *folder, const char *with)
{
  g_autoptr(GDir) dir = g_dir_open (folder, 0, NULL);
  const char *name;
  guint n = 0;

  while (dir != NULL && (name = g_dir_read_name (dir)) != NULL)
    n += strstr (name, with) != NULL;
  return n;
}

/* ---- it is kept -------------------------------------------------------------------------------------------- */

/* data: where the ledger is when the host stops. */
static void
test_kept (HostFixture *fixture, gconstpointer data)
{
  gboolean ejected = data != NULL;
  g_autofree char *path = state_of (fixture, "ledger");
  struct stat st;

  if (ejected && !host_fixture_has_sandbox ())
    return;
  for (gint64 i = 1; i <= 4; i++)
    {
      HostCell *ledger = load_ledger (fixture);

      g_assert_cmpint (pay (fixture, 10, "rent"), ==, -10 * i);
      if (ejected)
        host_fixture_eject (ledger);
      host_cell_unref (ledger);
      if (i == 2)
        {
          g_autoptr(GError) error = NULL;

          g_assert_true (host_unload (fixture->host, "ledger", &error));
          g_assert_no_error (error);
        }
      else
        {
          host_fixture_stop (fixture);
          host_fixture_start (fixture);
        }
      g_assert_cmpint (g_stat (path, &st), ==, 0);
      g_assert_cmpuint (st.st_mode & 07777, ==, 0600);
    }
  g_assert_cmpint (g_stat (fixture->state_dir, &st), ==, 0);
  g_assert_cmpuint (st.st_mode & 07777, ==, 0700);
  g_assert_cmpuint (count_files (fixture->state_dir, ".state"), ==, 1);
}

typedef struct
{
  const char *file;
  gboolean ejected, unloaded;
} Busy;

static const Busy busy[] = {
  { "traveller", FALSE, FALSE }, { "traveller", TRUE, FALSE }, { "traveller", TRUE, TRUE }, { "traveller-loop", TRUE, FALSE },
  { "traveller-many", TRUE, FALSE },
};

static HostCell *
load_traveller (HostFixture *fixture, const Busy *how)
{
  return host_fixture_load (fixture, how->file, "traveller", "forget", "yes", NULL);
}

/* Although it waits for an answer of another cell's, and keeps a call whose id it does not save. */
static void
test_kept_of_a_busy_cell (HostFixture *fixture, gconstpointer data)
{
  const Busy *how = data;
  g_autoptr(HostCell) traveller = NULL, alarm = NULL;
  g_autoptr(GError) error = NULL;
  CellBus *bus = cell_open (fixture->socket);
  CellClient *client = cell_bind (bus, Traveller, "traveller");
  TravellerKeepCall kept;

  if (how->ejected && !host_fixture_has_sandbox ())
    {
      cell_close (bus);
      return;
    }
  alarm = host_fixture_load (fixture, "../../examples/alarm/alarm", NULL, NULL);
  traveller = load_traveller (fixture, how);
  if (how->ejected)
    host_fixture_eject (traveller);
  traveller_say (client, .n = 7);
  traveller_ask (client, .n = 3, .ms = 600000);
  kept = traveller_keep_start (client, .text = "kept");
  cell_auto TravellerTotals before = traveller_totals (client);
  g_assert_cmpuint (before.asked, ==, 3);
  if (how->unloaded)
    {
      g_assert_true (host_unload (fixture->host, "traveller", &error));
      g_assert_no_error (error);
    }
  cell_auto TravellerKeep answer = { 0 };
  g_clear_pointer (&traveller, host_cell_unref);
  g_clear_pointer (&alarm, host_cell_unref);
  host_fixture_stop (fixture);
  answer = traveller_keep_finish (kept);
  g_assert_cmpint (answer.result.status, ==, CELL_ERROR_GONE);
  cell_close (bus);
  host_fixture_start (fixture);
  traveller = load_traveller (fixture, how);
  bus = cell_open (fixture->socket);
  {
    cell_auto TravellerTotals after = traveller_totals (cell_bind (bus, Traveller, "traveller"));

    g_assert_cmpstr (after.result.message, ==, NULL);
    g_assert_cmpuint (after.spoken, ==, 7);
    g_assert_cmpuint (after.cancelled, ==, 3);
  }
  cell_close (bus);
}

/* Cells without state leave nothing behind, nor does a host without a folder. */
static void
test_none (HostFixture *fixture, gconstpointer data)
{
  HostCell *cell = host_fixture_load (fixture, "whole", NULL, NULL);

  (void) data;
  host_cell_unref (cell);
  host_fixture_stop (fixture);
  g_assert_cmpuint (count_files (fixture->state_dir, ""), ==, 1);       /* the lock */
  g_clear_pointer (&fixture->state_dir, g_free);
  host_fixture_start (fixture);
  host_cell_unref (load_ledger (fixture));
  pay (fixture, 1, "");
  host_fixture_stop (fixture);
  host_fixture_start (fixture);
  host_cell_unref (load_ledger (fixture));
  g_assert_cmpint (pay (fixture, 1, ""), ==, -1);
}

/* ---- what is not as it should be ---------------------------------------------------------------------------- */

/* A state of the ledger, as it was kept. */
static void
make_state (HostFixture *fixture, char **ret_bytes, gsize *ret_size)
{
  g_autofree char *path = state_of (fixture, "ledger");
  g_autoptr(GError) error = NULL;

  host_cell_unref (load_ledger (fixture));
  pay (fixture, 5, "kept");
  g_assert_true (host_unload (fixture->host, "ledger", &error));
  g_assert_no_error (error);
  g_assert_true (g_file_get_contents (path, ret_bytes, ret_size, &error));
  g_assert_no_error (error);
}

/* Loading fails and says why; the file is somewhere else; the next time the cell starts without it. */
static void
check_refused (HostFixture *fixture, const char *file, const char *name)
{
  g_autofree char *path = state_of (fixture, name), *base = g_strconcat (file, ".so", NULL);
  g_autofree char *module = g_path_is_absolute (file) ? g_strdup (file) : g_build_filename (g_getenv ("TEST_CELLS"), base, NULL);
  guint aside = count_files (fixture->state_dir, ".bad-");
  g_autoptr(GError) error = NULL;

  g_assert_null (host_load (fixture->host, module, name, NULL, &error));
  g_assert_cmpint (cell_status_from_error (error), ==, CELL_ERROR_STATE);
  g_assert_nonnull (strstr (error->message, "set aside"));
  g_assert_null (strchr (error->message, '\n'));
  g_assert_false (g_file_test (path, G_FILE_TEST_EXISTS));
  g_assert_cmpuint (count_files (fixture->state_dir, ".bad-"), ==, aside + 1);
}

/* The same, but that it stays where it is: it may be what somebody has for another cell, or another build. */
static void
check_left (HostFixture *fixture, const char *file, const char *name)
{
  g_autofree char *path = state_of (fixture, name), *base = g_strconcat (file, ".so", NULL);
  g_autofree char *module = g_path_is_absolute (file) ? g_strdup (file) : g_build_filename (g_getenv ("TEST_CELLS"), base, NULL);
  g_autoptr(GError) error = NULL;

  g_assert_null (host_load (fixture->host, module, name, NULL, &error));
  g_assert_cmpint (cell_status_from_error (error), ==, CELL_ERROR_STATE);
  g_assert_nonnull (strstr (error->message, "stays as it is"));
  g_assert_true (g_file_test (path, G_FILE_TEST_EXISTS));
  g_assert_cmpuint (count_files (fixture->state_dir, ".bad-"), ==, 0);
}

static void
put_state (HostFixture *fixture, const char *name, const char *bytes, gsize size)
{
  g_autofree char *path = state_of (fixture, name);
  g_autoptr(GError) error = NULL;

  g_file_set_contents_full (path, bytes, (gssize) size, G_FILE_SET_CONTENTS_CONSISTENT, 0600, &error);
  g_assert_no_error (error);
}

static void
test_damaged (HostFixture *fixture, gconstpointer data)
{
  g_autofree char *bytes = NULL, *module = g_strdup (g_getenv ("TEST_LEDGER"));
  gsize size, step;

  (void) data;
  make_state (fixture, &bytes, &size);
  step = size / 40 + 1;
  for (gsize n = 0; n < size; n += step)
    {
      put_state (fixture, "ledger", bytes, n);  /* it ends too early */
      check_refused (fixture, module, "ledger");
    }
  for (gsize at = 0; at < size; at += step)
    {
      bytes[at] ^= 0x20;
      put_state (fixture, "ledger", bytes, size);
      check_refused (fixture, module, "ledger");
      bytes[at] ^= 0x20;
    }
  host_cell_unref (load_ledger (fixture));
  g_assert_cmpint (pay (fixture, 1, ""), ==, -1);       /* it has started without */
}

/* Whole, but another cell's. */
static void
test_foreign (HostFixture *fixture, gconstpointer data)
{
  g_autofree char *bytes = NULL, *module = g_strdup (g_getenv ("TEST_LEDGER"));
  gsize size;

  (void) data;
  make_state (fixture, &bytes, &size);
  put_state (fixture, "memory", bytes, size);
  check_left (fixture, "memory", "memory");             /* of another kind */
  put_state (fixture, "savings", bytes, size);
  check_left (fixture, module, "savings");              /* of another name */
}

/* It may be as it should be: who cannot open it does not know. */
static void
test_out_of_descriptors (HostFixture *fixture, gconstpointer data)
{
  g_autofree char *bytes = NULL, *path = state_of (fixture, "ledger");
  g_autoptr(GError) error = NULL;
  g_autoptr(GBytes) file = NULL;
  struct rlimit usual, none;
  gboolean there = FALSE;
  gsize size;

  (void) data;
  make_state (fixture, &bytes, &size);
  g_assert_no_errno (getrlimit (RLIMIT_NOFILE, &usual));
  none = usual;
  none.rlim_cur = 0;
  g_assert_no_errno (setrlimit (RLIMIT_NOFILE, &none));
  file = kept_file_read (path, G_MAXINT32, &there, &error);
  g_assert_no_errno (setrlimit (RLIMIT_NOFILE, &usual));
  g_assert_null (file);
  g_assert_true (there);
  g_assert_cmpint (cell_status_from_error (error), ==, CELL_ERROR_NO_RESOURCES);
}

/* Not a file of one's own: nothing of it is read. */
static void
test_not_ours (HostFixture *fixture, gconstpointer data)
{
  g_autofree char *bytes = NULL, *module = g_strdup (g_getenv ("TEST_LEDGER")), *path = state_of (fixture, "ledger");
  g_autofree char *elsewhere = g_build_filename (fixture->folder, "elsewhere", NULL);
  gsize size;

  (void) data;
  make_state (fixture, &bytes, &size);
  g_assert_cmpint (g_rename (path, elsewhere), ==, 0);
  g_assert_cmpint (symlink (elsewhere, path), ==, 0);
  check_refused (fixture, module, "ledger");
  g_assert_cmpint (g_mkdir (path, 0700), ==, 0);
  check_refused (fixture, module, "ledger");
  put_state (fixture, "ledger", bytes, size);
  g_assert_cmpint (g_chmod (path, 0666), ==, 0);
  check_refused (fixture, module, "ledger");
  g_assert_cmpint (mkfifo (path, 0600), ==, 0);
  check_refused (fixture, module, "ledger");
}

/* The cell itself can make nothing of it. */
static void
test_not_restored (HostFixture *fixture, gconstpointer data)
{
  g_autoptr(GHashTable) config = g_hash_table_new (g_str_hash, g_str_equal);
  g_autofree char *module = g_build_filename (g_getenv ("TEST_CELLS"), "traveller.so", NULL),
                  *path = state_of (fixture, "traveller");
  g_autoptr(GError) error = NULL;

  (void) data;
  host_cell_unref (host_fixture_load (fixture, "traveller", NULL, NULL));
  g_assert_true (host_unload (fixture->host, "traveller", &error));
  g_assert_true (g_file_test (path, G_FILE_TEST_EXISTS));
  g_hash_table_insert (config, (char *) "trouble", (char *) "restore");
  g_assert_null (host_load (fixture->host, module, NULL, config, &error));
  g_assert_cmpint (cell_status_from_error (error), ==, CELL_ERROR_STATE);
  g_assert_nonnull (strstr (error->message, "its restore failed"));
  g_assert_true (g_file_test (path, G_FILE_TEST_EXISTS));
  g_assert_cmpuint (count_files (fixture->state_dir, ".bad-"), ==, 0);
}

/* ---- a disk that is full -------------------------------------------------------------------------------------- */

#define DISK "65536"

/* In a process of its own, whose state_dir is a disk of 64 KiB. */
static int
full_disk (const char *folder)
{
  HostFixture fixture = { 0 };
  g_autofree char *path = NULL, *before = NULL, *after = NULL;
  gsize before_size, after_size;
  g_autoptr(GError) error = NULL;
  gint64 balance;

  host_fixture_set_up (&fixture, NULL);
  g_free (fixture.state_dir);
  fixture.state_dir = g_strdup (folder);
  host_fixture_stop (&fixture);
  host_fixture_start (&fixture);
  path = state_of (&fixture, "ledger");
  make_state (&fixture, &before, &before_size);
  host_cell_unref (load_ledger (&fixture));
  for (guint i = 0; i < 1000; i++)
    balance = pay (&fixture, 1, "a memo that takes its place, again and again, until there is more of it than the disk can hold");
  /* It cannot be kept: the cell goes on. */
  g_assert_false (host_unload (fixture.host, "ledger", &error));
  g_assert_cmpint (cell_status_from_error (error), ==, CELL_ERROR_NO_RESOURCES);
  g_assert_nonnull (strstr (error->message, g_strerror (ENOSPC)));
  g_clear_error (&error);
  g_assert_cmpint (pay (&fixture, 1, ""), ==, balance - 1);
  /* The host stops all the same, and what was kept before is still there; nothing else is. */
  host_fixture_stop (&fixture);
  g_assert_true (g_file_get_contents (path, &after, &after_size, &error));
  g_assert_cmpmem (before, before_size, after, after_size);
  g_assert_cmpuint (count_files (folder, ""), ==, 2);   /* with the lock */
  host_fixture_start (&fixture);
  host_cell_unref (load_ledger (&fixture));
  g_assert_cmpint (pay (&fixture, 1, ""), ==, -6);
  g_free (fixture.state_dir);
  fixture.state_dir = NULL;
  host_fixture_tear_down (&fixture, NULL);
  return 0;
}

static void
test_full_disk (HostFixture *fixture, gconstpointer data)
{
  g_autofree char *self = g_file_read_link ("/proc/self/exe", NULL), *disk = g_build_filename (fixture->folder, "disk", NULL);
  const char *const argv[] = {
    "bwrap", "--dev-bind", "/", "/", "--perms", "0700", "--size", DISK, "--tmpfs", disk, self, "--full-disk", disk, NULL
  };
  g_autofree char *said = NULL;
  g_autoptr(GError) error = NULL;
  int status = 1;

  (void) data;
  if (!host_fixture_has_sandbox ())
    return;
  g_assert_cmpint (g_mkdir (disk, 0700), ==, 0);
  g_spawn_sync (NULL, (char **) argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, &said, &status, &error);
  g_assert_no_error (error);
  g_test_message ("%s", said);
  g_assert_true (g_spawn_check_wait_status (status, &error));
  g_assert_no_error (error);
  g_assert_nonnull (strstr (said, "cannot be kept"));
}

/* What could not be read again does not replace what was kept before. */
static void
test_too_large (HostFixture *fixture, gconstpointer data)
{
  const gsize size = STATE_MAX_SIZE + (gsize) 1;
  void *zeros = mmap (NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  g_autoptr(GBytes) state = g_bytes_new_static (zeros, size);
  g_autofree char *path = state_of (fixture, "ledger");
  g_autoptr(GError) error = NULL;
  HostCell *ledger = load_ledger (fixture);

  (void) data;
  g_assert_true (zeros != MAP_FAILED);
  g_assert_false (state_file_keep_saved (ledger, 1, state, &error));
  g_assert_cmpint (cell_status_from_error (error), ==, CELL_ERROR_TOO_LARGE);
  g_assert_false (g_file_test (path, G_FILE_TEST_EXISTS));
  host_cell_unref (ledger);
  munmap (zeros, size);
}

static void
add (const char *path, gconstpointer data, void (*test) (HostFixture *fixture, gconstpointer data))
{
  g_test_add (path, HostFixture, data, host_fixture_set_up, test, host_fixture_tear_down);
}

int
main (int argc, char **argv)
{
  if (argc == 3 && g_str_equal (argv[1], "--full-disk"))
    return full_disk (argv[2]);
  g_test_init (&argc, &argv, NULL);
  g_log_set_always_fatal (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL);
  add ("/state/kept/in-process", NULL, test_kept);
  add ("/state/kept/ejected", "ejected", test_kept);
  for (guint i = 0; i < G_N_ELEMENTS (busy); i++)
    {
      g_autofree char *path = g_strdup_printf ("/state/kept-of-a-busy-cell/%s/%s%s", busy[i].file,
                                               busy[i].ejected ? "ejected" : "in-process", busy[i].unloaded ? "/unloaded" : "");

      add (path, &busy[i], test_kept_of_a_busy_cell);
    }
  add ("/state/none", NULL, test_none);
  add ("/state/damaged", NULL, test_damaged);
  add ("/state/foreign", NULL, test_foreign);
  add ("/state/out-of-descriptors", NULL, test_out_of_descriptors);
  add ("/state/not-ours", NULL, test_not_ours);
  add ("/state/not-restored", NULL, test_not_restored);
  add ("/state/full-disk", NULL, test_full_disk);
  add ("/state/too-large", NULL, test_too_large);
  return g_test_run ();
}

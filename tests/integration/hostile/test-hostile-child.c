/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Children that lie to the host: whatever they answer when they are asked to load, to serve, to save and to give way, the host goes
 * on, another cell is served as before, what is said of it is a sentence, and nothing is left behind.  FUZZ_ROUNDS is how many
 * there are; --seed has the same ones again.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <signal.h>

#include <cell/remote/sequence.h>

#include "host-fixture.h"
#include "raw.h"

#define WARM_UP 4               /* rounds until the host has all that it keeps for good */
#define DEATHS 40
#define CROWD 4u                /* programs … */
#define EACH 50u                /* … of so many channels */
#define ATTEMPTS 6u
#define STANDS_US (5 * G_USEC_PER_SEC)  /* a process that does not answer for twice as long is replaced */
#define PATIENCE_US (20 * G_USEC_PER_SEC)

static guint
count (const char *path)
{
  DIR *folder = opendir (path);
  guint n = 0;

  g_assert_nonnull (folder);
  while (readdir (folder) != NULL)
    n++;
  closedir (folder);
  return n;
}

static void
assert_sentence (const GError *error)
{
  if (error == NULL)
    return;
  g_assert_true (error->domain == CELL_ERROR_DOMAIN && error->code > 0 && g_utf8_validate (error->message, -1, NULL));
  for (const char *c = error->message; *c != 0; c++)
    g_assert_false (g_ascii_iscntrl (*c));
}

/* What somebody might do with a cell; anything of it may fail. */
static void
use (HostFixture *fixture, HostCell *cell)
{
  CellBus *bus = cell_open (fixture->socket);
  CellClient *client = cell_bind (bus, Sequence, cell->name);
  HostCellStats stats;

  cell_set_timeout (client, 200);
  for (uint64_t i = 0; i < 3; i++)
    {
      cell_auto SequenceNext next = sequence_next (client, .who = 1, .number = i);
      cell_auto SequenceNote note = sequence_note (client, .who = 2, .number = i, .text = "something");

      g_assert_true (next.result.status != CELL_OK || next.number == i);
      g_assert_true (note.result.status != CELL_OK || note.number == i);
    }
  cell_close (bus);
  host_cell_read_stats (cell, 0, &stats);
}

/* Another cell is where it was, and goes on. */
static void
assert_serves (CellClient *honest, uint64_t number)
{
  cell_auto SequenceNext next = sequence_next (honest, .who = 0, .number = number);
  cell_auto SequenceTotals totals = sequence_totals (honest);

  g_assert_cmpint (next.result.status, ==, CELL_OK);
  g_assert_cmpint (totals.result.status, ==, CELL_OK);
  g_assert_cmpuint (totals.calls, ==, number + 1);
  g_assert_cmpuint (totals.skipped + totals.repeated, ==, 0);
}

static void
let_go (HostFixture *fixture, const char *name)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (HostCell) cell = NULL;

  host_unload (fixture->host, name, &error);
  assert_sentence (error);
  cell = host_find (fixture->host, name, NULL);
  if (cell != NULL)
    host_cell_stop (cell, HOST_STOP_BY_FORCE, NULL);  /* it could not be ended well */
}

static void
play (HostFixture *fixture, guint64 seed)
{
  g_autofree char *text = g_strdup_printf ("%" G_GUINT64_FORMAT, seed),
                  *file = g_build_filename (g_getenv ("TEST_CELLS"), "sequence.so", NULL);
  g_autoptr (GHashTable) settings = g_hash_table_new (g_str_hash, g_str_equal);
  g_autoptr (GError) error = NULL, wrong = NULL, absorbing = NULL;
  g_autoptr (HostCell) cell = NULL;

  g_hash_table_insert (settings, (char *) "seed", text);
  if (seed % 2 == 0)
    cell = host_load_ejected (fixture->host, file, "wild", settings, &error);
  else
    cell = host_load (fixture->host, file, "wild", settings, &error);
  assert_sentence (error);
  if (cell == NULL)
    return;
  if (seed % 2 != 0)
    relocate_eject (cell, &wrong);
  assert_sentence (wrong);
  use (fixture, cell);
  if (seed % 4 < 2)
    relocate_absorb (cell, &absorbing);
  assert_sentence (absorbing);
  let_go (fixture, "wild");
}

/* What is left, if anything is. */
static void
print_descriptors (void)
{
  g_autoptr (GDir) folder = g_dir_open ("/proc/self/fd", 0, NULL);
  const char *name;

  while (folder != NULL && (name = g_dir_read_name (folder)) != NULL)
    {
      g_autofree char *path = g_build_filename ("/proc/self/fd", name, NULL), *what = g_file_read_link (path, NULL);

      g_test_message ("%s: %s", name, what);
    }
}

/* Connections and processes go a moment after what they were for. */
static void
wait_for_descriptors (guint most)
{
  gint64 until = g_get_monotonic_time () + PATIENCE_US;
  guint n;

  while ((n = count ("/proc/self/fd")) > most && g_get_monotonic_time () < until)
    g_thread_yield ();
  if (n > most)
    print_descriptors ();
  g_assert_cmpuint (n, <=, most);
}

static void
test_lies (void)
{
  HostFixture fixture = { .step_ms = 500 };
  guint n_rounds = (guint) g_ascii_strtoull (g_getenv ("FUZZ_ROUNDS"), NULL, 10), n_fds = 0;
  guint32 first = (guint32) g_test_rand_int () | 1;
  g_autoptr (HostCell) cell = NULL;
  CellBus *bus;

  if (!host_fixture_has_sandbox ())
    return;
  host_fixture_set_up (&fixture, NULL);
  cell = host_fixture_load (&fixture, "sequence", "honest", NULL);
  bus = cell_open (fixture.socket);
  {
    CellClient *honest = cell_bind (bus, Sequence, "honest");

    for (guint i = 0; i < n_rounds; i++)
      {
        if (i == WARM_UP)
          n_fds = count ("/proc/self/fd");
        play (&fixture, (guint64) first + i);
        assert_serves (honest, i);
      }
  }
  if (n_rounds > WARM_UP)
    wait_for_descriptors (n_fds + 2);   /* the thread that watches the lanes may come and go */
  cell_close (bus);
  host_fixture_tear_down (&fixture, NULL);
}

/* A process that ends when a caller comes is one that has crashed: the call is the successor's, as any that was not taken. */
static void
test_dies_at_attach (HostFixture *fixture, gconstpointer data)
{
  g_autoptr (HostCell) cell = NULL;
  CellBus *bus;

  (void) data;
  if (!host_fixture_has_sandbox ())
    return;
  cell = host_fixture_load (fixture, "sequence", NULL, "dies", "yes", NULL);
  host_fixture_eject (cell);
  bus = cell_open (fixture->socket);
  {
    cell_auto SequenceNext next = sequence_next (cell_bind (bus, Sequence, "sequence"), .who = 1, .number = 0);

    g_assert_cmpstr (next.result.message, ==, NULL);
    g_assert_cmpint (next.result.status, ==, CELL_OK);
  }
  cell_close (bus);
}

/* One that is to begin in a sandbox and dies when it is to serve has come to nothing, and nobody restarts it, though the next one
 * would live. */
static void
test_dies_at_start (void)
{
  gboolean armed = FALSE;
  HostFixture fixture = { .on_step = host_fixture_kill_once, .on_step_data = &armed };
  g_autofree char *file = g_build_filename (g_getenv ("TEST_CELLS"), "sequence.so", NULL);
  guint n_fds = 0;

  if (!host_fixture_has_sandbox ())
    return;
  host_fixture_set_up (&fixture, NULL);
  for (guint i = 0; i < WARM_UP + DEATHS; i++)
    {
      g_autoptr (GError) error = NULL;

      if (i == WARM_UP)
        n_fds = count ("/proc/self/fd");
      armed = TRUE;
      g_assert_null (host_load_ejected (fixture.host, file, "wild", NULL, &error));
      g_assert_error (error, CELL_ERROR_DOMAIN, -CELL_ERROR_CRASHED);
      g_assert_false (armed);
    }
  wait_for_descriptors (n_fds + 2);
  host_fixture_tear_down (&fixture, NULL);
}

/* Who has channels to a cell that does not answer the host. */
typedef struct
{
  Raw raw[CROWD];
  RawChannel channels[CROWD][EACH];
} Crowd;

static void
crowd_open (Crowd *crowd, const char *socket)
{
  for (guint i = 0; i < CROWD; i++)
    {
      crowd->raw[i] = raw_greeted (socket);
      for (guint k = 0; k < EACH; k++)
        g_assert_true (raw_open_unused (&crowd->raw[i], "late", 0, &crowd->channels[i][k]));
    }
}

/* All of them are to be attached; the host has read that when it answers what is asked last, for which it needs no other thread. */
static void
crowd_press (Crowd *crowd)
{
  for (guint i = 0; i < CROWD; i++)
    {
      for (guint k = 0; k < EACH; k++)
        g_assert_true (raw_say (&crowd->raw[i], WIRE_MAPPED, &(WireRef) { crowd->channels[i][k].body.channel }));
      g_assert_cmpint (raw_refusal (&crowd->raw[i], WIRE_BLOB_NEW, &(WireBlob) { .size = 4096 }, NULL, 0), ==, CELL_OK);
    }
}

static void
crowd_assert_served (Crowd *crowd)
{
  for (guint i = 0; i < CROWD; i++)
    {
      raw_follow (&crowd->raw[i], crowd->channels[i], EACH);
      for (guint k = 0; k < EACH; k++)
        {
          RawChannel *channel = &crowd->channels[i][k];
          uint64_t id;

          g_assert_true (raw_request (&crowd->raw[i], channel, 0xfffe, 1, "", 0));
          g_assert_cmpint (raw_reply (channel, &id), ==, CELL_ERROR_NO_METHOD);
        }
    }
}

static void
crowd_close (Crowd *crowd)
{
  for (guint i = 0; i < CROWD; i++)
    {
      for (guint k = 0; k < EACH; k++)
        raw_channel_clear (&crowd->channels[i][k]);
      raw_close (&crowd->raw[i]);
    }
}

static gboolean
comes_through (HostFixture *fixture, const char *cell)
{
  CellBus *bus = cell_open (fixture->socket);
  gboolean good = FALSE;

  {
    cell_auto SequenceNext next = sequence_next (cell_bind (bus, Sequence, cell), .who = 1, .number = 0);

    good = next.result.status == CELL_OK;
  }
  cell_close (bus);
  return good;
}

/* TRUE: others were served while it had answered nobody.  FALSE: they were not, or its time was over before it could be seen. */
static gboolean
try_late (HostFixture *fixture)
{
  g_autoptr (HostCell) cell = host_fixture_load (fixture, "sequence", "late", NULL);
  g_autofree Crowd *crowd = g_new0 (Crowd, 1);
  HostCellInfo info;
  gboolean through;
  gint64 since;

  host_fixture_eject (cell);
  host_cell_describe (cell, &info);
  crowd_open (crowd, fixture->socket);
  since = g_get_monotonic_time ();
  g_assert_no_errno (kill (info.pid, SIGSTOP));
  crowd_press (crowd);
  through = comes_through (fixture, "here") && comes_through (fixture, "there");
  kill (info.pid, SIGCONT);
  through &= g_get_monotonic_time () - since < STANDS_US;
  if (through)
    crowd_assert_served (crowd);
  crowd_close (crowd);
  host_cell_stop (cell, HOST_STOP_BY_FORCE, NULL);
  return through;
}

/* A cell's process has seconds to answer the host for each caller that comes.  One that takes them, and has accomplices who come
 * all the time, keeps nobody from other cells. */
static void
test_late (HostFixture *fixture, gconstpointer data)
{
  g_autoptr (HostCell) here = NULL, there = NULL;
  gboolean through = FALSE;

  (void) data;
  if (!host_fixture_has_sandbox ())
    return;
  here = host_fixture_load (fixture, "sequence", "here", NULL);
  there = host_fixture_load (fixture, "sequence", "there", NULL);
  host_fixture_eject (there);
  for (guint i = 0; i < ATTEMPTS && !through; i++)
    through = try_late (fixture);
  g_assert_true (through);
}

/* ---- who comes and goes while a process stands -------------------------------------------------------------------- */

#define PASSING 6000u           /* more than there may be messages that a process has not read */

typedef struct
{
  HostFixture host;
  gboolean armed;
  gboolean stay;
  _Atomic gboolean stops;       /* the process, when it hears of the first who has stayed */
  _Atomic gint64 stopped;       /* monotonic µs; 0: it has not */
  Raw raw;
  RawChannel channels[EACH];
} Passing;

static void
come_and_go (const char *socket, const char *cell)
{
  Raw raw = raw_greeted (socket);

  for (guint i = 0; i < PASSING; i++)
    {
      RawChannel channel;

      g_assert_true (raw_begin (&raw, cell, 0, &channel));
      raw_send (&raw, WIRE_CLOSE, &(WireRef) { channel.body.channel }, NULL, 0, NULL, 0);
      raw_channel_clear (&channel);
    }
  raw_close (&raw);
}

static guint
count_mapped (HostCell *cell)
{
  guint n = 0;

  pthread_mutex_lock (&cell->lock);
  for (guint i = 0; i < cell->links->len; i++)
    n += ((Link *) g_ptr_array_index (cell->links, i))->mapped;
  pthread_mutex_unlock (&cell->lock);
  return n;
}

static void
come_and_stay (Passing *scene, const char *name)
{
  g_autoptr (HostCell) cell = host_find (scene->host.host, name, NULL);
  gint64 until = g_get_monotonic_time () + 3 * PATIENCE_US;

  scene->raw = raw_greeted (scene->host.socket);
  for (guint i = 0; i < EACH; i++)
    g_assert_true (raw_begin (&scene->raw, name, 0, &scene->channels[i]));
  while (count_mapped (cell) < EACH)
    {
      g_assert_cmpint (g_get_monotonic_time (), <, until);
      g_thread_yield ();
    }
}

/* The old process has given everything and stands; the new one dies of what it is told next. */
static void
pass_by (const char *cell, const char *step, GPid child, gpointer data)
{
  Passing *scene = data;

  if (g_str_equal (step, "attach a caller") && atomic_exchange (&scene->stops, FALSE))
    {
      kill (child, SIGSTOP);
      scene->stopped = g_get_monotonic_time ();
    }
  if (!scene->armed || !g_str_equal (step, "restore its state"))
    return;
  scene->armed = FALSE;
  if (scene->stay)
    come_and_stay (scene, cell);
  else
    come_and_go (scene->host.socket, cell);
  scene->stops = scene->stay;
  kill (child, SIGKILL);
}

/* They are nothing that it was told of, and when it goes on nothing is to be read. */
static void
test_come_and_go (void)
{
  Passing scene = { .host = { .on_step = pass_by, .on_step_data = &scene } };
  g_autoptr (GError) error = NULL;
  HostCellInfo before, after;
  HostCell *cell;

  if (!host_fixture_has_sandbox ())
    return;
  host_fixture_set_up (&scene.host, NULL);
  cell = host_fixture_load (&scene.host, "sequence", NULL, NULL);
  host_fixture_eject (cell);
  g_assert_true (comes_through (&scene.host, "sequence"));
  host_cell_describe (cell, &before);
  scene.armed = TRUE;
  g_assert_false (relocate_restart (cell, &error));
  g_assert_false (scene.armed);
  g_assert_error (error, CELL_ERROR_DOMAIN, -CELL_ERROR_CRASHED);
  {
    CellBus *bus = cell_open (scene.host.socket);
    cell_auto SequenceTotals totals = sequence_totals (cell_bind (bus, Sequence, "sequence"));

    g_assert_cmpint (totals.result.status, ==, CELL_OK);
    g_assert_cmpuint (totals.calls, ==, 1);
    cell_close (bus);
  }
  host_cell_describe (cell, &after);
  g_assert_cmpint (after.pid, ==, before.pid);
  g_assert_cmpuint (after.restarts, ==, 0);
  host_cell_unref (cell);
  host_fixture_tear_down (&scene.host, NULL);
}

/* TRUE: the move was over while the process had answered for nobody.  FALSE: its time was over before that could be seen. */
static gboolean
try_come_and_stay (void)
{
  Passing scene = { .stay = TRUE, .host = { .on_step = pass_by, .on_step_data = &scene } };
  g_autoptr (GError) error = NULL;
  HostCellInfo before;
  gint64 until;
  gboolean in_time;
  HostCell *cell;

  host_fixture_set_up (&scene.host, NULL);
  cell = host_fixture_load (&scene.host, "sequence", NULL, NULL);
  host_fixture_eject (cell);
  g_assert_true (comes_through (&scene.host, "sequence"));
  host_cell_describe (cell, &before);
  scene.armed = TRUE;
  g_assert_false (relocate_restart (cell, &error));
  for (until = g_get_monotonic_time () + 3 * PATIENCE_US; scene.stopped == 0; g_thread_yield ())
    g_assert_cmpint (g_get_monotonic_time (), <, until);
  kill (before.pid, SIGCONT);
  in_time = g_get_monotonic_time () - scene.stopped < STANDS_US;
  if (in_time)
    raw_follow (&scene.raw, scene.channels, EACH);
  for (guint i = 0; i < EACH; i++)
    {
      uint64_t id;

      if (in_time)
        {
          g_assert_true (raw_request (&scene.raw, &scene.channels[i], 0xfffe, 1, "", 0));
          g_assert_cmpint (raw_reply (&scene.channels[i], &id), ==, CELL_ERROR_NO_METHOD);
        }
      raw_channel_clear (&scene.channels[i]);
    }
  raw_close (&scene.raw);
  host_cell_unref (cell);
  host_fixture_tear_down (&scene.host, NULL);
  return in_time;
}

/* A process that goes on after all may take its time for each of them, and whoever has tried to move the cell does not wait for
 * that. */
static void
test_come_and_stay (void)
{
  gboolean in_time = FALSE;

  if (!host_fixture_has_sandbox ())
    return;
  for (guint i = 0; i < ATTEMPTS && !in_time; i++)
    in_time = try_come_and_stay ();
  g_assert_true (in_time);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_log_set_always_fatal (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL);    /* that a child answers nonsense is said in the log */
  g_test_add_func ("/hostile-child/lies", test_lies);
  g_test_add ("/hostile-child/dies-at-attach", HostFixture, NULL, host_fixture_set_up, test_dies_at_attach, host_fixture_tear_down);
  g_test_add_func ("/hostile-child/dies-at-start", test_dies_at_start);
  g_test_add_func ("/hostile-child/come-and-go", test_come_and_go);
  g_test_add_func ("/hostile-child/come-and-stay", test_come_and_stay);
  g_test_add ("/hostile-child/late", HostFixture, NULL, host_fixture_set_up, test_late, host_fixture_tear_down);
  return g_test_run ();
}

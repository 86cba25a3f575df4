/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Callers that stand still or fall at the worst moment, each a process of its own: stopped in the middle of a move, killed in the
 * middle of a request.  A caller in this process has to be served all the same.
 */
#define _GNU_SOURCE
#include <glib/gstdio.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "daemon.h"
#include "host-fixture.h"
#include "membrane/ring.h"
#include "raw.h"

#define PATIENCE_US (40 * G_USEC_PER_SEC)

/* ---- callers ------------------------------------------------------------------------------------------------- */

/* Does nothing wrong; it is what happens to it. */
static void
attack_caller (const char *socket, guint32 seed)
{
  (void) seed;
  attack_call_until_the_end (socket, "moved", 100000);
}

/* Writes a request, all of it but the word that makes it one, rings, and waits to be killed. */
static void
attack_half_written (const char *socket, guint32 seed)
{
  static uint8_t payload[3000];
  const uint64_t args[2] = { 3, 0 };
  const uint32_t length = seed % 2 == 0 ? sizeof args : sizeof payload;
  Raw raw = raw_greeted (socket);
  RawChannel channel;
  Fault fault = { 0 };
  Record *record;
  uint64_t id;

  g_assert_true (raw_open (&raw, "moved", 0, &channel));
  g_assert_true (raw_request (&raw, &channel, 0xfffe, 1, "", 0));
  g_assert_cmpint (raw_reply (&channel, &id), ==, CELL_ERROR_NO_METHOD);        /* it is served */
  record = ring_reserve (&channel.out, length, &fault);
  if (record == NULL)
    g_error ("there is no room: %s", fault.message);
  memcpy (payload, args, sizeof args);
  memcpy (record->payload, payload, length);
  record_set_head (record, &(RecordHead) { .length = length, .root = sizeof args, .kind = RECORD_REQUEST, .timeout = 5000 }, 2);
  raw_ring (&raw);
  attack_is_ready ();
}

static const AttackName attacks[] = {
  { "caller", attack_caller },
  { "half-written", attack_half_written },
};

/* ---- what the tests have in common ----------------------------------------------------------------------------- */

typedef struct
{
  Daemon daemon;
  char *pause;                  /* what the cell's `pause` says */
  CellBus *bus;
  Counting mine;
} Fixture;

static void
set_up (Fixture *fixture, gconstpointer data)
{
  g_autofree char *file = g_strdup_printf ("%s/sequence.so", g_getenv ("TEST_CELLS")), *config = NULL;

  (void) data;
  daemon_start (&fixture->daemon, NULL);
  fixture->pause = g_build_filename (fixture->daemon.folder, "pause", NULL);
  config = g_strconcat ("pause=", fixture->pause, NULL);
  g_assert_cmpint (daemon_ctl (&fixture->daemon, NULL, "load", file, "moved", config, NULL), ==, 0);
  fixture->bus = cell_open (fixture->daemon.socket);
  fixture->mine = (Counting) { .sequence = cell_bind (fixture->bus, Sequence, "moved"), .who = 1 };
}

static void
move (Fixture *fixture, const char *how)
{
  g_autofree char *said = NULL;

  if (daemon_ctl (&fixture->daemon, &said, how, "moved", NULL) != 0)
    g_error ("%s: %s", how, said);
}

static void
tear_down (Fixture *fixture, gconstpointer data)
{
  (void) data;
  cell_close (fixture->bus);
  move (fixture, "unload");             /* with all that is kept for it */
  daemon_stop (&fixture->daemon);
  g_free (fixture->pause);
}

static void
call (Fixture *fixture, unsigned n)
{
  for (; n > 0; n--)
    counting_single (&fixture->mine);
  g_assert_cmpstr (fixture->mine.wrong, ==, "");
}

static char *
pause_file (Fixture *fixture, const char *which)
{
  return g_strconcat (fixture->pause, which, NULL);
}

/* From now on saving does not wait. */
static void
let_it_save (Fixture *fixture)
{
  g_autofree char *until = pause_file (fixture, ".until");

  g_assert_true (g_file_set_contents (until, "", 0, NULL));
}

static guint64
check_order (Fixture *fixture)
{
  cell_auto SequenceTotals totals = sequence_totals (fixture->mine.sequence);

  g_assert_cmpstr (totals.result.message, ==, NULL);
  g_assert_cmpuint (totals.skipped, ==, 0);
  g_assert_cmpuint (totals.repeated, ==, 0);
  return totals.calls;
}

/* ---- stopped in the middle of a move ----------------------------------------------------------------------------- */

static gboolean
is_stopped (GPid pid)
{
  g_autofree char *path = g_strdup_printf ("/proc/%d/stat", (int) pid), *line = NULL;

  g_assert_true (g_file_get_contents (path, &line, NULL, NULL));
  return strstr (line, ") T ") != NULL;
}

static void
wait_for_file (const char *path)
{
  gint64 until = g_get_monotonic_time () + PATIENCE_US;

  while (!g_file_test (path, G_FILE_TEST_EXISTS))
    {
      g_assert_cmpint (g_get_monotonic_time (), <, until);
      g_usleep (500);
    }
}

static void
stop_process (GPid pid)
{
  gint64 until = g_get_monotonic_time () + PATIENCE_US;

  kill (pid, SIGSTOP);
  while (!is_stopped (pid))
    {
      g_assert_cmpint (g_get_monotonic_time (), <, until);
      g_usleep (100);
    }
}

static gpointer
eject_main (gpointer data)
{
  move (data, "eject");
  return NULL;
}

/* The cell's old place serves no more, and its new one not yet: then a caller who waits for answers is stopped.  The move goes on,
 * and others are served before he is. */
static void
test_stopped (Fixture *fixture, gconstpointer data)
{
  g_autofree char *begun = pause_file (fixture, ".begun"), *until = pause_file (fixture, ".until");
  Attack attack;
  GPid pid;

  (void) data;
  if (!host_fixture_has_sandbox ())
    return;
  attack = attack_start (&fixture->daemon, "caller", 1);
  pid = attack_pid (&attack);
  attack_wait_ready (&attack);
  for (unsigned round = 0; round < 4; round++)
    {
      GThread *thread = g_thread_new ("eject", eject_main, fixture);

      wait_for_file (begun);
      stop_process (pid);
      let_it_save (fixture);
      g_thread_join (thread);
      call (fixture, 2000);
      /* Also through a second move. */
      if (round % 2 == 1)
        {
          move (fixture, "absorb");
          call (fixture, 500);
        }
      g_assert_true (is_stopped (pid));
      kill (pid, SIGCONT);
      if (round % 2 == 0)
        move (fixture, "absorb");
      g_assert_no_errno (g_unlink (begun));
      g_assert_no_errno (g_unlink (until));
    }
  let_it_save (fixture);
  attack_end (&attack);
  check_order (fixture);
}

/* ---- killed in the middle of a request ----------------------------------------------------------------------------- */

static guint
count_mappings (Daemon *daemon)
{
  g_autofree char *path = g_strdup_printf ("/proc/%d/maps", (int) daemon->pid), *text = NULL;
  guint n = 0;

  g_assert_true (g_file_get_contents (path, &text, NULL, NULL));
  for (const char *at = text; (at = strstr (at, "/memfd:cell-")) != NULL; at++)
    n++;
  return n;
}

static void
wait_for_mappings (Daemon *daemon, guint most)
{
  gint64 until = g_get_monotonic_time () + PATIENCE_US;
  guint n;

  while ((n = count_mappings (daemon)) > most)
    {
      if (g_get_monotonic_time () > until)
        g_error ("the host has mapped %u pieces of channels and should have %u", n, most);
      g_usleep (1000);
    }
}

/* What was not committed was not sent.  It goes with its writer, whether the cell moves before or after his end or not at all. */
static void
test_half_written (Fixture *fixture, gconstpointer data)
{
  static const struct { const char *before, *after; } moves[] = {
    { NULL, "eject" }, { "absorb", NULL }, { "eject", NULL }, { NULL, "absorb" }, { NULL, NULL }
  };
  Daemon *daemon = &fixture->daemon;
  unsigned n_calls = 100;
  guint n_mappings;

  (void) data;
  if (!host_fixture_has_sandbox ())
    return;
  let_it_save (fixture);
  call (fixture, 100);
  move (fixture, "eject");
  move (fixture, "absorb");
  n_mappings = count_mappings (daemon);
  for (unsigned round = 0; round < 15; round++, n_calls += 300)
    {
      const char *before = moves[round % G_N_ELEMENTS (moves)].before, *after = moves[round % G_N_ELEMENTS (moves)].after;
      Attack attack = attack_start (daemon, "half-written", round);

      attack_wait_ready (&attack);
      call (fixture, 100);
      if (before != NULL)
        move (fixture, before);
      call (fixture, 100);
      kill (attack_pid (&attack), SIGKILL);
      g_assert_true (g_subprocess_wait (attack.process, NULL, NULL));
      g_clear_object (&attack.process);
      if (after != NULL)
        move (fixture, after);
      call (fixture, 100);
    }
  g_assert_cmpuint (check_order (fixture), ==, n_calls);
  wait_for_mappings (daemon, n_mappings);
}

int
main (int argc, char **argv)
{
  attack_main (argc, argv, attacks, G_N_ELEMENTS (attacks));
  g_test_init (&argc, &argv, NULL);
  g_test_add ("/hostile/moves/stopped", Fixture, NULL, set_up, test_stopped, tear_down);
  g_test_add ("/hostile/moves/half-written", Fixture, NULL, set_up, test_half_written, tear_down);
  return g_test_run ();
}

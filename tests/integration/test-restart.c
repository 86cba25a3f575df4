/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Cells whose process dies: what becomes of their callers, when they are restarted, and when they are not any more.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>

#include <cell/remote/phoenix.h>

#include "host-fixture.h"
#include "host/supervise.h"

#define HANG_MS 100
#define BEHIND 10
#define FLOOD 600

typedef struct
{
  HostFixture host;
  HostCell *phoenix;
  CellBus *bus;
  CellClient *client;           /* of the phoenix */
  gboolean skipped;
  _Atomic gboolean armed;       /* see kill_at_the_stop () */
} Scene;

/* If it is to. */
static void
kill_at_the_stop (const char *cell, const char *step, GPid child, gpointer data)
{
  Scene *scene = data;

  (void) cell;
  if (g_str_equal (step, "stop") && atomic_exchange (&scene->armed, FALSE))
    kill (child, SIGKILL);
}

static void
set_up (Scene *scene, gconstpointer data)
{
  (void) data;
  scene->host.hang_ms = HANG_MS;
  scene->host.on_step = kill_at_the_stop;
  scene->host.on_step_data = scene;
  host_fixture_set_up (&scene->host, NULL);
  scene->skipped = !host_fixture_has_sandbox ();
  scene->bus = cell_open (scene->host.socket);
  scene->client = cell_bind (scene->bus, Phoenix, "phoenix");
}

static void
tear_down (Scene *scene, gconstpointer data)
{
  (void) data;
  cell_close (scene->bus);
  host_cell_unref (scene->phoenix);
  host_fixture_tear_down (&scene->host, NULL);
}

/* A build of it, ejected; keys: what its key file says, or NULL. */
static void
begin (Scene *scene, const char *build, const char *keys)
{
  g_autoptr(GError) error = NULL;
  g_autofree char *base = g_strconcat (build, ".so", NULL), *from = g_build_filename (g_getenv ("TEST_CELLS"), base, NULL);
  g_autofree char *to = g_build_filename (scene->host.folder, "phoenix.so", NULL), *text = NULL, *bytes = NULL;
  g_autofree char *key_file = g_build_filename (scene->host.folder, "phoenix.cell", NULL);
  gsize size;

  g_file_get_contents (from, &bytes, &size, &error);
  g_assert_no_error (error);
  g_file_set_contents_full (to, bytes, (gssize) size, G_FILE_SET_CONTENTS_NONE, 0755, &error);
  g_assert_no_error (error);
  text = g_strconcat ("[Cell]\n", keys != NULL ? keys : "", NULL);
  g_file_set_contents_full (key_file, text, -1, G_FILE_SET_CONTENTS_NONE, 0644, &error);
  g_assert_no_error (error);
  scene->phoenix = host_fixture_load (&scene->host, to, NULL, NULL);
  host_fixture_eject (scene->phoenix);
}

static gint64
patience (void)
{
  return g_get_monotonic_time () + 60 * G_USEC_PER_SEC;
}

/* Its consumer is at a call of this method: it has taken the request, and not put it away. */
static gboolean
is_at (Link *link, guint number)
{
  const HalfControl *said = link->replies->control;
  uint64_t taken = atomic_load (&said->taken), released = atomic_load (&said->released);

  return taken > released && ((const Record *) (link->requests->data + (released & (link->requests->capacity - 1))))->method
         == number;
}

static void
wait_for_call (HostCell *cell, const char *method)
{
  guint number = (guint) (contract_find (cell->contract, method) - cell->contract->callables);
  gint64 until = patience ();
  gboolean there = FALSE;

  while (!there)
    {
      g_assert_cmpint (g_get_monotonic_time (), <, until);
      pthread_rwlock_rdlock (&cell->place);
      pthread_mutex_lock (&cell->lock);
      for (guint i = 0; i < cell->links->len; i++)
        there |= is_at (g_ptr_array_index (cell->links, i), number);
      pthread_mutex_unlock (&cell->lock);
      pthread_rwlock_unlock (&cell->place);
      sched_yield ();
    }
}

static void
kill_child (HostCell *cell)
{
  HostCellInfo place;

  host_cell_describe (cell, &place);
  g_assert_cmpint (place.pid, >, 0);
  g_assert_cmpint (kill (place.pid, SIGKILL), ==, 0);
}

static void
wait_for_place (HostCell *cell, CellLocation location)
{
  gint64 until = patience ();
  HostCellInfo place = { 0 };

  for (host_cell_describe (cell, &place); place.location != location; host_cell_describe (cell, &place))
    {
      g_assert_cmpint (g_get_monotonic_time (), <, until);
      sched_yield ();
    }
}

static char *
why (HostCell *cell)
{
  char *reason;

  pthread_mutex_lock (&cell->lock);
  reason = g_strdup (cell->reason);
  pthread_mutex_unlock (&cell->lock);
  return reason;
}

/* Says so, and ends it, and is answered CRASHED. */
static void
burn (Scene *scene, const char *how)
{
  cell_auto PhoenixBurn burnt = phoenix_burn (scene->client, .how = how);

  g_assert_cmpint (burnt.result.status, ==, CELL_ERROR_CRASHED);
}

static void
check_serves (Scene *scene, guint64 before)
{
  cell_auto PhoenixAdd add = phoenix_add (scene->client, .n = 1);

  g_assert_cmpstr (add.result.message, ==, NULL);
  g_assert_cmpuint (add.value, ==, before + 1);
}

/* ---- callers ------------------------------------------------------------------------------------------------------ */

/* The call that it had ends in CRASHED; those behind it, which it had not begun, and those of others are served by its
 * successor. */
static void
test_killed (Scene *scene, gconstpointer data)
{
  CellBus *bus = cell_open (scene->host.socket);
  CellClient *other = cell_bind (bus, Phoenix, "phoenix");
  PhoenixAddCall behind[BEHIND];
  HostCellInfo before, after;
  PhoenixHoldCall hold;

  if (!scene->skipped)
    {
      begin (scene, data, NULL);
      check_serves (scene, 0);
      host_cell_describe (scene->phoenix, &before);
      hold = phoenix_hold_start (scene->client, .ms = 600000);
      wait_for_call (scene->phoenix, "hold");
      for (guint i = 0; i < BEHIND; i++)
        behind[i] = phoenix_add_start (scene->client, .n = 1);
      kill_child (scene->phoenix);
      cell_auto PhoenixHold held = phoenix_hold_finish (hold);
      g_assert_cmpint (held.result.status, ==, CELL_ERROR_CRASHED);
      for (guint i = 0; i < BEHIND; i++)
        {
          cell_auto PhoenixAdd add = phoenix_add_finish (behind[i]);
          g_assert_cmpstr (add.result.message, ==, NULL);
          g_assert_cmpuint (add.value, ==, i + 1);              /* what it had counted died with it */
        }
      cell_auto PhoenixAdd add = phoenix_add (other, .n = 1);
      g_assert_cmpuint (add.value, ==, BEHIND + 1);
      host_cell_describe (scene->phoenix, &after);
      g_assert_cmpint (after.location, ==, CELL_LOCATION_CHILD);
      g_assert_cmpuint (after.restarts, ==, 1);
      g_assert_cmpuint (after.generation, >, before.generation);
      g_assert_cmpuint (after.moves, ==, before.moves);
    }
  cell_close (bus);
}

/* What is called from here on is the successor's. */
static void
kill_and_wait (HostCell *cell)
{
  gint64 until = patience ();
  HostCellInfo info = { 0 };

  for (kill_child (cell); info.restarts == 0; host_cell_describe (cell, &info))
    {
      g_assert_cmpint (g_get_monotonic_time (), <, until);
      sched_yield ();
    }
}

/* Writes over what the cell's process says of how far it has read its callers' requests. */
static void
lie (HostCell *cell, uint64_t taken, uint64_t released)
{
  pthread_mutex_lock (&cell->lock);
  for (guint i = 0; i < cell->links->len; i++)
    {
      HalfControl *said = ((Link *) g_ptr_array_index (cell->links, i))->replies->control;

      atomic_store (&said->taken, taken);
      atomic_store (&said->released, released);
    }
  pthread_mutex_unlock (&cell->lock);
}

static uint64_t
read_by (HostCell *cell)
{
  return atomic_load (&((Link *) g_ptr_array_index (cell->links, 0))->replies->control->taken);
}

/* More than there was: whoever comes next finds what comes next all the same. */
static void
test_far_ahead (Scene *scene, gconstpointer data)
{
  if (scene->skipped)
    return;
  begin (scene, data, NULL);
  check_serves (scene, 0);
  lie (scene->phoenix, 1ull << 40, 1ull << 40);
  kill_and_wait (scene->phoenix);
  for (guint64 i = 0; i < 500; i++)             /* more than once around */
    check_serves (scene, i);
}

/* Less than it had said before: the successor, which goes on from there, is not taken for a liar. */
static void
test_back (Scene *scene, gconstpointer data)
{
  PhoenixAddCall calls[FLOOD];
  uint64_t at;

  if (scene->skipped)
    return;
  begin (scene, data, NULL);
  check_serves (scene, 0);
  at = read_by (scene->phoenix);
  {
    cell_auto PhoenixBrood brooded = phoenix_brood (scene->client, .ms = 300);
    cell_auto PhoenixSay said = phoenix_say (scene->client, .text = "its caller looks at how much room there is");

    g_assert_cmpstr (brooded.result.message, ==, NULL);
    g_assert_cmpstr (said.result.message, ==, NULL);
  }
  lie (scene->phoenix, at + 64, at);
  kill_and_wait (scene->phoenix);
  /* More than there is room for, while the first call is made once more. */
  for (guint i = 0; i < FLOOD; i++)
    calls[i] = phoenix_add_start (scene->client, .n = 1);
  for (guint i = 0; i < FLOOD; i++)
    {
      cell_auto PhoenixAdd add = phoenix_add_finish (calls[i]);

      g_assert_cmpstr (add.result.message, ==, NULL);
    }
}

/* What may be executed twice is, and its caller notices nothing; but not more than twice. */
static void
test_idempotent (Scene *scene, gconstpointer data)
{
  PhoenixBroodCall brood;

  if (scene->skipped)
    return;
  begin (scene, data, NULL);
  for (guint i = 0; i < 2; i++)
    {
      brood = phoenix_brood_start (scene->client, .ms = 300, .text = "again");
      wait_for_call (scene->phoenix, "brood");
      kill_child (scene->phoenix);
      cell_auto PhoenixBrood done = phoenix_brood_finish (brood);
      g_assert_cmpstr (done.result.message, ==, NULL);
      g_assert_cmpstr (done.text, ==, "again");
      g_assert_cmpuint (done.begun, ==, 1);     /* by the successor */
    }
  cell_auto PhoenixBurnAgain burnt = phoenix_burn_again (scene->client, .how = "fault");
  g_assert_cmpint (burnt.result.status, ==, CELL_ERROR_CRASHED);
  check_serves (scene, 0);
  g_assert_cmpuint (host_fixture_restarts (scene->phoenix), ==, 4);
}

/* Nothing is sent anew, and nothing has to be: what a child has forgotten its callers have not. */
typedef struct
{
  guint64 n, missed;
} Heard;

static void
on_rose (const PhoenixRose *args, uint64_t missed, void *data)
{
  Heard *heard = data;

  (void) args;
  heard->n++;
  heard->missed += missed;
}

static void
hear_one (Scene *scene, Heard *heard)
{
  guint64 before = heard->n;
  gint64 until = patience ();
  cell_auto PhoenixRise rise = phoenix_rise (scene->client);

  g_assert_cmpstr (rise.result.message, ==, NULL);
  while (heard->n == before)
    {
      g_assert_cmpint (g_get_monotonic_time (), <, until);
      cell_bus_dispatch (scene->bus, 100);
    }
}

static void
test_subscribers (Scene *scene, gconstpointer data)
{
  Heard heard = { 0 };

  if (scene->skipped)
    return;
  begin (scene, data, "RestartWindow=1\n");
  g_assert_cmpint (phoenix_on_rose (scene->client, on_rose, &heard), ==, CELL_OK);
  hear_one (scene, &heard);
  g_assert_cmpuint (heard.missed, ==, 0);
  for (guint i = 1; i <= 2; i++)
    {
      kill_child (scene->phoenix);
      check_serves (scene, 0);          /* by the successor */
      hear_one (scene, &heard);
      g_assert_cmpuint (heard.missed, ==, i);   /* nobody knows how many there were: at least one, to be careful */
    }
}

/* ---- why it ended, and what follows from that ----------------------------------------------------------------------- */

typedef struct
{
  const char *keys, *how, *says;
  gboolean restarted;
} Ending;

static const Ending endings[] = {
  { NULL, "fault", "killed by SIGSEGV (Segmentation fault)", TRUE },
  { NULL, "7", "ended (exit status 7)", TRUE },
  { "Restart=permanent\n", "0", "ended (exit status 0)", TRUE },
  { "Restart=transient\n", "0", "ended (exit status 0), and it is transient", FALSE },
  { "Restart=transient\n", "3", "ended (exit status 3)", TRUE },
  { "Restart=temporary\n", "divide", "killed by SIGFPE (Floating point exception), and it is temporary", FALSE },
  { "RestartIntensity=0\n", "abort", "it failed: its process was killed by SIGABRT", FALSE },
};

static void
test_ending (Scene *scene, gconstpointer data)
{
  const Ending *ending = data;
  g_autofree char *reason = NULL;

  if (scene->skipped)
    return;
  begin (scene, "phoenix", ending->keys);
  burn (scene, ending->how);
  wait_for_place (scene->phoenix, ending->restarted ? CELL_LOCATION_CHILD : CELL_LOCATION_DEAD);
  reason = why (scene->phoenix);
  g_assert_nonnull (strstr (reason, ending->says));
  if (ending->restarted)
    check_serves (scene, 0);
  else
    {
      cell_auto PhoenixAdd last = phoenix_add (scene->client, .n = 1), add = phoenix_add (scene->client, .n = 1);
      g_assert_cmpint (last.result.status, ==, CELL_ERROR_GONE);
      g_assert_cmpint (add.result.status, ==, CELL_ERROR_GONE);
      g_assert_nonnull (strstr (add.result.message, ending->says));
    }
}

/* Two are allowed, so that the third is the last; and who calls meanwhile waits. */
static void
test_intensity (Scene *scene, gconstpointer data)
{
  g_autofree char *reason = NULL;

  (void) data;
  if (scene->skipped)
    return;
  begin (scene, "phoenix", "RestartIntensity=2\nRestartWindow=600\n");
  for (guint i = 0; i < 3; i++)
    {
      burn (scene, "fault");
      if (i < 2)
        check_serves (scene, 0);
    }
  wait_for_place (scene->phoenix, CELL_LOCATION_DEAD);
  reason = why (scene->phoenix);
  g_assert_nonnull (strstr (reason, "it failed"));
  g_assert_nonnull (strstr (reason, "SIGSEGV"));
  g_assert_nonnull (strstr (reason, "after 2 restarts within 600 s"));
  g_assert_cmpuint (host_fixture_restarts (scene->phoenix), ==, 2);
}

/* Those of before the window do not count. */
static void
test_window (Scene *scene, gconstpointer data)
{
  (void) data;
  if (scene->skipped)
    return;
  begin (scene, "phoenix", "RestartIntensity=1\nRestartWindow=1\n");
  for (guint i = 0; i < 3; i++)
    {
      cell_auto PhoenixHold past = { 0 };

      burn (scene, "fault");
      past = phoenix_hold (scene->client, .ms = 1100);
      g_assert_cmpstr (past.result.message, ==, NULL);
    }
  g_assert_cmpuint (host_fixture_restarts (scene->phoenix), ==, 3);
}

static void
test_delays (void)
{
  guint most = 0;

  g_assert_cmpuint (supervise_delay (0, 1), ==, 0);
  g_assert_cmpuint (supervise_delay (1, 1), ==, 0);
  for (guint n = 2; n < 100; n++)
    {
      guint least = supervise_delay (n, 0), now = supervise_delay (n, 1);

      g_assert_cmpuint (least, >, 0);
      g_assert_cmpuint (now, >=, most);
      g_assert_cmpuint (now, ==, least * 3);
      most = now;
    }
  g_assert_cmpuint (most, ==, 15000);
}

/* It is called, hangs, and is restarted, which its caller may or may not live to see. */
static void
check_hung (Scene *scene, const char *seconds)
{
  g_autofree char *wanted = g_strdup_printf ("it hung: hang had not ended %s s after its deadline", seconds), *reason = NULL;

  cell_set_timeout (scene->client, 1000);
  cell_auto PhoenixHang hang = phoenix_hang (scene->client);
  g_assert_true (hang.result.status == CELL_ERROR_CRASHED || hang.result.status == CELL_ERROR_DEADLINE);
  cell_set_timeout (scene->client, 60000);
  check_serves (scene, 0);
  reason = why (scene->phoenix);
  g_assert_cmpstr (reason, ==, wanted);
}

/* The deadline is over, its caller may have left, and its process is ended for that. */
static void
test_hung (Scene *scene, gconstpointer data)
{
  if (scene->skipped)
    return;
  begin (scene, data, NULL);
  check_hung (scene, "0.1");
}

/* Its caller has left long before the time comes to say that it hangs. */
static void
test_hung_and_left (Scene *scene, gconstpointer data)
{
  g_autofree char *reason = NULL;
  gint64 until = patience ();
  CellClient *other;
  CellBus *bus;

  (void) data;
  if (scene->skipped)
    return;
  begin (scene, "phoenix", "Watchdog=4\n");
  bus = cell_open (scene->host.socket);
  other = cell_bind (bus, Phoenix, "phoenix");
  cell_set_timeout (other, 100);
  cell_auto PhoenixHang hang = phoenix_hang (other);
  g_assert_cmpint (hang.result.status, ==, CELL_ERROR_DEADLINE);
  cell_close (bus);
  while (host_fixture_restarts (scene->phoenix) == 0)
    {
      g_assert_cmpint (g_get_monotonic_time (), <, until);
      g_usleep (10000);
    }
  check_serves (scene, 0);
  reason = why (scene->phoenix);
  g_assert_cmpstr (reason, ==, "it hung: hang had not ended 4.0 s after its deadline");
}

/* Others who come meanwhile are let in, and wait for what comes of it. */
static void
test_hung_and_others (Scene *scene, gconstpointer data)
{
  CellBus *bus = cell_open (scene->host.socket), *later = cell_open (scene->host.socket);
  CellClient *hanging = cell_bind (bus, Phoenix, "phoenix"), *other = cell_bind (later, Phoenix, "phoenix");

  if (!scene->skipped)
    {
      begin (scene, data, NULL);
      cell_set_timeout (hanging, 4000);         /* it would have had so long, and leaves at once */
      phoenix_hang_start (hanging);
      wait_for_call (scene->phoenix, "hang");
    }
  cell_close (bus);
  if (!scene->skipped)
    {
      cell_set_timeout (other, 60000);
      cell_auto PhoenixAdd add = phoenix_add (other, .n = 1);
      g_assert_cmpstr (add.result.message, ==, NULL);
      g_assert_cmpuint (add.value, ==, 1);
    }
  cell_close (later);
}

/* Its key file says how long that may be, and how much it may take. */
static void
test_bounds (Scene *scene, gconstpointer data)
{
  struct rlimit memory = { 0 };
  HostCellInfo place;

  (void) data;
  if (scene->skipped)
    return;
  begin (scene, "phoenix", "Watchdog=1\nMemory=64\n");
  host_cell_describe (scene->phoenix, &place);
  g_assert_cmpint (prlimit (place.pid, RLIMIT_DATA, NULL, &memory), ==, 0);
#if !defined __SANITIZE_ADDRESS__ && !defined __SANITIZE_THREAD__
  g_assert_cmpuint (memory.rlim_max, ==, 64u << 20);
#endif
  check_hung (scene, "1.0");
}

/* ---- an end that is asked for ------------------------------------------------------------------------------------------ */

typedef struct
{
  const char *build;
  gboolean ejected, at_the_end;         /* of the host */
  guint ms;                             /* longer than a move would wait for it, or than a cell is given that nobody waits for */
} Drain;

static const Drain drains[] = {
  { "phoenix", TRUE, FALSE, 2500 }, { "phoenix-many", TRUE, TRUE, 2500 }, { "phoenix", TRUE, FALSE, 5500 },
  { "phoenix-loop", FALSE, FALSE, 5500 },
};

/* What it has accepted, and that is more than what it is at, is answered for as long as its callers wait, and its state is kept. */
static void
test_drained (Scene *scene, gconstpointer data)
{
  const Drain *drain = data;
  g_autoptr(GError) error = NULL;
  g_autofree char *path = g_build_filename (scene->host.folder, "phoenix.so", NULL);
  CellBus *bus = NULL;
  PhoenixHoldCall hold;
  PhoenixAddCall behind;

  if (scene->skipped)
    return;
  begin (scene, drain->build, NULL);
  if (!drain->ejected)
    host_fixture_absorb (scene->phoenix);
  check_serves (scene, 0);
  cell_set_timeout (scene->client, 30000);
  hold = phoenix_hold_start (scene->client, .ms = drain->ms);
  wait_for_call (scene->phoenix, "hold");
  behind = phoenix_add_start (scene->client, .n = 1);
  g_clear_pointer (&scene->phoenix, host_cell_unref);
  if (drain->at_the_end)
    host_fixture_stop (&scene->host);
  else
    g_assert_true (host_unload (scene->host.host, "phoenix", &error));
  g_assert_no_error (error);
  cell_auto PhoenixHold held = phoenix_hold_finish (hold);
  g_assert_cmpstr (held.result.message, ==, NULL);
  cell_auto PhoenixAdd added = phoenix_add_finish (behind);
  g_assert_cmpstr (added.result.message, ==, NULL);
  if (drain->at_the_end)
    host_fixture_start (&scene->host);
  scene->phoenix = host_fixture_load (&scene->host, path, NULL, NULL);
  bus = cell_open (scene->host.socket);
  {
    cell_auto PhoenixAdd add = phoenix_add (cell_bind (bus, Phoenix, "phoenix"), .n = 0);

    g_assert_cmpstr (add.result.message, ==, NULL);
    g_assert_cmpuint (add.value, ==, 2);
  }
  cell_close (bus);
}

/* One that does not come to an end goes on; by force it is ended, and what that cost is said. */
static void
test_not_drained (Scene *scene, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  g_autofree char *lost = NULL;
  HostCellInfo before, after;
  PhoenixHangCall hang;
  CellBus *bus;

  (void) data;
  if (scene->skipped)
    return;
  begin (scene, "phoenix-many", "Watchdog=600\n");
  check_serves (scene, 0);
  host_cell_describe (scene->phoenix, &before);
  hang = phoenix_hang_start (scene->client);
  wait_for_call (scene->phoenix, "hang");
  g_assert_false (host_unload (scene->host.host, "phoenix", &error));
  g_assert_cmpint (cell_status_from_error (error), ==, CELL_ERROR_BUSY);
  g_assert_cmpstr (error->message, ==,
                   "cell phoenix is in a call that has not ended after 5.0 s; it goes on, and 'cellctl unload --force phoenix' "
                   "ends it all the same");
  g_clear_error (&error);
  host_cell_describe (scene->phoenix, &after);
  g_assert_cmpint (after.pid, ==, before.pid);
  bus = cell_open (scene->host.socket);
  {
    cell_auto PhoenixAdd add = phoenix_add (cell_bind (bus, Phoenix, "phoenix"), .n = 1);

    g_assert_cmpstr (add.result.message, ==, NULL);
    g_assert_cmpuint (add.value, ==, 2);
  }
  cell_close (bus);
  g_assert_true (host_unload_by_force (scene->host.host, "phoenix", &lost, &error));
  g_assert_no_error (error);
  g_assert_cmpstr (lost, ==,
                   "cell phoenix is in a call that has not ended after 5.0 s; its process was killed, and its state is lost");
  cell_auto PhoenixHang hung = phoenix_hang_finish (hang);
  g_assert_cmpint (hung.result.status, !=, CELL_OK);
  g_assert_null (host_find (scene->host.host, "phoenix", NULL));
}

/* Its process dies when it is to stop: it does not go on, and is not gone either. */
static void
test_dies_at_the_stop (Scene *scene, gconstpointer data)
{
  g_autoptr(GError) error = NULL;

  (void) data;
  if (scene->skipped)
    return;
  begin (scene, "phoenix", NULL);
  check_serves (scene, 0);
  scene->armed = TRUE;
  g_assert_false (host_unload (scene->host.host, "phoenix", &error));
  g_assert_false (scene->armed);
  g_assert_cmpint (cell_status_from_error (error), ==, CELL_ERROR_CRASHED);
  g_assert_true (g_str_has_prefix (error->message, "cell phoenix: its process died when it was to stop: "));
  g_assert_true (g_str_has_suffix (error->message, "; its key file says whether it is restarted, and 'cellctl unload --force "
                                                   "phoenix' ends it all the same"));
  check_serves (scene, 0);
}

/* ---- while it is being restarted ------------------------------------------------------------------------------------- */

/* Who comes then waits with the others. */
static void
test_newcomers (Scene *scene, gconstpointer data)
{
  if (scene->skipped)
    return;
  begin (scene, data, "RestartIntensity=100\n");
  for (guint i = 0; i < 4; i++)
    {
      CellBus *bus = cell_open (scene->host.socket);
      CellClient *other = cell_bind (bus, Phoenix, "phoenix");

      burn (scene, "fault");
      cell_auto PhoenixAdd add = phoenix_add (other, .n = 5);
      g_assert_cmpstr (add.result.message, ==, NULL);
      g_assert_cmpuint (add.value, ==, 5);
      cell_close (bus);
      check_serves (scene, 5);
    }
}

/* Nobody waits for what does not come any more. */
static void
test_unloaded (Scene *scene, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  PhoenixAddCall call;

  (void) data;
  if (scene->skipped)
    return;
  begin (scene, "phoenix", "RestartIntensity=1000\nRestartWindow=600\n");
  cell_set_timeout (scene->client, 60000);
  for (guint i = 0; i < 4; i++)
    burn (scene, "fault");
  /* The next one is so many milliseconds away that this is there first, if the machine is not very slow; then it is served. */
  call = phoenix_add_start (scene->client, .n = 1);
  g_assert_true (host_unload (scene->host.host, "phoenix", &error));
  g_assert_no_error (error);
  cell_auto PhoenixAdd add = phoenix_add_finish (call);
  g_assert_true (add.result.status == CELL_ERROR_GONE || add.result.status == CELL_OK);
}

static void
add (const char *path, gconstpointer data, void (*test) (Scene *scene, gconstpointer data))
{
  g_test_add (path, Scene, data, set_up, test, tear_down);
}

/* Of each threading. */
static void
add_three (const char *path, void (*test) (Scene *scene, gconstpointer data))
{
  static const char *const builds[] = { "phoenix", "phoenix-loop", "phoenix-many" };

  for (guint i = 0; i < G_N_ELEMENTS (builds); i++)
    {
      g_autofree char *whole = g_strconcat (path, "/", builds[i], NULL);

      add (whole, builds[i], test);
    }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_log_set_always_fatal (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL);    /* a warning that a child died is what is wanted */
  add_three ("/restart/killed", test_killed);
  add ("/restart/cursors/far-ahead", "phoenix", test_far_ahead);
  add ("/restart/cursors/back", "phoenix", test_back);
  add_three ("/restart/idempotent", test_idempotent);
  add_three ("/restart/subscribers", test_subscribers);
  for (guint i = 0; i < G_N_ELEMENTS (endings); i++)
    {
      g_autofree char *path = g_strdup_printf ("/restart/ending/%u", i);

      add (path, &endings[i], test_ending);
    }
  add ("/restart/intensity", NULL, test_intensity);
  add ("/restart/window", NULL, test_window);
  g_test_add_func ("/restart/delays", test_delays);
  add_three ("/restart/hung", test_hung);
  add ("/restart/waits/hung-and-left", NULL, test_hung_and_left);
  add ("/restart/waits/hung-and-others", "phoenix", test_hung_and_others);
  add ("/restart/waits/hung-and-others/loop", "phoenix-loop", test_hung_and_others);
  add ("/restart/bounds", NULL, test_bounds);
  for (guint i = 0; i < G_N_ELEMENTS (drains); i++)
    {
      g_autofree char *path = g_strdup_printf ("/restart/waits/drained/%s%s/%u", drains[i].build,
                                               drains[i].ejected ? "" : "/in-process", drains[i].ms);

      add (path, &drains[i], test_drained);
    }
  add ("/restart/waits/not-drained", NULL, test_not_drained);
  add ("/restart/dies-at-the-stop", NULL, test_dies_at_the_stop);
  add_three ("/restart/newcomers", test_newcomers);
  add ("/restart/unloaded", NULL, test_unloaded);
  return g_test_run ();
}

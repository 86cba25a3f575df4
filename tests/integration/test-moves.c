/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What a move carries: calls that are kept and calls that were made, signals, blobs, timers.
 */
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include <cell/remote/alarm.h>
#include <cell/remote/ledger.h>
#include <cell/remote/sequence.h>
#include <cell/remote/traveller.h>

#include "host-fixture.h"
#include "host/connection.h"

typedef struct
{
  HostFixture host;
  HostCell *traveller, *alarm, *ledger;
  CellBus *bus;
  CellClient *client;           /* of the traveller */
  CellBus *leaves;              /* goes while its cell moves; NULL: nobody does */
  gboolean comes, in_vain;      /* somebody comes while it does; and the move fails */
  GThread *newcomer;
  gboolean hangs;               /* while it moves it is asked for what does not end */
  TravellerHangCall hang;
  gboolean skipped;
} Scene;

static guint
count_callers (HostCell *cell)
{
  guint n;

  pthread_mutex_lock (&cell->lock);
  n = cell->links->len;
  pthread_mutex_unlock (&cell->lock);
  return n;
}

/* So many callers have mapped what they write to, and their calls are looked at. */
static void
wait_mapped (HostCell *cell, guint wanted)
{
  gint64 until = g_get_monotonic_time () + 60 * G_USEC_PER_SEC;

  for (guint n = 0; n < wanted;)
    {
      g_assert_cmpint (g_get_monotonic_time (), <, until);
      sched_yield ();
      n = 0;
      pthread_mutex_lock (&cell->lock);
      for (guint i = 0; i < cell->links->len; i++)
        n += ((Link *) g_ptr_array_index (cell->links, i))->mapped;
      pthread_mutex_unlock (&cell->lock);
    }
}

static gpointer
newcomer_main (gpointer data)
{
  Scene *scene = data;
  CellBus *bus = cell_open (scene->host.socket);
  cell_auto TravellerTotals totals = traveller_totals (cell_bind (bus, Traveller, "traveller"));

  g_assert_cmpstr (totals.result.message, ==, NULL);
  cell_close (bus);
  return NULL;
}

/* Its cell is held, and its successor has been told of its callers. */
static void
on_step (const char *cell, const char *step, GPid child, gpointer data)
{
  Scene *scene = data;
  gint64 until = g_get_monotonic_time () + 60 * G_USEC_PER_SEC;
  HostCell *left;

  if (strcmp (step, "restore its state") != 0)
    return;
  if (scene->comes && scene->newcomer == NULL)
    {
      scene->newcomer = g_thread_new ("newcomer", newcomer_main, scene);
      wait_mapped (scene->traveller, 2);
      if (scene->in_vain)
        kill (child, SIGKILL);
    }
  if (scene->hangs)
    {
      scene->hangs = FALSE;
      scene->hang = traveller_hang_start (scene->client);
    }
  if (scene->leaves == NULL)
    return;
  left = host_find (scene->host.host, cell, NULL);
  cell_close (g_steal_pointer (&scene->leaves));
  while (count_callers (left) > 1)
    {
      g_assert_cmpint (g_get_monotonic_time (), <, until);
      sched_yield ();
    }
  host_cell_unref (left);
}

static void
set_up (Scene *scene, gconstpointer data)
{
  scene->host.on_step = on_step;
  scene->host.on_step_data = scene;
  host_fixture_set_up (&scene->host, NULL);
  scene->skipped = !host_fixture_has_sandbox ();
  scene->alarm = host_fixture_load (&scene->host, "../../examples/alarm/alarm", NULL, NULL);
  scene->ledger = host_fixture_load (&scene->host, g_getenv ("TEST_LEDGER"), NULL, NULL);
  if (data != NULL)
    scene->traveller = host_fixture_load (&scene->host, data, "traveller", NULL);
  scene->bus = cell_open (scene->host.socket);
  scene->client = cell_bind (scene->bus, Traveller, "traveller");
}

static void
tear_down (Scene *scene, gconstpointer data)
{
  (void) data;
  cell_close (scene->bus);
  host_cell_unref (scene->traveller);
  host_cell_unref (scene->alarm);
  host_cell_unref (scene->ledger);
  host_fixture_tear_down (&scene->host, NULL);
}

static void
move (HostCell *cell, guint n)
{
  if (n % 2 == 0)
    host_fixture_eject (cell);
  else
    host_fixture_absorb (cell);
}

static TravellerTotals
totals_of (Scene *scene)
{
  TravellerTotals totals = traveller_totals (scene->client);

  g_assert_cmpstr (totals.result.message, ==, NULL);
  return totals;
}

/* ---- callers --------------------------------------------------------------------------------------------- */

#define CROWD 100                       /* more than a new process is told of before it has answered */

static void
call_all (CellClient **clients)
{
  for (guint i = 0; i < CROWD; i++)
    {
      cell_auto TravellerTotals totals = traveller_totals (clients[i]);

      g_assert_cmpstr (totals.result.message, ==, NULL);
    }
}

/* How often its callers outside have rung the host, which takes nothing out of the bell while it listens. */
static guint64
count_rings (HostCell *cell)
{
  const Link *link = g_ptr_array_index (cell->links, 0);
  g_autofree char *path = g_strdup_printf ("/proc/self/fdinfo/%d", link->connection->host_bell), *text = NULL;
  const char *count;

  g_assert_true (g_file_get_contents (path, &text, NULL, NULL));
  count = strstr (text, "eventfd-count:");
  g_assert_nonnull (count);
  return g_ascii_strtoull (count + strlen ("eventfd-count:"), NULL, 16);
}

/* Out, to another sandbox, and back.  Those who come after it has gone out do not ring for where it was. */
static void
test_crowd (Scene *scene, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  CellClient *clients[CROWD];
  guint64 rings;

  (void) data;
  if (scene->skipped)
    return;
  for (guint i = 0; i < CROWD; i++)
    clients[i] = cell_bind (scene->bus, Traveller, "traveller");
  call_all (clients);
  g_assert_cmpuint (count_callers (scene->traveller), >=, CROWD);
  rings = count_rings (scene->traveller);
  host_fixture_eject (scene->traveller);
  call_all (clients);
  g_assert_cmpuint (count_rings (scene->traveller), ==, rings);
  g_assert_true (relocate_restart (scene->traveller, &error));
  g_assert_no_error (error);
  call_all (clients);
  host_fixture_absorb (scene->traveller);
  call_all (clients);
  for (guint i = 0; i < CROWD; i++)
    cell_client_close (clients[i]);
}

/* From one sandbox to another; the first one's process stands when he comes. */
static void
test_comes (Scene *scene, gconstpointer data)
{
  g_autoptr(GError) error = NULL;

  (void) data;
  if (scene->skipped)
    return;
  host_fixture_eject (scene->traveller);
  traveller_say (scene->client, .n = 1);
  scene->comes = TRUE;
  g_assert_true (relocate_restart (scene->traveller, &error) != scene->in_vain);
  g_assert_true ((error != NULL) == scene->in_vain);
  g_thread_join (scene->newcomer);
  cell_auto TravellerTotals totals = traveller_totals (scene->client);
  g_assert_cmpuint (totals.spoken, ==, 1);
  g_assert_cmpuint (host_fixture_restarts (scene->traveller), ==, 0);
}

/* The new process dies, and the first one goes on. */
static void
test_comes_in_vain (Scene *scene, gconstpointer data)
{
  scene->in_vain = TRUE;
  test_comes (scene, data);
}

/* What has waited for a process takes its time, and whoever comes is listened to meanwhile. */
static void
test_comes_late (Scene *scene, gconstpointer data)
{
  HostCellInfo info;

  (void) data;
  if (scene->skipped)
    return;
  traveller_say (scene->client, .n = 1);
  scene->hangs = TRUE;
  host_fixture_eject (scene->traveller);
  scene->newcomer = g_thread_new ("newcomer", newcomer_main, scene);
  wait_mapped (scene->traveller, 2);
  host_fixture_wait_taken (scene->traveller, 1);
  host_cell_describe (scene->traveller, &info);
  g_assert_cmpint (kill (info.pid, SIGKILL), ==, 0);
  cell_auto TravellerHang hang = traveller_hang_finish (scene->hang);
  g_assert_cmpint (hang.result.status, ==, CELL_ERROR_CRASHED);
  g_thread_join (scene->newcomer);
  host_cell_describe (scene->traveller, &info);
  g_test_message ("%s", info.reason);
  g_assert_null (strstr (info.reason, "listen"));
}

static uint64_t
calls_of (CellClient *sequence)
{
  cell_auto SequenceTotals totals = sequence_totals (sequence);

  g_assert_cmpstr (totals.result.message, ==, NULL);
  return totals.calls;
}

/* What it asked before is not asked again in its name.  It has read no answer: where it was is known from its cell alone, and that
 * has moved on since its successor was told of it. */
static void
test_leaves (Scene *scene, gconstpointer data)
{
  HostCell *sequence = host_fixture_load (&scene->host, "sequence", NULL, NULL);
  CellClient *stays = cell_bind (scene->bus, Sequence, "sequence");

  (void) data;
  if (!scene->skipped)
    {
      CellClient *leaves;

      scene->leaves = cell_open (scene->host.socket);
      leaves = cell_bind (scene->leaves, Sequence, "sequence");
      for (uint64_t i = 0; i < 3; i++)
        {
          cell_auto SequenceNext other = sequence_next (stays, .who = 2, .number = i);

          sequence_next_start (leaves, .who = 1, .number = i);
          g_assert_cmpstr (other.result.message, ==, NULL);
        }
      for (gint64 until = g_get_monotonic_time () + 60 * G_USEC_PER_SEC; calls_of (stays) < 6;)
        g_assert_cmpint (g_get_monotonic_time (), <, until);
      g_assert_cmpuint (count_callers (sequence), ==, 2);
      host_fixture_eject (sequence);
      g_assert_null (scene->leaves);
      {
        for (uint64_t i = 3; i < 1000; i++)
          {
            cell_auto SequenceNext next = sequence_next (stays, .who = 2, .number = i);

            g_assert_cmpstr (next.result.message, ==, NULL);
          }
        cell_auto SequenceTotals totals = sequence_totals (stays);
        g_assert_cmpuint (totals.calls, ==, 1003);
        g_assert_cmpuint (totals.repeated, ==, 0);
      }
    }
  cell_client_close (stays);
  host_cell_unref (sequence);
}

/* ---- calls that it keeps -------------------------------------------------------------------------------- */

#define KEPT 20

static CellBlob *
blob_of (Scene *scene, guint n)
{
  CellBlob *blob = cell_bus_blob (scene->bus, 1000 + n);

  g_assert_nonnull (blob);
  memset (cell_blob_data (blob), (int) n, 1000 + n);
  return blob;
}

static TravellerKeepCall
keep (Scene *scene, guint n)
{
  g_autofree char *text = g_strdup_printf ("kept call %u", n);
  CellBlob *blob = blob_of (scene, n);
  uint32_t list[3] = { n, 10 * n, 100 * n };
  TravellerKeepCall call = traveller_keep_start (scene->client, .text = text, .data = blob, .list = list, .n_list = 3);

  cell_blob_unref (blob);
  return call;
}

static void
check_kept (TravellerKeepCall call, guint n)
{
  g_autofree char *text = g_strdup_printf ("kept call %u", n);
  cell_auto TravellerKeep reply = traveller_keep_finish (call);
  const guint8 *bytes;

  g_assert_cmpstr (reply.result.message, ==, NULL);
  g_assert_cmpstr (reply.text, ==, text);
  g_assert_cmpuint (reply.sum, ==, 111 * n);
  g_assert_cmpuint (cell_blob_size (reply.data), ==, 1000 + n);
  bytes = cell_blob_data (reply.data);
  for (guint i = 0; i < 1000 + n; i++)
    g_assert_cmpuint (bytes[i], ==, n);
}

/* Kept in one place, answered in another: by id, with text, arrays and blobs. */
static void
test_kept (Scene *scene, gconstpointer data)
{
  TravellerKeepCall calls[KEPT];

  (void) data;
  if (scene->skipped)
    return;
  for (guint moves = 1; moves <= 4; moves++)
    {
      for (guint i = 0; i < KEPT; i++)
        {
          if (i % (KEPT / moves) == KEPT / moves / 2)
            move (scene->traveller, scene->traveller->moves);
          calls[i] = keep (scene, i);
        }
      move (scene->traveller, scene->traveller->moves);
      cell_auto TravellerAnswer answer = traveller_answer (scene->client);
      g_assert_cmpstr (answer.result.message, ==, NULL);
      g_assert_cmpuint (answer.answered, ==, KEPT);
      for (guint i = 0; i < KEPT; i++)
        check_kept (calls[i], i);
    }
}

/* The calls of a cell in the host, of a program that has gone, and those that are kept when the child is killed. */
static void
test_kept_by_whom (Scene *scene, gconstpointer data)
{
  CellBus *other = cell_open (scene->host.socket);
  CellClient *client = cell_bind (other, Traveller, "traveller");
  TravellerKeepCall mine;

  (void) data;
  if (scene->skipped)
    {
      cell_close (other);
      return;
    }
  traveller_keep_start (client, .text = "of one who goes");
  mine = keep (scene, 7);
  host_fixture_eject (scene->traveller);
  cell_close (other);
  host_fixture_absorb (scene->traveller);
  host_fixture_eject (scene->traveller);
  cell_auto TravellerAnswer answer = traveller_answer (scene->client);
  g_assert_cmpuint (answer.answered, >=, 1);
  check_kept (mine, 7);
}

/* It does not save their ids: they are answered before it moves, or it stays. */
static void
test_forgotten (Scene *scene, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  TravellerKeepCall call;

  (void) data;
  scene->traveller = host_fixture_load (&scene->host, "traveller", NULL, "forget", "yes", NULL);
  if (scene->skipped)
    return;
  for (guint i = 0; i < 2; i++)
    {
      call = keep (scene, i);
      traveller_where (scene->client);  /* it has been kept */
      g_assert_false (i == 0 ? relocate_eject (scene->traveller, &error) : relocate_absorb (scene->traveller, &error));
      g_assert_cmpint (cell_status_from_error (error), ==, CELL_ERROR_BUSY);
      g_assert_nonnull (strstr (error->message, "keep"));
      g_clear_error (&error);
      cell_auto TravellerAnswer answer = traveller_answer (scene->client);
      g_assert_cmpuint (answer.answered, ==, 1);
      check_kept (call, i);
      move (scene->traveller, i);
    }
}

/* Answered by timers of its own main loop, which are set again wherever it is. */
static void
test_timers (Scene *scene, gconstpointer data)
{
  CellClient *alarm = cell_bind (scene->bus, Alarm, "alarm");
  AlarmWaitCall calls[KEPT];
  guint moves = 0;

  (void) data;
  if (scene->skipped)
    return;
  for (guint i = 0; i < KEPT; i++)
    {
      g_autofree char *text = g_strdup_printf ("%u", i);

      calls[i] = alarm_wait_start (alarm, .ms = 10 * i, .text = text);
      if (i % 7 == 3)
        move (scene->alarm, moves++);
    }
  move (scene->alarm, moves++);
  for (guint i = 0; i < KEPT; i++)
    {
      g_autofree char *text = g_strdup_printf ("%u", i);
      cell_auto AlarmWait reply = alarm_wait_finish (calls[i]);

      g_assert_cmpstr (reply.result.message, ==, NULL);
      g_assert_cmpstr (reply.text, ==, text);
      g_assert_cmpint (reply.late, >=, 0);
    }
}

/* ---- calls that it makes -------------------------------------------------------------------------------- */

/* They are answered soon: the move waits, and what their completions do moves along. */
static void
test_asked (Scene *scene, gconstpointer data)
{
  (void) data;
  if (scene->skipped)
    return;
  for (guint i = 0; i < 4; i++)
    {
      g_autoptr(GError) error = NULL;

      traveller_ask (scene->client, .n = 50, .ms = 1);
      /* On a busy machine they may take longer than a move waits for them. */
      while (!(i % 2 == 0 ? relocate_eject (scene->traveller, &error) : relocate_absorb (scene->traveller, &error)))
        {
          g_assert_cmpint (cell_status_from_error (error), ==, CELL_ERROR_BUSY);
          g_clear_error (&error);
        }
      TravellerTotals totals = totals_of (scene);
      g_assert_cmpuint (totals.asked, ==, 50 * (i + 1));
      g_assert_cmpuint (totals.answered, ==, totals.asked);
    }
}

/* One is not answered in time: the move fails and names it, and all is as before. */
static void
test_asked_in_vain (Scene *scene, gconstpointer data)
{
  (void) data;
  if (scene->skipped)
    return;
  for (guint i = 0; i < 2; i++)
    {
      g_autoptr(GError) error = NULL;
      cell_auto TravellerWhere before = traveller_where (scene->client);

      /* Longer than it takes to prepare a sandbox, on any machine. */
      traveller_ask (scene->client, .n = 1, .ms = 4000);
      g_assert_false (i == 0 ? relocate_eject (scene->traveller, &error) : relocate_absorb (scene->traveller, &error));
      g_assert_cmpint (cell_status_from_error (error), ==, CELL_ERROR_BUSY);
      g_assert_nonnull (strstr (error->message, "wait of cell alarm"));
      cell_auto TravellerWhere after = traveller_where (scene->client);
      g_assert_cmpint (after.pid, ==, before.pid);
      while (totals_of (scene).answered <= i)
        continue;                       /* it is still answered */
      move (scene->traveller, i);
    }
}

#define FAR 3000000u                    /* ms: beyond the end of any test */

/* Each ends at its own deadline, whatever else is awaited: by the first of them the timer is set, and after it for the next. */
static void
check_deadlines (Scene *scene, const guint32 *ms, guint n, guint n_near)
{
  gint64 patience = g_get_monotonic_time () + 60 * G_USEC_PER_SEC;
  guint n_ended = 0;

  traveller_await (scene->client, .ms = ms, .n_ms = n);
  while (n_ended < n_near)
    {
      cell_auto TravellerEnded ended = traveller_ended (scene->client);

      g_assert_cmpstr (ended.result.message, ==, NULL);
      g_assert_cmpuint (ended.otherwise, ==, 0);
      g_assert_cmpint (g_get_monotonic_time (), <, patience);
      n_ended = ended.n_ms;
      g_assert_cmpuint (n_ended, <=, n_near);
      for (guint i = 0; i < n_ended; i++)
        g_assert_cmpuint (ended.ms[i], <, FAR);
      for (guint i = 1; i < n_ended; i++)
        g_assert_cmpuint (ended.ms[i - 1], <, ended.ms[i]);
      g_usleep (1000);
    }
  traveller_give_up (scene->client);
}

/* data: the file.  Each time another cell, whose channel has room for the answers that never come. */
static void
test_deadlines (Scene *scene, gconstpointer data)
{
  static const guint32 orders[][4] = { { FAR, 1500, 100, FAR }, { 100, 1500, FAR, FAR }, { 1500, FAR, 100, FAR },
                                       { 1, FAR, 500, FAR } };

  for (guint i = 0; i < G_N_ELEMENTS (orders) * (scene->skipped ? 1 : 2); i++)
    {
      g_autoptr(GError) error = NULL;

      scene->traveller = host_fixture_load (&scene->host, data, "traveller", NULL);
      scene->client = cell_bind (scene->bus, Traveller, "traveller");
      if (i >= G_N_ELEMENTS (orders))
        host_fixture_eject (scene->traveller);
      check_deadlines (scene, orders[i % G_N_ELEMENTS (orders)], 4, 2);
      g_assert_true (host_unload (scene->host.host, "traveller", &error));
      g_assert_no_error (error);
      g_clear_pointer (&scene->traveller, host_cell_unref);
    }
}

static void
test_deadlines_serial (Scene *scene, gconstpointer data)
{
  (void) data;
  test_deadlines (scene, "traveller");
}

static void
test_deadlines_loop (Scene *scene, gconstpointer data)
{
  (void) data;
  test_deadlines (scene, "traveller-loop");
}

static void
test_deadlines_many (Scene *scene, gconstpointer data)
{
  (void) data;
  test_deadlines (scene, "traveller-many");
}

/* ---- signals ---------------------------------------------------------------------------------------------- */

typedef struct
{
  guint64 heard, missed, last;
} Hearing;

static void
on_said (const TravellerSaid *args, uint64_t missed, void *data)
{
  Hearing *hearing = data;

  /* Everything is accounted for, and in order. */
  g_assert_cmpuint (args->number, ==, hearing->last + missed + 1);
  hearing->last = args->number;
  hearing->heard++;
  hearing->missed += missed;
}

static void
hear (Scene *scene, Hearing *hearing, guint64 until)
{
  gint64 patience = g_get_monotonic_time () + 20 * G_USEC_PER_SEC;

  while (hearing->last < until)
    {
      cell_bus_dispatch (scene->bus, 100);
      g_assert_cmpint (g_get_monotonic_time (), <, patience);
    }
}

/* A subscription goes along, and so does what its subscriber has missed. */
static void
test_subscribers (Scene *scene, gconstpointer data)
{
  Hearing hearing = { 0 };
  guint64 said = 0;

  (void) data;
  if (scene->skipped)
    return;
  g_assert_cmpint (traveller_on_said (scene->client, on_said, &hearing), ==, CELL_OK);
  for (guint i = 0; i < 6; i++)
    {
      guint n = i % 3 == 1 ? 3000 : 10;         /* 3,000 are more than fit when nobody reads */

      traveller_say (scene->client, .n = n);
      said += n;
      move (scene->traveller, i);
      if (i == 3)
        {
          /* What it hears in one place it can stop hearing in another. */
          traveller_say (scene->client, .n = 1);
          hear (scene, &hearing, ++said);
          traveller_off_said (scene->client);
          move (scene->traveller, 0);
          move (scene->traveller, 1);
          traveller_say (scene->client, .n = 5);
          cell_bus_dispatch (scene->bus, 0);
          g_assert_cmpuint (hearing.last, ==, said);
          hearing.last = said += 5;
          g_assert_cmpint (traveller_on_said (scene->client, on_said, &hearing), ==, CELL_OK);
        }
    }
  traveller_say (scene->client, .n = 1);
  hear (scene, &hearing, said + 1);
  g_assert_cmpuint (hearing.missed, >, 0);
}

/* It says much, and then nothing more: the last of it is heard, and the gap before it; and it goes along where the cell is sent. */
static void
test_last_words (Scene *scene, gconstpointer data)
{
  Hearing hearing = { 0 };
  CellBus *other = cell_open (scene->host.socket);
  CellClient *client = cell_bind (other, Traveller, "traveller");
  guint64 said = 0;

  (void) data;
  g_assert_cmpint (traveller_on_said (scene->client, on_said, &hearing), ==, CELL_OK);
  for (guint i = 0; i < (scene->skipped ? 1 : 3); i++)
    {
      for (guint k = 0; k < 4; k++)
        {
          cell_auto TravellerSay say = traveller_say (k % 2 == 0 ? scene->client : client, .n = 5000);

          g_assert_cmpstr (say.result.message, ==, NULL);
          said += 5000;
          if (k == 3 && i % 2 == 0 && !scene->skipped)
            host_fixture_eject (scene->traveller);
          hear (scene, &hearing, said);
        }
      if (i % 2 == 1)
        host_fixture_absorb (scene->traveller);
    }
  g_assert_cmpuint (hearing.missed, >, 0);
  g_assert_cmpuint (hearing.heard + hearing.missed, ==, said);
  cell_close (other);
}

/* What it has subscribed to itself is subscribed to by whoever takes its place; nothing is heard twice, and a gap is told of. */
static void
test_subscribed (Scene *scene, gconstpointer data)
{
  CellClient *ledger = cell_bind (scene->bus, Ledger, "ledger");
  guint64 sent = 0;

  (void) data;
  scene->traveller = host_fixture_load (&scene->host, "traveller", NULL, "listen", "yes", NULL);
  if (scene->skipped)
    return;
  for (guint i = 0; i < 4; i++)
    {
      move (scene->traveller, i);
      for (guint n = 0; n < 10; n++, sent++)
        {
          cell_auto LedgerTransfer t = ledger_transfer (ledger, .from = 1, .to = 2, .amount = 1);
          g_assert_cmpstr (t.result.message, ==, NULL);
        }
      while (totals_of (scene).heard < sent)
        continue;
      g_assert_cmpuint (totals_of (scene).heard, ==, sent);
      g_assert_cmpuint (totals_of (scene).gaps, ==, i + 1);
    }
}

/* What it listens to goes away: wherever it is, it lives on, and may move; where it comes to it hears again. */
static void
test_abandoned (Scene *scene, gconstpointer data)
{
  (void) data;
  scene->traveller = host_fixture_load (&scene->host, "traveller", NULL, "listen", "yes", NULL);
  if (scene->skipped)
    return;
  for (guint i = 0; i < 4; i++)
    {
      g_autoptr(GError) error = NULL;
      CellClient *ledger;
      guint64 before;

      g_assert_true (host_unload (scene->host.host, "ledger", &error));
      g_assert_no_error (error);
      before = totals_of (scene).heard;
      host_cell_unref (scene->ledger);
      scene->ledger = host_fixture_load (&scene->host, g_getenv ("TEST_LEDGER"), NULL, NULL);
      move (scene->traveller, i);
      ledger = cell_bind (scene->bus, Ledger, "ledger");
      cell_auto LedgerTransfer t = ledger_transfer (ledger, .from = 1, .to = 2, .amount = 1);
      g_assert_cmpstr (t.result.message, ==, NULL);
      while (totals_of (scene).heard == before)
        continue;
    }
}

/* ---- blobs ------------------------------------------------------------------------------------------------- */

static void
test_blobs (Scene *scene, gconstpointer data)
{
  TravellerEchoCall calls[KEPT];

  (void) data;
  if (scene->skipped)
    return;
  for (guint moves = 0; moves < 4; moves++)
    {
      for (guint i = 0; i < KEPT; i++)
        {
          CellBlob *blob = blob_of (scene, i);

          calls[i] = traveller_echo_start (scene->client, .data = blob);
          cell_blob_unref (blob);
          if (i == KEPT / 2)
            move (scene->traveller, moves);
        }
      for (guint i = 0; i < KEPT; i++)
        {
          cell_auto TravellerEcho reply = traveller_echo_finish (calls[i]);

          g_assert_cmpstr (reply.result.message, ==, NULL);
          g_assert_cmpuint (cell_blob_size (reply.data), ==, 1000 + i);
          g_assert_cmpuint (((const guint8 *) cell_blob_data (reply.data))[999], ==, i);
        }
    }
}

/* ---- what is counted of it -------------------------------------------------------------------------------------- */

static HostCellStats
stats_of (Scene *scene, const char *method)
{
  const Contract *contract = scene->traveller->contract;
  HostCellStats stats = { 0 };

  for (guint i = 0; i < contract->n_callables; i++)
    if (g_str_equal (contract->callables[i].name, method))
      host_cell_read_stats (scene->traveller, i, &stats);
  return stats;
}

/* Calls, failures and latencies are counted on, wherever it is and when it is no more. */
static void
test_stats (Scene *scene, gconstpointer data)
{
  HostCellStats stats;
  guint64 calls, errors;
  guint n;

  (void) data;
  if (scene->skipped)
    return;
  for (n = 0; n < 3; n++)
    {
      for (guint i = 0; i < 100; i++)
        {
          cell_auto TravellerWhere where = traveller_where (scene->client);
          cell_auto TravellerFail fail = traveller_fail (scene->client);

          g_assert_cmpstr (where.result.message, ==, NULL);
          g_assert_cmpint (fail.result.status, ==, CELL_ERROR_INVALID);
        }
      stats = stats_of (scene, "where");
      g_assert_cmpuint (stats.calls, ==, 100 * (n + 1));
      g_assert_cmpuint (stats.errors, ==, 0);
      g_assert_cmpuint (stats.samples, >=, 6 * (n + 1));
      g_assert_cmpuint (stats_of (scene, "fail").errors, ==, 100 * (n + 1));
      host_cell_count_calls (scene->traveller, &calls, &errors);
      g_assert_cmpuint (calls, ==, 200 * (n + 1));
      g_assert_cmpuint (errors, ==, 100 * (n + 1));
      /* What the process writes it cannot take away: the host reads it. */
      if (n == 1)
        g_assert_cmpint (ftruncate (child_get_stats (scene->traveller->child)->fd, 0), ==, -1);
      move (scene->traveller, n);
    }
  g_assert_cmpstr (host_cell_location_name (scene->traveller), ==, "sandbox");
  g_assert_true (host_unload (scene->host.host, "traveller", NULL));
  g_assert_cmpuint (stats_of (scene, "where").calls, ==, 100 * n);
}

/* ---- what is set for it ---------------------------------------------------------------------------------------- */

/* Whatever the user has written is what the cell reads, wherever it is; and what is too much is refused. */
static void
test_settings (Scene *scene, gconstpointer data)
{
  static const char *const set[][2] = { { "motd", "two\nsecret=lines\n" }, { "secret", "kept" }, { "a=b\nc", "=" }, { "none", "" },
                                        { "ä", "ö" } };
  g_autofree char *large = g_strnfill (70000, 'x'), *path = g_build_filename (g_getenv ("TEST_CELLS"), "traveller.so", NULL);
  g_autoptr(GHashTable) config = g_hash_table_new (g_str_hash, g_str_equal);
  g_autoptr(GError) error = NULL;

  (void) data;
  if (scene->skipped)
    return;
  scene->traveller = host_fixture_load (&scene->host, "traveller", NULL, set[0][0], set[0][1], set[1][0], set[1][1], set[2][0],
                                        set[2][1], set[3][0], set[3][1], set[4][0], set[4][1], NULL);
  for (guint i = 0; i < 3; i++)
    {
      for (guint k = 0; k < G_N_ELEMENTS (set); k++)
        {
          cell_auto TravellerSetting setting = traveller_setting (scene->client, .key = set[k][0]);

          g_assert_cmpstr (setting.result.message, ==, NULL);
          g_assert_cmpstr (setting.value, ==, set[k][1]);
        }
      move (scene->traveller, i);
    }
  g_hash_table_insert (config, (char *) "key", large);
  g_assert_null (host_load (scene->host.host, path, "large", config, &error));
  g_assert_cmpint (cell_status_from_error (error), ==, CELL_ERROR_TOO_LARGE);
}

static void
add (const char *path, const char *cell, void (*test) (Scene *scene, gconstpointer data))
{
  g_test_add (path, Scene, cell, set_up, test, tear_down);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_log_set_always_fatal (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL);
  add ("/moves/crowd", "traveller", test_crowd);
  add ("/moves/leaves", NULL, test_leaves);
  add ("/moves/comes/well", "traveller", test_comes);
  add ("/moves/comes/in-vain", "traveller", test_comes_in_vain);
  add ("/moves/comes/late", "traveller", test_comes_late);
  add ("/moves/kept/serial", "traveller", test_kept);
  add ("/moves/kept/loop", "traveller-loop", test_kept);
  add ("/moves/kept/many", "traveller-many", test_kept);
  add ("/moves/kept/by-whom", "traveller", test_kept_by_whom);
  add ("/moves/kept/forgotten", NULL, test_forgotten);
  add ("/moves/timers", NULL, test_timers);
  add ("/moves/asked/serial", "traveller", test_asked);
  add ("/moves/asked/loop", "traveller-loop", test_asked);
  add ("/moves/asked/many", "traveller-many", test_asked);
  add ("/moves/waits/asked-in-vain", "traveller", test_asked_in_vain);
  add ("/moves/waits/deadlines/serial", NULL, test_deadlines_serial);
  add ("/moves/waits/deadlines/loop", NULL, test_deadlines_loop);
  add ("/moves/waits/deadlines/many", NULL, test_deadlines_many);
  add ("/moves/subscribers/serial", "traveller", test_subscribers);
  add ("/moves/subscribers/loop", "traveller-loop", test_subscribers);
  add ("/moves/subscribers/many", "traveller-many", test_subscribers);
  add ("/moves/last-words/serial", "traveller", test_last_words);
  add ("/moves/last-words/loop", "traveller-loop", test_last_words);
  add ("/moves/last-words/many", "traveller-many", test_last_words);
  add ("/moves/subscribed", NULL, test_subscribed);
  add ("/moves/abandoned", NULL, test_abandoned);
  add ("/moves/stats/serial", "traveller", test_stats);
  add ("/moves/stats/many", "traveller-many", test_stats);
  add ("/moves/settings", NULL, test_settings);
  add ("/moves/blobs", "traveller", test_blobs);
  return g_test_run ();
}

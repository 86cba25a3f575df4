/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Who breaks a rule is named: the supervisor is told which cell, which generation, which process, which rule and where.  The channel
 * ends, and nothing else does.
 */
#define _GNU_SOURCE
#include <unistd.h>

#include <cell/remote/sequence.h>

#include "host-fixture.h"
#include "membrane/wait.h"
#include "raw.h"
#include "rogue-remote.h"
#include "victim-remote.h"

#define PATIENCE_US (20 * G_USEC_PER_SEC)

typedef struct
{
  HostFixture fixture;
  GAsyncQueue *told; /* of Told */
} Scene;

typedef struct
{
  Offence offence; /* its strings are ours */
} Told;

static void
on_offence (const Offence *offence, gpointer data)
{
  Scene *scene = data;
  Told *told = g_new0 (Told, 1);

  told->offence = *offence;
  told->offence.cell = g_strdup (offence->cell);
  told->offence.by = g_strdup (offence->by);
  g_async_queue_push (scene->told, told);
}

static void
told_free (gpointer data)
{
  Told *told = data;

  g_free ((char *) told->offence.cell);
  g_free ((char *) told->offence.by);
  g_free (told);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC (Told, told_free)

static Told *
wait_told (Scene *scene)
{
  Told *told = g_async_queue_timeout_pop (scene->told, PATIENCE_US);

  g_assert_nonnull (told);
  return told;
}

static void
set_up (Scene *scene, gconstpointer data)
{
  scene->told = g_async_queue_new_full (told_free);
  scene->fixture.on_offence = on_offence;
  scene->fixture.on_offence_data = scene;
  host_fixture_set_up (&scene->fixture, data);
}

static void
tear_down (Scene *scene, gconstpointer data)
{
  host_fixture_tear_down (&scene->fixture, data);
  g_assert_cmpint (g_async_queue_length (scene->told), ==, 0);
  g_async_queue_unref (scene->told);
}

/* ---- a client ------------------------------------------------------------------------------------------------- */

typedef struct
{
  const char *rule;
  uint32_t word; /* where in the record */
  RecordHead head;
} Lie;

static void
send_lie (Raw *raw, RawChannel *channel, const Lie *lie)
{
  static const uint8_t payload[64] = { [16] = 0xff, [17] = 0xff }; /* a string that lies outside */
  Fault fault = { 0 };
  Record *record = ring_reserve (&channel->out, sizeof payload, &fault);

  g_assert_nonnull (record);
  memcpy (record->payload, payload, sizeof payload);
  record_set_head (record, &lie->head, 1);
  ring_commit (&channel->out, record, sizeof payload);
  raw_ring (raw);
}

/* What the host says of the channel that has ended. */
static void
expect_gone (Raw *raw, uint64_t channel)
{
  uint64_t until = monotonic_ns () + 20000000000u;
  gboolean gone = FALSE;

  while (!gone)
    {
      WireMessage message;
      Fault fault = { 0 };

      g_assert_cmpint (wire_receive (raw->socket, &message, until, &fault), ==, 1);
      gone = message.header.type == WIRE_MOVED && message.body.moved.channel == channel && message.body.moved.gone;
      wire_message_clear (&message);
    }
}

static void
assert_serves (Raw *raw, RawChannel *channel, uint64_t id)
{
  const uint64_t args[2] = { 15, 0 };
  uint64_t answered;

  g_assert_true (raw_request (raw, channel, 0, id, args, sizeof args));
  g_assert_cmpint (raw_reply (channel, &answered), ==, CELL_OK);
  g_assert_cmpuint (answered, ==, id);
}

static void
test_client (Scene *scene, gconstpointer data)
{
  static const Lie lies[] = {
    { "record-kind", offsetof (Record, kind), { .length = 64, .root = 16, .kind = RECORD_REPLY } },
    { "record-length", offsetof (Record, length), { .length = 1u << 30, .root = 16, .kind = RECORD_REQUEST } },
    { "record-root", offsetof (Record, root), { .length = 64, .root = 65, .kind = RECORD_REQUEST } },
    { "reference-bounds", sizeof (Record), { .length = 64, .root = 24, .kind = RECORD_REQUEST, .method = 1 } },
  };
  g_autoptr (HostCell) cell = host_fixture_load (&scene->fixture, "sequence", NULL, NULL);
  Raw raw = raw_greeted (scene->fixture.socket);
  RawChannel other;

  (void) data;
  g_assert_true (raw_open (&raw, "sequence", 0, &other));
  for (guint i = 0; i < G_N_ELEMENTS (lies); i++)
    {
      RawChannel channel;
      g_autoptr (Told) told = NULL;

      g_assert_true (raw_open (&raw, "sequence", 0, &channel));
      assert_serves (&raw, &channel, 1);
      send_lie (&raw, &channel, &lies[i]);
      told = wait_told (scene);
      g_assert_cmpstr (told->offence.cell, ==, "sequence");
      g_assert_cmpuint (told->offence.generation, ==, cell->generation);
      g_assert_cmpstr (told->offence.by, ==, NULL);
      g_assert_cmpint (told->offence.pid, ==, getpid ());
      g_assert_cmpstr (told->offence.rule, ==, lies[i].rule);
      g_assert_cmpuint (told->offence.at, ==, HALF_PAGE + record_size (16) + lies[i].word);
      expect_gone (&raw, channel.body.channel);
      assert_serves (&raw, &other, i + 1);
      raw_channel_clear (&channel);
    }
  raw_channel_clear (&other);
  raw_close (&raw);
}

/* Room for answers that there is not. */
static void
test_cursor (Scene *scene, gconstpointer data)
{
  g_autoptr (HostCell) cell = host_fixture_load (&scene->fixture, "sequence", NULL, NULL);
  Raw raw = raw_greeted (scene->fixture.socket);
  const uint64_t args[2] = { 15, 0 };
  g_autoptr (Told) told = NULL;
  RawChannel channel;

  (void) data;
  g_assert_true (raw_open (&raw, "sequence", 0, &channel));
  atomic_store (&channel.requests->control->released, channel.body.answered + 64);
  g_assert_true (raw_request (&raw, &channel, 0, 1, args, sizeof args));
  told = wait_told (scene);
  g_assert_cmpstr (told->offence.rule, ==, "released-cursor");
  g_assert_cmpuint (told->offence.at, ==, offsetof (HalfControl, released));
  raw_channel_clear (&channel);
  raw_close (&raw);
}

/* ---- a child --------------------------------------------------------------------------------------------------- */

/* A true answer that comes before the caller has looked takes the lie's place. */
static gboolean
lie_is_found (CellClient *rogue, CellClient *victim)
{
  cell_auto RogueAttack attack = rogue_attack (rogue, .how = "lie");
  cell_auto VictimCount lied_to = victim_count (victim);

  g_assert_cmpint (attack.result.status, ==, CELL_OK);
  g_assert_cmpint (lied_to.result.status, ==, CELL_OK);
  if (lied_to.status == CELL_OK)
    return FALSE;
  g_assert_cmpint (lied_to.status, ==, CELL_ERROR_CORRUPT);
  return TRUE;
}

static void
test_child (Scene *scene, gconstpointer data)
{
  g_autoptr (HostCell) rogue = NULL, victim = NULL;
  g_autoptr (Told) told = NULL;
  HostCellInfo info;
  CellBus *bus;

  (void) data;
  if (!host_fixture_has_sandbox ())
    return;
  rogue = host_fixture_load (&scene->fixture, g_getenv ("TEST_ROGUE"), NULL, NULL);
  victim = host_fixture_load (&scene->fixture, g_getenv ("TEST_VICTIM"), NULL, NULL);
  host_fixture_eject (rogue);
  host_cell_describe (rogue, &info);
  bus = cell_open (scene->fixture.socket);
  {
    CellClient *from_outside = cell_bind (bus, Rogue, "rogue"), *inside = cell_bind (bus, Victim, "victim");
    cell_auto VictimCount before = victim_count (inside);

    g_assert_cmpint (before.status, ==, CELL_OK);
    while (!lie_is_found (from_outside, inside))
      continue;
    told = wait_told (scene);
    g_assert_cmpstr (told->offence.cell, ==, "rogue");
    g_assert_cmpstr (told->offence.by, ==, "rogue");
    g_assert_cmpuint (told->offence.generation, ==, info.generation);
    g_assert_cmpint (told->offence.pid, ==, info.pid);
    g_assert_cmpstr (told->offence.rule, ==, "reply-kind");
    g_assert_cmpuint ((told->offence.at - offsetof (Record, kind)) % RECORD_ALIGN, ==, 0);
    /* Who decides whether it lives is told, and nothing else has happened: the other channel goes on, and there may be a new one. */
    cell_auto RogueCount count = rogue_count (from_outside);
    cell_auto VictimCount again = victim_count (inside);
    g_assert_cmpint (count.result.status, ==, CELL_OK);
    g_assert_cmpint (again.status, ==, CELL_OK);
  }
  cell_close (bus);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_log_set_always_fatal (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL); /* a warning that names the offender is what is wanted */
  g_test_add ("/offence/client", Scene, NULL, set_up, test_client, tear_down);
  g_test_add ("/offence/cursor", Scene, NULL, set_up, test_cursor, tear_down);
  g_test_add ("/offence/child", Scene, NULL, set_up, test_child, tear_down);
  return g_test_run ();
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Who breaks a rule is named: the supervisor is told which cell, which generation, which process, which rule and where.  The
 * channel ends, and nothing else does.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cell/remote/sequence.h>

#include "host-fixture.h"
#include "membrane/bell.h"
#include "membrane/wait.h"
#include "raw.h"
#include "rogue-remote.h"
#include "victim-remote.h"

#define PATIENCE_US (20 * G_USEC_PER_SEC)

typedef struct
{
  HostFixture fixture;
  GAsyncQueue *told; /* of Told */
  gboolean many;     /* there may be more than are looked at */
  char *said;        /* the first warning */
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
  told->offence.rule = g_strdup (offence->rule);
  told->offence.witness = g_strdup (offence->witness);
  g_async_queue_push (scene->told, told);
}

static void
told_free (gpointer data)
{
  Told *told = data;

  g_free ((char *) told->offence.cell);
  g_free ((char *) told->offence.by);
  g_free ((char *) told->offence.rule);
  g_free ((char *) told->offence.witness);
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

/* The host saw it, or it was told so by a process of that cell, or by a program: this one. */
static void
assert_witness (const Told *told, const char *witness, pid_t pid)
{
  g_assert_cmpstr (told->offence.witness, ==, witness);
  g_assert_cmpint (told->offence.witness_pid, ==, pid);
  g_assert_cmpint (told->offence.claimed, ==, pid != 0);
}

static pid_t
pid_of (HostCell *cell)
{
  HostCellInfo info;

  host_cell_describe (cell, &info);
  return info.pid;
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
  g_assert_true (scene->many || g_async_queue_length (scene->told) == 0);
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
  ring_announce (&channel->out, sizeof payload);
  ring_commit_far (&channel->out, record, sizeof payload);
  if (channel->callee_bell >= 0)
    bell_ring (channel->callee_bell);
  else
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

/* data: the cell is in a sandbox, whose process finds out. */
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

  if (data != NULL && !host_fixture_has_sandbox ())
    {
      raw_close (&raw);
      return;
    }
  if (data != NULL)
    host_fixture_eject (cell);
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
      assert_witness (told, data, data != NULL ? pid_of (cell) : 0);
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
  assert_witness (told, NULL, 0);
  raw_channel_clear (&channel);
  raw_close (&raw);
}

/* A caller that has read an answer which its cell's process has written after it had stopped, before the caller hears of that. */
static void
test_heard (Scene *scene, gconstpointer data)
{
  g_autoptr (HostCell) cell = NULL;
  const uint64_t args[2] = { 15, 0 };
  RawChannel channel;
  uint64_t end, id;
  Raw raw;

  (void) data;
  if (!host_fixture_has_sandbox ())
    return;
  cell = host_fixture_load (&scene->fixture, "sequence", NULL, NULL);
  raw = raw_greeted (scene->fixture.socket);
  host_fixture_eject (cell);
  g_assert_true (raw_open (&raw, "sequence", 0, &channel));
  assert_serves (&raw, &channel, 1);
  host_fixture_absorb (cell);
  end = channel.replies_at.at;
  atomic_store (&channel.requests->control->taken, end + 64);
  atomic_store (&channel.requests->control->released, end + 64);
  channel.callee_bell = -1;
  g_assert_true (raw_request (&raw, &channel, 0, 2, args, sizeof args));
  raw_follow (&raw, &channel, 1);
  g_assert_cmpuint (channel.replies_at.at, ==, end);
  g_assert_cmpint (raw_reply (&channel, &id), ==, CELL_OK);
  g_assert_cmpuint (id, ==, 2);
  ring_release (&channel.replies_at);
  assert_serves (&raw, &channel, 3);
  g_assert_null (g_async_queue_try_pop (scene->told));
  raw_channel_clear (&channel);
  raw_close (&raw);
}

/* ---- a child --------------------------------------------------------------------------------------------------- */

/* Has the rogue lie until that process has found out: a true answer that comes before the caller has looked takes the lie's place,
 * and others may be lied to as well. */
static Told *
provoke (Scene *scene, CellClient *rogue, CellClient *caller, CellStatus (*call) (CellClient *caller), pid_t witness)
{
  gint64 until = g_get_monotonic_time () + PATIENCE_US;
  Told *told = NULL;

  scene->many = TRUE;
  while (told == NULL)
    {
      cell_auto RogueAttack attack = rogue_attack (rogue, .how = "lie");
      CellStatus status = call (caller);

      g_assert_true (attack.result.status == CELL_OK || attack.result.status == CELL_ERROR_CORRUPT);
      g_assert_true (status == CELL_OK || status == CELL_ERROR_CORRUPT);
      while (told == NULL && (told = g_async_queue_try_pop (scene->told)) != NULL)
        if (told->offence.witness_pid != witness)
          g_clear_pointer (&told, told_free);
      g_assert_cmpint (g_get_monotonic_time (), <, until);
    }
  return told;
}

static CellStatus
have_victim_count (CellClient *victim)
{
  cell_auto VictimCount count = victim_count (victim);

  g_assert_cmpint (count.result.status, ==, CELL_OK);
  return count.status;
}

static CellStatus
count_rogue (CellClient *rogue)
{
  cell_auto RogueCount count = rogue_count (rogue);

  return count.result.status;
}

/* data: the victim is in a sandbox, too, and says so itself. */
static void
test_child (Scene *scene, gconstpointer data)
{
  g_autoptr (HostCell) rogue = NULL, victim = NULL;
  g_autoptr (Told) told = NULL;
  HostCellInfo info;
  CellBus *bus;

  if (!host_fixture_has_sandbox ())
    return;
  rogue = host_fixture_load (&scene->fixture, g_getenv ("TEST_ROGUE"), NULL, NULL);
  victim = host_fixture_load (&scene->fixture, g_getenv ("TEST_VICTIM"), NULL, NULL);
  host_fixture_eject (rogue);
  if (data != NULL)
    host_fixture_eject (victim);
  host_cell_describe (rogue, &info);
  bus = cell_open (scene->fixture.socket);
  {
    CellClient *from_outside = cell_bind (bus, Rogue, "rogue"), *inside = cell_bind (bus, Victim, "victim");
    cell_auto VictimCount before = victim_count (inside);

    g_assert_cmpint (before.status, ==, CELL_OK);
    told = provoke (scene, from_outside, inside, have_victim_count, data != NULL ? pid_of (victim) : 0);
    g_assert_cmpstr (told->offence.cell, ==, "rogue");
    g_assert_cmpstr (told->offence.by, ==, "rogue");
    g_assert_cmpuint (told->offence.generation, ==, info.generation);
    g_assert_cmpint (told->offence.pid, ==, info.pid);
    g_assert_cmpstr (told->offence.rule, ==, "reply-kind");
    g_assert_cmpuint ((told->offence.at - offsetof (Record, kind)) % RECORD_ALIGN, ==, 0);
    assert_witness (told, data, data != NULL ? pid_of (victim) : 0);
    /* Who decides whether it lives is told, and nothing else has happened: the other channel goes on, and there may be a new
     * one. */
    cell_auto RogueCount count = rogue_count (from_outside);
    cell_auto VictimCount again = victim_count (inside);
    g_assert_cmpint (count.result.status, ==, CELL_OK);
    g_assert_cmpint (again.result.status, ==, CELL_OK);
    g_assert_cmpint (again.status, ==, CELL_OK);
  }
  cell_close (bus);
}

/* Has the rogue leave a lie behind, which is found when its successor serves.  NULL: it was found before. */
static Told *
leave_lie (Scene *scene, HostCell *rogue, CellClient *from_outside, CellClient *inside)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (Told) told = NULL;
  pid_t liar = pid_of (rogue);

  g_assert_cmpint (have_victim_count (inside), ==, CELL_OK);
  {
    cell_auto RogueAttack attack = rogue_attack (from_outside, .how = "lie");

    g_assert_true (attack.result.status == CELL_OK || attack.result.status == CELL_ERROR_CORRUPT);
  }
  g_assert_true (relocate_restart (rogue, &error));
  g_assert_no_error (error);
  have_victim_count (inside);
  do
    {
      g_clear_pointer (&told, told_free);
      told = wait_told (scene);
    }
  while (told->offence.claimed);        /* the program was lied to as well */
  return told->offence.pid != liar ? g_steal_pointer (&told) : NULL;
}

/* What a process has left is nothing that the one after it has done. */
static void
test_former (Scene *scene, gconstpointer data)
{
  gint64 until = g_get_monotonic_time () + 3 * PATIENCE_US;
  g_autoptr (HostCell) rogue = NULL, victim = NULL;
  g_autoptr (Told) told = NULL;
  CellBus *bus;

  (void) data;
  if (!host_fixture_has_sandbox ())
    return;
  scene->many = TRUE;
  rogue = host_fixture_load (&scene->fixture, g_getenv ("TEST_ROGUE"), NULL, NULL);
  victim = host_fixture_load (&scene->fixture, g_getenv ("TEST_VICTIM"), NULL, NULL);
  host_fixture_eject (rogue);
  bus = cell_open (scene->fixture.socket);
  {
    CellClient *from_outside = cell_bind (bus, Rogue, "rogue"), *inside = cell_bind (bus, Victim, "victim");

    while (told == NULL)
      {
        g_assert_cmpint (g_get_monotonic_time (), <, until);
        told = leave_lie (scene, rogue, from_outside, inside);
      }
  }
  g_assert_cmpstr (told->offence.by, ==, "rogue");
  g_assert_cmpint (told->offence.pid, ==, 0);
  g_assert_cmpint (sched_getscheduler (pid_of (rogue)), ==, SCHED_OTHER);
  cell_close (bus);
}

/* A program is lied to: its channel to a sandbox does not pass through the host. */
static void
test_program (Scene *scene, gconstpointer data)
{
  g_autoptr (HostCell) rogue = NULL;
  g_autoptr (Told) told = NULL;
  CellBus *bus, *other_bus;

  (void) data;
  if (!host_fixture_has_sandbox ())
    return;
  rogue = host_fixture_load (&scene->fixture, g_getenv ("TEST_ROGUE"), NULL, NULL);
  host_fixture_eject (rogue);
  bus = cell_open (scene->fixture.socket);
  other_bus = cell_open (scene->fixture.socket);
  {
    CellClient *attacker = cell_bind (bus, Rogue, "rogue"), *client = cell_bind (other_bus, Rogue, "rogue");

    told = provoke (scene, attacker, client, count_rogue, getpid ());
    g_assert_cmpstr (told->offence.cell, ==, "rogue");
    g_assert_cmpstr (told->offence.by, ==, "rogue");
    g_assert_cmpint (told->offence.pid, ==, pid_of (rogue));
    g_assert_cmpstr (told->offence.rule, ==, "reply-kind");
    assert_witness (told, NULL, getpid ());
  }
  cell_close (other_bus);
  cell_close (bus);
}

/* ---- a child that lies about others ----------------------------------------------------------------------------- */

static CellStatus
have_rogue_ask (CellClient *rogue)
{
  cell_auto RogueAsk ask = rogue_ask (rogue);

  return ask.result.status;
}

/* It accuses everybody: what it says of its own caller is passed on as its claim, once, and of what is not its own nothing
 * comes. */
static void
test_slander (Scene *scene, gconstpointer data)
{
  g_autoptr (HostCell) rogue = NULL, sequence = NULL;
  g_autoptr (Told) told = NULL;
  RawChannel channel;
  CellStatus status;
  CellBus *bus;
  Raw raw;

  (void) data;
  if (!host_fixture_has_sandbox ())
    return;
  rogue = host_fixture_load (&scene->fixture, g_getenv ("TEST_ROGUE"), NULL, NULL);
  sequence = host_fixture_load (&scene->fixture, "sequence", NULL, NULL);
  host_fixture_eject (rogue);
  host_fixture_eject (sequence);
  raw = raw_greeted (scene->fixture.socket);
  g_assert_true (raw_open (&raw, "sequence", 0, &channel));
  assert_serves (&raw, &channel, 1);
  bus = cell_open (scene->fixture.socket);
  {
    CellClient *client = cell_bind (bus, Rogue, "rogue");
    cell_auto RogueAttack attack = rogue_attack (client, .how = "accuse");

    told = wait_told (scene);
    g_assert_cmpstr (told->offence.cell, ==, "rogue");
    g_assert_cmpstr (told->offence.by, ==, NULL);
    g_assert_cmpint (told->offence.pid, ==, getpid ());
    g_assert_cmpstr (told->offence.rule, ==, "record-kind");
    assert_witness (told, "rogue", pid_of (rogue));
    /* What it asks for over its connection is answered after all that it has said. */
    while ((status = have_rogue_ask (client)) == CELL_ERROR_GONE)
      continue;
    g_assert_cmpint (status, ==, CELL_OK);
  }
  assert_serves (&raw, &channel, 2);
  cell_close (bus);
  raw_channel_clear (&channel);
  raw_close (&raw);
}

/* What the host says of it: before it ends it. */
static void
on_warning (const char *domain, GLogLevelFlags level, const char *message, gpointer data)
{
  Scene *scene = data;

  g_log_default_handler (domain, level, message, NULL);
  if (scene->said == NULL)
    scene->said = g_strdup (message);
}

/* What no membrane says ends it. */
static void
test_nonsense (Scene *scene, gconstpointer data)
{
  g_autoptr (HostCell) rogue = NULL;
  struct pollfd gone = { .events = POLLIN };
  g_autofree char *expected = NULL;
  guint handler;
  CellBus *bus;

  (void) data;
  if (!host_fixture_has_sandbox ())
    return;
  rogue = host_fixture_load (&scene->fixture, g_getenv ("TEST_ROGUE"), NULL, NULL);
  host_fixture_eject (rogue);
  gone.fd = (int) syscall (SYS_pidfd_open, pid_of (rogue), 0);
  g_assert_no_errno (gone.fd);
  expected = g_strdup_printf ("the process %d of cell rogue: it says that a rule was broken that there is not; its connection ends",
                              (int) pid_of (rogue));
  handler = g_log_set_handler ("cellhost-offence", G_LOG_LEVEL_WARNING, on_warning, scene);
  bus = cell_open (scene->fixture.socket);
  {
    cell_auto RogueAttack attack = rogue_attack (cell_bind (bus, Rogue, "rogue"), .how = "nonsense");

    g_assert_cmpint (poll (&gone, 1, PATIENCE_US / 1000), ==, 1);
  }
  g_log_remove_handler ("cellhost-offence", handler);
  g_assert_cmpstr (scene->said, ==, expected);
  g_free (scene->said);
  cell_close (bus);
  close (gone.fd);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_log_set_always_fatal (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL); /* a warning that names the offender is what is wanted */
  g_test_add ("/offence/client", Scene, NULL, set_up, test_client, tear_down);
  g_test_add ("/offence/client-of-child", Scene, "sequence", set_up, test_client, tear_down);
  g_test_add ("/offence/cursor", Scene, NULL, set_up, test_cursor, tear_down);
  g_test_add ("/offence/heard", Scene, NULL, set_up, test_heard, tear_down);
  g_test_add ("/offence/child", Scene, NULL, set_up, test_child, tear_down);
  g_test_add ("/offence/former", Scene, NULL, set_up, test_former, tear_down);
  g_test_add ("/offence/child-of-child", Scene, "victim", set_up, test_child, tear_down);
  g_test_add ("/offence/program", Scene, NULL, set_up, test_program, tear_down);
  g_test_add ("/offence/slander", Scene, NULL, set_up, test_slander, tear_down);
  g_test_add ("/offence/nonsense", Scene, NULL, set_up, test_nonsense, tear_down);
  return g_test_run ();
}

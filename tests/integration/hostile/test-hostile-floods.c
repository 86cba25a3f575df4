/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Programs that take all they can get, against a real daemon: each uses up its own share, and whoever does nothing wrong goes on.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon.h"
#include "host-fixture.h"
#include "membrane/channel.h"
#include "membrane/wait.h"
#include "raw.h"

#define LINKS_MAX 512u                  /* what the documentation says */
#define LINK_BYTES_MAX (256u << 20)
#define CONNECTIONS_MAX 1024u

/* ---- bells -------------------------------------------------------------------------------------------------------- */

/* What is shared is shared with its flags: who rings must not sleep because the other has filled the bell and made it block. */
static void
attack_bells (const char *socket, guint32 seed)
{
  Raw raw = raw_greeted (socket);
  uint64_t most = UINT64_MAX - 1, count;
  RawChannel channel;
  NextArgs args = { 15, 0 };

  (void) seed;
  g_assert_true (raw_open (&raw, "sequence", 0, &channel));
  if (write (raw.bell, &most, sizeof most) < 0)
    g_test_message ("this bell cannot be filled");
  g_assert_no_errno (fcntl (raw.bell, F_SETFL, 0));
  g_assert_no_errno (fcntl (raw.host_bell, F_SETFL, 0));
  atomic_store (&channel.requests->control->waiting, WAITING_DOORBELL);
  for (unsigned i = 0; i < 100; i++)
    raw_request (&raw, &channel, (uint16_t) (i % 8), i + 1, &args, sizeof args);
  attack_is_ready ();
  /* Takes each ring away before the host can: it has been woken, and there is nothing to read. */
  g_assert_no_errno (fcntl (raw.host_bell, F_SETFL, O_NONBLOCK));
  for (unsigned i = 0; i < 20000; i++)
    {
      raw_ring (&raw);
      fcntl (raw.host_bell, F_SETFL, O_NONBLOCK);
      if (read (raw.host_bell, &count, sizeof count) < 0)
        count = 0;
      fcntl (raw.host_bell, F_SETFL, 0);
    }
  raw_close (&raw);
  raw_channel_clear (&channel);
}

/* ---- floods ------------------------------------------------------------------------------------------------------- */

static void
attack_channels (const char *socket, guint32 seed)
{
  Raw raw = raw_greeted (socket);
  RawChannel channels[LINKS_MAX];
  unsigned n = 0;
  WireOpen body = raw_open_body ("sequence", 0);

  (void) seed;
  while (n < LINKS_MAX && raw_open (&raw, "sequence", 0, &channels[n]))
    n++;
  g_assert_cmpuint (n, ==, LINKS_MAX);
  for (unsigned i = 0; i < 100; i++)
    g_assert_cmpint (raw_refusal (&raw, WIRE_OPEN, &body, NULL, 0), ==, CELL_ERROR_NO_RESOURCES);
  attack_is_ready ();
  for (unsigned i = 0; i < n; i++)
    raw_channel_clear (&channels[i]);
  raw_close (&raw);
}

/* The largest there may be, until the host has had enough: for requests, or for the replies of a cell that may say much. */
static void
take_memory (const char *socket, const char *cell, uint32_t request_capacity)
{
  Raw raw = raw_greeted (socket);
  WireOpen body = raw_open_body (cell, request_capacity);
  WireMessage answer;
  uint64_t bytes = 0;
  WireType said;

  while ((said = raw_ask (&raw, WIRE_OPEN, &body, NULL, 0, NULL, 0, &answer)) == WIRE_CHANNEL)
    {
      bytes += (uint64_t) answer.body.channel.request_capacity + answer.body.channel.reply_capacity;
      g_assert_cmpuint (bytes, <=, LINK_BYTES_MAX);
      wire_message_clear (&answer);
    }
  g_assert_cmpint (said, ==, WIRE_ERROR);
  g_assert_cmpint (answer.body.error.status, ==, CELL_ERROR_NO_RESOURCES);
  g_assert_cmpstr (answer.tail, ==, "this connection's channels would take more than 256 MiB");
  wire_message_clear (&answer);
  g_assert_cmpuint (bytes, >, LINK_BYTES_MAX / 8 * 7);
  attack_is_ready ();
  raw_close (&raw);
}

static void
attack_memory (const char *socket, guint32 seed)
{
  (void) seed;
  take_memory (socket, "sequence", UINT32_MAX);
}

static void
attack_memory_for_replies (const char *socket, guint32 seed)
{
  (void) seed;
  take_memory (socket, "host", 0);
}

static void
attack_connections (const char *socket, guint32 seed)
{
  GArray *open = g_array_new (FALSE, FALSE, sizeof (Raw));
  unsigned refused = 0;

  (void) seed;
  for (unsigned i = 0; i < CONNECTIONS_MAX + 50; i++)
    {
      Raw raw = raw_connect (socket);
      WireHello hello = { .protocol = WIRE_PROTOCOL };
      WireMessage answer;
      WireType said;

      /* A third of them never greets. */
      if (i % 3 == 0 && i < CONNECTIONS_MAX / 2)
        {
          g_array_append_val (open, raw);
          continue;
        }
      said = raw_ask (&raw, WIRE_HELLO, &hello, NULL, 0, NULL, 0, &answer);
      if (said == WIRE_WELCOME)
        {
          g_array_append_val (open, raw);
          wire_message_clear (&answer);
        }
      else
        {
          refused++;
          if (said != 0)
            wire_message_clear (&answer);
          raw_close (&raw);
        }
    }
  g_assert_cmpuint (open->len, <=, CONNECTIONS_MAX);
  g_assert_cmpuint (refused, >, 0);
  attack_is_ready ();
  for (unsigned i = 0; i < open->len; i++)
    raw_close (&g_array_index (open, Raw, i));
  g_array_free (open, TRUE);
}

/* Until the host is through with closing what was closed. */
static void
wait_until_welcome (const char *socket)
{
  WireType said = 0;

  while (said != WIRE_WELCOME)
    {
      WireHello hello = { .protocol = WIRE_PROTOCOL };
      Raw raw = raw_connect (socket);
      WireMessage answer;

      said = raw_ask (&raw, WIRE_HELLO, &hello, NULL, 0, NULL, 0, &answer);
      if (said != 0)
        wire_message_clear (&answer);
      raw_close (&raw);
    }
}

/* Which of them depends on how far the host was with closing others. */
static void
expect_an_end (const Raw *silent, unsigned n)
{
  struct pollfd fds[64];

  g_assert_cmpuint (n, <=, G_N_ELEMENTS (fds));
  for (unsigned i = 0; i < n; i++)
    fds[i] = (struct pollfd) { silent[i].socket, POLLIN, 0 };
  g_assert_cmpint (poll (fds, n, 60000), >, 0);
}

/* More connections than there are descriptors for.  Each takes three; blobs, of one each, see to it that once none is left. */
static void
attack_no_descriptors (const char *socket, guint32 seed)
{
  Raw first = raw_greeted (socket), silent[64];
  int sealed = raw_memory (4096, RAW_SEALS_ALL, MFD_ALLOW_SEALING);
  WireBlob ids[3];

  (void) seed;
  for (unsigned i = 0; i < G_N_ELEMENTS (ids); i++)
    {
      WireMessage answer;

      g_assert_cmpint (raw_ask (&first, WIRE_BLOB_EXPORT, &(WireBlob){ .size = 4096 }, NULL, 0, &sealed, 1, &answer), ==,
                       WIRE_BLOB);
      ids[i] = answer.body.blob;
      wire_message_clear (&answer);
      for (unsigned k = 0; k < G_N_ELEMENTS (silent); k++)
        silent[k] = raw_connect (socket);
      expect_an_end (silent, G_N_ELEMENTS (silent));
      if (i + 1 == G_N_ELEMENTS (ids))
        attack_is_ready ();
      for (unsigned k = 0; k < G_N_ELEMENTS (silent); k++)
        raw_close (&silent[k]);
      wait_until_welcome (socket);
    }
  for (unsigned i = 0; i < G_N_ELEMENTS (ids); i++)
    raw_refusal (&first, WIRE_BLOB_IMPORT, &ids[i], NULL, 0);
  raw_close (&first);
  close (sealed);
}

/* Sends what there is room for on many channels, and reads no answer. */
static void
attack_never_reads (const char *socket, guint32 seed)
{
  enum { CHANNELS = 16 };
  Raw raw = raw_greeted (socket);
  RawChannel channels[CHANNELS];
  NextArgs args = { 15, 0 };

  (void) seed;
  for (unsigned i = 0; i < CHANNELS; i++)
    {
      unsigned n = 0;

      g_assert_true (raw_open (&raw, "sequence", 0, &channels[i]));
      while (raw_request (&raw, &channels[i], (uint16_t) (n % 3), n + 1, &args, sizeof args))
        n++;
      g_assert_cmpuint (n, >, 100);
    }
  attack_is_ready ();
  for (unsigned i = 0; i < CHANNELS; i++)
    raw_channel_clear (&channels[i]);
  raw_close (&raw);
}

/* Asks and asks and does not listen to a single answer: at some time the host has to stop listening. */
static void
attack_questions (const char *socket, guint32 seed)
{
  Raw raw = raw_greeted (socket);
  g_autofree char *tail = g_malloc0 (WIRE_TAIL_MAX);
  WireBind body = { .cell = "sequence" };
  unsigned n = 0;
  Fault fault = { 0 };

  (void) seed;
  memset (tail, 'x', WIRE_TAIL_MAX);
  /* Gigabytes, if anybody takes them. */
  while (n < 50000
         && wire_send (raw.socket, WIRE_BIND, n + 1, &body, tail, WIRE_TAIL_MAX, NULL, 0, monotonic_ns () + 300000000u, &fault))
    n++;
  g_test_message ("%u questions", n);
  g_assert_cmpuint (n, <, 50000);
  attack_is_ready ();
  raw_close (&raw);
}

/* Blobs that nobody fetches, for a while. */
static void
attack_blobs (const char *socket, guint32 seed)
{
  Raw raw = raw_greeted (socket);
  int sealed = raw_memory (4096, RAW_SEALS_ALL, MFD_ALLOW_SEALING);
  GArray *ids = g_array_new (FALSE, FALSE, sizeof (WireBlob));
  WireMessage answer;

  (void) seed;
  while (raw_ask (&raw, WIRE_BLOB_EXPORT, &(WireBlob) { .size = 4096 }, NULL, 0, &sealed, 1, &answer) == WIRE_BLOB)
    {
      g_array_append_val (ids, answer.body.blob);
      wire_message_clear (&answer);
    }
  g_test_message ("%u blobs", ids->len);
  g_assert_cmpint (answer.body.error.status, ==, CELL_ERROR_NO_RESOURCES);
  wire_message_clear (&answer);
  attack_is_ready ();
  /* The others go with the connection. */
  for (guint i = 0; i < ids->len / 2; i++)
    g_assert_cmpint (raw_refusal (&raw, WIRE_BLOB_IMPORT, &g_array_index (ids, WireBlob, i), NULL, 0), ==, CELL_OK);
  g_array_free (ids, TRUE);
  close (sealed);
  raw_close (&raw);
}

static const AttackName attacks[] = {
  { "bells", attack_bells },
  { "channels", attack_channels },
  { "memory", attack_memory },
  { "memory-for-replies", attack_memory_for_replies },
  { "connections", attack_connections },
  { "never-reads", attack_never_reads },
  { "no-descriptors", attack_no_descriptors },
  { "questions", attack_questions },
  { "blobs", attack_blobs },
};

/* ---- the tests --------------------------------------------------------------------------------------------------------- */

/* The attacker has done what it does, and stays. */
static void
test_siege (Daemon *daemon, gconstpointer data)
{
  Good *good = good_start (daemon, 1);
  Attack attack = attack_start (daemon, data, g_test_rand_int ());

  attack_wait_ready (&attack);
  good_wait (good, 5);
  attack_end (&attack);
  good_wait (good, 2);
  good_stop (good);
}

/* Its own share is used up, and nobody else's. */
static void
test_blobs (Daemon *daemon, gconstpointer data)
{
  Attack attack = attack_start (daemon, data, 1);
  int sealed = raw_memory (4096, RAW_SEALS_ALL, MFD_ALLOW_SEALING);
  WireBlob body = { .size = 4096 };
  Raw raw;

  attack_wait_ready (&attack);
  raw = raw_greeted (daemon->socket);
  for (unsigned i = 0; i < 100; i++)
    {
      WireMessage answer;

      g_assert_cmpint (raw_ask (&raw, WIRE_BLOB_EXPORT, &body, NULL, 0, &sealed, 1, &answer), ==, WIRE_BLOB);
      g_assert_cmpint (raw_refusal (&raw, WIRE_BLOB_IMPORT, &answer.body.blob, NULL, 0), ==, CELL_OK);
      wire_message_clear (&answer);
    }
  close (sealed);
  raw_close (&raw);
  attack_end (&attack);
}

/* It may ask as much as it likes: what it has asked does not lie in the host's memory. */
static void
test_questions (Daemon *daemon, gconstpointer data)
{
  guint64 before = daemon_private_kb (daemon), after;
  Good *good = good_start (daemon, 1);
  Attack attack = attack_start (daemon, data, 1);

  attack_wait_ready (&attack);
  after = daemon_private_kb (daemon);
  g_test_message ("%" G_GUINT64_FORMAT " kB, then %" G_GUINT64_FORMAT " kB", before, after);
  if (SLOW == 1)                        /* a sanitizer keeps what was freed */
    g_assert_cmpuint (after, <, before + 64 * 1024);
  good_wait (good, 5);
  attack_end (&attack);
  good_stop (good);
}

static void
test_no_descriptors (Daemon *daemon, gconstpointer data)
{
  daemon_stop (daemon);
  daemon->most_fds = 128;
  daemon_start (daemon, NULL);
  test_siege (daemon, data);
}

/* ns of processor time that all its threads have had. */
static guint64
ran_for (Daemon *daemon)
{
  g_autofree char *tasks = g_strdup_printf ("/proc/%d/task", (int) daemon->pid);
  g_autoptr(GDir) folder = g_dir_open (tasks, 0, NULL);
  const char *task;
  guint64 ns = 0;

  g_assert_nonnull (folder);
  while ((task = g_dir_read_name (folder)) != NULL)
    {
      g_autofree char *path = g_build_filename (tasks, task, "schedstat", NULL), *text = NULL;

      if (g_file_get_contents (path, &text, NULL, NULL))
        ns += g_ascii_strtoull (text, NULL, 10);
    }
  return ns;
}

/* It does nothing any more: each of its threads waits to be woken, and none of them is soon. */
static void
wait_asleep (Daemon *daemon)
{
  enum { LOOKS = 5 };
  gint64 until = g_get_monotonic_time () + 20 * G_USEC_PER_SEC;
  guint64 before = ran_for (daemon), now;

  for (unsigned n = 0; n < LOOKS; before = now)
    {
      g_usleep (5000);
      now = ran_for (daemon);
      n = now == before ? n + 1 : 0;
      g_assert_cmpint (g_get_monotonic_time (), <, until);
    }
}

static uint64_t
count_calls (const Counting *counting)
{
  cell_auto SequenceTotals totals = sequence_totals (counting->sequence);

  g_assert_cmpint (totals.result.status, ==, CELL_OK);
  return totals.calls;
}

/* One who sends and never reads is set aside: what he has asked for beyond that is not executed, nobody looks for it again and
 * again, and who calls meanwhile waits for nothing of it.  Not a single one of his calls is between two of theirs. */
static void
test_never_reads (Daemon *daemon, gconstpointer data)
{
  CellBus *bus = cell_open (daemon->socket);
  Counting counting = { .sequence = cell_bind (bus, Sequence, "sequence"), .who = 3 };
  Attack attack = attack_start (daemon, data, 1);
  uint64_t before;

  attack_wait_ready (&attack);
  wait_asleep (daemon);
  before = count_calls (&counting);
  for (unsigned i = 0; i < 5000; i++)
    counting_single (&counting);
  g_assert_cmpstr (counting.wrong, ==, "");
  g_assert_cmpuint (count_calls (&counting) - before, ==, 5000);
  wait_asleep (daemon);
  attack_end (&attack);
  cell_close (bus);
}

int
main (int argc, char **argv)
{
  attack_main (argc, argv, attacks, G_N_ELEMENTS (attacks));
  g_test_init (&argc, &argv, NULL);
  attack_add_test ("/hostile-floods/bells", test_siege);
  attack_add_test ("/hostile-floods/channels", test_siege);
  attack_add_test ("/hostile-floods/memory", test_siege);
  attack_add_test ("/hostile-floods/memory-for-replies", test_siege);
  attack_add_test ("/hostile-floods/connections", test_siege);
  attack_add_test ("/hostile-floods/never-reads", test_never_reads);
  attack_add_test ("/hostile-floods/no-descriptors", test_no_descriptors);
  attack_add_test ("/hostile-floods/questions", test_questions);
  attack_add_test ("/hostile-floods/blobs", test_blobs);
  return g_test_run ();
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What one peer can have the host keep for it while nobody gets round to answering: so much, and no more.  What was taken in is
 * answered.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host-fixture.h"
#include "host/connection.h"
#include "membrane/blob.h"
#include "membrane/wait.h"
#include "raw.h"
#include "rogue-remote.h"

#define QUESTIONS_MAX 128u              /* what the documentation says */
#define QUESTIONS_OF_CELL_MAX 1024u
#define MANY 10000u
#define JOB_THREADS 64u                 /* likewise */
#define BLOBS 100u
#define BLOBS_MAX 512u                  /* what the documentation says */
#define ASKERS 16u
#define ASKED 40u                       /* blobs by each of these, whose answers fit beside each other: more than there may be */
#define DESCRIPTORS 512u                /* of this process: enough for a host */
#define PATIENCE_US (60 * G_USEC_PER_SEC)

typedef struct
{
  HostFixture host;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  unsigned n_held;
  gboolean go;
} Scene;

/* ---- management that is busy ---------------------------------------------------------------------------------------- */

static void
hold (gpointer data)
{
  Scene *scene = data;

  pthread_mutex_lock (&scene->lock);
  scene->n_held++;
  pthread_cond_broadcast (&scene->changed);
  while (!scene->go)
    pthread_cond_wait (&scene->changed, &scene->lock);
  scene->n_held--;
  pthread_cond_broadcast (&scene->changed);
  pthread_mutex_unlock (&scene->lock);
}

/* Nobody answers questions, until they are let go. */
static void
hold_all (Scene *scene)
{
  scene->go = FALSE;
  for (unsigned i = 0; i < JOB_THREADS; i++)
    host_submit (scene->host.host, NULL, hold, scene);
  pthread_mutex_lock (&scene->lock);
  while (scene->n_held < JOB_THREADS)
    pthread_cond_wait (&scene->changed, &scene->lock);
  pthread_mutex_unlock (&scene->lock);
}

static void
let_go (Scene *scene)
{
  pthread_mutex_lock (&scene->lock);
  scene->go = TRUE;
  pthread_cond_broadcast (&scene->changed);
  while (scene->n_held > 0)
    pthread_cond_wait (&scene->changed, &scene->lock);
  pthread_mutex_unlock (&scene->lock);
}

/* The only connection of a program, or of a cell.  A reference; NULL: there is none. */
static Connection *
find_connection (Scene *scene, gboolean of_cell)
{
  Host *host = scene->host.host;
  Connection *found = NULL;

  pthread_mutex_lock (&host->lock);
  for (guint i = 0; i < host->connections->len && found == NULL; i++)
    {
      Connection *connection = g_ptr_array_index (host->connections, i);

      if ((connection->cell != NULL) == of_cell)
        found = connection_ref (connection);
    }
  pthread_mutex_unlock (&host->lock);
  return found;
}

static guint
count_questions (Connection *connection)
{
  guint n;

  pthread_mutex_lock (&connection->lock);
  n = connection->questions;
  pthread_mutex_unlock (&connection->lock);
  return n;
}

static void
wait_for_questions (Connection *connection, guint n)
{
  gint64 until = g_get_monotonic_time () + PATIENCE_US;

  while (count_questions (connection) != n)
    {
      g_assert_cmpint (g_get_monotonic_time (), <, until);
      g_usleep (1000);
    }
}

static void
set_up (Scene *scene, gconstpointer data)
{
  g_autofree char *policy = NULL;

  host_fixture_set_up (&scene->host, data);
  pthread_mutex_init (&scene->lock, NULL);
  pthread_cond_init (&scene->changed, NULL);
  policy = g_build_filename (scene->host.folder, "policy", NULL);
  g_assert_true (g_file_set_contents_full (policy, "[Default]\nRole=view\n", -1, G_FILE_SET_CONTENTS_NONE, 0644, NULL));
}

static void
tear_down (Scene *scene, gconstpointer data)
{
  host_fixture_tear_down (&scene->host, data);
  pthread_cond_destroy (&scene->changed);
  pthread_mutex_destroy (&scene->lock);
}

/* ---- a program's questions ------------------------------------------------------------------------------------------ */

/* Asks until nobody listens: how many went out. */
static unsigned
ask_without_end (Raw *raw, uint32_t tail_size)
{
  g_autofree char *tail = g_malloc0 (tail_size + 1);
  WireBind body = { .cell = "nobody" };
  unsigned n = 0;

  memset (tail, 'x', tail_size);
  while (n < MANY && wire_send (raw->socket, WIRE_BIND, raw->serial + n + 1, &body, tail, tail_size, NULL, 0,
                                monotonic_ns () + 300000000u, NULL))
    n++;
  return n;
}

/* Each once. */
static void
take_answers (Raw *raw, unsigned n)
{
  g_autofree gboolean *seen = g_new0 (gboolean, n);

  for (unsigned i = 0; i < n; i++)
    {
      WireMessage answer;
      Fault fault = { 0 };
      uint64_t at;

      g_assert_cmpint (wire_receive (raw->socket, &answer, monotonic_ns () + PATIENCE_US * 1000ull, &fault), ==, 1);
      at = answer.header.serial - raw->serial - 1;
      g_assert_cmpint (answer.body.error.status, ==, CELL_ERROR_NOT_FOUND);
      g_assert_cmpuint (at, <, n);
      g_assert_false (seen[at]);
      seen[at] = TRUE;
      wire_message_clear (&answer);
    }
  raw->serial += n;
}

/* Who asks too much waits, and nobody else does. */
static void
test_questions (Scene *scene, gconstpointer data)
{
  const uint32_t tail_size = GPOINTER_TO_UINT (data);
  Raw raw = raw_greeted (scene->host.socket), other;
  Connection *connection = find_connection (scene, FALSE);

  for (unsigned round = 0; round < 3; round++)
    {
      unsigned n;

      hold_all (scene);
      n = ask_without_end (&raw, tail_size);
      g_test_message ("%u questions went out", n);
      g_assert_cmpuint (n, <, MANY);
      g_assert_cmpuint (n * tail_size, <, 4u << 20);
      g_assert_cmpuint (count_questions (connection), >=, QUESTIONS_MAX);
      g_assert_cmpuint (count_questions (connection), <, QUESTIONS_MAX + 1 + WIRE_TAIL_MAX / 4096);
      other = raw_greeted (scene->host.socket);
      raw_close (&other);
      let_go (scene);
      take_answers (&raw, n);
      wait_for_questions (connection, 0);
    }
  raw_close (&raw);
  connection_unref (connection);
}

/* Nor are answers kept without end, with a descriptor each, for one who does not read them. */
static void
test_unread (Scene *scene, gconstpointer data)
{
  Raw raw = raw_greeted (scene->host.socket);
  Connection *connection = find_connection (scene, FALSE);
  WireBlob body = { .size = 4096 };
  unsigned n = 0;
  guint kept;

  (void) data;
  while (n < MANY && wire_send (raw.socket, WIRE_BLOB_NEW, n + 1, &body, NULL, 0, NULL, 0, monotonic_ns () + 300000000u, NULL))
    n++;
  pthread_mutex_lock (&connection->lock);
  kept = g_queue_get_length (&connection->outgoing);
  pthread_mutex_unlock (&connection->lock);
  g_test_message ("%u questions went out, %u answers are kept", n, kept);
  g_assert_cmpuint (n, <, MANY);
  g_assert_cmpuint (kept, <=, QUESTIONS_MAX);
  for (unsigned i = 0; i < n; i++)
    {
      WireMessage answer;
      Fault fault = { 0 };

      g_assert_cmpint (wire_receive (raw.socket, &answer, monotonic_ns () + PATIENCE_US * 1000ull, &fault), ==, 1);
      g_assert_cmpint (answer.header.type, ==, WIRE_BLOB);
      g_assert_cmpuint (answer.header.serial, ==, i + 1);
      wire_message_clear (&answer);
    }
  raw_close (&raw);
  connection_unref (connection);
}

/* Its end is heard of, also while it is not read. */
static void
test_leaves (Scene *scene, gconstpointer data)
{
  Raw raw = raw_greeted (scene->host.socket);
  gint64 until = g_get_monotonic_time () + PATIENCE_US;
  Connection *connection;

  (void) data;
  hold_all (scene);
  g_assert_cmpuint (ask_without_end (&raw, 0), <, MANY);
  raw_close (&raw);
  while ((connection = find_connection (scene, FALSE)) != NULL)
    {
      connection_unref (connection);
      g_assert_cmpint (g_get_monotonic_time (), <, until);
      g_usleep (1000);
    }
  let_go (scene);
}

/* ---- a cell's ------------------------------------------------------------------------------------------------------- */

static unsigned
rogue_asks (CellClient *rogue, unsigned n)
{
  g_autofree char *how = g_strdup_printf ("ask %u", n);
  cell_auto RogueAttack asked = rogue_attack (rogue, .how = how);

  g_assert_cmpstr (asked.result.message, ==, NULL);
  return (unsigned) g_ascii_strtoull (asked.said, NULL, 10);
}

/* Its answers come over the same socket: with as many questions as its threads can have it still does what the host says; with more
 * than that it is read no more, too. */
static void
test_questions_of_cell (Scene *scene, gconstpointer data)
{
  const unsigned some = 600;
  HostCell *cell;
  CellBus *bus;
  CellClient *rogue;
  Connection *connection;

  (void) data;
  if (!host_fixture_has_sandbox ())
    return;
  cell = host_fixture_load (&scene->host, g_getenv ("TEST_ROGUE"), "rogue", NULL);
  bus = cell_open (scene->host.socket);
  rogue = cell_bind (bus, Rogue, "rogue");
  cell_set_timeout (rogue, 60000);
  g_assert_cmpint (rogue_count (rogue).result.status, ==, CELL_OK);
  for (unsigned round = 0; round < 2; round++)
    {
      host_fixture_eject (cell);
      g_assert_cmpint (rogue_count (rogue).result.status, ==, CELL_OK);
      connection = find_connection (scene, TRUE);
      wait_for_questions (connection, 0);
      hold_all (scene);
      if (round == 0)
        {
          g_assert_cmpuint (rogue_asks (rogue, some), ==, some);
          wait_for_questions (connection, some);
          host_fixture_absorb (cell);
        }
      else
        {
          g_assert_cmpuint (rogue_asks (rogue, MANY), <, MANY);
          wait_for_questions (connection, QUESTIONS_OF_CELL_MAX);
        }
      let_go (scene);
      connection_unref (connection);
    }
  host_fixture_absorb (cell);
  cell_close (bus);
  host_cell_unref (cell);
}

/* ---- memory --------------------------------------------------------------------------------------------------------- */

/* It may ask for as many blobs as it likes: their memory is there when it is used, and is whoever's uses it. */
static void
test_blobs (Scene *scene, gconstpointer data)
{
  Raw raw = raw_greeted (scene->host.socket);
  WireBlob body = { .size = 256u << 20 };
  int fds[BLOBS];

  (void) data;
  for (unsigned i = 0; i < BLOBS; i++)
    {
      WireMessage answer;
      struct stat st;

      g_assert_cmpint (raw_ask (&raw, WIRE_BLOB_NEW, &body, NULL, 0, NULL, 0, &answer), ==, WIRE_BLOB);
      fds[i] = wire_message_take_fd (&answer, 0);
      wire_message_clear (&answer);
      g_assert_no_errno (fstat (fds[i], &st));
      g_assert_cmpint (st.st_size, ==, 256 << 20);
      g_assert_cmpint (st.st_blocks, ==, 0);
    }
  for (unsigned i = 0; i < BLOBS; i++)
    close (fds[i]);
  raw_close (&raw);
}

/* Who fetches no blob that he is answered with has so many wait for him; others get theirs. */
static void
test_unfetched (Scene *scene, gconstpointer data)
{
  HostCell *cell = host_fixture_load (&scene->host, g_getenv ("TEST_ROGUE"), "rogue", NULL);
  CellBus *bus = cell_open (scene->host.socket), *other = cell_open (scene->host.socket);
  gint64 until = g_get_monotonic_time () + PATIENCE_US;
  RogueHandOutCall calls[ASKERS][ASKED];
  CellClient *askers[ASKERS];
  unsigned n = 0;
  uint64_t served = 0, errors;

  (void) data;
  for (unsigned i = 0; i < ASKERS; i++)
    {
      askers[i] = cell_bind (bus, Rogue, "rogue");
      cell_set_timeout (askers[i], 60000);
      for (unsigned k = 0; k < ASKED; k++)
        calls[i][k] = rogue_hand_out_start (askers[i], .size = 4096);
    }
  for (; served < ASKERS * ASKED; host_cell_count_calls (cell, &served, &errors))
    {
      g_assert_cmpint (g_get_monotonic_time (), <, until);
      g_usleep (1000);
    }
  g_assert_cmpuint (blob_transit_bytes (), <=, BLOBS_MAX * 4096);
  cell_auto RogueHandOut good = rogue_hand_out (cell_bind (other, Rogue, "rogue"), .size = 4096);
  g_assert_cmpstr (good.result.message, ==, NULL);
  for (unsigned i = 0; i < ASKERS; i++)
    for (unsigned k = 0; k < ASKED; k++)
      {
        cell_auto RogueHandOut got = rogue_hand_out_finish (calls[i][k]);
        n += got.result.status == CELL_OK;
        g_assert_true (got.result.status == CELL_OK || got.result.status == CELL_ERROR_NO_RESOURCES);
      }
  g_assert_cmpuint (n, >=, BLOBS_MAX);
  g_assert_cmpuint (blob_transit_bytes (), ==, 0);
  cell_close (bus);
  cell_close (other);
  host_cell_unref (cell);
}

/* ---- descriptors ---------------------------------------------------------------------------------------------------- */

/* Who asks is in this process, too, and what he gets are descriptors of it.  He is refused while there are some left, with which
 * the host does its own work: the cell moves. */
static void
test_descriptors (Scene *scene, gconstpointer data)
{
  Raw raw;
  WireBlob body = { .size = 4096 };
  WireOpen open = raw_open_body ("rogue", 65536);
  WireMessage answer;
  struct rlimit before;
  int fds[DESCRIPTORS];
  unsigned n = 0;
  HostCell *cell;

  (void) data;
  if (!host_fixture_has_sandbox ())
    return;
  cell = host_fixture_load (&scene->host, g_getenv ("TEST_ROGUE"), "rogue", NULL);
  raw = raw_greeted (scene->host.socket);
  g_assert_no_errno (getrlimit (RLIMIT_NOFILE, &before));
  g_assert_no_errno (setrlimit (RLIMIT_NOFILE, &(struct rlimit) { DESCRIPTORS, before.rlim_max }));
  for (; raw_ask (&raw, WIRE_BLOB_NEW, &body, NULL, 0, NULL, 0, &answer) == WIRE_BLOB; wire_message_clear (&answer))
    {
      g_assert_cmpuint (n, <, DESCRIPTORS);
      fds[n++] = wire_message_take_fd (&answer, 0);
    }
  g_assert_cmpint (answer.header.type, ==, WIRE_ERROR);
  g_assert_cmpint (answer.body.error.status, ==, CELL_ERROR_NO_RESOURCES);
  wire_message_clear (&answer);
  g_assert_cmpint (raw_refusal (&raw, WIRE_OPEN, &open, NULL, 0), ==, CELL_ERROR_NO_RESOURCES);
  host_fixture_eject (cell);
  host_fixture_absorb (cell);
  while (n > 0)
    close (fds[--n]);
  g_assert_cmpint (raw_refusal (&raw, WIRE_OPEN, &open, NULL, 0), ==, CELL_OK);
  g_assert_no_errno (setrlimit (RLIMIT_NOFILE, &before));
  raw_close (&raw);
  host_cell_unref (cell);
}

#define add(name, function, data) g_test_add ("/hostile-bounds/" name, Scene, data, set_up, function, tear_down)

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  add ("questions", test_questions, NULL);
  add ("questions/long", test_questions, GUINT_TO_POINTER (WIRE_TAIL_MAX));
  add ("questions/unread", test_unread, NULL);
  add ("questions/leaves", test_leaves, NULL);
  add ("questions/of-cell", test_questions_of_cell, NULL);
  add ("blobs", test_blobs, NULL);
  add ("blobs/unfetched", test_unfetched, NULL);
  add ("descriptors", test_descriptors, NULL);
  return g_test_run ();
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * cell-runner at a socket whose other end says what a host does not: junk, truncated messages, right ones in the wrong order.  It
 * never crashes; it answers with an error, or ends with one sentence.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "membrane/blob.h"
#include "membrane/channel.h"
#include "membrane/ring.h"
#include "membrane/wait.h"
#include "membrane/wire.h"
#include "plugins/settings.h"

#define PATIENCE_NS (20u * 1000000000ull)
#define CAPACITY 16384u

typedef struct
{
  GSubprocess *process;
  int socket;
  int bells[2];
  uint64_t serial;
} Runner;

/* ---- the other end ------------------------------------------------------------------------------------- */

static void
runner_start (Runner *runner)
{
  g_autoptr(GSubprocessLauncher) launcher = g_subprocess_launcher_new (G_SUBPROCESS_FLAGS_STDERR_PIPE);
  g_autoptr(GError) error = NULL;
  int sockets[2];

  g_assert_cmpint (socketpair (AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets), ==, 0);
  *runner = (Runner) { .socket = sockets[0], .bells = { eventfd (0, EFD_CLOEXEC), eventfd (0, EFD_CLOEXEC) } };
  g_subprocess_launcher_take_fd (launcher, sockets[1], 3);
  g_subprocess_launcher_setenv (launcher, "ASAN_OPTIONS", "detect_leaks=0:abort_on_error=1", TRUE);
  runner->process = g_subprocess_launcher_spawn (launcher, &error, g_getenv ("TEST_RUNNER"), NULL);
  g_assert_no_error (error);
}

/* Closes the connection and waits: it has ended by itself, and what it said is at most one line.  Returns that. */
static char *
runner_end (Runner *runner)
{
  g_autoptr(GError) error = NULL;
  g_autofree char *said = NULL;

  shutdown (runner->socket, SHUT_WR);
  g_subprocess_communicate_utf8 (runner->process, NULL, NULL, NULL, &said, &error);
  g_assert_no_error (error);
  g_assert_true (g_subprocess_get_if_exited (runner->process));
  g_assert_cmpint (g_subprocess_get_exit_status (runner->process), <=, 1);
  g_strchomp (said);
  if (strchr (said, '\n') != NULL)
    g_error ("the runner says more than one sentence: %s", said);
  g_object_unref (runner->process);
  close (runner->socket);
  close (runner->bells[0]);
  close (runner->bells[1]);
  return g_steal_pointer (&said);
}

static gboolean
say_more (Runner *runner, WireType type, const void *body, const void *tail, gsize size, const int *fds, guint n_fds)
{
  Fault fault = { 0 };

  return wire_send (runner->socket, type, ++runner->serial, body, tail, (uint32_t) size, fds, n_fds, monotonic_ns () + PATIENCE_NS,
                    &fault);
}

static gboolean
say (Runner *runner, WireType type, const void *body, const char *tail, const int *fds, guint n_fds)
{
  return say_more (runner, type, body, tail, tail != NULL ? strlen (tail) : 0, fds, n_fds);
}

/* What comes next; 0: it has ended. */
static WireType
hear (Runner *runner, WireMessage *message)
{
  Fault fault = { 0 };
  int got = wire_receive (runner->socket, message, monotonic_ns () + PATIENCE_NS, &fault);

  g_assert_cmpint (got, !=, 0);
  return got > 0 ? message->header.type : 0;
}

/* It asks for memory, as it may make none of its own. */
static void
give_memory (Runner *runner, WireMessage *message)
{
  CellBlob *blob = blob_new (message->body.blob.size, NULL);
  int fd = blob_fd (blob);

  g_assert_true (wire_send (runner->socket, WIRE_BLOB, message->header.serial, &message->body.blob, NULL, 0, &fd, 1, 0, NULL));
  blob_unref (blob);
  wire_message_clear (message);
}

static WireType
answer (Runner *runner)
{
  WireMessage message;
  WireType type = hear (runner, &message);

  if (type == WIRE_BLOB_NEW)
    {
      give_memory (runner, &message);
      type = hear (runner, &message);
    }
  if (type == 0)
    return 0;
  g_assert_cmpuint (message.header.serial, ==, runner->serial);
  if (type == WIRE_ERROR)
    {
      g_assert_nonnull (message.tail);
      g_assert_cmpint (message.body.error.status, <, 0);
    }
  wire_message_clear (&message);
  return type;
}

static void
greet (Runner *runner)
{
  WireWelcome welcome = { .protocol = WIRE_PROTOCOL };
  WireMessage hello;

  runner_start (runner);
  g_assert_cmpint (hear (runner, &hello), ==, WIRE_HELLO);
  wire_message_clear (&hello);
  g_assert_true (wire_send (runner->socket, WIRE_WELCOME, 1, &welcome, NULL, 0, runner->bells, 2, 0, NULL));
}

/* ---- what a host says ---------------------------------------------------------------------------------------- */

static int
memory_of (const void *bytes, gsize size)
{
  int fd = memfd_create ("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

  g_assert_cmpint (write (fd, bytes, size), ==, (gssize) size);
  g_assert_cmpint (fchmod (fd, 0500), ==, 0);
  return fd;
}

static const guint8 stats[3 * sizeof (MethodStats)];    /* of the sequence's methods */

static WireType
load_with (Runner *runner, const char *cell, const void *settings, gsize n)
{
  g_autofree char *path = g_strdup_printf ("%s/%s.so", g_getenv ("TEST_CELLS"), cell), *bytes = NULL;
  WireLoad body = { .cell = "tested" };
  gsize size;
  int fds[2];

  g_assert_true (g_file_get_contents (path, &bytes, &size, NULL));
  fds[0] = memory_of (bytes, size);
  fds[1] = memory_of (stats, sizeof stats);
  body.plugin_size = size;
  say_more (runner, WIRE_LOAD, &body, settings, n, fds, 2);
  close (fds[0]);
  close (fds[1]);
  return answer (runner);
}

static WireType
load (Runner *runner, const char *cell)
{
  return load_with (runner, cell, "key\0value\0\4\13", 12);
}

static WireType
attach (Runner *runner, WireAttach body)
{
  Half *requests = half_new ("requests", CAPACITY, NULL), *replies = half_new ("replies", CAPACITY, NULL);
  int fds[3] = { requests->fd, replies->fd, runner->bells[0] };
  WireType type;

  if (body.request_capacity == 0)
    body.request_capacity = CAPACITY;
  if (body.reply_capacity == 0)
    body.reply_capacity = CAPACITY;
  body.request_salt = requests->salt;
  body.reply_salt = replies->salt;
  g_assert_true (half_seal (requests, NULL));
  say (runner, WIRE_ATTACH, &body, NULL, fds, 3);
  type = answer (runner);
  half_unref (requests);
  half_unref (replies);
  return type;
}

static WireType
ask (Runner *runner, WireType type)
{
  WireRef none = { 4711 };
  WireStop soon = { .milliseconds = 2000 };

  say (runner, type, type == WIRE_DETACH ? (const void *) &none : type == WIRE_STOP ? (const void *) &soon : NULL, NULL, NULL, 0);
  return answer (runner);
}

static WireType
give (Runner *runner, WireType type, uint64_t claimed, const void *bytes, gsize size)
{
  WireState body = { .version = 1, .size = claimed };
  int fd = memory_of (bytes, size);

  say (runner, type, &body, NULL, &fd, 1);
  close (fd);
  return answer (runner);
}

static WireType
place (Runner *runner, WirePlace at, gsize size)
{
  say_more (runner, WIRE_PLACE, NULL, &at, size, NULL, 0);
  return answer (runner);
}

/* ---- tests ------------------------------------------------------------------------------------------------------ */

static void
test_first_words (void)
{
  WireWelcome other = { .protocol = WIRE_PROTOCOL + 1 };
  Runner runner;

  for (guint i = 0; i < 4; i++)
    {
      g_autofree char *said = NULL;

      runner_start (&runner);
      switch (i)
        {
        case 0: break;                                          /* nothing at all */
        case 1: g_assert_cmpint (send (runner.socket, "junk", 4, 0), ==, 4); break;
        case 2: say (&runner, WIRE_QUIT, NULL, NULL, NULL, 0); break;
        default: say (&runner, WIRE_WELCOME, &other, NULL, runner.bells, 2);
        }
      said = runner_end (&runner);
      g_test_message ("%s", said);
      g_assert_cmpstr (said, !=, "");
    }
}

/* Each word in its turn, and out of it. */
static void
test_order (void)
{
  static const WireType too_early[] = { WIRE_START, WIRE_STOP, WIRE_SAVE, WIRE_GIVE };
  g_autofree char *said = NULL;
  Runner runner;

  greet (&runner);
  for (guint i = 0; i < G_N_ELEMENTS (too_early); i++)
    g_assert_cmpint (ask (&runner, too_early[i]), ==, WIRE_ERROR);
  g_assert_cmpint (ask (&runner, WIRE_DETACH), ==, WIRE_DONE);
  g_assert_cmpint (place (&runner, (WirePlace) { 1, 0, 0 }, sizeof (WirePlace)), ==, WIRE_ERROR);
  g_assert_cmpint (attach (&runner, (WireAttach) { .channel = 1 }), ==, WIRE_ERROR);
  g_assert_cmpint (give (&runner, WIRE_RESTORE, 4, "abcd", 4), ==, WIRE_ERROR);
  g_assert_cmpint (give (&runner, WIRE_TAKE, 4, "abcd", 4), ==, WIRE_ERROR);
  g_assert_cmpint (load (&runner, "sequence"), ==, WIRE_READY);
  g_assert_cmpint (load (&runner, "sequence"), ==, WIRE_ERROR);
  g_assert_cmpint (give (&runner, WIRE_RESTORE, 4, "abcd", 4), ==, WIRE_ERROR);         /* not a state of its own */
  g_assert_cmpint (give (&runner, WIRE_RESTORE, 1u << 20, "abcd", 4), ==, WIRE_ERROR);  /* shorter than it says */
  g_assert_cmpint (give (&runner, WIRE_RESTORE, UINT64_MAX, "abcd", 4), ==, WIRE_ERROR);
  g_assert_cmpint (give (&runner, WIRE_TAKE, 4, "abcd", 4), ==, WIRE_ERROR);
  g_assert_cmpint (attach (&runner, (WireAttach) { .channel = 1 }), ==, WIRE_DONE);
  g_assert_cmpint (attach (&runner, (WireAttach) { .channel = 1 }), ==, WIRE_DONE);
  g_assert_cmpint (attach (&runner, (WireAttach) { .channel = 2, .taken = 3 }), ==, WIRE_ERROR);
  g_assert_cmpint (attach (&runner, (WireAttach) { .channel = 2, .request_capacity = 2 * CAPACITY }), ==, WIRE_ERROR);
  g_assert_cmpint (attach (&runner, (WireAttach) { .channel = 2, .reply_capacity = 7 }), ==, WIRE_ERROR);
  g_assert_cmpint (place (&runner, (WirePlace) { 1, RECORD_ALIGN, 2 * RECORD_ALIGN }, sizeof (WirePlace)), ==, WIRE_DONE);
  g_assert_cmpint (place (&runner, (WirePlace) { 1, 3, 0 }, sizeof (WirePlace)), ==, WIRE_ERROR);
  g_assert_cmpint (place (&runner, (WirePlace) { 1, 0, 3 }, sizeof (WirePlace)), ==, WIRE_ERROR);
  g_assert_cmpint (place (&runner, (WirePlace) { 2, 0, 0 }, sizeof (WirePlace)), ==, WIRE_ERROR);
  g_assert_cmpint (place (&runner, (WirePlace) { 1, 0, 0 }, sizeof (WirePlace) - 1), ==, WIRE_ERROR);
  g_assert_cmpint (ask (&runner, WIRE_START), ==, WIRE_DONE);
  for (guint i = 0; i < G_N_ELEMENTS (too_early); i++)
    if (too_early[i] != WIRE_STOP)
      g_assert_cmpint (ask (&runner, too_early[i]), ==, WIRE_ERROR);
  g_assert_cmpint (give (&runner, WIRE_RESTORE, 4, "abcd", 4), ==, WIRE_ERROR);
  g_assert_cmpint (place (&runner, (WirePlace) { 1, 0, 0 }, sizeof (WirePlace)), ==, WIRE_ERROR);
  g_assert_cmpint (ask (&runner, WIRE_STOP), ==, WIRE_DONE);
  g_assert_cmpint (ask (&runner, WIRE_STOP), ==, WIRE_ERROR);
  g_assert_cmpint (ask (&runner, WIRE_SAVE), ==, WIRE_STATE);
  g_assert_cmpint (ask (&runner, WIRE_GIVE), ==, WIRE_STATE);
  g_assert_cmpint (ask (&runner, WIRE_START), ==, WIRE_DONE);
  say (&runner, WIRE_QUIT, NULL, NULL, NULL, 0);
  said = runner_end (&runner);
  g_assert_cmpstr (said, ==, "");
}

/* What has been rung and not been taken out; nothing is taken by looking. */
static guint64
count_rings (int bell)
{
  g_autofree char *path = g_strdup_printf ("/proc/self/fdinfo/%d", bell), *text = NULL;
  const char *at;

  g_assert_true (g_file_get_contents (path, &text, NULL, NULL));
  at = strstr (text, "eventfd-count:");
  g_assert_nonnull (at);
  return g_ascii_strtoull (at + strlen ("eventfd-count:"), NULL, 16);
}

static guint64
ring (Runner *runner)
{
  guint64 one = 1;

  g_assert_cmpint (write (runner->bells[1], &one, sizeof one), ==, sizeof one);
  return one;
}

static void
ring_often (Runner *runner)
{
  guint64 rung = count_rings (runner->bells[1]);

  for (guint i = 0; i < 100; i++)
    {
      rung += ring (runner);
      g_assert_cmpint (ask (runner, WIRE_DETACH), ==, WIRE_DONE);
    }
  g_assert_cmpuint (count_rings (runner->bells[1]), ==, rung);
}

/* A cell's callers can ring for nothing.  From a bell that is not listened to what was rung is taken out first; but only by who
 * serves, since it is the bell of those who serve before and after, too. */
static void
test_bell (void)
{
  uint64_t until = monotonic_ns () + 3 * PATIENCE_NS;
  g_autofree char *said = NULL;
  guint64 rung;
  Runner runner;

  greet (&runner);
  g_assert_cmpint (load (&runner, "sequence"), ==, WIRE_READY);
  ring_often (&runner);
  g_assert_cmpint (ask (&runner, WIRE_START), ==, WIRE_DONE);
  for (rung = count_rings (runner.bells[1]); count_rings (runner.bells[1]) >= rung; rung += ring (&runner))
    g_assert_cmpuint (monotonic_ns (), <, until);
  g_assert_cmpint (ask (&runner, WIRE_STOP), ==, WIRE_DONE);
  ring_often (&runner);
  g_assert_cmpint (ask (&runner, WIRE_START), ==, WIRE_DONE);
  say (&runner, WIRE_QUIT, NULL, NULL, NULL, 0);
  said = runner_end (&runner);
  g_assert_cmpstr (said, ==, "");
}

/* Not a plugin. */
static void
test_plugins (void)
{
  for (guint i = 0; i < 3; i++)
    {
      WireLoad body = { .cell = "tested", .plugin_size = 4 };
      g_autofree char *said = NULL;
      int ends[2], fds[2];
      Runner runner;

      greet (&runner);
      g_assert_cmpint (pipe2 (ends, O_CLOEXEC), ==, 0);
      fds[0] = i == 0 ? memory_of ("", 0) : i == 1 ? memory_of ("\177ELF and then nothing", 21) : dup (ends[0]);
      fds[1] = ends[1];
      say (&runner, WIRE_LOAD, &body, NULL, fds, 2);
      g_assert_cmpint (answer (&runner), ==, WIRE_ERROR);
      g_assert_cmpint (ask (&runner, WIRE_START), ==, WIRE_ERROR);
      close (fds[0]);
      close (ends[0]);
      close (ends[1]);
      said = runner_end (&runner);
      g_assert_cmpstr (said, ==, "");
    }
}

/* What is set for the cell makes no sense: it is not loaded, and the runner is as before. */
static void
test_settings (void)
{
  g_autofree char *large = g_malloc0 (SETTINGS_MAX_SIZE + 1), *said = NULL;
  Runner runner;

  greet (&runner);
  g_assert_cmpint (load_with (&runner, "sequence", "key=value\n", 10), ==, WIRE_ERROR);
  g_assert_cmpint (load_with (&runner, "sequence", "key\0\377\0\4\7", 8), ==, WIRE_ERROR);   /* not UTF-8 */
  g_assert_cmpint (load_with (&runner, "sequence", "key\0value\0\4\14", 12), ==, WIRE_ERROR);
  g_assert_cmpint (load_with (&runner, "sequence", large, SETTINGS_MAX_SIZE + 1), ==, WIRE_ERROR);
  g_assert_cmpint (load_with (&runner, "sequence", NULL, 0), ==, WIRE_READY);
  say (&runner, WIRE_QUIT, NULL, NULL, NULL, 0);
  said = runner_end (&runner);
  g_assert_cmpstr (said, ==, "");
}

/* Where it is to count is not what it should be. */
static void
test_stats (void)
{
  g_autofree char *path = g_build_filename (g_getenv ("TEST_CELLS"), "sequence.so", NULL), *bytes = NULL;

  for (guint i = 0; i < 2; i++)
    {
      WireLoad body = { .cell = "tested" };
      g_autofree char *said = NULL;
      Runner runner;
      gsize size;
      int fds[2];

      greet (&runner);
      g_free (g_steal_pointer (&bytes));
      g_assert_true (g_file_get_contents (path, &bytes, &size, NULL));
      fds[0] = memory_of (bytes, size);
      fds[1] = i == 0 ? memory_of (stats, sizeof stats - 1) : open ("/dev/null", O_RDWR | O_CLOEXEC);
      body.plugin_size = size;
      say (&runner, WIRE_LOAD, &body, NULL, fds, 2);
      g_assert_cmpint (answer (&runner), ==, WIRE_ERROR);
      close (fds[0]);
      close (fds[1]);
      said = runner_end (&runner);
      g_assert_cmpstr (said, ==, "");
    }
}

/* One message, whose bytes are not those of any. */
static void
test_junk (void)
{
  for (guint i = 0; i < 30; i++)
    {
      g_autofree char *said = NULL;
      struct { WireHeader header; guint8 rest[400]; } message = { .header = { .type = WIRE_STOP, .serial = 1 } };
      gsize size = sizeof message.header;
      Runner runner;

      greet (&runner);
      if (i % 2 == 1)
        g_assert_cmpint (load (&runner, "sequence"), ==, WIRE_READY);
      message.header.size = (uint32_t) size;
      switch (i / 2)
        {
        case 0: size = 1; break;
        case 1: size = sizeof message.header - 1; break;
        case 2: message.header.size++; break;
        case 3: message.header.size = UINT32_MAX; break;
        case 4: message.header.type = 0; break;
        case 5: message.header.type = 4711; break;
        case 6: message.header.n_fds = 3; break;                /* there are none */
        case 7: message.header.type = WIRE_LOAD; break;         /* without its body */
        case 8: message.header.type = WIRE_ATTACH; break;
        case 9: message.header.type = WIRE_HELLO; break;
        case 10: message.header.size = (uint32_t) (size = sizeof message); break;       /* with a tail that it has not */
        /* nobody asked */
        case 11: message.header.type = WIRE_BLOB; message.header.size = (uint32_t) (size += sizeof (WireBlob)); break;
        default:
          for (gsize k = 0; k < sizeof message; k++)
            ((guint8 *) &message)[k] = (guint8) g_test_rand_int ();
          size = (gsize) g_test_rand_int_range (1, sizeof message);
        }
      g_assert_cmpint (send (runner.socket, &message, size, MSG_NOSIGNAL), ==, (gssize) size);
      said = runner_end (&runner);
      if (i / 2 != 11)
        g_assert_cmpstr (said, !=, "");
    }
}

/* A walk through right messages in any order, with wrong ones between. */
static void
walk (Runner *runner)
{
  static const WireType words[] = { WIRE_START, WIRE_STOP, WIRE_SAVE, WIRE_GIVE, WIRE_DETACH };
  guint8 bytes[256];

  for (guint i = 0; i < sizeof bytes; i++)
    bytes[i] = (guint8) g_test_rand_int ();
  for (guint n = 0; n < 60; n++)
    {
      WireType type;

      switch (g_test_rand_int_range (0, 12))
        {
        case 0:
          type = load (runner, "sequence");
          break;
        case 1:
        case 2:
          type = attach (runner, (WireAttach) {
            .channel = (uint64_t) g_test_rand_int_range (0, 4), .taken = 64 * (uint64_t) g_test_rand_int_range (0, 1000),
            .answered = 64 * (uint64_t) g_test_rand_int_range (0, 1000), .subscribed = (uint64_t) g_test_rand_int (),
          });
          break;
        case 3:
          type = give (runner, WIRE_RESTORE, sizeof bytes, bytes, sizeof bytes);
          break;
        case 4:
          type = give (runner, WIRE_TAKE, sizeof bytes, bytes, (gsize) g_test_rand_int_range (1, sizeof bytes));
          break;
        default:
          type = ask (runner, words[g_test_rand_int_range (0, G_N_ELEMENTS (words))]);
        }
      g_assert_cmpint (type, !=, 0);    /* none of these is a reason to end */
    }
}

static void
test_walks (void)
{
  for (guint i = 0; i < 20; i++)
    {
      g_autofree char *said = NULL;
      Runner runner;

      greet (&runner);
      walk (&runner);
      if (i % 2 == 0)
        say (&runner, WIRE_QUIT, NULL, NULL, NULL, 0);
      said = runner_end (&runner);
      g_assert_cmpstr (said, ==, "");
    }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/runner/first-words", test_first_words);
  g_test_add_func ("/runner/order", test_order);
  g_test_add_func ("/runner/bell", test_bell);
  g_test_add_func ("/runner/plugins", test_plugins);
  g_test_add_func ("/runner/settings", test_settings);
  g_test_add_func ("/runner/stats", test_stats);
  g_test_add_func ("/runner/junk", test_junk);
  g_test_add_func ("/runner/walks", test_walks);
  return g_test_run ();
}

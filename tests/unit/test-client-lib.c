/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * libcellhost where there is no host to talk to: each case is told apart in one sentence, by the bus and by every call, and is over
 * when a host is there.
 */
#include <errno.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cell/client.h>

CELL_ARGS (PlainAdd, field (i64, a), field (i64, b))
CELL_REPLY (PlainAdd, field (i64, sum))
CELL_STUBS (plain, add, PlainAdd, 0)
#define plain_add(...) plain_add (CELL_NAMED (PlainAdd, __VA_ARGS__))
#define plain_add_start(...) plain_add_start (CELL_NAMED (PlainAdd, __VA_ARGS__))
#define plain_add_async(...) plain_add_async (CELL_NAMED_ASYNC (PlainAdd, __VA_ARGS__))
CELL_STRUCT (PlainTicked, field (u32, n))
CELL_SIGNAL_STUBS (plain, ticked, PlainTicked, 0)
CELL_REMOTE_METHODS (Plain, CELL_REMOTE_METHOD ("add", PlainAdd, 1, 0, 0))
CELL_REMOTE_SIGNALS (Plain, CELL_REMOTE_SIGNAL ("ticked", PlainTicked, 2))
CELL_REMOTE (Plain, "org.example.Plain", 1, 3)

typedef struct
{
  char *folder, *path;
} Place;

static void
set_up (Place *place, gconstpointer data)
{
  (void) data;
  place->folder = g_dir_make_tmp ("cellhost-XXXXXX", NULL);
  g_assert_nonnull (place->folder);
  place->path = g_build_filename (place->folder, "socket", NULL);
}

static void
tear_down (Place *place, gconstpointer data)
{
  (void) data;
  g_unlink (place->path);
  g_rmdir (place->folder);
  g_free (place->path);
  g_free (place->folder);
}

static int
listen_at (const char *path, int type)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  int fd = socket (AF_UNIX, type | SOCK_CLOEXEC, 0);

  g_assert_cmpint (fd, >=, 0);
  g_strlcpy (address.sun_path, path, sizeof address.sun_path);
  g_assert_cmpint (bind (fd, (struct sockaddr *) &address, sizeof address), ==, 0);
  g_assert_cmpint (listen (fd, 8), ==, 0);
  return fd;
}

static void
assert_says (CellBus *bus, CellStatus status, const char *part)
{
  CellResult result;

  g_assert_cmpint (cell_bus_check (bus, &result), ==, status);
  g_assert_cmpint (result.status, ==, status);
  if (strstr (result.message, part) == NULL)
    g_error ("“%s” does not say “%s”", result.message, part);
  g_assert_null (strchr (result.message, '\n'));
  cell_reply_free (&result);
}

static void
count (const PlainAdd *reply, void *data)
{
  CellStatus *statuses = data;

  g_assert_cmpint (reply->sum, ==, 0);
  statuses[0] = reply->result.status;
  statuses[1]++;
}

/* ---- nobody is there ------------------------------------------------------------------------------------------ */

static void
test_not_running (Place *place, gconstpointer data)
{
  CellBus *bus = cell_open (place->path);
  CellClient *client = cell_bind (bus, Plain, "plain");
  CellStatus done[2] = { 0 };
  PlainAddCall call;

  (void) data;
  assert_says (bus, CELL_ERROR_UNREACHABLE, place->path);
  assert_says (bus, CELL_ERROR_UNREACHABLE, "start it with cellhostd");
  {
    cell_auto PlainAdd add = plain_add (client, .a = 1, .b = 2);

    g_assert_cmpint (add.result.status, ==, CELL_ERROR_UNREACHABLE);
    g_assert_cmpstr (add.result.error, ==, "org.cellhost.Error.Unreachable");
    g_assert_nonnull (strstr (add.result.message, "cellhostd"));
    g_assert_cmpint (add.sum, ==, 0);
  }
  call = plain_add_start (client, .a = 1);
  {
    cell_auto PlainAdd add = plain_add_finish (call);

    g_assert_cmpint (add.result.status, ==, CELL_ERROR_UNREACHABLE);
    g_assert_cmpint (add.sum, ==, 0);
  }
  g_assert_cmpint (plain_on_ticked (client, NULL, NULL), ==, CELL_ERROR_INVALID);
  plain_add_async (client, count, done, .a = 1);
  g_assert_cmpint (done[1], ==, 0);             /* completions run when they are dispatched, and then only */
  g_assert_cmpint (poll (&(struct pollfd) { cell_bus_get_fd (bus), POLLIN, 0 }, 1, 20000), ==, 1);
  g_assert_cmpint (cell_bus_dispatch (bus, 20000), ==, 1);
  g_assert_cmpint (done[0], ==, CELL_ERROR_UNREACHABLE);
  g_assert_cmpint (done[1], ==, 1);
  g_assert_cmpint (cell_bus_dispatch (bus, 0), ==, 0);
  g_assert_cmpint (poll (&(struct pollfd) { cell_bus_get_fd (bus), POLLIN, 0 }, 1, 0), ==, 0);
  cell_close (bus);
}

/* The socket of a host that has died. */
static void
test_left_behind (Place *place, gconstpointer data)
{
  CellBus *bus;

  (void) data;
  close (listen_at (place->path, SOCK_SEQPACKET));
  bus = cell_open (place->path);
  assert_says (bus, CELL_ERROR_UNREACHABLE, "start it with cellhostd");
  cell_close (bus);
}

static void
test_too_long (void)
{
  g_autofree char *path = g_strnfill (300, 'x');
  CellBus *bus = cell_open (path);

  assert_says (bus, CELL_ERROR_INVALID, "longer than 107 bytes");
  cell_close (bus);
}

static void
test_environment (Place *place, gconstpointer data)
{
  CellBus *bus;
  g_autofree char *expected = g_strconcat (place->folder, "/cellhost/socket", NULL);

  (void) data;
  g_setenv ("CELLHOST_SOCKET", place->path, TRUE);
  bus = cell_open (NULL);
  assert_says (bus, CELL_ERROR_UNREACHABLE, place->path);
  cell_close (bus);
  g_unsetenv ("CELLHOST_SOCKET");
  g_setenv ("XDG_RUNTIME_DIR", place->folder, TRUE);
  bus = cell_open (NULL);
  assert_says (bus, CELL_ERROR_UNREACHABLE, expected);
  cell_close (bus);
}

static void
test_not_allowed (Place *place, gconstpointer data)
{
  int fd;
  CellBus *bus;

  (void) data;
  if (geteuid () == 0)
    {
      g_test_skip ("root may connect to anything");
      return;
    }
  fd = listen_at (place->path, SOCK_SEQPACKET);
  g_assert_cmpint (g_chmod (place->path, 0), ==, 0);
  bus = cell_open (place->path);
  assert_says (bus, CELL_ERROR_DENIED, "may not connect");
  cell_close (bus);
  close (fd);
}

/* ---- somebody else is there -------------------------------------------------------------------------------------- */

static void
test_stream (Place *place, gconstpointer data)
{
  int fd = listen_at (place->path, SOCK_STREAM);
  CellBus *bus = cell_open (place->path);

  (void) data;
  assert_says (bus, CELL_ERROR_UNREACHABLE, "no host of cells");
  cell_close (bus);
  close (fd);
}

typedef struct
{
  int fd;
  const void *bytes;            /* the answer; NULL: hangs up */
  size_t size;
  int n;                        /* connections */
} Stranger;

/* Takes what it is told, answers, and hangs up, until the socket is shut down. */
static gpointer
be_strange (gpointer data)
{
  Stranger *stranger = data;
  char hello[1024];
  int fd;

  while ((fd = accept (stranger->fd, NULL, NULL)) >= 0)
    {
      g_assert_cmpint (recv (fd, hello, sizeof hello, 0), >, 0);
      if (stranger->bytes != NULL)
        g_assert_cmpint (send (fd, stranger->bytes, stranger->size, MSG_NOSIGNAL), ==, stranger->size);
      close (fd);
      stranger->n++;
    }
  return NULL;
}

static void
assert_stranger_says (const char *path, const void *bytes, size_t size, CellStatus status, const char *part)
{
  Stranger stranger = { listen_at (path, SOCK_SEQPACKET), bytes, size, 0 };
  GThread *thread = g_thread_new ("stranger", be_strange, &stranger);
  CellBus *bus = cell_open (path);

  assert_says (bus, status, part);
  cell_close (bus);
  shutdown (stranger.fd, SHUT_RDWR);
  g_thread_join (thread);
  close (stranger.fd);
  g_unlink (path);
  g_assert_cmpint (stranger.n, ==, 2);          /* cell_open () and cell_bus_check () each tried */
}

static void
test_strangers (Place *place, gconstpointer data)
{
  /* A header as the protocol has it: size, type, descriptors, serial. */
  struct
  {
    uint32_t size;
    uint16_t type, n_fds;
    uint64_t serial;
    int32_t status;
    uint32_t reserved;
    char message[16];
  } refusal = { sizeof refusal, 14, 0, 1, CELL_ERROR_DENIED, 0, "go away, please" };
  struct
  {
    uint32_t size;
    uint16_t type, n_fds;
    uint64_t serial;
  } welcome = { sizeof welcome, 2, 0, 1 }, unknown = { sizeof unknown, 999, 0, 1 }, lie = { 4096, 2, 0, 1 };

  (void) data;
  assert_stranger_says (place->path, NULL, 0, CELL_ERROR_UNREACHABLE, "ended the connection");
  assert_stranger_says (place->path, "HTTP/1.1 400\r\n", 14, CELL_ERROR_CORRUPT, "shorter than its header");
  assert_stranger_says (place->path, &unknown, sizeof unknown, CELL_ERROR_CORRUPT, "no known type");
  assert_stranger_says (place->path, &lie, sizeof lie, CELL_ERROR_CORRUPT, "size that it says");
  assert_stranger_says (place->path, &welcome, sizeof welcome, CELL_ERROR_CORRUPT, "descriptors");
  assert_stranger_says (place->path, &refusal, sizeof refusal, CELL_ERROR_DENIED, "go away, please");
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add ("/client-lib/not-running", Place, NULL, set_up, test_not_running, tear_down);
  g_test_add ("/client-lib/left-behind", Place, NULL, set_up, test_left_behind, tear_down);
  g_test_add_func ("/client-lib/too-long", test_too_long);
  g_test_add ("/client-lib/environment", Place, NULL, set_up, test_environment, tear_down);
  g_test_add ("/client-lib/not-allowed", Place, NULL, set_up, test_not_allowed, tear_down);
  g_test_add ("/client-lib/stream", Place, NULL, set_up, test_stream, tear_down);
  g_test_add ("/client-lib/strangers", Place, NULL, set_up, test_strangers, tear_down);
  return g_test_run ();
}

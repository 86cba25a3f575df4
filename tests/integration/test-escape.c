/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A cell in its sandbox that tries to get out, and to take more than its share: each attempt fails, and the host lives on.
 *
 * Whoever runs this runs the host: root, too.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <cell/remote/escaper.h>

#include "host-fixture.h"
#include "host/restrain.h"
#include "plugins/sandbox/landlock.h"

#define MIB ((guint64) 1 << 20)

typedef struct
{
  HostFixture host;
  HostCell *cell;
  CellBus *bus;
  CellClient *client;
  gboolean skipped;
} Scene;

/* data: not NULL: the cell stays in the host, to see that what is tried there works. */
static void
set_up (Scene *scene, gconstpointer data)
{
  host_fixture_set_up (&scene->host, NULL);
  scene->skipped = !host_fixture_has_sandbox ();
  scene->cell = host_fixture_load (&scene->host, "escaper", "escaper", NULL);
  if (!scene->skipped && data == NULL)
    host_fixture_eject (scene->cell);
  scene->bus = cell_open (scene->host.socket);
  scene->client = cell_bind (scene->bus, Escaper, "escaper");
}

static void
tear_down (Scene *scene, gconstpointer data)
{
  (void) data;
  cell_close (scene->bus);
  host_cell_unref (scene->cell);
  host_fixture_tear_down (&scene->host, NULL);
}

#define assert_answered(t) g_assert_cmpstr ((t).result.message, ==, NULL)

/* ---- files ------------------------------------------------------------------------------------------------------- */

static void
test_files (Scene *scene, gconstpointer data)
{
  static const char *const not_writable[] = {
    "/here", "/run/here", "/run/cell-runner", "/dev/here", "/usr/here", "/usr/bin/env", "/etc/ld.so.cache", "/etc/here",
    "/proc/here", "/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger",
    "/proc/self/autogroup",
  };
  static const char *const writable[] = { "/tmp/here", "/dev/shm/here", "/dev/null" };
  static const char *const not_there[] = {
    "/etc/passwd", "/etc/shadow", "/home", "/root", "/var", "/sys", "/boot", "/mnt", "/srv",
  };
  const char *const host_files[] = { scene->host.folder, scene->host.socket, g_get_home_dir (), g_get_user_runtime_dir () };

  (void) data;
  if (scene->skipped)
    return;
  for (guint i = 0; i < G_N_ELEMENTS (not_writable); i++)
    {
      cell_auto EscaperWriteFile t = escaper_write_file (scene->client, .path = not_writable[i]);

      assert_answered (t);
      g_test_message ("%s: %s", not_writable[i], g_strerror (t.number));
      g_assert_cmpint (t.number, !=, 0);
    }
  for (guint i = 0; i < G_N_ELEMENTS (writable); i++)
    {
      cell_auto EscaperWriteFile t = escaper_write_file (scene->client, .path = writable[i]);

      assert_answered (t);
      g_assert_cmpint (t.number, ==, 0);
    }
  for (guint i = 0; i < G_N_ELEMENTS (not_there) + G_N_ELEMENTS (host_files); i++)
    {
      const char *path = i < G_N_ELEMENTS (not_there) ? not_there[i] : host_files[i - G_N_ELEMENTS (not_there)];
      cell_auto EscaperReadFile t = escaper_read_file (scene->client, .path = path);

      assert_answered (t);
      g_test_message ("%s: %s", path, g_strerror (t.number));
      g_assert_cmpint (t.number, !=, 0);
    }
}

/* That is mounted for writing, and no mount's business.  In the host it can, so that a wrong name would be noticed. */
static void
test_terminal (Scene *scene, gconstpointer data)
{
  if (scene->skipped)
    return;
  if (syscall (SYS_landlock_create_ruleset, NULL, 0, 1) < LANDLOCK_LEAST)
    {
      g_test_skip ("this kernel has no Landlock, or an old one");
      return;
    }
  cell_auto EscaperWriteFile t = escaper_write_file (scene->client, .path = "/dev/ptmx");
  assert_answered (t);
  g_assert_cmpint (t.number, ==, data != NULL ? 0 : EACCES);
}

/* Wherever it can write there is an end to it, which is not that of the machine. */
static void
test_fill (Scene *scene, gconstpointer data)
{
  static const char *const folders[] = { "/tmp", "/dev/shm" };

  (void) data;
  if (scene->skipped)
    return;
  for (guint i = 0; i < G_N_ELEMENTS (folders); i++)
    {
      cell_auto EscaperFill t = escaper_fill (scene->client, .folder = folders[i], .most = 256 * MIB);

      assert_answered (t);
      g_assert_cmpint (t.number, ==, ENOSPC);
      g_assert_cmpuint (t.bytes, <=, 64 * MIB);
      g_assert_cmpuint (t.bytes, >, 32 * MIB);
    }
}

/* ---- others ------------------------------------------------------------------------------------------------------ */

/* In the host it can, so that a wrong address would be noticed. */
static void
check_connects (Scene *scene, const char *path, gboolean connects)
{
  cell_auto EscaperConnectTo t = escaper_connect_to (scene->client, .path = path);

  assert_answered (t);
  g_test_message ("%s: %s", path, g_strerror (t.number));
  if (connects)
    g_assert_cmpint (t.number, ==, 0);
  else
    g_assert_cmpint (t.number, !=, 0);
}

static int
listen_at (const char *path)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  socklen_t size = (socklen_t) (offsetof (struct sockaddr_un, sun_path) + strlen (path));
  int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

  strncpy (address.sun_path, path, sizeof address.sun_path - 1);
  if (path[0] == '@')
    address.sun_path[0] = 0;
  g_assert_cmpint (bind (fd, (struct sockaddr *) &address, size), ==, 0);
  g_assert_cmpint (listen (fd, 16), ==, 0);
  return fd;
}

/* The host's own socket, and one as a session bus has it: a file, or a name that is no file. */
static void
test_sockets (Scene *scene, gconstpointer data)
{
  g_autofree char *bus = g_build_filename (scene->host.folder, "bus", NULL);
  g_autofree char *name = g_strdup_printf ("@cellhost-test-%d", (int) getpid ());
  int fds[] = { listen_at (bus), listen_at (name) };

  if (!scene->skipped)
    {
      check_connects (scene, scene->host.socket, data != NULL);
      check_connects (scene, bus, data != NULL);
      check_connects (scene, name, data != NULL);
    }
  for (guint i = 0; i < G_N_ELEMENTS (fds); i++)
    close (fds[i]);
}

static void
test_network (Scene *scene, gconstpointer data)
{
  static const int families[] = { AF_VSOCK, AF_ALG, AF_PACKET, AF_BLUETOOTH, AF_XDP, AF_CAN };
  struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl (INADDR_LOOPBACK) };
  socklen_t size = sizeof address;
  int fd = socket (AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

  g_assert_cmpint (bind (fd, (struct sockaddr *) &address, sizeof address), ==, 0);
  g_assert_cmpint (listen (fd, 1), ==, 0);
  g_assert_cmpint (getsockname (fd, (struct sockaddr *) &address, &size), ==, 0);
  if (!scene->skipped)
    {
      cell_auto EscaperConnectTcp t = escaper_connect_tcp (scene->client, .address = "127.0.0.1", .port = ntohs (address.sin_port));

      assert_answered (t);
      g_assert_cmpint (t.number, ==, data != NULL ? 0 : ECONNREFUSED);
    }
  close (fd);
  for (guint i = 0; i < G_N_ELEMENTS (families) && !scene->skipped && data == NULL; i++)
    {
      cell_auto EscaperMakeSocket t = escaper_make_socket (scene->client, .family = families[i]);
      cell_auto EscaperConnectTcp out = escaper_connect_tcp (scene->client, .address = "192.0.2.1", .port = 80);

      assert_answered (t);
      g_assert_cmpint (t.number, ==, EAFNOSUPPORT);
      assert_answered (out);
      g_assert_cmpint (out.number, ==, ENETUNREACH);
    }
}

static void
test_processes (Scene *scene, gconstpointer data)
{
  cell_auto EscaperCountProcesses t = { 0 };
  cell_auto EscaperSignalProcess other = { 0 };
  cell_auto EscaperGetCapabilities capabilities = { 0 };

  (void) data;
  if (scene->skipped)
    return;
  t = escaper_count_processes (scene->client);
  assert_answered (t);
  g_assert_cmpuint (t.n, ==, 1);
  other = escaper_signal_process (scene->client, .pid = (int) getpid () != 1 ? (int) getpid () : 2);
  assert_answered (other);
  g_assert_cmpint (other.number, ==, ESRCH);
  capabilities = escaper_get_capabilities (scene->client);
  assert_answered (capabilities);
  g_assert_cmpuint (capabilities.n, ==, 0);
  g_assert_false (capabilities.new_privileges);
}

/* ---- system calls ------------------------------------------------------------------------------------------------ */

static const char *const forbidden_calls[] = {
  "memfd_create", "ptrace", "process_vm_readv", "unshare", "setns", "clone", "ioctl", "ioctl/high", "mount", "userfaultfd", "bpf",
};

/* It ends the cell, and says why. */
static void
test_forbidden (Scene *scene, gconstpointer data)
{
  const char *what = data;
  g_autofree char *wanted = NULL;
  cell_auto EscaperForbidden t = { 0 };
  ProcessEnd end;
  Child *child;

  if (scene->skipped)
    return;
  host_fixture_eject (scene->cell);
  child = child_ref (scene->cell->child);
  t = escaper_forbidden (scene->client, .what = what);
  g_test_message ("%s", t.result.message);
  g_assert_cmpint (t.result.status, !=, CELL_OK);
  child_wait_end (child, &end);
  wanted = g_strdup_printf ("its process made the system call %.*s, which is forbidden in a sandbox", (int) strcspn (what, "/"),
                            what);
  g_assert_cmpstr (end.why, ==, wanted);
  g_free (end.why);
  child_unref (child);
}

/* Those that a library may try. */
static void
test_failing (Scene *scene, gconstpointer data)
{
  static const struct
  {
    const char *what;
    int number;
  } calls[] = {
    { "clone3", ENOSYS }, { "io_uring_setup", ENOSYS }, { "io_setup", ENOSYS }, { "keyctl", ENOSYS }, { "personality", EPERM },
    { "setsid", EPERM }, { "futex_waitv", EINVAL }, { "timer_create", ENOSYS }, { "mq_notify", ENOSYS }, { "fcntl/signal", EPERM },
  };

  (void) data;
  for (guint i = 0; i < G_N_ELEMENTS (calls) && !scene->skipped; i++)
    {
      cell_auto EscaperForbidden t = escaper_forbidden (scene->client, .what = calls[i].what);

      assert_answered (t);
      g_test_message ("%s: %s", calls[i].what, g_strerror (t.number));
      g_assert_cmpint (t.number, ==, calls[i].number);
    }
}

/* ---- more than its share ----------------------------------------------------------------------------------------- */

static void
test_fork_bomb (Scene *scene, gconstpointer data)
{
  cell_auto EscaperForkBomb t = { 0 };

  (void) data;
  if (scene->skipped)
    return;
  if (geteuid () == 0)
    {
      g_test_skip ("the kernel does not count the processes of root");
      return;
    }
  t = escaper_fork_bomb (scene->client, .most = 2000);
  assert_answered (t);
  g_assert_cmpint (t.number, ==, EAGAIN);
  g_assert_cmpuint (t.n, <, 512);
  g_assert_cmpuint (t.n, >, 256);
}

static void
test_memory_bomb (Scene *scene, gconstpointer data)
{
  cell_auto EscaperMemoryBomb t = { 0 };

  (void) data;
  if (scene->skipped)
    return;
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
  g_test_skip ("a sanitizer needs all the memory that there is");
  return;
#endif
  t = escaper_memory_bomb (scene->client, .most = (guint64) 64 << 30);
  assert_answered (t);
  g_assert_cmpint (t.number, ==, ENOMEM);
  g_assert_cmpuint (t.bytes, <=, (guint64) 4 << 30);
}

/* Whom the kernel takes first when there is no memory left. */
static void
test_goes_first (Scene *scene, gconstpointer data)
{
  g_autofree char *path = NULL, *text = NULL;

  (void) data;
  if (scene->skipped)
    return;
  path = g_strdup_printf ("/proc/%d/oom_score_adj", (int) child_get_pid (scene->cell->child));
  g_assert_true (g_file_get_contents (path, &text, NULL, NULL));
  g_assert_cmpstr (text, ==, "1000\n");
}

/* All of its threads, and its session, where the kernel shares processors out among them. */
static gboolean
goes_last (Scene *scene)
{
  const int pid = (int) child_get_pid (scene->cell->child);
  g_autofree char *tasks = g_strdup_printf ("/proc/%d/task", pid), *path = g_strdup_printf ("/proc/%d/autogroup", pid),
                  *text = NULL;
  g_autoptr(GDir) dir = g_dir_open (tasks, 0, NULL);
  const char *name;

  g_assert_nonnull (dir);
  while ((name = g_dir_read_name (dir)) != NULL)
    if (sched_getscheduler (atoi (name)) != SCHED_IDLE)
      return FALSE;
  return !g_file_get_contents (path, &text, NULL, NULL) || text[0] == 0 || g_str_has_suffix (text, "nice 19\n");
}

/* Of a session a user can say so ten times in a second, all his processes together, and this was one of them: of our own, which
 * stays as it is. */
static void
take_the_turn (void)
{
  int fd = open ("/proc/self/autogroup", O_WRONLY | O_CLOEXEC);

  if (fd < 0)
    return;
  (void) !write (fd, "0", 1);
  close (fd);
}

static void
restrain_it (Scene *scene)
{
  gint64 until = g_get_monotonic_time () + 60 * G_USEC_PER_SEC;

  take_the_turn ();
  restrain (scene->host.host, scene->cell->child, "this is a test");
  while (!goes_last (scene))
    {
      g_assert_cmpint (g_get_monotonic_time (), <, until);
      g_usleep (1000);
    }
}

/* One that was told to leave the processors to others cannot take that back, nor leave the session that was. */
static void
test_goes_last (Scene *scene, gconstpointer data)
{
  g_autofree char *other = g_strdup_printf ("sched_setscheduler/%d", SCHED_OTHER),
                  *batch = g_strdup_printf ("sched_setscheduler/%d", SCHED_BATCH);
  const struct { const char *what; int number; } ways[] = {
    { other, EPERM }, { batch, EPERM }, { "setpriority", EACCES }, { "setpriority/group", EACCES }, { "setsid", EPERM },
  };

  (void) data;
  if (scene->skipped)
    return;
  restrain_it (scene);
  for (guint i = 0; i < G_N_ELEMENTS (ways); i++)
    {
      cell_auto EscaperForbidden t = escaper_forbidden (scene->client, .what = ways[i].what);

      assert_answered (t);
      g_test_message ("%s: %s", ways[i].what, g_strerror (t.number));
      g_assert_cmpint (t.number, ==, ways[i].number);
    }
  g_assert_true (goes_last (scene));
}

static void
test_limits (Scene *scene, gconstpointer data)
{
  static const struct
  {
    int resource;
    guint64 most;
  } limits[] = {
    { RLIMIT_CORE, 0 }, { RLIMIT_NPROC, 512 }, { RLIMIT_NOFILE, 4096 }, { RLIMIT_FSIZE, 1024 * MIB }, { RLIMIT_MEMLOCK, 8 * MIB },
    { RLIMIT_MSGQUEUE, 0 }, { RLIMIT_NICE, 0 }, { RLIMIT_RTPRIO, 0 },
  };

  (void) data;
  for (guint i = 0; i < G_N_ELEMENTS (limits) && !scene->skipped; i++)
    {
      cell_auto EscaperGetLimit t = escaper_get_limit (scene->client, .resource = limits[i].resource);

      assert_answered (t);
      g_assert_cmpuint (t.most, <=, limits[i].most);
    }
}

/* What its callers and the host write. */
static void
test_read_only (Scene *scene, gconstpointer data)
{
  cell_auto EscaperMakeWritable t = { 0 };

  (void) data;
  if (scene->skipped)
    return;
  t = escaper_make_writable (scene->client);
  assert_answered (t);
  /* Not even a descriptor of it is left. */
  g_assert_cmpuint (t.n_sealed, ==, 0);
  g_assert_cmpuint (t.n_written, ==, 0);
}

#define add(name, function, data) g_test_add ("/escape/" name, Scene, data, set_up, function, tear_down)

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_log_set_always_fatal (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL);
  add ("files", test_files, NULL);
  add ("terminal", test_terminal, NULL);
  add ("terminal/in-the-host", test_terminal, "");
  add ("fill", test_fill, NULL);
  add ("sockets", test_sockets, NULL);
  add ("sockets/in-the-host", test_sockets, "");
  add ("network", test_network, NULL);
  add ("network/in-the-host", test_network, "");
  add ("processes", test_processes, NULL);
  for (guint i = 0; i < G_N_ELEMENTS (forbidden_calls); i++)
    {
      g_autofree char *path = g_strconcat ("/escape/forbidden/", forbidden_calls[i], NULL);

      g_test_add (path, Scene, forbidden_calls[i], set_up, test_forbidden, tear_down);
    }
  add ("calls-that-fail", test_failing, NULL);
  add ("fork-bomb", test_fork_bomb, NULL);
  add ("memory-bomb", test_memory_bomb, NULL);
  add ("goes-first", test_goes_first, NULL);
  add ("goes-last", test_goes_last, NULL);
  add ("limits", test_limits, NULL);
  add ("read-only", test_read_only, NULL);
  return g_test_run ();
}

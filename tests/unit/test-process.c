/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What another program is started with, and how its end is told.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <glib.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include "plugins/cell-error.h"
#include "plugins/sandbox/process.h"

#define PATIENCE_MS 60000

/* Its standard output is a pipe, of which *ret_from is our end. */
static Process *
start (const char *script, int extra, int as, int *ret_from)
{
  g_autoptr(GError) error = NULL;
  int ends[2];
  Process *process;

  g_assert_cmpint (pipe2 (ends, O_CLOEXEC), ==, 0);
  const ProcessFd fds[] = {
    { open ("/dev/null", O_RDONLY | O_CLOEXEC), 0 }, { ends[1], 1 }, { fcntl (STDERR_FILENO, F_DUPFD_CLOEXEC, 3), 2 }, { extra, as }
  };

  process = process_start ((const char *[]) { "sh", "-c", script, NULL }, fds, extra >= 0 ? 4 : 3, &error);
  g_assert_no_error (error);
  g_assert_nonnull (process);
  *ret_from = ends[0];
  return process;
}

static char *
read_all (int fd)
{
  g_autoptr(GString) text = g_string_new (NULL);
  char chunk[256];
  ssize_t n;

  while ((n = read (fd, chunk, sizeof chunk)) > 0)
    g_string_append_len (text, chunk, n);
  close (fd);
  return g_string_free (g_steal_pointer (&text), FALSE);
}

static int
status_of (const char *script)
{
  int from;
  g_autoptr(Process) process = start (script, -1, -1, &from);

  g_free (read_all (from));
  return process_wait (process);
}

/* One that forgets to say that its descriptors are its own has them all the same. */
static void
test_descriptors (void)
{
  int forgotten = open ("/", O_RDONLY), low = dup2 (forgotten, 5), given = open ("/etc", O_PATH | O_CLOEXEC), from;
  g_autofree char *text = NULL;
  g_autoptr(Process) process = NULL;

  g_assert_cmpint (forgotten, >=, 0);
  g_assert_cmpint (low, ==, 5);
  g_assert_cmpint (given, >=, 0);
  process = start ("ls /proc/$$/fd; readlink /proc/$$/fd/9", given, 9, &from);
  text = read_all (from);
  g_assert_cmpstr (text, ==, "0\n1\n2\n9\n/etc\n");
  g_assert_cmpint (process_wait (process), ==, 0);
  close (forgotten);
  close (low);
}

/* Where one is to go another one lies. */
static void
test_crossed (void)
{
  int a = open ("/etc", O_PATH | O_CLOEXEC), b = open ("/usr", O_PATH | O_CLOEXEC), ends[2];
  g_autoptr(GError) error = NULL;
  g_autoptr(Process) process = NULL;
  g_autofree char *text = NULL;

  g_assert_cmpint (pipe2 (ends, O_CLOEXEC), ==, 0);
  const ProcessFd fds[] = { { ends[1], 1 }, { a, b }, { b, a } };
  g_autofree char *script = g_strdup_printf ("readlink /proc/$$/fd/%d /proc/$$/fd/%d", a, b);

  process = process_start ((const char *[]) { "sh", "-c", script, NULL }, fds, G_N_ELEMENTS (fds), &error);
  g_assert_no_error (error);
  text = read_all (ends[0]);
  g_assert_cmpstr (text, ==, "/usr\n/etc\n");
}

static void
test_ends (void)
{
  g_assert_cmpint (status_of ("exit 0"), ==, 0);
  g_assert_cmpint (status_of ("exit 7"), ==, 7);
  g_assert_cmpint (status_of ("kill -SEGV $$"), ==, 128 + SIGSEGV);
}

static gpointer
wait_main (gpointer process)
{
  return GINT_TO_POINTER (process_wait (process));
}

/* Whoever waits is told the same, before and after. */
static void
test_killed (void)
{
  GThread *threads[3];
  int from;
  g_autoptr(Process) process = start ("echo; exec sleep 600", -1, -1, &from);
  struct pollfd ended = { process_get_pidfd (process), POLLIN, 0 };
  char byte;

  g_assert_cmpint (read (from, &byte, 1), ==, 1);
  g_assert_cmpint (poll (&ended, 1, 0), ==, 0);
  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    threads[i] = g_thread_new ("waits", wait_main, process);
  process_kill (process);
  g_assert_cmpint (poll (&ended, 1, PATIENCE_MS), ==, 1);
  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    g_assert_cmpint (GPOINTER_TO_INT (g_thread_join (threads[i])), ==, 128 + SIGKILL);
  process_kill (process);
  g_assert_cmpint (process_wait (process), ==, 128 + SIGKILL);
  close (from);
}

static void
test_missing (void)
{
  g_autoptr(GError) error = NULL;
  int fd = open ("/dev/null", O_RDONLY | O_CLOEXEC);

  g_assert_null (process_start ((const char *[]) { "/nonexistent/program", NULL }, &(ProcessFd) { fd, 0 }, 1, &error));
  g_assert_cmpint (cell_status_from_error (error), ==, CELL_ERROR_NO_RESOURCES);
  g_assert_nonnull (strstr (error->message, "/nonexistent/program cannot be started: No such file"));
  g_assert_cmpint (fcntl (fd, F_GETFD), <, 0);  /* taken */
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/process/descriptors", test_descriptors);
  g_test_add_func ("/process/crossed", test_crossed);
  g_test_add_func ("/process/ends", test_ends);
  g_test_add_func ("/process/killed", test_killed);
  g_test_add_func ("/process/missing", test_missing);
  return g_test_run ();
}

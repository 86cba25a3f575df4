/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <glib/gstdio.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "place.h"

#define CELLS_MAX 8
#define READY_MS 20000          /* also under a sanitizer, on a busy machine */
#define STOP_MS 5000

char *
bench_new_file (const char *folder, uint64_t n, BenchProblem *problem)
{
  g_autofree char *base = g_strdup_printf ("echo%" G_GUINT64_FORMAT ".so", n), *path = g_build_filename (folder, base, NULL),
                  *bytes = NULL;
  g_autoptr(GError) error = NULL;
  gsize size;

  if (!g_file_get_contents (BENCH_ECHO, &bytes, &size, &error))
    {
      bench_fail (problem, "%s", error->message);
      return NULL;
    }
  bytes = g_realloc (bytes, size + sizeof n);
  memcpy (bytes + size, &n, sizeof n);
  if (!g_file_set_contents (path, bytes, (gssize) (size + sizeof n), &error))
    {
      bench_fail (problem, "%s", error->message);
      return NULL;
    }
  return g_steal_pointer (&path);
}

bool
bench_check (const CellResult *result, BenchProblem *problem)
{
  return result->status == CELL_OK || bench_fail (problem, "%s: %s", result->error, result->message);
}

double
bench_sum_of_lines (const char *text, const char *key)
{
  g_auto(GStrv) lines = g_strsplit (text, "\n", -1);
  double sum = 0;

  for (guint i = 0; lines[i] != NULL; i++)
    if (g_str_has_prefix (lines[i], key) && strchr (lines[i], ':') != NULL)
      sum += g_ascii_strtod (strchr (lines[i], ':') + 1, NULL);
  return sum;
}

static void
remove_cache (void)
{
  bench_remove_folder (g_getenv ("XDG_CACHE_HOME"));
}

/* What becomes known of files is shared by all hosts of a run, and nobody else's. */
static void
set_cache (void)
{
  static char *folder;

  if (folder != NULL)
    return;
  folder = g_dir_make_tmp ("cellhost-bench-XXXXXX", NULL);
  if (folder != NULL)
    g_setenv ("XDG_CACHE_HOME", folder, TRUE);
  atexit (remove_cache);
}

static pid_t
spawn (const BenchDaemon *daemon, int cpu, const char *const *cells, int ready_fd, BenchProblem *problem)
{
  g_autofree char *state = g_build_filename (daemon->folder, "state", NULL);
  const char *argv[12 + 2 * CELLS_MAX] = { BENCH_HOST, "--socket", daemon->socket, "--state-dir", state, "--log-level", "warning",
                                           "--ready-fd" };
  char number[16];
  int n = 8;

  g_snprintf (number, sizeof number, "%d", ready_fd);
  argv[n++] = number;
  if (geteuid () == 0)
    argv[n++] = "--allow-root";
  for (int i = 0; i < CELLS_MAX && cells[i]; i++)
    {
      argv[n++] = "--cell";
      argv[n++] = cells[i];
    }
  return bench_spawn (cpu, (char *const *) argv, problem);
}

/* It writes a byte when programs can connect, and closes the pipe if it ends instead. */
static bool
wait_ready (int fd, BenchProblem *problem)
{
  struct pollfd ready = { fd, POLLIN, 0 };
  char byte;
  int n;

  do
    n = poll (&ready, 1, READY_MS);
  while (n < 0 && errno == EINTR);
  if (n <= 0)
    return bench_fail (problem, "the host does not become ready");
  return read (fd, &byte, 1) == 1 || bench_fail (problem, "the host did not start");
}

BenchDaemon *
bench_daemon_start (int cpu, const char *const *cells, BenchProblem *problem)
{
  BenchDaemon *daemon = g_new0 (BenchDaemon, 1);
  g_autoptr(GError) error = NULL;
  uint64_t began;
  int ready[2];
  bool good;

  daemon->folder = g_dir_make_tmp ("cellhost-bench-XXXXXX", &error);
  if (daemon->folder == NULL || !g_unix_open_pipe (ready, 0, &error))
    {
      bench_fail (problem, "%s", error->message);
      bench_daemon_stop (daemon);
      return NULL;
    }
  fcntl (ready[0], F_SETFD, FD_CLOEXEC);
  daemon->socket = g_build_filename (daemon->folder, "socket", NULL);
  set_cache ();
  began = bench_clock_monotonic ();
  daemon->pid = spawn (daemon, cpu, cells, ready[1], problem);
  close (ready[1]);
  good = daemon->pid > 0 && wait_ready (ready[0], problem);
  daemon->start_ns = bench_clock_monotonic () - began;
  close (ready[0]);
  if (!good)
    {
      bench_daemon_stop (daemon);
      return NULL;
    }
  daemon->bus = cell_open (daemon->socket);
  return daemon;
}

/* A host leaves its lock and what cells have saved, and a socket if it was killed. */
void
bench_remove_folder (const char *folder)
{
  g_autoptr(GDir) dir = folder != NULL ? g_dir_open (folder, 0, NULL) : NULL;
  const char *name;

  while (dir != NULL && (name = g_dir_read_name (dir)) != NULL)
    {
      g_autofree char *path = g_build_filename (folder, name, NULL);

      if (g_unlink (path) < 0)
        bench_remove_folder (path);
    }
  if (folder != NULL)
    g_rmdir (folder);
}

/* False: it goes on. */
static bool
wait_end (pid_t pid)
{
  for (int i = 0; i < STOP_MS; i++)
    {
      if (waitpid (pid, NULL, WNOHANG) != 0)
        return true;
      g_usleep (1000);
    }
  return false;
}

void
bench_daemon_stop (BenchDaemon *daemon)
{
  if (daemon->bus != NULL)
    cell_close (daemon->bus);
  if (daemon->pid > 0)
    {
      kill (daemon->pid, SIGTERM);
      if (!wait_end (daemon->pid))
        bench_kill (daemon->pid);
    }
  bench_remove_folder (daemon->folder);
  g_free (daemon->socket);
  g_free (daemon->folder);
  g_free (daemon);
}

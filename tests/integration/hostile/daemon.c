/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include "daemon.h"

#include <glib/gstdio.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#define PATIENCE_US (20 * G_USEC_PER_SEC)       /* for what happens soon or never */
#define GOOD_RESTS_US 20000     /* after a thousand calls: who is hostile has use for a processor, too */

/* In a child that is about to start: it ends with the test, however that ends. */
static void
die_with_parent (gpointer data)
{
  (void) data;
  prctl (PR_SET_PDEATHSIG, SIGKILL);
}

static void
limit_and_die (gpointer data)
{
  const Daemon *daemon = data;

  die_with_parent (NULL);
  if (daemon->most_fds > 0)
    setrlimit (RLIMIT_NOFILE, &(struct rlimit) { daemon->most_fds, daemon->most_fds });
}

/* ---- the daemon ------------------------------------------------------------------------------------------ */

static void
add_cells (GPtrArray *args, const char *const *cells)
{
  for (guint i = 0; cells != NULL && cells[i] != NULL; i++)
    {
      g_ptr_array_add (args, g_strdup ("--cell"));
      if (g_str_equal (cells[i], "ledger"))
        g_ptr_array_add (args, g_strdup (g_getenv ("TEST_LEDGER")));
      else
        g_ptr_array_add (args, g_strdup_printf ("%s/%s.so", g_getenv ("TEST_CELLS"), cells[i]));
    }
}

static void
wait_until_ready (Daemon *daemon, GPtrArray *args, GSubprocessLauncher *launcher)
{
  g_autoptr(GError) error = NULL;
  int ready[2];
  char byte;

  g_assert_no_errno (pipe (ready));
  g_subprocess_launcher_take_fd (launcher, ready[1], 3);
  daemon->process = g_subprocess_launcher_spawnv (launcher, (const char *const *) args->pdata, &error);
  g_assert_no_error (error);
  g_object_unref (launcher);            /* with its end of the pipe */
  g_assert_cmpint (read (ready[0], &byte, 1), ==, 1);
  close (ready[0]);
}

/* A sandboxed cell that looks at the host is no reason for a user to be afraid. */
static void
write_policy (const Daemon *daemon)
{
  g_autofree char *folder = g_build_filename (daemon->folder, "cellhost", NULL), *path = g_build_filename (folder, "policy", NULL);
  g_autoptr(GError) error = NULL;

  g_assert_no_errno (g_mkdir_with_parents (folder, 0700));
  g_file_set_contents_full (path, "[Default]\nRole=view\n", -1, G_FILE_SET_CONTENTS_NONE, 0644, &error);
  g_assert_no_error (error);
}

void
daemon_start (Daemon *daemon, const char *const *cells)
{
  static const char *const always[] = { "sequence", NULL };
  g_autoptr(GError) error = NULL;
  g_autoptr(GPtrArray) args = g_ptr_array_new_with_free_func (g_free);
  GSubprocessLauncher *launcher = g_subprocess_launcher_new (G_SUBPROCESS_FLAGS_NONE);

  g_subprocess_launcher_set_child_setup (launcher, limit_and_die, daemon, NULL);
  daemon->folder = g_dir_make_tmp ("cellhost-XXXXXX", &error);
  g_assert_no_error (error);
  daemon->socket = g_build_filename (daemon->folder, "socket", NULL);
  g_subprocess_launcher_setenv (launcher, "XDG_STATE_HOME", daemon->folder, TRUE);
  g_subprocess_launcher_setenv (launcher, "XDG_CONFIG_HOME", daemon->folder, TRUE);
  write_policy (daemon);
  g_ptr_array_add (args, g_strdup (g_getenv ("TEST_DAEMON")));
  g_ptr_array_add (args, g_strdup ("--socket"));
  g_ptr_array_add (args, g_strdup (daemon->socket));
  g_ptr_array_add (args, g_strdup ("--runner"));
  g_ptr_array_add (args, g_strdup (g_getenv ("TEST_RUNNER")));
  g_ptr_array_add (args, g_strdup ("--ready-fd"));
  g_ptr_array_add (args, g_strdup ("3"));
  if (geteuid () == 0)
    g_ptr_array_add (args, g_strdup ("--allow-root"));
  add_cells (args, always);
  add_cells (args, cells);
  g_ptr_array_add (args, NULL);
  wait_until_ready (daemon, args, launcher);
  daemon->pid = (GPid) g_ascii_strtoll (g_subprocess_get_identifier (daemon->process), NULL, 10);
  daemon->n_fds = daemon_count_fds (daemon);
}

static void
remove_folder (const char *path)
{
  g_autoptr(GDir) dir = g_dir_open (path, 0, NULL);
  const char *name;

  while (dir != NULL && (name = g_dir_read_name (dir)) != NULL)
    {
      g_autofree char *below = g_build_filename (path, name, NULL);

      if (g_file_test (below, G_FILE_TEST_IS_DIR) && !g_file_test (below, G_FILE_TEST_IS_SYMLINK))
        remove_folder (below);
      else
        g_unlink (below);
    }
  g_rmdir (path);
}

void
daemon_stop (Daemon *daemon)
{
  g_autoptr(GError) error = NULL;
  g_autofree char *said = NULL;

  if (daemon_ctl (daemon, &said, "list", NULL) != 0)
    g_error ("the host is not well: %s", said);
  daemon_wait_for_fds (daemon, daemon->n_fds);
  g_subprocess_send_signal (daemon->process, SIGTERM);
  g_assert_true (g_subprocess_wait_check (daemon->process, NULL, &error));
  g_assert_no_error (error);
  g_object_unref (daemon->process);
  remove_folder (daemon->folder);
  g_free (daemon->folder);
  g_free (daemon->socket);
}

int
daemon_ctl (Daemon *daemon, char **ret_said, ...)
{
  g_autoptr(GPtrArray) args = g_ptr_array_new ();
  g_autoptr(GSubprocess) process = NULL;
  g_autoptr(GError) error = NULL;
  g_autofree char *said = NULL;
  char *arg;
  va_list more;

  g_ptr_array_add (args, (char *) g_getenv ("TEST_CTL"));
  g_ptr_array_add (args, (char *) "--socket");
  g_ptr_array_add (args, daemon->socket);
  va_start (more, ret_said);
  do
    g_ptr_array_add (args, arg = va_arg (more, char *));
  while (arg != NULL);
  va_end (more);
  process = g_subprocess_newv ((const char *const *) args->pdata,
                               G_SUBPROCESS_FLAGS_STDOUT_SILENCE | G_SUBPROCESS_FLAGS_STDERR_PIPE, &error);
  g_assert_no_error (error);
  g_subprocess_communicate_utf8 (process, NULL, NULL, NULL, &said, &error);
  g_assert_no_error (error);
  g_assert_true (g_subprocess_get_if_exited (process));
  if (ret_said != NULL)
    *ret_said = g_steal_pointer (&said);
  return g_subprocess_get_exit_status (process);
}

guint
daemon_count_fds (Daemon *daemon)
{
  g_autofree char *path = g_strdup_printf ("/proc/%d/fd", (int) daemon->pid);
  g_autoptr(GDir) folder = g_dir_open (path, 0, NULL);
  guint n = 0;

  g_assert_nonnull (folder);
  while (g_dir_read_name (folder) != NULL)
    n++;
  return n;
}

guint64
daemon_private_kb (Daemon *daemon)
{
  g_autofree char *path = g_strdup_printf ("/proc/%d/status", (int) daemon->pid);
  g_autofree char *text = NULL;
  const char *at;

  g_assert_true (g_file_get_contents (path, &text, NULL, NULL));
  at = strstr (text, "RssAnon:");
  g_assert_nonnull (at);
  return g_ascii_strtoull (at + strlen ("RssAnon:"), NULL, 10);
}

void
daemon_wait_for_fds (Daemon *daemon, guint most)
{
  gint64 until = g_get_monotonic_time () + PATIENCE_US;
  guint n;

  while ((n = daemon_count_fds (daemon)) > most)
    {
      if (g_get_monotonic_time () > until)
        g_error ("the host has %u descriptors and should have %u", n, most);
      g_usleep (1000);
    }
}

/* ---- a client that does nothing wrong ---------------------------------------------------------------------- */

struct Good
{
  Daemon *daemon;
  guint who;
  GThread *thread;
  GMutex lock;
  GCond changed;
  guint thousands;
  gboolean stop;
};

static gpointer
good_main (gpointer data)
{
  Good *good = data;
  CellBus *bus = cell_open (good->daemon->socket);
  Counting counting = { .sequence = cell_bind (bus, Sequence, "sequence"), .who = good->who };
  gboolean stop = FALSE;

  while (!stop)
    {
      if (!counting_thousand (&counting))
        g_error ("%s", counting.wrong);
      g_mutex_lock (&good->lock);
      good->thousands++;
      stop = good->stop;
      g_cond_signal (&good->changed);
      g_mutex_unlock (&good->lock);
      g_usleep (GOOD_RESTS_US);
    }
  cell_close (bus);
  return NULL;
}

Good *
good_start (Daemon *daemon, guint who)
{
  Good *good = g_new0 (Good, 1);

  good->daemon = daemon;
  good->who = who;
  g_mutex_init (&good->lock);
  g_cond_init (&good->changed);
  good->thread = g_thread_new ("good", good_main, good);
  good_wait (good, 1);
  return good;
}

void
good_wait (Good *good, guint thousands)
{
  gint64 until = g_get_monotonic_time () + 2 * PATIENCE_US;
  guint wanted;

  g_mutex_lock (&good->lock);
  wanted = good->thousands + thousands;
  while (good->thousands < wanted)
    if (!g_cond_wait_until (&good->changed, &good->lock, until))
      g_error ("nobody else is served: %u of %u thousand calls were answered", thousands - (wanted - good->thousands), thousands);
  g_mutex_unlock (&good->lock);
}

void
good_stop (Good *good)
{
  g_mutex_lock (&good->lock);
  good->stop = TRUE;
  g_mutex_unlock (&good->lock);
  g_thread_join (good->thread);
  g_mutex_clear (&good->lock);
  g_cond_clear (&good->changed);
  g_free (good);
}

/* ---- attackers ----------------------------------------------------------------------------------------------- */

Attack
attack_start (Daemon *daemon, const char *name, guint32 seed)
{
  g_autofree char *number = g_strdup_printf ("%u", seed);
  g_autoptr (GSubprocessLauncher) launcher =
    g_subprocess_launcher_new (G_SUBPROCESS_FLAGS_STDIN_PIPE | G_SUBPROCESS_FLAGS_STDOUT_PIPE);
  g_autoptr(GError) error = NULL;
  Attack attack;

  g_subprocess_launcher_set_child_setup (launcher, die_with_parent, NULL, NULL);
  attack.process = g_subprocess_launcher_spawn (launcher, &error, "/proc/self/exe", "--attack", name, daemon->socket, number, NULL);
  g_assert_no_error (error);
  return attack;
}

void
attack_wait_ready (Attack *attack)
{
  char byte = 0;

  if (g_input_stream_read (g_subprocess_get_stdout_pipe (attack->process), &byte, 1, NULL, NULL) != 1)
    g_error ("the attacker ended before it was ready");
}

GPid
attack_pid (Attack *attack)
{
  return (GPid) g_ascii_strtoll (g_subprocess_get_identifier (attack->process), NULL, 10);
}

void
attack_end (Attack *attack)
{
  g_autoptr(GError) error = NULL;

  g_output_stream_close (g_subprocess_get_stdin_pipe (attack->process), NULL, NULL);
  if (!g_subprocess_wait_check (attack->process, NULL, &error))
    g_error ("the attacker: %s", error->message);
  g_clear_object (&attack->process);
}

void
attack_is_ready (void)
{
  char byte = '.';

  g_assert_cmpint (write (STDOUT_FILENO, &byte, 1), ==, 1);
  g_assert_cmpint (read (STDIN_FILENO, &byte, 1), ==, 0);
}

static void *
wait_for_the_end (void *data)
{
  char byte;

  if (read (STDIN_FILENO, &byte, 1) == 0)
    atomic_store ((_Atomic uint32_t *) data, 1);
  return NULL;
}

void
attack_call_until_the_end (const char *socket, const char *cell, uint32_t timeout)
{
  CellBus *bus = cell_open (socket);
  Counting counting = { .sequence = cell_bind (bus, Sequence, cell), .who = 2 };
  _Atomic uint32_t end = 0;
  pthread_t thread;

  cell_set_timeout (counting.sequence, timeout);
  g_assert_cmpint (pthread_create (&thread, NULL, wait_for_the_end, (void *) &end), ==, 0);
  for (unsigned n = 0; !atomic_load (&end); n++)
    {
      if (!counting_thousand (&counting))
        g_error ("%s", counting.wrong);
      if (n == 0)
        g_assert_cmpint (write (STDOUT_FILENO, ".", 1), ==, 1);
    }
  pthread_join (thread, NULL);
  cell_close (bus);
}

void
attack_main (int argc, char **argv, const AttackName *names, gsize n)
{
  struct rlimit limit;

  if (argc != 5 || !g_str_equal (argv[1], "--attack"))
    return;
  alarm (120);                          /* whatever happens, it does not stay behind */
  if (getrlimit (RLIMIT_NOFILE, &limit) == 0)
    {
      limit.rlim_cur = limit.rlim_max;
      setrlimit (RLIMIT_NOFILE, &limit);
    }
  for (gsize i = 0; i < n; i++)
    if (g_str_equal (names[i].name, argv[2]))
      {
        names[i].run (argv[3], (guint32) g_ascii_strtoull (argv[4], NULL, 10));
        exit (0);
      }
  g_error ("there is no attack %s", argv[2]);
}

static void
set_up (Daemon *daemon, gconstpointer data)
{
  static const char *const cells[] = { "every", "ledger", "memory", NULL };

  (void) data;
  daemon_start (daemon, cells);
}

static void
tear_down (Daemon *daemon, gconstpointer data)
{
  (void) data;
  daemon_stop (daemon);
}

void
attack_add_test (const char *path, void (*test) (Daemon *daemon, gconstpointer name))
{
  g_test_add (path, Daemon, strrchr (path, '/') + 1, set_up, test, tear_down);
}

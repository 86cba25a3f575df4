/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#define G_LOG_DOMAIN "cellhost-sandbox"
#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "filter.h"
#include "last-word.h"
#include "plugins/misuse.h"

#define FILTER 7                        /* the descriptor on which bubblewrap reads it */
#define OWN_FDS 3                       /* what add_own () adds at most */
#define ROUNDS_MAX 8
#define WRITABLE_SIZE "67108864"        /* of each place where a cell can write */
#define SIGNALS_ALONE "handle_segv=0:handle_sigbus=0:handle_sigfpe=0:handle_sigill=0"

/* ---- the spawner: bubblewrap's --die-with-parent follows the thread that started it ------------------- */

typedef struct
{
  const char *const *argv;
  const ProcessFd *fds;
  guint n_fds;
  int log;
  const cpu_set_t *processors;  /* see SandboxAccess */
  Process *process;
  GError *error;
  gboolean finished;
} Spawn;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static Spawn *to_spawn;
static gboolean spawner_runs;

static int
copy (int fd)
{
  return fcntl (fd, F_DUPFD_CLOEXEC, 3);
}

/* What was started before may have been meant for other processors. */
static void
place (const Spawn *what)
{
  cpu_set_t set;

  if (what->processors != NULL)
    set = *what->processors;
  else if (sched_getaffinity (getpid (), sizeof set, &set) < 0)
    return;
  sched_setaffinity (0, sizeof set, &set);
}

/* What it prints is no output of ours. */
static void
spawn (Spawn *what)
{
  g_autoptr(GArray) fds = g_array_new (FALSE, FALSE, sizeof (ProcessFd));
  const int errors = what->log >= 0 ? what->log : copy (STDERR_FILENO);
  const ProcessFd own[] = { { open ("/dev/null", O_RDONLY | O_CLOEXEC), 0 }, { copy (errors), 1 }, { errors, 2 } };

  g_array_append_vals (fds, own, G_N_ELEMENTS (own));
  g_array_append_vals (fds, what->fds, what->n_fds);
  place (what);
  what->process = process_start (what->argv, (const ProcessFd *) (void *) fds->data, fds->len, &what->error);
}

static void *
spawner_main (void *data)
{
  sigset_t all;

  (void) data;
  sigfillset (&all);
  pthread_sigmask (SIG_BLOCK, &all, NULL);
  pthread_mutex_lock (&lock);
  for (;;)
    {
      while (to_spawn == NULL || to_spawn->finished)
        pthread_cond_wait (&changed, &lock);
      spawn (to_spawn);
      to_spawn->finished = TRUE;
      pthread_cond_broadcast (&changed);
    }
  return NULL;
}

static gboolean
spawner_start (void)
{
  pthread_t thread;

  if (!spawner_runs && pthread_create (&thread, NULL, spawner_main, NULL) == 0)
    {
      pthread_detach (thread);
      spawner_runs = TRUE;
    }
  return spawner_runs;
}

static void
close_fds (const Spawn *what)
{
  for (guint i = 0; i < what->n_fds; i++)
    close (what->fds[i].fd);
  if (what->log >= 0)
    close (what->log);
}

static gboolean
spawn_on_spawner (Spawn *what, GError **error)
{
  pthread_mutex_lock (&lock);
  if (!spawner_start ())
    {
      pthread_mutex_unlock (&lock);
      close_fds (what);
      return cell_set_error (error, CELL_ERROR_NO_RESOURCES, "no thread to start a sandbox from");
    }
  while (to_spawn != NULL)
    pthread_cond_wait (&changed, &lock);
  to_spawn = what;
  pthread_cond_broadcast (&changed);
  while (!what->finished)
    pthread_cond_wait (&changed, &lock);
  to_spawn = NULL;
  pthread_cond_broadcast (&changed);
  pthread_mutex_unlock (&lock);
  return TRUE;
}

/* ---- the sandbox --------------------------------------------------------------------------------------- */

/* What is there in the end can be read and not written, but for two folders of a limited size: /tmp, which is the cell's own, and
 * /dev/shm.  /proc, too: of a host run by root the kernel's settings there belong to the very user who the cell is.
 * Sanitizers leave signals alone: how a process ended is to be told from its end. */
static GStrv
make_argv (SandboxTools tools, const SandboxAccess *access, const char *const *args, gboolean info)
{
  /* With the network comes what says who is where in it, and whom to believe. */
  static const char *const network[] = {
    "--share-net", "--ro-bind-try", "/etc/resolv.conf", "/etc/resolv.conf", "--ro-bind-try", "/etc/hosts", "/etc/hosts",
    "--ro-bind-try", "/etc/nsswitch.conf", "/etc/nsswitch.conf", "--ro-bind-try", "/etc/ssl/certs", "/etc/ssl/certs", NULL
  };
  g_autoptr(GStrvBuilder) builder = g_strv_builder_new ();
  static const char *const always[] = {
    "--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL",
    "--as-pid-1",
    "--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64",
    "--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache", "--ro-bind-try", "/etc/fonts", "/etc/fonts",
    "--proc", "/proc", "--remount-ro", "/proc", "--dev", "/dev",
    "--size", WRITABLE_SIZE, "--tmpfs", "/dev/shm", "--size", WRITABLE_SIZE, "--tmpfs", "/tmp", "--chdir", "/tmp",
    "--setenv", "HOME", "/tmp", "--setenv", "LANG", "C.UTF-8",
    "--seccomp", G_STRINGIFY (FILTER),
    "--setenv", "ASAN_OPTIONS", "detect_leaks=0:" SIGNALS_ALONE, "--setenv", "TSAN_OPTIONS", SIGNALS_ALONE, NULL
  };

  g_strv_builder_add (builder, tools.bwrap);
  g_strv_builder_addv (builder, (const char **) always);
  if (g_getenv (MISUSE_DEBUG) != NULL)
    g_strv_builder_addv (builder, (const char *[]) { "--setenv", MISUSE_DEBUG, g_getenv (MISUSE_DEBUG), NULL });
  if (info)
    g_strv_builder_addv (builder, (const char *[]) { "--info-fd", G_STRINGIFY (SANDBOX_INFO), NULL });
  if (access != NULL && access->network)
    g_strv_builder_addv (builder, (const char **) network);
  if (access != NULL && access->mounts != NULL)
    g_strv_builder_addv (builder, (const char **) access->mounts);
  g_strv_builder_addv (builder, (const char *[]) { "--ro-bind", tools.runner, "/run/cell-runner", "--remount-ro", "/dev",
                                                   "--remount-ro", "/", "/run/cell-runner", NULL });
  if (args != NULL)
    g_strv_builder_addv (builder, (const char **) args);
  return g_strv_builder_end (builder);
}

gboolean
sandbox_check (SandboxTools tools, GError **error)
{
  return tools.bwrap != NULL
         || cell_set_error (error, CELL_ERROR_UNSUPPORTED,
                            "there is no sandbox here: install bubblewrap, or leave the cell in process");
}

static gboolean
add_filter (Spawn *what, FilterKind kind, int as, ProcessFd *fds, GError **error)
{
  int filter = filter_open (kind, error);

  if (filter >= 0)
    fds[what->n_fds++] = (ProcessFd) { filter, as };
  return filter >= 0;
}

/* What comes along with each: filters, and where its last word goes, of which ret_last_word (unless NULL) is the other end. */
static gboolean
add_own (Spawn *what, const SandboxAccess *access, ProcessFd *fds, int *ret_last_word, GError **error)
{
  int ends[2] = { -1, -1 };

  memcpy (fds, what->fds, what->n_fds * sizeof *fds);
  what->fds = fds;
  if (!add_filter (what, access != NULL && access->network ? FILTER_NETWORK : FILTER_ALONE, FILTER, fds, error)
      || (access != NULL && access->strict && !add_filter (what, FILTER_SERVING, LAST_FILTER, fds, error)))
    return FALSE;
  if (ret_last_word != NULL && pipe2 (ends, O_CLOEXEC | O_NONBLOCK) < 0)
    return cell_set_error (error, CELL_ERROR_NO_RESOURCES, "no pipe for a sandbox: %s", g_strerror (errno));
  if (ret_last_word != NULL)
    {
      fds[what->n_fds++] = (ProcessFd) { ends[1], LAST_WORD };
      *ret_last_word = ends[0];
    }
  return TRUE;
}

Process *
sandbox_spawn (SandboxTools tools, const SandboxAccess *access, const char *const *args, const ProcessFd *fds, guint n_fds,
               int log, int *ret_last_word, GError **error)
{
  Spawn what = { .fds = fds, .n_fds = n_fds, .log = log, .processors = access != NULL ? access->processors : NULL };
  g_autofree ProcessFd *all = g_new (ProcessFd, n_fds + OWN_FDS);
  g_auto(GStrv) argv = NULL;
  gboolean info = FALSE;

  for (guint i = 0; i < n_fds; i++)
    info |= fds[i].as == SANDBOX_INFO;
  if (!sandbox_check (tools, error) || !add_own (&what, access, all, ret_last_word, error))
    {
      close_fds (&what);
      return NULL;
    }
  argv = make_argv (tools, access, args, info);
  what.argv = (const char *const *) argv;
  if (spawn_on_spawner (&what, error) && what.error != NULL)
    {
      cell_set_error (error, CELL_ERROR_UNSUPPORTED, "the sandbox cannot be started: %s", what.error->message);
      g_clear_error (&what.error);
    }
  if (what.process == NULL && ret_last_word != NULL)
    {
      close (*ret_last_word);
      *ret_last_word = -1;
    }
  return what.process;
}

/* What the kernel does not let be written stays as it was.  FALSE: not now. */
static gboolean
tell_kernel (GPid pid, const char *what, const char *value)
{
  g_autofree char *path = g_strdup_printf ("/proc/%d/%s", (int) pid, what);
  int fd = open (path, O_WRONLY | O_CLOEXEC);
  gboolean later;

  if (fd < 0)
    return TRUE;
  later = write (fd, value, strlen (value)) < 0 && errno == EAGAIN;
  close (fd);
  return !later;
}

void
sandbox_goes_first (GPid pid)
{
  tell_kernel (pid, "oom_score_adj", "1000");
}

/* FALSE: all of them have been told before. */
static gboolean
tell_threads (const char *folder)
{
  g_autoptr(GDir) dir = g_dir_open (folder, 0, NULL);
  const struct sched_param param = { 0 };
  gboolean any = FALSE;
  const char *name;

  while (dir != NULL && (name = g_dir_read_name (dir)) != NULL)
    any |= sched_getscheduler (atoi (name)) != SCHED_IDLE && sched_setscheduler (atoi (name), SCHED_IDLE, &param) == 0;
  return any;
}

/* No thread can take it back: RLIMIT_NICE is 0 in there.  Some are started meanwhile by those that have not been told yet.  Where
 * the kernel shares processors out among sessions first the sandbox's has its own share, which is lowered as far as that goes; an
 * ordinary user can do so ten times in a second, all processes together.  In the sandbox /proc cannot be written to, and there is
 * no other session to be had. */
gboolean
sandbox_goes_last (GPid pid)
{
  g_autofree char *folder = g_strdup_printf ("/proc/%d/task", (int) pid);

  for (int i = 0; i < ROUNDS_MAX && tell_threads (folder); i++)
    continue;
  return tell_kernel (pid, "autogroup", "19");
}

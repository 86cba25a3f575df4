/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include "doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gunixsocketaddress.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host.h"
#include "plugins/probe-report.h"
#include "plugins/sandbox/bounds.h"
#include "plugins/sandbox/landlock.h"
#include "plugins/sandbox/scope.h"

#ifndef SYS_futex_waitv
# define SYS_futex_waitv 449
#endif
#ifndef SYS_landlock_create_ruleset
# define SYS_landlock_create_ruleset 444
#endif
#ifndef F_SEAL_FUTURE_WRITE
# define F_SEAL_FUTURE_WRITE 0x0010
#endif
#define LANDLOCK_VERSION 1u             /* the flag that asks for it */
#define SANDBOX_MS 20000
#define SAID_MAX 65536u                 /* bytes that are read of what is tried in a sandbox */
#define DESCRIPTORS_WANTED 4096
#define MAPPINGS_WANTED 65530           /* the kernel's default; each channel takes six */

typedef struct
{
  HostConfig config;
  const char *socket;
  GStrv inside;                 /* what a shell in a sandbox has seen, a line each; NULL: there is no sandbox */
  char *limits;                 /* /proc/self/limits there, behind what the runner does to itself, and more of that; NULL: not
                                 * known */
  gint64 all_memory, all_processes, all_weight; /* what a scope bounds; -1: nothing */
  DoctorFinding *finding;       /* of the check that is being made */
} Doctor;

/* advice: unless it holds. */
static G_GNUC_PRINTF (4, 5) void
say (Doctor *doctor, gboolean holds, const char *advice, const char *format, ...)
{
  va_list args;

  va_start (args, format);
  doctor->finding->said = g_strdup_vprintf (format, args);
  va_end (args);
  doctor->finding->holds = holds;
  doctor->finding->advice = holds ? NULL : advice;
}

/* A number in a file of the kernel's; -1: there is none. */
static gint64
read_number (const char *path)
{
  g_autofree char *text = NULL;

  return g_file_get_contents (path, &text, NULL, NULL) && g_ascii_isdigit (*text) ? g_ascii_strtoll (text, NULL, 10) : -1;
}

/* ---- in a sandbox ------------------------------------------------------------------------------------------- */

/* Up to the end of the file, or the time. */
static char *
read_all (int fd)
{
  g_autoptr(GString) text = g_string_new (NULL);
  gint64 until = g_get_monotonic_time () + SANDBOX_MS * 1000;
  char chunk[1024];
  ssize_t n = 1;

  while (n > 0 && text->len < SAID_MAX)
    {
      gint64 left = (until - g_get_monotonic_time ()) / 1000;
      struct pollfd poll_fd = { fd, POLLIN, 0 };

      if (left <= 0 || (poll (&poll_fd, 1, (int) left) <= 0 && errno != EINTR))
        break;
      n = poll_fd.revents != 0 ? read (fd, chunk, sizeof chunk) : 1;
      if (n > 0 && poll_fd.revents != 0)
        g_string_append_len (text, chunk, n);
    }
  return g_utf8_make_valid (text->str, (gssize) text->len);
}

/* Everything that is written there, to any of three descriptors; the sandbox is the one that an ejected cell has. */
static char *
run_inside (const HostConfig *config, const char *const *args, GError **error)
{
  g_autoptr(Process) process = NULL;
  char *text = NULL;
  int ends[2] = { -1, -1 }, report = pipe2 (ends, O_CLOEXEC) == 0 ? fcntl (ends[1], F_DUPFD_CLOEXEC, 3) : -1;

  if (report < 0)
    {
      cell_set_error (error, CELL_ERROR_NO_RESOURCES, "no descriptors to try it with: %s", g_strerror (errno));
      for (guint i = 0; i < 2 && ends[0] >= 0; i++)
        close (ends[i]);
      return NULL;
    }
  process = sandbox_spawn (host_config_tools (config), NULL, args, &(ProcessFd) { report, PROBE_REPORT }, 1, ends[1], NULL, error);
  if (process != NULL)
    text = read_all (ends[0]);
  close (ends[0]);
  return text;
}

/* A shell takes the runner's place, and says what it sees: a line for each thing. */
static const char look_around[] =
  "echo started\n"
  "while IFS=: read -r name rest; do [ -z \"$rest\" ] || echo network $name; done </proc/net/dev\n"
  "for process in /proc/[0-9]*; do echo \"process ${process#/proc/}\"; done\n"
  "for file in /etc/passwd /home /root /srv /sys /var; do [ ! -e $file ] || echo \"file $file\"; done\n"
  "for file in /usr /run/cell-runner; do [ ! -w $file ] || echo \"file $file\"; done\n"
  "while read -r key value; do case $key in\n"
  "  CapEff: | CapPrm: | CapBnd: | CapInh: | CapAmb:) case $value in *[!0]*) echo \"capability $key $value\";; esac;;\n"
  "  NoNewPrivs:) [ $value = 1 ] || echo \"capability by setuid\";;\n"
  "  Seccomp:) [ $value != 2 ] || echo filter;;\n"
  "esac; done </proc/self/status\n"
  "echo seen\n";

static gboolean
saw (const Doctor *doctor, const char *line)
{
  return g_strv_contains ((const char *const *) doctor->inside, line);
}

static void
check_sandbox (Doctor *doctor)
{
  const char *const args[] = { "-c", look_around, NULL };
  HostConfig config = { .bwrap_path = doctor->config.bwrap_path, .runner_path = (char *) "/bin/sh" };
  g_autoptr(GError) error = NULL;
  g_autofree char *text = run_inside (&config, args, &error);

  if (text == NULL)
    {
      say (doctor, FALSE, "install bubblewrap; until then no cell can be ejected, and none is tried before it is loaded", "%s",
           error->message);
      return;
    }
  doctor->inside = g_strsplit (g_strchomp (text), "\n", 0);
  if (saw (doctor, "started") && saw (doctor, "seen"))
    {
      say (doctor, TRUE, NULL, "%s makes one", config.bwrap_path);
      return;
    }
  say (doctor, FALSE,
       "'bwrap --unshare-all --unshare-user --ro-bind / / true' may say why; see also what is said of user namespaces",
       "%s does not make one: %s", config.bwrap_path, *text != 0 ? doctor->inside[0] : "it says nothing");
  g_clear_pointer (&doctor->inside, g_strfreev);
}

/* A terminal is mounted for writing, and kept from it by Landlock alone. */
static const char look_at_runner[] = "cat /proc/self/limits; (: >/dev/ptmx) 2>/dev/null || echo landlock";

static void
check_runner (Doctor *doctor)
{
  const char *const args[] = { "--probe", "doctor", NULL };
  g_autofree char *text = NULL;

  if (access (doctor->config.runner_path, X_OK) < 0)
    say (doctor, FALSE, "install Cellhost as a whole, or name it in CELLHOST_RUNNER", "%s: %s", doctor->config.runner_path,
         g_strerror (errno));
  else if (doctor->inside == NULL)
    say (doctor, FALSE, "see what is said of the sandbox", "not tried: there is no sandbox");
  else
    {
      text = run_inside (&doctor->config, args, NULL);
      /* It is given no file, and says so: then it runs. */
      if (text != NULL && (strstr (text, PROBE_REFUSED) != NULL || strstr (text, PROBE_STEP) != NULL))
        {
          say (doctor, TRUE, NULL, "%s runs in a sandbox", doctor->config.runner_path);
          doctor->limits = run_inside (&doctor->config, (const char *const[]) { "--shell", look_at_runner, NULL }, NULL);
        }
      else
        say (doctor, FALSE, "a sandbox has the libraries below /usr and no others", "%s does not run in a sandbox: %.*s",
             doctor->config.runner_path, text != NULL ? (int) strcspn (text, "\n") : 0, text != NULL ? text : "");
    }
}

/* Nothing of that kind may be seen there, but the one that is allowed.  FALSE: what was found is said. */
static gboolean
nothing_inside (Doctor *doctor, const char *kind, const char *allowed, const char *good)
{
  if (doctor->inside == NULL)
    {
      say (doctor, FALSE, "see what is said of the sandbox", "not tried: there is no sandbox");
      return FALSE;
    }
  for (char **line = doctor->inside; *line != NULL; line++)
    if (g_str_has_prefix (*line, kind) && g_strcmp0 (*line + strlen (kind), allowed) != 0)
      {
        say (doctor, FALSE, "leave what is not trusted unloaded, and report this", "an ejected cell has more than it may: %s",
             *line);
        return FALSE;
      }
  say (doctor, TRUE, NULL, "%s", good);
  return TRUE;
}

static void
check_network (Doctor *doctor)
{
  nothing_inside (doctor, "network ", "lo", "an ejected cell has a loopback of its own and no other");
}

static void
check_processes (Doctor *doctor)
{
  nothing_inside (doctor, "process ", "1", "an ejected cell sees no process but its own");
}

static void
check_files (Doctor *doctor)
{
  nothing_inside (doctor, "file ", NULL, "an ejected cell reads /usr and the lists of fonts and libraries, and writes to none; "
                                         "what it writes elsewhere is memory of its own");
}

static void
check_capabilities (Doctor *doctor)
{
  nothing_inside (doctor, "capability ", NULL, "an ejected cell has none and gets none");
}

static void
check_filter (Doctor *doctor)
{
  if (doctor->inside == NULL)
    say (doctor, FALSE, "see what is said of the sandbox", "not tried: there is no sandbox");
  else
    say (doctor, saw (doctor, "filter"), "a kernel with CONFIG_SECCOMP_FILTER is needed", "%s",
         saw (doctor, "filter") ? "an ejected cell makes none of those that lead out of a sandbox; one that tries is ended"
                                : "an ejected cell may make all that its user may");
}

/* As the kernel says it of a process in a sandbox; -1: there is none, or it is not known. */
static gint64
limit_inside (const Doctor *doctor, const char *name)
{
  const char *line = doctor->limits != NULL ? strstr (doctor->limits, name) : NULL;
  char *end = NULL;
  gint64 limit = line != NULL ? g_ascii_strtoll (line + strlen (name), &end, 10) : 0;

  return line != NULL && end != line + strlen (name) ? limit : -1;
}

/* TRUE: that nothing can be said is said. */
static gboolean
knows_no_limits (Doctor *doctor)
{
  if (doctor->limits == NULL)
    say (doctor, FALSE, "see what is said of the runner", "not tried: the runner does not run in a sandbox");
  return doctor->limits == NULL;
}

/* Where a process is in the second version's tree; NULL: there is none. */
static char *
cgroup_of (GPid pid)
{
  g_autofree char *file = g_strdup_printf ("/proc/%d/cgroup", (int) pid), *text = NULL;
  const char *line = g_file_get_contents (file, &text, NULL, NULL) ? strstr (text, "0::/") : NULL;
  g_autofree char *path = line != NULL ? g_strndup (line + 3, strcspn (line + 3, "\n")) : NULL;

  if (path == NULL || access ("/sys/fs/cgroup/cgroup.controllers", R_OK) < 0)
    return NULL;
  return g_build_filename ("/sys/fs/cgroup", path, NULL);
}

static gint64
read_cgroup (const char *cgroup, const char *name)
{
  g_autofree char *path = cgroup != NULL ? g_build_filename (cgroup, name, NULL) : NULL;

  return path != NULL ? read_number (path) : -1;
}

/* With a process that waits, in the place of a cell's. */
static void
check_cgroups (Doctor *doctor)
{
  static const char advice[] = "run the host as a service of the user's systemd, with version 2 of cgroups";
  g_autoptr(GError) error = NULL;
  g_autofree char *cgroup = NULL;
  pid_t pid = fork ();

  if (pid == 0)
    for (prctl (PR_SET_PDEATHSIG, SIGKILL);;)
      pause ();
  if (pid > 0 && scope_put ("doctor", pid, bounds_memory (), &error))
    {
      cgroup = cgroup_of (pid);
      doctor->all_memory = read_cgroup (cgroup, "memory.max");
      doctor->all_processes = read_cgroup (cgroup, "pids.max");
      doctor->all_weight = read_cgroup (cgroup, "cpu.weight");
    }
  if (pid > 0)
    {
      kill (pid, SIGKILL);
      waitpid (pid, NULL, 0);
    }
  if (pid < 0 || error != NULL)
    say (doctor, FALSE, advice, "no cell is in one of its own: %s", pid < 0 ? "no process to try it with" : error->message);
  else
    say (doctor, doctor->all_memory >= 0 && doctor->all_processes >= 0, advice, "systemd puts each ejected cell into a scope%s",
         doctor->all_memory >= 0 && doctor->all_processes >= 0 ? " of its own, which bounds it"
                                                               : ", which bounds nothing: no controller is delegated to it");
}

static void
check_many (Doctor *doctor)
{
  gint64 most = limit_inside (doctor, "Max processes");

  if (doctor->all_processes >= 0)
    say (doctor, TRUE, NULL, "an ejected cell may have %" G_GINT64_FORMAT ", threads included", doctor->all_processes);
  else if (knows_no_limits (doctor))
    return;
  else if (geteuid () == 0)
    say (doctor, FALSE, "run the host as an ordinary user",
         "the kernel does not count the processes of root, in a sandbox neither");
  else
    say (doctor, most > 0, "report this", "an ejected cell may have %" G_GINT64_FORMAT ", threads included", most);
}

static void
check_memory (Doctor *doctor)
{
  static const char advice[] = "see what is said of cgroups; of a service, MemoryMax= bounds the host and its cells together";
  static const char rest[] = "nothing bounds what all of them take together, and what they share";
  gint64 most = limit_inside (doctor, "Max data size");

  if (doctor->all_memory >= 0)
    say (doctor, TRUE, NULL, "an ejected cell may have %" G_GINT64_FORMAT " MiB", doctor->all_memory >> 20);
  else if (knows_no_limits (doctor))
    return;
  else if (most >= 0)
    say (doctor, FALSE, advice, "each process of an ejected cell may have %" G_GINT64_FORMAT " MiB of its own; %s", most >> 20,
         rest);
  else
    say (doctor, FALSE, advice, "each process of an ejected cell may have all that there is; %s", rest);
}

static void
check_processor (Doctor *doctor)
{
  gint64 most = limit_inside (doctor, "Max cpu time");

  if (doctor->all_weight >= 0)
    say (doctor, TRUE, NULL, "an ejected cell, however many threads it has, takes one share where others want some, too");
  else if (!knows_no_limits (doctor))
    say (doctor, most >= 0, "a service of the user's systemd with CPUQuota= bounds the host and its cells together", "%s",
         most >= 0 ? "the time of an ejected cell is limited, as that of its host is"
                   : "an ejected cell may take all that its user may: there is no limit");
}

/* ---- the kernel --------------------------------------------------------------------------------------------- */

/* In a process of its own, since there is no way back. */
static int
try_namespaces (void)
{
  int status = 0;
  pid_t pid = fork ();

  if (pid == 0)                 /* where a namespace may be made, but nothing be done in it, the second one fails */
    _exit (unshare (CLONE_NEWUSER) < 0 || unshare (CLONE_NEWNET) < 0 ? errno : 0);
  while (pid > 0 && waitpid (pid, &status, 0) < 0 && errno == EINTR)
    continue;
  return pid < 0 ? errno : WEXITSTATUS (status);
}

static void
check_namespaces (Doctor *doctor)
{
  int number = try_namespaces ();

  if (number != 0)
    say (doctor, FALSE,
         "allow them: kernel.unprivileged_userns_clone, user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns",
         "they cannot be made: %s", g_strerror (number));
  else
    say (doctor, TRUE, NULL, "%s",
         geteuid () == 0 ? "root makes them; whether others may was not tried" : "an ordinary user makes them");
}

static void
check_futex (Doctor *doctor)
{
  struct utsname name;
  gboolean there = syscall (SYS_futex_waitv, NULL, 0u, 0u, NULL, 0) == 0 || errno != ENOSYS;

  uname (&name);
  say (doctor, there, "Linux 5.16 or newer is needed; a container's filter may hide the call, too", "Linux %s, futex_waitv %s",
       name.release, there ? "is there" : "is not");
}

/* As membrane/ring.c makes one.  What its reader must not be able to do, or NULL. */
static const char *
try_seals (int fd)
{
  g_autofree char *path = g_strdup_printf ("/proc/self/fd/%d", fd);
  volatile char *mine = ftruncate (fd, 4096) == 0 ? mmap (NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
  volatile char *theirs;
  const char *wrong = NULL;
  int other = -1;

  if (mine == MAP_FAILED)
    return "it cannot be mapped";
  if (fcntl (fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) == 0)
    other = open (path, O_RDWR | O_CLOEXEC);
  theirs = other >= 0 ? mmap (NULL, 4096, PROT_READ, MAP_SHARED, other, 0) : MAP_FAILED;
  *mine = 42;
  if (other < 0)
    wrong = "it cannot be sealed, or not be opened again";
  else if (theirs == MAP_FAILED || *theirs != 42)
    wrong = "a reader does not see what is written";
  else if (mmap (NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, other, 0) != MAP_FAILED)
    wrong = "a reader can map it writable";
  else if (write (other, "x", 1) >= 0)
    wrong = "a reader can write it";
  else if (ftruncate (other, 0) == 0)
    wrong = "a reader can cut it off";
  if (theirs != MAP_FAILED)
    munmap ((void *) theirs, 4096);
  munmap ((void *) mine, 4096);
  if (other >= 0)
    close (other);
  return wrong;
}

static void
check_seals (Doctor *doctor)
{
  int fd = memfd_create ("cell-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  const char *wrong = fd >= 0 ? try_seals (fd) : g_strerror (errno);

  say (doctor, wrong == NULL, "Linux 5.16 or newer is needed, with memfd_create", "%s",
       wrong != NULL ? wrong : "what one side writes the other can neither write nor cut off");
  if (fd >= 0)
    close (fd);
}

static void
check_handles (Doctor *doctor)
{
  int event = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK), process = (int) syscall (SYS_pidfd_open, getpid (), 0);

  say (doctor, event >= 0 && process >= 0, "Linux 5.16 or newer is needed; a container's filter may hide the calls, too",
       "eventfd %s, pidfd_open %s",
       event >= 0 ? "works" : "fails", process >= 0 ? "works" : "fails");
  if (event >= 0)
    close (event);
  if (process >= 0)
    close (process);
}

static void
check_seccomp (Doctor *doctor)
{
  g_autofree char *actions = NULL;
  gboolean known = g_file_get_contents ("/proc/sys/kernel/seccomp/actions_avail", &actions, NULL, NULL);
  /* It faults, since there is no filter there, or the kernel has no such thing. */
  gboolean there = prctl (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL, 0, 0) < 0 && errno != EINVAL;

  say (doctor, there, "a kernel with CONFIG_SECCOMP_FILTER would have it", "%s%s",
       there ? "the kernel filters system calls: " : "the kernel does not filter system calls",
       !there ? "" : known ? g_strchomp (actions) : "how is not known");
}

static void
check_landlock (Doctor *doctor)
{
  long version = syscall (SYS_landlock_create_ruleset, NULL, (size_t) 0, LANDLOCK_VERSION);

  if (version < LANDLOCK_LEAST)
    say (doctor, FALSE, "the sandbox's mounts say the same; a kernel from 5.19 on with CONFIG_SECURITY_LANDLOCK says it twice",
         "the kernel has none that is of use: %s", version > 0 ? "it is the first version" : g_strerror (errno));
  else if (doctor->limits == NULL)
    say (doctor, FALSE, "see what is said of the runner", "not tried: the runner does not run in a sandbox");
  else
    say (doctor, strstr (doctor->limits, "\nlandlock") != NULL, "report this: the kernel has it",
         strstr (doctor->limits, "\nlandlock") != NULL
         ? "the kernel, too, keeps an ejected cell from writing elsewhere: version %ld"
                                                       : "the runner does not use version %ld of it", version);
}

static void
check_ptrace (Doctor *doctor)
{
  gint64 scope = read_number ("/proc/sys/kernel/yama/ptrace_scope");

  say (doctor, scope > 0, "sysctl kernel.yama.ptrace_scope=1, where the kernel has Yama; ejected cells cannot do it in any case",
       scope > 0 ? "programs cannot read and write the memory of the same user's others (Yama, %d)"
                 : "every program of the same user can read and write the host's memory", (int) scope);
}

/* ---- limits ------------------------------------------------------------------------------------------------- */

static void
check_descriptors (Doctor *doctor)
{
  struct rlimit limit = { 0, 0 };
  gboolean many;

  getrlimit (RLIMIT_NOFILE, &limit);
  many = limit.rlim_max >= DESCRIPTORS_WANTED;
  if (limit.rlim_max == RLIM_INFINITY)
    say (doctor, TRUE, NULL, "as many as one likes");
  else
    say (doctor, many, "raise the hard limit to 4096 or more: LimitNOFILE=, or /etc/security/limits.conf",
         "%" G_GUINT64_FORMAT " at most%s", (guint64) limit.rlim_max, many ? "" : ": few, each channel takes several");
}

static void
check_mappings (Doctor *doctor)
{
  gint64 most = read_number ("/proc/sys/vm/max_map_count");

  say (doctor, most >= MAPPINGS_WANTED, "sysctl vm.max_map_count=65530 or more", "%" G_GINT64_FORMAT " at most", most);
}

static void
check_cores (Doctor *doctor)
{
  cpu_set_t ours;
  int n = sched_getaffinity (0, sizeof ours, &ours) == 0 ? CPU_COUNT (&ours) : (int) g_get_num_processors ();   /* more than 1024 */

  say (doctor, n >= 2, "give it two: who waits for another process looks for a while, which wants a processor that is free",
       n == 1 ? "%d: calls to another process take long" : "%d", n);
}

/* ---- a host ------------------------------------------------------------------------------------------------- */

static void
check_runtime_dir (Doctor *doctor)
{
  static const char advice[] = "log in as that user (not by su), or give both programs the same --socket=PATH";
  const char *path = g_getenv ("XDG_RUNTIME_DIR");
  struct stat folder;

  if (path == NULL || *path == 0)
    say (doctor, FALSE, advice, "XDG_RUNTIME_DIR is not set");
  else if (stat (path, &folder) < 0)
    say (doctor, FALSE, advice, "%s: %s", path, g_strerror (errno));
  else if (!S_ISDIR (folder.st_mode) || folder.st_uid != geteuid () || (folder.st_mode & 077) != 0)
    say (doctor, FALSE, "it is to be a folder of your own, with mode 0700", "%s is not yours alone", path);
  else
    say (doctor, TRUE, NULL, "%s is yours alone", path);
}

static void
check_host (Doctor *doctor)
{
  const char *said = doctor->socket != NULL ? doctor->socket : g_getenv ("CELLHOST_SOCKET");
  g_autofree char *path = said != NULL ? g_strdup (said) : host_default_socket ();
  g_autoptr(GSocket) socket = g_socket_new (G_SOCKET_FAMILY_UNIX, G_SOCKET_TYPE_SEQPACKET, G_SOCKET_PROTOCOL_DEFAULT, NULL);
  g_autoptr(GSocketAddress) address = g_unix_socket_address_new (path);
  g_autoptr(GError) error = NULL;

  if (socket != NULL && g_socket_connect (socket, address, NULL, &error))
    say (doctor, TRUE, NULL, "one is at %s", path);
  else
    say (doctor, FALSE, "cellhostd starts one", "none at %s", path);
}

/* ---- all of it ---------------------------------------------------------------------------------------------- */

/* What concerns a sandbox comes behind the sandbox.  User namespaces are only how bubblewrap does it, as a rule. */
static const struct
{
  const char *name;
  void (*check) (Doctor *doctor);
  gboolean essential;
} checks[] = {
  { "sandbox", check_sandbox, TRUE },
  { "runner", check_runner, TRUE },
  { "network", check_network, TRUE },
  { "processes", check_processes, TRUE },
  { "files", check_files, TRUE },
  { "capabilities", check_capabilities, TRUE },
  { "system calls", check_filter, TRUE },
  { "cgroups", check_cgroups, FALSE },
  { "process limit", check_many, FALSE },
  { "memory", check_memory, FALSE },
  { "processor", check_processor, FALSE },
  { "user namespaces", check_namespaces, FALSE },
  { "kernel", check_futex, TRUE },
  { "sealed memory", check_seals, TRUE },
  { "handles", check_handles, TRUE },
  { "descriptors", check_descriptors, FALSE },
  { "mappings", check_mappings, FALSE },
  { "cores", check_cores, FALSE },
  { "ptrace", check_ptrace, FALSE },
  { "seccomp", check_seccomp, FALSE },
  { "landlock", check_landlock, FALSE },
  { "runtime folder", check_runtime_dir, FALSE },
  { "host", check_host, FALSE },
};

static void
finding_free (DoctorFinding *finding)
{
  g_free (finding->said);
  g_free (finding);
}

GPtrArray *
doctor_look (const char *socket)
{
  GPtrArray *findings = g_ptr_array_new_with_free_func ((GDestroyNotify) finding_free);
  Doctor doctor = { .socket = socket, .all_memory = -1, .all_processes = -1, .all_weight = -1 };

  host_config_find_programs (&doctor.config);
  for (guint i = 0; i < G_N_ELEMENTS (checks); i++)
    {
      doctor.finding = g_new0 (DoctorFinding, 1);
      doctor.finding->check = checks[i].name;
      doctor.finding->essential = checks[i].essential;
      g_ptr_array_add (findings, doctor.finding);
      checks[i].check (&doctor);
    }
  g_strfreev (doctor.inside);
  g_free (doctor.limits);
  host_config_clear (&doctor.config);
  return findings;
}

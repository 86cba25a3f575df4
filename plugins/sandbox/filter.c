/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include "filter.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "plugins/cell-error.h"

/* Which argument of clone has the flags. */
#ifdef __s390__
# define CLONE_FLAGS 1
#else
# define CLONE_FLAGS 0
#endif

static const char *const trapped[] = {
  /* other processes */
  "kcmp", "perf_event_open", "process_vm_readv", "process_vm_writev", "ptrace",
  /* other views of the machine */
  "chroot", "fsconfig", "fsmount", "fsopen", "fspick", "mount", "mount_setattr", "move_mount", "open_tree", "pivot_root", "setns",
  "umount", "umount2", "unshare",
  /* memory that nothing bounds; the host makes what is shared */
  "memfd_create", "memfd_secret",
  /* the machine itself */
  "acct", "bpf", "clock_settime", "delete_module", "fanotify_init", "finit_module", "init_module", "ioperm", "iopl",
  "kexec_file_load", "kexec_load", "lookup_dcookie", "nfsservctl", "open_by_handle_at", "quotactl", "quotactl_fd", "reboot",
  "settimeofday", "swapoff", "swapon", "syslog", "uselib", "userfaultfd", "vhangup",
};

static const struct
{
  const char *name;
  int number;
} failing[] = {
  /* its flags lie in memory, which a filter does not see; the C library goes on with clone */
  { "clone3", ENOSYS },
  /* would make other calls behind the filter's back */
  { "io_uring_setup", ENOSYS }, { "io_uring_enter", ENOSYS }, { "io_uring_register", ENOSYS },
  /* would write to memory when nobody runs any more */
  { "io_setup", ENOSYS },
  /* would send signals when nobody runs any more, also the one that lets a process go on that was stopped */
  { "timer_create", ENOSYS }, { "mq_notify", ENOSYS },
  /* memory that nothing bounds */
  { "shmget", ENOSYS }, { "msgget", ENOSYS },
  /* keys belong to the user, in whatever namespace */
  { "add_key", ENOSYS }, { "keyctl", ENOSYS }, { "request_key", ENOSYS },
  /* the kernel may share processors out among sessions first: a new one would have its share, whatever its process was told */
  { "setsid", EPERM },
  { "get_mempolicy", EPERM }, { "mbind", EPERM }, { "migrate_pages", EPERM }, { "move_pages", EPERM }, { "set_mempolicy", EPERM },
};

/* With all other families a socket would reach past the network that was taken away, or code that is seldom looked at. */
static const unsigned families[] = { AF_UNSPEC, AF_UNIX, AF_INET, AF_INET6, AF_NETLINK };

/* What this machine has never heard of nobody can call. */
static gboolean
set_action (scmp_filter_ctx filter, uint32_t action, const char *name)
{
  int number = seccomp_syscall_resolve_name (name);

  return number == __NR_SCMP_ERROR || seccomp_rule_add (filter, action, number, 0) == 0;
}

static gboolean
deny_names (scmp_filter_ctx filter)
{
  gboolean good = TRUE;

  for (guint i = 0; i < G_N_ELEMENTS (trapped); i++)
    good = good && set_action (filter, SCMP_ACT_TRAP, trapped[i]);
  for (guint i = 0; i < G_N_ELEMENTS (failing); i++)
    good = good && set_action (filter, SCMP_ACT_ERRNO ((uint16_t) failing[i].number), failing[i].name);
  return good;
}

static gboolean
deny_arguments (scmp_filter_ctx filter)
{
  static const unsigned namespaces[] = {
    CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWIPC, CLONE_NEWUTS, CLONE_NEWCGROUP,
  };
  static const unsigned orders[] = { TIOCSTI, TIOCLINUX };     /* to a terminal, which would type them */
  gboolean good = TRUE;

  for (guint i = 0; i < G_N_ELEMENTS (namespaces); i++)
    good = good && seccomp_rule_add (filter, SCMP_ACT_TRAP, SCMP_SYS (clone), 1,
                                     SCMP_CMP (CLONE_FLAGS, SCMP_CMP_MASKED_EQ, namespaces[i], namespaces[i])) == 0;
  /* The kernel takes 32 bits of an order and of a family, and a register has 64. */
  for (guint i = 0; i < G_N_ELEMENTS (orders); i++)
    good = good && seccomp_rule_add (filter, SCMP_ACT_TRAP, SCMP_SYS (ioctl), 1,
                                     SCMP_A1 (SCMP_CMP_MASKED_EQ, 0xffffffffu, orders[i])) == 0;
  /* A descriptor would send any signal, as a timer would. */
  good = good && seccomp_rule_add (filter, SCMP_ACT_ERRNO (EPERM), SCMP_SYS (fcntl), 1,
                                   SCMP_A1 (SCMP_CMP_MASKED_EQ, 0xffffffffu, F_SETSIG)) == 0;
  return good && seccomp_rule_add (filter, SCMP_ACT_ERRNO (EPERM), SCMP_SYS (personality), 1, SCMP_A0 (SCMP_CMP_NE, 0)) == 0;
}

/* Those between the allowed ones, and all beyond. */
static gboolean
deny_families (scmp_filter_ctx filter, gboolean network)
{
  const uint32_t action = SCMP_ACT_ERRNO (EAFNOSUPPORT);
  gboolean good = TRUE;
  unsigned family = 0;

  for (guint i = 0; i < G_N_ELEMENTS (families); i++, family++)
    for (; family < families[i]; family++)
      good = good && seccomp_rule_add (filter, action, SCMP_SYS (socket), 1, SCMP_A0 (SCMP_CMP_EQ, family)) == 0;
  if (network)
    good = good && seccomp_rule_add (filter, action, SCMP_SYS (socket), 1, SCMP_A0 (SCMP_CMP_EQ, AF_UNIX)) == 0;
  return good && seccomp_rule_add (filter, action, SCMP_SYS (socket), 1, SCMP_A0 (SCMP_CMP_GE, family)) == 0;
}

/* What the runner and its threads do while they serve, and what a cell may want in between that leads to nothing that it does not
 * have. */
static const char *const serving[] = {
  /* its descriptors: channels, bells, what it was given */
  "read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev", "preadv2", "pwritev2", "lseek", "close", "dup",
  "fstat", "newfstatat", "ftruncate", "fallocate", "sendmsg", "recvmsg", "sendto", "recvfrom", "shutdown",
  /* waiting */
  "futex", "futex_waitv", "poll", "ppoll", "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2", "eventfd2",
  "timerfd_create",
  "timerfd_settime", "timerfd_gettime", "nanosleep", "clock_nanosleep", "restart_syscall", "sched_yield",
  /* memory */
  "munmap", "mremap", "madvise", "brk", "mlock", "mlock2", "munlock", "membarrier",
  /* threads, and the process itself */
  "set_robust_list", "rseq", "sigaltstack", "rt_sigprocmask", "rt_sigreturn", "rt_sigaction", "prctl", "gettid", "getpid", "tgkill",
  "sched_getaffinity", "getcpu", "waitid", "exit", "exit_group",
  /* what time it is, and chance */
  "clock_gettime", "clock_getres", "gettimeofday", "time", "getrandom", "getrusage", "sysinfo",
};

/* What may be asked of a descriptor: not that it sends signals. */
static const unsigned of_descriptors[] = {
  F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_GETLK, F_SETLK, F_SETLKW, F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW,
  F_GETPIPE_SZ, F_SETPIPE_SZ, F_GET_SEALS, F_ADD_SEALS,
};

/* Memory that is code has come with the cell, and there is no more of it. */
static gboolean
allow_arguments (scmp_filter_ctx filter)
{
  const unsigned code = PROT_EXEC;
  gboolean good = seccomp_rule_add (filter, SCMP_ACT_ALLOW, SCMP_SYS (mmap), 1, SCMP_A2 (SCMP_CMP_MASKED_EQ, code, 0)) == 0
                  && seccomp_rule_add (filter, SCMP_ACT_ALLOW, SCMP_SYS (mprotect), 1, SCMP_A2 (SCMP_CMP_MASKED_EQ, code, 0)) == 0;

  for (guint i = 0; i < G_N_ELEMENTS (of_descriptors); i++)
    good = good && seccomp_rule_add (filter, SCMP_ACT_ALLOW, SCMP_SYS (fcntl), 1,
                                     SCMP_A1 (SCMP_CMP_MASKED_EQ, 0xffffffffu, of_descriptors[i])) == 0;
  /* A thread; the C library tries clone3 first. */
  return good && seccomp_rule_add (filter, SCMP_ACT_ERRNO (ENOSYS), SCMP_SYS (clone3), 0) == 0
         && seccomp_rule_add (filter, SCMP_ACT_ALLOW, SCMP_SYS (clone), 1,
                              SCMP_CMP (CLONE_FLAGS, SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD)) == 0;
}

static gboolean
allow_serving (scmp_filter_ctx filter)
{
  gboolean good = allow_arguments (filter);

  for (guint i = 0; i < G_N_ELEMENTS (serving); i++)
    good = good && set_action (filter, SCMP_ACT_ALLOW, serving[i]);
  return good;
}

static scmp_filter_ctx
make (FilterKind kind)
{
  scmp_filter_ctx filter = seccomp_init (kind == FILTER_SERVING ? SCMP_ACT_TRAP : SCMP_ACT_ALLOW);

  /* Another machine's calls have other numbers, so none of them is allowed.  A tree is searched, not a list: every call passes
   * it. */
  if (filter == NULL
      || (seccomp_attr_set (filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_TRAP) == 0
          && seccomp_attr_set (filter, SCMP_FLTATR_CTL_OPTIMIZE, 2) == 0
          && (kind == FILTER_SERVING ? allow_serving (filter)
                                     : deny_names (filter) && deny_arguments (filter)
                                     && deny_families (filter, kind == FILTER_NETWORK))))
    return filter;
  seccomp_release (filter);
  return NULL;
}

/* libseccomp writes into descriptors only. */
static GBytes *
export (scmp_filter_ctx filter)
{
  int fd = memfd_create ("cell-filter", MFD_CLOEXEC);
  off_t size = fd >= 0 && seccomp_export_bpf (filter, fd) == 0 ? lseek (fd, 0, SEEK_END) : 0;
  g_autofree void *data = size > 0 ? g_malloc ((gsize) size) : NULL;
  gboolean good = data != NULL && pread (fd, data, (size_t) size, 0) == size;

  if (fd >= 0)
    close (fd);
  return good ? g_bytes_new_take (g_steal_pointer (&data), (gsize) size) : NULL;
}

/* NULL: it cannot be made; then another try would not help. */
static GBytes *
get_filter (FilterKind kind)
{
  static GBytes *bytes[FILTER_KINDS];
  static gsize tried[FILTER_KINDS];

  if (g_once_init_enter (&tried[kind]))
    {
      scmp_filter_ctx filter = make (kind);

      if (filter != NULL)
        {
          bytes[kind] = export (filter);
          seccomp_release (filter);
        }
      g_once_init_leave (&tried[kind], 1);
    }
  return bytes[kind];
}

int
filter_open (FilterKind kind, GError **error)
{
  GBytes *bytes = get_filter (kind);
  gsize size = 0;
  const void *data = bytes != NULL ? g_bytes_get_data (bytes, &size) : NULL;
  int fd = data != NULL ? memfd_create ("cell-filter", MFD_CLOEXEC) : -1;

  if (fd >= 0 && pwrite (fd, data, size, 0) == (ssize_t) size)
    return fd;
  if (fd >= 0)
    close (fd);
  if (data != NULL)
    cell_set_error (error, CELL_ERROR_NO_RESOURCES, "no memory for a sandbox's filter of system calls: %s", g_strerror (errno));
  else
    cell_set_error (error, CELL_ERROR_UNSUPPORTED, "libseccomp makes no filter of system calls for a sandbox here");
  return -1;
}

char *
filter_call_name (uint32_t arch, int32_t number)
{
  char *name = seccomp_syscall_resolve_num_arch (arch, number);
  char *copy = name != NULL ? g_strdup (name) : g_strdup_printf ("number %d", number);

  free (name);
  return copy;
}

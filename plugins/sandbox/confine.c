/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include "confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bounds.h"
#include "landlock.h"
#include "last-word.h"
#include "membrane/thread.h"

#define MIB ((rlim_t) 1 << 20)
#define DESCRIPTORS_MAX 4096u
#define FILE_MAX (1024 * MIB)           /* where it can write there is less, unless it was given a folder */
#define LOCKED_MAX (8 * MIB)
#define FILTER_MAX 1024u                /* instructions */

static bool has_last_filter;            /* it was given one */

/* No address space: it would not bound what lies in shared memory, and guard pages need a lot of it.  Here, and not before the
 * sandbox is made, since processes are counted in the user's namespace that the limit was set in. */
static void
limit (void)
{
  const struct
  {
    int resource;
    rlim_t most;
  } limits[] = {
    { RLIMIT_CORE, 0 }, { RLIMIT_NPROC, BOUNDS_PROCESSES }, { RLIMIT_NOFILE, DESCRIPTORS_MAX }, { RLIMIT_FSIZE, FILE_MAX },
    { RLIMIT_MEMLOCK, LOCKED_MAX }, { RLIMIT_MSGQUEUE, 0 }, { RLIMIT_NICE, 0 }, { RLIMIT_RTPRIO, 0 },
#if !defined __SANITIZE_ADDRESS__ && !defined __SANITIZE_THREAD__       /* their shadow counts as data */
    { RLIMIT_DATA, bounds_memory () },
#endif
  };

  for (unsigned i = 0; i < sizeof limits / sizeof *limits; i++)
    {
      struct rlimit now;

      getrlimit (limits[i].resource, &now);
      if (now.rlim_max > limits[i].most)
        now.rlim_max = limits[i].most;
      if (now.rlim_cur > now.rlim_max)
        now.rlim_cur = now.rlim_max;
      setrlimit (limits[i].resource, &now);
    }
}

static void
on_forbidden (int number, siginfo_t *info, void *context)
{
  LastWord word = { info->si_arch, info->si_syscall };

  (void) context;
  (void) !write (LAST_WORD, &word, sizeof word);        /* how it ends says most of it */
  _exit (128 + number);                 /* as a shell would say it */
}

/* One that is blocked ends the process without a word. */
static void
let_it_come (ThreadContext *thread)
{
  sigset_t set;

  (void) thread;
  sigemptyset (&set);
  sigaddset (&set, SIGSYS);
  pthread_sigmask (SIG_UNBLOCK, &set, NULL);
}

void
confine (void)
{
  struct sigaction action = { .sa_sigaction = on_forbidden, .sa_flags = SA_SIGINFO };
  sigset_t none;

  sigemptyset (&none);                  /* the thread that has started us blocks all */
  pthread_sigmask (SIG_SETMASK, &none, NULL);
  thread_begins = let_it_come;
  fcntl (LAST_WORD, F_SETFD, FD_CLOEXEC);
  has_last_filter = fcntl (LAST_FILTER, F_SETFD, FD_CLOEXEC) == 0;
  sigaction (SIGSYS, &action, NULL);
  limit ();
  landlock_confine ();
}

/* The first process of its namespace: those whose parents have ended are its own. */
static bool
has_processes (void)
{
  siginfo_t info;

  return waitid (P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0 || errno != ECHILD;
}

/* Of processes the kernel does not see to it that they have the filter, as it does of threads.  They are looked for when nobody can
 * start another. */
const char *
confine_to_serving (void)
{
  struct sock_filter program[FILTER_MAX];
  ssize_t size;
  long done = -1;

  if (!has_last_filter)
    return NULL;
  size = pread (LAST_FILTER, program, sizeof program, 0);
  if (size > 0 && (size_t) size % sizeof *program == 0)
    done = syscall (SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC,
                    &(struct sock_fprog) { (unsigned short) ((size_t) size / sizeof *program), program });
  close (LAST_FILTER);
  if (done != 0)                        /* more: a thread that has a filter of its own */
    return "the kernel does not take the filter for it";
  return has_processes () ? "its init has started a process" : NULL;
}

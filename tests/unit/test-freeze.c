/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Processes that write to shared memory for as long as they run, and must have stopped when that is said of them.
 */
#define _GNU_SOURCE
#include <glib.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/freeze.h"

#define WRITERS 4
#define ROUNDS 100

typedef struct
{
  _Atomic guint64 written;
  _Atomic guint started, go;    /* go: a process that has been asked to may start another one */
} Shared;

typedef struct
{
  Shared *shared;
  pid_t pid;
  int pidfd;
} Victim;

static void *
write_main (void *data)
{
  Shared *shared = data;

  shared->started++;
  for (;;)
    shared->written++;
  return NULL;
}

static void *
end_main (void *data)
{
  ((Shared *) data)->written++;
  return NULL;
}

static void
writers (Shared *shared)
{
  pthread_t thread;

  for (int i = 0; i < WRITERS - 1; i++)
    if (pthread_create (&thread, NULL, write_main, shared) != 0)
      abort ();
  write_main (shared);
}

/* Threads come and go. */
static void
breeder (Shared *shared)
{
  pthread_t thread;

  shared->started = WRITERS;
  for (;;)
    if (pthread_create (&thread, NULL, end_main, shared) == 0)
      pthread_join (thread, NULL);
}

/* Another process of its own writes on when this one stands. */
static void
parent (Shared *shared)
{
  if (fork () == 0)
    write_main (shared);
  shared->started = WRITERS;
  for (;;)
    pause ();
}

static Victim
victim_start (void (*run) (Shared *shared))
{
  Victim victim = { mmap (NULL, sizeof (Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), fork (), -1 };

  g_assert_true (victim.shared != MAP_FAILED);
  g_assert_cmpint (victim.pid, >=, 0);
  if (victim.pid == 0)
    {
      setpgid (0, 0);
      run (victim.shared);
    }
  victim.pidfd = (int) syscall (SYS_pidfd_open, victim.pid, 0);
  g_assert_cmpint (victim.pidfd, >=, 0);
  while (victim.shared->started < WRITERS || (run != parent && victim.shared->written == 0))
    sched_yield ();
  return victim;
}

static void
victim_end (Victim *victim)
{
  kill (-victim->pid, SIGKILL);
  kill (victim->pid, SIGKILL);
  g_assert_cmpint (waitpid (victim->pid, NULL, 0), ==, victim->pid);
  close (victim->pidfd);
  munmap (victim->shared, sizeof (Shared));
}

/* True: nothing was written while others had the processor, again and again. */
static gboolean
stands (const Victim *victim)
{
  guint64 written = victim->shared->written;

  for (int i = 0; i < 200; i++)
    {
      sched_yield ();
      if (victim->shared->written != written)
        return FALSE;
    }
  return TRUE;
}

static gboolean
freeze (GPid pid, int pidfd)
{
  Freezer *freezer = freezer_new (pid, pidfd);
  gboolean stopped = freezer_stop (freezer);

  freezer_free (freezer);
  return stopped;
}

/* On a busy machine one may not stop in time, which is said; most do. */
static void
freeze_many (void (*run) (Shared *shared))
{
  guint frozen = 0;

  for (int i = 0; i < ROUNDS; i++)
    {
      Victim victim = victim_start (run);

      if (freeze (victim.pid, victim.pidfd))
        {
          g_assert_true (stands (&victim));
          frozen++;
        }
      victim_end (&victim);
    }
  g_test_message ("%u of %u stood in time", frozen, ROUNDS);
  g_assert_cmpuint (frozen, >, 0);
}

static void
test_writers (void)
{
  freeze_many (writers);
}

static void
test_breeder (void)
{
  freeze_many (breeder);
}

static void
test_parent (void)
{
  Victim victim = victim_start (parent);

  g_assert_false (freeze (victim.pid, victim.pidfd));
  victim_end (&victim);
}

static void
test_gone (void)
{
  Victim victim = victim_start (writers);

  kill (victim.pid, SIGKILL);
  g_assert_cmpint (waitpid (victim.pid, NULL, 0), ==, victim.pid);
  g_assert_false (freeze (victim.pid, victim.pidfd));
  g_assert_false (freeze (getpid (), -1));
  g_assert_false (freeze (0, victim.pidfd));
  close (victim.pidfd);
  munmap (victim.shared, sizeof (Shared));
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/freeze/writers", test_writers);
  g_test_add_func ("/freeze/breeder", test_breeder);
  g_test_add_func ("/freeze/parent", test_parent);
  g_test_add_func ("/freeze/gone", test_gone);
  return g_test_run ();
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "place.h"

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static const cpu_set_t *
allowed (void)
{
  static cpu_set_t set;
  static bool known;

  if (!known)
    known = sched_getaffinity (0, sizeof set, &set) == 0;
  return &set;
}

/* -1: the kernel does not say. */
static int
topology (int cpu, const char *what)
{
  char path[96];
  int value = -1;
  FILE *file;

  snprintf (path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/%s", cpu, what);
  file = fopen (path, "re");
  if (!file)
    return -1;
  if (fscanf (file, "%d", &value) != 1)
    value = -1;
  fclose (file);
  return value;
}

/* How good a peer's processor is: another core of the same package, of another one, or another thread of the same core. */
static int
rank (int cpu, int peer)
{
  bool same_package = topology (cpu, "physical_package_id") == topology (peer, "physical_package_id");
  int core = topology (cpu, "core_id");

  if (!same_package)
    return 2;
  return core >= 0 && core == topology (peer, "core_id") ? 1 : 3;
}

bool
bench_place_choose (BenchPlacement placement, BenchPlace *place, BenchProblem *problem)
{
  int first = -1, best = -1, best_rank = 0;

  *place = (BenchPlace) { -1, -1, false };
  if (placement == BENCH_ANYWHERE)
    return true;
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
    {
      if (!CPU_ISSET (cpu, allowed ()))
        continue;
      if (first < 0)
        first = cpu;
      else if (placement == BENCH_TWO_CORES && rank (first, cpu) > best_rank)
        {
          best = cpu;
          best_rank = rank (first, cpu);
        }
    }
  if (first < 0)
    return bench_fail (problem, "cannot tell which processors may be used");
  if (placement == BENCH_TWO_CORES && best < 0)
    return bench_skip (problem, "needs two processors, and only one may be used");
  *place = (BenchPlace) { first, placement == BENCH_ONE_CORE ? first : best, best_rank == 1 };
  return true;
}

bool
bench_pin (int cpu)
{
  cpu_set_t set;

  if (cpu < 0)
    return sched_setaffinity (0, sizeof set, allowed ()) == 0;
  allowed ();                   /* remembered before it changes */
  CPU_ZERO (&set);
  CPU_SET (cpu, &set);
  return sched_setaffinity (0, sizeof set, &set) == 0;
}

bool
bench_pin_process (pid_t pid, int cpu, BenchProblem *problem)
{
  char path[32];
  struct dirent *entry;
  cpu_set_t set;
  DIR *threads;

  CPU_ZERO (&set);
  CPU_SET (cpu, &set);
  snprintf (path, sizeof path, "/proc/%d/task", (int) pid);
  threads = opendir (path);
  if (!threads)
    return bench_fail (problem, "process %d is not to be found", (int) pid);
  while ((entry = readdir (threads)))
    if (entry->d_name[0] != '.')
      sched_setaffinity (atoi (entry->d_name), sizeof set, &set);
  closedir (threads);
  return true;
}

typedef struct
{
  char *const *argv;
} Program;

static void
execute (void *data)
{
  Program *program = data;

  execvp (program->argv[0], program->argv);
  _exit (127);
}

pid_t
bench_fork (int cpu, void (*serve) (void *data), void *data, BenchProblem *problem)
{
  pid_t parent = getpid (), pid = fork ();

  if (pid > 0)
    return pid;
  if (pid < 0)
    {
      bench_fail (problem, "cannot fork: %s", strerror (errno));
      return -1;
    }
  prctl (PR_SET_PDEATHSIG, SIGKILL);
  if (getppid () != parent || !bench_pin (cpu))
    _exit (126);
  serve (data);
  _exit (0);
}

pid_t
bench_spawn (int cpu, char *const argv[], BenchProblem *problem)
{
  return bench_fork (cpu, execute, &(Program) { argv }, problem);
}

void
bench_kill (pid_t pid)
{
  if (pid <= 0)
    return;
  kill (pid, SIGKILL);
  while (waitpid (pid, NULL, 0) < 0 && errno == EINTR)
    continue;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A cell that, for a while, does harm with all that its process has: it writes anything into the memory that it shares with its
 * callers, and rings every bell.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cell/cell.h>

#define HALVES_MAX 16
#define BELLS_MAX 16

typedef struct
{
  pthread_t thread;
  bool running;
  _Atomic bool stop;
  struct { volatile uint32_t *words; size_t n; } halves[HALVES_MAX];
  int bells[BELLS_MAX];
  unsigned n_halves, n_bells;
  uint64_t until;
  uint32_t pause;
} Hostile;

static uint64_t
now (void)
{
  struct timespec at;
  clock_gettime (CLOCK_MONOTONIC, &at);
  return (uint64_t) at.tv_sec * 1000u + (uint64_t) at.tv_nsec / 1000000u;
}

/* A view of its own of each: the runner takes its own away when the channel has ended. */
static void
find_halves (Hostile *self)
{
  FILE *maps = fopen ("/proc/self/maps", "r");
  char line[512];
  while (self->n_halves > 0)
    {
      self->n_halves--;
      munmap ((void *) self->halves[self->n_halves].words, 4 * self->halves[self->n_halves].n);
    }
  while (maps && fgets (line, sizeof line, maps) && self->n_halves < HALVES_MAX)
    {
      unsigned long from, to, offset;
      char rights[5];
      if (sscanf (line, "%lx-%lx %4s %lx", &from, &to, rights, &offset) == 4 && strstr (line, "/memfd:cell-replies") && offset == 0
          && rights[1] == 'w')
        {
          void *view = mremap ((void *) from, 0, to - from, MREMAP_MAYMOVE);
          if (view == MAP_FAILED)
            continue;
          self->halves[self->n_halves].words = view;
          self->halves[self->n_halves++].n = (to - from) / 4;
        }
    }
  if (maps)
    fclose (maps);
}

static void
find_bells (Hostile *self)
{
  DIR *folder = opendir ("/proc/self/fd");
  struct dirent *entry;
  self->n_bells = 0;
  while (folder && (entry = readdir (folder)) && self->n_bells < BELLS_MAX)
    {
      char path[300], what[64] = "";
      snprintf (path, sizeof path, "/proc/self/fd/%s", entry->d_name);
      if (readlink (path, what, sizeof what - 1) > 0 && strstr (what, "eventfd"))
        self->bells[self->n_bells++] = atoi (entry->d_name);
    }
  if (folder)
    closedir (folder);
}

static void *
harm_main (void *data)
{
  Hostile *self = data;
  uint32_t x = 2463534242u;
  const uint64_t one = 1;
  while (!self->stop && now () < self->until)
    {
      for (unsigned i = 0; i < self->n_halves; i++)
        for (unsigned k = 0; k < 64; k++)
          {
            x ^= x << 13, x ^= x >> 17, x ^= x << 5;
            self->halves[i].words[x / 64 % self->halves[i].n] = x;
          }
      for (unsigned i = 0; i < self->n_bells; i++)
        if (write (self->bells[i], &one, sizeof one) < 0)
          continue;                     /* it is full of it */
      if (self->pause > 0)
        usleep (self->pause);
    }
  return NULL;
}

CELL_METHOD (Hostile, harm, doc ("Begins, and goes on for so long.  No answer of its would be believed."), oneway,
             in (u32, milliseconds), in (u32, pause, "µs after each time; 0: it leaves its processor to nobody"))
{
  if (getpid () != 1)
    return cell_fail_status (call, CELL_ERROR_STATE, "this is not a sandbox");
  if (self->running)
    {
      self->stop = true;
      pthread_join (self->thread, NULL);
      self->stop = false;
    }
  find_halves (self);
  find_bells (self);
  self->until = now () + in->milliseconds;
  self->pause = in->pause;
  self->running = pthread_create (&self->thread, NULL, harm_main, self) == 0;
  return CELL_OK;
}

CELL_FINI (Hostile, hostile_fini)
{
  self->stop = true;
  if (self->running)
    pthread_join (self->thread, NULL);
}

CELL_SERVICE (Hostile, "org.cellhost.bench.Hostile", 1, .doc = "Does harm for a while", .fini = hostile_fini)

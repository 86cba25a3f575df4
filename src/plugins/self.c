/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include "self.h"

#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include "heap.h"

#if defined (__SANITIZE_ADDRESS__)
# include <sanitizer/asan_interface.h>
# include <sanitizer/lsan_interface.h>
#else
# define ASAN_POISON_MEMORY_REGION(at, size) ((void) 0)
# define ASAN_UNPOISON_MEMORY_REGION(at, size) ((void) 0)
# define __lsan_register_root_region(at, size) ((void) 0)
#endif

#define REGION ((size_t) 1 << 22)       /* of address space; no memory is taken before it is used */
#define READY_MAX ((size_t) 1 << 18)     /* a struct up to this has its memory from the start */
#define COLOURS 32u                     /* lines at which a struct may begin in its page: all at one would share a few of the
                                         * cache's */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint8_t *region;
static size_t left;                     /* of the region, at its end */
static unsigned n_selves;

static size_t
page_up (size_t size)
{
  size_t page = (size_t) getpagesize ();

  return (size + page - 1) & ~(page - 1);
}

static SelfHeader *
header_of (void *self)
{
  return (SelfHeader *) self - 1;
}

/* Where its pages begin: a struct begins in the first of them. */
static uint8_t *
pages_of (void *self)
{
  return (uint8_t *) ((uintptr_t) header_of (self) & ~((uintptr_t) getpagesize () - 1));
}

static uint8_t *
map (size_t size)
{
  uint8_t *at = mmap (NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

  if (at == MAP_FAILED)
    return NULL;
  __lsan_register_root_region (at, size);
  return at;
}

/* With the lock. */
static uint8_t *
take (size_t size)
{
  uint8_t *at;

  if (size > REGION / 4)
    return map (size);
  if (size > left)
    {
      if ((at = map (REGION)) == NULL)
        return NULL;
      region = at;
      left = REGION;
    }
  at = region + (REGION - left);
  left -= size;
  return at;
}

void *
self_new (CellInstance *instance, uint32_t size)
{
  size_t before, whole;
  uint8_t *pages;
  void *self;

  pthread_mutex_lock (&lock);
  before = (n_selves++ % COLOURS) * 64 + sizeof (SelfHeader);
  whole = page_up (before + size);
  pages = take (whole);
  pthread_mutex_unlock (&lock);
  if (pages == NULL)
    return NULL;
  /* While nobody waits: when a cell moves, what it restores is written while its callers do. */
  if (whole > (size_t) getpagesize () && whole <= READY_MAX)
    heap_warm (pages, whole);
  self = pages + before;
  atomic_store (&header_of (self)->instance, instance);
  ASAN_POISON_MEMORY_REGION ((uint8_t *) self + size, whole - before - size);
  return self;
}

void
self_retire (void *self, uint32_t size)
{
  uint8_t *pages = pages_of (self);
  size_t whole = page_up ((size_t) ((uint8_t *) self - pages) + size);

  atomic_store (&header_of (self)->instance, NULL);
  while (atomic_load (&header_of (self)->inside) != 0)
    sched_yield ();                     /* for as long as a line of the log takes */
  ASAN_UNPOISON_MEMORY_REGION (pages, whole);
  madvise (pages, whole, MADV_DONTNEED);
}

CellInstance *
self_enter (void *self)
{
  CellInstance *instance;

  atomic_fetch_add (&header_of (self)->inside, 1);
  instance = atomic_load (&header_of (self)->instance);
  if (instance == NULL)
    self_leave (self);
  return instance;
}

void
self_leave (void *self)
{
  atomic_fetch_sub (&header_of (self)->inside, 1);
}

bool
self_tell_once (void *self)
{
  return atomic_exchange (&header_of (self)->told, 1) == 0;
}

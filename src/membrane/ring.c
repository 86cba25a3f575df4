/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include "ring.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef F_SEAL_FUTURE_WRITE
# define F_SEAL_FUTURE_WRITE 0x0010
#endif

static bool
capacity_is_valid (uint32_t capacity)
{
  return capacity >= HALF_PAGE && capacity <= HALF_CAPACITY_MAX && (capacity & (capacity - 1)) == 0;
}

/* One range: the page of words, the data, and the data again. */
static bool
map_twice (Half *half, bool writable)
{
  size_t capacity = half->capacity;
  int protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
  uint8_t *base = mmap (NULL, HALF_PAGE + 2 * capacity, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

  if (base == MAP_FAILED)
    return false;
  if (mmap (base, HALF_PAGE + capacity, protection, MAP_SHARED | MAP_FIXED, half->fd, 0) == MAP_FAILED
      || mmap (base + HALF_PAGE + capacity, capacity, protection, MAP_SHARED | MAP_FIXED, half->fd, HALF_PAGE) == MAP_FAILED)
    {
      munmap (base, HALF_PAGE + 2 * capacity);
      return false;
    }
  half->control = (HalfControl *) base;
  half->data = base + HALF_PAGE;
  return true;
}

static Half *
half_alloc (int fd, uint32_t capacity, uint64_t salt)
{
  Half *half = calloc (1, sizeof *half);

  if (half == NULL)
    {
      close (fd);
      return NULL;
    }
  half->refs = 1;
  half->fd = fd;
  half->capacity = capacity;
  half->salt = salt;
  return half;
}

static uint64_t
random_salt (void)
{
  uint64_t salt;

  while (getrandom (&salt, sizeof salt, 0) != sizeof salt)
    continue;
  return salt;
}

Half *
half_new (const char *name, uint32_t capacity, Fault *fault)
{
  int fd;
  Half *half;

  if (!capacity_is_valid (capacity))
    {
      fault_set (fault, CELL_ERROR_INVALID, "a ring of %u bytes is not possible", capacity);
      return NULL;
    }
  fd = memfd_create (name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
  /* fallocate: a full tmpfs must fail here and not with SIGBUS in the middle of a call. */
  if (fd < 0 || fallocate (fd, 0, 0, HALF_PAGE + (off_t) capacity) < 0 || fcntl (fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK) < 0)
    {
      fault_set (fault, CELL_ERROR_NO_RESOURCES, "no shared memory for a channel: %s", strerror (errno));
      if (fd >= 0)
        close (fd);
      return NULL;
    }
  half = half_alloc (fd, capacity, random_salt ());
  if (half == NULL || !map_twice (half, true))
    {
      fault_set (fault, CELL_ERROR_NO_RESOURCES, "no address space for a channel: %s", strerror (errno));
      half_unref (half);
      return NULL;
    }
  return half;
}

bool
half_seal (Half *half, Fault *fault)
{
  if (fcntl (half->fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) < 0)
    return fault_set (fault, CELL_ERROR_INTERNAL, "a channel's memory cannot be sealed: %s", strerror (errno));
  half->sealed = true;
  return true;
}

static bool
half_check (int fd, uint32_t capacity, Fault *fault)
{
  struct stat st;
  int seals = fcntl (fd, F_GET_SEALS);

  if (!capacity_is_valid (capacity))
    return fault_set (fault, CELL_ERROR_CORRUPT, "a ring of %u bytes is not possible", capacity);
  if (seals < 0 || (seals & (F_SEAL_GROW | F_SEAL_SHRINK)) != (F_SEAL_GROW | F_SEAL_SHRINK))
    return fault_set (fault, CELL_ERROR_CORRUPT, "a channel's memory is not sealed against a change of its size");
  if (fstat (fd, &st) < 0 || st.st_size != (off_t) capacity + HALF_PAGE)
    return fault_set (fault, CELL_ERROR_CORRUPT, "a channel's memory does not have the size it should have");
  return true;
}

Half *
half_map (int fd, uint32_t capacity, uint64_t salt, bool writable, Fault *fault)
{
  Half *half;

  if (!half_check (fd, capacity, fault))
    {
      if (fd >= 0)
        close (fd);
      return NULL;
    }
  half = half_alloc (fd, capacity, salt);
  if (half == NULL || !map_twice (half, writable))
    {
      fault_set (fault, CELL_ERROR_NO_RESOURCES, "a channel's memory cannot be mapped: %s", strerror (errno));
      half_unref (half);
      return NULL;
    }
  return half;
}

void
half_forget_fd (Half *half)
{
  if (half->fd >= 0)
    close (half->fd);
  half->fd = -1;
}

Half *
half_ref (Half *half)
{
  atomic_fetch_add (&half->refs, 1);
  return half;
}

void
half_unref (Half *half)
{
  if (half == NULL || atomic_fetch_sub (&half->refs, 1) != 1)
    return;
  if (half->control != NULL)
    munmap (half->control, HALF_PAGE + 2 * (size_t) half->capacity);
  if (half->fd >= 0)
    close (half->fd);
  free (half);
}

uint32_t
half_capacity_for (uint64_t bytes)
{
  uint32_t capacity = HALF_PAGE;

  while (capacity < bytes && capacity < (1u << 26))
    capacity <<= 1;
  return capacity;
}

void
ring_writer_init (RingWriter *writer, Half *own, const HalfControl *peer, uint64_t head)
{
  *writer = (RingWriter) {
    .data = own->data, .mask = own->capacity - 1, .salt = own->salt, .own = own->control, .peer = peer, .head = head, .limit = head,
    .base = head,
  };
}

void
ring_reader_init (RingReader *reader, const Half *from, HalfControl *own, uint64_t at)
{
  *reader = (RingReader) { .data = from->data, .mask = from->capacity - 1, .salt = from->salt, .own = own, .at = at };
}

bool
ring_writer_refresh (RingWriter *writer, uint32_t size, Fault *fault)
{
  /* Once, and in this order: a reader says that it has taken a record before it says that it needs it no more. */
  uint64_t released = load_acquire (&writer->peer->released), taken = load_relaxed (&writer->peer->taken);
  uint64_t capacity = writer->mask + 1;

  /* After a hand-over the reader's cursors stay behind until it looks; what it has not read lies in the memory of before. */
  if (released < writer->base)
    released = taken = writer->base;
  /* What is released but not taken would be written over, and whoever reads next would find nothing, or blame this side. */
  if (unlikely (released > taken || released > writer->head || released % RECORD_ALIGN != 0 || released + capacity < writer->limit))
    return fault_set (fault, CELL_ERROR_CORRUPT, "the peer's cursors are at %llu and %llu, what was written ends at %llu",
                      (unsigned long long) released, (unsigned long long) taken, (unsigned long long) writer->head);
  writer->limit = released + capacity;
  if (fault != NULL)
    fault->status = CELL_OK;
  return writer->head + size <= writer->limit;
}

void
ring_writer_set_peer (RingWriter *writer, const HalfControl *peer, uint64_t taken)
{
  writer->peer = peer;
  if (taken > writer->head)
    taken = writer->head;
  if (taken > writer->base)
    writer->base = taken;
  /* The one before may have said that it had read more than it has by now: it has died since, and what it was at is read again. */
  if (writer->head <= taken + writer->mask + 1 && writer->limit > taken + writer->mask + 1)
    writer->limit = taken + writer->mask + 1;
}

uint64_t
half_end (const Half *half, uint64_t from)
{
  uint64_t mask = half->capacity - 1, at = from & ~(uint64_t) (RECORD_ALIGN - 1);

  while (at - from < half->capacity)
    {
      const Record *record = (const Record *) (half->data + (at & mask));
      uint32_t length;

      if (load_acquire (&record->sequence) != half->salt + at)
        break;
      length = *(const volatile uint32_t *) &record->length;
      if (length > half->capacity - sizeof (Record) || record_size (length) > from + half->capacity - at)
        break;
      at += record_size (length);
    }
  return at;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include "blob.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atomic.h"
#include "wait.h"

#define TRANSIT_SLOTS 4096u
#define TRANSIT_BYTES ((size_t) 4 << 30)
#define TRANSIT_NS (60u * 1000000000ull)
#define SHARE_SLOTS (TRANSIT_SLOTS / 8) /* of one owner */
#define SHARE_BYTES (TRANSIT_BYTES / 8)

#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

typedef struct
{
  CellBlob base;
  _Atomic uint32_t refs;
  int fd;
  bool sealed;
  size_t size;
  pthread_mutex_t lock;
  void *data;
} Blob;

CellHostBlob blob_api = {
  .size = sizeof (CellHostBlob), .data = blob_data, .get_size = blob_size, .ref = blob_ref, .unref = blob_unref,
};

static CellBlob *
blob_alloc (int fd, size_t size, bool sealed)
{
  Blob *blob = calloc (1, sizeof *blob);

  if (blob == NULL)
    {
      close (fd);
      return NULL;
    }
  blob->base.api = &blob_api;
  blob->refs = 1;
  blob->fd = fd;
  blob->size = size;
  blob->sealed = sealed;
  pthread_mutex_init (&blob->lock, NULL);
  return &blob->base;
}

CellBlob *
blob_new_for_other (size_t size, Fault *fault)
{
  int fd;

  if (size > BLOB_MAX_SIZE)
    {
      fault_set (fault, CELL_ERROR_TOO_LARGE, "a blob of %zu bytes is over the limit of %zu", size, BLOB_MAX_SIZE);
      return NULL;
    }
  fd = memfd_create ("cell-blob", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0 || ftruncate (fd, (off_t) size) < 0 || fcntl (fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK) < 0)
    {
      fault_set (fault, CELL_ERROR_NO_RESOURCES, "no memory for a blob of %zu bytes: %s", size, strerror (errno));
      if (fd >= 0)
        close (fd);
      return NULL;
    }
  return blob_alloc (fd, size, false);
}

/* Takes the reference when there is none. */
static CellBlob *
reserved (CellBlob *blob, Fault *fault)
{
  if (blob == NULL || blob_size (blob) == 0 || fallocate (blob_fd (blob), 0, 0, (off_t) blob_size (blob)) == 0)
    return blob;
  fault_set (fault, CELL_ERROR_NO_RESOURCES, "no memory for a blob of %zu bytes: %s", blob_size (blob), strerror (errno));
  blob_unref (blob);
  return NULL;
}

CellBlob *
blob_new (size_t size, Fault *fault)
{
  return reserved (blob_new_for_other (size, fault), fault);
}

static bool
fd_has (int fd, size_t size, int seals, Fault *fault)
{
  struct stat st;
  int have = fcntl (fd, F_GET_SEALS);

  if (have < 0 || (have & seals) != seals)
    return fault_set (fault, CELL_ERROR_CORRUPT, "a blob is not sealed");
  if (fstat (fd, &st) < 0 || st.st_size < 0 || (size_t) st.st_size != size || size > BLOB_MAX_SIZE)
    return fault_set (fault, CELL_ERROR_CORRUPT, "a blob does not have the size it should have");
  /* They would be filled by whoever reads there first, and be his. */
  if ((seals & F_SEAL_WRITE) != 0 && (uint64_t) st.st_blocks * 512 < size)
    return fault_set (fault, CELL_ERROR_CORRUPT, "a blob has holes where its memory should be");
  return true;
}

CellBlob *
blob_from_fd (int fd, size_t size, Fault *fault)
{
  if (!fd_has (fd, size, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE, fault))
    {
      close (fd);
      return NULL;
    }
  return blob_alloc (fd, size, true);
}

CellBlob *
blob_from_fresh_fd (int fd, size_t size, Fault *fault)
{
  if (!fd_has (fd, size, F_SEAL_SHRINK | F_SEAL_GROW, fault))
    {
      close (fd);
      return NULL;
    }
  return reserved (blob_alloc (fd, size, false), fault);
}

CellBlob *
blob_ref (CellBlob *base)
{
  if (base != NULL)
    atomic_fetch_add (&((Blob *) base)->refs, 1);
  return base;
}

void
blob_unref (CellBlob *base)
{
  Blob *blob = (Blob *) base;

  if (blob == NULL || atomic_fetch_sub (&blob->refs, 1) != 1)
    return;
  if (blob->data != NULL)
    munmap (blob->data, blob->size);
  close (blob->fd);
  pthread_mutex_destroy (&blob->lock);
  free (blob);
}

void *
blob_data (CellBlob *base)
{
  Blob *blob = (Blob *) base;
  void *data;

  if (blob == NULL || blob->size == 0)
    return NULL;
  pthread_mutex_lock (&blob->lock);
  if (blob->data == NULL)
    {
      data = mmap (NULL, blob->size, blob->sealed ? PROT_READ : PROT_READ | PROT_WRITE, MAP_SHARED, blob->fd, 0);
      if (data != MAP_FAILED)
        blob->data = data;
    }
  data = blob->data;
  pthread_mutex_unlock (&blob->lock);
  return data;
}

size_t
blob_size (CellBlob *base)
{
  return base != NULL ? ((Blob *) base)->size : 0;
}

int
blob_fd (CellBlob *base)
{
  return ((Blob *) base)->fd;
}

/* The kernel refuses F_SEAL_WRITE while a writable mapping exists, so the maker's goes first. */
bool
blob_seal (CellBlob *base, Fault *fault)
{
  Blob *blob = (Blob *) base;
  bool sealed;

  pthread_mutex_lock (&blob->lock);
  if (!blob->sealed)
    {
      if (blob->data != NULL)
        munmap (blob->data, blob->size);
      blob->data = NULL;
      blob->sealed = fcntl (blob->fd, F_ADD_SEALS, SEALS) == 0
                     || (fcntl (blob->fd, F_GET_SEALS) & F_SEAL_WRITE) != 0;
      if (!blob->sealed)
        fault_set (fault, CELL_ERROR_CORRUPT, "a blob cannot be sealed: %s", strerror (errno));
    }
  sealed = blob->sealed;
  pthread_mutex_unlock (&blob->lock);
  return sealed;
}

/* ---- transit ---------------------------------------------------------------------------------- */

typedef struct
{
  uint64_t id;
  CellBlob *blob;
  uint64_t since;
  uint64_t owner;
} Transit;

static pthread_mutex_t transit_lock = PTHREAD_MUTEX_INITIALIZER;
static Transit transit[TRANSIT_SLOTS];
static size_t transit_bytes;
static unsigned transit_hand;           /* where the next look for a free or stale slot begins */

static void
transit_clear (Transit *slot)
{
  transit_bytes -= blob_size (slot->blob);
  blob_unref (slot->blob);
  *slot = (Transit) { 0 };
}

/* What nobody has fetched for too long goes. */
static void
sweep (uint64_t now)
{
  for (unsigned i = 0; i < TRANSIT_SLOTS; i++)
    if (transit[i].blob != NULL && now - transit[i].since > TRANSIT_NS)
      transit_clear (&transit[i]);
}

/* Whether an owner may have one more; what is stale goes. */
static bool
share_has_room (uint64_t owner, size_t size, uint64_t now)
{
  unsigned n = 0;

  for (unsigned i = 0; i < TRANSIT_SLOTS; i++)
    if (transit[i].blob != NULL && transit[i].owner == owner)
      {
        if (now - transit[i].since > TRANSIT_NS)
          {
            transit_clear (&transit[i]);
            continue;
          }
        size += blob_size (transit[i].blob);
        n++;
      }
  return n < SHARE_SLOTS && size <= SHARE_BYTES;
}

uint64_t
blob_transit_put (CellBlob *blob, uint64_t owner)
{
  uint64_t id = 0, now;
  Transit *free_slot = NULL;

  while (id == 0)
    if (getrandom (&id, sizeof id, 0) != sizeof id)
      return 0;
  pthread_mutex_lock (&transit_lock);
  now = monotonic_ns ();                /* not before: what others have put meanwhile would look as old as can be */
  if (owner != 0 && !share_has_room (owner, blob_size (blob), now))
    {
      pthread_mutex_unlock (&transit_lock);
      return 0;
    }
  if (transit_bytes + blob_size (blob) > TRANSIT_BYTES)
    sweep (now);
  for (unsigned n = 0; n < TRANSIT_SLOTS && free_slot == NULL; n++)
    {
      Transit *slot = &transit[transit_hand++ % TRANSIT_SLOTS];

      if (slot->blob != NULL && now - slot->since > TRANSIT_NS)
        transit_clear (slot);
      if (slot->blob == NULL)
        free_slot = slot;
    }
  if (free_slot == NULL || transit_bytes + blob_size (blob) > TRANSIT_BYTES)
    id = 0;
  else
    {
      *free_slot = (Transit) { id, blob_ref (blob), now, owner };
      transit_bytes += blob_size (blob);
    }
  pthread_mutex_unlock (&transit_lock);
  return id;
}

CellBlob *
blob_transit_take (uint64_t id)
{
  CellBlob *blob = NULL;

  pthread_mutex_lock (&transit_lock);
  for (unsigned i = 0; i < TRANSIT_SLOTS && id != 0; i++)
    if (transit[i].id == id)
      {
        blob = blob_ref (transit[i].blob);
        transit_clear (&transit[i]);
        break;
      }
  pthread_mutex_unlock (&transit_lock);
  return blob;
}

void
blob_transit_drop (uint64_t owner)
{
  pthread_mutex_lock (&transit_lock);
  for (unsigned i = 0; i < TRANSIT_SLOTS; i++)
    if (transit[i].blob != NULL && transit[i].owner == owner)
      transit_clear (&transit[i]);
  pthread_mutex_unlock (&transit_lock);
}

size_t
blob_transit_bytes (void)
{
  size_t bytes;

  pthread_mutex_lock (&transit_lock);
  bytes = transit_bytes;
  pthread_mutex_unlock (&transit_lock);
  return bytes;
}

static uint64_t
transit_export (BlobPort *port, CellBlob *blob)
{
  return blob_seal (blob, NULL) ? blob_transit_put (blob, ((BlobShare *) port)->owner) : 0;
}

static CellBlob *
transit_import (BlobPort *port, uint64_t id)
{
  CellBlob *blob = blob_transit_take (id);

  (void) port;
  /* Whoever filled it may have left it unsealed. */
  if (blob != NULL && !blob_seal (blob, NULL))
    {
      blob_unref (blob);
      return NULL;
    }
  return blob;
}

void
blob_share_init (BlobShare *share, uint64_t owner)
{
  *share = (BlobShare) { { transit_export, transit_import }, owner };
}

BlobPort *
blob_transit (void)
{
  static BlobShare all = { { transit_export, transit_import }, 0 };

  return &all.base;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Blobs: filled once, sealed for good, and on their way from one side to the other once.
 */
#define _GNU_SOURCE
#include "membrane-fixture.h"

#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "membrane/blob.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif
#define LARGE ((size_t) 64 << 20)       /* there may be fewer of these on their way than there are slots */

static void
test_sealed (void)
{
  Fault fault = { 0 };
  CellBlob *blob = blob_new (10000, &fault), *copy;
  uint8_t *bytes = blob_data (blob);

  g_assert (bytes != NULL);
  for (unsigned i = 0; i < 10000; i++)
    g_assert_cmpuint (bytes[i], ==, 0);
  memset (bytes, 0x5a, 10000);
  g_assert_true (blob_seal (blob, &fault));
  g_assert_true (blob_seal (blob, &fault));
  g_assert_cmpint (pwrite (blob_fd (blob), "x", 1, 0), <, 0);
  g_assert_cmpint (ftruncate (blob_fd (blob), 1), <, 0);
  g_assert_true (mmap (NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, blob_fd (blob), 0) == MAP_FAILED);
  copy = blob_from_fd (dup (blob_fd (blob)), 10000, &fault);
  g_assert_nonnull (copy);
  blob_unref (blob);
  g_assert_cmpuint (blob_size (copy), ==, 10000);
  bytes = blob_data (copy);
  for (unsigned i = 0; i < 10000; i++)
    g_assert_cmpuint (bytes[i], ==, 0x5a);
  blob_unref (copy);

  blob = blob_new (0, &fault);
  g_assert_nonnull (blob);
  g_assert_null (blob_data (blob));
  g_assert_true (blob_seal (blob, &fault));
  blob_unref (blob);
  g_assert_null (blob_new (BLOB_MAX_SIZE + 1, &fault));
  g_assert_cmpint (fault.status, ==, CELL_ERROR_TOO_LARGE);
}

/* What somebody else hands us is looked at before it is mapped. */
static void
test_refused (void)
{
  Fault fault = { 0 };
  int fd = memfd_create ("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  CellBlob *blob;

  g_assert_cmpint (fallocate (fd, 0, 0, 4096), ==, 0);
  g_assert_null (blob_from_fd (dup (fd), 4096, &fault));
  g_assert_cmpint (fault.status, ==, CELL_ERROR_CORRUPT);
  g_assert_null (blob_from_fresh_fd (dup (fd), 4096, &fault));
  g_assert_cmpint (fcntl (fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK), ==, 0);
  g_assert_null (blob_from_fd (dup (fd), 4096, &fault));        /* its maker could still write to it */
  g_assert_cmpint (fcntl (fd, F_ADD_SEALS, F_SEAL_WRITE), ==, 0);
  g_assert_null (blob_from_fd (dup (fd), 4095, &fault));
  g_assert_null (blob_from_fd (dup (fd), 8192, &fault));
  blob = blob_from_fd (fd, 4096, &fault);
  g_assert_nonnull (blob);
  blob_unref (blob);
}

static uint64_t
bytes_of (CellBlob *blob)
{
  struct stat st;

  g_assert_cmpint (fstat (blob_fd (blob), &st), ==, 0);
  return (uint64_t) st.st_blocks * 512;
}

/* Memory is whose process reserved it, or was the first to touch it.  So who makes a blob for somebody else reserves none, and who
 * is given one looks whether all of it is there. */
static void
test_reserved (void)
{
  const size_t size = 1000000;
  Fault fault = { 0 };
  CellBlob *blob = blob_new_for_other (size, &fault), *filled;

  g_assert_cmpuint (bytes_of (blob), ==, 0);
  filled = blob_from_fresh_fd (dup (blob_fd (blob)), size, &fault);
  g_assert_cmpuint (bytes_of (filled), >=, size);
  blob_unref (filled);
  blob_unref (blob);
  blob = blob_new_for_other (size, &fault);
  ((uint8_t *) blob_data (blob))[size - 1] = 1;
  g_assert_true (blob_seal (blob, &fault));
  g_assert_null (blob_from_fd (dup (blob_fd (blob)), size, &fault));
  g_assert_cmpstr (fault.message, ==, "a blob has holes where its memory should be");
  blob_unref (blob);
}

/* Somebody else's writable mapping keeps a blob from being sealed, and so from being read in place. */
static void
test_held_open (void)
{
  Fault fault = { 0 };
  CellBlob *blob = blob_new (4096, &fault);
  void *other = mmap (NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, blob_fd (blob), 0);

  g_assert_true (other != MAP_FAILED);
  g_assert_false (blob_seal (blob, &fault));
  g_assert_cmpint (fault.status, ==, CELL_ERROR_CORRUPT);
  g_assert_cmpuint (blob_transit ()->export_blob (blob_transit (), blob), ==, 0);
  munmap (other, 4096);
  g_assert_true (blob_seal (blob, &fault));
  blob_unref (blob);
}

static void
test_transit (void)
{
  BlobPort *port = blob_transit ();
  Fault fault = { 0 };
  CellBlob *blob = blob_new (5000, &fault), *arrived;
  uint64_t ids[100];

  memset (blob_data (blob), 1, 5000);
  for (unsigned i = 0; i < 100; i++)
    {
      ids[i] = port->export_blob (port, blob);
      g_assert_cmpuint (ids[i], !=, 0);
    }
  g_assert_cmpuint (blob_transit_bytes (), ==, 500000);
  g_assert_null (port->import_blob (port, 0));
  g_assert_null (port->import_blob (port, ids[0] ^ 1));
  for (unsigned i = 100; i > 0; i--)
    {
      arrived = port->import_blob (port, ids[i - 1]);
      g_assert_nonnull (arrived);
      g_assert_cmpuint (((uint8_t *) blob_data (arrived))[4999], ==, 1);
      blob_unref (arrived);
      g_assert_null (port->import_blob (port, ids[i - 1]));     /* once */
    }
  g_assert_cmpuint (blob_transit_bytes (), ==, 0);
  blob_unref (blob);
}

static void *
put_and_take (void *data)
{
  for (unsigned i = 0; i < 20000; i++)
    {
      uint64_t id = blob_transit_put (data, 1);
      CellBlob *arrived = blob_transit_take (id);

      g_assert_cmpuint (id, !=, 0);
      g_assert_nonnull (arrived);
      blob_unref (arrived);
    }
  return NULL;
}

/* What one thread puts on its way is not taken for stale by another. */
static void
test_threads (void)
{
  Fault fault = { 0 };
  CellBlob *blob = blob_new (100, &fault);
  pthread_t threads[4];

  g_assert_true (blob_seal (blob, &fault));
  for (unsigned i = 0; i < G_N_ELEMENTS (threads); i++)
    g_assert_cmpint (pthread_create (&threads[i], NULL, put_and_take, blob), ==, 0);
  for (unsigned i = 0; i < G_N_ELEMENTS (threads); i++)
    pthread_join (threads[i], NULL);
  g_assert_cmpuint (blob_transit_bytes (), ==, 0);
  blob_unref (blob);
}

/* From now on it is so much later: in a time namespace of this process's own.  FALSE: there is none here, or it has threads. */
static gboolean
go_on_in_time (unsigned seconds)
{
  g_autofree char *offset = g_strdup_printf ("monotonic %u 0", seconds);
  gint64 before = g_get_monotonic_time ();
  int own;

  if (unshare (CLONE_NEWUSER) < 0 || unshare (CLONE_NEWTIME) < 0
      || !g_file_set_contents_full ("/proc/self/timens_offsets", offset, -1, G_FILE_SET_CONTENTS_NONE, 0600, NULL))
    return FALSE;
  own = open ("/proc/self/ns/time_for_children", O_RDONLY | O_CLOEXEC);
  if (own < 0 || setns (own, CLONE_NEWTIME) < 0)
    return FALSE;
  close (own);
  return g_get_monotonic_time () - before >= seconds * G_USEC_PER_SEC;
}

/* How many of it an owner can have on their way. */
static unsigned
fill (CellBlob *blob, uint64_t owner)
{
  unsigned n = 0;

  while (blob_transit_put (blob, owner) != 0)
    n++;
  return n;
}

/* What nobody has fetched for a minute is in nobody's way: neither where somebody's share is short nor where the bytes of all are,
 * though there are slots that nobody has used yet.  The last test: this process stays where it goes. */
static void
test_stale (void)
{
  Fault fault = { 0 };
  CellBlob *blob = blob_new (LARGE, &fault);
  unsigned all, share;

  g_assert_nonnull (blob);
  g_assert_true (blob_seal (blob, &fault));
  share = fill (blob, 1);
  all = fill (blob, 0) + share;
  g_assert_cmpuint (share, >, 0);
  g_assert_cmpuint (all, >, share);
  g_assert_cmpuint (blob_transit_bytes (), ==, (size_t) all * LARGE);
  if (go_on_in_time (61))
    {
      g_assert_cmpuint (blob_transit_put (blob, 1), !=, 0);
      g_assert_cmpuint (blob_transit_bytes (), ==, (all - share + 1) * LARGE);
      g_assert_cmpuint (fill (blob, 0), ==, all - 1);
    }
  else
    g_test_skip ("this process cannot have a time of its own");
  for (uint64_t owner = 0; owner <= 1; owner++)
    blob_transit_drop (owner);
  g_assert_cmpuint (blob_transit_bytes (), ==, 0);
  blob_unref (blob);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/blob/sealed", test_sealed);
  g_test_add_func ("/blob/refused", test_refused);
  g_test_add_func ("/blob/reserved", test_reserved);
  g_test_add_func ("/blob/held-open", test_held_open);
  g_test_add_func ("/blob/transit", test_transit);
  g_test_add_func ("/blob/threads", test_threads);
  g_test_add_func ("/blob/stale", test_stale);
  return g_test_run ();
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Rings: records of all sizes go through whole and in order, cursors that lie are found out, and nobody can take the memory away.
 */
#define _GNU_SOURCE
#include "membrane-fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* A writer and a reader over two halves; the second carries only the reader's cursors. */
typedef struct
{
  Half *data, *cursors;
  RingWriter writer;
  RingReader reader;
} Ring;

static void
ring_open (Ring *ring, uint32_t capacity, uint64_t at)
{
  Fault fault = { 0 };

  ring->data = half_new ("test-ring", capacity, &fault);
  ring->cursors = half_new ("test-ring", HALF_PAGE, &fault);
  g_assert_true (ring->data != NULL && ring->cursors != NULL);
  ring_writer_init (&ring->writer, ring->data, ring->cursors->control, at);
  ring_reader_init (&ring->reader, ring->data, ring->cursors->control, at);
  atomic_store (&ring->cursors->control->taken, at);
}

static void
ring_close (Ring *ring)
{
  half_unref (ring->data);
  half_unref (ring->cursors);
}

static uint8_t
pattern (uint64_t id, uint32_t i)
{
  return (uint8_t) (id * 167 + i * 13 + (i >> 8));
}

static bool
put (RingWriter *writer, uint64_t id, uint32_t length, Fault *fault)
{
  Record *record = ring_reserve (writer, length, fault);

  if (record == NULL)
    return false;
  g_assert_cmpuint ((uintptr_t) record % RECORD_ALIGN, ==, 0);
  record_set_head (record, &(RecordHead) { .length = length, .kind = RECORD_REQUEST }, id);
  for (uint32_t i = 0; i < length; i++)
    record->payload[i] = pattern (id, i);
  ring_commit (writer, record, length);
  return true;
}

/* False: nothing there.  Does not release. */
static bool
get (RingReader *reader, uint64_t id, uint32_t *ret_length)
{
  Record *record = ring_peek (reader);

  if (record == NULL)
    return false;
  if (record->id != id || record->kind != RECORD_REQUEST)
    g_error ("record %llu is number %llu", (unsigned long long) id, (unsigned long long) record->id);
  for (uint32_t i = 0; i < record->length; i++)
    if (record->payload[i] != pattern (id, i))
      g_error ("byte %u of record %llu is wrong", i, (unsigned long long) id);
  *ret_length = record->length;
  ring_take (reader, record->length);
  return true;
}

static uint32_t
random_length (GRand *random, uint32_t capacity)
{
  switch (g_rand_int_range (random, 0, 8))
    {
    case 0:
      return 0;
    case 1:
      return (uint32_t) g_rand_int_range (random, 0, 32);
    case 2:
      return (uint32_t) g_rand_int_range (random, 0, (int) (capacity - sizeof (Record) + 1));
    case 3:
      return capacity - (uint32_t) sizeof (Record) - (uint32_t) g_rand_int_range (random, 0, 70);
    default:
      return (uint32_t) g_rand_int_range (random, 0, (int) capacity / 8);
    }
}

/* A writer and a reader that go on by turns, at random, against a plain queue; positions begin anywhere. */
static void
test_sizes (void)
{
  static const uint32_t capacities[] = { 4096, 8192, 65536 };
  g_autoptr (GRand) random = g_rand_new_with_seed (g_test_rand_int ());
  uint64_t n_full = 0;

  for (unsigned c = 0; c < G_N_ELEMENTS (capacities); c++)
    {
      uint32_t capacity = capacities[c], length = 0;
      uint64_t written = 0, read = 0, start = (uint64_t) g_rand_int (random) * RECORD_ALIGN;
      Ring ring;

      ring_open (&ring, capacity, start);
      for (unsigned n = scaled (60000); n > 0; n--)
        if (g_rand_boolean (random))
          {
            Fault fault = { 0 };
            uint64_t head = ring.writer.head;
            uint32_t want = random_length (random, capacity);
            bool fits = head + record_size (want) - MAX (load_relaxed (&ring.cursors->control->released), start) <= capacity;

            g_assert_true (put (&ring.writer, written, want, &fault) == fits);
            g_assert_cmpint (fault.status, ==, CELL_OK);
            g_assert_cmpuint (ring.writer.head - head, ==, fits ? record_size (want) : 0);
            written += fits;
            n_full += !fits;
          }
        else
          {
            bool there = get (&ring.reader, read, &length);

            g_assert_true (there == (read < written));
            read += there;
            if (g_rand_boolean (random))
              ring_release (&ring.reader);
          }
      ring_close (&ring);
    }
  g_assert_cmpuint (n_full, >, 0);
}

static void
test_extremes (void)
{
  const uint32_t capacity = 4096, largest = capacity - (uint32_t) sizeof (Record);
  uint32_t length = 0;
  Fault fault = { 0 };
  Ring ring;

  ring_open (&ring, capacity, 0);
  /* From every position: the largest fills the ring, one more byte never fits. */
  for (uint64_t id = 0; id < 3 * capacity / RECORD_ALIGN; id++)
    {
      g_assert_false (put (&ring.writer, id, largest + 1, &fault));
      g_assert_cmpint (fault.status, ==, CELL_OK);
      g_assert_true (put (&ring.writer, 2 * id, largest, &fault));
      g_assert_false (put (&ring.writer, id, 0, &fault));
      g_assert_true (get (&ring.reader, 2 * id, &length));
      g_assert_cmpuint (length, ==, largest);
      g_assert_false (put (&ring.writer, id, 0, &fault));       /* taken is not released */
      ring_release (&ring.reader);
      g_assert_true (put (&ring.writer, 2 * id + 1, 0, &fault));
      g_assert_true (get (&ring.reader, 2 * id + 1, &length));
      g_assert_cmpuint (length, ==, 0);
      ring_release (&ring.reader);
    }
  ring_close (&ring);

  ring_open (&ring, half_capacity_for (record_size (RECORD_MAX_PAYLOAD)), 0);
  for (uint64_t id = 0; id < 3; id++)
    {
      g_assert_true (put (&ring.writer, id, RECORD_MAX_PAYLOAD, &fault));
      g_assert_true (get (&ring.reader, id, &length));
      ring_release (&ring.reader);
    }
  ring_close (&ring);
}

/* What is committed may be less than what was reserved; what is not committed is not there. */
static void
test_commit (void)
{
  uint32_t length = 0;
  Fault fault = { 0 };
  Record *record;
  Ring ring;

  ring_open (&ring, 4096, 0);
  for (uint64_t id = 0; id < 200; id++)
    {
      record = ring_reserve (&ring.writer, 3000, &fault);
      g_assert (record != NULL);
      record_set_head (record, &(RecordHead) { .length = 100, .kind = RECORD_REQUEST }, id);
      for (uint32_t i = 0; i < 100; i++)
        record->payload[i] = pattern (id, i);
      g_assert_null (ring_peek (&ring.reader));
      ring_commit (&ring.writer, record, 100);
      g_assert_cmpuint (ring.writer.head, ==, (id + 1) * 192);
      g_assert_true (get (&ring.reader, id, &length));
      g_assert_cmpuint (length, ==, 100);
      g_assert_null (ring_peek (&ring.reader));
      ring_release (&ring.reader);
    }
  ring_close (&ring);
}

/* The reader's cursor is the reader's to lie about. */
static void
test_lies (void)
{
  Ring ring;
  struct { int64_t offset; bool is_lie; } cases[] = {
    { 0, false }, { 64, true }, { 4096, true }, { 1, true }, { -32, true }, { -64, false }, { INT64_MAX, true },
    { INT64_MIN, true },
  };

  for (unsigned i = 0; i < G_N_ELEMENTS (cases); i++)
    {
      Fault fault = { 0 };
      uint32_t length;

      ring_open (&ring, 4096, 1 << 20);
      while (put (&ring.writer, 0, 1000, &fault))
        continue;
      while (get (&ring.reader, 0, &length))
        ring_release (&ring.reader);
      atomic_store (&ring.cursors->control->released, ring.writer.head + (uint64_t) cases[i].offset);
      g_assert_true (put (&ring.writer, 1, 4096 - 64 - 48, &fault) == !cases[i].is_lie);
      g_assert_cmpint (fault.status, ==, cases[i].is_lie ? CELL_ERROR_CORRUPT : CELL_OK);
      if (cases[i].is_lie)
        g_assert_nonnull (strstr (fault.message, "cursor"));
      ring_close (&ring);
    }

  /* So is room for what has not been taken. */
  Fault fault = { 0 };
  uint32_t length;

  ring_open (&ring, 4096, 0);
  while (put (&ring.writer, 0, 1000, &fault))
    continue;
  g_assert_true (get (&ring.reader, 0, &length));
  atomic_store (&ring.cursors->control->released, ring.reader.at + 64);
  g_assert_false (put (&ring.writer, 1, 1000, &fault));
  g_assert_cmpint (fault.status, ==, CELL_ERROR_CORRUPT);
  atomic_store (&ring.cursors->control->released, ring.reader.at);
  g_assert_true (put (&ring.writer, 1, 1000, &fault));
  ring_close (&ring);

  /* Going back is a lie, even to where it has been. */
  ring_open (&ring, 4096, 0);
  for (unsigned i = 0; i < 4; i++)
    {
      g_assert_true (put (&ring.writer, i, 900, &fault));
      g_assert_true (get (&ring.reader, i, &length));
    }
  ring_release (&ring.reader);
  g_assert_true (put (&ring.writer, 4, 3000, &fault));
  atomic_store (&ring.cursors->control->released, 1024);
  g_assert_false (put (&ring.writer, 5, 3000, &fault));
  g_assert_cmpint (fault.status, ==, CELL_ERROR_CORRUPT);
  ring_close (&ring);
}

/* A writer that begins in fresh memory where the one before left off, before its reader has looked. */
static void
test_take_over (void)
{
  Ring ring;
  Fault fault = { 0 };
  uint32_t length;

  ring_open (&ring, 4096, 1 << 20);
  /* The reader is far behind: what it has not read lies elsewhere, and takes no space here. */
  atomic_store (&ring.cursors->control->released, 64);
  g_assert_true (put (&ring.writer, 0, 4000, &fault));
  g_assert_false (put (&ring.writer, 1, 4000, &fault));
  g_assert_cmpint (fault.status, ==, CELL_OK);
  g_assert_true (get (&ring.reader, 0, &length));
  ring_release (&ring.reader);
  g_assert_true (put (&ring.writer, 1, 4000, &fault));
  ring_close (&ring);

  /* A reader that took over has said nothing yet; what the one before has taken is free. */
  Half *fresh = half_new ("test-ring", HALF_PAGE, &fault);

  ring_open (&ring, 4096, 0);
  for (unsigned i = 0; i < 4; i++)
    g_assert_true (put (&ring.writer, i, 900, &fault));
  g_assert_false (put (&ring.writer, 4, 0, &fault) && put (&ring.writer, 5, 900, &fault));
  ring_writer_set_peer (&ring.writer, fresh->control, 2048);
  g_assert_true (put (&ring.writer, 4, 1900, &fault));
  g_assert_false (put (&ring.writer, 5, 900, &fault));
  g_assert_cmpint (fault.status, ==, CELL_OK);
  ring_close (&ring);
  half_unref (fresh);
}

/* ---- both at once ------------------------------------------------------------------------------- */

typedef struct
{
  Ring ring;
  uint64_t n;
  _Atomic uint32_t failed;
} Stream;

static uint32_t
stream_length (uint64_t id)
{
  return id % 97 == 0 ? 3000 : (uint32_t) (id * 7 % 300);
}

static bool
stream_write (Stream *stream)
{
  for (uint64_t id = 0; id < stream->n;)
    {
      Fault fault = { 0 };

      if (put (&stream->ring.writer, id, stream_length (id), &fault))
        id++;
      else if (fault.status != CELL_OK)
        return false;
      else
        g_thread_yield ();
    }
  return true;
}

static void
stream_read (Stream *stream, RingReader *reader)
{
  uint32_t length;

  for (uint64_t id = 0; id < stream->n;)
    if (get (reader, id, &length))
      {
        g_assert_cmpuint (length, ==, stream_length (id));
        ring_release (reader);
        id++;
      }
    else
      g_thread_yield ();
}

static void *
writer_main (void *data)
{
  Stream *stream = data;

  atomic_store (&stream->failed, !stream_write (stream));
  return NULL;
}

static void
test_threads (void)
{
  Stream stream = { .n = scaled (400000) };
  pthread_t thread;

  ring_open (&stream.ring, 8192, 0);
  g_assert_cmpint (pthread_create (&thread, NULL, writer_main, &stream), ==, 0);
  stream_read (&stream, &stream.ring.reader);
  pthread_join (thread, NULL);
  g_assert_cmpuint (stream.failed, ==, 0);
  ring_close (&stream.ring);
}

static int
writer_process (void *data)
{
  return stream_write (data) ? 0 : 1;
}

/* The reader's mapping of sealed memory is its own, and cannot be written to. */
static void
test_processes (void)
{
  Stream stream = { .n = scaled (400000) };
  Fault fault = { 0 };
  RingReader reader;
  Half *view;
  pid_t pid;

  ring_open (&stream.ring, 8192, 0);
  g_assert_true (half_seal (stream.ring.data, &fault));
  view = half_map (dup (stream.ring.data->fd), 8192, stream.ring.data->salt, false, &fault);
  g_assert_nonnull (view);
  ring_reader_init (&reader, view, stream.ring.cursors->control, 0);
  pid = child_start (writer_process, &stream);
  stream_read (&stream, &reader);
  child_join (pid);
  half_unref (view);
  ring_close (&stream.ring);
}

typedef struct
{
  Ring ring;
  _Atomic uint32_t *reserved;
} Dying;

static int
dies_half_way (void *data)
{
  Dying *dying = data;
  Fault fault = { 0 };
  Record *record;

  for (uint64_t id = 0; id < 10; id++)
    child_check (put (&dying->ring.writer, id, 100, &fault));
  record = ring_reserve (&dying->ring.writer, 500, &fault);
  child_check (record != NULL);
  record_set_head (record, &(RecordHead) { .length = 500, .kind = RECORD_REQUEST }, 10);
  memset (record->payload, 0x5a, 500);
  atomic_store (dying->reserved, 1);
  futex_wake (dying->reserved, 1);
  for (;;)
    pause ();
}

/* What was reserved and never committed goes with its writer. */
static void
test_killed_between_reserve_and_commit (void)
{
  Dying dying = { .reserved = shared_memory (4096) };
  uint32_t length;
  int status = 0;
  pid_t pid;

  ring_open (&dying.ring, 8192, 4096);
  pid = child_start (dies_half_way, &dying);
  g_assert_true (wait_at_least (dying.reserved, 1));
  kill (pid, SIGKILL);
  g_assert_cmpint (waitpid (pid, &status, 0), ==, pid);
  g_assert_true (WIFSIGNALED (status));
  for (uint64_t id = 0; id < 10; id++)
    {
      g_assert_cmpuint (half_end (dying.ring.data, dying.ring.reader.at), ==, 4096 + 10 * 192);
      g_assert_true (get (&dying.ring.reader, id, &length));
    }
  g_assert_false (get (&dying.ring.reader, 10, &length));
  g_assert_cmpuint (half_end (dying.ring.data, dying.ring.reader.at), ==, dying.ring.reader.at);
  ring_close (&dying.ring);
  munmap (dying.reserved, 4096);
}

/* Whatever a dead writer left behind, its end is found, and found within the ring. */
static void
test_end_of_garbage (void)
{
  g_autoptr (GRand) random = g_rand_new_with_seed (g_test_rand_int ());
  Fault fault = { 0 };
  Ring ring;

  ring_open (&ring, 4096, 0);
  for (unsigned n = scaled (20000); n > 0; n--)
    {
      uint64_t from = (uint64_t) g_rand_int (random) * RECORD_ALIGN, end;

      for (uint32_t at = 0; at < 4096; at += RECORD_ALIGN)
        {
          Record *record = (Record *) (ring.data->data + at);
          uint64_t position = from + ((at - from) & 4095);

          atomic_store (&record->sequence, ring.data->salt + position - (g_rand_int_range (random, 0, 16) == 0));
          record->length = g_rand_int_range (random, 0, 8) == 0 ? g_rand_int (random)
                                                                : (uint32_t) g_rand_int_range (random, 0, 300);
        }
      end = half_end (ring.data, from);
      g_assert_cmpuint (end, >=, from);
      g_assert_cmpuint (end, <=, from + 4096);
      g_assert_cmpuint (end % RECORD_ALIGN, ==, 0);
    }
  g_assert_false (put (&ring.writer, 0, 4096, &fault));
  ring_close (&ring);
}

/* ---- the memory ------------------------------------------------------------------------------------ */

static void
assert_refused (int fd, uint32_t capacity, const char *why)
{
  Fault fault = { 0 };

  g_assert_null (half_map (fd, capacity, 1, false, &fault));
  g_assert_cmpint (fault.status, ==, CELL_ERROR_CORRUPT);
  g_assert_nonnull (strstr (fault.message, why));
}

static void
test_memory (void)
{
  Fault fault = { 0 };
  Half *half = half_new ("test-ring", 8192, &fault);
  int bare;

  g_assert_nonnull (half);
  g_assert_cmpint (ftruncate (half->fd, 4096), <, 0);
  g_assert_cmpint (ftruncate (half->fd, 1 << 20), <, 0);
  g_assert_true (half_seal (half, &fault));
  g_assert_true (mmap (NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, half->fd, 0) == MAP_FAILED);
  g_assert_cmpint (pwrite (half->fd, "x", 1, 0), <, 0);
  half->data[0] = 1;                    /* the mapping that was there before goes on */
  g_assert_cmpint (half->data[8192], ==, 1);

  assert_refused (dup (half->fd), 4096, "size");
  assert_refused (dup (half->fd), 16384, "size");
  assert_refused (dup (half->fd), 8191, "not possible");
  assert_refused (dup (half->fd), 0, "not possible");
  assert_refused (dup (half->fd), 1u << 27, "not possible");
  assert_refused (-1, 8192, "not sealed");
  bare = memfd_create ("bare", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  g_assert_cmpint (ftruncate (bare, HALF_PAGE + 8192), ==, 0);
  assert_refused (bare, 8192, "not sealed");
  half_unref (half);

  g_assert_null (half_new ("test-ring", 12288, &fault));
  g_assert_cmpint (fault.status, ==, CELL_ERROR_INVALID);
  g_assert_cmpuint (half_capacity_for (1), ==, 4096);
  g_assert_cmpuint (half_capacity_for (4097), ==, 8192);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/ring/sizes", test_sizes);
  g_test_add_func ("/ring/extremes", test_extremes);
  g_test_add_func ("/ring/commit", test_commit);
  g_test_add_func ("/ring/lies", test_lies);
  g_test_add_func ("/ring/take-over", test_take_over);
  g_test_add_func ("/ring/threads", test_threads);
  g_test_add_func ("/ring/processes", test_processes);
  g_test_add_func ("/ring/killed-between-reserve-and-commit", test_killed_between_reserve_and_commit);
  g_test_add_func ("/ring/end-of-garbage", test_end_of_garbage);
  g_test_add_func ("/ring/memory", test_memory);
  return g_test_run ();
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Programs that break every rule of the protocol, against a real daemon: each harms its own channel, or its own connection, and
 * nobody else notices.  A client that does nothing wrong calls all the while and looks at every answer.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon.h"
#include "host-fixture.h"
#include "membrane/channel.h"
#include "membrane/wait.h"
#include "raw.h"

#define LINKS_MAX 512u                  /* what the documentation says */
#define LINK_BYTES_MAX (256u << 20)
#define CONNECTIONS_MAX 1024u
#define SEALS_ALL (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
# define SLOW 5
#elif defined(__has_feature)
# if __has_feature (thread_sanitizer) || __has_feature (address_sanitizer)
#  define SLOW 5
# endif
#endif
#ifndef SLOW
# define SLOW 1
#endif

typedef struct
{
  uint64_t who, number;
} NextArgs;

/* ---- messages ------------------------------------------------------------------------------------------------ */

/* One message, given as its header and how many bytes of zeros follow, on a connection of its own. */
typedef struct
{
  bool greeted;                 /* before it */
  uint32_t says, type, says_fds;
  uint32_t size;                /* of everything */
  unsigned n_fds;
} Bad;

static void
bad_message (const char *socket, const Bad *bad)
{
  Raw raw = bad->greeted ? raw_greeted (socket) : raw_connect (socket);
  g_autofree uint8_t *bytes = g_malloc0 (bad->size + sizeof (WireHeader));
  WireHeader header = { .size = bad->says, .type = (uint16_t) bad->type, .n_fds = (uint16_t) bad->says_fds, .serial = 7 };
  int fds[64];

  for (unsigned i = 0; i < bad->n_fds; i++)
    fds[i] = eventfd (0, EFD_CLOEXEC);
  memcpy (bytes, &header, sizeof header);
  raw_send_bytes (&raw, bytes, bad->size, fds, bad->n_fds);
  raw_expect_end (&raw);
  for (unsigned i = 0; i < bad->n_fds; i++)
    close (fds[i]);
  raw_close (&raw);
}

static void
attack_messages (const char *socket, guint32 seed)
{
  enum { HEAD = sizeof (WireHeader), MOST = HEAD + sizeof (WireBody) + WIRE_TAIL_MAX };
  static const Bad cases[] = {
    { false, 4, WIRE_HELLO, 0, 4, 0 },                                                         /* shorter than a header */
    { false, HEAD, WIRE_HELLO, 0, HEAD, 0 },                                                   /* without its body */
    { false, HEAD + sizeof (WireHello) + 8, WIRE_HELLO, 0, HEAD + sizeof (WireHello) + 8, 0 }, /* with more than it has */
    { false, HEAD + sizeof (WireHello), WIRE_HELLO, 0, HEAD + sizeof (WireHello), 0 },         /* another protocol: zero */
    { false, HEAD + sizeof (WireHello), WIRE_HELLO, 0, HEAD + sizeof (WireHello), 1 }, /* descriptors that it does not say */
    { false, HEAD + sizeof (WireHello), WIRE_HELLO, 1, HEAD + sizeof (WireHello), 1 }, /* … that it may not have */
    { false, 0xffffffff, WIRE_HELLO, 0, HEAD + sizeof (WireHello), 0 },                /* a size that is not its own */
    { false, HEAD + sizeof (WireOpen), WIRE_OPEN, 0, HEAD + sizeof (WireOpen), 0 },    /* before the greeting */
    { false, HEAD + sizeof (WireBind), WIRE_BIND, 0, HEAD + sizeof (WireBind), 0 },
    { false, HEAD + sizeof (WireRef), WIRE_MAPPED, 0, HEAD + sizeof (WireRef), 0 },
    { true, HEAD + sizeof (WireHello), WIRE_HELLO, 0, HEAD + sizeof (WireHello), 0 }, /* a second greeting */
    { true, HEAD, 0, 0, HEAD, 0 },                                                    /* no known type */
    { true, HEAD, 63, 0, HEAD, 0 },
    { true, HEAD, 0xffff, 0, HEAD, 0 },
    { true, HEAD + sizeof (WireWelcome), WIRE_WELCOME, 2, HEAD + sizeof (WireWelcome), 2 }, /* what only a host says */
    { true, HEAD + sizeof (WireChannel), WIRE_CHANNEL, 3, HEAD + sizeof (WireChannel), 3 },
    { true, HEAD + sizeof (WireMoved), WIRE_MOVED, 0, HEAD + sizeof (WireMoved), 0 },
    { true, HEAD + sizeof (WireAttach), WIRE_ATTACH, 2, HEAD + sizeof (WireAttach), 2 },
    { true, HEAD + sizeof (WireLoad), WIRE_LOAD, 2, HEAD + sizeof (WireLoad), 2 },
    { true, HEAD, WIRE_QUIT, 0, HEAD, 0 },
    { true, HEAD, WIRE_DONE, 0, HEAD, 0 }, /* what only a runner answers */
    { true, HEAD + 8, WIRE_READY, 0, HEAD + 8, 0 },
    { true, HEAD + sizeof (WireState), WIRE_STATE, 1, HEAD + sizeof (WireState), 1 },
    { true, HEAD + sizeof (WireError), WIRE_ERROR, 0, HEAD + sizeof (WireError), 0 },
    { true, HEAD + sizeof (WireBlob), WIRE_BLOB_EXPORT, 0, HEAD + sizeof (WireBlob), 0 },   /* without its descriptor */
    { true, HEAD + sizeof (WireBlob), WIRE_BLOB_EXPORT, 4, HEAD + sizeof (WireBlob), 4 },   /* with more than one */
    { true, HEAD + sizeof (WireBlob), WIRE_BLOB_EXPORT, 64, HEAD + sizeof (WireBlob), 64 }, /* with more than any may have */
    { true, HEAD + sizeof (WireOpen), WIRE_OPEN, 64, HEAD + sizeof (WireOpen), 64 },
    { true, HEAD + sizeof (WireOpen), WIRE_OPEN, 0, HEAD + sizeof (WireOpen) - 1, 0 }, /* cut off */
    { true, HEAD + sizeof (WireBind) - 1, WIRE_BIND, 0, HEAD + sizeof (WireBind) - 1, 0 },
    { true, HEAD + sizeof (WireBind) + WIRE_TAIL_MAX + 1, WIRE_BIND, 0, HEAD + sizeof (WireBind) + WIRE_TAIL_MAX + 1, 0 },
    { true, MOST + 1, WIRE_BIND, 0, MOST + 1, 0 }, /* larger than any */
    { true, 0xffffffff, WIRE_BIND, 0xffff, HEAD, 0 },
  };
  uint8_t noise[512];
  GRand *rand = g_rand_new_with_seed (seed);

  for (unsigned i = 0; i < G_N_ELEMENTS (cases); i++)
    bad_message (socket, &cases[i]);
  for (unsigned i = 0; i < 500; i++)
    {
      Raw raw = i % 2 == 0 ? raw_greeted (socket) : raw_connect (socket);
      gsize size = (gsize) g_rand_int_range (rand, 1, sizeof noise);

      for (gsize k = 0; k < size; k++)
        noise[k] = (uint8_t) g_rand_int (rand);
      raw_send_bytes (&raw, noise, size, NULL, 0);
      raw_expect_end (&raw);
      raw_close (&raw);
    }
  g_rand_free (rand);
}

/* Questions that make sense one by one and not in their order, and some that name what there is not. */
static void
attack_order (const char *socket, guint32 seed)
{
  GRand *rand = g_rand_new_with_seed (seed);

  for (unsigned round = 0; round < 40; round++)
    {
      Raw raw = raw_greeted (socket);
      RawChannel channel;
      WireOpen none = raw_open_body ("nobody", 0), other = raw_open_body ("sequence", 0);
      WireBind bind = { .cell = "sequence", .interface = "org.example.Another" };
      uint64_t id;

      g_assert_cmpint (raw_refusal (&raw, WIRE_OPEN, &none, NULL, 0), ==, CELL_ERROR_NOT_FOUND);
      other.cell_id = 12345;
      g_assert_cmpint (raw_refusal (&raw, WIRE_OPEN, &other, NULL, 0), ==, CELL_ERROR_GONE);
      g_assert_cmpint (raw_refusal (&raw, WIRE_BIND, &bind, NULL, 0), ==, CELL_ERROR_CONTRACT);
      bind = (WireBind) { .cell = "sequence", .n_methods = 0xffffffff, .n_signals = 1 };
      g_assert_cmpint (raw_refusal (&raw, WIRE_BIND, &bind, NULL, 0), ==, CELL_ERROR_CORRUPT);
      bind = (WireBind) { .cell = "sequence", .n_methods = 3 };
      g_assert_cmpint (raw_refusal (&raw, WIRE_BIND, &bind, NULL, 0), ==, CELL_ERROR_CORRUPT);
      g_assert_cmpint (raw_refusal (&raw, WIRE_BLOB_IMPORT, &(WireBlob){ .id = g_rand_int (rand) }, NULL, 0), ==,
                       CELL_ERROR_NOT_FOUND);
      g_assert_true (raw_open (&raw, "sequence", 0, &channel));
      raw_send (&raw, WIRE_MAPPED, &(WireRef) { channel.body.channel }, NULL, 0, NULL, 0);
      raw_send (&raw, WIRE_MAPPED, &(WireRef) { channel.body.channel + 1 }, NULL, 0, NULL, 0);
      raw_send (&raw, WIRE_CLOSE, &(WireRef) { 0 }, NULL, 0, NULL, 0);
      g_assert_true (raw_request (&raw, &channel, 0xfffe, round + 1, "", 0));
      g_assert_cmpint (raw_reply (&channel, &id), ==, CELL_ERROR_NO_METHOD);
      g_assert_cmpuint (id, ==, round + 1);
      /* At once, in an order that is the host's business. */
      for (unsigned i = 0; i < 20; i++)
        raw_send (&raw, g_rand_boolean (rand) ? WIRE_MAPPED : WIRE_CLOSE, &(WireRef) { channel.body.channel }, NULL, 0, NULL, 0);
      raw_close (&raw);
      raw_channel_clear (&channel);
    }
  g_rand_free (rand);
}

/* ---- descriptors that are not what they should be -------------------------------------------------------------- */

static int
memory (size_t size, unsigned seals, unsigned flags)
{
  int fd = memfd_create ("hostile", MFD_CLOEXEC | flags);

  g_assert_cmpint (fd, >=, 0);
  if (size > 0)
    g_assert_no_errno (fallocate (fd, 0, 0, (off_t) size));
  if (seals != 0)
    g_assert_no_errno (fcntl (fd, F_ADD_SEALS, seals));
  return fd;
}

/* Sealed, and not there: whoever reads it would have to find it. */
static int
holes (size_t size)
{
  int fd = memory (0, 0, MFD_ALLOW_SEALING);

  g_assert_no_errno (ftruncate (fd, (off_t) size));
  g_assert_no_errno (fcntl (fd, F_ADD_SEALS, SEALS_ALL));
  return fd;
}

static void
attack_descriptors (const char *socket, guint32 seed)
{
  Raw raw = raw_greeted (socket);
  int ends[2], pair[2];
  WireBlob body = { .size = 4096 };
  WireMessage answer;

  (void) seed;
  g_assert_no_errno (pipe2 (ends, O_CLOEXEC));
  g_assert_no_errno (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
  int sealed = memory (4096, SEALS_ALL, MFD_ALLOW_SEALING);
  const struct { int fd; const char *what;
  } wrong[] = {
    { ends[0], "a pipe" },
    { ends[1], "a pipe's other end" },
    { pair[0], "a socket" },
    { raw.socket, "the connection itself" },
    { eventfd (0, EFD_CLOEXEC), "an eventfd" },
    { open ("/dev/zero", O_RDWR | O_CLOEXEC), "a device" },
    { open ("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "a directory" },
    { open ("/proc/self/exe", O_RDONLY | O_CLOEXEC), "a file" },
    { open ("/", O_PATH | O_CLOEXEC), "a path" },
    { memory (4096, 0, MFD_ALLOW_SEALING), "memory without seals" },
    { memory (4096, 0, 0), "memory that cannot be sealed" },
    { memory (4096, F_SEAL_WRITE, MFD_ALLOW_SEALING), "memory that can shrink" },
    { memory (4096, F_SEAL_SHRINK | F_SEAL_GROW, MFD_ALLOW_SEALING), "memory that can be written" },
    { memory (4095, SEALS_ALL, MFD_ALLOW_SEALING), "less memory than it says" },
    { memory (0, SEALS_ALL, MFD_ALLOW_SEALING), "no memory" },
    { memory (8192, SEALS_ALL, MFD_ALLOW_SEALING), "more memory than it says" },
    { holes (4096), "memory that is not there" },
    { raw.host_bell, "the host's own bell" },
  };
  for (unsigned i = 0; i < G_N_ELEMENTS (wrong); i++)
    {
      g_test_message ("%s", wrong[i].what);
      g_assert_cmpint (wrong[i].fd, >=, 0);
      g_assert_cmpint (raw_refusal (&raw, WIRE_BLOB_EXPORT, &body, &wrong[i].fd, 1), ==, CELL_ERROR_CORRUPT);
    }
  body.size = UINT64_MAX;
  g_assert_cmpint (raw_refusal (&raw, WIRE_BLOB_EXPORT, &body, &sealed, 1), ==, CELL_ERROR_TOO_LARGE);
  g_assert_cmpint (raw_refusal (&raw, WIRE_BLOB_NEW, &body, NULL, 0), ==, CELL_ERROR_TOO_LARGE);
  body.size = 4096;
  g_assert_cmpint (raw_ask (&raw, WIRE_BLOB_EXPORT, &body, NULL, 0, &sealed, 1, &answer), ==, WIRE_BLOB);
  body.id = answer.body.blob.id;
  wire_message_clear (&answer);
  g_assert_cmpint (raw_refusal (&raw, WIRE_BLOB_IMPORT, &body, NULL, 0), ==, CELL_OK);
  g_assert_cmpint (raw_refusal (&raw, WIRE_BLOB_IMPORT, &body, NULL, 0), ==, CELL_ERROR_NOT_FOUND);
  raw_close (&raw);
}

/* ---- what a client may not write to -------------------------------------------------------------------------------- */

static void
assert_read_only (int fd, const char *what)
{
  g_autofree char *path = g_strdup_printf ("/proc/self/fd/%d", fd);
  struct stat st;
  int again;

  g_test_message ("%s", what);
  g_assert_no_errno (fstat (fd, &st));
  g_assert_true (mmap (NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
  g_assert_cmpint (write (fd, "x", 1), ==, -1);
  g_assert_cmpint (pwrite (fd, "x", 1, 0), ==, -1);
  g_assert_cmpint (fallocate (fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), ==, -1);
  g_assert_cmpint (ftruncate (fd, 0), ==, -1);
  g_assert_cmpint (ftruncate (fd, st.st_size + 4096), ==, -1);
  g_assert_cmpint (fcntl (fd, F_ADD_SEALS, F_SEAL_WRITE), ==, -1);     /* which would be as bad for whoever writes it */
  fchmod (fd, 0777);
  again = open (path, O_RDWR | O_CLOEXEC);
  if (again >= 0)
    {
      g_assert_true (mmap (NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, again, 0) == MAP_FAILED);
      g_assert_cmpint (write (again, "x", 1), ==, -1);
      close (again);
    }
  void *at = mmap (NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
  g_assert_true (at != MAP_FAILED);
  g_assert_cmpint (mprotect (at, 4096, PROT_READ | PROT_WRITE), ==, -1);
  munmap (at, 4096);
}

static void
attack_seals (const char *socket, guint32 seed)
{
  Raw raw = raw_greeted (socket);
  WireOpen body = raw_open_body ("sequence", 0);
  WireMessage answer;
  RawChannel channel;
  uint64_t id;
  int requests;

  (void) seed;
  g_assert_cmpint (raw_ask (&raw, WIRE_OPEN, &body, NULL, 0, NULL, 0, &answer), ==, WIRE_CHANNEL);
  assert_read_only (answer.fds[0], "the epoch page");
  assert_read_only (answer.fds[2], "the memory of replies");
  wire_message_clear (&answer);
  /* One's own requests: by the mapping that one has, and no other, from when they are in use. */
  g_assert_true (raw_open (&raw, "sequence", 0, &channel));
  requests = channel.requests->fd;
  g_assert_true (raw_request (&raw, &channel, 0xfffe, 1, "", 0));
  raw_reply (&channel, &id);
  assert_read_only (requests, "the memory of requests, in use");
  raw_close (&raw);
  raw_channel_clear (&channel);
}

/* Who seals its own memory before it is in use cannot use it, and that is all. */
static void
attack_own_seals (const char *socket, guint32 seed)
{
  static const int seals[] = { F_SEAL_SEAL, F_SEAL_WRITE, F_SEAL_FUTURE_WRITE, F_SEAL_SEAL | F_SEAL_FUTURE_WRITE };

  (void) seed;
  for (unsigned i = 0; i < G_N_ELEMENTS (seals); i++)
    {
      Raw raw = raw_greeted (socket);
      WireOpen body = raw_open_body ("sequence", 0);
      WireMessage answer;

      g_assert_cmpint (raw_ask (&raw, WIRE_OPEN, &body, NULL, 0, NULL, 0, &answer), ==, WIRE_CHANNEL);
      fcntl (answer.fds[1], F_ADD_SEALS, seals[i]);
      raw_send (&raw, WIRE_MAPPED, &(WireRef) { answer.body.channel.channel }, NULL, 0, NULL, 0);
      if (seals[i] & F_SEAL_SEAL)
        raw_expect_end (&raw);
      wire_message_clear (&answer);
      raw_close (&raw);
    }
}

/* ---- what is written while others look ----------------------------------------------------------------------------- */

typedef struct
{
  RawChannel *channel;
  GRand *rand;
  uint32_t seed;
  _Atomic uint32_t stop;
} Scribbler;

/* Changes words between two looks of whoever reads them. */
static void *
flip_main (void *data)
{
  Scribbler *self = data;
  volatile uint32_t *control = (volatile uint32_t *) (void *) self->channel->requests->control;
  volatile uint32_t *words = (volatile uint32_t *) (void *) self->channel->requests->data;
  uint32_t n = self->channel->requests->capacity / 4, x = self->seed | 1;

  while (!atomic_load_explicit (&self->stop, memory_order_relaxed))
    {
      uint32_t at, was;

      x ^= x << 13, x ^= x >> 17, x ^= x << 5;
      if (x % 5 == 0)
        control[x / 5 % 16 * 16 % (HALF_PAGE / 4) + x / 80 % 3] = x % 7 == 0 ? x : x / 16 % 4;
      at = x / 11 % n;
      was = words[at];
      words[at] = x % 3 == 0 ? x : was + 64;
      for (unsigned i = x / 64 % 50; i > 0; i--)
        cpu_relax ();
      words[at] = was;
      /* Heads: where a record begins every 64 bytes. */
      at = x / 7 % (n / 16) * 16 + x / 1024 % 12;
      words[at] ^= 1u << (x / 4096 % 32);
    }
  return NULL;
}

static void
fill_payload (GRand *rand, uint8_t *payload, uint32_t length)
{
  for (uint32_t i = 0; i + 4 <= length; i += 4)
    {
      uint32_t kind = g_rand_int (rand) % 4;
      uint32_t word = kind == 0   ? g_rand_int (rand)
                      : kind == 1 ? g_rand_int (rand) % 8
                      : kind == 2 ? g_rand_int (rand) % (length + 16)
                                  : 0;

      memcpy (payload + i, &word, 4);
    }
}

static void
write_something (Scribbler *self, Raw *raw)
{
  RawChannel *channel = self->channel;
  GRand *rand = self->rand;
  uint32_t length = g_rand_int (rand) % 8 == 0 ? g_rand_int (rand) % 8192 : g_rand_int (rand) % 256;
  Fault fault = { 0 };
  Record *record = ring_reserve (&channel->out, length, &fault);
  RecordHead head = { .length = length, .root = g_rand_int (rand) % (length + 1), .kind = RECORD_REQUEST,
                      .method = (uint16_t) (g_rand_int (rand) % 40), .timeout = g_rand_int (rand) };

  if (record == NULL)
    {
      /* Their cursor and ours may say anything by now: go on somewhere. */
      ring_writer_init (&channel->out, channel->requests, channel->replies->control,
                        atomic_load (&channel->replies->control->taken));
      return;
    }
  fill_payload (rand, record->payload, length);
  switch (g_rand_int (rand) % 400)
    {
    case 0: head.length = g_rand_int (rand); break;
    case 1: head.root = g_rand_int (rand); break;
    case 2: head.kind = (uint16_t) g_rand_int (rand); break;
    case 3: head.method = (uint16_t) g_rand_int (rand); break;
    case 4: head.method = WIRE_METHOD_SUBSCRIBE; break;
    case 5: head.flags = g_rand_int (rand); break;
    case 6: head.length = UINT32_MAX - g_rand_int (rand) % 128; break;
    }
  record_set_head (record, &head, g_rand_int (rand) % 1000);
  ring_commit_far (&channel->out, record, length);
  if (g_rand_int (rand) % 4 == 0)
    raw_ring (raw);
}

static void
lie_about_replies (Scribbler *self)
{
  HalfControl *own = self->channel->requests->control;
  uint64_t head = atomic_load (&self->channel->replies->control->head);

  switch (g_rand_int (self->rand) % 64)
    {
    case 0: atomic_store (&own->released, g_rand_int (self->rand)); break;
    case 1: atomic_store (&own->released, head + 64 * (g_rand_int (self->rand) % 5)); break;
    case 2: atomic_store (&own->released, UINT64_MAX - g_rand_int (self->rand)); break;
    case 3: atomic_store (&own->waiting, g_rand_int (self->rand)); break;
    case 4: atomic_store (&own->cpu, g_rand_int (self->rand)); break;
    case 5: break;
    default: atomic_store (&own->released, head);
    }
}

/* One channel to a cell, scribbled on until it has ended or enough was written. */
static void
scribble (Raw *raw, const char *cell, guint32 seed, unsigned flips)
{
  RawChannel channel;
  Scribbler self = { .channel = &channel, .rand = g_rand_new_with_seed (seed), .seed = seed };
  pthread_t thread;

  g_assert_true (raw_open (raw, cell, (seed & 1) != 0 ? 65536 : 0, &channel));
  if (flips)
    g_assert_cmpint (pthread_create (&thread, NULL, flip_main, &self), ==, 0);
  for (unsigned i = 0; i < 3000 / SLOW; i++)
    {
      write_something (&self, raw);
      lie_about_replies (&self);
    }
  raw_ring (raw);
  if (flips)
    {
      atomic_store (&self.stop, 1);
      pthread_join (thread, NULL);
    }
  g_rand_free (self.rand);
  raw_channel_clear (&channel);
}

static void
attack_scribble (const char *socket, guint32 seed)
{
  static const char *const cells[] = { "sequence", "every", "ledger", "memory" };
  GRand *rand = g_rand_new_with_seed (seed);

  for (unsigned round = 0; round < 20; round++)
    {
      Raw raw = raw_greeted (socket);

      for (unsigned i = 0; i < 8; i++)
        scribble (&raw, cells[i % G_N_ELEMENTS (cells)], g_rand_int (rand), i % 3);
      raw_close (&raw);
    }
  g_rand_free (rand);
}

/* ---- bells -------------------------------------------------------------------------------------------------------- */

/* What is shared is shared with its flags: who rings must not sleep because the other has filled the bell and made it block. */
static void
attack_bells (const char *socket, guint32 seed)
{
  Raw raw = raw_greeted (socket);
  uint64_t most = UINT64_MAX - 1, count;
  RawChannel channel;
  NextArgs args = { 15, 0 };

  (void) seed;
  g_assert_true (raw_open (&raw, "sequence", 0, &channel));
  if (write (raw.bell, &most, sizeof most) < 0)
    g_test_message ("this bell cannot be filled");
  g_assert_no_errno (fcntl (raw.bell, F_SETFL, 0));
  g_assert_no_errno (fcntl (raw.host_bell, F_SETFL, 0));
  atomic_store (&channel.requests->control->waiting, WAITING_DOORBELL);
  for (unsigned i = 0; i < 100; i++)
    raw_request (&raw, &channel, (uint16_t) (i % 8), i + 1, &args, sizeof args);
  attack_is_ready ();
  /* Takes each ring away before the host can: it has been woken, and there is nothing to read. */
  g_assert_no_errno (fcntl (raw.host_bell, F_SETFL, O_NONBLOCK));
  for (unsigned i = 0; i < 20000; i++)
    {
      raw_ring (&raw);
      fcntl (raw.host_bell, F_SETFL, O_NONBLOCK);
      if (read (raw.host_bell, &count, sizeof count) < 0)
        count = 0;
      fcntl (raw.host_bell, F_SETFL, 0);
    }
  raw_close (&raw);
  raw_channel_clear (&channel);
}

/* ---- floods ------------------------------------------------------------------------------------------------------- */

static void
attack_channels (const char *socket, guint32 seed)
{
  Raw raw = raw_greeted (socket);
  RawChannel channels[LINKS_MAX];
  unsigned n = 0;
  WireOpen body = raw_open_body ("sequence", 0);

  (void) seed;
  while (n < LINKS_MAX && raw_open (&raw, "sequence", 0, &channels[n]))
    n++;
  g_assert_cmpuint (n, ==, LINKS_MAX);
  for (unsigned i = 0; i < 100; i++)
    g_assert_cmpint (raw_refusal (&raw, WIRE_OPEN, &body, NULL, 0), ==, CELL_ERROR_NO_RESOURCES);
  attack_is_ready ();
  for (unsigned i = 0; i < n; i++)
    raw_channel_clear (&channels[i]);
  raw_close (&raw);
}

/* The largest there may be, until the host has had enough: for requests, or for the replies of a cell that may say much. */
static void
take_memory (const char *socket, const char *cell, uint32_t request_capacity)
{
  Raw raw = raw_greeted (socket);
  WireOpen body = raw_open_body (cell, request_capacity);
  WireMessage answer;
  uint64_t bytes = 0;
  WireType said;

  while ((said = raw_ask (&raw, WIRE_OPEN, &body, NULL, 0, NULL, 0, &answer)) == WIRE_CHANNEL)
    {
      bytes += (uint64_t) answer.body.channel.request_capacity + answer.body.channel.reply_capacity;
      g_assert_cmpuint (bytes, <=, LINK_BYTES_MAX);
      wire_message_clear (&answer);
    }
  g_assert_cmpint (said, ==, WIRE_ERROR);
  g_assert_cmpint (answer.body.error.status, ==, CELL_ERROR_NO_RESOURCES);
  g_assert_cmpstr (answer.tail, ==, "this connection's channels would take more than 256 MiB");
  wire_message_clear (&answer);
  g_assert_cmpuint (bytes, >, LINK_BYTES_MAX / 8 * 7);
  attack_is_ready ();
  raw_close (&raw);
}

static void
attack_memory (const char *socket, guint32 seed)
{
  (void) seed;
  take_memory (socket, "sequence", UINT32_MAX);
}

static void
attack_memory_for_replies (const char *socket, guint32 seed)
{
  (void) seed;
  take_memory (socket, "host", 0);
}

static void
attack_connections (const char *socket, guint32 seed)
{
  GArray *open = g_array_new (FALSE, FALSE, sizeof (Raw));
  unsigned refused = 0;

  (void) seed;
  for (unsigned i = 0; i < CONNECTIONS_MAX + 50; i++)
    {
      Raw raw = raw_connect (socket);
      WireHello hello = { .protocol = WIRE_PROTOCOL };
      WireMessage answer;
      WireType said;

      /* A third of them never greets. */
      if (i % 3 == 0 && i < CONNECTIONS_MAX / 2)
        {
          g_array_append_val (open, raw);
          continue;
        }
      said = raw_ask (&raw, WIRE_HELLO, &hello, NULL, 0, NULL, 0, &answer);
      if (said == WIRE_WELCOME)
        {
          g_array_append_val (open, raw);
          wire_message_clear (&answer);
        }
      else
        {
          refused++;
          if (said != 0)
            wire_message_clear (&answer);
          raw_close (&raw);
        }
    }
  g_assert_cmpuint (open->len, <=, CONNECTIONS_MAX);
  g_assert_cmpuint (refused, >, 0);
  attack_is_ready ();
  for (unsigned i = 0; i < open->len; i++)
    raw_close (&g_array_index (open, Raw, i));
  g_array_free (open, TRUE);
}

/* Until the host is through with closing what was closed. */
static void
wait_until_welcome (const char *socket)
{
  WireType said = 0;

  while (said != WIRE_WELCOME)
    {
      WireHello hello = { .protocol = WIRE_PROTOCOL };
      Raw raw = raw_connect (socket);
      WireMessage answer;

      said = raw_ask (&raw, WIRE_HELLO, &hello, NULL, 0, NULL, 0, &answer);
      if (said != 0)
        wire_message_clear (&answer);
      raw_close (&raw);
    }
}

/* Which of them depends on how far the host was with closing others. */
static void
expect_an_end (const Raw *silent, unsigned n)
{
  struct pollfd fds[64];

  g_assert_cmpuint (n, <=, G_N_ELEMENTS (fds));
  for (unsigned i = 0; i < n; i++)
    fds[i] = (struct pollfd) { silent[i].socket, POLLIN, 0 };
  g_assert_cmpint (poll (fds, n, 60000), >, 0);
}

/* More connections than there are descriptors for.  Each takes three; blobs, of one each, see to it that once none is left. */
static void
attack_no_descriptors (const char *socket, guint32 seed)
{
  Raw first = raw_greeted (socket), silent[64];
  int sealed = memory (4096, SEALS_ALL, MFD_ALLOW_SEALING);
  WireBlob ids[3];

  (void) seed;
  for (unsigned i = 0; i < G_N_ELEMENTS (ids); i++)
    {
      WireMessage answer;

      g_assert_cmpint (raw_ask (&first, WIRE_BLOB_EXPORT, &(WireBlob){ .size = 4096 }, NULL, 0, &sealed, 1, &answer), ==,
                       WIRE_BLOB);
      ids[i] = answer.body.blob;
      wire_message_clear (&answer);
      for (unsigned k = 0; k < G_N_ELEMENTS (silent); k++)
        silent[k] = raw_connect (socket);
      expect_an_end (silent, G_N_ELEMENTS (silent));
      if (i + 1 == G_N_ELEMENTS (ids))
        attack_is_ready ();
      for (unsigned k = 0; k < G_N_ELEMENTS (silent); k++)
        raw_close (&silent[k]);
      wait_until_welcome (socket);
    }
  for (unsigned i = 0; i < G_N_ELEMENTS (ids); i++)
    raw_refusal (&first, WIRE_BLOB_IMPORT, &ids[i], NULL, 0);
  raw_close (&first);
  close (sealed);
}

/* Sends what there is room for on many channels, and reads no answer. */
static void
attack_never_reads (const char *socket, guint32 seed)
{
  enum { CHANNELS = 16 };
  Raw raw = raw_greeted (socket);
  RawChannel channels[CHANNELS];
  NextArgs args = { 15, 0 };

  (void) seed;
  for (unsigned i = 0; i < CHANNELS; i++)
    {
      unsigned n = 0;

      g_assert_true (raw_open (&raw, "sequence", 0, &channels[i]));
      while (raw_request (&raw, &channels[i], (uint16_t) (n % 3), n + 1, &args, sizeof args))
        n++;
      g_assert_cmpuint (n, >, 100);
    }
  attack_is_ready ();
  for (unsigned i = 0; i < CHANNELS; i++)
    raw_channel_clear (&channels[i]);
  raw_close (&raw);
}

/* Asks and asks and does not listen to a single answer: at some time the host has to stop listening. */
static void
attack_questions (const char *socket, guint32 seed)
{
  Raw raw = raw_greeted (socket);
  g_autofree char *tail = g_malloc0 (WIRE_TAIL_MAX);
  WireBind body = { .cell = "sequence" };
  unsigned n = 0;
  Fault fault = { 0 };

  (void) seed;
  memset (tail, 'x', WIRE_TAIL_MAX);
  /* Gigabytes, if anybody takes them. */
  while (n < 50000
         && wire_send (raw.socket, WIRE_BIND, n + 1, &body, tail, WIRE_TAIL_MAX, NULL, 0, monotonic_ns () + 300000000u, &fault))
    n++;
  g_test_message ("%u questions", n);
  g_assert_cmpuint (n, <, 50000);
  attack_is_ready ();
  raw_close (&raw);
}

/* Blobs that nobody fetches, for a while. */
static void
attack_blobs (const char *socket, guint32 seed)
{
  Raw raw = raw_greeted (socket);
  int sealed = memory (4096, SEALS_ALL, MFD_ALLOW_SEALING);
  GArray *ids = g_array_new (FALSE, FALSE, sizeof (WireBlob));
  WireMessage answer;

  (void) seed;
  while (raw_ask (&raw, WIRE_BLOB_EXPORT, &(WireBlob) { .size = 4096 }, NULL, 0, &sealed, 1, &answer) == WIRE_BLOB)
    {
      g_array_append_val (ids, answer.body.blob);
      wire_message_clear (&answer);
    }
  g_test_message ("%u blobs", ids->len);
  g_assert_cmpint (answer.body.error.status, ==, CELL_ERROR_NO_RESOURCES);
  wire_message_clear (&answer);
  attack_is_ready ();
  /* The others go with the connection. */
  for (guint i = 0; i < ids->len / 2; i++)
    g_assert_cmpint (raw_refusal (&raw, WIRE_BLOB_IMPORT, &g_array_index (ids, WireBlob, i), NULL, 0), ==, CELL_OK);
  g_array_free (ids, TRUE);
  close (sealed);
  raw_close (&raw);
}

/* ---- ending in the middle ------------------------------------------------------------------------------------------- */

static void
attack_leaving (const char *socket, guint32 seed)
{
  GRand *rand = g_rand_new_with_seed (seed);
  WireOpen open_body = raw_open_body ("sequence", 0);
  WireBind bind = { .cell = "sequence" };
  NextArgs args = { 15, 0 };

  for (unsigned round = 0; round < 1500 / SLOW; round++)
    {
      Raw raw = raw_greeted (socket);
      RawChannel channel;
      bool opened = false;

      for (unsigned steps = g_rand_int (rand) % 6; steps > 0; steps--)
        switch (g_rand_int (rand) % 6)
          {
          case 0: raw_send (&raw, WIRE_OPEN, &open_body, NULL, 0, NULL, 0); break;
          case 1: raw_send (&raw, WIRE_BIND, &bind, NULL, 0, NULL, 0); break;
          case 2: raw_send (&raw, WIRE_BLOB_NEW, &(WireBlob) { .size = 100 }, NULL, 0, NULL, 0); break;
          case 3: raw_send (&raw, WIRE_CLOSE, &(WireRef) { round + 2 }, NULL, 0, NULL, 0); break;
          case 4: raw_send (&raw, WIRE_MAPPED, &(WireRef) { round + 2 }, NULL, 0, NULL, 0); break;
          default:
            if (!opened && (opened = raw_open (&raw, "sequence", 0, &channel)))
              for (unsigned i = 0; i < 50; i++)
                raw_request (&raw, &channel, (uint16_t) (i % 3), i, &args, sizeof args);
          }
      raw_close (&raw);
      if (opened)
        raw_channel_clear (&channel);
    }
  /* Gone before it can be given what it has asked for. */
  for (unsigned round = 0; round < 300 / SLOW; round++)
    {
      Raw raw = raw_greeted (socket);

      for (unsigned i = 0; i < 1 + round % 16; i++)
        raw_send (&raw, WIRE_OPEN, &open_body, NULL, 0, NULL, 0);
      raw_close (&raw);
    }
  g_rand_free (rand);
}

/* Opens and closes the same channel at once, so that both may be at work on it together. */
static void
attack_twice (const char *socket, guint32 seed)
{
  Raw raw = raw_greeted (socket);

  (void) seed;
  for (unsigned i = 0; i < 2000 / SLOW; i++)
    {
      RawChannel channel;
      WireRef ref;

      g_assert_true (raw_open (&raw, "sequence", 0, &channel));
      ref.channel = channel.body.channel;
      raw_send (&raw, WIRE_CLOSE, &ref, NULL, 0, NULL, 0);
      raw_send (&raw, WIRE_MAPPED, &ref, NULL, 0, NULL, 0);
      raw_send (&raw, WIRE_CLOSE, &ref, NULL, 0, NULL, 0);
      raw_channel_clear (&channel);
    }
  raw_close (&raw);
}

/* Does nothing wrong, but for being stopped. */
static void
attack_stopped (const char *socket, guint32 seed)
{
  (void) seed;
  attack_call_until_the_end (socket, "sequence", 60000);
}

static const AttackName attacks[] = {
  { "messages", attack_messages },
  { "order", attack_order },
  { "descriptors", attack_descriptors },
  { "seals", attack_seals },
  { "own-seals", attack_own_seals },
  { "scribble", attack_scribble },
  { "bells", attack_bells },
  { "channels", attack_channels },
  { "memory", attack_memory },
  { "memory-for-replies", attack_memory_for_replies },
  { "connections", attack_connections },
  { "never-reads", attack_never_reads },
  { "no-descriptors", attack_no_descriptors },
  { "questions", attack_questions },
  { "blobs", attack_blobs },
  { "leaving", attack_leaving },
  { "stopped", attack_stopped },
  { "twice", attack_twice },
};

/* ---- the tests --------------------------------------------------------------------------------------------------------- */

static const char *const more_cells[] = { "every", "ledger", "memory", NULL };

static void
set_up (Daemon *daemon, gconstpointer data)
{
  (void) data;
  daemon_start (daemon, more_cells);
}

static void
tear_down (Daemon *daemon, gconstpointer data)
{
  (void) data;
  daemon_stop (daemon);
}

/* The attacker does what it does, and ends. */
static void
test_attack (Daemon *daemon, gconstpointer data)
{
  Good *good = good_start (daemon, 1);
  Attack attack = attack_start (daemon, data, g_test_rand_int ());

  attack_end (&attack);
  good_wait (good, 2);
  good_stop (good);
}

/* What a cell keeps to answer later it keeps, whoever asked; this one ends with the cell. */
static void
test_scribble (Daemon *daemon, gconstpointer data)
{
  test_attack (daemon, data);
  g_assert_cmpint (daemon_ctl (daemon, NULL, "unload", "every", NULL), ==, 0);
}

/* The attacker has done what it does, and stays. */
static void
test_siege (Daemon *daemon, gconstpointer data)
{
  Good *good = good_start (daemon, 1);
  Attack attack = attack_start (daemon, data, g_test_rand_int ());

  attack_wait_ready (&attack);
  good_wait (good, 5);
  attack_end (&attack);
  good_wait (good, 2);
  good_stop (good);
}

/* Its own share is used up, and nobody else's. */
static void
test_blobs (Daemon *daemon, gconstpointer data)
{
  Attack attack = attack_start (daemon, data, 1);
  int sealed = memory (4096, SEALS_ALL, MFD_ALLOW_SEALING);
  WireBlob body = { .size = 4096 };
  Raw raw;

  attack_wait_ready (&attack);
  raw = raw_greeted (daemon->socket);
  for (unsigned i = 0; i < 100; i++)
    {
      WireMessage answer;

      g_assert_cmpint (raw_ask (&raw, WIRE_BLOB_EXPORT, &body, NULL, 0, &sealed, 1, &answer), ==, WIRE_BLOB);
      g_assert_cmpint (raw_refusal (&raw, WIRE_BLOB_IMPORT, &answer.body.blob, NULL, 0), ==, CELL_OK);
      wire_message_clear (&answer);
    }
  close (sealed);
  raw_close (&raw);
  attack_end (&attack);
}

/* It may ask as much as it likes: what it has asked does not lie in the host's memory. */
static void
test_questions (Daemon *daemon, gconstpointer data)
{
  guint64 before = daemon_private_kb (daemon), after;
  Good *good = good_start (daemon, 1);
  Attack attack = attack_start (daemon, data, 1);

  attack_wait_ready (&attack);
  after = daemon_private_kb (daemon);
  g_test_message ("%" G_GUINT64_FORMAT " kB, then %" G_GUINT64_FORMAT " kB", before, after);
  if (SLOW == 1)                        /* a sanitizer keeps what was freed */
    g_assert_cmpuint (after, <, before + 64 * 1024);
  good_wait (good, 5);
  attack_end (&attack);
  good_stop (good);
}

static void
test_no_descriptors (Daemon *daemon, gconstpointer data)
{
  daemon_stop (daemon);
  daemon->most_fds = 128;
  daemon_start (daemon, NULL);
  test_siege (daemon, data);
}

/* ns of processor time that all its threads have had. */
static guint64
ran_for (Daemon *daemon)
{
  g_autofree char *tasks = g_strdup_printf ("/proc/%d/task", (int) daemon->pid);
  g_autoptr(GDir) folder = g_dir_open (tasks, 0, NULL);
  const char *task;
  guint64 ns = 0;

  g_assert_nonnull (folder);
  while ((task = g_dir_read_name (folder)) != NULL)
    {
      g_autofree char *path = g_build_filename (tasks, task, "schedstat", NULL), *text = NULL;

      if (g_file_get_contents (path, &text, NULL, NULL))
        ns += g_ascii_strtoull (text, NULL, 10);
    }
  return ns;
}

/* It does nothing any more: each of its threads waits to be woken, and none of them is soon. */
static void
wait_asleep (Daemon *daemon)
{
  enum { LOOKS = 5 };
  gint64 until = g_get_monotonic_time () + 20 * G_USEC_PER_SEC;
  guint64 before = ran_for (daemon), now;

  for (unsigned n = 0; n < LOOKS; before = now)
    {
      g_usleep (5000);
      now = ran_for (daemon);
      n = now == before ? n + 1 : 0;
      g_assert_cmpint (g_get_monotonic_time (), <, until);
    }
}

static uint64_t
count_calls (const Counting *counting)
{
  cell_auto SequenceTotals totals = sequence_totals (counting->sequence);

  g_assert_cmpint (totals.result.status, ==, CELL_OK);
  return totals.calls;
}

/* One who sends and never reads is set aside: what he has asked for beyond that is not executed, nobody looks for it again and
 * again, and who calls meanwhile waits for nothing of it.  Not a single one of his calls is between two of theirs. */
static void
test_never_reads (Daemon *daemon, gconstpointer data)
{
  CellBus *bus = cell_open (daemon->socket);
  Counting counting = { .sequence = cell_bind (bus, Sequence, "sequence"), .who = 3 };
  Attack attack = attack_start (daemon, data, 1);
  uint64_t before;

  attack_wait_ready (&attack);
  wait_asleep (daemon);
  before = count_calls (&counting);
  for (unsigned i = 0; i < 5000; i++)
    counting_single (&counting);
  g_assert_cmpstr (counting.wrong, ==, "");
  g_assert_cmpuint (count_calls (&counting) - before, ==, 5000);
  wait_asleep (daemon);
  attack_end (&attack);
  cell_close (bus);
}

static void
stop_process (GPid pid)
{
  g_autofree char *path = g_strdup_printf ("/proc/%d/stat", (int) pid);
  gint64 until = g_get_monotonic_time () + 20 * G_USEC_PER_SEC;
  bool stopped = false;

  kill (pid, SIGSTOP);
  while (!stopped)
    {
      g_autofree char *line = NULL;

      g_assert_true (g_file_get_contents (path, &line, NULL, NULL));
      stopped = strstr (line, ") T ") != NULL;
      g_assert_cmpint (g_get_monotonic_time (), <, until);
      g_usleep (100);
    }
}

/* A cell moves under a caller who is stopped in the middle of his calls: nobody waits for him, and he finds all of his answers. */
static void
test_stopped (Daemon *daemon, gconstpointer data)
{
  Attack attack;
  Good *good;

  if (!host_fixture_has_sandbox ())
    return;
  good = good_start (daemon, 1);
  attack = attack_start (daemon, data, 1);
  attack_wait_ready (&attack);
  for (unsigned i = 0; i < 6; i++)
    {
      g_autofree char *said = NULL;

      stop_process (attack_pid (&attack));
      if (daemon_ctl (daemon, &said, i % 2 == 0 ? "eject" : "absorb", "sequence", NULL) != 0)
        g_error ("%s", said);
      good_wait (good, 2);
      /* Also through several moves. */
      if (i % 3 != 0)
        kill (attack_pid (&attack), SIGCONT);
      good_wait (good, 1);
    }
  kill (attack_pid (&attack), SIGCONT);
  attack_end (&attack);
  good_stop (good);
}

static void
say_hello (const char *path, CellStatus *ret_status)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  int fd = socket (AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  WireMessage answer;
  Fault fault = { 0 };

  g_strlcpy (address.sun_path, path, sizeof address.sun_path);
  *ret_status = CELL_OK;
  if (connect (fd, (struct sockaddr *) &address, sizeof address) < 0)
    *ret_status = errno == EACCES ? CELL_ERROR_UNREACHABLE : CELL_ERROR_INTERNAL;
  else if (wire_receive (fd, &answer, monotonic_ns () + 20000000000u, &fault) != 1)
    *ret_status = CELL_ERROR_INTERNAL;
  else if (answer.header.type == WIRE_ERROR)
    *ret_status = answer.body.error.status;
  close (fd);
}

/* A number that this user may give a process of his, beside his own; 0: none.  Root may give any. */
static guint64
other_uid (void)
{
  g_autofree char *text = NULL, *own = g_strdup_printf ("%s:", g_get_user_name ());
  g_auto(GStrv) lines = NULL;

  if (geteuid () == 0)
    return 65534;
  if (!g_file_get_contents ("/etc/subuid", &text, NULL, NULL))
    return 0;
  lines = g_strsplit (text, "\n", -1);
  for (guint i = 0; lines[i] != NULL; i++)
    if (g_str_has_prefix (lines[i], own))
      return g_ascii_strtoull (lines[i] + strlen (own), NULL, 10);
  return 0;
}

/* In a user namespace that has us as its root and the other one as its user 1. */
static void
map_users (pid_t pid, guint64 other)
{
  g_autofree char *process = g_strdup_printf ("%d", (int) pid), *us = g_strdup_printf ("%u", (unsigned) geteuid ());
  g_autofree char *him = g_strdup_printf ("%" G_GUINT64_FORMAT, other);
  g_autoptr(GError) error = NULL;
  g_autoptr (GSubprocess) newuidmap =
    g_subprocess_new (G_SUBPROCESS_FLAGS_NONE, &error, "newuidmap", process, "0", us, "1", "1", him, "1", NULL);

  g_assert_no_error (error);
  g_assert_true (g_subprocess_wait_check (newuidmap, NULL, &error));
  g_assert_no_error (error);
}

/* In the child: connects as the other user, and exits with what the host said.  `go`: read when the users have been mapped. */
static void
be_another (const Daemon *daemon, int begun, int go, guint64 other)
{
  CellStatus said = CELL_ERROR_INTERNAL;
  char byte = '.';

  if (chdir (daemon->folder) < 0)               /* while we still may: the folders above are nobody else's, too */
    _exit (101);
  if (geteuid () == 0 && (setgid (65534) < 0 || setuid ((uid_t) other) < 0))
    _exit (102);
  if (geteuid () != (uid_t) other
      && (unshare (CLONE_NEWUSER) < 0 || write (begun, &byte, 1) != 1 || read (go, &byte, 1) != 1 || setuid (1) < 0))
    _exit (103);
  say_hello ("socket", &said);
  _exit (-said);
}

/* Another user cannot reach the socket; and if he could, he would be refused. */
static void
test_private (Daemon *daemon, gconstpointer data)
{
  guint64 other = other_uid ();
  g_autofree char *newuidmap = g_find_program_in_path ("newuidmap");
  struct stat st;

  (void) data;
  g_assert_no_errno (stat (daemon->socket, &st));
  g_assert_cmpuint (st.st_mode & 07777, ==, 0600);
  g_assert_cmpuint (st.st_uid, ==, geteuid ());
  if (other == 0 || (geteuid () != 0 && newuidmap == NULL))
    {
      g_test_skip ("this user has no second one: there is no newuidmap, or no line of his in /etc/subuid");
      return;
    }
  if (geteuid () != 0 && !host_fixture_has_sandbox ())          /* nor, then, a namespace */
    return;
  for (unsigned open = 0; open < 2; open++)
    {
      int begun[2], go[2], status = 0;
      char byte = '.';
      pid_t pid;

      g_assert_no_errno (pipe2 (begun, O_CLOEXEC));
      g_assert_no_errno (pipe2 (go, O_CLOEXEC));
      pid = fork ();
      if (pid == 0)
        be_another (daemon, begun[1], go[0], other);
      close (begun[1]);
      if (read (begun[0], &byte, 1) == 1)       /* else it needs no namespace */
        {
          map_users (pid, other);
          g_assert_cmpint (write (go[1], &byte, 1), ==, 1);
        }
      g_assert_cmpint (waitpid (pid, &status, 0), ==, pid);
      close (begun[0]);
      close (go[0]);
      close (go[1]);
      g_assert_true (WIFEXITED (status));
      g_assert_cmpint (-WEXITSTATUS (status), ==, open ? CELL_ERROR_DENIED : CELL_ERROR_UNREACHABLE);
      g_assert_no_errno (chmod (daemon->folder, 0755));
      g_assert_no_errno (chmod (daemon->socket, 0666));
    }
}

static void
add (const char *name, void (*test) (Daemon *daemon, gconstpointer data))
{
  g_autofree char *path = g_strconcat ("/hostile/", name, NULL);

  g_test_add (path, Daemon, name, set_up, test, tear_down);
}

int
main (int argc, char **argv)
{
  attack_main (argc, argv, attacks, G_N_ELEMENTS (attacks));
  g_test_init (&argc, &argv, NULL);
  add ("messages", test_attack);
  add ("order", test_attack);
  add ("descriptors", test_attack);
  add ("seals", test_attack);
  add ("own-seals", test_attack);
  add ("scribble", test_scribble);
  add ("bells", test_siege);
  add ("channels", test_siege);
  add ("memory", test_siege);
  add ("memory-for-replies", test_siege);
  add ("connections", test_siege);
  add ("never-reads", test_never_reads);
  add ("no-descriptors", test_no_descriptors);
  add ("questions", test_questions);
  add ("blobs", test_blobs);
  add ("leaving", test_attack);
  add ("twice", test_attack);
  add ("stopped", test_stopped);
  add ("private", test_private);
  return g_test_run ();
}

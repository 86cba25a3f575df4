/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Programs that break every rule of the protocol, against a real daemon: each harms its own channel, or its own connection, and
 * nobody else notices.  A client that does nothing wrong calls all the while and looks at every answer.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
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

/* Sealed, and not there: whoever reads it would have to find it. */
static int
holes (size_t size)
{
  int fd = raw_memory (0, 0, MFD_ALLOW_SEALING);

  g_assert_no_errno (ftruncate (fd, (off_t) size));
  g_assert_no_errno (fcntl (fd, F_ADD_SEALS, RAW_SEALS_ALL));
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
  int sealed = raw_memory (4096, RAW_SEALS_ALL, MFD_ALLOW_SEALING);
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
    { raw_memory (4096, 0, MFD_ALLOW_SEALING), "memory without seals" },
    { raw_memory (4096, 0, 0), "memory that cannot be sealed" },
    { raw_memory (4096, F_SEAL_WRITE, MFD_ALLOW_SEALING), "memory that can shrink" },
    { raw_memory (4096, F_SEAL_SHRINK | F_SEAL_GROW, MFD_ALLOW_SEALING), "memory that can be written" },
    { raw_memory (4095, RAW_SEALS_ALL, MFD_ALLOW_SEALING), "less memory than it says" },
    { raw_memory (0, RAW_SEALS_ALL, MFD_ALLOW_SEALING), "no memory" },
    { raw_memory (8192, RAW_SEALS_ALL, MFD_ALLOW_SEALING), "more memory than it says" },
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
  assert_read_only (channel.replies->fd, "the memory of replies, in use");
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
  ring_announce (&channel->out, length);
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
    case 5: atomic_store (&own->taken, g_rand_int (self->rand)); break;
    case 6: break;
    default:
      atomic_store (&own->taken, head);
      atomic_store (&own->released, head);
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
      bool opened = false, guessed = false;

      for (unsigned steps = g_rand_int (rand) % 6; steps > 0; steps--)
        switch (g_rand_int (rand) % 6)
          {
          case 0: raw_send (&raw, WIRE_OPEN, &open_body, NULL, 0, NULL, 0); break;
          case 1: raw_send (&raw, WIRE_BIND, &bind, NULL, 0, NULL, 0); break;
          case 2: raw_send (&raw, WIRE_BLOB_NEW, &(WireBlob) { .size = 100 }, NULL, 0, NULL, 0); break;
          case 3: raw_send (&raw, WIRE_CLOSE, &(WireRef) { round + 2 }, NULL, 0, NULL, 0); break;
          case 4:
            /* It may be the one that is opened next, whose memory could not be mapped any more. */
            raw_send (&raw, WIRE_MAPPED, &(WireRef) { round + 2 }, NULL, 0, NULL, 0);
            guessed = true;
            break;
          default:
            if (!guessed && !opened && (opened = raw_open (&raw, "sequence", 0, &channel)))
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
  { "leaving", attack_leaving },
  { "stopped", attack_stopped },
  { "twice", attack_twice },
};

/* ---- the tests --------------------------------------------------------------------------------------------------------- */

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

/* The same to a cell in a process of its own. */
static void
test_ejected (Daemon *daemon, gconstpointer data)
{
  g_autofree char *said = NULL;

  if (!host_fixture_has_sandbox ())
    return;
  if (daemon_ctl (daemon, &said, "eject", "sequence", NULL) != 0)
    g_error ("%s", said);
  test_attack (daemon, data);
  g_clear_pointer (&said, g_free);
  if (daemon_ctl (daemon, &said, "absorb", "sequence", NULL) != 0)
    g_error ("%s", said);
}

/* What a cell keeps to answer later it keeps, whoever asked; this one ends with the cell. */
static void
test_scribble (Daemon *daemon, gconstpointer data)
{
  test_attack (daemon, data);
  g_assert_cmpint (daemon_ctl (daemon, NULL, "unload", "every", NULL), ==, 0);
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

int
main (int argc, char **argv)
{
  attack_main (argc, argv, attacks, G_N_ELEMENTS (attacks));
  g_test_init (&argc, &argv, NULL);
  attack_add_test ("/hostile/messages", test_attack);
  attack_add_test ("/hostile/order", test_attack);
  attack_add_test ("/hostile/descriptors", test_attack);
  attack_add_test ("/hostile/seals", test_attack);
  attack_add_test ("/hostile/own-seals", test_attack);
  attack_add_test ("/hostile/ejected/seals", test_ejected);
  attack_add_test ("/hostile/ejected/own-seals", test_ejected);
  attack_add_test ("/hostile/scribble", test_scribble);
  attack_add_test ("/hostile/leaving", test_attack);
  attack_add_test ("/hostile/twice", test_attack);
  attack_add_test ("/hostile/stopped", test_stopped);
  attack_add_test ("/hostile/private", test_private);
  return g_test_run ();
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * One thread sends requests, most of them valid, takes the answers, and changes words of the memory that they go through; another
 * one does nothing but change words.  In between it says things on the socket, half of them valid, and leaves connections half
 * open.
 */
#define _GNU_SOURCE
#include "fuzz-client.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cell/remote/every.h>
#include <cell/remote/ledger.h>
#include <cell/remote/memory.h>
#include <cell/remote/sequence.h>

#include "daemon.h"
#include "membrane/codec.h"
#include "membrane/wait.h"
#include "mutator.h"
#include "raw.h"

#define CHANGES_FOR_EACH 64u /* that each thread may make for a record that is sent */
#define CREDIT_MAX 4096u
#define WINDOW 3072u /* bytes that may be on their way */
#define LOOKS 64u    /* at a cursor that does not move, and then … */
#define NAPS 100u    /* … with a nap between them */
#define NAP_US 100u
#define RECORDS_MAX 4096u /* of one channel */
#define CHANNELS_MAX 48u  /* of one connection */
#define MESSAGES 64u      /* for each connection that calls */
#define HALF_OPEN 128u    /* connections that are left so, at a time */
#define HALF_OPEN_MORE 8u
#define VALID_MAX 1024u
#define SECONDS_MAX 120u /* without a channel */

typedef struct
{
  const char *cell;
  uint16_t method;
  uint32_t root, length;
  uint8_t payload[VALID_MAX];
} Valid;

typedef struct
{
  const char *socket;
  guint64 wanted;
  Valid valid[8];
  unsigned n_valid;
  Mutator choice; /* of the thread that sends */
  /* of the other one */
  Mutator own, mutator; /* own: of the thread that sends */
  MutatorHalf half;
  _Atomic uint64_t near;   /* the record that was sent last */
  _Atomic uint32_t credit; /* changes that it may make */
  _Atomic uint32_t active, busy, stop;
  _Atomic uint64_t changes;
  /* what came of it */
  guint64 records, sound, answers, channels, ended, messages, sound_messages, connections, half_open;
  Raw left[HALF_OPEN];
  gboolean is_left[HALF_OPEN];
} Fuzz;

/* ---- what is valid ---------------------------------------------------------------------------------------- */

static void
add_valid (Fuzz *self, const char *cell, const CellRemote *remote, const char *method, const void *args)
{
  Valid *valid = &self->valid[self->n_valid++];
  CodecFault fault;
  CodecPlan *plan;

  valid->cell = cell;
  while (!g_str_equal (remote->methods[valid->method].name, method))
    valid->method++;
  const CellType *type = remote->methods[valid->method].args;
  plan = codec_plan_new (type->fields, type->n_fields, CELL_ROLE_FIELD, type->size, NULL);
  g_assert_nonnull (plan);
  valid->root = valid->length = type->size;
  g_assert_true (codec_encode (plan, args, valid->payload, VALID_MAX, &valid->length, NULL, &fault));
  codec_plan_free (plan);
}

static void
add_all_valid (Fuzz *self)
{
  static const EveryPoint points[] = { { 1, 2 }, { 3, 4 }, { 5, 6 } };
  static const char *const texts[] = { "one", "", "three" };
  static const uint8_t small[] = { 1, 2, 3, 4, 5 };
  static const EveryMixed mixed[] = {
    { .flag = true,
      .number = 7,
      .points = points,
      .n_points = 3,
      .maybe = 3,
      .has_maybe = true,
      .text = "text",
      .texts = texts,
      .n_texts = 3 },
    { .small = 1, .points = points, .n_points = 1, .maybe_point = { 1, 2 }, .has_maybe_point = true, .text = "" },
  };

  add_valid (self, "sequence", &cell_remote_Sequence, "next", &(SequenceNextArgs){ .who = 15 });
  add_valid (self, "sequence", &cell_remote_Sequence, "note",
             &(SequenceNoteArgs){ .who = 14, .text = "some text that is looked at" });
  add_valid (self, "ledger", &cell_remote_Ledger, "transfer",
             &(LedgerTransferArgs){ .from = 1, .to = 2, .amount = 5, .memo = "rent" });
  add_valid (self, "memory", &cell_remote_Memory, "read", &(MemoryReadArgs){ .id = 1 });
  add_valid (self, "memory", &cell_remote_Memory, "add", &(MemoryAddArgs){ .text = "note" });
  add_valid (
    self, "every", &cell_remote_Every, "everything",
    &(EveryEverythingArgs){
      .in_str = "str", .in_struct = mixed[0], .in_array = small, .n_in_array = 5, .in_structs = mixed, .n_in_structs = 2 });
}

/* ---- the thread that changes words ------------------------------------------------------------------------- */

static void *
mutate_main (void *data)
{
  Fuzz *self = data;

  while (!atomic_load_explicit (&self->stop, memory_order_relaxed))
    {
      atomic_store (&self->busy, 1);
      while (atomic_load (&self->active) && atomic_load_explicit (&self->credit, memory_order_relaxed) > 0)
        {
          atomic_fetch_sub_explicit (&self->credit, 1, memory_order_relaxed);
          mutator_change (&self->mutator, &self->half, atomic_load_explicit (&self->near, memory_order_relaxed));
          atomic_store_explicit (&self->changes, self->mutator.n, memory_order_relaxed);
        }
      atomic_store (&self->busy, 0);
      g_usleep (NAP_US);
    }
  return NULL;
}

static void
begin_mutating (Fuzz *self, const RawChannel *channel)
{
  self->half = (MutatorHalf){ (uint8_t *) channel->requests->control, channel->requests->capacity };
  atomic_store (&self->credit, 0);
  atomic_store (&self->active, 1);
}

static void
end_mutating (Fuzz *self)
{
  atomic_store (&self->active, 0);
  while (atomic_load (&self->busy))
    sched_yield ();
  mutator_settle (&self->mutator);
  mutator_settle (&self->own);
}

static guint64
n_mutations (Fuzz *self)
{
  return atomic_load (&self->changes) + self->own.n + (self->records - self->sound) + (self->messages - self->sound_messages);
}

/* ---- a channel ----------------------------------------------------------------------------------------------- */

/* What the host says.  FALSE: the connection has ended.  ret_gone: the channel has. */
static gboolean
listen_to_host (Raw *raw, uint64_t channel, gboolean *ret_gone)
{
  WireMessage message;
  Fault fault = { 0 };
  int got;

  while ((got = wire_receive (raw->socket, &message, 0, &fault)) > 0)
    {
      if (ret_gone != NULL && message.header.type == WIRE_MOVED && message.body.moved.channel == channel && message.body.moved.gone)
        *ret_gone = TRUE;
      wire_message_clear (&message);
    }
  return got == 0;
}

/* As a caller that does nothing wrong, but for what else is written there. */
static void
take_answers (Fuzz *self, RawChannel *channel)
{
  Record *record;

  while ((record = ring_peek (&channel->replies_at)) != NULL)
    {
      self->answers++;
      ring_take (&channel->replies_at, record->length);
    }
  atomic_store (&channel->requests->control->waiting, 0);
  ring_release (&channel->replies_at);
}

static void
mutate_record (Fuzz *self, Record *record, RecordHead *head, uint32_t length)
{
  Mutator *choice = &self->choice;

  for (uint32_t n = 1 + mutator_below (choice, 3); n > 0; n--)
    switch (mutator_below (choice, 12))
      {
      case 0:
        head->length = (uint32_t) mutator_value (choice, head->length, 16384);
        break;
      case 1:
        head->root = (uint32_t) mutator_value (choice, head->root, 16384);
        break;
      case 2:
        head->kind = (uint16_t) mutator_value (choice, head->kind, 4);
        break;
      case 3:
        head->method = (uint16_t) mutator_value (choice, head->method, 8);
        break;
      case 4:
        head->method = WIRE_METHOD_SUBSCRIBE;
        break;
      case 5:
        head->flags = (uint32_t) mutator_value (choice, head->flags, 4);
        break;
      case 6:
        head->timeout = (uint32_t) mutator_value (choice, head->timeout, 4);
        break;
      default:
        if (length >= 4)
          {
            uint8_t *at = record->payload + 4 * mutator_below (choice, length / 4);

            mutator_write (at, 4, mutator_value (choice, mutator_read (at, 4), length));
          }
      }
}

/* FALSE: there is no room. */
static gboolean
write_record (Fuzz *self, RawChannel *channel, const Valid *valid, gboolean sound)
{
  Fault fault = { 0 };
  Record *record = ring_reserve (&channel->out, valid->length, &fault);
  RecordHead head = {
    .length = valid->length, .root = valid->root, .kind = RECORD_REQUEST, .method = valid->method, .timeout = 5000
  };

  if (record == NULL)
    return FALSE;
  memcpy (record->payload, valid->payload, valid->length);
  self->records++;
  self->sound += sound;
  if (!sound)
    mutate_record (self, record, &head, valid->length);
  record_set_head (record, &head, self->records);
  atomic_store (&self->near, channel->out.head);
  ring_announce (&channel->out, valid->length);
  ring_commit_far (&channel->out, record, valid->length);
  return TRUE;
}

/* The same, with the changes that come with it. */
static gboolean
send_record (Fuzz *self, RawChannel *channel, const Valid *valid, gboolean sound)
{
  if (!write_record (self, channel, valid, sound))
    return FALSE;
  if (atomic_load_explicit (&self->credit, memory_order_relaxed) < CREDIT_MAX)
    atomic_fetch_add (&self->credit, CHANGES_FOR_EACH);
  for (unsigned i = 0; i < CHANGES_FOR_EACH; i++)
    mutator_change (&self->own, &self->half, channel->out.head);
  return TRUE;
}

/* Until the host has taken most of what was sent.  FALSE: it does not. */
static gboolean
wait_taken (Fuzz *self, Raw *raw, RawChannel *channel)
{
  const HalfControl *host = channel->replies->control;
  uint64_t before = 0, taken;

  for (unsigned looks = 0; looks < LOOKS + NAPS; looks++)
    {
      taken = atomic_load (&host->taken);
      if (channel->out.head - taken <= WINDOW)
        return TRUE;
      if (taken != before)
        looks = 0;
      before = taken;
      take_answers (self, channel);
      if (atomic_load (&host->waiting) != 0 || looks >= LOOKS)
        raw_ring (raw);
      if (looks < LOOKS)
        sched_yield ();
      else
        g_usleep (NAP_US);
    }
  return FALSE;
}

/* FALSE: the connection has ended. */
static gboolean
fuzz_channel (Fuzz *self, Raw *raw)
{
  const Valid *first = &self->valid[mutator_below (&self->choice, self->n_valid)];
  gboolean gone = FALSE, alive = TRUE;
  uint64_t id = 0, end = self->records + RECORDS_MAX;
  RawChannel channel;

  if (!raw_open (raw, first->cell, mutator_below (&self->choice, 4) == 0 ? 65536 : 0, &channel))
    return FALSE;
  self->channels++;
  /* Whatever has happened before, this one is served. */
  g_assert_true (write_record (self, &channel, first, TRUE));
  raw_ring (raw);
  g_assert_cmpint (raw_reply (&channel, &id), !=, CELL_ERROR_CORRUPT);
  g_assert_cmpuint (id, ==, self->records);
  begin_mutating (self, &channel);
  while (alive && !gone && self->records < end)
    {
      const Valid *valid = &self->valid[mutator_below (&self->choice, self->n_valid)];

      if (!g_str_equal (valid->cell, first->cell))
        continue;
      if (!send_record (self, &channel, valid, mutator_below (&self->choice, 64) != 0) || !wait_taken (self, raw, &channel))
        break;
      take_answers (self, &channel);
      if (self->records % 16 == 0)
        alive = listen_to_host (raw, channel.body.channel, &gone);
    }
  end_mutating (self);
  alive = alive && listen_to_host (raw, channel.body.channel, &gone);
  self->ended += gone;
  if (alive && mutator_below (&self->choice, 4) != 0)
    raw_say (raw, WIRE_CLOSE, &(WireRef){ channel.body.channel });
  raw_channel_clear (&channel);
  return alive;
}

/* ---- messages ---------------------------------------------------------------------------------------------------- */

static int
some_descriptor (Mutator *choice)
{
  off_t size;
  int fd;

  switch (mutator_below (choice, 6))
    {
    case 0:
      return eventfd (0, EFD_CLOEXEC);
    case 1:
      return open ("/dev/zero", O_RDWR | O_CLOEXEC);
    case 2:
      return open ("/", O_PATH | O_CLOEXEC);
    default:
      fd = memfd_create ("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);
      size = mutator_below (choice, 4) == 0 ? mutator_below (choice, 9000) : 4096;
      if (ftruncate (fd, size) < 0 || (size > 0 && mutator_below (choice, 8) != 0 && fallocate (fd, 0, 0, size) < 0))
        g_error ("no memory");
      fcntl (fd, F_ADD_SEALS,
             mutator_below (choice, 4) == 0 ? (int) mutator_below (choice, 32)
                                            : F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
      return fd;
    }
}

/* A message as it should be; returns its size. */
static uint32_t
valid_message (Fuzz *self, uint8_t *bytes, unsigned *ret_fds)
{
  static const WireType types[] = { WIRE_HELLO, WIRE_BIND,     WIRE_OPEN,        WIRE_MAPPED,
                                    WIRE_CLOSE, WIRE_BLOB_NEW, WIRE_BLOB_EXPORT, WIRE_BLOB_IMPORT };
  static const uint16_t sizes[] = { sizeof (WireHello), sizeof (WireBind), sizeof (WireOpen), sizeof (WireRef),
                                    sizeof (WireRef),   sizeof (WireBlob), sizeof (WireBlob), sizeof (WireBlob) };
  /* A second greeting is not valid. */
  unsigned n = 1 + mutator_below (&self->choice, G_N_ELEMENTS (types) - 1);
  WireBody body = { 0 };
  const char *cell = self->valid[mutator_below (&self->choice, self->n_valid)].cell;

  *ret_fds = types[n] == WIRE_BLOB_EXPORT;
  switch (types[n])
    {
    case WIRE_BIND:
      g_strlcpy (body.bind.cell, cell, sizeof body.bind.cell);
      break;
    case WIRE_OPEN:
      body.open = raw_open_body (cell, 0);
      break;
    case WIRE_MAPPED:
    case WIRE_CLOSE:
      body.ref.channel = mutator_below (&self->choice, 1000);
      break;
    default:
      body.blob = (WireBlob){ mutator_next (&self->choice), 4096 };
    }
  WireHeader header = { .size = sizeof header + sizes[n],
                        .type = (uint16_t) types[n],
                        .n_fds = (uint16_t) *ret_fds,
                        .serial = mutator_next (&self->choice) };
  memcpy (bytes, &header, sizeof header);
  memcpy (bytes + sizeof header, &body, sizes[n]);
  return header.size;
}

/* Which of the host's memory is not to be asked for again and again: what is said of sizes is small or beyond all bounds. */
static void
bound_sizes (uint8_t *bytes)
{
  WireHeader header;
  WireBody *body = (WireBody *) (void *) (bytes + sizeof header);

  memcpy (&header, bytes, sizeof header);
  if (header.type == WIRE_BLOB_NEW && body->blob.size < (uint64_t) 1 << 40)
    body->blob.size %= 65536;
  if (header.type == WIRE_OPEN)
    body->open.request_capacity %= 65536;
}

/* FALSE: the connection has ended. */
static gboolean
fuzz_message (Fuzz *self, Raw *raw)
{
  _Alignas(8) uint8_t bytes[sizeof (WireHeader) + sizeof (WireBody) + 64] = { 0 };
  Mutator *choice = &self->choice;
  unsigned n_fds;
  uint32_t size = valid_message (self, bytes, &n_fds);
  int fds[8];
  gboolean sent;

  self->messages++;
  if (mutator_below (choice, 2) == 0)
    self->sound_messages++;
  else
    for (uint32_t n = 1 + mutator_below (choice, 2); n > 0; n--)
      switch (mutator_below (choice, 6))
        {
        case 0:
          size = mutator_below (choice, sizeof bytes) + 1;
          break;
        case 1:
          n_fds = mutator_below (choice, G_N_ELEMENTS (fds) + 1);
          break;
        default:
          {
            uint8_t *at = bytes + 4 * mutator_below (choice, MAX (size, 4) / 4);

            mutator_write (at, 4, mutator_value (choice, mutator_read (at, 4), size));
          }
        }
  bound_sizes (bytes);
  for (unsigned i = 0; i < n_fds; i++)
    fds[i] = some_descriptor (choice);
  sent = raw_send_bytes (raw, bytes, size, fds, n_fds);
  for (unsigned i = 0; i < n_fds; i++)
    close (fds[i]);
  return listen_to_host (raw, 0, NULL) && sent;
}

/* A connection that goes as far as it goes, and stays so for a while. */
static void
leave_half_open (Fuzz *self)
{
  unsigned n = mutator_below (&self->choice, HALF_OPEN), stage = mutator_below (&self->choice, 4);
  WireOpen body = raw_open_body ("sequence", 0);
  WireHello hello = { .protocol = WIRE_PROTOCOL };
  WireMessage answer;

  if (self->is_left[n])
    raw_close (&self->left[n]);
  self->is_left[n] = TRUE;
  self->half_open++;
  self->left[n] = stage < 2 ? raw_connect (self->socket) : raw_greeted (self->socket);
  if (stage == 1)
    raw_say (&self->left[n], WIRE_HELLO, &hello);
  if (stage == 2)
    raw_say (&self->left[n], WIRE_OPEN, &body);
  if (stage == 3 && raw_ask (&self->left[n], WIRE_OPEN, &body, NULL, 0, NULL, 0, &answer) != 0)
    wire_message_clear (&answer);
}

/* ---- all of it ------------------------------------------------------------------------------------------------------ */

static void
fuzz_connection (Fuzz *self)
{
  Raw raw = raw_greeted (self->socket);
  gboolean alive = TRUE;

  self->connections++;
  alarm (SECONDS_MAX);
  for (unsigned i = 0; alive && i < CHANNELS_MAX && n_mutations (self) < self->wanted; i++)
    alive = fuzz_channel (self, &raw);
  for (unsigned i = 0; i < MESSAGES; i++)
    {
      if (!alive)
        {
          raw_close (&raw);
          raw = raw_greeted (self->socket);
        }
      alive = fuzz_message (self, &raw);
    }
  for (unsigned i = 0; i < HALF_OPEN_MORE; i++)
    leave_half_open (self);
  raw_close (&raw);
}

void
fuzz_client (const char *socket, guint32 seed)
{
  g_autofree Fuzz *self = g_new0 (Fuzz, 1);
  pthread_t thread;

  self->socket = socket;
  self->wanted = g_ascii_strtoull (g_getenv ("FUZZ_MUTATIONS"), NULL, 10);
  self->choice.random = seed;
  self->mutator.random = ~(uint64_t) seed;
  self->own.random = (uint64_t) seed << 32;
  add_all_valid (self);
  g_assert_cmpint (pthread_create (&thread, NULL, mutate_main, self), ==, 0);
  while (n_mutations (self) < self->wanted)
    fuzz_connection (self);
  atomic_store (&self->stop, 1);
  pthread_join (thread, NULL);
  for (unsigned i = 0; i < HALF_OPEN; i++)
    if (self->is_left[i])
      raw_close (&self->left[i]);
  g_printerr ("# client, seed %u: %" G_GUINT64_FORMAT " mutations; of %" G_GUINT64_FORMAT " requests %" G_GUINT64_FORMAT
              " were valid, %" G_GUINT64_FORMAT " were answered; %" G_GUINT64_FORMAT
              " channels, of which the host ended %" G_GUINT64_FORMAT "; of %" G_GUINT64_FORMAT " messages %" G_GUINT64_FORMAT
              " were valid; %" G_GUINT64_FORMAT " connections, %" G_GUINT64_FORMAT " more half open\n",
              seed, n_mutations (self), self->records, self->sound, self->answers, self->channels, self->ended, self->messages,
              self->sound_messages, self->connections, self->half_open);
  g_assert_cmpuint (2 * self->sound, >=, self->records);
}

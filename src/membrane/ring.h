/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Records in shared memory, one writer and one reader.
 *
 * A channel has two halves, one written by the caller's side and one by the callee's.  A half is a memfd: a page of words, then a
 * data area that is mapped twice in a row, so that a record is always contiguous.  The page holds the cursors of the side that
 * writes the half: where it is in its own data, and how far it has read the other half's.
 *
 * The reader polls the sequence word in the header of the next record; it never needs the writer's cursor.  The word that makes
 * the record at position p valid is salt + p, where the salt is a random number of that half: what lies there from an earlier
 * lap, be it a header or payload, is that number with a probability of 2^-64.
 *
 * Positions are 64 bits, only grow, and are masked on use.  A reader's private copy of its position is the one that counts.  The
 * peer may be hostile: each of its words is loaded once and checked.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bytes.h"
#include "fault.h"

#define RECORD_ALIGN 64u
#define RECORD_MAX_PAYLOAD (1u << 20)           /* larger data travels as a blob */
#define HALF_PAGE 4096u
#define HALF_CAPACITY_MAX (1u << 26)

enum /* Record.kind */
{
  RECORD_REQUEST = 1, RECORD_REPLY, RECORD_SIGNAL
};
enum /* Record.flags */
{
  RECORD_CANCELLED = 1 << 0,    /* not to be executed if it has not been yet: it would wait for itself */
  RECORD_ONEWAY = 1 << 1,       /* no reply */
  RECORD_GIVEN_UP = RECORD_CANCELLED | RECORD_ONEWAY    /* nor does the caller wait for what comes of it */
};

/* What is said of a call, or an answer, with an id that no blob on its way has. */
#define BLOB_GONE "a blob that goes with it is not there any more: it was not fetched within a minute, or there never was one"
/* What is said of a call that is not executed since it would wait for itself. */
#define WAITS_FOR_ITSELF "the call would wait for itself: a cell on this chain is waiting for it"

typedef struct
{
  _Atomic uint64_t sequence;    /* salt + position */
  uint64_t id;                  /* of the call, per channel; of a signal: its number */
  uint32_t length;              /* bytes of payload */
  uint32_t root;                /* bytes of the root struct, as the sender knows it */
  uint16_t kind, method;
  _Atomic uint32_t flags;
  uint32_t timeout;             /* milliseconds that the caller will wait from when it sent this */
  int32_t status;               /* of a reply */
  uint64_t trace;
  uint8_t payload[];
} Record;

_Static_assert (sizeof (Record) == 48 && offsetof (Record, payload) == 48, "the record's header is part of the protocol");

enum /* HalfControl.waiting: how the side that writes this half wants to be told of news in the other */
{
  WAITING_NOT,                  /* it looks by itself */
  WAITING_FUTEX,                /* it sleeps on the sequence word of the next record */
  WAITING_DOORBELL              /* it sleeps in a main loop: its connection's eventfd */
};

/* The page of words.  Each line has one subject, so that no line is written by one side while the other polls it for
 * something else. */
typedef struct
{
  _Alignas (64) _Atomic uint64_t head;          /* callee: position behind its last reply; caller: behind the last request that it
                                                 * has begun to show to another process, beyond which that cannot have read */
  _Alignas (64) _Atomic uint64_t taken;         /* of the other half: records that were begun; published before a handler runs */
  _Atomic uint64_t released;                    /* of the other half: space that may be written again */
  _Alignas (64) _Atomic uint32_t waiting;
  _Atomic uint32_t cpu;                         /* 1 + the processor it last waited on, a hint; 0: not known */
  _Atomic uint32_t blocked;                     /* it cannot go on until the other side releases space */
  _Atomic uint64_t subscribed;                  /* callee: signals that the other side gets, for whoever takes over when it has
                                                 * died */
} HalfControl;

typedef struct
{
  _Atomic uint32_t refs;
  int fd;                       /* -1: not kept */
  HalfControl *control;
  uint8_t *data;
  uint32_t capacity;            /* bytes of data: a power of two, at least a page */
  uint64_t salt;
  bool sealed;                  /* by half_seal () */
} Half;

/* Makes, sizes and reserves the memory of a half and maps it writable.  Nobody can shrink or grow it. */
Half *half_new (const char *name, uint32_t capacity, Fault *fault);
/* From here on nobody can map it writable or write to it except through mappings that exist. */
bool half_seal (Half *half, Fault *fault);
/* Maps a half that a peer or the host made, having checked its seals and size.  Takes the descriptor, also on failure. */
Half *half_map (int fd, uint32_t capacity, uint64_t salt, bool writable, Fault *fault);
/* Nobody else is going to be given it: its descriptor is closed. */
void half_forget_fd (Half *half);
Half *half_ref (Half *half);
void half_unref (Half *half);
/* The smallest capacity that holds `bytes` of records. */
uint32_t half_capacity_for (uint64_t bytes);

static inline uint32_t
record_size (uint32_t length)
{
  return (uint32_t) ((sizeof (Record) + (uint64_t) length + RECORD_ALIGN - 1) & ~(uint64_t) (RECORD_ALIGN - 1));
}

typedef struct
{
  uint8_t *data;
  uint64_t mask, head, limit;   /* limit: the position up to which space is known to be free */
  uint64_t salt;
  uint64_t base;                /* nothing before it needs space: where this writer, or its present reader, began */
  HalfControl *own;
  const HalfControl *peer;
} RingWriter;

/* Nothing was written to its half so far. */
static inline void
ring_writer_all_free (RingWriter *writer)
{
  writer->limit = writer->head + writer->mask + 1;
}

typedef struct
{
  uint8_t *data;                /* read-only memory when the writer is in another process */
  uint64_t mask, at, salt;
  HalfControl *own;
} RingReader;

void ring_writer_init (RingWriter *writer, Half *own, const HalfControl *peer, uint64_t head);
void ring_reader_init (RingReader *reader, const Half *from, HalfControl *own, uint64_t at);
/* Where the records of a half end whose writer is gone: follows them from a position that its reader has not passed.  A writer that
 * died between a commit and ring_publish_head () has written more than it said, and its reader may have read it. */
uint64_t half_end (const Half *half, uint64_t from);

/* Loads the peer's cursors once, checks them, and says whether `size` bytes are free.  A cursor that went back, or beyond what was
 * written or taken, is a lie: fault. */
bool ring_writer_refresh (RingWriter *writer, uint32_t size, Fault *fault);
/* Another reader goes on at `taken`, with words of its own: what lies before has been read by the one before, released or not. */
void ring_writer_set_peer (RingWriter *writer, const HalfControl *peer, uint64_t taken);

/* Room for a record of that many bytes of payload, or NULL when there is none now.  Nothing is published. */
static inline Record *
ring_reserve (RingWriter *writer, uint32_t length, Fault *fault)
{
  uint32_t size = record_size (length);

  if (unlikely (writer->head + size > writer->limit) && !ring_writer_refresh (writer, size, fault))
    return NULL;
  return (Record *) (writer->data + (writer->head & writer->mask));
}

/* A header without the sequence and the id, ready to be copied: two stores instead of eight. */
typedef struct
{
  _Alignas (16) uint32_t length;
  uint32_t root;
  uint16_t kind, method;
  uint32_t flags, timeout;
  int32_t status;
  uint64_t trace;
} RecordHead;

_Static_assert (sizeof (RecordHead) == 32 && offsetof (Record, length) == 16 && offsetof (Record, trace) == 40,
                "the head of a record is its tail but for sequence and id");

static inline void
record_set_head (Record *record, const RecordHead *head, uint64_t id)
{
  __builtin_memcpy ((uint8_t *) record + offsetof (Record, length), head, sizeof *head);
  record->id = id;
}

/* Makes the reserved record visible; its header is complete.  The length may be less than what was reserved.  The line of the next
 * record is fetched for writing while nobody waits for it. */
static inline void
ring_commit (RingWriter *writer, Record *record, uint32_t length)
{
  store_release (&record->sequence, writer->salt + writer->head);
  writer->head += record_size (length);
}

#define RECORD_FIRST_LINE (RECORD_ALIGN - (uint32_t) sizeof (Record))    /* bytes of payload beside the header */

/* Writes a record's payload for a reader on another processor: the line that it polls is touched last, and once. */
static inline void
ring_write_far (Record *record, const void *payload, uint32_t length)
{
  if (length > RECORD_FIRST_LINE)
    copy_bytes (record->payload + RECORD_FIRST_LINE, (const uint8_t *) payload + RECORD_FIRST_LINE, length - RECORD_FIRST_LINE);
  copy_bytes (record->payload, payload, length < RECORD_FIRST_LINE ? length : RECORD_FIRST_LINE);
}

/* Makes a record visible to a reader on another processor.  The second line of the next one is fetched while nobody waits for
 * it. */
static inline void
ring_commit_far (RingWriter *writer, Record *record, uint32_t length)
{
  ring_commit (writer, record, length);
  fetch_for_writing (writer->data + (writer->head & writer->mask) + RECORD_ALIGN);
}

#define STREAM_AHEAD 8u                 /* records */

/* For whoever sends one record after the other and waits for none: the first two lines of one that is some records ahead, of this
 * size.  The reader has them from a lap ago, and a processor that asks for each when it writes to it waits for each: with all that
 * it stores for a call there is no room for the next one in what it has yet to write. */
static inline void
ring_fetch_ahead (const RingWriter *writer, uint32_t size)
{
  const uint8_t *line = writer->data + ((writer->head + (uint64_t) STREAM_AHEAD * size) & writer->mask);

  fetch_for_writing (line);
  fetch_for_writing (line + RECORD_ALIGN);      /* behind the last one there is nothing to be had, and no harm */
}

/* For whoever looks how far a reader can have got, at most: before the record can be seen. */
static inline void
ring_announce (RingWriter *writer, uint32_t length)
{
  store_release (&writer->own->head, writer->head + record_size (length));
}

/* For whoever takes over when this side is gone: where its records end. */
static inline void
ring_publish_head (RingWriter *writer)
{
  store_release (&writer->own->head, writer->head);
}

/* Asks for the second line of a record that has been found: another processor has it, and it is needed a hundred instructions
 * on. */
static inline void
record_fetch (const Record *record)
{
  __builtin_prefetch ((const uint8_t *) record + RECORD_ALIGN);
}

/* The next record, or NULL.  Every word of it is the peer's to change, if the peer is another process. */
static inline Record *
ring_peek (const RingReader *reader)
{
  Record *record = (Record *) (reader->data + (reader->at & reader->mask));

  if (load_acquire (&record->sequence) != reader->salt + reader->at)
    return NULL;
  record_fetch (record);
  return record;
}

/* Where something of the record at this position lies in its half, of which the page of words comes first. */
static inline uint32_t
ring_place (const RingReader *reader, uint64_t position, size_t offset)
{
  return HALF_PAGE + (uint32_t) ((position + offset) & reader->mask);
}

/* The futex word of the next record, which changes when it arrives. */
static inline const _Atomic uint32_t *
ring_next_word (const RingReader *reader)
{
  return (const _Atomic uint32_t *) (reader->data + (reader->at & reader->mask));
}

static inline void
ring_take (RingReader *reader, uint32_t length)
{
  reader->at += record_size (length);
  store_release (&reader->own->taken, reader->at);
}

static inline void
ring_release (RingReader *reader)
{
  store_release (&reader->own->released, reader->at);
}

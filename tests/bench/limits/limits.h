/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the machine gives when nothing is in the way: no checks, no bounds, no names.  Variants were tried and the fastest kept,
 * so that a candidate is not held against a straw man.  A limit spins on one word and nothing else; if
 * its peer dies it spins until the harness ends the program.
 */
#pragma once
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "../harness.h"

/* One cache line there and back between two processes that spin. */
extern const BenchSubject limit_line;
/* A record of 64 bytes there and back through two rings. */
extern const BenchSubject limit_ring;
/* Records of 64 bytes one way, made visible one by one or a hundred at once. */
extern const BenchSubject limit_stream, limit_stream_100;
/* A call through a function pointer that copies 64 bytes.  As the processor sees it such calls overlap; chained, each needs the
 * result of the one before, as in a program that looks at an answer before it asks again. */
extern const BenchSubject limit_fnptr, limit_fnptr_chained, limit_fnptr_gated;
/* There and back between two processes of which always one sleeps. */
extern const BenchSubject limit_futex;
/* The same when both have slept for a while before each call: limit_idle (). */
extern const BenchSubject limit_futex_idle;
/* A shared buffer, filled by one side and read by the other. */
extern const BenchSubject limit_buffer_64k, limit_buffer_1m;

/* ---- for the limits ------------------------------------------------------------------------- */

/* A record, as the membrane lays it out: 48 bytes of header, of which the first word makes it valid, and 64 of payload. */
typedef struct
{
  _Alignas (64) _Atomic uint64_t sequence;
  uint64_t header[5];
  uint64_t payload[8];
} LimitRecord;

_Static_assert (offsetof (LimitRecord, payload) == 48 && sizeof (LimitRecord) == 128, "two lines for each record");

enum
{
  LIMIT_RING_RECORDS = 512      /* 64 KiB */
};

typedef struct
{
  LimitRecord records[LIMIT_RING_RECORDS];
} LimitRing;

/* A slot's sequence differs from lap to lap; memory starts as zeros. */
static inline LimitRecord *
limit_slot (LimitRing *ring, uint64_t position)
{
  return &ring->records[position % LIMIT_RING_RECORDS];
}

/* Costs nothing here, and where two processors share a core it is much the better way to wait. */
static inline void
limit_pause (void)
{
#ifdef __x86_64__
  __builtin_ia32_pause ();
#endif
}

/* The record's second line is written first: the line that the other side polls should be touched once, in one go.  That, and the
 * pause, bring a ring of any size to within half as much again of the bare line; without them it is more than twice the line. */
static inline void
limit_put (LimitRecord *record, uint64_t position, const uint64_t header[5], const uint64_t payload[8])
{
  __builtin_memcpy (record->payload + 2, payload + 2, 48);
  __builtin_memcpy (record->payload, payload, 16);
  __builtin_memcpy (record->header, header, sizeof record->header);
  atomic_store_explicit (&record->sequence, position + 1, memory_order_release);
}

/* From front to back: for a record that nobody polls yet. */
static inline void
limit_put_ahead (LimitRecord *record, uint64_t position, const uint64_t header[5], const uint64_t payload[8])
{
  __builtin_memcpy (record->header, header, sizeof record->header);
  __builtin_memcpy (record->payload, payload, sizeof record->payload);
  atomic_store_explicit (&record->sequence, position + 1, memory_order_release);
}

static inline void
limit_get (LimitRecord *record, uint64_t position, uint64_t header[5], uint64_t payload[8])
{
  while (atomic_load_explicit (&record->sequence, memory_order_acquire) != position + 1)
    limit_pause ();
  __builtin_memcpy (header, record->header, sizeof record->header);
  __builtin_memcpy (payload, record->payload, sizeof record->payload);
}

/* Keeps the compiler from leaving out what nobody looks at. */
static inline void
limit_use (const void *data)
{
  __asm__ volatile ("" : : "r"(data) : "memory");
}

/* Shared memory with a process that serves at its other end. */
typedef struct
{
  void *memory;
  size_t size;
  pid_t peer;
} LimitPair;

/* Half a millisecond of sleep, longer than anybody spins for. */
void limit_idle (void *state);

/* Zeroed memory, shared with a forked process on the place's other processor that calls serve (memory). */
bool limit_pair_start (LimitPair *pair, size_t size, void (*serve) (void *memory), const BenchPlace *place, BenchProblem *problem);
void limit_pair_stop (LimitPair *pair);

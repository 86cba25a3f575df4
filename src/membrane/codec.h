/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Values to records and back.  A record's payload begins with the root struct in the C compiler's own layout; where C has an 8-byte
 * pointer the payload has {u32 offset from the payload's start, u32 length in bytes}.  What is referred to follows, 8-byte aligned
 * (strings: unaligned, with their terminating NUL, which length does not count).  So decoding is checking plus relocation.
 *
 *   array      {offset, bytes}, u32 count, u32 stride            optional   the value, bool presence
 *   str        {offset, length}; {0, 0} is ""                    bytes      {offset, length}, u32 size, u32 0
 *   blob       u64 id that the connection knows; 0 is none
 *
 * Roots and array elements may be shorter or longer than the reader's: what is missing reads as zero, what is too much is skipped.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cell/abi.h>

#include "arena.h"

/* A struct's tables, compiled: immutable, shared by threads. */
typedef struct CodecPlan CodecPlan;
typedef struct CodecStep CodecStep;
struct CodecPlan
{
  uint32_t size, align;         /* of the struct in C; size 0: no members at all */
  bool flat;                    /* refers to nothing */
  bool trivial;                 /* flat, and has neither gaps nor bools: every byte pattern is a value */
  bool blobs;                   /* holds blobs, perhaps in an array */
  bool checked;                 /* holds bools or optionals, which not every byte pattern is */
  uint32_t n_steps;
  CodecStep *steps;             /* each byte of the struct belongs to one */
  const CellField *rows;        /* where the steps came from; NULL: elements that are no structs, of the array called `name` */
  uint32_t n_rows;
  int role;
  const char *name;
};

/* What was wrong.  Strings are static or the tables'. */
typedef struct
{
  CellStatus status;            /* encoding: CELL_ERROR_INVALID, _TOO_LARGE, _NO_RESOURCES; decoding: _CORRUPT, _NO_RESOURCES */
  const char *rule;             /* encoding: what is wrong with the field, for a person; decoding: the rule's name */
  const char *field;            /* the member concerned, or "" */
  uint32_t offset;              /* in the struct that holds the member */
} CodecFault;

/* How blobs get in and out of a connection; NULL where no blob may pass. */
typedef struct
{
  uint64_t (*export_blob) (void *data, CellBlob *blob);   /* 0: cannot */
  CellBlob *(*import_blob) (void *data, uint64_t id);     /* borrowed until the call ends; NULL: no such blob */
  void *data;
} CodecBlobs;

enum
{
  CODEC_PRIVATE = 1 << 0,       /* decode: nobody else can write the payload while the value is in use */
  CODEC_TRUSTED = 1 << 1,       /* decode: the same, and this process's own encoder wrote it: UTF-8 need not be looked at again */
};

/* Compiles the rows of one role.  size: of the C struct.  Refuses tables that do not describe that struct (overlaps, outside,
 * nesting deeper than 16, more than 4,096 steps): NULL, and a static sentence in ret_why.  The rows must outlive the plan. */
CodecPlan *codec_plan_new (const CellField *rows, uint32_t n_rows, int role, uint32_t size, const char **ret_why);
void codec_plan_free (CodecPlan *plan);

/* Where in a payload the first piece may lie that is built there before its root is encoded. */
static inline uint32_t
codec_built_from (uint32_t root)
{
  return (root + 15) & ~15u;
}

/* Writes local, which may be the payload itself, and all it refers to into the payload; *ret_used is the payload's length.  Pieces
 * that lie in the payload already, from codec_built_from (plan->size) up to *ret_used as given (a reply that was built in place:
 * `alloc`), are not copied again; structs among them are turned into what the wire has, so that no two arrays may share them.
 * Nothing but the values is ever written, not even for a moment: no padding, no pointer.  Strings are checked to be UTF-8.  NULL
 * strings are "".  The payload is 8-byte aligned.  False: fault. */
bool codec_encode (const CodecPlan *plan, const void *local, uint8_t *payload, uint32_t capacity, uint32_t *ret_used,
                   const CodecBlobs *blobs, CodecFault *fault);

/* Checks a payload and fills local (plan->size bytes).  root: bytes of the sender's root struct.  The payload is only read.  What
 * refers to something goes to the arena, since references may overlap; what refers to nothing is pointed at where it lies, unless
 * neither CODEC_PRIVATE nor CODEC_TRUSTED is given: then somebody may write the payload at any time, and everything goes to the
 * arena before it is looked at.  The sum of all referenced lengths may not exceed `length`.  False: fault; local is undefined. */
bool codec_decode (const CodecPlan *plan, const uint8_t *payload, uint32_t length, uint32_t root, unsigned flags, Arena *arena,
                   const CodecBlobs *blobs, void *local, CodecFault *fault);

/* Whether n bytes, followed by a NUL, are UTF-8 without a NUL among them. */
bool codec_is_utf8 (const uint8_t *bytes, uint32_t n);

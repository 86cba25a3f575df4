/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Random tables as the macros of <cell/cell.h> would write them, random values of theirs, and what must hold for a value that came
 * out of a record.
 */
#pragma once
#include <glib.h>
#include <stdbool.h>
#include <string.h>

#include <cell/abi.h>

/* Everything that was made for one try, freed together. */
typedef struct
{
  GRand *rand;
  GPtrArray *pieces;
  uint8_t *built, *built_at, *built_end;        /* a payload in which some pieces are made; NULL: none are */
  const char *last;             /* a string that may be used again */
  uint8_t poison;               /* what padding and absent values are made of */
  unsigned n_blobs;
  bool no_blobs;
} Maker;

typedef struct
{
  CellField rows[12];
  unsigned n;
  uint32_t size, align;
} Layout;

void maker_init (Maker *maker, guint32 seed);
void maker_clear (Maker *maker);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Maker, maker_clear)

/* A struct of up to `most` random members in the C compiler's layout. */
void layout_make (Maker *maker, Layout *layout, unsigned most, unsigned depth);
/* One more member. */
void layout_append (Maker *maker, Layout *layout, unsigned depth);
/* Its size, and the padding at its end. */
void layout_end (Layout *layout);
const CellType *layout_to_type (Maker *maker, const Layout *layout);

/* Fills size bytes with a random value. */
void value_make (Maker *maker, const CellField *rows, unsigned n, uint32_t size, void *to);

/* Fails unless b, which came out of a record, is what a is. */
void value_assert_equal (const CellField *rows, unsigned n, const void *a, const void *b);

/* Looks at each byte that the value refers to; fails unless bools are bools, strings UTF-8, and arrays aligned.  Returns a sum. */
guint64 value_assert_sound (const CellField *rows, unsigned n, const void *value);

/* Hooks of a connection that knows these blobs by number. */
uint64_t test_blob_export (void *data, CellBlob *blob);
CellBlob *test_blob_import (void *data, uint64_t id);

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Any bytes as a record of one of a few types: a fault, or a value that is sound and the same again when it was written and read.
 * The first bytes choose: the type, how it is decoded, and how long the sender's root is.
 */
#include <stdbool.h>

#include <cell/cell.h>

#include "membrane/codec.h"
#include "unit/random-types.h"

#define ROOM (64u * 1024u)
#define HEAD 8                          /* so that the payload is aligned as it is in a ring */

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

const CellHost *cell_host;              /* what <cell/cell.h> declares; nothing here calls it */

CELL_STRUCT (Point, field (i32, x), field (i32, y))
CELL_STRUCT (Entry, field (u64, id), field (str, memo), field (bool, open))
CELL_STRUCT (Tagged, field (u8, level), field (optional (Point), at), field (array (str), tags), field (bytes, raw))
CELL_STRUCT (Tree3, field (array (Entry), entries), field (blob, file))
CELL_STRUCT (Tree2, field (array (Tree3), children), field (u16, n))
CELL_STRUCT (Tree, field (array (Tree2), children), field (str, name))
CELL_STRUCT (Flags, field (bool, a), field (u8, b), field (bool, c), field (u16, d), field (bool, e), field (optional (bool), f),
             field (f64, g))
CELL_STRUCT (All, field (Entry, entry), field (array (Flags), flags), field (array (Point), points), field (array (u8), small),
             field (optional (Entry), maybe), field (array (Tagged), tagged), field (Flags, flag))

static const CellType *const types[] = { &cell_desc_Point, &cell_desc_Entry, &cell_desc_Tagged, &cell_desc_Tree,
                                         &cell_desc_Flags, &cell_desc_All };

static const CodecBlobs hooks = { test_blob_export, test_blob_import, NULL };

/* What was decoded is written, and reads as the same.  Elements of another version may have become larger than the room. */
static void
there_and_back (const CodecPlan *plan, const CellType *type, const void *value)
{
  g_autofree uint8_t *payload = g_malloc (ROOM), *local = g_malloc (type->size);
  uint32_t used = 0;
  CodecFault fault = { 0 };
  Arena arena;

  if (!codec_encode (plan, value, payload, ROOM, &used, &hooks, &fault))
    {
      g_assert_cmpint (fault.status, ==, CELL_ERROR_TOO_LARGE);
      return;
    }
  arena_init (&arena, 16u << 20);
  g_assert_true (codec_decode (plan, payload, used, type->size, CODEC_PRIVATE, &arena, &hooks, local, &fault));
  value_assert_equal (type->fields, type->n_fields, value, local);
  arena_clear (&arena);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  const CellType *type;
  CodecPlan *plan;
  uint32_t length, root;
  g_autofree uint8_t *payload = NULL, *local = NULL;
  CodecFault fault = { 0 };
  Arena arena;

  if (size < HEAD || size > ROOM)
    return 0;
  length = (uint32_t) size - HEAD;
  type = types[data[0] % G_N_ELEMENTS (types)];
  root = data[2] % 4 == 0 ? data[3] : type->size;
  payload = g_memdup2 (data + HEAD, length);            /* of its own size, so that a sanitizer sees its end */
  local = g_malloc (type->size);
  plan = codec_plan_new (type->fields, type->n_fields, CELL_ROLE_FIELD, type->size, NULL);
  arena_init (&arena, 1u << 20);
  if (codec_decode (plan, length > 0 ? payload : data, length, root, data[1] % 2 == 0 ? 0 : CODEC_PRIVATE, &arena, &hooks, local,
                    &fault))
    {
      value_assert_sound (type->fields, type->n_fields, local);
      there_and_back (plan, type, local);
    }
  else
    g_assert_true ((fault.status == CELL_ERROR_CORRUPT || fault.status == CELL_ERROR_NO_RESOURCES
                    || fault.status == CELL_ERROR_GONE)
                   && fault.rule != NULL && fault.field != NULL);
  arena_clear (&arena);
  codec_plan_free (plan);
  return 0;
}

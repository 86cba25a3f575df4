/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A cell that uses everything an author may write, spread over two files that share this header.
 */
#ifndef EVERY_H
#define EVERY_H

#include <cell/cell.h>

typedef struct
{
  uint32_t limit;
  CellClient *ledger;
} Every;

CELL_STRUCT (Point, field (i32, x, "to the right"), field (i32, y))
CELL_STRUCT (Mixed,
             field (bool, flag), field (u64, number), field (u8, small), field (Point, point), field (array (Point), points),
             field (optional (u32), maybe), field (str, text), field (optional (Point), maybe_point), field (array (str), texts))

CELL_ERROR (Every, Shared, "Declared in a header")
CELL_ERROR (Every, Undocumented)
CELL_SIGNAL (Every, moved, doc ("Something moved."), field (Point, to), field (array (Point), path), field (str, why))
CELL_SIGNAL (Every, nothing)

#endif

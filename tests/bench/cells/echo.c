/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The cell that is called when calls are measured: it does as little as can be told apart from nothing.
 */
#include <cell/cell.h>

#include "../limits/sum.h"

typedef struct
{
  uint64_t noted;
} Echo;

CELL_STRUCT (Trade, field (u64, id), field (u32, price), field (u32, quantity))

CELL_METHOD (Echo, echo, doc ("64 bytes there and back."),
             in (u64, a), in (u64, b), in (u64, c), in (u64, d), in (u64, e), in (u64, f), in (u64, g), in (u64, h),
             out (u64, a), out (u64, b), out (u64, c), out (u64, d), out (u64, e), out (u64, f), out (u64, g), out (u64, h))
{
  memcpy (out, in, sizeof *out);
  return CELL_OK;
}

CELL_METHOD (Echo, mixed, doc ("What arguments often look like.  Answers with something of each, so that one sees that they came."),
             in (bool, urgent), in (u8, side), in (u32, account), in (i64, amount), in (f64, rate), in (str, memo),
             in (array (Trade), trades),
             out (u64, sum), out (f64, rate))
{
  out->sum = in->urgent + in->side + in->account + (uint64_t) in->amount + (uint8_t) in->memo[0];
  if (in->n_trades > 0)
    out->sum += in->trades[in->n_trades - 1].id + in->trades[0].quantity;
  out->rate = in->rate;
  return CELL_OK;
}

CELL_METHOD (Echo, sum, doc ("Reads every word."), in (bytes, data), out (u64, sum))
{
  out->sum = limit_buffer_sum (in->data.data, in->data.size);
  return CELL_OK;
}

CELL_METHOD (Echo, note, doc ("64 bytes one way."), oneway,
             in (u64, a), in (u64, b), in (u64, c), in (u64, d), in (u64, e), in (u64, f), in (u64, g), in (u64, h))
{
  self->noted += in->a;
  return CELL_OK;
}

CELL_STRUCT (Record, field (u64, a), field (u64, b), field (u64, c), field (u64, d), field (u64, e), field (u64, f), field (u64, g),
             field (u64, h))

CELL_METHOD (Echo, note_all, doc ("Many times 64 bytes one way."), oneway, in (array (Record), records))
{
  for (uint32_t i = 0; i < in->n_records; i++)
    self->noted += in->records[i].a;
  return CELL_OK;
}

CELL_PROPERTY (Echo, noted, u64, "Sum of the first words of all notes") { return self->noted; }

CELL_SERVICE (Echo, "org.cellhost.bench.Echo", 1, .threading = CELL_SERIAL)

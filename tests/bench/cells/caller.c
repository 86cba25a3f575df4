/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A cell that calls another, so often that being called itself does not show.
 */
#include <cell/cell.h>
#include <cell/remote/echo.h>
#include <cell/remote/sequence.h>

typedef struct
{
  CellClient *echo, *sequence;
} Caller;

CELL_ERROR (Caller, EchoFailed, "A call failed, or was answered with something else")

CELL_METHOD (Caller, echo, doc ("Calls so many times."), in (u32, n), timeout (600000), fails (EchoFailed))
{
  for (uint64_t i = 0; i < in->n; i++)
    {
      cell_auto EchoEcho e = echo_echo (self->echo, .a = i, .b = 2, .c = 3, .d = 4, .e = 5, .f = 6, .g = 7, .h = ~i);
      if (e.result.status || e.a != i || e.h != ~i)
        return cell_fail (call, EchoFailed, "call %" PRIu64 ": %s", i, e.result.status ? e.result.message : "a wrong answer");
    }
  return CELL_OK;
}

CELL_METHOD (Caller, mixed, doc ("Calls so many times."), in (u32, n), timeout (600000), fails (EchoFailed))
{
  EchoTrade trades[16] = { [0] = { .id = 1, .price = 2, .quantity = 3 }, [15] = { .id = 4, .price = 5, .quantity = 6 } };
  for (uint64_t i = 0; i < in->n; i++)
    {
      cell_auto EchoMixed m = echo_mixed (self->echo, .urgent = true, .side = 1, .account = 1000, .amount = (int64_t) i,
                                          .rate = 0.5, .memo = "rent for the month of May", .trades = trades, .n_trades = 16);
      if (m.result.status || m.sum != 1009 + i + 'r' || m.rate != 0.5)
        return cell_fail (call, EchoFailed, "call %" PRIu64 ": %s", i, m.result.status ? m.result.message : "a wrong answer");
    }
  return CELL_OK;
}

#define PIPELINE 16                     /* calls under way at a time */

CELL_METHOD (Caller, count, doc ("Calls the sequence so many times, pipelined, and checks the answers."), timeout (600000),
             in (u64, who), in (u64, first, "number"), in (u32, n, "a multiple of 16"),
             out (u64, lost, "calls that failed"), out (u64, reordered, "answers that were another's"), out (str, problem))
{
  SequenceNextCall calls[PIPELINE];
  out->problem = "";
  for (uint64_t number = in->first; number < in->first + in->n; number += PIPELINE)
    {
      for (uint32_t i = 0; i < PIPELINE; i++)
        calls[i] = sequence_next_start (self->sequence, .who = in->who, .number = number + i);
      for (uint32_t i = 0; i < PIPELINE; i++)
        {
          cell_auto SequenceNext s = sequence_next_finish (calls[i]);
          if (s.result.status && out->lost++ == 0)
            out->problem = cell_print (call, "%s", s.result.message);
          out->reordered += !s.result.status && s.number != number + i;
        }
    }
  return CELL_OK;
}

CELL_INIT (Caller, caller_init)
{
  self->echo = cell_use (self, Echo, "bench-echo");
  self->sequence = cell_use (self, Sequence, "bench-sequence");
  return CELL_OK;
}

CELL_SERVICE (Caller, "org.cellhost.bench.Caller", 1, .threading = CELL_SERIAL, .init = caller_init)

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Callers number their calls 1, 2, 3 …; this cell sees whether each comes once, and in order, wherever it runs meanwhile.
 */
#include <cell/cell.h>

#define N_CALLERS 4
#define WINDOW 4096                     /* so many numbers back it knows whether one came already; a power of two */

CELL_STRUCT (Seen, field (u64, last, "the highest number"), field (u64, executed), field (u64, repeated), field (u64, reordered),
             field (array (u64), window, "a bit for each number"))

typedef struct
{
  Seen seen[N_CALLERS];
  uint64_t window[N_CALLERS][WINDOW / 64];
} Sequence;

static bool
test_and_set (uint64_t *window, uint64_t number)
{
  uint64_t *word = &window[number % WINDOW / 64], bit = UINT64_C (1) << (number % 64);
  bool was = *word & bit;
  *word |= bit;
  return was;
}

CELL_METHOD (Sequence, next, in (u64, who), in (u64, number), out (u64, number), timeout (60000))
{
  Seen *seen = &self->seen[in->who % N_CALLERS];
  uint64_t *window = self->window[in->who % N_CALLERS];
  for (uint64_t n = seen->last + 1; n < in->number && n <= seen->last + WINDOW; n++)    /* those that were left out */
    window[n % WINDOW / 64] &= ~(UINT64_C (1) << (n % 64));
  if (in->number > seen->last)
    window[in->number % WINDOW / 64] &= ~(UINT64_C (1) << (in->number % 64));
  if (test_and_set (window, in->number))
    seen->repeated++;
  else
    {
      seen->executed++;
      seen->reordered += in->number != seen->last + 1;
    }
  if (in->number > seen->last)
    seen->last = in->number;
  out->number = in->number;
  return CELL_OK;
}

CELL_METHOD (Sequence, report, in (u64, who), out (u64, executed, "each number once"), out (u64, repeated), out (u64, reordered))
{
  const Seen *seen = &self->seen[in->who % N_CALLERS];
  out->executed = seen->executed;
  out->repeated = seen->repeated;
  out->reordered = seen->reordered;
  return CELL_OK;
}

CELL_SAVE (Sequence, sequence_save)
{
  for (int i = 0; i < N_CALLERS; i++)
    {
      Seen seen = self->seen[i];
      seen.window = self->window[i];
      seen.n_window = WINDOW / 64;
      CellStatus status = cell_save (to, Seen, &seen);
      if (status)
        return status;
    }
  return CELL_OK;
}

CELL_RESTORE (Sequence, sequence_restore)
{
  for (int i = 0; i < N_CALLERS; i++)
    {
      const Seen *seen = cell_restore (from, Seen);
      if (!seen || seen->n_window != WINDOW / 64)
        return CELL_ERROR_STATE;
      self->seen[i] = *seen;
      memcpy (self->window[i], seen->window, sizeof self->window[i]);
    }
  return CELL_OK;
}

CELL_SERVICE (Sequence, "org.cellhost.bench.Sequence", 1, .threading = CELL_SERIAL, .state_version = 1, .save = sequence_save,
              .restore = sequence_restore)

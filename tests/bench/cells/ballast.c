/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A cell with 64 KiB of state, which goes along wherever it goes.
 */
#include <cell/cell.h>

typedef struct
{
  uint64_t n, more[8191];
} Ballast;

CELL_METHOD (Ballast, next, in (u64, n), out (u64, n), out (u64, before, "how often it was called"), timeout (60000))
{
  out->n = in->n;
  out->before = self->n++;
  self->more[self->n % 8191] = in->n;
  return CELL_OK;
}

CELL_SAVE (Ballast, ballast_save)
{
  return cell_state_write (to, self, sizeof *self);
}

CELL_RESTORE (Ballast, ballast_restore)
{
  const void *state = cell_state_read (from, sizeof *self);
  if (!state)
    return CELL_ERROR_STATE;
  memcpy (self, state, sizeof *self);
  return CELL_OK;
}

CELL_SERVICE (Ballast, "org.cellhost.bench.Ballast", 1, .state_version = 1, .save = ballast_save, .restore = ballast_restore)

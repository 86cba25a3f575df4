/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * In C++, on a thread of its own.
 */
#include <cell/cell.h>

class Lamp
{
public:
  uint32_t level = 5;
};

CELL_SIGNAL (Lamp, changed, field (u32, level))
CELL_STRUCT (LampState, field (u32, level))

CELL_METHOD (Lamp, turn, in (i32, by), out (u32, level))
{
  if (in->by == 0)
    throw std::invalid_argument ("by must not be 0");
  self->level += (uint32_t) in->by;
  cell_emit (self, Lamp, changed, self->level);
  out->level = self->level;
  return CELL_OK;
}

CELL_SAVE (Lamp, lamp_save)
{
  LampState state = { self->level };
  return cell_save (to, LampState, &state);
}

CELL_RESTORE (Lamp, lamp_restore)
{
  const LampState *old = cell_restore (from, LampState);
  if (!old)
    return CELL_ERROR_STATE;
  self->level = old->level;
  return CELL_OK;
}

CELL_SERVICE (Lamp, "org.cellhost.test.Lamp", 1, .doc = "A light", .threading = CELL_LOOP, .state_version = 1, .save = lamp_save,
              .restore = lamp_restore)

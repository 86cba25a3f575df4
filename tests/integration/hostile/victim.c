/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A cell in the host that calls one that is out to harm it.
 */
#include <cell/cell.h>

#include "rogue-remote.h"

typedef struct
{
  CellClient *rogue;
} Victim;

CELL_METHOD (Victim, ask, doc ("Has the rogue do something; its answer's status."), in (str, how), out (i32, status),
             timeout (10000))
{
  cell_auto RogueAttack attack = rogue_attack (self->rogue, .how = in->how);
  out->status = attack.result.status;
  return CELL_OK;
}

CELL_METHOD (Victim, count, doc ("Has the rogue count."), out (i32, status), timeout (10000))
{
  cell_auto RogueCount count = rogue_count (self->rogue);
  out->status = count.result.status;
  return CELL_OK;
}

CELL_INIT (Victim, victim_init)
{
  self->rogue = cell_use (self, Rogue, "rogue");
  cell_set_timeout (self->rogue, 1000);
  return CELL_OK;
}

CELL_SERVICE (Victim, "org.cellhost.test.Victim", 1, .init = victim_init)

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A cell in the host that calls one that is out to harm it.
 */
#include <cell/cell.h>

#include "rogue-remote.h"

typedef struct
{
  CellClient *rogue;
  uint32_t patience;                    /* ms */
} Victim;

static void
use_rogue (Victim *self)
{
  if (self->rogue)
    cell_client_close (self->rogue);
  self->rogue = cell_use (self, Rogue, "rogue");
  cell_set_timeout (self->rogue, self->patience);
}

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

CELL_METHOD (Victim, pound, doc ("Calls the rogue again and again; how often it was answered as it should be."), in (u32, n),
             out (u32, good), timeout (120000))
{
  for (uint32_t i = 0; i < in->n; i++)
    {
      cell_auto RogueCount count = rogue_count (self->rogue);
      cell_auto RogueRows rows = rogue_rows (self->rogue, .n = i);
      out->good += count.result.status == CELL_OK && rows.result.status == CELL_OK && rows.n_rows == i % 8;
      /* Where the next answer should be there may never be one, and where there is no room there may never be any. */
      if (count.result.status || rows.result.status)
        use_rogue (self);
    }
  return CELL_OK;
}

CELL_METHOD (Victim, hurry, doc ("Waits for the rogue for so long."), in (u32, milliseconds))
{
  self->patience = in->milliseconds;
  use_rogue (self);
  return CELL_OK;
}

CELL_INIT (Victim, victim_init)
{
  self->patience = 1000;
  use_rogue (self);
  return CELL_OK;
}

CELL_SERVICE (Victim, "org.cellhost.test.Victim", 1, .init = victim_init)

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Calls the ledger in every way that a cell can, through the first header that was generated, and hears its signals.
 */
#include <cell/cell.h>
#include <ledger-remote.h>

typedef struct { CellClient *ledger; uint64_t heard, done; } Payer;

static void
on_transferred (const LedgerTransferred *args, uint64_t missed, void *data)
{
  Payer *self = data;
  self->heard += args->amount > 0 ? 1 + missed : 0;
}

static void
on_done (const LedgerTransfer *reply, void *data)
{
  Payer *self = data;
  self->done += reply->result.status == CELL_OK;
}

CELL_METHOD (Payer, pay, in (i64, amount), in (str, memo), out (i64, left))
{
  LedgerTransferCall started = ledger_transfer_start (self->ledger, .from = 1, .to = 2, .amount = in->amount, .memo = in->memo);
  cell_auto LedgerTransfer t = ledger_transfer (self->ledger, .from = 1, .to = 2, .amount = in->amount, .memo = in->memo);
  cell_auto LedgerTransfer s = ledger_transfer_finish (started);
  if (t.result.status || s.result.status)
    return cell_fail_status (call, t.result.status ? t.result.status : s.result.status, "%s", t.result.status ? t.result.message : s.result.message);
  ledger_transfer_async (self->ledger, on_done, self, .from = 1, .to = 2, .amount = in->amount, .memo = in->memo);
  out->left = t.balance;
  return CELL_OK;
}

CELL_PROPERTY (Payer, heard, u64, "Signals of the ledger's") { return self->heard; }
CELL_PROPERTY (Payer, done, u64, "Completions") { return self->done; }

CELL_INIT (Payer, payer_init)
{
  self->ledger = cell_use (self, Ledger, "ledger");
  return ledger_on_transferred (self->ledger, on_transferred, self);
}

CELL_SERVICE (Payer, "org.cellhost.test.Payer", 1, .init = payer_init)

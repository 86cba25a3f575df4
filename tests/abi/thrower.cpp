/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A cell in C++ that throws wherever it may.
 */
#include <cell/cell.h>

#include <string>

#include "ledger-remote.h"

struct Thrower
{
  std::string text = "constructed";
  CellClient *ledger = nullptr;
  bool *destroyed = nullptr;
  uint32_t n_called = 0;
  ~Thrower () { if (destroyed) *destroyed = true; }
};

CELL_STRUCT (Pair, field (str, key), field (optional (i64), value))
CELL_ERROR (Thrower, Declared, "Declared")
CELL_SIGNAL (Thrower, thrown, field (str, what))

CELL_METHOD (Thrower, raise, in (u8, what), out (str, text), out (array (Pair), pairs), fails (Declared))
{
  switch (in->what)
    {
    case 0: throw std::invalid_argument ("not acceptable");
    case 1: throw std::out_of_range ("too far");
    case 2: throw std::bad_alloc ();
    case 3: throw std::runtime_error ("broken");
    case 4: throw 5;
    case 5: return cell_fail (call, Declared, "%s", "said so");
    }
  Pair *pair = cell_array (call, out, pairs, 2);
  pair[0] = { .key = "a" };
  pair[1] = { .key = "b", .value = 2, .has_value = true };
  out->text = cell_print (call, "%s", self->text.c_str ());
  cell_emit (self, Thrower, thrown, .what = "nothing");
  return CELL_OK;
}

CELL_METHOD (Thrower, watch, in (u64, flag))
{
  self->destroyed = reinterpret_cast<bool *> (in->flag);
  return CELL_OK;
}

CELL_METHOD (Thrower, call_ledger, out (i64, balance))
{
  cell_auto LedgerTransfer t = ledger_transfer (self->ledger, { .from = 1, .to = 2, .amount = 3 });
  cell_auto LedgerReset r = ledger_reset (self->ledger);
  out->balance = t.balance;
  return t.result.status ? t.result.status : r.result.status;
}

static void
on_transfer (const LedgerTransfer *, void *data)
{
  if (static_cast<Thrower *> (data)->n_called++ % 2)
    throw 5;
  throw std::runtime_error ("from a completion");
}

static void
on_transferred (const LedgerTransferred *, uint64_t, void *data)
{
  static_cast<Thrower *> (data)->n_called++;
  throw std::runtime_error ("from the handler of a signal");
}

CELL_METHOD (Thrower, call_later, doc ("Both of its completions throw, and so does the handler of each transfer's signal."))
{
  CellStatus status = ledger_on_transferred (self->ledger, on_transferred, self);
  for (int i = 0; i < 2; i++)
    ledger_transfer_async (self->ledger, on_transfer, self, { .from = 1, .to = 2, .amount = 3 });
  return status;
}

CELL_PROPERTY (Thrower, n_called, u32) { return self->n_called; }

CELL_WRITABLE (Thrower, text, str) { return self->text.c_str (); }
CELL_SETTER (Thrower, text)
{
  if (!*value)
    throw std::invalid_argument ("empty");
  self->text = value;
  return CELL_OK;
}

CELL_INIT (Thrower, thrower_init)
{
  self->ledger = cell_use (self, Ledger, "ledger");
  return CELL_OK;
}

CELL_FINI (Thrower, thrower_fini)
{
  throw std::runtime_error ("cannot end");
}

CELL_SAVE (Thrower, thrower_save)
{
  throw std::runtime_error ("cannot save");
}

CELL_RESTORE (Thrower, thrower_restore)
{
  throw std::runtime_error ("cannot restore");
}

CELL_SERVICE (Thrower, "org.cellhost.test.Thrower", 1, .init = thrower_init, .fini = thrower_fini, .save = thrower_save,
              .restore = thrower_restore)

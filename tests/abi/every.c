/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "every.h"

#include "ledger-remote.h"

CELL_METHOD (Every, everything, doc ("Takes and gives all types."),
             in (bool, in_bool), in (u8, in_u8), in (i8, in_i8), in (u16, in_u16), in (i16, in_i16), in (u32, in_u32),
             in (i32, in_i32),
             in (u64, in_u64), in (i64, in_i64), in (f64, in_f64), in (str, in_str), in (bytes, in_bytes), in (blob, in_blob),
             in (Mixed, in_struct), in (array (u8), in_array), in (optional (bool), in_optional), in (array (blob), in_blobs),
             in (array (Mixed), in_structs, "documented"), in (u8, in_last),
             out (u8, out_u8), out (array (Mixed), out_structs), out (optional (str), out_optional),
             out (blob, out_blob, "documented"), out (bytes, out_bytes), out (bool, out_last), fails (Shared), fails (Undocumented))
{
  Mixed *mixed = cell_array (call, out, out_structs, in->n_in_structs);
  if (!mixed)
    return cell_fail_status (call, CELL_ERROR_NO_RESOURCES, "%u structs do not fit", in->n_in_structs);
  if (in->n_in_structs)
    memcpy (mixed, in->in_structs, in->n_in_structs * sizeof *mixed);
  out->out_u8 = in->in_u8;
  out->out_optional = in->in_str;
  out->has_out_optional = true;
  out->out_blob = in->in_blob;
  out->out_bytes = in->in_bytes;
  out->out_last = in->in_bool;
  return CELL_OK;
}

CELL_METHOD (Every, attributes, idempotent, oneway, job, access (admin), timeout (30000), max_reply (65536))
{
  cell_emit (self, Every, nothing);
  return CELL_OK;
}

/* Each wrapper of an extension once, so that a host without them can be seen to be survived. */
CELL_METHOD (Every, extensions, out (u64, deferred), out (bool, resumed), out (bool, blob), out (i64, number), out (i32, saved),
             out (bool, restored), out (i32, called), out (i64, balance), out (str, message))
{
  CellBlob *blob = cell_blob_new (self, NULL, 100);
  Point point = { .x = 1, .y = 2 };
  cell_auto LedgerBalance balance = ledger_balance (self->ledger, .account = 1);
  out->deferred = cell_defer (call);
  out->resumed = cell_resume (self, 1) != NULL;
  out->blob = blob != NULL || cell_blob_data (blob) != NULL || cell_blob_size (blob) != 0 || cell_blob_ref (blob) != NULL;
  cell_blob_unref (blob);
  out->number = cell_config_i64 (self, "number", 42);
  out->saved = cell_save (NULL, Point, &point);
  out->restored = cell_restore (NULL, Point) != NULL || cell_state_read (NULL, 1) != NULL || cell_state_left (NULL) != 0;
  out->called = balance.result.status;
  out->balance = balance.balance;
  out->message = balance.result.message;
  cell_log_debug (self, "%s", "looked at every extension");
  return CELL_OK;
}

CELL_METHOD (Every, later, in (str, text), out (str, text))
{
  CellCall *kept = cell_resume (self, cell_defer (call));
  if (!kept)
    return CELL_ERROR_UNSUPPORTED;
  if (cell_request (kept, Every, later)->text[0])
    cell_answer (kept, Every, later, .text = "later");
  else
    cell_answer_fail (kept, Shared, "no text in %d", 1);
  return CELL_DEFERRED;
}

CELL_PROPERTY (Every, fixed, str, "Never changes")
{
  return "fixed";
}

CELL_WRITABLE (Every, limit, u32, "May be changed")
{
  return self->limit;
}

CELL_SETTER (Every, limit)
{
  if (value > 100)
    return cell_fail (call, Shared, "%u is more than 100", value);
  self->limit = value;
  return CELL_OK;
}

CELL_INIT (Every, every_init)
{
  self->limit = 10;
  self->ledger = cell_use (self, Ledger, "ledger");
  return CELL_OK;
}

CELL_FINI (Every, every_fini)
{
  self->limit = 0;
}

CELL_SAVE (Every, every_save)
{
  return cell_state_write (to, &self->limit, sizeof self->limit);
}

CELL_RESTORE (Every, every_restore)
{
  return version == 7 && cell_state_left (from) == sizeof self->limit ? CELL_OK : CELL_ERROR_STATE;
}

CELL_SERVICE (Every, "org.cellhost.test.Every", 3, .doc = "Everything", .threading = CELL_CONCURRENT, .state_version = 7,
              .init = every_init, .fini = every_fini, .save = every_save, .restore = every_restore)

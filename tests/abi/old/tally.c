/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Uses what the first SDK had: every kind of row, an error, a signal, properties, configuration, kept calls, blobs, a log and a state.
 */
#include <cell/cell.h>

CELL_STRUCT (Entry, field (str, name), field (i64, amount), field (array (u32), marks))
CELL_STRUCT (TallyState, field (array (Entry), entries), field (u64, kept), field (f64, factor))

typedef struct
{
  Entry entries[8];
  uint32_t n;
  uint64_t kept;
  double factor;
} Tally;

CELL_ERROR (Tally, Full, "There is no room")
CELL_SIGNAL (Tally, added, field (str, name), field (i64, amount))

CELL_METHOD (Tally, add, doc ("Adds one."), in (str, name), in (i64, amount), in (array (u32), marks), in (optional (bool), loud),
             out (u32, n), fails (Full))
{
  if (self->n == 8)
    return cell_fail (call, Full, "there are %u already", self->n);
  Entry *entry = &self->entries[self->n];
  uint32_t *marks = calloc (in->n_marks + 1, sizeof *marks);
  for (uint32_t i = 0; i < in->n_marks; i++)
    marks[i] = in->marks[i];
  *entry = (Entry) { .name = strdup (in->name), .amount = in->amount, .marks = marks, .n_marks = in->n_marks };
  cell_emit (self, Tally, added, .name = in->name, .amount = in->amount);
  if (in->has_loud && in->loud)
    cell_log_info (self, "added %s", in->name);
  out->n = ++self->n;
  return CELL_OK;
}

CELL_METHOD (Tally, list, idempotent, out (array (Entry), entries), out (str, text))
{
  Entry *to = cell_array (call, out, entries, self->n);
  if (to)
    memcpy (to, self->entries, self->n * sizeof *to);
  out->text = cell_print (call, "%u entries", self->n);
  return CELL_OK;
}

CELL_METHOD (Tally, upper, in (blob, data), out (blob, data))
{
  size_t size = cell_blob_size (in->data);
  const char *from = cell_blob_data (in->data);
  char *to = cell_blob_data (out->data = cell_blob_new (self, call, size));
  for (size_t i = 0; to && i < size; i++)
    to[i] = (char) (from[i] >= 'a' && from[i] <= 'z' ? from[i] - 32 : from[i]);
  return CELL_OK;
}

CELL_METHOD (Tally, keep, timeout (60000), in (str, text), out (str, text))
{
  self->kept = cell_defer (call);
  return self->kept ? CELL_DEFERRED : CELL_ERROR_UNSUPPORTED;
}

CELL_METHOD (Tally, answer, out (bool, answered))
{
  CellCall *kept = self->kept ? cell_resume (self, self->kept) : NULL;
  if (kept)
    cell_answer (kept, Tally, keep, .text = cell_request (kept, Tally, keep)->text);
  out->answered = kept != NULL;
  self->kept = 0;
  return CELL_OK;
}

CELL_PROPERTY (Tally, n, u32, "How many there are") { return self->n; }
CELL_WRITABLE (Tally, factor, f64, "A number") { return self->factor; }
CELL_SETTER (Tally, factor)
{
  if (value < 0)
    return cell_fail_status (call, CELL_ERROR_INVALID, "%f is below zero", value);
  self->factor = value;
  return CELL_OK;
}

CELL_INIT (Tally, tally_init)
{
  self->factor = (double) cell_config_i64 (self, "factor", 1);
  return CELL_OK;
}

CELL_FINI (Tally, tally_fini)
{
  for (uint32_t i = 0; i < self->n; i++)
    {
      free ((void *) self->entries[i].name);
      free ((void *) self->entries[i].marks);
    }
}

CELL_SAVE (Tally, tally_save)
{
  TallyState state = { .entries = self->entries, .n_entries = self->n, .kept = self->kept, .factor = self->factor };
  return cell_save (to, TallyState, &state);
}

CELL_RESTORE (Tally, tally_restore)
{
  const TallyState *old = cell_restore (from, TallyState);
  if (!old || old->n_entries > 8)
    return CELL_ERROR_STATE;
  for (; self->n < old->n_entries; self->n++)
    {
      const Entry *entry = &old->entries[self->n];
      uint32_t *marks = calloc (entry->n_marks + 1, sizeof *marks);
      for (uint32_t i = 0; i < entry->n_marks; i++)
        marks[i] = entry->marks[i];
      self->entries[self->n] = (Entry) { .name = strdup (entry->name), .amount = entry->amount, .marks = marks, .n_marks = entry->n_marks };
    }
  self->kept = old->kept;
  self->factor = old->factor;
  return CELL_OK;
}

CELL_SERVICE (Tally, "org.cellhost.test.Tally", 1, .doc = "Of the first SDK", .state_version = 1, .init = tally_init, .fini = tally_fini,
              .save = tally_save, .restore = tally_restore)

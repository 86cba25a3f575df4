/* SPDX-License-Identifier: MIT
 *
 * A call that is answered later.  `wait` keeps its call and returns at once; a timer of the cell's own main loop answers it.  Calls
 * that are kept survive a move: their ids are saved with the time at which they ring, and the restored instance sets their timers
 * again.
 */
#include <glib.h>

#include <cell/cell.h>

typedef struct Alarm Alarm;

typedef struct
{
  Alarm *alarm;
  uint64_t id;                          /* of the kept call */
  int64_t at;                           /* microseconds, monotonic */
  GSource *timer;
} Waiting;

struct Alarm
{
  GPtrArray *waiting;                   /* of Waiting */
};

CELL_ERROR (Alarm, TooMany, "10,000 calls wait already")

static void
waiting_free (gpointer data)
{
  Waiting *w = data;
  g_source_destroy (w->timer);
  g_source_unref (w->timer);
  g_free (w);
}

static gboolean on_time (gpointer data);

static void
set_timer (Alarm *self, uint64_t id, int64_t at)
{
  g_autoptr (GMainContext) context = g_main_context_ref_thread_default ();      /* this cell's own */
  int64_t left = at - g_get_monotonic_time ();
  Waiting *w = g_new (Waiting, 1);
  *w = (Waiting) { .alarm = self, .id = id, .at = at,
                   .timer = g_timeout_source_new (left > 0 ? (guint) MIN ((left + 999) / 1000, G_MAXUINT) : 0) };
  g_source_set_callback (w->timer, on_time, w, NULL);
  g_source_attach (w->timer, context);
  g_ptr_array_add (self->waiting, w);
}

CELL_METHOD (Alarm, wait, doc ("Answers after a while."), timeout (86400000),
             in (u32, ms, "how long"), in (str, text, "given back"),
             out (str, text), out (i64, late, "microseconds"),
             fails (TooMany))
{
  if (self->waiting->len >= 10000)
    return cell_fail (call, TooMany, "%u calls wait already", self->waiting->len);
  uint64_t id = cell_defer (call);
  if (!id)
    return CELL_ERROR_UNSUPPORTED;
  set_timer (self, id, g_get_monotonic_time () + (int64_t) in->ms * 1000);
  return CELL_DEFERRED;
}

static gboolean
on_time (gpointer data)
{
  Waiting *w = data;
  Alarm *self = w->alarm;
  CellCall *call = cell_resume (self, w->id);
  if (call)                             /* or its caller is gone */
    cell_answer (call, Alarm, wait, .text = cell_request (call, Alarm, wait)->text, .late = g_get_monotonic_time () - w->at);
  g_ptr_array_remove_fast (self->waiting, w);
  return G_SOURCE_REMOVE;
}

CELL_PROPERTY (Alarm, waiting, u32, "How many calls wait")
{
  return self->waiting->len;
}

/* ---- life ------------------------------------------------------------------------------------------ */

CELL_STRUCT (Kept, field (u64, id), field (i64, at))
CELL_STRUCT (AlarmState, field (array (Kept), kept))

CELL_INIT (Alarm, alarm_init)
{
  self->waiting = g_ptr_array_new_with_free_func (waiting_free);
  return CELL_OK;
}

CELL_FINI (Alarm, alarm_fini)
{
  g_ptr_array_unref (self->waiting);
}

CELL_SAVE (Alarm, alarm_save)
{
  uint32_t n = self->waiting->len;
  g_autofree Kept *kept = g_new (Kept, n + 1);
  for (uint32_t i = 0; i < n; i++)
    {
      const Waiting *w = g_ptr_array_index (self->waiting, i);
      kept[i] = (Kept) { .id = w->id, .at = w->at };
    }
  AlarmState state = { .kept = kept, .n_kept = n };
  return cell_save (to, AlarmState, &state);
}

CELL_RESTORE (Alarm, alarm_restore)
{
  const AlarmState *state = cell_restore (from, AlarmState);
  if (!state)
    return CELL_ERROR_STATE;
  for (uint32_t i = 0; i < state->n_kept; i++)
    set_timer (self, state->kept[i].id, state->kept[i].at);
  return CELL_OK;
}

CELL_SERVICE (Alarm, "org.example.Alarm", 1, .doc = "Answers later", .threading = CELL_LOOP, .state_version = 1,
              .init = alarm_init, .fini = alarm_fini, .save = alarm_save, .restore = alarm_restore)

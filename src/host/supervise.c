/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define G_LOG_DOMAIN "cellhost-supervise"
#include "supervise.h"

#include "child.h"
#include "relocate.h"
#include "state-file.h"

#define DELAY_FIRST_MS 50u              /* of the second restart; it doubles */
#define DELAY_MOST_MS 10000u

/* Of a cell that is claimed. */
typedef struct Supervision
{
  GArray *times;                /* of restarts: monotonic µs, the oldest first; those within the window are looked at */
  GSource *due;                 /* when the next one is, or NULL */
} Supervision;

static const ProcessEnd no_end = { NULL, FALSE };

void
supervise_free (Supervision *supervision)
{
  if (supervision == NULL)
    return;
  g_array_unref (supervision->times);
  g_free (supervision);
}

void
supervise_cancel (HostCell *cell)
{
  Supervision *supervision = cell->supervision;

  if (supervision == NULL || supervision->due == NULL)
    return;
  g_source_destroy (supervision->due);
  g_clear_pointer (&supervision->due, g_source_unref);
}

void
supervise_forgive (HostCell *cell)
{
  supervise_cancel (cell);
  if (cell->supervision != NULL)
    g_array_set_size (cell->supervision->times, 0);
}

/* ---- when ----------------------------------------------------------------------------------------------------- */

guint
supervise_delay (guint n, double random)
{
  guint delay = DELAY_FIRST_MS;

  if (n < 2)
    return 0;
  for (guint i = 2; i < n && delay < DELAY_MOST_MS; i++)
    delay *= 2;
  return (guint) (MIN (delay, DELAY_MOST_MS) * (0.5 + random));
}

/* Those within the window that ends now. */
static guint
count_lately (GArray *times, gint64 now, guint window)
{
  guint old = 0;

  while (old < times->len && now - g_array_index (times, gint64, old) > (gint64) window * G_USEC_PER_SEC)
    old++;
  g_array_remove_range (times, 0, old);
  return times->len;
}

SuperviseVerdict
supervise_judge (const Manifest *manifest, gboolean normal, GArray *times, gint64 now)
{
  if (manifest->restart == RESTART_TEMPORARY || (manifest->restart == RESTART_TRANSIENT && normal))
    return SUPERVISE_LEAVE;
  if (count_lately (times, now, manifest->restart_window) >= manifest->restart_intensity)
    return SUPERVISE_FAIL;
  g_array_append_val (times, now);
  return SUPERVISE_RESTART;
}

/* One that makes no sense now is what none is. */
static Manifest *
read_manifest (HostCell *cell)
{
  g_autoptr(GError) error = NULL;
  Manifest *manifest = manifest_load (cell->key_file, &error);

  if (manifest != NULL)
    return manifest;
  g_warning ("cell %s: %s; it is restarted as if nothing were said", cell->name, error->message);
  return manifest_parse (cell->key_file, "", 0, NULL);
}

/* ---- what ----------------------------------------------------------------------------------------------------- */

static void try_again (HostCell *cell, const ProcessEnd *end);

static void
begin_again (HostCell *cell)
{
  g_autoptr(GError) error = NULL;
  ProcessEnd end = no_end;

  supervise_cancel (cell);
  if (relocate_begin_in_child (cell, &error))
    return;
  if (cell->child != NULL)
    {
      supervise_lost (cell, NULL);      /* it had begun */
      return;
    }
  end.why = error->message;
  try_again (cell, &end);
}

static void
due_job (gpointer data)
{
  HostCell *cell = data;

  if (host_cell_claim (cell, 0, NULL))
    {
      if (cell->location == CELL_LOCATION_RESTARTING && !cell->ended)
        begin_again (cell);
      host_cell_unclaim (cell);
    }
  host_cell_unref (cell);
}

/* ThreadSanitizer does not see that the main loop gets it from another thread. */
static pthread_mutex_t handed_over = PTHREAD_MUTEX_INITIALIZER;

static gboolean
due_cb (gpointer data)
{
  HostCell *cell = data;

  pthread_mutex_lock (&handed_over);
  pthread_mutex_unlock (&handed_over);
  host_submit_restart (cell->host, due_job, host_cell_ref (cell));
  return G_SOURCE_REMOVE;
}

static void
forget_due (gpointer data)
{
  pthread_mutex_lock (&handed_over);
  pthread_mutex_unlock (&handed_over);
  host_cell_unref (data);
}

static void
begin_later (HostCell *cell, guint milliseconds)
{
  Supervision *supervision = cell->supervision;

  supervise_cancel (cell);
  supervision->due = g_timeout_source_new (milliseconds);
  g_source_set_callback (supervision->due, due_cb, host_cell_ref (cell), forget_due);
  pthread_mutex_lock (&handed_over);
  pthread_mutex_unlock (&handed_over);
  g_source_attach (supervision->due, NULL);
}

/* It is part of what is known of the cell. */
static void
say (HostCell *cell, const char *format, ...)
{
  g_autofree char *text = NULL;
  va_list args;

  va_start (args, format);
  text = g_strdup_vprintf (format, args);
  va_end (args);
  g_warning ("cell %s: %s", cell->name, text);
  log_tail_add (cell->log, CELL_LOG_ERROR, text);
}

static void
give_up (HostCell *cell, const char *format, ...)
{
  g_autofree char *why = NULL;
  va_list args;

  va_start (args, format);
  why = g_strdup_vprintf (format, args);
  va_end (args);
  say (cell, "%s", why);
  relocate_give_up (cell, why);
}

/* It is nowhere. */
static void
try_again (HostCell *cell, const ProcessEnd *end)
{
  g_autoptr(Manifest) manifest = read_manifest (cell);
  GArray *times = cell->supervision->times;
  guint delay;

  switch (supervise_judge (manifest, end->normal, times, g_get_monotonic_time ()))
    {
    case SUPERVISE_LEAVE:
      give_up (cell, "%s, and it is %s", end->why, manifest->restart == RESTART_TEMPORARY ? "temporary" : "transient");
      return;
    case SUPERVISE_FAIL:
      give_up (cell, "it failed: %s, after %u restarts within %u s", end->why, times->len, manifest->restart_window);
      return;
    case SUPERVISE_RESTART:
      break;
    }
  delay = supervise_delay (times->len, g_random_double ());
  say (cell, "%s; it is restarted%s%s", end->why, delay == 0 ? "" : " in a moment",
       state_file_is_wanted (cell) ? ", with the state that was last kept for it: what came later is lost" : "");
  pthread_mutex_lock (&cell->lock);
  cell->restarts++;
  pthread_mutex_unlock (&cell->lock);
  if (delay == 0)
    begin_again (cell);
  else
    begin_later (cell, delay);
}

void
supervise_lost (HostCell *cell, const char *why)
{
  ProcessEnd end;

  if (cell->supervision == NULL)
    {
      cell->supervision = g_new0 (Supervision, 1);
      cell->supervision->times = g_array_new (FALSE, FALSE, sizeof (gint64));
    }
  child_wait_end (cell->child, &end);
  if (why != NULL)
    g_warning ("%s", why);
  relocate_lose (cell, end.why);
  try_again (cell, &end);
  g_free (end.why);
}

void
supervise_child_died (HostCell *cell, Child *child)
{
  if (!host_cell_claim (cell, 0, NULL))
    return;                             /* this thread is ending it */
  if (cell->child == child)
    supervise_lost (cell, NULL);
  host_cell_unclaim (cell);
}

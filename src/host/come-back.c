/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define G_LOG_DOMAIN "cellhost"
#include "come-back.h"

#include "crash-log.h"
#include "load.h"
#include "relocate.h"
#include "roster.h"
#include "suspects.h"

#define AGAIN_MINUTES 10        /* a second crash within so many is no accident, and the first suspect not all of it */

/* ---- what happened ------------------------------------------------------------------------------------------- */

static gboolean
was_lately (gint64 before, gint64 now)
{
  return before > 0 && now >= before && now - before < AGAIN_MINUTES * 60;
}

/* Whether all cells come back in sandboxes. */
static gboolean
judge (Host *host, const CrashReport *report)
{
  g_autofree char *text = crash_report_text (report);
  gint64 now = g_get_real_time () / G_USEC_PER_SEC;
  gboolean again = was_lately (roster_get_crash (host->roster), now),
           known = report->n_cells > 0 && report->cells[0].sha256[0] != 0;

  roster_set_crash (host->roster, now);
  if (known)
    suspects_add (host, report);
  if (known && !again)
    g_warning ("the host crashed %s; cell %s is suspected: it runs in a sandbox until there is a new build of it, or 'cellctl "
               "absorb %s' trusts it", text, report->cells[0].name, report->cells[0].name);
  else if (again)
    g_warning ("the host crashed %s, for the second time within %d minutes; every cell comes back in a sandbox", text,
               AGAIN_MINUTES);
  else
    g_warning ("the host crashed %s, and it is not known in which cell; every cell comes back in a sandbox", text);
  return again || !known;
}

static gboolean
look_at_the_end (Host *host, const char *path, int last_signal)
{
  g_autoptr(GError) error = NULL;
  CrashReport report = { .number = last_signal };

  if (crash_log_read (path, &report, &error))
    return judge (host, &report);
  if (error != NULL)
    g_warning ("%s: %s; nobody is suspected for it", path, error->message);
  /* One that could not even write it down. */
  return crash_signal_is_crash (last_signal) && judge (host, &report);
}

/* ---- what comes back ----------------------------------------------------------------------------------------- */

/* all_ejected: for that reason it is, whatever it was. */
static HostCell *
load (Host *host, const char *file, const char *name, GHashTable *config, gboolean ejected, gboolean all_ejected, GError **error)
{
  HostCell *cell = (ejected || all_ejected ? host_load_ejected : host_load) (host, file, name, config, error);

  if (cell != NULL && all_ejected && !ejected && cell->suspicion == NULL)
    host_cell_set_suspicion (cell, g_strdup ("after the host's last crash every cell came back in a sandbox"));
  return cell;
}

/* One that is not loaded because there is no sandbox for it stays written down: it may be trusted later. */
static void
bring_back (Host *host, const RosterEntry *entry, gboolean all_ejected)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(HostCell) cell = load (host, entry->file, entry->name, entry->config, entry->ejected, all_ejected, &error);

  if (cell != NULL)
    return;
  g_warning ("cell %s does not come back: %s", entry->name, error->message);
  if (cell_status_from_error (error) != CELL_ERROR_UNSUPPORTED)
    roster_remove (host->roster, entry->name);
}

/* TRUE: it is there, or there is a reason why it cannot be that is none to end for. */
static gboolean
load_asked_for (Host *host, const char *file, gboolean all_ejected, GError **error)
{
  g_autoptr(Manifest) manifest = manifest_find (file, error);
  g_autoptr(HostCell) there = manifest != NULL ? host_find (host, manifest->name, NULL) : NULL, cell = NULL;
  g_autoptr(GError) why = NULL;

  if (manifest == NULL)
    return FALSE;
  if (there != NULL)
    return TRUE;
  cell = load (host, file, NULL, NULL, FALSE, all_ejected, &why);
  if (cell != NULL)
    return TRUE;
  if (cell_status_from_error (why) != CELL_ERROR_UNSUPPORTED)
    {
      g_propagate_error (error, g_steal_pointer (&why));
      return FALSE;
    }
  g_warning ("%s", why->message);
  return TRUE;
}

gboolean
come_back (Host *host, char **cells, int last_signal, GError **error)
{
  g_autofree char *path = g_strconcat (host->config.socket_path, ".crash", NULL);
  g_autoptr(GError) wrong = NULL, no_log = NULL;
  g_autoptr(GPtrArray) entries = NULL;
  gboolean all_ejected;

  host->roster = roster_open (host->config.state_dir, host->config.socket_path, &wrong);
  if (wrong != NULL)
    g_warning ("%s; nothing comes back", wrong->message);
  all_ejected = look_at_the_end (host, path, last_signal);
  if (!crash_log_open (path, &no_log))
    g_warning ("a crash will not be written down: %s", no_log->message);
  entries = roster_list (host->roster);
  for (guint i = 0; i < entries->len; i++)
    bring_back (host, g_ptr_array_index (entries, i), all_ejected);
  for (guint i = 0; cells != NULL && cells[i] != NULL; i++)
    if (!load_asked_for (host, cells[i], all_ejected, error))
      return FALSE;
  return TRUE;
}

/* ---- trust ------------------------------------------------------------------------------------------------------ */

static gboolean
load_trusted (Host *host, const char *name, GError **error)
{
  g_autoptr(GPtrArray) entries = host->roster != NULL ? roster_list (host->roster) : NULL;

  for (guint i = 0; entries != NULL && i < entries->len; i++)
    {
      const RosterEntry *entry = g_ptr_array_index (entries, i);
      g_autoptr(HostCell) cell = NULL;

      if (!g_str_equal (entry->name, name))
        continue;
      cell = host_load (host, entry->file, name, entry->config, error);
      return cell != NULL;
    }
  return cell_set_error (error, CELL_ERROR_NOT_FOUND, "cell %s is not suspected any more; 'cellctl load' loads it", name);
}

gboolean
come_back_absorb (Host *host, const char *name, GError **error)
{
  g_autoptr(GError) none = NULL;
  g_autoptr(HostCell) cell = host_find (host, name, &none);

  if (cell != NULL)
    {
      if (!relocate_absorb (cell, error))
        return FALSE;
      suspects_clear (host, NULL, cell->module->sha256);
      return TRUE;
    }
  if (suspects_clear (host, name, NULL))
    return load_trusted (host, name, error);
  g_propagate_error (error, g_steal_pointer (&none));
  return FALSE;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define G_LOG_DOMAIN "cellhost-offence"
#include "offence.h"

#include "child.h"

#define LOG_MOST 20u   /* lines in … */
#define LOG_SECONDS 10 /* … so many seconds: who has a channel made for each lie would fill the disk */

typedef struct
{
  Offence public;
  HostCell *cell;         /* a reference */
  Connection *connection; /* of a client, likewise */
  uint64_t link;
  char *by;
} Report;

/* How many there were of which nothing was said; -1: nothing is to be said of this one, either. */
static gint64
may_log (Host *host)
{
  gint64 now = g_get_monotonic_time (), unsaid = -1;

  pthread_mutex_lock (&host->lock);
  if (now - host->offences_since > LOG_SECONDS * G_USEC_PER_SEC)
    {
      host->offences_since = now;
      host->offences_said = 0;
    }
  if (host->offences_said < LOG_MOST)
    {
      host->offences_said++;
      unsaid = (gint64) host->offences_unsaid;
      host->offences_unsaid = 0;
    }
  else
    host->offences_unsaid++;
  pthread_mutex_unlock (&host->lock);
  return unsaid;
}

void
offence_warn (Host *host, const char *format, ...)
{
  gint64 unsaid = may_log (host);
  va_list args;

  if (unsaid > 0)
    g_warning ("%" G_GINT64_FORMAT " more rules were broken since", unsaid);
  if (unsaid < 0)
    return;
  va_start (args, format);
  g_logv (G_LOG_DOMAIN, G_LOG_LEVEL_WARNING, format, args);
  va_end (args);
}

static void
say (Host *host, const Offence *offence)
{
  g_autofree char *who = offence->by != NULL ? g_strdup_printf ("the process %d of cell %s", (int) offence->pid, offence->by)
                                             : g_strdup_printf ("client %d", (int) offence->pid);

  offence_warn (host, "cell %s, generation %" G_GUINT64_FORMAT ": %s broke the rule '%s' at byte %u of what it writes; its channel ends",
                offence->cell, offence->generation, who, offence->rule, offence->at);
}

static void
report_run (gpointer data)
{
  Report *report = data;
  Host *host = report->cell->host;

  say (host, &report->public);
  if (report->connection != NULL)
    connection_end_link (report->connection, report->link);
  if (host->config.on_offence != NULL)
    host->config.on_offence (&report->public, host->config.on_offence_data);
  g_free (report->by);
  if (report->connection != NULL)
    connection_unref (report->connection);
  host_cell_unref (report->cell);
  g_free (report);
}

void
offence_report (Channel *channel)
{
  Report *report = g_new0 (Report, 1);
  HostCell *cell = host_cell_ref (channel->endpoint->data), *by = cell;
  HostCellInfo info;

  host_cell_describe (cell, &info);
  report->cell = cell;
  report->link = channel->serial;
  report->public = (Offence){
    .cell = cell->name, .generation = info.generation, .pid = info.pid, .rule = channel->broken_rule, .at = channel->broken_at
  };
  if (channel->untrusted)
    {
      report->connection = connection_ref (channel->freed_data);
      report->public.pid = connection_peer_pid (report->connection);
      by = report->connection->cell;
    }
  report->by = by != NULL ? g_strdup (by->name) : NULL;
  report->public.by = report->by;
  host_submit (cell->host, report_run, report);
}

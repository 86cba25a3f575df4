/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define G_LOG_DOMAIN "cellhost-offence"
#include "offence.h"

#include <string.h>
#include <unistd.h>

#include "restrain.h"

#define LOG_MOST 20u   /* lines in … */
#define LOG_SECONDS 10 /* … so many seconds: who has a channel made for each lie would fill the disk */

typedef struct
{
  Offence public;         /* its strings are the report's */
  HostCell *cell;         /* a reference */
  Connection *connection; /* whose link ends, likewise; NULL: it ended where it was seen */
  uint64_t link;
  gboolean former;        /* it was the process before the one that serves now, which has done nothing */
  Link *local;            /* of a cell in this process, likewise: it is to be told that its channel has ended */
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

/* For people; to be freed. */
static char *
name_of (const char *cell, pid_t pid)
{
  if (cell == NULL)
    return g_strdup_printf ("client %d", (int) pid);
  if (pid == 0)
    return g_strdup_printf ("a former process of cell %s", cell);
  return pid == getpid () ? g_strdup_printf ("cell %s", cell) : g_strdup_printf ("the process %d of cell %s", (int) pid, cell);
}

static void
say (Host *host, const Offence *offence)
{
  g_autofree char *who = name_of (offence->by, offence->pid);
  g_autofree char *witness = offence->claimed ? name_of (offence->witness, offence->witness_pid) : NULL;

  offence_warn (host,
                "cell %s, generation %" G_GUINT64_FORMAT ": %s%s%s broke the rule '%s' at byte %u of what it writes; its channel "
                                                         "ends",
                offence->cell, offence->generation, witness != NULL ? witness : "", witness != NULL ? " says that " : "", who,
                offence->rule, offence->at);
}

static void
report_free (Report *report)
{
  g_free ((char *) report->public.by);
  g_free ((char *) report->public.rule);
  g_free ((char *) report->public.witness);
  if (report->connection != NULL)
    connection_unref (report->connection);
  link_unref (report->local);
  host_cell_unref (report->cell);
  g_free (report);
}

/* The child that the host itself has caught; a reference.  NULL: it was a program, or has been replaced. */
static Child *
offender (Report *report)
{
  HostCell *cell = report->cell;
  Child *child = NULL;

  if (report->connection != NULL)
    return connection_get_child (report->connection);
  if (report->former)
    return NULL;
  pthread_rwlock_rdlock (&cell->place);
  if (cell->location == CELL_LOCATION_CHILD && cell->generation == report->public.generation)
    child = child_ref (cell->child);
  pthread_rwlock_unlock (&cell->place);
  return child;
}

static void
report_run (gpointer data)
{
  Report *report = data;
  Host *host = report->cell->host;
  Child *child = report->public.claimed ? NULL : offender (report);

  say (host, &report->public);
  if (child != NULL)
    restrain (host, child, "it has broken a rule");
  child_unref (child);
  if (report->connection != NULL)
    connection_end_link (report->connection, report->link);
  else if (report->local != NULL)
    link_refuse (report->local);
  if (host->config.on_offence != NULL)
    host->config.on_offence (&report->public, host->config.on_offence_data);
  report_free (report);
}

static Report *
report_new (HostCell *cell, uint64_t link, const char *rule, uint32_t at)
{
  Report *report = g_new0 (Report, 1);
  HostCellInfo info;

  host_cell_describe (cell, &info);
  report->cell = host_cell_ref (cell);
  report->link = link;
  report->public = (Offence){ .cell = cell->name, .generation = info.generation, .pid = info.pid, .rule = g_strdup (rule),
                              .at = at };
  return report;
}

char *
offence_name (Connection *connection)
{
  return name_of (connection->cell != NULL ? connection->cell->name : NULL, connection_peer_pid (connection));
}

/* The offender is whoever is at the other end of a connection. */
static void
blame_connection (Report *report, Connection *connection)
{
  report->connection = connection_ref (connection);
  report->public.pid = connection_peer_pid (connection);
  report->public.by = connection->cell != NULL ? g_strdup (connection->cell->name) : NULL;
}

void
offence_report (Channel *channel)
{
  HostCell *cell = channel->endpoint->data;
  Report *report = report_new (cell, channel->serial, channel->broken_rule, channel->broken_at);

  if (channel->untrusted)
    blame_connection (report, channel->freed_data);
  else
    {
      /* A caller drains what the one before has written also before it has heard of a move. */
      report->former = channel->adopting || channel->callee_generation != report->public.generation;
      report->public.by = g_strdup (cell->name);
    }
  if (report->former)
    report->public.pid = 0;             /* who that was is not known any more */
  host_submit (cell->host, cell, report_run, report);
}

/* ---- what others say ---------------------------------------------------------------------------------------------- */

/* A reference to the link of a caller whom this child serves. */
static Link *
link_of_child (HostCell *cell, Child *child, uint64_t serial)
{
  Link *found = NULL;

  pthread_mutex_lock (&cell->lock);
  for (guint i = 0; cell->child == child && i < cell->links->len && found == NULL; i++)
    if (((Link *) g_ptr_array_index (cell->links, i))->serial == serial)
      found = link_ref (g_ptr_array_index (cell->links, i));
  pthread_mutex_unlock (&cell->lock);
  return found;
}

/* The process that serves the link's cell says it of the caller. */
static Report *
accuse_caller (Link *link, const WireOffence *claim)
{
  Report *report = report_new (link->cell, link->serial, claim->rule, claim->at);

  report->public.witness_pid = report->public.pid;
  if (link->connection != NULL)
    {
      blame_connection (report, link->connection);
      return report;
    }
  report->local = link_ref (link);
  report->public.pid = getpid ();
  report->public.by = g_strdup (link->caller != NULL ? link->caller->name : link->cell->name);
  return report;
}

/* The caller says it of whoever serves the link's cell.  NULL: that is the host by now, which knows what it has written. */
static Report *
accuse_callee (Link *link, const WireOffence *claim)
{
  Report *report = report_new (link->cell, link->serial, claim->rule, claim->at);

  if (report->public.pid == 0)
    {
      report_free (report);
      return NULL;
    }
  report->connection = connection_ref (link->connection);
  report->public.by = g_strdup (link->cell->name);
  report->public.witness_pid = connection_peer_pid (link->connection);
  return report;
}

const char *
offence_claim (Connection *connection, const WireOffence *claim)
{
  g_autoptr (HostCell) cell = connection->cell != NULL ? host_cell_ref (connection->cell) : NULL;
  Link *link = connection_get_link (connection, claim->channel);
  gboolean callee = link == NULL;
  Report *report = NULL;

  if (claim->rule[0] == 0 || strspn (claim->rule, "abcdefghijklmnopqrstuvwxyz-") != strlen (claim->rule)
      || claim->at >= HALF_PAGE + HALF_CAPACITY_MAX)
    {
      link_unref (link);
      return "it says that a rule was broken that there is not";
    }
  if (callee && cell != NULL)
    {
      Child *child = connection_get_child (connection);

      link = link_of_child (cell, child, claim->channel);
      child_unref (child);
    }
  /* Where there is no such channel it has just been closed. */
  if (link != NULL && !atomic_exchange (&link->accused, TRUE))
    report = callee ? accuse_caller (link, claim) : accuse_callee (link, claim);
  if (report != NULL)
    {
      report->public.claimed = TRUE;
      report->public.witness = cell != NULL ? g_strdup (cell->name) : NULL;
      host_submit (connection->host, report->cell, report_run, report);
    }
  link_unref (link);
  return NULL;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "log.h"

#include <string.h>
#include <unistd.h>

#include "config.h"

#include <glib/gi18n.h>

/* Each with the gravest priority (of syslog, "0" to "7") that it does not stand for. */
static const struct
{
  const char *word;
  char beyond;
} grades[] = { { "error", '4' }, { "warning", '5' }, { "info", '7' }, { "debug", '8' } };

static guint most = 2;          /* the last grade that is written */

static const char *
find_field (const GLogField *fields, gsize n_fields, const char *key)
{
  for (gsize i = 0; i < n_fields; i++)
    if (fields[i].length < 0 && strcmp (fields[i].key, key) == 0)
      return fields[i].value;
  return NULL;
}

static guint
grade_of (const GLogField *fields, gsize n_fields)
{
  const char *priority = find_field (fields, n_fields, "PRIORITY");
  guint i = 0;

  while (priority != NULL && i + 1 < G_N_ELEMENTS (grades) && *priority >= grades[i].beyond)
    i++;
  return i;
}

/* "13:37:02.123 warning ledger: the overdraft is no number": what is not a cell's is the host's own. */
static void
write_line (guint grade, const GLogField *fields, gsize n_fields)
{
  const char *message = find_field (fields, n_fields, "MESSAGE"), *cell = find_field (fields, n_fields, "CELLHOST_CELL");
  g_autoptr(GDateTime) now = g_date_time_new_now_local ();
  g_autofree char *line = NULL, *valid = g_utf8_make_valid (message != NULL ? message : "", -1);

  for (char *c = valid; *c != 0; c++)
    if (g_ascii_iscntrl (*c))
      *c = ' ';                 /* one line, and nothing that a terminal would obey */
  line = g_strdup_printf ("%02d:%02d:%02d.%03d %s %s: %s\n", g_date_time_get_hour (now), g_date_time_get_minute (now),
                          g_date_time_get_second (now), g_date_time_get_microsecond (now) / 1000, grades[grade].word,
                          cell != NULL ? cell : "host", valid);
  if (write (STDERR_FILENO, line, strlen (line)) < 0)   /* all at once: there are many threads */
    return;                     /* there is nobody to tell */
}

static GLogWriterOutput
writer (GLogLevelFlags level, const GLogField *fields, gsize n_fields, gpointer data)
{
  guint grade = grade_of (fields, n_fields);

  if (grade > most)
    return G_LOG_WRITER_HANDLED;
  if (g_log_writer_is_journald (STDERR_FILENO) && g_log_writer_journald (level, fields, n_fields, data) == G_LOG_WRITER_HANDLED)
    return G_LOG_WRITER_HANDLED;
  write_line (grade, fields, n_fields);
  return G_LOG_WRITER_HANDLED;
}

gboolean
log_open (const char *level, GError **error)
{
  guint i = 0;

  while (i < G_N_ELEMENTS (grades) && g_strcmp0 (level, grades[i].word) != 0)
    i++;
  if (i == G_N_ELEMENTS (grades))
    return cell_set_error (error, CELL_ERROR_INVALID, _("--log-level '%s': it is one of error, warning, info, debug"), level);
  most = i;
  g_log_set_writer_func (writer, NULL, NULL);
  return TRUE;
}

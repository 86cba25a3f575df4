/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "log-tail.h"

#include <pthread.h>
#include <string.h>

struct LogTail
{
  _Atomic guint refs;
  pthread_mutex_t lock;
  GQueue lines;                 /* of LogLine */
  gsize bytes;
};

static void
line_free (gpointer data)
{
  LogLine *line = data;

  g_free (line->text);
  g_free (line);
}

LogTail *
log_tail_new (void)
{
  LogTail *tail = g_new0 (LogTail, 1);

  tail->refs = 1;
  pthread_mutex_init (&tail->lock, NULL);
  return tail;
}

LogTail *
log_tail_ref (LogTail *tail)
{
  tail->refs++;
  return tail;
}

void
log_tail_unref (LogTail *tail)
{
  if (tail == NULL || --tail->refs != 0)
    return;
  g_queue_clear_full (&tail->lines, line_free);
  pthread_mutex_destroy (&tail->lock);
  g_free (tail);
}

static LogLine *
line_new (gint64 time, int level, const char *text)
{
  LogLine *line = g_new (LogLine, 1);

  *line = (LogLine) { time, level, g_strdup (text) };
  return line;
}

void
log_tail_add (LogTail *tail, int level, const char *text)
{
  g_autofree char *valid = g_utf8_make_valid (text, (gssize) strnlen (text, LOG_TAIL_BYTES / 8));
  LogLine *line = line_new (g_get_real_time (), level, valid);

  pthread_mutex_lock (&tail->lock);
  g_queue_push_tail (&tail->lines, line);
  tail->bytes += strlen (valid);
  while (g_queue_get_length (&tail->lines) > LOG_TAIL_LINES || tail->bytes > LOG_TAIL_BYTES)
    {
      LogLine *oldest = g_queue_pop_head (&tail->lines);

      tail->bytes -= strlen (oldest->text);
      line_free (oldest);
    }
  pthread_mutex_unlock (&tail->lock);
}

GPtrArray *
log_tail_list (LogTail *tail)
{
  GPtrArray *list = g_ptr_array_new_with_free_func (line_free);

  pthread_mutex_lock (&tail->lock);
  for (GList *link = tail->lines.head; link != NULL; link = link->next)
    {
      const LogLine *line = link->data;

      g_ptr_array_add (list, line_new (line->time, line->level, line->text));
    }
  pthread_mutex_unlock (&tail->lock);
  return list;
}

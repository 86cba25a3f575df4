/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include "child-log.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <pthread.h>
#include <unistd.h>

#include <cell/abi.h>

#define LINE_MAX_BYTES 2048u    /* a longer one becomes several */
#define PAUSE_MS 100u
#define PAUSE_BYTES 16384u      /* in so long: who says more waits */

typedef struct
{
  char *cell;
  LogTail *tail;
  int fd;
  char line[LINE_MAX_BYTES + 1];
  gsize length;
} ChildLog;

/* ThreadSanitizer does not see that the main loop gets it from another thread. */
static pthread_mutex_t handed_over = PTHREAD_MUTEX_INITIALIZER;

/* An error of a cell's is none of the host's: it is written down as one, and is no reason for anybody to abort. */
void
cell_log_line (const char *cell, int level, const char *text)
{
  static const GLogLevelFlags levels[] = { G_LOG_LEVEL_DEBUG, G_LOG_LEVEL_INFO, G_LOG_LEVEL_WARNING, G_LOG_LEVEL_WARNING };
  static const char *const priorities[] = { "7", "6", "4", "3" };

  level = CLAMP (level, CELL_LOG_DEBUG, CELL_LOG_ERROR);
  const GLogField fields[] = {
    { "PRIORITY", priorities[level], -1 }, { "CELLHOST_CELL", cell, -1 }, { "MESSAGE", text, -1 }, { "GLIB_DOMAIN", "cell", -1 },
  };
  g_log_structured_array (levels[level], fields, G_N_ELEMENTS (fields));
}

/* "<3>" to "<7>"; what is graver is not for a cell to say. */
static int
level_of (const char **text)
{
  const char *t = *text;

  if (t[0] != '<' || t[1] < '0' || t[1] > '7' || t[2] != '>')
    return CELL_LOG_WARNING;
  *text = t + 3;
  if (t[1] <= '3')
    return CELL_LOG_ERROR;
  return t[1] == '4' ? CELL_LOG_WARNING : t[1] == '7' ? CELL_LOG_DEBUG : CELL_LOG_INFO;
}

static void
end_line (ChildLog *log)
{
  const char *text = log->line;
  g_autofree char *valid = NULL;
  int level;

  log->line[log->length] = 0;
  level = level_of (&text);
  for (char *c = log->line; c < log->line + log->length; c++)
    if (g_ascii_iscntrl (*c))
      *c = ' ';                 /* one line, and nothing that a terminal would obey */
  valid = g_utf8_make_valid (text, -1);
  if (*valid != 0)
    cell_log_line (log->cell, level, valid);
  if (*valid != 0 && log->tail != NULL)
    log_tail_add (log->tail, level, valid);
  log->length = 0;
}

static void
child_log_free (ChildLog *log)
{
  end_line (log);
  close (log->fd);
  log_tail_unref (log->tail);
  g_free (log->cell);
  g_free (log);
}

static gboolean readable_cb (int fd, GIOCondition condition, gpointer data);

static gboolean
go_on_cb (gpointer data)
{
  ChildLog *log = data;

  g_unix_fd_add (log->fd, G_IO_IN | G_IO_HUP, readable_cb, log);
  return G_SOURCE_REMOVE;
}

static gboolean
readable_cb (int fd, GIOCondition condition, gpointer data)
{
  ChildLog *log = data;
  char piece[PAUSE_BYTES];
  ssize_t n;

  (void) condition;
  pthread_mutex_lock (&handed_over);
  pthread_mutex_unlock (&handed_over);
  n = read (fd, piece, sizeof piece);
  if (n < 0 && (errno == EAGAIN || errno == EINTR))
    return G_SOURCE_CONTINUE;
  if (n <= 0)
    {
      child_log_free (log);
      return G_SOURCE_REMOVE;
    }
  for (ssize_t i = 0; i < n; i++)
    if (piece[i] == '\n' || log->length == LINE_MAX_BYTES)
      {
        end_line (log);
        if (piece[i] != '\n')
          log->line[log->length++] = piece[i];
      }
    else
      log->line[log->length++] = piece[i];
  /* Its pipe is full when it says more than that, and then it waits, and nobody else does. */
  g_timeout_add (PAUSE_MS, go_on_cb, log);
  return G_SOURCE_REMOVE;
}

int
child_log_open (const char *cell, LogTail *tail)
{
  ChildLog *log;
  int ends[2];

  if (pipe2 (ends, O_CLOEXEC) < 0)
    return -1;
  fcntl (ends[0], F_SETFL, O_NONBLOCK);
  log = g_new0 (ChildLog, 1);
  log->cell = g_strdup (cell);
  log->tail = tail != NULL ? log_tail_ref (tail) : NULL;
  log->fd = ends[0];
  pthread_mutex_lock (&handed_over);
  pthread_mutex_unlock (&handed_over);
  g_unix_fd_add (ends[0], G_IO_IN | G_IO_HUP, readable_cb, log);
  return ends[1];
}

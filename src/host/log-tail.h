/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What a cell has said last, wherever it was: its log, what its process has printed, and how that ended.  So many lines and bytes,
 * and then the oldest go.  From any thread.
 */
#pragma once
#include <glib.h>

#define LOG_TAIL_LINES 500u
#define LOG_TAIL_BYTES 65536u           /* of text */

typedef struct LogTail LogTail;

typedef struct
{
  gint64 time;                  /* real, µs */
  int level;                    /* CELL_LOG_… */
  char *text;                   /* UTF-8 */
} LogLine;

LogTail *log_tail_new (void);
LogTail *log_tail_ref (LogTail *tail);
void log_tail_unref (LogTail *tail);

void log_tail_add (LogTail *tail, int level, const char *text);
/* Copies, the oldest first: LogLine. */
GPtrArray *log_tail_list (LogTail *tail);

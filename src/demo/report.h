/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the demo has seen, as text.
 */
#pragma once
#include <glib.h>

/* A line that begins with what it is about; the rest of all lines is aligned. */
void say (const char *about, const char *format, ...) G_GNUC_PRINTF (2, 3);
/* A name or sentence of somebody else's: UTF-8, and nothing that a terminal would obey. */
char *plain_text (const char *text);

typedef struct
{
  const char *cell, *location;  /* the location untranslated */
  const char *from;             /* the cell that called; NULL: this program */
  guint64 n_calls;
  GArray *ns;                   /* guint64: how long calls took, as their caller saw it; all of them, or a sample */
} Latencies;

/* n_calls: how many this one is counted as; 0: the caller counts them. */
void latencies_add (Latencies *latencies, guint64 ns, guint n_calls);
/* One line: calls and percentiles. */
void latencies_print (Latencies *latencies);
/* One line on a terminal that is written over; nothing elsewhere. */
void progress (guint done, guint all, const char *what);
void progress_end (void);

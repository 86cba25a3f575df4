/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the demo has seen, as text.
 */
#pragma once
#include <glib.h>

typedef struct
{
  const char *cell, *location;
  GArray *ns;                   /* guint64: how long each call took, as its caller saw it */
} Latencies;

void latencies_add (Latencies *latencies, guint64 ns);
/* One line: calls and percentiles. */
void latencies_print (Latencies *latencies);
/* One line on a terminal that is written over; nothing elsewhere. */
void progress (guint done, guint all, const char *what);
void progress_end (void);

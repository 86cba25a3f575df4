/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What an ejected cell's process counts, where the host can read it: memory that the host makes, of a size that nobody can change,
 * and that the process writes.  The host shows what is there; it may be anything.
 */
#pragma once
#include <glib.h>

#include "membrane/channel.h"

#include "cell-error.h"

typedef struct
{
  MethodStats *stats;           /* one for each callable; NULL: there is none */
  guint n;
  int fd;                       /* of who made it; -1: none */
} StatsPage;

#define STATS_PAGE_INIT { .fd = -1 }

/* For reading. */
gboolean stats_page_new (StatsPage *page, guint n_callables, GError **error);
/* For writing, somebody else's.  The descriptor is not taken. */
gboolean stats_page_map (StatsPage *page, int fd, guint n_callables, GError **error);
void stats_page_clear (StatsPage *page);

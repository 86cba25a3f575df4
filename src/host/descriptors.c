/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "descriptors.h"

#include <sys/resource.h>

#define RESERVE 256u            /* for a move, and for all that it may take */

static gboolean
is_in_last (int newest, guint part)
{
  struct rlimit limit;
  rlim_t reserve;

  if (getrlimit (RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
    return FALSE;
  reserve = MIN (RESERVE, limit.rlim_cur / 4) / part;
  return newest >= 0 && (rlim_t) newest >= limit.rlim_cur - reserve;
}

gboolean
descriptors_run_short (int newest)
{
  return is_in_last (newest, 1);
}

gboolean
descriptors_run_out (int newest)
{
  return is_in_last (newest, 4);
}

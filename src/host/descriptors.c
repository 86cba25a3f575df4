/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "descriptors.h"

#include <sys/resource.h>

#define RESERVE 256u            /* for a move, and for all that it may take */

gboolean
descriptors_run_short (int newest)
{
  struct rlimit limit;
  rlim_t reserve;

  if (getrlimit (RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
    return FALSE;
  reserve = MIN (RESERVE, limit.rlim_cur / 4);
  return newest >= 0 && (rlim_t) newest >= limit.rlim_cur - reserve;
}

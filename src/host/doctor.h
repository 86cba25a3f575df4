/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What this machine enforces and what it does not, without a host: nothing is believed that can be tried.
 */
#pragma once
#include <glib.h>

typedef struct
{
  const char *check;            /* its name */
  gboolean essential;           /* without it the promises that are made of cells do not hold */
  gboolean holds;
  char *said;                   /* what was found */
  const char *advice;           /* what could be done; NULL: nothing is to be done */
} DoctorFinding;

/* socket: where a host is looked for; NULL: your own host's.  DoctorFinding, in an order for people. */
GPtrArray *doctor_look (const char *socket);

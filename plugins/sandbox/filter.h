/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The system calls that what runs in a sandbox may not make.  It is a list of what is denied, not of what is allowed: new calls of
 * a C library must not break old cells, and what a cell is made of is not known.
 *
 * FILTER_SERVING is a list of what is allowed: who chooses that knows what his cell does, and tries it with a new C library.
 *
 * A call that nobody makes by mistake is trapped, so that its name can be told.  One that libraries try, and can do without, fails.
 */
#pragma once
#include <glib.h>
#include <stdint.h>

typedef enum
{
  FILTER_ALONE,                 /* a network of its own */
  FILTER_NETWORK,               /* the machine's, on which sockets of other programs have names that are no files: then there are no
                                 * Unix sockets */
  FILTER_SERVING,               /* the other way round, for who asks for it: none but those that serving needs, once the cell has
                                 * begun */
  FILTER_KINDS
} FilterKind;

/* A new descriptor of the filter as the kernel reads it; -1: error says why. */
int filter_open (FilterKind kind, GError **error);
/* What a call is called, for people; not NULL. */
char *filter_call_name (uint32_t arch, int32_t number);

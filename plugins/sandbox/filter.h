/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The system calls that what runs in a sandbox may not make.  It is a list of what is denied, not of what is allowed: new calls of
 * a C library must not break old cells, and what a cell is made of is not known.
 *
 * A call that nobody makes by mistake is trapped, so that its name can be told.  One that libraries try, and can do without, fails.
 */
#pragma once
#include <glib.h>
#include <stdint.h>

/* A new descriptor of the filter as bubblewrap reads it; -1: error says why.  network: the machine's own, on which sockets of other programs
 * have names that are no files; then there are no Unix sockets. */
int filter_open (gboolean network, GError **error);
/* What a call is called, for people; not NULL. */
char *filter_call_name (uint32_t arch, int32_t number);

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What an ejected cell may do.  Authority belongs to a connection, never to the user whom all these processes have in common: an
 * ejected cell may call the cells that its key file lists under Calls= and that the policy grants as well, in the role that the
 * policy gives it.  Cells in this process are trusted.
 *
 * Both files are read anew for each question: what is changed holds for the next binding, the next channel and the next move.
 * Channels that are open stay open.
 */
#pragma once
#include "host.h"

/* key_file: the caller's, or that of the build of it that asks, which is to take its place. */

/* For an ejected cell that asks for another: a reference, and the role in which it may call it.  CELL_ERROR_DENIED, with a sentence
 * that names both and what is to be written where; whether there is such a cell at all is not said then. */
HostCell *authority_find (HostCell *caller, const char *key_file, const char *name, uint32_t *ret_role, GError **error);
/* Whether it may call all of these from a sandbox.  The sentence is about all for which the same file is to be changed. */
gboolean authority_check (HostCell *caller, const char *key_file, const char *const *names, GError **error);

typedef struct
{
  char *cell;
  char *why_not;                /* the sentence; NULL: it may call it */
} Grant;

/* For people: those that its key file lists, and those that it calls now while it is in this process; Grant each. */
GPtrArray *authority_describe (HostCell *caller, uint32_t *ret_role, GError **error);
/* The endpoint's say_denied: which line gives the caller of that channel the role, and where it is to be written. */
void authority_say_denied (Channel *channel, uint32_t access, char *text, size_t size);

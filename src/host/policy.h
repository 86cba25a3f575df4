/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the user and the administrator of the machine allow ejected cells: two key files, each of which need not exist.
 *
 *   [Default]                   of cells, and of keys, that no other group names
 *   Calls=*
 *   Role=none
 *   [Cell trader]
 *   Calls=exchange;ledger       of the cells that its own key file lists, those that it may call; *: all of them
 *   Role=view                   none, view, operate, admin: which methods that ask for a role it may call
 *   Network=true                and of what its own key file asks for besides, what it gets: see plugins/permits.h
 *
 * What the user's file says of a group and a key goes before what the machine's says.  Where neither says anything Calls is * and
 * Role is none, and with that role the host's own cell cannot be called at all; of the rest nothing is granted.
 */
#pragma once
#include <glib.h>

#include "plugins/cell-error.h"
#include "plugins/permits.h"

#define POLICY_MAX_SIZE ((gsize) 64 * 1024)

typedef struct Policy Policy;

/* Reads both; NULL as a path: there is none.  CELL_ERROR_INVALID, with a sentence that names the file, the group and the key;
 * CELL_ERROR_REFUSED: it is not the user's own, see own-file.h. */
Policy *policy_load (const char *system_path, const char *user_path, GError **error);
/* An empty one, and what is said in the file at `path`, which goes before what was added earlier. */
Policy *policy_new (void);
gboolean policy_add (Policy *policy, const char *path, const char *text, gsize length, GError **error);
void policy_free (Policy *policy);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Policy, policy_free)

/* Names; NULL: all that its key file lists. */
const char *const *policy_get_calls (const Policy *policy, const char *cell);
/* CELL_ACCESS_ANY (none), _VIEW, _OPERATE, _ADMIN. */
uint32_t policy_get_role (const Policy *policy, const char *cell);
/* FALSE: neither file says anything of it. */
gboolean policy_get_network (const Policy *policy, const char *cell, gboolean *ret);
/* NULL: likewise. */
const char *const *policy_get_paths (const Policy *policy, const char *cell, PermitKind kind);
/* Whether any cell may be granted to write to that file, or to a folder that it lies in. */
gboolean policy_lets_write (const Policy *policy, const char *path);
const char *policy_role_word (uint32_t role);

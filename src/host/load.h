/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The cells of a host, by name: they are loaded, found and unloaded.
 */
#pragma once
#include "cell.h"

/* Loads a module under a name and starts it in this process, or in a sandbox when the host has crashed in it before, or when it is
 * foreign and not trusted.  config may be NULL. */
HostCell *host_load (Host *host, const char *path, const char *name, GHashTable *config, GError **error);
/* The same in a sandbox from the beginning: nothing of it ever runs here. */
HostCell *host_load_ejected (Host *host, const char *path, const char *name, GHashTable *config, GError **error);
/* The same for a cell that is part of the program. */
HostCell *host_load_entry (Host *host, const CellEntry *entry, const char *name, GError **error);
/* FALSE: it goes on, and why. */
gboolean host_unload (Host *host, const char *name, GError **error);
/* Ends it all the same, unless its code runs in this process.  ret_lost: what that cost, for people; NULL: nothing. */
gboolean host_unload_by_force (Host *host, const char *name, char **ret_lost, GError **error);
/* A reference; NULL: NOT_FOUND. */
HostCell *host_find (Host *host, const char *name, GError **error);
/* References, sorted by name. */
GPtrArray *host_list (Host *host);

/* For another build: what was given goes before what its key file says; and it is counted itself. */
GHashTable *host_cell_merge_config (GHashTable *of_manifest, GHashTable *given);
guint host_count_build (Host *host, const char *name);

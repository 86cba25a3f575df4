/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What runs, written down whenever it changes, so that all of it can come back after an unclean end: name, file, configuration, and
 * whether it is in a sandbox.  Who asks the host to end takes the file away.  There is one for each place at which a host listens.
 *
 * Functions may be given NULL for the roster of a host that keeps none, and any of them may be called from any thread.
 */
#pragma once
#include <glib.h>

#include "plugins/cell-error.h"

typedef struct Roster Roster;

typedef struct
{
  char *name;
  char *file;                   /* as `load` was given it, absolute if it is a path */
  gboolean ejected;
  GHashTable *config;           /* as `load` was given it */
  guint64 number;               /* the higher the later it was loaded */
} RosterEntry;

/* With what an unclean end has left.  error: that is damaged, and forgotten; a roster is returned all the same. */
Roster *roster_open (const char *state_dir, const char *socket_path, GError **error);
void roster_free (Roster *roster);
/* The same from memory, for whoever has no file.  NULL: error. */
Roster *roster_parse (const void *data, gsize size, GError **error);

/* What is in it now: copies, each a RosterEntry, in the order in which they were loaded: one may need those before it. */
GPtrArray *roster_list (Roster *roster);
void roster_put (Roster *roster, const char *name, const char *file, gboolean ejected, GHashTable *config);
void roster_move (Roster *roster, const char *name, gboolean ejected);
void roster_remove (Roster *roster, const char *name);
/* The end is wanted: nothing is to come back, and nothing is written down any more. */
void roster_delete (Roster *roster);

/* When the host last crashed, and that it has: real time in seconds, 0: not since it last ended cleanly. */
gint64 roster_get_crash (Roster *roster);
void roster_set_crash (Roster *roster, gint64 when);

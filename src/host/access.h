/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What more than an empty sandbox a cell gets: the network, paths, devices; and what its key file bounds it to besides.  Its key
 * file asks for them, and the policy grants them; see plugins/permits.h.  A cell that asks for what the policy says nothing of does
 * not get into a sandbox, so that nobody is surprised later; what the policy withholds it does without.
 */
#pragma once
#include "host.h"

/* One thing that it asks for. */
typedef struct
{
  char *what;                   /* "Network", "ReadPaths=/srv/pictures" */
  gboolean granted;
  char *why_not;                /* unless granted: the sentence */
} Permission;

/* For people: Permission each. */
GPtrArray *access_describe (HostCell *cell, GError **error);

typedef struct
{
  guint hang_ms;                /* that its handlers may run on after their deadlines; 0: as long as any */
  guint64 memory;               /* bytes; 0: as much as any */
  gboolean network;
  gboolean strict;              /* once it has begun, no more system calls than serving needs */
  GStrvBuilder *mounts;         /* arguments of bubblewrap */
  GArray *fds;                  /* ProcessFd, which they name: taken by who starts the sandbox */
  GArray *writable;             /* those of them, int, that it may write to */
} Access;

/* Both are read, and what is granted is opened.  CELL_ERROR_DENIED: a sentence that says what is to be written where;
 * CELL_ERROR_REFUSED: it cannot be opened. */
gboolean access_open (Access *access, HostCell *cell, const char *key_file, GError **error);
void access_clear (Access *access);

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * On which processors a cell's move is worked at: not where its callers were last seen, if there are others.  A process that begins
 * or ends takes one for milliseconds, and not every kernel looks for an idle one.  Where there are so few that who serves those
 * callers would have to share with it, they share with their callers, of whom one waits for the other anyway.
 *
 * One move at a time is placed; others are worked at wherever there is room.
 */
#pragma once
#include <sched.h>

#include "host.h"

typedef struct
{
  cpu_set_t callers, others;    /* those of the processors that the host was given */
} PlacementParts;

#define PLACEMENT_TIMES 4u      /* that they can be divided anew during one move */

typedef struct
{
  HostCell *cell;               /* NULL: everybody runs where they did */
  gboolean few;
  GPid server;                  /* who was told last; 0: nobody */
  PlacementParts parts[PLACEMENT_TIMES];        /* the last are those of now */
  guint n_parts;
  GHashTable *pinned;           /* threads that run somewhere else than the host was given, for reasons of their own */
} Placement;

/* This thread, and sandboxes that it starts, leave the cell's callers their processors.  Ended in the same thread. */
void placement_begin (Placement *placement, HostCell *cell);
/* The same anew, for callers are taken along by who answers them.  server: a process that serves them; 0: none does. */
void placement_again (Placement *placement, GPid server);
/* Everybody runs where they did before, and so do threads that were started meanwhile.  server: as above, if it goes on. */
void placement_end (Placement *placement, GPid server);

/* Where this thread is to start a process; NULL: wherever this one may run. */
const cpu_set_t *placement_processors (void);
/* One that it has started has begun, and is to load its cell, which may look how many processors there are. */
void placement_let_go (GPid pid);
/* One that is to end does that where this thread is. */
void placement_take (GPid pid);

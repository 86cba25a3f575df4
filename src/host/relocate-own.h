/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the files of a relocation have in common: relocate.c, what it is for, and its steps; hand-over.c, how callers get from the
 * old consumer to the new one.
 */
#pragma once
#include "consumer.h"
#include "placement.h"
#include "relocate.h"

typedef struct
{
  HostCell *cell;
  HostBuild *build;             /* of the new one; NULL: the one that the cell has */
  Consumer old, new;            /* old: neither of them when there is none */
  GBytes *state;                /* what the old one has saved, of that version; NULL: nothing yet */
  uint32_t version;
  GBytes *carry;                /* what it gives; NULL: nothing */
  GVariant *carried;            /* the same from a child, looked at */
  GPtrArray *halves;            /* for the replies of each caller */
  GHashTable *ready;            /* serial of a link → half for its replies: made, and with a child attached, before anybody waits */
  GArray *places;               /* WirePlace: where the new one, a child, goes on with them */
  GQueue told;                  /* questions to the new one, to be answered with WIRE_DONE, in order */
  Placement placement;
  gint64 attached_by;           /* monotonic µs: when callers have to be attached; 0: none has been yet */
  GPtrArray *left;              /* halves that nobody here reads any more: given back when callers go on, and not before */
  gboolean no_way_back;         /* the old one is gone, or about to be */
  gboolean handed_over;         /* the new one is the cell's */
} Move;

static inline gboolean
move_stays_here (const Move *move)
{
  return move->old.instance != NULL && move->new.instance != NULL;
}

static inline gboolean
move_has_old (const Move *move)
{
  return move->old.instance != NULL || move->old.child != NULL;
}

static inline Link *
link_at (HostCell *cell, guint i)
{
  return g_ptr_array_index (cell->links, i);
}

/* ---- places: relocate.c ------------------------------------------------------------------------------------ */

void relocate_set_place (HostCell *cell, CellLocation location, const Consumer *consumer);
void relocate_set_generation (HostCell *cell);
void relocate_notify_callers (HostCell *cell);
/* What served here is held.  Nobody of ours looks at these channels again before they are given back. */
void relocate_leave_lanes (HostCell *cell);

/* ---- hand over: hand-over.c -------------------------------------------------------------------------------- */

/* While the old one serves: to make a caller's memory and to map it takes as long as all the rest. */
gboolean hand_over_get_all_ready (Move *move, GError **error);
/* What does not depend on the answer is said meanwhile; how much of it is open has a bound, for a process keeps it until it is
 * read. */
gboolean hand_over_wait_for_new (Move *move, guint most_open, GError **error);
/* The old one is held. */
gboolean hand_over_replace (Move *move, GError **error);

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What serves a cell's calls: an instance in this process, or a child.  The steps of a relocation, said to whichever it is.
 *
 * The cell is claimed by whoever calls these.
 */
#pragma once
#include "cell.h"

typedef struct
{
  CellInstance *instance;       /* here … */
  Child *child;                 /* … or there, a reference; neither: nobody serves */
  ChildQuestion *saving, *giving;       /* of a child that is held: asked with that */
} Consumer;

/* A new one, which is ready and serves nobody yet.  build: another one of the cell; NULL: the one that it has.  there: in a
 * sandboxed process. */
gboolean consumer_prepare (Consumer *ret, HostCell *cell, HostBuild *build, gboolean there, GError **error);
/* One that is not wanted any more, or never was. */
void consumer_end (const Consumer *consumer);

/* It finishes what it has taken, and takes no more; what it has asked others is answered.  FALSE: it goes on.  A child is asked for
 * its state and for what goes along in the same breath; consumer_forget () if nobody wants them any more. */
gboolean consumer_hold (Consumer *consumer, GError **error);
void consumer_forget (Consumer *consumer);
void consumer_go_on (const Consumer *consumer);
/* One that is held and has given everything: its process is to stand, for there will be no way back soon. */
void consumer_pause (const Consumer *consumer);
/* The same for a cell that ends, which may take so long: what it has asked others and is not told in a moment is cancelled. */
gboolean consumer_retire (const Consumer *consumer, guint milliseconds, GError **error);

/* The state of one that is held, to one that serves nobody yet.  told: gets the question if a child is asked, to be answered with
 * WIRE_DONE; NULL: that is waited for. */
GBytes *consumer_save (Consumer *consumer, HostCell *cell, uint32_t *ret_version, GError **error);
gboolean consumer_restore (const Consumer *consumer, uint32_t version, GBytes *state, GQueue *told, GError **error);
/* What the cell was when it was last stopped, if that was kept. */
gboolean consumer_restore_kept (const Consumer *consumer, HostCell *cell, GError **error);
/* What goes along besides its state: see carry.h.  Taken by a child that has the channels of its callers; an instance takes it when
 * there is no way back. */
GBytes *consumer_give (Consumer *consumer, HostCell *cell, GError **error);
gboolean consumer_take (const Consumer *consumer, GBytes *carry, GQueue *told, GError **error);

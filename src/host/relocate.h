/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Relocation: a cell's calls go on being served somewhere else, while its callers keep calling.
 *
 *   prepare     start the new consumer and wait until it is ready; the old one serves on
 *   stop        the old one finishes what it has taken, and takes no more
 *   state       save on the old, restore on the new; what it keeps and who listens to it goes along
 *   hand over   each caller is told where the old replies end and gets the new memory; the epoch changes; the new one starts
 * A cell that begins in a sandbox has no old consumer and no callers, so that only the first and the third are left.
 *
 * If anything fails before the hand-over, the old consumer goes on as if nothing had happened.
 */
#pragma once
#include "cell.h"

/* Into a sandboxed process.  Returns when it serves there. */
gboolean relocate_eject (HostCell *cell, GError **error);
/* The same for a cell that has never served: its contract is what its process says.  It comes with the state that was kept for it. */
gboolean relocate_begin_in_child (HostCell *cell, GError **error);
/* Back into this process. */
gboolean relocate_absorb (HostCell *cell, GError **error);

/* The child has died by itself: calls that it had taken end in CRASHED. */
void relocate_child_died (HostCell *cell, Child *child);
/* A child rang: replies to asynchronous calls of cells in this process may have come. */
void relocate_bell_rang (HostCell *cell);

/* For ending a cell, which is claimed: its child is stopped for good, what it saves, and the end itself, of which its callers learn. */
gboolean relocate_retire_child (HostCell *cell, GError **error);
GBytes *relocate_state_from_child (HostCell *cell, uint32_t *ret_version, GError **error);
void relocate_end (HostCell *cell, const char *reason, gboolean crashed);

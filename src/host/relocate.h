/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Relocation: a cell's calls go on being served by another consumer, while its callers keep calling.  Whatever it is for (to eject
 * it, to take it back, to start it anew) it is one operation:
 *
 *   prepare     start the new consumer and wait until it is ready; the old one serves on
 *   stop        the old one finishes what it has taken, and takes no more
 *   state       save on the old, restore on the new; what it keeps and who listens to it goes along
 *   hand over   each caller is told where the old replies end and gets the new memory; the epoch changes; the new one starts
 *
 * If anything fails before the hand-over, the old consumer goes on as if nothing had happened.  A cell whose process died, and one
 * that begins, have no old consumer, so that the second step is left out, and its state is what was kept when it was last stopped.
 */
#pragma once
#include "cell.h"

/* Into a sandboxed process.  Returns when it serves there. */
gboolean relocate_eject (HostCell *cell, GError **error);
/* Back into this process. */
gboolean relocate_absorb (HostCell *cell, GError **error);
/* The same bytes once more, where it is: in a process of its own it gets another one.  One that is dead begins, in a sandbox. */
gboolean relocate_restart (HostCell *cell, GError **error);
/* Another build, where it is.  CELL_ERROR_CONTRACT: its callers could not go on with it.  After so many builds in this process that
 * it should end, the cell goes into a sandbox instead. */
gboolean relocate_swap (HostCell *cell, const char *path, GError **error);

/* ---- for who has claimed it --------------------------------------------------------------------------------------- */

/* A cell without a consumer gets one in a sandbox.  One that has never served has the contract that its process says.  FALSE: it
 * has none still, or a child that is of no use. */
gboolean relocate_begin_in_child (HostCell *cell, GError **error);
/* Its process is gone, and has been waited for: calls that it had taken end in CRASHED, or are taken again if their method is
 * idempotent; those that it had not taken wait for its successor.  why: for people. */
void relocate_lose (HostCell *cell, const char *why);
/* There will be no successor: its callers learn that, and why. */
void relocate_give_up (HostCell *cell, const char *why);
/* The same of a cell that ends. */
void relocate_end (HostCell *cell, const char *reason, gboolean crashed);

/* A child rang: replies to asynchronous calls of cells in this process may have come. */
void relocate_bell_rang (HostCell *cell);
/* Whether it had a reason to.  Never waits; where that cannot be told, it had. */
gboolean relocate_bell_brings (HostCell *cell);

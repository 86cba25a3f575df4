/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What cells have saved, between two runs of the host: one file for each cell in the host's state_dir, NAME.state.  It is replaced
 * as a whole or not at all; whatever is in it is checked before the cell sees it.
 */
#pragma once
#include "cell.h"

/* Makes the host's state_dir its own, until it is freed: two that write there would take turns at destroying what the other has
 * kept.  CELL_ERROR_EXISTS: another host has it. */
gboolean state_file_lock_folder (Host *host, GError **error);

/* Whether there is anything to keep of this cell. */
gboolean state_file_is_wanted (const HostCell *cell);

/* What was kept for a cell of this name; ret_state NULL: nothing.  A file that is damaged is set aside, one that is another cell's
 * stays: FALSE. */
gboolean state_file_read (HostCell *cell, uint32_t *ret_version, GBytes **ret_state, GError **error);
/* What is in such a file, whatever that is; it has to be of this cell. */
gboolean state_file_unpack (GBytes *file, const char *name, const char *interface, uint32_t *ret_version, GBytes **ret_state,
                            GError **error);
/* The cell could not make anything of it: another build may, so it stays, and `error` says what to do.  FALSE. */
gboolean state_file_leave (HostCell *cell, GError **error);

/* Keeps what a cell that has been stopped saves, if there is a state_dir and it saves anything.  FALSE: what was kept before is
 * still there. */
gboolean state_file_keep (HostCell *cell, GError **error);
/* The same of what it has saved already. */
gboolean state_file_keep_saved (HostCell *cell, uint32_t version, GBytes *state, GError **error);

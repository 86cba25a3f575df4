/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * How a host begins: what ran before an unclean end runs again, with its name, its configuration and where it was.  If the end was
 * a crash, the cell in which it happened is suspected, and comes back in a sandbox; when it is not known which one that was, or it
 * was the second crash soon after another, every cell does.
 */
#pragma once
#include "cell.h"

/* Looks at what the last host has left, loads what comes back, then those of `cells` (NULL-terminated, or NULL) that are not there
 * yet.  last_signal: what its supervisor saw the last host die of, or 0.  FALSE: one of `cells` cannot be loaded; what cannot come
 * back is a warning.  The main loop runs meanwhile.  The host has its place and a state_dir. */
gboolean come_back (Host *host, char **cells, int last_signal, GError **error);

/* Takes a cell back into this process, and trusts it: also one that was not loaded because it was suspected. */
gboolean come_back_absorb (Host *host, const char *name, GError **error);

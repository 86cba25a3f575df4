/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What goes along with a cell that moves to another process, besides its state: who has subscribed to its signals and what they
 * have missed, and the calls that it has kept to answer later.
 */
#pragma once
#include <glib.h>

#include "membrane/channel.h"

#define CARRY_MAX_SIZE (64u << 20)              /* bytes */

/* The service is stopped, and stays whole: nothing of this has happened until carry_leave ().  No bytes: there is nothing, as in
 * most cells. */
GBytes *carry_collect (Service *service, GError **error);
/* It has gone: what it had kept is somebody else's, and so are its subscribers. */
void carry_leave (Service *service);

/* Checks what another process has given, and that it is no more than may be kept; NULL: error. */
GVariant *carry_parse (GBytes *bytes, GError **error);
/* Gives it to a service that does not serve yet; channels are found by their serials.  A kept call that cannot be kept here makes
 * this fail, or, if there is no way back, is answered CELL_ERROR_CRASHED. */
gboolean carry_apply (GVariant *carry, Service *service, gboolean no_way_back, GError **error);

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A client that sends valid requests and breaks every rule while it does so; for AttackName.
 */
#pragma once
#include <glib.h>

/* $FUZZ_MUTATIONS words of what it shares with the host are changed, and messages on their way. */
void fuzz_client (const char *socket, guint32 seed);

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The socket that programs connect to.
 */
#pragma once
#include "host.h"

typedef struct Listener Listener;

/* Takes the place; who connects waits until listener_accept (). */
Listener *listener_new (Host *host, const char *path, GError **error);
void listener_accept (Listener *listener);
void listener_free (Listener *listener);

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * An ejected cell's process: cell-runner in a sandbox, and what is said to it.
 */
#pragma once
#include "host.h"
#include "connection.h"

typedef struct Child Child;

/* Starts a runner; nothing is loaded in it yet.  Called on the spawner's thread, since the sandbox dies with the thread that
 * started it. */
Child *child_spawn (Host *host, HostCell *cell, GError **error);
/* One question, one answer.  answer: to be cleared; its type is `expected`, or error says what the child says.  milliseconds: how
 * long to wait. */
gboolean child_ask (Child *child, WireType type, const void *body, const void *tail, uint32_t tail_size, const int *fds, unsigned n_fds,
                    WireType expected, WireMessage *answer, unsigned milliseconds, GError **error);
/* Lets it end by itself, for a moment; then the same as killing it. */
void child_quit (Child *child);
/* Kills it and waits until it is gone. */
void child_kill (Child *child);
GPid child_get_pid (Child *child);
/* Wakes its serving threads. */
int child_get_bell (Child *child);
/* Wakes the host's threads for what the child has answered. */
int child_get_bell_to_host (Child *child);
void child_ref (Child *child);
void child_unref (Child *child);

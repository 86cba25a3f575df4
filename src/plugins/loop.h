/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The thread of a CELL_LOOP cell.  It owns the endpoint's gate: calls are served between two rounds of its GMainContext, which is
 * the thread's default.  While somebody else holds the gate, or it is closed, the context stands still, and only tasks run.
 */
#pragma once
#include <glib.h>

#include "membrane/gate.h"

typedef struct Loop Loop;

/* Starts the thread; it owns no gate yet.  name: of the thread; service: whose code is all that runs on it; number: what trails
 * call it. */
Loop *loop_new (const char *name, const Service *service, uint32_t number, GError **error);
/* Ends the thread.  It owns no gate any more. */
void loop_free (Loop *loop);

/* Makes it the owner of a gate that the caller holds, or that is closed.  From when it is handed back the thread serves. */
void loop_own (Loop *loop, Gate *gate);
/* The caller holds the gate. */
void loop_disown (Loop *loop);

/* Runs a function on the thread, between two rounds, and waits for it. */
void loop_run (Loop *loop, void (*run) (gpointer data), gpointer data);

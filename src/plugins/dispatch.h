/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What has come for a cell that made calls, replies and signals, is taken up by the cell's own code in its own time: under its
 * gate, and on a lane for a concurrent cell.
 */
#pragma once
#include "membrane/client.h"
#include "membrane/endpoint.h"
#include "membrane/lanes.h"

typedef struct Dispatch Dispatch;

/* For one channel of a cell's: endpoint is the calling cell's own.  Becomes the channel's notify, and stays until nobody knows the
 * channel any more. */
Dispatch *dispatch_new (Endpoint *endpoint, Lanes *lanes, Channel *channel);
/* Something that has to last as long as the endpoint is needed: let go of with the dispatch. */
void dispatch_hold (Dispatch *dispatch, void *what, void (*let_go) (void *what));
/* From any thread, also from one that holds a gate; never waits.  The caller has a reference to the channel. */
void dispatch_queue (Dispatch *dispatch);
/* Nothing is dispatched any more; the caller holds the cell, or is the cell. */
void dispatch_end (Dispatch *dispatch);

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Endpoints: a cell as its callers in this process see it; and the epoch page, by which they learn that it moved.
 */
#pragma once
#include "channel.h"

/* A page that the host writes and everybody else can only read. */
typedef struct
{
  int fd;
  Epoch *page;
} EpochPage;

bool epoch_page_new (EpochPage *page, Fault *fault);
/* Maps somebody else's page, checked.  Takes the descriptor. */
const Epoch *epoch_map (int fd, Fault *fault);
void epoch_unmap (const Epoch *epoch);
void epoch_page_clear (EpochPage *page);
/* A new generation, or the end; wakes whoever sleeps on it. */
void epoch_page_set (EpochPage *page, uint64_t generation, uint32_t state);

/* kick: finds a thread that goes on with a gate that was passed on; NULL in processes where nothing is served. */
Endpoint *endpoint_new (const Epoch *epoch, uint32_t threading, void (*kick) (Gate *gate));
Endpoint *endpoint_ref (Endpoint *endpoint);
void endpoint_unref (Endpoint *endpoint);
/* Whose gate it is. */
Endpoint *endpoint_of (Gate *gate);
/* The list of channels that lead here; it holds a reference. */
void endpoint_add (Endpoint *endpoint, Channel *channel);
void endpoint_remove (Endpoint *endpoint, Channel *channel);

/* Around a concurrent cell's code that no call runs: completions of calls that it has made.  False: it has been stopped; to be
 * tried again when it goes on, unless it has gone. */
bool endpoint_enter (Endpoint *endpoint);
void endpoint_leave (Endpoint *endpoint);

/* Makes nobody serve here any more: waits for the gate, or for every channel of a concurrent cell.  The caller holds the cell until
 * endpoint_resume () or endpoint_close ().  False: the deadline passed, and everything is as before. */
bool endpoint_stop (Endpoint *endpoint, ThreadContext *thread, uint64_t deadline);
/* Goes on where it was stopped, or with a new service after endpoint_close ().  What has waited is served by others: a handler may
 * take long, and whoever moves cells has more to do. */
void endpoint_resume (Endpoint *endpoint, ThreadContext *thread);
/* For workers that have been kicked. */
void endpoint_continue (Endpoint *endpoint, ThreadContext *thread);
/* The stopped cell leaves this process. */
void endpoint_close (Endpoint *endpoint);

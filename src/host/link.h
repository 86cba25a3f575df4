/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Links: one caller's channel to one cell, wherever the cell is.  What the host keeps of it, so that the callee's end can be made
 * anew in another place.
 */
#pragma once
#include "membrane/lanes.h"
#include "membrane/wire.h"

#include "host.h"

typedef struct Connection Connection;

typedef struct
{
  uint64_t serial;              /* names it among all links of this host */
  HostCell *cell;
  Channel *channel;             /* of a caller in this process: both ends; else the callee's end, whether it is used or not */
  gboolean local;               /* the caller is in this process … */
  HostCell *caller;             /* … and this cell (borrowed: it owns the client that owns the channel) */
  struct Dispatch *dispatch;    /* brings it what has come */
  Connection *connection;       /* of a caller outside */
  Bell *bell;                   /* its bell on our lanes */
  int caller_bell;              /* eventfd that wakes it, or -1 */
  Half *requests;               /* the caller's half; its descriptor is kept */
  Half *replies;                /* the callee's half of this generation */
  gboolean mapped;              /* the caller has mapped its half, and it has been sealed */
  uint64_t taken, answered;     /* where the callee's end stood when it left this process */
} Link;

/* A caller's channel to a cell.  connection NULL: the caller is in this process.  Takes the cell's lock.  The caller's own code must
 * not run on it before link_in_use (). */
Link *link_new (HostCell *cell, Connection *connection, uint32_t request_capacity, GError **error);
/* The caller has mapped its half: from here on it is served. */
gboolean link_in_use (Link *link, GError **error);
void link_close (Link *link);

/* What a caller outside has to know, with the descriptors {epoch, requests, replies, bell or -1}. */
void link_describe (Link *link, WireChannel *ret, int fds[4]);
/* A fresh half for the callee's replies; its cursor in the requests goes on at `taken`.  With the cell's lock. */
Half *link_new_replies (Link *link, uint64_t taken, GError **error);
/* Tells the caller where its callee went; takes the new half (NULL: it is gone); with the cell's lock. */
void link_moved (Link *link, Half *replies, uint64_t generation, uint64_t final_taken, uint64_t final_reply, gboolean crashed,
                 gboolean untrusted);
/* Where the callee's end stands: from this process's own cursors, or from what a child has left in its half, clamped. */
void link_positions (Link *link, gboolean here, uint64_t *ret_taken, uint64_t *ret_answered);
void link_to_attach (Link *link, WireAttach *ret, int fds[3], unsigned *ret_n_fds);

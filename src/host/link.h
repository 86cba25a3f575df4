/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Links: one caller's channel to one cell, wherever the cell is.  What the host keeps of it, so that the callee's end can be made
 * anew in another place.
 *
 * A link is made, put in use and closed with its cell's place locked for reading; while the place is locked for writing, which a
 * hand-over does, no link of the cell changes but by it.
 */
#pragma once
#include "membrane/lanes.h"
#include "membrane/wire.h"

#include "host.h"

typedef struct Connection Connection;

/* See watchdog.c. */
typedef struct
{
  uint64_t end, since;          /* where a call that was taken ends, 0: there is none; and when that was first seen: µs */
} Watched;

typedef struct
{
  _Atomic guint refs;
  uint64_t serial;              /* names it among all links of this host */
  HostCell *cell;               /* a reference */
  Channel *channel;             /* of a caller in this process: both ends; else the callee's end, whether it is used or not */
  gboolean local;               /* the caller is in this process … */
  HostCell *caller;             /* … and this cell (borrowed: it owns the client that owns the channel) */
  struct Dispatch *dispatch;    /* brings it what has come */
  struct Timer *timer;          /* for its asynchronous calls' deadlines; NULL: it has made none.  The caller's own */
  Connection *connection;       /* of a caller outside */
  Bell *bell;                   /* its bell on our lanes */
  int caller_bell;              /* wakes it, or -1 */
  _Atomic gboolean accused;     /* one end has said of the other that it broke a rule */
  Half *requests;               /* the caller's half; its descriptor is kept */
  Half *replies;                /* the callee's half of this generation */
  _Atomic uint64_t bytes;       /* of memory in both */
  pthread_mutex_t lock;         /* of what follows */
  _Atomic gboolean mapped;      /* the caller has mapped its half, which has been sealed: the callee may have it */
  gboolean late;                /* it came while the child was held, which has not been told */
  gboolean closed;
  _Atomic gboolean gone;        /* the caller has been told that there is no callee any more */
  uint64_t taken, answered;     /* where the callee's end stood when the last consumer but one ended, and the last one began */
  uint64_t again;               /* where what was taken when a consumer died began, and was taken again; UINT64_MAX: never */
  uint64_t subscribed;          /* signals that the caller had asked for of a consumer that died */
  Watched watched;              /* what a child has taken and not finished */
} Link;

/* A caller's channel to a cell: of a program or a child (connection), or of a cell in this process (caller).  One from outside is
 * not served before link_in_use ().  access: CELL_ACCESS_…, what the caller may do there.  The reference is whoever's calls
 * this. */
Link *link_new (HostCell *cell, Connection *connection, HostCell *caller, uint32_t access, uint32_t request_capacity,
                GError **error);
Link *link_ref (Link *link);
void link_unref (Link *link);
/* Tells a caller outside what it has to know, in answer to its question. */
void link_announce (Link *link, uint64_t question);
/* The caller has mapped its half: from here on it is served. */
gboolean link_in_use (Link *link, GError **error);
/* It cannot be served: its caller outside learns that it is gone. */
void link_refuse (Link *link);
/* No further request of it is taken, by a child from when it hears of it.  Its handler may be running, and goes on. */
void link_close (Link *link);

/* How long the caller of the request that begins there may wait, ms.  It may say that it waits for longer than the method asks for,
 * and not for less: its impatience is no fault of the cell's. */
guint link_request_ms (const HostCell *cell, const Half *requests, uint64_t at, const char **ret_method);
/* The longest of those that were accepted and are not finished; 0: there are none. */
guint link_accepted_ms (const HostCell *cell, const Half *requests, const Half *replies);
/* There are some that its consumer has not begun. */
gboolean link_waits (const Link *link);

/* ---- for a hand-over -------------------------------------------------------------------------------------- */

/* A fresh half for the callee's replies; its cursor in the requests goes on at `taken`.  Or in two steps, the first of which takes
 * its time. */
Half *link_new_replies (Link *link, uint64_t taken, GError **error);
Half *link_make_replies (Link *link, GError **error);
void link_place_replies (Link *link, Half *replies, uint64_t taken);
/* Whoever writes to it has mapped it: nobody else can map it writable any more. */
gboolean link_seal_half (Half *half, GError **error);
/* Where the callee's end stands: from this process's own cursors, or from what a child has left in its half, clamped. */
void link_find_positions (Link *link, gboolean here);
/* The same of a child that died by itself.  A call that it was at, whose method may be executed twice, is to be taken again:
 * once. */
void link_find_lost (Link *link);
/* Gives a child the callee's end, with these replies, which are to be sealed when it has answered. */
ChildQuestion *link_attach (Link *link, Child *child, Half *replies);
/* Of one that came while a child was held that goes on.  Does not wait for that, for it may take its time.  With the cell's place
 * locked for writing. */
void link_attach_late (Link *link);
/* Tells the caller where its callee went; takes the new half (NULL: it is gone).  there: it is, or will be, in a child. */
void link_moved (Link *link, Half *replies, uint64_t generation, gboolean there, gboolean crashed);
/* Tells a caller outside that a child has mapped the half that it writes, and that it is sealed: before that he had one that nobody
 * writes. */
void link_tell (Link *link);
/* Its caller has something to look for, and may be asleep. */
void link_notify (Link *link);

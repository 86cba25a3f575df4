/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the files of a connection to a host have in common: uplink.c, what is said on it, and channels; uplink-moves.c, channels
 * that move; uplink-blobs.c, blobs.
 */
#pragma once
#include <pthread.h>

#include "bell.h"
#include "endpoint.h"
#include "uplink.h"

typedef struct Leg Leg;
typedef struct Question Question;
typedef struct Command Command;

/* A channel as the connection knows it. */
struct Leg
{
  Leg *next;
  uint64_t id, generation;
  Uplink *uplink;
  Channel *channel;             /* NULL until it is complete: what moves meanwhile is kept */
  MovedHalf *early;
  Endpoint *endpoint;
  const Epoch *epoch;
  uint32_t n_bells;
  int *bells;                   /* the callee's, oldest first; ours to close, but for the host's own */
  void *data;
};

struct Question
{
  Question *next;
  uint64_t serial;
  bool answered;
  WireMessage answer;
  Leg *leg;                     /* of a CHANNEL */
};

struct Command
{
  Command *next;
  WireMessage message;
};

typedef struct
{
  BlobPort base;
  Uplink *uplink;
} UplinkPort;

struct Uplink
{
  _Atomic uint32_t refs;
  int socket, host_bell, bell;
  int wake;                     /* eventfd: somebody else has read what the poller is waiting for */
  unsigned flags;
  UplinkPort port;
  pthread_mutex_t lock;         /* of everything below, and of reading */
  pthread_cond_t changed;
  bool polling;                 /* a thread sleeps on the socket for all */
  bool dead;
  Fault fault;                  /* of the end */
  uint64_t last_serial;
  uint32_t opening, n_early, n_commands;
  Question *questions;
  Leg *legs;
  Command *early;               /* MOVED of channels whose CHANNEL is under way */
  Command *commands, **commands_end;
};

/* ---- what comes, questions: uplink.c ---------------------------------------------------------------------- */

/* Whoever reads the news need not be the one whom they concern. */
static inline void
uplink_ring (Uplink *uplink)
{
  bell_ring (uplink->bell);
}

/* Asks and waits for the answer, which is of that type and to be cleared. */
bool uplink_ask (Uplink *uplink, WireType type, const void *body, const void *tail, uint32_t tail_size, const int *fds,
                 unsigned n_fds, WireType expected, Question *question, Fault *fault);

/* ---- channels that moved: uplink-moves.c -------------------------------------------------------------------------- */

/* Maps what the callee will write to.  It is the descriptor that the sender keeps, not we. */
Half *uplink_map_half (WireMessage *message, unsigned n, uint32_t capacity, uint64_t salt, bool writable, Fault *fault);
/* NULL: we have not heard of it yet, or not any more.  With the lock, as the next two. */
Leg *leg_find (Uplink *uplink, uint64_t id);
/* With all that has come of it early.  NULL: no memory. */
Leg *leg_new (Uplink *uplink, const WireChannel *body);
void leg_moved (Leg *leg, WireMessage *message);
/* Those before the one that the channel uses now are not needed any more.  In the channel's context, with the
 * lock. */
void leg_drop_old_bells (Leg *leg);
/* Takes the lock. */
void leg_unlink (Leg *leg);
/* The leg is out of the list, or its uplink is about to end. */
void leg_free (Leg *leg);

/* ---- blobs: uplink-blobs.c -------------------------------------------------------------------------------------- */

/* Of its port. */
uint64_t uplink_export_blob (BlobPort *port, CellBlob *blob);
CellBlob *uplink_import_blob (BlobPort *port, uint64_t id);

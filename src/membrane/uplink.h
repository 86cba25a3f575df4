/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The caller's side of a connection to a host: a program's, over the host's socket, or a runner's, over the one that it was given.
 * Any thread may use it.  Whoever waits for an answer reads the socket for all; news of channels that have moved is taken in
 * whenever somebody reads.
 */
#pragma once
#include "blob.h"
#include "channel.h"
#include "wire.h"

typedef struct Uplink Uplink;

enum
{
  UPLINK_BLOBS_OF_HOST = 1 << 0         /* blobs are made by the host: a sandbox may not make memory of its own to share */
};

/* Greets the host.  Takes the socket.  token: a runner's, else NULL.  NULL: fault. */
Uplink *uplink_new (int socket, const uint8_t *token, unsigned flags, uint64_t deadline, Fault *fault);
Uplink *uplink_ref (Uplink *uplink);
void uplink_unref (Uplink *uplink);
/* Ends it: whoever waits is woken, and its channels find out at their next look. */
void uplink_close (Uplink *uplink);

/* Readable when uplink_pump () has something to read. */
int uplink_get_socket (const Uplink *uplink);
/* The eventfd that is rung when a channel that is not waited for has something; not to be closed. */
int uplink_get_bell (const Uplink *uplink);
/* The eventfd that wakes the host. */
int uplink_get_host_bell (const Uplink *uplink);
/* Takes in what has come, without waiting.  False: the connection has ended. */
bool uplink_pump (Uplink *uplink, Fault *fault);

/* The parts of a ClientProvider. */
bool uplink_bind (Uplink *uplink, const char *name, const CellRemote *remote, uint32_t *methods, uint32_t *signals,
                  uint64_t *ret_cell, Fault *fault);
/* notify, look and context of the channel are set; data is what uplink_channel_data () gives to notify. */
Channel *uplink_open (Uplink *uplink, const char *name, uint64_t cell, uint32_t request_capacity, void (*notify) (Channel *channel),
                      void *data, Fault *fault);
void *uplink_channel_data (const Channel *channel);
/* Closes the channel and drops the reference that uplink_open () gave. */
void uplink_close_channel (Channel *channel);

/* Tells the host that the peer of a channel has broken a rule, if so; it does not wait.  For on_broken, of a caller's channel as of
 * a callee's; those of uplink_open () do so by themselves.  False: the host could not be told. */
bool uplink_report (Uplink *uplink, const Channel *channel);

BlobPort *uplink_blobs (Uplink *uplink);
CellBlob *uplink_blob_new (Uplink *uplink, size_t size, Fault *fault);

/* A runner's: what the host says next, other than answers: 1; 0: nothing before the deadline; -1: the connection has ended.
 * Whoever gets a message clears it. */
int uplink_next (Uplink *uplink, WireMessage *ret, uint64_t deadline, Fault *fault);
/* Sends an answer. */
bool uplink_send (Uplink *uplink, WireType type, uint64_t serial, const void *body, const void *tail, uint32_t tail_size,
                  const int *fds, unsigned n_fds, Fault *fault);

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The caller's end of a channel, between its files: sending (send.c), open calls (pending.c), what arrives (arrive.c), waiting for
 * it (await.c), a callee that moves (follow.c), and calls made of all that (call.c).
 */
#pragma once
#include "blob.h"
#include "direct.h"

#define LOOK_NS 100000000u              /* a stolen or lost hint costs one look after so long */
#define SPINS_BARE 2000u                /* looks before the first pause: a pause is as long as half a round trip */

/* ---- open calls: pending.c -------------------------------------------------------------------- */

Pending *pending_find (Channel *channel, uint64_t id);
/* A place for a call by that id; NULL: no memory. */
Pending *pending_put (Channel *channel, uint64_t id);
/* Opens a call by the next id whose place in the table is free: one that stays open for long is stepped around. */
Pending *pending_add (Channel *channel);
void pending_remove (Channel *channel, Pending *pending);
Kept *kept_new (uint16_t kind, uint64_t id, uint16_t method, int32_t status, const void *payload, uint32_t length, uint32_t root);

/* ---- what arrives: arrive.c -------------------------------------------------------------------- */

/* A reply to an open call has come, or is given in its place.  NULL, or the rule that its payload breaks, of which the call has
 * been told. */
const char *pending_answer (Channel *channel, uint64_t id, int32_t status, const uint8_t *payload, uint32_t length, uint32_t root);
/* Answers open calls ourselves: those whose request lies before `position`. */
void pending_fail_all (Channel *channel, uint64_t position, CellStatus status, const char *message);
/* rule, at: NULL and 0 when it is nobody's fault. */
void caller_break (Channel *channel, CellStatus status, const char *rule, uint32_t at);

/* ---- a callee that moves: follow.c -------------------------------------------------------------- */

/* True: something changed, look at everything again. */
bool caller_look_at_epoch (Channel *channel, ThreadContext *thread);
/* Its callee has gone somewhere, and it has not followed yet. */
bool caller_has_moved (Channel *channel);
/* What no word tells: the host is gone, or what it has to say came later than the word. */
void caller_look_again (Channel *channel, ThreadContext *thread);
/* Gives back the half of before, if its successor has answered.  Whoever has just followed a callee does not wait for that, since
 * the kernel may take longer for it than for all the rest; nor does a callee for a caller that has asked it something. */
void caller_drop_former (Channel *channel);

/* ---- sending: send.c ----------------------------------------------------------------------------- */

/* The blobs of one request, in their order: a request that has to wait for room is written again and again, but each of them leaves
 * once. */
typedef struct
{
  BlobPort *port;
  uint32_t n, next;
  uint64_t ids[CALL_BLOBS_MAX];
} SentBlobs;

/* A consumer that has taken over and served nothing yet may not have said where it began. */
uint64_t caller_taken_by_peer (Channel *channel);
/* Wakes a callee in another process that sleeps.  A full fence lies between what was sent and this. */
void caller_wake_callee (Channel *channel);
/* What has been read without saying so. */
void caller_release_replies (Channel *channel);
/* Writes a request into the ring, if there is room for it now: CELL_OK, or CELL_ERROR_BUSY, or what is wrong with it. */
CellStatus caller_try_send (Channel *channel, const CallPlan *plan, const void *args, uint64_t id, SentBlobs *sent, Fault *fault);
/* Sends, waiting for room for as long as the call may take.  CELL_ERROR_TOO_LARGE with channel->too_small: not a fault of the
 * request. */
CellStatus caller_send (Channel *channel, ThreadContext *thread, const CallPlan *plan, const void *args, uint64_t id, Fault *fault);

/* ---- waiting: await.c ----------------------------------------------------------------------------- */

/* Looks for news for as long as answers lately took.  False: nothing has come. */
bool caller_spin (Channel *channel);
/* Waits until the call is answered or its deadline has passed.  False: *interrupt (NULL: nothing) has changed, and the call is
 * still open. */
bool caller_wait (Channel *channel, ThreadContext *thread, uint64_t id, const FutexWord *interrupt, CellResult *result);
/* Gives up a call that waits for a gate.  False: it has been taken already, and its answer has to be waited for; or it may have
 * been, by a consumer that we have not heard of yet.  mark: RECORD_GIVEN_UP, or RECORD_CANCELLED of who then does wait, and would
 * for itself. */
bool caller_withdraw (Channel *channel, Pending *pending, uint32_t mark);

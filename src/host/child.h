/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * An ejected cell's process: cell-runner in a sandbox, and what is said to it.
 */
#pragma once
#include "membrane/wire.h"
#include "plugins/stats-page.h"

#include "connection.h"
#include "host.h"
#include "process-end.h"

/* Starts a runner; nothing is loaded in it yet.  key_file (interned): what it is given is asked for there. */
Child *child_spawn (Host *host, HostCell *cell, const char *key_file, GError **error);

/* Asks.  What does not depend on an answer is asked at once, for a child answers in the order in which it is asked: there may be
 * some dozens of questions.  milliseconds: how long the answer may take when it is waited for.  Each is to be finished or
 * dropped. */
ChildQuestion *child_begin (Child *child, WireType type, const void *body, const void *tail, uint32_t tail_size, const int *fds,
                            unsigned n_fds, unsigned milliseconds);
/* Waits for a moment for the last of several questions, which are then finished: each answer that is waited for wakes somebody up,
 * and the others are there when it is. */
void child_await (ChildQuestion *last);
/* Waits for the answer; takes the question.  answer: to be cleared; NULL: it says nothing but its type, which is `expected`, or
 * error says what the child says, or which step it did not answer. */
gboolean child_finish (ChildQuestion *question, WireType expected, WireMessage *answer, GError **error);
/* The answer is nobody's.  NULL: nothing. */
void child_drop (ChildQuestion *question);
/* Begins and finishes. */
gboolean child_ask (Child *child, WireType type, const void *body, const void *tail, uint32_t tail_size, const int *fds,
                    unsigned n_fds, WireType expected, WireMessage *answer, unsigned milliseconds, GError **error);
/* The same where the answer says nothing but that it is done. */
gboolean child_tell (Child *child, WireType type, const void *body, const int *fds, unsigned n_fds, unsigned milliseconds,
                     GError **error);
/* What it is asked is not to be waited for: an answer that comes is nobody's. */
void child_say (Child *child, WireType type, const void *body);

/* Lets it end by itself, for a moment; then the same as killing it. */
void child_quit (Child *child);
/* Kills it and waits until it is gone: from then on it cannot write to any memory.  FALSE: it does not go. */
gboolean child_kill (Child *child);
/* Its cell is served by another from now on: that it ends is nothing to be told of. */
void child_expect_end (Child *child);
/* While nobody waits: what child_freeze () needs. */
void child_will_freeze (Child *child);
/* It is to stand, and has until child_freeze () to come to it; or goes on after all. */
void child_pause (Child *child);
void child_resume (Child *child);
/* It writes to no memory any more: it stands until it is killed, or is gone.  FALSE: it does not stop, and does not go. */
gboolean child_freeze (Child *child);
/* It is about to end, and does so where this thread works; see placement.h. */
void child_take_aside (Child *child);
/* Does not wait for it: child_kill () does. */
void child_kill_frozen (Child *child);

/* Of the runner itself; 0: not known. */
GPid child_get_pid (Child *child);
/* The same of one that has not ended: nobody else's number. */
GPid child_get_live_pid (Child *child);
/* How long its handlers may run on after their deadlines. */
guint child_get_hang_ms (const Child *child);
/* Its connection has ended: it answers nothing any more. */
gboolean child_is_closed (Child *child);
/* It does harm, so that its processor time is what others leave; the first time it is said what harm that is.  FALSE: not yet for
 * its session; see restrain.h.  On a job's thread, or again from anywhere. */
gboolean child_restrain (Child *child, const char *why);
/* It is to go, for this reason; what comes of that is its supervisor's. */
void child_condemn (Child *child, const char *why);

/* Of one that has died by itself, or was condemned: waits until it is gone, or kills it. */
void child_wait_end (Child *child, ProcessEnd *ret);
/* Wakes the host's threads for what the child has answered. */
int child_get_bell_to_host (Child *child);
/* What it counts: to be made before it is told to load its cell.  It may be anything; see stats-page.h. */
StatsPage *child_get_stats (Child *child);
Child *child_ref (Child *child);
void child_unref (Child *child);

/* For its connection. */
void child_greeted (Child *child);
/* TRUE: taken. */
gboolean child_answered (Child *child, WireMessage *message);
void child_closed (Child *child);

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The threads that serve callers from outside this process.  One thread at a time polls: it looks at the channels that were lately
 * in use, for as long as answers usually take, and then sleeps until a bell rings.  A channel that is not polled says so in its
 * `waiting` word, and its caller rings.  Before a handler that is a job, or took long the last time, the thread leaves the polling
 * to another; one that takes long and was not expected to is overtaken after one to two milliseconds.
 *
 * Lanes also run tasks: going on with a gate that was passed on, completions of calls that a cell in this process has made.
 */
#pragma once
#include <sched.h>

#include "channel.h"

typedef struct Lanes Lanes;
typedef struct Bell Bell;

typedef struct LaneTask LaneTask;
struct LaneTask
{
  LaneTask *next;
  void (*run) (LaneTask *task, ThreadContext *thread);
  void (*drop) (LaneTask *task);        /* the lanes were stopped before it ran; may be NULL */
};

/* Starts the threads.  There is one Lanes in a process. */
Lanes *lanes_start (Fault *fault);
/* Waits for every thread; handlers that run are waited for. */
void lanes_stop (Lanes *lanes);
/* Waits for a moment until its threads have begun, which takes each of them longer than many calls. */
void lanes_settle (Lanes *lanes);
/* Where its threads run, but for the one that asks.  Each call takes the place of the one before. */
void lanes_run_on (Lanes *lanes, const cpu_set_t *set);
/* How often the thread that polled was stuck, in a handler that was not known to take long or in a task, and others waited for
 * that. */
uint32_t lanes_overtaken (const Lanes *lanes);

/* The eventfd that the callers of a connection ring; it is not taken.  rang (may be NULL) is called on a lane each time, for what a
 * bell says besides "requests": replies to calls that were made from here.  It must be short and must not wait. */
Bell *lanes_add_bell (Lanes *lanes, int fd, void (*rang) (void *data), void *data);
void lanes_remove_bell (Lanes *lanes, Bell *bell);

/* Whoever can ring a bell can have a thread wake up for nothing, as often as it likes.  When sixteen rings in a row have brought
 * nothing, the bell is not listened to for a while that grows from 1 to 64 ms, until one does; what was rung meanwhile is found
 * then. */
typedef struct
{
  /* Whether a ring may have brought what the lanes do not see: something has come since the last time, or waits to be fetched.
   * Must be short and must not wait, as the next one.  NULL: there is nothing else. */
  bool (*brings) (void *data);
  /* It goes on all the same: said every half a second.  NULL: there is nobody to tell. */
  void (*flooded) (void *data);
  /* Many ring it, and those who bring something would wait for one who does not: it stays at 1 ms. */
  bool shared;
} BellLimit;

/* Only for a descriptor that nobody else reads; where that changes, `brings` says that something has come while others may. */
void lanes_limit_bell (Lanes *lanes, Bell *bell, const BellLimit *limit, void *data);

/* Polls a channel whose callee's end is here.  Holds a reference.  Removing waits until no lane is looking at it.  Forgetting does
 * not: one that is in a handler has a reference of its own until that returns. */
void lanes_add (Lanes *lanes, Bell *bell, Channel *channel);
void lanes_remove (Lanes *lanes, Channel *channel);
void lanes_forget (Lanes *lanes, Channel *channel);

/* Runs a task on some lane; it stays the caller's memory until it runs. */
void lanes_submit (Lanes *lanes, LaneTask *task);
/* Gate.kick for cells that are served by the process's lanes. */
void lanes_kick_gate (Gate *gate);

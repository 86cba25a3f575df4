/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A cell for the membrane's tests, with real rings, gates, threads and processes around it.
 */
#pragma once
#include <glib.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "membrane/serve.h"

#include "membrane/defer.h"
#include "membrane/endpoint.h"

/* ---- what is said ------------------------------------------------------------------------------- */

/* 64 bytes, every pattern of which is a value. */
typedef struct
{
  uint64_t caller, sequence, argument[6];
} Token;

typedef struct
{
  uint64_t number;
  const char *text;
} Letter;

typedef struct
{
  CellResult result;
  Token out;
} TokenReply;

typedef struct
{
  CellResult result;
  Letter out;
} LetterReply;

enum /* methods of the test cell */
{
  ECHO,         /* Token → the same; checks the caller's sequence; takes argument[4] pauses of the processor, up to PAUSES_MAX */
  LETTER,       /* Letter → the same */
  FAIL,         /* Token → an error whose message names its sequence */
  LATER,        /* Token, kept; answered with the same */
  ANSWER,       /* Token: answers argument[0] of the kept calls, from the newest when argument[1] is not 0 */
  NOTE,         /* Token, one way; checks the caller's sequence */
  FORWARD,      /* Token: calls ECHO or FORWARD of the next cell: argument[0] more times */
  HOLD,         /* Token: says so and returns when it is let go */
  NOTHING,      /* no arguments, no outputs */
  EMIT,         /* Token: sends argument[0] signals to every channel that subscribed */
  N_METHODS
};

#define PAUSES_MAX 1000u
#define CALLERS 64              /* whose sequence is looked at */

/* A cell that is served in this process. */
typedef struct
{
  Endpoint endpoint;            /* first: found from its gate */
  Service service;
  Method methods[N_METHODS];
  MethodStats stats[N_METHODS];
  Epoch *epoch;                 /* shared with children */
  CodecPlan *letter;

  /* the cell's state; of a serial cell plain, since its gate orders it */
  uint64_t next[CALLERS];       /* sequence expected of each caller */
  uint64_t disorder;            /* how many were not */
  uint64_t executed;
  uint64_t kept[256];           /* ids of kept calls, oldest first */
  unsigned n_kept;
  _Atomic uint32_t inside;      /* handlers that run */
  _Atomic uint32_t overlaps;    /* how often there was more than one of a serial cell */
  Channel *forward;             /* FORWARD calls over this */
  _Atomic uint32_t *meet;       /* if not NULL: where FORWARDs wait for each other before they call */
  uint32_t meet_at;
  _Atomic uint32_t holding, let_go;     /* futex words of HOLD: how often it was entered; it leaves when let_go has caught up */
  Channel *subscribers[8];

  /* finds a thread for a gate that was passed on */
  pthread_t worker;
  _Atomic uint32_t kicks, stopping;
  _Atomic uint32_t works;       /* its thread has all that it needs */
} Rig;

Rig *rig_new (uint32_t threading);
void rig_free (Rig *rig);

/* What the cell knows, asked through its gate: the last sequence of a caller; how many calls it keeps. */
uint64_t rig_last (Rig *rig, unsigned caller);
unsigned rig_n_kept (Rig *rig);
void rig_wait_kept (Rig *rig, unsigned n);

/* A channel whose ends are both in this process. */
Channel *rig_channel (Rig *rig);
Channel *rig_channel_sized (Rig *rig, uint32_t requests, uint32_t replies);

extern const CallPlan plan_of[N_METHODS];
/* The same with another deadline. */
CallPlan plan_with (unsigned method, uint32_t timeout_ms);
/* Plans of the letters, which need tables: filled in by the first rig. */
const CallPlan *letter_plan (void);

void reply_free (CellResult *result);
/* One call of a method that has tokens on both sides; argument: the first. */
CellStatus call_token (Channel *channel, unsigned method, uint64_t caller, uint64_t sequence, uint64_t argument);
uint64_t start_token (Channel *channel, const CallPlan *plan, uint64_t caller, uint64_t sequence);
CellStatus finish_token (Channel *channel, uint64_t id, Token *ret);
/* At least n calls, synchronous, one-way and pipelined by turns, each reply checked.  Returns how many; 0: something was wrong. */
uint64_t mixed_calls (Channel *channel, unsigned caller, unsigned n);
/* ECHO and a look at what came back. */
void echo (Channel *channel, uint64_t caller, uint64_t sequence);

/* ---- across processes -------------------------------------------------------------------------- */

/* Two ends of a channel as two processes have them: `caller` for the child, `callee` for whoever serves the rig. */
typedef struct
{
  Channel *caller, *callee;
  Endpoint elsewhere;           /* the cell as the caller's process sees it: never here */
  Half *requests, *replies;
} Pair;

Pair *pair_new (Rig *rig, uint32_t request_capacity, uint32_t reply_capacity);
void pair_free (Pair *pair);

/* A thread that serves callers from outside: looks, and sleeps on the words of their next requests. */
#define POLLER_MAX 3
typedef struct
{
  Channel *channels[POLLER_MAX];
  unsigned n;
  _Atomic uint32_t stop;
  _Atomic int32_t tid;
  uint32_t hints_lost;          /* requests that were there when its bounded look was due */
  pthread_t thread;
} Poller;

void poller_start (Poller *poller, Channel *const *channels, unsigned n);
void poller_stop (Poller *poller);

/* Runs a function in a child process, which ends with its result. */
pid_t child_start (int (*run) (void *data), void *data);
/* Waits for it and checks that it ended with 0. */
void child_join (pid_t pid);

/* In a child, where GLib's checks would go on with the parent's output. */
#define child_check(condition) \
  do { if (!(condition)) { fprintf (stderr, "child: %s:%d: %s\n", __FILE__, __LINE__, #condition); fflush (stderr); _exit (1); } } \
  while (0)

/* ---- odds and ends ---------------------------------------------------------------------------------- */

/* A count that fits the build: smaller where every access costs twenty times as much. */
unsigned scaled (unsigned count);
/* Waits until *word is at least that; for what happens soon or never.  False: it did not within ten seconds. */
bool wait_at_least (_Atomic uint32_t *word, uint32_t value);
/* Whether a thread of this process sleeps in a futex call or in poll, as the kernel says. */
bool is_asleep (pid_t pid, pid_t tid);
void wait_until_asleep (pid_t pid, pid_t tid);
pid_t thread_id (void);
/* Whether a thread of this process that sleeps has this futex word among those it sleeps on, as the kernel says; false, too, where
 * the kernel does not say. */
bool sleeps_on (pid_t tid, const void *word);
/* Memory that children share. */
void *shared_memory (size_t size);
/* The next epoch: generation and state; wakes everybody. */
void epoch_step (Rig *rig, uint32_t state);

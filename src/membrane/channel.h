/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Channels: one execution context calling one cell.  A channel has a caller's end and a callee's end; in process both are in one
 * struct, across processes each side has its own.
 *
 * Who may touch what:
 *   caller's end   the context that calls: a thread, or a serial cell's code (its gate orders it)
 *   callee's end   whoever holds the callee's gate, or for a concurrent cell the channel's `busy` word
 *   the chain of moved halves   its mutex
 */
#pragma once
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <cell/client.h>

#include "blob.h"
#include "codec.h"
#include "gate.h"
#include "ring.h"
#include "wait.h"

#define CHANNEL_CAPACITY 16384u         /* bytes of a half's data unless a method needs more */
#define CHANNEL_TIMEOUT_MS 5000u
#define REPLY_MAX_DEFAULT 4096u         /* max_reply unless a method says otherwise */
#define ERROR_ROOM 512u                 /* bytes of an error's payload; no max_reply is smaller */
#define CALL_BLOBS_MAX 64u              /* in one request or reply */
#define SIGNAL_BYTES_MAX (8u << 20)     /* in signals that wait for a subscriber's context */
#define SIGNALS_KEPT_MAX 1024u          /* signals that wait for a subscriber's context */

typedef struct Channel Channel;
typedef struct Endpoint Endpoint;
typedef struct Method Method;

/* ---- epoch page ------------------------------------------------------------------------------ */

enum /* low bits of Epoch.word */
{
  EPOCH_SERVING, EPOCH_DEAD
};

/* One per cell, written by the host, read-only for everybody else. */
typedef struct
{
  _Alignas (64) _Atomic uint32_t word;  /* futex: generation << 2 | state; changes with every hand-over */
  _Atomic uint64_t generation;          /* never reused */
} Epoch;

/* ---- what serves ------------------------------------------------------------------------------ */

#define LATENCY_BUCKETS 128             /* quarter octaves from 16 ns: up to a minute */

typedef struct
{
  _Atomic uint64_t calls, errors;
  _Atomic uint64_t latency[LATENCY_BUCKETS];    /* of every 16th call, later of every 256th: time in the handler */
} MethodStats;

struct Method
{
  CellInvoke invoke;
  const CodecPlan *in, *out;            /* NULL: none */
  uint32_t max_reply;
  uint32_t flags;                       /* 1 << CELL_ATTRIBUTE_… */
  uint32_t access;                      /* CELL_ACCESS_… */
  bool fast;                            /* both trivial, for anybody: the request is used and the reply built where they lie */
  bool plain_reply;                     /* the reply is trivial, for anybody */
  uint32_t in_size;                     /* bytes that a request has to have to be used where it lies */
  RecordHead head;                      /* of a fast reply */
  const char *name;
  MethodStats *stats;                   /* outlives builds: the cell's */
};

/* An instance that serves in this process. */
struct Service
{
  void *self;
  uint32_t n_methods;
  Method *methods;                      /* by the number that callers use; invoke NULL: this build does not have it */
  Endpoint *endpoint;
  pthread_mutex_t lock;                 /* of the calls that are kept: several threads of a concurrent cell keep and answer them */
  uint32_t n_deferred;
  uint32_t n_deferred_blobs, look_at;   /* look_at: with so many it is looked whose callers have gone */
  struct Deferred *deferred;            /* calls that wait for their answer */
  const char *interface;                /* prefix of error names */
  void *data;
};

/* One cell as its callers see it from this process. */
struct Endpoint
{
  Gate gate;                            /* closed while the cell is elsewhere; see endpoint_of () */
  _Atomic uint32_t refs;
  const Epoch *epoch;
  Service *service;                     /* while it is here; the gate's holder changes it */
  uint32_t threading;                   /* CELL_SERIAL … */
  uint32_t cell;                        /* what trails call it; 0: they need not know */
  pthread_mutex_t lock;                 /* of the list of channels */
  Channel *channels;
  Channel *ending;                      /* of a concurrent cell: have been removed, and somebody is in */
  _Atomic uint64_t subscribed;          /* signals that some channel may want: no bit is missing, some may be too many */
  _Atomic uint32_t inside;              /* threads that run a concurrent cell's code outside of its calls */
  _Atomic uint64_t slow, jobs;          /* methods, by number modulo 64: took long when the time was last taken; are known to */
  void *data;
  /* What a caller without the role that a method asks for (access) is told; NULL: nothing in particular. */
  void (*say_denied) (Channel *channel, uint32_t access, char *text, size_t size);
};

#define SLOW_NS 200000u                 /* a handler that takes longer is slow */

static inline uint64_t
endpoint_slow_bit (uint32_t method)
{
  return 1ull << (method & 63);
}

/* ---- calls ------------------------------------------------------------------------------------ */

/* A method as its caller was compiled for it. */
typedef struct
{
  const CodecPlan *args, *reply;        /* NULL: none */
  uint32_t number;                      /* at the callee */
  uint32_t timeout;                     /* ms */
  bool fast, oneway;                    /* fast: both trivial, and an answer is expected */
  bool plain;                           /* the arguments are trivial */
  bool encoded;                         /* the arguments have pointers but no blobs, the reply is trivial, and an answer is
                                         * expected */
  uint32_t reply_size;                  /* of the outputs */
  RecordHead head;                      /* of a fast request */
  const char *name;
} CallPlan;

/* A call that is being served, or kept: CellCall of the ABI. */
struct CellCall
{
  Frame frame;                          /* first: a call is known by it */
  Channel *channel;
  Service *service;
  const Method *method;
  ThreadContext *thread;
  uint64_t id;
  uint64_t trace;
  uint32_t number;                      /* of the method, as callers know it */
  uint32_t flags;                       /* RECORD_… */
  CellStatus status;                    /* of fail (); CELL_OK */
  const char *error, *message;          /* full name */
  Record *reply;                        /* reserved space, or NULL */
  uint32_t capacity, used, root_out;    /* of the reply's payload; used: what alloc () took in it */
  bool build_in_place;
  bool dirty;                           /* a fast call: has blobs, an error, or memory of the thread's arena from `mark` on */
  ArenaMark mark;
  uint32_t n_blobs;
  CellBlob **blobs;                     /* borrowed for the call */
  const void *in;
  const Record *request;                /* until the handler returns */
  uint32_t length, root;                /* of the request's payload */
  struct Deferred *deferred;            /* when it is kept */
};

typedef struct Pending Pending;
typedef struct Kept Kept;
typedef struct MovedHalf MovedHalf;

/* A reply or a signal that has arrived and waits for its context. */
struct Kept
{
  Kept *next;
  uint64_t id;
  uint32_t length, root;
  int32_t status;
  uint16_t kind, method;
  uint32_t credit;                      /* of an answer to a kept call: bytes that were promised to it */
  bool untrusted;                       /* a reply: another process has written it, wherever the callee is by now */
  uint8_t payload[] __attribute__ ((aligned (16)));
};

struct Pending
{
  uint64_t id;                          /* 0: free */
  uint64_t start, end;                  /* positions of its request and behind it */
  const CallPlan *plan;
  CellDone done;
  void *data;
  CellResult *result;                   /* of a caller that waits */
  Kept *kept;
  uint32_t due;                         /* past that it is overdue: coarse clock, ms */
  uint8_t state;
  bool async;                           /* counted in n_async */
};

enum /* Pending.state */
{
  PENDING_SENDING = 1, PENDING_OPEN, PENDING_ANSWERED
};

/* The callee's half of the next generation, and where the one before ended. */
struct MovedHalf
{
  MovedHalf *next;
  Half *half;                           /* NULL: there is no successor */
  uint64_t generation;
  uint64_t final_taken, final_reply;    /* of the generation before */
  bool crashed;
  bool untrusted;                       /* the new consumer is another process */
  bool vacant;                          /* nobody writes to it: another one comes when somebody does */
  int bell;                             /* that wakes it when it sleeps in a main loop; -1: none, or the same as before */
};

typedef void (*ChannelOnSignal) (Channel *channel, uint32_t number, uint64_t missed, Kept *signal, void *data);

struct Channel
{
  /* callee's end */
  GateNode node;                        /* in the callee's ready list */
  RingReader requests;
  RingWriter answers;
  Endpoint *endpoint;                   /* the callee's */
  uint32_t reserved;                    /* reply bytes promised to deferred calls */
  bool untrusted;                       /* the caller is another process */
  CellCall *building;                   /* the call whose reply is being built at the head of `answers` */
  _Atomic uint32_t busy;                /* concurrent cells: BUSY_… */
  _Atomic (ThreadContext *) server;     /* concurrent cells: who serves this channel */
  _Atomic uint64_t blocked_at;          /* the caller's cursor when the channel was set aside; BLOCKED_SIGNAL: it is not */
  uint32_t access;                      /* what the caller may do: CELL_ACCESS_… */
  _Atomic uint64_t subscribed;          /* signals, by number; others read it under the endpoint's lock */
  uint64_t missed;                      /* signals that did not fit: the next one tells of them */
  Kept *unsent;                         /* the newest of those, until there is room */
  _Atomic uint32_t has_unsent;
  _Atomic uint64_t unsent_at;           /* the caller's cursor when it was last tried */
  Kept *stash, **stash_end;             /* records for `answers` that have to wait for the reply under construction */
  uint32_t n_stashed;
  uint64_t stash_missed;                /* signals behind those that were lost */
  Kept *posted, **posted_end;           /* the same from other threads of a concurrent cell; under `lock` */
  _Atomic uint32_t n_posted;
  uint64_t posted_missed;               /* signals that found it full; under `lock` */
  int caller_bell;                      /* of a caller that sleeps in a main loop, or -1 */

  CellCall trivial_call;                /* of a call without pointers: kept clean, so that there is little to set */

  /* caller's end */
  _Alignas (64) RingWriter out;
  RingReader replies;
  bool replies_untrusted;               /* the callee is another process */
  bool remote;                          /* no callee's end in this process, whatever happens */
  uint32_t epoch_seen;
  uint64_t next_id;
  uint32_t sent_length;                 /* of the last request */
  bool too_small;                       /* the last request would not have fitted into the empty ring: it takes a larger one */
  bool listens;                         /* signals are expected */
  uint32_t n_async;                     /* open calls with a completion */
  uint32_t n_pending, pending_mask;
  Pending *pending;
  SpinBudget spin;
  uint32_t hints_lost;                  /* replies that were there when a bounded look was due, and nobody had woken us for */
  int callee_bell;                      /* of a callee that sleeps in a main loop, or -1 */
  Kept *ready, **ready_end;             /* completions and signals to dispatch, in order of arrival */
  uint32_t n_signals_kept;
  uint64_t signal_bytes;                /* in them */
  uint64_t signals_dropped;
  _Atomic uint32_t time_is_up;          /* the provider's timer went off: calls may be overdue */
  void (*notify) (Channel *channel);    /* there is something to dispatch; from any thread that has a reference */
  bool (*look) (Channel *channel);      /* fetches what the host says of a new epoch; NULL in the host */
  ChannelOnSignal on_signal;
  void *context;                        /* of notify, look and on_signal */

  /* both */
  Half *caller_half, *callee_half;      /* callee_half: the one that the caller's end reads */
  Half *former_half;                    /* the one that it read before that, up to here; see caller_drop_former () */
  uint64_t former_end;
  Half *request_half, *answer_half;     /* the ones that the callee's end reads and writes */
  struct BlobPort *blobs;
  BlobShare share;                      /* of a caller in this process: what it hands out is the callee's to fetch */
  bool vacant;                          /* nobody writes to what the caller's end reads; the host will say who does */
  bool adopting;                        /* what is read now was written by whoever served before */
  uint64_t callee_generation;           /* who writes what the caller's end reads; in the host */
  _Atomic CellStatus broken;            /* the channel ended … */
  const char *broken_rule;              /* … because its peer broke this rule … */
  uint32_t broken_at;                   /* … with what lies there in the peer's half: its page of words, then its data */
  void (*on_broken) (Channel *channel);
  pthread_mutex_t lock;
  MovedHalf *moved;
  _Atomic uint32_t refs;
  Channel *next_in_endpoint;
  void *line;                           /* of the client that calls through it */
  void (*freed) (Channel *channel);     /* the last reference has gone: notify is not called any more, and what it needs may go */
  void *freed_data;
  uint64_t serial;                      /* names it in the handshake */
  void *owner;
  _Atomic uint32_t ended;               /* the callee's end: it has been removed, nobody will be answered any more */
};

/* Fills in what depends on the other members, which are complete. */
void call_plan_finish (CallPlan *plan);
void method_finish (Method *method, uint32_t number);

Channel *channel_new (Endpoint *endpoint);
Channel *channel_ref (Channel *channel);
void channel_unref (Channel *channel);

/* Give an end its memory; the references are taken over.  taken: position in the requests; answered: position in the replies. */
void channel_set_caller (Channel *channel, Half *caller, Half *callee, uint64_t taken, uint64_t answered);
void channel_set_callee (Channel *channel, Half *caller, Half *callee, uint64_t taken, uint64_t answered);
/* A channel whose ends are both in this process: memory and all. */
Channel *channel_new_local (Endpoint *endpoint, uint32_t request_capacity, uint32_t reply_capacity, Fault *fault);

/* Calls and waits.  result is written whole: the CellResult, and behind it the outputs. */
void channel_call (Channel *channel, ThreadContext *thread, const CallPlan *plan, const void *args, CellResult *result);
/* The same for who has tried direct_call (). */
void channel_call_far (Channel *channel, ThreadContext *thread, const CallPlan *plan, const void *args, CellResult *result);
/* Sends; 0 and a result when it was not accepted (result may be NULL). */
uint64_t channel_start (Channel *channel, ThreadContext *thread, const CallPlan *plan, const void *args, CellDone done, void *data,
                        CellResult *result);
/* False: *interrupt (NULL: nothing) has changed, and the call is still open. */
bool channel_finish (Channel *channel, ThreadContext *thread, uint64_t id, const FutexWord *interrupt, CellResult *result);
/* Forgets a call: nobody waits for it, and its reply finds nobody. */
void channel_cancel (Channel *channel, uint64_t id);
/* The same on behalf of another thread: whoever finishes the call is told that it was cancelled. */
void channel_end_cancelled (Channel *channel, uint64_t id);
/* The same for every open call of its, whoever waits for it. */
void channel_end_all (Channel *channel);
/* Looks for replies and signals; those with a context are left for channel_dispatch (). */
void channel_drain (Channel *channel, ThreadContext *thread);
/* Runs completions and signal handlers.  Returns how many. */
unsigned channel_dispatch (Channel *channel, ThreadContext *thread);
/* The same in two steps, for a context that several threads share: taking is done under its lock, running is not. */
typedef struct
{
  Kept *kept;
  Pending pending;                      /* of a completion */
} Arrival;
bool channel_take_arrival (Channel *channel, Arrival *ret);
void channel_run_arrival (Channel *channel, ThreadContext *thread, Arrival *arrival);
/* Tells the callee how to wake this side while nobody waits for a reply: after `listens` was changed. */
void channel_rest (Channel *channel);
/* Waits until everything that was sent has been begun.  False: the deadline passed. */
bool channel_wait_taken (Channel *channel, ThreadContext *thread, uint64_t deadline);
/* Whether anything will or can still be got from it: open calls, answers and signals that were not fetched. */
bool channel_is_idle (const Channel *channel);
/* Ends calls that have been open for too long; now: coarse clock. */
void channel_expire (Channel *channel, ThreadContext *thread, uint32_t now);
/* Milliseconds until channel_expire () ends an asynchronous call, if none is answered before; UINT32_MAX: there is none. */
uint32_t channel_due (const Channel *channel, uint32_t now);
/* Finds out whether the callee moved, for a context that waits for nothing in particular. */
void channel_look (Channel *channel, ThreadContext *thread);
/* The callee moved: says so to the caller's end, which finds out at its next look. */
void channel_moved (Channel *channel, MovedHalf *moved);
/* Makes sure that somebody serves what has been sent: the callee's own thread, or this one. */
void channel_kick (Channel *channel, ThreadContext *thread);

/* Serves what waits in one channel, within a budget; the caller holds the gate.  NODE_MORE: there is more. */
NodeResult channel_serve (Channel *channel, ThreadContext *thread);
/* Serves a channel of a cell that is here, taking its gate if it is free. */
void channel_serve_ready (Channel *channel, ThreadContext *thread);
/* Sends a reply or a signal from the callee's end, or keeps it until the reply under construction has gone. */
bool channel_send (Channel *channel, uint16_t kind, uint64_t id, uint16_t method, CellStatus status, const void *payload,
                   uint32_t length, uint32_t root);

/* What the cell's code sends outside of a call's own reply.  From any thread that runs it: in a serial cell that is whoever holds
 * the gate; the channel of a concurrent cell may be in use by another thread, which then sends what has been posted to it. */

/* Sends a signal to all that have subscribed to it.  Never waits: where it does not fit, it is counted as missed.  False: so it is
 * because it cannot be encoded, and fault says why. */
bool endpoint_emit (Endpoint *endpoint, ThreadContext *thread, uint16_t number, const CodecPlan *plan, const void *args,
                    CodecFault *fault);
/* Answers a kept call; credit: what had been promised to it. */
void channel_send_answer (Channel *channel, ThreadContext *thread, uint64_t id, uint16_t method, CellStatus status,
                          const void *payload, uint32_t length, uint32_t root, uint32_t credit);
/* For whoever has a concurrent cell's channel. */
void channel_flush_posted (Channel *channel);
/* The newest signal that there was no room for, if there is one: for whoever has the channel, which goes elsewhere, or has come. */
void channel_keep_signal (Channel *channel, uint16_t number, const void *payload, uint32_t length, uint32_t root);
void channel_drop_signal (Channel *channel);
/* Takes the oldest signal out of such a list: the next one tells of it and of what it was to tell of, or *missed counts them. */
bool kept_drop_signal (Kept **list, Kept ***end, uint64_t *missed);
/* From now on the channel gets these signals; whoever has the channel. */
void channel_subscribe (Channel *channel, uint64_t signals);

/* Set aside: its caller has not read anything since there was no room for a reply. */
static inline bool
channel_is_blocked (const Channel *channel)
{
  return load_relaxed (&channel->answers.own->blocked) != 0
         && load_acquire (&channel->answers.peer->released) == load_relaxed (&channel->blocked_at);
}

#define BLOCKED_SIGNAL UINT64_MAX       /* the caller is to say when there is room for a signal; calls are served meanwhile */

/* There may be room for the signal that waits; or the caller has been asked to say so, and has. */
static inline bool
channel_has_news (const Channel *channel)
{
  return unlikely (load_relaxed (&channel->has_unsent) != 0)
         && (load_relaxed (&channel->answers.own->blocked) == 0
             || load_acquire (&channel->answers.peer->released) != load_relaxed (&channel->unsent_at));
}

enum /* Channel.busy */
{
  BUSY_NOT,
  BUSY_SERVED,                  /* somebody serves this channel … */
  BUSY_AGAIN,                   /* … and has been asked to look again */
  BUSY_SENDING                  /* somebody puts what was posted into its replies: no handler runs, and it is over in a moment */
};

/* Who was in a channel that has ended is out. */
void endpoint_let_go (Endpoint *endpoint, Channel *channel);
/* Waits while somebody sends; returns what `busy` is then. */
uint32_t concurrent_await_sent (Channel *channel);

/* Concurrent cells have no gate: each channel has a word that says that it is being served, and closing the gate makes everybody
 * look elsewhere.  Entering orders the word before the look at the gate, as closing orders the gate before the look at the
 * words.  The end of a channel is the same for one: who is in is seen by the endpoint until he is out. */
static inline bool
concurrent_out (Channel *channel)
{
  bool again = atomic_exchange (&channel->busy, BUSY_NOT) == BUSY_AGAIN;

  if (likely (!atomic_load (&channel->ended)))
    return again;
  endpoint_let_go (channel->endpoint, channel);
  return false;
}

static inline bool
concurrent_enter (Channel *channel, ThreadContext *thread)
{
  uint32_t busy = BUSY_NOT;

  for (;;)
    {
      if (unlikely (busy == BUSY_SENDING))
        busy = concurrent_await_sent (channel);
      if (unlikely (!atomic_compare_exchange_weak (&channel->busy, &busy, busy == BUSY_NOT ? BUSY_SERVED : BUSY_AGAIN)))
        continue;
      if (busy != BUSY_NOT)
        return false;
      if (likely (!(atomic_load (&channel->endpoint->gate.word) & GATE_CLOSED) && !atomic_load (&channel->ended)))
        break;
      /* The gate may have been opened since, and whoever looked then has left the looking to us. */
      if (!concurrent_out (channel))
        return false;
    }
  store_relaxed (&channel->server, thread);
  return true;
}

/* True: something has come meanwhile, look again. */
static inline bool
concurrent_leave (Channel *channel)
{
  store_relaxed (&channel->server, NULL);
  return concurrent_out (channel);
}

void result_set_error (CellResult *result, CellStatus status, const char *format, ...) __attribute__ ((format (printf, 3, 4)));
const char *status_name (CellStatus status);
const char *status_text (CellStatus status);

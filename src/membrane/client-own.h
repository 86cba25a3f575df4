/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A client, between its files: whose it is (client-owner.c), its contexts (client-callers.c), the numbers of its cell
 * (client-binding.c), channels (client-line.c), signals (client-signals.c), calls that are finished later (client-async.c), what
 * comes (client-dispatch.c), moves (client-move.c), and the rest (client.c).
 */
#pragma once
#include "client.h"

#define NO_SLOT UINT32_MAX
#define ID_SHARED ((uint64_t) 1 << 63)          /* of calls on the channel that a concurrent cell's threads share */
#define ID_FAILED ((uint64_t) 1 << 62)          /* of calls that could not be sent */

typedef struct Client Client;
typedef struct Caller Caller;
typedef struct Line Line;
typedef struct Failed Failed;

/* A client's methods and signals as the callee numbers them.  Immutable but for the deadlines; lines share it. */
typedef struct
{
  _Atomic uint32_t refs;
  uint64_t cell;
  uint32_t *signals;
  CallPlan plans[];
} Binding;

/* A channel in use, or one that was replaced and has something to deliver yet. */
struct Line
{
  Caller *caller;
  Channel *channel;
  Binding *binding;
  uint64_t first_id;                    /* the ids of its calls are above this */
  uint32_t expired;                     /* when overdue calls were last looked for: coarse clock */
  Line *older;
};

typedef struct
{
  CellOnSignal fn;                      /* NULL: not subscribed */
  void *data;
  uint64_t gap;                         /* signals lost that the channel does not know of */
} Handler;

struct Failed
{
  Failed *next;
  uint64_t id;
  uint32_t method;
  CellDone done;
  void *data;
  CellResult result;
};

/* One context of a client's: a thread, or a cell's code. */
struct Caller
{
  Channel *channel;                     /* NULL: none yet, or it has to be replaced */
  const CallPlan *plans;                /* the channel's */
  Client *client;
  ThreadContext *thread;                /* whose it is, where each thread has one */
  Line *lines;                          /* newest first */
  uint64_t last_id;
  uint32_t capacity;                    /* of a channel's requests; 0: the usual */
  uint32_t retried;                     /* when a subscriber last tried again: coarse clock */
  Handler *handlers;                    /* by the client's numbers; NULL: never subscribed */
  Failed *failed;
  uint64_t n_failed;
  Caller *next;                         /* of the client */
  /* Calls that other threads cancelled: counted so that who waits notices, and under `registry`. */
  _Atomic uint32_t cancels;
  uint32_t cancels_seen;                /* by the caller's own thread */
  uint32_t n_cancelled;
  uint64_t *cancelled;
};

struct Client
{
  CellClient base;
  _Atomic (const Service *) owner;      /* only its code may use it; NULL: anybody, &client_gone: nobody any more */
  uint32_t slot;                        /* of this client in each thread's table, or NO_SLOT */
  uint32_t n_methods, n_signals;
  Caller own;                           /* a serial cell's; of a concurrent one: for completions and signals, under `shared` */
  _Atomic uint32_t refs;
  ClientContext context;
  const ClientProvider *provider;
  void *data;
  char *name;
  const CellRemote *remote;
  CodecPlan **args, **replies, **signals;       /* NULL where there is nothing */
  const char *unsound;                  /* what is wrong with the remote's tables */
  pthread_mutex_t lock;                 /* of binding and timeout */
  Binding *binding;
  uint32_t timeout;                     /* ms; 0: each method's own */
  pthread_mutex_t shared;
  Caller *callers;                      /* one for each thread; under `registry` */
  uint32_t ending;                      /* threads that are closing their caller; under `registry` */
  char *cell;                           /* the owner's name */
  Client *next_gone;
  bool closed_by_cell;
};

static inline const CellRemoteMethod *
remote_method (const CellRemote *remote, uint32_t i)
{
  return (const CellRemoteMethod *) ((const char *) remote->methods + (size_t) i * remote->method_size);
}

static inline const CellRemoteSignal *
remote_signal (const CellRemote *remote, uint32_t i)
{
  return (const CellRemoteSignal *) ((const char *) remote->signals + (size_t) i * remote->signal_size);
}

/* ---- whose it is: client-owner.c --------------------------------------------------------------------------------- */

extern const Service client_gone;

/* A thread that runs none of the owner's code must not touch anything else of the client. */
static inline bool
client_is_for (const Client *client, const ThreadContext *thread)
{
  const Service *owner = load_relaxed (&client->owner);

  return owner == thread->frame->service || owner == NULL;
}

/* Whose frame its completions and signal handlers run in. */
static inline const Service *
client_frame (const Client *client)
{
  const Service *owner = load_relaxed (&client->owner);

  return owner != &client_gone ? owner : NULL;
}

/* Says that it is not.  reply: NULL, or to be filled. */
CellStatus client_refuse (Client *client, const char *function, const void *from, uint32_t method, CellResult *reply);
/* The same to a completion, at once. */
void client_refuse_async (Client *client, const char *function, const void *from, uint32_t method, CellDone done, void *data);
/* Frees it; of one that has an owner there remains what a thread that was left behind looks at. */
void client_bury (Client *client);
#define CLIENT_FROM __builtin_return_address (0)

/* ---- contexts: client-callers.c ----------------------------------------------------------------------------- */

static inline Caller *
caller_of (Client *client, ThreadContext *thread)
{
  if (client->slot == NO_SLOT)
    return &client->own;
  return client->slot < thread->n_slots ? thread->slots[client->slot] : NULL;
}

static inline bool
is_shared (const Client *client, const Caller *caller)
{
  return client->context == CLIENT_OF_CONCURRENT && caller == &client->own;
}

static inline void
shared_lock (Client *client, bool shared)
{
  if (shared)
    pthread_mutex_lock (&client->shared);
}

static inline void
shared_unlock (Client *client, bool shared)
{
  if (shared)
    pthread_mutex_unlock (&client->shared);
}

void caller_init (Caller *caller, Client *client, ThreadContext *thread, uint64_t first_id);
/* This context's caller, made when it is used for the first time.  NULL: no memory. */
Caller *caller_get (Client *client, ThreadContext *thread);
/* False: no memory. */
bool callers_register (Client *client);
/* No thread uses the client any more.  Its callers, to be closed and freed. */
Caller *callers_unregister (Client *client);
/* The name of something that one of them waits for, or NULL. */
const char *callers_under_way (Client *client);
/* Whether it is this caller that made the call; what failed has no such number, and is said to whoever started it. */
bool caller_made (const Caller *caller, uint64_t id);
/* Has the thread that made the call end it, and wakes it if it waits. */
void callers_cancel (Client *client, uint64_t id);
/* Ends what others have cancelled; in the caller's own thread. */
void caller_take_cancels (Caller *caller);

/* ---- the numbers of its cell: client-binding.c ---------------------------------------------------------------- */

/* What is wrong with its tables is said in `unsound`. */
void client_compile (Client *client);
/* A reference.  ret_fresh: it was not known before.  NULL: fault. */
Binding *client_bind (Client *client, bool *ret_fresh, Fault *fault);
/* The next one who needs it binds anew. */
void client_forget (Client *client, Binding *binding);
void binding_unref (Binding *binding);
/* ms, of a method. */
uint32_t client_timeout (const Client *client, uint32_t method);

/* ---- channels: client-line.c ------------------------------------------------------------------------------------ */

/* Makes sure that there is a channel to use.  False: fault. */
bool caller_ready (Caller *caller, ThreadContext *thread, Fault *fault);
/* A request did not fit into the ring: the next channel has a larger one.  The callee begins what is in the old one first. */
bool caller_widen (Caller *caller, ThreadContext *thread, uint32_t timeout, Fault *fault);
/* The one on which that call was made, or NULL. */
Line *line_of (Caller *caller, uint64_t id);
/* One that was replaced goes when it has delivered everything. */
void line_settle (Line *line);
void caller_close (Caller *caller);

/* ---- signals: client-signals.c ------------------------------------------------------------------------------------ */

void line_on_signal (Channel *channel, uint32_t number, uint64_t missed, Kept *kept, void *data);
/* Those that its caller wants, by the numbers of the cell. */
uint64_t line_signal_mask (const Line *line);
/* Tells the callee which signals this channel wants. */
bool line_send_mask (Channel *channel, ThreadContext *thread, uint64_t mask, Fault *fault);
bool caller_has_handlers (const Caller *caller);
CellStatus client_subscribe (CellClient *base, uint32_t signal, CellOnSignal fn, void *data);
void client_unsubscribe (CellClient *base, uint32_t signal);

/* ---- calls that are finished later: client-async.c -------------------------------------------------------------------- */

CellPending client_start (CellClient *base, uint32_t method, const void *args, CellDone done, void *data);
void client_finish (CellPending pending, CellResult *reply);
void client_cancel (CellPending pending);
/* One that could not be sent and has a completion (id 0), or the one with that id. */
Failed *caller_take_failed (Caller *caller, uint64_t id);
/* Says so to its completion; 1. */
unsigned client_run_failed (Client *client, Failed *failed);

/* ---- and the rest --------------------------------------------------------------------------------------------------- */

/* The name of something that it waits for, or NULL. */
const char *caller_under_way (const Caller *caller);
/* A channel to call this method on.  NULL: fault. */
Channel *caller_prepare (Caller *caller, ThreadContext *thread, uint32_t method, Fault *fault);
const char *client_method_name (const Client *client, uint32_t method);
void client_unref (Client *client);

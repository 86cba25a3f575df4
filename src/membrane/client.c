/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "client.h"

#include <stdlib.h>
#include <string.h>

#include "blob.h"
#include "direct.h"
#include "wire.h"

#define NO_SLOT UINT32_MAX
#define CAPACITY_MAX (half_capacity_for (RECORD_MAX_PAYLOAD + 4096u) * 2)
#define ID_SHARED ((uint64_t) 1 << 63)          /* of calls on the channel that a concurrent cell's threads share */
#define ID_FAILED ((uint64_t) 1 << 62)          /* of calls that could not be sent */
#define ID_CALLER_SHIFT 40                      /* callers' ids begin at distances: one thread's call is not taken for another's */
#define EXPIRE_MS 64u                           /* how often overdue calls are looked for */
#define RETRY_MS 1000u                          /* how often a subscriber tries to find a cell that went away */

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
};

static const CellRemoteMethod *
remote_method (const CellRemote *remote, uint32_t i)
{
  return (const CellRemoteMethod *) ((const char *) remote->methods + (size_t) i * remote->method_size);
}

static const CellRemoteSignal *
remote_signal (const CellRemote *remote, uint32_t i)
{
  return (const CellRemoteSignal *) ((const char *) remote->signals + (size_t) i * remote->signal_size);
}

/* ---- the numbers of clients ----------------------------------------------------------------------- */

/* Of slots, of every client's callers, and of the tables of threads, which a client that is closed takes itself out of.  A thread
 * reads its own table without it: only its own entries change under its feet, and only those of clients that it no longer uses. */
static pthread_mutex_t registry = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t registry_changed = PTHREAD_COND_INITIALIZER;
static Client **slots;
static uint32_t n_slots;

/* With the registry locked. */
static uint32_t
slot_take (Client *client)
{
  uint32_t i = 0;
  Client **grown;

  while (i < n_slots && slots[i] != NULL)
    i++;
  if (i == n_slots)
    {
      grown = realloc (slots, (n_slots + 16) * sizeof *slots);
      if (grown == NULL)
        return NO_SLOT;
      memset (grown + n_slots, 0, 16 * sizeof *grown);
      slots = grown;
      n_slots += 16;
    }
  slots[i] = client;
  return i;
}

/* With the registry locked. */
static bool
thread_set_slot (ThreadContext *thread, uint32_t slot, Caller *caller)
{
  uint32_t n = (slot + 16) & ~15u;
  void **grown;

  if (slot >= thread->n_slots)
    {
      grown = realloc (thread->slots, n * sizeof *grown);
      if (grown == NULL)
        return false;
      memset (grown + thread->n_slots, 0, (n - thread->n_slots) * sizeof *grown);
      thread->slots = grown;
      thread->n_slots = n;
    }
  thread->slots[slot] = caller;
  return true;
}

static inline Caller *
caller_of (Client *client, ThreadContext *thread)
{
  if (client->slot == NO_SLOT)
    return &client->own;
  return client->slot < thread->n_slots ? thread->slots[client->slot] : NULL;
}

static void
caller_init (Caller *caller, Client *client, ThreadContext *thread, uint64_t first_id)
{
  *caller = (Caller) { .client = client, .thread = thread, .last_id = first_id };
}

/* This context's caller, made when it is used for the first time.  NULL: no memory. */
static Caller *
caller_get (Client *client, ThreadContext *thread)
{
  static uint64_t last_caller;
  Caller *caller = caller_of (client, thread);

  if (caller != NULL || (caller = calloc (1, sizeof *caller)) == NULL)
    return caller;
  pthread_mutex_lock (&registry);
  last_caller = (last_caller + 1) & (((uint64_t) 1 << (62 - ID_CALLER_SHIFT)) - 1);
  caller_init (caller, client, thread, last_caller << ID_CALLER_SHIFT);
  if (thread_set_slot (thread, client->slot, caller))
    {
      caller->next = client->callers;
      client->callers = caller;
    }
  else
    {
      free (caller);
      caller = NULL;
    }
  pthread_mutex_unlock (&registry);
  return caller;
}

static bool
is_shared (const Client *client, const Caller *caller)
{
  return client->context == CLIENT_OF_CONCURRENT && caller == &client->own;
}

static void
shared_lock (Client *client, bool shared)
{
  if (shared)
    pthread_mutex_lock (&client->shared);
}

static void
shared_unlock (Client *client, bool shared)
{
  if (shared)
    pthread_mutex_unlock (&client->shared);
}

/* ---- tables -------------------------------------------------------------------------------------------- */

static void
extend (uint32_t *size, uint32_t *align, uint32_t offset, uint32_t bytes, uint32_t alignment)
{
  if (offset + bytes > *size)
    *size = offset + bytes;
  if (alignment > *align)
    *align = alignment;
}

/* The struct of these rows alone.  A reply's C struct begins with a CellResult, which may have aligned its end further than the
 * callee's outputs need. */
static uint32_t
natural_size (const CellType *type)
{
  uint32_t size = 0, align = 1;

  for (uint32_t i = 0; i < type->n_fields; i++)
    {
      const CellField *field = &type->fields[i];

      if (field->type == NULL)
        continue;
      switch (field->shape)
        {
        case CELL_SHAPE_ARRAY:
          extend (&size, &align, field->offset, 8, 8);
          extend (&size, &align, field->extra, 8, 4);
          break;
        case CELL_SHAPE_OPTIONAL:
          extend (&size, &align, field->offset, field->type->size, field->type->align);
          extend (&size, &align, field->extra, 1, 1);
          break;
        default:
          extend (&size, &align, field->offset, field->type->size, field->type->align);
        }
    }
  return (size + align - 1) & ~(align - 1);
}

/* False: the tables are unsound.  NULL in *ret_plan: there are no members. */
static bool
compile (const CellType *type, CodecPlan **ret_plan, const char **ret_why)
{
  *ret_plan = NULL;
  if (type == NULL || type->n_fields == 0)
    return true;
  *ret_plan = codec_plan_new (type->fields, type->n_fields, CELL_ROLE_FIELD, natural_size (type), ret_why);
  return *ret_plan != NULL;
}

static void
compile_tables (Client *client)
{
  const CellRemote *remote = client->remote;

  for (uint32_t i = 0; i < client->n_methods; i++)
    if (!compile (remote_method (remote, i)->args, &client->args[i], &client->unsound)
        || !compile (remote_method (remote, i)->reply, &client->replies[i], &client->unsound))
      return;
  for (uint32_t i = 0; i < client->n_signals; i++)
    if (!compile (remote_signal (remote, i)->args, &client->signals[i], &client->unsound))
      return;
}

/* ---- bindings ------------------------------------------------------------------------------------------- */

static void
binding_unref (Binding *binding)
{
  if (binding == NULL || atomic_fetch_sub (&binding->refs, 1) != 1)
    return;
  free (binding->signals);
  free (binding);
}

static uint32_t
timeout_of (const Client *client, uint32_t method)
{
  uint32_t own = remote_method (client->remote, method)->timeout;

  return client->timeout != 0 ? client->timeout : own != 0 ? own : CHANNEL_TIMEOUT_MS;
}

/* With the client's lock. */
static Binding *
binding_new (Client *client, Fault *fault)
{
  const CellRemote *remote = client->remote;
  Binding *binding = calloc (1, sizeof *binding + client->n_methods * sizeof (CallPlan));
  uint32_t *methods = calloc (client->n_methods + 1, sizeof *methods);
  uint32_t *signals = calloc (client->n_signals + 1, sizeof *signals);

  if (binding == NULL || methods == NULL || signals == NULL
      || !client->provider->bind (client->data, client->name, remote, methods, signals, &binding->cell, fault))
    {
      if (fault->status == CELL_OK)
        fault_set (fault, CELL_ERROR_NO_RESOURCES, "%s", status_text (CELL_ERROR_NO_RESOURCES));
      free (binding);
      free (methods);
      free (signals);
      return NULL;
    }
  binding->refs = 1;
  binding->signals = signals;
  for (uint32_t i = 0; i < client->n_methods; i++)
    {
      binding->plans[i] = (CallPlan) {
        .args = client->args[i], .reply = client->replies[i], .number = methods[i], .timeout = timeout_of (client, i),
        .oneway = (remote_method (remote, i)->flags & CELL_FLAG_ONEWAY) != 0, .name = remote_method (remote, i)->name,
      };
      call_plan_finish (&binding->plans[i]);
    }
  free (methods);
  return binding;
}

/* A reference.  ret_fresh: it was not known before. */
static Binding *
client_bind (Client *client, bool *ret_fresh, Fault *fault)
{
  Binding *binding;

  if (client->unsound != NULL)
    {
      fault_set (fault, CELL_ERROR_CONTRACT, "the tables that the caller was compiled with are not sound: %s", client->unsound);
      return NULL;
    }
  pthread_mutex_lock (&client->lock);
  *ret_fresh = client->binding == NULL;
  if (client->binding == NULL)
    client->binding = binding_new (client, fault);
  binding = client->binding;
  if (binding != NULL)
    atomic_fetch_add (&binding->refs, 1);
  pthread_mutex_unlock (&client->lock);
  return binding;
}

/* The next one who needs it binds anew. */
static void
client_forget (Client *client, Binding *binding)
{
  bool same;

  pthread_mutex_lock (&client->lock);
  same = client->binding == binding;
  if (same)
    client->binding = NULL;
  pthread_mutex_unlock (&client->lock);
  if (same)
    binding_unref (binding);
}

/* ---- signals ---------------------------------------------------------------------------------------------- */

#define SIGNAL_BLOBS_MAX 64u

typedef struct
{
  BlobPort *port;
  uint32_t n;
  CellBlob *blobs[SIGNAL_BLOBS_MAX];
} SignalBlobs;

static CellBlob *
import_blob (void *data, uint64_t id)
{
  SignalBlobs *import = data;
  CellBlob *blob = import->port != NULL && import->n < SIGNAL_BLOBS_MAX ? import->port->import_blob (import->port, id) : NULL;

  if (blob != NULL)
    import->blobs[import->n++] = blob;
  return blob;
}

/* Our number of a signal that the callee calls `number`. */
static bool
signal_find (const Client *client, const Line *line, uint32_t number, uint32_t *ret_signal)
{
  for (uint32_t i = 0; i < client->n_signals; i++)
    if (line->binding->signals[i] == number)
      {
        *ret_signal = i;
        return true;
      }
  return false;
}

static void
run_handler (const Handler *handler, uint64_t missed, const CodecPlan *plan, Kept *kept, BlobPort *port, Handler *gaps)
{
  Arena *arena = &thread_context ()->arena;
  ArenaMark mark = arena_mark (arena);
  SignalBlobs import = { .port = port };
  CodecBlobs blobs = { NULL, import_blob, &import };
  uint64_t nothing = 0;
  void *args = plan != NULL ? arena_get (arena, plan->size) : &nothing;
  CodecFault fault;

  /* What was kept is this side's own copy. */
  if (args != NULL
      && (plan == NULL || codec_decode (plan, kept->payload, kept->length, kept->root, CODEC_PRIVATE, arena, &blobs, args, &fault)))
    handler->fn (args, missed, handler->data);
  else
    gaps->gap += missed + 1;
  for (uint32_t i = 0; i < import.n; i++)
    blob_unref (import.blobs[i]);
  arena_release (arena, mark);
}

static void
on_signal (Channel *channel, uint32_t number, uint64_t missed, Kept *kept, void *data)
{
  Line *line = channel->line;
  Client *client = line != NULL ? line->caller->client : NULL;
  bool shared = client != NULL && is_shared (client, line->caller);
  Handler handler = { 0 };
  uint32_t signal = 0;

  (void) data;
  if (client == NULL)
    return;
  shared_lock (client, shared);
  if (line->caller->handlers != NULL && signal_find (client, line, number, &signal))
    {
      handler = line->caller->handlers[signal];
      line->caller->handlers[signal].gap = 0;
    }
  shared_unlock (client, shared);
  if (handler.fn == NULL)
    return;
  run_handler (&handler, missed + handler.gap, client->signals[signal], kept, channel->blobs, &line->caller->handlers[signal]);
}

static uint64_t
signal_mask (const Line *line)
{
  const Caller *caller = line->caller;
  uint64_t mask = 0;

  for (uint32_t i = 0; caller->handlers != NULL && i < caller->client->n_signals; i++)
    if (caller->handlers[i].fn != NULL && line->binding->signals[i] < WIRE_SIGNALS_MAX)
      mask |= (uint64_t) 1 << line->binding->signals[i];
  return mask;
}

static bool
has_handlers (const Caller *caller)
{
  for (uint32_t i = 0; caller->handlers != NULL && i < caller->client->n_signals; i++)
    if (caller->handlers[i].fn != NULL)
      return true;
  return false;
}

static CodecPlan *mask_plan;            /* of what WIRE_METHOD_SUBSCRIBE takes */

static void
make_mask_plan (void)
{
  static const CellType u64_type = { "u64", CELL_KIND_UINT, 8, 0, 8, NULL };
  static const CellField rows[] = { { .name = "mask", .doc = "", .type = &u64_type, .role = CELL_ROLE_FIELD } };

  mask_plan = codec_plan_new (rows, 1, CELL_ROLE_FIELD, sizeof (uint64_t), NULL);
}

/* Tells the callee which signals this channel wants. */
static bool
send_mask (Channel *channel, ThreadContext *thread, uint64_t mask, Fault *fault)
{
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  CallPlan plan = { .number = WIRE_METHOD_SUBSCRIBE, .timeout = CHANNEL_TIMEOUT_MS, .name = "subscribe" };
  CellResult result;

  pthread_once (&once, make_mask_plan);
  if (mask_plan == NULL)
    return fault_set (fault, CELL_ERROR_NO_RESOURCES, "%s", status_text (CELL_ERROR_NO_RESOURCES));
  plan.args = mask_plan;
  call_plan_finish (&plan);
  channel->listens = mask != 0;
  channel_rest (channel);
  channel_call (channel, thread, &plan, &mask, &result);
  if (result.status == CELL_OK)
    return true;
  fault_set (fault, result.status, "%s", result.message);
  cell_reply_free (&result);
  return false;
}

/* ---- lines ------------------------------------------------------------------------------------------------ */

/* Under the channel's lock: whoever dispatches for a concurrent cell may come while another thread opens or closes it. */
static void
channel_set_line (Channel *channel, Line *line)
{
  pthread_mutex_lock (&channel->lock);
  channel->line = line;
  pthread_mutex_unlock (&channel->lock);
}

static void
line_close (Line *line)
{
  Client *client = line->caller->client;

  for (Line **link = &line->caller->lines; *link != NULL; link = &(*link)->older)
    if (*link == line)
      {
        *link = line->older;
        break;
      }
  if (line->caller->channel == line->channel)
    line->caller->channel = NULL;
  channel_set_line (line->channel, NULL);
  line->channel->on_signal = NULL;
  client->provider->close (client->data, line->channel);
  binding_unref (line->binding);
  free (line);
}

/* A line that was replaced goes when it has delivered everything. */
static void
line_settle (Line *line)
{
  if (line->caller->channel != line->channel && channel_is_idle (line->channel))
    line_close (line);
}

/* The line is no longer used for new calls. */
static void
line_retire (Line *line)
{
  line->caller->last_id = line->channel->next_id;
  line->caller->channel = NULL;
}

static Line *
line_of (Caller *caller, uint64_t id)
{
  Line *line = caller->lines;

  while (line != NULL && id <= line->first_id)
    line = line->older;
  return line;
}

static Channel *
open_channel (Client *client, uint32_t capacity, Binding **ret_binding, Fault *fault)
{
  for (;;)
    {
      bool fresh = false;
      Binding *binding = client_bind (client, &fresh, fault);
      Channel *channel;

      if (binding == NULL)
        return NULL;
      *fault = (Fault) { 0 };
      channel = client->provider->open (client->data, client->name, binding->cell, capacity, fault);
      if (channel != NULL)
        {
          *ret_binding = binding;
          return channel;
        }
      client_forget (client, binding);
      binding_unref (binding);
      if (fresh)
        return NULL;
    }
}

static bool
line_open (Caller *caller, ThreadContext *thread, uint32_t capacity, Fault *fault)
{
  Line *line = calloc (1, sizeof *line);
  uint64_t mask;

  if (line == NULL)
    return fault_set (fault, CELL_ERROR_NO_RESOURCES, "%s", status_text (CELL_ERROR_NO_RESOURCES));
  line->channel = open_channel (caller->client, capacity, &line->binding, fault);
  if (line->channel == NULL)
    {
      free (line);
      return false;
    }
  line->caller = caller;
  line->first_id = caller->last_id;
  line->older = caller->lines;
  channel_set_line (line->channel, line);
  line->channel->next_id = line->first_id;
  line->channel->on_signal = on_signal;
  caller->lines = line;
  caller->channel = line->channel;
  caller->plans = line->binding->plans;
  mask = signal_mask (line);
  if (mask == 0)
    return true;
  for (uint32_t i = 0; i < caller->client->n_signals; i++)
    if (caller->handlers[i].fn != NULL)
      caller->handlers[i].gap++;        /* what was sent between the two channels, if anything */
  if (send_mask (line->channel, thread, mask, fault))
    return true;
  line_retire (line);
  line_settle (line);
  return false;
}

/* Makes sure that there is a channel to use.  False: fault. */
static bool
caller_ready (Caller *caller, ThreadContext *thread, Fault *fault)
{
  Line *line;

  if (caller->channel != NULL)
    {
      if (caller->channel->broken == CELL_OK)
        return true;
      line = caller->lines;
      line_retire (line);
      client_forget (caller->client, line->binding);
      line_settle (line);
    }
  return line_open (caller, thread, caller->capacity, fault);
}

/* A request did not fit into the ring: the next channel has a larger one.  The callee begins what is in the old one first. */
static bool
caller_widen (Caller *caller, ThreadContext *thread, uint32_t timeout, Fault *fault)
{
  Line *old = caller->lines;
  uint32_t capacity = old->channel->caller_half->capacity;

  old->channel->too_small = false;
  if (capacity >= CAPACITY_MAX)
    return fault_set (fault, CELL_ERROR_TOO_LARGE, "the request is larger than %u bytes; larger data travels as a blob",
                      RECORD_MAX_PAYLOAD);
  if (!channel_wait_taken (old->channel, thread, monotonic_ns () + timeout * 1000000ull))
    return fault_set (fault, CELL_ERROR_BUSY, "%s", status_text (CELL_ERROR_BUSY));
  if (old->channel->broken != CELL_OK)
    return caller_ready (caller, thread, fault);
  if (old->channel->listens)
    send_mask (old->channel, thread, 0, NULL);
  line_retire (old);
  capacity = capacity * 4 < CAPACITY_MAX ? capacity * 4 : CAPACITY_MAX;
  if (!line_open (caller, thread, capacity, fault))
    return false;
  caller->capacity = capacity;
  line_settle (old);
  return true;
}

static void
caller_close (Caller *caller)
{
  Failed *failed;

  while (caller->lines != NULL)
    line_close (caller->lines);
  while ((failed = caller->failed) != NULL)
    {
      caller->failed = failed->next;
      cell_reply_free (&failed->result);
      free (failed);
    }
  free (caller->handlers);
  caller->handlers = NULL;
  free (caller->cancelled);
  caller->cancelled = NULL;
}

/* ---- calls --------------------------------------------------------------------------------------------------- */

static const char *
method_name (const Client *client, uint32_t method)
{
  return method < client->n_methods ? remote_method (client->remote, method)->name : "?";
}

static void
fail_result (const Client *client, uint32_t method, const Fault *fault, CellResult *reply)
{
  result_set_error (reply, fault->status, "%s: %s", method_name (client, method), fault->message);
  if (method < client->n_methods && client->replies[method] != NULL)
    memset (result_outputs (reply), 0, client->replies[method]->size);
}

/* A channel to call this method on.  NULL: fault. */
static Channel *
caller_prepare (Caller *caller, ThreadContext *thread, uint32_t method, Fault *fault)
{
  if (method >= caller->client->n_methods)
    {
      fault_set (fault, CELL_ERROR_INVALID, "the caller's own tables have no method number %u", method);
      return NULL;
    }
  if (!caller_ready (caller, thread, fault))
    return NULL;
  if (caller->plans[method].number == WIRE_NO_METHOD)
    {
      fault_set (fault, CELL_ERROR_NO_METHOD, "%s has no such method", caller->client->name);
      return NULL;
    }
  return caller->channel;
}

static __attribute__ ((noinline)) void
call_slow (Client *client, ThreadContext *thread, uint32_t method, const void *args, CellResult *reply)
{
  Fault fault = { CELL_ERROR_NO_RESOURCES, "no memory for a caller" };
  Caller *caller = caller_get (client, thread);
  Channel *channel;

  while (caller != NULL && (channel = caller_prepare (caller, thread, method, &fault)) != NULL)
    {
      channel_call (channel, thread, &caller->plans[method], args, reply);
      if (!channel->too_small)
        return;
      cell_reply_free (reply);
      if (!caller_widen (caller, thread, caller->plans[method].timeout, &fault))
        break;
    }
  fail_result (client, method, &fault, reply);
}

static void
client_call (CellClient *base, uint32_t method, const void *args, CellResult *reply)
{
  Client *client = (Client *) base;
  ThreadContext *thread = thread_context ();
  Caller *caller = caller_of (client, thread);
  Channel *channel;

  if (likely (caller != NULL && (channel = caller->channel) != NULL && method < client->n_methods))
    {
      const CallPlan *plan = &caller->plans[method];

      if (direct_call (channel, thread, plan, args, reply))
        return;
      if (likely (plan->number <= UINT16_MAX && channel->broken == CELL_OK))
        {
          channel_call_far (channel, thread, plan, args, reply);
          if (likely (!channel->too_small))
            return;
          cell_reply_free (reply);
        }
    }
  call_slow (client, thread, method, args, reply);
}

/* ---- asynchronous calls ------------------------------------------------------------------------------------------ */

static unsigned
run_failed (Client *client, Failed *failed)
{
  const CodecPlan *plan = failed->method < client->n_methods ? client->replies[failed->method] : NULL;
  uint32_t size = plan != NULL ? plan->size : 0;
  CellResult *reply = calloc (1, sizeof *reply + size);

  if (reply != NULL)
    *reply = failed->result;
  failed->done (reply != NULL ? reply : &failed->result, failed->data);
  cell_reply_free (&failed->result);
  free (reply);
  free (failed);
  return 1;
}

/* Keeps what is to be said of a call that was not sent, until its caller asks or dispatches.  Returns its id. */
static uint64_t
keep_failed (Caller *caller, uint32_t method, CellDone done, void *data, const Fault *fault)
{
  Client *client = caller->client;
  Failed *failed = calloc (1, sizeof *failed), **link = &caller->failed;

  if (failed == NULL)
    return 0;
  *failed = (Failed) { .id = ID_FAILED | ++caller->n_failed, .method = method, .done = done, .data = data };
  result_set_error (&failed->result, fault->status, "%s: %s", method_name (client, method), fault->message);
  while (*link != NULL)
    link = &(*link)->next;
  *link = failed;
  if (done != NULL && client->provider->failed != NULL)
    client->provider->failed (client->data, &client->base);
  return failed->id;
}

/* One that has a completion (id 0), or the one with that id. */
static Failed *
take_failed (Caller *caller, uint64_t id)
{
  for (Failed **link = &caller->failed; *link != NULL; link = &(*link)->next)
    {
      Failed *failed = *link;

      if (id == 0 ? failed->done != NULL : failed->id == id)
        {
          *link = failed->next;
          return failed;
        }
    }
  return NULL;
}

/* The id; 0: fault. */
static uint64_t
start_on (Caller *caller, ThreadContext *thread, uint32_t method, const void *args, CellDone done, void *data, Fault *fault)
{
  ArenaMark mark = arena_mark (&thread->arena);
  Client *client = caller->client;
  Channel *channel;
  uint64_t id;

  while ((channel = caller_prepare (caller, thread, method, fault)) != NULL)
    {
      const CallPlan *plan = &caller->plans[method];
      CellResult *result = arena_get (&thread->arena, sizeof *result + (plan->reply != NULL ? plan->reply->size : 0));

      channel->too_small = false;
      id = channel_start (channel, thread, plan, args, done, data, result);
      if (id != 0 && done != NULL && client->provider->expects != NULL)
        client->provider->expects (client->data, channel, plan->timeout);
      if (id == 0 && !channel->too_small)
        fault_set (fault, result != NULL ? result->status : CELL_ERROR_NO_RESOURCES, "%s",
                   result != NULL ? result->message : status_text (CELL_ERROR_NO_RESOURCES));
      if (id == 0 && result != NULL)
        cell_reply_free (result);
      arena_release (&thread->arena, mark);
      if (id != 0 || !channel->too_small)
        return id;
      if (!caller_widen (caller, thread, plan->timeout, fault))
        return 0;
    }
  return 0;
}

static CellPending
client_start (CellClient *base, uint32_t method, const void *args, CellDone done, void *data)
{
  Client *client = (Client *) base;
  ThreadContext *thread = thread_context ();
  bool shared = done != NULL && client->context == CLIENT_OF_CONCURRENT;
  Caller *caller = shared ? &client->own : caller_get (client, thread);
  CellPending pending = { base, 0 };
  Failed *now = NULL;
  Fault fault = { 0 };

  if (caller == NULL)
    return pending;
  shared_lock (client, shared);
  pending.id = start_on (caller, thread, method, args, done, data, &fault);
  if (pending.id == 0)
    {
      pending.id = keep_failed (caller, method, done, data, &fault);
      if (done != NULL && client->provider->failed == NULL)
        now = take_failed (caller, pending.id);
    }
  shared_unlock (client, shared);
  if (now != NULL)
    run_failed (client, now);
  return pending;
}

/* Whether it is this thread's caller that made the call; what failed has no such number, and is said to whoever started it. */
static bool
same_caller (const Caller *caller, uint64_t id)
{
  return (id & ID_FAILED) != 0 || id >> ID_CALLER_SHIFT == caller->last_id >> ID_CALLER_SHIFT;
}

/* Has the thread that made the call end it, and wakes it if it waits. */
static void
cancel_elsewhere (Client *client, uint64_t id)
{
  Caller *caller;
  uint64_t *grown = NULL;
  uint32_t known = 0;

  pthread_mutex_lock (&registry);
  caller = client->callers;
  while (caller != NULL && !same_caller (caller, id))
    caller = caller->next;
  while (caller != NULL && known < caller->n_cancelled && caller->cancelled[known] != id)
    known++;
  if (caller != NULL && known == caller->n_cancelled)
    grown = realloc (caller->cancelled, (known + 1) * sizeof *grown);
  if (grown != NULL)
    {
      caller->cancelled = grown;
      caller->cancelled[caller->n_cancelled++] = id;
      atomic_fetch_add (&caller->cancels, 1);
      futex_wake (&caller->cancels, 1);
    }
  pthread_mutex_unlock (&registry);
}

/* In the caller's own thread. */
static void
caller_take_cancels (Caller *caller)
{
  Line *line;
  uint64_t *ids;
  uint32_t n;

  if (load_acquire (&caller->cancels) == caller->cancels_seen)
    return;
  pthread_mutex_lock (&registry);
  caller->cancels_seen = load_relaxed (&caller->cancels);
  ids = caller->cancelled;
  n = caller->n_cancelled;
  caller->cancelled = NULL;
  caller->n_cancelled = 0;
  pthread_mutex_unlock (&registry);
  for (uint32_t i = 0; i < n; i++)
    if ((line = line_of (caller, ids[i])) != NULL)
      channel_end_cancelled (line->channel, ids[i]);
  free (ids);
}

static void
client_finish (CellPending pending, CellResult *reply)
{
  Client *client = (Client *) pending.client;
  ThreadContext *thread = thread_context ();
  Caller *caller = caller_of (client, thread);
  Line *line;
  Failed *failed;

  if (caller != NULL && (pending.id & (ID_SHARED | ID_FAILED)) == ID_FAILED && (failed = take_failed (caller, pending.id)) != NULL)
    {
      *reply = failed->result;
      if (failed->method < client->n_methods && client->replies[failed->method] != NULL)
        memset (result_outputs (reply), 0, client->replies[failed->method]->size);
      free (failed);
      return;
    }
  line = caller != NULL ? line_of (caller, pending.id) : NULL;
  if (line == NULL)
    {
      result_set_error (reply, CELL_ERROR_GONE, "there is no such open call of this thread's");
      return;
    }
  do
    caller_take_cancels (caller);
  while (!channel_finish (line->channel, thread, pending.id, &(FutexWord) { &caller->cancels, caller->cancels_seen }, reply));
  line_settle (line);
}

/* Gives up a call of this context's. */
static void
cancel_own (Client *client, Caller *caller, CellPending pending, bool shared)
{
  Failed *failed = NULL;
  Line *line;

  shared_lock (client, shared);
  if ((pending.id & ID_FAILED) != 0 && !shared)
    failed = take_failed (caller, pending.id);
  else if ((line = line_of (caller, pending.id)) != NULL)
    {
      channel_cancel (line->channel, pending.id);
      line_settle (line);
    }
  shared_unlock (client, shared);
  if (failed != NULL)
    {
      cell_reply_free (&failed->result);
      free (failed);
    }
}

static void
client_cancel (CellPending pending)
{
  Client *client = (Client *) pending.client;
  bool shared = client->context == CLIENT_OF_CONCURRENT && (pending.id & ID_SHARED) != 0;
  Caller *caller = shared ? &client->own : caller_of (client, thread_context ());

  if (pending.id == 0)
    return;
  if (caller != NULL && (shared || client->slot == NO_SLOT || same_caller (caller, pending.id)))
    cancel_own (client, caller, pending, shared);
  else
    cancel_elsewhere (client, pending.id);
}

/* ---- subscriptions ------------------------------------------------------------------------------------------------- */

static bool
subscribe_on (Caller *caller, ThreadContext *thread, uint32_t signal, CellOnSignal fn, void *data, Fault *fault)
{
  Client *client = caller->client;
  Handler before;
  uint32_t number;

  if (signal >= client->n_signals)
    return fault_set (fault, CELL_ERROR_INVALID, "the caller's own tables have no signal number %u", signal);
  if (caller->handlers == NULL && (caller->handlers = calloc (client->n_signals, sizeof *caller->handlers)) == NULL)
    return fault_set (fault, CELL_ERROR_NO_RESOURCES, "%s", status_text (CELL_ERROR_NO_RESOURCES));
  if (!caller_ready (caller, thread, fault))
    return false;
  number = caller->lines->binding->signals[signal];
  if (number >= WIRE_SIGNALS_MAX)
    return fault_set (fault, CELL_ERROR_NO_METHOD, "%s has no such signal", client->name);
  before = caller->handlers[signal];
  caller->handlers[signal] = (Handler) { .fn = fn, .data = data };
  if (send_mask (caller->channel, thread, signal_mask (caller->lines), fault))
    return true;
  caller->handlers[signal] = before;
  return false;
}

static CellStatus
client_subscribe (CellClient *base, uint32_t signal, CellOnSignal fn, void *data)
{
  Client *client = (Client *) base;
  ThreadContext *thread = thread_context ();
  bool shared = client->context == CLIENT_OF_CONCURRENT;
  Caller *caller = shared ? &client->own : caller_get (client, thread);
  Fault fault = { 0 };

  if (caller == NULL)
    return CELL_ERROR_NO_RESOURCES;
  if (fn == NULL)
    return CELL_ERROR_INVALID;
  shared_lock (client, shared);
  if (subscribe_on (caller, thread, signal, fn, data, &fault))
    fault.status = CELL_OK;
  shared_unlock (client, shared);
  return fault.status;
}

static void
client_unsubscribe (CellClient *base, uint32_t signal)
{
  Client *client = (Client *) base;
  ThreadContext *thread = thread_context ();
  bool shared = client->context == CLIENT_OF_CONCURRENT;
  Caller *caller = shared ? &client->own : caller_of (client, thread);

  if (caller == NULL)
    return;
  shared_lock (client, shared);
  if (signal < client->n_signals && caller->handlers != NULL && caller->handlers[signal].fn != NULL)
    {
      caller->handlers[signal] = (Handler) { 0 };
      if (caller->channel != NULL && caller->channel->broken == CELL_OK)
        send_mask (caller->channel, thread, signal_mask (caller->lines), NULL);
    }
  shared_unlock (client, shared);
}

/* ---- dispatching --------------------------------------------------------------------------------------------------- */

static void client_unref (Client *client);

/* Looks for what has come, and ends what is overdue. */
static void
line_receive (Line *line, ThreadContext *thread)
{
  Channel *channel = line->channel;
  uint32_t now = coarse_ms ();

  channel_look (channel, thread);
  channel_drain (channel, thread);
  caller_take_cancels (line->caller);
  if ((channel->n_async == 0 && !channel->listens) || now - line->expired < EXPIRE_MS)
    return;
  line->expired = now;
  channel_expire (channel, thread, now);
}

/* A subscriber makes no calls by which it would find out that its cell is there again. */
static void
caller_listen_again (Caller *caller, ThreadContext *thread)
{
  Fault fault = { 0 };
  uint32_t now = coarse_ms ();

  if ((caller->channel != NULL && caller->channel->broken == CELL_OK) || now - caller->retried < RETRY_MS || !has_handlers (caller))
    return;
  caller->retried = now;
  caller_ready (caller, thread, &fault);
}

unsigned
client_dispatch (Channel *channel, ThreadContext *thread)
{
  Line *line;
  Client *client;
  Arrival arrival;
  unsigned n = 0;
  bool shared, more = true;

  pthread_mutex_lock (&channel->lock);
  line = channel->line;
  client = line != NULL ? line->caller->client : NULL;
  shared = client != NULL && is_shared (client, line->caller);
  if (client != NULL)
    atomic_fetch_add (&client->refs, 1);
  pthread_mutex_unlock (&channel->lock);
  if (client == NULL)
    return 0;
  channel_ref (channel);
  for (bool first = true; more; first = false)
    {
      shared_lock (client, shared);
      more = channel->line == line;     /* a handler may have closed it */
      if (more && first)
        line_receive (line, thread);
      if (more && !(more = channel_take_arrival (channel, &arrival)))
        {
          caller_listen_again (line->caller, thread);
          if (channel->line == line)    /* another has been tried, and this one, which was broken, may be gone */
            line_settle (line);
        }
      shared_unlock (client, shared);
      if (more)
        {
          channel_run_arrival (channel, thread, &arrival);
          n++;
        }
    }
  channel_unref (channel);
  client_unref (client);
  return n;
}

unsigned
client_dispatch_failed (CellClient *base, ThreadContext *thread)
{
  Client *client = (Client *) base;
  bool shared = client->context == CLIENT_OF_CONCURRENT;
  Failed *failed;
  unsigned n = 0;

  atomic_fetch_add (&client->refs, 1);
  do
    {
      Caller *caller = shared ? &client->own : caller_of (client, thread);

      shared_lock (client, shared);
      failed = caller != NULL ? take_failed (caller, 0) : NULL;
      shared_unlock (client, shared);
      if (failed != NULL)
        n += run_failed (client, failed);
    }
  while (failed != NULL);
  client_unref (client);
  return n;
}

static unsigned
caller_dispatch (Caller *caller, ThreadContext *thread)
{
  Client *client = caller->client;
  uint32_t slot = client->slot;
  unsigned n = client_dispatch_failed (&client->base, thread);
  Channel *oldest = NULL;

  /* Oldest first; whatever runs may change the lines, so what is left is looked at the next time. */
  if (slot >= thread->n_slots || thread->slots[slot] != caller)
    return n;
  caller_listen_again (caller, thread);
  for (Line *line = caller->lines; line != NULL; line = line->older)
    if (line->older == NULL && line->channel != caller->channel)
      oldest = line->channel;
  if (oldest != NULL)
    n += client_dispatch (oldest, thread);
  if (slot < thread->n_slots && thread->slots[slot] == caller && caller->channel != NULL)
    n += client_dispatch (caller->channel, thread);
  return n;
}

unsigned
client_dispatch_thread (const void *data, ThreadContext *thread, bool look)
{
  unsigned n = 0;

  for (uint32_t i = 0; i < thread->n_slots; i++)
    {
      Caller *caller = thread->slots[i];

      if (caller == NULL || caller->client->data != data)
        continue;
      for (Line *line = caller->lines; look && line != NULL; line = line->older)
        line->expired = coarse_ms () - EXPIRE_MS;
      n += caller_dispatch (caller, thread);
    }
  return n;
}

uint32_t
client_thread_due (const void *data, ThreadContext *thread)
{
  uint32_t due = UINT32_MAX, now = coarse_ms ();

  for (uint32_t i = 0; i < thread->n_slots; i++)
    {
      Caller *caller = thread->slots[i];

      if (caller == NULL || caller->client->data != data)
        continue;
      for (Line *line = caller->lines; line != NULL; line = line->older)
        {
          uint32_t of_line = line->channel->broken == CELL_OK ? channel_due (line->channel, now) : UINT32_MAX;

          due = of_line < due ? of_line : due;
        }
      if ((caller->channel == NULL || caller->channel->broken != CELL_OK) && has_handlers (caller) && due > RETRY_MS)
        due = RETRY_MS;
    }
  return due;
}

/* ---- of a cell that moves ------------------------------------------------------------------------------------------- */

/* What this channel was asked for and has not got yet. */
static const char *
under_way (Channel *channel)
{
  for (uint32_t i = 0; channel->pending != NULL && i <= channel->pending_mask; i++)
    if (channel->pending[i].id != 0 && channel->pending[i].state == PENDING_OPEN)
      return channel->pending[i].plan->name;
  /* Nobody waits for an answer to these, but they were accepted. */
  return channel->broken == CELL_OK && !channel_wait_taken (channel, thread_context (), 0) ? "a call without an answer" : NULL;
}

static const char *
caller_under_way (const Caller *caller)
{
  const char *name = NULL;

  for (Line *line = caller->lines; line != NULL && name == NULL; line = line->older)
    name = under_way (line->channel);
  return name;
}

const char *
client_settle (CellClient *base, ThreadContext *thread)
{
  Client *client = (Client *) base;
  const char *name = NULL;
  size_t n;
  Channel **channels = client_channels (base, &n);

  client_dispatch_failed (base, thread);
  for (size_t i = 0; i < n; i++)
    {
      client_dispatch (channels[i], thread);
      channel_unref (channels[i]);
    }
  free (channels);
  shared_lock (client, client->context == CLIENT_OF_CONCURRENT);
  name = caller_under_way (&client->own);
  shared_unlock (client, client->context == CLIENT_OF_CONCURRENT);
  pthread_mutex_lock (&registry);
  for (Caller *caller = client->callers; caller != NULL && name == NULL; caller = caller->next)
    name = caller_under_way (caller);
  pthread_mutex_unlock (&registry);
  return name;
}

const char *
client_get_name (const CellClient *base)
{
  return ((const Client *) base)->name;
}

/* The oldest first, as they are to be dispatched. */
Channel **
client_channels (CellClient *base, size_t *ret_n)
{
  Client *client = (Client *) base;
  bool shared = client->context == CLIENT_OF_CONCURRENT;
  Channel **channels;
  size_t n = 0;

  shared_lock (client, shared);
  for (Line *line = client->own.lines; line != NULL; line = line->older)
    n++;
  channels = n > 0 ? calloc (n, sizeof *channels) : NULL;
  *ret_n = channels != NULL ? n : 0;
  for (Line *line = client->own.lines; line != NULL && channels != NULL; line = line->older)
    channels[--n] = channel_ref (line->channel);
  shared_unlock (client, shared);
  return channels;
}

/* Completions stay where they are. */
static void
drop_signals (Channel *channel)
{
  Kept **link = &channel->ready;

  while (*link != NULL)
    {
      Kept *kept = *link;

      if (kept->kind != RECORD_SIGNAL)
        {
          link = &kept->next;
          continue;
        }
      *link = kept->next;
      free (kept);
    }
  channel->ready_end = link;
  channel->n_signals_kept = 0;
}

void
client_take_over (CellClient *base, ThreadContext *thread)
{
  Client *client = (Client *) base;
  Caller *caller = &client->own;
  bool shared = client->context == CLIENT_OF_CONCURRENT;

  shared_lock (client, shared);
  for (Line *line = caller->lines; line != NULL; line = line->older)
    if (line->channel->listens)
      {
        channel_look (line->channel, thread);
        channel_drain (line->channel, thread);
        drop_signals (line->channel);
      }
  for (uint32_t i = 0; caller->handlers != NULL && i < client->n_signals; i++)
    if (caller->handlers[i].fn != NULL)
      caller->handlers[i].gap++;
  shared_unlock (client, shared);
}

/* ---- the client itself ------------------------------------------------------------------------------------------------ */

static void
client_set_timeout (CellClient *base, uint32_t milliseconds)
{
  Client *client = (Client *) base;

  pthread_mutex_lock (&client->lock);
  client->timeout = milliseconds;
  for (uint32_t i = 0; client->binding != NULL && i < client->n_methods; i++)
    {
      CallPlan *plan = &client->binding->plans[i];

      /* Calls that other threads make meanwhile have either. */
      __atomic_store_n (&plan->timeout, timeout_of (client, i), __ATOMIC_RELAXED);
      __atomic_store_n (&plan->head.timeout, timeout_of (client, i), __ATOMIC_RELAXED);
    }
  pthread_mutex_unlock (&client->lock);
}

static CellStatus
client_check (CellClient *base, CellResult *result)
{
  Client *client = (Client *) base;
  ThreadContext *thread = thread_context ();
  Caller *caller = caller_get (client, thread);
  Fault fault = { CELL_ERROR_NO_RESOURCES, "no memory for a caller" };

  if (caller != NULL && caller_ready (caller, thread, &fault))
    *result = (CellResult) { .status = CELL_OK };
  else
    result_set_error (result, fault.status, "%s", fault.message);
  return result->status;
}

static void
client_close (CellClient *base)
{
  Client *client = (Client *) base;

  if (client->provider->closed != NULL)
    client->provider->closed (client->data, base);
  client_free (base);
}

static const CellClientApi client_api = {
  .size = sizeof (CellClientApi), .call = client_call, .start = client_start, .finish = client_finish, .cancel = client_cancel,
  .subscribe = client_subscribe, .unsubscribe = client_unsubscribe, .set_timeout = client_set_timeout, .check = client_check,
  .close = client_close,
};

/* A thread ends: what it had of each client goes. */
static void
end_slots (ThreadContext *thread)
{
  Caller *ended = NULL, *next;

  pthread_mutex_lock (&registry);
  for (uint32_t i = 0; i < thread->n_slots; i++)
    {
      Caller *caller = thread->slots[i];

      if (caller == NULL)
        continue;
      for (Caller **link = &caller->client->callers; *link != NULL; link = &(*link)->next)
        if (*link == caller)
          {
            *link = caller->next;
            break;
          }
      caller->client->ending++;
      caller->next = ended;
      ended = caller;
    }
  free (thread->slots);
  thread->slots = NULL;
  thread->n_slots = 0;
  pthread_mutex_unlock (&registry);
  for (; ended != NULL; ended = next)
    {
      Client *client = ended->client;

      next = ended->next;
      caller_close (ended);
      free (ended);
      pthread_mutex_lock (&registry);
      client->ending--;
      pthread_cond_broadcast (&registry_changed);
      pthread_mutex_unlock (&registry);
    }
}

static bool
client_alloc_tables (Client *client)
{
  client->args = calloc (client->n_methods + 1, sizeof *client->args);
  client->replies = calloc (client->n_methods + 1, sizeof *client->replies);
  client->signals = calloc (client->n_signals + 1, sizeof *client->signals);
  return client->args != NULL && client->replies != NULL && client->signals != NULL;
}

CellClient *
client_new (const ClientProvider *provider, void *data, const char *name, const CellRemote *remote, ClientContext context)
{
  Client *client = calloc (1, sizeof *client);

  if (client == NULL)
    return NULL;
  *client = (Client) {
    .base = { &client_api }, .slot = NO_SLOT, .n_methods = remote->n_methods, .n_signals = remote->n_signals, .refs = 1,
    .context = context, .provider = provider, .data = data, .name = strdup (name), .remote = remote,
  };
  caller_init (&client->own, client, NULL, context == CLIENT_OF_CONCURRENT ? ID_SHARED : 0);
  pthread_mutex_init (&client->lock, NULL);
  pthread_mutex_init (&client->shared, NULL);
  if (remote->method_size < sizeof (CellRemoteMethod) || remote->signal_size < sizeof (CellRemoteSignal))
    {
      client->n_methods = client->n_signals = 0;
      client->unsound = "their rows are too short";
    }
  pthread_mutex_lock (&registry);
  thread_slots_end = end_slots;
  if (context != CLIENT_OF_SERIAL)
    client->slot = slot_take (client);
  pthread_mutex_unlock (&registry);
  if (client->name == NULL || !client_alloc_tables (client) || (context != CLIENT_OF_SERIAL && client->slot == NO_SLOT))
    {
      client_free (&client->base);
      return NULL;
    }
  if (client->unsound == NULL)
    compile_tables (client);
  return &client->base;
}

static void
client_unref (Client *client)
{
  if (atomic_fetch_sub (&client->refs, 1) != 1)
    return;
  for (uint32_t i = 0; client->args != NULL && i < client->n_methods; i++)
    codec_plan_free (client->args[i]);
  for (uint32_t i = 0; client->replies != NULL && i < client->n_methods; i++)
    codec_plan_free (client->replies[i]);
  for (uint32_t i = 0; client->signals != NULL && i < client->n_signals; i++)
    codec_plan_free (client->signals[i]);
  free (client->args);
  free (client->replies);
  free (client->signals);
  free (client->name);
  pthread_mutex_destroy (&client->lock);
  pthread_mutex_destroy (&client->shared);
  free (client);
}

void
client_free (CellClient *base)
{
  Client *client = (Client *) base;
  Caller *caller, *next;

  pthread_mutex_lock (&registry);
  while (client->ending > 0)
    pthread_cond_wait (&registry_changed, &registry);
  caller = client->callers;
  client->callers = NULL;
  for (Caller *c = caller; c != NULL; c = c->next)
    c->thread->slots[client->slot] = NULL;
  if (client->slot != NO_SLOT)
    slots[client->slot] = NULL;
  pthread_mutex_unlock (&registry);
  for (; caller != NULL; caller = next)
    {
      next = caller->next;
      caller_close (caller);
      free (caller);
    }
  caller_close (&client->own);
  binding_unref (client->binding);
  client->binding = NULL;
  client_unref (client);
}

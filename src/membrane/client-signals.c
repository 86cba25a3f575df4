/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What a client has subscribed to.
 */
#include <stdlib.h>

#include "blob.h"
#include "client-own.h"
#include "wire.h"

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

void
line_on_signal (Channel *channel, uint32_t number, uint64_t missed, Kept *kept, void *data)
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

uint64_t
line_signal_mask (const Line *line)
{
  const Caller *caller = line->caller;
  uint64_t mask = 0;

  for (uint32_t i = 0; caller->handlers != NULL && i < caller->client->n_signals; i++)
    if (caller->handlers[i].fn != NULL && line->binding->signals[i] < WIRE_SIGNALS_MAX)
      mask |= (uint64_t) 1 << line->binding->signals[i];
  return mask;
}

bool
caller_has_handlers (const Caller *caller)
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

bool
line_send_mask (Channel *channel, ThreadContext *thread, uint64_t mask, Fault *fault)
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
  if (line_send_mask (caller->channel, thread, line_signal_mask (caller->lines), fault))
    return true;
  caller->handlers[signal] = before;
  return false;
}

CellStatus
client_subscribe (CellClient *base, uint32_t signal, CellOnSignal fn, void *data)
{
  Client *client = (Client *) base;
  ThreadContext *thread = thread_context ();
  bool shared = client->context == CLIENT_OF_CONCURRENT;
  Fault fault = { 0 };
  Caller *caller;

  if (!client_is_for (client, thread))
    return client_refuse (client, "subscribe", CLIENT_FROM, 0, NULL);
  caller = shared ? &client->own : caller_get (client, thread);
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

void
client_unsubscribe (CellClient *base, uint32_t signal)
{
  Client *client = (Client *) base;
  ThreadContext *thread = thread_context ();
  bool shared = client->context == CLIENT_OF_CONCURRENT;
  Caller *caller;

  if (!client_is_for (client, thread))
    {
      client_refuse (client, "unsubscribe", CLIENT_FROM, 0, NULL);
      return;
    }
  caller = shared ? &client->own : caller_of (client, thread);
  if (caller == NULL)
    return;
  shared_lock (client, shared);
  if (signal < client->n_signals && caller->handlers != NULL && caller->handlers[signal].fn != NULL)
    {
      caller->handlers[signal] = (Handler) { 0 };
      if (caller->channel != NULL && caller->channel->broken == CELL_OK)
        line_send_mask (caller->channel, thread, line_signal_mask (caller->lines), NULL);
    }
  shared_unlock (client, shared);
}

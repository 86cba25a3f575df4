/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Calls that are sent now and finished later.
 */
#include <stdlib.h>
#include <string.h>

#include "client-own.h"
#include "result.h"

unsigned
client_run_failed (Client *client, Failed *failed)
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
  result_set_error (&failed->result, fault->status, "%s: %s", client_method_name (client, method), fault->message);
  while (*link != NULL)
    link = &(*link)->next;
  *link = failed;
  if (done != NULL && client->provider->failed != NULL)
    client->provider->failed (client->data, &client->base);
  return failed->id;
}

Failed *
caller_take_failed (Caller *caller, uint64_t id)
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

CellPending
client_start (CellClient *base, uint32_t method, const void *args, CellDone done, void *data)
{
  Client *client = (Client *) base;
  ThreadContext *thread = thread_context ();
  bool shared = done != NULL && client->context == CLIENT_OF_CONCURRENT;
  CellPending pending = { base, 0 };
  Failed *now = NULL;
  Fault fault = { 0 };
  Caller *caller;

  if (!client_is_for (client, thread))
    {
      client_refuse_async (client, "start", CLIENT_FROM, method, done, data);
      return pending;
    }
  caller = shared ? &client->own : caller_get (client, thread);
  if (caller == NULL)
    return pending;
  shared_lock (client, shared);
  pending.id = start_on (caller, thread, method, args, done, data, &fault);
  if (pending.id == 0)
    {
      pending.id = keep_failed (caller, method, done, data, &fault);
      if (done != NULL && client->provider->failed == NULL)
        now = caller_take_failed (caller, pending.id);
    }
  shared_unlock (client, shared);
  if (now != NULL)
    client_run_failed (client, now);
  return pending;
}

void
client_finish (CellPending pending, CellResult *reply)
{
  Client *client = (Client *) pending.client;
  ThreadContext *thread = thread_context ();
  Caller *caller;
  Line *line;
  Failed *failed;

  if (!client_is_for (client, thread))
    {
      client_refuse (client, "finish", CLIENT_FROM, UINT32_MAX, reply);
      return;
    }
  caller = caller_of (client, thread);
  if (caller != NULL && (pending.id & (ID_SHARED | ID_FAILED)) == ID_FAILED
      && (failed = caller_take_failed (caller, pending.id)) != NULL)
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
    failed = caller_take_failed (caller, pending.id);
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

void
client_cancel (CellPending pending)
{
  Client *client = (Client *) pending.client;
  bool shared = client->context == CLIENT_OF_CONCURRENT && (pending.id & ID_SHARED) != 0;
  Caller *caller;

  if (!client_is_for (client, thread_context ()))
    {
      client_refuse (client, "cancel", CLIENT_FROM, 0, NULL);
      return;
    }
  if (pending.id == 0)
    return;
  caller = shared ? &client->own : caller_of (client, thread_context ());
  if (caller != NULL && (shared || client->slot == NO_SLOT || caller_made (caller, pending.id)))
    cancel_own (client, caller, pending, shared);
  else
    callers_cancel (client, pending.id);
}

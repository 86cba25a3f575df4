/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Clients: made, used for calls that wait, and freed.
 */
#include "client.h"

#include <stdlib.h>
#include <string.h>

#include "client-own.h"
#include "direct.h"
#include "wire.h"

const char *
client_method_name (const Client *client, uint32_t method)
{
  return method < client->n_methods ? remote_method (client->remote, method)->name : "?";
}

static void
client_fail (const Client *client, uint32_t method, const Fault *fault, CellResult *reply)
{
  result_set_error (reply, fault->status, "%s: %s", client_method_name (client, method), fault->message);
  if (method < client->n_methods && client->replies[method] != NULL)
    memset (result_outputs (reply), 0, client->replies[method]->size);
}

Channel *
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
  client_fail (client, method, &fault, reply);
}

static void
client_call (CellClient *base, uint32_t method, const void *args, CellResult *reply)
{
  Client *client = (Client *) base;
  ThreadContext *thread = thread_context ();
  Caller *caller;
  Channel *channel;

  if (unlikely (!client_is_for (client, thread)))
    {
      client_refuse (client, "call", CLIENT_FROM, method, reply);
      return;
    }
  caller = caller_of (client, thread);
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

/* ---- the client itself ------------------------------------------------------------------------------------------------ */

static void
client_set_timeout (CellClient *base, uint32_t milliseconds)
{
  Client *client = (Client *) base;

  if (!client_is_for (client, thread_context ()))
    {
      client_refuse (client, "set_timeout", CLIENT_FROM, 0, NULL);
      return;
    }
  pthread_mutex_lock (&client->lock);
  client->timeout = milliseconds;
  for (uint32_t i = 0; client->binding != NULL && i < client->n_methods; i++)
    {
      CallPlan *plan = &client->binding->plans[i];

      /* Calls that other threads make meanwhile have either. */
      __atomic_store_n (&plan->timeout, client_timeout (client, i), __ATOMIC_RELAXED);
      __atomic_store_n (&plan->head.timeout, client_timeout (client, i), __ATOMIC_RELAXED);
    }
  pthread_mutex_unlock (&client->lock);
}

static CellStatus
client_check (CellClient *base, CellResult *result)
{
  Client *client = (Client *) base;
  ThreadContext *thread = thread_context ();
  Fault fault = { CELL_ERROR_NO_RESOURCES, "no memory for a caller" };
  Caller *caller;

  if (!client_is_for (client, thread))
    return client_refuse (client, "check", CLIENT_FROM, UINT32_MAX, result);
  caller = caller_get (client, thread);
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

  if (!client_is_for (client, thread_context ()))
    {
      client_refuse (client, "close", CLIENT_FROM, 0, NULL);
      return;
    }
  if (client->provider->closed != NULL)
    client->provider->closed (client->data, base);
  client->closed_by_cell = true;
  client_free (base);
}

static const CellClientApi client_api = {
  .size = sizeof (CellClientApi), .call = client_call, .start = client_start, .finish = client_finish, .cancel = client_cancel,
  .subscribe = client_subscribe, .unsubscribe = client_unsubscribe, .set_timeout = client_set_timeout, .check = client_check,
  .close = client_close,
};

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
  if (!callers_register (client) || client->name == NULL || !client_alloc_tables (client))
    {
      client_free (&client->base);
      return NULL;
    }
  if (client->unsound == NULL)
    client_compile (client);
  return &client->base;
}

void
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
  client_bury (client);
}

void
client_free (CellClient *base)
{
  Client *client = (Client *) base;
  Caller *caller = callers_unregister (client), *next;

  if (load_relaxed (&client->owner) != NULL)
    store_relaxed (&client->owner, &client_gone);
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

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A client's tables, compiled, and the numbers that its cell has for them.
 */
#include <stdlib.h>

#include "client-own.h"

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

void
client_compile (Client *client)
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

void
binding_unref (Binding *binding)
{
  if (binding == NULL || atomic_fetch_sub (&binding->refs, 1) != 1)
    return;
  free (binding->signals);
  free (binding);
}

uint32_t
client_timeout (const Client *client, uint32_t method)
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
        .args = client->args[i], .reply = client->replies[i], .number = methods[i], .timeout = client_timeout (client, i),
        .oneway = (remote_method (remote, i)->flags & CELL_FLAG_ONEWAY) != 0, .name = remote_method (remote, i)->name,
      };
      call_plan_finish (&binding->plans[i]);
    }
  free (methods);
  return binding;
}

Binding *
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

void
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

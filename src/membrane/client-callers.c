/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The contexts of clients: a caller for each thread that uses one.
 */
#include <stdlib.h>
#include <string.h>

#include "client-own.h"

#define ID_CALLER_SHIFT 40                      /* callers' ids begin at distances: one thread's call is not taken for another's */

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

void
caller_init (Caller *caller, Client *client, ThreadContext *thread, uint64_t first_id)
{
  *caller = (Caller) { .client = client, .thread = thread, .last_id = first_id };
}

Caller *
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

bool
callers_register (Client *client)
{
  pthread_mutex_lock (&registry);
  thread_slots_end = end_slots;
  if (client->context != CLIENT_OF_SERIAL)
    client->slot = slot_take (client);
  pthread_mutex_unlock (&registry);
  return client->context == CLIENT_OF_SERIAL || client->slot != NO_SLOT;
}

Caller *
callers_unregister (Client *client)
{
  Caller *callers;

  pthread_mutex_lock (&registry);
  while (client->ending > 0)
    pthread_cond_wait (&registry_changed, &registry);
  callers = client->callers;
  client->callers = NULL;
  for (Caller *c = callers; c != NULL; c = c->next)
    c->thread->slots[client->slot] = NULL;
  if (client->slot != NO_SLOT)
    slots[client->slot] = NULL;
  pthread_mutex_unlock (&registry);
  return callers;
}

const char *
callers_under_way (Client *client)
{
  const char *name = NULL;

  pthread_mutex_lock (&registry);
  for (Caller *caller = client->callers; caller != NULL && name == NULL; caller = caller->next)
    name = caller_under_way (caller);
  pthread_mutex_unlock (&registry);
  return name;
}

/* ---- calls that another thread cancels ------------------------------------------------------------------- */

bool
caller_made (const Caller *caller, uint64_t id)
{
  return (id & ID_FAILED) != 0 || id >> ID_CALLER_SHIFT == caller->last_id >> ID_CALLER_SHIFT;
}

void
callers_cancel (Client *client, uint64_t id)
{
  Caller *caller;
  uint64_t *grown = NULL;
  uint32_t known = 0;

  pthread_mutex_lock (&registry);
  caller = client->callers;
  while (caller != NULL && !caller_made (caller, id))
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

void
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

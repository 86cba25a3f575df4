/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What has come for a client: completions and signals.
 */
#include "client-own.h"

#define EXPIRE_MS 64u                           /* how often overdue calls are looked for */
#define RETRY_MS 1000u                          /* how often a subscriber tries to find a cell that went away */

/* Looks for what has come, and ends what is overdue. */
static void
line_receive (Line *line, ThreadContext *thread)
{
  const Client *client = line->caller->client;
  Channel *channel = line->channel;
  bool time_is_up = load_relaxed (&channel->time_is_up) != 0 && atomic_exchange (&channel->time_is_up, 0) != 0;
  uint32_t now = coarse_ms ();

  channel_look (channel, thread);
  channel_drain (channel, thread);
  caller_take_cancels (line->caller);
  if (!time_is_up && ((channel->n_async == 0 && !channel->listens) || now - line->expired < EXPIRE_MS))
    return;
  line->expired = now;
  channel_expire (channel, thread, now);
  /* The timer knew of the first only; and by the coarse clock that may not be overdue yet. */
  if (time_is_up && channel->n_async != 0 && client->provider->expects != NULL)
    client->provider->expects (client->data, channel, channel_due (channel, now));
}

void
client_time_is_up (Channel *channel)
{
  atomic_store (&channel->time_is_up, 1);
  channel->notify (channel);
}

/* A subscriber makes no calls by which it would find out that its cell is there again. */
static void
caller_listen_again (Caller *caller, ThreadContext *thread)
{
  Fault fault = { 0 };
  uint32_t now = coarse_ms ();

  if ((caller->channel != NULL && caller->channel->broken == CELL_OK) || now - caller->retried < RETRY_MS
      || !caller_has_handlers (caller))
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
  Frame frame;
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
  frame_enter (&frame, client_frame (client), thread);
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
  frame_leave (&frame, thread);
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
  Frame frame;
  unsigned n = 0;

  atomic_fetch_add (&client->refs, 1);
  frame_enter (&frame, client_frame (client), thread);
  do
    {
      Caller *caller = shared ? &client->own : caller_of (client, thread);

      shared_lock (client, shared);
      failed = caller != NULL ? caller_take_failed (caller, 0) : NULL;
      shared_unlock (client, shared);
      if (failed != NULL)
        n += client_run_failed (client, failed);
    }
  while (failed != NULL);
  frame_leave (&frame, thread);
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
      if ((caller->channel == NULL || caller->channel->broken != CELL_OK) && caller_has_handlers (caller) && due > RETRY_MS)
        due = RETRY_MS;
    }
  return due;
}

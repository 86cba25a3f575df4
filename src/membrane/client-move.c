/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The clients of a cell that moves.
 */
#include <stdlib.h>

#include "client-own.h"

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

const char *
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
  return name != NULL ? name : callers_under_way (client);
}

void
client_give_up (CellClient *base, ThreadContext *thread)
{
  Client *client = (Client *) base;
  bool shared = client->context == CLIENT_OF_CONCURRENT;

  shared_lock (client, shared);
  for (Line *line = client->own.lines; line != NULL; line = line->older)
    channel_end_all (line->channel);
  shared_unlock (client, shared);
  client_settle (base, thread);
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
  channel->signal_bytes = 0;
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

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Lines: the channels of a caller, the one in use and those that have something to deliver yet.
 */
#include <stdlib.h>

#include "client-own.h"

#define CAPACITY_MAX (half_capacity_for (RECORD_MAX_PAYLOAD + 4096u) * 2)

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

void
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

Line *
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
  line->channel->on_signal = line_on_signal;
  caller->lines = line;
  caller->channel = line->channel;
  caller->plans = line->binding->plans;
  mask = line_signal_mask (line);
  if (mask == 0)
    return true;
  for (uint32_t i = 0; i < caller->client->n_signals; i++)
    if (caller->handlers[i].fn != NULL)
      caller->handlers[i].gap++;        /* what was sent between the two channels, if anything */
  if (line_send_mask (line->channel, thread, mask, fault))
    return true;
  line_retire (line);
  line_settle (line);
  return false;
}

bool
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

bool
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
    line_send_mask (old->channel, thread, 0, NULL);
  line_retire (old);
  capacity = capacity * 4 < CAPACITY_MAX ? capacity * 4 : CAPACITY_MAX;
  if (!line_open (caller, thread, capacity, fault))
    return false;
  caller->capacity = capacity;
  line_settle (old);
  return true;
}

void
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

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * An uplink's channels that move: the memory and the bell that a callee has from then on.
 */
#include "uplink-own.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void
keep_bell (Leg *leg, int fd)
{
  int *grown = realloc (leg->bells, (leg->n_bells + 1) * sizeof *grown);

  if (grown == NULL)
    {
      if (fd != leg->uplink->host_bell)
        close (fd);
      return;
    }
  leg->bells = grown;
  leg->bells[leg->n_bells++] = fd;
}

void
leg_drop_old_bells (Leg *leg)
{
  uint32_t n = leg->n_bells;

  while (n > 0 && leg->bells[n - 1] != leg->channel->callee_bell)
    n--;
  if (n <= 1)
    return;
  for (uint32_t i = 0; i < n - 1; i++)
    if (leg->bells[i] != leg->uplink->host_bell)
      close (leg->bells[i]);
  memmove (leg->bells, leg->bells + n - 1, (leg->n_bells - (n - 1)) * sizeof *leg->bells);
  leg->n_bells -= n - 1;
}

Half *
uplink_map_half (WireMessage *message, unsigned n, uint32_t capacity, uint64_t salt, bool writable, Fault *fault)
{
  Half *half = half_map (wire_message_take_fd (message, n), capacity, salt, writable, fault);

  if (half != NULL)
    half_forget_fd (half);
  return half;
}

void
leg_moved (Leg *leg, WireMessage *message)
{
  const WireMoved *body = &message->body.moved;
  MovedHalf *moved = calloc (1, sizeof *moved);

  if (moved == NULL || (body->generation <= leg->generation && !body->gone))
    {
      free (moved);
      return;                           /* its CHANNEL described it already */
    }
  leg->generation = body->generation;
  *moved = (MovedHalf) {
    .generation = body->generation, .final_taken = body->final_taken, .final_reply = body->final_reply,
    .crashed = body->crashed != 0, .untrusted = true, .vacant = (body->generation & 1) != 0, .bell = leg->uplink->host_bell,
  };
  if (!body->gone && message->fds[0] >= 0)
    moved->half = uplink_map_half (message, 0, body->reply_capacity, body->reply_salt, false, NULL);
  if (message->fds[1] >= 0)
    moved->bell = wire_message_take_fd (message, 1);
  keep_bell (leg, moved->bell);
  if (leg->channel != NULL)
    {
      channel_moved (leg->channel, moved);
      uplink_ring (leg->uplink);
    }
  else
    {
      MovedHalf **link = &leg->early;

      while (*link != NULL)
        link = &(*link)->next;
      *link = moved;
    }
}

Leg *
leg_find (Uplink *uplink, uint64_t id)
{
  Leg *leg = uplink->legs;

  while (leg != NULL && leg->id != id)
    leg = leg->next;
  return leg;
}

Leg *
leg_new (Uplink *uplink, const WireChannel *body)
{
  Leg *leg = calloc (1, sizeof *leg);
  Command **link = &uplink->early;

  if (leg == NULL)
    return NULL;
  leg->id = body->channel;
  leg->generation = body->generation;
  leg->uplink = uplink;
  leg->next = uplink->legs;
  uplink->legs = leg;
  while (*link != NULL)
    {
      Command *early = *link;

      if (early->message.body.moved.channel != leg->id)
        {
          link = &early->next;
          continue;
        }
      *link = early->next;
      uplink->n_early--;
      leg_moved (leg, &early->message);
      wire_message_clear (&early->message);
      free (early);
    }
  return leg;
}

void
leg_free (Leg *leg)
{
  MovedHalf *moved;

  while ((moved = leg->early) != NULL)
    {
      leg->early = moved->next;
      half_unref (moved->half);
      free (moved);
    }
  for (uint32_t i = 0; i < leg->n_bells; i++)
    if (leg->bells[i] != leg->uplink->host_bell)
      close (leg->bells[i]);
  free (leg->bells);
  endpoint_unref (leg->endpoint);
  epoch_unmap (leg->epoch);
  free (leg);
}

void
leg_unlink (Leg *leg)
{
  pthread_mutex_lock (&leg->uplink->lock);
  for (Leg **link = &leg->uplink->legs; *link != NULL; link = &(*link)->next)
    if (*link == leg)
      {
        *link = leg->next;
        break;
      }
  pthread_mutex_unlock (&leg->uplink->lock);
}

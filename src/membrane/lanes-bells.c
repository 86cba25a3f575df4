/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The bells of the lanes, and those that are rung for nothing.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <sys/uio.h>

#include "lanes-own.h"

#define VAIN_MOST 16u           /* rings in a row that may bring nothing */
#define DEAF_FIRST_NS 1000000u  /* then nobody listens for so long; it doubles, … */
#define DEAF_DOUBLINGS 6u       /* … so often */
#define WAITING_LOOKS 64u
#define FLOOD_EVERY 8u          /* vain looks after that, between two times that it is said */

/* ---- bells that are rung for nothing ------------------------------------------------------------------- */

/* Requests that lie there while nobody may take them, as far as is looked: each was worth a ring. */
static unsigned
count_waiting (const RingReader *requests, uint64_t at)
{
  unsigned n = 0;

  for (; n < WAITING_LOOKS; n++)
    {
      const volatile Record *record = (const Record *) (requests->data + (at & requests->mask));
      uint32_t length;

      if (load_acquire (&record->sequence) != requests->salt + at)
        break;
      length = record->length;
      if (length > requests->mask + 1 - sizeof (Record))
        break;
      at += record_size (length);
    }
  return n;
}

/* Somebody has taken a request since the last ring, or there is one that will be: it may be in the ready list of a gate that is
 * held for long.  What the other side says of itself does not count. */
static bool
bell_brings (Bell *bell)
{
  uint64_t seen = 0;
  bool waits = false;

  for (Entry *entry = bell->entries; entry != NULL; entry = entry->next)
    {
      const Channel *channel = entry->channel;
      const HalfControl *own = entry_words (entry);
      uint64_t at = load_relaxed (&own->taken);
      const Record *record = (const Record *) (channel->requests.data + (at & channel->requests.mask));

      seen += at + load_relaxed (&own->head);
      if (channel_is_blocked (channel))
        seen += count_waiting (&channel->requests, at);
      waits |= load_relaxed (&channel->broken) == CELL_OK && !channel_is_blocked (channel)
               && load_acquire (&record->sequence) == channel->requests.salt + at;
    }
  waits |= seen != bell->seen;
  bell->seen = seen;
  return waits || (bell->limit->brings != NULL && bell->limit->brings (bell->limit_data));
}

static void
set_timer (Lanes *lanes, uint64_t at)
{
  struct itimerspec when = { .it_value = { (time_t) (at / 1000000000u), (long) (at % 1000000000u) } };

  lanes->timer_at = at;
  timerfd_settime (lanes->timer, TFD_TIMER_ABSTIME, &when, NULL);
}

static void
listen_to (Lanes *lanes, Bell *bell, bool listen)
{
  struct epoll_event event = { .events = listen ? EPOLLIN | EPOLLET : 0, .data.ptr = bell };

  epoll_ctl (lanes->epoll, EPOLL_CTL_MOD, bell->fd, &event);    /* fails for one that is about to be removed */
}

/* What is rung from now on stays in the descriptor and is found there when the time is over; what was rung before is looked for by
 * whoever calls this, afterwards.  So a ring comes late, by so much at most, and none is lost.  Only we read it, and whoever rings
 * it may have made it block. */
static void
stop_listening (Lanes *lanes, Bell *bell)
{
  uint32_t most = bell->limit->shared ? 0 : DEAF_DOUBLINGS;
  uint32_t doublings = bell->vain - VAIN_MOST < most ? bell->vain - VAIN_MOST : most;
  uint64_t count;

  listen_to (lanes, bell, false);
  if (preadv2 (bell->fd, &(struct iovec) { &count, sizeof count }, 1, -1, RWF_NOWAIT) < 0 && errno != EAGAIN)
    {
      listen_to (lanes, bell, true);
      return;
    }
  bell->deaf_until = monotonic_ns () + ((uint64_t) DEAF_FIRST_NS << doublings);
  if (lanes->timer_at == 0 || bell->deaf_until < lanes->timer_at)
    set_timer (lanes, bell->deaf_until);
}

static void
judge_ring (Lanes *lanes, Bell *bell)
{
  if (bell_brings (bell))
    {
      bell->vain = 0;
      return;
    }
  if (++bell->vain < VAIN_MOST)
    return;
  stop_listening (lanes, bell);
  if (bell->limit->flooded != NULL && bell->vain >= VAIN_MOST + DEAF_DOUBLINGS
      && (bell->vain - VAIN_MOST - DEAF_DOUBLINGS) % FLOOD_EVERY == 0)
    bell->limit->flooded (bell->limit_data);
}

/* A ring that came meanwhile makes the epoll say so at once. */
void
lanes_listen_again (Lanes *lanes)
{
  uint64_t now = monotonic_ns (), next = 0;

  for (Bell *bell = lanes->bells; bell != NULL; bell = bell->next)
    {
      if (bell->deaf_until != 0 && bell->deaf_until <= now)
        {
          bell->deaf_until = 0;
          listen_to (lanes, bell, true);
        }
      else if (bell->deaf_until != 0 && (next == 0 || bell->deaf_until < next))
        next = bell->deaf_until;
    }
  set_timer (lanes, next);              /* 0: never */
}

void
lanes_hear_bell (Lanes *lanes, Bell *bell)
{
  for (Bell *b = lanes->bells; b != bell; b = b->next)
    if (b == NULL)
      return;                           /* removed meanwhile */
  if (bell->limit != NULL)
    judge_ring (lanes, bell);
  if (bell->rang != NULL)
    bell->rang (bell->data);
  for (Entry *entry = bell->entries; entry != NULL; entry = entry->next)
    {
      store_relaxed (&entry_words (entry)->blocked, 0);
      if (entry_is_ready (lanes, entry))
        lanes_make_hot (lanes, entry);
    }
}

/* ---- which there are --------------------------------------------------------------------------------------------- */

Bell *
lanes_add_bell (Lanes *lanes, int fd, void (*rang) (void *data), void *data)
{
  Bell *bell = calloc (1, sizeof *bell);
  struct epoll_event event = { .events = EPOLLIN | EPOLLET, .data.ptr = bell };

  if (bell == NULL)
    return NULL;
  bell->fd = fd;
  bell->rang = rang;
  bell->data = data;
  lanes_lock (lanes);
  bell->next = lanes->bells;
  lanes->bells = bell;
  pthread_mutex_unlock (&lanes->lock);
  if (epoll_ctl (lanes->epoll, EPOLL_CTL_ADD, fd, &event) == 0)
    return bell;
  lanes_remove_bell (lanes, bell);
  return NULL;
}

void
lanes_limit_bell (Lanes *lanes, Bell *bell, const BellLimit *limit, void *data)
{
  lanes_lock (lanes);
  bell->limit_data = data;
  bell->limit = limit;
  pthread_mutex_unlock (&lanes->lock);
}

void
lanes_remove_bell (Lanes *lanes, Bell *bell)
{
  while (bell->entries != NULL)
    lanes_remove (lanes, bell->entries->channel);
  epoll_ctl (lanes->epoll, EPOLL_CTL_DEL, bell->fd, NULL);
  lanes_lock (lanes);
  for (Bell **link = &lanes->bells; *link != NULL; link = &(*link)->next)
    if (*link == bell)
      {
        *link = bell->next;
        break;
      }
  pthread_mutex_unlock (&lanes->lock);
  free (bell);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the files of the lanes have in common: lanes.c, who polls; lanes-entries.c, the channels; lanes-bells.c, the bells.
 */
#pragma once
#include <pthread.h>
#include <unistd.h>

#include "endpoint.h"
#include "lanes.h"

#define THREADS_MAX 32u         /* that can be in handlers at once; the one beyond waits */
#define NOBODY UINT32_MAX

/* A channel on the lanes. */
typedef struct Entry Entry;
struct Entry
{
  Channel *channel;
  Bell *bell;
  unsigned place;               /* 1 + where it is among the hot ones; 0: it is not hot */
  uint32_t ready_at;            /* round in which it was made hot, or served last */
  unsigned vain;                /* times in a row that the polling was left to others because of it, for nothing */
  Entry *next;                  /* of the bell */
};

struct Bell
{
  int fd;
  Entry *entries;
  void (*rang) (void *data);
  void *data;
  const BellLimit *limit;       /* NULL: whoever rings it is believed */
  void *limit_data;
  uint64_t seen;                /* where its channels were at the last ring */
  uint32_t vain;                /* rings in a row that brought nothing */
  uint64_t deaf_until;          /* monotonic ns; 0: it is listened to */
  Bell *next;
};

struct Lanes
{
  int epoll, kick;
  int timer;                    /* goes off when a bell is to be listened to again */
  uint64_t timer_at;            /* 0: it is not set */
  pthread_mutex_t lock;         /* of all that is not atomic; whoever polls holds it but in handlers */
  Bell *bells;
  Entry **hot;                  /* with a place for each that there is */
  _Atomic unsigned n_hot;       /* changed with the lock; who stays with the only one looks without */
  unsigned n_entries, n_places;
  uint32_t round;               /* counts those in which somebody was served */
  unsigned hand;                /* where the next round begins, so that none is always first */
  Channel *in_use[THREADS_MAX]; /* what each thread is serving */
  bool forgotten[THREADS_MAX];  /* … and is not on the lanes any more */
  bool in_task[THREADS_MAX];    /* it runs a task, in which handlers may run */
  uint32_t spares;              /* threads that wait for a bell, or watch */
  _Atomic uint32_t watching;    /* one of them watches */
  bool watched;                 /* one of them watches, or has been asked to */
  _Atomic uint32_t overtaken;   /* how often the one that polled was stuck */
  _Atomic (LaneTask *) tasks;   /* the newest first; anybody adds to them */
  LaneTask *due;                /* the oldest first */
  _Atomic uint32_t poller;      /* number of the thread that polls, or NOBODY; changes when another takes over */
  _Atomic uint32_t progress;    /* counts what the poller does */
  _Atomic uint32_t wanted;      /* threads that want the lock: the poller is to let go soon */
  _Atomic uint32_t stopping;
  uint32_t n_threads;
  pthread_t threads[THREADS_MAX];
};

/* ---- looks ------------------------------------------------------------------------------------------------- */

/* Reads only words that stay where they are while the channel is on the lanes: whoever serves it may be another thread.  What waits
 * in its cell's gate is served by whoever holds that: to come back to it, for as long as a handler takes, would keep a processor
 * busy. */
static inline bool
channel_is_ready (const Channel *channel)
{
  const RingReader *requests = &channel->requests;
  uint64_t at = load_relaxed (&requests->own->taken);
  const Record *record = (const Record *) (requests->data + (at & requests->mask));
  bool ready;

  if (load_acquire (&record->sequence) != requests->salt + at)
    ready = channel_has_news (channel);
  else
    {
      record_fetch (record);
      ready = !channel_is_blocked (channel);
    }
  return ready && load_relaxed (&channel->broken) == CELL_OK && atomic_load (&channel->node.queued) == 0;
}

static inline HalfControl *
entry_words (Entry *entry)
{
  return entry->channel->requests.own;
}

bool entry_is_ready (Lanes *lanes, const Entry *entry);
/* NULL: it is not there.  ret_link: where the entry hangs; may be NULL. */
Entry *lanes_find (Lanes *lanes, Channel *channel, Entry ***ret_link);

/* ---- changes, with the lock ---------------------------------------------------------------------------------- */

/* For all but the poller, which has the lock nearly always. */
static inline void
lanes_lock (Lanes *lanes)
{
  atomic_fetch_add (&lanes->wanted, 1);
  pthread_mutex_lock (&lanes->lock);
  atomic_fetch_sub (&lanes->wanted, 1);
}

/* Wakes a thread.  Needs no lock. */
static inline void
lanes_ring (Lanes *lanes)
{
  uint64_t one = 1;

  if (write (lanes->kick, &one, sizeof one) < 0)
    return;                             /* full: it has been rung */
}

/* It is polled. */
void lanes_make_hot (Lanes *lanes, Entry *entry);
/* From now on its caller rings.  True: something came meanwhile. */
bool lanes_make_cold (Lanes *lanes, Entry *entry);

/* The timer has gone off: bells whose time is over are listened to again. */
void lanes_listen_again (Lanes *lanes);
/* Its channels are hot now if there is something in them.  One that was removed meanwhile is nobody's. */
void lanes_hear_bell (Lanes *lanes, Bell *bell);

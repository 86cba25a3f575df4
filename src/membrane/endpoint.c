/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include "endpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#ifndef F_SEAL_FUTURE_WRITE
# define F_SEAL_FUTURE_WRITE 0x0010
#endif

#define EPOCH_SIZE 4096

bool
epoch_page_new (EpochPage *page, Fault *fault)
{
  void *at = MAP_FAILED;

  page->fd = memfd_create ("cell-epoch", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (page->fd >= 0 && fallocate (page->fd, 0, 0, EPOCH_SIZE) == 0)
    at = mmap (NULL, EPOCH_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, page->fd, 0);
  if (at == MAP_FAILED
      || fcntl (page->fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) < 0)
    {
      fault_set (fault, CELL_ERROR_NO_RESOURCES, "no memory for an epoch page: %s", strerror (errno));
      if (page->fd >= 0)
        close (page->fd);
      page->fd = -1;
      return false;
    }
  page->page = at;
  return true;
}

const Epoch *
epoch_map (int fd, Fault *fault)
{
  const int wanted = F_SEAL_GROW | F_SEAL_SHRINK;
  struct stat st;
  void *at = MAP_FAILED;
  int seals = fcntl (fd, F_GET_SEALS);

  if (seals >= 0 && (seals & wanted) == wanted && fstat (fd, &st) == 0 && st.st_size == EPOCH_SIZE)
    at = mmap (NULL, EPOCH_SIZE, PROT_READ, MAP_SHARED, fd, 0);
  close (fd);
  if (at != MAP_FAILED)
    return at;
  fault_set (fault, CELL_ERROR_CORRUPT, "an epoch page is not what it should be");
  return NULL;
}

void
epoch_unmap (const Epoch *epoch)
{
  if (epoch != NULL)
    munmap ((void *) epoch, EPOCH_SIZE);
}

void
epoch_page_clear (EpochPage *page)
{
  if (page->page != NULL)
    munmap (page->page, EPOCH_SIZE);
  if (page->fd >= 0)
    close (page->fd);
  *page = (EpochPage) { .fd = -1 };
}

void
epoch_page_set (EpochPage *page, uint64_t generation, uint32_t state)
{
  atomic_store (&page->page->generation, generation);
  atomic_store (&page->page->word, (uint32_t) (generation << 2) | state);
  futex_wake (&page->page->word, INT_MAX);
}

static void
kick_nobody (Gate *gate)
{
  (void) gate;
}

Endpoint *
endpoint_new (const Epoch *epoch, uint32_t threading, void (*kick) (Gate *gate))
{
  Endpoint *endpoint = aligned_alloc (_Alignof (Endpoint), sizeof *endpoint);

  if (endpoint == NULL)
    return NULL;
  *endpoint = (Endpoint) { .refs = 1, .epoch = epoch, .threading = threading };
  gate_init (&endpoint->gate, kick != NULL ? kick : kick_nobody);
  atomic_store (&endpoint->gate.word, GATE_CLOSED);
  pthread_mutex_init (&endpoint->lock, NULL);
  return endpoint;
}

Endpoint *
endpoint_of (Gate *gate)
{
  _Static_assert (offsetof (Endpoint, gate) == 0, "an endpoint begins with its gate");
  return (Endpoint *) gate;
}

Endpoint *
endpoint_ref (Endpoint *endpoint)
{
  atomic_fetch_add (&endpoint->refs, 1);
  return endpoint;
}

void
endpoint_unref (Endpoint *endpoint)
{
  if (endpoint == NULL || atomic_fetch_sub (&endpoint->refs, 1) != 1)
    return;
  pthread_mutex_destroy (&endpoint->lock);
  free (endpoint);
}

void
endpoint_add (Endpoint *endpoint, Channel *channel)
{
  pthread_mutex_lock (&endpoint->lock);
  channel->next_in_endpoint = endpoint->channels;
  endpoint->channels = channel_ref (channel);
  atomic_fetch_or (&endpoint->subscribed, load_relaxed (&channel->subscribed));
  pthread_mutex_unlock (&endpoint->lock);
}

/* With the lock.  The reference of the list is the caller's; NULL: it is not there. */
static Channel *
take_out (Channel **list, Channel *channel)
{
  for (Channel **link = list; *link != NULL; link = &(*link)->next_in_endpoint)
    if (*link == channel)
      {
        *link = channel->next_in_endpoint;
        return channel;
      }
  return NULL;
}

static bool
is_served (Channel *channel)
{
  uint32_t busy = atomic_load (&channel->busy);

  return busy == BUSY_SERVED || busy == BUSY_AGAIN;
}

/* A serial cell's handlers are in its gate.  A concurrent one's are only known by their channels, so that one with a handler in it
 * is kept; whoever comes after it has been marked does not go in. */
void
endpoint_remove (Endpoint *endpoint, Channel *channel)
{
  Channel *found;

  pthread_mutex_lock (&endpoint->lock);
  found = take_out (&endpoint->channels, channel);
  if (found != NULL)
    atomic_store (&found->ended, 1);
  if (found != NULL && is_served (found))
    {
      found->next_in_endpoint = endpoint->ending;
      endpoint->ending = found;
      found = NULL;
    }
  pthread_mutex_unlock (&endpoint->lock);
  channel_unref (found);
}

void
endpoint_let_go (Endpoint *endpoint, Channel *channel)
{
  Channel *found;

  pthread_mutex_lock (&endpoint->lock);
  found = take_out (&endpoint->ending, channel);
  pthread_mutex_unlock (&endpoint->lock);
  channel_unref (found);                /* not the last: whoever was in has another */
}

/* Without the lock: what is done may wake others, who may look at the list. */
static void
for_each_channel (Endpoint *endpoint, void (*run) (Channel *channel, ThreadContext *thread), ThreadContext *thread)
{
  Channel **channels = NULL;
  size_t n = 0, i = 0;

  pthread_mutex_lock (&endpoint->lock);
  for (Channel *channel = endpoint->channels; channel != NULL; channel = channel->next_in_endpoint)
    n++;
  channels = calloc (n > 0 ? n : 1, sizeof *channels);
  for (Channel *channel = endpoint->channels; channel != NULL && channels != NULL; channel = channel->next_in_endpoint)
    if (channel->requests.data != NULL)
      channels[i++] = channel_ref (channel);
  pthread_mutex_unlock (&endpoint->lock);
  for (n = i, i = 0; i < n; i++)
    {
      run (channels[i], thread);
      channel_unref (channels[i]);
    }
  free (channels);
}

static void
flush_posted (Channel *channel, ThreadContext *thread)
{
  (void) thread;
  channel_flush_posted (channel);
}

bool
endpoint_enter (Endpoint *endpoint)
{
  atomic_fetch_add (&endpoint->inside, 1);
  if ((atomic_load (&endpoint->gate.word) & GATE_CLOSED) == 0)
    return true;
  endpoint_leave (endpoint);
  return false;
}

void
endpoint_leave (Endpoint *endpoint)
{
  atomic_fetch_sub (&endpoint->inside, 1);
}

/* Everybody who is in sees the gate closed when he comes again; who is in is seen here. */
static bool
concurrent_stop (Endpoint *endpoint, uint64_t deadline)
{
  bool busy;

  atomic_exchange (&endpoint->gate.word, GATE_CLOSED);
  do
    {
      busy = atomic_load (&endpoint->inside) != 0;
      pthread_mutex_lock (&endpoint->lock);
      busy |= endpoint->ending != NULL;
      for (Channel *channel = endpoint->channels; channel != NULL && !busy; channel = channel->next_in_endpoint)
        busy = atomic_load (&channel->busy) != 0;
      pthread_mutex_unlock (&endpoint->lock);
      if (!busy)
        {
          /* Nobody else is there to send what the last handlers have posted. */
          for_each_channel (endpoint, flush_posted, NULL);
          return true;
        }
      clock_nanosleep (CLOCK_MONOTONIC, 0, &(struct timespec) { 0, 20000 }, NULL);
    }
  while (monotonic_ns () < deadline);
  atomic_store (&endpoint->gate.word, 0);
  return false;
}

/* What came while nobody served has been told to nobody.  Of a serial cell, whose gate we hold: puts them into the list. */
static void
serve_all (Endpoint *endpoint, ThreadContext *thread)
{
  for_each_channel (endpoint, channel_serve_ready, thread);
}

void
endpoint_continue (Endpoint *endpoint, ThreadContext *thread)
{
  if (endpoint->threading == CELL_CONCURRENT)
    serve_all (endpoint, thread);
  else
    gate_continue (&endpoint->gate, thread);
}

bool
endpoint_stop (Endpoint *endpoint, ThreadContext *thread, uint64_t deadline)
{
  if (endpoint->threading != CELL_CONCURRENT)
    return gate_stop (&endpoint->gate, thread, deadline);
  if (concurrent_stop (endpoint, deadline))
    return true;
  endpoint->gate.kick (&endpoint->gate);
  return false;
}

void
endpoint_resume (Endpoint *endpoint, ThreadContext *thread)
{
  if (endpoint->threading == CELL_CONCURRENT)
    {
      atomic_store (&endpoint->gate.word, 0);
      endpoint->gate.kick (&endpoint->gate);
      return;
    }
  if (gate_is_closed (&endpoint->gate))
    {
      gate_open (&endpoint->gate, thread);
      serve_all (endpoint, thread);
    }
  gate_leave_to_others (&endpoint->gate);
}

void
endpoint_close (Endpoint *endpoint)
{
  if (endpoint->threading != CELL_CONCURRENT)
    gate_close (&endpoint->gate);
}

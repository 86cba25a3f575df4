/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The channels on the lanes: which of them are polled, and who comes and goes.
 */
#include <sched.h>
#include <stdlib.h>

#include "lanes-own.h"

/* Another thread is serving it, or was and has not come back yet; then it looks again. */
static bool
is_in_use (Lanes *lanes, const Channel *channel)
{
  for (uint32_t i = 0; i < lanes->n_threads; i++)
    if (lanes->in_use[i] == channel && !pthread_equal (lanes->threads[i], pthread_self ()))
      return true;
  return false;
}

bool
entry_is_ready (Lanes *lanes, const Entry *entry)
{
  return channel_is_ready (entry->channel) && !is_in_use (lanes, entry->channel);
}

Entry *
lanes_find (Lanes *lanes, Channel *channel, Entry ***ret_link)
{
  for (Bell *bell = lanes->bells; bell != NULL; bell = bell->next)
    for (Entry **link = &bell->entries; *link != NULL; link = &(*link)->next)
      if ((*link)->channel == channel)
        {
          if (ret_link != NULL)
            *ret_link = link;
          return *link;
        }
  return NULL;
}

void
lanes_make_hot (Lanes *lanes, Entry *entry)
{
  if (entry->place != 0)
    return;
  entry->ready_at = lanes->round;
  lanes->hot[lanes->n_hot++] = entry;
  entry->place = lanes->n_hot;
  store_relaxed (&entry_words (entry)->waiting, WAITING_NOT);
}

static void
take_from_hot (Lanes *lanes, Entry *entry)
{
  Entry *last;

  if (entry->place == 0)
    return;
  last = lanes->hot[--lanes->n_hot];
  lanes->hot[entry->place - 1] = last;
  last->place = entry->place;
  entry->place = 0;
}

bool
lanes_make_cold (Lanes *lanes, Entry *entry)
{
  take_from_hot (lanes, entry);
  store_relaxed (&entry_words (entry)->cpu, 1 + current_cpu ());
  atomic_exchange (&entry_words (entry)->waiting, WAITING_DOORBELL);
  return entry_is_ready (lanes, entry);
}

/* ---- who comes and goes ---------------------------------------------------------------------------------------- */

static void
make_place (Lanes *lanes)
{
  if (lanes->n_entries++ < lanes->n_places)
    return;
  lanes->n_places = lanes->n_places != 0 ? 2 * lanes->n_places : 16;
  lanes->hot = realloc (lanes->hot, lanes->n_places * sizeof (Entry *));
  if (lanes->hot == NULL)
    abort ();
}

void
lanes_add (Lanes *lanes, Bell *bell, Channel *channel)
{
  Entry *entry = calloc (1, sizeof *entry);

  if (entry == NULL)
    abort ();
  entry->channel = channel_ref (channel);
  entry->bell = bell;
  lanes_lock (lanes);
  make_place (lanes);
  entry->next = bell->entries;
  bell->entries = entry;
  /* What is there already would ring no bell. */
  if (lanes_make_cold (lanes, entry))
    lanes_make_hot (lanes, entry);
  pthread_mutex_unlock (&lanes->lock);
  lanes_ring (lanes);
}

/* With the lock.  The caller's to unref and to free; NULL: it is not there. */
static Entry *
take_out (Lanes *lanes, Channel *channel)
{
  Entry **link, *entry = lanes_find (lanes, channel, &link);

  if (entry == NULL)
    return NULL;
  *link = entry->next;
  lanes->n_entries--;
  take_from_hot (lanes, entry);
  for (uint32_t i = 0; i < lanes->n_threads; i++)
    lanes->forgotten[i] |= lanes->in_use[i] == channel;
  return entry;
}

static void
entry_free (Entry *entry)
{
  if (entry != NULL)
    channel_unref (entry->channel);
  free (entry);
}

void
lanes_forget (Lanes *lanes, Channel *channel)
{
  Entry *entry;

  lanes_lock (lanes);
  entry = take_out (lanes, channel);
  pthread_mutex_unlock (&lanes->lock);
  entry_free (entry);
}

void
lanes_remove (Lanes *lanes, Channel *channel)
{
  Entry *entry;

  lanes_lock (lanes);
  entry = take_out (lanes, channel);
  while (is_in_use (lanes, channel))
    {
      atomic_fetch_add (&lanes->wanted, 1);
      pthread_mutex_unlock (&lanes->lock);
      sched_yield ();
      pthread_mutex_lock (&lanes->lock);
      atomic_fetch_sub (&lanes->wanted, 1);
    }
  pthread_mutex_unlock (&lanes->lock);
  entry_free (entry);
}

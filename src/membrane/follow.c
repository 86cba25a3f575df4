/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A caller follows a callee that moves.
 */
#include <stdlib.h>

#include "caller.h"

void
channel_moved (Channel *channel, MovedHalf *moved)
{
  moved->next = NULL;
  pthread_mutex_lock (&channel->lock);
  for (MovedHalf **link = &channel->moved;; link = &(*link)->next)
    if (*link == NULL)
      {
        *link = moved;
        break;
      }
  pthread_mutex_unlock (&channel->lock);
}

static MovedHalf *
next_move (Channel *channel)
{
  MovedHalf *moved;

  pthread_mutex_lock (&channel->lock);
  moved = channel->moved;
  pthread_mutex_unlock (&channel->lock);
  return moved;
}

bool
caller_has_moved (Channel *channel)
{
  return next_move (channel) != NULL;
}

/* Positions go on where the old half ended, so that cursors never go back. */
static void
adopt_half (Channel *channel, const MovedHalf *moved)
{
  HalfControl *own = channel->caller_half->control;

  ring_reader_init (&channel->replies, moved->half, own, moved->final_reply);
  store_release (&own->taken, moved->final_reply);
  store_release (&own->released, moved->final_reply);
  ring_writer_set_peer (&channel->out, moved->half->control, moved->final_taken);
  half_unref (channel->former_half);
  channel->former_half = channel->callee_half;
  channel->former_end = moved->final_reply;
  channel->callee_half = moved->half;
}

/* Drains the old half up to where it ended, and goes on to the next.  What the old consumer claims to have written beyond what can
 * be read is not waited for: it is gone.  A caller in the host that has the half of whoever comes after a crash hears of it again
 * when he has come, and goes on where it is. */
static void
adopt (Channel *channel, ThreadContext *thread, const MovedHalf *moved)
{
  bool same = moved->half != NULL && moved->half == channel->callee_half;

  if (!same)
    {
      channel->adopting = true;
      channel_drain (channel, thread);
      channel->adopting = false;
    }
  if (moved->crashed)
    pending_fail_all (channel, moved->final_taken, CELL_ERROR_CRASHED, status_text (CELL_ERROR_CRASHED));
  pthread_mutex_lock (&channel->lock);
  channel->moved = moved->next;
  pthread_mutex_unlock (&channel->lock);
  if (moved->half == NULL)
    {
      caller_break (channel, CELL_ERROR_GONE, NULL, 0);
      return;
    }
  if (same)
    half_unref (moved->half);
  else
    adopt_half (channel, moved);
  channel->callee_generation = moved->generation;
  channel->replies_untrusted = moved->untrusted;
  channel->vacant = moved->vacant;
  if (moved->bell >= 0)
    channel->callee_bell = moved->bell;
}

static void
channel_adopt (Channel *channel, ThreadContext *thread)
{
  MovedHalf *moved;

  while ((moved = next_move (channel)) != NULL)
    {
      adopt (channel, thread, moved);
      free (moved);
    }
}

void
caller_drop_former (Channel *channel)
{
  if (channel->former_half == NULL || channel->replies.at == channel->former_end)
    return;
  half_unref (channel->former_half);
  channel->former_half = NULL;
}

/* What was answered before the connection ended is there, and may have come since somebody looked.  What was not may have been
 * executed all the same: 'no host answers' would invite to try again. */
static void
connection_ended (Channel *channel, ThreadContext *thread)
{
  channel_drain (channel, thread);
  if (channel->broken != CELL_OK)
    return;
  pending_fail_all (channel, UINT64_MAX, CELL_ERROR_CRASHED,
                    "the host, or the connection to it, ended during the call; it may or may not have been executed");
  caller_break (channel, CELL_ERROR_UNREACHABLE, NULL, 0);
}

/* True: something changed, look at everything again. */
bool
caller_look_at_epoch (Channel *channel, ThreadContext *thread)
{
  uint32_t word = load_acquire (&channel->endpoint->epoch->word);

  if (likely (word == channel->epoch_seen))
    return false;
  channel->epoch_seen = word;
  if (channel->look != NULL && !channel->look (channel))
    connection_ended (channel, thread);
  channel_adopt (channel, thread);
  if ((word & 3) == EPOCH_DEAD && channel->broken == CELL_OK)
    caller_break (channel, CELL_ERROR_GONE, NULL, 0);
  if (channel->broken == CELL_OK && channel->n_pending > 0)
    channel_kick (channel, thread);
  return true;
}

static void
adopt_and_go_on (Channel *channel, ThreadContext *thread)
{
  channel_adopt (channel, thread);
  if (channel->broken == CELL_OK && channel->out.head != caller_taken_by_peer (channel))
    channel_kick (channel, thread);
}

void
channel_look (Channel *channel, ThreadContext *thread)
{
  if (channel->broken == CELL_OK && !caller_look_at_epoch (channel, thread) && next_move (channel) != NULL)
    adopt_and_go_on (channel, thread);
}

/* What no word tells: the host is gone, or what it has to say came later than the word. */
void
caller_look_again (Channel *channel, ThreadContext *thread)
{
  if (caller_look_at_epoch (channel, thread) || channel->look == NULL || channel->broken != CELL_OK)
    return;
  if (!channel->look (channel))
    connection_ended (channel, thread);
  else if (next_move (channel) != NULL)
    adopt_and_go_on (channel, thread);
}

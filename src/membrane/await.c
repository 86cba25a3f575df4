/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A caller waits for an answer: it looks, then says so, looks again and sleeps.
 */
#include "caller.h"

#define DEADLINE_ROUNDS 16u             /* looks at what has come before one at the clock */

static bool
something_new (Channel *channel)
{
  return ring_peek (&channel->replies) != NULL || load_acquire (&channel->endpoint->epoch->word) != channel->epoch_seen
         || (load_relaxed (&channel->endpoint->gate.word) & (GATE_PASS | GATE_CLOSED)) == GATE_PASS;
}

static void
say_processor (HalfControl *own)
{
  uint32_t cpu = 1 + current_cpu ();

  if (load_relaxed (&own->cpu) != cpu)
    store_relaxed (&own->cpu, cpu);
}

bool
caller_spin (Channel *channel)
{
  uint32_t peer_cpu = load_relaxed (&channel->out.peer->cpu), budget = spin_budget (&channel->spin, peer_cpu);
  uint64_t until = 0;

  if (budget == 0 || channel->vacant)
    return something_new (channel);
  /* Another process that has just taken over may wait for our processor, or has not begun. */
  if (peer_cpu == 0 && (channel->remote || channel->replies_untrusted))
    budget = SPIN_MIN_NS;
  say_processor (channel->caller_half->control);
  for (unsigned n = 0;; n++)
    {
      if (something_new (channel))
        {
          spin_won (&channel->spin);
          return true;
        }
      cpu_relax ();
      if ((n & 127) == 127)
        {
          uint64_t now = monotonic_ns ();

          if (until == 0)
            until = now + budget;
          else if (now > until)
            {
              spin_lost (&channel->spin);
              return false;
            }
        }
    }
}

/* Sleeps on the word of the next reply, the epoch and, for a cell that is here, its gate's turn.  False: nothing woke it.  The
 * caller drains next, whatever woke it. */
static bool
sleep_once (Channel *channel, const FutexWord *interrupt, uint64_t deadline)
{
  HalfControl *own = channel->caller_half->control;
  Gate *gate = &channel->endpoint->gate;
  const _Atomic uint32_t *next = ring_next_word (&channel->replies);
  uint64_t until = monotonic_ns () + LOOK_NS;
  FutexWord words[4] = { { next, load_acquire (next) }, { &channel->endpoint->epoch->word, channel->epoch_seen } };
  unsigned n_words = 2;
  bool local = !channel->remote, woken = true;

  if (local)
    words[n_words++] = (FutexWord) { &gate->turn, load_acquire (&gate->turn) };
  if (interrupt != NULL)
    words[n_words++] = *interrupt;
  say_processor (own);
  if (local)
    atomic_fetch_add (&gate->sleepers, 1);
  atomic_exchange (&own->waiting, WAITING_FUTEX);       /* a full fence: from here on whoever commits wakes us */
  /* Or the host, which has said before who it is that will. */
  if (channel->vacant && channel->look != NULL && (!channel->look (channel) || caller_has_moved (channel)))
    woken = false;
  else if (!something_new (channel))
    woken = futex_wait_any (words, n_words, until < deadline ? until : deadline);
  channel_rest (channel);
  if (local)
    atomic_fetch_sub (&gate->sleepers, 1);
  if (!woken)
    caller_drop_former (channel);
  return woken;
}

static bool
is_here (Channel *channel)
{
  return !channel->remote && !gate_is_closed (&channel->endpoint->gate);
}

bool
caller_withdraw (Channel *channel, Pending *pending, uint32_t mark)
{
  Record *record = (Record *) (channel->out.data + (pending->start & channel->out.mask));

  /* Once taken its space may be in use by a later record. */
  if (caller_taken_by_peer (channel) > pending->start)
    return false;
  atomic_fetch_or (&record->flags, mark);
  if (caller_taken_by_peer (channel) > pending->start || atomic_load (&channel->endpoint->epoch->word) != channel->epoch_seen)
    return false;
  return true;
}

/* Ends the wait for a call whose deadline has passed. */
static void
give_up (Channel *channel, Pending *pending, bool here, CellResult *result)
{
  const CallPlan *plan = pending->plan;
  bool taken = !caller_withdraw (channel, pending, RECORD_GIVEN_UP);

  pending_remove (channel, pending);
  if (taken || !here)
    result_error_for (result, plan, CELL_ERROR_DEADLINE, status_text (CELL_ERROR_DEADLINE));
  else
    result_error_for (result, plan, CELL_ERROR_DEADLINE, "the deadline passed before the call was taken; it was not executed");
}

/* Whoever has taken it knows of it: to ring for it again would be to ring for nothing, as those do who mean harm. */
static bool
is_to_be_taken (Channel *channel, uint64_t id)
{
  const Pending *pending = pending_find (channel, id);

  return channel->broken == CELL_OK && pending != NULL && pending->state == PENDING_OPEN
         && caller_taken_by_peer (channel) <= pending->start;
}

bool
caller_wait (Channel *channel, ThreadContext *thread, uint64_t id, const FutexWord *interrupt, CellResult *result)
{
  Pending *pending = pending_find (channel, id);
  const CallPlan *plan = pending->plan;
  uint64_t deadline = 0;
  unsigned rounds = 0;
  bool here, slept = false, looked = false, interrupted = false;

  while ((pending = pending_find (channel, id)) != NULL && pending->state == PENDING_OPEN)
    {
      channel_drain (channel, thread);
      if ((pending = pending_find (channel, id)) == NULL || pending->state != PENDING_OPEN)
        break;
      interrupted = interrupt != NULL && load_acquire (interrupt->word) != interrupt->value;
      if (interrupted)
        break;
      if (caller_look_at_epoch (channel, thread))
        continue;
      if (gate_claim (&channel->endpoint->gate, thread))
        {
          gate_leave_slow (&channel->endpoint->gate, thread);
          continue;
        }
      here = is_here (channel);
      if (here)
        {
          atomic_store (&thread->waits_for, &channel->endpoint->gate);
          if (gate_is_deadlock (&channel->endpoint->gate, thread) || load_relaxed (&channel->server) == thread)
            if (caller_withdraw (channel, pending, RECORD_CANCELLED))
              {
                pending_remove (channel, pending);
                atomic_store (&thread->waits_for, NULL);
                result_error_for (result, plan, CELL_ERROR_DEADLOCK, WAITS_FOR_ITSELF);
                return true;
              }
        }
      /* There may always be something new that is not the answer: the deadline holds all the same. */
      if (++rounds % DEADLINE_ROUNDS == 0 || !caller_spin (channel))
        {
          uint64_t now = monotonic_ns ();

          if (deadline == 0)
            deadline = now + plan->timeout * 1000000ull;
          if (now >= deadline && looked)
            {
              atomic_store (&thread->waits_for, NULL);
              give_up (channel, pending, here, result);
              return true;
            }
          looked = now >= deadline;             /* whoever has been told that his cell is gone does not say that the time was up */
          if (looked || !sleep_once (channel, interrupt, deadline) || channel->vacant)
            {
              channel->hints_lost += !looked && ring_peek (&channel->replies) != NULL;
              caller_look_again (channel, thread);
              if (is_to_be_taken (channel, id))
                channel_kick (channel, thread);         /* a wake-up can be stolen from whoever should serve us */
            }
          slept = true;
        }
      atomic_store (&thread->waits_for, NULL);
    }
  /* The wake-up that passed the gate on may have been ours, and somebody counts on it. */
  if (slept)
    gate_continue (&channel->endpoint->gate, thread);
  return !interrupted;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * One channel of a concurrent cell in its host's process.  Such a cell has no gate; each channel has a word that says that it is
 * being served, and a closed gate sends everybody elsewhere.  A model for spin: a caller, a lane that polls, and a relocator.
 *
 * There are no time-outs: whoever needs one is found as a deadlock.
 *
 * What may happen                                      -D
 *   calls                                              CALLS=n
 *   the cell leaves, or the attempt is given up        LEAVES
 *   the cell is elsewhere at first and comes back      RETURNS
 */
#ifndef CALLS
# define CALLS 2
#endif

mtype = { NOT, SERVED, AGAIN };

mtype busy = NOT;                       /* Channel.busy */
bool closed;                            /* GATE_CLOSED of the endpoint */
byte committed, taken, replied;         /* of the channel: requests in the ring, begun, answered */
bool waiting;                           /* HalfControl.waiting of the caller */
byte epoch;
bool far_waiting, far_bell, far_stop, far_stopped;
bool asleep;
byte in_handler;
bool stopped;                           /* nobody may serve here */
bool caller_finished, relocated;

/* serve_one (), for whoever has the channel. */
inline serve ()
{
  do
  :: taken < committed ->
     taken++;
     atomic { in_handler++; assert (in_handler == 1) };
     atomic { in_handler--; replied++ };        /* ring_commit () */
     /* full fence */
     if
     :: waiting -> asleep = false
     :: else
     fi
  :: taken == committed -> break
  od
}

/* channel_serve_ready (), concurrent_enter (), concurrent_leave (). */
inline serve_ready ()
{
  do
  :: true ->
#ifndef MUTANT_ASKS_ITSELF
     /* One compare-and-swap, repeated while others come between. */
     atomic { was = busy; if :: was == NOT -> busy = SERVED :: else -> busy = AGAIN fi };
#else
     /* An exchange may find the channel free by now, and asks the one who asks: two can keep each other at it. */
     atomic { was = busy; if :: was == NOT -> busy = SERVED :: else fi };
     if
     :: was != NOT -> atomic { was = busy; busy = AGAIN }
     :: else
     fi;
#endif
     if
     :: was != NOT -> break
     :: else
     fi;
     if
     :: closed ->
#ifdef MUTANT_REQUEST_TO_LOOK_DROPPED
        busy = NOT;
        break
#else
        /* The gate may have been opened since, and whoever looked then has left the looking to us. */
        atomic { was = busy; busy = NOT };
        if :: was != AGAIN -> break :: else fi
#endif
     :: else ->
        assert (!stopped);
        serve ();
        atomic { was = busy; busy = NOT };
#ifndef MUTANT_LEAVER_DOES_NOT_LOOK
        if :: was != AGAIN -> break :: else fi
#else
        break
#endif
     fi
  od;
  was = NOT
}

proctype Caller ()
{
  byte sent, seen, epoch_seen;
  mtype was = NOT;

  do
  :: sent < CALLS && seen == sent ->
     committed++;                               /* ring_commit () */
     sent++;
kick:
     /* full fence */
     if
     :: closed -> if :: far_waiting -> far_bell = true :: else fi       /* wake_remote () */
     :: else -> serve_ready ()
     fi;
     if
     :: atomic { epoch != epoch_seen -> epoch_seen = epoch }; goto kick
     :: else
     fi
  :: seen < sent ->                             /* wait_reply () */
     seen = replied;
     if
     :: seen == sent -> goto next
     :: else
     fi;
     if
     :: atomic { epoch != epoch_seen -> epoch_seen = epoch }; goto kick
     :: else
     fi;
     waiting = true;                            /* sleep_once () */
     atomic { asleep = replied == seen && epoch == epoch_seen };
     !asleep;
     waiting = false;
next:
     skip
  :: sent == CALLS && seen == sent -> break
  od;
  caller_finished = true
}

/* A thread that polls. */
proctype Lane ()
{
  mtype was = NOT;

  serve_ready ()
}

/* The consumer in the other process. */
proctype Far ()
{
  do
  :: far_stop -> far_stopped = true; break
  :: !far_stop && taken < committed -> serve ()
  :: !far_stop && taken == committed ->
     far_waiting = true;
     if
     :: taken < committed                       /* the last look */
     :: else ->
end_sleep:
        far_bell -> far_bell = false
     fi;
     far_waiting = false
  od
}

proctype Relocator ()
{
  mtype was = NOT;

#ifdef LEAVES
  closed = true;                                /* concurrent_stop () */
  if
  :: busy == NOT ->
     stopped = true;
     assert (in_handler == 0);
     atomic { epoch++; asleep = false };
     run Far ();
     goto done
  :: closed = false                             /* the deadline */
  fi;
#endif
#ifdef RETURNS
  atomic { far_stop = true; far_bell = true };
  far_stopped;
  atomic { epoch++; asleep = false };
  atomic { stopped = false; closed = false };   /* endpoint_resume () */
#endif
  /* Who found it closed has left its request in the ring.  A lane looks, which is kicked. */
#ifndef MUTANT_NO_LOOK_AFTER_OPENING
  serve_ready ();
#endif
done:
  relocated = true
}

init
{
  atomic
  {
    run Caller ();
    run Lane ();
    run Relocator ();
#ifdef RETURNS
    closed = true;
    stopped = true;
    run Far ();
#endif
  };
  timeout;                                      /* nobody can do anything more */
  assert (relocated);
  assert (caller_finished);
  assert (busy == NOT && taken == committed)
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * One channel whose callee moves: wait, wake, hand-over, crash, death and cancellation, as a model for spin.
 *
 * A record at position p is visible from the moment its sequence word is written.  Here each record takes one position, rings do
 * not wrap, and a word is 0 until then.  A callee's half of generation g is a row of `answer`; positions go on from one half to
 * the next.
 *
 * Memory is sequentially consistent in the model: each full fence of the code is a place where a mutant changes the order instead.
 * Time-outs do not exist, so whoever needs one to go on is found as a deadlock.  Nothing goes round in circles either, which the
 * run with -DNP shows: every execution ends, and when it ends everything has been answered.
 *
 * What may happen                                      -D
 *   calls, moves                                       CALLS=n MOVES=n
 *   a consumer may die at any step                     CRASHES
 *   the last hand-over may be the end of the cell      DEATH
 *   a caller may give up a call                        CANCELS
 *   … or take it back, and waits on when it cannot     RECALLS
 *   the last call is one-way: nobody waits for it      ONEWAY
 *   the caller may be stopped for ever at any step     STOPS
 *   the consumer sleeps on a word, not on a doorbell   FUTEX
 *
 * The mutants, each a mistake that must be found, are the names in `#ifdef MUTANT_…`.
 */
#ifndef CALLS
# define CALLS 2
#endif
#ifndef MOVES
# define MOVES 2
#endif
#define GENERATIONS (MOVES + 1)
#ifdef ONEWAY
# define ONEWAY_CALL(call) ((call) == CALLS - 1)
#else
# define ONEWAY_CALL(call) false
#endif
#define WORD(generation, position) ((generation) * (CALLS + 1) + (position))

mtype = { NOTHING, OPEN, REPLIED, CRASHED, GONE, WITHDRAWN, GIVEN_UP, SENT };

/* ---- shared memory: the caller's half */
bool request[CALLS + 1];                /* Record.sequence of requests */
bool cancelled[CALLS];                  /* Record.flags & RECORD_CANCELLED */
bool given_up[CALLS];                   /* … & RECORD_ONEWAY, which comes with the same step */
bool caller_waiting;                    /* HalfControl.waiting of the caller */
byte caller_released;                   /* HalfControl.released of the caller: replies that it has read */

/* ---- the callee's halves */
byte answer[GENERATIONS * (CALLS + 1)]; /* Record.sequence of replies: 0, or 1 + the call that it answers */
byte taken[GENERATIONS];                /* HalfControl.taken */
byte head[GENERATIONS];                 /* HalfControl.head */
bool consumer_waiting[GENERATIONS];     /* HalfControl.waiting */
bool bell[GENERATIONS];                 /* the eventfd of the consumer, or that somebody woke it from its futex */

/* ---- written by the host: the epoch page, and the chain of moved halves (MovedHalf) */
byte epoch;                             /* Epoch.word: changes with every hand-over */
bool dead;                              /* its state; part of the same word */
byte linked;                            /* how many MovedHalf there are */
bool no_successor;                      /* the last one has no half */
byte final_taken[GENERATIONS], final_reply[GENERATIONS];
bool after_crash[GENERATIONS];

/* ---- between the host and the consumers: messages on their socket, signals, the pidfd */
bool stop[GENERATIONS], stopped[GENERATIONS], killed[GENERATIONS], reaped[GENERATIONS];

/* ---- the kernel: the caller in futex_waitv () on the word of the next reply and the epoch */
bool asleep;
byte asleep_on;

/* ---- what the properties are about */
mtype outcome[CALLS] = NOTHING;
byte executed[CALLS];
byte accepted;
bool caller_stopped, caller_finished, host_finished, any_crash;
#ifdef MUTANT_WAIT_FOR_CALLER
byte adopted;
#endif

/* ==== the consumer: lanes*.c, serve.c ====================================================================== */

/* serve_wake (): the futex word of the very record that was committed. */
inline wake_caller (waiting, word)
{
  if
  :: waiting -> atomic { if :: asleep && asleep_on == word -> asleep = false :: else fi }
  :: else
  fi
}

proctype Consumer (byte g)
{
  byte at = taken[g], out = head[g];
  bool waiting, skipped, silent;

  {
    do
    :: stop[g] ->                               /* STOP is looked at between records: what was taken is finished */
       stopped[g] = true;
       break

    :: !stop[g] && request[at] ->               /* ring_peek () */
#ifndef MUTANT_TAKEN_AFTER_HANDLER
       taken[g] = at + 1;                       /* ring_take (): before the handler runs */
#endif
       /* ring_writer_refresh (): a cursor of the caller's beyond what was written would be a lie. */
       assert (caller_released <= out);
       /* full fence: who gives a call up marks it and then looks at `taken` */
       if
       :: atomic { cancelled[at] -> skipped = true; silent = given_up[at] }
       :: else ->
          atomic { executed[at]++; assert (executed[at] == 1 && outcome[at] != WITHDRAWN) }     /* the handler */
       fi;
#ifdef MUTANT_TAKEN_AFTER_HANDLER
       taken[g] = at + 1;
#endif
       if
#ifdef MUTANT_SKIPPED_IN_SILENCE
       :: skipped || ONEWAY_CALL (at)
#else
       :: silent || ONEWAY_CALL (at)
#endif
       :: else ->
          /* reply_commit ().  `head` goes first: however much the caller has read when this consumer dies, the final position is
           * not before it. */
#ifdef MUTANT_WAKER_LOOKS_FIRST
          waiting = caller_waiting;
#endif
#ifndef MUTANT_HEAD_AFTER_COMMIT
          head[g] = out + 1;                    /* ring_publish_head () */
#endif
          answer[WORD (g, out)] = at + 1;       /* ring_commit () */
#ifdef MUTANT_HEAD_AFTER_COMMIT
          head[g] = out + 1;
#endif
#ifndef MUTANT_WAKER_LOOKS_FIRST
          waiting = caller_waiting;             /* after a full fence */
#endif
          wake_caller (waiting, WORD (g, out));
          out++
       fi;
       d_step { at++; skipped = false; silent = false; waiting = false }

    :: !stop[g] && !request[at] ->              /* make_cold () and epoll_wait () */
#ifdef MUTANT_SLEEPER_LOOKS_FIRST
       consumer_waiting[g] = true;
#else
       consumer_waiting[g] = true;
       /* full fence, and the last look */
       if
       :: request[at] -> goto awake
       :: else
       fi;
#endif
#ifdef FUTEX
       /* futex_waitv () compares and sleeps in one step; what woke nobody is forgotten */
       atomic { if :: request[at] || stop[g] -> goto awake :: else -> bell[g] = false fi };
#endif
end_sleep:
       bell[g] -> bell[g] = false;
awake:
       consumer_waiting[g] = false
    od
  }
  unless
  {
    killed[g] -> reaped[g] = true
  }
}

/* ==== the host: relocate, link_moved (), epoch_page_set () ================================================== */

inline epoch_set ()
{
#ifndef MUTANT_EPOCH_UNCHANGED
  epoch++;
#endif
  asleep = false                                /* futex_wake (everybody) */
}

proctype Host ()
{
  byte g = 0;
  bool crash, last;

  run Consumer (0);
  do
  :: g < MOVES ->
     crash = false;
     last = false;
#ifdef DEATH
     if :: g == MOVES - 1 -> last = true :: g == MOVES - 1 :: g < MOVES - 1 fi;
#endif
#ifdef MUTANT_STALE_POSITIONS
     final_taken[g] = taken[g];
     final_reply[g] = head[g];
#endif
     if
     :: stop[g] = true;                         /* STOP … */
        bell[g] = true;
        stopped[g]                              /* … DONE.  The consumer answers; no caller has a part in it */
#ifdef CRASHES
     :: killed[g] = true;                       /* it dies, at whatever step it is */
        reaped[g];                              /* the pidfd says so */
        crash = true;
        any_crash = true
#endif
     fi;
     /* link_positions () */
#ifndef MUTANT_STALE_POSITIONS
     final_taken[g] = taken[g];
     final_reply[g] = head[g];
#endif
     after_crash[g] = crash;
     if
     :: last ->
        d_step { no_successor = true; linked++ };
        atomic { dead = true; epoch_set () };
        break
     :: else ->
        /* link_new_replies (): fresh memory that goes on at the final positions; link_moved () */
#ifdef MUTANT_REPLIES_FROM_START
        head[g + 1] = 0;
#else
        head[g + 1] = final_reply[g];
#endif
        taken[g + 1] = final_taken[g];
        linked++;
        /* The epoch changes before the new consumer takes anything: a caller that finds it unchanged knows that its mark on a
         * record will be seen.  And the new consumer looks at the ring before it first sleeps, after the change: a caller that
         * found it unchanged after its commit needs to wake nobody. */
#ifdef MUTANT_START_BEFORE_EPOCH
        run Consumer (g + 1);
        epoch_set ();
#else
        epoch_set ();
        run Consumer (g + 1);                   /* START */
#endif
        g++;
#ifdef MUTANT_WAIT_FOR_CALLER
        adopted == g
#endif
     fi
  :: else -> break
  od;
  host_finished = true
}

/* ==== the caller: call.c ===================================================================================== */

/* fail_open (): answers what is open and lies before `position`. */
inline fail_open (position, what)
{
  d_step
  {
    i = 0;
    do
    :: i < position && i < CALLS ->
       if :: outcome[i] == OPEN -> outcome[i] = what; n_pending-- :: else fi;
       i++
    :: else -> break
    od;
    i = 0
  }
}

/* channel_drain () */
inline drain ()
{
  do
  :: answer[WORD (generation, at)] != 0 ->
     d_step
     {
       i = answer[WORD (generation, at)] - 1;
       assert (i >= next_reply);                /* in order */
       next_reply = i + 1;
       if
       :: outcome[i] == OPEN -> assert (executed[i] == 1 || cancelled[i]); outcome[i] = REPLIED; n_pending--
       :: else -> assert (outcome[i] == GIVEN_UP || outcome[i] == WITHDRAWN)    /* never twice; a reply to what was given up finds nobody */
       fi;
       i = 0;
       at++
     };
     caller_released = at                       /* ring_release () */
  :: else -> break
  od
}

/* wake_remote () */
inline wake_consumer (waiting)
{
  if :: waiting -> bell[generation] = true :: else fi
}

/* look_at_epoch () and channel_adopt () */
inline look_at_epoch ()
{
  if
  :: epoch == epoch_seen -> looked = false
  :: atomic { epoch != epoch_seen -> looked = true; epoch_seen = epoch };
     do
     :: linked > adoptions ->
        adoptions++;
        drain ();
        if :: after_crash[generation] -> fail_open (final_taken[generation], CRASHED) :: else fi;
        if
        :: no_successor && adoptions == linked -> broken = true; fail_open (CALLS, GONE)
        :: else ->
           assert (after_crash[generation] || at == final_reply[generation]);
           at = final_reply[generation];
           generation++;
           caller_released = at;
#ifdef MUTANT_WAIT_FOR_CALLER
           adopted = generation;
#endif
        fi
     :: else -> break
     od;
     if
     :: broken
     :: else ->
        /* A request may have been committed after the new consumer's first look, and the bell rung where nobody is any more. */
        if :: n_pending > 0 -> wake_consumer (consumer_waiting[generation]) :: else fi
     fi
  fi
}

proctype Caller ()
{
  byte at, generation, adoptions, epoch_seen, next_reply, n_pending, sent, i, value, oldest;
  bool broken, looked, waiting;

  {
    do
    :: sent < CALLS && !broken ->               /* channel_start (): send_request () … */
       look_at_epoch ();
       if
       :: broken -> goto next
       :: else
       fi;
       d_step
       {
         accepted++;
         if
         :: ONEWAY_CALL (sent) -> outcome[sent] = SENT
         :: else -> outcome[sent] = OPEN; n_pending++
         fi
       };
#ifdef MUTANT_SENDER_LOOKS_FIRST
       waiting = consumer_waiting[generation];
#endif
       request[sent] = true;                    /* ring_commit () */
       sent++;
kick:                                           /* kick_sent () */
#ifndef MUTANT_SENDER_LOOKS_FIRST
       waiting = consumer_waiting[generation];  /* channel_kick (), after a full fence */
#endif
       wake_consumer (waiting);
       waiting = false;
#ifndef MUTANT_KICK_AND_GO
       /* The look that counts when nobody waits for the answer: either it finds the new epoch, or the new consumer's first look
        * finds the record. */
       look_at_epoch ();
       if :: looked && !broken -> goto kick :: else fi
#endif

    :: n_pending > 0 ->                         /* wait_reply () */
       drain ();
       if :: n_pending == 0 -> goto next :: else fi;
       look_at_epoch ();
       if :: looked -> goto next :: else fi;
#ifdef CANCELS
       d_step                                   /* the first that is open */
       {
         oldest = 0;
         do
         :: oldest < CALLS && outcome[oldest] != OPEN -> oldest++
         :: else -> break
         od
       };
       if
       :: oldest < CALLS ->                     /* the deadline: withdraw () */
          if
          :: taken[generation] > oldest -> outcome[oldest] = GIVEN_UP
          :: else ->
             d_step { cancelled[oldest] = true; given_up[oldest] = true };
             /* full fence.  Whoever takes it from now on sees the mark; who has taken it is seen, unless it is a new consumer, of
              * which the old half says nothing: then the caller may not claim that the call was not executed. */
             if :: taken[generation] > oldest -> outcome[oldest] = GIVEN_UP :: else fi;
#ifndef MUTANT_WITHDRAW_FROM_OLD_HALF
             if :: epoch != epoch_seen -> outcome[oldest] = GIVEN_UP :: else fi;
#endif
             atomic
             {
               if
               :: outcome[oldest] == OPEN -> outcome[oldest] = WITHDRAWN; assert (executed[oldest] == 0)
               :: else
               fi
             }
          fi;
          n_pending--;
          goto next
       :: true
       fi;
#endif
#ifdef RECALLS
       d_step                                   /* the first that is open and not marked */
       {
         oldest = 0;
         do
         :: oldest < CALLS && (outcome[oldest] != OPEN || cancelled[oldest]) -> oldest++
         :: else -> break
         od
       };
       if
       :: oldest < CALLS && taken[generation] <= oldest ->      /* it would wait for itself: withdraw () */
          cancelled[oldest] = true;
          if
          :: taken[generation] <= oldest && epoch == epoch_seen ->
             atomic { outcome[oldest] = WITHDRAWN; assert (executed[oldest] == 0) };
             n_pending--
          :: else                               /* it waits on: whoever takes it answers, whether he saw the mark or not */
          fi;
          goto next
       :: true
       fi;
#endif
       /* sleep_once () */
#ifndef MUTANT_WORD_LOADED_LAST
       value = answer[WORD (generation, at)];   /* the word's value is loaded before the last look */
#endif
       caller_waiting = true;
       /* full fence, and something_new () */
       if
       :: answer[WORD (generation, at)] != 0 -> goto awake
#ifndef MUTANT_NO_LOOK_AT_EPOCH
       :: epoch != epoch_seen -> goto awake
#endif
       :: else
       fi;
#ifdef MUTANT_WORD_LOADED_LAST
       value = answer[WORD (generation, at)];
#endif
       atomic                                   /* futex_waitv () */
       {
         if
         :: answer[WORD (generation, at)] != value
#ifndef MUTANT_NO_LOOK_AT_EPOCH
         :: epoch != epoch_seen
#endif
         :: else -> asleep = true; asleep_on = WORD (generation, at)
         fi
       };
       !asleep;
awake:
       caller_waiting = false;
next:
       value = 0

    :: n_pending == 0 && (sent == CALLS || broken) -> break
    od;
    caller_finished = true
  }
#ifdef STOPS
  unless
  {
    caller_stopped
  }
#endif
}

/* ==== properties ================================================================================================ */

#ifdef STOPS
active proctype Stopper ()
{
  if :: caller_stopped = true :: true fi
}
#endif

init
{
  byte i;

  atomic { run Host (); run Caller () };
  timeout;                                      /* nobody can do anything more */
  assert (host_finished);                       /* whatever the caller does or does not do */
  assert (caller_finished || caller_stopped);
  d_step
  {
    do
    :: i < accepted ->
       if
       :: caller_stopped
       :: else ->
          assert (outcome[i] != NOTHING && outcome[i] != OPEN);
          assert (outcome[i] != CRASHED || any_crash);
          assert (outcome[i] != GONE || dead);
          assert (outcome[i] != WITHDRAWN || executed[i] == 0);
          assert (outcome[i] != SENT || executed[i] == 1 || any_crash || dead)
       fi;
       /* Everything that is in the ring has been taken by somebody, if there is somebody. */
       if
       :: !no_successor && !caller_stopped -> assert (taken[linked] > i)
       :: else
       fi;
       i++
    :: else -> break
    od
  }
}

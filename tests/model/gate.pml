/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The gate of a serial cell in its host's process: callers that run the cell themselves or leave a node, passing on, and a
 * relocator that stops the cell, takes it to another process and perhaps back again.  A model for spin.
 *
 * What channel.pml has shown is made simple here: a channel's replies are a counter, whichever half they lie in, and the consumer
 * in the other process is one for all channels.
 *
 * There are no time-outs: whoever needs one is found as a deadlock.  A worker stands for the lanes: it comes only when kicked.
 *
 * What may happen                                      -D
 *   callers, calls of each                             CALLERS=n CALLS=n
 *   nodes that a holder serves for others              BUDGET=n
 *   the cell leaves                                    LEAVES
 *   it comes back, or begins elsewhere and comes       RETURNS
 *   the relocator gives up waiting for the gate        GIVES_UP
 *   a node is run for one record at a time             PIECEMEAL
 */
#ifndef CALLERS
# define CALLERS 2
#endif
#ifndef CALLS
# define CALLS 2
#endif
#ifndef BUDGET
# define BUDGET 1
#endif
#define STOP CALLERS                    /* the relocator's node */
#define NODES (CALLERS + 1)

mtype = { IDLE, WAITING, GRANTED, GIVEN_UP };

/* ---- the gate.  The flags and the list are one word: what changes them together is one step. */
bool held, pass, closed;
chan word = [NODES] of { byte };        /* the list in Gate.word; oldest first, as take_nodes () makes it */
chan first = [NODES] of { byte };       /* Gate.first: the holder's */
byte turn, sleepers;
bool queued[NODES];                     /* GateNode.queued */
mtype stop_state = IDLE;                /* Stop.state */

/* ---- channels */
byte committed[CALLERS];                /* requests in the ring */
byte taken[CALLERS];                    /* … that were begun; belongs to whoever serves */
byte replied[CALLERS];
bool waiting[CALLERS];                  /* HalfControl.waiting of the caller */
byte epoch;

/* ---- the consumer in the other process */
bool far_waiting, far_bell, far_stop, far_stopped;

/* ---- the kernel: futex_waitv () queues a thread on each word; a thread that was woken through one word stays queued on the
 * others until it runs, and a wake on those counts it once more. */
bool asleep[CALLERS], on_reply[CALLERS], on_turn[CALLERS];

byte kicks;                             /* tasks for the worker */
byte in_handler;
byte finished;
bool relocated;

/* ==== serving: channel_serve (), serve_one () =========================================================== */

inline wake_caller (n)
{
  if
  :: waiting[n] -> atomic { if :: on_reply[n] -> on_reply[n] = false; asleep[n] = false :: else fi }
  :: else
  fi
}

inline serve_one (n)
{
  taken[n]++;
  atomic { in_handler++; assert (in_handler == 1) };
  atomic { in_handler--; replied[n]++ };        /* ring_commit () */
  /* full fence */
  wake_caller (n)
}

/* ==== gate.c ================================================================================================ */

/* gate_enter () */
#define GATE_IS_FREE (!held && !closed && len (word) == 0)

/* gate_push ().  hold: the gate was free or had been passed on, and is ours now. */
inline gate_push (n)
{
  atomic { was = queued[n]; queued[n] = true };
  do
  :: was -> break
  :: atomic
     {
       !was && !closed ->
       word!n;
       if
       :: held && !pass
       :: else -> held = true; pass = false; hold = true
       fi;
       break
     }
  :: !was && closed ->
#ifndef MUTANT_REFUSED_KEEPS_MARK
     queued[n] = false;
#endif
     if
     :: closed -> break                         /* PUSH_CLOSED */
     :: !closed -> atomic { was = queued[n]; queued[n] = true }
     fi
  od;
  was = false
}

inline take_nodes ()
{
  d_step
  {
    do
    :: word?node -> first!node
    :: empty (word) -> break
    od;
    node = 0
  }
}

/* pass_on (): FUTEX_WAKE of one sleeper, whichever it is. */
inline pass_on ()
{
  turn++;
  pass = true;
  if
  :: sleepers == 0 -> kicks++
  :: else ->
     atomic
     {
       if
       :: on_turn[0] -> on_turn[0] = false; asleep[0] = false
#if CALLERS > 1
       :: on_turn[1] -> on_turn[1] = false; asleep[1] = false
#endif
#if CALLERS > 2
       :: on_turn[2] -> on_turn[2] = false; asleep[2] = false
#endif
       :: else ->
#ifndef MUTANT_NO_WORKER
          kicks++
#else
          skip
#endif
       fi
     }
  fi
}

/* gate_leave () and gate_leave_slow (). */
inline gate_leave ()
{
  hold = false;
  served = 0;
  do
#ifdef MUTANT_LEAVER_STORES
  :: len (first) == 0 -> held = false; break
#else
  :: atomic { len (first) == 0 && len (word) == 0 -> assert (held && !pass && !closed); held = false; break }
#endif
  :: (len (first) > 0 || len (word) > 0) && served >= BUDGET -> pass_on (); break
  :: (len (first) > 0 || len (word) > 0) && served < BUDGET ->
     assert (held && !pass && !closed);
     take_nodes ();
     do
     :: first?node ->
        if
        :: node == STOP ->
           atomic
           {
             queued[STOP] = false;
             if
             :: stop_state == WAITING -> stop_state = GRANTED; gone = true      /* NODE_TOOK_GATE */
             :: else
             fi
           }
        :: else ->
#ifndef MUTANT_QUEUED_CLEARED_LATE
           queued[node] = false;                /* before the look at the ring */
#endif
           do
           :: taken[node] < committed[node] ->
              serve_one (node);
#ifdef PIECEMEAL
              atomic                            /* NODE_MORE */
              {
                if
                :: !queued[node] -> queued[node] = true; first!node
                :: else
                fi
              };
              break
#endif
           :: taken[node] == committed[node] -> break
           od;
#ifdef MUTANT_QUEUED_CLEARED_LATE
           queued[node] = false;
#endif
        fi;
        node = 0;
        served++;
        if
        :: gone -> break
        :: !gone && served >= BUDGET && len (first) > 0 -> pass_on (); gone = true; break
        :: else
        fi
     :: empty (first) -> break
     od;
     if :: gone -> break :: else fi
  od;
  gone = false;
  served = 0
}

/* What waits is whoever's who takes the gate over. */
inline gate_leave_to_others ()
{
  if
#ifdef MUTANT_LEAVES_ALL
  :: held = false
#else
  :: atomic { len (first) == 0 && len (word) == 0 -> assert (held && !pass && !closed); held = false }
  :: len (first) > 0 || len (word) > 0 -> pass_on ()
#endif
  fi
}

/* ==== a caller: channel_call (), channel_kick (), wait_reply (), sleep_once () ============================== */

proctype Caller (byte c)
{
  byte sent, seen, value, turn_seen, epoch_seen, node, served;
  bool hold, gone, was;
#ifdef MUTANT_KICK_WITHOUT_FENCE
  bool was_closed;
#endif

next:
  if
  :: sent < CALLS ->
#ifdef MUTANT_KICK_WITHOUT_FENCE
     was_closed = closed;
#endif
     committed[c]++;                            /* ring_commit () */
     sent++;
     if
     :: atomic { GATE_IS_FREE && seen == sent - 1 -> held = true };
        do                                      /* its own request, without the list */
        :: taken[c] < committed[c] -> serve_one (c)
        :: taken[c] == committed[c] -> break
        od;
        goto leave
     :: else -> goto kick
     fi
  :: seen < sent -> goto wait
  :: sent == CALLS && seen == sent -> goto done
  fi;

kick:
  /* full fence: the commit, then the look at the gate.  Whoever opens it looks at every ring afterwards. */
  if
#ifdef MUTANT_KICK_WITHOUT_FENCE
  :: was_closed ->
#else
  :: closed ->
#endif
     if :: far_waiting -> far_bell = true :: else fi    /* wake_remote () */
  :: else -> gate_push (c)
  fi;
#ifdef MUTANT_KICK_WITHOUT_FENCE
  was_closed = closed;
#endif
  if :: hold -> goto leave :: else fi;

look:                                           /* look_at_epoch () */
  if
  :: epoch != epoch_seen -> epoch_seen = epoch; goto kick
  :: else -> goto next
  fi;

leave:
  gate_leave ();
  goto look;

wait:
  seen = replied[c];                            /* channel_drain () */
  if
  :: seen == sent -> goto next
  :: else
  fi;
  if
  :: epoch != epoch_seen -> epoch_seen = epoch; goto kick
  :: else
  fi;
  if
  :: atomic { pass -> pass = false }; goto leave        /* gate_claim () */
  :: else
  fi;
  /* sleep_once () */
  value = replied[c];
  turn_seen = turn;
  sleepers++;
  waiting[c] = true;
  /* full fence, and something_new () */
  if
  :: replied[c] != seen || epoch != epoch_seen || (pass && !closed) -> goto awake
  :: else
  fi;
  atomic
  {
    if
    :: replied[c] == value && epoch == epoch_seen && turn == turn_seen ->
       asleep[c] = true; on_reply[c] = true; on_turn[c] = true
    :: else -> goto awake
    fi
  };
  !asleep[c];
  atomic { on_reply[c] = false; on_turn[c] = false };
awake:
  waiting[c] = false;
  sleepers--;
  atomic { value = 0; turn_seen = 0 };
#ifndef MUTANT_WOKEN_AND_GONE
  /* Whoever slept may be the one that was woken to go on with the gate, even if its reply has come as well. */
  if
  :: atomic { pass -> pass = false }; goto leave
  :: else
  fi;
#endif
  goto wait;

done:
  finished++
}

/* ==== a lane: gate_continue () ================================================================================ */

active proctype Worker ()
{
  byte node, served;
  bool hold, gone;

end_idle:
  do
  :: atomic { kicks > 0 -> kicks-- };
     if
     :: atomic { pass -> pass = false }; gate_leave ()
     :: else
     fi
  od
}

/* ==== moving: gate_stop (), gate_close (), gate_open () =========================================================== */

#if defined (LEAVES) || defined (RETURNS)

#if CALLERS == 1
# define WORK (taken[0] < committed[0])
#elif CALLERS == 2
# define WORK (taken[0] < committed[0] || taken[1] < committed[1])
#else
# define WORK (taken[0] < committed[0] || taken[1] < committed[1] || taken[2] < committed[2])
#endif

/* The consumer in the other process, as in channel.pml. */
proctype Far ()
{
  byte n;

  do
  :: far_stop -> far_stopped = true; break
  :: !far_stop && WORK ->
     d_step
     {
       do
       :: taken[n] == committed[n] -> n++
       :: else -> break
       od
     };
     serve_one (n);
     n = 0
  :: !far_stop && !WORK ->
     far_waiting = true;
     if
     :: WORK                                    /* the last look */
     :: else ->
end_sleep:
        far_bell -> far_bell = false
     fi;
     far_waiting = false
  od
}

inline epoch_set ()
{
  atomic { epoch++; asleep[0] = false; asleep[CALLERS - 1] = false; asleep[CALLERS / 2] = false }
}

proctype Relocator ()
{
  byte node, served, n;
  bool hold, gone, was;

#ifdef LEAVES
  /* gate_stop () */
  if
  :: atomic { GATE_IS_FREE -> held = true }; goto granted
  :: else
  fi;
  stop_state = WAITING;
  gate_push (STOP);
  if :: hold -> goto leave :: else fi;

wait:                                           /* stop_wait () */
  if
  :: stop_state != WAITING -> goto granted
  :: else
  fi;
  if
  :: atomic { pass -> pass = false }; goto leave
  :: else
  fi;
#ifdef GIVES_UP
  atomic { if :: stop_state == WAITING -> stop_state = GIVEN_UP; goto done :: true fi };
#endif
  stop_state != WAITING;                        /* futex_wait_until () */

granted:
  atomic { stop_state = IDLE; assert (held && !pass && !closed && in_handler == 0) };
  /* gate_close () */
  d_step
  {
    do
    :: word?node -> first!node
    :: empty (word) -> break
    od;
    node = 0;
    held = false;
    closed = true
  };
  do
  :: first?node ->
#ifndef MUTANT_CLOSE_KEEPS_MARKS
     queued[node] = false;
#endif
     node = 0
  :: empty (first) -> break
  od;
  epoch_set ();
  run Far ();
#endif
#ifdef RETURNS
  atomic { far_stop = true; far_bell = true };
  far_stopped;
  epoch_set ();
  atomic { closed = false; held = true };       /* gate_open () */
  /* From here on callers push.  Who found the gate closed had committed before: every ring is looked at once. */
#ifndef MUTANT_NO_LOOK_AFTER_OPENING
  do
  :: n < CALLERS -> gate_push (n); assert (!hold); n++
  :: else -> break
  od;
  n = 0;
#endif
  gate_leave_to_others ();
#endif
  goto done;

#ifdef LEAVES
leave:
  gate_leave ();
  goto wait;
#endif

done:
  relocated = true
}

#endif

/* ==== properties ==================================================================================================== */

init
{
  byte c;

  atomic
  {
    do
    :: c < CALLERS -> run Caller (c); c++
    :: else -> break
    od;
    c = 0;
#if defined (LEAVES) || defined (RETURNS)
    run Relocator ();
#endif
#if defined (RETURNS) && !defined (LEAVES)
    closed = true;
    run Far ();
#endif
  };
  timeout;                                      /* nobody can do anything more */
  assert (finished == CALLERS);
#if defined (LEAVES) || defined (RETURNS)
  assert (relocated);
#endif
#ifndef MUTANT_WOKEN_AND_GONE           /* it shall be found because somebody waits in vain */
  assert (!pass && !held && len (word) == 0 && len (first) == 0)
#endif
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A child, between its files: its process and its connection (child.c), and what it is asked (child-ask.c).
 */
#pragma once
#include <errno.h>
#include <time.h>

#include "child.h"
#include "freeze.h"

struct Child
{
  _Atomic guint refs;
  HostCell *cell;               /* a reference */
  Connection *connection;       /* likewise */
  Process *process;             /* bubblewrap */
  int info;                     /* where bubblewrap says who the runner is */
  GPid pid;                     /* of the runner */
  int pidfd;                    /* likewise; -1: not known */
  int last_word;                /* of the runner; see plugins/sandbox/last-word.h */
  Freezer *freezer;             /* NULL: it was not to stand so far.  Of who has claimed its cell */
  guint hang_ms;
  guint64 memory;               /* bytes that it may take */
  StatsPage stats;              /* made before it loads its cell */
  pthread_mutex_t lock;         /* of what follows */
  pthread_cond_t changed;
  uint64_t last_serial;
  ChildQuestion *questions;     /* that were asked and are not finished */
  gboolean greeted, closed;
  gboolean restrained;          /* and that was said … */
  gboolean lowered;             /* … and done, for its session, too */
  gboolean killed;              /* by who has claimed its cell, and knows what is to come of it */
  char *condemned;              /* why it was killed */
  pthread_mutex_t ending;       /* of what follows, which is found out once */
  ProcessEnd end;
  guint64 memory_kills;         /* of the kernel's, when it began */
};

/* Waits for `changed`.  FALSE: the time has come. */
static inline gboolean
wait_until (Child *child, const struct timespec *until)
{
  return pthread_cond_timedwait (&child->changed, &child->lock, until) != ETIMEDOUT;
}

static inline struct timespec
in_milliseconds (unsigned milliseconds)
{
  uint64_t at = (uint64_t) g_get_monotonic_time () + (uint64_t) milliseconds * 1000u;

  return (struct timespec) { (time_t) (at / 1000000u), (long) (at % 1000000u) * 1000 };
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What becomes of a cell whose process ends.  Its key file says when it is restarted; it is done at once the first time, and from
 * the second within the window after a delay that doubles and is never quite the same.  More restarts within the window than the
 * intensity allows, and the cell has failed.  As Erlang's supervisors have it.
 */
#pragma once
#include "cell.h"

/* A child has died, or was condemned.  If it is its cell's, the cell is restarted. */
void supervise_child_died (HostCell *cell, Child *child);
/* The same, for who has claimed the cell: its child is of no use any more.  why: for people, if its process does not say. */
void supervise_lost (HostCell *cell, const char *why);
/* Nothing is to come of it any more: the cell ends, or serves. */
void supervise_cancel (HostCell *cell);
/* What was counted of its restarts does not count any more. */
void supervise_forgive (HostCell *cell);
void supervise_free (struct Supervision *supervision);

typedef enum
{
  SUPERVISE_RESTART,
  SUPERVISE_LEAVE,              /* it is not of a kind to be restarted after such an end */
  SUPERVISE_FAIL                /* it would be one restart more than the intensity allows */
} SuperviseVerdict;

/* What is to come of a process that has ended now, or has not come so far as to serve.  normal: it has ended itself, with status 0.
 * times: of the restarts so far, monotonic µs, the oldest first: those that the window does not reach go, and this one comes to
 * them if it is to be. */
SuperviseVerdict supervise_judge (const Manifest *manifest, gboolean normal, GArray *times, gint64 now);
/* How long the nth restart within the window has to wait: ms; random: 0 to 1. */
guint supervise_delay (guint n, double random);

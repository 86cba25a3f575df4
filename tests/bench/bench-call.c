/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Calls: from cell to cell, from a program to the host, from the host to an ejected cell.
 */
#include <stdlib.h>

#include <cell/remote/caller.h>
#include <cell/remote/echo.h>

#include "daemon.h"
#include "figures.h"
#include "inside.h"
#include "limits/limits.h"

/* ---- from cell to cell ---------------------------------------------------------------------- */

typedef struct
{
  BenchInside *inside;
  CellClient *client;
  BenchProblem *problem;
} Inproc;

static void
inproc_teardown (void *state)
{
  Inproc *inproc = state;

  if (inproc->client)
    cell_client_close (inproc->client);
  bench_inside_unref (inproc->inside);
  free (inproc);
}

static void *
inproc_setup (const BenchPlace *place, uint64_t option, BenchProblem *problem)
{
  BenchInside *inside = bench_inside_ref (problem);
  Inproc *inproc = calloc (1, sizeof *inproc);

  (void) place;
  (void) option;
  if (!inside || !inproc)
    {
      free (inproc);
      return NULL;
    }
  *inproc = (Inproc) { inside, NULL, problem };
  if (bench_inside_load (inside, BENCH_ECHO, "echo", problem) && bench_inside_load (inside, BENCH_CALLER, "caller", problem))
    inproc->client = bench_inside_use (inside, "caller", &cell_remote_Caller, problem);
  if (inproc->client)
    return inproc;
  inproc_teardown (inproc);
  return NULL;
}

/* The caller calls the echo on this thread; that it was called itself is lost among n calls. */
static bool
inproc_run_64 (void *state, uint32_t n)
{
  Inproc *inproc = state;
  cell_auto CallerEcho done = caller_echo (inproc->client, .n = n);

  return bench_check (&done.result, inproc->problem);
}

static bool
inproc_run_mixed (void *state, uint32_t n)
{
  Inproc *inproc = state;
  cell_auto CallerMixed done = caller_mixed (inproc->client, .n = n);

  return bench_check (&done.result, inproc->problem);
}

static const BenchSubject inproc_64 = { "call.inproc.64", 0, inproc_setup, inproc_run_64, inproc_teardown, false };
static const BenchSubject inproc_mixed = { "call.inproc.mixed", 0, inproc_setup, inproc_run_mixed, inproc_teardown, false };

/* ---- from a program to the host, and from a cell in the host to one that was ejected --------- */

typedef struct
{
  BenchDaemon *daemon;          /* or … */
  BenchInside *inside;
  CellClient *echo;
  BenchProblem *problem;
  uint64_t n;
} Xproc;

static void
xproc_teardown (void *state)
{
  Xproc *xproc = state;

  if (xproc->echo)
    cell_client_close (xproc->echo);
  if (xproc->daemon)
    bench_daemon_stop (xproc->daemon);
  if (xproc->inside)
    bench_inside_unref (xproc->inside);
  free (xproc);
}

static void *
xproc_setup (const BenchPlace *place, uint64_t option, BenchProblem *problem)
{
  Xproc *xproc = calloc (1, sizeof *xproc);

  (void) option;
  if (!xproc)
    return NULL;
  xproc->problem = problem;
  xproc->daemon = bench_daemon_start (place->peer_cpu, (const char *const[]) { BENCH_ECHO, NULL }, problem);
  if (!xproc->daemon)
    {
      xproc_teardown (xproc);
      return NULL;
    }
  xproc->echo = cell_bind (xproc->daemon->bus, Echo, "bench-echo");
  return xproc;
}

static void *
ejected_setup (const BenchPlace *place, uint64_t option, BenchProblem *problem)
{
  Xproc *xproc = calloc (1, sizeof *xproc);

  (void) option;
  if (!xproc)
    return NULL;
  xproc->problem = problem;
  xproc->inside = bench_inside_ref (problem);
  if (xproc->inside && bench_inside_load (xproc->inside, BENCH_ECHO, "echo", problem)
      && bench_inside_eject (xproc->inside, "echo", place->peer_cpu, problem))
    xproc->echo = bench_inside_use (xproc->inside, "echo", &cell_remote_Echo, problem);
  if (xproc->echo)
    return xproc;
  xproc_teardown (xproc);
  return NULL;
}

static bool
xproc_run_64 (void *state, uint32_t n)
{
  Xproc *xproc = state;

  for (; n > 0; n--)
    {
      uint64_t a = ++xproc->n;
      cell_auto EchoEcho e = echo_echo (xproc->echo, .a = a, .b = 2, .c = 3, .d = 4, .e = 5, .f = 6, .g = 7, .h = ~a);

      if (!bench_check (&e.result, xproc->problem))
        return false;
      if (e.a != a || e.h != ~a)
        return bench_fail (xproc->problem, "the answer to another call");
    }
  return true;
}

static const BenchSubject xproc_64 = { "call.xproc.64", 0, xproc_setup, xproc_run_64, xproc_teardown, false };
static const BenchSubject ejected_64 = { "call.ejected.64", 0, ejected_setup, xproc_run_64, xproc_teardown, false };

const BenchFigure bench_call_figures[] = {
  { .name = "call.inproc.64", .unit = "ns", .placement = BENCH_ONE_CORE, .batch = 512, .target_kind = BENCH_RATIO_AT_MOST,
    .target = 5, .limit = &limit_fnptr, .candidate = &inproc_64, .instructions = true },
  { .name = "call.inproc.mixed", .unit = "ns", .placement = BENCH_ONE_CORE, .batch = 512, .target_kind = BENCH_RATIO_AT_MOST,
    .target = 2.5, .limit = &inproc_64, .candidate = &inproc_mixed, .instructions = true },
  { .name = "call.xproc.64.spin", .unit = "ns", .target_kind = BENCH_RATIO_AT_MOST, .target = 1.25, .limit = &limit_ring,
    .candidate = &xproc_64, .beside = &limit_line },
  { .name = "call.ejected.64.spin", .unit = "ns", .target_kind = BENCH_RATIO_AT_MOST, .target = 1.25, .limit = &limit_ring,
    .candidate = &ejected_64 },
  { 0 }
};

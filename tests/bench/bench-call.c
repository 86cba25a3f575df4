/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Calls: from cell to cell, from a program to the host, from the host to an ejected cell.
 */
#include <stdlib.h>
#include <string.h>

#include <cell/remote/caller.h>
#include <cell/remote/echo.h>

#include "daemon.h"
#include "figures.h"
#include "inside.h"
#include "limits/limits.h"
#include "limits/sum.h"

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
  if (bench_inside_load (inside, BENCH_ECHO, "bench-echo", problem)
      && bench_inside_load (inside, BENCH_CALLER, "bench-caller", problem))
    inproc->client = bench_inside_use (inside, "bench-caller", &cell_remote_Caller, problem);
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

static const BenchSubject inproc_64 = { "call.inproc.64", 0, inproc_setup, inproc_run_64, inproc_teardown, false, NULL };
static const BenchSubject inproc_mixed = { "call.inproc.mixed", 0, inproc_setup, inproc_run_mixed, inproc_teardown, false, NULL };

/* ---- from a program to the host, and from a cell in the host to one that was ejected --------- */

typedef struct
{
  BenchDaemon *daemon;          /* or … */
  BenchInside *inside;
  CellClient *echo;
  BenchProblem *problem;
  uint64_t n;                   /* calls, or records sent */
  uint32_t size;                /* of data */
  uint64_t *data, sum;
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
  free (xproc->data);
  free (xproc);
}

/* Not zeros, and each word another one, so that its sum says that all of it came. */
static bool
make_data (Xproc *xproc, uint32_t size)
{
  xproc->size = size;
  xproc->data = malloc (size);
  for (uint32_t i = 0; xproc->data && i < size / sizeof *xproc->data; i++)
    xproc->data[i] = i * UINT64_C (0x9e3779b97f4a7c15);
  if (xproc->data)
    xproc->sum = limit_buffer_sum (xproc->data, size);
  return xproc->data != NULL;
}

/* option: bytes of data; 0: none. */
static void *
xproc_setup (const BenchPlace *place, uint64_t option, BenchProblem *problem)
{
  Xproc *xproc = calloc (1, sizeof *xproc);

  if (!xproc)
    return NULL;
  xproc->problem = problem;
  if (option == 0 || make_data (xproc, (uint32_t) option))
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
  if (xproc->inside && bench_inside_load (xproc->inside, BENCH_ECHO, "bench-echo", problem)
      && bench_inside_eject (xproc->inside, "bench-echo", place->peer_cpu, problem))
    xproc->echo = bench_inside_use (xproc->inside, "bench-echo", &cell_remote_Echo, problem);
  if (xproc->echo)
    return xproc;
  xproc_teardown (xproc);
  return NULL;
}

/* Both cells are in sandboxes, and the one calls the other; the host has only introduced them. */
static void *
pair_setup (const BenchPlace *place, uint64_t option, BenchProblem *problem)
{
  Inproc *inproc = inproc_setup (place, option, problem);

  if (!inproc)
    return NULL;
  if (bench_inside_eject (inproc->inside, "bench-echo", place->peer_cpu, problem)
      && bench_inside_eject (inproc->inside, "bench-caller", place->cpu, problem))
    return inproc;
  inproc_teardown (inproc);
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

static bool
xproc_run_data (void *state, uint32_t n)
{
  Xproc *xproc = state;

  for (; n > 0; n--)
    {
      cell_auto EchoSum e = echo_sum (xproc->echo, .data = { .data = xproc->data, .size = xproc->size });

      if (!bench_check (&e.result, xproc->problem))
        return false;
      if (e.sum != xproc->sum)
        return bench_fail (xproc->problem, "what was read is not what was written");
    }
  return true;
}

static const BenchSubject xproc_64 = { "call.xproc.64", 0, xproc_setup, xproc_run_64, xproc_teardown, false, NULL };
static const BenchSubject xproc_64_idle = { "call.xproc.64.idle", 0, xproc_setup, xproc_run_64, xproc_teardown, false, limit_idle };
static const BenchSubject ejected_64 = { "call.ejected.64", 0, ejected_setup, xproc_run_64, xproc_teardown, false, NULL };
static const BenchSubject ejected_pair = { "call.ejected.pair", 0, pair_setup, inproc_run_64, inproc_teardown, false, NULL };
static const BenchSubject xproc_64k = { "call.xproc.64k", 64 << 10, xproc_setup, xproc_run_data, xproc_teardown, false, NULL };
/* With what else is in the record it must not be more than a megabyte. */
static const BenchSubject xproc_1m = { "call.xproc.1m", (1 << 20) - 64, xproc_setup, xproc_run_data, xproc_teardown, false, NULL };

/* ---- records one way ------------------------------------------------------------------------- */

/* None may be missing. */
static void
stream_teardown (void *state)
{
  Xproc *xproc = state;
  cell_auto EchoGetNoted noted = echo_get_noted (xproc->echo);

  if (bench_check (&noted.result, xproc->problem) && noted.value != xproc->n)
    bench_fail (xproc->problem, "%" PRIu64 " records were sent and %" PRIu64 " came", xproc->n, noted.value);
  xproc_teardown (xproc);
}

static bool
stream_run (void *state, uint32_t n)
{
  Xproc *xproc = state;

  for (xproc->n += n; n > 0; n--)
    {
      cell_auto EchoNote e = echo_note (xproc->echo, .a = 1, .b = 2, .c = 3, .d = 4, .e = 5, .f = 6, .g = 7, .h = 8);

      if (!bench_check (&e.result, xproc->problem))
        return false;
    }
  return true;
}

/* n is a multiple of a hundred. */
static bool
stream_run_100 (void *state, uint32_t n)
{
  Xproc *xproc = state;
  EchoRecord records[100];

  for (uint32_t i = 0; i < 100; i++)
    records[i] = (EchoRecord) { .a = 1, .b = 2, .c = 3, .d = 4, .e = 5, .f = 6, .g = 7, .h = 8 };
  for (xproc->n += n; n > 0; n -= 100)
    {
      cell_auto EchoNoteAll e = echo_note_all (xproc->echo, .records = records, .n_records = 100);

      if (!bench_check (&e.result, xproc->problem))
        return false;
    }
  return true;
}

static const BenchSubject stream_64 = { "stream.xproc.64", 0, xproc_setup, stream_run, stream_teardown, false, NULL };
static const BenchSubject stream_64_100 = { "stream.xproc.64.100", 0, xproc_setup, stream_run_100, stream_teardown, false, NULL };

/* ---- the figures ------------------------------------------------------------------------------ */

const BenchFigure bench_call_figures[] = {
  { .name = "call.inproc.64", .unit = "ns", .placement = BENCH_ONE_CORE, .batch = 512, .target_kind = BENCH_RATIO_AT_MOST,
    .target = 5, .limit = &limit_fnptr, .candidate = &inproc_64, .beside = &limit_fnptr_gated, .instructions = true },
  { .name = "call.inproc.mixed", .unit = "ns", .placement = BENCH_ONE_CORE, .batch = 512, .target_kind = BENCH_RATIO_AT_MOST,
    .target = 2.5, .limit = &inproc_64, .candidate = &inproc_mixed, .instructions = true },
  { .name = "call.xproc.64.spin", .unit = "ns", .target_kind = BENCH_RATIO_AT_MOST, .target = 1.25, .limit = &limit_ring,
    .candidate = &xproc_64, .beside = &limit_line },
  { .name = "call.xproc.64.sleep", .unit = "ns", .target_kind = BENCH_RATIO_AT_MOST, .target = 1.25, .limit = &limit_futex_idle,
    .candidate = &xproc_64_idle, .beside = &limit_futex },
  { .name = "call.xproc.64.sleep.one", .unit = "ns", .placement = BENCH_ONE_CORE, .target_kind = BENCH_RATIO_AT_MOST,
    .target = 1.25, .limit = &limit_futex, .candidate = &xproc_64, .beside = &limit_futex_idle },
  { .name = "call.xproc.64k", .unit = "ns", .target_kind = BENCH_RATIO_AT_MOST, .target = 1.25, .limit = &limit_buffer_64k,
    .candidate = &xproc_64k },
  { .name = "call.xproc.1m", .unit = "ns", .target_kind = BENCH_RATIO_AT_MOST, .target = 1.25, .limit = &limit_buffer_1m,
    .candidate = &xproc_1m },
  { .name = "stream.xproc.64", .unit = "records/s", .batch = 10000, .target_kind = BENCH_RATIO_AT_LEAST, .target = 0.8,
    .limit = &limit_stream, .candidate = &stream_64 },
  { .name = "stream.xproc.64.batch100", .unit = "records/s", .batch = 10000, .target_kind = BENCH_RATIO_AT_LEAST, .target = 0.8,
    .limit = &limit_stream_100, .candidate = &stream_64_100 },
  { .name = "call.ejected.64.spin", .unit = "ns", .target_kind = BENCH_RATIO_AT_MOST, .target = 1.25, .limit = &limit_ring,
    .candidate = &ejected_64 },
  { .name = "call.ejected.pair", .unit = "ns", .batch = 4096, .target_kind = BENCH_RATIO_AT_MOST, .target = 1.25,
    .limit = &limit_ring,
    .candidate = &ejected_pair },
  { 0 }
};

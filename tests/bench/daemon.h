/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A host in a process of its own, as users run it.
 */
#pragma once
#include <cell/client.h>

#include "harness.h"

typedef struct
{
  pid_t pid;
  char *folder, *socket;
  uint64_t start_ns;            /* it took to become ready */
  CellBus *bus;                 /* a connection to it */
} BenchDaemon;

/* Starts cellhostd on a processor (-1: anywhere) with these cells (paths, up to a NULL), and waits until it is ready.  NULL:
 * problem says why. */
BenchDaemon *bench_daemon_start (int cpu, const char *const *cells, BenchProblem *problem);
/* A clean stop; it is killed if it does not come to an end. */
void bench_daemon_stop (BenchDaemon *daemon);

/* With all that is in it; NULL is nothing. */
void bench_remove_folder (const char *folder);

/* True: the call succeeded.  False: problem has its error. */
bool bench_check (const CellResult *result, BenchProblem *problem);

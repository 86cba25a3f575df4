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

/* A copy of the cell that is measured, in that folder, which differs from all others: what is appended to a library is not loaded.
 * NULL: problem. */
char *bench_new_file (const char *folder, uint64_t n, BenchProblem *problem);

/* With all that is in it; NULL is nothing. */
void bench_remove_folder (const char *folder);

/* Adds up the numbers of those lines whose key begins so. */
double bench_sum_of_lines (const char *text, const char *key);

/* True: the call succeeded.  False: problem has its error. */
bool bench_check (const CellResult *result, BenchProblem *problem);

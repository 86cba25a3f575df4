/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A host in this very process, so that the measuring thread is one of the host's own: what it calls, it calls as a cell does.
 */
#pragma once
#include <cell/client.h>

#include "harness.h"
#include "host/cell.h"
#include "host/load.h"

typedef struct BenchInside BenchInside;

/* One host at a time: a figure's subjects share it.  NULL: problem says why. */
BenchInside *bench_inside_ref (BenchProblem *problem);
void bench_inside_unref (BenchInside *inside);

Host *bench_inside_host (BenchInside *inside);
/* The cell of that name; loaded from that path, if it is not there yet.  Lasts as long as the host. */
HostCell *bench_inside_load (BenchInside *inside, const char *path, const char *name, BenchProblem *problem);
/* A client such as a cell in the host has, for one thread; cell_client_close ().  NULL: problem. */
CellClient *bench_inside_use (BenchInside *inside, const char *name, const CellRemote *remote, BenchProblem *problem);
/* Moves a cell into a sandboxed process on that processor. */
bool bench_inside_eject (BenchInside *inside, const char *name, int cpu, BenchProblem *problem);

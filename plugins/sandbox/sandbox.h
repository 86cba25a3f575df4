/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * cell-runner in a sandbox: an empty root with the system's libraries, no network, no other process, no capability, some system
 * calls less (filter.h), and memory of a limited size where a cell can write.  The runner itself sets the limits of its process.
 */
#pragma once
#include <sched.h>

#include "plugins/cell-error.h"

#include "process.h"

#define SANDBOX_INFO 4          /* the descriptor on which bubblewrap says who the runner is, if it is among those given */

/* The programs that it takes. */
typedef struct
{
  const char *bwrap;            /* bubblewrap, or NULL when there is none */
  const char *runner;           /* cell-runner */
} SandboxTools;

/* What it has besides; see access.h. */
typedef struct
{
  gboolean network;
  gboolean strict;              /* see filter.h: FILTER_SERVING */
  const char *const *mounts;    /* arguments of bubblewrap; the descriptors that they name are among those given */
  const cpu_set_t *processors;  /* where it is to run; NULL: where this process is */
} SandboxAccess;

/* Whether there is one; if not, a sentence that says what to do. */
gboolean sandbox_check (SandboxTools tools, GError **error);
/* access: NULL: nothing.  args: what the runner is given, or NULL.  fds: taken, also on failure.  log: its standard error, taken;
 * -1: the host's own.  ret_last_word: for process_end_forbidden (), to be closed; may be NULL.  What is returned is bubblewrap,
 * which dies with this process. */
Process *sandbox_spawn (SandboxTools tools, const SandboxAccess *access, const char *const *args, const ProcessFd *fds,
                        guint n_fds, int log, int *ret_last_word, GError **error);
/* When the machine has no memory left, the kernel is to end that process before anybody else's. */
void sandbox_goes_first (GPid pid);
/* From now on that process, and what it starts, has a processor when hardly anybody else wants one.  FALSE: but for its session,
 * which the kernel wants to be told of later. */
gboolean sandbox_goes_last (GPid pid);

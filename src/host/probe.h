/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Whether a cell's file can be loaded without harm: it is tried in a sandbox first, and a crash is remembered.
 */
#pragma once
#include "host.h"
#include "plugins/module-file.h"

/* One thing that was tried. */
typedef struct
{
  const char *name;             /* PROBE_LOAD … of plugins/probe-report.h */
  gboolean good;
  CellStatus status;            /* not good, and yet no reason to refuse it: what the cell ended with; or CELL_OK */
  char *said;                   /* what there is to say of it, or what is wrong; "": nothing */
} ProbeStep;

/* Has the very bytes loaded, and a cell made of them with that configuration (may be NULL), in a process of their own; what was
 * known is forgotten.  log: what the cell prints goes there, taken; -1: to standard error.  ret_steps (may be NULL): ProbeStep, as
 * far as it came.  FALSE: it crashes, hangs or is refused, or there is no sandbox, and error says where. */
gboolean probe_try (const HostConfig *config, const ModuleFile *file, const char *name, GHashTable *values, int log,
                    GPtrArray **ret_steps, GError **error);
/* What such a process has reported, whatever that is.  steps: gets ProbeSteps; file: for people.  FALSE without an error: it says
 * nothing of how it came out, and has died, or hangs, in the last step. */
gboolean probe_report_read (const char *text, gsize size, const char *file, GPtrArray *steps, GError **error);
GPtrArray *probe_steps_new (void);
/* The same unless it is known what comes of it.  TRUE where there is no sandbox, or none that starts, which is said
 * in the log once. */
gboolean probe_file (const HostConfig *config, const ModuleFile *file, const char *name, GHashTable *values, GError **error);

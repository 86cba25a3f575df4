/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What passes between the host and `cell-runner --probe NAME`, which tries in a sandbox what a cell's file does when it is loaded
 * and when a cell is made of it, before the host does the same.
 *
 * The cell's code could write into the report, too: it shows mistakes, and is no reason to trust anybody.
 */
#pragma once

/* The descriptors that it is given. */
#define PROBE_MODULE 3          /* the file */
#define PROBE_REPORT 5          /* a pipe, for its report */
#define PROBE_CONFIG 6          /* a GVariant a{ss} */

/* The report, a line each: a step is begun, and ends with one of the others.  A step without an end is where it crashed or
 * hangs. */
#define PROBE_STEP "step "              /* and its name */
#define PROBE_OK "ok "                  /* and what there is to say of it */
#define PROBE_FAILED "failed "          /* a status, and the cell's own sentence; outside it may not be so */
#define PROBE_REFUSED "refused "        /* a status, and the loader's own sentence; nothing follows */
#define PROBE_DONE "done"               /* nothing bad has happened */
#define PROBE_REPORT_MAX 65536u         /* bytes in all */

#define PROBE_LOAD "load"               /* its constructors run, its tables are read */
#define PROBE_START "start"             /* a cell is made of it; it may be ok not to start, for want of the cells that it calls */
#define PROBE_END "end"                 /* and ended */

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The end of a probe that is in the sandbox; see plugins/probe-report.h.
 */
#pragma once

/* The exit code. */
int probe_main (const char *name);

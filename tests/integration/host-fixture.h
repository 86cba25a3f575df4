/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A real host in the test's own process, on a socket of its own, with its main loop on a thread as cellhostd has it.
 */
#pragma once
#include <gio/gio.h>

#include <cell/client.h>

#include "host/cell-stats.h"
#include "host/cell.h"
#include "host/child.h"
#include "host/host.h"
#include "host/load.h"
#include "host/relocate.h"

typedef struct
{
  Host *host;
  GMainLoop *loop;
  GThread *thread;
  char *folder, *socket, *state_dir;
  char *cache_dir;              /* NULL: what tests learn of files is shared */
  /* of the host that is started next */
  guint probe_ms;               /* likewise: how long a file may take for each thing that is tried */
  guint step_ms;
  guint hang_ms;                /* how long a handler may run on after its deadline */
  HostStepFunc on_step;
  gpointer on_step_data;
  OffenceFunc on_offence;
  gpointer on_offence_data;
} HostFixture;

void host_fixture_set_up (HostFixture *fixture, gconstpointer data);
void host_fixture_tear_down (HostFixture *fixture, gconstpointer data);
/* A clean stop, and another host at the same place with the same state. */
void host_fixture_stop (HostFixture *fixture);
void host_fixture_start (HostFixture *fixture);

/* A fixture cell of $TEST_CELLS, under its own name or another.  settings: key, value, …, NULL.  A reference. */
HostCell *host_fixture_load (HostFixture *fixture, const char *file, const char *name, ...) G_GNUC_NULL_TERMINATED;

/* They must succeed. */
void host_fixture_eject (HostCell *cell);
/* Its consumer has begun calls on so many channels. */
void host_fixture_wait_taken (HostCell *cell, guint n);
void host_fixture_absorb (HostCell *cell);
guint host_fixture_restarts (HostCell *cell);

/* As on_step: kills the first process that is to start.  data: a gboolean, TRUE until then. */
void host_fixture_kill_once (const char *cell, const char *step, GPid child, gpointer data);

/* And all that is in it. */
void host_fixture_remove_folder (const char *path);

/* FALSE: the test was marked as skipped. */
gboolean host_fixture_has_sandbox (void);

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The host: the cells by name, the threads that serve them, the socket that programs connect to.
 */
#pragma once
#include <gio/gio.h>
#include <pthread.h>

#include "membrane/lanes.h"
#include "plugins/cell-error.h"
#include "plugins/sandbox/sandbox.h"

#include "jobs.h"
#include "offence.h"

typedef struct Host Host;
typedef struct HostCell HostCell;
typedef struct Child Child;
typedef struct ChildQuestion ChildQuestion;
typedef struct HostBuild HostBuild;

/* step: "load the cell".  child: its process; 0: not known.  On any thread. */
typedef void (*HostStepFunc) (const char *cell, const char *step, GPid child, gpointer data);

typedef struct
{
  char *socket_path;            /* NULL: $XDG_RUNTIME_DIR/cellhost/socket */
  char *runner_path;            /* cell-runner */
  char *bwrap_path;             /* bubblewrap, or NULL when there is none */
  char *state_dir;              /* where state is kept between runs, or NULL */
  char *policy_path;            /* what the user allows ejected cells; NULL: $XDG_CONFIG_HOME/cellhost/policy */
  char *trust_path;             /* which foreign files the user trusts; NULL: $XDG_CONFIG_HOME/cellhost/trust */
  char *system_policy_path;     /* what the machine's administrator does, or NULL */
  char *cache_dir;              /* where it is remembered what came of trying a file, or NULL */
  guint step_ms;                /* the longest that a child may take for one step of a move; 0: 10 s to load or to restore, 5 s
                                 * else */
  guint hang_ms;                /* how long the handler of a cell in a sandbox may run on after its call's deadline; 0: 10 s */
  guint probe_ms;               /* how long it may take for each thing that is tried of a file; 0: 10 s */
  OffenceFunc on_offence;       /* told of peers that break a rule; NULL: nobody is */
  gpointer on_offence_data;
  HostStepFunc on_step;         /* told of each thing that a child is asked to do, before it is; NULL: nobody is */
  gpointer on_step_data;
} HostConfig;

void host_config_clear (HostConfig *config);
/* bubblewrap, cell-runner and the cache, where they are for this program. */
void host_config_find_programs (HostConfig *config);
SandboxTools host_config_tools (const HostConfig *config);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (HostConfig, host_config_clear)

struct Host
{
  HostConfig config;
  Lanes *lanes;
  Half *nobody;                 /* replies that nobody writes: see link_tell () */
  Jobs *jobs;                   /* management work: never on the main loop, which must not wait */
  pthread_mutex_t lock;         /* of cells and connections.  No lock of the host's is GLib's: ThreadSanitizer does not see those */
  GHashTable *cells;            /* name → HostCell, owned */
  GHashTable *loading;          /* names of cells that are being loaded */
  GHashTable *builds;           /* name → how often a file was loaded under it */
  GPtrArray *connections;
  gint64 offences_since;        /* that were written to the log: monotonic µs */
  guint offences_said;
  guint64 offences_unsaid;
  GPtrArray *restrained;        /* children whose turn to be restrained has not come; NULL: none yet */
  GSource *restrain_turn;       /* NULL: there are none */
  GSource *watch;               /* looks for cells that hang; NULL: there are none in sandboxes */
  guint watch_ms;               /* how often */
  gboolean watch_more;          /* it is to look at least once more */
  struct Listener *listener;
  int state_lock;               /* held while it lives: nobody else writes into its state_dir; -1: there is none */
  struct Roster *roster;        /* what runs, written down; NULL: nobody wants that */
  _Atomic uint64_t stop_until;  /* it ends: what was accepted is waited for until then, monotonic ns; 0: it does not */
  _Atomic uint64_t last_generation;
  _Atomic uint64_t last_link;
  cpu_set_t processors;         /* those that it was given */
  _Atomic gboolean is_placing;  /* see placement.h */
  gint64 started;               /* monotonic µs */
};

/* What is to be reported of cells, here and in sandboxes: "threads" or "threads,fatal".  Before there are any, and other threads.
 * FALSE: it is something else. */
gboolean host_debug (const char *what);

/* For a program that is a host and nothing else: see plugins/heap.h. */
void host_keep_memory (void);
/* Makes the host; nothing is loaded and nobody can connect yet. */
Host *host_new (const HostConfig *config, GError **error);
/* Takes the socket and the folder of states; whoever connects waits.  CELL_ERROR_EXISTS when another host has one of them. */
gboolean host_take_place (Host *host, GError **error);
/* From here on programs are served.  Takes both, unless that is done. */
gboolean host_listen (Host *host, GError **error);
/* Clean stop: no new calls, those accepted are answered, within a minute for all cells, states are saved, children ended.  All of
 * them are ended; FALSE: not all cleanly, and error says what was lost first. */
gboolean host_stop (Host *host, GError **error);
void host_free (Host *host);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Host, host_free)

uint64_t host_next_generation (Host *host);
/* Runs management work on a thread where it may wait.  cell: whose process, or whose move, it may wait for; NULL: no cell's.  See
 * jobs.h. */
void host_submit (Host *host, const HostCell *cell, void (*run) (gpointer data), gpointer data);
/* The same for what begins a cell anew.  All of these together are like one cell: what a cell does when it begins may need that
 * others are asked, for which there has to be room, however many begin at once. */
void host_submit_restart (Host *host, void (*run) (gpointer data), gpointer data);

/* The default places. */
char *host_default_socket (void);

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A cell as the host knows it: its name, its contract, its statistics, and where it is.  These stay when the cell moves.
 */
#pragma once
#include "membrane/endpoint.h"
#include "plugins/contract.h"
#include "plugins/instance.h"
#include "plugins/manifest.h"
#include "plugins/module-file.h"
#include "plugins/origin.h"

#include "host.h"
#include "link.h"
#include "log-tail.h"

typedef enum
{
  CELL_LOCATION_HERE,           /* in the host's process */
  CELL_LOCATION_CHILD,          /* in a sandboxed child */
  CELL_LOCATION_RESTARTING,     /* its child is gone; there is to be another one */
  CELL_LOCATION_DEAD
} CellLocation;

struct HostCell
{
  _Atomic guint refs;           /* not GLib's, whose order ThreadSanitizer does not see */
  Host *host;
  uint64_t id;
  char *name, *path;
  const char *_Atomic key_file; /* absolute, whether it exists or not, and interned; NULL: a part of the program */
  uint32_t number;              /* what trails call it; see crash-log.h */
  CellModule *module;           /* NULL: its code has never been in this process */
  Contract *_Atomic contract;   /* numbered as its callers know it */
  GPtrArray *contracts;         /* those of earlier builds, which somebody may be reading */
  gboolean numbered;            /* its file has other numbers of its own */
  HostBuild *coming;            /* while an instance of it is made */
  GHashTable *config;           /* key → value */
  GHashTable *given;            /* what of that `load` was given; the key file has the rest */
  int module_fd;                /* the very bytes that were loaded, sealed, for a child; -1: a part of the program */
  gsize module_size;
  char sha256[65];              /* of those bytes; "": a part of the program */
  Origin origin;                /* of the file that they were */
  CellInstance *instance;       /* while it is here */
  Child *child;                 /* while it is there */
  Endpoint *endpoint;
  EpochPage epoch;
  uint64_t generation;
  CellLocation location;
  gint64 since;                 /* it has been where it is: real time, µs */
  uint32_t moves;
  guint retired;                /* earlier builds under its name */
  LogTail *log;                 /* what it has said last */
  uint32_t restarts;            /* how often its process was replaced because it had ended */
  struct Supervision *supervision;      /* see supervise.c */
  char *reason;                 /* why it is dead, or why it was last restarted by itself; NULL: neither, or somebody has moved it
                                 * since */
  char *suspicion;              /* why it is in a sandbox without having been ejected, if that is for a crash of the host; or
                                 * NULL */
  MethodStats **stats;          /* one for each callable: what was counted here, and by processes that it has left */
  guint n_stats;
  int bell;                     /* wakes its children: callers here may ring it whichever child there is, or none */
  uint64_t replies_seen;        /* how far callers here had read what children wrote when one last rang; under the lanes' lock */
  GPtrArray *links;             /* a reference to each */
  GPtrArray *left;              /* what its process was at when the callers left; see watchdog.c */
  gboolean saves;               /* it has a save () */
  gboolean is_host;             /* the host's own cell: stays where it is */
  gboolean held;                /* its child is held, to be replaced: it is told of nobody who comes */
  gboolean ended;               /* it was stopped for good */
  _Atomic gboolean ending;      /* it is asked to stop for good */

  /* In the order in which they are taken.  Whoever moves or ends the cell claims it first, for as long as that takes; the place is
   * locked for writing while its links get other ends, and the lock is held for a moment, by whoever reads or writes what is
   * above. */
  pthread_rwlock_t place;
  pthread_mutex_t lock;
  pthread_cond_t unclaimed;
  ThreadContext *claimed_by;
};

/* So many builds that nobody uses any more are a reason to start the host anew. */
#define CELL_RETIRED_MANY 200
#define CELL_RETIRED_STEP 100   /* … and that is said again for each so many more */

/* Where it is, for people. */
typedef struct
{
  CellLocation location;
  GPid pid;                     /* of its own process; 0: the host's */
  uint32_t moves, restarts, retired, channels;
  uint64_t generation;
  gint64 since;                 /* real time, µs */
  char reason[256];             /* why it is dead, was last restarted, or is in a sandbox after a crash of the host; "": none of
                                 * these */
  char sha256[65];              /* of its file; "": it is a part of the program */
  Origin origin;
} HostCellInfo;

void host_cell_describe (HostCell *cell, HostCellInfo *ret);
/* Takes it. */
void host_cell_set_suspicion (HostCell *cell, char *suspicion);

/* Makes it the caller's to move or to end.  seconds: how long to wait while somebody else has it; 0: as long as it takes. */
gboolean host_cell_claim (HostCell *cell, guint seconds, GError **error);
#define HOST_CLAIM_SECONDS 20           /* for who has somebody waiting for that */
void host_cell_unclaim (HostCell *cell);

/* Takes the number.  manifest and file: NULL for a part of the program. */
HostCell *host_cell_new (Host *host, const Manifest *manifest, const ModuleFile *file, const char *name, uint32_t number,
                         GHashTable *config, GError **error);
/* Once; takes it. */
void host_cell_set_contract (HostCell *cell, Contract *contract);
/* What it needs before anything serves it: the page and the endpoint. */
gboolean host_cell_prepare (HostCell *cell, uint32_t threading, GError **error);
/* An instance for this process, which does not serve yet.  build: NULL: of the build that it has. */
CellInstance *host_cell_make_instance (HostCell *cell, HostBuild *build, GError **error);

HostCell *host_cell_ref (HostCell *cell);
void host_cell_unref (HostCell *cell);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (HostCell, host_cell_unref)

/* For people; of what host_cell_describe () says. */
const char *host_cell_location_text (CellLocation location);
const char *host_cell_location_name (HostCell *cell);
/* The largest reply of any of its methods. */
uint32_t host_cell_max_reply (const HostCell *cell);
/* For blob_transit_put (): what is on its way to it from cells in this process. */
uint64_t host_cell_blob_owner (const HostCell *cell);
/* What is to be done with a cell that is in a call which does not end, or whose state cannot be kept. */
typedef enum
{
  HOST_STOP_CLEANLY,            /* it goes on */
  HOST_STOP_BY_FORCE,           /* it is ended; but for one in a call in this process, which goes on */
  HOST_STOP_AT_THE_END          /* it is ended, wherever it is: its process ends with it, or soon */
} HostStop;

#define HOST_STOP_MOST_MS 60000u

/* Ends it: what it has accepted is answered, its state is kept if that is wanted, and callers learn that it is gone.  It has as
 * long as those callers may wait, 5 s to a minute; by force, 5 s.  FALSE: it goes on.  TRUE with an error: it is ended, and that is
 * what was lost. */
gboolean host_cell_stop (HostCell *cell, HostStop how, GError **error);
/* The same for who has claimed it. */
gboolean host_cell_stop_claimed (HostCell *cell, HostStop how, GError **error);

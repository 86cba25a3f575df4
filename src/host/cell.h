/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A cell as the host knows it: its name, its contract, its statistics, and where it is.  These stay when the cell moves.
 */
#pragma once
#include "membrane/endpoint.h"
#include "plugins/contract.h"
#include "plugins/instance.h"
#include "plugins/manifest.h"

#include "host.h"
#include "link.h"

typedef struct Child Child;

typedef enum
{
  CELL_LOCATION_HERE,           /* in the host's process */
  CELL_LOCATION_CHILD,          /* in a sandboxed child */
  CELL_LOCATION_DEAD
} CellLocation;

struct HostCell
{
  gatomicrefcount refs;
  Host *host;
  uint64_t id;
  char *name, *path;
  CellModule *module;
  Contract *contract;
  GHashTable *config;           /* key → value */
  int module_fd;                /* the very bytes that were loaded, sealed, for a child; -1: a part of the program */
  gsize module_size;
  CellInstance *instance;       /* while it is here */
  Child *child;                 /* while it is there */
  Endpoint *endpoint;
  EpochPage epoch;
  uint64_t generation;
  CellLocation location;
  gint64 since;                 /* it has been where it is: real time, µs */
  uint32_t moves;
  char *reason;                 /* why it is dead */
  MethodStats *stats;           /* one for each callable */
  GMutex lock;                  /* of links and of where it is */
  GMutex move;                  /* one relocation at a time */
  GPtrArray *links;
  gboolean is_host;             /* the host's own cell: stays where it is */
};

/* An instance for this process, which does not serve yet. */
CellInstance *host_cell_make_instance (HostCell *cell, GError **error);

/* Loads a module under a name and starts it in this process.  config may be NULL. */
HostCell *host_load (Host *host, const char *path, const char *name, GHashTable *config, GError **error);
/* The same for a cell that is part of the program. */
HostCell *host_load_entry (Host *host, const CellEntry *entry, const char *name, GError **error);
gboolean host_unload (Host *host, const char *name, GError **error);
/* A reference; NULL: NOT_FOUND. */
HostCell *host_find (Host *host, const char *name, GError **error);
/* References, sorted by name. */
GPtrArray *host_list (Host *host);

HostCell *host_cell_ref (HostCell *cell);
void host_cell_unref (HostCell *cell);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (HostCell, host_cell_unref)

const char *host_cell_location_name (const HostCell *cell);
/* The largest reply of any of its methods. */
uint32_t host_cell_max_reply (const HostCell *cell);
/* Ends it: callers learn that it is gone. */
void host_cell_stop (HostCell *cell);

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A place where cells live in this process and find each other by name: what the host is to them, without its daemon.  Everything
 * of the membrane and of the plugins is the real thing; what is here is how a name leads to a channel, and the swapping of builds.
 */
#pragma once
#include <glib.h>

#include "membrane/client.h"
#include "membrane/endpoint.h"
#include "membrane/lanes.h"
#include "plugins/instance.h"

#define TOWN_PATIENCE_S 20              /* how long anything may take before a test fails */

typedef struct Town Town;

typedef struct
{
  _Atomic guint refs;                   /* as with the lock: nothing of GLib's orders anything here */
  Town *town;
  char *name;
  uint64_t id;
  bool alive;
  EpochPage epoch;
  uint64_t generation;
  Endpoint *endpoint;
  GHashTable *config;
  CellInstanceEnv env;
  CellInstance *instance;
  GPtrArray *methods, *signals;         /* names, by number; they stay when builds come and go */
  MethodStats *stats;
  GString *log;                         /* under the town's lock */
} TownCell;

struct Town
{
  pthread_mutex_t lock;                 /* not a GMutex: ThreadSanitizer does not see through those */
  GPtrArray *cells;
  GPtrArray *all;                       /* a reference to each that ever was: a lane may still have its gate on its list */
  uint64_t last_id;
  Lanes *lanes;
  uint32_t access;                      /* of the channels that programs open from now on */
  uint32_t first_number;                /* where numbers begin, so that they are not the contract's by chance */
  _Atomic uint32_t arrivals;            /* futex: something has come for a program */
  _Atomic int n_channels;
};

/* There is one at a time. */
Town *town_new (void);
/* All cells have been unloaded or are now, and every client has been closed. */
void town_free (Town *town);

/* The path of a fixture or of an example, built by Meson; to be freed. */
char *town_path (const char *name);
CellModule *town_module (const char *name);

/* Loads a fixture as a cell; then come keys and values of its configuration, and NULL. */
TownCell *town_load (Town *town, const char *fixture, const char *name, ...) G_GNUC_NULL_TERMINATED;
/* The same, which may fail. */
TownCell *town_add (Town *town, CellModule *module, const char *name, GHashTable *config, GError **error);
/* Ends a cell; its callers learn that it is gone. */
void town_unload (TownCell *cell);
/* Replaces the build of a cell that is being called, and takes its state and its kept calls along. */
gboolean town_swap (TownCell *cell, CellModule *module, GError **error);
bool town_stop (TownCell *cell);
void town_resume (TownCell *cell);
/* Whether it has logged that. */
gboolean town_has_logged (TownCell *cell, const char *text);

/* A client of a program's; to be closed with cell_client_close (). */
CellClient *town_client (Town *town, const char *name, const CellRemote *remote);
#define town_use(town, Service, name) town_client ((town), (name), &cell_remote_##Service)
/* Runs this thread's completions and signal handlers until *word is at least `wanted`. */
void town_dispatch_until (Town *town, const uint64_t *word, uint64_t wanted);

/* What a reply must be; what else it is is said. */
void assert_ok (const CellResult *result);
void assert_failed (const CellResult *result, CellStatus status, const char *error, const char *message);

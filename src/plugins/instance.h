/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * One living cell in this process: its object, the Service that the membrane calls, and the host's functions as it sees them.  The
 * same code serves in the host and in cell-runner; what differs is in CellInstanceEnv.
 *
 * Life:
 *   cell_instance_new ()        construct and init; the old instance, if there is one, serves on meanwhile
 *   cell_instance_restore ()    perhaps
 *   cell_instance_attach ()     with the endpoint held: from endpoint_resume () on it serves
 *   cell_instance_detach ()     with the endpoint held
 *   cell_instance_save ()       with the endpoint held, before or after that
 *   cell_instance_free ()       fini and destruct
 *
 * The endpoint is held by who stopped it (endpoint_stop ()), and while it is closed.  All of the cell's code of a CELL_LOOP cell
 * runs on its own thread, whoever calls these functions; else it runs in the caller.  Each of them may take as long as the cell
 * takes; none may be called from the cell's own code.
 */
#pragma once
#include <glib.h>

#include "membrane/client.h"
#include "membrane/defer.h"
#include "membrane/endpoint.h"

#include "loader.h"

/* What an instance asks of the process that it lives in.  Only endpoint must be given; what is NULL is done without.  Callbacks
 * may come from any thread that runs the cell's code and from several at a time; log from any thread at all. */
typedef struct
{
  Endpoint *endpoint;           /* outlives the instance; its threading is the module's */
  uint32_t number;              /* what trails call it where its code runs outside of calls: another build may serve meanwhile */

  /* The number by which callers know a callable ("transfer", "@limit", "=limit") or a signal, whichever build serves.  Up to
   * INSTANCE_NUMBERS_MAX; signals from WIRE_SIGNALS_MAX on cannot be subscribed to.  NULL: its place in the contract. */
  uint32_t (*method_number) (void *data, const char *wire_name);
  uint32_t (*signal_number) (void *data, const char *name);
  /* Where calls are counted, so that the figures outlive the build.  NULL: with the instance. */
  MethodStats *(*method_stats) (void *data, uint32_t number);
  /* One line of the cell's log, UTF-8, without a newline; level: CELL_LOG_….  NULL: g_log (). */
  void (*log) (void *data, int32_t level, const char *text);
  /* NULL: memory of this process. */
  CellBlob *(*blob_new) (void *data, size_t size, Fault *fault);
  void *data;                   /* of the callbacks above */

  /* How the cell reaches others.  NULL: it may not.  Completions are to be dispatched in the cell's own context: by a node pushed
   * to the endpoint's gate, and on any thread for a concurrent cell. */
  const ClientProvider *clients;
  void *clients_data;
} CellInstanceEnv;

#define INSTANCE_NUMBERS_MAX 4096u

typedef struct CellInstance CellInstance;

/* Makes a cell that does not serve yet.  The environment is copied; name and config (char * → char *, may be NULL) are referred to
 * as long as it lives.  Fails with what the cell's init or constructor returned. */
CellInstance *cell_instance_new (CellModule *module, const CellInstanceEnv *env, const char *name, GHashTable *config,
                                 GError **error);
/* Ends it: fini, destruct, its clients; calls that it has kept are answered CELL_ERROR_GONE.  It has been detached; the endpoint
 * is held unless it has kept none. */
void cell_instance_free (CellInstance *instance);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (CellInstance, cell_instance_free)

/* Makes it the one that its endpoint serves, or nobody. */
void cell_instance_attach (CellInstance *instance);
void cell_instance_detach (CellInstance *instance);

/* Serves, from where the endpoint was stopped, or for the first time after cell_instance_attach (). */
void cell_instance_go_on (CellInstance *instance);
/* Waits until nothing of it runs any more, and holds it so.  FALSE: it goes on, for a call of its own asks for this, or does not
 * end within so many nanoseconds. */
gboolean cell_instance_stop (CellInstance *instance, uint64_t nanoseconds, GError **error);
/* The same for a cell that is to go on elsewhere: what it has asked others is answered, and it has saved the ids of the calls that
 * it keeps to answer later.  Both may take 100 ms, in which it may go on for moments; or it stays, and the error names the call. */
gboolean cell_instance_hold (CellInstance *instance, uint64_t nanoseconds, GError **error);
/* The same for a cell that ends: what is not answered in that time is cancelled, and the cell has been told so.  The calls that it
 * keeps are cell_instance_free ()'s. */
gboolean cell_instance_retire (CellInstance *instance, uint64_t nanoseconds, GError **error);
/* It is about to serve in the place of another instance, which has had the signals that it has subscribed to.  The endpoint is
 * held. */
void cell_instance_take_over (CellInstance *instance);

/* Hands the calls that it has kept to another build in this process, whose restore has learnt their ids.  The endpoint is held. */
void cell_instance_move_kept (CellInstance *from, CellInstance *to);

/* FALSE, and why: it says that it has state (a state_version) and no way to save it. */
gboolean cell_instance_can_move (CellInstance *instance, GError **error);
/* What the cell wants to be remembered; empty when it has nothing to save.  NULL: error. */
GBytes *cell_instance_save (CellInstance *instance, uint32_t *ret_version, GError **error);
/* Bytes that any build of the cell, on whichever side of a sandbox, has saved: they are checked.  After a failure the instance is
 * to be freed. */
gboolean cell_instance_restore (CellInstance *instance, uint32_t version, GBytes *bytes, GError **error);

CellModule *cell_instance_get_module (CellInstance *instance);
Service *cell_instance_get_service (CellInstance *instance);
/* How many calls it has kept, to be answered later. */
guint cell_instance_count_kept (CellInstance *instance);

/* The names of the cells that it calls, or may be about to: cell_use ().  Sorted, each once; to be freed.  Any thread, while nobody
 * frees the instance. */
char **cell_instance_get_uses (CellInstance *instance);

/* Runs a function where the cell's code runs, and waits for it: on a loop cell's thread, else here.  The endpoint is held. */
void cell_instance_run (CellInstance *instance, void (*run) (gpointer data), gpointer data);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#define G_LOG_DOMAIN "cellhost-cell"
#include "cell.h"

#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "authority.h"
#include "cell-build.h"
#include "cell-stats.h"
#include "child-log.h"
#include "child.h"
#include "consumer.h"
#include "crash-log.h"
#include "load.h"
#include "membrane/bell.h"
#include "membrane/wait.h"
#include "provider.h"
#include "relocate.h"
#include "roster.h"
#include "state-file.h"
#include "supervise.h"
#include "watchdog.h"

#define STOP_LEAST_MS 5000u             /* for what a cell has accepted when it is stopped, if its callers wait for no longer */
#define STOP_LAST_MS 2000u              /* for each when the host ends, and others have taken their time */

static void
cell_log (void *data, int32_t level, const char *text)
{
  HostCell *cell = data;

  cell_log_line (cell->name, level, text);
  log_tail_add (cell->log, level, text);
}

static void
cell_free (HostCell *cell)
{
  if (cell->instance != NULL)
    cell_instance_free (cell->instance);
  endpoint_unref (cell->endpoint);
  epoch_page_clear (&cell->epoch);
  g_clear_pointer (&cell->links, g_ptr_array_unref);
  g_clear_pointer (&cell->left, g_ptr_array_unref);
  g_clear_pointer (&cell->config, g_hash_table_unref);
  g_clear_pointer (&cell->module, cell_module_unref);
  g_clear_pointer (&cell->contract, contract_unref);
  g_clear_pointer (&cell->contracts, g_ptr_array_unref);
  g_clear_pointer (&cell->given, g_hash_table_unref);
  if (cell->module_fd >= 0)
    close (cell->module_fd);
  if (cell->bell >= 0)
    close (cell->bell);
  crash_log_remove (cell->number);
  blob_transit_drop (host_cell_blob_owner (cell));
  supervise_free (cell->supervision);
  log_tail_unref (cell->log);
  for (guint i = 0; i < cell->n_stats; i++)
    g_free (cell->stats[i]);
  g_free (cell->stats);
  g_free (cell->name);
  g_free (cell->path);
  g_free (cell->reason);
  g_free (cell->suspicion);
  pthread_rwlock_destroy (&cell->place);
  pthread_mutex_destroy (&cell->lock);
  pthread_cond_destroy (&cell->unclaimed);
  g_free (cell);
}

HostCell *
host_cell_ref (HostCell *cell)
{
  atomic_fetch_add (&cell->refs, 1);
  return cell;
}

void
host_cell_unref (HostCell *cell)
{
  if (cell != NULL && atomic_fetch_sub (&cell->refs, 1) == 1)
    cell_free (cell);
}

/* ---- whose it is ------------------------------------------------------------------------------------------ */

static void
init_locks (HostCell *cell)
{
  pthread_rwlockattr_t place;
  pthread_condattr_t monotonic;

  pthread_rwlockattr_init (&place);
  /* Whoever opens and closes channels all the time must not keep a cell from moving. */
  pthread_rwlockattr_setkind_np (&place, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
  pthread_rwlock_init (&cell->place, &place);
  pthread_rwlockattr_destroy (&place);
  pthread_mutex_init (&cell->lock, NULL);
  pthread_condattr_init (&monotonic);
  pthread_condattr_setclock (&monotonic, CLOCK_MONOTONIC);
  pthread_cond_init (&cell->unclaimed, &monotonic);
  pthread_condattr_destroy (&monotonic);
}

gboolean
host_cell_claim (HostCell *cell, guint seconds, GError **error)
{
  ThreadContext *thread = thread_context ();
  struct timespec until = { (time_t) (monotonic_ns () / 1000000000u) + (time_t) seconds, 0 };
  gboolean in_time = TRUE, own;

  pthread_mutex_lock (&cell->lock);
  own = cell->claimed_by == thread;
  while (cell->claimed_by != NULL && !own && in_time)
    if (seconds == 0)
      pthread_cond_wait (&cell->unclaimed, &cell->lock);
    else
      in_time = pthread_cond_timedwait (&cell->unclaimed, &cell->lock, &until) != ETIMEDOUT;
  if (cell->claimed_by == NULL)
    {
      cell->claimed_by = thread;
      in_time = TRUE;
    }
  pthread_mutex_unlock (&cell->lock);
  if (own)
    return cell_set_error (error, CELL_ERROR_DEADLOCK, "cell %s is being moved or ended, and its own code asks for that again",
                           cell->name);
  return in_time || cell_set_error (error, CELL_ERROR_BUSY, "cell %s is being moved or ended by somebody else; try again",
                                    cell->name);
}

void
host_cell_unclaim (HostCell *cell)
{
  pthread_mutex_lock (&cell->lock);
  cell->claimed_by = NULL;
  pthread_cond_signal (&cell->unclaimed);
  pthread_mutex_unlock (&cell->lock);
}

void
host_cell_describe (HostCell *cell, HostCellInfo *ret)
{
  const char *end;

  pthread_mutex_lock (&cell->lock);
  *ret = (HostCellInfo) {
    .location = cell->location, .pid = cell->child != NULL ? child_get_pid (cell->child) : 0, .moves = cell->moves,
    .restarts = cell->restarts, .retired = cell->retired, .channels = cell->links->len, .generation = cell->generation,
    .since = cell->since,
  };
  ret->origin = cell->origin;
  g_strlcpy (ret->sha256, cell->sha256, sizeof ret->sha256);
  g_strlcpy (ret->reason, cell->reason != NULL ? cell->reason : cell->suspicion != NULL ? cell->suspicion : "", sizeof ret->reason);
  if (!g_utf8_validate (ret->reason, -1, &end))
    ret->reason[end - ret->reason] = 0;         /* what was cut off was in the middle of a character */
  pthread_mutex_unlock (&cell->lock);
}

void
host_cell_set_suspicion (HostCell *cell, char *suspicion)
{
  pthread_mutex_lock (&cell->lock);
  g_free (cell->suspicion);
  cell->suspicion = suspicion;
  pthread_mutex_unlock (&cell->lock);
}

/* ---- beginning -------------------------------------------------------------------------------------------- */

/* As its callers know them, whatever order its file has them in. */
static const Contract *
contract_to_number (HostCell *cell)
{
  return cell->coming != NULL ? cell->coming->contract : cell->contract;
}

static uint32_t
cell_method_number (void *data, const char *wire_name)
{
  const Contract *contract = contract_to_number (data);

  return (uint32_t) (contract_find (contract, wire_name) - contract->callables);
}

static uint32_t
cell_signal_number (void *data, const char *name)
{
  const Contract *contract = contract_to_number (data);

  return (uint32_t) (contract_find_signal (contract, name) - contract->signals);
}

/* One that began in a sandbox.  What its process has said of it is held against the file. */
static gboolean
load_at_last (HostCell *cell, GError **error)
{
  ThreadContext *thread = thread_context ();
  uint32_t depth = trail_enter (&thread->trail, cell->number);
  CellModule *module = cell_module_load_fd (cell->module_fd, cell->path, error);

  trail_leave (&thread->trail, depth);
  if (module == NULL)
    return FALSE;
  if (module->contract->fingerprint != cell->contract->fingerprint || module->options->threading != cell->endpoint->threading
      || (module->options->save != NULL) != cell->saves)
    {
      cell_module_unref (module);
      return cell_set_error (error, CELL_ERROR_CONTRACT, "cell %s: its file offers something else than its process said",
                             cell->name);
    }
  cell->module = module;
  cell->retired = host_count_build (cell->host, cell->name);
  return TRUE;
}

CellInstance *
host_cell_make_instance (HostCell *cell, HostBuild *build, GError **error)
{
  const CellInstanceEnv env = {
    .endpoint = cell->endpoint, .method_stats = host_cell_method_stats, .log = cell_log, .data = cell, .clients = &host_provider,
    .clients_data = cell,
    .method_number = cell_method_number, .signal_number = cell_signal_number, .number = cell_build_number (build, cell),
  };
  CellInstance *instance;

  if (build == NULL && cell->module == NULL && !load_at_last (cell, error))
    return NULL;
  cell->coming = build;
  instance = cell_instance_new (build != NULL ? build->module : cell->module, &env, cell->name,
                                build != NULL ? build->config : cell->config, error);
  cell->coming = NULL;
  if (crash_log_go_first (NULL))
    g_warning ("cell %s has installed handlers of signals that crashes are told by; they come after the host's", cell->name);
  return instance;
}

/* Takes it. */
void
host_cell_set_contract (HostCell *cell, Contract *contract)
{
  cell->contract = contract;
  host_cell_make_room_for_stats (cell, contract->n_callables);
}

gboolean
host_cell_prepare (HostCell *cell, uint32_t threading, GError **error)
{
  Fault fault = { 0 };

  if (!epoch_page_new (&cell->epoch, &fault))
    return cell_set_error (error, fault.status, "%s", fault.message);
  cell->endpoint = endpoint_new (cell->epoch.page, threading, lanes_kick_gate);
  if (cell->endpoint == NULL)
    return cell_set_error (error, CELL_ERROR_NO_RESOURCES, "no memory for cell %s", cell->name);
  cell->endpoint->data = cell;
  cell->endpoint->say_denied = authority_say_denied;
  cell->endpoint->cell = cell->number;
  return TRUE;
}

HostCell *
host_cell_new (Host *host, const Manifest *manifest, const ModuleFile *file, const char *name, uint32_t number, GHashTable *config,
          GError **error)
{
  HostCell *cell = g_new0 (HostCell, 1);

  cell->refs = 1;
  init_locks (cell);
  cell->host = host;
  cell->id = host_next_generation (host);
  cell->name = g_strdup (name);
  cell->number = number;
  cell->path = file != NULL ? g_strdup (file->name) : NULL;
  cell->key_file = manifest != NULL ? g_intern_string (manifest->path) : NULL;
  cell->contracts = g_ptr_array_new_with_free_func ((GDestroyNotify) contract_unref);
  cell->config = config != NULL ? g_hash_table_ref (config) : NULL;
  cell->links = g_ptr_array_new ();
  cell->left = watchdog_left_new ();
  cell->log = log_tail_new ();
  cell->epoch.fd = -1;
  cell->bell = bell_new ();
  cell->module_fd = file != NULL ? fcntl (file->fd, F_DUPFD_CLOEXEC, 3) : -1;
  cell->module_size = file != NULL ? file->size : 0;
  if (file != NULL)
    {
      cell->origin = file->origin;
      g_strlcpy (cell->sha256, file->sha256, sizeof cell->sha256);
    }
  if (cell->bell >= 0 && (file == NULL || cell->module_fd >= 0))
    return cell;
  cell_set_error (error, CELL_ERROR_NO_RESOURCES, "no descriptor for cell %s: %s", name, g_strerror (errno));
  host_cell_unref (cell);
  return NULL;
}

/* ---- what it says of itself ------------------------------------------------------------------------------ */

const char *
host_cell_location_text (CellLocation location)
{
  switch (location)
    {
    case CELL_LOCATION_HERE: return "in process";
    case CELL_LOCATION_CHILD: return "sandbox";
    case CELL_LOCATION_RESTARTING: return "restarting";
    case CELL_LOCATION_DEAD: return "dead";
    }
  return "?";
}

const char *
host_cell_location_name (HostCell *cell)
{
  HostCellInfo info;

  host_cell_describe (cell, &info);
  return host_cell_location_text (info.location);
}

/* Connections have the numbers below. */
uint64_t
host_cell_blob_owner (const HostCell *cell)
{
  return cell->id | (uint64_t) 1 << 63;
}

uint32_t
host_cell_max_reply (const HostCell *cell)
{
  uint32_t most = REPLY_MAX_DEFAULT;

  for (guint i = 0; i < cell->contract->n_callables; i++)
    most = MAX (most, cell->contract->callables[i].max_reply);
  return MIN (most, RECORD_MAX_PAYLOAD);        /* a contract may come from a process that says anything */
}

/* ---- the end ---------------------------------------------------------------------------------------------- */

static guint
ms_left (uint64_t until, guint least)
{
  uint64_t now = monotonic_ns ();

  return MAX (until > now ? (guint) ((until - now) / 1000000u) : 0, least);
}

/* How long it may take: as long as those may wait whose calls it has accepted, also those whose callers have gone. */
static guint
find_patience (HostCell *cell, HostStop how)
{
  const uint64_t stop_until = atomic_load (&cell->host->stop_until);
  guint most = STOP_LEAST_MS;

  pthread_mutex_lock (&cell->lock);
  for (guint i = 0; how != HOST_STOP_BY_FORCE && i < cell->links->len; i++)
    {
      const Link *link = g_ptr_array_index (cell->links, i);

      most = MAX (most, link_accepted_ms (cell, link->requests, link->replies));
    }
  if (how != HOST_STOP_BY_FORCE)
    most = MAX (most, watchdog_left_ms (cell));
  pthread_mutex_unlock (&cell->lock);
  most = MIN (most, HOST_STOP_MOST_MS);
  return stop_until != 0 ? MIN (most, ms_left (stop_until, STOP_LAST_MS)) : most;
}

/* What was accepted is answered: the handler that runs ends, and what waits in the rings is served. */
static void
drain (HostCell *cell, uint64_t until)
{
  while (monotonic_ns () < until)
    {
      gboolean waiting = FALSE;

      pthread_mutex_lock (&cell->lock);
      for (guint i = 0; i < cell->links->len && !waiting; i++)
        waiting = link_waits (g_ptr_array_index (cell->links, i));
      pthread_mutex_unlock (&cell->lock);
      if (!waiting)
        return;
      clock_nanosleep (CLOCK_MONOTONIC, 0, &(struct timespec) { 0, 1000000 }, NULL);
    }
}

/* What serves it runs no more and takes no more.  FALSE: it has not come to that. */
static gboolean
retire (HostCell *cell, HostStop how, GError **error)
{
  const Consumer consumer = { .instance = cell->instance, .child = cell->child };
  guint patience = find_patience (cell, how);
  uint64_t until = monotonic_ns () + patience * 1000000ull;
  g_autoptr(GError) wrong = NULL;

  drain (cell, until);
  if (consumer_retire (&consumer, ms_left (until, 1), &wrong))
    return TRUE;
  if (cell_status_from_error (wrong) == CELL_ERROR_BUSY)
    return cell_set_error (error, CELL_ERROR_BUSY, "cell %s is in a call that has not ended after %u.%u s", cell->name,
                           patience / 1000, patience % 1000 / 100);
  g_propagate_error (error, g_steal_pointer (&wrong));
  return FALSE;
}

/* Takes the error, and says what can be done about it.  One whose process has died has a supervisor. */
static gboolean
goes_on (HostCell *cell, GError *wrong, GError **error)
{
  CellStatus status = cell_status_from_error (wrong);

  cell_set_error (error, status, "%s; %s, and 'cellctl unload --force %s' ends it all the same", wrong->message,
                  status == CELL_ERROR_CRASHED ? "its key file says whether it is restarted" : "it goes on", cell->name);
  g_error_free (wrong);
  return FALSE;
}

/* Its instance goes while its channels are still there: fini may call, and kept calls are answered.  FALSE: it goes on. */
static gboolean
stop_here (HostCell *cell, HostStop how, GError **error)
{
  g_autoptr(GError) lost = NULL;
  CellInstance *instance = cell->instance;

  if (!retire (cell, how, error))
    {
      if (how == HOST_STOP_AT_THE_END)
        host_cell_ref (cell);           /* its code still runs: nothing of it may go */
      return how == HOST_STOP_AT_THE_END;
    }
  if (!state_file_keep (cell, &lost) && how == HOST_STOP_CLEANLY)
    {
      cell_instance_go_on (instance);
      return goes_on (cell, g_steal_pointer (&lost), error);
    }
  if (lost != NULL)
    g_propagate_error (error, g_steal_pointer (&lost));
  pthread_mutex_lock (&cell->lock);
  cell->instance = NULL;
  pthread_mutex_unlock (&cell->lock);
  cell_instance_detach (instance);
  endpoint_close (cell->endpoint);
  cell_instance_free (instance);
  return TRUE;
}

/* The same for a cell that is in a child: it finishes what it has accepted, and gives its state.  One that does not can be ended
 * all the same: that is what its sandbox is for. */
static gboolean
stop_there (HostCell *cell, HostStop how, gboolean *ret_crashed, GError **error)
{
  g_autoptr(GError) wrong = NULL;
  gboolean retired;

  atomic_store (&cell->ending, TRUE);
  retired = retire (cell, how, &wrong);
  if (retired && state_file_keep (cell, &wrong))
    return TRUE;
  if (how == HOST_STOP_CLEANLY)
    {
      /* Also one that has not answered: if it stops later than that, it goes on.  One that has died has a supervisor. */
      consumer_go_on (&(Consumer) { .child = cell->child });
      atomic_store (&cell->ending, FALSE);
      return goes_on (cell, g_steal_pointer (&wrong), error);
    }
  *ret_crashed = !retired;
  if (retired)
    g_propagate_error (error, g_steal_pointer (&wrong));
  else
    cell_set_error (error, cell_status_from_error (wrong), "%s; its process was killed%s", wrong->message,
                    state_file_is_wanted (cell) ? ", and its state is lost" : "");
  return TRUE;
}

static void
forget_name (HostCell *cell)
{
  Host *host = cell->host;

  pthread_mutex_lock (&host->lock);
  if (g_hash_table_lookup (host->cells, cell->name) == cell)
    g_hash_table_remove (host->cells, cell->name);
  pthread_mutex_unlock (&host->lock);
  roster_remove (host->roster, cell->name);
}

gboolean
host_cell_stop_claimed (HostCell *cell, HostStop how, GError **error)
{
  gboolean good = TRUE, crashed = FALSE;
  Child *child;

  if (cell->ended)
    good = how != HOST_STOP_CLEANLY || cell_set_error (error, CELL_ERROR_NOT_FOUND, "there is no cell %s any more", cell->name);
  else if (cell->location == CELL_LOCATION_HERE)
    good = stop_here (cell, how, error);
  else if (cell->location == CELL_LOCATION_CHILD)
    good = stop_there (cell, how, &crashed, error);
  if (good && !cell->ended)
    {
      child = cell->child;
      if (child != NULL && crashed)
        child_kill (child);
      else if (child != NULL)
        child_quit (child);             /* before its positions are read */
      supervise_cancel (cell);
      relocate_end (cell, "it was stopped", crashed);
      forget_name (cell);
      child_unref (child);
    }
  return good;
}

gboolean
host_cell_stop (HostCell *cell, HostStop how, GError **error)
{
  g_autoptr(HostCell) self = host_cell_ref (cell);
  gboolean good;

  if (!host_cell_claim (cell, how == HOST_STOP_AT_THE_END ? 0 : HOST_CLAIM_SECONDS, error))
    return FALSE;
  good = host_cell_stop_claimed (cell, how, error);
  host_cell_unclaim (cell);
  return good;
}

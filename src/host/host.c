/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#define G_LOG_DOMAIN "cellhost"
#include "config.h"

#include "host.h"

#include <glib/gstdio.h>
#include <sched.h>
#include <unistd.h>

#include "cell.h"
#include "connection.h"
#include "listener.h"
#include "load.h"
#include "membrane/wait.h"
#include "plugins/heap.h"
#include "plugins/misuse.h"
#include "policy.h"
#include "restrain.h"
#include "roster.h"
#include "state-file.h"
#include "watchdog.h"

#define JOB_THREADS 64          /* each may wait for a child or a gate */
#define RESTARTS UINT64_MAX     /* in place of a cell's id */

void
host_config_clear (HostConfig *config)
{
  g_clear_pointer (&config->socket_path, g_free);
  g_clear_pointer (&config->runner_path, g_free);
  g_clear_pointer (&config->bwrap_path, g_free);
  g_clear_pointer (&config->state_dir, g_free);
  g_clear_pointer (&config->policy_path, g_free);
  g_clear_pointer (&config->trust_path, g_free);
  g_clear_pointer (&config->system_policy_path, g_free);
  g_clear_pointer (&config->cache_dir, g_free);
}

/* Beside this program in a build tree, or where it is installed. */
static char *
find_runner (void)
{
  g_autofree char *self = g_file_read_link ("/proc/self/exe", NULL);
  g_autofree char *folder = self != NULL ? g_path_get_dirname (self) : NULL;
  g_autofree char *built = folder != NULL ? g_build_filename (folder, "..", "runner", "cell-runner", NULL) : NULL;
  const char *said = g_getenv ("CELLHOST_RUNNER");

  if (said != NULL)
    return g_strdup (said);
  if (built != NULL && g_access (built, X_OK) == 0)
    return g_canonicalize_filename (built, NULL);
  return g_build_filename (LIBEXECDIR, "cell-runner", NULL);
}

SandboxTools
host_config_tools (const HostConfig *config)
{
  return (SandboxTools) { config->bwrap_path, config->runner_path };
}

void
host_config_find_programs (HostConfig *config)
{
  config->bwrap_path = g_find_program_in_path ("bwrap");
  config->runner_path = find_runner ();
  config->cache_dir = g_build_filename (g_get_user_cache_dir (), "cellhost", "probes", NULL);
}

void
host_submit (Host *host, const HostCell *cell, void (*run) (gpointer data), gpointer data)
{
  jobs_submit (host->jobs, cell != NULL && !cell->is_host ? cell->id : JOBS_FREE, run, data);
}

void
host_submit_restart (Host *host, void (*run) (gpointer data), gpointer data)
{
  jobs_submit (host->jobs, RESTARTS, run, data);
}

uint64_t
host_next_generation (Host *host)
{
  return atomic_fetch_add (&host->last_generation, 1) + 1;
}

char *
host_default_socket (void)
{
  return g_build_filename (g_get_user_runtime_dir (), "cellhost", "socket", NULL);
}

static char *
default_policy (void)
{
  return g_build_filename (g_get_user_config_dir (), "cellhost", "policy", NULL);
}

static char *
default_trust (void)
{
  return g_build_filename (g_get_user_config_dir (), "cellhost", "trust", NULL);
}

/* One that makes no sense grants nothing; better to hear of it now. */
static void
look_at_policy (const HostConfig *config)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(Policy) policy = policy_load (config->system_policy_path, config->policy_path, &error);

  if (policy == NULL)
    g_warning ("%s; until that is put right ejected cells may call nobody, and who calls others stays in process", error->message);
}

gboolean
host_debug (const char *what)
{
  return misuse_knows (what) && g_setenv (MISUSE_DEBUG, what, TRUE);
}

void
host_keep_memory (void)
{
  heap_keep ();
}

Host *
host_new (const HostConfig *config, GError **error)
{
  g_autoptr(Host) host = g_new0 (Host, 1);
  Fault fault = { 0 };

  pthread_mutex_init (&host->lock, NULL);
  host->config = (HostConfig) {
    .socket_path = config->socket_path != NULL ? g_strdup (config->socket_path) : host_default_socket (),
    .runner_path = g_strdup (config->runner_path), .bwrap_path = g_strdup (config->bwrap_path),
    .state_dir = g_strdup (config->state_dir),
    .step_ms = config->step_ms, .hang_ms = config->hang_ms, .probe_ms = config->probe_ms,
    .system_policy_path = g_strdup (config->system_policy_path),
    .policy_path = config->policy_path != NULL ? g_strdup (config->policy_path) : default_policy (),
    .trust_path = config->trust_path != NULL ? g_strdup (config->trust_path) : default_trust (),
    .cache_dir = g_strdup (config->cache_dir),
    .on_offence = config->on_offence, .on_offence_data = config->on_offence_data,
    .on_step = config->on_step, .on_step_data = config->on_step_data,
  };
  look_at_policy (&host->config);
  host->cells = g_hash_table_new_full (g_str_hash, g_str_equal, NULL, (GDestroyNotify) host_cell_unref);
  host->loading = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  host->builds = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  host->connections = g_ptr_array_new_with_free_func ((GDestroyNotify) connection_unref);
  host->started = g_get_monotonic_time ();
  if (sched_getaffinity (0, sizeof host->processors, &host->processors) < 0)
    CPU_ZERO (&host->processors);       /* there are more than the C library has room for */
  host->state_lock = -1;
  host->jobs = jobs_new (JOB_THREADS);
  host->nobody = half_new ("cell-nobody", HALF_PAGE, &fault);
  if (host->nobody != NULL && half_seal (host->nobody, &fault))
    {
      /* Whoever comes to serve may be asleep when he hears of what was sent before. */
      atomic_store (&host->nobody->control->waiting, WAITING_DOORBELL);
      host->lanes = lanes_start (&fault);
    }
  if (host->lanes == NULL)
    {
      cell_set_error (error, fault.status, "%s", fault.message);
      return NULL;
    }
  return g_steal_pointer (&host);
}

gboolean
host_take_place (Host *host, GError **error)
{
  host->listener = listener_new (host, host->config.socket_path, error);
  return host->listener != NULL && state_file_lock_folder (host, error);
}

gboolean
host_listen (Host *host, GError **error)
{
  if (host->listener == NULL && !host_take_place (host, error))
    return FALSE;
  listener_accept (host->listener);
  return TRUE;
}

static void
close_connections (Host *host)
{
  for (;;)
    {
      Connection *connection = NULL;

      pthread_mutex_lock (&host->lock);
      for (guint i = 0; i < host->connections->len && connection == NULL; i++)
        {
          Connection *candidate = g_ptr_array_index (host->connections, i);

          if (candidate->cell == NULL)
            connection = connection_ref (candidate);
        }
      pthread_mutex_unlock (&host->lock);
      if (connection == NULL)
        return;
      connection_close (connection);
      connection_unref (connection);
    }
}

static gboolean
is_called_by_any (HostCell *cell, GPtrArray *others)
{
  gboolean called = FALSE;

  pthread_mutex_lock (&cell->lock);
  for (guint i = 0; i < cell->links->len && !called; i++)
    {
      Link *link = g_ptr_array_index (cell->links, i);
      HostCell *caller = link->caller != NULL ? link->caller : link->connection != NULL ? link->connection->cell : NULL;

      called = caller != NULL && caller != cell && g_ptr_array_find (others, caller, NULL);
    }
  pthread_mutex_unlock (&cell->lock);
  return called;
}

/* Callers go before those whom they call, so that what they do to the end is answered. */
static HostCell *
next_to_stop (GPtrArray *cells)
{
  for (guint i = 0; i < cells->len; i++)
    if (!is_called_by_any (g_ptr_array_index (cells, i), cells))
      return g_ptr_array_index (cells, i);
  return g_ptr_array_index (cells, 0);  /* they call each other in a circle */
}

gboolean
host_stop (Host *host, GError **error)
{
  g_autoptr(GPtrArray) cells = host_list (host);
  GError *first = NULL;

  atomic_store (&host->stop_until, monotonic_ns () + HOST_STOP_MOST_MS * 1000000ull);
  roster_delete (host->roster);         /* before the next host may have the place */
  g_clear_pointer (&host->listener, listener_free);
  for (guint i = 0; i < cells->len; i++)
    if (((HostCell *) g_ptr_array_index (cells, i))->is_host)
      g_ptr_array_remove_index (cells, i--);
  while (cells->len > 0)
    {
      g_autoptr(HostCell) cell = host_cell_ref (next_to_stop (cells));
      g_autoptr(GError) lost = NULL;

      g_ptr_array_remove (cells, cell);
      host_cell_stop (cell, HOST_STOP_AT_THE_END, &lost);
      if (lost != NULL)
        g_warning ("%s", lost->message);
      if (first == NULL)
        first = g_steal_pointer (&lost);
    }
  watchdog_end (host);
  restrain_end (host);
  close_connections (host);
  if (first == NULL)
    return TRUE;
  g_propagate_error (error, first);
  return FALSE;
}

void
host_free (Host *host)
{
  if (host == NULL)
    return;
  g_clear_pointer (&host->listener, listener_free);
  watchdog_end (host);
  restrain_end (host);
  if (host->connections != NULL)
    close_connections (host);
  if (host->jobs != NULL)
    jobs_free (host->jobs);
  restrain_end (host);                  /* what a job has begun since */
  g_clear_pointer (&host->cells, g_hash_table_unref);
  g_clear_pointer (&host->roster, roster_free);
  g_clear_pointer (&host->loading, g_hash_table_unref);
  g_clear_pointer (&host->builds, g_hash_table_unref);
  if (host->lanes != NULL)
    lanes_stop (host->lanes);
  half_unref (host->nobody);
  g_clear_pointer (&host->connections, g_ptr_array_unref);
  if (host->state_lock >= 0)
    close (host->state_lock);
  host_config_clear (&host->config);
  pthread_mutex_destroy (&host->lock);
  g_free (host);
}

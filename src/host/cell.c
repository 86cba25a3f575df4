/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#define G_LOG_DOMAIN "cellhost-cell"
#include "cell.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "child.h"
#include "membrane/wait.h"
#include "membrane/wire.h"
#include "provider.h"
#include "relocate.h"

#define STOP_NS (5u * 1000000000ull)    /* for the handler that runs when a cell is stopped */

/* An error of a cell's is none of the host's: it is written down as one, and is no reason for anybody to abort. */
static void
cell_log (void *data, int32_t level, const char *text)
{
  static const GLogLevelFlags levels[] = { G_LOG_LEVEL_DEBUG, G_LOG_LEVEL_INFO, G_LOG_LEVEL_WARNING, G_LOG_LEVEL_WARNING };
  static const char *const priorities[] = { "7", "6", "4", "3" };
  HostCell *cell = data;

  level = CLAMP (level, CELL_LOG_DEBUG, CELL_LOG_ERROR);
  const GLogField fields[] = {
    { "PRIORITY", priorities[level], -1 }, { "CELLHOST_CELL", cell->name, -1 }, { "MESSAGE", text, -1 }, { "GLIB_DOMAIN", "cell", -1 },
  };
  g_log_structured_array (levels[level], fields, G_N_ELEMENTS (fields));
}

static void
cell_free (HostCell *cell)
{
  if (cell->instance != NULL)
    cell_instance_free (cell->instance);
  endpoint_free (cell->endpoint);
  epoch_page_clear (&cell->epoch);
  g_clear_pointer (&cell->links, g_ptr_array_unref);
  g_clear_pointer (&cell->config, g_hash_table_unref);
  g_clear_pointer (&cell->module, cell_module_unref);
  g_clear_pointer (&cell->contract, contract_unref);
  if (cell->module_fd >= 0)
    close (cell->module_fd);
  g_free (cell->stats);
  g_free (cell->name);
  g_free (cell->path);
  g_free (cell->reason);
  g_mutex_clear (&cell->lock);
  g_mutex_clear (&cell->move);
  g_free (cell);
}

HostCell *
host_cell_ref (HostCell *cell)
{
  g_atomic_ref_count_inc (&cell->refs);
  return cell;
}

void
host_cell_unref (HostCell *cell)
{
  if (cell != NULL && g_atomic_ref_count_dec (&cell->refs))
    cell_free (cell);
}

static MethodStats *
cell_stats (void *data, uint32_t number)
{
  HostCell *cell = data;

  return number < cell->contract->n_callables ? &cell->stats[number] : NULL;
}

CellInstance *
host_cell_make_instance (HostCell *cell, GError **error)
{
  const CellInstanceEnv env = {
    .endpoint = cell->endpoint, .method_stats = cell_stats, .log = cell_log, .data = cell, .clients = &host_provider, .clients_data = cell,
  };

  return cell_instance_new (cell->module, &env, cell->name, cell->config, error);
}

static gboolean
cell_start (HostCell *cell, GError **error)
{
  Fault fault = { 0 };

  if (!epoch_page_new (&cell->epoch, &fault))
    return cell_set_error (error, fault.status, "%s", fault.message);
  cell->endpoint = endpoint_new (cell->epoch.page, cell->module->options->threading, lanes_kick_gate);
  if (cell->endpoint == NULL)
    return cell_set_error (error, CELL_ERROR_NO_RESOURCES, "no memory for cell %s", cell->name);
  cell->endpoint->data = cell;
  cell->stats = g_new0 (MethodStats, MAX (cell->contract->n_callables, 1));
  cell->instance = host_cell_make_instance (cell, error);
  if (cell->instance == NULL)
    return FALSE;
  cell->generation = host_next_generation (cell->host);
  epoch_page_set (&cell->epoch, cell->generation, EPOCH_SERVING);
  cell->since = g_get_real_time ();
  cell_instance_attach (cell->instance);
  endpoint_resume (cell->endpoint, thread_context ());
  return TRUE;
}

/* A child gets exactly what was loaded here: the copy's digest says so, whatever has become of the file. */
static gboolean
copy_module (HostCell *cell, GError **error)
{
  g_autofree char *bytes = NULL, *digest = NULL;
  gsize at = 0;

  if (!g_file_get_contents (cell->path, &bytes, &cell->module_size, error))
    return FALSE;
  digest = g_compute_checksum_for_data (G_CHECKSUM_SHA256, (const guchar *) bytes, cell->module_size);
  if (!g_str_equal (digest, cell->module->sha256))
    return cell_set_error (error, CELL_ERROR_REFUSED, "%s changed while it was being loaded", cell->path);
  cell->module_fd = memfd_create ("cell-module", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  while (cell->module_fd >= 0 && at < cell->module_size)
    {
      ssize_t n = write (cell->module_fd, bytes + at, cell->module_size - at);

      if (n < 0 && errno != EINTR)
        break;
      at += n > 0 ? (gsize) n : 0;
    }
  /* The child's loader is as suspicious as ours: a module that others could write to is refused. */
  if (cell->module_fd < 0 || at < cell->module_size || fchmod (cell->module_fd, 0500) < 0
      || fcntl (cell->module_fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
    return cell_set_error (error, CELL_ERROR_NO_RESOURCES, "no memory for a copy of %s: %s", cell->path, g_strerror (errno));
  return TRUE;
}

/* Takes the module. */
static HostCell *
load_module (Host *host, CellModule *module, const char *path, const char *name, GHashTable *config, gboolean is_host, GError **error)
{
  HostCell *cell = g_new0 (HostCell, 1);
  gboolean taken;

  g_atomic_ref_count_init (&cell->refs);
  g_mutex_init (&cell->lock);
  g_mutex_init (&cell->move);
  cell->host = host;
  cell->id = host_next_generation (host);
  cell->name = g_strdup (name);
  cell->path = g_strdup (path);
  cell->module = module;
  cell->contract = contract_ref ((Contract *) module->contract);
  cell->config = config != NULL ? g_hash_table_ref (config) : NULL;
  cell->links = g_ptr_array_new ();
  cell->epoch.fd = cell->module_fd = -1;
  cell->is_host = is_host;
  if ((path != NULL && !copy_module (cell, error)) || !cell_start (cell, error))
    {
      host_cell_unref (cell);
      return NULL;
    }
  g_mutex_lock (&host->lock);
  taken = g_hash_table_contains (host->cells, cell->name);
  if (!taken)
    g_hash_table_insert (host->cells, cell->name, host_cell_ref (cell));
  g_mutex_unlock (&host->lock);
  if (!taken)
    return cell;
  cell_set_error (error, CELL_ERROR_EXISTS, "there is a cell %s already; unload it, or load this one under another name", name);
  host_cell_stop (cell);
  host_cell_unref (cell);
  return NULL;
}

/* What the caller says of the configuration goes before what the manifest says. */
static GHashTable *
merged_config (GHashTable *of_manifest, GHashTable *given)
{
  GHashTable *config = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
  GHashTable *const from[] = { of_manifest, given };
  GHashTableIter iter;
  gpointer key, value;

  for (guint i = 0; i < G_N_ELEMENTS (from); i++)
    if (from[i] != NULL)
      {
        g_hash_table_iter_init (&iter, from[i]);
        while (g_hash_table_iter_next (&iter, &key, &value))
          g_hash_table_insert (config, g_strdup (key), g_strdup (value));
      }
  return config;
}

HostCell *
host_load (Host *host, const char *path, const char *name, GHashTable *config, GError **error)
{
  g_autoptr(Manifest) manifest = manifest_find (path, error);
  g_autoptr(GHashTable) merged = NULL;
  CellModule *module;
  gboolean taken;

  if (manifest == NULL)
    return NULL;
  if (name == NULL || *name == 0)
    name = manifest->name;
  if (!manifest_check_name (name, error))
    return NULL;
  g_mutex_lock (&host->lock);
  taken = g_hash_table_contains (host->cells, name);
  g_mutex_unlock (&host->lock);
  if (taken)
    {
      cell_set_error (error, CELL_ERROR_EXISTS, "there is a cell %s already; unload it, or load this one under another name", name);
      return NULL;
    }
  merged = merged_config (manifest->config, config);
  module = cell_module_load (manifest->module, NULL, error);
  return module != NULL ? load_module (host, module, manifest->module, name, merged, FALSE, error) : NULL;
}

HostCell *
host_load_entry (Host *host, const CellEntry *entry, const char *name, GError **error)
{
  CellModule *module = cell_module_new_from_entry (entry, name, error);

  return module != NULL ? load_module (host, module, NULL, name, NULL, TRUE, error) : NULL;
}

gboolean
host_unload (Host *host, const char *name, GError **error)
{
  g_autoptr(HostCell) cell = host_find (host, name, error);

  if (cell == NULL)
    return FALSE;
  if (cell->is_host)
    return cell_set_error (error, CELL_ERROR_DENIED, "the host's own cell cannot be unloaded; `cellctl shutdown` ends the host");
  g_mutex_lock (&host->lock);
  g_hash_table_remove (host->cells, name);
  g_mutex_unlock (&host->lock);
  host_cell_stop (cell);
  return TRUE;
}

HostCell *
host_find (Host *host, const char *name, GError **error)
{
  HostCell *cell;

  g_mutex_lock (&host->lock);
  cell = g_hash_table_lookup (host->cells, name);
  if (cell != NULL)
    host_cell_ref (cell);
  g_mutex_unlock (&host->lock);
  if (cell == NULL)
    cell_set_error (error, CELL_ERROR_NOT_FOUND, "there is no cell %s", name);
  return cell;
}

static gint
by_name (gconstpointer a, gconstpointer b)
{
  return strcmp ((*(HostCell *const *) a)->name, (*(HostCell *const *) b)->name);
}

GPtrArray *
host_list (Host *host)
{
  GPtrArray *list = g_ptr_array_new_with_free_func ((GDestroyNotify) host_cell_unref);
  GHashTableIter iter;
  gpointer cell;

  g_mutex_lock (&host->lock);
  g_hash_table_iter_init (&iter, host->cells);
  while (g_hash_table_iter_next (&iter, NULL, &cell))
    g_ptr_array_add (list, host_cell_ref (cell));
  g_mutex_unlock (&host->lock);
  g_ptr_array_sort (list, by_name);
  return list;
}

const char *
host_cell_location_name (const HostCell *cell)
{
  switch (cell->location)
    {
    case CELL_LOCATION_HERE: return "in process";
    case CELL_LOCATION_CHILD: return "sandbox";
    case CELL_LOCATION_DEAD: return "dead";
    }
  return "?";
}

uint32_t
host_cell_max_reply (const HostCell *cell)
{
  uint32_t most = REPLY_MAX_DEFAULT;

  for (guint i = 0; i < cell->contract->n_callables; i++)
    most = MAX (most, cell->contract->callables[i].max_reply);
  return most;
}

/* What was accepted is answered: the handler that runs ends, and what waits in the rings is served. */
static void
drain (HostCell *cell)
{
  uint64_t until = monotonic_ns () + STOP_NS;

  while (monotonic_ns () < until)
    {
      gboolean waiting = FALSE;

      g_mutex_lock (&cell->lock);
      for (guint i = 0; i < cell->links->len && !waiting; i++)
        {
          Link *link = g_ptr_array_index (cell->links, i);
          const RingReader *requests = &link->channel->requests;
          uint64_t at = atomic_load (&requests->own->taken);

          waiting = !channel_is_blocked (link->channel) && link->channel->broken == CELL_OK
                    && atomic_load (&((Record *) (requests->data + (at & requests->mask)))->sequence) == requests->salt + at;
        }
      g_mutex_unlock (&cell->lock);
      if (!waiting)
        return;
      clock_nanosleep (CLOCK_MONOTONIC, 0, &(struct timespec) { 0, 1000000 }, NULL);
    }
}

void
host_cell_stop (HostCell *cell)
{
  ThreadContext *thread = thread_context ();
  Child *child;
  CellInstance *instance = NULL;

  g_mutex_lock (&cell->move);
  if (cell->location == CELL_LOCATION_HERE)
    drain (cell);
  if (cell->location == CELL_LOCATION_HERE && endpoint_stop (cell->endpoint, thread, monotonic_ns () + STOP_NS))
    {
      /* Its fini and its kept calls, while the channels are still there. */
      instance = g_steal_pointer (&cell->instance);
      cell_instance_detach (instance);
      endpoint_close (cell->endpoint);
      cell_instance_free (instance);
    }
  g_mutex_lock (&cell->lock);
  child = g_steal_pointer (&cell->child);
  cell->location = CELL_LOCATION_DEAD;
  for (guint i = 0; i < cell->links->len; i++)
    {
      Link *link = g_ptr_array_index (cell->links, i);

      if (!link->local)
        lanes_remove (cell->host->lanes, link->channel);
      link_positions (link, child == NULL, &link->taken, &link->answered);
      link_moved (link, NULL, cell->generation, link->taken, link->answered, FALSE, FALSE);
    }
  g_mutex_unlock (&cell->lock);
  epoch_page_set (&cell->epoch, host_next_generation (cell->host), EPOCH_DEAD);
  if (child != NULL)
    {
      child_quit (child);
      child_unref (child);
    }
  g_mutex_unlock (&cell->move);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The cells of a host, by name.
 */
#define G_LOG_DOMAIN "cellhost-cell"
#include "load.h"

#include <string.h>

#include "consumer.h"
#include "crash-log.h"
#include "probe.h"
#include "relocate.h"
#include "roster.h"
#include "suspects.h"
#include "trust.h"

/* ---- loading ------------------------------------------------------------------------------------------------ */

/* Names are taken before anything is loaded: what is kept for a name is one cell's. */
static gboolean
take_name (Host *host, const char *name, GError **error)
{
  gboolean taken;

  pthread_mutex_lock (&host->lock);
  taken = g_hash_table_contains (host->cells, name) || !g_hash_table_add (host->loading, g_strdup (name));
  pthread_mutex_unlock (&host->lock);
  if (taken)
    return cell_set_error (error, CELL_ERROR_EXISTS, "there is a cell %s already; unload it, or load this one under another name",
                           name);
  return TRUE;
}

/* cell: to be found by its name from now on; NULL: it came to nothing. */
static void
settle_name (Host *host, const char *name, HostCell *cell)
{
  pthread_mutex_lock (&host->lock);
  g_hash_table_remove (host->loading, name);
  if (cell != NULL)
    g_hash_table_insert (host->cells, cell->name, host_cell_ref (cell));
  pthread_mutex_unlock (&host->lock);
}

/* Another file was loaded under the name: how many before it.  None of them is ever unmapped, since its code may be in use in ways
 * that nobody knows of, and a new load of the same bytes is a new one: static variables and constructors begin anew. */
guint
host_count_build (Host *host, const char *name)
{
  guint before;

  pthread_mutex_lock (&host->lock);
  before = GPOINTER_TO_UINT (g_hash_table_lookup (host->builds, name));
  g_hash_table_insert (host->builds, g_strdup (name), GUINT_TO_POINTER (before + 1));
  pthread_mutex_unlock (&host->lock);
  if (before >= CELL_RETIRED_MANY && before % CELL_RETIRED_STEP == 0)
    g_warning ("%u earlier builds of %s stay in memory until the host ends", before, name);
  return before;
}

static gboolean
cell_start (HostCell *cell, GError **error)
{
  if (!host_cell_prepare (cell, cell->module->options->threading, error))
    return FALSE;
  cell->instance = host_cell_make_instance (cell, NULL, error);
  if (cell->instance == NULL || !consumer_restore_kept (&(Consumer) { .instance = cell->instance }, cell, error))
    return FALSE;
  cell->generation = host_next_generation (cell->host);
  epoch_page_set (&cell->epoch, cell->generation, EPOCH_SERVING);
  cell->since = g_get_real_time ();
  cell_instance_attach (cell->instance);
  cell_instance_go_on (cell->instance);
  return TRUE;
}

/* Takes the module and the number. */
static HostCell *
load_module (Host *host, CellModule *module, const Manifest *manifest, const ModuleFile *file, const char *name, uint32_t number,
             GHashTable *config, GError **error)
{
  HostCell *cell = host_cell_new (host, manifest, file, name, number, config, error);

  if (cell == NULL)
    {
      cell_module_unref (module);
      return NULL;
    }
  cell->module = module;
  host_cell_set_contract (cell, contract_ref ((Contract *) module->contract));
  cell->saves = module->options->save != NULL;
  cell->retired = file != NULL ? host_count_build (host, name) : 0;
  cell->is_host = file == NULL;
  if (cell_start (cell, error))
    return cell;
  /* Its clients refer to it. */
  g_clear_pointer (&cell->instance, cell_instance_free);
  host_cell_unref (cell);
  return NULL;
}

/* What the caller says of the configuration goes before what the manifest says. */
GHashTable *
host_cell_merge_config (GHashTable *of_manifest, GHashTable *given)
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

static gboolean
check_interface (const Manifest *manifest, const Contract *contract, GError **error)
{
  return manifest->interface == NULL || g_str_equal (manifest->interface, contract->interface)
         || cell_set_error (error, CELL_ERROR_CONTRACT, "%s offers %s; its key file wants Interface=%s", manifest->module,
                            contract->interface, manifest->interface);
}

/* Takes the number. */
static HostCell *
load_here (Host *host, const Manifest *manifest, const ModuleFile *file, const char *name, uint32_t number, GHashTable *config,
           GError **error)
{
  ThreadContext *thread = thread_context ();
  CellModule *module = NULL;
  uint32_t depth;

  if (probe_file (&host->config, file, name, config, error))
    {
      depth = trail_enter (&thread->trail, number);
      module = cell_module_load_file (file, error);
      trail_leave (&thread->trail, depth);
    }
  if (module != NULL && check_interface (manifest, module->contract, error))
    return load_module (host, module, manifest, file, name, number, config, error);
  cell_module_unref (module);
  crash_log_remove (number);
  return NULL;
}

/* Takes the number. */
static HostCell *
load_there (Host *host, const Manifest *manifest, const ModuleFile *file, const char *name, uint32_t number, GHashTable *config,
            GError **error)
{
  HostCell *cell = host_cell_new (host, manifest, file, name, number, config, error);
  gboolean good;

  if (cell == NULL)
    return NULL;
  /* Its process may ring before it has said what it is. */
  good = host_cell_prepare (cell, CELL_SERIAL, error) && host_cell_claim (cell, 0, error);
  if (good)
    {
      good = relocate_begin_in_child (cell, error) && check_interface (manifest, cell->contract, error);
      /* Before anybody else can claim it: its supervisor would begin again with a cell that nobody knows of. */
      if (!good && cell->child != NULL)
        host_cell_stop_claimed (cell, HOST_STOP_BY_FORCE, NULL);
      host_cell_unclaim (cell);
    }
  if (good)
    return cell;
  host_cell_unref (cell);
  return NULL;
}

static HostCell *
load_file (Host *host, const Manifest *manifest, const char *name, GHashTable *config, gboolean ejected, GError **error)
{
  g_autoptr(GHashTable) merged = host_cell_merge_config (manifest->config, config);
  g_auto(ModuleFile) file = MODULE_FILE_INIT;
  HostCell *cell;
  uint32_t number;

  if (!module_file_open (&file, manifest->module, error) || !suspects_check (host, name, &file, &ejected, error))
    return NULL;
  trust_find_origin (host, &file, manifest);
  if (!trust_check (host, name, &file, &ejected, error))
    return NULL;
  number = crash_log_add (name, file.sha256);
  cell = (ejected ? load_there : load_here) (host, manifest, &file, name, number, merged, error);
  if (cell == NULL)
    trust_explain (host, name, &file, error);
  else if (ejected)
    host_cell_set_suspicion (cell, suspects_why (host, cell->sha256));
  return cell;
}

static HostCell *
load (Host *host, const char *path, const char *name, GHashTable *config, gboolean ejected, GError **error)
{
  g_autoptr(Manifest) manifest = manifest_find (path, error);
  HostCell *cell;

  if (manifest == NULL)
    return NULL;
  if (name == NULL || *name == 0)
    name = manifest->name;
  if (!manifest_check_name (name, error) || !take_name (host, name, error))
    return NULL;
  cell = load_file (host, manifest, name, config, ejected, error);
  if (cell != NULL)
    {
      cell->given = host_cell_merge_config (NULL, config);
      g_info ("cell %s was loaded%s: %s", name, cell->location != CELL_LOCATION_HERE ? " into a sandbox" : "", cell->path);
    }
  settle_name (host, name, cell);
  if (cell != NULL)
    roster_put (host->roster, name, path, cell->location != CELL_LOCATION_HERE, config);
  return cell;
}

HostCell *
host_load (Host *host, const char *path, const char *name, GHashTable *config, GError **error)
{
  return load (host, path, name, config, FALSE, error);
}

HostCell *
host_load_ejected (Host *host, const char *path, const char *name, GHashTable *config, GError **error)
{
  return load (host, path, name, config, TRUE, error);
}

HostCell *
host_load_entry (Host *host, const CellEntry *entry, const char *name, GError **error)
{
  CellModule *module = cell_module_new_from_entry (entry, name, error);
  HostCell *cell;

  if (module == NULL)
    return NULL;
  if (!take_name (host, name, error))
    {
      cell_module_unref (module);
      return NULL;
    }
  cell = load_module (host, module, NULL, NULL, name, 0, NULL, error);
  settle_name (host, name, cell);
  return cell;
}

/* ---- unloading ------------------------------------------------------------------------------------------------ */

/* TRUE with an error: it is unloaded, and that is what was lost. */
static gboolean
unload (Host *host, const char *name, HostStop how, GError **error)
{
  g_autoptr(HostCell) cell = host_find (host, name, error);

  if (cell == NULL)
    return FALSE;
  if (cell->is_host)
    return cell_set_error (error, CELL_ERROR_DENIED, "the host's own cell cannot be unloaded; 'cellctl shutdown' ends the host");
  if (!host_cell_stop (cell, how, error))
    return FALSE;
  g_info ("cell %s was unloaded", name);
  return TRUE;
}

gboolean
host_unload (Host *host, const char *name, GError **error)
{
  return unload (host, name, HOST_STOP_CLEANLY, error);
}

gboolean
host_unload_by_force (Host *host, const char *name, char **ret_lost, GError **error)
{
  g_autoptr(GError) wrong = NULL;

  if (!unload (host, name, HOST_STOP_BY_FORCE, &wrong))
    {
      g_propagate_error (error, g_steal_pointer (&wrong));
      return FALSE;
    }
  *ret_lost = wrong != NULL ? g_strdup (wrong->message) : NULL;
  return TRUE;
}

/* ---- who is there ------------------------------------------------------------------------------------------------ */

HostCell *
host_find (Host *host, const char *name, GError **error)
{
  HostCell *cell;

  pthread_mutex_lock (&host->lock);
  cell = g_hash_table_lookup (host->cells, name);
  if (cell != NULL)
    host_cell_ref (cell);
  pthread_mutex_unlock (&host->lock);
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

  pthread_mutex_lock (&host->lock);
  g_hash_table_iter_init (&iter, host->cells);
  while (g_hash_table_iter_next (&iter, NULL, &cell))
    g_ptr_array_add (list, host_cell_ref (cell));
  pthread_mutex_unlock (&host->lock);
  g_ptr_array_sort (list, by_name);
  return list;
}

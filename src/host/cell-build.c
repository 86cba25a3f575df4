/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include "cell-build.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "cell-stats.h"
#include "crash-log.h"
#include "load.h"
#include "probe.h"
#include "suspects.h"
#include "trust.h"

void
cell_build_free (HostBuild *build)
{
  if (build == NULL)
    return;
  crash_log_remove (build->number);
  g_free (build->path);
  g_free (build->interface);
  if (build->module_fd >= 0)
    close (build->module_fd);
  cell_module_unref (build->module);
  g_clear_pointer (&build->contract, contract_unref);
  g_clear_pointer (&build->config, g_hash_table_unref);
  g_free (build);
}

uint32_t
cell_build_number (const HostBuild *build, const HostCell *cell)
{
  return build != NULL && build->sha256[0] != 0 ? build->number : cell->number;
}

static HostBuild *
cell_build_new (HostCell *cell, int fd, gsize size, GError **error)
{
  HostBuild *build = g_new0 (HostBuild, 1);

  build->module_fd = fcntl (fd, F_DUPFD_CLOEXEC, 3);
  build->module_size = size;
  if (build->module_fd >= 0)
    return build;
  cell_set_error (error, CELL_ERROR_NO_RESOURCES, "no descriptor for cell %s: %s", cell->name, g_strerror (errno));
  cell_build_free (build);
  return NULL;
}

/* A crash of its constructors is theirs. */
static gboolean
load_here (HostBuild *build, HostCell *cell, GError **error)
{
  ThreadContext *thread = thread_context ();
  uint32_t depth = trail_enter (&thread->trail, cell_build_number (build, cell));

  build->module = cell_module_load_fd (build->module_fd, build->path, error);
  trail_leave (&thread->trail, depth);
  return build->module != NULL
         && cell_build_accept (build, cell, build->module->contract, build->module->options->threading,
                               build->module->options->save != NULL, error);
}

/* It is not decided here that a cell moves. */
static gboolean
check_suspect (HostCell *cell, const ModuleFile *file, gboolean there, GError **error)
{
  gboolean ejected = there;

  if (!suspects_check (cell->host, cell->name, file, &ejected, error))
    return FALSE;
  return ejected == there
         || cell_set_error (error, CELL_ERROR_DENIED,
                            "the host has crashed in %s: 'cellctl eject %s' first, or load it under another name",
                            file->name, cell->name);
}

HostBuild *
cell_build_of_file (HostCell *cell, const char *path, gboolean there, GError **error)
{
  g_autoptr(Manifest) manifest = manifest_find (path, error);
  g_auto(ModuleFile) file = MODULE_FILE_INIT;
  g_autoptr(HostBuild) build = NULL;

  if (manifest == NULL || !module_file_open (&file, manifest->module, error) || !check_suspect (cell, &file, there, error))
    return NULL;
  trust_find_origin (cell->host, &file, manifest);
  if ((!there && !trust_check_build (cell, &file, error))
      || (build = cell_build_new (cell, file.fd, file.size, error)) == NULL)
    return NULL;
  build->path = g_strdup (file.name);
  build->key_file = g_intern_string (manifest->path);
  build->interface = g_strdup (manifest->interface);
  memcpy (build->sha256, file.sha256, sizeof build->sha256);
  build->number = crash_log_add (cell->name, build->sha256);
  build->origin = file.origin;
  build->config = host_cell_merge_config (manifest->config, cell->given);
  if (there)
    return g_steal_pointer (&build);
  if (!probe_file (&cell->host->config, &file, cell->name, build->config, error) || !load_here (build, cell, error))
    return NULL;
  return g_steal_pointer (&build);
}

HostBuild *
cell_build_again (HostCell *cell, gboolean there, GError **error)
{
  g_autoptr(HostBuild) build = cell_build_new (cell, cell->module_fd, cell->module_size, error);

  if (build == NULL)
    return NULL;
  build->path = g_strdup (cell->path);
  build->key_file = cell->key_file;
  build->config = g_hash_table_ref (cell->config);
  return there || (trust_check_cell (cell, error) && load_here (build, cell, error)) ? g_steal_pointer (&build) : NULL;
}

gboolean
cell_build_accept (HostBuild *build, HostCell *cell, const Contract *contract, uint32_t threading, gboolean saves, GError **error)
{
  static const char *const words[] = { [CELL_SERIAL] = "serial", [CELL_CONCURRENT] = "concurrent", [CELL_LOOP] = "loop" };
  g_autofree char *text = NULL;

  if (!contract_compatible (contract, cell->contract, error))
    return g_prefix_error (error, "cell %s: its callers cannot go on with %s: ", cell->name, build->path), FALSE;
  if (build->interface != NULL && !g_str_equal (build->interface, contract->interface))
    return cell_set_error (error, CELL_ERROR_CONTRACT, "%s offers %s; its key file wants Interface=%s", build->path,
                           contract->interface, build->interface);
  if (threading != cell->endpoint->threading)
    return cell_set_error (error, CELL_ERROR_CONTRACT,
                           "cell %s: %s is a %s cell, and it is a %s one; unload it, and load the other", cell->name,
                           build->path, threading <= CELL_LOOP ? words[threading] : "strange", words[cell->endpoint->threading]);
  text = contract_to_text (contract, TRUE);
  build->contract = contract_new_from_text (text, -1, error);
  if (build->contract == NULL)
    return FALSE;
  contract_number_like (build->contract, cell->contract);
  build->saves = saves;
  host_cell_make_room_for_stats (cell, build->contract->n_callables);
  return TRUE;
}

static void
count_retired (HostCell *cell)
{
  guint retired = host_count_build (cell->host, cell->name);

  pthread_mutex_lock (&cell->lock);
  cell->retired = retired;
  pthread_mutex_unlock (&cell->lock);
}

void
cell_build_take (HostBuild *build, HostCell *cell)
{
  CellModule *module = cell->module;
  uint32_t number = cell->number;

  pthread_mutex_lock (&cell->lock);
  g_ptr_array_add (cell->contracts, cell->contract);    /* somebody may be reading it */
  cell->contract = g_steal_pointer (&build->contract);
  cell->module = g_steal_pointer (&build->module);
  cell->saves = build->saves;
  cell->numbered = TRUE;
  if (build->sha256[0] != 0)
    {
      cell->origin = build->origin;
      memcpy (cell->sha256, build->sha256, sizeof cell->sha256);
    }
  g_free (cell->path);
  cell->path = g_steal_pointer (&build->path);
  pthread_mutex_unlock (&cell->lock);
  if (cell->module != NULL)
    count_retired (cell);
  cell_module_unref (module);
  if (build->sha256[0] != 0)
    {
      cell->number = cell->endpoint->cell = build->number;
      build->number = number;
    }
  close (cell->module_fd);
  cell->module_fd = build->module_fd;
  cell->module_size = build->module_size;
  build->module_fd = -1;
  cell->key_file = build->key_file;
  g_hash_table_unref (cell->config);
  cell->config = g_steal_pointer (&build->config);
}

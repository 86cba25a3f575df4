/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * How long it takes until a cell's file serves.
 */
#include <dlfcn.h>
#include <errno.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "daemon.h"
#include "figures.h"
#include "host/probe-memory.h"
#include "inside.h"
#include "place.h"

/* ---- loading ------------------------------------------------------------------------------------------ */

enum /* option of a subject */
{
  COLD, WARM, DLOPEN
};

typedef struct
{
  uint64_t option, n;
  BenchInside *inside;
  BenchProblem *problem;
  char *folder, *path;          /* path: of the file that is loaded next */
  HostCell *cell;               /* the one before */
} Load;

static void
load_teardown (void *state)
{
  Load *load = state;

  host_cell_unref (load->cell);
  if (load->inside != NULL)
    bench_inside_unref (load->inside);
  bench_remove_folder (load->folder);
  g_free (load->folder);
  g_free (load->path);
  g_free (load);
}

static void *
load_setup (const BenchPlace *place, uint64_t option, BenchProblem *problem)
{
  Load *load = g_new0 (Load, 1);

  (void) place;
  load->option = option;
  load->problem = problem;
  load->folder = g_dir_make_tmp ("cellhost-bench-XXXXXX", NULL);
  load->inside = bench_inside_ref (problem);
  if (load->folder != NULL && load->inside != NULL
      && (option != COLD || bench_inside_host (load->inside)->config.bwrap_path != NULL
          || bench_skip (problem, "there is no bubblewrap, and nothing is tried before it is loaded")))
    return load;
  load_teardown (load);
  return NULL;
}

/* Not counted: the cell of before goes, and there is another file, which is known or not. */
static void
load_pause (void *state)
{
  static uint64_t n;
  Load *load = state;
  Host *host = bench_inside_host (load->inside);
  g_auto(ModuleFile) file = MODULE_FILE_INIT;

  if (load->cell != NULL)
    {
      host_cell_stop (load->cell, HOST_STOP_CLEANLY, NULL);
      g_clear_pointer (&load->cell, host_cell_unref);
    }
  if (load->path != NULL)
    g_unlink (load->path);
  g_free (load->path);
  load->path = bench_new_file (load->folder, ++n, load->problem);
  if (load->path != NULL && load->option == WARM && module_file_open (&file, load->path, NULL))
    {
      g_autoptr(GHashTable) nothing = g_hash_table_new (g_str_hash, g_str_equal);
      g_autofree char *key = probe_memory_key (&file, nothing);

      probe_memory_write (&host->config, key, NULL);
    }
}

static bool
load_run (void *state, uint32_t n)
{
  Load *load = state;
  g_autoptr(GError) error = NULL;

  (void) n;
  if (load->path == NULL)
    return false;
  if (load->option == DLOPEN)
    return dlopen (load->path, RTLD_NOW | RTLD_LOCAL) != NULL || bench_fail (load->problem, "%s", dlerror ());
  load->cell = host_load (bench_inside_host (load->inside), load->path, "loaded", NULL, &error);
  return load->cell != NULL || bench_fail (load->problem, "%s", error->message);
}

static const BenchSubject load_cold = { "load.cold", COLD, load_setup, load_run, load_teardown, false, load_pause };
static const BenchSubject load_warm = { "load.warm", WARM, load_setup, load_run, load_teardown, false, load_pause };
static const BenchSubject limit_dlopen = { "dlopen", DLOPEN, load_setup, load_run, load_teardown, false, load_pause };

/* ---- a sandbox with nothing in it -------------------------------------------------------------------- */

typedef struct
{
  BenchProblem *problem;
  char *bwrap;
} Bare;

static void
bare_teardown (void *state)
{
  Bare *bare = state;

  g_free (bare->bwrap);
  g_free (bare);
}

static void *
bare_setup (const BenchPlace *place, uint64_t option, BenchProblem *problem)
{
  Bare *bare = g_new0 (Bare, 1);

  (void) place, (void) option;
  bare->problem = problem;
  bare->bwrap = g_find_program_in_path ("bwrap");
  if (bare->bwrap != NULL)
    return bare;
  bench_skip (problem, "there is no bubblewrap");
  bare_teardown (bare);
  return NULL;
}

/* As cells have it, and in it what does nothing. */
static bool
bare_run (void *state, uint32_t n)
{
  Bare *bare = state;
  const char *const argv[] = {
    bare->bwrap, "--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session", "--clearenv",
    "--cap-drop", "ALL",
    "--as-pid-1", "--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib", "--symlink",
    "usr/lib64", "/lib64",
    "--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache", "--ro-bind-try", "/etc/fonts", "/etc/fonts", "--proc", "/proc",
    "--dev", "/dev",
    "--size", "67108864", "--tmpfs", "/tmp", "--chdir", "/tmp", "/usr/bin/true", NULL
  };
  g_autoptr(GError) error = NULL;
  int status = 0;

  (void) n;
  if (!g_spawn_sync (NULL, (char **) argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, NULL, NULL, &status, &error)
      || !g_spawn_check_wait_status (status, &error))
    return bench_fail (bare->problem, "bubblewrap: %s", error->message);
  return true;
}

const BenchSubject bench_limit_sandbox = { "sandbox", 0, bare_setup, bare_run, bare_teardown, false, NULL };

const BenchFigure bench_load_figures[] = {
  { .name = "load.cold", .unit = "ns", .placement = BENCH_ANYWHERE, .target_kind = BENCH_RATIO_AT_MOST, .target = 3,
    .limit = &bench_limit_sandbox,
    .candidate = &load_cold },
  { .name = "load.warm", .unit = "ns", .placement = BENCH_ANYWHERE, .target_kind = BENCH_RATIO_AT_MOST, .target = 5,
    .limit = &limit_dlopen,
    .candidate = &load_warm },
  { 0 }
};

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "host-fixture.h"

#include <glib/gstdio.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>

static gpointer
loop_main (gpointer data)
{
  g_main_loop_run (data);
  return NULL;
}

static gboolean
quit_cb (gpointer data)
{
  g_main_loop_quit (data);
  return G_SOURCE_REMOVE;
}

void
host_fixture_start (HostFixture *fixture)
{
  g_autoptr(GError) error = NULL;
  g_autofree char *bwrap = g_find_program_in_path ("bwrap");
  g_autofree char *policy = g_build_filename (fixture->folder, "policy", NULL);
  g_autofree char *cache = g_build_filename (g_get_user_cache_dir (), "cellhost", "probes", NULL);
  const HostConfig config = {
    .socket_path = fixture->socket, .runner_path = (char *) g_getenv ("TEST_RUNNER"), .bwrap_path = bwrap,
    .state_dir = fixture->state_dir,
    .step_ms = fixture->step_ms, .probe_ms = fixture->probe_ms, .policy_path = policy,
    .cache_dir = fixture->cache_dir != NULL ? fixture->cache_dir : cache,
    .on_offence = fixture->on_offence, .on_offence_data = fixture->on_offence_data,
    .hang_ms = fixture->hang_ms, .on_step = fixture->on_step, .on_step_data = fixture->on_step_data,
  };

  fixture->host = host_new (&config, &error);
  g_assert_no_error (error);
  g_assert_true (host_listen (fixture->host, &error));
  g_assert_no_error (error);
  fixture->loop = g_main_loop_new (NULL, FALSE);
  fixture->thread = g_thread_new ("main-loop", loop_main, fixture->loop);
}

void
host_fixture_stop (HostFixture *fixture)
{
  host_stop (fixture->host, NULL);      /* some tests leave cells behind that cannot be ended well */
  g_idle_add (quit_cb, fixture->loop);  /* in the loop: its thread may not have come so far as to run it */
  g_thread_join (fixture->thread);
  g_main_loop_unref (fixture->loop);
  g_clear_pointer (&fixture->host, host_free);
}

void
host_fixture_set_up (HostFixture *fixture, gconstpointer data)
{
  g_autoptr(GError) error = NULL;

  (void) data;
  fixture->folder = g_dir_make_tmp ("cellhost-XXXXXX", &error);
  g_assert_no_error (error);
  fixture->socket = g_build_filename (fixture->folder, "socket", NULL);
  fixture->state_dir = g_build_filename (fixture->folder, "state", NULL);
  host_fixture_start (fixture);
}

void
host_fixture_kill_once (const char *cell, const char *step, GPid child, gpointer data)
{
  gboolean *armed = data;

  (void) cell;
  if (!*armed || !g_str_equal (step, "start"))
    return;
  *armed = FALSE;
  kill (child, SIGKILL);
}

void
host_fixture_remove_folder (const char *path)
{
  g_autoptr(GDir) dir = g_dir_open (path, 0, NULL);
  const char *name;

  while (dir != NULL && (name = g_dir_read_name (dir)) != NULL)
    {
      g_autofree char *below = g_build_filename (path, name, NULL);

      if (g_file_test (below, G_FILE_TEST_IS_DIR) && !g_file_test (below, G_FILE_TEST_IS_SYMLINK))
        host_fixture_remove_folder (below);
      else
        g_unlink (below);
    }
  g_rmdir (path);
}

void
host_fixture_tear_down (HostFixture *fixture, gconstpointer data)
{
  (void) data;
  host_fixture_stop (fixture);
  host_fixture_remove_folder (fixture->folder);
  g_free (fixture->folder);
  g_free (fixture->socket);
  g_free (fixture->state_dir);
}

HostCell *
host_fixture_load (HostFixture *fixture, const char *file, const char *name, ...)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(GHashTable) config = g_hash_table_new (g_str_hash, g_str_equal);
  g_autofree char *base = g_strconcat (file, ".so", NULL);
  g_autofree char *path = g_path_is_absolute (file) ? g_strdup (file) : g_build_filename (g_getenv ("TEST_CELLS"), base, NULL);
  const char *key;
  HostCell *cell;
  va_list args;

  va_start (args, name);
  while ((key = va_arg (args, const char *)) != NULL)
    g_hash_table_insert (config, (char *) key, va_arg (args, char *));
  va_end (args);
  cell = host_load (fixture->host, path, name, config, &error);
  g_assert_no_error (error);
  return cell;
}

void
host_fixture_eject (HostCell *cell)
{
  g_autoptr(GError) error = NULL;

  relocate_eject (cell, &error);
  g_assert_no_error (error);
  g_assert_cmpstr (host_cell_location_name (cell), ==, "sandbox");
}

guint
host_fixture_restarts (HostCell *cell)
{
  HostCellInfo info;

  host_cell_describe (cell, &info);
  return info.restarts;
}

void
host_fixture_wait_taken (HostCell *cell, guint n)
{
  gint64 patience = g_get_monotonic_time () + 60 * G_USEC_PER_SEC;
  guint taken = 0;

  while (taken < n)
    {
      g_assert_cmpint (g_get_monotonic_time (), <, patience);
      taken = 0;
      pthread_mutex_lock (&cell->lock);
      for (guint i = 0; i < cell->links->len; i++)
        {
          Link *link = g_ptr_array_index (cell->links, i);

          taken += atomic_load (&link->replies->control->taken) > link->taken;
        }
      pthread_mutex_unlock (&cell->lock);
      sched_yield ();
    }
}

void
host_fixture_absorb (HostCell *cell)
{
  g_autoptr(GError) error = NULL;

  relocate_absorb (cell, &error);
  g_assert_no_error (error);
  g_assert_cmpstr (host_cell_location_name (cell), ==, "in process");
}

gboolean
host_fixture_has_sandbox (void)
{
  const char *const argv[] = { "bwrap", "--unshare-all", "--unshare-user", "--ro-bind", "/", "/", "true", NULL };
  int status = 1;

  if (g_spawn_sync (NULL, (char **) argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL | G_SPAWN_STDERR_TO_DEV_NULL, NULL,
                    NULL, NULL, NULL, &status, NULL)
      && status == 0)
    return TRUE;
  g_test_skip ("bubblewrap cannot make a sandbox here");
  return FALSE;
}

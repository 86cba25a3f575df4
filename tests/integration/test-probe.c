/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Files that are tried in a sandbox before the host loads them: it lives on, says what is wrong, and remembers a crash.
 */
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "host-fixture.h"
#include "host/probe-memory.h"
#include "host/probe.h"
#include "plugins/probe-report.h"

typedef struct
{
  HostFixture host;
  gboolean skipped;
} Scene;

static void
set_up (Scene *scene, gconstpointer data)
{
  scene->skipped = !host_fixture_has_sandbox ();
  scene->host.cache_dir = g_dir_make_tmp ("cellhost-XXXXXX", NULL);
  /* What hangs is waited for, and the machine may be busy. */
  scene->host.probe_ms = data != NULL && strstr (data, "hang") != NULL ? 1500 : 0;
  host_fixture_set_up (&scene->host, NULL);
}

static void
tear_down (Scene *scene, gconstpointer data)
{
  (void) data;
  host_fixture_tear_down (&scene->host, NULL);
  host_fixture_remove_folder (scene->host.cache_dir);
  g_free (scene->host.cache_dir);
}

static char *
path_of (const char *name)
{
  g_autofree char *base = g_strconcat (name, ".so", NULL);

  return g_build_filename (g_getenv ("TEST_CELLS"), base, NULL);
}

/* NULL, or the sentence. */
static char *
load (Scene *scene, const char *name, GHashTable *values)
{
  g_autofree char *path = path_of (name);
  g_autoptr(GError) error = NULL;
  g_autoptr(HostCell) cell = host_load (scene->host.host, path, NULL, values, &error);

  if (cell != NULL)
    return NULL;
  g_assert_cmpint (cell_status_from_error (error), ==, CELL_ERROR_REFUSED);
  g_assert_true (g_str_has_prefix (error->message, path));
  return g_strdup (error->message);
}

static guint
count_children (void)
{
  g_autofree char *path = g_strdup_printf ("/proc/self/task/%d/children", (int) getpid ()), *text = NULL;
  guint n = 0;

  if (!g_file_get_contents (path, &text, NULL, NULL))
    return 0;
  for (char *at = text; *at != 0; at++)
    n += *at == ' ';
  return n;
}

static guint
count_descriptors (void)
{
  g_autoptr(GDir) dir = g_dir_open ("/proc/self/fd", 0, NULL);
  guint n = 0;

  while (g_dir_read_name (dir) != NULL)
    n++;
  return n;
}

/* The pipe of what it logs is read to its end by the main loop. */
static void
wait_for_descriptors (guint wanted)
{
  gint64 patience = g_get_monotonic_time () + 20 * G_USEC_PER_SEC;

  while (count_descriptors () > wanted)
    {
      g_assert_cmpint (g_get_monotonic_time (), <, patience);
      g_thread_yield ();
    }
}

typedef struct
{
  const char *name, *says;
  gboolean remembered;
} Case;

static const Case cases[] = {
  { "rude-crash-load", "it crashed (Segmentation fault) while its constructors ran", TRUE },
  { "rude-abort-load", "it crashed (Aborted) while its constructors ran", TRUE },
  { "rude-exit-load", "it ended its process (exit status 3) while its constructors ran", TRUE },
  { "rude-hang-load", "it did not end within 1.5 s while its constructors ran", FALSE },
  { "rude-crash-start", "it crashed (Segmentation fault) while a cell was made of it", TRUE },
  { "rude-deep-start", "it crashed (Segmentation fault) while a cell was made of it", TRUE },
  { "rude-hang-start", "it did not end within 1.5 s while a cell was made of it", FALSE },
  { "rude-crash-end", "it crashed (Segmentation fault) while the cell was ended", TRUE },
};

static void
test_case (Scene *scene, gconstpointer data)
{
  const Case *it = NULL;
  g_autofree char *first = NULL, *second = NULL, *polite = NULL;
  guint descriptors, children;

  if (scene->skipped)
    return;
  for (guint i = 0; i < G_N_ELEMENTS (cases); i++)
    if (g_str_equal (cases[i].name, data))
      it = &cases[i];
  /* Threads and pipes that stay are there by now. */
  polite = load (scene, "rude-polite", NULL);
  g_assert_cmpstr (polite, ==, NULL);
  descriptors = count_descriptors ();
  children = count_children ();
  first = load (scene, it->name, NULL);
  g_assert_nonnull (strstr (first, it->says));
  second = load (scene, it->name, NULL);
  g_assert_nonnull (strstr (second, it->says));
  g_assert_cmpint (strstr (second, "cellctl validate") != NULL, ==, it->remembered);
  wait_for_descriptors (descriptors);
  g_assert_cmpuint (count_children (), ==, children);
  g_assert_true (host_unload (scene->host.host, "rude-polite", NULL));
}

/* A crash is remembered of these bytes with these values, until it is tried again; what is good, too. */
static void
test_memory (Scene *scene, gconstpointer data)
{
  g_autoptr(GHashTable) values = g_hash_table_new (g_str_hash, g_str_equal);
  g_autofree char *path = path_of ("rude-polite"), *key = NULL, *other = NULL, *again = NULL, *known = NULL, *refused = NULL;
  g_auto(ModuleFile) file = MODULE_FILE_INIT;
  g_autoptr(GError) error = NULL;
  const HostConfig *config = &scene->host.host->config;

  (void) data;
  if (scene->skipped)
    return;
  g_hash_table_insert (values, (char *) "key", (char *) "value");
  g_assert_true (module_file_open (&file, path, &error));
  key = probe_memory_key (&file, NULL);
  other = probe_memory_key (&file, values);
  again = probe_memory_key (&file, values);
  g_assert_cmpstr (key, !=, other);
  g_assert_cmpstr (again, ==, other);
  g_assert_false (probe_memory_read (config, key, &known));
  g_assert_true (probe_file (config, &file, "polite", NULL, &error));
  g_assert_true (probe_memory_read (config, key, &known));
  g_assert_null (known);
  g_assert_false (probe_memory_read (config, other, &known));
  probe_memory_write (config, other, "it crashed in a test");
  g_assert_true (probe_memory_read (config, other, &known));
  g_assert_cmpstr (known, ==, "it crashed in a test");
  refused = load (scene, "rude-polite", values);
  g_assert_nonnull (strstr (refused, "it crashed in a test"));
  g_assert_true (probe_try (config, &file, "polite", values, -1, NULL, &error));
  g_clear_pointer (&refused, g_free);
  refused = load (scene, "rude-polite", values);
  g_assert_cmpstr (refused, ==, NULL);
}

/* What somebody else could have written there, and what makes no sense, is as good as nothing. */
static void
test_bad_memory (Scene *scene, gconstpointer data)
{
  static const struct
  {
    const char *text;
    int mode;
  } bad[] = { { "", 0600 }, { "[Probe]\n", 0600 }, { "[Probe]\nGood=perhaps\n", 0600 }, { "[Probe]\nGood=false\n", 0600 },
              { "[Probe]\nGood=true\n", 0622 },
              { "nonsense", 0600 } };
  g_autofree char *path = path_of ("rude-polite"), *key = NULL, *base = NULL, *at = NULL, *known = NULL;
  g_auto(ModuleFile) file = MODULE_FILE_INIT;
  const HostConfig *config = &scene->host.host->config;

  (void) data;
  g_assert_true (module_file_open (&file, path, NULL));
  key = probe_memory_key (&file, NULL);
  base = g_strconcat (key, ".probe", NULL);
  at = g_build_filename (scene->host.cache_dir, base, NULL);
  for (guint i = 0; i < G_N_ELEMENTS (bad); i++)
    {
      g_assert_true (g_file_set_contents (at, bad[i].text, -1, NULL));
      g_assert_cmpint (g_chmod (at, bad[i].mode), ==, 0);
      g_assert_false (probe_memory_read (config, key, &known));
    }
  g_unlink (at);
  g_assert_cmpint (symlink ("/dev/zero", at), ==, 0);
  g_assert_false (probe_memory_read (config, key, &known));
}

static void
test_steps (Scene *scene, gconstpointer data)
{
  g_autofree char *path = path_of ("rude-fail-start");
  g_auto(ModuleFile) file = MODULE_FILE_INIT;
  g_autoptr(GPtrArray) steps = NULL;
  g_autoptr(GError) error = NULL;
  const ProbeStep *step;

  (void) data;
  if (scene->skipped)
    return;
  g_assert_true (module_file_open (&file, path, NULL));
  /* That it cannot start in there is said, and no reason to refuse it. */
  g_assert_true (probe_try (&scene->host.host->config, &file, "fail", NULL, -1, &steps, &error));
  g_assert_cmpuint (steps->len, ==, 2);
  step = steps->pdata[0];
  g_assert_cmpstr (step->name, ==, PROBE_LOAD);
  g_assert_cmpstr (step->said, ==, "org.cellhost.test.Rude 1");
  step = steps->pdata[1];
  g_assert_cmpstr (step->name, ==, PROBE_START);
  g_assert_false (step->good);
  g_assert_cmpint (step->status, ==, CELL_ERROR_UNREACHABLE);
  g_assert_nonnull (strstr (step->said, "init"));
}

/* Where there is none, cells are loaded all the same: these are one's own. */
static void
test_no_sandbox (Scene *scene, gconstpointer data)
{
  g_autofree char *bwrap = g_steal_pointer (&scene->host.host->config.bwrap_path), *refused = NULL;

  (void) data;
  if (bwrap == NULL)
    return;
  g_test_expect_message ("cellhost-probe", G_LOG_LEVEL_WARNING, "*no sandbox here*");
  refused = load (scene, "rude-polite", NULL);
  g_test_assert_expected_messages ();
  g_assert_cmpstr (refused, ==, NULL);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_log_set_always_fatal (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL);
  for (guint i = 0; i < G_N_ELEMENTS (cases); i++)
    {
      g_autofree char *path = g_strconcat ("/probe/", cases[i].name, NULL);

      g_test_add (path, Scene, cases[i].name, set_up, test_case, tear_down);
    }
  g_test_add ("/probe/memory", Scene, NULL, set_up, test_memory, tear_down);
  g_test_add ("/probe/bad-memory", Scene, NULL, set_up, test_bad_memory, tear_down);
  g_test_add ("/probe/steps", Scene, NULL, set_up, test_steps, tear_down);
  g_test_add ("/probe/no-sandbox", Scene, NULL, set_up, test_no_sandbox, tear_down);
  return g_test_run ();
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What a key file beside a module says, what is wrong with one, and where a name leads.
 */
#include <glib.h>
#include <glib/gstdio.h>

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "plugins/manifest.h"

#define PATH "/cells/ledger.cell"

static Manifest *
parse (const char *text)
{
  g_autoptr (GError) error = NULL;
  Manifest *manifest = manifest_parse (PATH, text, strlen (text), &error);

  g_assert_no_error (error);
  return manifest;
}

static void
test_empty (void)
{
  g_autoptr (Manifest) manifest = parse ("");

  g_assert_cmpstr (manifest->name, ==, "ledger");
  g_assert_cmpstr (manifest->module, ==, "/cells/ledger.so");
  g_assert_null (manifest->interface);
  g_assert_cmpint (manifest->restart, ==, RESTART_PERMANENT);
  g_assert_cmpuint (manifest->restart_intensity, ==, MANIFEST_INTENSITY);
  g_assert_cmpuint (manifest->restart_window, ==, MANIFEST_WINDOW);
  g_assert_null (manifest->calls);
  g_assert_cmpuint (g_hash_table_size (manifest->config), ==, 0);
}

static void
test_full (void)
{
  g_autoptr (Manifest) manifest =
    parse ("# A bank\n"
           "[Cell]\nName=bank\nModule=../other/book.so\nInterface=org.example.Ledger\n"
           "Restart=transient\nRestartIntensity=0\nRestartWindow=3600\nWatchdog=2\nMemory=256\nStrict=true\n"
           "Calls=exchange; clock;\n[Config]\noverdraft=5000\ngreeting=Grüß Gott\n");

  g_assert_cmpstr (manifest->name, ==, "bank");
  g_assert_cmpstr (manifest->module, ==, "/other/book.so");
  g_assert_cmpstr (manifest->interface, ==, "org.example.Ledger");
  g_assert_cmpint (manifest->restart, ==, RESTART_TRANSIENT);
  g_assert_cmpuint (manifest->restart_intensity, ==, 0);
  g_assert_cmpuint (manifest->restart_window, ==, 3600);
  g_assert_cmpuint (manifest->watchdog, ==, 2);
  g_assert_cmpuint (manifest->memory, ==, 256);
  g_assert_true (manifest->strict);
  g_assert_cmpuint (g_strv_length (manifest->calls), ==, 2);
  g_assert_cmpstr (manifest->calls[1], ==, "clock");
  g_assert_cmpstr (g_hash_table_lookup (manifest->config, "overdraft"), ==, "5000");
  g_assert_cmpstr (g_hash_table_lookup (manifest->config, "greeting"), ==, "Grüß Gott");
}

typedef struct
{
  const char *name, *text, *sentence;
} Refusal;

static const Refusal refusals[] = {
  { "not-a-key-file", "this is no key file\n", PATH ": " },
  { "not-utf8", "[Config]\nkey=\xff\xfe\n", PATH ": [Config] key: " },
  { "group", "[Cells]\nName=x\n", "there is a group [Cells]" },
  { "key", "[Cell]\nAutoStart=true\n", "[Cell] has a key AutoStart, which is not known" },
  { "name", "[Cell]\nName=my cell\n", "a cell cannot be called 'my cell'" },
  { "no-name", "[Cell]\nName=\n", "a cell's name has 1 to 63 characters" },
  { "path-as-name", "[Cell]\nName=../x\n", "a cell cannot be called '../x'" },
  { "restart", "[Cell]\nRestart=always\n", "Restart is permanent, transient or temporary, not 'always'" },
  { "intensity", "[Cell]\nRestartIntensity=1001\n", "RestartIntensity is a number from 0 to 1000, not '1001'" },
  { "negative", "[Cell]\nRestartIntensity=-1\n", "RestartIntensity is a number from 0 to 1000, not '-1'" },
  { "window", "[Cell]\nRestartWindow=0\n", "RestartWindow is a number from 1 to 86400, not '0'" },
  { "words", "[Cell]\nRestartWindow=1 min\n", "RestartWindow is a number from 1 to 86400, not '1 min'" },
  { "watchdog", "[Cell]\nWatchdog=0\n", "Watchdog is a number from 1 to 86400, not '0'" },
  { "strict", "[Cell]\nStrict=very\n", "Strict is true or false" },
  { "memory", "[Cell]\nMemory=15\n", "Memory is a number from 16 to 1048576, not '15'" },
  { "calls", "[Cell]\nCalls=ledger;two words\n", "Calls: a cell cannot be called 'two words'" },
  { "calls-all", "[Cell]\nCalls=*\n", "Calls: a cell cannot be called '*'" },
  { "calls-not-utf8", "[Cell]\nCalls=ledger;\xff\n", PATH ": Calls: " },
};

static void
test_refused (gconstpointer data)
{
  const Refusal *refusal = data;
  g_autoptr (GError) error = NULL;

  g_assert_null (manifest_parse (PATH, refusal->text, strlen (refusal->text), &error));
  g_assert_error (error, CELL_ERROR_DOMAIN, -CELL_ERROR_INVALID);
  g_assert_true (g_str_has_prefix (error->message, PATH ": "));
  if (strstr (error->message, refusal->sentence) == NULL)
    g_error ("expected '%s', got '%s'", refusal->sentence, error->message);
}

static void
test_too_large (void)
{
  g_autofree char *text = g_malloc (MANIFEST_MAX_SIZE + 1);
  g_autoptr (GError) error = NULL;

  memset (text, '#', MANIFEST_MAX_SIZE + 1);
  g_assert_null (manifest_parse (PATH, text, MANIFEST_MAX_SIZE + 1, &error));
  g_assert_error (error, CELL_ERROR_DOMAIN, -CELL_ERROR_INVALID);
}

/* ---- where they are --------------------------------------------------------------------------------- */

typedef struct
{
  char *first, *second;         /* of $CELL_PATH */
} Places;

static void
places_set_up (Places *places, gconstpointer data)
{
  g_autofree char *path = NULL;

  (void) data;
  places->first = g_dir_make_tmp ("test-manifest-XXXXXX", NULL);
  places->second = g_dir_make_tmp ("test-manifest-XXXXXX", NULL);
  path = g_strconcat (places->first, ":", places->second, NULL);
  g_setenv ("CELL_PATH", path, TRUE);
}

static void
remove_dir (char *dir)
{
  g_autoptr (GDir) files = g_dir_open (dir, 0, NULL);
  const char *name;

  while ((name = g_dir_read_name (files)) != NULL)
    {
      g_autofree char *path = g_build_filename (dir, name, NULL);

      g_remove (path);
    }
  g_assert_cmpint (g_rmdir (dir), ==, 0);
  g_free (dir);
}

static void
places_tear_down (Places *places, gconstpointer data)
{
  (void) data;
  g_unsetenv ("CELL_PATH");
  remove_dir (places->first);
  remove_dir (places->second);
}

static char *
put (const char *dir, const char *name, const char *text)
{
  char *path = g_build_filename (dir, name, NULL);

  g_assert_true (g_file_set_contents (path, text, -1, NULL));
  return path;
}

static void
test_find (Places *places, gconstpointer data)
{
  g_autofree char *module = put (places->second, "ledger.so", ""), *other = put (places->second, "other.so", "");
  g_autofree char *about = put (places->second, "other.cell", "[Cell]\nName=bank\nModule=elsewhere.so\n");
  g_autofree char *broken = put (places->second, "broken.cell", "[Cell]\nName=a b\n");
  g_autoptr (GError) error = NULL, invalid = NULL, nonsense = NULL, no_file = NULL;
  g_autoptr (Manifest) by_name = manifest_find ("ledger", &error), by_path = manifest_find (module, &error);
  g_autoptr (Manifest) with_manifest = manifest_find (other, &error), manifest = manifest_find (about, &error);
  g_autofree char *elsewhere = g_build_filename (places->second, "elsewhere.so", NULL);

  (void) data;
  g_assert_no_error (error);
  g_assert_cmpstr (by_name->module, ==, module);
  g_assert_cmpstr (by_path->module, ==, module);
  g_assert_cmpstr (by_path->name, ==, "ledger");
  /* The file that was asked for, called as the one beside it says. */
  g_assert_cmpstr (with_manifest->name, ==, "bank");
  g_assert_cmpstr (with_manifest->module, ==, other);
  g_assert_cmpstr (manifest->module, ==, elsewhere);

  g_assert_null (manifest_find ("missing", &error));
  g_assert_error (error, CELL_ERROR_DOMAIN, -CELL_ERROR_NOT_FOUND);
  g_assert_nonnull (strstr (error->message, places->second));
  g_assert_nonnull (broken);
  g_assert_null (manifest_find ("broken", &invalid));
  g_assert_error (invalid, CELL_ERROR_DOMAIN, -CELL_ERROR_INVALID);
  g_assert_null (manifest_find ("two words", &nonsense));
  g_assert_error (nonsense, CELL_ERROR_DOMAIN, -CELL_ERROR_INVALID);
  g_assert_null (manifest_find ("./missing.so", &no_file));
  g_assert_error (no_file, CELL_ERROR_DOMAIN, -CELL_ERROR_NOT_FOUND);
}

static void
test_first_wins (Places *places, gconstpointer data)
{
  g_autofree char *first = put (places->first, "ledger.so", ""), *second = put (places->second, "ledger.so", "");
  g_autoptr (GError) error = NULL;
  g_autoptr (Manifest) manifest = manifest_find ("ledger", &error);

  (void) data;
  g_assert_no_error (error);
  g_assert_cmpstr (manifest->module, ==, first);
  g_assert_cmpstr (manifest->module, !=, second);
}

/* It says what the cell may do: whoever could have written it could have said that. */
static void
refuse (const char *path, const char *sentence)
{
  g_autoptr (GError) error = NULL;

  g_assert_null (manifest_load (path, &error));
  g_assert_error (error, CELL_ERROR_DOMAIN, -CELL_ERROR_REFUSED);
  g_assert_true (g_str_has_prefix (error->message, path));
  if (strstr (error->message, sentence) == NULL)
    g_error ("expected '%s', got '%s'", sentence, error->message);
}

static void
test_strangers (Places *places, gconstpointer data)
{
  g_autofree char *path = put (places->first, "ledger.cell", "[Cell]\n"),
                  *fifo = g_build_filename (places->first, "fifo.cell", NULL);
  g_autoptr (GError) error = NULL;
  g_autoptr (Manifest) good = NULL;

  (void) data;
  g_assert_cmpint (mkfifo (fifo, 0600), ==, 0);
  refuse (fifo, "it is not a regular file");
  refuse (places->first, "it is not a regular file");
  g_assert_cmpint (g_chmod (path, 0664), ==, 0);
  refuse (path, "its mode 0664 lets others write to it");
  g_assert_cmpint (g_chmod (path, 0602), ==, 0);
  refuse (path, "its mode 0602 lets others write to it");
  g_assert_cmpint (g_chmod (path, 0644), ==, 0);
  good = manifest_load (path, &error);
  g_assert_no_error (error);
  g_assert_cmpstr (good->path, ==, path);
  if (geteuid () == 0 && chown (path, 12345, 12345) == 0)
    refuse (path, "it is owned by user 12345");
}

/* GLib remembers where these are; what its tests have for it (G_TEST_OPTION_ISOLATE_DIRS) leaks. */
static char *
make_data_dirs (void)
{
  char *dir = g_dir_make_tmp ("test-manifest-XXXXXX", NULL);
  g_autofree char *of_user = g_build_filename (dir, "user", NULL), *of_system = g_build_filename (dir, "system", NULL);

  g_setenv ("XDG_DATA_HOME", of_user, TRUE);
  g_setenv ("XDG_DATA_DIRS", of_system, TRUE);
  return dir;
}

static void
remove_tree (const char *path)
{
  g_autoptr (GDir) files = g_dir_open (path, 0, NULL);
  const char *name;

  while (files != NULL && (name = g_dir_read_name (files)) != NULL)
    {
      g_autofree char *below = g_build_filename (path, name, NULL);

      remove_tree (below);
    }
  g_remove (path);
}

/* The user's own folder goes before those of the system, and $CELL_PATH before both. */
static void
test_search_path (Places *places, gconstpointer data)
{
  g_autofree char *of_user = g_build_filename (g_get_user_data_dir (), "cellhost", "cells", NULL);
  g_autofree char *of_system = g_build_filename (g_get_system_data_dirs ()[0], "cellhost", "cells", NULL);
  const char *const dirs[] = { places->second, of_user, of_system };
  g_autoptr (GError) error = NULL;

  (void) data;
  for (guint i = 0; i < G_N_ELEMENTS (dirs); i++)
    {
      g_assert_cmpint (g_mkdir_with_parents (dirs[i], 0700), ==, 0);
      g_free (put (dirs[i], "ledger.so", ""));
    }
  for (guint i = 0; i < G_N_ELEMENTS (dirs); i++)
    {
      g_autofree char *module = g_build_filename (dirs[i], "ledger.so", NULL);
      g_autoptr (Manifest) manifest = manifest_find ("ledger", &error);

      g_assert_no_error (error);
      g_assert_cmpstr (manifest->module, ==, module);
      g_assert_cmpint (g_remove (module), ==, 0);
    }
  g_assert_null (manifest_find ("ledger", &error));
  for (guint i = 0; i < G_N_ELEMENTS (dirs); i++)
    g_assert_nonnull (strstr (error->message, dirs[i]));
}

/* Whoever can write to a folder can put another file there; where that is sticky, not in the place of this one. */
static void
test_folders (Places *places, gconstpointer data)
{
  g_autofree char *inner = g_build_filename (places->first, "inner", NULL), *path = NULL, *link = NULL;
  const char *const open[] = { inner, places->first };
  g_autoptr (GError) error = NULL;

  (void) data;
  g_assert_cmpint (g_mkdir (inner, 0755), ==, 0);
  path = put (inner, "ledger.cell", "");
  for (guint i = 0; i < G_N_ELEMENTS (open); i++)
    {
      g_autofree char *sentence = g_strdup_printf ("the folder %s has mode 0777: others could put another file in its place",
                                                   open[i]);
      g_autoptr (Manifest) sticky = NULL;

      g_assert_cmpint (g_chmod (open[i], 0777), ==, 0);
      refuse (path, sentence);
      g_assert_cmpint (g_chmod (open[i], 01777), ==, 0);
      sticky = manifest_load (path, &error);
      g_assert_no_error (error);
      g_assert_nonnull (sticky);
      g_assert_cmpint (g_chmod (open[i], 0770), ==, 0);
      refuse (path, "has mode 0770");
      /* Nor does it help that the way to it leads through another folder. */
      link = g_build_filename (places->second, "link.cell", NULL);
      g_assert_cmpint (symlink (path, link), ==, 0);
      refuse (link, "has mode 0770");
      g_assert_cmpint (g_remove (link), ==, 0);
      g_clear_pointer (&link, g_free);
      g_assert_cmpint (g_chmod (open[i], 0700), ==, 0);
    }
  if (geteuid () == 0 && chown (inner, 12345, 12345) == 0)
    refuse (path, "is owned by user 12345, who could put another file in its place");
  g_assert_cmpint (g_remove (path), ==, 0);
}

int
main (int argc, char **argv)
{
  g_autofree char *data_dirs = make_data_dirs ();
  int status;

  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/manifest/empty", test_empty);
  g_test_add_func ("/manifest/full", test_full);
  for (gsize i = 0; i < G_N_ELEMENTS (refusals); i++)
    {
      g_autofree char *name = g_strconcat ("/manifest/refused/", refusals[i].name, NULL);

      g_test_add_data_func (name, &refusals[i], test_refused);
    }
  g_test_add_func ("/manifest/too-large", test_too_large);
  g_test_add ("/manifest/find", Places, NULL, places_set_up, test_find, places_tear_down);
  g_test_add ("/manifest/first-wins", Places, NULL, places_set_up, test_first_wins, places_tear_down);
  g_test_add ("/manifest/strangers", Places, NULL, places_set_up, test_strangers, places_tear_down);
  g_test_add ("/manifest/search-path", Places, NULL, places_set_up, test_search_path, places_tear_down);
  g_test_add ("/manifest/folders", Places, NULL, places_set_up, test_folders, places_tear_down);
  status = g_test_run ();
  remove_tree (data_dirs);
  return status;
}

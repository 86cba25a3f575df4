/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What lies where somebody in a sandbox may write is foreign, whatever he does with its name meanwhile.
 */
#include <glib/gstdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/trust.h"

typedef struct
{
  char *folder, *shared, *own, *policy;
  Host host;
} Place;

static void
set_up (Place *place, gconstpointer data)
{
  g_autofree char *made = g_dir_make_tmp ("cellhost-XXXXXX", NULL), *text = NULL;

  (void) data;
  place->folder = g_steal_pointer (&made);
  place->shared = g_build_filename (place->folder, "shared", NULL);
  place->own = g_build_filename (place->folder, "own.so", NULL);
  place->policy = g_build_filename (place->folder, "policy", NULL);
  text = g_strdup_printf ("[Cell editor]\nWritePaths=%s\n", place->shared);
  g_assert_cmpint (g_mkdir (place->shared, 0700), ==, 0);
  g_assert_true (g_file_set_contents_full (place->policy, text, -1, G_FILE_SET_CONTENTS_NONE, 0600, NULL));
  g_assert_true (g_file_set_contents_full (place->own, "own", -1, G_FILE_SET_CONTENTS_NONE, 0700, NULL));
  place->host.config.policy_path = place->policy;
}

static void
tear_down (Place *place, gconstpointer data)
{
  (void) data;
  g_unlink (place->own);
  g_unlink (place->policy);
  g_rmdir (place->shared);
  g_rmdir (place->folder);
  g_free (place->folder);
  g_free (place->shared);
  g_free (place->own);
  g_free (place->policy);
}

static void
open_file (ModuleFile *file, const char *path)
{
  g_autoptr(GError) error = NULL;

  module_file_copy (file, path, &error);
  g_assert_no_error (error);
  g_assert_cmpint (file->origin.kind, ==, ORIGIN_OWN);
}

static const Manifest none;             /* there is no key file */

static void
test_own (Place *place, gconstpointer data)
{
  g_auto(ModuleFile) file = MODULE_FILE_INIT;

  (void) data;
  open_file (&file, place->own);
  trust_find_origin (&place->host, &file, &none);
  g_assert_cmpint (file.origin.kind, ==, ORIGIN_OWN);
}

/* data: whether it is by a link of the user's that the file is found. */
static void
test_name_swapped (Place *place, gconstpointer data)
{
  g_autofree char *path = g_build_filename (place->shared, "a.so", NULL), *away = g_build_filename (place->shared, "b.so", NULL);
  g_autofree char *link = g_build_filename (place->folder, "link.so", NULL);
  g_auto(ModuleFile) file = MODULE_FILE_INIT;

  g_assert_true (g_file_set_contents_full (path, "theirs", -1, G_FILE_SET_CONTENTS_NONE, 0700, NULL));
  g_assert_cmpint (symlink (path, link), ==, 0);
  open_file (&file, data != NULL ? link : path);
  /* It is read by now, and what its name leads to is the user's. */
  g_assert_cmpint (g_rename (path, away), ==, 0);
  g_assert_cmpint (symlink (place->own, path), ==, 0);
  trust_find_origin (&place->host, &file, &none);
  g_assert_cmpint (file.origin.kind, ==, ORIGIN_FOREIGN);
  g_assert_nonnull (file.origin.why);
  g_unlink (path);
  g_unlink (away);
  g_unlink (link);
}

/* data: where the key file is that names the user's own module. */
static void
test_key_file (Place *place, gconstpointer data)
{
  g_autofree char *path = g_build_filename (place->folder, data, NULL);
  g_autofree char *text = g_strdup_printf ("[Cell]\nModule=%s\n", place->own);
  g_auto(ModuleFile) file = MODULE_FILE_INIT;
  g_autoptr(Manifest) manifest = NULL;
  g_autoptr(GError) error = NULL;

  g_assert_true (g_file_set_contents_full (path, text, -1, G_FILE_SET_CONTENTS_NONE, 0600, NULL));
  manifest = manifest_load (path, &error);
  g_assert_no_error (error);
  open_file (&file, manifest->module);
  trust_find_origin (&place->host, &file, manifest);
  g_assert_cmpint (file.origin.kind, ==, strchr (data, '/') != NULL ? ORIGIN_FOREIGN : ORIGIN_OWN);
  g_assert_cmpint (file.origin.key_file, ==, strchr (data, '/') != NULL);
  g_unlink (path);
}

/* A pair of the user's own key file and his own module that he has not made. */
static void
test_pair (Place *place, gconstpointer data)
{
  g_autofree char *own = g_build_filename (place->folder, "own.cell", NULL),
                  *path = g_build_filename (place->shared, "pair.cell", NULL);
  g_autofree char *module = g_build_filename (place->shared, "pair.so", NULL);
  g_auto(ModuleFile) file = MODULE_FILE_INIT, alone = MODULE_FILE_INIT;
  g_autoptr(Manifest) manifest = NULL;
  g_autoptr(GError) error = NULL;

  (void) data;
  g_assert_true (g_file_set_contents_full (own, "[Cell]\nCalls=bank\n", -1, G_FILE_SET_CONTENTS_NONE, 0600, NULL));
  g_assert_true (symlink (own, path) == 0 && symlink (place->own, module) == 0);
  manifest = manifest_load (path, &error);
  g_assert_no_error (error);
  g_assert_cmpstr (manifest->calls[0], ==, "bank");
  open_file (&file, manifest->module);
  trust_find_origin (&place->host, &file, manifest);
  g_assert_true (file.origin.kind == ORIGIN_FOREIGN && file.origin.key_file);
  open_file (&alone, manifest->module);
  trust_find_origin (&place->host, &alone, &none);
  g_assert_true (alone.origin.kind == ORIGIN_FOREIGN && !alone.origin.key_file);
  g_unlink (own);
  g_unlink (path);
  g_unlink (module);
}

int
main (int argc, char **argv)
{
  umask (022);
  g_test_init (&argc, &argv, NULL);
  g_test_add ("/granted/own", Place, NULL, set_up, test_own, tear_down);
  g_test_add ("/granted/name-swapped", Place, NULL, set_up, test_name_swapped, tear_down);
  g_test_add ("/granted/link-swapped", Place, "link", set_up, test_name_swapped, tear_down);
  g_test_add ("/granted/key-file", Place, "own.cell", set_up, test_key_file, tear_down);
  g_test_add ("/granted/key-file-of-others", Place, "shared/theirs.cell", set_up, test_key_file, tear_down);
  g_test_add ("/granted/pair", Place, NULL, set_up, test_pair, tear_down);
  return g_test_run ();
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Where a file has come from: what it lies in, and what is written beside it.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "plugins/origin.h"
#include "plugins/own-file.h"

static Origin
look (const char *path)
{
  int fd = open (path, O_RDONLY | O_CLOEXEC);
  g_auto(GStrv) way = own_file_way (fd, path, NULL);
  Origin origin;

  g_assert_cmpint (fd, >=, 0);
  g_assert_nonnull (way);
  origin = origin_of (fd, (const char *const *) way);
  g_assert_true ((origin.kind == ORIGIN_FOREIGN) == (origin.why != NULL));
  close (fd);
  return origin;
}

/* Whether that path is one to the open file, over folders that nobody else can write to. */
static gboolean
is_found (const char *opened, const char *path)
{
  int fd = open (opened, O_RDONLY | O_CLOEXEC);
  g_autoptr(GError) error = NULL;
  g_auto(GStrv) way = own_file_way (fd, path, &error);

  close (fd);
  g_assert_true ((way == NULL) == (cell_status_from_error (error) == CELL_ERROR_REFUSED));
  return way != NULL;
}

/* Of what was opened by another path than it is said to have been: what the path leads to was exchanged meanwhile. */
static OriginKind
origin_by (const char *opened, const char *path)
{
  int fd = open (opened, O_RDONLY | O_CLOEXEC);
  g_auto(GStrv) way = own_file_way (fd, path, NULL);
  OriginKind kind;

  g_assert_nonnull (way);
  kind = origin_of (fd, (const char *const *) way).kind;
  close (fd);
  return kind;
}

static void
test_folders (void)
{
  g_autofree char *folder = g_dir_make_tmp ("cellhost-XXXXXX", NULL), *path = g_build_filename (folder, "a.so", NULL);

  g_assert_true (g_file_set_contents (path, "x", 1, NULL));
  g_assert_cmpint (look (path).kind, ==, ORIGIN_OWN);
  g_assert_cmpint (g_chmod (folder, 01777), ==, 0);
  g_assert_cmpint (look (path).kind, ==, ORIGIN_FOREIGN);
  g_assert_cmpint (g_chmod (folder, 01770), ==, 0);
  g_assert_cmpint (look (path).kind, ==, ORIGIN_FOREIGN);
  g_assert_cmpint (g_chmod (folder, 0700), ==, 0);
  g_unlink (path);
  g_rmdir (folder);
}

/* What lies where the open one was is not looked at in its stead. */
static void
test_renamed (void)
{
  g_autofree char *folder = g_dir_make_tmp ("cellhost-XXXXXX", NULL), *path = g_build_filename (folder, "a.so", NULL);
  g_autofree char *other = g_build_filename (folder, "b.so", NULL), *by_link = g_build_filename (other, "a.so", NULL);
  const char *const to_link[] = { by_link, NULL };
  g_auto(GStrv) way = NULL;
  int fd;

  g_assert_true (g_file_set_contents (path, "x", 1, NULL) && g_file_set_contents (other, "y", 1, NULL));
  fd = open (path, O_RDONLY | O_CLOEXEC);
  way = own_file_way (fd, path, NULL);
  g_assert_cmpint (origin_of (fd, (const char *const *) way).kind, ==, ORIGIN_OWN);
  g_assert_cmpint (g_rename (other, path), ==, 0);
  g_assert_cmpint (origin_of (fd, (const char *const *) way).kind, ==, ORIGIN_FOREIGN);
  g_unlink (path);
  g_assert_cmpint (origin_of (fd, (const char *const *) way).kind, ==, ORIGIN_FOREIGN);
  close (fd);
  /* By a link on the way it is there, and the folder that is looked at is another's. */
  g_assert_true (g_file_set_contents (path, "x", 1, NULL));
  g_assert_cmpint (symlink (folder, other), ==, 0);
  fd = open (path, O_RDONLY | O_CLOEXEC);
  g_assert_cmpint (origin_of (fd, to_link).kind, ==, ORIGIN_FOREIGN);
  close (fd);
  g_unlink (path);
  g_unlink (other);
  g_rmdir (folder);
}

/* A link lies where it lies, whatever it leads to: also one to another, and one to a folder. */
static void
test_links (void)
{
  g_autofree char *folder = g_dir_make_tmp ("cellhost-XXXXXX", NULL), *path = g_build_filename (folder, "a.so", NULL);
  g_autofree char *open_folder = g_build_filename (folder, "open", NULL), *link = g_build_filename (open_folder, "b.so", NULL);
  g_autofree char *to_link = g_build_filename (folder, "c.so", NULL), *to_folder = g_build_filename (open_folder, "d", NULL);
  g_autofree char *by_folder = g_build_filename (to_folder, "c.so", NULL), *to_itself = g_build_filename (folder, "e.so", NULL);
  g_autofree char *around = g_build_filename (folder, "open", "..", ".", "", "a.so", NULL);

  g_assert_true (g_file_set_contents (path, "x", 1, NULL));
  g_assert_true (g_mkdir (open_folder, 0700) == 0 && symlink ("../a.so", link) == 0 && symlink (link, to_link) == 0
                 && symlink ("..", to_folder) == 0);
  for (int is_open = 0; is_open < 2; is_open++)
    {
      g_assert_cmpint (g_chmod (open_folder, is_open ? 01777 : 0700), ==, 0);
      g_assert_cmpint (look (link).kind, ==, is_open ? ORIGIN_FOREIGN : ORIGIN_OWN);
      g_assert_cmpint (look (to_link).kind, ==, is_open ? ORIGIN_FOREIGN : ORIGIN_OWN);
      g_assert_cmpint (look (by_folder).kind, ==, is_open ? ORIGIN_FOREIGN : ORIGIN_OWN);
      g_assert_cmpint (look (path).kind, ==, ORIGIN_OWN);
      g_assert_cmpint (look (around).kind, ==, ORIGIN_OWN);
    }
  g_assert_cmpint (symlink (to_itself, to_itself), ==, 0);
  g_assert_false (is_found (path, to_itself));
  g_assert_cmpint (origin_by (path, open_folder), ==, ORIGIN_FOREIGN);
  g_assert_cmpint (origin_by (path, path), ==, ORIGIN_OWN);
  g_assert_cmpint (g_chmod (open_folder, 0777), ==, 0);
  g_assert_false (is_found (path, link));
  g_unlink (to_folder);
  g_unlink (link);
  g_rmdir (open_folder);
  g_unlink (to_itself);
  g_unlink (to_link);
  g_unlink (path);
  g_rmdir (folder);
}

static void
test_marks (void)
{
  static const char *const marks[] = { "user.xdg.origin.url", "user.xdg.referrer.url", "user.xdg.origin.email.from",
                                       "user.xdg.origin.email.message-id" };
  g_autofree char *folder = g_dir_make_tmp ("cellhost-XXXXXX", NULL), *path = g_build_filename (folder, "a.so", NULL);
  int wrong = 0;

  g_assert_true (g_file_set_contents (path, "x", 1, NULL));
  for (guint i = 0; i < G_N_ELEMENTS (marks) && wrong == 0; i++)
    {
      wrong = setxattr (path, marks[i], "x", 1, 0) == 0 ? 0 : errno;
      g_assert_cmpint (look (path).kind, ==, wrong == 0 ? ORIGIN_FOREIGN : ORIGIN_OWN);
      removexattr (path, marks[i]);
      g_assert_cmpint (look (path).kind, ==, ORIGIN_OWN);
    }
  if (wrong != 0)
    g_test_skip ("this file system keeps no extended attributes of a user's");
  g_unlink (path);
  g_rmdir (folder);
}

/* Of root's own host all is root's. */
static void
test_system (void)
{
  g_assert_cmpint (look ("/usr/bin/env").kind, ==, geteuid () == 0 ? ORIGIN_OWN : ORIGIN_SYSTEM);
}

static void
test_media (void)
{
  struct statfs here;

  g_assert_true (origin_is_carried (MSDOS_SUPER_MAGIC) && origin_is_carried (ISOFS_SUPER_MAGIC)
                 && origin_is_carried (UDF_SUPER_MAGIC));
  g_assert_false (origin_is_carried (EXT4_SUPER_MAGIC) || origin_is_carried (BTRFS_SUPER_MAGIC) || origin_is_carried (TMPFS_MAGIC)
                  || origin_is_carried (OVERLAYFS_SUPER_MAGIC) || origin_is_carried (NFS_SUPER_MAGIC));
  g_assert_cmpint (statfs ("/usr", &here), ==, 0);
  g_assert_false (origin_is_carried ((guint64) here.f_type));
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/origin/folders", test_folders);
  g_test_add_func ("/origin/renamed", test_renamed);
  g_test_add_func ("/origin/links", test_links);
  g_test_add_func ("/origin/marks", test_marks);
  g_test_add_func ("/origin/system", test_system);
  g_test_add_func ("/origin/media", test_media);
  return g_test_run ();
}

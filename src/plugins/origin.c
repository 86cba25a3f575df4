/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include "origin.h"

#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

/* Of these linux/magic.h has some. */
#define EXFAT 0x2011bab0u
#define HFSPLUS 0x482bu
#define ISO_9660 0x9660u
#define NTFS 0x5346544eu
#define NTFS3 0x7366746eu

gboolean
origin_is_carried (guint64 type)
{
  static const guint64 carried[] = { MSDOS_SUPER_MAGIC, EXFAT, HFSPLUS, ISO_9660, NTFS, NTFS3, UDF_SUPER_MAGIC };

  for (guint i = 0; i < G_N_ELEMENTS (carried); i++)
    if (type == carried[i])
      return TRUE;
  return FALSE;
}

/* What browsers and others write beside what they fetch; see freedesktop.org's common extended attributes. */
static gboolean
is_marked (int fd)
{
  static const char *const marks[] = { "user.xdg.origin.url", "user.xdg.referrer.url", "user.xdg.origin.email.from",
                                       "user.xdg.origin.email.message-id" };

  for (guint i = 0; i < G_N_ELEMENTS (marks); i++)
    if (fgetxattr (fd, marks[i], NULL, 0) >= 0)
      return TRUE;
  return FALSE;
}

/* By default there is one, whether anybody has said so or not; but not all of the home. */
static char *
find_downloads (void)
{
  const char *said = g_get_user_special_dir (G_USER_DIRECTORY_DOWNLOAD);
  g_autofree char *usual = g_build_filename (g_get_home_dir (), "Downloads", NULL);
  char *real = realpath (said != NULL ? said : usual, NULL), *home = realpath (g_get_home_dir (), NULL);

  if (real != NULL && g_strcmp0 (real, home) == 0)
    g_clear_pointer (&real, free);
  free (home);
  return real;
}

static gboolean
is_downloaded (const char *path)
{
  char *downloads = find_downloads ();
  gsize length = downloads != NULL ? strlen (downloads) : 0;
  gboolean below = length > 1 && strncmp (path, downloads, length) == 0 && path[length] == '/';

  free (downloads);
  return below;
}

/* The one that it lies in: in a sticky one that is everybody's anybody can have it made, by a program that keeps there what it has
 * fetched. */
static gboolean
lies_in_the_open (const char *path)
{
  g_autofree char *folder = g_path_get_dirname (path);
  struct stat st;

  return stat (folder, &st) < 0 || (st.st_mode & (S_IWGRP | S_IWOTH)) != 0;
}

/* Nobody but root could have put it there, or another in the place of a folder on the way. */
static gboolean
is_of_the_system (const char *path, uid_t owner)
{
  g_autofree char *folder = g_path_get_dirname (path);
  struct stat st;

  if (owner != 0 || stat (folder, &st) < 0 || st.st_uid != 0)
    return FALSE;
  return g_str_equal (folder, "/") || is_of_the_system (folder, st.st_uid);
}

/* It may have been renamed since; and what was opened in a sandbox, by the folder of its process, calls its place what it is called
 * there. */
static gboolean
lies_at (int fd, const char *place)
{
  char *real = realpath (place, NULL);
  struct stat opened, found;
  gboolean same = g_strcmp0 (real, place) == 0 && fstat (fd, &opened) == 0 && lstat (place, &found) == 0
                  && opened.st_dev == found.st_dev && opened.st_ino == found.st_ino;

  free (real);
  return same;
}

static const char *
find_reason (const char *place)
{
  if (is_downloaded (place))
    return "it lies where downloads do";
  return lies_in_the_open (place) ? "it lies in a folder that is not yours alone" : NULL;
}

static const char *
find_reason_on_the_way (const char *const *way, guint n)
{
  for (guint i = 0; i + 1 < n; i++)
    if (find_reason (way[i]) != NULL)
      return is_downloaded (way[i]) ? "a link to it lies where downloads do"
                                    : "a link to it lies in a folder that is not yours alone";
  return find_reason (way[n - 1]);
}

static gboolean
is_all_of_the_system (const char *const *way, uid_t owner)
{
  for (guint i = 0; way[i] != NULL; i++)
    if (lies_in_the_open (way[i]) || !is_of_the_system (way[i], owner))
      return FALSE;
  return TRUE;
}

/* Of root's own host all that there is is root's: it is looked at as anybody's is. */
Origin
origin_of (int fd, const char *const *way)
{
  guint n = g_strv_length ((char **) way);
  const char *why;
  struct statfs medium;
  struct stat st;

  if (fstat (fd, &st) < 0 || fstatfs (fd, &medium) < 0 || n == 0 || !lies_at (fd, way[n - 1]))
    return (Origin) { ORIGIN_FOREIGN, "it cannot be told where it lies" };
  if (origin_is_carried ((guint64) medium.f_type))
    return (Origin) { ORIGIN_FOREIGN, "it lies on a medium that does not know who has made it" };
  if (geteuid () != 0 && is_all_of_the_system (way, st.st_uid))
    return (Origin) { ORIGIN_SYSTEM, NULL };
  why = is_marked (fd) ? "it is marked as having come from elsewhere" : find_reason_on_the_way (way, n);
  return (Origin) { why != NULL ? ORIGIN_FOREIGN : ORIGIN_OWN, why };
}

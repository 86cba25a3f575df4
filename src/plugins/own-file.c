/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include "own-file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINKS_MAX 40u           /* as of the kernel */

/* Whoever could have written the file could have written what it does. */
gboolean
own_file_check (int fd, gsize most, gsize *ret_size, GError **error)
{
  struct stat st;

  if (fstat (fd, &st) < 0)
    return cell_set_error (error, CELL_ERROR_REFUSED, "it cannot be looked at: %s", g_strerror (errno));
  if (!S_ISREG (st.st_mode))
    return cell_set_error (error, CELL_ERROR_REFUSED, "it is not a regular file");
  if (st.st_uid != geteuid () && st.st_uid != 0)
    return cell_set_error (error, CELL_ERROR_REFUSED,
                           "it is owned by user %u, who is neither you (%u) nor root; a copy would be yours", st.st_uid,
                           geteuid ());
  if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
    return cell_set_error (error, CELL_ERROR_REFUSED, "its mode %04o lets others write to it (chmod go-w)", st.st_mode & 07777);
  if (st.st_size < 0 || (gsize) st.st_size > most)
    return cell_set_error (error, CELL_ERROR_REFUSED, "it has %" G_GINT64_FORMAT " bytes; %zu are the most", (gint64) st.st_size,
                           most);
  *ret_size = (gsize) st.st_size;
  return TRUE;
}

/* Owned by the user, by root, or by whoever owns all of the system: in a user namespace without root that is somebody without a
 * name. */
static gboolean
is_trusted (uid_t owner)
{
  struct stat root;

  return owner == geteuid () || owner == 0 || (stat ("/", &root) == 0 && owner == root.st_uid);
}

/* In a sticky folder nobody can take away what is somebody else's. */
static gboolean
check_folder (const char *path, GError **error)
{
  struct stat st;

  if (stat (path, &st) < 0)
    return cell_set_error (error, CELL_ERROR_REFUSED, "the folder %s cannot be looked at: %s", path, g_strerror (errno));
  if (!is_trusted (st.st_uid))
    return cell_set_error (error, CELL_ERROR_REFUSED, "the folder %s is owned by user %u, who could put another file in its place",
                           path, st.st_uid);
  if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0 && (st.st_mode & S_ISVTX) == 0)
    return cell_set_error (error, CELL_ERROR_REFUSED,
                           "the folder %s has mode %04o: others could put another file in its place (chmod go-w %s)",
                           path, st.st_mode & 07777, path);
  return TRUE;
}

/* Where an open one lies, without a link on the way: what is judged is what was opened, whatever its name leads to by now. */
static char *
place_of (int fd, GError **error)
{
  g_autofree char *link = g_strdup_printf ("/proc/self/fd/%d", fd), *place = g_file_read_link (link, NULL);

  if (place == NULL || place[0] != '/')
    return cell_set_error (error, CELL_ERROR_REFUSED, "it is in no folder that can be looked at"), NULL;
  return g_steal_pointer (&place);
}

/* Nobody else can put another file there: each folder on the way is the user's or root's, and others can write to none, unless it
 * is sticky. */
static gboolean
check_way (const char *place, GError **error)
{
  g_autofree char *path = g_strdup (place);

  for (char *end; (end = strrchr (path, '/')) != path;)
    {
      *end = 0;
      if (!check_folder (path, error))
        return FALSE;
    }
  return check_folder ("/", error);
}

/* ret_links: where each link lies that the path leads over.  Where it leads to, or NULL: there are too many. */
static char *
follow (const char *path, GPtrArray *ret_links)
{
  g_autofree char *here = g_get_current_dir (), *left = g_path_is_absolute (path) ? g_strdup (path) : g_build_filename (here, path,
                                                                                                                        NULL);
  g_autofree char *at = g_strdup ("/");
  char *rest = left;

  for (char *part; (part = strsep (&rest, "/")) != NULL;)
    {
      gboolean up = g_str_equal (part, ".."), stay = *part == 0 || g_str_equal (part, ".");
      char *next = up ? g_path_get_dirname (at) : g_build_filename (at, stay ? NULL : part, NULL);
      g_autofree char *target = up || stay ? NULL : g_file_read_link (next, NULL);

      if (target != NULL)
        {
          rest = g_build_filename (target, rest, NULL);
          g_free (left);
          left = rest;
          g_ptr_array_add (ret_links, next);
          next = *target == '/' ? g_strdup ("/") : g_strdup (at);
        }
      g_free (at);
      at = next;
      if (ret_links->len > LINKS_MAX)
        return NULL;
    }
  return g_steal_pointer (&at);
}

char **
own_file_way (int fd, const char *path, GError **error)
{
  g_autoptr(GPtrArray) way = g_ptr_array_new_with_free_func (g_free);
  g_autofree char *place = place_of (fd, error), *end = place != NULL ? follow (path, way) : NULL;

  if (place == NULL || !check_way (place, error))
    return NULL;
  if (end == NULL)
    return cell_set_error (error, CELL_ERROR_REFUSED, "its path leads over more than %u links", LINKS_MAX), NULL;
  /* One that was put elsewhere meanwhile, or in whose place another one was put, does not lie where the path leads. */
  g_ptr_array_add (way, g_steal_pointer (&end));
  for (guint i = 0; i < way->len; i++)
    if (!check_way (way->pdata[i], error))
      return NULL;
  g_ptr_array_add (way, NULL);
  return (char **) g_ptr_array_steal (way, NULL);
}

gboolean
own_file_check_folders (int fd, GError **error)
{
  g_autofree char *place = place_of (fd, error);

  return place != NULL && check_way (place, error);
}

/* What it has become since it was looked at may be shorter or longer. */
static char *
read_all (int fd, gsize most, gsize *ret_length, GError **error)
{
  g_autofree char *text = NULL;
  gsize size = 0, at = 0;
  ssize_t n = 1;

  if (!own_file_check (fd, most, &size, error) || !own_file_check_folders (fd, error))
    return NULL;
  text = g_malloc (size + 1);
  while (at < size && n != 0)
    {
      n = read (fd, text + at, size - at);
      if (n < 0 && errno != EINTR)
        return cell_set_error (error, CELL_ERROR_REFUSED, "it cannot be read: %s", g_strerror (errno)), NULL;
      at += n > 0 ? (gsize) n : 0;
    }
  text[at] = 0;
  *ret_length = at;
  return g_steal_pointer (&text);
}

int
own_file_open (const char *path, GError **error)
{
  int fd = open (path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

  if (fd < 0 && errno != ENOENT)
    cell_set_error (error, CELL_ERROR_REFUSED, "%s: %s", path, g_strerror (errno));
  return fd;
}

char *
own_file_read_open (int fd, const char *path, gsize most, gsize *ret_length, GError **error)
{
  char *text = read_all (fd, most, ret_length, error);

  if (text == NULL)
    g_prefix_error (error, "%s: ", path);
  return text;
}

char *
own_file_read (const char *path, gsize most, gsize *ret_length, GError **error)
{
  int fd = own_file_open (path, error);
  char *text = fd >= 0 ? own_file_read_open (fd, path, most, ret_length, error) : NULL;

  if (fd >= 0)
    close (fd);
  return text;
}

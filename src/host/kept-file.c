/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include "kept-file.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* It is read whole from the file that was looked at. */
GBytes *
kept_file_read (const char *path, goffset most, gboolean *ret_there, GError **error)
{
  int fd = open (path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  guint8 *data = NULL;
  gsize at = 0, size;
  struct stat st;
  ssize_t n = 1;

  *ret_there = fd >= 0 || errno != ENOENT;
  if (!*ret_there)
    return NULL;
  /* A link, a socket: that is no file of ours.  Anything else says nothing of what is in it. */
  if (fd < 0 && errno != ELOOP && errno != ENXIO)
    {
      cell_set_error (error, CELL_ERROR_NO_RESOURCES, "it cannot be opened: %s", g_strerror (errno));
      return NULL;
    }
  if (fd < 0 || fstat (fd, &st) < 0 || !S_ISREG (st.st_mode) || st.st_uid != geteuid () || (st.st_mode & 077) != 0
      || st.st_size > most)
    {
      cell_set_error (error, CELL_ERROR_STATE, "it is not a file of this user's own that nobody else can write to");
      if (fd >= 0)
        close (fd);
      return NULL;
    }
  size = (gsize) st.st_size;
  data = g_malloc (size + 1);
  while (at < size && (n = read (fd, data + at, size - at)) > 0)
    at += (gsize) n;
  close (fd);
  if (at == size)
    return g_bytes_new_take (data, size);
  g_free (data);
  cell_set_error (error, CELL_ERROR_NO_RESOURCES, "it cannot be read: %s", n < 0 ? g_strerror (errno) : "it became shorter");
  return NULL;
}

/* GLib's own would wait for the disk whenever there is such a file already. */
static gboolean
write_beside (const char *path, const char *data, gsize size)
{
  g_autofree char *beside = g_strdup_printf ("%s.%d", path, (int) getpid ());
  int fd = open (beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  gsize at = 0;
  ssize_t n = 1;
  int wrong;

  while (fd >= 0 && at < size && (n = write (fd, data + at, size - at)) > 0)
    at += (gsize) n;
  if (fd >= 0 && close (fd) == 0 && at == size && g_rename (beside, path) == 0)
    return TRUE;
  wrong = errno;
  if (fd >= 0)
    unlink (beside);
  errno = wrong;
  return FALSE;
}

gboolean
kept_file_write (const char *path, const void *data, gsize size, gboolean durable, GError **error)
{
  g_autofree char *folder = g_path_get_dirname (path);
  g_autoptr(GError) wrong = NULL;

  if (g_mkdir_with_parents (folder, 0700) < 0)
    return cell_set_error (error, CELL_ERROR_NO_RESOURCES, "%s: %s", folder, g_strerror (errno));
  if (!durable)
    return write_beside (path, data, size) || cell_set_error (error, CELL_ERROR_NO_RESOURCES, "%s: %s", path, g_strerror (errno));
  /* A temporary file, fsync, rename, fsync of the folder: what was there before stays until the new one is whole. */
  if (g_file_set_contents_full (path, data, (gssize) size, G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE, 0600,
                                &wrong))
    return TRUE;
  return cell_set_error (error, CELL_ERROR_NO_RESOURCES, "%s", wrong->message);
}

GVariant *
kept_variant (const char *type, GBytes *bytes)
{
  g_autoptr(GVariant) variant = g_variant_ref_sink (g_variant_new_from_bytes (G_VARIANT_TYPE (type), bytes, FALSE));

  return g_variant_is_normal_form (variant) ? g_steal_pointer (&variant) : NULL;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "command.h"

static gboolean
fail (const char *path, gboolean reading, GError **error)
{
  int number = errno;
  g_autoptr(GError) why = g_error_new_literal (G_FILE_ERROR, g_file_error_from_errno (number), "");
  g_autofree char *shown = g_filename_display_name (path);

  return cell_set_error (error, cell_status_from_error (why),
                         reading ? _("%s cannot be read: %s") : _("%s cannot be written: %s"), shown, g_strerror (number));
}

static gboolean
read_stream (FILE *from, gsize limit, GByteArray *to)
{
  guint8 piece[65536];
  gsize n;

  while (to->len <= limit && (n = fread (piece, 1, sizeof piece, from)) > 0)
    g_byte_array_append (to, piece, (guint) n);
  return ferror (from) == 0;
}

GBytes *
read_file (const char *path, gsize limit, GError **error)
{
  gboolean standard = g_str_equal (path, "-");
  g_autoptr(GByteArray) bytes = g_byte_array_new ();
  FILE *from = standard ? stdin : fopen (path, "re");
  gboolean good = from != NULL && read_stream (from, limit, bytes);

  if (!good)
    fail (path, TRUE, error);
  if (from != NULL && !standard)
    fclose (from);
  if (!good)
    return NULL;
  if (bytes->len > limit)
    {
      cell_set_error (error, CELL_ERROR_TOO_LARGE, _("%s has more than the %u bytes that can be sent"), path, (guint) limit);
      return NULL;
    }
  return g_byte_array_free_to_bytes (g_steal_pointer (&bytes));
}

gboolean
check_writable (const char *path, GError **error)
{
  g_autofree char *folder = g_path_get_dirname (path);
  struct stat status;
  gboolean good = g_str_equal (path, "-");

  if (!good && stat (path, &status) == 0)
    {
      good = !S_ISDIR (status.st_mode) && faccessat (AT_FDCWD, path, W_OK, AT_EACCESS) == 0;
      if (S_ISDIR (status.st_mode))
        errno = EISDIR;
    }
  else if (!good && errno == ENOENT)
    good = faccessat (AT_FDCWD, folder, W_OK | X_OK, AT_EACCESS) == 0;
  return good || fail (path, FALSE, error);
}

gboolean
write_file (const char *path, gconstpointer data, gsize size, GError **error)
{
  gboolean standard = g_str_equal (path, "-");
  FILE *to = standard ? stdout : fopen (path, "we");
  gboolean good = to != NULL && (size == 0 || fwrite (data, 1, size, to) == size) && fflush (to) == 0;

  if (!good)
    fail (path, FALSE, error);
  if (to != NULL && !standard)
    fclose (to);
  return good;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "pictures.h"

#include <errno.h>
#include <gio/gio.h>
#include <glib/gi18n.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define THUMBNAIL ".cellhost-demo.png"   /* what the name of each ends with: so they are known again */
#define NAME_BYTES 200                  /* of a picture's name; some more fit into a folder */

static gboolean
ends_with (const char *name, const char *end)
{
  gsize n = strlen (name), m = strlen (end);

  return n >= m && g_ascii_strcasecmp (name + n - m, end) == 0;
}

static gboolean
is_picture (const char *name)
{
  static const char *const ends[] = { ".png", ".jpg", ".jpeg", ".gif", ".svg", ".svgz", ".webp", ".tif", ".tiff", ".bmp", ".ico",
                                      ".xpm" };

  for (guint i = 0; i < G_N_ELEMENTS (ends); i++)
    if (ends_with (name, ends[i]))
      return TRUE;
  return FALSE;
}

static void
look_into (const char *folder, GQueue *folders, GPtrArray *pictures, GPtrArray *unread)
{
  g_autoptr(GDir) dir = g_dir_open (folder, 0, NULL);
  const char *name;

  if (dir == NULL)
    g_ptr_array_add (unread, g_strdup (folder));
  while (dir != NULL && (name = g_dir_read_name (dir)) != NULL)
    {
      g_autofree char *path = g_build_filename (folder, name, NULL);
      struct stat about;

      if (lstat (path, &about) != 0)
        continue;
      if (S_ISDIR (about.st_mode))
        g_queue_push_tail (folders, g_steal_pointer (&path));
      else if (S_ISREG (about.st_mode) && is_picture (name))    /* a pipe of that name would be read for ever */
        g_ptr_array_add (pictures, g_steal_pointer (&path));
    }
}

static gint
by_name (gconstpointer a, gconstpointer b)
{
  return strcmp (*(const char *const *) a, *(const char *const *) b);
}

GPtrArray *
pictures_find (const char *folder, GPtrArray *unread, const gint *stop)
{
  GPtrArray *pictures = g_ptr_array_new_with_free_func (g_free);
  GQueue folders = G_QUEUE_INIT;

  g_queue_push_tail (&folders, g_strdup (folder));
  while (!g_queue_is_empty (&folders) && !g_atomic_int_get (stop))
    {
      g_autofree char *next = g_queue_pop_head (&folders);

      look_into (next, &folders, pictures, unread);
    }
  g_queue_clear_full (&folders, g_free);
  g_ptr_array_sort (pictures, by_name);
  return pictures;
}

gboolean
pictures_add_broken (GPtrArray *pictures, const char *folder, GError **error)
{
  const char *whole = g_ptr_array_index (pictures, 0);
  g_autofree char *cut = g_build_filename (folder, "cut-off.png", NULL), *text = g_build_filename (folder, "no-picture.jpg", NULL);
  g_autofree char *bytes = NULL;
  gsize size;

  for (guint i = 0; i < pictures->len; i++)
    if (ends_with (g_ptr_array_index (pictures, i), ".png"))
      {
        whole = g_ptr_array_index (pictures, i);
        break;
      }
  if (!g_file_get_contents (whole, &bytes, &size, error) || !g_file_set_contents (cut, bytes, (gssize) (size / 2), error)
      || !g_file_set_contents (text, "This is a sentence.\n", -1, error))
    return FALSE;
  g_ptr_array_insert (pictures, (gint) (pictures->len / 2), g_steal_pointer (&cut));
  g_ptr_array_add (pictures, g_steal_pointer (&text));
  return TRUE;
}

gboolean
thumbnails_make_folder (const char *folder, GError **error)
{
  g_autoptr(GDir) dir = NULL;
  const char *name;
  struct stat about;

  if (g_mkdir (folder, 0755) == 0)
    return TRUE;
  if (errno != EEXIST || lstat (folder, &about) != 0 || !S_ISDIR (about.st_mode) || about.st_uid != getuid ())
    {
      g_set_error (error, G_IO_ERROR, G_IO_ERROR_FAILED, _("%s cannot be made, or is not a folder of yours"), folder);
      return FALSE;
    }
  dir = g_dir_open (folder, 0, error);
  while (dir != NULL && (name = g_dir_read_name (dir)) != NULL)
    if (g_str_has_suffix (name, THUMBNAIL))
      {
        g_autofree char *path = g_build_filename (folder, name, NULL);

        g_unlink (path);
      }
  return dir != NULL;
}

char *
thumbnails_path (const char *folder, const char *picture, GHashTable *names)
{
  g_autofree char *base = g_path_get_basename (picture), *name = g_strndup (base, NAME_BYTES);
  guint n = GPOINTER_TO_UINT (g_hash_table_lookup (names, name)) + 1;

  g_hash_table_insert (names, g_strdup (name), GUINT_TO_POINTER (n));
  return n == 1 ? g_strdup_printf ("%s/%s" THUMBNAIL, folder, name) : g_strdup_printf ("%s/%s.%u" THUMBNAIL, folder, name, n);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "debugger.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define MODULE_NAME "/memfd:cell-module"       /* as the kernel shows what module-file.c makes */
#define MAP "%" G_GINT64_MODIFIER "x-%*x %*s %" G_GINT64_MODIFIER "x %*s %" G_GINT64_MODIFIER "u"
#define MODULES_MAX 256u                       /* one that was loaded stays: after as many swaps there are as many */

/* inode → path, of what a process has open; empty when it does not let us look. */
static GHashTable *
open_files (guint pid)
{
  GHashTable *files = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, g_free);
  g_autofree char *folder = g_strdup_printf ("/proc/%u/fd", pid);
  g_autoptr(GDir) dir = g_dir_open (folder, 0, NULL);
  const char *name;

  while (dir != NULL && (name = g_dir_read_name (dir)) != NULL)
    {
      g_autofree char *path = g_build_filename (folder, name, NULL);
      struct stat st;
      guint64 inode;

      if (stat (path, &st) < 0 || !S_ISREG (st.st_mode))
        continue;
      inode = st.st_ino;
      g_hash_table_replace (files, g_memdup2 (&inode, sizeof inode), g_steal_pointer (&path));
    }
  return files;
}

static void
add_command (GPtrArray *words, char *command)
{
  g_ptr_array_add (words, g_strdup ("-ex"));
  g_ptr_array_add (words, command);
}

/* A line of /proc/PID/maps: see proc_pid_maps(5). */
static void
add_module (GPtrArray *words, GHashTable *files, const char *line)
{
  guint64 start, offset, inode;
  const char *path;

  if (strstr (line, MODULE_NAME) == NULL || sscanf (line, MAP, &start, &offset, &inode) != 3 || offset != 0)
    return;
  path = g_hash_table_lookup (files, &inode);
  if (path != NULL)
    add_command (words, g_strdup_printf ("add-symbol-file %s -o 0x%" G_GINT64_MODIFIER "x", path, start));
}

static void
add_modules (GPtrArray *words, guint pid, guint host)
{
  g_autofree char *path = g_strdup_printf ("/proc/%u/maps", pid), *text = NULL;
  g_autoptr(GHashTable) files = open_files (host);
  g_auto(GStrv) lines = NULL;

  if (!g_file_get_contents (path, &text, NULL, NULL))
    return;                                     /* gdb will say why */
  lines = g_strsplit (text, "\n", -1);
  add_command (words, g_strdup ("set confirm off"));     /* it would ask of each */
  for (guint i = 0; lines[i] != NULL && words->len < 2 * MODULES_MAX; i++)
    add_module (words, files, lines[i]);
  add_command (words, g_strdup ("set confirm on"));
}

char **
debugger_words (guint pid, guint host)
{
  GPtrArray *words = g_ptr_array_new ();

  g_ptr_array_add (words, g_strdup ("gdb"));
  if (pid != host)
    {
      g_ptr_array_add (words, g_strdup ("-iex"));
      g_ptr_array_add (words, g_strdup_printf ("set sysroot /proc/%u/root", pid));
      g_ptr_array_add (words, g_strdup_printf ("/proc/%u/exe", pid));
    }
  g_ptr_array_add (words, g_strdup ("-p"));
  g_ptr_array_add (words, g_strdup_printf ("%u", pid));
  add_modules (words, pid, host);
  g_ptr_array_add (words, NULL);
  return (char **) g_ptr_array_free (words, FALSE);
}

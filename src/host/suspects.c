/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define G_LOG_DOMAIN "cellhost-suspects"
#include "suspects.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "kept-file.h"
#include "plugins/manifest.h"

#define FILE_MAX ((goffset) (1u << 20))
#define SUSPECTS_MAX 1000u              /* the oldest are forgotten */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;       /* between reading the file and writing it */

static gboolean
check_group (GKeyFile *file, const char *sha256)
{
  g_autofree char *name = g_key_file_get_string (file, sha256, "Name", NULL),
                  *why = g_key_file_get_string (file, sha256, "Why", NULL);

  return strlen (sha256) == 64 && strspn (sha256, "0123456789abcdef") == 64 && name != NULL && manifest_check_name (name, NULL)
         && why != NULL && g_utf8_validate (why, -1, NULL);
}

GKeyFile *
suspects_parse (const char *data, gsize size, GError **error)
{
  g_autoptr(GKeyFile) file = g_key_file_new ();
  g_auto(GStrv) groups = NULL;

  if (size > 0 && (memchr (data, 0, size) != NULL || !g_key_file_load_from_data (file, data, size, G_KEY_FILE_NONE, NULL)))
    {
      cell_set_error (error, CELL_ERROR_STATE, "it is damaged");
      return NULL;
    }
  groups = g_key_file_get_groups (file, NULL);
  for (guint i = 0; groups[i] != NULL; i++)
    if (!check_group (file, groups[i]))
      g_key_file_remove_group (file, groups[i], NULL);
  return g_steal_pointer (&file);
}

static char *
path_of (Host *host)
{
  return g_build_filename (host->config.state_dir, "suspects", NULL);
}

/* With the lock.  Whatever is wrong with it suspects nobody. */
static GKeyFile *
read_all (Host *host)
{
  g_autofree char *path = path_of (host);
  g_autoptr(GError) error = NULL;
  gboolean there = FALSE;
  g_autoptr(GBytes) bytes = kept_file_read (path, FILE_MAX, &there, &error);
  gsize size = 0;
  const char *data = bytes != NULL ? g_bytes_get_data (bytes, &size) : NULL;
  GKeyFile *file = error == NULL ? suspects_parse (data, size, &error) : NULL;

  if (file != NULL)
    return file;
  g_warning ("%s: %s; no cell is suspected", path, error->message);
  return g_key_file_new ();
}

/* With the lock. */
static void
write_all (Host *host, GKeyFile *file)
{
  g_autofree char *path = path_of (host), *text = NULL;
  g_autoptr(GError) error = NULL;
  gsize size;

  text = g_key_file_to_data (file, &size, NULL);
  if (size == 0)
    unlink (path);
  else if (!kept_file_write (path, text, size, TRUE, &error))
    g_warning ("it cannot be remembered which cells are suspected: %s", error->message);
}

void
suspects_add (Host *host, const CrashReport *report)
{
  const CrashCell *cell = &report->cells[0];
  g_autofree char *why = crash_report_text (report), *when = NULL;
  g_autoptr(GDateTime) now = g_date_time_new_now_utc ();
  g_autoptr(GKeyFile) file = NULL;
  g_auto(GStrv) groups = NULL;
  gsize n;

  if (host->config.state_dir == NULL)
    return;
  when = g_date_time_format_iso8601 (now);
  pthread_mutex_lock (&lock);
  file = read_all (host);
  g_key_file_remove_group (file, cell->sha256, NULL);   /* it becomes the newest */
  groups = g_key_file_get_groups (file, &n);
  for (gsize i = 0; n - i >= SUSPECTS_MAX; i++)
    g_key_file_remove_group (file, groups[i], NULL);
  g_key_file_set_string (file, cell->sha256, "Name", cell->name);
  g_key_file_set_string (file, cell->sha256, "Why", why);
  g_key_file_set_string (file, cell->sha256, "When", when);
  write_all (host, file);
  pthread_mutex_unlock (&lock);
}

/* NULL: it is not suspected. */
static char *
find (Host *host, const char *sha256)
{
  g_autoptr(GKeyFile) all = NULL;

  if (host->config.state_dir == NULL || *sha256 == 0)
    return NULL;
  pthread_mutex_lock (&lock);
  all = read_all (host);
  pthread_mutex_unlock (&lock);
  return g_key_file_get_string (all, sha256, "Why", NULL);
}

char *
suspects_why (Host *host, const char *sha256)
{
  g_autofree char *why = find (host, sha256);

  return why != NULL ? g_strdup_printf ("the host has crashed %s", why) : NULL;
}

gboolean
suspects_check (Host *host, const char *name, const ModuleFile *file, gboolean *ret_ejected, GError **error)
{
  g_autofree char *why = find (host, file->sha256);

  if (why == NULL)
    return TRUE;
  if (!sandbox_check (host_config_tools (&host->config), NULL))
    return cell_set_error (error, CELL_ERROR_UNSUPPORTED,
                           "cell %s is not loaded: the host has crashed %s, and there is no sandbox for it here; install "
                           "bubblewrap, or have it in the host all the same with 'cellctl absorb %s'", name, why, name);
  if (!*ret_ejected)
    g_warning ("cell %s is loaded into a sandbox: the host has crashed %s; a new build of it is not suspected, and 'cellctl absorb "
               "%s' trusts this one", name, why, name);
  *ret_ejected = TRUE;
  return TRUE;
}

gboolean
suspects_clear (Host *host, const char *name, const char *sha256)
{
  g_autoptr(GKeyFile) file = NULL;
  g_auto(GStrv) groups = NULL;
  gboolean found = FALSE;

  if (host->config.state_dir == NULL)
    return FALSE;
  pthread_mutex_lock (&lock);
  file = read_all (host);
  groups = g_key_file_get_groups (file, NULL);
  for (guint i = 0; groups[i] != NULL; i++)
    {
      g_autofree char *of_group = g_key_file_get_string (file, groups[i], "Name", NULL);

      if (g_strcmp0 (groups[i], sha256) != 0 && (name == NULL || g_strcmp0 (of_group, name) != 0))
        continue;
      found = TRUE;
      g_key_file_remove_group (file, groups[i], NULL);
    }
  if (found)
    write_all (host, file);
  pthread_mutex_unlock (&lock);
  return found;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#define G_LOG_DOMAIN "cellhost-trust"
#include "trust.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "kept-file.h"
#include "load.h"
#include "plugins/own-file.h"
#include "plugins/sandbox/granted.h"
#include "plugins/suggest.h"
#include "policy.h"

#define FILE_MAX ((goffset) (1u << 20))
#define TRUSTED_MAX 2000u               /* files, of paths that are not longer than usual */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;       /* between reading the file and writing it */

void
trusted_file_clear (TrustedFile *file)
{
  g_clear_pointer (&file->sha256, g_free);
  g_clear_pointer (&file->file, g_free);
  g_clear_pointer (&file->when, g_free);
}

static void
trusted_file_free (gpointer data)
{
  trusted_file_clear (data);
  g_free (data);
}

/* ---- the file --------------------------------------------------------------------------------------------- */

static gboolean
is_hash (const char *text)
{
  return strlen (text) == 64 && strspn (text, "0123456789abcdef") == 64;
}

/* A line of text that a terminal can be given. */
static gboolean
is_plain (const char *text)
{
  if (text == NULL || *text == 0 || !g_utf8_validate (text, -1, NULL))
    return FALSE;
  for (const char *at = text; *at != 0; at = g_utf8_next_char (at))
    if (g_unichar_iscntrl (g_utf8_get_char (at)))
      return FALSE;
  return TRUE;
}

static gboolean
check_group (GKeyFile *file, const char *group, GError **error)
{
  g_autofree char *name = g_key_file_get_string (file, group, "File", NULL),
                  *when = g_key_file_get_string (file, group, "When", NULL);
  gsize n_keys = 0;
  g_auto(GStrv) keys = g_key_file_get_keys (file, group, &n_keys, NULL);

  return (is_hash (group) && is_plain (name) && is_plain (when) && n_keys == 2)
         || cell_set_error (error, CELL_ERROR_STATE, "it is damaged: in it are hashes in hexadecimal, with File and When for each");
}

GKeyFile *
trust_parse (const char *data, gsize size, GError **error)
{
  g_autoptr(GKeyFile) file = g_key_file_new ();
  g_auto(GStrv) groups = NULL;
  gsize n = 0;

  if (size > 0 && (memchr (data, 0, size) != NULL || !g_key_file_load_from_data (file, data, size, G_KEY_FILE_NONE, NULL)))
    return cell_set_error (error, CELL_ERROR_STATE, "it is damaged"), NULL;
  groups = g_key_file_get_groups (file, &n);
  if (n > TRUSTED_MAX)
    return cell_set_error (error, CELL_ERROR_STATE, "it has %zu files; %u are the most", n, TRUSTED_MAX), NULL;
  for (gsize i = 0; i < n; i++)
    if (!check_group (file, groups[i], error))
      return NULL;
  return g_steal_pointer (&file);
}

/* Nobody else can have put another one in its place. */
static gboolean
check_folders (const char *path, GError **error)
{
  int fd = open (path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  gboolean good = fd < 0 || own_file_check_folders (fd, error);

  if (fd >= 0)
    close (fd);
  return good;
}

static GKeyFile *
read_all (const char *path, GError **error)
{
  gboolean there = FALSE;
  g_autoptr(GError) wrong = NULL;
  g_autoptr(GBytes) bytes = check_folders (path, &wrong) ? kept_file_read (path, FILE_MAX, &there, &wrong) : NULL;
  gsize size = 0;
  const char *data = bytes != NULL ? g_bytes_get_data (bytes, &size) : NULL;
  GKeyFile *file = wrong == NULL ? trust_parse (data, size, &wrong) : NULL;

  if (file == NULL)
    cell_set_error (error, cell_status_from_error (wrong), "%s: %s", path, wrong->message);
  return file;
}

static gboolean
write_all (const char *path, GKeyFile *file, GError **error)
{
  gsize size;
  g_autofree char *text = g_key_file_to_data (file, &size, NULL);

  return kept_file_write (path, text, size, TRUE, error);
}

/* With the lock: nobody else of this user's reads the file and writes it, either.  -1: error. */
static int
lock_folder (const char *path, GError **error)
{
  g_autofree char *folder = g_path_get_dirname (path);
  int fd = g_mkdir_with_parents (folder, 0700) == 0 ? open (folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

  if (fd < 0)
    cell_set_error (error, CELL_ERROR_NO_RESOURCES, "%s: %s", folder, g_strerror (errno));
  while (fd >= 0 && flock (fd, LOCK_EX) < 0 && errno == EINTR)
    continue;
  return fd;
}

static gboolean
change (Host *host, gboolean (*how) (GKeyFile *all, TrustedFile *of, GError **error), TrustedFile *of, GError **error)
{
  const char *path = host->config.trust_path;
  g_autoptr(GKeyFile) all = NULL;
  gboolean good;
  int folder;

  pthread_mutex_lock (&lock);
  folder = lock_folder (path, error);
  all = folder >= 0 ? read_all (path, error) : NULL;
  good = all != NULL && how (all, of, error) && write_all (path, all, error);
  if (folder >= 0)
    close (folder);
  pthread_mutex_unlock (&lock);
  return good;
}

/* ---- what that means ---------------------------------------------------------------------------------------- */

GKeyFile *
trust_read (Host *host)
{
  g_autoptr(GError) error = NULL;
  GKeyFile *all = read_all (host->config.trust_path, &error);

  if (all != NULL)
    return all;
  g_warning ("%s; no file is trusted", error->message);
  return g_key_file_new ();
}

static gboolean
is_trusted (Host *host, const Origin *origin, const char *sha256)
{
  g_autoptr(GKeyFile) all = NULL;

  if (origin->kind != ORIGIN_FOREIGN || origin->key_file)
    return origin->kind != ORIGIN_FOREIGN;
  all = trust_read (host);
  return g_key_file_has_group (all, sha256);
}

/* NULL: nowhere that a cell in a sandbox may write.  name: for people. */
static const char *
find_writer (Host *host, char **way, const char *name)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(Policy) policy = policy_load (host->config.system_policy_path, host->config.policy_path, &error);

  for (char **place = way; *place != NULL; place++)
    if (granted_has (*place) || (policy != NULL && policy_lets_write (policy, *place)))
      return place[1] != NULL ? "a link to it lies where a cell in a sandbox may write"
                              : "it lies where a cell in a sandbox may write";
  if (policy != NULL)
    return NULL;
  g_warning ("%s is taken for foreign, since it cannot be told where cells in sandboxes may write: %s", name, error->message);
  return "it may lie where a cell in a sandbox may write: the policy makes no sense";
}

static Origin
judge (Host *host, Origin origin, char **way, const char *name)
{
  const char *why = origin.kind == ORIGIN_OWN ? find_writer (host, way, name) : NULL;

  return why != NULL ? (Origin) { .kind = ORIGIN_FOREIGN, .why = why } : origin;
}

/* One that is not there says nothing. */
static Origin
judge_key_file (Host *host, const Manifest *manifest)
{
  return manifest->way != NULL ? judge (host, manifest->origin, manifest->way, manifest->path) : (Origin) { ORIGIN_OWN };
}

Manifest *
trust_load_key_file (Host *host, const char *path, GError **error)
{
  Manifest *manifest = manifest_load (path, error);

  if (manifest != NULL)
    manifest->origin = judge_key_file (host, manifest);
  return manifest;
}

gboolean
trust_check_gives (const Manifest *manifest, const char *name, GError **error)
{
  return manifest->origin.kind != ORIGIN_FOREIGN
         || cell_set_error (error, CELL_ERROR_DENIED,
                            "cell %s is given nothing by its key file %s, which is foreign (%s); move that to where only you write",
                            name, manifest->path, manifest->origin.why);
}

void
trust_find_origin (Host *host, ModuleFile *file, const Manifest *manifest)
{
  Origin of_key_file = judge_key_file (host, manifest);

  file->origin = judge (host, file->origin, file->way, file->name);
  if (of_key_file.kind == ORIGIN_FOREIGN)
    file->origin = (Origin) { ORIGIN_FOREIGN, of_key_file.why, TRUE };
}

/* What can be done about it.  file: what can be typed. */
static char *
advise (const Origin *origin, const char *file)
{
  return origin->key_file ? g_strdup ("move its key file to where only you write, or name the module instead")
                          : g_strdup_printf ("trust its file with 'cellctl trust %s'", file);
}

static const char *
whose (const Origin *origin)
{
  return origin->key_file ? "its key file: " : "";
}

const char *
trust_word (GKeyFile *trusted, const HostCellInfo *info)
{
  if (info->sha256[0] == 0)
    return "host";
  if (info->origin.kind == ORIGIN_SYSTEM)
    return "system";
  if (info->origin.kind == ORIGIN_OWN)
    return "own";
  return g_key_file_has_group (trusted, info->sha256) && !info->origin.key_file ? "trusted" : "foreign";
}

static gboolean
refuse (const char *name, const ModuleFile *file, const char *why, GError **error)
{
  g_autofree char *advice = advise (&file->origin, file->name);

  return cell_set_error (error, CELL_ERROR_UNSUPPORTED,
                         "cell %s is not loaded: %s is foreign (%s%s), and there is no sandbox for it here%s%s; %s, or install "
                         "bubblewrap and see what 'cellctl doctor' says", name, file->name, whose (&file->origin), file->origin.why,
                         why != NULL ? ": " : "", why != NULL ? why : "", advice);
}

gboolean
trust_check (Host *host, const char *name, const ModuleFile *file, gboolean *ret_ejected, GError **error)
{
  g_autofree char *advice = NULL;

  if (is_trusted (host, &file->origin, file->sha256))
    return TRUE;
  if (!sandbox_check (host_config_tools (&host->config), NULL))
    return refuse (name, file, NULL, error);
  advice = advise (&file->origin, file->name);
  if (!*ret_ejected)
    g_warning ("cell %s is loaded into a sandbox: %s is foreign (%s%s); %s", name, file->name, whose (&file->origin),
               file->origin.why, advice);
  *ret_ejected = TRUE;
  return TRUE;
}

void
trust_explain (Host *host, const char *name, const ModuleFile *file, GError **error)
{
  g_autoptr(GError) wrong = NULL;

  if (error == NULL || cell_status_from_error (*error) != CELL_ERROR_UNSUPPORTED || is_trusted (host, &file->origin, file->sha256))
    return;
  wrong = g_steal_pointer (error);
  refuse (name, file, wrong->message, error);
}

gboolean
trust_check_build (HostCell *cell, const ModuleFile *file, GError **error)
{
  g_autofree char *advice = advise (&file->origin, file->name);

  return is_trusted (cell->host, &file->origin, file->sha256)
         || cell_set_error (error, CELL_ERROR_DENIED,
                            "cell %s: %s is foreign (%s%s) and may not be in the host; 'cellctl eject %s' first, or %s",
                            cell->name, file->name, whose (&file->origin), file->origin.why, cell->name, advice);
}

gboolean
trust_check_cell (HostCell *cell, GError **error)
{
  g_autofree char *advice = NULL;
  HostCellInfo info;

  host_cell_describe (cell, &info);
  advice = advise (&info.origin, cell->name);
  return info.sha256[0] == 0 || is_trusted (cell->host, &info.origin, info.sha256)
         || cell_set_error (error, CELL_ERROR_DENIED, "cell %s is foreign (%s%s) and may not be in the host; %s first", cell->name,
                            whose (&info.origin), info.origin.why, advice);
}

/* ---- what the user says ------------------------------------------------------------------------------------- */

static char *
now_text (void)
{
  g_autoptr(GDateTime) now = g_date_time_new_now_utc ();

  return g_date_time_format_iso8601 (now);
}

/* As it can be written down and shown. */
static char *
plain_name (const char *path)
{
  char *name = g_utf8_make_valid (path, -1);

  for (char *c = name; *c != 0; c++)
    if (g_ascii_iscntrl (*c))
      *c = '?';
  return name;
}

/* A cell's own bytes, whatever its file has become. */
static gboolean
identify_cell (HostCell *cell, TrustedFile *ret, GError **error)
{
  HostCellInfo info;

  host_cell_describe (cell, &info);
  if (info.sha256[0] == 0)
    return cell_set_error (error, CELL_ERROR_UNSUPPORTED, "cell %s is a part of the host, and there is nothing to trust",
                           cell->name);
  pthread_mutex_lock (&cell->lock);
  ret->file = plain_name (cell->path);
  pthread_mutex_unlock (&cell->lock);
  ret->sha256 = g_strdup (info.sha256);
  return TRUE;
}

static gboolean
identify_file (const char *what, TrustedFile *ret, GError **error)
{
  g_autoptr(Manifest) manifest = manifest_find (what, error);
  g_auto(ModuleFile) file = MODULE_FILE_INIT;

  if (manifest == NULL || !module_file_open (&file, manifest->module, error))
    return FALSE;
  ret->file = plain_name (file.name);
  ret->sha256 = g_strdup (file.sha256);
  return TRUE;
}

/* Neither a cell nor a file: whoever has mistyped a cell's name is not told of folders. */
static gboolean
not_found (Host *host, const char *what, const GError *wrong, GError **error)
{
  g_autoptr(GPtrArray) cells = host_list (host), names = g_ptr_array_new ();
  const char *meant;

  for (guint i = 0; i < cells->len; i++)
    g_ptr_array_add (names, ((HostCell *) cells->pdata[i])->name);
  g_ptr_array_add (names, NULL);
  meant = suggest (what, (const char *const *) names->pdata);
  if (meant != NULL)
    return cell_set_error (error, CELL_ERROR_NOT_FOUND, "there is no cell %s; did you mean %s?", what, meant);
  return cell_set_error (error, CELL_ERROR_NOT_FOUND, "there is no cell %s, and %s", what, wrong->message);
}

static gboolean
identify (Host *host, const char *what, TrustedFile *ret, GError **error)
{
  g_autoptr(HostCell) cell = host_find (host, what, NULL);
  g_autoptr(GError) wrong = NULL;

  if (cell != NULL)
    return identify_cell (cell, ret, error);
  if (identify_file (what, ret, &wrong))
    return TRUE;
  if (cell_status_from_error (wrong) == CELL_ERROR_NOT_FOUND && manifest_check_name (what, NULL))
    return not_found (host, what, wrong, error);
  g_propagate_error (error, g_steal_pointer (&wrong));
  return FALSE;
}

static gboolean
put (GKeyFile *all, TrustedFile *of, GError **error)
{
  g_auto(GStrv) groups = NULL;
  gsize n;

  groups = g_key_file_get_groups (all, &n);
  if (n >= TRUSTED_MAX && !g_key_file_has_group (all, of->sha256))
    return cell_set_error (error, CELL_ERROR_NO_RESOURCES, "%u files are trusted, and that is the most", TRUSTED_MAX);
  g_key_file_set_string (all, of->sha256, "File", of->file);
  g_key_file_set_string (all, of->sha256, "When", of->when);
  return TRUE;
}

gboolean
trust_add (Host *host, const char *what, TrustedFile *ret, GError **error)
{
  g_auto(TrustedFile) file = { .when = now_text () };

  if (!identify (host, what, &file, error) || !change (host, put, &file, error))
    return FALSE;
  g_message ("%s is trusted (SHA-256 %s)", file.file, file.sha256);
  *ret = file;
  file = (TrustedFile) { 0 };
  return TRUE;
}

static gboolean
take_away (GKeyFile *all, TrustedFile *of, GError **error)
{
  if (!g_key_file_has_group (all, of->sha256))
    return cell_set_error (error, CELL_ERROR_NOT_FOUND,
                           "%s is not among the files that are trusted; 'cellctl trust --list' shows those",
                           of->file != NULL ? of->file : of->sha256);
  g_free (of->file);
  of->file = g_key_file_get_string (all, of->sha256, "File", NULL);
  of->when = g_key_file_get_string (all, of->sha256, "When", NULL);
  return g_key_file_remove_group (all, of->sha256, NULL);
}

gboolean
trust_remove (Host *host, const char *what, TrustedFile *ret, GError **error)
{
  g_auto(TrustedFile) file = { 0 };

  if (is_hash (what))
    file.sha256 = g_strdup (what);      /* the file may be gone */
  if ((file.sha256 == NULL && !identify (host, what, &file, error)) || !change (host, take_away, &file, error))
    return FALSE;
  g_message ("%s is not trusted any more (SHA-256 %s)", file.file, file.sha256);
  *ret = file;
  file = (TrustedFile) { 0 };
  return TRUE;
}

GPtrArray *
trust_list (Host *host, GError **error)
{
  g_autoptr(GKeyFile) all = read_all (host->config.trust_path, error);
  g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func (trusted_file_free);
  g_auto(GStrv) groups = NULL;

  if (all == NULL)
    return NULL;
  groups = g_key_file_get_groups (all, NULL);
  for (guint i = 0; groups[i] != NULL; i++)
    {
      TrustedFile *file = g_new0 (TrustedFile, 1);

      file->sha256 = g_strdup (groups[i]);
      file->file = g_key_file_get_string (all, groups[i], "File", NULL);
      file->when = g_key_file_get_string (all, groups[i], "When", NULL);
      g_ptr_array_add (list, file);
    }
  return g_steal_pointer (&list);
}

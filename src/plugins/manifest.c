/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "manifest.h"

#include <string.h>
#include <unistd.h>

#include "config.h"
#include "own-file.h"
#include "suggest.h"

#define NAME_MAX_LENGTH 63
#define DATA_FOLDER "cellhost/cells"              /* of $XDG_DATA_HOME and of each of $XDG_DATA_DIRS */

static const char *const restart_words[] = { "permanent", "transient", "temporary" };

void
manifest_free (Manifest *manifest)
{
  if (manifest == NULL)
    return;
  g_free (manifest->path);
  g_strfreev (manifest->way);
  g_free (manifest->name);
  g_free (manifest->module);
  g_free (manifest->interface);
  g_strfreev (manifest->calls);
  permits_clear (&manifest->permits);
  g_hash_table_unref (manifest->config);
  g_free (manifest);
}

gboolean
manifest_check_name (const char *name, GError **error)
{
  gsize length = strlen (name);
  g_autofree char *shown = g_strescape (name, NULL);

  if (length == 0 || length > NAME_MAX_LENGTH)
    return cell_set_error (error, CELL_ERROR_INVALID, "a cell's name has 1 to %d characters: '%.80s'", NAME_MAX_LENGTH, shown);
  for (gsize i = 0; i < length; i++)
    if (!g_ascii_isalpha (name[i]) && (i == 0 || (!g_ascii_isdigit (name[i]) && strchr ("-_.", name[i]) == NULL)))
      return cell_set_error (error, CELL_ERROR_INVALID,
                             "a cell cannot be called '%s': a letter, then letters, digits, '-', '_' and '.'", shown);
  return TRUE;
}

/* ---- what it says ----------------------------------------------------------------------------------- */

/* Where a sandbox has something of its own, nothing else can be. */
static gboolean
check_free (const char *path, GError **error)
{
  static const char *const taken[] = { "/bin", "/dev", "/lib", "/lib64", "/proc", "/run/cell-runner", "/tmp", "/usr", NULL };

  return (!permits_cover (taken, path) && !g_str_equal (path, "/") && !g_str_equal (path, "/run"))
         || cell_set_error (error, CELL_ERROR_INVALID, "%s is the sandbox's own", path);
}

static gboolean
check_permits (const Permits *permits, GError **error)
{
  for (PermitKind kind = 0; kind < PERMIT_DEVICES; kind++)
    for (char **path = permits->paths[kind]; path != NULL && *path != NULL; path++)
      if (!check_free (*path, error))
        return g_prefix_error (error, "%s: ", permits_key (kind)), FALSE;
  return TRUE;
}

/* A whole word of a group or key that nobody knows is a mistake that would otherwise go unseen.  Those of permits.h are taken. */
static gboolean
check_keys (GKeyFile *file, Permits *permits, GError **error)
{
  static const char *const known[] = { "Name", "Module", "Interface", "Restart", "RestartIntensity", "RestartWindow",
                                       "Watchdog", "Memory", "Strict",
                                       "Calls", NULL };
  g_auto (GStrv) groups = g_key_file_get_groups (file, NULL), keys = NULL;

  for (guint i = 0; groups[i] != NULL; i++)
    if (!g_str_equal (groups[i], "Cell") && !g_str_equal (groups[i], "Config"))
      return cell_set_error (error, CELL_ERROR_INVALID, "there is a group [%s]; [Cell] and [Config] are known", groups[i]);
  keys = g_key_file_get_keys (file, "Cell", NULL, NULL);
  for (guint i = 0; keys != NULL && keys[i] != NULL; i++)
    {
      gboolean is_known;

      if (!permits_take (permits, file, "Cell", keys[i], &is_known, error))
        return FALSE;
      if (!is_known && !g_strv_contains (known, keys[i]))
        return cell_set_error (error, CELL_ERROR_INVALID, "[Cell] has a key %s, which is not known", keys[i]);
    }
  return check_permits (permits, error);
}

static gboolean
read_restart (GKeyFile *file, Manifest *manifest, GError **error)
{
  g_autofree char *word = g_key_file_get_string (file, "Cell", "Restart", NULL);

  for (guint i = 0; word != NULL && i < G_N_ELEMENTS (restart_words); i++)
    if (g_str_equal (word, restart_words[i]))
      {
        manifest->restart = i;
        return TRUE;
      }
  return word == NULL || cell_set_error (error, CELL_ERROR_INVALID, "Restart is permanent, transient or temporary, not '%s'", word);
}

/* Digits and nothing else. */
static gboolean
read_number (GKeyFile *file, const char *key, guint least, guint most, guint unless_said, guint *ret, GError **error)
{
  g_autofree char *word = g_key_file_get_string (file, "Cell", key, NULL);
  guint64 value = unless_said;

  if (word != NULL && !g_ascii_string_to_unsigned (word, 10, least, most, &value, NULL))
    return cell_set_error (error, CELL_ERROR_INVALID, "%s is a number from %u to %u, not '%s'", key, least, most, word);
  *ret = (guint) value;
  return TRUE;
}

static gboolean
read_intensity (GKeyFile *file, Manifest *manifest, GError **error)
{
  return read_number (file, "RestartIntensity", 0, MANIFEST_INTENSITY_MAX, MANIFEST_INTENSITY, &manifest->restart_intensity, error)
         && read_number (file, "RestartWindow", 1, MANIFEST_WINDOW_MAX, MANIFEST_WINDOW, &manifest->restart_window, error);
}

static gboolean
read_bounds (GKeyFile *file, Manifest *manifest, GError **error)
{
  return read_number (file, "Watchdog", 1, MANIFEST_WATCHDOG_MAX, 0, &manifest->watchdog, error)
         && read_number (file, "Memory", MANIFEST_MEMORY_MIN, MANIFEST_MEMORY_MAX, 0, &manifest->memory, error);
}

static gboolean
read_flag (GKeyFile *file, const char *key, gboolean *ret, GError **error)
{
  g_autoptr (GError) local = NULL;

  if (!g_key_file_has_key (file, "Cell", key, NULL))
    return TRUE;
  *ret = g_key_file_get_boolean (file, "Cell", key, &local);
  return local == NULL || cell_set_error (error, CELL_ERROR_INVALID, "%s is true or false", key);
}

static gboolean
read_calls (GKeyFile *file, Manifest *manifest, GError **error)
{
  g_autoptr (GError) local = NULL;

  manifest->calls = g_key_file_get_string_list (file, "Cell", "Calls", NULL, &local);
  if (manifest->calls == NULL && g_key_file_has_key (file, "Cell", "Calls", NULL))
    return cell_set_error (error, CELL_ERROR_INVALID, "Calls: %s", local->message);
  for (guint i = 0; manifest->calls != NULL && manifest->calls[i] != NULL; i++)
    if (!manifest_check_name (g_strstrip (manifest->calls[i]), error))
      return g_prefix_error (error, "Calls: "), FALSE;
  return TRUE;
}

static gboolean
read_config (GKeyFile *file, Manifest *manifest, GError **error)
{
  g_auto (GStrv) keys = g_key_file_get_keys (file, "Config", NULL, NULL);

  for (guint i = 0; keys != NULL && keys[i] != NULL; i++)
    {
      g_autoptr (GError) local = NULL;
      char *value = g_key_file_get_string (file, "Config", keys[i], &local);

      if (value == NULL)
        return cell_set_error (error, CELL_ERROR_INVALID, "[Config] %s: %s", keys[i], local->message);
      if (!g_utf8_validate (keys[i], -1, NULL))
        {
          g_free (value);
          return cell_set_error (error, CELL_ERROR_INVALID, "[Config] %s: it is not UTF-8", keys[i]);
        }
      g_hash_table_insert (manifest->config, g_strdup (keys[i]), value);
    }
  return TRUE;
}

/* "dir/ledger.cell" → "ledger" */
static char *
stem_of (const char *path)
{
  char *base = g_path_get_basename (path);

  if (g_str_has_suffix (base, MANIFEST_SUFFIX))
    base[strlen (base) - strlen (MANIFEST_SUFFIX)] = '\0';
  return base;
}

static void
read_places (GKeyFile *file, const char *path, Manifest *manifest)
{
  g_autofree char *absolute = g_canonicalize_filename (path, NULL), *dir = g_path_get_dirname (absolute), *stem = stem_of (path);
  g_autofree char *module = g_key_file_get_string (file, "Cell", "Module", NULL);

  manifest->path = g_strdup (absolute);
  manifest->name = g_key_file_get_string (file, "Cell", "Name", NULL);
  if (manifest->name == NULL)
    manifest->name = g_strdup (stem);
  if (module == NULL)
    module = g_strconcat (stem, MODULE_SUFFIX, NULL);
  manifest->module = g_canonicalize_filename (module, dir);
  manifest->interface = g_key_file_get_string (file, "Cell", "Interface", NULL);
}

static Manifest *
parse (const char *path, const char *text, gsize length, GError **error)
{
  g_autoptr (GKeyFile) file = g_key_file_new ();
  g_autoptr (Manifest) manifest = g_new0 (Manifest, 1);
  g_autoptr (GError) local = NULL;

  manifest->config = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
  if (length > MANIFEST_MAX_SIZE)
    return cell_set_error (error, CELL_ERROR_INVALID, "it has %zu bytes; %u are the most", (size_t) length, MANIFEST_MAX_SIZE),
           NULL;
  if (length > 0 && !g_key_file_load_from_data (file, text, length, G_KEY_FILE_NONE, &local))
    return cell_set_error (error, CELL_ERROR_INVALID, "%s", local->message), NULL;
  if (!check_keys (file, &manifest->permits, error))
    return NULL;
  read_places (file, path, manifest);
  if (!manifest_check_name (manifest->name, error) || !read_restart (file, manifest, error)
      || !read_intensity (file, manifest, error) || !read_bounds (file, manifest, error)
      || !read_flag (file, "Strict", &manifest->strict, error) || !read_calls (file, manifest, error)
      || !read_config (file, manifest, error))
    return NULL;
  return g_steal_pointer (&manifest);
}

Manifest *
manifest_parse (const char *path, const char *text, gsize length, GError **error)
{
  g_autoptr (GError) local = NULL;
  Manifest *manifest = parse (path, text, length, &local);

  if (manifest == NULL)
    {
      g_autofree char *said = g_utf8_make_valid (local->message, -1);     /* what it quotes of the file may be anything */

      g_set_error (error, local->domain, local->code, "%s: %s", path, g_strdelimit (said, "\n\r\t", ' '));
    }
  return manifest;
}

/* ---- where it is -------------------------------------------------------------------------------------- */

static Manifest *
load_open (int fd, const char *path, GError **error)
{
  gsize length = 0;
  g_autofree char *text = own_file_read_open (fd, path, MANIFEST_MAX_SIZE, &length, error);
  g_autoptr (Manifest) manifest = text != NULL ? manifest_parse (path, text, length, error) : NULL;

  if (manifest == NULL)
    return NULL;
  manifest->way = own_file_way (fd, path, error);
  if (manifest->way == NULL)
    return g_prefix_error (error, "%s: ", path), NULL;
  manifest->origin = origin_of (fd, (const char *const *) manifest->way);
  return g_steal_pointer (&manifest);
}

Manifest *
manifest_load (const char *path, GError **error)
{
  g_autoptr (GError) local = NULL;
  int fd = own_file_open (path, &local);
  Manifest *manifest;

  if (local != NULL)
    return g_propagate_error (error, g_steal_pointer (&local)), NULL;
  if (fd < 0)
    return manifest_parse (path, "", 0, error);
  manifest = load_open (fd, path, error);
  close (fd);
  return manifest;
}

/* The manifest of a name in one folder; NULL without an error: it has neither a manifest nor a module of that name. */
static Manifest *
find_in (const char *dir, const char *name, GError **error)
{
  g_autofree char *manifest = g_strconcat (dir, G_DIR_SEPARATOR_S, name, MANIFEST_SUFFIX, NULL);
  g_autofree char *module = g_strconcat (dir, G_DIR_SEPARATOR_S, name, MODULE_SUFFIX, NULL);

  if (!g_file_test (manifest, G_FILE_TEST_EXISTS) && !g_file_test (module, G_FILE_TEST_EXISTS))
    return NULL;
  return manifest_load (manifest, error);
}

/* Where cells are looked for: what the user says, what is the user's own, and what is installed. */
static GPtrArray *
search_path (void)
{
  GPtrArray *dirs = g_ptr_array_new_with_free_func (g_free);
  const char *said = g_getenv ("CELL_PATH");
  g_auto (GStrv) first = g_strsplit (said != NULL ? said : "", G_SEARCHPATH_SEPARATOR_S, -1);
  const char *const *data_dirs = g_get_system_data_dirs ();

  for (guint i = 0; first[i] != NULL; i++)
    if (*first[i] != '\0')
      g_ptr_array_add (dirs, g_strdup (first[i]));
  g_ptr_array_add (dirs, g_build_filename (g_get_user_data_dir (), DATA_FOLDER, NULL));
  for (guint i = 0; data_dirs[i] != NULL; i++)
    g_ptr_array_add (dirs, g_build_filename (data_dirs[i], DATA_FOLDER, NULL));
  g_ptr_array_add (dirs, g_strdup (CELLDIR));
  return dirs;
}

/* The names of the cells in a folder; of one that has a key file twice. */
static void
add_names (const char *folder, GPtrArray *names)
{
  g_autoptr (GDir) dir = g_dir_open (folder, 0, NULL);
  const char *file;

  while (dir != NULL && (file = g_dir_read_name (dir)) != NULL)
    {
      const char *suffix = g_str_has_suffix (file, MODULE_SUFFIX) ? MODULE_SUFFIX : MANIFEST_SUFFIX;
      g_autofree char *name = g_str_has_suffix (file, suffix) ? g_strndup (file, strlen (file) - strlen (suffix)) : NULL;

      if (name != NULL && manifest_check_name (name, NULL))
        g_ptr_array_add (names, g_steal_pointer (&name));
    }
}

static gboolean
not_found (const char *name, GPtrArray *dirs, GError **error)
{
  g_autoptr (GPtrArray) names = g_ptr_array_new_with_free_func (g_free);
  g_autofree char *all = NULL;
  const char *meant;

  for (guint i = 0; i < dirs->len; i++)
    add_names (dirs->pdata[i], names);
  g_ptr_array_add (names, NULL);
  g_ptr_array_add (dirs, NULL);
  all = g_strjoinv (G_SEARCHPATH_SEPARATOR_S, (char **) dirs->pdata);
  meant = suggest (name, (const char *const *) names->pdata);
  return cell_set_error (error, CELL_ERROR_NOT_FOUND, "there is no %s%s and no %s%s in %s; %s%s%s", name, MODULE_SUFFIX, name,
                         MANIFEST_SUFFIX, all, meant != NULL ? "did you mean " : "what lies elsewhere is given with its path",
                         meant != NULL ? meant : "", meant != NULL ? "?" : "");
}

static Manifest *
find_by_name (const char *name, GError **error)
{
  g_autoptr (GPtrArray) dirs = NULL;
  g_autoptr (GError) local = NULL;

  if (!manifest_check_name (name, error))
    return NULL;
  dirs = search_path ();
  for (guint i = 0; i < dirs->len; i++)
    {
      Manifest *manifest = find_in (dirs->pdata[i], name, &local);

      if (manifest == NULL && local != NULL)
        return g_propagate_error (error, g_steal_pointer (&local)), NULL;
      if (manifest != NULL)
        return manifest;
    }
  return not_found (name, dirs, error), NULL;
}

Manifest *
manifest_find (const char *what, GError **error)
{
  g_autofree char *path = NULL;
  Manifest *manifest;

  if (strchr (what, G_DIR_SEPARATOR) == NULL && !g_str_has_suffix (what, MODULE_SUFFIX)
      && !g_str_has_suffix (what, MANIFEST_SUFFIX))
    return find_by_name (what, error);
  if (!g_file_test (what, G_FILE_TEST_EXISTS))
    return cell_set_error (error, CELL_ERROR_NOT_FOUND, "there is no file %s", what), NULL;
  if (!g_str_has_suffix (what, MODULE_SUFFIX) && !g_str_has_suffix (what, MANIFEST_SUFFIX))
    return cell_set_error (error, CELL_ERROR_INVALID, "%s: a cell's file is a module, NAME%s, or what is said of one, NAME%s", what,
                           MODULE_SUFFIX, MANIFEST_SUFFIX), NULL;
  if (!g_str_has_suffix (what, MODULE_SUFFIX))
    return manifest_load (what, error);
  path = g_strdup_printf ("%.*s%s", (int) (strlen (what) - strlen (MODULE_SUFFIX)), what, MANIFEST_SUFFIX);
  manifest = manifest_load (path, error);
  /* The file that was asked for, whatever the one beside it says. */
  if (manifest != NULL)
    {
      g_free (manifest->module);
      manifest->module = g_canonicalize_filename (what, NULL);
    }
  return manifest;
}

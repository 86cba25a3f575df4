/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define G_LOG_DOMAIN "cellhost-roster"
#include "roster.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "kept-file.h"
#include "plugins/manifest.h"

#define MAGIC "cellhost roster 1"
#define FILE_MAX ((goffset) (16u << 20))
#define ENTRIES_MAX 16384u
/* When it crashed; of each cell, in the order in which they were loaded: name, file, whether it is ejected, configuration. */
#define TYPE "(sxa(sayba{ss}))"

struct Roster
{
  pthread_mutex_t lock;
  char *path;                   /* NULL: it has no file */
  GHashTable *entries;          /* name → RosterEntry */
  guint64 last_number;
  gint64 crash;
  gboolean frozen, failed;
};

/* ---- entries ------------------------------------------------------------------------------------------------- */

static void
entry_free (gpointer data)
{
  RosterEntry *entry = data;

  g_free (entry->name);
  g_free (entry->file);
  g_hash_table_unref (entry->config);
  g_free (entry);
}

static RosterEntry *
entry_new (guint64 number, const char *name, const char *file, gboolean ejected, GHashTable *config)
{
  RosterEntry *entry = g_new0 (RosterEntry, 1);
  GHashTableIter iter;
  gpointer key, value;

  entry->name = g_strdup (name);
  /* A path is one from everywhere; anything else is a name that is looked for. */
  entry->file = strchr (file, '/') != NULL || g_str_has_suffix (file, MODULE_SUFFIX) || g_str_has_suffix (file, MANIFEST_SUFFIX)
                  ? g_canonicalize_filename (file, NULL) : g_strdup (file);
  entry->ejected = ejected;
  entry->number = number;
  entry->config = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
  if (config != NULL)
    g_hash_table_iter_init (&iter, config);
  while (config != NULL && g_hash_table_iter_next (&iter, &key, &value))
    g_hash_table_insert (entry->config, g_strdup (key), g_strdup (value));
  return entry;
}

static gint
by_number (gconstpointer a, gconstpointer b)
{
  guint64 x = (*(RosterEntry *const *) a)->number, y = (*(RosterEntry *const *) b)->number;

  return (x > y) - (x < y);
}

static GPtrArray *
list (Roster *roster)
{
  GPtrArray *all = g_ptr_array_new_with_free_func (entry_free);
  GHashTableIter iter;
  gpointer value;

  g_hash_table_iter_init (&iter, roster->entries);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    {
      const RosterEntry *entry = value;

      g_ptr_array_add (all, entry_new (entry->number, entry->name, entry->file, entry->ejected, entry->config));
    }
  g_ptr_array_sort (all, by_number);
  return all;
}

/* ---- the file ------------------------------------------------------------------------------------------------- */

static GVariant *
pack_entry (const RosterEntry *entry)
{
  g_auto(GVariantBuilder) config = G_VARIANT_BUILDER_INIT (G_VARIANT_TYPE ("a{ss}"));
  GHashTableIter iter;
  gpointer key, value;

  g_hash_table_iter_init (&iter, entry->config);
  while (g_hash_table_iter_next (&iter, &key, &value))
    g_variant_builder_add (&config, "{ss}", key, value);
  return g_variant_new ("(s^ayba{ss})", entry->name, entry->file, entry->ejected, &config);
}

static GVariant *
pack (Roster *roster)
{
  g_auto(GVariantBuilder) entries = G_VARIANT_BUILDER_INIT (G_VARIANT_TYPE ("a(sayba{ss})"));
  g_autoptr(GPtrArray) all = list (roster);

  for (guint i = 0; i < all->len; i++)
    g_variant_builder_add_value (&entries, pack_entry (g_ptr_array_index (all, i)));
  return g_variant_ref_sink (g_variant_new ("(sxa(sayba{ss}))", MAGIC, roster->crash, &entries));
}

/* With the lock.  Whoever loads or moves a cell does not wait for a disk, and does not fail for one. */
static void
write_down (Roster *roster)
{
  g_autoptr(GVariant) packed = NULL;
  g_autoptr(GError) error = NULL;

  if (roster->path == NULL || roster->frozen)
    return;
  packed = pack (roster);
  if (kept_file_write (roster->path, g_variant_get_data (packed), g_variant_get_size (packed), FALSE, &error))
    roster->failed = FALSE;
  else if (!roster->failed)
    {
      roster->failed = TRUE;
      g_warning ("what runs cannot be written down, and will not come back after a crash: %s", error->message);
    }
}

static gboolean
take_entry (Roster *roster, GVariant *packed, GError **error)
{
  g_autofree char *file = NULL;
  g_autoptr(GVariantIter) pairs = NULL;
  g_autoptr(GHashTable) config = g_hash_table_new (g_str_hash, g_str_equal);
  const char *name, *key, *value;
  gboolean ejected;

  g_variant_get (packed, "(&s^ayba{ss})", &name, &file, &ejected, &pairs);
  if (!manifest_check_name (name, error))
    return FALSE;
  if (*file == 0 || g_hash_table_contains (roster->entries, name))
    return cell_set_error (error, CELL_ERROR_STATE, "cell %s is there twice, or without a file", name);
  while (g_variant_iter_next (pairs, "{&s&s}", &key, &value))
    {
      /* A runner is told them as lines "key=value". */
      if (*key == 0 || strpbrk (key, "=\n") != NULL || strchr (value, '\n') != NULL)
        return cell_set_error (error, CELL_ERROR_STATE, "cell %s has a configuration that there cannot be", name);
      g_hash_table_replace (config, (char *) key, (char *) value);
    }
  g_hash_table_insert (roster->entries, g_strdup (name), entry_new (++roster->last_number, name, file, ejected, config));
  return TRUE;
}

static Roster *
roster_new (void)
{
  Roster *roster = g_new0 (Roster, 1);

  pthread_mutex_init (&roster->lock, NULL);
  roster->entries = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, entry_free);
  return roster;
}

static gboolean
take_all (Roster *roster, GBytes *bytes, GError **error)
{
  g_autoptr(GVariant) packed = kept_variant (TYPE, bytes), entries = NULL;
  const char *magic;

  if (packed == NULL)
    return cell_set_error (error, CELL_ERROR_STATE, "it is damaged");
  g_variant_get (packed, "(&sx@a(sayba{ss}))", &magic, &roster->crash, &entries);
  if (!g_str_equal (magic, MAGIC) || g_variant_n_children (entries) > ENTRIES_MAX)
    return cell_set_error (error, CELL_ERROR_STATE, "it is damaged, or of another version of this host");
  for (gsize i = 0; i < g_variant_n_children (entries); i++)
    {
      g_autoptr(GVariant) entry = g_variant_get_child_value (entries, i);

      if (!take_entry (roster, entry, error))
        return FALSE;
    }
  return TRUE;
}

Roster *
roster_parse (const void *data, gsize size, GError **error)
{
  g_autoptr(GBytes) bytes = g_bytes_new (data, size);
  Roster *roster = roster_new ();

  if (take_all (roster, bytes, error))
    return roster;
  roster_free (roster);
  return NULL;
}

Roster *
roster_open (const char *state_dir, const char *socket_path, GError **error)
{
  g_autofree char *sum = g_compute_checksum_for_string (G_CHECKSUM_SHA256, socket_path, -1);
  g_autofree char *base = g_strdup_printf ("%.16s.roster", sum), *path = g_build_filename (state_dir, base, NULL);
  g_autoptr(GError) wrong = NULL;
  gboolean there = FALSE;
  g_autoptr(GBytes) bytes = kept_file_read (path, FILE_MAX, &there, &wrong);
  gsize size = 0;
  const void *data = bytes != NULL ? g_bytes_get_data (bytes, &size) : NULL;
  Roster *roster = data != NULL ? roster_parse (data, size, &wrong) : NULL;

  if (roster == NULL)
    roster = roster_new ();
  roster->path = g_steal_pointer (&path);
  if (wrong != NULL)
    cell_set_error (error, CELL_ERROR_STATE, "%s: %s", roster->path, wrong->message);
  return roster;
}

void
roster_free (Roster *roster)
{
  if (roster == NULL)
    return;
  g_hash_table_unref (roster->entries);
  pthread_mutex_destroy (&roster->lock);
  g_free (roster->path);
  g_free (roster);
}

/* ---- what changes it ---------------------------------------------------------------------------------------- */

GPtrArray *
roster_list (Roster *roster)
{
  GPtrArray *all;

  pthread_mutex_lock (&roster->lock);
  all = list (roster);
  pthread_mutex_unlock (&roster->lock);
  return all;
}

void
roster_put (Roster *roster, const char *name, const char *file, gboolean ejected, GHashTable *config)
{
  const RosterEntry *old;

  if (roster == NULL)
    return;
  pthread_mutex_lock (&roster->lock);
  old = g_hash_table_lookup (roster->entries, name);
  g_hash_table_replace (roster->entries, g_strdup (name),
                        entry_new (old != NULL ? old->number : ++roster->last_number, name, file, ejected, config));
  write_down (roster);
  pthread_mutex_unlock (&roster->lock);
}

void
roster_move (Roster *roster, const char *name, gboolean ejected)
{
  RosterEntry *entry;

  if (roster == NULL)
    return;
  pthread_mutex_lock (&roster->lock);
  entry = g_hash_table_lookup (roster->entries, name);
  if (entry != NULL && entry->ejected != ejected)
    {
      entry->ejected = ejected;
      write_down (roster);
    }
  pthread_mutex_unlock (&roster->lock);
}

void
roster_remove (Roster *roster, const char *name)
{
  if (roster == NULL)
    return;
  pthread_mutex_lock (&roster->lock);
  if (g_hash_table_remove (roster->entries, name))
    write_down (roster);
  pthread_mutex_unlock (&roster->lock);
}

void
roster_delete (Roster *roster)
{
  if (roster == NULL)
    return;
  pthread_mutex_lock (&roster->lock);
  roster->frozen = TRUE;
  if (roster->path != NULL)
    unlink (roster->path);
  pthread_mutex_unlock (&roster->lock);
}

gint64
roster_get_crash (Roster *roster)
{
  return roster->crash;
}

void
roster_set_crash (Roster *roster, gint64 when)
{
  pthread_mutex_lock (&roster->lock);
  roster->crash = when;
  write_down (roster);
  pthread_mutex_unlock (&roster->lock);
}

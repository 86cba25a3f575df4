/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#define G_LOG_DOMAIN "cellhost-state"
#include "state-file.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>

#include "consumer.h"
#include "kept-file.h"
#include "plugins/state.h"

#define MAGIC "cellhost state 1"
#define FILE_MAX ((goffset) STATE_MAX_SIZE + (1 << 20)) /* whatever may be kept can be read; the rest is whose it is */
/* The checksum is of the bytes that follow it, which are: name, interface, fingerprint of the contract, ABI, version of the state,
 * and the state itself. */
#define OUTER "(ssay)"
#define INNER "(sstuuay)"

static char *
path_of (HostCell *cell)
{
  g_autofree char *base = g_strconcat (cell->name, ".state", NULL);

  return g_build_filename (cell->host->config.state_dir, base, NULL);
}

gboolean
state_file_is_wanted (const HostCell *cell)
{
  return cell->host->config.state_dir != NULL && !cell->is_host && cell->saves;
}

/* The lock is of the open file, so that it goes with the process, however that ends. */
gboolean
state_file_lock_folder (Host *host, GError **error)
{
  const char *folder = host->config.state_dir;
  g_autofree char *path = folder != NULL ? g_build_filename (folder, "lock", NULL) : NULL;
  struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

  if (folder == NULL)
    return TRUE;
  if (g_mkdir_with_parents (folder, 0700) == 0)
    host->state_lock = open (path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (host->state_lock < 0)
    return cell_set_error (error, CELL_ERROR_DENIED, "no states can be kept in %s: %s; choose another folder with --state-dir",
                           folder, g_strerror (errno));
  if (fcntl (host->state_lock, F_OFD_SETLK, &lock) == 0)
    return TRUE;
  return cell_set_error (error, CELL_ERROR_EXISTS,
                         "another host keeps its states in %s; give this one a folder of its own with --state-dir", folder);
}

/* ---- writing ------------------------------------------------------------------------------------------------- */

static GVariant *
bytes_variant (const void *data, gsize size)
{
  return g_variant_new_fixed_array (G_VARIANT_TYPE_BYTE, data, size, 1);
}

static GBytes *
pack (HostCell *cell, uint32_t version, GBytes *state)
{
  gsize size;
  const void *data = g_bytes_get_data (state, &size);
  g_autoptr(GVariant) inner = g_variant_ref_sink (
    g_variant_new ("(sstuu@ay)", cell->name, cell->contract->interface, (guint64) cell->contract->fingerprint,
                   (guint32) (CELL_ABI_MAJOR << 16 | CELL_ABI_MINOR), (guint32) version, bytes_variant (data, size)));
  g_autofree char *sum = g_compute_checksum_for_data (G_CHECKSUM_SHA256, g_variant_get_data (inner), g_variant_get_size (inner));
  g_autoptr(GVariant) outer = g_variant_ref_sink (
    g_variant_new ("(ss@ay)", MAGIC, sum, bytes_variant (g_variant_get_data (inner), g_variant_get_size (inner))));

  return g_variant_get_data_as_bytes (outer);
}

static gboolean
keep (HostCell *cell, uint32_t version, GBytes *state, GError **error)
{
  g_autofree char *path = path_of (cell);
  g_autoptr(GBytes) packed = NULL;
  const char *data;
  gsize size = g_bytes_get_size (state);

  if (size > STATE_MAX_SIZE)            /* it could not be read again */
    return cell_set_error (error, CELL_ERROR_TOO_LARGE, "cell %s: its state cannot be kept: it has %zu bytes, and %u are the most",
                           cell->name, size, STATE_MAX_SIZE);
  packed = pack (cell, version, state);
  data = g_bytes_get_data (packed, &size);
  if (kept_file_write (path, data, size, TRUE, error))
    return TRUE;
  g_prefix_error (error, "cell %s: its state cannot be kept: ", cell->name);
  return FALSE;
}

gboolean
state_file_keep (HostCell *cell, GError **error)
{
  Consumer consumer = { .instance = cell->instance, .child = cell->child };
  g_autoptr(GBytes) state = NULL;
  uint32_t version = 0;

  if (!state_file_is_wanted (cell))
    return TRUE;
  state = consumer_save (&consumer, cell, &version, error);
  return state != NULL && keep (cell, version, state, error);
}

gboolean
state_file_keep_saved (HostCell *cell, uint32_t version, GBytes *state, GError **error)
{
  return !state_file_is_wanted (cell) || keep (cell, version, state, error);
}

/* ---- reading ------------------------------------------------------------------------------------------------- */

/* Damaged: nobody can make anything of it.  It is renamed, so that the next start does without.  FALSE. */
static gboolean
set_aside (HostCell *cell, GError **error)
{
  g_autofree char *path = path_of (cell), *aside = NULL;
  g_autoptr(GDateTime) now = g_date_time_new_now_utc ();
  g_autofree char *stamp = g_date_time_format (now, "%Y%m%dT%H%M%S");

  aside = g_strdup_printf ("%s.bad-%s-%06d", path, stamp, g_date_time_get_microsecond (now));
  if (g_rename (path, aside) == 0)
    g_prefix_error (error, "%s was set aside as %s; the cell starts without it the next time: ", path, aside);
  else
    g_prefix_error (error, "%s cannot be set aside: %s: ", path, g_strerror (errno));
  return FALSE;
}

gboolean
state_file_leave (HostCell *cell, GError **error)
{
  g_autofree char *path = path_of (cell);

  g_prefix_error (error, "%s stays as it is; to begin without it move it away: ", path);
  return FALSE;
}

static GBytes *
bytes_of_child (GVariant *tuple, gsize n)
{
  g_autoptr(GVariant) child = g_variant_get_child_value (tuple, n);

  return g_variant_get_data_as_bytes (child);
}

static GVariant *
open_outer (GBytes *file, GError **error)
{
  g_autoptr(GVariant) outer = kept_variant (OUTER, file), inner = NULL;
  g_autoptr(GBytes) bytes = NULL;
  g_autofree char *sum = NULL;
  const char *magic, *said;

  if (outer == NULL)
    {
      cell_set_error (error, CELL_ERROR_STATE, "it is damaged, or not a cell's state");
      return NULL;
    }
  g_variant_get_child (outer, 0, "&s", &magic);
  g_variant_get_child (outer, 1, "&s", &said);
  bytes = bytes_of_child (outer, 2);
  sum = g_compute_checksum_for_bytes (G_CHECKSUM_SHA256, bytes);
  if (!g_str_equal (magic, MAGIC))
    cell_set_error (error, CELL_ERROR_STATE, "it is not a cell's state, or of another version of this host");
  else if (!g_str_equal (sum, said) || (inner = kept_variant (INNER, bytes)) == NULL)
    cell_set_error (error, CELL_ERROR_STATE, "it is damaged: its checksum does not fit");
  return g_steal_pointer (&inner);
}

/* Whose it is, for people: it may be anything. */
static gboolean
not_ours (const char *said_name, const char *said_interface, const char *name, const char *interface, GError **error)
{
  g_autofree char *shown_name = g_strescape (said_name, NULL), *shown_interface = g_strescape (said_interface, NULL);

  return cell_set_error (error, CELL_ERROR_STATE, "it is the state of %.80s, which is a %.80s; this is %s, a %s", shown_name,
                         shown_interface, name, interface);
}

gboolean
state_file_unpack (GBytes *file, const char *name, const char *interface, uint32_t *ret_version, GBytes **ret_state, GError **error)
{
  g_autoptr(GVariant) inner = open_outer (file, error);
  const char *said_name, *said_interface;
  guint32 abi, version;

  if (inner == NULL)
    return FALSE;
  g_variant_get (inner, "(&s&stuu@ay)", &said_name, &said_interface, NULL, &abi, &version, NULL);
  if (!g_str_equal (said_name, name) || !g_str_equal (said_interface, interface))
    return not_ours (said_name, said_interface, name, interface, error);
  if (abi >> 16 != CELL_ABI_MAJOR)
    return cell_set_error (error, CELL_ERROR_STATE, "it was saved by a cell of ABI %u; this is ABI %u", abi >> 16, CELL_ABI_MAJOR);
  *ret_version = version;
  *ret_state = bytes_of_child (inner, 5);
  return TRUE;
}

/* Or is no file of ours at all.  One that is whole, and another cell's, may be what somebody has for that one; and why one cannot
 * be read may pass. */
static gboolean
is_damaged (GBytes *file, const GError *error)
{
  g_autoptr(GVariant) inner = file != NULL ? open_outer (file, NULL) : NULL;

  return file != NULL ? inner == NULL : cell_status_from_error (error) == CELL_ERROR_STATE;
}

gboolean
state_file_read (HostCell *cell, uint32_t *ret_version, GBytes **ret_state, GError **error)
{
  g_autofree char *path = state_file_is_wanted (cell) ? path_of (cell) : NULL;
  g_autoptr(GBytes) file = NULL;
  gboolean there = FALSE;

  *ret_state = NULL;
  if (path != NULL)
    file = kept_file_read (path, FILE_MAX, &there, error);
  if (!there || (file != NULL && state_file_unpack (file, cell->name, cell->contract->interface, ret_version, ret_state, error)))
    return TRUE;
  return is_damaged (file, *error) ? set_aside (cell, error) : state_file_leave (cell, error);
}

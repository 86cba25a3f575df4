/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include "module-file.h"

#include <errno.h>
#include <fcntl.h>
#include <nettle/sha2.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "elf-look.h"
#include "entry-head.h"
#include "own-file.h"

static gboolean
fail_with_errno (GError **error, CellStatus status, const char *what)
{
  return cell_set_error (error, status, "%s: %s", what, g_strerror (errno));
}

static gboolean
write_all (int fd, const guint8 *bytes, gsize n, GError **error)
{
  while (n > 0)
    {
      ssize_t written = write (fd, bytes, n);

      if (written < 0 && errno == EINTR)
        continue;
      if (written <= 0)
        return fail_with_errno (error, CELL_ERROR_NO_RESOURCES, "its private copy cannot be written");
      bytes += written;
      n -= (gsize) written;
    }
  return TRUE;
}

/* Whatever the file becomes meanwhile, what is copied is what is hashed, looked at and loaded.  to: -1 if it cannot become anything
 * else. */
static gboolean
copy_bytes (int from, int to, ModuleFile *file, gsize size, GError **error)
{
  struct sha256_ctx hash;
  guint8 digest[SHA256_DIGEST_SIZE];
  g_autofree guint8 *buffer = g_malloc (65536);
  gsize done = 0;

  sha256_init (&hash);
  while (done < size)
    {
      ssize_t n = pread (from, buffer, MIN (size - done, 65536), (off_t) done);

      if (n < 0 && errno == EINTR)
        continue;
      if (n < 0)
        return fail_with_errno (error, CELL_ERROR_REFUSED, "it cannot be read");
      if (n == 0)
        return cell_set_error (error, CELL_ERROR_REFUSED, "it became shorter while it was read");
      if (to >= 0 && !write_all (to, buffer, (gsize) n, error))
        return FALSE;
      sha256_update (&hash, (size_t) n, buffer);
      done += (gsize) n;
    }
  file->size = size;
  sha256_digest (&hash, sizeof digest, digest);
  for (guint i = 0; i < sizeof digest; i++)
    g_snprintf (file->sha256 + 2 * i, 3, "%02x", digest[i]);
  return TRUE;
}

#define SEALS (F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL)

/* From here on nobody can write to it.  Mode 0500: what is handed to a child is looked at there as it was here. */
static gboolean
seal (ModuleFile *file, GError **error)
{
  if (fchmod (file->fd, 0500) == 0 && fcntl (file->fd, F_ADD_SEALS, SEALS) == 0)
    return TRUE;
  return fail_with_errno (error, CELL_ERROR_NO_RESOURCES, "its private copy cannot be sealed");
}

/* Such as the host hands to its children: in a sandbox no copy could be made. */
static gboolean
is_sealed (int fd)
{
  int seals = fcntl (fd, F_GET_SEALS);

  return seals >= 0 && (seals & SEALS) == SEALS;
}

static gboolean
make_copy (ModuleFile *file, int fd, GError **error)
{
  gsize size = 0;

  if (!own_file_check (fd, MODULE_MAX_SIZE, &size, error))
    return FALSE;
  if (is_sealed (fd))
    {
      file->fd = fcntl (fd, F_DUPFD_CLOEXEC, 3);
      return file->fd >= 0 ? copy_bytes (fd, -1, file, size, error)
                           : fail_with_errno (error, CELL_ERROR_NO_RESOURCES, "there is no descriptor for it");
    }
  file->fd = memfd_create ("cell-module", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (file->fd < 0)
    return fail_with_errno (error, CELL_ERROR_NO_RESOURCES, "there is no memory for a private copy");
  return copy_bytes (fd, file->fd, file, size, error) && seal (file, error);
}

static gboolean
copy (ModuleFile *file, int fd, const char *name, GError **error)
{
  *file = (ModuleFile) { .fd = -1, .name = g_strdup (name) };
  if (make_copy (file, fd, error))
    return TRUE;
  g_prefix_error (error, "%s: ", name);
  module_file_clear (file);
  return FALSE;
}

gboolean
module_file_copy (ModuleFile *file, const char *path, GError **error)
{
  int fd = open (path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  g_auto(GStrv) way = NULL;
  gboolean good;

  if (fd < 0)
    return cell_set_error (error, errno == ENOENT || errno == ENOTDIR ? CELL_ERROR_NOT_FOUND : CELL_ERROR_REFUSED, "%s: %s", path,
                           g_strerror (errno));
  way = own_file_way (fd, path, error);
  if (way == NULL)
    g_prefix_error (error, "%s: ", path);
  good = way != NULL && copy (file, fd, path, error);
  if (good)
    {
      file->origin = origin_of (fd, (const char *const *) way);
      file->way = g_steal_pointer (&way);
    }
  close (fd);
  return good;
}

gboolean
module_file_look (const ModuleFile *file, GError **error)
{
  void *bytes = file->size > 0 ? mmap (NULL, file->size, PROT_READ, MAP_PRIVATE, file->fd, 0) : NULL;
  const void *found;
  EntryHead head;
  gboolean good;

  if (bytes == MAP_FAILED)
    return cell_set_error (error, CELL_ERROR_NO_RESOURCES, "%s: its private copy cannot be mapped: %s", file->name,
                           g_strerror (errno));
  found = elf_look_at (bytes, file->size, CELL_ENTRY_SYMBOL, sizeof head, error);
  if (found != NULL)
    memcpy (&head, found, sizeof head);
  good = found != NULL && entry_check_head (&head, error);
  if (bytes != NULL)
    munmap (bytes, file->size);
  if (!good)
    g_prefix_error (error, "%s: ", file->name);
  return good;
}

gboolean
module_file_read (ModuleFile *file, int fd, const char *name, GError **error)
{
  if (!copy (file, fd, name, error))
    return FALSE;
  if (module_file_look (file, error))
    return TRUE;
  module_file_clear (file);
  return FALSE;
}

gboolean
module_file_open (ModuleFile *file, const char *path, GError **error)
{
  if (!module_file_copy (file, path, error))
    return FALSE;
  if (module_file_look (file, error))
    return TRUE;
  module_file_clear (file);
  return FALSE;
}

void
module_file_clear (ModuleFile *file)
{
  if (file->fd >= 0)
    close (file->fd);
  g_free (file->name);
  g_strfreev (file->way);
  *file = (ModuleFile) MODULE_FILE_INIT;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include "stats-page.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static gsize
size_for (guint n_callables)
{
  return MAX (n_callables, 1) * sizeof (MethodStats);
}

static gboolean
map (StatsPage *page, int fd, guint n_callables, int protection)
{
  void *at = mmap (NULL, size_for (n_callables), protection, MAP_SHARED, fd, 0);

  if (at == MAP_FAILED)
    return FALSE;
  page->stats = at;
  page->n = n_callables;
  return TRUE;
}

gboolean
stats_page_new (StatsPage *page, guint n_callables, GError **error)
{
  const int seals = F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;

  page->fd = memfd_create ("cell-statistics", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  /* All of it is there from the beginning: reading a hole may need memory, too. */
  if (page->fd >= 0 && fallocate (page->fd, 0, 0, (off_t) size_for (n_callables)) == 0 && fcntl (page->fd, F_ADD_SEALS, seals) == 0
      && map (page, page->fd, n_callables, PROT_READ))
    return TRUE;
  cell_set_error (error, CELL_ERROR_NO_RESOURCES, "no memory for statistics: %s", g_strerror (errno));
  stats_page_clear (page);
  return FALSE;
}

gboolean
stats_page_map (StatsPage *page, int fd, guint n_callables, GError **error)
{
  struct stat st;

  if (fstat (fd, &st) < 0 || st.st_size < (off_t) size_for (n_callables) || !map (page, fd, n_callables, PROT_READ | PROT_WRITE))
    return cell_set_error (error, CELL_ERROR_CORRUPT, "the memory for statistics is not what it should be");
  return TRUE;
}

void
stats_page_clear (StatsPage *page)
{
  if (page->stats != NULL)
    munmap (page->stats, size_for (page->n));
  if (page->fd >= 0)
    close (page->fd);
  *page = (StatsPage) STATS_PAGE_INIT;
}

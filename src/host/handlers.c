/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Handlers of signals that code in this process has installed, and whose that is.
 */
#define _GNU_SOURCE
#include "handlers.h"

#include <dlfcn.h>

#include "cell.h"
#include "crash-log.h"
#include "load.h"
#include "offence.h"

/* NULL: none that is here now. */
static HostCell *
cell_of_code (Host *host, const void *code)
{
  g_autoptr(GPtrArray) cells = host_list (host);
  Dl_info of_code, of_cell;

  for (guint i = 0; i < cells->len && code != NULL && dladdr (code, &of_code) != 0; i++)
    {
      HostCell *cell = g_ptr_array_index (cells, i);
      gboolean found = FALSE;

      if (cell->is_host || pthread_rwlock_tryrdlock (&cell->place) != 0)
        continue;                       /* it is moving, and may get another build */
      found = cell->module != NULL && dladdr (cell->module->entry, &of_cell) != 0 && of_cell.dli_fbase == of_code.dli_fbase;
      pthread_rwlock_unlock (&cell->place);
      if (found)
        return host_cell_ref (cell);
    }
  return NULL;
}

void
host_look_at_handlers (Host *host)
{
  const void *handler = NULL;
  g_autoptr(HostCell) cell = NULL;

  if (!crash_log_go_first (&handler))
    return;
  cell = cell_of_code (host, handler);
  offence_warn (host,
                "%s%s has changed, since it began, what becomes of signals that crashes are told by; the host's handlers come "
                "first again",
                cell != NULL ? "cell " : "a cell", cell != NULL ? cell->name : "");
}

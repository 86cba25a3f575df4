/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#define G_LOG_DOMAIN "cell"
#include "misuse.h"

#include <stdlib.h>

#include "loader.h"
#include "membrane/client.h"

#define REPORTS_MAX 64u                 /* of a host that is debugged */

enum
{
  DEBUG_THREADS = 1 << 0, DEBUG_FATAL = 1 << 1
};

static guint debug;
static _Atomic guint n_reports;

void
misuse_report (const char *cell, const char *function, const char *tag, const char *where, const void *from)
{
  guint n = n_reports++, most = debug != 0 ? REPORTS_MAX : 1;
  const char *file;

  if (n >= most)
    return;
  file = cell_module_file_at (from);
  if (file == NULL)
    file = "?";
  g_log_structured (G_LOG_DOMAIN, G_LOG_LEVEL_WARNING, "CELLHOST_CELL", cell != NULL ? cell : file,
                    "MESSAGE", "%s called %s, which is for %s only, %s; the call was refused%s",
                    cell != NULL ? cell : file, function, tag, where,
                    n + 1 < most ? "" : debug != 0 ? ", and more are not reported" : ", and so are others without a word");
  if (debug & DEBUG_FATAL)
    abort ();
}

static void
client_refused (const char *cell, const char *function, bool gone, const void *from)
{
  g_autofree char *name = g_strdup_printf ("client.%s", function);

  misuse_report (cell, name, "[cell]", gone ? MISUSE_GONE : MISUSE_THREAD, from);
}

static const GDebugKey keys[] = { { "threads", DEBUG_THREADS }, { "fatal", DEBUG_FATAL } };

gboolean
misuse_knows (const char *words)
{
  g_auto(GStrv) each = g_strsplit (words, ",", -1);
  gboolean known = TRUE;

  for (guint i = 0; each[i] != NULL && known; i++)
    {
      known = FALSE;
      for (guint k = 0; k < G_N_ELEMENTS (keys); k++)
        known |= g_str_equal (each[i], keys[k].key);
    }
  return known;
}

void
misuse_init (void)
{
  debug = g_parse_debug_string (g_getenv (MISUSE_DEBUG), keys, G_N_ELEMENTS (keys));
  client_on_refused = client_refused;
}

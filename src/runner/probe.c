/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "probe.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "membrane/endpoint.h"
#include "membrane/lanes.h"
#include "plugins/instance.h"
#include "plugins/probe-report.h"
#include "plugins/settings.h"

static G_GNUC_PRINTF (1, 2) void
report (const char *format, ...)
{
  g_autofree char *text = NULL, *line = NULL;
  va_list args;

  va_start (args, format);
  text = g_strdup_vprintf (format, args);
  va_end (args);
  line = g_strconcat (g_strdelimit (text, "\n", ' '), "\n", NULL);
  if (write (PROBE_REPORT, line, strlen (line)) < 0)
    _exit (1);                          /* nobody is there to hear it */
}

static void
log_nothing (void *data, int32_t level, const char *text)
{
  (void) data, (void) level, (void) text;       /* the cell will say it again */
}

/* NULL: that has been said. */
static GHashTable *
read_config (void)
{
  g_autofree char *bytes = g_malloc (SETTINGS_MAX_SIZE);
  ssize_t n = pread (PROBE_CONFIG, bytes, SETTINGS_MAX_SIZE, 0);
  g_autoptr(GError) error = NULL;
  GHashTable *config = settings_unpack (bytes, n > 0 ? (gsize) n : 0, &error);

  if (config == NULL)
    report (PROBE_REFUSED "%d %s", cell_status_from_error (error), error->message);
  return config;
}

static CellModule *
try_load (const char *name)
{
  g_autoptr(GError) error = NULL;
  CellModule *module;

  report (PROBE_STEP PROBE_LOAD);
  module = cell_module_load_fd (PROBE_MODULE, name, &error);
  if (module == NULL)
    report (PROBE_REFUSED "%d %s", cell_status_from_error (error), error->message);
  else
    report (PROBE_OK "%s %u", module->contract->interface, module->contract->version);
  return module;
}

/* Here is nobody to be called, as a cell may know by the status.  Who asks for others is not known by what becomes of it without
 * them. */
static bool
bind_nobody (void *data, const char *name, const CellRemote *remote, uint32_t *methods, uint32_t *signals, uint64_t *ret_cell,
             Fault *fault)
{
  gboolean *asked = data;

  (void) name, (void) remote, (void) methods, (void) signals, (void) ret_cell;
  *asked = TRUE;
  return fault_set (fault, CELL_ERROR_UNSUPPORTED, "it is alone here");
}

static void
try_cell (CellModule *module, const char *name, GHashTable *config)
{
  static Epoch epoch;
  Endpoint *endpoint = endpoint_new (&epoch, module->options->threading, lanes_kick_gate);
  static const ClientProvider nobody = { .bind = bind_nobody };
  static gboolean asked;
  const CellInstanceEnv env = { .endpoint = endpoint, .log = log_nothing, .clients = &nobody, .clients_data = &asked };
  g_autoptr(GError) error = NULL;
  CellInstance *instance;

  report (PROBE_STEP PROBE_START);
  instance = cell_instance_new (module, &env, name, config, &error);
  if (instance == NULL && !asked)
    report (PROBE_FAILED "%d %s", cell_status_from_error (error), error->message);
  else
    report (PROBE_OK "%s", instance == NULL ? error->message : "");
  if (instance == NULL)
    return;
  report (PROBE_STEP PROBE_END);
  cell_instance_free (instance);
  report (PROBE_OK);
}

int
probe_main (const char *name)
{
  g_autoptr(GHashTable) config = read_config ();
  g_autoptr(CellModule) module = NULL;

  for (int fd = PROBE_MODULE; fd <= PROBE_CONFIG; fd++)
    fcntl (fd, F_SETFD, FD_CLOEXEC);
  module = config != NULL ? try_load (name) : NULL;
  if (module != NULL)
    {
      try_cell (module, name, config);
      report (PROBE_DONE);
    }
  /* Not through what it has registered to be done at the end: the host would not do it either. */
  _exit (0);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#define G_LOG_DOMAIN "cellhost-probe"
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "child-log.h"
#include "plugins/probe-report.h"
#include "plugins/sandbox/sandbox.h"
#include "plugins/settings.h"
#include "probe-memory.h"
#include "process-end.h"

#define PROBE_MS 10000u         /* for the sandbox to be there, and then for each step */
#define STEPS_MAX 8u

typedef struct
{
  Process *process;             /* bubblewrap */
  int report;
  int last_word;
  guint ms;
  gint64 until;                 /* monotonic µs */
  GPtrArray *steps;
} Probe;

static void
step_free (ProbeStep *step)
{
  g_free (step->said);
  g_free (step);
}

GPtrArray *
probe_steps_new (void)
{
  return g_ptr_array_new_with_free_func ((GDestroyNotify) step_free);
}

static void
probe_clear (Probe *probe)
{
  g_clear_pointer (&probe->process, process_free);
  if (probe->report >= 0)
    close (probe->report);
  if (probe->last_word >= 0)
    close (probe->last_word);
  g_ptr_array_unref (probe->steps);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Probe, probe_clear)

/* ---- starting it ------------------------------------------------------------------------------------------ */

/* -1: it could not be made. */
static int
settings_fd (GBytes *settings)
{
  int fd = memfd_create ("cell-settings", MFD_CLOEXEC);
  gsize size;
  const void *data = g_bytes_get_data (settings, &size);

  if (fd >= 0 && write (fd, data, size) == (ssize_t) size)
    return fd;
  if (fd >= 0)
    close (fd);
  return -1;
}

static void
give_time (Probe *probe, guint ms)
{
  probe->until = g_get_monotonic_time () + (gint64) ms * 1000;
}

static gboolean
probe_start (Probe *probe, const HostConfig *config, const ModuleFile *file, const char *name, GHashTable *values, int log,
             GError **error)
{
  const char *const args[] = { "--probe", name, NULL };
  g_autoptr(GBytes) settings = settings_pack (values, error);
  int ends[2] = { -1, -1 }, module, with;

  if (settings == NULL)
    return FALSE;
  module = fcntl (file->fd, F_DUPFD_CLOEXEC, 3);
  with = settings_fd (settings);
  if (module < 0 || with < 0 || pipe2 (ends, O_CLOEXEC) < 0)
    {
      int number = errno;

      if (module >= 0)
        close (module);
      if (with >= 0)
        close (with);
      if (log >= 0)
        close (log);
      return cell_set_error (error, CELL_ERROR_NO_RESOURCES, "%s: no descriptors to try it with: %s", file->name,
                             g_strerror (number));
    }
  probe->report = ends[0];
  probe->ms = config->probe_ms != 0 ? config->probe_ms : PROBE_MS;
  give_time (probe, MAX (probe->ms, PROBE_MS));
  probe->process = sandbox_spawn (host_config_tools (config), NULL, args,
                                  (ProcessFd[]) { { module, PROBE_MODULE }, { ends[1], PROBE_REPORT }, { with, PROBE_CONFIG } }, 3,
                                  log, &probe->last_word, error);
  return probe->process != NULL;
}

/* ---- what it says ------------------------------------------------------------------------------------------- */

/* FALSE: the time has come. */
static gboolean
wait_for (const Probe *probe, int fd)
{
  struct pollfd poll_fd = { fd, POLLIN, 0 };
  int n;

  do
    {
      gint64 left = (probe->until - g_get_monotonic_time () + 999) / 1000;

      n = poll (&poll_fd, 1, (int) CLAMP (left, 0, G_MAXINT));
    }
  while (n < 0 && errno == EINTR);
  return n > 0;
}

static gboolean
has_line (const GString *text, const char *prefix)
{
  g_autofree char *begun = g_strconcat ("\n", prefix, NULL);

  return g_str_has_prefix (text->str, prefix) || strstr (text->str, begun) != NULL;
}

/* Up to what says how it came out, the end of the file, or the time. */
static GString *
read_report (Probe *probe)
{
  g_autoptr(GString) text = g_string_new (NULL);
  char chunk[1024];
  ssize_t n = 1;
  guint n_read = 0;

  while (n > 0 && text->len < PROBE_REPORT_MAX && !has_line (text, PROBE_DONE "\n")
         && !(has_line (text, PROBE_REFUSED) && g_str_has_suffix (text->str, "\n")) && wait_for (probe, probe->report))
    {
      n = read (probe->report, chunk, sizeof chunk);
      if (n_read++ < STEPS_MAX)
        give_time (probe, probe->ms);
      if (n > 0)
        g_string_append_len (text, chunk, (gssize) strnlen (chunk, (gsize) n));
    }
  return g_steal_pointer (&text);
}

static ProbeStep *
step_begin (GPtrArray *steps, const char *name)
{
  static const char *const known[] = { PROBE_LOAD, PROBE_START, PROBE_END };

  for (guint i = 0; i < G_N_ELEMENTS (known) && steps->len < STEPS_MAX; i++)
    if (g_str_equal (name, known[i]))
      {
        ProbeStep *step = g_new0 (ProbeStep, 1);

        step->name = known[i];
        step->said = g_strdup ("");
        g_ptr_array_add (steps, step);
        return step;
      }
  return NULL;
}

static void
step_say (ProbeStep *step, gboolean good, const char *said)
{
  if (step == NULL)
    return;
  step->good = good;
  g_free (step->said);
  step->said = g_strdup (said);
}

/* "-2 NAME: what is wrong" */
static const char *
read_wrong (const char *line, CellStatus *ret_status)
{
  long status = strtol (line, NULL, 10);
  const char *sentence = strstr (line, ": ");

  *ret_status = status < 0 && status > -100 ? (CellStatus) status : CELL_ERROR_REFUSED;
  return sentence != NULL ? sentence + 2 : line;
}

/* The loader's sentence.  There the file has the cell's name, here it has its own. */
static gboolean
refused (const char *file, const char *line, ProbeStep *step, GError **error)
{
  CellStatus status;
  const char *sentence = read_wrong (line, &status);

  step_say (step, FALSE, sentence);
  return cell_set_error (error, status, "%s: %s", file, sentence);
}

/* The cell's, which says it again where there is more to be had than in here. */
static void
failed (ProbeStep *step, const char *line)
{
  CellStatus status;
  const char *sentence = read_wrong (line, &status);

  step_say (step, FALSE, sentence);
  if (step != NULL)
    step->status = status;
}

/* bubblewrap ends as the runner did, or with 128 + the signal that it died of. */
static char *
how_it_ended (Probe *probe, gboolean *ret_late)
{
  int status;

  *ret_late = !wait_for (probe, process_get_pidfd (probe->process));
  if (*ret_late)
    return g_strdup_printf ("it did not end within %u.%u s", probe->ms / 1000, probe->ms % 1000 / 100);
  status = process_wait (probe->process);
  if (status == 128 + SIGSYS)
    {
      g_autofree char *forbidden = process_end_forbidden (probe->last_word);

      return g_strconcat ("it ", forbidden, NULL);
    }
  if (status > 128 && status < 128 + NSIG)
    return g_strdup_printf ("it crashed (%s)", strsignal (status - 128));
  return g_strdup_printf ("it ended its process (exit status %d)", status);
}

static const char *
meanwhile (const ProbeStep *step)
{
  if (g_str_equal (step->name, PROBE_START))
    return "while a cell was made of it";
  return g_str_equal (step->name, PROBE_END) ? "while the cell was ended" : "while its constructors ran";
}

/* It said nothing more.  ret_reason: what is to be remembered, if it is not the machine's fault. */
static gboolean
died (Probe *probe, const ModuleFile *file, ProbeStep *step, char **ret_reason, GError **error)
{
  g_autofree char *how = NULL, *reason = NULL;
  gboolean late;

  how = how_it_ended (probe, &late);
  if (step == NULL && late)
    return cell_set_error (error, CELL_ERROR_DEADLINE, "%s: no sandbox to try it in was there within %u s; try again", file->name,
                           PROBE_MS / 1000);
  if (step == NULL)
    return cell_set_error (error, CELL_ERROR_UNSUPPORTED,
                           "the sandbox does not start here: %s; 'bwrap --unshare-all --unshare-user "
                                                          "--ro-bind / / true' may say why", how);
  reason = g_strdup_printf ("%s %s", how, meanwhile (step));
  step_say (step, FALSE, how);
  cell_set_error (error, CELL_ERROR_REFUSED, "%s: when it was tried in a sandbox, %s", file->name, reason);
  if (!late)
    *ret_reason = g_steal_pointer (&reason);
  return FALSE;
}

/* What is no line of text that a terminal can be given is made one. */
static GStrv
split (const char *text, gsize size)
{
  g_autofree char *valid = g_utf8_make_valid (text, (gssize) size);

  for (char *c = valid; *c != 0; c++)
    if (g_ascii_iscntrl (*c) && *c != '\n')
      *c = ' ';
  return g_strsplit (valid, "\n", 4 * STEPS_MAX);
}

gboolean
probe_report_read (const char *text, gsize size, const char *file, GPtrArray *steps, GError **error)
{
  g_auto(GStrv) lines = split (text, size);
  ProbeStep *step = NULL;

  for (guint i = 0; lines[i] != NULL; i++)
    if (g_str_has_prefix (lines[i], PROBE_STEP))
      step = step_begin (steps, lines[i] + strlen (PROBE_STEP));
    else if (g_str_has_prefix (lines[i], PROBE_OK))
      step_say (step, TRUE, lines[i] + strlen (PROBE_OK));
    else if (g_str_has_prefix (lines[i], PROBE_FAILED))
      failed (step, lines[i] + strlen (PROBE_FAILED));
    else if (g_str_has_prefix (lines[i], PROBE_REFUSED))
      return refused (file, lines[i] + strlen (PROBE_REFUSED), step, error);
    else if (g_str_equal (lines[i], PROBE_DONE))
      return TRUE;
  return FALSE;
}

static gboolean
judge (Probe *probe, const ModuleFile *file, char **ret_reason, GError **error)
{
  g_autoptr(GString) text = read_report (probe);
  GError *wrong = NULL;

  if (probe_report_read (text->str, text->len, file->name, probe->steps, &wrong))
    return TRUE;
  if (wrong == NULL)
    return died (probe, file, probe->steps->len > 0 ? g_ptr_array_index (probe->steps, probe->steps->len - 1) : NULL, ret_reason,
                 error);
  g_propagate_error (error, wrong);
  return FALSE;
}

gboolean
probe_try (const HostConfig *config, const ModuleFile *file, const char *name, GHashTable *values, int log, GPtrArray **ret_steps,
           GError **error)
{
  g_auto(Probe) probe = { .report = -1, .last_word = -1, .steps = probe_steps_new () };
  g_autofree char *key = probe_memory_key (file, values), *reason = NULL;
  gboolean good = probe_start (&probe, config, file, name, values, log, error) && judge (&probe, file, &reason, error);

  if (good || reason != NULL)
    probe_memory_write (config, key, reason);
  if (ret_steps != NULL)
    *ret_steps = g_ptr_array_ref (probe.steps);
  return good;
}

/* ---- unless it is known --------------------------------------------------------------------------------------- */

static void
say_untried (const char *why)
{
  static gsize said;

  if (!g_once_init_enter (&said))
    return;
  g_warning ("%s: cells are loaded without being tried first", why);
  g_once_init_leave (&said, 1);
}

/* A sandbox that does not start says nothing of the file: then it is as if there were none. */
static gboolean
try_it (const HostConfig *config, const ModuleFile *file, const char *name, GHashTable *values, GError **error)
{
  g_autoptr(GPtrArray) steps = NULL;
  g_autoptr(GError) wrong = NULL;

  if (probe_try (config, file, name, values, child_log_open (name, NULL), &steps, &wrong))
    return TRUE;
  if (steps->len > 0 || cell_status_from_error (wrong) != CELL_ERROR_UNSUPPORTED)
    {
      g_propagate_error (error, g_steal_pointer (&wrong));
      return FALSE;
    }
  say_untried (wrong->message);
  return TRUE;
}

gboolean
probe_file (const HostConfig *config, const ModuleFile *file, const char *name, GHashTable *values, GError **error)
{
  g_autofree char *key = NULL, *known = NULL;

  if (config->bwrap_path == NULL)
    {
      say_untried ("there is no sandbox here (install bubblewrap)");
      return TRUE;
    }
  key = probe_memory_key (file, values);
  if (!probe_memory_read (config, key, &known))
    return try_it (config, file, name, values, error);
  return known == NULL
         || cell_set_error (error, CELL_ERROR_REFUSED, "%s: when it was tried in a sandbox, %s; 'cellctl validate' tries it again",
                            file->name, known);
}

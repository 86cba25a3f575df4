/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "validate.h"

#include <string.h>

#include "host.h"
#include "plugins/manifest.h"
#include "plugins/probe-report.h"
#include "probe.h"

static void
rule_free (ValidateRule *rule)
{
  g_free (rule->said);
  g_free (rule);
}

/* error: why it is broken, or NULL; taken.  TRUE: it is kept. */
static G_GNUC_PRINTF (4, 5) gboolean
say (GPtrArray *rules, const char *name, GError *error, const char *format, ...)
{
  ValidateRule *rule = g_new0 (ValidateRule, 1);
  va_list args;

  *rule = (ValidateRule) { .rule = name, .status = cell_status_from_error (error) };
  va_start (args, format);
  rule->said = error != NULL ? g_strdup (error->message) : g_strdup_vprintf (format, args);
  va_end (args);
  g_clear_error (&error);
  g_ptr_array_add (rules, rule);
  return rule->status == CELL_OK;
}

/* What the command line says goes before what the key file says. */
static GHashTable *
merged (Manifest *manifest, GHashTable *values)
{
  GHashTable *all = g_hash_table_ref (manifest->config);
  GHashTableIter iter;
  gpointer key, value;

  if (values != NULL)
    {
      g_hash_table_iter_init (&iter, values);
      while (g_hash_table_iter_next (&iter, &key, &value))
        g_hash_table_insert (all, g_strdup (key), g_strdup (value));
    }
  return all;
}

static const ProbeStep *
find_step (GPtrArray *steps, const char *name)
{
  for (guint i = 0; i < steps->len; i++)
    if (g_str_equal (((const ProbeStep *) steps->pdata[i])->name, name))
      return steps->pdata[i];
  return NULL;
}

/* "org.example.Ledger 1" is what the file says that it is. */
static gboolean
check_interface (GPtrArray *rules, const Manifest *manifest, const char *offered)
{
  const char *end = strrchr (offered, ' ');
  g_autofree char *interface = g_strndup (offered, end != NULL ? (gsize) (end - offered) : strlen (offered));
  GError *error = NULL;

  if (manifest->interface == NULL)
    return TRUE;
  if (!g_str_equal (interface, manifest->interface))
    cell_set_error (&error, CELL_ERROR_CONTRACT, "it offers %s; its key file wants Interface=%s", interface, manifest->interface);
  return say (rules, "interface", error, "%s, as the key file wants", interface);
}

static void
check_code (GPtrArray *rules, const HostConfig *config, const ModuleFile *file, const Manifest *manifest, GHashTable *values)
{
  static const char *const names[] = { PROBE_LOAD, PROBE_START, PROBE_END };
  static const char *const nothing[] = { "", "a cell was made of it", "and ended" };
  g_autoptr(GPtrArray) steps = NULL;
  GError *error = NULL;

  probe_try (config, file, manifest->name, values, -1, &steps, &error);
  for (guint i = 0; i < G_N_ELEMENTS (names); i++)
    {
      const ProbeStep *step = find_step (steps, names[i]);

      if (step == NULL)
        break;
      if (!step->good && error == NULL)
        cell_set_error (&error, step->status, "%s", step->said);
      if (!step->good)
        {
          say (rules, step->name, g_steal_pointer (&error), "%s", step->said);
          return;
        }
      say (rules, step->name, NULL, "%s%s", i > 0 && *step->said != 0 ? "it does not start where it is alone: " : "",
           *step->said != 0 ? step->said : nothing[i]);
      if (i == 0 && !check_interface (rules, manifest, step->said))
        break;
    }
  if (error != NULL)
    say (rules, "sandbox", g_steal_pointer (&error), "%s", "");
}

static gboolean
say_key_file (GPtrArray *rules, GError *error, const Manifest *manifest)
{
  const char *why = manifest != NULL ? manifest->origin.why : NULL;

  return say (rules, "key file", error, "%s%s%s", manifest == NULL ? "" : manifest->way != NULL ? manifest->path : "there is none",
              why != NULL ? "; foreign: " : "", why != NULL ? why : "");
}

GPtrArray *
validate_file (const char *path, GHashTable *values)
{
  g_auto(HostConfig) config = { 0 };
  GPtrArray *rules = g_ptr_array_new_with_free_func ((GDestroyNotify) rule_free);
  g_autoptr(Manifest) manifest = NULL;
  g_autoptr(GHashTable) all = NULL;
  g_auto(ModuleFile) file = MODULE_FILE_INIT;
  GError *error = NULL;

  host_config_find_programs (&config);
  manifest = manifest_find (path, &error);
  if (!say_key_file (rules, error, manifest))
    return rules;
  all = merged (manifest, values);
  error = NULL;
  module_file_copy (&file, manifest->module, &error);
  if (!say (rules, "file", error, "%s, %" G_GSIZE_FORMAT " bytes%s%s", manifest->module, file.size,
            file.origin.why != NULL ? "; foreign: " : "", file.origin.why != NULL ? file.origin.why : ""))
    return rules;
  error = NULL;
  module_file_look (&file, &error);
  if (say (rules, "code", error, "a shared library for this machine, for ABI %d.%d", CELL_ABI_MAJOR, CELL_ABI_MINOR))
    check_code (rules, &config, &file, manifest, all);
  return rules;
}

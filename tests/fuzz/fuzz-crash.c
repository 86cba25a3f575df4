/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Any bytes as what a host has left: a crash, a roster or a list of suspects, chosen by the first byte.  Refused, or everything in
 * it is what the rest of the host takes for granted.
 */
#include <string.h>

#include "host/crash-log.h"
#include "host/roster.h"
#include "host/suspects.h"
#include "plugins/manifest.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

static void
check_crash (const uint8_t *data, size_t size)
{
  CrashReport report;
  g_autofree char *text = NULL;

  if (!crash_report_parse (data, size, &report, NULL))
    return;
  g_assert_cmpuint (report.n_cells, <=, TRAIL_MAX);
  for (guint i = 0; i < report.n_cells; i++)
    g_assert_true (report.cells[i].name[0] == 0 || manifest_check_name (report.cells[i].name, NULL));
  text = crash_report_text (&report);
  g_assert_true (g_utf8_validate (text, -1, NULL) && strchr (text, '\n') == NULL);
}

static void
check_roster (const uint8_t *data, size_t size)
{
  g_autoptr(GError) error = NULL;
  Roster *roster = roster_parse (data, size, &error);
  g_autoptr(GPtrArray) entries = roster != NULL ? roster_list (roster) : NULL;

  g_assert_true ((roster == NULL) == (error != NULL));
  for (guint i = 0; entries != NULL && i < entries->len; i++)
    {
      const RosterEntry *entry = g_ptr_array_index (entries, i);

      g_assert_true (manifest_check_name (entry->name, NULL) && *entry->file != 0);
    }
  roster_free (roster);
}

static void
check_suspects (const uint8_t *data, size_t size)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(GKeyFile) file = suspects_parse ((const char *) data, size, &error);
  g_auto(GStrv) groups = file != NULL ? g_key_file_get_groups (file, NULL) : NULL;

  g_assert_true ((file == NULL) == (error != NULL));
  for (guint i = 0; groups != NULL && groups[i] != NULL; i++)
    {
      g_autofree char *name = g_key_file_get_string (file, groups[i], "Name", NULL);

      g_assert_true (strlen (groups[i]) == 64 && manifest_check_name (name, NULL));
    }
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  static void (*const checks[]) (const uint8_t *, size_t) = { check_crash, check_roster, check_suspects };

  if (size > 0)
    checks[data[0] % G_N_ELEMENTS (checks)] (data + 1, size - 1);
  return 0;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Any bytes as what the process says in which a file is tried: the file is good, or not, for a reason that is one sentence; and the
 * steps are those that there are.
 */
#include <string.h>

#include "host/probe.h"
#include "plugins/probe-report.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

static void
assert_line (const char *text)
{
  g_assert_true (g_utf8_validate (text, -1, NULL));
  for (const char *c = text; *c != 0; c++)
    g_assert_false (g_ascii_iscntrl (*c));
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  g_autoptr (GPtrArray) steps = probe_steps_new ();
  g_autoptr (GError) error = NULL;
  gboolean good = probe_report_read ((const char *) data, size, "it.so", steps, &error);

  g_assert_cmpuint (steps->len, <=, 8);
  for (guint i = 0; i < steps->len; i++)
    {
      const ProbeStep *step = g_ptr_array_index (steps, i);

      g_assert_true (g_strv_contains ((const char *const[]){ PROBE_LOAD, PROBE_START, PROBE_END, NULL }, step->name));
      assert_line (step->said);
    }
  if (error == NULL)
    return 0;
  g_assert_false (good);
  g_assert_true (error->domain == CELL_ERROR_DOMAIN && error->code > 0 && g_str_has_prefix (error->message, "it.so: "));
  assert_line (error->message);
  return 0;
}

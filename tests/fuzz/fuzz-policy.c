/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Any bytes as a policy, after one that makes sense: refused with one sentence that names the file, or what it says of any cell is
 * names of cells and a role that there is.
 */
#include <string.h>

#include "host/policy.h"
#include "plugins/manifest.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

static void
look_at (const Policy *policy, const char *cell)
{
  const char *const *calls = policy_get_calls (policy, cell);

  g_assert_cmpstr (policy_role_word (policy_get_role (policy, cell)), !=, "?");
  for (PermitKind kind = 0; kind < PERMIT_KINDS; kind++)
    for (const char *const *path = policy_get_paths (policy, cell, kind); path != NULL && *path != NULL; path++)
      g_assert_true (g_path_is_absolute (*path) && strstr (*path, "/../") == NULL && g_utf8_validate (*path, -1, NULL));
  for (guint i = 0; calls != NULL && calls[i] != NULL; i++)
    g_assert_true (manifest_check_name (calls[i], NULL));
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  static const char before[] = "[Default]\nCalls=ledger\n[Cell trader]\nRole=view\n";
  g_autoptr (GError) error = NULL;
  g_autoptr (Policy) policy = policy_new ();

  g_assert_true (policy_add (policy, "/etc/policy", before, strlen (before), NULL));
  if (policy_add (policy, "/home/policy", (const char *) data, size, &error))
    {
      g_assert_no_error (error);
      look_at (policy, "trader");
      look_at (policy, "a.b-c_1");
      look_at (policy, "nobody");
      return 0;
    }
  g_assert_true (error != NULL && error->domain == CELL_ERROR_DOMAIN && g_utf8_validate (error->message, -1, NULL));
  g_assert_true (g_str_has_prefix (error->message, "/home/policy: ") && strchr (error->message, '\n') == NULL);
  return 0;
}

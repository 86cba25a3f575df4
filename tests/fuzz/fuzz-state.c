/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Any bytes as what was kept of a cell: refused with one sentence, or a version and bytes.  The first byte says whether they are
 * the file, or what its checksum is of, so that there is more than the first check.
 */
#include <string.h>

#include "host/state-file.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

static GBytes *
as_file (const uint8_t *data, size_t size)
{
  g_autofree char *sum = g_compute_checksum_for_data (G_CHECKSUM_SHA256, data, size);
  g_autoptr (GVariant) outer = g_variant_ref_sink (
    g_variant_new ("(ss@ay)", "cellhost state 1", sum, g_variant_new_fixed_array (G_VARIANT_TYPE_BYTE, data, size, 1)));

  return g_variant_get_data_as_bytes (outer);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  g_autoptr (GBytes) file = NULL, state = NULL;
  g_autoptr (GError) error = NULL;
  uint32_t version = 0;

  if (size == 0)
    return 0;
  file = data[0] % 2 == 0 ? as_file (data + 1, size - 1) : g_bytes_new (data + 1, size - 1);
  if (state_file_unpack (file, "ledger", "org.example.Ledger", &version, &state, &error))
    {
      g_assert_no_error (error);
      g_assert_cmpuint (g_bytes_get_size (state), <=, g_bytes_get_size (file));
      return 0;
    }
  g_assert_null (state);
  g_assert_error (error, CELL_ERROR_DOMAIN, -CELL_ERROR_STATE);
  g_assert_true (g_utf8_validate (error->message, -1, NULL) && strlen (error->message) < 400);
  for (const char *c = error->message; *c != 0; c++)
    g_assert_false (g_ascii_iscntrl (*c));
  return 0;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Any bytes as the list of trusted files: refused with one sentence, or all that is in it are hashes, each with a file and a time
 * that a terminal can be given.
 */
#include <string.h>

#include "host/trust.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

static void
check_text (GKeyFile *file, const char *group, const char *key)
{
  g_autofree char *text = g_key_file_get_string (file, group, key, NULL);

  g_assert_true (text != NULL && *text != 0 && g_utf8_validate (text, -1, NULL));
  for (const char *at = text; *at != 0; at = g_utf8_next_char (at))
    g_assert_false (g_unichar_iscntrl (g_utf8_get_char (at)));
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(GKeyFile) file = trust_parse ((const char *) data, size, &error);
  g_auto(GStrv) groups = file != NULL ? g_key_file_get_groups (file, NULL) : NULL;

  g_assert_true ((file == NULL) == (error != NULL));
  g_assert_true (error == NULL || (error->domain == CELL_ERROR_DOMAIN && strchr (error->message, '\n') == NULL));
  for (guint i = 0; groups != NULL && groups[i] != NULL; i++)
    {
      g_assert_true (strlen (groups[i]) == 64 && strspn (groups[i], "0123456789abcdef") == 64);
      check_text (file, groups[i], "File");
      check_text (file, groups[i], "When");
    }
  return 0;
}

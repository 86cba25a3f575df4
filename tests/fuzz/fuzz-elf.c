/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Any bytes as a shared library that is looked at before it is loaded: refused with a sentence, or what was found lies in the file.
 */
#include <string.h>

#include "plugins/elf-look.h"

#define SYMBOL_SIZE 32u                 /* of the libraries in the corpus */

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  g_autoptr (GError) error = NULL;
  const uint8_t *found = elf_look_at (data, size, "cell_entry", SYMBOL_SIZE, &error);

  if (found == NULL)
    g_assert_true (error != NULL && error->domain == CELL_ERROR_DOMAIN && g_utf8_validate (error->message, -1, NULL));
  else
    g_assert_true (found >= data && found + SYMBOL_SIZE <= data + size);
  return 0;
}

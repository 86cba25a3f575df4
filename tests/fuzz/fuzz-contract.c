/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Any bytes as a contract's text: refused with a sentence, or the same again after having been printed and read.
 */
#include <string.h>

#include "plugins/client-header.h"
#include "plugins/contract.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (Contract) contract = contract_new_from_text ((const char *) data, size, &error), again = NULL;
  g_autofree char *text = NULL, *same = NULL, *header = NULL;

  if (contract == NULL)
    {
      g_assert_true (error != NULL && g_utf8_validate (error->message, -1, NULL) && strchr (error->message, '\n') == NULL);
      return 0;
    }
  text = contract_to_text (contract, TRUE);
  again = contract_new_from_text (text, -1, &error);
  g_assert_no_error (error);
  same = contract_to_text (again, TRUE);
  g_assert_cmpstr (text, ==, same);
  g_assert_cmpuint (contract->fingerprint, ==, again->fingerprint);
  g_assert_true (contract_compatible (contract, again, NULL));
  /* Two items may well have one name in C: then there is none. */
  header = client_header_new (contract, NULL);
  return 0;
}

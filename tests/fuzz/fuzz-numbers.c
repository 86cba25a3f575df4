/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Any bytes as the numbers that callers know a cell's callables and signals by: refused, or each callable and each signal has a
 * number of its own.
 */
#include "plugins/cell-error.h"
#include "plugins/numbers.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

static const char text[] = "interface org.example.Numbers 1\n"
                           "method a () -> ()\n"
                           "method b () -> ()\n"
                           "method c () -> ()\n"
                           "signal s ()\n"
                           "signal t ()\n";

static Contract *contract;

/* Of so many names each is another number, and none is beyond what there can be of them in so many bytes. */
static void
look_at (uint32_t (*number_of) (const Numbers *numbers, const char *name), const Numbers *numbers, const char *const *names,
         guint n, size_t size)
{
  for (guint i = 0; i < n; i++)
    {
      uint32_t number = number_of (numbers, names[i]);

      g_assert_cmpuint (number, <, size + n);
      for (guint k = 0; k < i; k++)
        g_assert_cmpuint (number_of (numbers, names[k]), !=, number);
    }
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  g_autoptr (GError) error = NULL;
  const char *names[8];
  Numbers *numbers;
  guint n = 0;

  if (contract == NULL)
    contract = contract_new_from_text (text, -1, &error);
  g_assert_no_error (error);
  numbers = numbers_unpack (data, size, contract, &error);
  if (numbers == NULL)
    {
      g_assert_error (error, CELL_ERROR_DOMAIN, -CELL_ERROR_CORRUPT);
      return 0;
    }
  g_assert_no_error (error);
  for (; n < contract->n_callables && n < G_N_ELEMENTS (names); n++)
    names[n] = contract->callables[n].name;
  look_at (numbers_of_callable, numbers, names, n, size);
  for (n = 0; n < contract->n_signals && n < G_N_ELEMENTS (names); n++)
    names[n] = contract->signals[n].name;
  look_at (numbers_of_signal, numbers, names, n, size);
  numbers_free (numbers);
  return 0;
}

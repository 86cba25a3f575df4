/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "binding.h"

#include <string.h>

static gboolean
check_interface (const Contract *have, const char *wanted, GError **error)
{
  /* A caller that knows only the name, and asks for the contract, wants any interface. */
  if (*wanted == 0 || g_str_equal (have->interface, wanted))
    return TRUE;
  return cell_set_error (error, CELL_ERROR_CONTRACT, "the cell is %s, the caller was compiled for %s", have->interface, wanted);
}

/* One method: the same fingerprint, or compatible by what `wanted` says of it. */
static gboolean
bind_method (const Contract *have, const char *name, uint64_t fingerprint, const Contract *wanted, uint32_t *ret_number,
             GError **error)
{
  const ContractCallable *callable = contract_find (have, name), *other;

  *ret_number = WIRE_NO_METHOD;
  if (callable == NULL)
    return TRUE;                        /* calls of it say so; the others work */
  if (callable->fingerprint != fingerprint)
    {
      other = wanted != NULL ? contract_find (wanted, name) : NULL;
      if (other == NULL)
        return cell_set_error (error, CELL_ERROR_CONTRACT, "method %s is not what the caller was compiled for", name);
      if (!contract_callable_compatible (callable, other, error))
        return FALSE;
    }
  *ret_number = (uint32_t) (callable - have->callables);
  return TRUE;
}

static gboolean
bind_signal (const Contract *have, const char *name, uint64_t fingerprint, const Contract *wanted, uint32_t *ret_number,
             GError **error)
{
  const ContractSignal *sig = contract_find_signal (have, name), *other;

  *ret_number = WIRE_NO_METHOD;
  if (sig == NULL)
    return TRUE;
  if (sig->fingerprint != fingerprint)
    {
      other = wanted != NULL ? contract_find_signal (wanted, name) : NULL;
      if (other == NULL)
        return cell_set_error (error, CELL_ERROR_CONTRACT, "signal %s is not what the caller was compiled for", name);
      if (!contract_signal_compatible (sig, other, error))
        return FALSE;
    }
  *ret_number = (uint32_t) (sig - have->signals);
  return TRUE;
}

gboolean
binding_from_remote (const Contract *contract, const CellRemote *remote, uint32_t *methods, uint32_t *signals, GError **error)
{
  g_autoptr(Contract) wanted = NULL;

  if (!check_interface (contract, remote->interface, error))
    return FALSE;
  if (remote->contract != contract->fingerprint && (wanted = contract_new_from_remote (remote, error)) == NULL)
    return FALSE;
  for (guint i = 0; i < remote->n_methods; i++)
    {
      const CellRemoteMethod *method = (const void *) ((const uint8_t *) remote->methods + i * remote->method_size);

      if (!bind_method (contract, method->name, method->fingerprint, wanted, &methods[i], error))
        return FALSE;
    }
  for (guint i = 0; i < remote->n_signals; i++)
    {
      const CellRemoteSignal *sig = (const void *) ((const uint8_t *) remote->signals + i * remote->signal_size);

      if (!bind_signal (contract, sig->name, sig->fingerprint, wanted, &signals[i], error))
        return FALSE;
    }
  return TRUE;
}

/* "name fingerprint\n"; the tail is NUL-terminated. */
static gboolean
next_line (const char **at, char name[CONTRACT_MAX_NAME + 2], uint64_t *ret_fingerprint, GError **error)
{
  const char *space = strchr (*at, ' '), *end = strchr (*at, '\n');
  char *stop = NULL;

  if (space == NULL || end == NULL || space > end || space - *at > CONTRACT_MAX_NAME + 1)
    return cell_set_error (error, CELL_ERROR_CORRUPT, "a list of methods makes no sense");
  memcpy (name, *at, (size_t) (space - *at));
  name[space - *at] = 0;
  *ret_fingerprint = g_ascii_strtoull (space + 1, &stop, 16);
  if (stop != end)
    return cell_set_error (error, CELL_ERROR_CORRUPT, "a list of methods makes no sense");
  *at = end + 1;
  return TRUE;
}

GByteArray *
binding_from_wire (const Contract *contract, const WireBind *bind, const char *tail, uint32_t tail_size, GError **error)
{
  g_autoptr(GByteArray) numbers = g_byte_array_new ();
  g_autoptr(Contract) wanted = NULL;
  const char *at = tail != NULL ? tail : "", *text = at;
  char name[CONTRACT_MAX_NAME + 2];
  uint64_t fingerprint;
  uint32_t number;

  if (bind->n_methods > WIRE_METHODS_MAX || bind->n_signals > WIRE_METHODS_MAX)
    {
      cell_set_error (error, CELL_ERROR_CORRUPT, "a list of methods is too long");
      return NULL;
    }
  if (!check_interface (contract, bind->interface, error))
    return NULL;
  if (bind->contract != contract->fingerprint)
    {
      for (uint32_t i = 0; i < bind->n_methods + bind->n_signals; i++)
        if (!next_line (&text, name, &fingerprint, error))
          return NULL;
      wanted = contract_new_from_text (text, tail + tail_size - text, error);
      if (wanted == NULL)
        return NULL;
    }
  for (uint32_t i = 0; i < bind->n_methods + bind->n_signals; i++)
    {
      if (!next_line (&at, name, &fingerprint, error))
        return NULL;
      if (!(i < bind->n_methods ? bind_method (contract, name, fingerprint, wanted, &number, error)
                                : bind_signal (contract, name, fingerprint, wanted, &number, error)))
        return NULL;
      g_byte_array_append (numbers, (const guint8 *) &number, sizeof number);
    }
  return g_steal_pointer (&numbers);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * cellgen contract|header FILE.so OUTPUT: what `cellctl` asks a running host for, taken from the file at build time.  It loads
 * the file into itself, so it is for cells that were just built from the same source tree.
 */
#include <gmodule.h>
#include <stdio.h>
#include <string.h>

#include "client-header.h"

static const CellEntry *
open_entry (const char *path, GError **error)
{
  g_autofree char *absolute = g_canonicalize_filename (path, NULL);
  GModule *module = g_module_open_full (absolute, G_MODULE_BIND_LOCAL, error);
  gpointer symbol = NULL;
  const CellEntry *entry;

  if (module == NULL)
    return NULL;
  if (!g_module_symbol (module, CELL_ENTRY_SYMBOL, &symbol))
    return cell_set_error (error, CELL_ERROR_REFUSED, "it exports no %s", CELL_ENTRY_SYMBOL), NULL;
  entry = symbol;
  if (entry->magic != CELL_ABI_MAGIC || entry->abi_major != CELL_ABI_MAJOR || entry->abi_minor != CELL_ABI_MINOR
      || entry->size < sizeof *entry)
    return cell_set_error (error, CELL_ERROR_REFUSED, "it was not compiled with this <cell/cell.h>"), NULL;
  return entry;
}

static char *
generate (const char *what, const char *path, GError **error)
{
  const CellEntry *entry = open_entry (path, error);
  g_autoptr (Contract) contract = entry != NULL ? contract_new_from_entry (entry, error) : NULL;

  if (contract == NULL)
    return NULL;
  return strcmp (what, "contract") == 0 ? contract_to_text (contract, TRUE) : client_header_new (contract, error);
}

int
main (int argc, char **argv)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *text = NULL;

  if (argc != 4 || (strcmp (argv[1], "contract") != 0 && strcmp (argv[1], "header") != 0))
    {
      fputs ("usage: cellgen contract|header FILE.so OUTPUT\n", stderr);
      return cell_error_exit_code (CELL_ERROR_INVALID);
    }
  text = generate (argv[1], argv[2], &error);
  if (text == NULL || !g_file_set_contents (argv[3], text, -1, &error))
    {
      fprintf (stderr, "cellgen: %s%s%s\n", error->domain == CELL_ERROR_DOMAIN ? argv[2] : "",
               error->domain == CELL_ERROR_DOMAIN ? ": " : "", error->message);      /* GModule's own messages name the file */
      return cell_error_exit_code (cell_status_from_error (error));
    }
  return 0;
}

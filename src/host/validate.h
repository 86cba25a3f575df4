/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What a host would say of a cell's file, rule by rule, without one.
 */
#pragma once
#include <glib.h>

#include "plugins/cell-error.h"

typedef struct
{
  const char *rule;
  CellStatus status;            /* CELL_OK: it is kept */
  char *said;                   /* what was found, or what is wrong */
} ValidateRule;

/* Looks at what `load` would be given, and tries it in a sandbox whatever is known of it; values: what the cell is configured with
 * besides its key file.  ValidateRule, in the order in which a host asks: the last one is the first that is broken, and those
 * behind it were not asked.  Of a cell that did not start and had asked for others it cannot be known what it does where they are,
 * so that it is let pass.  What the cell prints meanwhile goes to standard error. */
GPtrArray *validate_file (const char *path, GHashTable *values);

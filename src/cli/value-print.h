/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A reply for people:
 *
 *   balance: 500
 *   entries:
 *     id  amount  memo
 *      1     500  rent
 */
#pragma once
#include "api/json-value.h"

/* Appends a line or more for each row of `role`.  hooks: blob_to_json shows blobs; may be NULL.  Whatever the strings hold, the
 * text has no control characters but newlines. */
gboolean value_print (const CellField *rows, guint n_rows, int role, gconstpointer local, const ValueHooks *hooks, GString *to,
                      GError **error);

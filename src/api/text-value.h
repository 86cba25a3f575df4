/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Arguments as somebody types them, typed by reflection:
 *
 *   transfer 1 2 500 rent        in the order of their declaration
 *   transfer from=1 to=2 …       by name; names may follow positions, not the other way round
 *   transfer '{"from": 1, …}'    all at once as JSON, whatever the first argument is
 *
 * A str is the text itself, so that it needs no quotes of its own; if it begins with a brace and is alone, its name stands before
 * it, and so does that of a struct which is alone.  Base64 may end with "=" where bytes are due.  Structs and arrays are JSON; an
 * optional that is not there is left out; all else is as in api/json-value.h.
 */
#pragma once
#include "api/json-value.h"

/* Fills local, the zeroed struct whose members are the rows of `role`, from words, NULL-terminated.  False: the error names the
 * argument, its type and what it may be. */
gboolean words_to_value (const CellField *rows, guint n_rows, int role, const char *const *words, const ValueHooks *hooks,
                         ValueArena *arena, gpointer local, GError **error);

/* Fills the one member of a row, a property's value for instance, from a text. */
gboolean text_to_field (const CellField *row, const char *text, const ValueHooks *hooks, ValueArena *arena, gpointer local,
                        GError **error);

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The one error domain of the host, its command line and its remote interfaces.  Its codes are the positive of the statuses in
 * <cell/errors.h>; names, sentences and exit codes come from the same table.
 */
#pragma once
#include <glib.h>

#include <cell/abi.h>

#define CELL_ERROR_DOMAIN (cell_error_quark ())
#define CELL_ERROR_NAME_PREFIX "org.cellhost.Error."

GQuark cell_error_quark (void);

/* "org.cellhost.Error.NotFound"; NULL for CELL_OK, Internal's for a status that is not in the table. */
const char *cell_error_name (CellStatus status);
/* What it means, for a person; Internal's for a status that is not in the table. */
const char *cell_error_text (CellStatus status);
/* What cellctl exits with: 0 for CELL_OK. */
int cell_error_exit_code (CellStatus status);
/* The status of a name, or CELL_ERROR_FAILED: a name that is not ours is an error that a cell declared. */
CellStatus cell_status_from_name (const char *name);

/* NULL: CELL_OK.  Errors of the file domain are translated; what is of another domain still is CELL_ERROR_FAILED. */
CellStatus cell_status_from_error (const GError *error);

/* Sets an error of the domain and returns FALSE, so that a failure is one statement. */
gboolean cell_set_error (GError **error, CellStatus status, const char *format, ...) G_GNUC_PRINTF (3, 4);
/* The same as somebody else says it, who may say anything: one line that a terminal can be given, and a status that there is. */
gboolean cell_set_error_said (GError **error, CellStatus status, const char *text);

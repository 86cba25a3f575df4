/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cell-error.h"

#include <string.h>

#define SAID_MAX 1000u          /* bytes of a sentence that somebody else says */

typedef struct
{
  CellStatus status;
  const char *name, *text;
  int exit_code;
} ErrorRow;

static const ErrorRow rows[] = {
#define ROW(NAME, code, Name, exit, text) { code, CELL_ERROR_NAME_PREFIX #Name, text, exit },
  CELL_ERROR_TABLE (ROW)
#undef ROW
};

G_DEFINE_QUARK (cell-error-quark, cell_error)

static const ErrorRow *
find_row (CellStatus status)
{
  const ErrorRow *internal = NULL;

  for (size_t i = 0; i < G_N_ELEMENTS (rows); i++)
    {
      if (rows[i].status == status)
        return &rows[i];
      if (rows[i].status == CELL_ERROR_INTERNAL)
        internal = &rows[i];
    }
  return internal;
}

static gboolean
is_status (CellStatus status)
{
  for (size_t i = 0; i < G_N_ELEMENTS (rows); i++)
    if (rows[i].status == status)
      return TRUE;
  return FALSE;
}

const char *
cell_error_name (CellStatus status)
{
  return status == CELL_OK ? NULL : find_row (status)->name;
}

const char *
cell_error_text (CellStatus status)
{
  return status == CELL_OK ? "success" : find_row (status)->text;
}

int
cell_error_exit_code (CellStatus status)
{
  return status == CELL_OK ? 0 : find_row (status)->exit_code;
}

CellStatus
cell_status_from_name (const char *name)
{
  for (size_t i = 0; i < G_N_ELEMENTS (rows); i++)
    if (strcmp (rows[i].name, name) == 0)
      return rows[i].status;
  return CELL_ERROR_FAILED;
}

static CellStatus
status_from_file_error (int code)
{
  switch (code)
    {
    case G_FILE_ERROR_NOENT:
    case G_FILE_ERROR_NOTDIR:
      return CELL_ERROR_NOT_FOUND;
    case G_FILE_ERROR_ISDIR:
    case G_FILE_ERROR_NAMETOOLONG:
    case G_FILE_ERROR_LOOP:
      return CELL_ERROR_INVALID;
    case G_FILE_ERROR_EXIST:
      return CELL_ERROR_EXISTS;
    case G_FILE_ERROR_ACCES:
    case G_FILE_ERROR_PERM:
    case G_FILE_ERROR_ROFS:
      return CELL_ERROR_DENIED;
    case G_FILE_ERROR_NOMEM:
    case G_FILE_ERROR_NOSPC:
    case G_FILE_ERROR_MFILE:
    case G_FILE_ERROR_NFILE:
      return CELL_ERROR_NO_RESOURCES;
    default:
      return CELL_ERROR_FAILED;
    }
}

CellStatus
cell_status_from_error (const GError *error)
{
  if (error == NULL)
    return CELL_OK;
  if (error->domain == CELL_ERROR_DOMAIN)
    return -error->code;
  if (error->domain == G_FILE_ERROR)
    return status_from_file_error (error->code);
  return CELL_ERROR_FAILED;
}

gboolean
cell_set_error (GError **error, CellStatus status, const char *format, ...)
{
  va_list arguments;

  if (error == NULL)
    return FALSE;
  g_return_val_if_fail (*error == NULL, FALSE);
  va_start (arguments, format);
  *error = g_error_new_valist (CELL_ERROR_DOMAIN, -status, format, arguments);
  va_end (arguments);
  return FALSE;
}

gboolean
cell_set_error_said (GError **error, CellStatus status, const char *text)
{
  g_autofree char *valid = g_utf8_make_valid (text, (gssize) strnlen (text, SAID_MAX));

  for (char *c = valid; *c != 0; c++)
    if (g_ascii_iscntrl (*c))
      *c = ' ';
  return cell_set_error (error, is_status (status) ? status : CELL_ERROR_FAILED, "%s", valid);
}

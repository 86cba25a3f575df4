/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A cell's file, as it was when it was looked at: a private copy in memory that nobody can change any more, not even this process.
 * What is hashed, looked at, tried in a sandbox, loaded and handed to children is this copy, whatever becomes of the file.
 */
#pragma once
#include <glib.h>

#include "cell-error.h"
#include "origin.h"

#define MODULE_MAX_SIZE (256u << 20)            /* bytes of a file */

typedef struct
{
  int fd;                       /* a sealed memfd */
  gsize size;
  char *name;                   /* where it came from; for people */
  char **way;                   /* how it was found, see own_file_way (), whatever its name leads to by now; NULL: it was not opened
                                 * by its path */
  char sha256[65];              /* in hexadecimal */
  Origin origin;                /* foreign unless it was opened by its path */
} ModuleFile;

#define MODULE_FILE_INIT { .fd = -1 }

/* Reads and looks at a file.  Nothing of it has run when this returns.  CELL_ERROR_NOT_FOUND: there is none; CELL_ERROR_REFUSED,
 * with a sentence that names what is wrong: whoever could write to it, or put another file in its place, is a stranger, or it is no
 * cell for this host. */
gboolean module_file_open (ModuleFile *file, const char *path, GError **error);
/* The same in two steps: it is read, and what was read is looked at. */
gboolean module_file_copy (ModuleFile *file, const char *path, GError **error);
gboolean module_file_look (const ModuleFile *file, GError **error);
/* Both of an open file, whose descriptor is not taken; name is for people.  One that nobody can change already is not copied
 * again. */
gboolean module_file_read (ModuleFile *file, int fd, const char *name, GError **error);
void module_file_clear (ModuleFile *file);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (ModuleFile, module_file_clear)

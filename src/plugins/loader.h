/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Loading a cell's code from the private copy of its file (module-file.h).  Nothing is ever unloaded:
 * modules that nobody uses any more are counted as retired.
 */
#pragma once
#include <glib.h>

#include "membrane/codec.h"

#include "contract.h"
#include "module-file.h"

#define MODULE_MAX_SELF (1u << 30)              /* bytes of an instance */

/* To be read only. */
typedef struct
{
  const char *path;             /* where it came from; for people */
  const char *sha256;           /* of the file, in hexadecimal; "" when it is part of the program */
  const CellEntry *entry;
  const CellOptions *options;   /* of this host's size: what the module does not have yet is zero */
  const Contract *contract;
  CodecPlan *const *in, *const *out;    /* by callable; NULL: no members */
  CodecPlan *const *args;       /* by signal; NULL: no members */
} CellModule;

/* Runs its constructors.  CELL_ERROR_REFUSED: a sentence that names what is wrong, and both values where two sides disagree.  The
 * file may be cleared afterwards. */
CellModule *cell_module_load_file (const ModuleFile *file, GError **error);
/* The same, reading the file first. */
CellModule *cell_module_load (const char *path, GError **error);
CellModule *cell_module_load_fd (int fd, const char *name, GError **error);
/* A cell that is part of the program; the entry is checked all the same. */
CellModule *cell_module_new_from_entry (const CellEntry *entry, const char *name, GError **error);
CellModule *cell_module_ref (CellModule *module);
void cell_module_unref (CellModule *module);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (CellModule, cell_module_unref)

/* The plan of a struct of the module's own, made when it is first asked for: what its cells save.  NULL: error. */
const CodecPlan *cell_module_plan_of (CellModule *module, const CellType *type, GError **error);

/* The base name of the file whose code lies there, for people; NULL: it is no module's.  Lasts for ever, as modules do. */
const char *cell_module_file_at (const void *code);

/* How many files this process has loaded, and how many of them nobody uses any more. */
guint cell_modules_count (guint *ret_retired);

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A look at a shared library before anything of it runs, by means of libelf.
 */
#pragma once
#include <glib.h>

#include "cell-error.h"

/* The bytes of an exported symbol's value as the file has them, before relocation; `size` of them.  NULL, CELL_ERROR_REFUSED: the
 * file is no library for this machine, its tables make no sense, it does not export the symbol, or another one, too.  Whatever the
 * bytes are, it is safe, and takes no longer than reading them a few times; nobody may change them meanwhile. */
const void *elf_look_at (const void *file, gsize file_size, const char *symbol, gsize size, GError **error);

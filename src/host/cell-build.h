/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Another build of a cell that there is: what was looked at, tried and, if it is to run in this process, loaded of its file, before
 * the cell has it.
 */
#pragma once
#include "cell.h"

struct HostBuild
{
  char *path, *interface;       /* interface: that it must offer, by its key file, or NULL */
  const char *key_file;         /* interned */
  char sha256[65];              /* of the file; "": the same as before */
  uint32_t number;              /* what trails call it; when the cell has it, what they called the one before, which is about to
                                 * end */
  Origin origin;                /* … and where that has come from */
  int module_fd;
  gsize module_size;
  CellModule *module;           /* NULL: it is to run elsewhere */
  Contract *contract;           /* numbered as callers know it; NULL: its process has not said it yet */
  gboolean saves;
  GHashTable *config;
};

/* Of a file, for this process or another one. */
HostBuild *cell_build_of_file (HostCell *cell, const char *path, gboolean there, GError **error);
/* Of the bytes that the cell has, once more: its variables and constructors begin anew. */
HostBuild *cell_build_again (HostCell *cell, gboolean there, GError **error);
void cell_build_free (HostBuild *build);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (HostBuild, cell_build_free)

/* Whether the cell's callers can go on with it; if so, its numbers are theirs. */
gboolean cell_build_accept (HostBuild *build, HostCell *cell, const Contract *contract, uint32_t threading, gboolean saves,
                            GError **error);
/* What trails call it (NULL: what the cell has now); not the same bytes, not the same number. */
uint32_t cell_build_number (const HostBuild *build, const HostCell *cell);
/* From here on it is what the cell is.  It is freed when the one before has ended. */
void cell_build_take (HostBuild *build, HostCell *cell);

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Files of cells in whose code the host has crashed: as long as they are suspected they run in a sandbox or not at all.  They are
 * known by what is in them, so that a new build is not suspected.  Kept in the host's state_dir, as a key file, for all hosts of
 * that folder:
 *
 *   [SHA-256 of the file]
 *   Name=ledger
 *   Why=in cell ledger (SIGSEGV at 0x0)
 *   When=2026-11-27T23:59:59Z
 */
#pragma once
#include "crash-log.h"
#include "host.h"
#include "plugins/module-file.h"

/* May be asked from any thread. */
void suspects_add (Host *host, const CrashReport *report);
/* Before a file is loaded under a name: sets ret_ejected if it is suspected.  FALSE: it is, and there is no sandbox here. */
gboolean suspects_check (Host *host, const char *name, const ModuleFile *file, gboolean *ret_ejected, GError **error);
/* For people: that the host has crashed in that file, and how.  NULL: it is not suspected. */
char *suspects_why (Host *host, const char *sha256);
/* The user trusts it again, by its file or by its name; either may be NULL.  TRUE: it was suspected. */
gboolean suspects_clear (Host *host, const char *name, const char *sha256);

/* From memory: a key file with nothing in it that should not be; error: it is damaged. */
GKeyFile *suspects_parse (const char *data, gsize size, GError **error);

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Which files the user trusts although they are foreign (plugins/origin.h): what is foreign and not trusted runs in a sandbox or
 * not at all.  They are known by what is in them, wherever they lie and whatever they are called.  Kept in the user's
 * configuration, as a key file of mode 0600 for all of his hosts:
 *
 *   [SHA-256 of the file]
 *   File=/home/me/Downloads/ledger.so       as it was called when it was trusted; for people
 *   When=2026-11-27T23:59:59Z
 *
 * One in which there is anything else trusts nobody.
 */
#pragma once
#include "cell.h"
#include "plugins/manifest.h"
#include "plugins/module-file.h"

typedef struct
{
  char *sha256, *file, *when;
} TrustedFile;

/* What the file itself does not say: where a cell in a sandbox can write, nothing is the user's own; nor anywhere while the policy
 * that would say where that is cannot be read.  And what a foreign key file names is foreign, whatever it is, and whoever trusts
 * it: the key file says what it is given and whom it may call. */
void trust_find_origin (Host *host, ModuleFile *file, const Manifest *manifest);
/* What the key file of a cell says by now: judged anew whenever it is read, since by whom it can be written may have changed as
 * well.  Errors are those of manifest_load (). */
Manifest *trust_load_key_file (Host *host, const char *path, GError **error);
/* Whether what it says may give the cell anything, in a sandbox as in the host.  FALSE: it is foreign; the sentence says what can
 * be done. */
gboolean trust_check_gives (const Manifest *manifest, const char *name, GError **error);
/* Before a file is loaded under a name: sets ret_ejected if it may not be in the host's process.  FALSE: likewise, and there is no
 * sandbox here. */
gboolean trust_check (Host *host, const char *name, const ModuleFile *file, gboolean *ret_ejected, GError **error);
/* Why it is not loaded after all, if that is for want of a sandbox: what can be done is said, too. */
void trust_explain (Host *host, const char *name, const ModuleFile *file, GError **error);
/* Before another build of a cell is to run in this process: CELL_ERROR_DENIED. */
gboolean trust_check_build (HostCell *cell, const ModuleFile *file, GError **error);
/* The same before the build that the cell has is. */
gboolean trust_check_cell (HostCell *cell, GError **error);

/* Once for many cells; whatever is wrong with it is said in the log, and trusts nobody. */
GKeyFile *trust_read (Host *host);
/* "host", "system", "own", "trusted" or "foreign". */
const char *trust_word (GKeyFile *trusted, const HostCellInfo *info);

/* what: a file's path, the name of a cell, or of one on the search path; or, to be removed, its hash.  CELL_ERROR_STATE: the list
 * is damaged, and is left as it is. */
gboolean trust_add (Host *host, const char *what, TrustedFile *ret, GError **error);
gboolean trust_remove (Host *host, const char *what, TrustedFile *ret, GError **error);
/* TrustedFile, in no order that means anything. */
GPtrArray *trust_list (Host *host, GError **error);
void trusted_file_clear (TrustedFile *file);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (TrustedFile, trusted_file_clear)

/* From memory: error: it is damaged. */
GKeyFile *trust_parse (const char *data, gsize size, GError **error);

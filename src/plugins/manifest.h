/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the user says of a cell: the key file NAME.cell beside its module.  It need not exist.
 *
 *   [Cell]
 *   Name=bank                   what callers call it; NAME unless said
 *   Module=ledger.so            relative to this file; NAME.so unless said
 *   Interface=org.example.Ledger
 *   Restart=permanent           or transient, temporary: when its process has ended, in a sandbox
 *   RestartIntensity=5          it has failed when it would have to be restarted more often than that …
 *   RestartWindow=60            … within so many seconds
 *   Watchdog=10                 in a sandbox: so many seconds its handlers may run on after their deadlines …
 *   Memory=256                  … and so many MiB it may take, if that is less than any cell may
 *   Strict=true                 there, once it has begun, it makes no more system calls than serving needs
 *   Calls=exchange;clock        the cells that it may call
 *   Network=true                and more that it wants in a sandbox: see permits.h
 *   [Config]
 *   overdraft=5000              what cell_config () gives
 */
#pragma once
#include <glib.h>

#include "cell-error.h"
#include "origin.h"
#include "permits.h"

#define MANIFEST_MAX_SIZE (64u * 1024u)
#define MANIFEST_INTENSITY 5u   /* unless said */
#define MANIFEST_INTENSITY_MAX 1000u
#define MANIFEST_WINDOW 60u     /* seconds */
#define MANIFEST_WINDOW_MAX 86400u
#define MANIFEST_WATCHDOG_MAX 86400u
#define MANIFEST_MEMORY_MIN 16u /* MiB: a runner has to live in there, too */
#define MANIFEST_MEMORY_MAX (1u << 20)
#define MANIFEST_SUFFIX ".cell"
#define MODULE_SUFFIX ".so"

typedef enum
{
  RESTART_PERMANENT,            /* whenever it ends */
  RESTART_TRANSIENT,            /* unless it ended by itself, with exit status 0 */
  RESTART_TEMPORARY             /* never */
} ManifestRestart;

typedef struct
{
  char *path;                   /* of the key file, absolute, whether it exists or not */
  char **way;                   /* how it was found, see own_file_way (); NULL: there is none, or it was not loaded from a file */
  Origin origin;                /* of that */
  char *name;
  char *module;                 /* absolute path */
  char *interface;              /* what it must offer, or NULL */
  ManifestRestart restart;
  guint restart_intensity, restart_window;
  guint watchdog, memory;       /* s, MiB; 0: nothing was said */
  gboolean strict;              /* in a sandbox it makes only the system calls that serving needs */
  char **calls;                 /* NULL: nothing was said */
  Permits permits;              /* what it asks for */
  GHashTable *config;           /* char * → char * */
} Manifest;

/* path: of the key file, whether it exists or not: what a missing one means is what an empty one means.  CELL_ERROR_INVALID, with
 * a sentence that names the file and the key; CELL_ERROR_REFUSED: it is not the user's own, see own-file.h. */
Manifest *manifest_load (const char *path, GError **error);
/* The same from memory: what is read of the file at `path`. */
Manifest *manifest_parse (const char *path, const char *text, gsize length, GError **error);
void manifest_free (Manifest *manifest);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Manifest, manifest_free)

/* What `load` was given, as the manifest of a cell: "ledger" (looked for in $CELL_PATH, in $XDG_DATA_HOME/cellhost/cells
 * and that of each of $XDG_DATA_DIRS, then where cells are installed), "dir/ledger.so" or "dir/ledger.cell".  CELL_ERROR_NOT_FOUND
 * names the places, and what may have been meant. */
Manifest *manifest_find (const char *what, GError **error);
/* Whether a cell may be called that: a letter, then up to 62 letters, digits, '-', '_' and '.'. */
gboolean manifest_check_name (const char *name, GError **error);

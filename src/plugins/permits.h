/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What more than an empty sandbox a cell may have: its key file asks for it, and the policy grants it, with the same keys.
 *
 *   Network=true
 *   ReadPaths=/srv/pictures;/etc/timezone       with all that lies below
 *   WritePaths=/srv/thumbnails
 *   Devices=/dev/dri
 */
#pragma once
#include <glib.h>

#include "cell-error.h"

#define PERMITS_MAX 16u                 /* paths of a kind */

typedef enum
{
  PERMIT_READ,
  PERMIT_WRITE,
  PERMIT_DEVICES,
  PERMIT_KINDS
} PermitKind;

typedef struct
{
  gboolean says_network, network;
  char **paths[PERMIT_KINDS];           /* absolute, without '.' and '..'; NULL: nothing was said */
} Permits;

/* Takes a key of a group if it is one of these, in the place of what was said before; ret_known: whether it is.  The sentence names
 * the key. */
gboolean permits_take (Permits *permits, GKeyFile *file, const char *group, const char *key, gboolean *ret_known, GError **error);
void permits_clear (Permits *permits);
const char *permits_key (PermitKind kind);
/* Whether a path is one of these, or lies below one.  paths may be NULL. */
gboolean permits_cover (const char *const *paths, const char *path);
gboolean permits_lies_below (const char *path, const char *folder);

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What came of probes: a small key file for each in the host's cache_dir.  It may be deleted at any time; a few hundred are kept.
 */
#pragma once
#include "host.h"
#include "plugins/module-file.h"

/* Names the bytes of the file, the values it is configured with and this host. */
char *probe_memory_key (const ModuleFile *file, GHashTable *values);
/* FALSE: nothing is known.  ret_reason: why it cannot be loaded; NULL: it can. */
gboolean probe_memory_read (const HostConfig *config, const char *key, char **ret_reason);
void probe_memory_write (const HostConfig *config, const char *key, const char *reason);

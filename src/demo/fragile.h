/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A stranger's build of the thumbnailer, which some pictures make crash, hang and eat memory: it begins in a sandbox, its
 * supervisor replaces its process, and every good picture is done all the same.
 */
#pragma once
#include <cell/client.h>
#include <glib.h>

/* folder: where the build is put, and the pictures that it does not survive are made.  good: paths of pictures that a thumbnailer
 * can read.  Says what became of each that is not.  TRUE: all good ones were done, and each of the others had its end. */
gboolean fragile_run (CellBus *bus, CellClient *host, const char *folder, GPtrArray *good, const gint *stop);

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A file that decides what this process does: nobody but its user and root can have written it.
 */
#pragma once
#include <glib.h>

#include "cell-error.h"

/* An open one: regular, of the user or root, writable by nobody else, of at most so many bytes.  CELL_ERROR_REFUSED, with a
 * sentence about "it". */
gboolean own_file_check (int fd, gsize most, gsize *ret_size, GError **error);
/* How `path` leads to what was opened by it: where each link on the way lies, and last where it leads to, which is where the file
 * itself lies unless something was put elsewhere meanwhile (origin_of () looks); none of them by a link.  Whoever can write to any
 * of these decides what is opened.  Nobody else can put another in its place: each is looked at as below. */
char **own_file_way (int fd, const char *path, GError **error);
/* Both of an open one. */
gboolean own_file_check_folders (int fd, GError **error);
/* All of a small one, checked in both ways, NUL-terminated.  NULL without an error: there is no such file.  The error names the
 * path. */
char *own_file_read (const char *path, gsize most, gsize *ret_length, GError **error);
/* The same in two steps, for who wants to know more of what was opened.  -1 without an error: there is none. */
int own_file_open (const char *path, GError **error);
char *own_file_read_open (int fd, const char *path, gsize most, gsize *ret_length, GError **error);

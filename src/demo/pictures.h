/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Which files the demo works through, and the folder that its thumbnails go to.
 */
#pragma once
#include <glib.h>

/* Every file below folder whose name ends as a picture's does, in whatever case, by name.  Links are not followed, so no folder is
 * seen twice.  unread: the folders that could not be read.  Ends early when *stop becomes set. */
GPtrArray *pictures_find (const char *folder, GPtrArray *unread, const gint *stop);
/* Two files that no folder lacks in the long run: one that is cut off in the middle, and one that is no picture.  They are made in
 * folder, and put among the pictures. */
gboolean pictures_add_broken (GPtrArray *pictures, const char *folder, GError **error);

/* Makes the folder if there is none, and takes away what an earlier run has left in it: thumbnails, nothing else.  Where somebody
 * else could have put the folder it has to be ours. */
gboolean thumbnails_make_folder (const char *folder, GError **error);
/* Named after the picture.  names: those given so far, guint by char *; a name that repeats gets a number. */
char *thumbnails_path (const char *folder, const char *picture, GHashTable *names);

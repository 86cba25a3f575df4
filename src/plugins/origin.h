/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Where a file has come from, as far as the file itself says: who could have written it is known by then, see own-file.h.
 */
#pragma once
#include <glib.h>

typedef enum
{
  ORIGIN_FOREIGN,               /* made elsewhere, or it does not show by whom */
  ORIGIN_OWN,                   /* made by this user, or by root for him, where nobody else can make one */
  ORIGIN_SYSTEM                 /* only root can have put it there */
} OriginKind;

/* May be copied. */
typedef struct
{
  OriginKind kind;
  const char *why;              /* a half sentence about "it", for ever: why it is foreign; NULL: it is not */
  gboolean key_file;            /* that is the key file which names it and says what it is given: whoever trusts the file has not
                                 * seen that */
} Origin;

/* Of an open file that own_file_check () has accepted, and of how it was found, by own_file_way (): a link says which file it is,
 * and is judged by where it lies as a file is. */
Origin origin_of (int fd, const char *const *way);
/* Whether a file system of that type (statfs.f_type) is one that is carried from machine to machine, and does not know whose a file
 * is. */
gboolean origin_is_carried (guint64 type);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fnptr-callee.h"

#include <string.h>

void
limit_fnptr_callee (void *to, const void *from)
{
  memcpy (to, from, 64);
}

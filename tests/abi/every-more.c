/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "every.h"

CELL_METHOD (Every, elsewhere, doc ("A method of another file."), in (Point, to), fails (Shared))
{
  if (in->to.x < 0)
    return cell_fail (call, Shared, "%d is to the left", in->to.x);
  cell_emit (self, Every, moved, .to = in->to, .why = "asked");
  return CELL_OK;
}

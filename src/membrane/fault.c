/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fault.h"

#include <stdarg.h>
#include <stdio.h>

bool
fault_set (Fault *fault, CellStatus status, const char *format, ...)
{
  va_list args;

  if (fault == NULL)
    return false;
  fault->status = status;
  va_start (args, format);
  vsnprintf (fault->message, sizeof fault->message, format, args);
  va_end (args);
  return false;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Where cells' own structs lie.  An address is given once and stays mapped when its instance has gone: the memory is given back to
 * the system and reads as zero.  So a thread that a cell has left behind is known by the `self` that it has, and what it writes
 * there is nobody else's.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "membrane/atomic.h"

typedef struct CellInstance CellInstance;

/* Stands right before each cell's own struct; 16 bytes, so that this is as aligned as memory is. */
typedef struct
{
  _Atomic (CellInstance *) instance;    /* NULL: it has gone */
  _Atomic uint32_t inside;              /* threads that use the instance without being in its code */
  _Atomic uint32_t told;                /* it was said that somebody calls for one that has gone */
} SelfHeader;

_Static_assert (sizeof (SelfHeader) == 16, "a cell's struct is as aligned as memory is");

/* Zeroed.  NULL: no memory. */
void *self_new (CellInstance *instance, uint32_t size);
/* When this returns nobody has the instance by self_enter () any more. */
void self_retire (void *self, uint32_t size);

/* The instance, which stays until self_leave (); NULL: it has gone.  On any thread. */
CellInstance *self_enter (void *self);
void self_leave (void *self);
/* True once for each self that has gone. */
bool self_tell_once (void *self);

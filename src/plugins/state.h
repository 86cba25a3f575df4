/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What save writes and restore reads: "cell.state/1".  Raw bytes stand as they were written; a struct begins at a multiple of
 * eight with a header that says how long it is, so that it can be read by a build whose struct has grown.  The bytes may come from
 * a sandboxed child: whatever they are, reading them is safe.
 */
#pragma once
#include "loader.h"

#define STATE_MAX_SIZE (256u << 20)             /* bytes: what may be saved, taken from a process, kept in a file and restored */

struct CellState
{
  CellModule *module;           /* whose structs they are */
  GByteArray *out;              /* while it is written */
  GBytes *in;                   /* while it is read */
  const uint8_t *data;
  size_t size, at;
  Arena arena;                  /* of what was read */
  char *why;                    /* the first thing that went wrong; for people */
};

extern const CellHostState state_api;

void state_init_writer (CellState *state, CellModule *module);
void state_init_reader (CellState *state, CellModule *module, GBytes *bytes);
/* What was written. */
GBytes *state_take_bytes (CellState *state);
void state_clear (CellState *state);
/* What the cell's save or restore on this thread is given from now on; returns what it was before. */
CellState *state_enter (CellState *state);

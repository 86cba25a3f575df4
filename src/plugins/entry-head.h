/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The bytes of a plugin's entry that guard the rest, as the file has them: nothing else of it may be touched before they are
 * checked.
 */
#pragma once
#include <glib.h>

#include "cell-error.h"

typedef struct
{
  uint32_t magic, size;
  uint16_t abi_major, abi_minor;
  uint32_t build;
} EntryHead;

G_STATIC_ASSERT (sizeof (EntryHead) == 16);
G_STATIC_ASSERT (offsetof (CellEntry, build) == offsetof (EntryHead, build));

/* CELL_ERROR_REFUSED names the field, what this host has and what the plugin has. */
gboolean entry_check_head (const EntryHead *head, GError **error);

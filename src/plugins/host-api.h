/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The host's functions as cells see them.
 */
#pragma once
#include <cell/abi.h>

#define LOG_LINE_MAX 2048u              /* bytes; what is longer is cut */
#define ERROR_MESSAGE_MAX 1024u

extern const CellHost host_api;

/* What cells get from "cell.blob/1" is `create` of this table, the others are the membrane's: called before any cell exists. */
void host_api_init (void);

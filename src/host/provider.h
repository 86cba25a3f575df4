/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * How a cell in this process calls another: cell_use ().
 */
#pragma once
#include "cell.h"

/* data: the HostCell that calls. */
extern const ClientProvider host_provider;

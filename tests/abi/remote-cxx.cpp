/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The same generated header as a C++ compiler sees it.
 */
#include "ledger-remote.h"

extern "C" const CellRemote *remote_in_cxx (void);

extern "C" const CellRemote *
remote_in_cxx (void)
{
  return &cell_remote_Ledger;
}

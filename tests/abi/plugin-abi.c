/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Refers to all that crosses the boundary, so that its types are in the debug information: what abidiff compares.  A struct that is
 * added to <cell/abi.h> or <cell/client.h> is added here.
 */
#include <cell/cell.h>
#include <cell/client.h>

typedef struct
{
  /* what a plugin exports */
  const CellEntry *entry;
  /* what it is given */
  const CellHost *host;
  const CellHostDefer *defer;
  const CellHostClient *client;
  const CellHostConfig *config;
  const CellHostBlob *blob;
  const CellHostState *state;
  const CellClientApi *client_api;
  /* what its tables are made of, and what it passes */
  const CellRemote *remote;
  const CellClient *a_client;
  const CellBlob *a_blob;
  const CellBytes *bytes;
  const CellResult *result;
  const CellPending *pending;
  const CellAbsent *absent;
  CellDone done;
  CellOnSignal on_signal;
} PluginAbi;

extern const PluginAbi plugin_abi;
__attribute__ ((visibility ("default"))) const PluginAbi plugin_abi = { 0 };

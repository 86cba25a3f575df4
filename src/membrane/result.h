/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Results: what a caller gets to see of a reply or of an error.
 */
#pragma once
#include "channel.h"

/* Outputs begin behind the CellResult. */
static inline void *
result_outputs (CellResult *result)
{
  return result + 1;
}

bool status_is_known (int32_t status);
/* Writes an error's payload; capacity at least 2. */
uint32_t error_payload (uint8_t *payload, uint32_t capacity, const char *name, const char *message);
/* Fills a result from a reply's payload, which is private or written by this process; it is copied.  NULL, or the rule that it
 * breaks. */
const char *result_fill (CellResult *result, const CallPlan *plan, int32_t status, const uint8_t *payload, uint32_t length,
                         uint32_t root, bool untrusted, struct BlobPort *port);
void result_error_for (CellResult *result, const CallPlan *plan, CellStatus status, const char *message);

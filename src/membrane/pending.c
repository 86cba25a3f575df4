/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A channel's open calls: a table by id.
 */
#include <stdlib.h>
#include <string.h>

#include "caller.h"

#define PENDING_MAX 65536u              /* open calls of a channel */

Pending *
pending_find (Channel *channel, uint64_t id)
{
  Pending *pending = channel->pending != NULL ? &channel->pending[id & channel->pending_mask] : NULL;

  return pending != NULL && pending->id == id ? pending : NULL;
}

static bool
pending_grow (Channel *channel)
{
  uint32_t old_n = channel->pending != NULL ? channel->pending_mask + 1 : 0, n = old_n == 0 ? 16 : old_n * 2;
  Pending *table;

  if (n > 2 * PENDING_MAX || (table = calloc (n, sizeof *table)) == NULL)
    return false;
  for (uint32_t i = 0; i < old_n; i++)
    if (channel->pending[i].id != 0)
      table[channel->pending[i].id & (n - 1)] = channel->pending[i];
  free (channel->pending);
  channel->pending = table;
  channel->pending_mask = n - 1;
  return true;
}

Pending *
pending_put (Channel *channel, uint64_t id)
{
  while (channel->pending == NULL || channel->pending[id & channel->pending_mask].id != 0)
    if (!pending_grow (channel))
      return NULL;
  channel->n_pending++;
  channel->pending[id & channel->pending_mask].id = id;
  return &channel->pending[id & channel->pending_mask];
}

/* Opens a call by the next id whose place in the table is free: one that stays open for long is stepped around. */
Pending *
pending_add (Channel *channel)
{
  if ((channel->pending == NULL || channel->n_pending > channel->pending_mask / 2) && !pending_grow (channel))
    return NULL;
  do
    channel->next_id++;
  while (channel->pending[channel->next_id & channel->pending_mask].id != 0);
  return pending_put (channel, channel->next_id);
}

void
pending_remove (Channel *channel, Pending *pending)
{
  free (pending->kept);
  *pending = (Pending) { 0 };
  channel->n_pending--;
}

Kept *
kept_new (uint16_t kind, uint64_t id, uint16_t method, int32_t status, const void *payload, uint32_t length, uint32_t root)
{
  Kept *kept = malloc (sizeof *kept + length);

  if (kept == NULL)
    return NULL;
  *kept = (Kept) { .id = id, .length = length, .root = root, .status = status, .kind = kind, .method = method };
  memcpy (kept->payload, payload, length);
  return kept;
}

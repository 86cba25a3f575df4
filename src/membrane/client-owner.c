/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Whose a client is, and what remains of one that was closed.
 */
#include <stdlib.h>
#include <string.h>

#include "client-own.h"
#include "result.h"

const Service client_gone;
void (*client_on_refused) (const char *cell, const char *function, bool gone, const void *from);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Client *gone;                    /* never freed: see client_belong_to () */
/* The latest that their cells have closed themselves, who may do so with every call. */
static Client *closed[CLIENTS_CLOSED_KEPT];
static uint32_t n_closed;

bool
client_belong_to (CellClient *base, const Service *owner, const char *cell)
{
  Client *client = (Client *) base;

  client->cell = strdup (cell);
  if (client->cell != NULL)
    store_relaxed (&client->owner, owner);
  return client->cell != NULL;
}

CellStatus
client_refuse (Client *client, const char *function, const void *from, uint32_t method, CellResult *reply)
{
  const CellRemote *remote = client->remote;    /* of the cell's own module, which stays */
  bool is_gone = load_relaxed (&client->owner) == &client_gone;
  CellStatus status = is_gone ? CELL_ERROR_GONE : CELL_ERROR_DENIED;

  if (client_on_refused != NULL)
    client_on_refused (client->cell, function, is_gone, from);
  if (reply == NULL)
    return status;
  if (method < remote->n_methods && remote->method_size >= sizeof (CellRemoteMethod)
      && remote_method (remote, method)->reply != NULL)
    memset (result_outputs (reply), 0, remote_method (remote, method)->reply->size);
  *reply = (CellResult) {
    .status = status, .error = status_name (status),
    .message = is_gone ? "the client was closed, or the cell that had it is gone"
                       : "a cell's client is used by a thread that does not run the cell's code",
  };
  return status;
}

void
client_refuse_async (Client *client, const char *function, const void *from, uint32_t method, CellDone done, void *data)
{
  const CellRemote *remote = client->remote;
  const CellType *type =
    method < remote->n_methods && remote->method_size >= sizeof (CellRemoteMethod) ? remote_method (remote, method)->reply : NULL;
  CellResult alone, *reply = calloc (1, sizeof *reply + (type != NULL ? type->size : 0));

  client_refuse (client, function, from, reply != NULL ? method : UINT32_MAX, reply != NULL ? reply : &alone);
  if (done != NULL)
    done (reply != NULL ? reply : &alone, data);
  free (reply);
}

void
client_bury (Client *client)
{
  Client *to_free = client;

  if (load_relaxed (&client->owner) != NULL)
    {
      pthread_mutex_lock (&lock);
      if (client->closed_by_cell)
        {
          to_free = closed[n_closed % CLIENTS_CLOSED_KEPT];
          closed[n_closed++ % CLIENTS_CLOSED_KEPT] = client;
        }
      else
        {
          to_free = NULL;
          client->next_gone = gone;
          gone = client;
        }
      pthread_mutex_unlock (&lock);
    }
  if (to_free != NULL)
    free (to_free->cell);
  free (to_free);
}

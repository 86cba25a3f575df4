/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define G_LOG_DOMAIN "cellhost-link"
#include "link.h"

#include "cell.h"
#include "child.h"
#include "connection.h"
#include "membrane/blob.h"

#define REQUESTS_MAX (8u << 20)
/* Where the replies' positions begin.  Not where the requests' do: a request and its reply at the same place in their pages look alike to
 * the processor, which then waits for the one before it reads the other; that doubled the time of a call. */
#define ANSWERED_FIRST 1984u             /* bytes; a multiple of RECORD_ALIGN */

static void
link_free (Link *link)
{
  half_unref (link->requests);
  half_unref (link->replies);
  channel_unref (link->channel);
  if (link->connection != NULL)
    connection_unref (link->connection);
  host_cell_unref (link->cell);
  g_free (link);
}

static gboolean
set_fault (GError **error, const Fault *fault)
{
  return cell_set_error (error, fault->status, "%s", fault->message);
}

Half *
link_new_replies (Link *link, uint64_t taken, GError **error)
{
  Fault fault = { 0 };
  Half *half = half_new ("cell-replies", half_capacity_for (4ull * record_size (host_cell_max_reply (link->cell))), &fault);

  if (half == NULL)
    {
      set_fault (error, &fault);
      return NULL;
    }
  /* The caller checks these against what it has written: they may never go back. */
  atomic_store (&half->control->taken, taken);
  atomic_store (&half->control->released, taken);
  return half;
}

static void
channel_broke (Channel *channel)
{
  Link *link = channel->owner;

  g_warning ("cell %s: client %d broke the rule '%s'; its channel ends", link->cell->name,
             link->connection != NULL ? (int) link->connection->pid : 0, channel->broken_rule != NULL ? channel->broken_rule : "?");
}

/* Both ends here, or the callee's end alone. */
static gboolean
make_channel (Link *link, GError **error)
{
  Channel *channel = channel_new (link->cell->endpoint);

  if (channel == NULL)
    return cell_set_error (error, CELL_ERROR_NO_RESOURCES, "no memory for a channel");
  link->channel = channel;
  channel->owner = link;
  channel->serial = link->serial;
  channel->blobs = blob_transit ();
  channel->untrusted = !link->local;
  channel->caller_bell = link->caller_bell;
  channel->access = link->connection != NULL ? link->connection->access : CELL_ACCESS_OPERATE;
  channel->on_broken = channel_broke;
  channel_set_callee (channel, half_ref (link->requests), half_ref (link->replies), link->taken, link->answered);
  if (link->local)
    channel_set_caller (channel, half_ref (link->requests), half_ref (link->replies), link->taken, link->answered);
  return TRUE;
}

/* Whoever reads a half gets no writable view of it: this process has its mapping, or has let the writer have his. */
static gboolean
seal (Half *half, GError **error)
{
  Fault fault = { 0 };

  return half_seal (half, &fault) || set_fault (error, &fault);
}

/* Hands the callee's end to the child that has the cell. */
static gboolean
attach (Link *link, GError **error)
{
  WireAttach body;
  WireMessage answer;
  int fds[3];
  unsigned n_fds;

  link_to_attach (link, &body, fds, &n_fds);
  if (!child_ask (link->cell->child, WIRE_ATTACH, &body, NULL, 0, fds, n_fds, WIRE_DONE, &answer, 2000, error))
    return FALSE;
  wire_message_clear (&answer);
  return seal (link->replies, error);
}

Link *
link_new (HostCell *cell, Connection *connection, uint32_t request_capacity, GError **error)
{
  Link *link = g_new0 (Link, 1);
  Fault fault = { 0 };
  gboolean good;

  link->cell = host_cell_ref (cell);
  link->serial = atomic_fetch_add (&cell->host->last_link, 1) + 1;
  link->local = connection == NULL;
  link->connection = connection != NULL ? connection_ref (connection) : NULL;
  link->bell = connection != NULL ? connection->bell : NULL;
  link->caller_bell = connection != NULL ? connection->client_bell : -1;
  link->requests = half_new ("cell-requests", half_capacity_for (MIN (MAX (request_capacity, CHANNEL_CAPACITY), REQUESTS_MAX)), &fault);
  link->answered = ANSWERED_FIRST;
  if (link->requests == NULL)
    set_fault (error, &fault);
  else
    {
      atomic_store (&link->requests->control->taken, link->answered);
      atomic_store (&link->requests->control->released, link->answered);
    }
  g_mutex_lock (&cell->lock);
  if (cell->location == CELL_LOCATION_DEAD)
    good = cell_set_error (error, CELL_ERROR_GONE, "cell %s is dead: %s", cell->name, cell->reason != NULL ? cell->reason : "it was stopped");
  else
    good = link->requests != NULL && (link->replies = link_new_replies (link, link->taken, error)) != NULL && make_channel (link, error)
           && (!link->local || seal (link->requests, error))
           && (cell->location == CELL_LOCATION_HERE ? seal (link->replies, error) : attach (link, error));
  if (good)
    {
      g_ptr_array_add (cell->links, link);
      endpoint_add (cell->endpoint, link->channel);
      if (link->local)
        {
          link->mapped = TRUE;
          link->channel->replies_untrusted = cell->location == CELL_LOCATION_CHILD;
          link->channel->callee_bell = cell->location == CELL_LOCATION_CHILD ? child_get_bell (cell->child) : -1;
        }
    }
  g_mutex_unlock (&cell->lock);
  if (good)
    return link;
  link_free (link);
  return NULL;
}

gboolean
link_in_use (Link *link, GError **error)
{
  HostCell *cell = link->cell;
  gboolean good = TRUE;

  g_mutex_lock (&cell->lock);
  if (!link->mapped)
    {
      /* The caller has its writable mapping; nobody gets another. */
      good = seal (link->requests, error);
      link->mapped = good;
      if (good && cell->location == CELL_LOCATION_HERE && link->bell != NULL)
        lanes_add (cell->host->lanes, link->bell, link->channel);
    }
  g_mutex_unlock (&cell->lock);
  return good;
}

void
link_close (Link *link)
{
  HostCell *cell = link->cell;

  g_mutex_lock (&cell->lock);
  if (!link->local)
    lanes_remove (cell->host->lanes, link->channel);
  if (cell->location == CELL_LOCATION_CHILD)
    {
      WireRef body = { link->serial };
      WireMessage answer;

      if (child_ask (cell->child, WIRE_DETACH, &body, NULL, 0, NULL, 0, WIRE_DONE, &answer, 2000, NULL))
        wire_message_clear (&answer);
    }
  g_ptr_array_remove_fast (cell->links, link);
  endpoint_remove (cell->endpoint, link->channel);
  g_mutex_unlock (&cell->lock);
  link_free (link);
}

void
link_describe (Link *link, WireChannel *ret, int fds[4])
{
  HostCell *cell = link->cell;

  g_mutex_lock (&cell->lock);
  *ret = (WireChannel) {
    .channel = link->serial, .generation = cell->generation, .request_salt = link->requests->salt, .reply_salt = link->replies->salt,
    .request_capacity = link->requests->capacity, .reply_capacity = link->replies->capacity, .taken = link->taken,
    .answered = link->answered, .epoch_word = atomic_load (&cell->epoch.page->word), .untrusted = cell->location == CELL_LOCATION_CHILD,
  };
  fds[0] = cell->epoch.fd;
  fds[1] = link->requests->fd;
  fds[2] = link->replies->fd;
  fds[3] = cell->location == CELL_LOCATION_CHILD ? child_get_bell (cell->child) : -1;
  g_mutex_unlock (&cell->lock);
}

void
link_moved (Link *link, Half *replies, uint64_t generation, uint64_t final_taken, uint64_t final_reply, gboolean crashed, gboolean untrusted)
{
  if (link->local)
    {
      MovedHalf *moved = calloc (1, sizeof *moved);

      if (moved == NULL)
        g_error ("no memory");
      *moved = (MovedHalf) {
        .half = replies != NULL ? half_ref (replies) : NULL, .generation = generation, .final_taken = final_taken,
        .final_reply = final_reply, .crashed = crashed, .untrusted = untrusted,
      };
      moved->bell = untrusted ? child_get_bell (link->cell->child) : -1;
      channel_moved (link->channel, moved);
    }
  else
    {
      WireMoved body = {
        .channel = link->serial, .generation = generation, .final_taken = final_taken, .final_reply = final_reply, .crashed = crashed,
        .gone = replies == NULL, .untrusted = untrusted,
      };
      int fds[2];
      unsigned n_fds = 0;

      if (replies != NULL)
        {
          body.reply_salt = replies->salt;
          body.reply_capacity = replies->capacity;
          fds[n_fds++] = replies->fd;
          if (untrusted)
            fds[n_fds++] = child_get_bell (link->cell->child);
        }
      connection_send (link->connection, WIRE_MOVED, 0, &body, NULL, 0, fds, n_fds);
    }
  if (replies != NULL)
    {
      half_unref (link->replies);
      link->replies = replies;
    }
}

void
link_positions (Link *link, gboolean here, uint64_t *ret_taken, uint64_t *ret_answered)
{
  uint64_t taken, answered;

  if (here)
    {
      *ret_taken = link->channel->requests.at;
      *ret_answered = link->channel->answers.head;
      return;
    }
  /* What a child left: it may be anything.  Forward only; a caller whose position is nonsense harms its own channel. */
  taken = atomic_load (&link->replies->control->taken);
  if (taken % RECORD_ALIGN != 0 || taken < link->taken)
    taken = link->taken;
  answered = atomic_load (&link->requests->control->released);
  if (answered % RECORD_ALIGN != 0 || answered < link->answered)
    answered = link->answered;
  *ret_taken = taken;
  *ret_answered = half_end (link->replies, answered);
}

void
link_to_attach (Link *link, WireAttach *ret, int fds[3], unsigned *ret_n_fds)
{
  *ret = (WireAttach) {
    .channel = link->serial, .request_salt = link->requests->salt, .reply_salt = link->replies->salt, .taken = link->taken,
    .answered = link->answered, .subscribed = link->channel->subscribed, .request_capacity = link->requests->capacity,
    .reply_capacity = link->replies->capacity, .access = link->channel->access,
  };
  fds[0] = link->requests->fd;
  fds[1] = link->replies->fd;
  *ret_n_fds = 2;
  if (link->caller_bell >= 0)
    fds[(*ret_n_fds)++] = link->caller_bell;
  else if (link->local && link->cell->child != NULL)
    fds[(*ret_n_fds)++] = child_get_bell_to_host (link->cell->child);
}

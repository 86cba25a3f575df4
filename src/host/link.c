/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define G_LOG_DOMAIN "cellhost-link"
#include "link.h"

#include <limits.h>

#include "cell.h"
#include "child.h"
#include "connection.h"
#include "descriptors.h"
#include "membrane/blob.h"
#include "membrane/wait.h"
#include "plugins/dispatch.h"
#include "watchdog.h"

#define LINKS_OF_CELL_MAX 2048u
#define REQUESTS_MAX (8u << 20)
#define ATTACH_MS 10000u                 /* for a child that may have to share its processor with many */
/* Where the replies' positions begin.  Not where the requests' do: a request and its reply at the same place in their pages look
 * alike to the processor, which then waits for the one before it reads the other; that doubled the time of a call. */
#define ANSWERED_FIRST 1984u             /* bytes; a multiple of RECORD_ALIGN */

Link *
link_ref (Link *link)
{
  atomic_fetch_add (&link->refs, 1);
  return link;
}

void
link_unref (Link *link)
{
  if (link == NULL || atomic_fetch_sub (&link->refs, 1) != 1)
    return;
  half_unref (link->requests);
  half_unref (link->replies);
  channel_unref (link->channel);
  if (link->connection != NULL)
    connection_unref (link->connection);
  host_cell_unref (link->cell);
  pthread_mutex_destroy (&link->lock);
  g_free (link);
}

static gboolean
set_fault (GError **error, const Fault *fault)
{
  return cell_set_error (error, fault->status, "%s", fault->message);
}

gboolean
link_seal_half (Half *half, GError **error)
{
  Fault fault = { 0 };

  return half_seal (half, &fault) || set_fault (error, &fault);
}

/* Memory that a caller outside could map writable would be his to write what his callee says in it.  So he is not shown what a
 * child is to write before that has mapped it and it is sealed, but one that nobody writes; link_tell () is what comes then. */
static const Half *
shown_half (const Link *link, const Half *replies)
{
  return replies->sealed ? replies : link->cell->host->nobody;
}

static uint64_t
shown_generation (uint64_t generation, gboolean own)
{
  return 2 * generation - !own;
}

/* ---- making ------------------------------------------------------------------------------------------------ */

Half *
link_make_replies (Link *link, GError **error)
{
  Fault fault = { 0 };
  Half *half = half_new ("cell-replies", half_capacity_for (4ull * record_size (host_cell_max_reply (link->cell))), &fault);

  if (half == NULL)
    set_fault (error, &fault);
  return half;
}

/* The caller checks these against what it has written: they may never go back. */
void
link_place_replies (Link *link, Half *replies, uint64_t taken)
{
  atomic_store (&replies->control->taken, taken);
  atomic_store (&replies->control->released, taken);
  atomic_store (&replies->control->subscribed, link->subscribed);
}

Half *
link_new_replies (Link *link, uint64_t taken, GError **error)
{
  Half *half = link_make_replies (link, error);

  if (half != NULL)
    link_place_replies (link, half, taken);
  return half;
}

static Half *
new_requests (uint32_t capacity, uint64_t answered, GError **error)
{
  Fault fault = { 0 };
  Half *half = half_new ("cell-requests", half_capacity_for (MIN (MAX (capacity, CHANNEL_CAPACITY), REQUESTS_MAX)), &fault);

  if (half == NULL)
    {
      set_fault (error, &fault);
      return NULL;
    }
  atomic_store (&half->control->taken, answered);
  atomic_store (&half->control->released, answered);
  return half;
}

static void
count_bytes (Link *link)
{
  atomic_store (&link->bytes, (uint64_t) link->requests->capacity + link->replies->capacity);
}

/* Whoever serves may still hold the channel when the link is gone: what is needed is the endpoint's, whose cell lasts as long. */
static void
channel_broke (Channel *channel)
{
  if (channel->broken == CELL_ERROR_CORRUPT)    /* else the cell has gone: no fault of anybody's */
    offence_report (channel);
}

/* Whoever serves is in the cell's gate, and rings the caller's bell, which is the connection's.  It may be in a handler when the
 * link has long been closed: a caller that leaves waits for nobody, and nobody for it. */
static void
let_go (Channel *channel)
{
  HostCell *cell = channel->endpoint->data;
  Connection *connection = channel->freed_data;

  connection_forget_blobs (connection);
  connection_unref (connection);
  host_cell_unref (cell);
}

/* Both ends here, or the callee's end alone. */
static gboolean
make_channel (Link *link, uint32_t access, GError **error)
{
  Channel *channel = channel_new (link->cell->endpoint);

  if (channel == NULL)
    return cell_set_error (error, CELL_ERROR_NO_RESOURCES, "no memory for a channel");
  link->channel = channel;
  channel->owner = link;
  channel->serial = link->serial;
  blob_share_init (&channel->share, host_cell_blob_owner (link->cell));
  channel->blobs = link->local ? &channel->share.base : &link->connection->blobs.base;
  channel->untrusted = !link->local;
  channel->caller_bell = link->caller_bell;
  channel->access = access;
  channel->on_broken = channel_broke;
  channel->callee_generation = link->cell->generation;
  if (!link->local)
    {
      channel->freed = let_go;
      channel->freed_data = connection_ref (link->connection);
      host_cell_ref (link->cell);
    }
  channel_set_callee (channel, half_ref (link->requests), half_ref (link->replies), link->taken, link->answered);
  if (link->local)
    channel_set_caller (channel, half_ref (link->requests), half_ref (link->replies), link->taken, link->answered);
  if (link->caller != NULL)
    {
      link->dispatch = dispatch_new (link->caller->endpoint, link->cell->host->lanes, channel);
      dispatch_hold (link->dispatch, host_cell_ref (link->caller), (void (*) (void *)) host_cell_unref);
    }
  return TRUE;
}

ChildQuestion *
link_attach (Link *link, Child *child, Half *replies)
{
  WireAttach body = {
    .channel = link->serial, .request_salt = link->requests->salt, .reply_salt = replies->salt, .taken = link->taken,
    .answered = link->answered, .request_capacity = link->requests->capacity, .reply_capacity = replies->capacity,
    .access = link->channel->access, .subscribed = atomic_load (&replies->control->subscribed),
  };
  int fds[3] = { link->requests->fd, replies->fd, link->local ? child_get_bell_to_host (child) : link->caller_bell };

  return child_begin (child, WIRE_ATTACH, &body, NULL, 0, fds, fds[2] >= 0 ? 3 : 2, ATTACH_MS);
}

/* A process that is to stop is told of nobody else; who comes to a cell in this process waits at its gate. */
static gboolean
check_ending (HostCell *cell, GError **error)
{
  return cell->location != CELL_LOCATION_CHILD || !atomic_load (&cell->ending)
         || cell_set_error (error, CELL_ERROR_BUSY, "cell %s is being stopped", cell->name);
}

/* The child maps its half while that can still be mapped writable.  One that does not listen to us is of use to nobody, and
 * whoever comes would wait as long again: it is replaced.  A successor is given the caller with all others, and so is that of
 * one that has died meanwhile. */
static gboolean
attach (Link *link, GError **error)
{
  Child *child = link->cell->child;
  g_autoptr(GError) wrong = NULL;

  if (child_finish (link_attach (link, child, link->replies), WIRE_DONE, NULL, &wrong))
    {
      if (!link_seal_half (link->replies, error))
        return FALSE;
      if (!link->local)
        link_tell (link);
      return TRUE;
    }
  if (cell_status_from_error (wrong) == CELL_ERROR_DEADLINE)
    child_condemn (child, "it does not listen to the host");
  else if (!child_is_closed (child))
    {
      g_propagate_error (error, g_steal_pointer (&wrong));
      return FALSE;
    }
  return TRUE;
}

/* Unless it has left, or its cell is held again or somewhere else: then it goes along. */
static void
late_run (gpointer data)
{
  Link *link = data;
  HostCell *cell = link->cell;
  g_autoptr(GError) error = NULL;
  gboolean good = TRUE;

  pthread_rwlock_rdlock (&cell->place);
  pthread_mutex_lock (&link->lock);
  if (link->late && !link->closed && !cell->held && cell->location == CELL_LOCATION_CHILD)
    {
      link->late = FALSE;
      good = attach (link, &error);
    }
  pthread_mutex_unlock (&link->lock);
  pthread_rwlock_unlock (&cell->place);
  if (!good)
    {
      g_warning ("a caller of cell %s has to begin anew: %s", cell->name, error->message);
      link_refuse (link);
    }
  link_unref (link);
}

void
link_attach_late (Link *link)
{
  if (link->late)
    host_submit (link->cell->host, link->cell, late_run, link_ref (link));
}

/* Where the cell is.  With its place locked for reading, and the link. */
static gboolean
begin (Link *link, GError **error)
{
  HostCell *cell = link->cell;

  if (!link_seal_half (link->requests, NULL))
    return cell_set_error (error, CELL_ERROR_CORRUPT, "it has sealed its requests itself");
  if (!check_ending (cell, error))
    return FALSE;
  link->late = cell->location == CELL_LOCATION_CHILD && cell->held;
  if (cell->location == CELL_LOCATION_CHILD && !link->late && !attach (link, error))
    return FALSE;
  link->mapped = TRUE;
  if (link->local)
    {
      link->channel->replies_untrusted = cell->location != CELL_LOCATION_HERE;
      link->channel->callee_bell = cell->location != CELL_LOCATION_HERE ? cell->bell : -1;
    }
  else if (cell->location == CELL_LOCATION_HERE && link->bell != NULL)
    lanes_add (cell->host->lanes, link->bell, link->channel);
  return TRUE;
}

/* With the cell's place locked for reading. */
static gboolean
make (Link *link, uint32_t access, uint32_t request_capacity, GError **error)
{
  HostCell *cell = link->cell;

  if (cell->location == CELL_LOCATION_DEAD)
    return cell_set_error (error, CELL_ERROR_GONE, "cell %s is dead: %s", cell->name,
                           cell->reason != NULL ? cell->reason : "it was stopped");
  if (!check_ending (cell, error))
    return FALSE;
  link->requests = new_requests (request_capacity, link->answered, error);
  if (link->requests == NULL)
    return FALSE;
  link->replies = link_new_replies (link, link->taken, error);
  if (link->replies == NULL)
    return FALSE;
  if (!link->local && descriptors_run_short (link->replies->fd))
    return cell_set_error (error, CELL_ERROR_NO_RESOURCES, DESCRIPTORS_SHORT);
  count_bytes (link);
  if ((cell->location == CELL_LOCATION_HERE && !link_seal_half (link->replies, error)) || !make_channel (link, access, error))
    return FALSE;
  return !link->local || begin (link, error);
}

/* An ejected cell's process has a descriptor for each, and would end when there are no more. */
static gboolean
check_crowd (HostCell *cell, GError **error)
{
  guint n;

  pthread_mutex_lock (&cell->lock);
  n = cell->links->len;
  pthread_mutex_unlock (&cell->lock);
  return n < LINKS_OF_CELL_MAX
         || cell_set_error (error, CELL_ERROR_NO_RESOURCES, "cell %s has %u channels already", cell->name, LINKS_OF_CELL_MAX);
}

Link *
link_new (HostCell *cell, Connection *connection, HostCell *caller, uint32_t access, uint32_t request_capacity, GError **error)
{
  Link *link = g_new0 (Link, 1);
  gboolean good;

  link->refs = 1;
  pthread_mutex_init (&link->lock, NULL);
  link->cell = host_cell_ref (cell);
  link->serial = atomic_fetch_add (&cell->host->last_link, 1) + 1;
  link->local = connection == NULL;
  link->caller = caller;
  link->connection = connection != NULL ? connection_ref (connection) : NULL;
  link->bell = connection != NULL ? connection->bell : NULL;
  link->caller_bell = connection != NULL ? connection->client_bell : -1;
  link->answered = ANSWERED_FIRST;
  link->again = UINT64_MAX;
  pthread_rwlock_rdlock (&cell->place);
  good = check_crowd (cell, error) && make (link, access, request_capacity, error);
  if (good)
    {
      pthread_mutex_lock (&cell->lock);
      g_ptr_array_add (cell->links, link_ref (link));
      pthread_mutex_unlock (&cell->lock);
      endpoint_add (cell->endpoint, link->channel);
    }
  pthread_rwlock_unlock (&cell->place);
  if (good)
    return link;
  link_unref (link);
  return NULL;
}

void
link_announce (Link *link, uint64_t question)
{
  HostCell *cell = link->cell;
  const Half *shown;
  WireChannel body;
  int fds[4];

  /* In one step with looking: what is said of a move comes after it, and tells of a later generation. */
  pthread_rwlock_rdlock (&cell->place);
  pthread_mutex_lock (&link->lock);             /* it may be said to be mapped before it is announced */
  shown = shown_half (link, link->replies);
  pthread_mutex_unlock (&link->lock);
  body = (WireChannel) {
    .channel = link->serial, .generation = shown_generation (cell->generation, shown == link->replies),
    .request_salt = link->requests->salt, .reply_salt = shown->salt, .request_capacity = link->requests->capacity,
    .reply_capacity = shown->capacity,
    .taken = link->taken, .answered = link->answered, .epoch_word = atomic_load (&cell->epoch.page->word),
    .untrusted = cell->location != CELL_LOCATION_HERE,
  };
  fds[0] = cell->epoch.fd;
  fds[1] = link->requests->fd;
  fds[2] = shown->fd;
  fds[3] = cell->location != CELL_LOCATION_HERE ? cell->bell : -1;
  connection_send (link->connection, WIRE_CHANNEL, question, &body, NULL, 0, fds, fds[3] >= 0 ? 4 : 3);
  pthread_rwlock_unlock (&cell->place);
}

gboolean
link_in_use (Link *link, GError **error)
{
  HostCell *cell = link->cell;
  gboolean good = TRUE;

  pthread_rwlock_rdlock (&cell->place);
  pthread_mutex_lock (&link->lock);
  if (!link->mapped && !link->closed)
    good = begin (link, error);
  pthread_mutex_unlock (&link->lock);
  pthread_rwlock_unlock (&cell->place);
  return good;
}

void
link_refuse (Link *link)
{
  pthread_rwlock_rdlock (&link->cell->place);
  link_moved (link, NULL, link->cell->generation, FALSE, FALSE);
  pthread_rwlock_unlock (&link->cell->place);
}

/* ---- what was accepted ------------------------------------------------------------------------------------- */

static const Record *
record_at (const Half *requests, uint64_t at)
{
  return (const Record *) (requests->data + (at & (requests->capacity - 1) & ~(uint64_t) (RECORD_ALIGN - 1)));
}

static gboolean
is_request (const Half *requests, uint64_t at)
{
  return load_acquire (&record_at (requests, at)->sequence) == requests->salt + at;
}

guint
link_request_ms (const HostCell *cell, const Half *requests, uint64_t at, const char **ret_method)
{
  const Contract *contract = cell->contract;
  const Record *record = record_at (requests, at);
  guint number = *(const volatile uint16_t *) &record->method, timeout = *(const volatile uint32_t *) &record->timeout;
  const ContractCallable *callable = number < contract->n_callables ? &contract->callables[number] : NULL;

  *ret_method = callable != NULL ? callable->name : "a call";
  return MAX (timeout, callable != NULL && callable->timeout != 0 ? callable->timeout : CHANNEL_TIMEOUT_MS);
}

guint
link_accepted_ms (const HostCell *cell, const Half *requests, const Half *replies)
{
  uint64_t at = atomic_load (&replies->control->released), end = at + requests->capacity;
  const char *method;
  guint most = 0;

  while (at < end && is_request (requests, at))
    {
      uint32_t length = *(const volatile uint32_t *) &record_at (requests, at)->length;

      most = MAX (most, link_request_ms (cell, requests, at, &method));
      at += record_size (MIN (length, requests->capacity));
    }
  return most;
}

/* What its consumer cannot answer, for its caller does not read, or may not, does not count. */
gboolean
link_waits (const Link *link)
{
  const HalfControl *said = link->replies->control;
  gboolean stuck = link->cell->location == CELL_LOCATION_HERE
                     ? channel_is_blocked (link->channel) || load_relaxed (&link->channel->broken) != CELL_OK
                     : load_relaxed (&said->blocked) != 0;

  return !link->gone && !stuck && is_request (link->requests, atomic_load (&said->taken));
}

/* ---- closing ----------------------------------------------------------------------------------------------- */

/* Its child is at a call of its, or may still begin one, as far as it says. */
static gboolean
is_at_work (const Link *link)
{
  const HalfControl *said = link->replies->control;
  uint64_t taken = atomic_load (&said->taken), released = atomic_load (&said->released);

  return taken > released || is_request (link->requests, taken);
}

/* With the cell's place locked for reading.  A child is told, and nobody waits for it: it may be in a handler that hangs, and
 * whoever comes next is to be attached meanwhile. */
static void
leave (Link *link)
{
  HostCell *cell = link->cell;
  WireRef body = { link->serial };

  if (!link->local)
    lanes_forget (cell->host->lanes, link->channel);
  if (cell->location == CELL_LOCATION_CHILD && link->mapped && !link->late)
    {
      child_say (cell->child, WIRE_DETACH, &body);
      if (is_at_work (link))
        watchdog_keep (link);
    }
  endpoint_remove (cell->endpoint, link->channel);
  pthread_mutex_lock (&cell->lock);
  g_ptr_array_remove_fast (cell->links, link);
  pthread_mutex_unlock (&cell->lock);
}

void
link_close (Link *link)
{
  HostCell *cell = link->cell;
  gboolean first;

  pthread_rwlock_rdlock (&cell->place);
  pthread_mutex_lock (&link->lock);
  first = !link->closed;
  link->closed = TRUE;
  pthread_mutex_unlock (&link->lock);
  if (first)
    leave (link);
  pthread_rwlock_unlock (&cell->place);
  if (first)
    link_unref (link);                  /* the cell's */
}

/* ---- moving ------------------------------------------------------------------------------------------------ */

void
link_find_positions (Link *link, gboolean here)
{
  uint64_t taken, written, answered;

  link->subscribed = 0;                 /* that goes along */
  if (here)
    {
      link->taken = link->channel->requests.at;
      link->answered = link->channel->answers.head;
      return;
    }
  /* What a child left: it may be anything, but not more than there was.  Forward only; a caller whose position is nonsense harms
   * its own channel. */
  taken = atomic_load (&link->replies->control->taken);
  written = atomic_load (&link->requests->control->head);
  taken = MIN (taken, written);
  if (taken % RECORD_ALIGN == 0 && taken > link->taken)
    link->taken = taken;
  answered = atomic_load (&link->requests->control->released);
  if (answered % RECORD_ALIGN != 0 || answered < link->answered)
    answered = link->answered;
  link->answered = half_end (link->replies, answered);
}

/* ---- a callee that died ------------------------------------------------------------------------------------ */

static gboolean
have_blobs (const CellField *fields, guint n)
{
  for (guint i = 0; i < n; i++)
    if (fields[i].type->kind == CELL_KIND_BLOB
        || (fields[i].type->kind == CELL_KIND_STRUCT && have_blobs (fields[i].type->fields, fields[i].type->n_fields)))
      return TRUE;
  return FALSE;
}

/* Blobs have been fetched, which can be done once. */
static gboolean
may_run_again (const Contract *contract, guint number)
{
  const ContractCallable *callable = number < contract->n_callables ? &contract->callables[number] : NULL;

  return callable != NULL && (callable->flags & 1u << CELL_ATTRIBUTE_IDEMPOTENT) != 0 && !have_blobs (callable->in, callable->n_in);
}

/* The one request that was taken and whose memory has not been given back, which its consumer does when the handler has
 * returned.  Its caller's own memory, and what a child says of it. */
static gboolean
is_unfinished (Link *link, uint64_t at)
{
  const Record *record = (const Record *) (link->requests->data + (at & (link->requests->capacity - 1)));
  uint32_t length;

  if (load_acquire (&record->sequence) != link->requests->salt + at)
    return FALSE;
  length = *(const volatile uint32_t *) &record->length;
  return length < link->requests->capacity && at + record_size (length) == link->taken
         && may_run_again (link->cell->contract, *(const volatile uint16_t *) &record->method);
}

void
link_find_lost (Link *link)
{
  const HalfControl *left = link->replies->control;
  uint64_t began = link->taken, at = atomic_load (&left->released);

  link_find_positions (link, FALSE);
  link->subscribed = atomic_load (&left->subscribed);
  if (at % RECORD_ALIGN != 0 || at < began || at >= link->taken || at == link->again || !is_unfinished (link, at))
    return;
  link->taken = link->again = at;
}

/* ---- telling ----------------------------------------------------------------------------------------------- */

static void
tell_local (Link *link, Half *replies, uint64_t generation, gboolean there, gboolean crashed)
{
  MovedHalf *moved = calloc (1, sizeof *moved);

  if (moved == NULL)
    g_error ("no memory");
  *moved = (MovedHalf) {
    .half = replies != NULL ? half_ref (replies) : NULL, .generation = generation, .final_taken = link->taken,
    .final_reply = link->answered, .crashed = crashed, .untrusted = there, .bell = there ? link->cell->bell : -1,
  };
  channel_moved (link->channel, moved);
}

static void
tell_outside (Link *link, const Half *replies, uint64_t generation, gboolean there, gboolean crashed)
{
  const Half *shown = replies != NULL ? shown_half (link, replies) : NULL;
  WireMoved body = {
    .channel = link->serial, .generation = shown_generation (generation, shown == replies), .final_taken = link->taken,
    .final_reply = link->answered, .crashed = crashed, .gone = replies == NULL, .untrusted = there,
  };
  int fds[2];
  unsigned n_fds = 0;

  if (shown != NULL)
    {
      body.reply_salt = shown->salt;
      body.reply_capacity = shown->capacity;
      fds[n_fds++] = shown->fd;
      if (there)
        fds[n_fds++] = link->cell->bell;
    }
  connection_send (link->connection, WIRE_MOVED, 0, &body, NULL, 0, fds, n_fds);
}

void
link_tell (Link *link)
{
  const Half *nobody = link->cell->host->nobody;
  _Atomic uint32_t *word = (_Atomic uint32_t *) (nobody->data + (link->answered & (nobody->capacity - 1)));

  tell_outside (link, link->replies, link->cell->generation, TRUE, FALSE);
  /* He may sleep on what nobody writes: he looks once more before that, or finds it changed, or is woken. */
  atomic_fetch_add (word, 1);
  futex_wake (word, INT_MAX);
}

void
link_moved (Link *link, Half *replies, uint64_t generation, gboolean there, gboolean crashed)
{
  link->gone = replies == NULL;
  if (link->local)
    tell_local (link, replies, generation, there, crashed);
  else
    tell_outside (link, replies, generation, there, crashed);
  if (replies != NULL)
    {
      half_unref (link->replies);
      link->replies = replies;
      link->watched = (Watched) { 0 };          /* what the one before had begun is no affair of this one's */
      count_bytes (link);
    }
}

void
link_notify (Link *link)
{
  if (link->local && link->channel->notify != NULL)
    link->channel->notify (link->channel);
}

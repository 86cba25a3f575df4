/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#define G_LOG_DOMAIN "cellhost-relocate"
#include "relocate.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "authority.h"
#include "child.h"
#include "connection.h"
#include "membrane/wait.h"
#include "plugins/carry.h"
#include "plugins/settings.h"
#include "roster.h"
#include "state-file.h"

#define READY_MS 10000u                 /* for a child to load and create the cell */
#define STOP_MS 5000u                   /* for its last calls to end; it gives up before us, and says so */
#define STATE_MS 10000u                 /* to save or restore */
#define ANSWER_MS 5000u
#define STATE_MAX ((gsize) 1 << 30)
#define STOP_NS (2u * 1000000000ull)    /* for the handler that runs */
#define CLAIM_SECONDS 20

/* ---- prepare ---------------------------------------------------------------------------------------- */

/* The child runs what we loaded, or it is not this cell.  What was never loaded here is what the child says, until it is. */
static gboolean
check_contract (HostCell *cell, const WireMessage *ready, GError **error)
{
  g_autoptr(Contract) contract = contract_new_from_text (ready->tail != NULL ? ready->tail : "", ready->tail_size, error);

  if (contract == NULL)
    return FALSE;
  if (cell->contract == NULL)
    {
      if (ready->body.ready.threading > CELL_LOOP)
        return cell_set_error (error, CELL_ERROR_CORRUPT, "cell %s: its process says that its threading is %u", cell->name,
                               ready->body.ready.threading);
      cell->endpoint->threading = ready->body.ready.threading;          /* it has no callers yet */
      cell->saves = ready->body.ready.saves != 0;
      host_cell_set_contract (cell, g_steal_pointer (&contract));
      return TRUE;
    }
  if (contract->fingerprint != cell->contract->fingerprint)
    return cell_set_error (error, CELL_ERROR_CONTRACT, "cell %s: its process offers another contract than the file that was loaded", cell->name);
  return TRUE;
}

static gboolean
child_load (HostCell *cell, Child *child, GError **error)
{
  g_autoptr(GBytes) settings = settings_pack (cell->config, error);
  StatsPage *stats = child_get_stats (child);
  WireLoad body = { .plugin_size = cell->module_size, .generation = cell->generation };
  WireMessage ready;
  const void *tail;
  gboolean good;
  gsize size;

  /* Of one that was never loaded here nothing is known: it may have as many as there can be. */
  if (settings == NULL || !stats_page_new (stats, cell->contract != NULL ? cell->contract->n_callables : 2 * CONTRACT_MAX_ITEMS, error))
    return FALSE;
  tail = g_bytes_get_data (settings, &size);
  g_strlcpy (body.cell, cell->name, sizeof body.cell);
  if (!child_ask (child, WIRE_LOAD, &body, tail, (uint32_t) size, (const int[]) { cell->module_fd, stats->fd }, 2, WIRE_READY, &ready, READY_MS,
                  error))
    return FALSE;
  good = check_contract (cell, &ready, error);
  wire_message_clear (&ready);
  return good;
}

/* ---- state: bytes in memory that is passed ------------------------------------------------------------- */

static int
memfd_of_bytes (GBytes *bytes, GError **error)
{
  gsize size, at = 0;
  const char *data = g_bytes_get_data (bytes, &size);
  int fd = memfd_create ("cell-state", MFD_CLOEXEC | MFD_ALLOW_SEALING);

  while (fd >= 0 && at < size)
    {
      ssize_t n = write (fd, data + at, size - at);

      if (n < 0 && errno != EINTR)
        {
          close (fd);
          fd = -1;
        }
      else if (n > 0)
        at += (gsize) n;
    }
  if (fd < 0)
    cell_set_error (error, CELL_ERROR_NO_RESOURCES, "no memory for a cell's state: %s", g_strerror (errno));
  else
    fcntl (fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
  return fd;
}

static gboolean
bytes_to_child (Child *child, WireType type, uint32_t version, GBytes *bytes, GError **error)
{
  WireState body = { .version = version, .size = g_bytes_get_size (bytes) };
  gboolean good;
  int fd = memfd_of_bytes (bytes, error);

  if (fd < 0)
    return FALSE;
  good = child_tell (child, type, &body, &fd, 1, STATE_MS, error);
  close (fd);
  return good;
}

/* Whatever a child has put there: read once into memory of our own. */
static GBytes *
bytes_from_child (HostCell *cell, WireType type, uint32_t *ret_version, GError **error)
{
  WireMessage state;
  GBytes *bytes = NULL;
  guint8 *data;
  gsize at = 0, size;
  ssize_t n = 1;

  if (!child_ask (cell->child, type, NULL, NULL, 0, NULL, 0, WIRE_STATE, &state, STATE_MS, error))
    return NULL;
  size = state.body.state.size;
  *ret_version = state.body.state.version;
  data = size <= STATE_MAX ? g_try_malloc (size + 1) : NULL;
  while (data != NULL && at < size && (n = pread (state.fds[0], data + at, size - at, (off_t) at)) > 0)
    at += (gsize) n;
  if (data == NULL)
    cell_set_error (error, CELL_ERROR_TOO_LARGE, "cell %s: its state has %" G_GSIZE_FORMAT " bytes, more than can be moved", cell->name, size);
  else if (at < size)
    cell_set_error (error, CELL_ERROR_STATE, "cell %s: its state is shorter than it said", cell->name);
  else
    bytes = g_bytes_new_take (g_steal_pointer (&data), size);
  g_free (data);
  wire_message_clear (&state);
  return bytes;
}

GBytes *
relocate_state_from_child (HostCell *cell, uint32_t *ret_version, GError **error)
{
  return bytes_from_child (cell, WIRE_SAVE, ret_version, error);
}

gboolean
relocate_retire_child (HostCell *cell, GError **error)
{
  return child_tell (cell->child, WIRE_RETIRE, NULL, NULL, 0, STOP_MS, error);
}

static gboolean
state_to_child (HostCell *cell, Child *child, GError **error)
{
  g_autoptr(GBytes) bytes = NULL;
  uint32_t version = 0;

  bytes = cell_instance_save (cell->instance, &version, error);
  if (bytes == NULL)
    return FALSE;
  /* Nothing to remember? */
  return (g_bytes_get_size (bytes) == 0 && version == 0) || bytes_to_child (child, WIRE_RESTORE, version, bytes, error);
}

/* ---- places ------------------------------------------------------------------------------------------------ */

static void
set_place (HostCell *cell, CellLocation location, CellInstance *instance, Child *child)
{
  pthread_mutex_lock (&cell->lock);
  if (cell->child != NULL && cell->child != child)
    host_cell_keep_stats (cell);
  cell->location = location;
  cell->instance = instance;
  cell->child = child;
  cell->since = g_get_real_time ();
  if (location != CELL_LOCATION_DEAD)
    cell->moves++;
  pthread_mutex_unlock (&cell->lock);
}

static void
set_generation (HostCell *cell)
{
  pthread_mutex_lock (&cell->lock);
  cell->generation = host_next_generation (cell->host);
  pthread_mutex_unlock (&cell->lock);
}

static Link *
link_at (HostCell *cell, guint i)
{
  return g_ptr_array_index (cell->links, i);
}

static void
notify_callers (HostCell *cell)
{
  for (guint i = 0; i < cell->links->len; i++)
    link_notify (link_at (cell, i));
}

/* Its place is locked for writing: nobody is served any more, and callers learn it.  The gate is closed, or its code cannot be stopped
 * and the channels are left to it. */
static void
die (HostCell *cell, const char *reason, gboolean crashed)
{
  gboolean here = cell->location == CELL_LOCATION_HERE;

  set_generation (cell);
  for (guint i = 0; i < cell->links->len; i++)
    {
      if (!here || cell->instance == NULL)
        link_find_positions (link_at (cell, i), here);
      link_moved (link_at (cell, i), NULL, cell->generation, NULL, crashed);
    }
  set_place (cell, CELL_LOCATION_DEAD, cell->instance, NULL);
  g_free (cell->reason);
  cell->reason = g_strdup (reason);
  epoch_page_set (&cell->epoch, cell->generation, EPOCH_DEAD);
  notify_callers (cell);
}

/* What served here is held.  Nobody of ours looks at these channels again before they are given back. */
static void
leave_lanes (HostCell *cell)
{
  for (guint i = 0; i < cell->links->len; i++)
    if (!link_at (cell, i)->local)
      lanes_remove (cell->host->lanes, link_at (cell, i)->channel);
}

void
relocate_end (HostCell *cell, const char *reason, gboolean crashed)
{
  pthread_rwlock_wrlock (&cell->place);
  if (cell->instance == NULL)
    leave_lanes (cell);
  if (cell->location != CELL_LOCATION_DEAD)
    die (cell, reason, crashed);
  cell->ended = TRUE;
  pthread_rwlock_unlock (&cell->place);
}

/* ---- out ---------------------------------------------------------------------------------------------------- */

static void
drop_halves (GPtrArray *halves)
{
  for (guint i = 0; i < halves->len; i++)
    half_unref (g_ptr_array_index (halves, i));
}

/* A new half for each caller, with the child.  Those who have not mapped theirs yet are attached when they have. */
static gboolean
attach_all (HostCell *cell, Child *child, GPtrArray *halves, GError **error)
{
  for (guint i = 0; i < cell->links->len; i++)
    {
      Link *link = link_at (cell, i);
      Half *half;

      link_find_positions (link, TRUE);
      half = link_new_replies (link, link->taken, error);
      if (half == NULL)
        return FALSE;
      g_ptr_array_add (halves, half);
      if (link->mapped && !link_attach (link, child, half, error))
        return FALSE;
    }
  return TRUE;
}

static gboolean
carry_to_child (HostCell *cell, Child *child, GError **error)
{
  g_autoptr(GBytes) carry = carry_collect (cell_instance_get_service (cell->instance), error);

  return carry != NULL && bytes_to_child (child, WIRE_TAKE, 0, carry, error);
}

/* Nothing fails from here on, unless the child does not begin: then it has crashed. */
static void
hand_over_to_child (HostCell *cell, Child *child, GPtrArray *halves)
{
  CellInstance *instance = cell->instance;
  g_autoptr(GError) error = NULL;

  set_generation (cell);
  leave_lanes (cell);
  carry_leave (cell_instance_get_service (instance));
  for (guint i = 0; i < cell->links->len; i++)
    link_moved (link_at (cell, i), g_ptr_array_index (halves, i), cell->generation, child, FALSE);
  cell_instance_detach (instance);
  set_place (cell, CELL_LOCATION_CHILD, NULL, child_ref (child));
  endpoint_close (cell->endpoint);
  /* The epoch first: a caller that withdraws a call must not be told that it was not taken by a consumer it does not know of yet. */
  epoch_page_set (&cell->epoch, cell->generation, EPOCH_SERVING);
  if (!child_tell (child, WIRE_START, NULL, NULL, 0, ANSWER_MS, &error))
    {
      g_warning ("%s", error->message);
      child_kill (child);
      die (cell, error->message, TRUE);
      child_unref (child);
    }
  notify_callers (cell);
}

/* The cell is held. */
static gboolean
eject_held (HostCell *cell, Child *child, GError **error)
{
  g_autoptr(GPtrArray) halves = g_ptr_array_new ();
  CellInstance *instance = cell->instance;
  gboolean good;

  if (!state_to_child (cell, child, error))
    return FALSE;
  pthread_rwlock_wrlock (&cell->place);
  good = attach_all (cell, child, halves, error) && carry_to_child (cell, child, error);
  if (good)
    hand_over_to_child (cell, child, halves);
  else
    drop_halves (halves);
  pthread_rwlock_unlock (&cell->place);
  if (good)
    cell_instance_free (instance);      /* its fini may call others */
  return good;
}

static gboolean
can_eject (HostCell *cell, GError **error)
{
  if (cell->is_host || cell->module_fd < 0)
    return cell_set_error (error, CELL_ERROR_UNSUPPORTED, "cell %s is a part of the host and stays in it", cell->name);
  if (cell->location == CELL_LOCATION_CHILD)
    return cell_set_error (error, CELL_ERROR_EXISTS, "cell %s is in a sandbox already", cell->name);
  if (cell->location != CELL_LOCATION_HERE)
    return cell_set_error (error, CELL_ERROR_GONE, "cell %s is dead: %s", cell->name, cell->reason);
  return cell_instance_can_move (cell->instance, error);
}

/* Whom it calls it has to be allowed to call from there, or its callers would be surprised later.  checked: those for whom that was asked
 * already; NULL: nobody yet. */
static gboolean
may_call_from_there (HostCell *cell, char ***checked, GError **error)
{
  g_auto(GStrv) uses = cell_instance_get_uses (cell->instance);

  if (*checked != NULL && g_strv_equal ((const char *const *) *checked, (const char *const *) uses))
    return TRUE;
  if (!authority_check (cell, (const char *const *) uses, error))
    return FALSE;
  g_strfreev (*checked);
  *checked = g_steal_pointer (&uses);
  return TRUE;
}

static gboolean
eject (HostCell *cell, GError **error)
{
  g_auto(GStrv) uses = NULL;
  Child *child;
  gboolean good = FALSE;

  if (!can_eject (cell, error) || !may_call_from_there (cell, &uses, error))
    return FALSE;
  child = child_spawn (cell->host, cell, error);
  if (child == NULL)
    return FALSE;
  if (child_load (cell, child, error) && cell_instance_hold (cell->instance, STOP_NS, error))
    {
      good = may_call_from_there (cell, &uses, error) && eject_held (cell, child, error);
      if (!good)
        cell_instance_go_on (cell->instance);
    }
  if (!good)
    child_kill (child);
  child_unref (child);
  return good;
}

/* ---- there from the beginning ------------------------------------------------------------------------------ */

/* What it was when it was last stopped, if that was kept. */
static gboolean
kept_to_child (HostCell *cell, Child *child, GError **error)
{
  g_autoptr(GBytes) state = NULL;
  uint32_t version = 0;

  if (!state_file_read (cell, &version, &state, error))
    return FALSE;
  return state == NULL || bytes_to_child (child, WIRE_RESTORE, version, state, error) || state_file_set_aside (cell, error);
}

gboolean
relocate_begin_in_child (HostCell *cell, GError **error)
{
  Child *child;

  /* Its process may ring before it has said what it is. */
  if (!host_cell_prepare (cell, CELL_SERIAL, error) || (child = child_spawn (cell->host, cell, error)) == NULL)
    return FALSE;
  set_generation (cell);
  if (!child_load (cell, child, error) || !kept_to_child (cell, child, error))
    {
      child_kill (child);
      child_unref (child);
      return FALSE;
    }
  set_place (cell, CELL_LOCATION_CHILD, NULL, child);
  cell->moves = 0;
  epoch_page_set (&cell->epoch, cell->generation, EPOCH_SERVING);
  return child_tell (child, WIRE_START, NULL, NULL, 0, ANSWER_MS, error);
}

/* ---- back ---------------------------------------------------------------------------------------------------- */

/* Positions, and a half of ours for each caller. */
static gboolean
make_halves (HostCell *cell, GPtrArray *halves, GError **error)
{
  for (guint i = 0; i < cell->links->len; i++)
    {
      Link *link = link_at (cell, i);
      Fault fault = { 0 };
      Half *half;

      link_find_positions (link, FALSE);
      half = link_new_replies (link, link->taken, error);
      if (half == NULL)
        return FALSE;
      g_ptr_array_add (halves, half);
      if (!half_seal (half, &fault))
        return cell_set_error (error, fault.status, "%s", fault.message);
    }
  return TRUE;
}

static void
return_to_lanes (HostCell *cell)
{
  for (guint i = 0; i < cell->links->len; i++)
    {
      Link *link = link_at (cell, i);

      if (link->mapped && link->bell != NULL)
        lanes_add (cell->host->lanes, link->bell, link->channel);
    }
}

/* The child is gone. */
static void
hand_over_to_host (HostCell *cell, CellInstance *instance, GVariant *carry, GPtrArray *halves)
{
  set_generation (cell);
  for (guint i = 0; i < cell->links->len; i++)
    {
      Link *link = link_at (cell, i);
      Half *half = g_ptr_array_index (halves, i);

      channel_set_callee (link->channel, half_ref (link->requests), half_ref (half), link->taken, link->answered);
      link_moved (link, half, cell->generation, NULL, FALSE);
    }
  carry_apply (carry, cell_instance_get_service (instance), TRUE, NULL);
  cell_instance_take_over (instance);
  cell_instance_attach (instance);
  set_place (cell, CELL_LOCATION_HERE, instance, NULL);
  epoch_page_set (&cell->epoch, cell->generation, EPOCH_SERVING);
  return_to_lanes (cell);
  notify_callers (cell);
}

/* From here on there is no way back: the child goes. */
static gboolean
replace_child (HostCell *cell, CellInstance *instance, GVariant *carry, GError **error)
{
  g_autoptr(GPtrArray) halves = g_ptr_array_new ();
  Child *child = cell->child;
  gboolean good;

  pthread_rwlock_wrlock (&cell->place);
  /* It has been stopped, but nobody needs to believe that.  Only when it is dead are its positions what they will ever be. */
  good = child_kill (child) || cell_set_error (error, CELL_ERROR_CRASHED, "cell %s: its process cannot be ended", cell->name);
  good = good && make_halves (cell, halves, error);
  if (good)
    hand_over_to_host (cell, instance, carry, halves);
  else
    {
      drop_halves (halves);
      die (cell, error != NULL && *error != NULL ? (*error)->message : "it could not be taken back", TRUE);
    }
  pthread_rwlock_unlock (&cell->place);
  child_unref (child);
  return good;
}

/* The child has been stopped. */
static gboolean
absorb_stopped (HostCell *cell, CellInstance *instance, GError **error)
{
  g_autoptr(GBytes) state = NULL, bytes = NULL;
  g_autoptr(GVariant) carry = NULL;
  uint32_t version = 0, none;

  state = relocate_state_from_child (cell, &version, error);
  if (state == NULL)
    return FALSE;
  if ((g_bytes_get_size (state) > 0 || version > 0) && !cell_instance_restore (instance, version, state, error))
    return FALSE;
  bytes = bytes_from_child (cell, WIRE_GIVE, &none, error);
  carry = bytes != NULL ? carry_parse (bytes, error) : NULL;
  return carry != NULL && replace_child (cell, instance, carry, error);
}

static gboolean
absorb (HostCell *cell, GError **error)
{
  g_autoptr(CellInstance) instance = NULL;

  if (cell->location == CELL_LOCATION_HERE)
    return cell_set_error (error, CELL_ERROR_EXISTS, "cell %s is in the host already", cell->name);
  if (cell->location != CELL_LOCATION_CHILD)
    return cell_set_error (error, CELL_ERROR_GONE, "cell %s is dead: %s", cell->name, cell->reason);
  instance = host_cell_make_instance (cell, error);
  if (instance == NULL || !child_tell (cell->child, WIRE_STOP, NULL, NULL, 0, STOP_MS, error))
    return FALSE;
  if (absorb_stopped (cell, instance, error))
    {
      cell_instance_go_on (g_steal_pointer (&instance));
      return TRUE;
    }
  if (cell->location == CELL_LOCATION_CHILD)
    child_say (cell->child, WIRE_START);        /* if it hangs, it goes on when it does not any more */
  return FALSE;
}

/* ---- who asks ------------------------------------------------------------------------------------------------ */

static gboolean
relocate (HostCell *cell, gboolean (*move) (HostCell *cell, GError **error), GError **error)
{
  gboolean good;

  if (!host_cell_claim (cell, CLAIM_SECONDS, error))
    return FALSE;
  good = move (cell, error);
  if (good)
    roster_move (cell->host->roster, cell->name, cell->location == CELL_LOCATION_CHILD);
  host_cell_unclaim (cell);
  return good;
}

gboolean
relocate_eject (HostCell *cell, GError **error)
{
  return relocate (cell, eject, error);
}

gboolean
relocate_absorb (HostCell *cell, GError **error)
{
  return relocate (cell, absorb, error);
}

void
relocate_child_died (HostCell *cell, Child *child)
{
  gboolean current;

  if (!host_cell_claim (cell, 0, NULL))
    return;                             /* this thread is ending it */
  current = cell->child == child;
  if (current)
    {
      g_warning ("cell %s: its process died", cell->name);
      child_kill (child);
      pthread_rwlock_wrlock (&cell->place);
      die (cell, "its process died", TRUE);
      pthread_rwlock_unlock (&cell->place);
      child_unref (child);
    }
  host_cell_unclaim (cell);
}

void
relocate_bell_rang (HostCell *cell)
{
  pthread_mutex_lock (&cell->endpoint->lock);
  for (Channel *channel = cell->endpoint->channels; channel != NULL; channel = channel->next_in_endpoint)
    if (channel->notify != NULL)
      channel->notify (channel);
  pthread_mutex_unlock (&cell->endpoint->lock);
}

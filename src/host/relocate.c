/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#define G_LOG_DOMAIN "cellhost-relocate"
#include "relocate.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "child.h"
#include "connection.h"
#include "membrane/wait.h"

#define READY_MS 10000u                 /* for a child to load and create the cell */
#define ANSWER_MS 5000u
#define STATE_MAX ((gsize) 1 << 30)
#define STOP_NS (2u * 1000000000ull)    /* for the handler that runs */

/* ---- prepare ---------------------------------------------------------------------------------------- */

static char *
config_text (GHashTable *config)
{
  GString *text = g_string_new (NULL);
  GHashTableIter iter;
  gpointer key, value;

  if (config != NULL)
    {
      g_hash_table_iter_init (&iter, config);
      while (g_hash_table_iter_next (&iter, &key, &value))
        g_string_append_printf (text, "%s=%s\n", (char *) key, (char *) value);
    }
  return g_string_free (text, FALSE);
}

/* The child runs what we loaded, or it is not this cell. */
static gboolean
check_contract (HostCell *cell, const WireMessage *ready, GError **error)
{
  g_autoptr(Contract) contract = contract_new_from_text (ready->tail != NULL ? ready->tail : "", ready->tail_size, error);

  if (contract == NULL)
    return FALSE;
  if (contract->fingerprint != cell->contract->fingerprint)
    return cell_set_error (error, CELL_ERROR_CONTRACT, "cell %s: its process offers another contract than the file that was loaded", cell->name);
  return TRUE;
}

static gboolean
child_load (HostCell *cell, Child *child, GError **error)
{
  g_autofree char *config = config_text (cell->config);
  WireLoad body = { .plugin_size = cell->module_size, .generation = cell->generation };
  WireMessage ready;
  gboolean good;

  g_strlcpy (body.cell, cell->name, sizeof body.cell);
  if (!child_ask (child, WIRE_LOAD, &body, config, (uint32_t) strlen (config), &cell->module_fd, 1, WIRE_READY, &ready, READY_MS, error))
    return FALSE;
  good = check_contract (cell, &ready, error);
  wire_message_clear (&ready);
  return good;
}

static gboolean
simple_ask (Child *child, WireType type, GError **error)
{
  WireMessage answer;

  if (!child_ask (child, type, NULL, NULL, 0, NULL, 0, WIRE_DONE, &answer, ANSWER_MS, error))
    return FALSE;
  wire_message_clear (&answer);
  return TRUE;
}

/* ---- state --------------------------------------------------------------------------------------------- */

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
state_to_child (HostCell *cell, Child *child, GError **error)
{
  g_autoptr(GBytes) bytes = NULL;
  WireState body = { 0 };
  WireMessage answer;
  gboolean good;
  int fd;

  bytes = cell_instance_save (cell->instance, &body.version, error);
  if (bytes == NULL || (fd = memfd_of_bytes (bytes, error)) < 0)
    return FALSE;
  body.size = g_bytes_get_size (bytes);
  if (body.size == 0 && body.version == 0)
    {
      close (fd);                       /* nothing to remember */
      return TRUE;
    }
  good = child_ask (child, WIRE_RESTORE, &body, NULL, 0, &fd, 1, WIRE_DONE, &answer, ANSWER_MS, error);
  close (fd);
  if (good)
    wire_message_clear (&answer);
  return good;
}

/* Whatever a child has put there: read once into memory of our own. */
static GBytes *
state_from_child (HostCell *cell, Child *child, uint32_t *ret_version, GError **error)
{
  WireMessage state;
  GBytes *bytes = NULL;
  guint8 *data;
  gsize at = 0, size;

  if (!child_ask (child, WIRE_SAVE, NULL, NULL, 0, NULL, 0, WIRE_STATE, &state, ANSWER_MS, error))
    return NULL;
  size = state.body.state.size;
  *ret_version = state.body.state.version;
  if (size > STATE_MAX)
    cell_set_error (error, CELL_ERROR_TOO_LARGE, "cell %s: its state has %" G_GSIZE_FORMAT " bytes, more than can be moved", cell->name, size);
  else
    {
      data = g_malloc (size + 1);
      while (at < size)
        {
          ssize_t n = pread (state.fds[0], data + at, size - at, (off_t) at);

          if (n <= 0)
            break;
          at += (gsize) n;
        }
      if (at == size)
        bytes = g_bytes_new_take (data, size);
      else
        {
          g_free (data);
          cell_set_error (error, CELL_ERROR_STATE, "cell %s: its state is shorter than it said", cell->name);
        }
    }
  wire_message_clear (&state);
  return bytes;
}

/* The child's process can no longer be trusted to go on, or is dead: its calls end. */
static void
cell_died (HostCell *cell, const char *reason)
{
  cell->location = CELL_LOCATION_DEAD;
  g_free (cell->reason);
  cell->reason = g_strdup (reason);
  for (guint i = 0; i < cell->links->len; i++)
    {
      Link *link = g_ptr_array_index (cell->links, i);

      link_positions (link, FALSE, &link->taken, &link->answered);
      link_moved (link, NULL, cell->generation, link->taken, link->answered, TRUE, FALSE);
    }
  cell->generation = host_next_generation (cell->host);
  epoch_page_set (&cell->epoch, cell->generation, EPOCH_DEAD);
}

/* ---- hand over -------------------------------------------------------------------------------------------- */

/* A new half for each caller, with the child.  The cell is held, and its lock. */
static gboolean
attach_all (HostCell *cell, Child *child, GPtrArray *halves, GError **error)
{
  for (guint i = 0; i < cell->links->len; i++)
    {
      Link *link = g_ptr_array_index (cell->links, i);
      Half *half, *old = link->replies;
      WireAttach body;
      WireMessage answer;
      Fault fault = { 0 };
      int fds[3];
      unsigned n_fds;
      gboolean good;

      link_positions (link, TRUE, &link->taken, &link->answered);
      half = link_new_replies (link, link->taken, error);
      if (half == NULL)
        return FALSE;
      g_ptr_array_add (halves, half);
      link->replies = half;
      cell->child = child;
      link_to_attach (link, &body, fds, &n_fds);
      good = child_ask (child, WIRE_ATTACH, &body, NULL, 0, fds, n_fds, WIRE_DONE, &answer, ANSWER_MS, error);
      link->replies = old;
      cell->child = NULL;
      if (!good)
        return FALSE;
      wire_message_clear (&answer);
      if (!half_seal (half, &fault))
        return cell_set_error (error, fault.status, "%s", fault.message);
    }
  return TRUE;
}

/* Nothing fails from here on. */
static void
hand_over_to_child (HostCell *cell, Child *child, GPtrArray *halves)
{
  CellInstance *instance = g_steal_pointer (&cell->instance);
  g_autoptr(GError) error = NULL;

  cell->child = child;
  cell->generation = host_next_generation (cell->host);
  for (guint i = 0; i < cell->links->len; i++)
    {
      Link *link = g_ptr_array_index (cell->links, i);

      if (!link->local)
        lanes_remove (cell->host->lanes, link->channel);
      link_moved (link, g_ptr_array_index (halves, i), cell->generation, link->taken, link->answered, FALSE, TRUE);
    }
  cell_instance_detach (instance);
  cell->location = CELL_LOCATION_CHILD;
  cell->since = g_get_real_time ();
  cell->moves++;
  endpoint_close (cell->endpoint);
  /* The epoch first: a caller that withdraws a call must not be told that it was not taken by a consumer it does not know of yet. */
  epoch_page_set (&cell->epoch, cell->generation, EPOCH_SERVING);
  if (!simple_ask (child, WIRE_START, &error))
    {
      g_warning ("cell %s: %s", cell->name, error->message);
      cell->child = NULL;
      child_kill (child);
      cell_died (cell, error->message);
      child_unref (child);
    }
  cell_instance_free (instance);
}

static gboolean
is_drained (HostCell *cell, GError **error)
{
  guint n = cell_instance_count_kept (cell->instance);

  if (n == 0)
    return TRUE;
  return cell_set_error (error, CELL_ERROR_BUSY, "cell %s has %u calls that it keeps to answer later; try again", cell->name, n);
}

static gboolean
eject_stopped (HostCell *cell, Child *child, GError **error)
{
  g_autoptr(GPtrArray) halves = g_ptr_array_new ();
  gboolean good;

  if (!is_drained (cell, error) || !state_to_child (cell, child, error))
    return FALSE;
  g_mutex_lock (&cell->lock);
  good = attach_all (cell, child, halves, error);
  if (good)
    hand_over_to_child (cell, child, halves);
  else
    for (guint i = 0; i < halves->len; i++)
      half_unref (g_ptr_array_index (halves, i));
  g_mutex_unlock (&cell->lock);
  return good;
}

static gboolean
eject (HostCell *cell, GError **error)
{
  ThreadContext *thread = thread_context ();
  Child *child;

  if (cell->is_host || cell->module_fd < 0)
    return cell_set_error (error, CELL_ERROR_UNSUPPORTED, "cell %s is a part of the host and stays in it", cell->name);
  if (cell->location == CELL_LOCATION_CHILD)
    return cell_set_error (error, CELL_ERROR_EXISTS, "cell %s is in a sandbox already", cell->name);
  if (cell->location != CELL_LOCATION_HERE)
    return cell_set_error (error, CELL_ERROR_GONE, "cell %s is dead", cell->name);
  if (!cell_instance_can_move (cell->instance, error))
    return FALSE;
  child = child_spawn (cell->host, cell, error);
  if (child == NULL)
    return FALSE;
  if (child_load (cell, child, error))
    {
      if (!endpoint_stop (cell->endpoint, thread, monotonic_ns () + STOP_NS))
        cell_set_error (error, CELL_ERROR_BUSY, "cell %s is in a call that has not ended after %u s; it stays where it is", cell->name,
                        (unsigned) (STOP_NS / 1000000000u));
      else if (eject_stopped (cell, child, error))
        return TRUE;
      else
        endpoint_resume (cell->endpoint, thread);
    }
  child_kill (child);
  child_unref (child);
  return FALSE;
}

gboolean
relocate_eject (HostCell *cell, GError **error)
{
  gboolean good;

  g_mutex_lock (&cell->move);
  good = eject (cell, error);
  g_mutex_unlock (&cell->move);
  return good;
}

/* ---- back ---------------------------------------------------------------------------------------------------- */

/* The child is gone.  Each caller gets a half of ours; the cell's lock is held. */
static gboolean
hand_over_to_host (HostCell *cell, CellInstance *instance, GError **error)
{
  g_autoptr(GPtrArray) halves = g_ptr_array_new ();

  for (guint i = 0; i < cell->links->len; i++)
    {
      Link *link = g_ptr_array_index (cell->links, i);
      Half *half;

      link_positions (link, FALSE, &link->taken, &link->answered);
      half = link_new_replies (link, link->taken, error);
      if (half == NULL || !half_seal (half, NULL))
        return FALSE;
      g_ptr_array_add (halves, half);
    }
  cell->generation = host_next_generation (cell->host);
  for (guint i = 0; i < cell->links->len; i++)
    {
      Link *link = g_ptr_array_index (cell->links, i);
      Half *half = g_ptr_array_index (halves, i);

      channel_set_callee (link->channel, half_ref (link->requests), half_ref (half), link->taken, link->answered);
      link_moved (link, half, cell->generation, link->taken, link->answered, FALSE, FALSE);
    }
  cell->instance = instance;
  cell_instance_attach (instance);
  cell->location = CELL_LOCATION_HERE;
  cell->since = g_get_real_time ();
  cell->moves++;
  return TRUE;
}

static void
serve_here (HostCell *cell)
{
  epoch_page_set (&cell->epoch, cell->generation, EPOCH_SERVING);
  for (guint i = 0; i < cell->links->len; i++)
    {
      Link *link = g_ptr_array_index (cell->links, i);

      if (link->mapped && link->bell != NULL)
        lanes_add (cell->host->lanes, link->bell, link->channel);
    }
}

static gboolean
absorb_stopped (HostCell *cell, Child *child, CellInstance *instance, GError **error)
{
  g_autoptr(GBytes) state = NULL;
  uint32_t version = 0;
  gboolean good;

  state = state_from_child (cell, child, &version, error);
  if (state == NULL)
    return FALSE;
  if ((g_bytes_get_size (state) > 0 || version > 0) && !cell_instance_restore (instance, version, state, error))
    return FALSE;
  g_mutex_lock (&cell->lock);
  cell->child = NULL;
  child_kill (child);                   /* it cannot write to a ring any more */
  good = hand_over_to_host (cell, instance, error);
  if (good)
    serve_here (cell);
  else
    cell_died (cell, "no memory for its channels");
  g_mutex_unlock (&cell->lock);
  child_unref (child);
  if (good)
    endpoint_resume (cell->endpoint, thread_context ());
  return good;
}

static gboolean
absorb (HostCell *cell, GError **error)
{
  g_autoptr(CellInstance) instance = NULL;
  Child *child = cell->child;

  if (cell->location == CELL_LOCATION_HERE)
    return cell_set_error (error, CELL_ERROR_EXISTS, "cell %s is in the host already", cell->name);
  if (cell->location != CELL_LOCATION_CHILD)
    return cell_set_error (error, CELL_ERROR_GONE, "cell %s is dead", cell->name);
  instance = host_cell_make_instance (cell, error);
  if (instance == NULL || !simple_ask (child, WIRE_STOP, error))
    return FALSE;
  if (absorb_stopped (cell, child, instance, error))
    {
      instance = NULL;
      return TRUE;
    }
  if (cell->location == CELL_LOCATION_CHILD)
    simple_ask (child, WIRE_START, NULL);
  return FALSE;
}

gboolean
relocate_absorb (HostCell *cell, GError **error)
{
  gboolean good;

  g_mutex_lock (&cell->move);
  good = absorb (cell, error);
  g_mutex_unlock (&cell->move);
  return good;
}

void
relocate_child_died (HostCell *cell, Child *child)
{
  g_mutex_lock (&cell->move);
  g_mutex_lock (&cell->lock);
  if (cell->child == child)
    {
      g_warning ("cell %s: its process died", cell->name);
      cell->child = NULL;
      child_kill (child);
      cell_died (cell, "its process died");
      child_unref (child);
    }
  g_mutex_unlock (&cell->lock);
  g_mutex_unlock (&cell->move);
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

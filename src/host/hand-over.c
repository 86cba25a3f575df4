/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The hand-over of a relocation: each caller is told where the old replies end and gets the new memory, and the new consumer
 * starts.
 */
#include "relocate-own.h"

#include "cell-build.h"
#include "child.h"
#include "plugins/carry.h"
#include "watchdog.h"

#define ANSWER_MS 5000u
#define ATTACH_ALL_MS 30000u            /* to attach all callers: one that takes its time for each would keep all of them waiting */
#define TOLD_MAX 64u                    /* questions that a new process has not answered, at a time */

/* A child says that it serves nobody any more, but nobody needs to believe that.  Only when it is seen to stand for good are its
 * positions what they will ever be.  That takes a quarter of a move, and one whose code is let into the host in this moment is
 * only told to stand: if it has what it takes to go on all the same it can answer calls that are taken once more.  It is killed
 * when callers go on: what the kernel does then takes a processor from them. */
static gboolean
find_positions (Move *move, GError **error)
{
  HostCell *cell = move->cell;
  Child *child = move->old.child;

  move->no_way_back = child != NULL;
  if (child != NULL)
    child_expect_end (child);
  if (child != NULL && move->new.child != NULL && !child_freeze (child))
    return cell_set_error (error, CELL_ERROR_CRASHED, "cell %s: its process cannot be ended", cell->name);
  for (guint i = 0; i < cell->links->len && move_has_old (move); i++)
    link_find_positions (link_at (cell, i), move->old.instance != NULL);
  return TRUE;
}

gboolean
hand_over_wait_for_new (Move *move, guint most_open, GError **error)
{
  while (g_queue_get_length (&move->told) > most_open)
    if (move->attached_by != 0 && g_get_monotonic_time () > move->attached_by)
      return cell_set_error (error, CELL_ERROR_DEADLINE, "cell %s: its process did not attach its callers within %u s",
                             move->cell->name, ATTACH_ALL_MS / 1000);
    else if (!child_finish (g_queue_pop_head (&move->told), WIRE_DONE, NULL, error))
      return FALSE;
  return TRUE;
}

static gboolean
attach (Move *move, Link *link, Half *half, GError **error)
{
  if (move->attached_by == 0)
    move->attached_by = g_get_monotonic_time () + ATTACH_ALL_MS * G_TIME_SPAN_MILLISECOND;
  g_queue_push_tail (&move->told, link_attach (link, move->new.child, half));
  return hand_over_wait_for_new (move, TOLD_MAX, error);
}

/* References to those that can be made ready: who comes from now on, or maps its half, has to wait a little longer. */
static GPtrArray *
early_links (HostCell *cell, gboolean mapped)
{
  GPtrArray *links = g_ptr_array_new_with_free_func ((GDestroyNotify) link_unref);

  pthread_mutex_lock (&cell->lock);
  for (guint i = 0; i < cell->links->len; i++)
    if (!link_at (cell, i)->gone && (link_at (cell, i)->mapped || !mapped))
      g_ptr_array_add (links, link_ref (link_at (cell, i)));
  pthread_mutex_unlock (&cell->lock);
  return links;
}

static gboolean
get_ready (Move *move, Link *link, GError **error)
{
  Half *half = link_make_replies (link, error);

  if (half == NULL)
    return FALSE;
  g_hash_table_insert (move->ready, g_memdup2 (&link->serial, sizeof link->serial), half);
  return move->new.child == NULL || attach (move, link, half, error);
}

gboolean
hand_over_get_all_ready (Move *move, GError **error)
{
  HostCell *cell = move->cell;
  g_autoptr(GPtrArray) links = NULL;

  if (!move_has_old (move) || move_stays_here (move))
    return TRUE;
  pthread_rwlock_rdlock (&cell->place);
  links = early_links (cell, move->new.child != NULL);
  pthread_rwlock_unlock (&cell->place);
  for (guint i = 0; i < links->len; i++)
    if (!get_ready (move, g_ptr_array_index (links, i), error))
      return FALSE;
  if (!hand_over_wait_for_new (move, 0, error))
    return FALSE;
  if (move->old.child != NULL && move->new.child != NULL)
    child_will_freeze (move->old.child);
  move->attached_by = 0;                /* those who come later, later: the old one may take its time to stop and to save */
  return TRUE;
}

/* What was made ready for it, and is placed now; NULL: nothing was. */
static Half *
take_ready (Move *move, Link *link)
{
  Half *half = NULL;
  gpointer serial = NULL;

  if (link->gone || !g_hash_table_steal_extended (move->ready, &link->serial, &serial, (gpointer *) &half))
    return NULL;
  g_free (serial);
  link_place_replies (link, half, link->taken);
  if (move->new.child != NULL)
    g_array_append_val (move->places, ((WirePlace) { link->serial, link->taken, link->answered }));
  return half;
}

static Half *
make_half (Move *move, Link *link, GError **error)
{
  return move_has_old (move) && !link->gone ? link_new_replies (link, link->taken, error) : half_ref (link->replies);
}

/* A new half for each caller, with the child if it is one.  Those who have not mapped theirs yet are attached when they have. */
static gboolean
make_halves (Move *move, GError **error)
{
  HostCell *cell = move->cell;

  for (guint i = 0; i < cell->links->len; i++)
    {
      Link *link = link_at (cell, i);
      Half *ready = take_ready (move, link), *half = ready != NULL ? ready : make_half (move, link, error);

      if (half == NULL)
        return FALSE;
      link->late = FALSE;
      g_ptr_array_add (move->halves, half);
      g_ptr_array_add (move->left, half_ref (link->replies));
      g_ptr_array_add (move->left, half_ref (link->channel->answer_half));
      if (link->gone)
        continue;
      if (move->new.child != NULL ? ready == NULL && link->mapped && !attach (move, link, half, error)
                                  : !link_seal_half (half, error))
        return FALSE;
    }
  return TRUE;
}

/* Those that were made ready; and whose caller has gone meanwhile is not served. */
static gboolean
place_all (Move *move, GError **error)
{
  const WirePlace *places = (const WirePlace *) (void *) move->places->data;
  GHashTableIter iter;
  gpointer serial;

  g_hash_table_iter_init (&iter, move->ready);
  while (g_hash_table_iter_next (&iter, &serial, NULL))
    child_say (move->new.child, WIRE_DETACH, &(WireRef) { *(const uint64_t *) serial });
  for (guint i = 0; i < move->places->len; i += WIRE_PLACES_MAX)
    {
      guint n = MIN (move->places->len - i, WIRE_PLACES_MAX);

      g_queue_push_tail (&move->told, child_begin (move->new.child, WIRE_PLACE, NULL, &places[i], (uint32_t) (n * sizeof *places),
                                                   NULL, 0, ANSWER_MS));
    }
  return hand_over_wait_for_new (move, TOLD_MAX, error);
}

/* A child has mapped what it writes to, and has all that it was told. */
static gboolean
settle (Move *move, GError **error)
{
  HostCell *cell = move->cell;

  if (move->new.child == NULL)
    return TRUE;
  if (!place_all (move, error))
    return FALSE;
  if (move->carry != NULL && !consumer_take (&move->new, move->carry, &move->told, error))
    return FALSE;
  if (!g_queue_is_empty (&move->told))
    child_await (g_queue_peek_tail (&move->told));
  if (!hand_over_wait_for_new (move, 0, error))
    return FALSE;
  for (guint i = 0; i < cell->links->len; i++)
    if (!link_at (cell, i)->gone && link_at (cell, i)->mapped && !link_seal_half (g_ptr_array_index (move->halves, i), error))
      return FALSE;
  return TRUE;
}

static void
leave_instance (CellInstance *instance)
{
  carry_leave (cell_instance_get_service (instance));
  cell_instance_detach (instance);
}

/* The callee's end of each channel, and what was carried along, to an instance of ours. */
static void
arrive_here (Move *move)
{
  HostCell *cell = move->cell;
  CellInstance *instance = move->new.instance;

  for (guint i = 0; i < cell->links->len; i++)
    {
      Link *link = link_at (cell, i);

      if (link->gone)
        continue;
      channel_set_callee (link->channel, half_ref (link->requests), half_ref (g_ptr_array_index (move->halves, i)), link->taken,
                          link->answered);
      /* All of the half is free, and no caller is asked what it has read: a process that was not seen to stand may have gone on,
       * and what it has answered then is no fault of whoever has read it. */
      if (move->old.child != NULL)
        ring_writer_all_free (&link->channel->answers);
    }
  if (move->carried != NULL)
    carry_apply (move->carried, cell_instance_get_service (instance), TRUE, NULL);
  cell_instance_take_over (instance);
  cell_instance_attach (instance);
}

static gboolean
take_build (Move *move)
{
  if (move->build != NULL)
    cell_build_take (move->build, move->cell);
  move->build = NULL;
  return TRUE;
}

/* To a consumer in another place, or in the place of one that is gone. */
static void
tell_callers (Move *move)
{
  HostCell *cell = move->cell;

  for (guint i = 0; i < cell->links->len; i++)
    if (!link_at (cell, i)->gone)
      link_moved (link_at (cell, i), half_ref (g_ptr_array_index (move->halves, i)), cell->generation,
                  move->new.child != NULL, FALSE);
}

static void
return_to_lanes (HostCell *cell)
{
  for (guint i = 0; i < cell->links->len; i++)
    {
      Link *link = link_at (cell, i);

      if (link->mapped && link->bell != NULL && !link->gone)
        lanes_add (cell->host->lanes, link->bell, link->channel);
    }
}

/* Nothing fails from here on, unless a child does not begin: then it has crashed. */
static gboolean
hand_over (Move *move, GError **error)
{
  HostCell *cell = move->cell;
  gboolean there = move->new.child != NULL;
  ChildQuestion *starting = NULL;

  move->no_way_back = TRUE;
  take_build (move);
  relocate_set_generation (cell);
  if (move->old.instance != NULL)
    {
      relocate_leave_lanes (cell);
      leave_instance (move->old.instance);
    }
  if (!there)
    arrive_here (move);
  tell_callers (move);
  relocate_set_place (cell, there ? CELL_LOCATION_CHILD : CELL_LOCATION_HERE, &move->new);
  move->handed_over = TRUE;
  if (there)
    {
      endpoint_close (cell->endpoint);
      watchdog_wake (cell->host, child_get_hang_ms (move->new.child));
    }
  /* The epoch first: a caller that withdraws a call must not be told that it was not taken by a consumer it does not know of
   * yet.  To map its new half takes it about as long as a consumer takes to begin. */
  epoch_page_set (&cell->epoch, cell->generation, EPOCH_SERVING);
  if (there)
    starting = child_begin (move->new.child, WIRE_START, NULL, NULL, 0, NULL, 0, ANSWER_MS);
  else
    return_to_lanes (cell);
  relocate_notify_callers (cell);
  return !there || child_finish (starting, WIRE_DONE, NULL, error);
}

/* Both are here: callers keep their channels, and what they have in them. */
static gboolean
exchange (Move *move)
{
  HostCell *cell = move->cell;

  relocate_set_generation (cell);
  cell_instance_move_kept (move->old.instance, move->new.instance);
  cell_instance_detach (move->old.instance);
  take_build (move);
  cell_instance_take_over (move->new.instance);
  cell_instance_attach (move->new.instance);
  relocate_set_place (cell, CELL_LOCATION_HERE, &move->new);
  move->handed_over = TRUE;
  epoch_page_set (&cell->epoch, cell->generation, EPOCH_SERVING);
  return TRUE;
}

gboolean
hand_over_replace (Move *move, GError **error)
{
  HostCell *cell = move->cell;
  gboolean good;

  pthread_rwlock_wrlock (&cell->place);
  if (move_stays_here (move))
    good = exchange (move);
  else
    good = find_positions (move, error) && (!move->no_way_back || take_build (move)) && make_halves (move, error)
         && settle (move, error) && hand_over (move, error);
  pthread_rwlock_unlock (&cell->place);
  return good;
}

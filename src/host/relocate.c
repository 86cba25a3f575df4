/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define G_LOG_DOMAIN "cellhost-relocate"
#include "relocate.h"

#include <time.h>

#include "authority.h"
#include "cell-build.h"
#include "child.h"
#include "consumer.h"
#include "membrane/wait.h"
#include "placement.h"
#include "plugins/carry.h"
#include "roster.h"
#include "state-file.h"
#include "supervise.h"
#include "suspects.h"
#include "trust.h"
#include "watchdog.h"

#define ANSWER_MS 5000u
#define ATTACH_MS 30000u                /* to attach all callers: one that takes its time for each would keep all of them waiting */
#define CLAIM_SECONDS 20
#define LET_GO_NS 1000000u              /* for callers to have their first answers */
#define TOLD_MAX 64u                     /* questions that a new process has not answered, at a time */

typedef struct
{
  HostCell *cell;
  HostBuild *build;             /* of the new one; NULL: the one that the cell has */
  Consumer old, new;            /* old: neither of them when there is none */
  GBytes *state;                /* what the old one has saved, of that version; NULL: nothing yet */
  uint32_t version;
  GBytes *carry;                /* what it gives; NULL: nothing */
  GVariant *carried;            /* the same from a child, looked at */
  GPtrArray *halves;            /* for the replies of each caller */
  GHashTable *ready;            /* serial of a link → half for its replies: made, and with a child attached, before anybody waits */
  GArray *places;               /* WirePlace: where the new one, a child, goes on with them */
  GQueue told;                  /* questions to the new one, to be answered with WIRE_DONE, in order */
  Placement placement;
  gint64 attached_by;           /* monotonic µs: when callers have to be attached; 0: none has been yet */
  GPtrArray *left;              /* halves that nobody here reads any more: given back when callers go on, and not before */
  gboolean no_way_back;         /* the old one is gone, or about to be */
  gboolean handed_over;         /* the new one is the cell's */
} Move;

/* ---- places ------------------------------------------------------------------------------------------------ */

static void
set_place_locked (HostCell *cell, CellLocation location, const Consumer *consumer)
{
  if (cell->child != NULL && cell->child != consumer->child)
    host_cell_keep_stats (cell);
  if (cell->child != consumer->child)
    g_ptr_array_set_size (cell->left, 0);
  cell->location = location;
  cell->held = FALSE;
  cell->instance = consumer->instance;
  cell->child = consumer->child;
  cell->since = g_get_real_time ();
}

static void
set_place (HostCell *cell, CellLocation location, const Consumer *consumer)
{
  pthread_mutex_lock (&cell->lock);
  set_place_locked (cell, location, consumer);
  pthread_mutex_unlock (&cell->lock);
}

/* Who sees that nobody serves the cell sees why with it. */
static void
set_not_served (HostCell *cell, CellLocation location, CellInstance *instance, const char *why)
{
  pthread_mutex_lock (&cell->lock);
  set_place_locked (cell, location, &(Consumer) { .instance = instance });
  g_free (cell->reason);
  cell->reason = g_strdup (why);
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

/* What served here is held.  Nobody of ours looks at these channels again before they are given back. */
static void
leave_lanes (HostCell *cell)
{
  for (guint i = 0; i < cell->links->len; i++)
    if (!link_at (cell, i)->local)
      lanes_remove (cell->host->lanes, link_at (cell, i)->channel);
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

/* ---- no consumer -------------------------------------------------------------------------------------------- */

/* Its place is locked for writing: nobody is served any more, and callers learn it.  The gate is closed, or its code cannot be
 * stopped and the channels are left to it. */
static void
die (HostCell *cell, const char *reason, gboolean crashed)
{
  gboolean here = cell->location == CELL_LOCATION_HERE;

  set_generation (cell);
  for (guint i = 0; i < cell->links->len; i++)
    {
      Link *link = link_at (cell, i);

      if (cell->child != NULL || (here && cell->instance == NULL))
        link_find_positions (link, here);
      link_moved (link, NULL, cell->generation, FALSE, crashed);
    }
  set_not_served (cell, CELL_LOCATION_DEAD, cell->instance, reason);
  epoch_page_set (&cell->epoch, cell->generation, EPOCH_DEAD);
  notify_callers (cell);
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

void
relocate_give_up (HostCell *cell, const char *why)
{
  pthread_rwlock_wrlock (&cell->place);
  die (cell, why, TRUE);
  pthread_rwlock_unlock (&cell->place);
}

/* The successor's memory is there before the successor is: what callers send meanwhile waits for it. */
static void
lose_caller (Link *link, uint64_t generation)
{
  g_autoptr(GError) error = NULL;
  Half *half;

  link_find_lost (link);
  half = link_new_replies (link, link->taken, &error);
  if (half == NULL)
    g_warning ("a caller of cell %s has to begin anew: %s", link->cell->name, error->message);
  link_moved (link, half, generation, TRUE, TRUE);
}

void
relocate_lose (HostCell *cell, const char *why)
{
  Child *child = cell->child;

  pthread_rwlock_wrlock (&cell->place);
  set_generation (cell);
  for (guint i = 0; i < cell->links->len; i++)
    if (!link_at (cell, i)->gone)
      lose_caller (link_at (cell, i), cell->generation);
  set_not_served (cell, CELL_LOCATION_RESTARTING, NULL, why);
  epoch_page_set (&cell->epoch, cell->generation, EPOCH_SERVING);
  notify_callers (cell);
  pthread_rwlock_unlock (&cell->place);
  child_unref (child);
}

/* ---- hand over ------------------------------------------------------------------------------------------------ */

static gboolean
stays_here (const Move *move)
{
  return move->old.instance != NULL && move->new.instance != NULL;
}

static gboolean
has_old (const Move *move)
{
  return move->old.instance != NULL || move->old.child != NULL;
}

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
  for (guint i = 0; i < cell->links->len && has_old (move); i++)
    link_find_positions (link_at (cell, i), move->old.instance != NULL);
  return TRUE;
}

static gboolean
seal (Half *half, GError **error)
{
  Fault fault = { 0 };

  return half_seal (half, &fault) || cell_set_error (error, fault.status, "%s", fault.message);
}

/* What does not depend on the answer is said meanwhile; how much of it is open has a bound, for a process keeps it until it is
 * read. */
static gboolean
wait_for_new (Move *move, guint most_open, GError **error)
{
  while (g_queue_get_length (&move->told) > most_open)
    if (move->attached_by != 0 && g_get_monotonic_time () > move->attached_by)
      return cell_set_error (error, CELL_ERROR_DEADLINE, "cell %s: its process did not attach its callers within %u s",
                             move->cell->name, ATTACH_MS / 1000);
    else if (!child_finish (g_queue_pop_head (&move->told), WIRE_DONE, NULL, error))
      return FALSE;
  return TRUE;
}

static gboolean
attach (Move *move, Link *link, Half *half, GError **error)
{
  if (move->attached_by == 0)
    move->attached_by = g_get_monotonic_time () + ATTACH_MS * G_TIME_SPAN_MILLISECOND;
  g_queue_push_tail (&move->told, link_attach (link, move->new.child, half));
  return wait_for_new (move, TOLD_MAX, error);
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

/* While the old one serves: to make a caller's memory and to map it takes as long as all the rest. */
static gboolean
get_all_ready (Move *move, GError **error)
{
  HostCell *cell = move->cell;
  g_autoptr(GPtrArray) links = NULL;

  if (!has_old (move) || stays_here (move))
    return TRUE;
  pthread_rwlock_rdlock (&cell->place);
  links = early_links (cell, move->new.child != NULL);
  pthread_rwlock_unlock (&cell->place);
  for (guint i = 0; i < links->len; i++)
    if (!get_ready (move, g_ptr_array_index (links, i), error))
      return FALSE;
  if (!wait_for_new (move, 0, error))
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
  return has_old (move) && !link->gone ? link_new_replies (link, link->taken, error) : half_ref (link->replies);
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
      if (move->new.child != NULL ? ready == NULL && link->mapped && !attach (move, link, half, error) : !seal (half, error))
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
  return wait_for_new (move, TOLD_MAX, error);
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
  if (!wait_for_new (move, 0, error))
    return FALSE;
  for (guint i = 0; i < cell->links->len; i++)
    if (!link_at (cell, i)->gone && link_at (cell, i)->mapped && !seal (g_ptr_array_index (move->halves, i), error))
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

  for (guint i = 0; i < cell->links->len && has_old (move); i++)
    if (!link_at (cell, i)->gone)
      link_moved (link_at (cell, i), half_ref (g_ptr_array_index (move->halves, i)), cell->generation,
                  move->new.child != NULL, FALSE);
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
  if (has_old (move))
    set_generation (cell);
  if (move->old.instance != NULL)
    {
      leave_lanes (cell);
      leave_instance (move->old.instance);
    }
  if (!there)
    arrive_here (move);
  tell_callers (move);
  set_place (cell, there ? CELL_LOCATION_CHILD : CELL_LOCATION_HERE, &move->new);
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
  notify_callers (cell);
  return !there || child_finish (starting, WIRE_DONE, NULL, error);
}

/* Both are here: callers keep their channels, and what they have in them. */
static gboolean
exchange (Move *move)
{
  HostCell *cell = move->cell;

  set_generation (cell);
  cell_instance_move_kept (move->old.instance, move->new.instance);
  cell_instance_detach (move->old.instance);
  take_build (move);
  cell_instance_take_over (move->new.instance);
  cell_instance_attach (move->new.instance);
  set_place (cell, CELL_LOCATION_HERE, &move->new);
  move->handed_over = TRUE;
  epoch_page_set (&cell->epoch, cell->generation, EPOCH_SERVING);
  return TRUE;
}

/* The old one is held. */
static gboolean
replace (Move *move, GError **error)
{
  HostCell *cell = move->cell;
  gboolean good;

  pthread_rwlock_wrlock (&cell->place);
  if (stays_here (move))
    good = exchange (move);
  else
    good = find_positions (move, error) && (!move->no_way_back || take_build (move)) && make_halves (move, error)
         && settle (move, error) && hand_over (move, error);
  pthread_rwlock_unlock (&cell->place);
  return good;
}

/* ---- the operation ------------------------------------------------------------------------------------------------- */

/* Whom it calls it has to be allowed to call from there, or its callers would be surprised later.  checked: those for whom that
 * was asked already; NULL: nobody yet. */
static gboolean
may_call_from_there (Move *move, char ***checked, GError **error)
{
  g_auto(GStrv) uses = NULL;

  if (move->old.instance == NULL)
    return TRUE;                        /* it is there, or nobody has asked it yet */
  uses = cell_instance_get_uses (move->old.instance);
  if (*checked != NULL && g_strv_equal ((const char *const *) *checked, (const char *const *) uses))
    return TRUE;
  if (!authority_check (move->cell, move->build != NULL ? move->build->key_file : move->cell->key_file,
                        (const char *const *) uses, error))
    return FALSE;
  g_strfreev (*checked);
  *checked = g_steal_pointer (&uses);
  return TRUE;
}

static gboolean
bring_along (Move *move, GError **error)
{
  move->carry = consumer_give (&move->old, move->cell, error);
  if (move->carry == NULL)
    return FALSE;
  if (g_bytes_get_size (move->carry) == 0)
    g_clear_pointer (&move->carry, g_bytes_unref);
  else if (move->new.instance != NULL)
    move->carried = carry_parse (move->carry, error);
  return move->carry == NULL || move->new.child != NULL || move->carried != NULL;
}

static gboolean
move_state (Move *move, GError **error)
{
  if (!has_old (move))
    return consumer_restore_kept (&move->new, move->cell, error);
  move->state = consumer_save (&move->old, move->cell, &move->version, error);
  if (move->state == NULL || (!stays_here (move) && !bring_along (move, error)))
    return FALSE;
  consumer_pause (&move->old);
  if (!consumer_restore (&move->new, move->version, move->state, &move->told, error))
    return FALSE;
  if (stays_here (move))
    return TRUE;
  /* While there is a way back; and whoever comes or goes is not to wait for a state that takes its time. */
  return (move->old.instance != NULL && g_bytes_get_size (move->state) <= WIRE_TAIL_MAX) || wait_for_new (move, 0, error);
}

/* The old one is held: it goes on, or is replaced. */
static gboolean
move_held (Move *move, char ***uses, GError **error)
{
  if (move->new.child != NULL && !may_call_from_there (move, uses, error))
    return FALSE;
  return move_state (move, error) && replace (move, error);
}

/* For whoever begins in the place of both, and knows what was kept. */
static void
keep_state (const Move *move)
{
  g_autoptr(GError) error = NULL;

  if (move->state != NULL && !state_file_keep_saved (move->cell, move->version, move->state, &error))
    g_warning ("%s", error->message);
}

/* Those who came while its child was held, which serves on. */
static void
let_in (HostCell *cell)
{
  pthread_rwlock_wrlock (&cell->place);
  cell->held = FALSE;
  for (guint i = 0; i < cell->links->len; i++)
    link_attach_late (link_at (cell, i));
  pthread_rwlock_unlock (&cell->place);
}

/* The old one goes on; or it is gone, and what comes of that is the supervisor's to say.  A successor of none that has been
 * handed the calls is left to who asked for it; one that has not may have written to what its callers have, and they get other
 * memory once more. */
static void
fail (Move *move, const char *why)
{
  HostCell *cell = move->cell;

  if (move->no_way_back && move->old.child != NULL)
    child_kill_frozen (move->old.child);
  if (has_old (move) && !move->no_way_back)
    {
      consumer_go_on (&move->old);
      let_in (cell);
    }
  else if (has_old (move))
    {
      keep_state (move);
      supervise_lost (cell, why);
    }
  else if (!move->handed_over && cell->location == CELL_LOCATION_RESTARTING)
    {
      child_kill (move->new.child);
      relocate_lose (cell, why);
    }
}

/* A child is told of nobody who comes from now on: it may be at its state for long, or stand.  Whoever comes goes along. */
static gboolean
hold (Move *move, GError **error)
{
  HostCell *cell = move->cell;

  if (move->old.child != NULL)
    {
      pthread_rwlock_wrlock (&cell->place);
      cell->held = TRUE;
      pthread_rwlock_unlock (&cell->place);
    }
  if (!has_old (move) || consumer_hold (&move->old, error))
    return TRUE;
  let_in (cell);
  return FALSE;
}

/* 0: it is none, or has ended. */
static GPid
pid_of (Child *child)
{
  return child != NULL ? child_get_live_pid (child) : 0;
}

static gboolean
run (Move *move, gboolean there, GError **error)
{
  g_auto(GStrv) uses = NULL;

  if (there && !may_call_from_there (move, &uses, error))
    return FALSE;
  if (there)
    placement_begin (&move->placement, move->cell);
  if (!consumer_prepare (&move->new, move->cell, move->build, there, error))
    return FALSE;
  /* What its init has started here runs where it is to stay. */
  if (!there)
    placement_begin (&move->placement, move->cell);
  if (!get_all_ready (move, error))
    return FALSE;
  placement_again (&move->placement, pid_of (move->old.child));
  if (!hold (move, error))
    return FALSE;
  if (move_held (move, &uses, error))
    return TRUE;
  fail (move, (*error)->message);
  return FALSE;
}

/* The process that serves from now on, or goes on; 0: none does. */
static GPid
server_of (const Move *move, gboolean good)
{
  return good ? pid_of (move->new.child) : !move->no_way_back ? pid_of (move->old.child) : 0;
}

/* Callers go on first: to clean up takes as long as a move. */
static void
clean_up (Move *move, gboolean good)
{
  if (good && has_old (move) && !stays_here (move))
    clock_nanosleep (CLOCK_MONOTONIC, 0, &(struct timespec) { 0, LET_GO_NS }, NULL);
  placement_again (&move->placement, server_of (move, good));
  consumer_forget (&move->old);
  g_queue_clear_full (&move->told, (GDestroyNotify) child_drop);
  g_clear_pointer (&move->state, g_bytes_unref);
  g_clear_pointer (&move->carry, g_bytes_unref);
  g_clear_pointer (&move->carried, g_variant_unref);
}

/* Who is left over.  Its fini may call others, and take long. */
static void
end_other (Move *move, gboolean good)
{
  const Consumer *other = move->handed_over ? &move->old : &move->new;

  if (other->child != NULL)
    child_take_aside (other->child);
  placement_end (&move->placement, server_of (move, good));
  consumer_end (other);
}

static gboolean
move_to (HostCell *cell, HostBuild *build, gboolean there, GError **error)
{
  g_autoptr(GPtrArray) halves = g_ptr_array_new_with_free_func ((GDestroyNotify) half_unref);
  g_autoptr(GHashTable) ready = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, (GDestroyNotify) half_unref);
  g_autoptr(GArray) places = g_array_new (FALSE, FALSE, sizeof (WirePlace));
  g_autoptr(GPtrArray) left = g_ptr_array_new_with_free_func ((GDestroyNotify) half_unref);
  Move move = {
    .cell = cell, .build = build, .old = { .instance = cell->instance, .child = cell->child }, .told = G_QUEUE_INIT, .ready = ready,
    .places = places, .halves = halves, .left = left,
  };
  g_autoptr(GError) wrong = NULL;
  gboolean good = run (&move, there, &wrong);

  if (good && !there)
    cell_instance_go_on (move.new.instance);
  clean_up (&move, good);
  end_other (&move, good);
  if (wrong != NULL)
    g_propagate_error (error, g_steal_pointer (&wrong));
  return good;
}

/* ---- targets --------------------------------------------------------------------------------------------------------- */

static gboolean
not_served (HostCell *cell, GError **error)
{
  if (cell->location == CELL_LOCATION_RESTARTING)
    return cell_set_error (error, CELL_ERROR_BUSY, "cell %s is being restarted: %s; try again", cell->name, cell->reason);
  return cell_set_error (error, CELL_ERROR_GONE, "cell %s is dead: %s", cell->name, cell->reason);
}

static gboolean
can_be_replaced (HostCell *cell, GError **error)
{
  if (cell->is_host || cell->module_fd < 0)
    return cell_set_error (error, CELL_ERROR_UNSUPPORTED, "cell %s is a part of the host, and ends with it", cell->name);
  return !cell->ended || cell_set_error (error, CELL_ERROR_NOT_FOUND, "there is no cell %s any more", cell->name);
}

static gboolean
eject (HostCell *cell, const char *path, GError **error)
{
  (void) path;
  if (cell->is_host || cell->module_fd < 0)
    return cell_set_error (error, CELL_ERROR_UNSUPPORTED, "cell %s is a part of the host and stays in it", cell->name);
  if (cell->location == CELL_LOCATION_CHILD)
    return cell_set_error (error, CELL_ERROR_EXISTS, "cell %s is in a sandbox already", cell->name);
  if (cell->location != CELL_LOCATION_HERE)
    return not_served (cell, error);
  return cell_instance_can_move (cell->instance, error) && move_to (cell, NULL, TRUE, error);
}

static gboolean
absorb (HostCell *cell, const char *path, GError **error)
{
  (void) path;
  if (cell->location == CELL_LOCATION_HERE)
    return cell_set_error (error, CELL_ERROR_EXISTS, "cell %s is in the host already", cell->name);
  if (cell->location != CELL_LOCATION_CHILD)
    return not_served (cell, error);
  if (!trust_check_cell (cell, error) || !move_to (cell, NULL, FALSE, error))
    return FALSE;
  host_cell_set_suspicion (cell, NULL);
  return TRUE;
}

/* So many builds of it are in this process that another one is too many. */
static gboolean
goes_there (HostCell *cell)
{
  return cell->location == CELL_LOCATION_CHILD || cell->retired >= CELL_RETIRED_MANY;
}

/* One whose process is gone.  What it did before is forgiven. */
static gboolean
begin_anew (HostCell *cell, GError **error)
{
  supervise_forgive (cell);
  if (relocate_begin_in_child (cell, error))
    return TRUE;
  if (cell->child != NULL)
    supervise_lost (cell, NULL);
  return FALSE;
}

static gboolean
replace_build (HostCell *cell, HostBuild *build, GError **error)
{
  return build != NULL && move_to (cell, build, goes_there (cell), error);
}

static gboolean
restart (HostCell *cell, const char *path, GError **error)
{
  g_autoptr(HostBuild) build = NULL;

  (void) path;
  if (!can_be_replaced (cell, error))
    return FALSE;
  if (cell->location == CELL_LOCATION_CHILD)
    return move_to (cell, NULL, TRUE, error);
  if (cell->location != CELL_LOCATION_HERE)
    return begin_anew (cell, error);
  build = cell_build_again (cell, goes_there (cell), error);
  return replace_build (cell, build, error);
}

static gboolean
swap (HostCell *cell, const char *path, GError **error)
{
  g_autoptr(HostBuild) build = NULL;

  if (!can_be_replaced (cell, error))
    return FALSE;
  if (cell->location != CELL_LOCATION_HERE && cell->location != CELL_LOCATION_CHILD)
    return not_served (cell, error);
  build = cell_build_of_file (cell, path, goes_there (cell), error);
  if (!replace_build (cell, build, error))
    return FALSE;
  host_cell_set_suspicion (cell, cell->location != CELL_LOCATION_HERE ? suspects_why (cell->host, cell->sha256) : NULL);
  roster_put (cell->host->roster, cell->name, path, cell->location != CELL_LOCATION_HERE, cell->given);
  return TRUE;
}

static gboolean
relocate (HostCell *cell, gboolean (*target) (HostCell *cell, const char *path, GError **error), const char *path, GError **error)
{
  gboolean good;

  if (!host_cell_claim (cell, CLAIM_SECONDS, error))
    return FALSE;
  good = target (cell, path, error);
  if (good)
    {
      supervise_cancel (cell);
      pthread_mutex_lock (&cell->lock);
      g_clear_pointer (&cell->reason, g_free);          /* what was wrong with it before is over */
      cell->moves++;
      pthread_mutex_unlock (&cell->lock);
      roster_move (cell->host->roster, cell->name, cell->location != CELL_LOCATION_HERE);
    }
  host_cell_unclaim (cell);
  return good;
}

gboolean
relocate_eject (HostCell *cell, GError **error)
{
  return relocate (cell, eject, NULL, error);
}

gboolean
relocate_absorb (HostCell *cell, GError **error)
{
  return relocate (cell, absorb, NULL, error);
}

gboolean
relocate_restart (HostCell *cell, GError **error)
{
  return relocate (cell, restart, NULL, error);
}

gboolean
relocate_swap (HostCell *cell, const char *path, GError **error)
{
  return relocate (cell, swap, path, error);
}

gboolean
relocate_begin_in_child (HostCell *cell, GError **error)
{
  if (cell->generation == 0 || cell->location == CELL_LOCATION_DEAD)
    set_generation (cell);
  return move_to (cell, NULL, TRUE, error);
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

/* Something to read lies where the caller will go on; it may be busy for long.  Whatever the child says it has written does not
 * count. */
static gboolean
is_unread (const Link *link, uint64_t taken)
{
  const Record *record = (const Record *) (link->replies->data + (taken & (link->replies->capacity - 1)));

  return load_acquire (&record->sequence) == link->replies->salt + taken;
}

gboolean
relocate_bell_brings (HostCell *cell)
{
  gboolean brings = FALSE;
  uint64_t seen = 0;

  /* Whoever has it locked may be waiting for just this. */
  if (pthread_rwlock_tryrdlock (&cell->place) != 0)
    return TRUE;
  if (pthread_mutex_trylock (&cell->lock) == 0)
    {
      for (guint i = 0; i < cell->links->len; i++)
        {
          const Link *link = g_ptr_array_index (cell->links, i);
          uint64_t taken = link->local ? atomic_load (&link->requests->control->taken) : 0;

          seen += taken;
          brings |= link->local && load_relaxed (&link->channel->broken) == CELL_OK && is_unread (link, taken);
        }
      brings |= seen != cell->replies_seen;
      cell->replies_seen = seen;
      pthread_mutex_unlock (&cell->lock);
    }
  else
    brings = TRUE;
  pthread_rwlock_unlock (&cell->place);
  return brings;
}

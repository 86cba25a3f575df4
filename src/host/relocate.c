/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define G_LOG_DOMAIN "cellhost-relocate"
#include "relocate-own.h"

#include <time.h>

#include "authority.h"
#include "cell-build.h"
#include "cell-stats.h"
#include "child.h"
#include "plugins/carry.h"
#include "roster.h"
#include "state-file.h"
#include "supervise.h"
#include "suspects.h"
#include "trust.h"

#define LET_GO_NS 1000000u              /* for callers to have their first answers */

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

void
relocate_set_place (HostCell *cell, CellLocation location, const Consumer *consumer)
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

void
relocate_set_generation (HostCell *cell)
{
  pthread_mutex_lock (&cell->lock);
  cell->generation = host_next_generation (cell->host);
  pthread_mutex_unlock (&cell->lock);
}

void
relocate_notify_callers (HostCell *cell)
{
  for (guint i = 0; i < cell->links->len; i++)
    link_notify (link_at (cell, i));
}

void
relocate_leave_lanes (HostCell *cell)
{
  for (guint i = 0; i < cell->links->len; i++)
    if (!link_at (cell, i)->local)
      lanes_remove (cell->host->lanes, link_at (cell, i)->channel);
}

/* ---- no consumer -------------------------------------------------------------------------------------------- */

/* Its place is locked for writing: nobody is served any more, and callers learn it.  The gate is closed, or its code cannot be
 * stopped and the channels are left to it. */
static void
die (HostCell *cell, const char *reason, gboolean crashed)
{
  gboolean here = cell->location == CELL_LOCATION_HERE;

  relocate_set_generation (cell);
  for (guint i = 0; i < cell->links->len; i++)
    {
      Link *link = link_at (cell, i);

      if (cell->child != NULL || (here && cell->instance == NULL))
        link_find_positions (link, here);
      link_moved (link, NULL, cell->generation, FALSE, crashed);
    }
  set_not_served (cell, CELL_LOCATION_DEAD, cell->instance, reason);
  epoch_page_set (&cell->epoch, cell->generation, EPOCH_DEAD);
  relocate_notify_callers (cell);
}

void
relocate_end (HostCell *cell, const char *reason, gboolean crashed)
{
  pthread_rwlock_wrlock (&cell->place);
  if (cell->instance == NULL)
    relocate_leave_lanes (cell);
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
  relocate_set_generation (cell);
  for (guint i = 0; i < cell->links->len; i++)
    if (!link_at (cell, i)->gone)
      lose_caller (link_at (cell, i), cell->generation);
  set_not_served (cell, CELL_LOCATION_RESTARTING, NULL, why);
  epoch_page_set (&cell->epoch, cell->generation, EPOCH_SERVING);
  relocate_notify_callers (cell);
  pthread_rwlock_unlock (&cell->place);
  child_unref (child);
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
  if (!move_has_old (move))
    return consumer_restore_kept (&move->new, move->cell, error);
  move->state = consumer_save (&move->old, move->cell, &move->version, error);
  if (move->state == NULL || (!move_stays_here (move) && !bring_along (move, error)))
    return FALSE;
  consumer_pause (&move->old);
  if (!consumer_restore (&move->new, move->version, move->state, &move->told, error))
    return FALSE;
  if (move_stays_here (move))
    return TRUE;
  /* While there is a way back; and whoever comes or goes is not to wait for a state that takes its time. */
  return (move->old.instance != NULL && g_bytes_get_size (move->state) <= WIRE_TAIL_MAX) || hand_over_wait_for_new (move, 0, error);
}

/* The old one is held: it goes on, or is replaced. */
static gboolean
move_held (Move *move, char ***uses, GError **error)
{
  if (move->new.child != NULL && !may_call_from_there (move, uses, error))
    return FALSE;
  return move_state (move, error) && hand_over_replace (move, error);
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
  if (move_has_old (move) && !move->no_way_back)
    {
      consumer_go_on (&move->old);
      let_in (cell);
    }
  else if (move_has_old (move))
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
  if (!move_has_old (move) || consumer_hold (&move->old, error))
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
  if (!hand_over_get_all_ready (move, error))
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
  if (good && move_has_old (move) && !move_stays_here (move))
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

/* done: what has become of it then, for the log. */
static gboolean
relocate (HostCell *cell, gboolean (*target) (HostCell *cell, const char *path, GError **error), const char *path, const char *done,
          GError **error)
{
  gboolean good;

  if (!host_cell_claim (cell, HOST_CLAIM_SECONDS, error))
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
  if (good)
    g_info ("cell %s was %s%s", cell->name, done, path != NULL ? path : "");
  return good;
}

gboolean
relocate_eject (HostCell *cell, GError **error)
{
  return relocate (cell, eject, NULL, "ejected", error);
}

gboolean
relocate_absorb (HostCell *cell, GError **error)
{
  return relocate (cell, absorb, NULL, "absorbed", error);
}

gboolean
relocate_restart (HostCell *cell, GError **error)
{
  return relocate (cell, restart, NULL, "restarted", error);
}

gboolean
relocate_swap (HostCell *cell, const char *path, GError **error)
{
  return relocate (cell, swap, path, "replaced by ", error);
}

gboolean
relocate_begin_in_child (HostCell *cell, GError **error)
{
  if (cell->generation == 0 || cell->location == CELL_LOCATION_DEAD)
    relocate_set_generation (cell);
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

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include "placement.h"

#include <stdlib.h>
#include <unistd.h>

#include "cell.h"

#define FEW 3                           /* fewer: a caller, who serves it and a process that begins have not one each */
#define ROUNDS_MAX 4                    /* some threads are started meanwhile by those that have not been told yet */

/* ---- processors ---------------------------------------------------------------------------------------------- */

/* What a caller says is a hint. */
static void
add_caller (cpu_set_t *set, const Link *link)
{
  guint cpu = atomic_load (&link->requests->control->cpu);

  if (!link->gone && cpu > 0 && cpu <= CPU_SETSIZE)
    CPU_SET (cpu - 1, set);
}

static void
find_callers (HostCell *cell, cpu_set_t *ret)
{
  CPU_ZERO (ret);
  pthread_mutex_lock (&cell->lock);
  for (guint i = 0; i < cell->links->len; i++)
    add_caller (ret, g_ptr_array_index (cell->links, i));
  pthread_mutex_unlock (&cell->lock);
}

static const PlacementParts *
parts_of (const Placement *placement)
{
  return &placement->parts[placement->n_parts - 1];
}

/* FALSE: there are no others. */
static gboolean
divide (Placement *placement, HostCell *cell)
{
  const cpu_set_t *given = &cell->host->processors;
  PlacementParts parts;

  find_callers (cell, &parts.callers);
  CPU_AND (&parts.callers, &parts.callers, given);
  CPU_XOR (&parts.others, given, &parts.callers);
  if (CPU_COUNT (&parts.callers) == 0 || CPU_COUNT (&parts.others) == 0 || placement->n_parts == PLACEMENT_TIMES)
    return FALSE;
  placement->parts[placement->n_parts++] = parts;
  return TRUE;
}

/* ---- threads --------------------------------------------------------------------------------------------------- */

static GDir *
open_threads (GPid pid)
{
  g_autofree char *folder = g_strdup_printf ("/proc/%d/task", (int) pid);

  return g_dir_open (folder, 0, NULL);
}

/* Before it is told anything. */
static void
add_pinned (Placement *placement, GPid pid)
{
  g_autoptr(GDir) dir = open_threads (pid);
  cpu_set_t now;
  const char *name;

  while (dir != NULL && (name = g_dir_read_name (dir)) != NULL)
    if (sched_getaffinity (atoi (name), sizeof now, &now) == 0 && !CPU_EQUAL (&now, &placement->cell->host->processors))
      g_hash_table_add (placement->pinned, GINT_TO_POINTER (atoi (name)));
}

static gboolean
is_ours (const Placement *placement, const cpu_set_t *set)
{
  gboolean ours = CPU_EQUAL (set, &placement->cell->host->processors);

  for (guint i = 0; i < placement->n_parts; i++)
    ours |= CPU_EQUAL (set, &placement->parts[i].callers) || CPU_EQUAL (set, &placement->parts[i].others);
  return ours;
}

/* Another set than that of everybody, or than one of ours, a cell's thread has chosen itself.  FALSE: all have it. */
static gboolean
tell_threads (const Placement *placement, GPid pid, const cpu_set_t *set)
{
  g_autoptr(GDir) dir = open_threads (pid);
  gboolean any = FALSE;
  cpu_set_t now;
  const char *name;

  while (dir != NULL && (name = g_dir_read_name (dir)) != NULL)
    any |= !g_hash_table_contains (placement->pinned, GINT_TO_POINTER (atoi (name)))
           && sched_getaffinity (atoi (name), sizeof now, &now) == 0 && !CPU_EQUAL (&now, set) && is_ours (placement, &now)
           && sched_setaffinity (atoi (name), sizeof *set, set) == 0;
  return any;
}

static void
tell_process (const Placement *placement, GPid pid, const cpu_set_t *set)
{
  for (int i = 0; i < ROUNDS_MAX && tell_threads (placement, pid, set); i++)
    continue;
}

/* ---- a move ------------------------------------------------------------------------------------------------------ */

static __thread const Placement *current;       /* of the move that this thread works at; NULL: none */

static void
place (Placement *placement, GPid server)
{
  const PlacementParts *parts = parts_of (placement);

  sched_setaffinity (0, sizeof parts->others, &parts->others);
  if (!placement->few)
    return;
  lanes_run_on (placement->cell->host->lanes, &parts->callers);
  if (server > 0 && server != placement->server)
    add_pinned (placement, server);
  placement->server = server;
  if (server > 0)
    tell_process (placement, server, &parts->callers);
}

void
placement_begin (Placement *placement, HostCell *cell)
{
  Host *host = cell->host;
  cpu_set_t now;

  *placement = (Placement) { 0 };
  if (atomic_exchange (&host->is_placing, TRUE))
    return;
  /* Who has been put somewhere else, since or as a thread, stays there. */
  if (sched_getaffinity (0, sizeof now, &now) < 0 || !CPU_EQUAL (&now, &host->processors) || !divide (placement, cell))
    {
      atomic_store (&host->is_placing, FALSE);
      return;
    }
  placement->cell = cell;
  placement->few = CPU_COUNT (&host->processors) < FEW;
  placement->pinned = g_hash_table_new (NULL, NULL);
  add_pinned (placement, getpid ());
  current = placement;
  place (placement, 0);
}

void
placement_again (Placement *placement, GPid server)
{
  if (placement->cell == NULL)
    return;
  divide (placement, placement->cell);
  place (placement, server);
}

void
placement_end (Placement *placement, GPid server)
{
  Host *host;

  if (placement->cell == NULL)
    return;
  host = placement->cell->host;
  if (placement->few)
    lanes_run_on (host->lanes, &host->processors);
  if (placement->few && server > 0)
    tell_process (placement, server, &host->processors);
  tell_process (placement, getpid (), &host->processors);
  g_clear_pointer (&placement->pinned, g_hash_table_unref);
  placement->cell = NULL;
  current = NULL;
  atomic_store (&host->is_placing, FALSE);
}

const cpu_set_t *
placement_processors (void)
{
  return current != NULL ? &parts_of (current)->others : NULL;
}

void
placement_let_go (GPid pid)
{
  Host *host;

  if (current == NULL || pid <= 0)
    return;
  host = current->cell->host;
  tell_process (current, pid, &host->processors);
  if (current->few)
    lanes_run_on (host->lanes, &host->processors);
}

void
placement_take (GPid pid)
{
  if (current != NULL && pid > 0)
    tell_process (current, pid, &parts_of (current)->others);
}

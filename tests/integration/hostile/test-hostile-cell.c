/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * An ejected cell whose code is hostile, in a real sandbox below a real daemon: what it breaks is its own.  A client calls another cell all
 * the while, and a cell in the host calls the hostile one.
 */
#define _GNU_SOURCE
#include <unistd.h>

#include "daemon.h"
#include "host-fixture.h"
#include "rogue-remote.h"
#include "victim-remote.h"

typedef struct
{
  Daemon daemon;
  Good *good;
  CellBus *bus;
  CellClient *rogue, *victim;
  bool skipped;
} Scene;

/* "rogue" is in a sandbox, and both callers have used it. */
static void
set_up (Scene *scene, gconstpointer data)
{
  static const char *const none[] = { NULL };
  Daemon *daemon = &scene->daemon;
  g_autofree char *said = NULL;

  (void) data;
  daemon_start (daemon, none);
  scene->skipped = !host_fixture_has_sandbox ();
  if (scene->skipped)
    return;
  g_assert_cmpint (daemon_ctl (daemon, NULL, "load", g_getenv ("TEST_ROGUE"), NULL), ==, 0);
  g_assert_cmpint (daemon_ctl (daemon, NULL, "load", g_getenv ("TEST_VICTIM"), NULL), ==, 0);
  scene->good = good_start (daemon, 1);
  scene->bus = cell_open (daemon->socket);
  scene->rogue = cell_bind (scene->bus, Rogue, "rogue");
  scene->victim = cell_bind (scene->bus, Victim, "victim");
  if (daemon_ctl (daemon, &said, "eject", "rogue", NULL) != 0)
    g_error ("%s", said);
  cell_auto RogueCount mine = rogue_count (scene->rogue);
  g_assert_cmpint (mine.result.status, ==, CELL_OK);
  cell_auto VictimCount its = victim_count (scene->victim);
  g_assert_cmpint (its.status, ==, CELL_OK);
}

static void
tear_down (Scene *scene, gconstpointer data)
{
  (void) data;
  if (!scene->skipped)
    {
      good_wait (scene->good, 2);
      daemon_ctl (&scene->daemon, NULL, "unload", "rogue", NULL);
      g_assert_cmpint (daemon_ctl (&scene->daemon, NULL, "unload", "victim", NULL), ==, 0);
      good_stop (scene->good);
      cell_close (scene->bus);
    }
  daemon_stop (&scene->daemon);
}

/* What the rogue says of it. */
static char *
attack (Scene *scene, const char *how)
{
  cell_auto RogueAttack attack = rogue_attack (scene->rogue, .how = how);

  g_assert_cmpstr (attack.result.message, ==, NULL);
  return g_strdup (attack.said);
}

/* Both callers go on calling: each call ends, however. */
static void
call_on (Scene *scene, guint n)
{
  for (guint i = 0; i < n; i++)
    {
      cell_auto RogueCount mine = rogue_count (scene->rogue);
      cell_auto VictimCount its = victim_count (scene->victim);

      g_assert_cmpint (its.result.status, ==, CELL_OK);
      if (mine.result.status != CELL_OK && its.status != CELL_OK)
        return;
    }
}

/* It may have writable views of nothing but what it has been given to write. */
static void
test_seals (Scene *scene, gconstpointer data)
{
  g_autofree char *said = NULL;

  (void) data;
  if (scene->skipped)
    return;
  said = attack (scene, "seals");
  g_assert_cmpstr (said, ==, "");
}

/* A reply to nobody is no reason to go on for ever: the deadline holds. */
static void
test_flood (Scene *scene, gconstpointer data)
{
  (void) data;
  if (scene->skipped)
    return;
  cell_set_timeout (scene->rogue, 500);
  cell_auto RogueAttack mine = rogue_attack (scene->rogue, .how = "flood");
  g_assert_cmpint (mine.result.status, !=, CELL_OK);
  cell_auto VictimCount its = victim_count (scene->victim);
  g_assert_cmpint (its.result.status, ==, CELL_OK);
  g_assert_cmpint (its.status, !=, CELL_OK);
  good_wait (scene->good, 2);
}

/* It answers the host's questions no more. */
static void
test_deaf (Scene *scene, gconstpointer data)
{
  g_autofree char *said = NULL;

  (void) data;
  if (scene->skipped)
    return;
  g_free (attack (scene, "deaf"));
  g_assert_cmpint (daemon_ctl (&scene->daemon, &said, "absorb", "rogue", NULL), !=, 0);
  g_test_message ("%s", said);
  good_wait (scene->good, 2);
}

/* What it says to the host makes no sense: that is the end of its process, and its callers are told. */
static void
test_junk (Scene *scene, gconstpointer data)
{
  CellStatus status = CELL_OK;

  (void) data;
  if (scene->skipped)
    return;
  g_free (attack (scene, "junk"));
  for (guint i = 0; i < 1000000 && status == CELL_OK; i++)
    {
      cell_auto RogueCount mine = rogue_count (scene->rogue);

      status = mine.result.status;
    }
  g_assert_true (status == CELL_ERROR_CRASHED || status == CELL_ERROR_GONE);
}

/* Nobody has given it a role. */
static void
test_authority (Scene *scene, gconstpointer data)
{
  g_autofree char *said = NULL, *denied = g_strdup_printf ("%d %d %d", CELL_ERROR_DENIED, CELL_ERROR_DENIED, CELL_ERROR_DENIED);

  (void) data;
  if (scene->skipped)
    return;
  said = attack (scene, "authority");
  g_assert_cmpstr (said, ==, denied);
}

static void
add (const char *path, void (*test) (Scene *scene, gconstpointer data))
{
  g_test_add (path, Scene, NULL, set_up, test, tear_down);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  add ("/hostile-cell/seals", test_seals);
  add ("/hostile-cell/flood", test_flood);
  add ("/hostile-cell/deaf", test_deaf);
  add ("/hostile-cell/junk", test_junk);
  add ("/hostile-cell/authority", test_authority);
  return g_test_run ();
}

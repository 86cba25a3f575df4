/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * An ejected cell whose code is hostile, in a real sandbox below a real daemon: what it breaks is its own.  A client calls
 * another cell all the while, and a cell in the host calls the hostile one.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
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

/* The first of the processes that a process has started; 0: none, or the kernel does not say. */
static GPid
child_of (GPid pid)
{
  g_autofree char *tasks = g_strdup_printf ("/proc/%d/task", (int) pid);
  g_autoptr(GDir) folder = g_dir_open (tasks, 0, NULL);
  const char *task;
  GPid child = 0;

  while (folder != NULL && child == 0 && (task = g_dir_read_name (folder)) != NULL)
    {
      g_autofree char *path = g_build_filename (tasks, task, "children", NULL), *text = NULL;

      if (g_file_get_contents (path, &text, NULL, NULL))
        child = (GPid) g_ascii_strtoll (text, NULL, 10);
    }
  return child;
}

/* Of the rogue's process, whose parent is bubblewrap. */
static GPid
child_pid (Scene *scene)
{
  GPid bwrap = child_of (scene->daemon.pid);

  return bwrap != 0 ? child_of (bwrap) : 0;
}

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
      /* One that is in a call, or says nothing any more, is not stopped but killed; that takes a moment to be noticed. */
      for (gint64 until = g_get_monotonic_time () + 20 * G_USEC_PER_SEC;
           daemon_ctl (&scene->daemon, NULL, "unload", "rogue", NULL) != 0;)
        {
          g_assert_cmpint (g_get_monotonic_time (), <, until);
          if (child_pid (scene) != 0)
            kill (child_pid (scene), SIGKILL);
        }
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

/* Cursors, heads and wake words change under those who read them; then it is taken back. */
static void
test_scribble (Scene *scene, gconstpointer data)
{
  (void) data;
  if (scene->skipped)
    return;
  cell_set_timeout (scene->rogue, 500);
  /* What is said of this may be scribbled on, too. */
  cell_auto RogueAttack its = rogue_attack (scene->rogue, .how = "scribble");
  call_on (scene, 20);
  good_wait (scene->good, 2);
  daemon_ctl (&scene->daemon, NULL, "absorb", "rogue", NULL);
  call_on (scene, 3);
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

static void
test_bells (Scene *scene, gconstpointer data)
{
  g_autofree char *said = NULL;

  (void) data;
  if (scene->skipped)
    return;
  cell_set_timeout (scene->rogue, 500);
  said = attack (scene, "bells");
  g_test_message ("bells: %s", said);
  call_on (scene, 5);
  good_wait (scene->good, 2);
}

/* Who has rung for long and brought nothing gets what processor time others leave, and can do nothing about it; what it is asked it
 * answers as before. */
static void
test_rings (Scene *scene, gconstpointer data)
{
  gint64 until = g_get_monotonic_time () + 20 * G_USEC_PER_SEC;
  GPid child;

  (void) data;
  if (scene->skipped)
    return;
  child = child_pid (scene);
  if (child == 0)
    {
      g_test_skip ("this kernel does not say who a process's children are");
      return;
    }
  g_assert_cmpint (sched_getscheduler (child), ==, SCHED_OTHER);
  g_free (attack (scene, "ring"));
  while (sched_getscheduler (child) != SCHED_IDLE)
    {
      g_assert_cmpint (g_get_monotonic_time (), <, until);
      g_usleep (1000);
    }
  call_on (scene, 5);
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

/* What it says to the host makes no sense: that is the end of its process, and another one takes its place, which begins to
 * count. */
static void
test_junk (Scene *scene, gconstpointer data)
{
  gint64 until = g_get_monotonic_time () + 20 * G_USEC_PER_SEC;
  uint64_t last;
  bool replaced = false;

  (void) data;
  if (scene->skipped)
    return;
  cell_auto RogueCount before = rogue_count (scene->rogue);
  last = before.n;
  /* Whether it lives to answer this is not said. */
  cell_auto RogueAttack its = rogue_attack (scene->rogue, .how = "junk");
  while (!replaced)
    {
      cell_auto RogueCount mine = rogue_count (scene->rogue);

      g_assert_cmpint (g_get_monotonic_time (), <, until);
      g_assert_true (mine.result.status == CELL_OK || mine.result.status == CELL_ERROR_CRASHED);
      replaced = mine.result.status == CELL_OK && mine.n <= last;
      last = mine.result.status == CELL_OK ? MAX (mine.n, last) : last;
    }
  call_on (scene, 5);
}

/* The process of a cell that was taken back is gone, whatever it did against that. */
static void
test_survive (Scene *scene, gconstpointer data)
{
  g_autofree char *said = NULL;
  GPid child;
  int pidfd;

  (void) data;
  if (scene->skipped)
    return;
  g_free (attack (scene, "survive"));
  child = child_pid (scene);
  if (child == 0)
    {
      g_test_skip ("this kernel does not say who a process's children are");
      return;
    }
  pidfd = (int) syscall (SYS_pidfd_open, child, 0);
  g_assert_cmpint (pidfd, >=, 0);
  if (daemon_ctl (&scene->daemon, &said, "absorb", "rogue", NULL) != 0)
    g_error ("%s", said);
  /* Not soon: the host has seen to it before it went on. */
  g_assert_cmpint (poll (&(struct pollfd) { pidfd, POLLIN, 0 }, 1, 0), ==, 1);
  close (pidfd);
  call_on (scene, 5);
}

/* It was given the role to look, and no other. */
static void
test_authority (Scene *scene, gconstpointer data)
{
  g_autofree char *said = NULL, *denied = g_strdup_printf ("%d %d %d", CELL_ERROR_DENIED, CELL_ERROR_DENIED, CELL_OK);

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
  add ("/hostile-cell/scribble", test_scribble);
  add ("/hostile-cell/flood", test_flood);
  add ("/hostile-cell/bells", test_bells);
  add ("/hostile-cell/rings", test_rings);
  add ("/hostile-cell/deaf", test_deaf);
  add ("/hostile-cell/junk", test_junk);
  add ("/hostile-cell/survive", test_survive);
  add ("/hostile-cell/authority", test_authority);
  return g_test_run ();
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The peer is the fuzzer: a program on the host's socket, and a cell in its sandbox, change words of all that they may write while
 * they go on with their traffic.  The host lives, keeps nothing of it, and answers everybody else as ever.
 *
 * $FUZZ_MUTATIONS: how many, for each of the two.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <unistd.h>

#include "daemon.h"
#include "fuzz-client.h"
#include "host-fixture.h"
#include "rogue-remote.h"
#include "victim-remote.h"

#define LIFE_MAX 500000u      /* mutations that a child is asked for at a time */
#define MANY 31u              /* hostile children beside one that is not */
#define MANY_MUTATIONS 20000u /* of each of them */
#define PATIENCE_MS 50u       /* with the child */
#define RESTS_MOST 16u        /* times in a row that a child says it makes none, and has not made all */
#define GROWTH_MAPS 64u       /* stacks of threads, and the heap's own */
#define GROWTH_KB (24u * 1024u)

#if defined(__SANITIZE_ADDRESS__)
# define KEEPS_FREED TRUE /* a sanitizer keeps what was freed */
#elif defined(__has_feature)
# if __has_feature(address_sanitizer)
#  define KEEPS_FREED TRUE
# endif
#endif
#ifndef KEEPS_FREED
# define KEEPS_FREED FALSE
#endif

static const AttackName attacks[] = { { "client", fuzz_client } };

static guint64
n_wanted (void)
{
  const char *said = g_getenv ("FUZZ_MUTATIONS");

  return said != NULL ? g_ascii_strtoull (said, NULL, 10) : 100000;
}

static void
must (Daemon *daemon, const char *verb, const char *what)
{
  g_autofree char *said = NULL;

  if (daemon_ctl (daemon, &said, verb, what, NULL) != 0)
    g_error ("%s %s: %s", verb, what, said);
}

/* ---- what the host has ------------------------------------------------------------------------------------ */

typedef struct
{
  guint fds, maps;
  guint64 kb;
} Size;

/* But for those of builds that were loaded, which stay: how many there are is known from their descriptors. */
static guint
count_maps (Daemon *daemon)
{
  g_autofree char *path = g_strdup_printf ("/proc/%d/maps", (int) daemon->pid), *text = NULL;
  g_auto(GStrv) lines = NULL;
  guint n = 0;

  g_assert_true (g_file_get_contents (path, &text, NULL, NULL));
  lines = g_strsplit (text, "\n", 0);
  for (guint i = 0; lines[i] != NULL; i++)
    n += strstr (lines[i], "/memfd:cell-module") == NULL;
  return n;
}

/* As soon as it has let go of what is to go. */
static Size
size_of (Daemon *daemon, guint fds)
{
  daemon_wait_for_fds (daemon, fds);
  return (Size){ fds, count_maps (daemon), daemon_private_kb (daemon) };
}

static void
assert_no_growth (const Size *before, const Size *after)
{
  g_test_message ("%u maps and %" G_GUINT64_FORMAT " kB, then %u and %" G_GUINT64_FORMAT " kB", before->maps, before->kb,
                  after->maps, after->kb);
  if (KEEPS_FREED)
    return;
  g_assert_cmpuint (after->maps, <=, before->maps + GROWTH_MAPS);
  g_assert_cmpuint (after->kb, <=, before->kb + GROWTH_KB);
}

/* ---- a client ----------------------------------------------------------------------------------------------- */

static void
run_client (Daemon *daemon, guint64 n)
{
  g_autofree char *number = g_strdup_printf ("%" G_GUINT64_FORMAT, n);
  g_autofree char *before = g_strdup (g_getenv ("FUZZ_MUTATIONS")),
                  *every = g_build_filename (g_getenv ("TEST_CELLS"), "every.so", NULL);
  Attack attack;

  g_setenv ("FUZZ_MUTATIONS", number, TRUE);
  attack = attack_start (daemon, "client", g_test_rand_int ());
  attack_end (&attack);
  if (before != NULL)
    g_setenv ("FUZZ_MUTATIONS", before, TRUE);
  /* What a cell keeps to answer later it keeps, whoever asked; this one ends with the cell. */
  must (daemon, "unload", "every");
  must (daemon, "load", every);
}

static void
test_client (void)
{
  static const char *const cells[] = { "every", "ledger", "memory", NULL };
  Daemon daemon = { 0 };
  Size before, after;
  Good *good;
  guint fds;

  daemon_start (&daemon, cells);
  good = good_start (&daemon, 1);
  fds = daemon_count_fds (&daemon);
  /* What grows once, grows with these.  A build that was loaded stays, with the descriptor that it was loaded by. */
  run_client (&daemon, n_wanted () / 8);
  before = size_of (&daemon, fds + 1);
  run_client (&daemon, n_wanted () - n_wanted () / 8);
  after = size_of (&daemon, fds + 2);
  assert_no_growth (&before, &after);
  good_wait (good, 2);
  good_stop (good);
  daemon.n_fds += 2;
  daemon_stop (&daemon);
}

/* ---- a child ------------------------------------------------------------------------------------------------- */

typedef struct
{
  Daemon daemon;
  CellBus *bus;
  CellClient *victim;
  guint lives;
  guint64 made;        /* mutations, of children that have lived to tell */
  guint64 calls, good; /* of cells in the host */
} Scene;

/* It may have to be killed: one that says nonsense is, and what has been killed takes a moment to be gone. */
static void
end_rogue (Scene *scene)
{
  gint64 until = g_get_monotonic_time () + 60 * G_USEC_PER_SEC;

  while (daemon_ctl (&scene->daemon, NULL, "unload", "rogue", NULL) != 0)
    g_assert_cmpint (g_get_monotonic_time (), <, until);
  /* Lets go of its channel, too. */
  cell_auto VictimHurry hurry = victim_hurry (scene->victim, .milliseconds = PATIENCE_MS);
  g_assert_cmpint (hurry.result.status, ==, CELL_OK);
}

static void
begin_rogue (Scene *scene)
{
  scene->lives++;
  must (&scene->daemon, "load", g_getenv ("TEST_ROGUE"));
  must (&scene->daemon, "eject", "rogue");
}

/* FALSE: what it says makes no sense, or it says nothing; perhaps because of what it does. */
static gboolean
ask_rogue (Scene *scene, gboolean *ret_goes_on, guint64 *ret_n)
{
  CellBus *bus = cell_open (scene->daemon.socket);
  CellClient *rogue = cell_bind (bus, Rogue, "rogue");
  gboolean good;

  cell_set_timeout (rogue, 2000);
  {
    cell_auto RogueMutated mutated = rogue_mutated (rogue);

    good = mutated.result.status == CELL_OK;
    *ret_goes_on = mutated.goes_on;
    *ret_n = mutated.n;
  }
  cell_close (bus);
  return good;
}

static gboolean
start_mutating (Scene *scene, guint64 seed, guint64 n)
{
  CellBus *bus = cell_open (scene->daemon.socket);
  CellClient *rogue = cell_bind (bus, Rogue, "rogue");
  gboolean good;

  {
    cell_auto RogueMutate mutate = rogue_mutate (rogue, .seed = seed, .n = n);

    /* Its answer may be the first to be lied about. */
    good =
      mutate.result.status == CELL_OK || mutate.result.status == CELL_ERROR_CORRUPT || mutate.result.status == CELL_ERROR_DEADLINE;
  }
  cell_close (bus);
  return good;
}

/* A program and a cell in the host call it all the while; each call ends, however. */
static void
call_on (Scene *scene)
{
  CellBus *bus = cell_open (scene->daemon.socket);
  CellClient *rogue = cell_bind (bus, Rogue, "rogue");
  gboolean answered = TRUE;

  cell_set_timeout (rogue, PATIENCE_MS);
  for (guint i = 0; i < 20 && answered; i++)
    {
      cell_auto RogueCount count = rogue_count (rogue);
      cell_auto RogueRows rows = rogue_rows (rogue, .n = i);
      cell_auto RogueAsk ask = rogue_ask (rogue);
      cell_auto VictimPound pound = victim_pound (scene->victim, .n = 100);

      g_assert_cmpint (pound.result.status, ==, CELL_OK);
      scene->calls += 100;
      scene->good += pound.good;
      /* Where the next answer should be there may never be one. */
      answered = count.result.status == CELL_OK && rows.result.status == CELL_OK && ask.result.status == CELL_OK;
    }
  cell_close (bus);
}

static void
begin_anew (Scene *scene)
{
  end_rogue (scene);
  begin_rogue (scene);
}

/* As many as it is asked for, or it has died of them: another process that was started in its place makes none. */
static void
one_life (Scene *scene, guint64 seed)
{
  guint64 before = 0, n = 0, life = MIN (LIFE_MAX, n_wanted () / 8);
  gboolean goes_on = TRUE;
  guint rests = 0;

  if (!ask_rogue (scene, &goes_on, &before) || goes_on || !start_mutating (scene, seed, life))
    {
      begin_anew (scene);
      return;
    }
  goes_on = TRUE;
  for (guint i = 0; i < 10000 && goes_on; i++)
    {
      call_on (scene);
      /* While it goes on, even this may be a lie. */
      if (!ask_rogue (scene, &goes_on, &n) || goes_on)
        rests = 0;
      else if (n < before + life && ++rests >= RESTS_MOST)
        {
          begin_anew (scene);
          return;
        }
      if (n < before + life || n > before + 2 * life)
        goes_on = TRUE;
      if (i % 16 == 15 && daemon_ctl (&scene->daemon, NULL, "list", NULL) != 0)
        g_error ("the host is not well");
    }
  if (!goes_on)
    scene->made += n - before;
}

static void
test_child (void)
{
  static const char *const none[] = { NULL };
  guint32 seed = g_test_rand_int ();
  Scene scene = { 0 };
  Size before, after;
  Good *good;
  guint fds;

  if (!host_fixture_has_sandbox ())
    return;
  daemon_start (&scene.daemon, none);
  must (&scene.daemon, "load", g_getenv ("TEST_ROGUE"));
  must (&scene.daemon, "load", g_getenv ("TEST_VICTIM"));
  good = good_start (&scene.daemon, 1);
  scene.bus = cell_open (scene.daemon.socket);
  scene.victim = cell_bind (scene.bus, Victim, "victim");
  end_rogue (&scene);
  fds = daemon_count_fds (&scene.daemon);
  begin_rogue (&scene);
  while (scene.made < n_wanted () / 8)
    one_life (&scene, seed + scene.made);
  end_rogue (&scene);
  /* A build that was loaded stays, with the descriptor that it was loaded by. */
  before = size_of (&scene.daemon, fds + scene.lives);
  begin_rogue (&scene);
  while (scene.made < n_wanted ())
    one_life (&scene, seed + scene.made);
  end_rogue (&scene);
  after = size_of (&scene.daemon, fds + scene.lives);
  assert_no_growth (&before, &after);
  g_printerr ("# child, seed %u: %" G_GUINT64_FORMAT " mutations in %u processes; of %" G_GUINT64_FORMAT
              " pairs of calls from the host %" G_GUINT64_FORMAT " were answered well\n",
              seed, scene.made, scene.lives, scene.calls, scene.good);
  g_assert_cmpuint (2 * scene.good, >=, scene.calls);
  cell_close (scene.bus);
  good_wait (good, 2);
  good_stop (good);
  scene.daemon.n_fds += 2 + scene.lives;
  daemon_stop (&scene.daemon);
}

/* ---- many children ----------------------------------------------------------------------------------------- */

static void
begin_one_of_many (Daemon *daemon, guint i)
{
  g_autofree char *name = g_strdup_printf ("rogue%u", i), *said = NULL;

  if (daemon_ctl (daemon, &said, "load", g_getenv ("TEST_ROGUE"), name, NULL) != 0)
    g_error ("load %s: %s", name, said);
  must (daemon, "eject", name);
}

/* It has a few answers to give while it changes them; nothing is said of what they are. */
static void
use_one_of_many (Daemon *daemon, guint i, gboolean first)
{
  g_autofree char *name = g_strdup_printf ("rogue%u", i);
  CellBus *bus = cell_open (daemon->socket);
  CellClient *rogue = cell_bind (bus, Rogue, name);

  if (first)
    {
      cell_auto RogueMutate mutate = rogue_mutate (rogue, .seed = i, .n = MANY_MUTATIONS);
    }
  cell_set_timeout (rogue, PATIENCE_MS);
  for (guint k = 0; k < 5; k++)
    {
      cell_auto RogueCount count = rogue_count (rogue);
      cell_auto RogueRows rows = rogue_rows (rogue, .n = k);
      cell_auto RogueAsk ask = rogue_ask (rogue);
    }
  cell_close (bus);
}

static void
end_one_of_many (Daemon *daemon, guint i)
{
  gint64 until = g_get_monotonic_time () + 60 * G_USEC_PER_SEC;
  g_autofree char *name = g_strdup_printf ("rogue%u", i);

  while (daemon_ctl (daemon, NULL, "unload", name, NULL) != 0)
    g_assert_cmpint (g_get_monotonic_time (), <, until);
}

/* An honest cell in a sandbox beside 31 that are not: who calls it gets every answer. */
static void
test_many (void)
{
  static const char *const none[] = { NULL };
  Daemon daemon = { 0 };
  Good *good;

  if (!host_fixture_has_sandbox ())
    return;
  daemon_start (&daemon, none);
  must (&daemon, "eject", "sequence");
  good = good_start (&daemon, 1);
  for (guint i = 0; i < MANY; i++)
    begin_one_of_many (&daemon, i);
  for (guint round = 0; round < 3; round++)
    for (guint i = 0; i < MANY; i++)
      use_one_of_many (&daemon, i, round == 0);
  good_wait (good, 5);
  for (guint i = 0; i < MANY; i++)
    end_one_of_many (&daemon, i);
  good_wait (good, 2);
  good_stop (good);
  /* The builds that were loaded stay. */
  must (&daemon, "absorb", "sequence");
  daemon.n_fds += MANY;
  daemon_stop (&daemon);
}

int
main (int argc, char **argv)
{
  attack_main (argc, argv, attacks, G_N_ELEMENTS (attacks));
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/hostile-fuzz/client", test_client);
  g_test_add_func ("/hostile-fuzz/child", test_child);
  g_test_add_func ("/hostile-fuzz/many", test_many);
  return g_test_run ();
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Our supervision beside Erlang's own, whose rules it claims to have: real supervisors are told of the same ends of the same cells.
 * What can be compared: each cell has a supervisor of its own, so the trees are of those, below one at the top, and an end is to
 * concern nobody else; which ends are followed by a restart, with attempts that fail among them; and when there were too many.
 * What cannot: we wait before we restart, and nothing of ours gives up because a part of it has.
 */
#include <signal.h>
#include <string.h>

#include <cell/remote/phoenix.h>

#include "host-fixture.h"
#include "host/supervise.h"

#define TREES 300               /* in which nothing is waited for */
#define SLOW_TREES 60           /* in which windows pass */
#define CELLS_MAX 6
#define STEPS_MAX 40
#define LONG 3600u              /* s: a window that nothing leaves */

static const char *const policies[] = { "permanent", "transient", "temporary" };
static const char *const ends[] = { "normal", "crash", "kill" };

typedef struct
{
  guint cell, end, fails;       /* fails: how often the start after it does */
  guint wait;                   /* ms, before it */
  gint64 time, until;           /* what they say of it: between these (µs) … */
  char what;                    /* … r, e, x or - */
} Step;

typedef struct
{
  guint n_cells, n_steps;
  Manifest cells[CELLS_MAX];    /* what a key file says of restarts, and nothing else */
  Step steps[STEPS_MAX];
} Tree;

/* ---- what is asked of both -------------------------------------------------------------------------------- */

/* Few ends are harmless, since those are soon over. */
static void
make_tree (Tree *tree, gboolean slow)
{
  tree->n_cells = (guint) g_test_rand_int_range (1, CELLS_MAX + 1);
  tree->n_steps = (guint) g_test_rand_int_range (4, slow ? 12 : STEPS_MAX + 1);
  for (guint i = 0; i < tree->n_cells; i++)
    tree->cells[i] = (Manifest) {
      .restart = (ManifestRestart) (g_test_rand_int_range (0, 8) / 3),
      .restart_intensity = (guint) g_test_rand_int_range (0, slow ? 4 : 8),
      .restart_window = slow ? (guint) g_test_rand_int_range (1, 3) : LONG,
    };
  for (guint i = 0; i < tree->n_steps; i++)
    {
      gint32 fails = g_test_rand_int_range (-6, 4);

      tree->steps[i] = (Step) {
        .cell = (guint) g_test_rand_int_range (0, (gint) tree->n_cells),
        .end = (guint) g_test_rand_int_range (0, G_N_ELEMENTS (ends)),
        .fails = (guint) MAX (0, fails),
        .wait = slow && g_test_rand_bit () ? (guint) g_test_rand_int_range (1, 1600) : 0,
      };
    }
}

static void
tell_tree (GString *to, const Tree *tree)
{
  for (guint i = 0; i < tree->n_cells; i++)
    g_string_append_printf (to, "c:%s:%u:%u ", policies[tree->cells[i].restart], tree->cells[i].restart_intensity,
                            tree->cells[i].restart_window);
  for (guint i = 0; i < tree->n_steps; i++)
    {
      const Step *step = &tree->steps[i];

      if (step->wait > 0)
        g_string_append_printf (to, "w:%u ", step->wait);
      g_string_append_printf (to, "s:%u:%s:%u ", step->cell, ends[step->end], step->fails);
    }
  to->str[to->len - 1] = '\n';
}

static void
hear_tree (Tree *tree, const char *line)
{
  g_auto(GStrv) words = g_strsplit (line, " ", -1);

  g_assert_cmpuint (g_strv_length (words), ==, tree->n_steps);
  for (guint i = 0; i < tree->n_steps; i++)
    {
      char *end;

      tree->steps[i].time = g_ascii_strtoll (words[i], &end, 10);
      g_assert_cmpint (*end, ==, ':');
      tree->steps[i].until = g_ascii_strtoll (end + 1, &end, 10);
      g_assert_true (*end == ':' && end[1] != 0 && strchr ("rex-", end[1]) != NULL);
      tree->steps[i].what = end[1];
      g_assert_cmpstr (end + 2, ==, ":true");   /* the others are who they were */
    }
}

/* FALSE: there is no Erlang here. */
static gboolean
ask_erlang (Tree *trees, guint n)
{
  g_autofree char *escript = g_find_program_in_path ("escript"), *said = NULL;
  g_autoptr(GString) question = g_string_new (NULL);
  g_autoptr(GSubprocess) process = NULL;
  g_autoptr(GError) error = NULL;
  g_auto(GStrv) lines = NULL;

  if (escript == NULL)
    return FALSE;
  for (guint i = 0; i < n; i++)
    tell_tree (question, &trees[i]);
  process = g_subprocess_new (G_SUBPROCESS_FLAGS_STDIN_PIPE | G_SUBPROCESS_FLAGS_STDOUT_PIPE, &error, escript,
                              g_getenv ("TEST_SUPERVISOR"), NULL);
  g_assert_no_error (error);
  g_subprocess_communicate_utf8 (process, question->str, NULL, &said, NULL, &error);
  g_assert_no_error (error);
  g_assert_true (g_subprocess_get_successful (process));
  lines = g_strsplit (said, "\n", -1);
  g_assert_cmpuint (g_strv_length (lines), ==, n + 1);
  for (guint i = 0; i < n; i++)
    hear_tree (&trees[i], lines[i]);
  return TRUE;
}

/* ---- what ours makes of it -------------------------------------------------------------------------------- */

/* When the restarts of one cell were made: at the earliest, and at the latest. */
typedef struct
{
  GArray *early, *late;
} Restarts;

/* An end, and the starts after it that fail: none of those is normal. */
static char
judge (const Manifest *manifest, const Step *step, int more, const GArray *restarts, gint64 now)
{
  g_autoptr(GArray) times = g_array_copy ((GArray *) restarts);
  Manifest about = *manifest;
  gboolean normal = step->end == 0;

  about.restart_window = (guint) ((int) manifest->restart_window + more);
  for (guint attempt = 0; attempt <= step->fails; attempt++, normal = FALSE)
    switch (supervise_judge (&about, normal, times, now))
      {
      case SUPERVISE_LEAVE: return 'e';
      case SUPERVISE_FAIL: return 'x';
      case SUPERVISE_RESTART: break;
      }
  return 'r';
}

static void
count_restarts (Restarts *restarts, const Step *step)
{
  for (guint attempt = 0; attempt <= step->fails; attempt++)
    {
      g_array_append_val (restarts->early, step->time);
      g_array_append_val (restarts->late, step->until);
    }
}

/* They count whole seconds, and it is not known when exactly they did: what is the same for as few restarts within the window as
 * there can have been, and for as many, has to be theirs.  TRUE: it is not the same. */
static gboolean
compare_step (const Manifest *manifest, const Step *step, const Restarts *restarts)
{
  char few = judge (manifest, step, -1, restarts->early, step->until), many = judge (manifest, step, 1, restarts->late, step->time);

  if (few == many)
    g_assert_cmpint (judge (manifest, step, 0, restarts->early, step->time), ==, few);
  if (step->what != few && step->what != many)
    g_test_message ("cell %u, %s of %u within %u s, after %u: %s, and %u starts fail", step->cell, policies[manifest->restart],
                    manifest->restart_intensity, manifest->restart_window, restarts->early->len, ends[step->end], step->fails);
  if (step->what != few)
    g_assert_cmpint (step->what, ==, many);
  return few != many;
}

/* Returns how many answers could have been one or the other. */
static guint
compare (const Tree *tree)
{
  Restarts restarts[CELLS_MAX];
  gboolean over[CELLS_MAX] = { FALSE };
  guint doubtful = 0;

  for (guint i = 0; i < tree->n_cells; i++)
    restarts[i] = (Restarts) { g_array_new (FALSE, FALSE, sizeof (gint64)), g_array_new (FALSE, FALSE, sizeof (gint64)) };
  for (guint i = 0; i < tree->n_steps; i++)
    {
      const Step *step = &tree->steps[i];

      if (over[step->cell])
        g_assert_cmpint (step->what, ==, '-');
      else
        doubtful += compare_step (&tree->cells[step->cell], step, &restarts[step->cell]);
      if (step->what == 'r')
        count_restarts (&restarts[step->cell], step);
      over[step->cell] = step->what != 'r';
    }
  for (guint i = 0; i < tree->n_cells; i++)
    {
      g_array_unref (restarts[i].early);
      g_array_unref (restarts[i].late);
    }
  return doubtful;
}

static void
test_trees (gconstpointer data)
{
  gboolean slow = data != NULL;
  guint n = slow ? SLOW_TREES : TREES, doubtful = 0, steps = 0, seen[128] = { 0 };
  g_autofree Tree *trees = g_new0 (Tree, n);

  for (guint i = 0; i < n; i++)
    make_tree (&trees[i], slow);
  if (!ask_erlang (trees, n))
    {
      g_test_skip ("there is no escript (erlang-base)");
      return;
    }
  for (guint i = 0; i < n; i++)
    {
      doubtful += compare (&trees[i]);
      steps += trees[i].n_steps;
      for (guint k = 0; k < trees[i].n_steps; k++)
        seen[(guint) trees[i].steps[k].what]++;
    }
  g_test_message ("%u ends in %u trees: %u restarted, %u not, %u given up; %u could be either", steps, n, seen['r'], seen['e'],
                  seen['x'], doubtful);
  g_assert_true (seen['r'] > 0 && seen['e'] > 0 && seen['x'] > 0);
  g_assert_cmpuint (doubtful, <, slow ? steps / 2 : 1);
}

/* ---- a real host ------------------------------------------------------------------------------------------ */

static HostCell *
load (HostFixture *host, guint number, const Manifest *manifest)
{
  g_autofree char *name = g_strdup_printf ("phoenix%u", number), *base = g_strconcat (name, ".so", NULL);
  g_autofree char *to = g_build_filename (host->folder, base, NULL), *bytes = NULL, *keys = g_strconcat (name, ".cell", NULL);
  g_autofree char *from = g_build_filename (g_getenv ("TEST_CELLS"), "phoenix.so", NULL),
                  *key_file = g_build_filename (host->folder, keys, NULL);
  g_autofree char *text = g_strdup_printf ("[Cell]\nRestart=%s\nRestartIntensity=%u\nRestartWindow=%u\n",
                                           policies[manifest->restart], manifest->restart_intensity, manifest->restart_window);
  g_autoptr(GError) error = NULL;
  HostCell *cell;
  gsize size;

  g_file_get_contents (from, &bytes, &size, &error);
  g_assert_no_error (error);
  g_file_set_contents_full (to, bytes, (gssize) size, G_FILE_SET_CONTENTS_NONE, 0755, &error);
  g_assert_no_error (error);
  g_file_set_contents_full (key_file, text, -1, G_FILE_SET_CONTENTS_NONE, 0644, &error);
  g_assert_no_error (error);
  cell = host_fixture_load (host, to, NULL, NULL);
  host_fixture_eject (cell);
  return cell;
}

/* Until it serves again, or does not any more. */
static char
settle (HostCell *cell, guint restarts)
{
  gint64 until = g_get_monotonic_time () + 60 * G_USEC_PER_SEC;

  for (;;)
    {
      HostCellInfo info;

      host_cell_describe (cell, &info);
      if (info.location == CELL_LOCATION_DEAD)
        return strstr (info.reason, "it failed: ") != NULL ? 'x' : 'e';
      if (info.location == CELL_LOCATION_CHILD && info.restarts > restarts)
        return 'r';
      g_assert_cmpint (g_get_monotonic_time (), <, until);
      g_usleep (1000);
    }
}

/* By itself, with status 0 or by a signal, or by somebody else's. */
static void
burn (CellBus *bus, HostCell *cell, GPid pid, guint how)
{
  static const char *const ways[] = { "0", "fault" };
  CellClient *client;

  if (how == G_N_ELEMENTS (ways))
    {
      g_assert_cmpint (kill (pid, SIGKILL), ==, 0);
      return;
    }
  client = cell_bind (bus, Phoenix, cell->name);
  cell_set_timeout (client, 60000);
  cell_auto PhoenixBurn burn = phoenix_burn (client, .how = ways[how]);
  g_assert_cmpint (burn.result.status, !=, CELL_OK);
  cell_client_close (client);
}

static char
end (CellBus *bus, HostCell *cell, guint how)
{
  HostCellInfo info;

  host_cell_describe (cell, &info);
  if (info.location == CELL_LOCATION_DEAD)
    return '-';
  burn (bus, cell, info.pid, how);
  return settle (cell, info.restarts);
}

/* The others are where they were, in the process that they were in. */
static void
check_others (HostCell *const *cells, const guint64 *generations, guint n, guint but)
{
  for (guint i = 0; i < n; i++)
    {
      HostCellInfo info;

      host_cell_describe (cells[i], &info);
      if (i != but)
        g_assert_cmpuint (info.generation, ==, generations[i]);
    }
}

static void
test_host (void)
{
  HostFixture host = { 0 };
  Tree tree = { .n_cells = 6, .n_steps = 24 };
  HostCell *cells[CELLS_MAX];
  CellBus *bus;

  for (guint i = 0; i < tree.n_cells; i++)
    tree.cells[i] = (Manifest) { .restart = (ManifestRestart) (i % 3), .restart_intensity = (guint) g_test_rand_int_range (0, 4),
                                 .restart_window = LONG };
  for (guint i = 0; i < tree.n_steps; i++)
    tree.steps[i] = (Step) { .cell = (guint) g_test_rand_int_range (0, (gint) tree.n_cells),
                             .end = (guint) g_test_rand_int_range (0, G_N_ELEMENTS (ends)) };
  if (!ask_erlang (&tree, 1))
    {
      g_test_skip ("there is no escript (erlang-base)");
      return;
    }
  host_fixture_set_up (&host, NULL);
  if (!host_fixture_has_sandbox ())
    {
      host_fixture_tear_down (&host, NULL);
      return;
    }
  bus = cell_open (host.socket);
  for (guint i = 0; i < tree.n_cells; i++)
    cells[i] = load (&host, i, &tree.cells[i]);
  for (guint i = 0; i < tree.n_steps; i++)
    {
      const Step *step = &tree.steps[i];
      guint64 generations[CELLS_MAX];

      for (guint k = 0; k < tree.n_cells; k++)
        {
          HostCellInfo info;

          host_cell_describe (cells[k], &info);
          generations[k] = info.generation;
        }
      g_test_message ("%u: cell %u (%s, %u restarts) ends: %s; theirs: %c", i, step->cell, policies[tree.cells[step->cell].restart],
                      tree.cells[step->cell].restart_intensity, ends[step->end], step->what);
      g_assert_cmpint (end (bus, cells[step->cell], step->end), ==, step->what);
      check_others (cells, generations, tree.n_cells, step->cell);
    }
  cell_close (bus);
  for (guint i = 0; i < tree.n_cells; i++)
    host_cell_unref (cells[i]);
  host_fixture_tear_down (&host, NULL);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_log_set_always_fatal (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL);
  g_setenv ("ERL_CRASH_DUMP", "/dev/null", TRUE);
  g_test_add_data_func ("/erlang/trees", NULL, test_trees);
  g_test_add_data_func ("/erlang/windows", "slow", test_trees);
  g_test_add_func ("/erlang/host", test_host);
  return g_test_run ();
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A cell in a sandbox is killed again and again, at any moment, while programs and a cell call it: every call is answered, or ends
 * in CRASHED, or past its deadline; and nothing is left behind.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <string.h>

#include <cell/remote/pacer.h>
#include <cell/remote/sequence.h>

#include "host-fixture.h"

#define N_KILLS 30
#define N_KILLS_LONG 200
#define PIPELINE 16
#define SLACK_US 20000                  /* the longest that a child lives unharmed, besides what it takes to notice it */

typedef struct
{
  HostFixture host;
  _Atomic gboolean done;
  _Atomic guint64 n_good, n_crashed, n_late;
} Scene;

static const char keys[] = "[Cell]\nRestartIntensity=1000\nRestartWindow=1\n";

/* ---- what there is -------------------------------------------------------------------------------------------------- */

typedef struct
{
  guint descriptors, children, mappings;
} Owned;

static guint
count_entries (const char *path)
{
  g_autoptr(GDir) dir = g_dir_open (path, 0, NULL);
  guint n = 0;

  while (dir != NULL && g_dir_read_name (dir) != NULL)
    n++;
  return n;
}

static guint
count_children (void)
{
  g_autoptr(GDir) dir = g_dir_open ("/proc/self/task", 0, NULL);
  const char *task;
  guint n = 0;

  while (dir != NULL && (task = g_dir_read_name (dir)) != NULL)
    {
      g_autofree char *path = g_build_filename ("/proc/self/task", task, "children", NULL), *text = NULL;

      if (!g_file_get_contents (path, &text, NULL, NULL))
        continue;
      for (const char *at = text; (at = strchr (at, ' ')) != NULL; at++)
        n++;
    }
  return n;
}

/* Of channels, epochs and pages of statistics. */
static guint
count_mappings (void)
{
  g_autofree char *text = NULL;
  guint n = 0;

  g_assert_true (g_file_get_contents ("/proc/self/maps", &text, NULL, NULL));
  for (const char *at = text; (at = strstr (at, "/memfd:cell-")) != NULL; at++)
    n += !g_str_has_prefix (at, "/memfd:cell-module");
  return n;
}

static Owned
look (void)
{
  return (Owned) { count_entries ("/proc/self/fd"), count_children (), count_mappings () };
}

/* What ends takes a moment to be gone. */
static void
wait_for_less (const Owned *most)
{
  gint64 until = g_get_monotonic_time () + 60 * G_USEC_PER_SEC;
  Owned now = look ();

  while (now.descriptors > most->descriptors || now.children > most->children || now.mappings > most->mappings)
    {
      if (g_get_monotonic_time () > until)
        g_error ("there were %u descriptors, %u children and %u mappings; now there are %u, %u and %u", most->descriptors,
                 most->children, most->mappings, now.descriptors, now.children, now.mappings);
      sched_yield ();
      now = look ();
    }
}

/* ---- callers ---------------------------------------------------------------------------------------------------------- */

static void
count (Scene *scene, const CellResult *result, gboolean right)
{
  if (result->status == CELL_OK)
    {
      g_assert_true (right);
      scene->n_good++;
    }
  else if (result->status == CELL_ERROR_CRASHED)
    scene->n_crashed++;
  else if (result->status == CELL_ERROR_DEADLINE)
    scene->n_late++;
  else
    g_error ("%s: %s", result->error, result->message);
}

static gpointer
one_by_one (gpointer data)
{
  Scene *scene = data;
  CellBus *bus = cell_open (scene->host.socket);
  CellClient *sequence = cell_bind (bus, Sequence, "sequence");

  for (guint64 i = 0; !scene->done; i++)
    {
      cell_auto SequenceNote note = sequence_note (sequence, .who = 1, .number = i, .text = "one by one");

      count (scene, &note.result, note.number == i && g_strcmp0 (note.text, "one by one") == 0);
    }
  cell_close (bus);
  return NULL;
}

static gpointer
many_at_a_time (gpointer data)
{
  Scene *scene = data;
  CellBus *bus = cell_open (scene->host.socket);
  CellClient *sequence = cell_bind (bus, Sequence, "sequence");
  SequenceNextCall calls[PIPELINE];

  for (guint64 i = 0; !scene->done; i += PIPELINE)
    {
      for (guint k = 0; k < PIPELINE; k++)
        calls[k] = sequence_next_start (sequence, .who = 2, .number = i + k);
      for (guint k = 0; k < PIPELINE; k++)
        {
          cell_auto SequenceNext next = sequence_next_finish (calls[k]);

          count (scene, &next.result, next.number == i + k);
        }
    }
  cell_close (bus);
  return NULL;
}

/* It stops at the first call that is not answered, whose channel goes on all the same. */
static gpointer
of_a_cell (gpointer data)
{
  Scene *scene = data;
  CellBus *bus = cell_open (scene->host.socket);
  CellClient *pacer = cell_bind (bus, Pacer, "pacer");

  while (!scene->done)
    {
      cell_auto PacerRun ran = pacer_run (pacer, .who = 3, .thousands = 1);

      g_assert_cmpstr (ran.result.message, ==, NULL);
      if (*ran.wrong != 0 && strstr (ran.wrong, "Crashed") == NULL && strstr (ran.wrong, "Deadline") == NULL)
        g_error ("%s", ran.wrong);
      scene->n_good += *ran.wrong == 0;
      cell_auto PacerForget forget = pacer_forget (pacer);
      g_assert_cmpstr (forget.result.message, ==, NULL);
    }
  cell_close (bus);
  return NULL;
}

/* ---- the storm ---------------------------------------------------------------------------------------------------------- */

/* At a random moment after it has begun, whatever it is at then. */
static void
kill_one (HostCell *cell, GPid *last)
{
  gint64 until = g_get_monotonic_time () + 60 * G_USEC_PER_SEC;
  HostCellInfo place = { 0 };

  for (host_cell_describe (cell, &place); place.pid == 0 || place.pid == *last; host_cell_describe (cell, &place))
    {
      g_assert_cmpint (g_get_monotonic_time (), <, until);
      g_assert_cmpint (place.location, !=, CELL_LOCATION_DEAD);
      g_usleep (1000);
    }
  g_usleep ((gulong) g_test_rand_int_range (0, SLACK_US));
  kill (place.pid, SIGKILL);
  *last = place.pid;
}

static void
storm (Scene *scene, const char *path, guint n_kills)
{
  g_autoptr(HostCell) sequence = host_fixture_load (&scene->host, path, "sequence", NULL),
                      pacer = host_fixture_load (&scene->host, "pacer", NULL, NULL);
  g_autoptr(GError) error = NULL;
  GThread *threads[3];
  GPid last = 0;

  host_fixture_eject (sequence);
  scene->done = FALSE;
  threads[0] = g_thread_new ("one", one_by_one, scene);
  threads[1] = g_thread_new ("many", many_at_a_time, scene);
  threads[2] = g_thread_new ("cell", of_a_cell, scene);
  for (guint i = 0; i < n_kills; i++)
    kill_one (sequence, &last);
  scene->done = TRUE;
  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    g_thread_join (threads[i]);
  g_assert_cmpuint (host_fixture_restarts (sequence), >=, n_kills - 1);
  g_assert_true (host_unload (scene->host.host, "pacer", &error));
  g_assert_true (host_unload (scene->host.host, "sequence", &error));
  g_assert_no_error (error);
}

static void
test_storm (gconstpointer data)
{
  Scene scene = { 0 };
  g_autofree char *base = g_strconcat (data, ".so", NULL), *from = g_build_filename (g_getenv ("TEST_CELLS"), base, NULL);
  g_autofree char *to = NULL, *key_file = NULL, *bytes = NULL;
  g_autoptr(GError) error = NULL;
  Owned before;
  gsize size;

  if (!host_fixture_has_sandbox ())
    return;
  host_fixture_set_up (&scene.host, NULL);
  to = g_build_filename (scene.host.folder, "sequence.so", NULL);
  key_file = g_build_filename (scene.host.folder, "sequence.cell", NULL);
  g_assert_true (g_file_get_contents (from, &bytes, &size, &error));
  g_assert_true (g_file_set_contents_full (to, bytes, (gssize) size, G_FILE_SET_CONTENTS_NONE, 0755, &error));
  g_assert_true (g_file_set_contents_full (key_file, keys, -1, G_FILE_SET_CONTENTS_NONE, 0644, &error));
  storm (&scene, to, 2);                /* what is needed from now on is there */
  before = look ();
  before.descriptors += 2;              /* modules of builds that are not used any more */
  storm (&scene, to, g_test_thorough () ? N_KILLS_LONG : N_KILLS);
  wait_for_less (&before);
  g_test_message ("%" G_GUINT64_FORMAT " answered, %" G_GUINT64_FORMAT " crashed, %" G_GUINT64_FORMAT " late", scene.n_good,
                  scene.n_crashed, scene.n_late);
  host_fixture_tear_down (&scene.host, NULL);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_log_set_always_fatal (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL);    /* a warning that a child died is what is wanted */
  g_test_add_data_func ("/storm/serial", "sequence", test_storm);
  g_test_add_data_func ("/storm/loop", "sequence-loop", test_storm);
  g_test_add_data_func ("/storm/many", "sequence-many", test_storm);
  return g_test_run ();
}

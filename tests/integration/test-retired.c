/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Nothing that was loaded is unmapped: what nobody uses any more is counted, and shown.
 */
#include "host-fixture.h"
#include "plugins/loader.h"

static void
load_and_unload (HostFixture *fixture, const char *name, guint retired)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (HostCell) cell = host_fixture_load (fixture, "whole", name, NULL);

  g_assert_cmpuint (cell->retired, ==, retired);
  host_unload (fixture->host, name, &error);
  g_assert_no_error (error);
}

static void
test_retired (HostFixture *fixture, gconstpointer data)
{
  guint loaded = cell_modules_count (NULL), retired, retired_before;

  (void) data;
  cell_modules_count (&retired_before);
  for (guint i = 0; i < CELL_RETIRED_MANY; i++)
    load_and_unload (fixture, "often", i);
  /* The same bytes, and yet each is a module of its own. */
  g_assert_cmpuint (cell_modules_count (&retired), ==, loaded + CELL_RETIRED_MANY);
  g_assert_cmpuint (retired, ==, retired_before + CELL_RETIRED_MANY);

  g_test_expect_message ("cellhost-cell", G_LOG_LEVEL_WARNING, "200 earlier builds of often stay in memory*");
  load_and_unload (fixture, "often", CELL_RETIRED_MANY);
  g_test_assert_expected_messages ();
  /* A warning that nobody expects is fatal here. */
  for (guint i = CELL_RETIRED_MANY + 1; i < CELL_RETIRED_MANY + CELL_RETIRED_STEP; i++)
    load_and_unload (fixture, "often", i);
  g_test_expect_message ("cellhost-cell", G_LOG_LEVEL_WARNING, "300 earlier builds of often stay in memory*");
  load_and_unload (fixture, "often", CELL_RETIRED_MANY + CELL_RETIRED_STEP);
  g_test_assert_expected_messages ();
  load_and_unload (fixture, "once", 0);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add ("/retired/counted", HostFixture, NULL, host_fixture_set_up, test_retired, host_fixture_tear_down);
  return g_test_run ();
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the two policy files say of a cell, what is wrong with one, and who may have written it.
 */
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "host/policy.h"

#define PATH "/home/policy"

static void
add (Policy *policy, const char *text)
{
  g_autoptr (GError) error = NULL;

  policy_add (policy, PATH, text, strlen (text), &error);
  g_assert_no_error (error);
}

/* "a;b", or "*". */
static void
check (const Policy *policy, const char *cell, const char *calls, uint32_t role)
{
  const char *const *names = policy_get_calls (policy, cell);
  g_autofree char *list = names != NULL ? g_strjoinv (";", (char **) names) : g_strdup ("*");

  g_assert_cmpstr (list, ==, calls);
  g_assert_cmpuint (policy_get_role (policy, cell), ==, role);
}

static void
test_nothing_said (void)
{
  g_autoptr (Policy) policy = policy_new ();

  check (policy, "trader", "*", CELL_ACCESS_ANY);
  add (policy, "");
  add (policy, "# nothing\n[Default]\n[Cell trader]\n");
  check (policy, "trader", "*", CELL_ACCESS_ANY);
}

static void
test_groups (void)
{
  g_autoptr (Policy) policy = policy_new ();

  add (policy, "[Default]\nCalls= clock ;\nRole=view\n"
               "[Cell trader]\nCalls=exchange; ledger\n"
               "[Cell bank]\nRole=admin\n"
               "[Cell free]\nCalls=*\nRole=none\n"
               "[Cell alone]\nCalls=\n");
  check (policy, "nobody", "clock", CELL_ACCESS_VIEW);
  check (policy, "trader", "exchange;ledger", CELL_ACCESS_VIEW);
  check (policy, "bank", "clock", CELL_ACCESS_ADMIN);
  check (policy, "free", "*", CELL_ACCESS_ANY);
  check (policy, "alone", "", CELL_ACCESS_VIEW);
}

/* Key by key, and a cell's own group before what holds for all. */
static void
test_the_later_file (void)
{
  g_autoptr (Policy) policy = policy_new ();

  add (policy, "[Default]\nCalls=clock\nRole=operate\n[Cell trader]\nCalls=exchange\nRole=view\n");
  add (policy, "[Default]\nRole=none\n[Cell trader]\nCalls=ledger\n");
  check (policy, "trader", "ledger", CELL_ACCESS_VIEW);
  check (policy, "nobody", "clock", CELL_ACCESS_ANY);
  add (policy, "[Cell trader]\nCalls=*\n");
  check (policy, "trader", "*", CELL_ACCESS_VIEW);
}

typedef struct
{
  const char *name, *text, *sentence;
} Refusal;

static const Refusal refusals[] = {
  { "not-a-key-file", "this is no key file\n", PATH ": " },
  { "group", "[Cells]\nCalls=x\n", PATH ": there is a group [Cells]; [Default] and [Cell NAME] are known" },
  { "no-name", "[Cell]\nCalls=x\n", "there is a group [Cell]" },
  { "bad-name", "[Cell two words]\nCalls=x\n", "[Cell two words]: a cell cannot be called 'two words'" },
  { "key", "[Cell trader]\nCall=x\n",
    "[Cell trader] has a key Call; Calls, Role, Network, ReadPaths, WritePaths and Devices are known" },
  { "key-of-a-locale", "[Default]\nCalls[de]=x\n", "[Default] has a key Calls[de]" },
  { "role", "[Default]\nRole=root\n", "[Default] Role is none, view, operate or admin, not 'root'" },
  { "no-role", "[Default]\nRole=\n", "not ''" },
  { "role-not-utf8", "[Default]\nRole=\xff\n", "[Default] Role is none, view, operate or admin" },
  { "calls", "[Cell trader]\nCalls=ledger;two words\n", "[Cell trader] Calls: a cell cannot be called 'two words'" },
  { "calls-all-and-more", "[Cell trader]\nCalls=*;ledger\n", "[Cell trader] Calls: a cell cannot be called '*'" },
  { "network", "[Cell trader]\nNetwork=perhaps\n", "[Cell trader] Network is true or false" },
  { "relative", "[Cell trader]\nReadPaths=/a;b\n", "[Cell trader] ReadPaths: 'b' is not an absolute path" },
  { "no-device", "[Cell trader]\nDevices=/dev/../etc\n", "[Cell trader] Devices: '/dev/../etc' does not lie below /dev" },
  { "many-paths", "[Cell trader]\nWritePaths=/1;/1;/1;/1;/1;/1;/1;/1;/1;/1;/1;/1;/1;/1;/1;/1;/1\n",
    "[Cell trader] WritePaths: 16 are the most" },
  { "calls-not-utf8", "[Cell trader]\nCalls=\xff\n", "[Cell trader] Calls: " },
};

static void
test_permits (void)
{
  g_autoptr (Policy) policy = policy_new ();
  const char *const *paths;
  gboolean network;

  add (policy, "[Default]\nNetwork=false\nReadPaths=/srv\n[Cell trader]\nNetwork=true\nReadPaths= /a/../b/ ;/c\nDevices=\n");
  g_assert_true (policy_get_network (policy, "nobody", &network));
  g_assert_false (network);
  g_assert_true (policy_get_network (policy, "trader", &network));
  g_assert_true (network);
  paths = policy_get_paths (policy, "trader", PERMIT_READ);
  g_assert_true (permits_cover (paths, "/b") && permits_cover (paths, "/b/c") && permits_cover (paths, "/c"));
  g_assert_false (permits_cover (paths, "/bc") || permits_cover (paths, "/a") || permits_cover (paths, "/srv"));
  g_assert_true (permits_cover (policy_get_paths (policy, "nobody", PERMIT_READ), "/srv/x"));
  g_assert_nonnull (policy_get_paths (policy, "trader", PERMIT_DEVICES));
  g_assert_null (policy_get_paths (policy, "trader", PERMIT_WRITE));
  add (policy, "[Cell trader]\nReadPaths=/\n");
  g_assert_true (permits_cover (policy_get_paths (policy, "trader", PERMIT_READ), "/srv/x"));
}

static void
test_refused (gconstpointer data)
{
  const Refusal *refusal = data;
  g_autoptr (GError) error = NULL;
  g_autoptr (Policy) policy = policy_new ();

  g_assert_false (policy_add (policy, PATH, refusal->text, strlen (refusal->text), &error));
  g_assert_error (error, CELL_ERROR_DOMAIN, -CELL_ERROR_INVALID);
  g_assert_true (g_str_has_prefix (error->message, PATH ": "));
  if (strstr (error->message, refusal->sentence) == NULL)
    g_error ("expected '%s', got '%s'", refusal->sentence, error->message);
}

/* ---- files ------------------------------------------------------------------------------------------- */

static char *
put (const char *dir, const char *name, const char *text)
{
  char *path = g_build_filename (dir, name, NULL);

  g_assert_true (g_file_set_contents (path, text, -1, NULL));
  g_assert_cmpint (g_chmod (path, 0644), ==, 0);
  return path;
}

static void
refuse (const char *path, const char *sentence)
{
  g_autoptr (GError) error = NULL;

  g_assert_null (policy_load (NULL, path, &error));
  g_assert_error (error, CELL_ERROR_DOMAIN, -CELL_ERROR_REFUSED);
  g_assert_true (g_str_has_prefix (error->message, path));
  if (strstr (error->message, sentence) == NULL)
    g_error ("expected '%s', got '%s'", sentence, error->message);
}

static void
test_files (void)
{
  g_autofree char *dir = g_dir_make_tmp ("test-policy-XXXXXX", NULL);
  g_autofree char *missing = g_build_filename (dir, "nothing", "policy", NULL);
  g_autofree char *system = put (dir, "system", "[Cell trader]\nCalls=exchange\nRole=view\n");
  g_autofree char *user = put (dir, "user", "[Cell trader]\nRole=admin\n");
  g_autofree char *large = g_strnfill (POLICY_MAX_SIZE + 1, '#');
  g_autoptr (GError) error = NULL;
  g_autoptr (Policy) both = policy_load (system, user, &error), none = policy_load (missing, NULL, &error);

  g_assert_no_error (error);
  check (both, "trader", "exchange", CELL_ACCESS_ADMIN);
  check (none, "trader", "*", CELL_ACCESS_ANY);
  refuse (dir, "it is not a regular file");
  g_assert_cmpint (g_chmod (user, 0664), ==, 0);
  refuse (user, "its mode 0664 lets others write to it");
  g_assert_cmpint (g_chmod (user, 0644), ==, 0);
  if (geteuid () == 0 && chown (user, 12345, 12345) == 0)
    refuse (user, "it is owned by user 12345");
  g_free (user);
  user = put (dir, "user", large);
  refuse (user, "65537 bytes; 65536 are the most");
  g_remove (system);
  g_remove (user);
  g_assert_cmpint (g_rmdir (dir), ==, 0);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/policy/nothing-said", test_nothing_said);
  g_test_add_func ("/policy/permits", test_permits);
  g_test_add_func ("/policy/groups", test_groups);
  g_test_add_func ("/policy/the-later-file", test_the_later_file);
  for (gsize i = 0; i < G_N_ELEMENTS (refusals); i++)
    {
      g_autofree char *name = g_strconcat ("/policy/refused/", refusals[i].name, NULL);

      g_test_add_data_func (name, &refusals[i], test_refused);
    }
  g_test_add_func ("/policy/files", test_files);
  return g_test_run ();
}

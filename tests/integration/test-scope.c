/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What is asked of systemd for an ejected cell, and what becomes of the cell if the answer is no, or does not come.  Who answers is
 * not systemd, but says the same on a bus of the test's own: a real one would need cgroups that a test has not.
 */
#include <gio/gio.h>
#include <unistd.h>

#include "host-fixture.h"
#include "plugins/sandbox/bounds.h"
#include "plugins/sandbox/scope.h"

#define SYSTEMD "org.freedesktop.systemd1"
#define PATH "/org/freedesktop/systemd1"

static const char interface_xml[] =
  "<node><interface name='" SYSTEMD ".Manager'>"
  "<method name='Subscribe'/>"
  "<method name='StartTransientUnit'><arg type='s' direction='in'/><arg type='s' direction='in'/><arg type='a(sv)' direction='in'/>"
  "<arg type='a(sa(sv))' direction='in'/><arg type='o' direction='out'/></method>"
  "<method name='SetUnitProperties'><arg type='s' direction='in'/><arg type='b' direction='in'/><arg type='a(sv)' "
  "direction='in'/></method><signal name='JobRemoved'><arg type='u'/><arg type='o'/><arg type='s'/><arg type='s'/></signal>"
  "</interface></node>";

typedef enum
{
  AGREES,
  FAILS,                        /* the job does */
  REFUSES,
  SAYS_NOTHING                  /* of the job */
} Mood;

typedef struct
{
  GTestDBus *dbus;
  GDBusConnection *connection;
  GMainContext *context;
  GMainLoop *loop;
  GThread *thread;
  guint id, owned;
  gint owns;
  Mood mood;
  const char *refuses_weight;   /* the name of an error; NULL: it does not */
  GMutex lock;
  /* what was asked for last */
  guint n_asked;
  char *unit;
  guint32 pid;
  guint64 tasks, memory, swap, weight;
  gboolean subscribed;
} Systemd;

static void
take_properties (Systemd *systemd, GVariant *properties)
{
  g_autoptr(GVariant) pids = NULL;
  GVariantDict dict;
  GVariantIter iter;
  const char *name;
  GVariant *value;

  g_variant_dict_init (&dict, NULL);
  g_variant_iter_init (&iter, properties);
  while (g_variant_iter_loop (&iter, "(&sv)", &name, &value))
    g_variant_dict_insert_value (&dict, name, value);
  g_assert_true (g_variant_dict_lookup (&dict, "TasksMax", "t", &systemd->tasks));
  g_assert_true (g_variant_dict_lookup (&dict, "MemoryMax", "t", &systemd->memory));
  g_assert_true (g_variant_dict_lookup (&dict, "MemorySwapMax", "t", &systemd->swap));
  g_assert_true (g_variant_dict_lookup (&dict, "CPUWeight", "t", &systemd->weight));
  pids = g_variant_dict_lookup_value (&dict, "PIDs", G_VARIANT_TYPE ("au"));
  g_assert_cmpuint (g_variant_n_children (pids), ==, 1);
  g_variant_get_child (pids, 0, "u", &systemd->pid);
  g_variant_dict_clear (&dict);
}

/* Until the next boot, and of nothing else. */
static void
take_weight (Systemd *systemd, GVariant *arguments)
{
  g_autoptr(GVariant) properties = NULL, value = NULL;
  gboolean runtime;
  const char *unit, *name;

  g_variant_get (arguments, "(&sb@a(sv))", &unit, &runtime, &properties);
  g_assert_cmpstr (unit, ==, systemd->unit);
  g_assert_true (runtime);
  g_assert_cmpuint (g_variant_n_children (properties), ==, 1);
  g_variant_get_child (properties, 0, "(&sv)", &name, &value);
  g_assert_cmpstr (name, ==, "CPUWeight");
  systemd->weight = g_variant_get_uint64 (value);
}

static void
on_call (GDBusConnection *connection, const char *sender, const char *path, const char *interface, const char *method,
         GVariant *arguments, GDBusMethodInvocation *invocation, gpointer data)
{
  static const char job[] = PATH "/job/7";
  Systemd *systemd = data;
  g_autoptr(GVariant) properties = NULL;
  const char *mode;

  (void) sender, (void) path;
  g_mutex_lock (&systemd->lock);
  if (g_str_equal (method, "Subscribe"))
    {
      systemd->subscribed = TRUE;
      g_dbus_method_invocation_return_value (invocation, NULL);
    }
  else if (g_str_equal (method, "SetUnitProperties"))
    {
      take_weight (systemd, arguments);
      if (systemd->refuses_weight != NULL)
        g_dbus_method_invocation_return_dbus_error (invocation, systemd->refuses_weight, "not this one");
      else
        g_dbus_method_invocation_return_value (invocation, NULL);
    }
  else
    {
      g_free (systemd->unit);
      g_variant_get (arguments, "(s&s@a(sv)@a(sa(sv)))", &systemd->unit, &mode, &properties, NULL);
      g_assert_cmpstr (mode, ==, "fail");
      take_properties (systemd, properties);
      systemd->n_asked++;
      if (systemd->mood == REFUSES)
        g_dbus_method_invocation_return_dbus_error (invocation, "org.freedesktop.DBus.Error.AccessDenied", "no, thanks");
      else
        g_dbus_method_invocation_return_value (invocation, g_variant_new ("(o)", job));
      /* Whoever did not subscribe would not hear it; another job comes first. */
      if (systemd->subscribed && systemd->mood <= FAILS)
        {
          g_dbus_connection_emit_signal (connection, NULL, PATH, interface, "JobRemoved",
                                         g_variant_new ("(uoss)", 6, PATH "/job/6", "other.scope", "failed"), NULL);
          g_dbus_connection_emit_signal (connection, NULL, PATH, interface, "JobRemoved",
                                         g_variant_new ("(uoss)", 7, job, systemd->unit,
                                                        systemd->mood == AGREES ? "done" : "failed"), NULL);
        }
    }
  g_mutex_unlock (&systemd->lock);
}

static void
on_owned (GDBusConnection *connection, const char *name, gpointer data)
{
  Systemd *systemd = data;

  (void) connection, (void) name;
  g_atomic_int_set (&systemd->owns, 1);
}

static gpointer
systemd_main (gpointer data)
{
  static const GDBusInterfaceVTable vtable = { .method_call = on_call };
  g_autoptr(GDBusNodeInfo) node = g_dbus_node_info_new_for_xml (interface_xml, NULL);
  Systemd *systemd = data;

  g_main_context_push_thread_default (systemd->context);
  systemd->id = g_dbus_connection_register_object (systemd->connection, PATH, node->interfaces[0], &vtable, systemd, NULL, NULL);
  g_assert_cmpuint (systemd->id, !=, 0);
  systemd->owned = g_bus_own_name_on_connection (systemd->connection, SYSTEMD, G_BUS_NAME_OWNER_FLAGS_NONE, on_owned, NULL, systemd,
                                                 NULL);
  g_main_loop_run (systemd->loop);
  g_bus_unown_name (systemd->owned);
  g_dbus_connection_unregister_object (systemd->connection, systemd->id);
  g_main_context_pop_thread_default (systemd->context);
  return NULL;
}

static void
systemd_start (Systemd *systemd)
{
  g_autoptr(GError) error = NULL;

  systemd->dbus = g_test_dbus_new (G_TEST_DBUS_NONE);
  g_test_dbus_up (systemd->dbus);
  systemd->connection = g_dbus_connection_new_for_address_sync (g_test_dbus_get_bus_address (systemd->dbus),
                                                                G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT
                                                                  | G_DBUS_CONNECTION_FLAGS_MESSAGE_BUS_CONNECTION, NULL, NULL,
                                                                  &error);
  g_assert_no_error (error);
  g_mutex_init (&systemd->lock);
  systemd->context = g_main_context_new ();
  systemd->loop = g_main_loop_new (systemd->context, FALSE);
  systemd->thread = g_thread_new ("systemd", systemd_main, systemd);
  while (!g_atomic_int_get (&systemd->owns))
    g_thread_yield ();
}

static gboolean
quit_cb (gpointer data)
{
  g_main_loop_quit (data);
  return G_SOURCE_REMOVE;
}

static void
systemd_end (Systemd *systemd)
{
  g_autoptr(GSource) source = g_idle_source_new ();

  g_source_set_callback (source, quit_cb, systemd->loop, NULL);
  g_source_attach (source, systemd->context);
  g_thread_join (systemd->thread);
  g_main_loop_unref (systemd->loop);
  g_main_context_unref (systemd->context);
  g_dbus_connection_close_sync (systemd->connection, NULL, NULL);
  g_object_unref (systemd->connection);
  g_test_dbus_stop (systemd->dbus);
  g_object_unref (systemd->dbus);
  g_mutex_clear (&systemd->lock);
  g_free (systemd->unit);
}

/* FALSE: the test was marked as skipped. */
static gboolean
has_dbus (void)
{
  g_autofree char *daemon = g_find_program_in_path ("dbus-daemon");

  if (daemon == NULL)
    g_test_skip ("there is no dbus-daemon");
  return daemon != NULL;
}

/* What is asked is what bounds the cell. */
static void
test_agrees (void)
{
  Systemd systemd = { 0 };
  g_autoptr(GError) error = NULL;
  g_autofree char *unit = g_strdup_printf ("cellhost-tested-%d.scope", (int) getpid ());

  if (!has_dbus ())
    return;
  systemd_start (&systemd);
  for (guint i = 1; i <= 3; i++)
    {
      scope_put ("tested", getpid (), bounds_memory (), &error);
      g_assert_no_error (error);
      g_assert_cmpuint (systemd.n_asked, ==, i);
    }
  g_assert_cmpstr (systemd.unit, ==, unit);
  g_assert_cmpuint (systemd.pid, ==, (guint32) getpid ());
  g_assert_cmpuint (systemd.tasks, ==, BOUNDS_PROCESSES);
  g_assert_cmpuint (systemd.memory, ==, bounds_memory ());
  g_assert_cmpuint (systemd.swap, ==, 0);
  g_assert_cmpuint (systemd.weight, ==, 100);
  scope_goes_last ("tested", getpid ());
  g_assert_cmpuint (systemd.weight, ==, 1);
  /* What has no scope keeps nothing. */
  systemd.refuses_weight = "org.freedesktop.systemd1.NoSuchUnit";
  scope_goes_last ("tested", getpid ());
  systemd.refuses_weight = "org.freedesktop.DBus.Error.AccessDenied";
  g_test_expect_message ("cellhost-sandbox", G_LOG_LEVEL_WARNING,
                         "cell tested: its scope keeps its share of the processors: not this one");
  scope_goes_last ("tested", getpid ());
  g_test_assert_expected_messages ();
  systemd_end (&systemd);
}

/* In a process of its own, since after a failure nobody is asked for a while. */
static void
test_fails (gconstpointer data)
{
  static const char *const says[] = {
    [FAILS] = "systemd makes no scope: failed", [REFUSES] = "no, thanks",
    [SAYS_NOTHING] = "systemd makes no scope: it takes too long",
  };
  Systemd systemd = { .mood = (Mood) GPOINTER_TO_INT (data) };
  g_autoptr(GError) error = NULL;

  if (!has_dbus ())
    return;
  if (!g_test_subprocess ())
    {
      g_test_trap_subprocess (NULL, 0, G_TEST_SUBPROCESS_INHERIT_STDERR);
      g_test_trap_assert_passed ();
      return;
    }
  systemd_start (&systemd);
  g_assert_false (scope_put ("tested", getpid (), bounds_memory (), &error));
  g_assert_nonnull (strstr (error->message, says[systemd.mood]));
  g_clear_error (&error);
  g_assert_false (scope_put ("tested", getpid (), bounds_memory (), &error));
  g_assert_cmpint (cell_status_from_error (error), ==, CELL_ERROR_UNSUPPORTED);
  g_assert_cmpuint (systemd.n_asked, ==, 1);
  systemd_end (&systemd);
}

static void
test_no_bus (void)
{
  g_autoptr(GError) error = NULL;

  if (!g_test_subprocess ())
    {
      g_test_trap_subprocess (NULL, 0, G_TEST_SUBPROCESS_INHERIT_STDERR);
      g_test_trap_assert_passed ();
      return;
    }
  if (geteuid () == 0)
    return;                             /* would ask the machine's */
  g_unsetenv ("DBUS_SESSION_BUS_ADDRESS");
  g_assert_false (scope_put ("tested", getpid (), bounds_memory (), &error));
  g_assert_cmpint (cell_status_from_error (error), ==, CELL_ERROR_UNSUPPORTED);
  g_assert_nonnull (strstr (error->message, "no bus"));
}

/* A cell's process is put there; where that fails the cell is ejected all the same. */
static void
test_eject (gconstpointer data)
{
  Systemd systemd = { .mood = (Mood) GPOINTER_TO_INT (data) };
  HostFixture host = { 0 };
  HostCell *cell;

  if (!has_dbus () || !host_fixture_has_sandbox ())
    return;
  if (!g_test_subprocess ())
    {
      g_test_trap_subprocess (NULL, 0, G_TEST_SUBPROCESS_INHERIT_STDERR);
      g_test_trap_assert_passed ();
      return;
    }
  systemd_start (&systemd);
  host_fixture_set_up (&host, NULL);
  cell = host_fixture_load (&host, "sequence", "sequence", NULL);
  host_fixture_eject (cell);
  g_assert_cmpuint (systemd.n_asked, ==, 1);
  g_assert_cmpuint (systemd.pid, ==, (guint32) child_get_pid (cell->child));
  g_assert_true (g_str_has_prefix (systemd.unit, "cellhost-sequence-"));
  host_cell_unref (cell);
  host_fixture_tear_down (&host, NULL);
  systemd_end (&systemd);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_log_set_always_fatal (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL);
  g_test_add_func ("/scope/agrees", test_agrees);
  g_test_add_data_func ("/scope/fails", GINT_TO_POINTER (FAILS), test_fails);
  g_test_add_data_func ("/scope/refuses", GINT_TO_POINTER (REFUSES), test_fails);
  g_test_add_data_func ("/scope/says-nothing", GINT_TO_POINTER (SAYS_NOTHING), test_fails);
  g_test_add_func ("/scope/no-bus", test_no_bus);
  g_test_add_data_func ("/scope/eject", GINT_TO_POINTER (AGREES), test_eject);
  g_test_add_data_func ("/scope/eject-all-the-same", GINT_TO_POINTER (REFUSES), test_eject);
  return g_test_run ();
}

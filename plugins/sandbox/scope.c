/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define G_LOG_DOMAIN "cellhost-sandbox"
#include "scope.h"

#include <gio/gio.h>
#include <pthread.h>
#include <unistd.h>

#include "bounds.h"
#include "plugins/cell-error.h"

#define SYSTEMD "org.freedesktop.systemd1"
#define MANAGER SYSTEMD ".Manager"
#define MANAGER_PATH "/org/freedesktop/systemd1"
#define NO_UNIT SYSTEMD ".NoSuchUnit"
#define ASK_MS 2000
#define PAUSE_US (60 * G_USEC_PER_SEC)  /* after a failure */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;        /* one at a time */
static GDBusConnection *bus;
static gint64 not_before;               /* monotonic µs */

/* Of the user's bus; of root's host the machine's.  GLib would start a bus where there is none.  NULL: there is none. */
static char *
bus_address (void)
{
  const char *said = g_getenv ("DBUS_SESSION_BUS_ADDRESS");
  g_autofree char *path = g_build_filename (g_get_user_runtime_dir (), "bus", NULL), *escaped = g_dbus_address_escape_value (path);

  if (said != NULL && *said != 0)
    return g_strdup (said);
  if (g_file_test (path, G_FILE_TEST_EXISTS))
    return g_strconcat ("unix:path=", escaped, NULL);
  return geteuid () == 0 ? g_dbus_address_get_for_bus_sync (G_BUS_TYPE_SYSTEM, NULL, NULL) : NULL;
}

static GVariant *
ask (const char *method, GVariant *arguments, const char *answer, GError **error)
{
  return g_dbus_connection_call_sync (bus, SYSTEMD, MANAGER_PATH, MANAGER, method, arguments, G_VARIANT_TYPE (answer),
                                      G_DBUS_CALL_FLAGS_NO_AUTO_START, ASK_MS, NULL, error);
}

/* Subscribed, since systemd tells nobody else when a job is done. */
static gboolean
connect_bus (GError **error)
{
  g_autofree char *address = NULL;
  g_autoptr(GVariant) answer = NULL;

  if (bus != NULL && !g_dbus_connection_is_closed (bus))
    return TRUE;
  g_clear_object (&bus);
  address = bus_address ();
  if (address == NULL)
    return cell_set_error (error, CELL_ERROR_UNSUPPORTED, "there is no bus on which a systemd could be asked");
  bus = g_dbus_connection_new_for_address_sync (address, G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT
                                                           | G_DBUS_CONNECTION_FLAGS_MESSAGE_BUS_CONNECTION, NULL, NULL, error);
  answer = bus != NULL ? ask ("Subscribe", NULL, "()", error) : NULL;
  if (answer == NULL)
    g_clear_object (&bus);
  return answer != NULL;
}

/* ---- one scope ------------------------------------------------------------------------------------------- */

typedef struct
{
  const char *unit;
  char *result;                 /* NULL: not yet */
  gboolean late;
} Job;

static void
on_removed (GDBusConnection *connection, const char *sender, const char *path, const char *interface, const char *signal,
            GVariant *arguments, gpointer data)
{
  Job *job = data;
  const char *unit, *result;

  (void) connection, (void) sender, (void) path, (void) interface, (void) signal;
  if (!g_variant_is_of_type (arguments, G_VARIANT_TYPE ("(uoss)")))
    return;
  g_variant_get (arguments, "(uo&s&s)", NULL, NULL, &unit, &result);
  if (job->result == NULL && g_str_equal (unit, job->unit))
    job->result = g_strdup (result);
}

static gboolean
on_late (gpointer data)
{
  ((Job *) data)->late = TRUE;
  return G_SOURCE_REMOVE;
}

/* It may not use the machine's swap instead: that is memory, too.  The weight is every unit's; that it is said makes the kernel
 * share processors out by cells and not by threads. */
static GVariant *
describe (const char *unit, const char *cell, GPid pid, guint64 memory)
{
  g_autofree char *about = g_strconcat ("Cell ", cell, NULL);
  GVariantBuilder properties, pids;

  g_variant_builder_init (&pids, G_VARIANT_TYPE ("au"));
  g_variant_builder_add (&pids, "u", (guint32) pid);
  g_variant_builder_init (&properties, G_VARIANT_TYPE ("a(sv)"));
  g_variant_builder_add (&properties, "(sv)", "Description", g_variant_new_string (about));
  g_variant_builder_add (&properties, "(sv)", "PIDs", g_variant_builder_end (&pids));
  g_variant_builder_add (&properties, "(sv)", "TasksMax", g_variant_new_uint64 (BOUNDS_PROCESSES));
  g_variant_builder_add (&properties, "(sv)", "MemoryMax", g_variant_new_uint64 (memory));
  g_variant_builder_add (&properties, "(sv)", "MemorySwapMax", g_variant_new_uint64 (0));
  g_variant_builder_add (&properties, "(sv)", "CPUWeight", g_variant_new_uint64 (100));
  g_variant_builder_add (&properties, "(sv)", "CollectMode", g_variant_new_string ("inactive-or-failed"));
  return g_variant_new ("(ssa(sv)a(sa(sv)))", unit, "fail", &properties, NULL);
}

/* The answer comes before the process has been moved. */
static gboolean
wait_for_job (Job *job, GMainContext *context, GError **error)
{
  g_autoptr(GSource) timeout = g_timeout_source_new (ASK_MS);

  g_source_set_callback (timeout, on_late, job, NULL);
  g_source_attach (timeout, context);
  while (job->result == NULL && !job->late)
    g_main_context_iteration (context, TRUE);
  g_source_destroy (timeout);
  if (g_strcmp0 (job->result, "done") == 0)
    return TRUE;
  return cell_set_error (error, CELL_ERROR_UNSUPPORTED, "systemd makes no scope: %s",
                         job->result != NULL ? job->result : "it takes too long");
}

static gboolean
make_scope (const char *unit, const char *cell, GPid pid, guint64 memory, GError **error)
{
  g_autoptr(GMainContext) context = g_main_context_new ();
  g_autoptr(GVariant) answer = NULL;
  Job job = { .unit = unit };
  gboolean good;
  guint id;

  g_main_context_push_thread_default (context);
  id = g_dbus_connection_signal_subscribe (bus, SYSTEMD, MANAGER, "JobRemoved", MANAGER_PATH, NULL, G_DBUS_SIGNAL_FLAGS_NONE,
                                           on_removed, &job, NULL);
  answer = ask ("StartTransientUnit", describe (unit, cell, pid, memory), "(o)", error);
  good = answer != NULL && wait_for_job (&job, context, error);
  g_dbus_connection_signal_unsubscribe (bus, id);
  /* What was on its way to it comes to nobody now. */
  while (g_main_context_iteration (context, FALSE))
    continue;
  g_main_context_pop_thread_default (context);
  g_free (job.result);
  return good;
}

static char *
unit_of (const char *cell, GPid pid)
{
  return g_strdup_printf ("cellhost-%s-%d.scope", cell, (int) pid);
}

gboolean
scope_put (const char *cell, GPid pid, guint64 memory, GError **error)
{
  g_autofree char *unit = unit_of (cell, pid);
  gboolean good = FALSE;

  pthread_mutex_lock (&lock);
  if (g_get_monotonic_time () < not_before)
    cell_set_error (error, CELL_ERROR_UNSUPPORTED, "it was tried a moment ago");
  else
    {
      good = connect_bus (error) && make_scope (unit, cell, pid, memory, error);
      not_before = good ? 0 : g_get_monotonic_time () + PAUSE_US;
    }
  pthread_mutex_unlock (&lock);
  return good;
}

void
scope_goes_last (const char *cell, GPid pid)
{
  g_autofree char *unit = unit_of (cell, pid), *name = NULL;
  g_autoptr(GVariant) answer = NULL;
  g_autoptr(GError) error = NULL;
  GVariantBuilder properties;

  g_variant_builder_init (&properties, G_VARIANT_TYPE ("a(sv)"));
  g_variant_builder_add (&properties, "(sv)", "CPUWeight", g_variant_new_uint64 (1));
  pthread_mutex_lock (&lock);
  if (bus != NULL && connect_bus (&error))
    answer = ask ("SetUnitProperties", g_variant_new ("(sba(sv))", unit, TRUE, &properties), "()", &error);
  else
    g_variant_builder_clear (&properties);
  pthread_mutex_unlock (&lock);
  if (error == NULL)
    return;
  name = g_dbus_error_get_remote_error (error);
  g_dbus_error_strip_remote_error (error);
  if (g_strcmp0 (name, NO_UNIT) != 0)   /* it has none, or has ended */
    g_warning ("cell %s: its scope keeps its share of the processors: %s", cell, error->message);
}

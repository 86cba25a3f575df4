/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "town.h"

#include <stdarg.h>
#include <string.h>

#include "membrane/blob.h"
#include "membrane/wire.h"
#include "plugins/dispatch.h"

#define STATS_MAX 128u
#define REPLY_CAPACITY (256u * 1024u)

/* What has to be known of a channel to close it. */
typedef struct
{
  TownCell *callee;
  Dispatch *dispatch;                   /* a cell's: what arrives is taken up where its code runs */
} Line;

static uint64_t
patience (void)
{
  return monotonic_ns () + TOWN_PATIENCE_S * 1000000000ull;
}

/* ---- finding and calling ----------------------------------------------------------------------------- */

static TownCell *
cell_ref (TownCell *cell)
{
  cell->refs++;
  return cell;
}

static void
cell_unref (TownCell *cell)
{
  if (cell == NULL || --cell->refs != 0)
    return;
  g_assert_null (cell->endpoint->channels);
  endpoint_unref (cell->endpoint);
  epoch_page_clear (&cell->epoch);
  g_hash_table_unref (cell->config);
  g_ptr_array_unref (cell->methods);
  g_ptr_array_unref (cell->signals);
  g_string_free (cell->log, TRUE);
  g_free (cell->stats);
  g_free (cell->name);
  g_free (cell);
}

/* With the lock. */
static TownCell *
find (Town *town, const char *name, Fault *fault)
{
  for (guint i = 0; i < town->cells->len; i++)
    {
      TownCell *cell = g_ptr_array_index (town->cells, i);

      if (cell->alive && g_str_equal (cell->name, name))
        return cell;
    }
  fault_set (fault, CELL_ERROR_NOT_FOUND, "there is no cell called %s", name);
  return NULL;
}

/* Numbers are given when a name is first seen. */
static uint32_t
number_of (TownCell *cell, GPtrArray *names, const char *name)
{
  guint i;

  pthread_mutex_lock (&cell->town->lock);
  for (i = 0; i < names->len && !g_str_equal (g_ptr_array_index (names, i), name); i++)
    continue;
  if (i == names->len)
    g_ptr_array_add (names, g_strdup (name));
  pthread_mutex_unlock (&cell->town->lock);
  return i + (names == cell->methods ? cell->town->first_number : 0);
}

static uint32_t
env_method_number (void *data, const char *name)
{
  TownCell *cell = data;

  return number_of (cell, cell->methods, name);
}

static uint32_t
env_signal_number (void *data, const char *name)
{
  TownCell *cell = data;

  return number_of (cell, cell->signals, name);
}

static MethodStats *
env_method_stats (void *data, uint32_t number)
{
  TownCell *cell = data;

  g_assert_cmpuint (number - cell->town->first_number, <, STATS_MAX);
  return &cell->stats[number - cell->town->first_number];
}

static void
env_log (void *data, int32_t level, const char *text)
{
  TownCell *cell = data;

  pthread_mutex_lock (&cell->town->lock);
  g_string_append_printf (cell->log, "%d %s\n", level, text);
  pthread_mutex_unlock (&cell->town->lock);
}

/* What the contract has, and whether it is what the caller was compiled for. */
static bool
bind_methods (TownCell *cell, const Contract *contract, const CellRemote *remote, uint32_t *numbers, Fault *fault)
{
  for (guint i = 0; i < remote->n_methods; i++)
    {
      const CellRemoteMethod *method = &remote->methods[i];
      const ContractCallable *callable = contract_find (contract, method->name);

      if (callable != NULL && callable->fingerprint != method->fingerprint)
        {
          g_autoptr (Contract) wanted = contract_new_from_remote (remote, NULL);
          g_autoptr (GError) error = NULL;

          if (!contract_callable_compatible (callable, contract_find (wanted, method->name), &error))
            return fault_set (fault, CELL_ERROR_CONTRACT, "%s", error->message);
        }
      numbers[i] = callable != NULL ? number_of (cell, cell->methods, method->name) : WIRE_NO_METHOD;
    }
  return true;
}

static bool
provider_bind (Town *town, const char *name, const CellRemote *remote, uint32_t *methods, uint32_t *signals, uint64_t *ret_cell,
               Fault *fault)
{
  g_autoptr (CellModule) module = NULL;
  TownCell *cell;
  bool bound;

  pthread_mutex_lock (&town->lock);
  cell = find (town, name, fault);
  if (cell != NULL)
    {
      cell_ref (cell);
      module = cell_module_ref (cell_instance_get_module (cell->instance));
      *ret_cell = cell->id;
    }
  pthread_mutex_unlock (&town->lock);
  if (cell == NULL)
    return false;
  bound = bind_methods (cell, module->contract, remote, methods, fault);
  for (guint i = 0; i < remote->n_signals; i++)
    signals[i] = contract_find_signal (module->contract, remote->signals[i].name) != NULL
                   ? number_of (cell, cell->signals, remote->signals[i].name)
                   : WIRE_NO_METHOD;
  cell_unref (cell);
  return bound;
}

/* A program looks by itself. */
static void
program_notify (Channel *channel)
{
  Town *town = channel->context;

  atomic_fetch_add (&town->arrivals, 1);
  futex_wake (&town->arrivals, INT_MAX);
}

static Channel *
provider_open (Town *town, TownCell *caller, const char *name, uint64_t id, uint32_t request_capacity, Fault *fault)
{
  Channel *channel = NULL;
  TownCell *cell;
  Line *line;

  pthread_mutex_lock (&town->lock);
  cell = find (town, name, fault);
  if (cell != NULL && cell->id != id)
    fault_set (fault, CELL_ERROR_GONE, "%s is another cell now", name);
  else if (cell != NULL)
    channel =
      channel_new_local (cell->endpoint, request_capacity != 0 ? request_capacity : CHANNEL_CAPACITY, REPLY_CAPACITY, fault);
  if (channel != NULL)
    {
      line = g_new0 (Line, 1);
      line->callee = cell_ref (cell);
      if (caller != NULL)
        line->dispatch = dispatch_new (caller->endpoint, town->lanes, channel);
      else
        channel->notify = program_notify;
      channel->context = town;
      channel->owner = line;
      channel->blobs = blob_transit ();
      channel->access = caller != NULL ? CELL_ACCESS_OPERATE : town->access;
      endpoint_add (cell->endpoint, channel);
      town->n_channels++;
    }
  pthread_mutex_unlock (&town->lock);
  return channel;
}

static void
provider_close (Channel *channel)
{
  Line *line = channel->owner;

  if (line->dispatch != NULL)
    dispatch_end (line->dispatch);
  endpoint_remove (line->callee->endpoint, channel);
  ((Town *) channel->context)->n_channels--;
  cell_unref (line->callee);
  g_free (line);
  channel_unref (channel);
}

static bool
program_bind (void *data, const char *name, const CellRemote *remote, uint32_t *methods, uint32_t *signals, uint64_t *ret_cell,
              Fault *fault)
{
  return provider_bind (data, name, remote, methods, signals, ret_cell, fault);
}

static Channel *
program_open (void *data, const char *name, uint64_t cell, uint32_t request_capacity, Fault *fault)
{
  return provider_open (data, NULL, name, cell, request_capacity, fault);
}

static void
close_channel (void *data, Channel *channel)
{
  (void) data;
  provider_close (channel);
}

static bool
cell_bind_to (void *data, const char *name, const CellRemote *remote, uint32_t *methods, uint32_t *signals, uint64_t *ret_cell,
              Fault *fault)
{
  return provider_bind (((TownCell *) data)->town, name, remote, methods, signals, ret_cell, fault);
}

static Channel *
cell_open_to (void *data, const char *name, uint64_t cell, uint32_t request_capacity, Fault *fault)
{
  return provider_open (((TownCell *) data)->town, data, name, cell, request_capacity, fault);
}

static const ClientProvider of_programs = { .bind = program_bind, .open = program_open, .close = close_channel };
static const ClientProvider of_cells = { .bind = cell_bind_to, .open = cell_open_to, .close = close_channel };

CellClient *
town_client (Town *town, const char *name, const CellRemote *remote)
{
  CellClient *client = client_new (&of_programs, town, name, remote, CLIENT_OF_PROGRAM);

  g_assert_nonnull (client);
  return client;
}

void
town_dispatch_until (Town *town, const uint64_t *word, uint64_t wanted)
{
  ThreadContext *thread = thread_context ();
  uint64_t deadline = patience ();

  while (*(const volatile uint64_t *) word < wanted)
    {
      uint32_t arrivals = atomic_load (&town->arrivals);

      if (client_dispatch_thread (town, thread, true) > 0)
        continue;
      g_assert_cmpuint (monotonic_ns (), <, deadline);
      futex_wait_until (&town->arrivals, arrivals, monotonic_ns () + 100000000u);
    }
}

/* ---- cells ---------------------------------------------------------------------------------------------- */

char *
town_path (const char *name)
{
  static const char *const examples[] = { "ledger", "exchange", "counter", "alarm", "thumbnailer", NULL };
  g_autofree char *file = g_strconcat (name, ".so", NULL);

  return g_strv_contains (examples, name) ? g_test_build_filename (G_TEST_BUILT, "..", "examples", name, file, NULL)
                                          : g_test_build_filename (G_TEST_BUILT, "fixtures", file, NULL);
}

CellModule *
town_module (const char *name)
{
  g_autofree char *path = town_path (name);
  g_autoptr (GError) error = NULL;
  CellModule *module = cell_module_load (path, &error);

  g_assert_no_error (error);
  return module;
}

TownCell *
town_add (Town *town, CellModule *module, const char *name, GHashTable *config, GError **error)
{
  TownCell *cell = g_new0 (TownCell, 1);

  cell->refs = 1;
  cell->town = town;
  cell->name = g_strdup (name);
  g_assert_true (epoch_page_new (&cell->epoch, NULL));
  epoch_page_set (&cell->epoch, ++cell->generation, EPOCH_SERVING);
  cell->endpoint = endpoint_new (cell->epoch.page, module->options->threading, lanes_kick_gate);
  cell->config = g_hash_table_ref (config);
  cell->methods = g_ptr_array_new_with_free_func (g_free);
  cell->signals = g_ptr_array_new_with_free_func (g_free);
  cell->stats = g_new0 (MethodStats, STATS_MAX);
  cell->log = g_string_new (NULL);
  cell->env = (CellInstanceEnv){
    .endpoint = cell->endpoint,
    .method_number = env_method_number,
    .signal_number = env_signal_number,
    .method_stats = env_method_stats,
    .log = env_log,
    .data = cell,
    .clients = &of_cells,
    .clients_data = cell,
  };
  cell->instance = cell_instance_new (module, &cell->env, name, config, error);
  if (cell->instance == NULL)
    {
      cell_unref (cell);
      return NULL;
    }
  cell_instance_attach (cell->instance);
  endpoint_resume (cell->endpoint, thread_context ());
  pthread_mutex_lock (&town->lock);
  cell->alive = true;
  cell->id = ++town->last_id;
  g_ptr_array_add (town->cells, cell);
  g_ptr_array_add (town->all, cell_ref (cell));
  pthread_mutex_unlock (&town->lock);
  return cell;
}

TownCell *
town_load (Town *town, const char *fixture, const char *name, ...)
{
  g_autoptr (CellModule) module = town_module (fixture);
  g_autoptr (GHashTable) config = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
  g_autoptr (GError) error = NULL;
  TownCell *cell;
  const char *key;
  va_list args;

  va_start (args, name);
  while ((key = va_arg (args, const char *)) != NULL)
    g_hash_table_insert (config, g_strdup (key), g_strdup (va_arg (args, const char *)));
  va_end (args);
  cell = town_add (town, module, name, config, &error);
  g_assert_no_error (error);
  return cell;
}

bool
town_stop (TownCell *cell)
{
  return endpoint_stop (cell->endpoint, thread_context (), patience ());
}

void
town_resume (TownCell *cell)
{
  endpoint_resume (cell->endpoint, thread_context ());
}

void
town_unload (TownCell *cell)
{
  Town *town = cell->town;
  CellInstance *instance;

  g_assert_true (town_stop (cell));
  pthread_mutex_lock (&town->lock);
  cell->alive = false;
  instance = g_steal_pointer (&cell->instance);
  pthread_mutex_unlock (&town->lock);
  cell_instance_detach (instance);
  cell_instance_free (instance);
  endpoint_close (cell->endpoint);
  epoch_page_set (&cell->epoch, ++cell->generation, EPOCH_DEAD);
  pthread_mutex_lock (&town->lock);
  g_ptr_array_remove (town->cells, cell);
  pthread_mutex_unlock (&town->lock);
  cell_unref (cell);
}

/* The old one is stopped: state first, then the calls that it has kept. */
static gboolean
take_over (CellInstance *old, CellInstance *new, GError **error)
{
  g_autoptr (GBytes) bytes = NULL;
  uint32_t version = 0;

  bytes = cell_instance_save (old, &version, error);
  if (bytes == NULL || !cell_instance_restore (new, version, bytes, error))
    return FALSE;
  cell_instance_move_kept (old, new);
  return TRUE;
}

gboolean
town_swap (TownCell *cell, CellModule *module, GError **error)
{
  g_autoptr (CellInstance) new = cell_instance_new (module, &cell->env, cell->name, cell->config, error);
  CellInstance *old;

  if (new == NULL)
    return FALSE;
  g_assert_true (town_stop (cell));
  if (!take_over (cell->instance, new, error))
    {
      town_resume (cell);
      return FALSE;
    }
  cell_instance_detach (cell->instance);
  cell_instance_attach (new);
  pthread_mutex_lock (&cell->town->lock);
  old = cell->instance;
  cell->instance = g_steal_pointer (&new);
  pthread_mutex_unlock (&cell->town->lock);
  town_resume (cell);
  cell_instance_free (old);
  return TRUE;
}

gboolean
town_has_logged (TownCell *cell, const char *text)
{
  gboolean found;

  pthread_mutex_lock (&cell->town->lock);
  found = strstr (cell->log->str, text) != NULL;
  pthread_mutex_unlock (&cell->town->lock);
  return found;
}

/* ---- the town --------------------------------------------------------------------------------------------- */

Town *
town_new (void)
{
  Town *town = g_new0 (Town, 1);
  Fault fault = { 0 };

  pthread_mutex_init (&town->lock, NULL);
  town->cells = g_ptr_array_new ();
  town->all = g_ptr_array_new_with_free_func ((GDestroyNotify) cell_unref);
  town->access = CELL_ACCESS_ADMIN;
  town->first_number = 3;
  town->lanes = lanes_start (&fault);
  g_assert_cmpstr (fault.message, ==, "");
  return town;
}

typedef struct
{
  LaneTask task;
  _Atomic uint32_t done;
} Marker;

static void
marker_run (LaneTask *task, ThreadContext *thread)
{
  Marker *marker = (Marker *) task;

  (void) thread;
  atomic_store (&marker->done, 1);
  futex_wake (&marker->done, 1);
}

/* What was submitted before has run. */
static void
drain_lanes (Town *town)
{
  Marker marker = { .task = { .run = marker_run } };

  lanes_submit (town->lanes, &marker.task);
  while (!atomic_load (&marker.done))
    g_assert_true (futex_wait_until (&marker.done, 0, patience ()));
}

void
town_free (Town *town)
{
  while (town->cells->len > 0)
    town_unload (g_ptr_array_index (town->cells, town->cells->len - 1));
  drain_lanes (town);
  lanes_stop (town->lanes);
  g_assert_cmpint (town->n_channels, ==, 0);
  g_ptr_array_unref (town->all);
  g_ptr_array_unref (town->cells);
  pthread_mutex_destroy (&town->lock);
  g_free (town);
}

/* ---- replies ------------------------------------------------------------------------------------------ */

void
assert_ok (const CellResult *result)
{
  if (result->status != CELL_OK)
    g_error ("%d %s: %s", result->status, result->error, result->message);
  g_assert_null (result->error);
  g_assert_null (result->message);
}

void
assert_failed (const CellResult *result, CellStatus status, const char *error, const char *message)
{
  g_assert_cmpint (result->status, ==, status);
  g_assert_cmpstr (result->error, ==, error);
  if (strstr (result->message, message) == NULL)
    g_error ("expected “%s”, got “%s”", message, result->message);
}

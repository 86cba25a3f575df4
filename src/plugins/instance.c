/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include "instance-private.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "membrane/result.h"

#include "host-api.h"
#include "state.h"

void
cell_instance_run (CellInstance *instance, void (*run) (gpointer data), gpointer data)
{
  ThreadContext *thread = thread_context ();
  uint32_t depth;
  Frame frame;

  if (instance->loop != NULL)
    {
      loop_run (instance->loop, run, data);     /* whose thread is always in the cell's code */
      return;
    }
  depth = trail_enter (&thread->trail, instance->env.number);
  frame_enter (&frame, &instance->service, thread);
  run (data);
  frame_leave (&frame, thread);
  trail_leave (&thread->trail, depth);
}

/* ---- clients ----------------------------------------------------------------------------------------- */

static bool
provider_bind (void *data, const char *name, const CellRemote *remote, uint32_t *methods, uint32_t *signals, uint64_t *ret_cell,
               Fault *fault)
{
  CellInstance *instance = data;

  if (instance->env.clients == NULL)
    return fault_set (fault, CELL_ERROR_UNSUPPORTED, "this host lets no cell call another");
  if (instance->env.clients->bind (instance->env.clients_data, name, remote, methods, signals, ret_cell, fault))
    return true;
  if (!instance->initialized)
    {
      g_free (instance->unbound);
      instance->unbound = fault->status == CELL_ERROR_NOT_FOUND
                            ? g_strdup_printf ("cell %s, which it calls, is not loaded: load it first", name)
                            : g_strdup_printf ("it calls cell %s: %s", name, fault->message);
    }
  return false;
}

static Channel *
provider_open (void *data, const char *name, uint64_t cell, uint32_t request_capacity, Fault *fault)
{
  CellInstance *instance = data;

  return instance->env.clients->open (instance->env.clients_data, name, cell, request_capacity, fault);
}

static void
provider_close (void *data, Channel *channel)
{
  CellInstance *instance = data;

  instance->env.clients->close (instance->env.clients_data, channel);
}

static void
provider_expects (void *data, Channel *channel, uint32_t milliseconds)
{
  CellInstance *instance = data;

  instance->env.clients->expects (instance->env.clients_data, channel, milliseconds);
}

static void
provider_failed (void *data, CellClient *client)
{
  CellInstance *instance = data;

  instance->env.clients->failed (instance->env.clients_data, client);
}

/* The cell has closed a client: it is not to be freed once more. */
static void
provider_closed (void *data, CellClient *client)
{
  CellInstance *instance = data;

  pthread_mutex_lock (&instance->lock);
  g_ptr_array_remove_fast (instance->clients, client);
  pthread_mutex_unlock (&instance->lock);
  if (instance->env.clients != NULL && instance->env.clients->closed != NULL)
    instance->env.clients->closed (instance->env.clients_data, client);
}

/* The environment's provider, with a look at who closes what. */
static void
provider_init (CellInstance *instance)
{
  const ClientProvider *clients = instance->env.clients;

  instance->provider = (ClientProvider) {
    .bind = provider_bind, .open = provider_open, .close = provider_close, .closed = provider_closed,
    .expects = clients != NULL && clients->expects != NULL ? provider_expects : NULL,
    .failed = clients != NULL && clients->failed != NULL ? provider_failed : NULL,
  };
}

CellClient *
instance_use (CellInstance *instance, const char *name, const CellRemote *remote)
{
  ClientContext context = instance->module->options->threading == CELL_CONCURRENT ? CLIENT_OF_CONCURRENT : CLIENT_OF_SERIAL;
  CellClient *client = client_new (&instance->provider, instance, name, remote, context);

  if (client == NULL || !client_belong_to (client, &instance->service, instance->name))
    g_error ("no memory for a client of %s", name);
  pthread_mutex_lock (&instance->lock);
  g_ptr_array_add (instance->clients, client);
  pthread_mutex_unlock (&instance->lock);
  return client;
}

static gint
by_name (gconstpointer a, gconstpointer b)
{
  return strcmp (*(const char *const *) a, *(const char *const *) b);
}

char **
cell_instance_get_uses (CellInstance *instance)
{
  GPtrArray *names = g_ptr_array_new ();

  pthread_mutex_lock (&instance->lock);
  for (guint i = 0; i < instance->clients->len; i++)
    {
      const char *name = client_get_name (g_ptr_array_index (instance->clients, i));

      if (!g_ptr_array_find_with_equal_func (names, name, g_str_equal, NULL))
        g_ptr_array_add (names, g_strdup (name));
    }
  pthread_mutex_unlock (&instance->lock);
  g_ptr_array_sort (names, by_name);
  g_ptr_array_add (names, NULL);
  return (char **) g_ptr_array_free (names, FALSE);
}

static void
free_clients (CellInstance *instance)
{
  for (guint i = 0; i < instance->clients->len; i++)
    client_free (g_ptr_array_index (instance->clients, i));
  g_ptr_array_unref (instance->clients);
}

/* ---- tables ------------------------------------------------------------------------------------------ */

static gboolean
number_of (CellInstance *instance, uint32_t (*number) (void *data, const char *name), const char *name, guint place,
           uint32_t *ret_number, GError **error)
{
  *ret_number = number != NULL ? number (instance->env.data, name) : place;
  return *ret_number < INSTANCE_NUMBERS_MAX
         || cell_set_error (error, CELL_ERROR_NO_RESOURCES, "%s: all %u numbers are in use", name, INSTANCE_NUMBERS_MAX);
}

static void
fill_method (CellInstance *instance, Method *method, guint i, uint32_t number)
{
  const ContractCallable *callable = &instance->module->contract->callables[i];
  uint32_t max_reply = callable->max_reply != 0 ? callable->max_reply : REPLY_MAX_DEFAULT;

  *method = (Method) {
    .invoke = callable->name[0] == '=' ? callable->item->set : callable->item->invoke,
    .in = instance->module->in[i], .out = instance->module->out[i],
    .max_reply = (MIN (max_reply, RECORD_MAX_PAYLOAD) + 7) & ~7u,
    .flags = callable->flags, .access = callable->access, .name = callable->name,
    .stats = instance->env.method_stats != NULL ? instance->env.method_stats (instance->env.data, number) : &instance->stats[i],
  };
  method_finish (method, number);
}

static gboolean
make_methods (CellInstance *instance, GError **error)
{
  const Contract *contract = instance->module->contract;
  g_autofree uint32_t *numbers = g_new (uint32_t, contract->n_callables + 1);
  uint32_t n = 0;

  for (guint i = 0; i < contract->n_callables; i++)
    {
      if (!number_of (instance, instance->env.method_number, contract->callables[i].name, i, &numbers[i], error))
        return FALSE;
      n = MAX (n, numbers[i] + 1);
    }
  if (instance->env.method_stats == NULL)
    instance->stats = g_new0 (MethodStats, contract->n_callables + 1);
  instance->service.methods = aligned_alloc (_Alignof (Method), (n + 1) * sizeof (Method));
  if (instance->service.methods == NULL)
    return cell_set_error (error, CELL_ERROR_NO_RESOURCES, "no memory for a table of %u methods", n);
  instance->service.n_methods = n;
  for (uint32_t i = 0; i < n; i++)
    instance->service.methods[i] = (Method) { .name = "" };
  for (guint i = 0; i < contract->n_callables; i++)
    fill_method (instance, &instance->service.methods[numbers[i]], i, numbers[i]);
  return TRUE;
}

static gboolean
make_signals (CellInstance *instance, GError **error)
{
  const CellEntry *entry = instance->module->entry;
  const Contract *contract = instance->module->contract;

  instance->signals = g_new0 (InstanceSignal, contract->n_signals + 1);
  for (const CellItem *const *item = entry->items; item < entry->items_end; item++)
    {
      const ContractSignal *found =
        *item != NULL && (*item)->kind == CELL_ITEM_SIGNAL ? contract_find_signal_of (contract, *item) : NULL;
      guint place = found != NULL ? (guint) (found - contract->signals) : 0;
      uint32_t number;

      if (found == NULL || instance->n_signals == contract->n_signals)
        continue;
      if (!number_of (instance, instance->env.signal_number, found->name, place, &number, error))
        return FALSE;
      instance->signals[instance->n_signals++] = (InstanceSignal) { *item, instance->module->args[place], (uint16_t) number };
    }
  return TRUE;
}

/* ---- life ---------------------------------------------------------------------------------------------- */

#define SAID_MAX 500u                   /* bytes; the log has the whole line */

void
instance_hear (CellInstance *instance, const char *text)
{
  g_autofree char *said = g_utf8_make_valid (text, (gssize) strnlen (text, SAID_MAX));

  pthread_mutex_lock (&instance->lock);
  if (!instance->begun)
    {
      g_free (instance->said);
      instance->said = g_steal_pointer (&said);
    }
  pthread_mutex_unlock (&instance->lock);
}

static char *
stop_hearing (CellInstance *instance)
{
  char *said;

  pthread_mutex_lock (&instance->lock);
  instance->begun = TRUE;
  said = g_steal_pointer (&instance->said);
  pthread_mutex_unlock (&instance->lock);
  return said;
}

static gboolean
check_status (CellStatus status, CellInstance *instance, const char *what, GError **error)
{
  g_autofree char *said = NULL;

  if (status == CELL_OK)
    return TRUE;
  if (!status_is_known (status))
    return cell_set_error (error, CELL_ERROR_INTERNAL, "%s: its %s returned %d, which is no status", instance->name, what, status);
  said = stop_hearing (instance);
  return cell_set_error (error, status, "%s: its %s failed: %s%s%s%s%s", instance->name, what, cell_error_text (status),
                         instance->unbound != NULL ? "; " : "", instance->unbound != NULL ? instance->unbound : "",
                         said != NULL ? "; it says: " : "", said != NULL ? said : "");
}

typedef struct
{
  CellInstance *instance;
  GError **error;
  gboolean good;
} Step;

/* What runs before the first call, where the cell's code runs. */
static void
begin (gpointer data)
{
  Step *step = data;
  CellInstance *instance = step->instance;
  const CellEntry *entry = instance->module->entry;
  const CellOptions *options = instance->module->options;

  if (entry->construct != NULL && !check_status (entry->construct (instance->self), instance, "constructor", step->error))
    return;
  instance->constructed = TRUE;
  if (options->init != NULL && !check_status (options->init (instance->self), instance, "init", step->error))
    return;
  instance->initialized = TRUE;
  g_clear_pointer (&instance->unbound, g_free);
  g_free (stop_hearing (instance));
  step->good = TRUE;
}

static void
end (gpointer data)
{
  CellInstance *instance = data;
  const CellEntry *entry = instance->module->entry;

  if (instance->initialized && instance->module->options->fini != NULL)
    instance->module->options->fini (instance->self);
  if (instance->constructed && entry->destruct != NULL)
    entry->destruct (instance->self);
  free_clients (instance);
  if (instance->service.endpoint != NULL)
    deferred_end_all (&instance->service, CELL_ERROR_GONE, "the cell was stopped before it answered");
}

static gboolean
make_self (CellInstance *instance, GError **error)
{
  instance->self = self_new (instance, instance->module->entry->self_size);
  if (instance->self == NULL)
    return cell_set_error (error, CELL_ERROR_NO_RESOURCES, "%s: no memory for an instance of %u bytes", instance->name,
                           instance->module->entry->self_size);
  return TRUE;
}

CellInstance *
cell_instance_new (CellModule *module, const CellInstanceEnv *env, const char *name, GHashTable *config, GError **error)
{
  g_autoptr (CellInstance) instance = g_new0 (CellInstance, 1);
  Step step = { instance, error, FALSE };

  instance->module = cell_module_ref (module);
  instance->env = *env;
  instance->name = g_strdup (name);
  instance->config = config != NULL ? g_hash_table_ref (config) : NULL;
  pthread_mutex_init (&instance->lock, NULL);
  instance->clients = g_ptr_array_new ();
  provider_init (instance);
  pthread_mutex_init (&instance->service.lock, NULL);
  if (!make_self (instance, error) || !make_methods (instance, error) || !make_signals (instance, error))
    return NULL;
  instance->service.self = instance->self;
  instance->service.endpoint = env->endpoint;
  instance->service.interface = module->contract->interface;
  instance->service.data = instance;
  if (module->options->threading == CELL_LOOP && (instance->loop = loop_new (name, &instance->service, instance->env.number, error))
      == NULL)
    return NULL;
  host_api_init ();
  if (g_atomic_pointer_get (module->entry->host) != &host_api)
    g_atomic_pointer_set (module->entry->host, &host_api);      /* once: other instances of it may be running */
  cell_instance_run (instance, begin, &step);
  return step.good ? g_steal_pointer (&instance) : NULL;
}

void
cell_instance_free (CellInstance *instance)
{
  if (instance == NULL)
    return;
  cell_instance_run (instance, end, instance);
  loop_free (instance->loop);
  if (instance->self != NULL)
    self_retire (instance->self, instance->module->entry->self_size);
  free (instance->service.methods);
  pthread_mutex_destroy (&instance->service.lock);
  g_free (instance->stats);
  g_free (instance->signals);
  g_clear_pointer (&instance->config, g_hash_table_unref);
  g_free (instance->name);
  g_free (instance->unbound);
  g_free (instance->said);
  pthread_mutex_destroy (&instance->lock);
  cell_module_unref (instance->module);
  g_free (instance);
}

static uint64_t
jobs_of (const Service *service)
{
  uint64_t jobs = 0;

  for (uint32_t i = 0; i < service->n_methods; i++)
    if (service->methods[i].flags & 1u << CELL_ATTRIBUTE_JOB)
      jobs |= endpoint_slow_bit (i);
  return jobs;
}

void
cell_instance_attach (CellInstance *instance)
{
  Endpoint *endpoint = instance->env.endpoint;

  endpoint->service = &instance->service;
  atomic_store (&endpoint->jobs, jobs_of (&instance->service));
  if (instance->loop != NULL)
    loop_own (instance->loop, &endpoint->gate);
  instance->attached = TRUE;
}

void
cell_instance_detach (CellInstance *instance)
{
  Endpoint *endpoint = instance->env.endpoint;

  if (endpoint->service == &instance->service)
    endpoint->service = NULL;
  if (instance->loop != NULL)
    loop_disown (instance->loop);
  instance->attached = FALSE;
}

/* ---- stopping ------------------------------------------------------------------------------------------- */

#define SETTLE_NS (100u * 1000000ull)   /* for what it has asked others, and for calls that it keeps and cannot take along */
#define SETTLE_STEP_NS 2000000

/* What has come for its calls has found nobody while it was held. */
static GPtrArray *
channels_of (CellInstance *instance)
{
  GPtrArray *channels = g_ptr_array_new_with_free_func ((GDestroyNotify) channel_unref);

  pthread_mutex_lock (&instance->lock);
  for (guint i = 0; i < instance->clients->len; i++)
    {
      size_t n;
      Channel **of_client = client_channels (g_ptr_array_index (instance->clients, i), &n);

      for (size_t k = 0; k < n; k++)
        g_ptr_array_add (channels, of_client[k]);
      free (of_client);
    }
  pthread_mutex_unlock (&instance->lock);
  return channels;
}

void
cell_instance_go_on (CellInstance *instance)
{
  g_autoptr (GPtrArray) channels = channels_of (instance);

  endpoint_resume (instance->env.endpoint, thread_context ());
  for (guint i = 0; i < channels->len; i++)
    {
      Channel *channel = g_ptr_array_index (channels, i);

      if (channel->notify != NULL)
        channel->notify (channel);
    }
}

/* Whoever asks is called by the cell itself, on this thread or through others: to wait would be to wait for ourselves. */
static gboolean
is_called_by (Endpoint *endpoint, ThreadContext *thread)
{
  gboolean called;

  if (endpoint->threading != CELL_CONCURRENT)
    {
      atomic_store (&thread->waits_for, &endpoint->gate);
      called = gate_is_deadlock (&endpoint->gate, thread);
      atomic_store (&thread->waits_for, NULL);
      return called;
    }
  called = FALSE;
  pthread_mutex_lock (&endpoint->lock);
  for (Channel *channel = endpoint->channels; channel != NULL && !called; channel = channel->next_in_endpoint)
    called = load_relaxed (&channel->server) == thread;
  pthread_mutex_unlock (&endpoint->lock);
  return called;
}

gboolean
cell_instance_stop (CellInstance *instance, uint64_t nanoseconds, GError **error)
{
  Endpoint *endpoint = instance->env.endpoint;
  ThreadContext *thread = thread_context ();

  if (is_called_by (endpoint, thread))
    return cell_set_error (error, CELL_ERROR_DEADLOCK,
                           "cell %s is asked to stop by one of its own calls, which would have to end first", instance->name);
  if (endpoint_stop (endpoint, thread, monotonic_ns () + nanoseconds))
    return TRUE;
  return cell_set_error (error, CELL_ERROR_BUSY, "cell %s is in a call that has not ended after %u.%u s", instance->name,
                         (guint) (nanoseconds / 1000000000u), (guint) (nanoseconds / 100000000u % 10));
}

typedef struct
{
  CellInstance *instance;
  uint64_t deadline;
  char *open;                   /* what is still under way; NULL: nothing */
} Settle;

/* Whatever runs for one client may use another, or close one. */
static GPtrArray *
clients_of (CellInstance *instance)
{
  GPtrArray *clients = g_ptr_array_new ();

  pthread_mutex_lock (&instance->lock);
  for (guint i = 0; i < instance->clients->len; i++)
    g_ptr_array_add (clients, g_ptr_array_index (instance->clients, i));
  pthread_mutex_unlock (&instance->lock);
  return clients;
}

static gboolean
has_client (CellInstance *instance, CellClient *client)
{
  gboolean there;

  pthread_mutex_lock (&instance->lock);
  there = g_ptr_array_find (instance->clients, client, NULL);
  pthread_mutex_unlock (&instance->lock);
  return there;
}

static void
settle_once (Settle *settle)
{
  CellInstance *instance = settle->instance;
  g_autoptr (GPtrArray) clients = clients_of (instance);

  g_clear_pointer (&settle->open, g_free);
  for (guint i = 0; i < clients->len && settle->open == NULL; i++)
    {
      CellClient *client = g_ptr_array_index (clients, i);
      const char *method = has_client (instance, client) ? client_settle (client, thread_context ()) : NULL;

      if (method != NULL)
        settle->open = g_strdup_printf ("%s of cell %s", method, client_get_name (client));
    }
}

/* In the cell's own context. */
static void
settle (gpointer data)
{
  Settle *settle = data;

  for (;;)
    {
      settle_once (settle);
      if (settle->open == NULL || monotonic_ns () >= settle->deadline)
        return;
      clock_nanosleep (CLOCK_MONOTONIC, 0, &(struct timespec) { 0, SETTLE_STEP_NS }, NULL);
    }
}

typedef struct
{
  GBytes *state;
  const char *lost;             /* the method of a call whose id was not saved */
} Ids;

static void
look_for_id (uint64_t id, const char *method, void *data)
{
  Ids *ids = data;
  gsize size = 0;
  const void *bytes = ids->state != NULL ? g_bytes_get_data (ids->state, &size) : NULL;

  if (bytes == NULL || memmem (bytes, size, &id, sizeof id) == NULL)
    ids->lost = method;
}

/* A kept call goes along if the cell will know of it: then its id is in what it saves. */
static gboolean
check_kept (CellInstance *instance, GError **error)
{
  g_autoptr (GBytes) state = NULL;
  uint32_t version;
  Ids ids = { 0 };

  deferred_drop_orphans (&instance->service);           /* nobody minds if those do not come along */
  if (deferred_count (&instance->service) == 0)
    return TRUE;
  ids.state = state = cell_instance_save (instance, &version, error);
  if (state == NULL)
    return FALSE;
  deferred_list (&instance->service, look_for_id, &ids);
  if (ids.lost == NULL)
    return TRUE;
  return cell_set_error (error, CELL_ERROR_BUSY, "cell %s keeps a call of %s to answer later, and does not save its id; try again",
                         instance->name, ids.lost);
}

static gboolean
settle_all (CellInstance *instance, uint64_t deadline, GError **error)
{
  Settle step = { instance, deadline, NULL };
  g_autofree char *open = NULL;

  cell_instance_run (instance, settle, &step);
  open = step.open;
  if (open == NULL)
    return TRUE;
  return cell_set_error (error, CELL_ERROR_BUSY, "cell %s has called %s, which has not answered; try again", instance->name, open);
}

gboolean
cell_instance_hold (CellInstance *instance, uint64_t nanoseconds, GError **error)
{
  uint64_t deadline = 0;

  for (;;)
    {
      g_autoptr (GError) wrong = NULL;

      if (!cell_instance_stop (instance, nanoseconds, error))
        return FALSE;
      if (deadline == 0)
        deadline = monotonic_ns () + SETTLE_NS;
      if (settle_all (instance, deadline, &wrong) && check_kept (instance, &wrong))
        return TRUE;
      cell_instance_go_on (instance);
      if (cell_status_from_error (wrong) != CELL_ERROR_BUSY || monotonic_ns () >= deadline)
        {
          g_propagate_error (error, g_steal_pointer (&wrong));
          return FALSE;
        }
      clock_nanosleep (CLOCK_MONOTONIC, 0, &(struct timespec) { 0, SETTLE_STEP_NS }, NULL);
    }
}

/* In the cell's own context. */
static void
give_up (gpointer data)
{
  CellInstance *instance = data;
  g_autoptr (GPtrArray) clients = clients_of (instance);

  for (guint i = 0; i < clients->len; i++)
    if (has_client (instance, g_ptr_array_index (clients, i)))
      client_give_up (g_ptr_array_index (clients, i), thread_context ());
}

gboolean
cell_instance_retire (CellInstance *instance, uint64_t nanoseconds, GError **error)
{
  if (!cell_instance_stop (instance, nanoseconds, error))
    return FALSE;
  if (!settle_all (instance, monotonic_ns () + SETTLE_NS, NULL))
    cell_instance_run (instance, give_up, instance);
  return TRUE;
}

static void
take_over (gpointer data)
{
  CellInstance *instance = data;

  for (guint i = 0; i < instance->clients->len; i++)
    client_take_over (g_ptr_array_index (instance->clients, i), thread_context ());
}

void
cell_instance_take_over (CellInstance *instance)
{
  cell_instance_run (instance, take_over, instance);
}

void
cell_instance_move_kept (CellInstance *from, CellInstance *to)
{
  deferred_move (&from->service, &to->service);
}

/* ---- state ---------------------------------------------------------------------------------------------- */

gboolean
cell_instance_can_move (CellInstance *instance, GError **error)
{
  const CellOptions *options = instance->module->options;

  if (options->save == NULL && options->state_version != 0)
    return cell_set_error (error, CELL_ERROR_STATE, "%s: it has state, and no save to take it along", instance->name);
  return TRUE;
}

typedef struct
{
  CellInstance *instance;
  CellState state;
  uint32_t version;
  CellStatus status;
} StateStep;

static void
save (gpointer data)
{
  StateStep *step = data;
  CellState *outer = state_enter (&step->state);

  step->status = step->instance->module->options->save (step->instance->self, &step->state);
  state_enter (outer);
}

static void
restore (gpointer data)
{
  StateStep *step = data;
  CellState *outer = state_enter (&step->state);

  step->status = step->instance->module->options->restore (step->instance->self, step->version, &step->state);
  state_enter (outer);
}

/* CELL_ERROR_STATE whatever the cell said, and why. */
static gboolean
state_failed (StateStep *step, const char *what, GError **error)
{
  g_autoptr (GError) local = NULL;

  check_status (step->status, step->instance, what, &local);
  return cell_set_error (error, CELL_ERROR_STATE, "%s%s%s", local->message, step->state.why != NULL ? "; " : "",
                         step->state.why != NULL ? step->state.why : "");
}

GBytes *
cell_instance_save (CellInstance *instance, uint32_t *ret_version, GError **error)
{
  StateStep step = { .instance = instance };
  GBytes *bytes = NULL;

  if (!cell_instance_can_move (instance, error))
    return NULL;
  state_init_writer (&step.state, instance->module);
  if (instance->module->options->save != NULL)
    cell_instance_run (instance, save, &step);
  if (step.status != CELL_OK)
    state_failed (&step, "save", error);
  else
    {
      bytes = state_take_bytes (&step.state);
      *ret_version = instance->module->options->state_version;
    }
  state_clear (&step.state);
  return bytes;
}

gboolean
cell_instance_restore (CellInstance *instance, uint32_t version, GBytes *bytes, GError **error)
{
  StateStep step = { .instance = instance, .version = version };
  gboolean good;

  if (instance->module->options->restore == NULL)
    return g_bytes_get_size (bytes) == 0
           || cell_set_error (error, CELL_ERROR_STATE, "%s: there are %zu bytes of state, and it has no restore", instance->name,
                              g_bytes_get_size (bytes));
  state_init_reader (&step.state, instance->module, bytes);
  cell_instance_run (instance, restore, &step);
  good = step.status == CELL_OK || state_failed (&step, "restore", error);
  state_clear (&step.state);
  return good;
}

/* ---- what it is ------------------------------------------------------------------------------------------ */

CellModule *
cell_instance_get_module (CellInstance *instance)
{
  return instance->module;
}

Service *
cell_instance_get_service (CellInstance *instance)
{
  return &instance->service;
}

guint
cell_instance_count_kept (CellInstance *instance)
{
  return deferred_count (&instance->service);
}

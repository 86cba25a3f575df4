/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Clients over channels, against services in this process: what a generated header's functions do, and what becomes of them when
 * the cell goes away, does not fit or is not there yet.
 */
#define _GNU_SOURCE
#include <glib.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cell/client.h>

#include "membrane/blob.h"
#include "membrane/client.h"
#include "membrane/defer.h"
#include "membrane/endpoint.h"
#include "membrane/wire.h"

/* ---- what a generated header declares ------------------------------------------------------------------ */

CELL_ARGS (EchoAdd, field (i64, a), field (i64, b))
CELL_REPLY (EchoAdd, field (i64, sum))
CELL_STUBS (echo, add, EchoAdd, 0)
#define echo_add(...) echo_add (CELL_NAMED (EchoAdd, __VA_ARGS__))
#define echo_add_start(...) echo_add_start (CELL_NAMED (EchoAdd, __VA_ARGS__))
#define echo_add_async(...) echo_add_async (CELL_NAMED_ASYNC (EchoAdd, __VA_ARGS__))

CELL_ARGS (EchoText, field (str, text), field (array (u32), numbers))
CELL_REPLY (EchoText, field (u32, length), field (u32, sum), field (u8, first), field (optional (str), head))
CELL_STUBS (echo, text, EchoText, 1)
#define echo_text(...) echo_text (CELL_NAMED (EchoText, __VA_ARGS__))
#define echo_text_start(...) echo_text_start (CELL_NAMED (EchoText, __VA_ARGS__))

CELL_ARGS (EchoLater, field (u32, value))
CELL_REPLY (EchoLater, field (u32, value))
CELL_STUBS (echo, later, EchoLater, 2)
#define echo_later(...) echo_later (CELL_NAMED (EchoLater, __VA_ARGS__))
#define echo_later_start(...) echo_later_start (CELL_NAMED (EchoLater, __VA_ARGS__))
#define echo_later_async(...) echo_later_async (CELL_NAMED_ASYNC (EchoLater, __VA_ARGS__))

CELL_ARGS (EchoPost, field (u32, value))
CELL_REPLY (EchoPost)
CELL_STUBS (echo, post, EchoPost, 3)
#define echo_post(...) echo_post (CELL_NAMED (EchoPost, __VA_ARGS__))

CELL_ARGS (EchoMissing)
CELL_REPLY (EchoMissing, field (u64, value))
CELL_STUBS (echo, missing, EchoMissing, 4)
#define echo_missing(...) echo_missing (CELL_NAMED (EchoMissing, __VA_ARGS__))

CELL_STRUCT (EchoTicked, field (u32, n), field (str, text))
CELL_SIGNAL_STUBS (echo, ticked, EchoTicked, 0)
CELL_STRUCT (EchoStopped, field (u32, n))
CELL_SIGNAL_STUBS (echo, stopped, EchoStopped, 1)

CELL_REMOTE_METHODS (Echo, CELL_REMOTE_METHOD ("add", EchoAdd, 1, 0, 0), CELL_REMOTE_METHOD ("text", EchoText, 2, 0, 0),
                     CELL_REMOTE_METHOD ("later", EchoLater, 3, 200, 0),
                     CELL_REMOTE_METHOD ("post", EchoPost, 4, 0, CELL_FLAG_ONEWAY),
                     CELL_REMOTE_METHOD ("missing", EchoMissing, 5, 0, 0))
CELL_REMOTE_SIGNALS (Echo, CELL_REMOTE_SIGNAL ("ticked", EchoTicked, 1), CELL_REMOTE_SIGNAL ("stopped", EchoStopped, 2))
CELL_REMOTE (Echo, "org.example.Echo", 1, 77)

/* ---- a service in this process --------------------------------------------------------------------------- */

enum
{
  N_METHODS = 4
};

typedef struct
{
  char *name;
  uint64_t id;
  bool alive;
  EpochPage epoch;
  Endpoint *endpoint;
  Service service;
  Method methods[N_METHODS];
  MethodStats stats[N_METHODS];
  uint64_t posted, served;
  uint64_t waiting[16];                 /* deferred */
  unsigned n_waiting;
} Echo;

/* Where clients look for cells. */
typedef struct
{
  pthread_mutex_t lock;                 /* not a GMutex: ThreadSanitizer does not see through those */
  GPtrArray *cells;
  uint64_t last_id;
  int n_open, n_opened, n_notified, n_failed, n_closed;
  uint32_t expected;
} Town;

static CellStatus
do_add (void *self, CellCall *call, const void *in, void *out)
{
  const EchoAddArgs *args = in;

  (void) call;
  ((Echo *) self)->served++;
  if (args->a == INT64_MIN)
    return CELL_ERROR_INVALID;
  *(int64_t *) out = args->a + args->b;
  return CELL_OK;
}

static CellStatus
do_text (void *self, CellCall *call, const void *in, void *out)
{
  const EchoTextArgs *args = in;
  EchoText *reply = (EchoText *) ((uint8_t *) out - sizeof (CellResult));

  (void) call;
  ((Echo *) self)->served++;
  reply->length = (uint32_t) strlen (args->text);
  for (uint32_t i = 0; i < args->n_numbers; i++)
    reply->sum += args->numbers[i];
  reply->first = (uint8_t) args->text[0];
  reply->has_head = reply->length > 0;
  reply->head = reply->length > 0 ? "it has one" : "";
  return CELL_OK;
}

static CellStatus
do_later (void *self, CellCall *call, const void *in, void *out)
{
  Echo *echo = self;

  (void) in;
  (void) out;
  g_assert_cmpuint (echo->n_waiting, <, G_N_ELEMENTS (echo->waiting));
  echo->waiting[echo->n_waiting++] = call_defer (call);
  return CELL_DEFERRED;
}

static CellStatus
do_post (void *self, CellCall *call, const void *in, void *out)
{
  (void) call;
  (void) out;
  ((Echo *) self)->posted += ((const EchoPostArgs *) in)->value;
  return CELL_OK;
}

static CodecPlan *
plan_of (const CellType *type, uint32_t size)
{
  const char *why = NULL;
  CodecPlan *plan = type->n_fields > 0 ? codec_plan_new (type->fields, type->n_fields, CELL_ROLE_FIELD, size, &why) : NULL;

  g_assert_cmpstr (why, ==, NULL);
  return plan;
}

static Echo *
echo_new (Town *town, const char *name)
{
  static const CellInvoke invokes[N_METHODS] = { do_add, do_text, do_later, do_post };
  /* As a cell's compiler lays its outputs out, not as the caller's reply struct does. */
  const CodecPlan *in[N_METHODS] = { plan_of (&cell_args_EchoAdd, 16), plan_of (&cell_args_EchoText, 24),
                                     plan_of (&cell_args_EchoLater, 4), plan_of (&cell_args_EchoPost, 4) };
  const CodecPlan *out[N_METHODS] = { plan_of (&cell_reply_EchoAdd, 8), plan_of (&cell_reply_EchoText, 32),
                                      plan_of (&cell_reply_EchoLater, 4), NULL };
  Echo *echo = aligned_alloc (64, (sizeof *echo + 63) & ~(size_t) 63);
  Fault fault = { 0 };

  memset (echo, 0, sizeof *echo);
  echo->name = g_strdup (name);
  echo->alive = true;
  g_assert_true (epoch_page_new (&echo->epoch, &fault));
  epoch_page_set (&echo->epoch, 1, EPOCH_SERVING);
  echo->endpoint = endpoint_new (echo->epoch.page, CELL_SERIAL, NULL);
  for (unsigned i = 0; i < N_METHODS; i++)
    {
      echo->methods[i] = (Method) { .invoke = invokes[i], .in = in[i], .out = out[i], .max_reply = 4096, .name = "",
                                    .stats = &echo->stats[i] };
      method_finish (&echo->methods[i], i);
    }
  echo->service = (Service) { .self = echo, .n_methods = N_METHODS, .methods = echo->methods, .endpoint = echo->endpoint,
                              .interface = "org.example.Echo" };
  echo->endpoint->service = &echo->service;
  endpoint_resume (echo->endpoint, thread_context ());
  pthread_mutex_lock (&town->lock);
  echo->id = ++town->last_id;
  g_ptr_array_add (town->cells, echo);
  pthread_mutex_unlock (&town->lock);
  return echo;
}

static void
echo_stop (Town *town, Echo *echo)
{
  pthread_mutex_lock (&town->lock);
  echo->alive = false;
  pthread_mutex_unlock (&town->lock);
  g_assert_true (endpoint_stop (echo->endpoint, thread_context (), monotonic_ns () + 5000000000u));
  deferred_end_all (&echo->service, CELL_ERROR_GONE, "it stops");
  endpoint_close (echo->endpoint);
  epoch_page_set (&echo->epoch, 2, EPOCH_DEAD);
}

static void
echo_free (Echo *echo)
{
  g_assert_null (echo->endpoint->channels);
  endpoint_unref (echo->endpoint);
  epoch_page_clear (&echo->epoch);
  for (unsigned i = 0; i < N_METHODS; i++)
    {
      codec_plan_free ((CodecPlan *) echo->methods[i].in);
      codec_plan_free ((CodecPlan *) echo->methods[i].out);
    }
  g_free (echo->name);
  free (echo);
}

/* Answers what was deferred, in the cell's own context. */
static void
echo_answer (Echo *echo)
{
  ThreadContext *thread = thread_context ();

  g_assert_true (gate_enter (&echo->endpoint->gate, thread));
  for (unsigned i = 0; i < echo->n_waiting; i++)
    {
      CellCall *call = call_resume (&echo->service, echo->waiting[i]);
      uint32_t out;

      if (call == NULL)
        continue;
      out = ((const EchoLaterArgs *) call_request (call))->value * 2;
      call_answer (call, CELL_OK, &out);
    }
  echo->n_waiting = 0;
  gate_leave (&echo->endpoint->gate, thread);
}

static void
echo_emit (Echo *echo, unsigned number, const CellType *type, const void *args)
{
  ThreadContext *thread = thread_context ();
  CodecPlan *plan = plan_of (type, type->size);
  _Alignas (16) uint8_t payload[512];
  uint32_t used = plan->size;
  CodecFault fault;

  g_assert_true (codec_encode (plan, args, payload, sizeof payload, &used, NULL, &fault));
  g_assert_true (gate_enter (&echo->endpoint->gate, thread));
  for (Channel *channel = echo->endpoint->channels; channel != NULL; channel = channel->next_in_endpoint)
    if (channel->subscribed >> number & 1)
      {
        if (channel_send (channel, RECORD_SIGNAL, channel->missed, (uint16_t) number, CELL_OK, payload, used, plan->size))
          channel->missed = 0;
        else
          channel->missed++;
      }
  gate_leave (&echo->endpoint->gate, thread);
  codec_plan_free (plan);
}

/* ---- where clients look for it --------------------------------------------------------------------------- */

static Echo *
town_find (Town *town, const char *name, Fault *fault)
{
  for (guint i = 0; i < town->cells->len; i++)
    {
      Echo *echo = town->cells->pdata[i];

      if (echo->alive && g_str_equal (echo->name, name))
        return echo;
    }
  fault_set (fault, CELL_ERROR_NOT_FOUND, "there is no cell called %s", name);
  return NULL;
}

static bool
town_bind (void *data, const char *name, const CellRemote *remote, uint32_t *methods, uint32_t *signals, uint64_t *ret_cell,
           Fault *fault)
{
  Town *town = data;
  Echo *echo;

  pthread_mutex_lock (&town->lock);
  echo = town_find (town, name, fault);
  if (echo != NULL)
    *ret_cell = echo->id;
  pthread_mutex_unlock (&town->lock);
  for (unsigned i = 0; i < remote->n_methods; i++)
    methods[i] = i < N_METHODS ? i : WIRE_NO_METHOD;
  for (unsigned i = 0; i < remote->n_signals; i++)
    signals[i] = 1 - i;                 /* the callee has its own order */
  return echo != NULL;
}

static void
town_notify (Channel *channel)
{
  g_atomic_int_inc (&((Town *) channel->context)->n_notified);
}

static Channel *
town_open (void *data, const char *name, uint64_t cell, uint32_t request_capacity, Fault *fault)
{
  Town *town = data;
  Channel *channel = NULL;
  Echo *echo;

  pthread_mutex_lock (&town->lock);
  echo = town_find (town, name, fault);
  if (echo != NULL && echo->id != cell)
    fault_set (fault, CELL_ERROR_GONE, "%s is another cell now", name);
  else if (echo != NULL)
    channel = channel_new_local (echo->endpoint, request_capacity != 0 ? request_capacity : CHANNEL_CAPACITY, 65536, fault);
  if (channel != NULL)
    {
      channel->context = town;
      channel->notify = town_notify;
      channel->blobs = blob_transit ();
      endpoint_add (echo->endpoint, channel);
      g_atomic_int_inc (&town->n_open);
      town->n_opened++;
    }
  pthread_mutex_unlock (&town->lock);
  return channel;
}

static void
town_close (void *data, Channel *channel)
{
  Town *town = data;

  endpoint_remove (channel->endpoint, channel);
  channel_unref (channel);
  g_atomic_int_add (&town->n_open, -1);
}

static void
town_expects (void *data, Channel *channel, uint32_t milliseconds)
{
  (void) channel;
  ((Town *) data)->expected = milliseconds;
}

static void
town_failed (void *data, CellClient *client)
{
  (void) client;
  ((Town *) data)->n_failed++;
}

static void
town_closed (void *data, CellClient *client)
{
  (void) client;
  ((Town *) data)->n_closed++;
}

static const ClientProvider town_provider = { town_bind, town_open, town_close, town_expects, town_failed, town_closed };

static Town *
town_new (void)
{
  Town *town = g_new0 (Town, 1);

  pthread_mutex_init (&town->lock, NULL);
  town->cells = g_ptr_array_new_with_free_func ((GDestroyNotify) echo_free);
  return town;
}

static void
town_free (Town *town)
{
  g_assert_cmpint (g_atomic_int_get (&town->n_open), ==, 0);
  g_ptr_array_unref (town->cells);
  pthread_mutex_destroy (&town->lock);
  g_free (town);
}

static CellClient *
town_client (Town *town, ClientContext context)
{
  CellClient *client = client_new (&town_provider, town, "echo", &cell_remote_Echo, context);

  g_assert_nonnull (client);
  return client;
}

/* ---- calls ------------------------------------------------------------------------------------------------ */

static void
test_calls (void)
{
  Town *town = town_new ();
  Echo *echo = echo_new (town, "echo");
  CellClient *client = town_client (town, CLIENT_OF_SERIAL);
  const uint32_t numbers[] = { 1, 2, 39 };

  g_assert_cmpint (town->n_opened, ==, 0);      /* bound when it is first used */
  for (int64_t i = 0; i < 5000; i++)
    {
      cell_auto EchoAdd add = echo_add (client, .a = i, .b = -2 * i);

      g_assert_cmpint (add.result.status, ==, CELL_OK);
      g_assert_cmpint (add.sum, ==, -i);
    }
  for (unsigned i = 0; i < 500; i++)
    {
      cell_auto EchoText text = echo_text (client, .text = "ünï", .numbers = numbers, .n_numbers = 3);

      g_assert_cmpint (text.result.status, ==, CELL_OK);
      g_assert_cmpuint (text.length, ==, 5);
      g_assert_cmpuint (text.sum, ==, 42);
      g_assert_cmpuint (text.first, ==, 0xc3);
      g_assert_true (text.has_head);
      g_assert_cmpstr (text.head, ==, "it has one");
    }
  for (unsigned i = 1; i <= 100; i++)
    {
      cell_auto EchoPost post = echo_post (client, .value = i);

      g_assert_cmpint (post.result.status, ==, CELL_OK);
    }
  g_assert_cmpuint (echo->posted, ==, 5050);
  g_assert_cmpint (town->n_opened, ==, 1);
  client_free (client);
  town_free (town);
}

static void
test_errors (void)
{
  Town *town = town_new ();
  CellClient *client = town_client (town, CLIENT_OF_SERIAL);
  CellResult check;

  {
    cell_auto EchoAdd add = echo_add (client, .a = 1);

    g_assert_cmpint (add.result.status, ==, CELL_ERROR_NOT_FOUND);
    g_assert_cmpstr (add.result.error, ==, "org.cellhost.Error.NotFound");
    g_assert_cmpstr (add.result.message, ==, "add: there is no cell called echo");
    g_assert_cmpint (add.sum, ==, 0);
  }
  g_assert_cmpint (cell_check (client, &check), ==, CELL_ERROR_NOT_FOUND);
  cell_reply_free (&check);
  echo_new (town, "echo");
  g_assert_cmpint (cell_check (client, &check), ==, CELL_OK);   /* it is there now */
  cell_reply_free (&check);
  {
    cell_auto EchoAdd add = echo_add (client, .a = INT64_MIN);

    g_assert_cmpint (add.result.status, ==, CELL_ERROR_INVALID);
    g_assert_cmpint (add.sum, ==, 0);
  }
  {
    cell_auto EchoMissing missing = echo_missing (client);

    g_assert_cmpint (missing.result.status, ==, CELL_ERROR_NO_METHOD);
    g_assert_cmpuint (missing.value, ==, 0);
  }
  {
    cell_auto EchoText text = echo_text (client, .text = "\xff");

    g_assert_cmpint (text.result.status, ==, CELL_ERROR_INVALID);
    g_assert_nonnull (strstr (text.result.message, "text"));
    g_assert_null (text.head);
  }
  {
    cell_auto EchoAdd add = echo_add (client, .a = 40, .b = 2);         /* the channel is as good as before */

    g_assert_cmpint (add.sum, ==, 42);
  }
  client_free (client);
  town_free (town);
}

/* Tables with a member outside of its struct. */
static void
test_unsound (void)
{
  static const CellType u64_type = { "u64", CELL_KIND_UINT, 8, 0, 8, NULL };
  static const CellField rows[] = {
    { .name = "a", .doc = "", .type = &u64_type, .offset = 0, .role = CELL_ROLE_FIELD },
    { .name = "b", .doc = "", .type = &u64_type, .offset = 4, .role = CELL_ROLE_FIELD },
  };
  static const CellType type = { "Wrong", CELL_KIND_STRUCT, 8, 2, 16, rows };
  static const CellRemoteMethod method = { "wrong", 1, &type, NULL, 0, 0 };
  static const CellRemote remote = { sizeof remote, 1, "org.example.Wrong", 1, 1, 0, sizeof (CellRemoteMethod),
                                     sizeof (CellRemoteSignal), &method, NULL };
  Town *town = town_new ();
  CellClient *client = client_new (&town_provider, town, "echo", &remote, CLIENT_OF_SERIAL);
  CellResult result;
  uint64_t args[2] = { 0 };

  echo_new (town, "echo");
  client->api->call (client, 0, args, &result);
  g_assert_cmpint (result.status, ==, CELL_ERROR_CONTRACT);
  cell_reply_free (&result);
  client->api->call (client, 7, args, &result);
  g_assert_cmpint (result.status, ==, CELL_ERROR_INVALID);
  cell_reply_free (&result);
  client_free (client);
  town_free (town);
}

/* Requests that the first ring cannot hold, and one that none may. */
static void
test_large (void)
{
  Town *town = town_new ();
  CellClient *client = town_client (town, CLIENT_OF_SERIAL);
  static const size_t sizes[] = { 100, 20000, 300, 400000, 1000000, 10 };
  char *text = g_malloc0 (1200001);

  echo_new (town, "echo");
  memset (text, 'x', 1200000);
  for (unsigned i = 0; i < G_N_ELEMENTS (sizes); i++)
    {
      char saved = text[sizes[i]];

      text[sizes[i]] = 0;
      {
        cell_auto EchoText reply = echo_text (client, .text = text);

        g_assert_cmpint (reply.result.status, ==, CELL_OK);
        g_assert_cmpuint (reply.length, ==, sizes[i]);
      }
      text[sizes[i]] = saved;
    }
  g_assert_cmpint (town->n_open, ==, 1);
  {
    cell_auto EchoText reply = echo_text (client, .text = text);

    g_assert_cmpint (reply.result.status, ==, CELL_ERROR_TOO_LARGE);
    g_assert_nonnull (strstr (reply.result.message, "blob"));
  }
  {
    cell_auto EchoAdd add = echo_add (client, .a = 1, .b = 1);

    g_assert_cmpint (add.sum, ==, 2);
  }
  g_free (text);
  client_free (client);
  town_free (town);
}

/* Calls are open while the channel is replaced by a larger one: each is finished where it was started. */
static void
test_large_pipelined (void)
{
  Town *town = town_new ();
  Echo *echo = echo_new (town, "echo");
  CellClient *client = town_client (town, CLIENT_OF_SERIAL);
  EchoLaterCall later[5];
  EchoTextCall texts[3];
  char *text = g_strnfill (50000, 'y');

  for (unsigned i = 0; i < G_N_ELEMENTS (later); i++)
    {
      later[i] = echo_later_start (client, .value = i);
      if (i == 2)
        for (unsigned k = 0; k < G_N_ELEMENTS (texts); k++)
          texts[k] = echo_text_start (client, .text = text + 100 * k);
    }
  g_assert_cmpint (town->n_open, ==, 2);
  echo_answer (echo);
  for (unsigned k = 0; k < G_N_ELEMENTS (texts); k++)
    {
      cell_auto EchoText reply = echo_text_finish (texts[k]);

      g_assert_cmpint (reply.result.status, ==, CELL_OK);
      g_assert_cmpuint (reply.length, ==, 50000 - 100 * k);
    }
  for (unsigned i = G_N_ELEMENTS (later); i-- > 0;)
    {
      cell_auto EchoLater reply = echo_later_finish (later[i]);

      g_assert_cmpint (reply.result.status, ==, CELL_OK);
      g_assert_cmpuint (reply.value, ==, 2 * i);
    }
  g_assert_cmpint (town->n_open, ==, 1);        /* the smaller one went when it had nothing left to deliver */
  g_free (text);
  client_free (client);
  town_free (town);
}

/* ---- asynchronous calls -------------------------------------------------------------------------------------- */

typedef struct
{
  unsigned n, n_failed;
  int64_t sum;
  CellStatus last;
  CellClient *client;
} Done;

static void
add_done (const EchoAdd *reply, void *data)
{
  Done *done = data;

  done->n++;
  done->last = reply->result.status;
  done->n_failed += reply->result.status != CELL_OK;
  done->sum += reply->sum;
}

static void
later_done (const EchoLater *reply, void *data)
{
  Done *done = data;

  done->n++;
  done->last = reply->result.status;
  done->n_failed += reply->result.status != CELL_OK;
  done->sum += reply->value;
}

/* The one channel of a client of a serial cell. */
static Channel *
only_channel (Echo *echo)
{
  g_assert_nonnull (echo->endpoint->channels);
  g_assert_null (echo->endpoint->channels->next_in_endpoint);
  return echo->endpoint->channels;
}

static void
test_async (void)
{
  Town *town = town_new ();
  Echo *echo = echo_new (town, "echo");
  CellClient *client = town_client (town, CLIENT_OF_SERIAL);
  Done done = { 0 };

  for (int i = 1; i <= 1000; i++)
    echo_add_async (client, add_done, &done, .a = i);
  g_assert_cmpuint (done.n, ==, 0);             /* only when it is dispatched */
  g_assert_cmpint (town->n_notified, >, 0);
  g_assert_cmpuint (client_dispatch (only_channel (echo), thread_context ()), ==, 1000);
  g_assert_cmpuint (done.n, ==, 1000);
  g_assert_cmpint (done.sum, ==, 500500);
  g_assert_cmpuint (load_relaxed (&only_channel (echo)->caller_half->control->waiting), ==, WAITING_NOT);

  echo_later_async (client, later_done, &done, .value = 5);
  g_assert_cmpuint (town->expected, ==, 200);
  g_assert_cmpuint (load_relaxed (&only_channel (echo)->caller_half->control->waiting), ==, WAITING_DOORBELL);
  g_assert_cmpuint (client_dispatch (only_channel (echo), thread_context ()), ==, 0);
  town->n_notified = 0;
  echo_answer (echo);
  g_assert_cmpint (town->n_notified, >, 0);
  {
    cell_auto EchoAdd add = echo_add (client, .a = 1, .b = 1);  /* takes the other's answer in, and leaves it for its time */

    g_assert_cmpint (add.sum, ==, 2);
  }
  g_assert_cmpuint (done.n, ==, 1000);
  g_assert_cmpuint (client_dispatch (only_channel (echo), thread_context ()), ==, 1);
  g_assert_cmpuint (done.n, ==, 1001);
  g_assert_cmpint (done.sum, ==, 500510);
  client_free (client);
  town_free (town);
}

/* One that is never answered ends at its deadline; one that is given up is never heard of again. */
static void
test_async_ends (void)
{
  Town *town = town_new ();
  Echo *echo = echo_new (town, "echo");
  CellClient *client = town_client (town, CLIENT_OF_SERIAL);
  uint64_t deadline = monotonic_ns () + 20000000000u;
  Done done = { 0 }, given_up = { 0 };
  CellPending pending;

  echo_later_async (client, later_done, &done, .value = 5);
  pending = client->api->start (client, 2, &(EchoLaterArgs) { .value = 6 }, (CellDone) (void (*) (void)) later_done, &given_up);
  cell_cancel (pending);
  while (done.n == 0 && monotonic_ns () < deadline)
    {
      client_dispatch (only_channel (echo), thread_context ());
      g_thread_yield ();
    }
  g_assert_cmpuint (done.n, ==, 1);
  g_assert_cmpint (done.last, ==, CELL_ERROR_DEADLINE);
  echo_answer (echo);
  client_dispatch (only_channel (echo), thread_context ());
  g_assert_cmpuint (done.n, ==, 1);
  g_assert_cmpuint (given_up.n, ==, 0);
  client_free (client);
  town_free (town);
}

static void
test_async_fails (void)
{
  Town *town = town_new ();
  CellClient *client = town_client (town, CLIENT_OF_SERIAL);
  Done done = { 0 };
  EchoAddCall call = echo_add_start (client, .a = 1);

  echo_add_async (client, add_done, &done, .a = 1);
  g_assert_cmpint (town->n_failed, ==, 1);
  g_assert_cmpuint (done.n, ==, 0);
  g_assert_cmpuint (client_dispatch_failed (client, thread_context ()), ==, 1);
  g_assert_cmpuint (done.n, ==, 1);
  g_assert_cmpint (done.last, ==, CELL_ERROR_NOT_FOUND);
  {
    cell_auto EchoAdd reply = echo_add_finish (call);

    g_assert_cmpint (reply.result.status, ==, CELL_ERROR_NOT_FOUND);
    g_assert_cmpint (reply.sum, ==, 0);
  }
  {
    cell_auto EchoAdd reply = echo_add_finish (call);   /* once is enough */

    g_assert_cmpint (reply.result.status, ==, CELL_ERROR_GONE);
  }
  client_free (client);
  town_free (town);
}

static void
close_from_done (const CellResult *reply, void *data)
{
  Done *done = data;

  (void) reply;
  done->n++;
  cell_client_close (done->client);
}

static void
test_close_from_done (void)
{
  Town *town = town_new ();
  Echo *echo = echo_new (town, "echo");
  CellClient *client = town_client (town, CLIENT_OF_SERIAL);
  Done done = { .client = client };
  Channel *channel;

  for (int i = 0; i < 3; i++)
    client->api->start (client, 0, &(EchoAddArgs) { .a = i }, close_from_done, &done);
  channel = channel_ref (only_channel (echo));
  client_dispatch (channel, thread_context ());
  g_assert_cmpuint (done.n, ==, 1);             /* the others were given up by closing */
  g_assert_cmpint (town->n_closed, ==, 1);
  g_assert_cmpuint (client_dispatch (channel, thread_context ()), ==, 0);
  channel_unref (channel);
  town_free (town);
}

/* ---- cells that go and come ------------------------------------------------------------------------------------- */

static void
test_gone (void)
{
  Town *town = town_new ();
  Echo *first = echo_new (town, "echo"), *second;
  CellClient *client = town_client (town, CLIENT_OF_SERIAL);
  Done done = { 0 };
  EchoLaterCall open;
  Channel *channel;

  open = echo_later_start (client, .value = 1);
  echo_later_async (client, later_done, &done, .value = 2);
  channel = only_channel (first);
  echo_stop (town, first);
  {
    cell_auto EchoAdd add = echo_add (client, .a = 1);

    g_assert_cmpint (add.result.status, ==, CELL_ERROR_GONE);           /* not sent again behind the caller's back */
  }
  {
    cell_auto EchoAdd add = echo_add (client, .a = 1);

    g_assert_cmpint (add.result.status, ==, CELL_ERROR_NOT_FOUND);
  }
  second = echo_new (town, "echo");
  {
    cell_auto EchoAdd add = echo_add (client, .a = 1, .b = 6);

    g_assert_cmpint (add.result.status, ==, CELL_OK);
    g_assert_cmpint (add.sum, ==, 7);
  }
  g_assert_cmpuint (second->served, ==, 1);
  {
    cell_auto EchoLater later = echo_later_finish (open);

    g_assert_cmpint (later.result.status, ==, CELL_ERROR_GONE);
    g_assert_cmpuint (later.value, ==, 0);
  }
  g_assert_cmpint (town->n_open, ==, 2);        /* one has a completion to run yet */
  g_assert_cmpuint (client_dispatch (channel, thread_context ()), ==, 1);
  g_assert_cmpint (done.last, ==, CELL_ERROR_GONE);
  g_assert_cmpint (town->n_open, ==, 1);
  client_free (client);
  town_free (town);
}

/* A name is another cell's by the time a second thread opens its channel: it binds anew. */
static gpointer
add_on_thread (gpointer data)
{
  cell_auto EchoAdd add = echo_add ((CellClient *) data, .a = 20, .b = 3);

  return GINT_TO_POINTER (add.result.status == CELL_OK ? (int) add.sum : add.result.status);
}

static void
test_renamed (void)
{
  Town *town = town_new ();
  Echo *first = echo_new (town, "echo"), *second;
  CellClient *client = town_client (town, CLIENT_OF_PROGRAM);

  g_assert_cmpint (GPOINTER_TO_INT (add_on_thread (client)), ==, 23);
  echo_stop (town, first);
  second = echo_new (town, "echo");
  g_assert_cmpint (GPOINTER_TO_INT (g_thread_join (g_thread_new ("other", add_on_thread, client))), ==, 23);
  g_assert_cmpuint (second->served, ==, 1);
  client_free (client);
  town_free (town);
}

/* ---- signals ------------------------------------------------------------------------------------------------------ */

typedef struct
{
  unsigned n;
  uint64_t missed, sum;
  char last[64];
  CellClient *off;
} Heard;

static void
on_ticked (const EchoTicked *args, uint64_t missed, void *data)
{
  Heard *heard = data;

  heard->n++;
  heard->missed += missed;
  heard->sum += args->n;
  g_strlcpy (heard->last, args->text, sizeof heard->last);
  if (heard->off != NULL)
    echo_off_ticked (heard->off);
}

static void
on_stopped (const EchoStopped *args, uint64_t missed, void *data)
{
  Heard *heard = data;

  heard->n++;
  heard->missed += missed;
  heard->sum += args->n;
}

static void
tick (Echo *echo, uint32_t n, const char *text)
{
  echo_emit (echo, 1, &cell_desc_EchoTicked, &(EchoTicked) { .n = n, .text = text });
}

static void
test_signals (void)
{
  Town *town = town_new ();
  Echo *echo = echo_new (town, "echo");
  CellClient *client = town_client (town, CLIENT_OF_SERIAL);
  ThreadContext *thread = thread_context ();
  Heard ticks = { 0 }, stops = { 0 };
  Channel *channel;

  g_assert_cmpint (echo_on_ticked (client, on_ticked, &ticks), ==, CELL_OK);
  channel = only_channel (echo);
  g_assert_cmpuint (channel->subscribed, ==, 2);
  tick (echo, 3, "three");
  echo_emit (echo, 0, &cell_desc_EchoStopped, &(EchoStopped) { .n = 1 });
  g_assert_cmpint (town->n_notified, >, 0);
  g_assert_cmpuint (client_dispatch (channel, thread), ==, 1);
  g_assert_cmpuint (ticks.n, ==, 1);
  g_assert_cmpstr (ticks.last, ==, "three");
  g_assert_cmpint (echo_on_stopped (client, on_stopped, &stops), ==, CELL_OK);
  g_assert_cmpuint (channel->subscribed, ==, 3);
  echo_emit (echo, 0, &cell_desc_EchoStopped, &(EchoStopped) { .n = 9 });
  tick (echo, 4, "four");
  g_assert_cmpuint (client_dispatch (channel, thread), ==, 2);
  g_assert_cmpuint (stops.sum, ==, 9);
  g_assert_cmpuint (ticks.sum, ==, 7);
  g_assert_cmpuint (ticks.missed + stops.missed, ==, 0);

  /* Off from within its own handler: what has come already is not delivered either. */
  ticks.off = client;
  tick (echo, 5, "five");
  tick (echo, 6, "six");
  client_dispatch (channel, thread);
  g_assert_cmpuint (ticks.sum, ==, 12);
  g_assert_cmpuint (channel->subscribed, ==, 1);
  g_assert_cmpint (client->api->subscribe (client, 9, (CellOnSignal) (void (*) (void)) on_ticked, &ticks), ==, CELL_ERROR_INVALID);
  client_free (client);
  town_free (town);
}

/* A subscriber that lags is told how many it missed, and one whose cell was replaced that there may be some. */
static void
test_signals_missed (void)
{
  Town *town = town_new ();
  Echo *echo = echo_new (town, "echo");
  CellClient *client = town_client (town, CLIENT_OF_SERIAL);
  ThreadContext *thread = thread_context ();
  Heard ticks = { 0 };
  const unsigned n = 5000;

  g_assert_cmpint (echo_on_ticked (client, on_ticked, &ticks), ==, CELL_OK);
  for (unsigned i = 0; i < n; i++)
    tick (echo, 1, "often");
  client_dispatch (only_channel (echo), thread);
  tick (echo, 1, "again");
  client_dispatch (only_channel (echo), thread);
  g_assert_cmpuint (ticks.missed, >, 0);
  g_assert_cmpuint (ticks.n + ticks.missed, ==, n + 1);

  ticks = (Heard) { 0 };
  echo_stop (town, echo);
  echo = echo_new (town, "echo");
  {
    cell_auto EchoAdd add = echo_add (client, .a = 1);

    g_assert_cmpint (add.result.status, ==, CELL_ERROR_GONE);
  }
  {
    cell_auto EchoAdd add = echo_add (client, .a = 1);

    g_assert_cmpint (add.result.status, ==, CELL_OK);
  }
  g_assert_cmpuint (only_channel (echo)->subscribed, ==, 2);
  tick (echo, 8, "the new one");
  client_dispatch (only_channel (echo), thread);
  g_assert_cmpuint (ticks.n, ==, 1);
  g_assert_cmpuint (ticks.missed, ==, 1);
  client_free (client);
  town_free (town);
}

/* ---- threads -------------------------------------------------------------------------------------------------------- */

typedef struct
{
  CellClient *client;
  unsigned n, seed;
  int wrong;
} Worker;

static gpointer
work (gpointer data)
{
  Worker *worker = data;

  for (unsigned i = 0; i < worker->n; i++)
    {
      int64_t a = (int64_t) worker->seed * 1000003 + i;
      EchoAddCall calls[4];

      for (unsigned k = 0; k < G_N_ELEMENTS (calls); k++)
        calls[k] = echo_add_start (worker->client, .a = a, .b = k);
      {
        cell_auto EchoAdd add = echo_add (worker->client, .a = a, .b = 100);

        worker->wrong += add.result.status != CELL_OK || add.sum != a + 100;
      }
      for (unsigned k = G_N_ELEMENTS (calls); k-- > 0;)
        {
          cell_auto EchoAdd add = echo_add_finish (calls[k]);

          worker->wrong += add.result.status != CELL_OK || add.sum != a + k;
        }
    }
  return NULL;
}

/* Each thread has a channel of its own, which goes when the thread ends. */
static void
test_threads (void)
{
  Town *town = town_new ();
  Echo *echo = echo_new (town, "echo");
  CellClient *clients[2] = { town_client (town, CLIENT_OF_PROGRAM), town_client (town, CLIENT_OF_CONCURRENT) };
  Worker workers[6];
  GThread *threads[G_N_ELEMENTS (workers)];

  for (unsigned i = 0; i < G_N_ELEMENTS (workers); i++)
    {
      workers[i] = (Worker) { .client = clients[i % 2], .n = 400, .seed = i };
      threads[i] = g_thread_new ("worker", work, &workers[i]);
    }
  for (unsigned i = 0; i < G_N_ELEMENTS (workers); i++)
    {
      g_thread_join (threads[i]);
      g_assert_cmpint (workers[i].wrong, ==, 0);
    }
  g_assert_cmpint (town->n_opened, ==, G_N_ELEMENTS (workers));
  g_assert_cmpint (g_atomic_int_get (&town->n_open), ==, 0);
  g_assert_cmpuint (echo->served, ==, G_N_ELEMENTS (workers) * 400 * 5);
  client_free (clients[0]);
  client_free (clients[1]);
  town_free (town);
}

static gpointer
start_and_end (gpointer data)
{
  Done *done = data;

  echo_add_async (done->client, add_done, done, .a = 21, .b = 21);
  return NULL;
}

/* What a concurrent cell starts, on whatever thread, any of its threads may dispatch. */
static void
test_concurrent_async (void)
{
  Town *town = town_new ();
  Echo *echo = echo_new (town, "echo");
  Done done = { .client = town_client (town, CLIENT_OF_CONCURRENT) };
  Heard ticks = { 0 };

  g_thread_join (g_thread_new ("ends", start_and_end, &done));
  g_assert_cmpint (g_atomic_int_get (&town->n_open), ==, 1);
  g_assert_cmpint (echo_on_ticked (done.client, on_ticked, &ticks), ==, CELL_OK);
  tick (echo, 2, "two");
  g_assert_cmpuint (client_dispatch (only_channel (echo), thread_context ()), ==, 2);
  g_assert_cmpint (done.sum, ==, 42);
  g_assert_cmpuint (ticks.sum, ==, 2);
  client_free (done.client);
  town_free (town);
}

/* A call belongs to the thread that started it; another thread's finish is refused and takes nothing of its own. */
static gpointer
finish_on_thread (gpointer data)
{
  EchoAddCall *call = data, own = echo_add_start (call->pending.client, .a = 5);
  cell_auto EchoAdd wrong = echo_add_finish (*call);
  cell_auto EchoAdd right = echo_add_finish (own);

  return GINT_TO_POINTER (wrong.result.status == CELL_ERROR_GONE && right.sum == 5);
}

static void
test_finish_elsewhere (void)
{
  Town *town = town_new ();
  CellClient *client = town_client (town, CLIENT_OF_PROGRAM);
  EchoAddCall call;

  echo_new (town, "echo");
  call = echo_add_start (client, .a = 1, .b = 1);
  g_assert_true (GPOINTER_TO_INT (g_thread_join (g_thread_new ("other", finish_on_thread, &call))));
  {
    cell_auto EchoAdd add = echo_add_finish (call);

    g_assert_cmpint (add.sum, ==, 2);
  }
  client_free (client);
  town_free (town);
}

/* A cell closes what it has opened, again and again. */
static void
open_and_close (Town *town, const Service *service, guint times)
{
  Frame frame;

  frame_enter (&frame, service, thread_context ());
  for (guint i = 0; i < times; i++)
    {
      CellClient *client = town_client (town, CLIENT_OF_SERIAL);

      g_assert_true (client_belong_to (client, service, "opener"));
      cell_client_close (client);
      if (i + CLIENTS_CLOSED_KEPT < times)
        continue;
      cell_auto EchoAdd add = echo_add (client, .a = 1, .b = 2);
      g_assert_cmpint (add.result.status, ==, CELL_ERROR_GONE);
    }
  frame_leave (&frame, thread_context ());
}

static void
test_closed_by_cell (void)
{
  Town *town = town_new ();
  Service service = { 0 };
  size_t before;

  open_and_close (town, &service, CLIENTS_CLOSED_KEPT);
  before = mallinfo2 ().uordblks;
  open_and_close (town, &service, 4 * CLIENTS_CLOSED_KEPT);
  g_assert_cmpuint (mallinfo2 ().uordblks, <, before + 100 * CLIENTS_CLOSED_KEPT);  /* nothing under a sanitizer, which has a heap
                                                                                     * of its own */
  town_free (town);
}

typedef struct
{
  CellClient *client;
  bool start_only;                      /* finishes when told to */
  gint tid, go;                         /* atomic; tid: it has started the call */
  EchoLaterCall call;
  CellStatus status;
  char message[128];
} Sleeper;

static gpointer
sleep_on_call (gpointer data)
{
  Sleeper *sleeper = data;

  sleeper->call = echo_later_start (sleeper->client, .value = 3);
  g_atomic_int_set (&sleeper->tid, gettid ());
  while (sleeper->start_only && !g_atomic_int_get (&sleeper->go))
    g_thread_yield ();
  {
    cell_auto EchoLater later = echo_later_finish (sleeper->call);

    sleeper->status = later.result.status;
    g_strlcpy (sleeper->message, later.result.message != NULL ? later.result.message : "", sizeof sleeper->message);
  }
  return NULL;
}

static void
await_asleep (pid_t tid)
{
  g_autofree char *path = g_strdup_printf ("/proc/self/task/%d/stat", (int) tid);
  gint64 patience = g_get_monotonic_time () + 30 * G_USEC_PER_SEC;
  bool asleep = false;

  while (!asleep)
    {
      g_autofree char *text = NULL;

      g_assert_true (g_file_get_contents (path, &text, NULL, NULL));
      asleep = strstr (text, ") S ") != NULL;
      g_assert_cmpint (g_get_monotonic_time (), <, patience);
      g_thread_yield ();
    }
}

/* One thread waits for a call, another cancels it. */
static Sleeper
cancelled_elsewhere (CellClient *client, bool start_only)
{
  Sleeper sleeper = { .client = client, .start_only = start_only };
  GThread *thread = g_thread_new ("sleeper", sleep_on_call, &sleeper);

  while (g_atomic_int_get (&sleeper.tid) == 0)
    g_thread_yield ();
  if (!start_only)
    await_asleep (sleeper.tid);
  cell_cancel (sleeper.call.pending);
  cell_cancel (sleeper.call.pending);   /* once more is no harm */
  g_atomic_int_set (&sleeper.go, 1);
  g_thread_join (thread);
  return sleeper;
}

static void
test_cancel_elsewhere (void)
{
  Town *town = town_new ();
  Echo *echo = echo_new (town, "echo");
  CellClient *client = town_client (town, CLIENT_OF_PROGRAM);
  Gate *gate = &echo->endpoint->gate;
  Sleeper sleeper;

  cell_set_timeout (client, 120000);
  for (unsigned i = 0; i < 4; i++)
    {
      /* The cell has taken it, and keeps it. */
      sleeper = cancelled_elsewhere (client, i % 2 == 1);
      g_assert_cmpint (sleeper.status, ==, CELL_ERROR_CANCELLED);
      g_assert_nonnull (strstr (sleeper.message, "may have been executed"));
      g_assert_cmpuint (echo->n_waiting, ==, 1);
      echo_answer (echo);
      /* The cell is busy and has not taken it. */
      g_assert_true (gate_enter (gate, thread_context ()));
      sleeper = cancelled_elsewhere (client, i % 2 == 1);
      gate_leave (gate, thread_context ());
      g_assert_cmpint (sleeper.status, ==, CELL_ERROR_CANCELLED);
      g_assert_nonnull (strstr (sleeper.message, "was not executed"));
      g_assert_cmpuint (echo->n_waiting, ==, 0);
    }
  client_free (client);
  town_free (town);
}

static void
on_cancelled (const EchoLater *reply, void *data)
{
  (void) reply;
  ++*(unsigned *) data;
}

static gpointer
cancel_on_thread (gpointer data)
{
  cell_cancel (*(CellPending *) data);
  return NULL;
}

/* A completion does not run for what another thread has cancelled. */
static void
test_cancel_async_elsewhere (void)
{
  Town *town = town_new ();
  Echo *echo = echo_new (town, "echo");
  CellClient *client = town_client (town, CLIENT_OF_PROGRAM);
  unsigned ran = 0;
  CellPending pending = client->api->start (client, 2, &(EchoLaterArgs) { .value = 1 }, (CellDone) on_cancelled, &ran);

  echo_later_async (client, on_cancelled, &ran, .value = 2);
  g_thread_join (g_thread_new ("other", cancel_on_thread, &pending));
  echo_answer (echo);
  echo_answer (echo);
  while (ran == 0)
    client_dispatch_thread (town, thread_context (), true);
  client_dispatch_thread (town, thread_context (), true);
  g_assert_cmpuint (ran, ==, 1);
  client_free (client);
  town_free (town);
}

static void
test_timeout (void)
{
  Town *town = town_new ();
  Echo *echo = echo_new (town, "echo");
  CellClient *client = town_client (town, CLIENT_OF_SERIAL);

  cell_set_timeout (client, 30);
  {
    cell_auto EchoLater later = echo_later (client, .value = 1);

    g_assert_cmpint (later.result.status, ==, CELL_ERROR_DEADLINE);
  }
  cell_set_timeout (client, 60000);
  {
    EchoLaterCall call = echo_later_start (client, .value = 8);

    echo_answer (echo);
    cell_auto EchoLater later = echo_later_finish (call);
    g_assert_cmpuint (later.value, ==, 16);
  }
  client_free (client);
  town_free (town);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/client/calls", test_calls);
  g_test_add_func ("/client/errors", test_errors);
  g_test_add_func ("/client/unsound", test_unsound);
  g_test_add_func ("/client/large", test_large);
  g_test_add_func ("/client/large-pipelined", test_large_pipelined);
  g_test_add_func ("/client/async", test_async);
  g_test_add_func ("/client/async-ends", test_async_ends);
  g_test_add_func ("/client/async-fails", test_async_fails);
  g_test_add_func ("/client/close-from-done", test_close_from_done);
  g_test_add_func ("/client/gone", test_gone);
  g_test_add_func ("/client/renamed", test_renamed);
  g_test_add_func ("/client/signals", test_signals);
  g_test_add_func ("/client/signals-missed", test_signals_missed);
  g_test_add_func ("/client/threads", test_threads);
  g_test_add_func ("/client/concurrent-async", test_concurrent_async);
  g_test_add_func ("/client/finish-elsewhere", test_finish_elsewhere);
  g_test_add_func ("/client/closed-by-cell", test_closed_by_cell);
  g_test_add_func ("/client/cancel-elsewhere", test_cancel_elsewhere);
  g_test_add_func ("/client/cancel-async-elsewhere", test_cancel_async_elsewhere);
  g_test_add_func ("/client/timeout", test_timeout);
  return g_test_run ();
}

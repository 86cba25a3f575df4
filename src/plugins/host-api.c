/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define G_LOG_DOMAIN "cell"
#include "host-api.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "membrane/blob.h"

#include "instance-private.h"
#include "misuse.h"
#include "state.h"

/* ---- who calls -------------------------------------------------------------------------------------- */

/* A kept call is given to its cell as a number: what it names is looked up, and may be gone. */
static CellCall *
handle_of (uint64_t id)
{
  return (CellCall *) (uintptr_t) (id << 1 | 1);
}

static CellCall *
find_call (CellCall *call)
{
  const Frame *frame = thread_context ()->frame;
  uintptr_t handle = (uintptr_t) call;

  if ((handle & 1) != 0)
    return frame->service != NULL ? call_resume ((Service *) frame->service, handle >> 1) : NULL;
  while (frame != NULL && frame != (const Frame *) call)
    frame = frame->outer;
  return frame != NULL ? call : NULL;
}

static CellCall *
call_or_report (CellCall *call, const char *function, const void *from)
{
  CellCall *found = find_call (call);

  if (G_UNLIKELY (found == NULL))
    misuse_report (NULL, function, "[cell]", thread_context ()->frame->service != NULL ? MISUSE_TIME : MISUSE_THREAD, from);
  return found;
}

static CellInstance *
instance_or_report (void *self, const char *function, const void *from)
{
  CellInstance *instance = instance_here (self);

  if (G_LIKELY (instance != NULL))
    return instance;
  instance = self != NULL ? self_enter (self) : NULL;
  if (instance == NULL)
    {
      misuse_report (NULL, function, "[cell]", MISUSE_GONE, from);
      return NULL;
    }
  misuse_report (instance->name, function, "[cell]", MISUSE_THREAD, from);
  self_leave (self);
  return NULL;
}

/* The call, or the instance, if the calling thread may use it; else NULL, and that is reported. */
#define CALL(call, function) call_or_report ((call), (function), MISUSE_FROM)
#define INSTANCE(self, function) instance_or_report ((self), (function), MISUSE_FROM)

/* ---- text ------------------------------------------------------------------------------------------ */

/* A string in the call's memory, of at most `most` bytes; NULL when its bound is reached. */
static char *
G_GNUC_PRINTF (3, 0)
format_in_call (CellCall *call, size_t most, const char *format, va_list args)
{
  va_list again;
  char *text = NULL;
  size_t size;
  int n;

  va_copy (again, args);
  n = vsnprintf (NULL, 0, format, again);
  va_end (again);
  size = n >= 0 ? MIN ((size_t) n, most) : 0;
  if (n >= 0)
    text = call_alloc (call, size + 1);
  if (text == NULL)
    return NULL;
  vsnprintf (text, size + 1, format, args);
  /* What was cut may have lost the end of a character. */
  while ((size_t) n > most && size > 0 && !codec_is_utf8 ((const uint8_t *) text, (uint32_t) size))
    text[--size] = '\0';
  return text;
}

static const char *
G_GNUC_PRINTF (2, 3)
host_print (CellCall *call, const char *format, ...)
{
  const char *text;
  va_list args;

  if ((call = CALL (call, "print")) == NULL)
    return "";
  va_start (args, format);
  text = format_in_call (call, RECORD_MAX_PAYLOAD, format, args);
  va_end (args);
  return text != NULL ? text : "";
}

/* One line, and nothing that a terminal would obey. */
static char *
log_line (const char *format, va_list args)
{
  char line[LOG_LINE_MAX];

  if (vsnprintf (line, sizeof line, format, args) < 0)
    line[0] = '\0';
  for (char *c = line; *c != '\0'; c++)
    if (g_ascii_iscntrl (*c))
      *c = ' ';
  return g_utf8_make_valid (line, -1);
}

static void
log_text (CellInstance *instance, int32_t level, const char *text)
{
  static const GLogLevelFlags levels[] = { G_LOG_LEVEL_DEBUG, G_LOG_LEVEL_INFO, G_LOG_LEVEL_WARNING, G_LOG_LEVEL_WARNING };

  level = CLAMP (level, CELL_LOG_DEBUG, CELL_LOG_ERROR);
  if (level >= CELL_LOG_WARNING)
    instance_hear (instance, text);
  if (instance->env.log != NULL)
    instance->env.log (instance->env.data, level, text);
  else
    g_log (G_LOG_DOMAIN, levels[level], "%s: %s", instance->name, text);
}

static void
G_GNUC_PRINTF (3, 4)
host_log (void *self, int32_t level, const char *format, ...)
{
  CellInstance *instance = self_enter (self);
  g_autofree char *text = NULL;
  va_list args;

  if (instance == NULL && !self_tell_once (self))
    return;
  va_start (args, format);
  text = log_line (format, args);
  va_end (args);
  if (instance == NULL)
    {
      g_warning ("a thread that a cell has left behind logs '%s'; what else it says is dropped", text);
      return;
    }
  log_text (instance, level, text);
  self_leave (self);
}

/* ---- calls ------------------------------------------------------------------------------------------- */

static void *
host_alloc (CellCall *call, size_t size)
{
  call = CALL (call, "alloc");
  return call != NULL ? call_alloc (call, size) : NULL;
}

/* The name comes before its message in memory: see error_payload (). */
static CellStatus
G_GNUC_PRINTF (3, 4)
host_fail (CellCall *call, const CellItem *error, const char *format, ...)
{
  const char *interface;
  size_t length, size;
  char *name, *message;
  va_list args;

  if ((call = CALL (call, "fail")) == NULL)
    return CELL_ERROR_GONE;
  interface = call->service->interface;
  length = strlen (interface);
  size = length + 1 + strlen (error->name) + 1;
  name = call_alloc (call, size);
  if (name != NULL)
    {
      memcpy (name, interface, length);
      name[length] = '.';
      memcpy (name + length + 1, error->name, size - length - 1);
    }
  va_start (args, format);
  message = format_in_call (call, ERROR_MESSAGE_MAX, format, args);
  va_end (args);
  call_set_error (call, name, message != NULL ? message : error->doc);
  return CELL_ERROR_FAILED;
}

static CellStatus
G_GNUC_PRINTF (3, 4)
host_fail_status (CellCall *call, CellStatus status, const char *format, ...)
{
  char *message;
  va_list args;

  if ((call = CALL (call, "fail_status")) == NULL)
    return CELL_ERROR_GONE;
  va_start (args, format);
  message = format_in_call (call, ERROR_MESSAGE_MAX, format, args);
  va_end (args);
  call_set_error (call, NULL, message);
  return status;
}

/* Once: its author has to know, and it may be emitted all the time. */
static void
log_unsent (CellInstance *instance, InstanceSignal *signal, const CodecFault *fault)
{
  g_autofree char *text = NULL;

  if (atomic_exchange (&signal->unsent, TRUE))
    return;
  text = g_strdup_printf ("the signal %s cannot be sent, and its subscribers miss it: %s%s%s; that is said once",
                          signal->item->name, fault->field, fault->field[0] != 0 ? ": " : "", fault->rule);
  log_text (instance, CELL_LOG_ERROR, text);
}

static void
host_emit (void *self, const CellItem *item, const void *args)
{
  CellInstance *instance = INSTANCE (self, "emit");

  if (instance == NULL || !instance->attached)
    return;                             /* nobody can have subscribed to one that does not serve */
  for (guint i = 0; i < instance->n_signals; i++)
    if (instance->signals[i].item == item)
      {
        InstanceSignal *signal = &instance->signals[i];
        CodecFault fault;

        if (!endpoint_emit (instance->env.endpoint, thread_context (), signal->number, signal->plan, args, &fault))
          log_unsent (instance, signal, &fault);
        return;
      }
  log_text (instance, CELL_LOG_ERROR, "a signal was emitted that is none of the cell's");
}

/* ---- extensions ----------------------------------------------------------------------------------------- */

static uint64_t
defer (CellCall *call)
{
  uint64_t id;

  if ((call = CALL (call, "defer")) == NULL)
    return 0;
  id = call_defer (call);
  if (id == 0)
    call_set_error (call, NULL, "there is no memory to keep the call");
  return id;
}

static CellCall *
resume (void *self, uint64_t id)
{
  CellInstance *instance = INSTANCE (self, "resume");

  return instance != NULL && call_resume (&instance->service, id) != NULL ? handle_of (id) : NULL;
}

static const void *
request (CellCall *call)
{
  call = CALL (call, "request");
  return call != NULL ? call_request (call) : NULL;
}

static void
answer (CellCall *call, CellStatus status, const void *out)
{
  if ((call = CALL (call, "answer")) != NULL)
    call_answer (call, status, out);
}

static const CellHostDefer defer_api = {
  .size = sizeof (CellHostDefer), .defer = defer, .resume = resume, .request = request, .answer = answer,
};

/* A client for a thread that may not have one: what remains of one that was closed, which says so to each call.  One for each table
 * of a remote: a thread that goes on asking gets no more. */
static CellClient *
use_nothing (const char *name, const CellRemote *remote)
{
  static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  static GHashTable *clients;           /* CellRemote → CellClient */
  static const ClientProvider nobody;
  static const Service nobodys;
  CellClient *client;

  pthread_mutex_lock (&lock);
  if (clients == NULL)
    clients = g_hash_table_new (NULL, NULL);
  client = g_hash_table_lookup (clients, remote);
  if (client == NULL)
    {
      client = client_new (&nobody, NULL, name, remote, CLIENT_OF_SERIAL);
      if (client == NULL || !client_belong_to (client, &nobodys, name))
        g_error ("no memory for a client of %s", name);
      g_hash_table_insert (clients, (gpointer) remote, client);
      client_free (client);
    }
  pthread_mutex_unlock (&lock);
  return client;
}

static CellClient *
use (void *self, const char *name, const CellRemote *remote)
{
  CellInstance *instance = INSTANCE (self, "use");

  return instance != NULL ? instance_use (instance, name, remote) : use_nothing (name, remote);
}

static const CellHostClient client_api = { .size = sizeof (CellHostClient), .use = use };

static const char *
config_get (void *self, const char *key)
{
  CellInstance *instance = INSTANCE (self, "config");

  return instance != NULL && instance->config != NULL ? g_hash_table_lookup (instance->config, key) : NULL;
}

static const CellHostConfig config_api = { .size = sizeof (CellHostConfig), .get = config_get };

static CellBlob *
blob_create (void *self, CellCall *call, size_t size)
{
  CellInstance *instance = INSTANCE (self, "blob.create");
  Fault fault = { 0 };
  CellBlob *blob;

  if (instance == NULL || (call != NULL && (call = CALL (call, "blob.create")) == NULL))
    return NULL;
  blob = instance->env.blob_new != NULL ? instance->env.blob_new (instance->env.data, size, &fault) : blob_new (size, &fault);
  if (blob == NULL)
    log_text (instance, CELL_LOG_WARNING, fault.message);
  else if (call != NULL)
    call_keep_blob (call, blob);
  return blob;
}

static const void *
get_extension (const char *id)
{
  static const struct
  {
    const char *id;
    const void *table;
  } extensions[] = {
    { CELL_EXTENSION_DEFER, &defer_api },   { CELL_EXTENSION_CLIENT, &client_api }, { CELL_EXTENSION_CONFIG, &config_api },
    { CELL_EXTENSION_BLOB, &blob_api },     { CELL_EXTENSION_STATE, &state_api },
  };

  for (size_t i = 0; i < G_N_ELEMENTS (extensions); i++)
    if (g_str_equal (id, extensions[i].id))
      return extensions[i].table;
  return NULL;
}

const CellHost host_api = {
  .size = sizeof (CellHost), .abi_major = CELL_ABI_MAJOR, .abi_minor = CELL_ABI_MINOR,
  .get_extension = get_extension, .alloc = host_alloc, .fail = host_fail, .fail_status = host_fail_status, .print = host_print,
  .emit = host_emit, .log = host_log,
};

void
host_api_init (void)
{
  static gsize once;

  if (g_once_init_enter (&once))
    {
      blob_api.create = blob_create;
      misuse_init ();
      g_once_init_leave (&once, 1);
    }
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define G_LOG_DOMAIN "cell"
#include "host-api.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "membrane/blob.h"

#include "instance-private.h"
#include "state.h"

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

  va_start (args, format);
  text = format_in_call (call, RECORD_MAX_PAYLOAD, format, args);
  va_end (args);
  return text != NULL ? text : "";
}

static void
G_GNUC_PRINTF (3, 4)
host_log (void *self, int32_t level, const char *format, ...)
{
  static const GLogLevelFlags levels[] = { G_LOG_LEVEL_DEBUG, G_LOG_LEVEL_INFO, G_LOG_LEVEL_WARNING, G_LOG_LEVEL_WARNING };
  CellInstance *instance = instance_of (self);
  char line[LOG_LINE_MAX];
  g_autofree char *text = NULL;
  va_list args;

  va_start (args, format);
  if (vsnprintf (line, sizeof line, format, args) < 0)
    line[0] = '\0';
  va_end (args);
  for (char *c = line; *c != '\0'; c++)
    if (g_ascii_iscntrl (*c))
      *c = ' ';                         /* one line, and nothing that a terminal would obey */
  text = g_utf8_make_valid (line, -1);
  level = CLAMP (level, CELL_LOG_DEBUG, CELL_LOG_ERROR);
  if (instance->env.log != NULL)
    instance->env.log (instance->env.data, level, text);
  else
    g_log (G_LOG_DOMAIN, levels[level], "%s: %s", instance->name, text);
}

/* ---- calls ------------------------------------------------------------------------------------------- */

static void *
host_alloc (CellCall *call, size_t size)
{
  return call_alloc (call, size);
}

/* The name comes before its message in memory: see error_payload (). */
static CellStatus
G_GNUC_PRINTF (3, 4)
host_fail (CellCall *call, const CellItem *error, const char *format, ...)
{
  const char *interface = call->service->interface;
  size_t length = strlen (interface), size = length + 1 + strlen (error->name) + 1;
  char *name = call_alloc (call, size), *message;
  va_list args;

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

  va_start (args, format);
  message = format_in_call (call, ERROR_MESSAGE_MAX, format, args);
  va_end (args);
  call_set_error (call, NULL, message);
  return status;
}

static void
host_emit (void *self, const CellItem *item, const void *args)
{
  CellInstance *instance = instance_of (self);

  if (!instance->attached)
    return;                             /* nobody can have subscribed to one that does not serve */
  for (guint i = 0; i < instance->n_signals; i++)
    if (instance->signals[i].item == item)
      {
        endpoint_emit (instance->env.endpoint, thread_context (), instance->signals[i].number, instance->signals[i].plan, args);
        return;
      }
  host_log (self, CELL_LOG_ERROR, "a signal was emitted that is none of the cell's");
}

/* ---- extensions ----------------------------------------------------------------------------------------- */

static uint64_t
defer (CellCall *call)
{
  uint64_t id = call_defer (call);

  if (id == 0)
    call_set_error (call, NULL, "there is no memory to keep the call");
  return id;
}

static CellCall *
resume (void *self, uint64_t id)
{
  return call_resume (&instance_of (self)->service, id);
}

static const CellHostDefer defer_api = {
  .size = sizeof (CellHostDefer), .defer = defer, .resume = resume, .request = call_request, .answer = call_answer,
};

static CellClient *
use (void *self, const char *name, const CellRemote *remote)
{
  return instance_use (instance_of (self), name, remote);
}

static const CellHostClient client_api = { .size = sizeof (CellHostClient), .use = use };

static const char *
config_get (void *self, const char *key)
{
  CellInstance *instance = instance_of (self);

  return instance->config != NULL ? g_hash_table_lookup (instance->config, key) : NULL;
}

static const CellHostConfig config_api = { .size = sizeof (CellHostConfig), .get = config_get };

static CellBlob *
blob_create (void *self, CellCall *call, size_t size)
{
  CellInstance *instance = instance_of (self);
  Fault fault = { 0 };
  CellBlob *blob =
    instance->env.blob_new != NULL ? instance->env.blob_new (instance->env.data, size, &fault) : blob_new (size, &fault);

  if (blob == NULL)
    host_log (self, CELL_LOG_WARNING, "%s", fault.message);
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
      g_once_init_leave (&once, 1);
    }
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Results: what a caller gets to see of a reply or of an error.
 */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "caller.h"

const char *
status_name (CellStatus status)
{
  switch (status)
    {
#define NAME(NAME_, code, Name, exit, text) case code: return "org.cellhost.Error." #Name;
      CELL_ERROR_TABLE (NAME)
#undef NAME
    default:
      return "org.cellhost.Error.Failed";
    }
}

const char *
status_text (CellStatus status)
{
  switch (status)
    {
#define TEXT(NAME_, code, Name, exit, text) case code: return text;
      CELL_ERROR_TABLE (TEXT)
#undef TEXT
    default:
      return "unknown error";
    }
}

void
result_set_error (CellResult *result, CellStatus status, const char *format, ...)
{
  char *message = NULL;
  va_list args;

  if (result == NULL)
    return;
  va_start (args, format);
  if (vasprintf (&message, format, args) < 0)
    message = NULL;
  va_end (args);
  *result = (CellResult) {
    .status = status, .error = status_name (status), .message = message != NULL ? message : status_text (status),
    .memory = message, .release = free,
  };
}

bool
status_is_known (int32_t status)
{
  switch (status)
    {
#define KNOWN(NAME_, code, Name, exit, text) case code:
      CELL_ERROR_TABLE (KNOWN)
#undef KNOWN
      return true;
    default:
      return false;
    }
}

/* An error's payload, which is private memory here, is two strings, one after the other, each with its NUL: name and message. */
static void
fill_error (CellResult *result, int32_t status, const uint8_t *payload, uint32_t length)
{
  const uint8_t *name_end = memchr (payload, 0, length), *message, *message_end;
  char *copy;

  if (!status_is_known (status))
    status = CELL_ERROR_CORRUPT;
  message = name_end != NULL ? name_end + 1 : NULL;
  message_end = message != NULL ? memchr (message, 0, (size_t) (payload + length - message)) : NULL;
  if (message_end == NULL || !codec_is_utf8 (payload, (uint32_t) (name_end - payload))
      || !codec_is_utf8 (message, (uint32_t) (message_end - message)))
    {
      result_set_error (result, CELL_ERROR_CORRUPT, "the reply is an error that makes no sense");
      return;
    }
  copy = malloc ((size_t) (message_end + 1 - payload));
  if (copy == NULL)
    {
      *result = (CellResult) { .status = status, .error = status_name (status), .message = status_text (status) };
      return;
    }
  memcpy (copy, payload, (size_t) (message_end + 1 - payload));
  *result = (CellResult) {
    .status = status, .error = copy[0] != 0 ? copy : status_name (status), .message = copy + (message - payload),
    .memory = copy, .release = free,
  };
}

/* Either may have been made in this very payload; when both were, the name before the message. */
uint32_t
error_payload (uint8_t *payload, uint32_t capacity, const char *name, const char *message)
{
  uint32_t n = (uint32_t) strnlen (name, 255), m;
  bool name_first = (const uint8_t *) name >= payload && (const uint8_t *) name < payload + capacity;

  if (capacity < n + 2)
    n = 0;
  m = (uint32_t) strnlen (message, capacity - n - 2);
  if (name_first)
    memmove (payload, name, n);
  memmove (payload + n + 1, message, m);
  if (!name_first)
    memcpy (payload, name, n);
  payload[n++] = 0;
  /* A message that had to be cut may have lost the end of a character. */
  while (m > 0 && !(payload[n + m] = 0, codec_is_utf8 (payload + n, m)))
    m--;
  payload[n + m] = 0;
  return n + m + 1;
}

/* ---- from a reply ------------------------------------------------------------------------------ */

typedef struct
{
  Arena arena;
  uint32_t n_blobs;
  CellBlob *blobs[];
} ReplyMemory;

static void
reply_memory_free (void *data)
{
  ReplyMemory *memory = data;

  for (uint32_t i = 0; i < memory->n_blobs; i++)
    blob_unref (memory->blobs[i]);
  arena_clear (&memory->arena);
  free (memory);
}

typedef struct
{
  BlobPort *port;
  ReplyMemory *memory;
} ReplyImport;

static CellBlob *
reply_import (void *data, uint64_t id)
{
  ReplyImport *import = data;
  CellBlob *blob;

  if (import->port == NULL || import->memory->n_blobs >= CALL_BLOBS_MAX)
    return NULL;
  blob = import->port->import_blob (import->port, id);
  if (blob != NULL)
    import->memory->blobs[import->memory->n_blobs++] = blob;
  return blob;
}

/* Whoever made it is another build, or does not keep to the rules: then its rule is returned. */
static const char *
fill_unreadable (CellResult *result, const CodecPlan *reply, const CodecFault *fault)
{
  memset (result_outputs (result), 0, reply->size);
  if (fault->status == CELL_ERROR_GONE)
    result_set_error (result, CELL_ERROR_GONE, "%s", BLOB_GONE);
  else
    result_set_error (result, CELL_ERROR_CORRUPT, "the reply breaks the rule '%s'", fault->rule);
  return fault->status == CELL_ERROR_CORRUPT ? fault->rule : NULL;
}

/* Outputs that refer to nothing. */
static const char *
fill_flat (CellResult *result, const CodecPlan *reply, const uint8_t *payload, uint32_t length, uint32_t root, bool untrusted)
{
  uint8_t *outputs = result_outputs (result);
  uint32_t n = root < reply->size ? root : reply->size;
  Arena none = { 0 };
  CodecFault fault;

  if (!reply->trivial)
    return codec_decode (reply, payload, length, root, untrusted ? 0 : CODEC_TRUSTED, &none, NULL, outputs, &fault)
             ? NULL : fill_unreadable (result, reply, &fault);
  copy_bytes (outputs, payload, n);
  zero_bytes (outputs + n, reply->size - n);
  return NULL;
}

/* A copy of what the outputs refer to, in memory that goes with the result.  NULL: there is none. */
static ReplyMemory *
memory_for (const uint8_t *payload, uint32_t length, uint8_t **ret_copy)
{
  ReplyMemory *memory = calloc (1, sizeof *memory + CALL_BLOBS_MAX * sizeof (CellBlob *));

  if (memory == NULL)
    return NULL;
  arena_init (&memory->arena, 8u << 20);
  *ret_copy = arena_get (&memory->arena, length);
  if (*ret_copy == NULL)
    {
      free (memory);
      return NULL;
    }
  memcpy (*ret_copy, payload, length);
  return memory;
}

/* Fills a result from a reply's payload, which is private or written by this process; it is copied. */
const char *
result_fill (CellResult *result, const CallPlan *plan, int32_t status, const uint8_t *payload, uint32_t length, uint32_t root,
             bool untrusted, BlobPort *port)
{
  const CodecPlan *reply = plan->reply;
  uint8_t *outputs = result_outputs (result), *copy;
  ReplyImport import = { port, NULL };
  CodecFault fault;

  if (status != CELL_OK)
    {
      fill_error (result, status, payload, length);
      if (reply != NULL)
        memset (outputs, 0, reply->size);
      return NULL;
    }
  *result = (CellResult) { .status = CELL_OK };
  if (reply == NULL)
    return NULL;
  if (reply->flat)
    return fill_flat (result, reply, payload, length, root, untrusted);
  import.memory = memory_for (payload, length, &copy);
  if (import.memory == NULL)
    {
      memset (outputs, 0, reply->size);
      *result = (CellResult) { .status = CELL_ERROR_NO_RESOURCES, .error = status_name (CELL_ERROR_NO_RESOURCES),
                               .message = status_text (CELL_ERROR_NO_RESOURCES) };
      return NULL;
    }
  if (!codec_decode (reply, copy, length, root, CODEC_PRIVATE | (untrusted ? 0 : CODEC_TRUSTED), &import.memory->arena,
                     &(CodecBlobs) { NULL, reply_import, &import }, outputs, &fault))
    {
      reply_memory_free (import.memory);
      return fill_unreadable (result, reply, &fault);
    }
  result->memory = import.memory;
  result->release = reply_memory_free;
  return NULL;
}

void
result_error_for (CellResult *result, const CallPlan *plan, CellStatus status, const char *message)
{
  result_set_error (result, status, "%s: %s", plan->name, message);
  if (plan->reply != NULL)
    memset (result_outputs (result), 0, plan->reply->size);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "state.h"

#include <string.h>

#include "misuse.h"

#define STRUCT_MAGIC 0x54435453u        /* "STCT" */
#define FIRST_TRY 4096u

/* Before each struct. */
typedef struct
{
  uint32_t magic;
  uint32_t length;              /* of the payload */
  uint32_t root;                /* of the struct, as the writer knew it */
  uint32_t reserved;
} StructHeader;

static size_t
align_up (size_t at)
{
  return (at + 7) & ~(size_t) 7;
}

void
state_init_writer (CellState *state, CellModule *module)
{
  *state = (CellState) { .module = module, .out = g_byte_array_new () };
  arena_init (&state->arena, 0);
}

void
state_init_reader (CellState *state, CellModule *module, GBytes *bytes)
{
  *state = (CellState) { .module = module };
  state->data = g_bytes_get_data (bytes, &state->size);
  if (((uintptr_t) state->data & 7) == 0)
    state->in = g_bytes_ref (bytes);
  else
    {
      state->in = g_bytes_new (state->data, state->size);
      state->data = g_bytes_get_data (state->in, NULL);
    }
  /* Structs that have grown take more than they did; what has not is used where it lies. */
  arena_init (&state->arena, (16u << 20) + 4 * state->size);
}

GBytes *
state_take_bytes (CellState *state)
{
  return g_byte_array_free_to_bytes (g_steal_pointer (&state->out));
}

void
state_clear (CellState *state)
{
  g_clear_pointer (&state->out, g_byte_array_unref);
  g_clear_pointer (&state->in, g_bytes_unref);
  g_clear_pointer (&state->why, g_free);
  arena_clear (&state->arena);
}

/* The one that this thread saves or restores: any other may be gone. */
static __thread CellState *current;

CellState *
state_enter (CellState *state)
{
  CellState *outer = current;

  current = state;
  return outer;
}

static gboolean
is_current (const CellState *state, const char *function, const char *tag, const void *from)
{
  if (G_LIKELY (state != NULL && state == current))
    return TRUE;
  if (state != NULL)
    misuse_report (NULL, function, tag, MISUSE_TIME, from);
  return FALSE;
}

#define TO_WRITE(state, function) (is_current ((state), (function), "[cell, save]", MISUSE_FROM) && (state)->out != NULL)
#define TO_READ(state, function) (is_current ((state), (function), "[cell, restore]", MISUSE_FROM) && (state)->in != NULL)

static CellStatus
fail (CellState *state, CellStatus status, const char *why, const char *field)
{
  if (state->why == NULL)
    state->why = *field != '\0' ? g_strdup_printf ("%s: %s", field, why) : g_strdup (why);
  return status;
}

/* ---- writing ------------------------------------------------------------------------------------- */

static CellStatus
state_write (CellState *to, const void *data, size_t size)
{
  if (!TO_WRITE (to, "state.write"))
    return CELL_ERROR_INVALID;
  if (size > STATE_MAX_SIZE - to->out->len)
    return fail (to, CELL_ERROR_NO_RESOURCES, "the state is larger than the limit", "");
  if (size > 0)
    g_byte_array_append (to->out, data, (guint) size);
  return CELL_OK;
}

/* Encodes where it will lie, with more room each time until it fits. */
static gboolean
encode_at (GByteArray *out, guint at, const CodecPlan *plan, const void *value, uint32_t *ret_length, CodecFault *fault)
{
  const CodecBlobs none = { 0 };

  for (uint64_t room = FIRST_TRY + (uint64_t) plan->size; room <= STATE_MAX_SIZE - at; room *= 4)
    {
      *ret_length = plan->size;
      g_byte_array_set_size (out, at + (guint) room);
      if (codec_encode (plan, value, out->data + at, (uint32_t) room, ret_length, &none, fault))
        return TRUE;
      if (fault->status != CELL_ERROR_TOO_LARGE)
        return FALSE;
    }
  *fault = (CodecFault) { CELL_ERROR_NO_RESOURCES, "the state is larger than the limit", "", 0 };
  return FALSE;
}

static CellStatus
state_put (CellState *to, const CellType *type, const void *value)
{
  g_autoptr (GError) error = NULL;
  StructHeader header = { .magic = STRUCT_MAGIC };
  const CodecPlan *plan;
  CodecFault fault = { 0 };
  guint start, before;

  if (!TO_WRITE (to, "state.put") || type == NULL || value == NULL)
    return CELL_ERROR_INVALID;
  plan = cell_module_plan_of (to->module, type, &error);
  if (plan == NULL)
    return fail (to, CELL_ERROR_INVALID, error->message, "");
  before = to->out->len;
  start = (guint) align_up (before);
  if (start > STATE_MAX_SIZE - sizeof header)
    return fail (to, CELL_ERROR_NO_RESOURCES, "the state is larger than the limit", "");
  g_byte_array_set_size (to->out, start);
  if (start > before)
    memset (to->out->data + before, 0, start - before);
  if (!encode_at (to->out, start + (guint) sizeof header, plan, value, &header.length, &fault))
    {
      g_byte_array_set_size (to->out, before);
      return fail (to, fault.status == CELL_ERROR_TOO_LARGE ? CELL_ERROR_NO_RESOURCES : fault.status, fault.rule, fault.field);
    }
  header.root = plan->size;
  memcpy (to->out->data + start, &header, sizeof header);
  g_byte_array_set_size (to->out, start + (guint) sizeof header + header.length);
  return CELL_OK;
}

/* ---- reading ------------------------------------------------------------------------------------- */

static size_t
state_left (CellState *from)
{
  return TO_READ (from, "state.left") ? from->size - from->at : 0;
}

static const void *
state_read (CellState *from, size_t size)
{
  const void *data;

  if (!TO_READ (from, "state.read") || size > from->size - from->at)
    return NULL;
  data = size > 0 ? from->data + from->at : (const uint8_t *) "";
  from->at += size;
  return data;
}

/* The next struct's header and payload; NULL: there is none. */
static const uint8_t *
next_struct (CellState *from, StructHeader *ret_header)
{
  size_t at = align_up (from->at);

  if (at > from->size || sizeof *ret_header > from->size - at)
    return NULL;
  memcpy (ret_header, from->data + at, sizeof *ret_header);
  at += sizeof *ret_header;
  if (ret_header->magic != STRUCT_MAGIC || ret_header->reserved != 0 || ret_header->length > from->size - at
      || ret_header->root > ret_header->length)
    return NULL;
  from->at = at + ret_header->length;
  return from->data + at;
}

static const void *
state_get (CellState *from, const CellType *type)
{
  g_autoptr (GError) error = NULL;
  const CodecBlobs none = { 0 };
  const CodecPlan *plan;
  const uint8_t *payload;
  StructHeader header;
  CodecFault fault = { 0 };
  size_t at;
  void *local;

  if (!TO_READ (from, "state.get") || type == NULL)
    return NULL;
  plan = cell_module_plan_of (from->module, type, &error);
  at = from->at;
  payload = plan != NULL ? next_struct (from, &header) : NULL;
  local = payload != NULL ? arena_get (&from->arena, plan->size) : NULL;
  if (local != NULL && codec_decode (plan, payload, header.length, header.root, CODEC_PRIVATE, &from->arena, &none, local, &fault))
    return local;
  from->at = at;
  fail (from, CELL_ERROR_STATE,
        error != NULL ? error->message : payload == NULL ? "there is no struct where one is expected"
        : fault.rule != NULL ? fault.rule : "there is no memory for a struct",
        fault.field != NULL ? fault.field : type->name);
  return NULL;
}

const CellHostState state_api = {
  .size = sizeof (CellHostState), .write = state_write, .put = state_put, .read = state_read, .get = state_get, .left = state_left,
};

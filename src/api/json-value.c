/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "api/json-value.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "plugins/cell-error.h"

#define EXACT_IN_A_DOUBLE (G_GUINT64_CONSTANT (1) << 53)
#define MAX_DEPTH 32            /* of structs in structs; what cells may declare is less */

#define invalid(error, ...) cell_set_error ((error), CELL_ERROR_INVALID, __VA_ARGS__)

/* Where a value stands in the whole; written out only when something is wrong with it. */
typedef struct Path Path;
struct Path
{
  const Path *up;
  const char *name;             /* NULL: an element */
  guint index;
  guint depth;
};

static void
path_append (GString *to, const Path *path)
{
  if (path->up != NULL)
    path_append (to, path->up);
  if (path->name == NULL)
    g_string_append_printf (to, "[%u]", path->index);
  else
    g_string_append_printf (to, "%s%s", to->len == 0 ? "" : ".", path->name);
}

/* Puts the path before the error; returns FALSE. */
static gboolean
at_path (const Path *path, GError **error)
{
  g_autoptr (GString) text = NULL;

  if (path == NULL || error == NULL)
    return FALSE;
  text = g_string_new (NULL);
  path_append (text, path);
  g_prefix_error (error, "%s: ", text->str);
  return FALSE;
}

static Path
path_member (const Path *up, const char *name)
{
  return (Path) { up, name, 0, up == NULL ? 0 : up->depth + 1 };
}

static Path
path_element (const Path *up, guint index)
{
  return (Path) { up, NULL, index, up->depth };
}

/* ---- memory --------------------------------------------------------------------------------- */

typedef struct
{
  gpointer owned;
  GDestroyNotify release;
} Piece;

void
value_arena_clear (ValueArena *arena)
{
  for (guint i = 0; arena->pieces != NULL && i < arena->pieces->len; i++)
    {
      Piece *piece = &g_array_index (arena->pieces, Piece, i);
      piece->release (piece->owned);
    }
  g_clear_pointer (&arena->pieces, g_array_unref);
  arena->taken = 0;
}

/* Calls release with what is the arena's from now on, when it is cleared. */
static void
arena_own (ValueArena *arena, gpointer owned, GDestroyNotify release)
{
  Piece piece = { owned, release };

  if (arena->pieces == NULL)
    arena->pieces = g_array_new (FALSE, FALSE, sizeof (Piece));
  g_array_append_val (arena->pieces, piece);
}

gpointer
value_arena_alloc (ValueArena *arena, gsize size, GError **error)
{
  gsize limit = arena->limit == 0 ? VALUE_ARENA_LIMIT : arena->limit;
  gsize cost = size + sizeof (Piece);           /* so that a million empty strings count as well */
  gpointer memory;

  if (size > limit || cost > limit - arena->taken)
    {
      cell_set_error (error, CELL_ERROR_TOO_LARGE,
                      "the value takes more than %" G_GSIZE_FORMAT " bytes; larger data travels as a blob", limit);
      return NULL;
    }
  memory = g_try_malloc0 (MAX (size, 1));
  if (memory == NULL)
    {
      cell_set_error (error, CELL_ERROR_NO_RESOURCES, "there is no memory for %" G_GSIZE_FORMAT " bytes", size);
      return NULL;
    }
  arena->taken += cost;
  arena_own (arena, memory, g_free);
  return memory;
}

/* ---- words for sentences -------------------------------------------------------------------- */

char *
value_type_name (const CellField *row)
{
  if (row->shape == CELL_SHAPE_ARRAY)
    return g_strdup_printf ("array (%s)", row->type->name);
  if (row->shape == CELL_SHAPE_OPTIONAL)
    return g_strdup_printf ("optional (%s)", row->type->name);
  return g_strdup (row->type->name);
}

const CellField *
value_find_row (const CellField *rows, guint n_rows, int role, const char *name)
{
  for (guint i = 0; i < n_rows; i++)
    if (rows[i].role == role && strcmp (rows[i].name, name) == 0)
      return &rows[i];
  return NULL;
}

char *
value_list_rows (const CellField *rows, guint n_rows, int role)
{
  g_autoptr (GString) list = g_string_new (NULL);

  for (guint i = 0; i < n_rows; i++)
    if (rows[i].role == role)
      g_string_append_printf (list, "%s%s", list->len == 0 ? "" : ", ", rows[i].name);
  return g_string_free (g_steal_pointer (&list), FALSE);
}

static const char *
role_noun (int role)
{
  return role == CELL_ROLE_IN ? "argument" : role == CELL_ROLE_OUT ? "output" : "member";
}

/* ---- scalars -------------------------------------------------------------------------------- */

gint64
value_get_int (const CellType *type, gconstpointer at)
{
  switch (type->size)
    {
    case 1:
      return *(const gint8 *) at;
    case 2:
      return *(const gint16 *) at;
    case 4:
      return *(const gint32 *) at;
    default:
      return *(const gint64 *) at;
    }
}

guint64
value_get_uint (const CellType *type, gconstpointer at)
{
  switch (type->size)
    {
    case 1:
      return *(const guint8 *) at;
    case 2:
      return *(const guint16 *) at;
    case 4:
      return *(const guint32 *) at;
    default:
      return *(const guint64 *) at;
    }
}

/* The low bytes of a two's complement number are the number. */
static void
put_integer (const CellType *type, guint64 value, gpointer to)
{
  switch (type->size)
    {
    case 1:
      *(guint8 *) to = (guint8) value;
      break;
    case 2:
      *(guint16 *) to = (guint16) value;
      break;
    case 4:
      *(guint32 *) to = (guint32) value;
      break;
    default:
      *(guint64 *) to = value;
    }
}

gboolean
value_set_integer (const CellType *type, const char *digits, gpointer to, GError **error)
{
  guint bits = type->size * 8;
  guint64 value;

  errno = 0;
  if (type->kind == CELL_KIND_INT)
    {
      gint64 max = (gint64) (G_MAXUINT64 >> (65 - bits)), min = -max - 1;
      gint64 number = g_ascii_strtoll (digits, NULL, 10);
      if (errno != 0 || number < min || number > max)
        return invalid (error, "%.40s does not fit in %s (%" G_GINT64_FORMAT " to %" G_GINT64_FORMAT ")", digits, type->name,
                        min, max);
      value = (guint64) number;
    }
  else
    {
      guint64 max = G_MAXUINT64 >> (64 - bits);
      gboolean negative = *digits == '-' && digits[1] != '0';
      value = negative ? 0 : g_ascii_strtoull (digits, NULL, 10);
      if (errno != 0 || negative || value > max)
        return invalid (error, "%.40s does not fit in %s (0 to %" G_GUINT64_FORMAT ")", digits, type->name, max);
    }
  put_integer (type, value, to);
  return TRUE;
}

static gboolean
set_bytes (const char *text, gsize size, const ValueHooks *hooks, ValueArena *arena, CellBytes *to, GError **error)
{
  g_autofree char *again = NULL;
  guchar *data;
  gsize n;

  if (*text == '@' && hooks != NULL && hooks->bytes_from_text != NULL)
    {
      GBytes *bytes = hooks->bytes_from_text (text, hooks->data, error);
      if (bytes == NULL)
        return FALSE;
      arena_own (arena, bytes, (GDestroyNotify) g_bytes_unref);
      to->data = g_bytes_get_data (bytes, &n);
      to->size = (guint32) n;
      return n <= G_MAXUINT32 || cell_set_error (error, CELL_ERROR_TOO_LARGE, "bytes are at most 4 GiB long");
    }
  if (size == 0)
    return TRUE;
  data = value_arena_alloc (arena, size + 1, error);
  if (data == NULL)
    return FALSE;
  memcpy (data, text, size);
  if (size % 4 == 0)
    {
      /* GLib skips what is not base64; only what comes out as it went in was. */
      g_base64_decode_inplace ((char *) data, &n);
      again = g_base64_encode (data, n);
    }
  if (again == NULL || strcmp (again, text) != 0)
    {
      g_autofree char *shown = json_escape_text (text, 20, '\'');
      return invalid (error, "bytes are written as base64, with its padding; %s is not that", shown);
    }
  to->data = data;
  to->size = (guint32) n;
  return TRUE;
}

static gboolean
set_blob (const char *text, const ValueHooks *hooks, ValueArena *arena, CellBlob **to, GError **error)
{
  if (hooks == NULL || hooks->blob_from_text == NULL)
    return cell_set_error (error, CELL_ERROR_UNSUPPORTED, "a blob cannot be given here");
  *to = hooks->blob_from_text (text, hooks->data, error);
  if (*to == NULL)
    return FALSE;
  arena_own (arena, *to, (GDestroyNotify) hooks->blob_unref);
  return TRUE;
}

gboolean
value_set_text (const CellType *type, const char *text, gsize size, const ValueHooks *hooks, ValueArena *arena, gpointer to,
                GError **error)
{
  char *copy;

  if (type->kind == CELL_KIND_BYTES)
    return set_bytes (text, size, hooks, arena, to, error);
  if (type->kind == CELL_KIND_BLOB)
    return set_blob (text, hooks, arena, to, error);
  copy = value_arena_alloc (arena, size + 1, error);
  if (copy == NULL)
    return FALSE;
  memcpy (copy, text, size);
  *(const char **) to = copy;
  return TRUE;
}

/* ---- from JSON ------------------------------------------------------------------------------ */

typedef struct
{
  const ValueHooks *hooks;
  ValueArena *arena;
  GError **error;
} Reader;

static gboolean read_members (Reader *r, const Path *path, const char *owner, const CellField *rows, guint n_rows, int role,
                              const JsonScanNode *json, guint8 *local);

static gboolean
mismatch (GError **error, const char *expected, const CellType *type, const JsonScanNode *json)
{
  gboolean number = json->type == JSON_SCAN_INTEGER || json->type == JSON_SCAN_REAL;

  return invalid (error, "%s is expected for %s, not %.40s", expected, type->name,
               number ? json->text : json_scan_describe (json));
}

static gboolean
read_integer (Reader *r, const CellType *type, const JsonScanNode *json, gpointer to)
{
  if (json->type == JSON_SCAN_STRING && type->size == 8)
    {
      if (!json_scan_is_integer (json->text))
        {
          g_autofree char *shown = json_escape_text (json->text, 40, '\'');
          return invalid (r->error, "%s is not a whole number, which %s needs", shown, type->name);
        }
    }
  else if (json->type != JSON_SCAN_INTEGER)
    return mismatch (r->error, "a whole number", type, json);
  return value_set_integer (type, json->text, to, r->error);
}

static gboolean
read_scalar (Reader *r, const CellType *type, const JsonScanNode *json, gpointer to)
{
  switch (type->kind)
    {
    case CELL_KIND_BOOL:
      *(bool *) to = json->type == JSON_SCAN_TRUE;
      return json->type == JSON_SCAN_TRUE || json->type == JSON_SCAN_FALSE || mismatch (r->error, "true or false", type, json);

    case CELL_KIND_UINT:
    case CELL_KIND_INT:
      return read_integer (r, type, json, to);

    case CELL_KIND_FLOAT:
      if (json->type != JSON_SCAN_INTEGER && json->type != JSON_SCAN_REAL)
        return mismatch (r->error, "a number", type, json);
      *(double *) to = g_ascii_strtod (json->text, NULL);
      return TRUE;

    case CELL_KIND_BLOB:
      if (json->type == JSON_SCAN_NULL)
        return TRUE;
      G_GNUC_FALLTHROUGH;
    case CELL_KIND_STR:
    case CELL_KIND_BYTES:
      if (json->type != JSON_SCAN_STRING)
        return mismatch (r->error, "a string", type, json);
      return value_set_text (type, json->text, json->size, r->hooks, r->arena, to, r->error);

    default:
      return cell_set_error (r->error, CELL_ERROR_INTERNAL, "the kind %u of %s is unknown", type->kind, type->name);
    }
}

static gboolean
read_plain (Reader *r, const Path *path, const CellType *type, const JsonScanNode *json, guint8 *to)
{
  if (type->kind != CELL_KIND_STRUCT)
    return read_scalar (r, type, json, to) || at_path (path, r->error);
  if (json->type != JSON_SCAN_OBJECT)
    return mismatch (r->error, "an object", type, json) || at_path (path, r->error);
  return read_members (r, path, type->name, type->fields, type->n_fields, CELL_ROLE_FIELD, json, to);
}

static gboolean
read_array (Reader *r, const Path *path, const CellField *row, const JsonScanNode *json, guint8 *local)
{
  const JsonScanNode *child = json_scan_first (json);
  guint8 *data;

  if (json->type != JSON_SCAN_ARRAY)
    {
      invalid (r->error, "an array of %s is expected, not %s", row->type->name, json_scan_describe (json));
      return at_path (path, r->error);
    }
  if (json->n_children == 0)
    return TRUE;
  data = value_arena_alloc (r->arena, (gsize) json->n_children * row->type->size, r->error);
  if (data == NULL)
    return at_path (path, r->error);
  *(guint8 **) (local + row->offset) = data;
  ((guint32 *) (local + row->extra))[0] = json->n_children;
  ((guint32 *) (local + row->extra))[1] = row->type->size;
  for (guint i = 0; i < json->n_children; i++, child = json_scan_next (child))
    {
      Path element = path_element (path, i);
      if (!read_plain (r, &element, row->type, child, data + (gsize) i * row->type->size))
        return FALSE;
    }
  return TRUE;
}

static gboolean
read_field (Reader *r, const Path *path, const CellField *row, const JsonScanNode *json, guint8 *local)
{
  if (path->depth > MAX_DEPTH)
    {
      cell_set_error (r->error, CELL_ERROR_INTERNAL, "structs are nested more than %d deep", MAX_DEPTH);
      return at_path (path, r->error);
    }
  if (row->shape == CELL_SHAPE_ARRAY)
    return read_array (r, path, row, json, local);
  if (row->shape == CELL_SHAPE_OPTIONAL)
    {
      if (json->type == JSON_SCAN_NULL)
        return TRUE;
      *(bool *) (local + row->extra) = true;
    }
  return read_plain (r, path, row->type, json, local + row->offset);
}

static gboolean
unknown_member (Reader *r, const Path *path, const char *owner, const CellField *rows, guint n_rows, int role, const char *key)
{
  g_autofree char *known = value_list_rows (rows, n_rows, role);
  g_autofree char *shown = json_escape_text (key, 40, '\'');
  const char *noun = role_noun (role);

  if (owner != NULL)
    invalid (r->error, "%s has no member %s; it has %s", owner, shown, known);
  else if (*known == 0)
    invalid (r->error, "there is no %s %s; there are none at all", noun, shown);
  else
    invalid (r->error, "there is no %s %s; there are %s", noun, shown, known);
  return at_path (path, r->error);
}

/* All that is missing is named at once. */
static gboolean
check_missing (Reader *r, const Path *path, const CellField *rows, guint n_rows, int role, const guint8 *seen)
{
  g_autoptr (GString) list = g_string_new (NULL);
  guint n = 0;

  for (guint i = 0; i < n_rows; i++)
    if (rows[i].role == role && !seen[i] && rows[i].shape != CELL_SHAPE_OPTIONAL)
      {
        g_autofree char *type = value_type_name (&rows[i]);
        g_string_append_printf (list, "%s%s (%s)", n++ == 0 ? "" : ", ", rows[i].name, type);
      }
  if (n == 0)
    return TRUE;
  invalid (r->error, "the %s%s %s %s missing", role_noun (role), n == 1 ? "" : "s", list->str,
        n == 1 ? "is" : "are");
  return at_path (path, r->error);
}

static gboolean
read_members (Reader *r, const Path *path, const char *owner, const CellField *rows, guint n_rows, int role,
              const JsonScanNode *json, guint8 *local)
{
  const JsonScanNode *child = json_scan_first (json);
  g_autofree guint8 *seen = g_malloc0 (n_rows + 1);

  for (guint i = 0; i < json->n_children; i++, child = json_scan_next (child))
    {
      const CellField *row = value_find_row (rows, n_rows, role, child->key);
      Path member = path_member (path, child->key);
      if (row == NULL)
        return unknown_member (r, path, owner, rows, n_rows, role, child->key);
      seen[row - rows] = TRUE;
      if (!read_field (r, &member, row, child, local))
        return FALSE;
    }
  return check_missing (r, path, rows, n_rows, role, seen);
}

gboolean
json_to_value (const CellField *rows, guint n_rows, int role, const JsonScanNode *json, const ValueHooks *hooks, ValueArena *arena,
               gpointer local, GError **error)
{
  Reader r = { hooks, arena, error };

  if (json->type != JSON_SCAN_OBJECT)
    return invalid (error, "the %ss are given as one object, not %s", role_noun (role),
                 json_scan_describe (json));
  return read_members (&r, NULL, NULL, rows, n_rows, role, json, local);
}

gboolean
json_text_to_value (const CellField *rows, guint n_rows, int role, const char *text, gssize length, const ValueHooks *hooks,
                    ValueArena *arena, gpointer local, GError **error)
{
  g_autoptr (JsonScan) scan = json_scan_new (text, length, 0, error);

  return scan != NULL && json_to_value (rows, n_rows, role, json_scan_root (scan), hooks, arena, local, error);
}

gboolean
json_to_field (const CellField *row, const JsonScanNode *json, const ValueHooks *hooks, ValueArena *arena, gpointer local,
               GError **error)
{
  Reader r = { hooks, arena, error };
  Path path = path_member (NULL, row->name);

  return read_field (&r, &path, row, json, local);
}

/* ---- to JSON -------------------------------------------------------------------------------- */

typedef struct
{
  const ValueHooks *hooks;
  GError **error;
} Writer;

static JsonNode *write_members (Writer *w, const Path *path, const CellField *rows, guint n_rows, int role, const guint8 *local);

static JsonNode *
integer_node (gboolean negative, guint64 magnitude)
{
  JsonNode *node = json_node_new (JSON_NODE_VALUE);
  char digits[32];

  if (magnitude <= EXACT_IN_A_DOUBLE)
    json_node_set_int (node, negative ? -(gint64) magnitude : (gint64) magnitude);
  else
    {
      g_snprintf (digits, sizeof digits, "%s%" G_GUINT64_FORMAT, negative ? "-" : "", magnitude);
      json_node_set_string (node, digits);
    }
  return node;
}

JsonNode *
json_integer_node (const char *digits)
{
  gboolean negative = *digits == '-';
  JsonNode *node;

  errno = 0;
  node = integer_node (negative, g_ascii_strtoull (digits + negative, NULL, 10));
  if (errno != 0)
    json_node_set_string (node, digits);
  return node;
}

static JsonNode *
string_node (Writer *w, const char *text)
{
  JsonNode *node;

  text = text == NULL ? "" : text;
  if (!g_utf8_validate (text, -1, NULL))
    {
      invalid (w->error, "the string is not UTF-8");
      return NULL;
    }
  node = json_node_new (JSON_NODE_VALUE);
  json_node_set_string (node, text);
  return node;
}

static JsonNode *
float_node (Writer *w, double value)
{
  JsonNode *node;

  if (!isfinite (value))
    {
      invalid (w->error, "JSON has no way to write %s", isnan (value) ? "NaN" : "infinity");
      return NULL;
    }
  node = json_node_new (JSON_NODE_VALUE);
  json_node_set_double (node, value);
  return node;
}

static JsonNode *
bytes_node (const CellBytes *bytes)
{
  g_autofree char *text = bytes->size == 0 ? g_strdup ("") : g_base64_encode (bytes->data, bytes->size);
  JsonNode *node = json_node_new (JSON_NODE_VALUE);

  json_node_set_string (node, text);
  return node;
}

static JsonNode *
blob_node (Writer *w, CellBlob *blob)
{
  if (blob == NULL)
    return json_node_new (JSON_NODE_NULL);
  if (w->hooks != NULL && w->hooks->blob_to_json != NULL)
    return w->hooks->blob_to_json (blob, w->hooks->data, w->error);
  cell_set_error (w->error, CELL_ERROR_UNSUPPORTED, "a blob cannot be shown here");
  return NULL;
}

static JsonNode *
write_scalar (Writer *w, const CellType *type, gconstpointer at)
{
  JsonNode *node;
  gint64 number;

  switch (type->kind)
    {
    case CELL_KIND_BOOL:
      node = json_node_new (JSON_NODE_VALUE);
      json_node_set_boolean (node, *(const guint8 *) at != 0);
      return node;

    case CELL_KIND_UINT:
      return integer_node (FALSE, value_get_uint (type, at));

    case CELL_KIND_INT:
      number = value_get_int (type, at);
      return integer_node (number < 0, number < 0 ? -(guint64) number : (guint64) number);

    case CELL_KIND_FLOAT:
      return float_node (w, *(const double *) at);

    case CELL_KIND_STR:
      return string_node (w, *(const char *const *) at);

    case CELL_KIND_BYTES:
      return bytes_node (at);

    case CELL_KIND_BLOB:
      return blob_node (w, *(CellBlob *const *) at);

    default:
      cell_set_error (w->error, CELL_ERROR_INTERNAL, "the kind %u of %s is unknown", type->kind, type->name);
      return NULL;
    }
}

static JsonNode *
write_plain (Writer *w, const Path *path, const CellType *type, const guint8 *at)
{
  JsonNode *node;

  if (type->kind == CELL_KIND_STRUCT)
    return write_members (w, path, type->fields, type->n_fields, CELL_ROLE_FIELD, at);
  node = write_scalar (w, type, at);
  if (node == NULL)
    at_path (path, w->error);
  return node;
}

gboolean
value_get_array (const CellField *row, gconstpointer local, const guint8 **ret_data, guint32 *ret_n, guint32 *ret_stride,
                 GError **error)
{
  const guint8 *at = local;
  const guint8 *data = *(const guint8 *const *) (at + row->offset);
  const guint32 *counts = (const guint32 *) (at + row->extra);
  guint32 stride = counts[1] == 0 ? row->type->size : counts[1];

  if (counts[0] != 0 && (data == NULL || stride < row->type->size))
    return invalid (error, "the array says that it has %u elements of %u bytes, which cannot be", counts[0],
                    data == NULL ? 0 : stride);
  *ret_data = data;
  *ret_n = counts[0];
  *ret_stride = stride;
  return TRUE;
}

static JsonNode *
write_array (Writer *w, const Path *path, const CellField *row, const guint8 *local)
{
  g_autoptr (JsonArray) array = json_array_new ();
  const guint8 *data;
  guint32 n, stride;
  JsonNode *node;

  if (!value_get_array (row, local, &data, &n, &stride, w->error))
    {
      at_path (path, w->error);
      return NULL;
    }
  for (guint32 i = 0; i < n; i++)
    {
      Path element = path_element (path, i);
      node = write_plain (w, &element, row->type, data + (gsize) i * stride);
      if (node == NULL)
        return NULL;
      json_array_add_element (array, node);
    }
  node = json_node_new (JSON_NODE_ARRAY);
  json_node_take_array (node, g_steal_pointer (&array));
  return node;
}

static JsonNode *
write_field (Writer *w, const Path *path, const CellField *row, const guint8 *local)
{
  if (path->depth > MAX_DEPTH)
    {
      cell_set_error (w->error, CELL_ERROR_INTERNAL, "structs are nested more than %d deep", MAX_DEPTH);
      at_path (path, w->error);
      return NULL;
    }
  if (row->shape == CELL_SHAPE_ARRAY)
    return write_array (w, path, row, local);
  if (row->shape == CELL_SHAPE_OPTIONAL && local[row->extra] == 0)
    return json_node_new (JSON_NODE_NULL);
  return write_plain (w, path, row->type, local + row->offset);
}

static JsonNode *
write_members (Writer *w, const Path *path, const CellField *rows, guint n_rows, int role, const guint8 *local)
{
  g_autoptr (JsonObject) object = json_object_new ();
  JsonNode *node;

  for (guint i = 0; i < n_rows; i++)
    if (rows[i].role == role)
      {
        Path member = path_member (path, rows[i].name);
        node = write_field (w, &member, &rows[i], local);
        if (node == NULL)
          return NULL;
        json_object_set_member (object, rows[i].name, node);
      }
  node = json_node_new (JSON_NODE_OBJECT);
  json_node_take_object (node, g_steal_pointer (&object));
  return node;
}

JsonNode *
value_to_json (const CellField *rows, guint n_rows, int role, gconstpointer local, const ValueHooks *hooks, GError **error)
{
  Writer w = { hooks, error };

  return write_members (&w, NULL, rows, n_rows, role, local);
}

JsonNode *
field_to_json (const CellField *row, gconstpointer local, const ValueHooks *hooks, GError **error)
{
  Writer w = { hooks, error };
  Path path = path_member (NULL, row->name);

  return write_field (&w, &path, row, local);
}

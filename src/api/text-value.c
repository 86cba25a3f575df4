/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "api/text-value.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "plugins/cell-error.h"

#define invalid(error, ...) cell_set_error ((error), CELL_ERROR_INVALID, __VA_ARGS__)

/* ---- one value ------------------------------------------------------------------------------ */

static gboolean
refuse (const CellType *type, const char *text, const char *expected, GError **error)
{
  g_autofree char *shown = json_escape_text (text, 40, '\'');

  return invalid (error, "%s is not %s, which %s needs", shown, expected, type->name);
}

static gboolean
text_to_float (const CellType *type, const char *text, double *to, GError **error)
{
  char *end = NULL;
  double value = g_ascii_strtod (text, &end);

  /* strtod also takes white space, hexadecimals, inf and nan. */
  if (*text == 0 || text[strspn (text, "+-.0123456789eE")] != 0 || *end != 0)
    return refuse (type, text, "a number", error);
  if (!isfinite (value))
    return refuse (type, text, "a number that a double can hold", error);
  *to = value;
  return TRUE;
}

static gboolean
text_to_scalar (const CellType *type, const char *text, const ValueHooks *hooks, ValueArena *arena, gpointer to, GError **error)
{
  switch (type->kind)
    {
    case CELL_KIND_BOOL:
      *(bool *) to = strcmp (text, "true") == 0;
      return *(bool *) to || strcmp (text, "false") == 0 || refuse (type, text, "true or false", error);

    case CELL_KIND_UINT:
    case CELL_KIND_INT:
      if (!json_scan_is_integer (text))
        return refuse (type, text, "a whole number", error);
      return value_set_integer (type, text, to, error);

    case CELL_KIND_FLOAT:
      return text_to_float (type, text, to, error);

    default:
      return value_set_text (type, text, strlen (text), hooks, arena, to, error);
    }
}

/* An array or a struct. */
static gboolean
json_word_to_field (const CellField *row, const char *text, const ValueHooks *hooks, ValueArena *arena, gpointer local,
                    GError **error)
{
  g_autoptr (JsonScan) scan = json_scan_new (text, -1, 0, error);
  g_autofree char *type = value_type_name (row);

  if (scan == NULL)
    {
      g_prefix_error (error, "%s: %s is written as JSON, for example '%s'. ", row->name, type,
                      row->shape == CELL_SHAPE_ARRAY ? "[…, …]" : "{\"…\": …}");
      return FALSE;
    }
  return json_to_field (row, json_scan_root (scan), hooks, arena, local, error);
}

gboolean
text_to_field (const CellField *row, const char *text, const ValueHooks *hooks, ValueArena *arena, gpointer local, GError **error)
{
  guint8 *at = local;

  if (!g_utf8_validate (text, -1, NULL))
    return invalid (error, "%s: the text is not UTF-8", row->name);
  if (row->shape == CELL_SHAPE_ARRAY || row->type->kind == CELL_KIND_STRUCT)
    return json_word_to_field (row, text, hooks, arena, local, error);
  if (row->shape == CELL_SHAPE_OPTIONAL)
    *(bool *) (at + row->extra) = true;
  if (text_to_scalar (row->type, text, hooks, arena, at + row->offset, error))
    return TRUE;
  g_prefix_error (error, "%s: ", row->name);
  return FALSE;
}

/* ---- all of them ---------------------------------------------------------------------------- */

typedef struct
{
  const CellField *rows;
  guint n_rows;
  int role;
  guint8 *seen;                 /* by row */
  guint next;                   /* row that an unnamed word is for */
  gboolean named;               /* a word had a name: no more positions */
} Words;

/* "from=u64 to=u64 [memo=str]": how to call it. */
static char *
usage_of (const CellField *rows, guint n_rows, int role)
{
  g_autoptr (GString) usage = g_string_new (NULL);

  for (guint i = 0; i < n_rows; i++)
    if (rows[i].role == role)
      {
        gboolean optional = rows[i].shape == CELL_SHAPE_OPTIONAL;
        g_autofree char *type = optional ? g_strdup (rows[i].type->name) : value_type_name (&rows[i]);
        g_string_append_printf (usage, "%s%s%s=%s%s", usage->len == 0 ? "" : " ", optional ? "[" : "", rows[i].name, type,
                                optional ? "]" : "");
      }
  return g_string_free (g_steal_pointer (&usage), FALSE);
}

/* How many bytes of a word are a name followed by "="; 0: it has no name. */
static gsize
name_length (const char *word)
{
  gsize n = 0;

  while (g_ascii_isalnum (word[n]) || word[n] == '_')
    n++;
  return word[n] == '=' && !g_ascii_isdigit (*word) ? n : 0;
}

/* "aGVsbG8=" is no name, where bytes come next and no argument is called that. */
static gboolean
is_padded_bytes (const Words *w, const char *word, gsize length)
{
  g_autofree char *name = g_strndup (word, length), *again = NULL;
  g_autofree guchar *data = NULL;
  guint next = w->next;
  gsize n;

  while (next < w->n_rows && w->rows[next].role != w->role)
    next++;
  if (w->named || next == w->n_rows || w->rows[next].type->kind != CELL_KIND_BYTES || w->rows[next].shape == CELL_SHAPE_ARRAY
      || value_find_row (w->rows, w->n_rows, w->role, name) != NULL)
    return FALSE;
  data = g_base64_decode (word, &n);
  again = g_base64_encode (data, n);
  return strcmp (again, word) == 0;
}

static const CellField *
row_of_name (Words *w, const char *word, gsize length, GError **error)
{
  g_autofree char *name = g_strndup (word, length);
  g_autofree char *known = value_list_rows (w->rows, w->n_rows, w->role);
  const CellField *row = value_find_row (w->rows, w->n_rows, w->role, name);

  w->named = TRUE;
  if (row == NULL && *known == 0)
    invalid (error, "there is no argument '%s'; there are none at all", name);
  else if (row == NULL)
    invalid (error, "there is no argument '%s'; there are %s (a value that looks like that needs its name before it)", name, known);
  return row;
}

static const CellField *
row_of_position (Words *w, const char *word, GError **error)
{
  g_autofree char *shown = json_escape_text (word, 40, '\'');
  g_autofree char *usage = NULL;

  if (w->named)
    {
      invalid (error, "%s follows an argument that has a name; give it a name as well (name=value)", shown);
      return NULL;
    }
  while (w->next < w->n_rows && w->rows[w->next].role != w->role)
    w->next++;
  if (w->next < w->n_rows)
    return &w->rows[w->next++];
  usage = usage_of (w->rows, w->n_rows, w->role);
  if (*usage == 0)
    invalid (error, "%s is one argument too many; there are none at all", shown);
  else
    invalid (error, "%s is one argument too many; they are: %s", shown, usage);
  return NULL;
}

static gboolean
check_missing (const Words *w, GError **error)
{
  g_autoptr (GString) list = g_string_new (NULL);
  g_autofree char *usage = NULL;
  guint n = 0;

  for (guint i = 0; i < w->n_rows; i++)
    if (w->rows[i].role == w->role && !w->seen[i] && w->rows[i].shape != CELL_SHAPE_OPTIONAL)
      g_string_append_printf (list, "%s%s", n++ == 0 ? "" : ", ", w->rows[i].name);
  if (n == 0)
    return TRUE;
  usage = usage_of (w->rows, w->n_rows, w->role);
  return invalid (error, "the argument%s %s %s missing; they are: %s", n == 1 ? "" : "s", list->str, n == 1 ? "is" : "are", usage);
}

/* One word that begins as an object does is all arguments, whatever the first is: what a caller means does not hang on a method's
 * types. */
static gboolean
is_whole (const char *const *words)
{
  return words[0] != NULL && words[1] == NULL && words[0][strspn (words[0], " \t\r\n")] == '{';
}

/* Who meant one text or one struct by it learns how that is written. */
static gboolean
read_whole (const Words *w, const char *word, const ValueHooks *hooks, ValueArena *arena, gpointer local, GError **error)
{
  g_autoptr (GError) why = NULL;
  const CellField *first = w->rows, *end = w->rows + w->n_rows;

  if (json_text_to_value (w->rows, w->n_rows, w->role, word, -1, hooks, arena, local, &why))
    return TRUE;
  while (first < end && first->role != w->role)
    first++;
  if (first < end && first->shape != CELL_SHAPE_ARRAY
      && (first->type->kind == CELL_KIND_STRUCT || first->type->kind == CELL_KIND_STR))
    return cell_set_error (error, cell_status_from_error (why),
                           "%s (one argument {...} is all of them as JSON; if it is %s itself, write %s={...})", why->message,
                           first->name, first->name);
  g_propagate_error (error, g_steal_pointer (&why));
  return FALSE;
}

gboolean
words_to_value (const CellField *rows, guint n_rows, int role, const char *const *words, const ValueHooks *hooks, ValueArena *arena,
                gpointer local, GError **error)
{
  g_autofree guint8 *seen = g_malloc0 (n_rows + 1);
  Words w = { .rows = rows, .n_rows = n_rows, .role = role, .seen = seen };

  if (is_whole (words))
    return read_whole (&w, words[0], hooks, arena, local, error);
  for (; *words != NULL; words++)
    {
      gsize length = name_length (*words);
      const CellField *row = NULL;

      if (length > 0 && is_padded_bytes (&w, *words, length))
        length = 0;
      if (length > 0)
        row = row_of_name (&w, *words, length, error);
      if (length == 0 && g_utf8_validate (*words, -1, NULL))
        row = row_of_position (&w, *words, error);
      else if (length == 0)
        return invalid (error, "an argument is not UTF-8 text");
      if (row == NULL)
        return FALSE;
      if (seen[row - rows]++)
        return invalid (error, "%s is given twice", row->name);
      if (!text_to_field (row, *words + (length == 0 ? 0 : length + 1), hooks, arena, local, error))
        return FALSE;
    }
  return check_missing (&w, error);
}

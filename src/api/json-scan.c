/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "api/json-scan.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "plugins/cell-error.h"

struct JsonScan
{
  GArray *nodes;                /* of JsonScanNode, in the order of the text */
  char *strings;                /* every key and text, each with its NUL */
};

/* A token with its NUL is never longer than what it was written as, with the quotes or the delimiter that follow it: one buffer
 * of the text's size takes them all, and nothing moves. */
typedef struct
{
  const char *start, *at, *end;
  char *to;                     /* the free part of strings */
  GArray *nodes;
  guint depth;
  GError **error;
} Scanner;

static gboolean scan_value (Scanner *s, const char *key);

/* ---- faults --------------------------------------------------------------------------------- */

G_GNUC_PRINTF (4, 5) static gboolean
fault_at (Scanner *s, const char *where, CellStatus code, const char *format, ...)
{
  guint line = 1;
  const char *begin = s->start;
  g_autofree char *what = NULL;
  va_list args;

  for (const char *p = s->start; p < where; p++)
    if (*p == '\n')
      {
        line++;
        begin = p + 1;
      }
  va_start (args, format);
  what = g_strdup_vprintf (format, args);
  va_end (args);
  /* The text before `where` is UTF-8: that was looked at first. */
  return cell_set_error (s->error, code, "JSON, line %u, column %ld: %s", line,
               g_utf8_strlen (begin, where - begin) + 1, what);
}

#define fault(s, ...) fault_at ((s), (s)->at, CELL_ERROR_INVALID, __VA_ARGS__)

/* What stands at the cursor, for a sentence. */
static const char *
found (const Scanner *s, char buffer[32])
{
  gunichar c;

  if (s->at >= s->end)
    return "the text ends";
  c = g_utf8_get_char (s->at);
  if (c == 0xfeff)
    return "found a byte order mark";
  if (c == '\'')
    return "found a single quote (strings are written with double quotes)";
  if (g_unichar_isgraph (c))
    {
      char utf8[7] = { 0 };
      g_unichar_to_utf8 (c, utf8);
      g_snprintf (buffer, 32, "found '%s'", utf8);
    }
  else
    g_snprintf (buffer, 32, "found U+%04X", c);
  return buffer;
}

/* ---- tokens --------------------------------------------------------------------------------- */

static void
skip_space (Scanner *s)
{
  while (s->at < s->end && (*s->at == ' ' || *s->at == '\t' || *s->at == '\n' || *s->at == '\r'))
    s->at++;
}

static gboolean
take (Scanner *s, char c)
{
  skip_space (s);
  if (s->at >= s->end || *s->at != c)
    return FALSE;
  s->at++;
  return TRUE;
}

/* Four hexadecimal digits; -1: they are not. */
static int
scan_hex (Scanner *s)
{
  int value = 0;

  if (s->end - s->at < 4)
    return -1;
  for (int i = 0; i < 4; i++)
    {
      int digit = g_ascii_xdigit_value (s->at[i]);
      if (digit < 0)
        return -1;
      value = value * 16 + digit;
    }
  s->at += 4;
  return value;
}

/* \uXXXX, or the two of a surrogate pair; the cursor stands behind the u. */
static gboolean
scan_unicode (Scanner *s)
{
  const char *escape = s->at - 2;
  int high = scan_hex (s), low;
  gunichar c;

  if (high < 0)
    return fault_at (s, escape, CELL_ERROR_INVALID, "\\u is followed by four hexadecimal digits");
  if (high == 0)
    return fault_at (s, escape, CELL_ERROR_INVALID, "a string cannot hold a NUL (\\u0000)");
  c = (gunichar) high;
  if (high >= 0xd800 && high <= 0xdfff)
    {
      gboolean pair = high < 0xdc00 && s->end - s->at >= 2 && s->at[0] == '\\' && s->at[1] == 'u';
      s->at += pair ? 2 : 0;
      low = pair ? scan_hex (s) : -1;
      if (low < 0xdc00 || low > 0xdfff)
        return fault_at (s, escape, CELL_ERROR_INVALID, "half a surrogate pair is not a character");
      c = 0x10000 + ((gunichar) (high - 0xd800) << 10) + (gunichar) (low - 0xdc00);
    }
  s->to += g_unichar_to_utf8 (c, s->to);
  return TRUE;
}

static gboolean
scan_escape (Scanner *s)
{
  static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
  char c = s->at + 1 < s->end ? s->at[1] : 0;
  const char *p = c == 0 ? NULL : strchr (from, c);

  if (c != 'u' && p == NULL)
    return fault (s, "there is no such escape; the escapes are \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\uXXXX");
  s->at += 2;
  if (c == 'u')
    return scan_unicode (s);
  *s->to++ = to[p - from];
  return TRUE;
}

static gboolean
scan_string (Scanner *s, const char **ret_text, guint32 *ret_size)
{
  const char *opening = s->at, *text = s->to;

  for (s->at++; s->at < s->end && *s->at != '"';)
    {
      if (*s->at == '\\')
        {
          if (!scan_escape (s))
            return FALSE;
        }
      else if ((guchar) *s->at < 0x20)
        return fault (s, "a control character in a string is written as an escape, here \\u%04x", (guint) (guchar) *s->at);
      else
        *s->to++ = *s->at++;
    }
  if (s->at >= s->end)
    return fault_at (s, opening, CELL_ERROR_INVALID, "this string is not closed");
  s->at++;
  *ret_text = text;
  *ret_size = (guint32) (s->to - text);
  *s->to++ = 0;
  return TRUE;
}

static gsize
skip_digits (Scanner *s)
{
  const char *first = s->at;

  while (s->at < s->end && g_ascii_isdigit (*s->at))
    s->at++;
  return (gsize) (s->at - first);
}

/* Everything from the first character to what cannot belong to a number, so that "01" or "1.e" is one fault and not two tokens. */
static gboolean
scan_number_grammar (Scanner *s, gboolean *ret_real)
{
  *ret_real = FALSE;
  s->at += *s->at == '-';
  if (s->at < s->end && *s->at == '0')
    s->at++;
  else if (skip_digits (s) == 0)
    return FALSE;
  if (s->at < s->end && *s->at == '.')
    {
      *ret_real = TRUE;
      s->at++;
      if (skip_digits (s) == 0)
        return FALSE;
    }
  if (s->at < s->end && (*s->at == 'e' || *s->at == 'E'))
    {
      *ret_real = TRUE;
      s->at++;
      s->at += s->at < s->end && (*s->at == '+' || *s->at == '-');
      if (skip_digits (s) == 0)
        return FALSE;
    }
  return s->at >= s->end || !(g_ascii_isalnum (*s->at) || strchr ("+-._", *s->at) != NULL);
}

static gboolean
scan_number (Scanner *s, JsonScanNode *node)
{
  const char *first = s->at;
  gboolean real;
  gsize size;

  if (!scan_number_grammar (s, &real))
    return fault_at (s, first, CELL_ERROR_INVALID, "this is not how JSON writes a number (examples: 0, -12, 3.5, 1e9)");
  size = (gsize) (s->at - first);
  if (size > JSON_SCAN_MAX_NUMBER)
    return fault_at (s, first, CELL_ERROR_TOO_LARGE, "a number has at most %d characters", JSON_SCAN_MAX_NUMBER);
  node->type = real ? JSON_SCAN_REAL : JSON_SCAN_INTEGER;
  node->text = s->to;
  node->size = (guint32) size;
  memcpy (s->to, first, size);
  s->to[size] = 0;
  s->to += size + 1;
  if (!isfinite (g_ascii_strtod (node->text, NULL)))
    return fault_at (s, first, CELL_ERROR_INVALID, "this number is beyond what a double can hold");
  return TRUE;
}

static gboolean
scan_word (Scanner *s, JsonScanNode *node)
{
  static const struct { const char *word; JsonScanType type; } words[] = {
    { "null", JSON_SCAN_NULL }, { "false", JSON_SCAN_FALSE }, { "true", JSON_SCAN_TRUE },
  };
  const char *first = s->at, *p = first;
  gsize size;

  while (p < s->end && g_ascii_isalnum (*p))
    p++;
  size = (gsize) (p - first);
  for (gsize i = 0; i < G_N_ELEMENTS (words); i++)
    if (size == strlen (words[i].word) && memcmp (first, words[i].word, size) == 0)
      {
        node->type = words[i].type;
        s->at = p;
        return TRUE;
      }
  if (size == 0)
    {
      char buffer[32];
      return fault (s, "a value is expected, but %s", found (s, buffer));
    }
  return fault (s, "'%.*s' is not JSON; the words are true, false and null, and strings are quoted", (int) MIN (size, 20), first);
}

/* ---- values --------------------------------------------------------------------------------- */

static gboolean
is_unsafe (gunichar c)
{
  GUnicodeType type = g_unichar_type (c);

  return type == G_UNICODE_CONTROL || type == G_UNICODE_LINE_SEPARATOR || type == G_UNICODE_PARAGRAPH_SEPARATOR
         || (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

char *
json_escape_text (const char *text, guint max_chars, char quote)
{
  GString *to = g_string_new (NULL);
  const char *p = text;

  if (quote != 0)
    g_string_append_c (to, quote);
  for (guint n = 0; *p != 0 && (max_chars == 0 || n < max_chars); n++, p = g_utf8_next_char (p))
    {
      gunichar c = g_utf8_get_char (p);
      if (c == '\n' || c == '\t')
        g_string_append (to, c == '\n' ? "\\n" : "\\t");
      else if (quote == '"' && (c == '"' || c == '\\'))
        g_string_append_printf (to, "\\%c", (char) c);
      else if (is_unsafe (c))
        g_string_append_printf (to, "\\u%04x", c);
      else
        g_string_append_unichar (to, c);
    }
  if (*p != 0)
    g_string_append (to, "…");
  if (quote != 0)
    g_string_append_c (to, quote);
  return g_string_free (to, FALSE);
}

static int
compare_keys (const void *a, const void *b)
{
  return strcmp (*(const char *const *) a, *(const char *const *) b);
}

/* Sorting takes n log n however the keys were chosen, which a hash table does not. */
static gboolean
check_duplicates (Scanner *s, const char *opening, const char **keys, guint n)
{
  if (n > 1)
    qsort (keys, n, sizeof *keys, compare_keys);
  for (guint i = 1; i < n; i++)
    if (strcmp (keys[i - 1], keys[i]) == 0)
      {
        g_autofree char *shown = json_escape_text (keys[i], 40, '\'');
        return fault_at (s, opening, CELL_ERROR_INVALID, "this object has the member %s twice", shown);
      }
  return TRUE;
}

static gboolean
scan_member (Scanner *s, const char **ret_key)
{
  char buffer[32];
  guint32 size;

  skip_space (s);
  if (s->at >= s->end || *s->at != '"')
    return fault (s, "a member's name in double quotes is expected, but %s", found (s, buffer));
  if (!scan_string (s, ret_key, &size))
    return FALSE;
  if (!take (s, ':'))
    return fault (s, "a colon is expected after a member's name, but %s", found (s, buffer));
  return scan_value (s, *ret_key);
}

/* The elements of an array, the members of an object; the cursor stands behind the bracket. */
static gboolean
scan_children (Scanner *s, guint self, char closing)
{
  const char *opening = s->at - 1;
  gboolean object = closing == '}';
  g_autoptr (GPtrArray) keys = object ? g_ptr_array_new () : NULL;
  guint n = 0;
  char buffer[32];

  if (!take (s, closing))
    {
      do
        {
          const char *key = NULL;
          if (object ? !scan_member (s, &key) : !scan_value (s, NULL))
            return FALSE;
          if (object)
            g_ptr_array_add (keys, (gpointer) key);
          if (++n > JSON_SCAN_MAX_MEMBERS && object)
            return fault_at (s, opening, CELL_ERROR_TOO_LARGE, "an object has at most %d members", JSON_SCAN_MAX_MEMBERS);
        }
      while (take (s, ','));
      if (!take (s, closing))
        return fault (s, "a comma or '%c' is expected, but %s", closing, found (s, buffer));
    }
  g_array_index (s->nodes, JsonScanNode, self).n_children = n;
  return !object || check_duplicates (s, opening, (const char **) keys->pdata, n);
}

static gboolean
scan_nested (Scanner *s, guint self, char closing)
{
  gboolean ok;

  if (s->depth >= JSON_SCAN_MAX_DEPTH)
    return fault_at (s, s->at, CELL_ERROR_TOO_LARGE, "values are nested more than %d deep", JSON_SCAN_MAX_DEPTH);
  s->at++;
  s->depth++;
  ok = scan_children (s, self, closing);
  s->depth--;
  return ok;
}

static gboolean
scan_value (Scanner *s, const char *key)
{
  guint self = s->nodes->len;
  JsonScanNode node = { .key = key };
  gboolean ok;
  char c;

  skip_space (s);
  c = s->at < s->end ? *s->at : 0;
  if (c == '{' || c == '[')
    {
      node.type = c == '{' ? JSON_SCAN_OBJECT : JSON_SCAN_ARRAY;
      g_array_append_val (s->nodes, node);
      ok = scan_nested (s, self, c == '{' ? '}' : ']');
    }
  else
    {
      node.type = JSON_SCAN_STRING;
      ok = c == '"' ? scan_string (s, &node.text, &node.size)
         : c == '-' || g_ascii_isdigit (c) ? scan_number (s, &node) : scan_word (s, &node);
      g_array_append_val (s->nodes, node);
    }
  g_array_index (s->nodes, JsonScanNode, self).span = s->nodes->len - self;
  return ok;
}

static gboolean
scan_text (Scanner *s)
{
  const char *bad;
  char buffer[32];

  if (!g_utf8_validate (s->start, s->end - s->start, &bad))
    return fault_at (s, bad, CELL_ERROR_INVALID, "the byte 0x%02x is not UTF-8 text", (guint) (guchar) *bad);
  if (!scan_value (s, NULL))
    return FALSE;
  skip_space (s);
  return s->at == s->end || fault (s, "the text should end after the value, but %s", found (s, buffer));
}

JsonScan *
json_scan_new (const char *text, gssize length, gsize limit, GError **error)
{
  g_autoptr (JsonScan) scan = NULL;
  gsize size = length < 0 ? strlen (text) : (gsize) length;
  Scanner s = { .start = text, .at = text, .end = text + size, .error = error };

  limit = MIN (limit == 0 ? JSON_SCAN_MAX_SIZE : limit, G_MAXINT32);
  if (size > limit)
    {
      cell_set_error (error, CELL_ERROR_TOO_LARGE,
                   "JSON: the text has %" G_GSIZE_FORMAT " bytes; the limit here is %" G_GSIZE_FORMAT, size, limit);
      return NULL;
    }
  scan = g_new0 (JsonScan, 1);
  scan->nodes = g_array_new (FALSE, FALSE, sizeof (JsonScanNode));
  scan->strings = g_malloc (size + 1);
  s.nodes = scan->nodes;
  s.to = scan->strings;
  return scan_text (&s) ? g_steal_pointer (&scan) : NULL;
}

void
json_scan_free (JsonScan *scan)
{
  if (scan == NULL)
    return;
  g_array_unref (scan->nodes);
  g_free (scan->strings);
  g_free (scan);
}

/* ---- looking at the tree -------------------------------------------------------------------- */

const JsonScanNode *
json_scan_root (const JsonScan *scan)
{
  return &g_array_index (scan->nodes, JsonScanNode, 0);
}

const char *
json_scan_describe (const JsonScanNode *node)
{
  static const char *const names[] = { "null", "false", "true", "a whole number", "a number", "a string", "an array", "an object" };

  return names[node->type];
}

gboolean
json_scan_is_integer (const char *text)
{
  text += *text == '-';
  if (*text == '0')
    return text[1] == 0;
  return *text != 0 && text[strspn (text, "0123456789")] == 0;
}

static JsonNode *
number_to_node (const JsonScanNode *node, GError **error)
{
  JsonNode *to = json_node_new (JSON_NODE_VALUE);

  if (node->type == JSON_SCAN_REAL)
    json_node_set_double (to, g_ascii_strtod (node->text, NULL));
  else
    {
      errno = 0;
      json_node_set_int (to, g_ascii_strtoll (node->text, NULL, 10));
      if (errno != 0)
        {
          json_node_unref (to);
          cell_set_error (error, CELL_ERROR_INVALID,
                       "JSON: %.40s does not fit in 64 bits; write such a number as a string", node->text);
          return NULL;
        }
    }
  return to;
}

static gboolean
children_to_node (const JsonScanNode *node, JsonNode *to, GError **error)
{
  const JsonScanNode *child = json_scan_first (node);
  g_autoptr (JsonObject) object = node->type == JSON_SCAN_OBJECT ? json_object_new () : NULL;
  g_autoptr (JsonArray) array = node->type == JSON_SCAN_ARRAY ? json_array_sized_new (node->n_children) : NULL;

  for (guint i = 0; i < node->n_children; i++, child = json_scan_next (child))
    {
      JsonNode *value = json_scan_to_node (child, error);
      if (value == NULL)
        return FALSE;
      if (object != NULL)
        json_object_set_member (object, child->key, value);
      else
        json_array_add_element (array, value);
    }
  if (object != NULL)
    json_node_set_object (to, object);
  else
    json_node_set_array (to, array);
  return TRUE;
}

JsonNode *
json_scan_to_node (const JsonScanNode *node, GError **error)
{
  g_autoptr (JsonNode) to = NULL;

  if (node->type == JSON_SCAN_INTEGER || node->type == JSON_SCAN_REAL)
    return number_to_node (node, error);
  if (node->type == JSON_SCAN_NULL)
    return json_node_new (JSON_NODE_NULL);
  if (node->type == JSON_SCAN_ARRAY || node->type == JSON_SCAN_OBJECT)
    {
      to = json_node_new (node->type == JSON_SCAN_ARRAY ? JSON_NODE_ARRAY : JSON_NODE_OBJECT);
      return children_to_node (node, to, error) ? g_steal_pointer (&to) : NULL;
    }
  to = json_node_new (JSON_NODE_VALUE);
  if (node->type == JSON_SCAN_STRING)
    json_node_set_string (to, node->text);
  else
    json_node_set_boolean (to, node->type == JSON_SCAN_TRUE);
  return g_steal_pointer (&to);
}

/* ---- writing -------------------------------------------------------------------------------- */

char *
json_write_double (double value)
{
  char text[G_ASCII_DTOSTR_BUF_SIZE];

  if (value == 0 && signbit (value))
    return g_strdup ("-0.0");           /* "-0" is an integer, which has no such thing */
  g_ascii_formatd (text, sizeof text, "%.15g", value);
  if (g_ascii_strtod (text, NULL) != value)
    g_ascii_dtostr (text, sizeof text, value);
  return g_strdup (text);
}

static void
write_string (GString *to, const char *text)
{
  static const char from[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";

  g_string_append_c (to, '"');
  for (const char *p = text; *p != 0; p++)
    {
      const char *escape = strchr (from, *p);
      if (escape != NULL)
        g_string_append_printf (to, "\\%c", letters[escape - from]);
      else if ((guchar) *p < 0x20 || *p == 0x7f)
        g_string_append_printf (to, "\\u%04x", (guint) *p);
      else
        g_string_append_c (to, *p);
    }
  g_string_append_c (to, '"');
}

static void write_node (GString *to, JsonNode *node, int indent);

/* indent: -1: all on one line. */
static void
write_line (GString *to, int indent)
{
  if (indent < 0)
    return;
  g_string_append_c (to, '\n');
  for (int i = 0; i < indent; i++)
    g_string_append (to, "  ");
}

static void
write_object (GString *to, JsonObject *object, int indent)
{
  int inner = indent < 0 ? -1 : indent + 1;
  JsonObjectIter iter;
  const char *key;
  JsonNode *value;
  guint n = 0;

  g_string_append_c (to, '{');
  json_object_iter_init_ordered (&iter, object);
  while (json_object_iter_next_ordered (&iter, &key, &value))
    {
      g_string_append (to, n++ == 0 ? "" : ",");
      write_line (to, inner);
      write_string (to, key);
      g_string_append (to, indent < 0 ? ":" : ": ");
      write_node (to, value, inner);
    }
  write_line (to, n == 0 ? -1 : indent);
  g_string_append_c (to, '}');
}

static void
write_array (GString *to, JsonArray *array, int indent)
{
  int inner = indent < 0 ? -1 : indent + 1;
  guint n = json_array_get_length (array);

  g_string_append_c (to, '[');
  for (guint i = 0; i < n; i++)
    {
      g_string_append (to, i == 0 ? "" : ",");
      write_line (to, inner);
      write_node (to, json_array_get_element (array, i), inner);
    }
  write_line (to, n == 0 ? -1 : indent);
  g_string_append_c (to, ']');
}

static void
write_value (GString *to, JsonNode *node)
{
  g_autofree char *number = NULL;

  switch (json_node_get_value_type (node))
    {
    case G_TYPE_STRING:
      write_string (to, json_node_get_string (node));
      break;
    case G_TYPE_BOOLEAN:
      g_string_append (to, json_node_get_boolean (node) ? "true" : "false");
      break;
    case G_TYPE_DOUBLE:
      number = json_write_double (json_node_get_double (node));
      g_string_append (to, isfinite (json_node_get_double (node)) ? number : "null");
      break;
    default:
      g_string_append_printf (to, "%" G_GINT64_FORMAT, json_node_get_int (node));
    }
}

static void
write_node (GString *to, JsonNode *node, int indent)
{
  switch (json_node_get_node_type (node))
    {
    case JSON_NODE_OBJECT:
      write_object (to, json_node_get_object (node), indent);
      break;
    case JSON_NODE_ARRAY:
      write_array (to, json_node_get_array (node), indent);
      break;
    case JSON_NODE_VALUE:
      write_value (to, node);
      break;
    default:
      g_string_append (to, "null");
    }
}

char *
json_write (JsonNode *node, gboolean pretty)
{
  GString *to = g_string_new (NULL);

  write_node (to, node, pretty ? 0 : -1);
  return g_string_free (to, FALSE);
}

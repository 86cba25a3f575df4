/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The scan of foreign JSON, beside what json-glib and Python make of the same text.
 */
#include <gio/gio.h>
#include <locale.h>
#include <string.h>

#include "api/json-scan.h"
#include "plugins/cell-error.h"
#include "random-scalars.h"

/* ---- scanning ------------------------------------------------------------------------------- */

typedef struct
{
  const char *text;
  const char *wrong;            /* a part of the error; NULL: it is accepted */
} Sample;

static const Sample samples[] = {
  { "null", NULL },
  { " \t\r\n[ ] ", NULL },
  { "{\"a\":1,\"b\":[true,false,null,\"\"],\"\":{}}", NULL },
  { "[0,-0,1,-1,10,1.5,-0.0,1e9,1E+9,1e-9,123456789012345678901,1.7976931348623157e308,1e-400]", NULL },
  { "\"\\\" \\\\ \\/ \\b\\f\\n\\r\\t \\u00e9 \\uD83D\\ude00 \xf0\x9f\x98\x80 \x7f\"", NULL },
  { "{\"a\":{\"a\":1},\"A\":1}", NULL },

  { "", "line 1, column 1: a value is expected, but the text ends" },
  { " \n ", "line 2, column 2: a value is expected" },
  { "nul", "'nul' is not JSON" },
  { "True", "'True' is not JSON" },
  { "NaN", "'NaN' is not JSON" },
  { "Infinity", "not JSON" },
  { "-Infinity", "not how JSON writes a number" },
  { "{'a':1}", "column 2: a member's name in double quotes is expected, but found a single quote" },
  { "['a']", "single quote" },
  { "{a:1}", "a member's name in double quotes is expected, but found 'a'" },
  { "{\"a\":1,}", "a member's name in double quotes" },
  { "{\"a\" 1}", "a colon is expected" },
  { "{\"a\"}", "a colon is expected" },
  { "{\"a\":}", "a value is expected" },
  { "[1,]", "column 4: a value is expected, but found ']'" },
  { "[,1]", "a value is expected" },
  { "[1 2]", "column 4: a comma or ']' is expected, but found '2'" },
  { "[1}", "a comma or ']' is expected, but found '}'" },
  { "[1", "but the text ends" },
  { "{\"a\":1", "a comma or '}' is expected, but the text ends" },
  { "[1]]", "the text should end after the value, but found ']'" },
  { "{} {}", "the text should end" },
  { "[1] // no", "the text should end" },
  { "/* no */ 1", "a value is expected" },
  { "\xef\xbb\xbf{}", "byte order mark" },
  { "01", "not how JSON writes a number" },
  { "-", "not how JSON writes a number" },
  { "+1", "a value is expected" },
  { "1.", "not how JSON writes a number" },
  { ".5", "a value is expected" },
  { "1e", "not how JSON writes a number" },
  { "1e+", "not how JSON writes a number" },
  { "0x10", "not how JSON writes a number" },
  { "1_000", "not how JSON writes a number" },
  { "[1e400]", "column 2: this number is beyond what a double can hold" },
  { "-1e999999999999999999999", "beyond what a double can hold" },
  { "\"abc", "column 1: this string is not closed" },
  { "\"abc\\", "there is no such escape" },
  { "\"abc\\\"", "not closed" },
  { "\"\\x41\"", "column 2: there is no such escape" },
  { "\"\\'\"", "there is no such escape" },
  { "\"\\u12\"", "four hexadecimal digits" },
  { "\"\\u12g4\"", "four hexadecimal digits" },
  { "\"\\u", "four hexadecimal digits" },
  { "\"\\u0000\"", "cannot hold a NUL" },
  { "{\"a\\u0000b\":1}", "cannot hold a NUL" },
  { "\"\\ud800\"", "half a surrogate pair" },
  { "\"\\udc00\"", "half a surrogate pair" },
  { "\"\\ud800\\ud800\"", "half a surrogate pair" },
  { "\"\\ud800x\"", "half a surrogate pair" },
  { "\"\\ud800\\u00", "half a surrogate pair" },
  { "\"a\nb\"", "a control character in a string is written as an escape, here \\u000a" },
  { "\"\x01\"", "here \\u0001" },
  { "\"\xff\"", "column 2: the byte 0xff is not UTF-8" },
  { "\"\xc0\x80\"", "not UTF-8" },
  { "\"\xed\xa0\x80\"", "not UTF-8" },
  { "\"\xe2\x82\"", "not UTF-8" },
  { "{\"a\":1,\"b\":2,\"a\":3}", "column 1: this object has the member 'a' twice" },
  { "{\"a\":1,\"\\u0061\":3}", "has the member 'a' twice" },
  { "[{\"x\":{\"\":1,\"\":2}}]", "has the member '' twice" },
  { "{\"\\u001b[2J\":1,\"\\u001b[2J\":2}", "has the member '\\u001b[2J' twice" },
  { "[\n  {\"\xc3\xa9\": tru}\n]", "line 2, column 9: 'tru' is not JSON" },
};

static void
check_refused (const char *text, gssize length, const char *wrong, CellStatus status)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (JsonScan) scan = json_scan_new (text, length, 0, &error);

  g_assert_null (scan);
  g_assert_error (error, CELL_ERROR_DOMAIN, -status);
  if (strstr (error->message, wrong) == NULL)
    g_error ("for %s the error is: %s", text, error->message);
  g_assert_true (g_utf8_validate (error->message, -1, NULL));
  g_assert_null (strchr (error->message, '\n'));
}

static void
test_scan_samples (void)
{
  for (gsize i = 0; i < G_N_ELEMENTS (samples); i++)
    {
      g_autoptr (GError) error = NULL;
      g_autoptr (JsonScan) scan = NULL;
      if (samples[i].wrong != NULL)
        {
          check_refused (samples[i].text, -1, samples[i].wrong, CELL_ERROR_INVALID);
          continue;
        }
      scan = json_scan_new (samples[i].text, -1, 0, &error);
      g_assert_no_error (error);
      g_assert_nonnull (scan);
    }
  check_refused ("[1,\0 2]", 7, "the byte 0x00", CELL_ERROR_INVALID);
  check_refused ("1\0", 2, "the byte 0x00", CELL_ERROR_INVALID);
}

static void
test_scan_tree (void)
{
  g_autoptr (GError) error = NULL;
  static const char text[] = "{\"a\":[1,[2],{\"x\":3}],\"b\\n\":\"\\ud83d\\ude00\",\"c\":12345678901234567890}";
  g_autoptr (JsonScan) scan = json_scan_new (text, -1, 0, &error);
  const JsonScanNode *root, *a, *b, *c;

  g_assert_no_error (error);
  root = json_scan_root (scan);
  g_assert_cmpuint (root->n_children, ==, 3);
  g_assert_cmpuint (root->span, ==, 9);
  a = json_scan_first (root);
  b = json_scan_next (a);
  c = json_scan_next (b);
  g_assert_cmpuint (a->n_children, ==, 3);
  g_assert_cmpstr (b->key, ==, "b\n");
  g_assert_cmpstr (b->text, ==, "\xf0\x9f\x98\x80");
  g_assert_cmpuint (b->size, ==, 4);
  g_assert_cmpuint (c->type, ==, JSON_SCAN_INTEGER);
  g_assert_cmpstr (c->text, ==, "12345678901234567890");
  g_assert_null (json_scan_to_node (root, &error));
  g_assert_error (error, CELL_ERROR_DOMAIN, -CELL_ERROR_INVALID);
  g_assert_nonnull (strstr (error->message, "12345678901234567890 does not fit in 64 bits"));
}

static char *
nested (guint depth, const char *open, const char *close)
{
  GString *text = g_string_new (NULL);

  for (guint i = 0; i < depth; i++)
    g_string_append (text, open);
  g_string_append (text, "0");
  for (guint i = 0; i < depth; i++)
    g_string_append (text, close);
  return g_string_free (text, FALSE);
}

static char *
many_members (guint n)
{
  GString *text = g_string_new ("{");

  for (guint i = 0; i < n; i++)
    g_string_append_printf (text, "%s\"%u\":0", i == 0 ? "" : ",", i);
  g_string_append_c (text, '}');
  return g_string_free (text, FALSE);
}

static void
test_scan_limits (void)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *deepest = nested (JSON_SCAN_MAX_DEPTH, "[", "]");
  g_autofree char *deeper = nested (JSON_SCAN_MAX_DEPTH + 1, "[", "]");
  g_autofree char *abyss = nested (1000000, "{\"a\":", "}");
  g_autofree char *open = g_strnfill (200000, '[');
  g_autofree char *most = many_members (JSON_SCAN_MAX_MEMBERS);
  g_autofree char *more = many_members (JSON_SCAN_MAX_MEMBERS + 1);
  g_autofree char *longest = g_strnfill (JSON_SCAN_MAX_NUMBER + 1, '0');
  g_autoptr (JsonScan) a = json_scan_new (deepest, -1, 0, &error);
  g_autoptr (JsonScan) b = json_scan_new (most, -1, 0, &error);
  g_autoptr (JsonScan) c = NULL, d = NULL;

  g_assert_no_error (error);
  g_assert_nonnull (a);
  g_assert_nonnull (b);
  check_refused (deeper, -1, "nested more than 64 deep", CELL_ERROR_TOO_LARGE);
  check_refused (open, -1, "nested more than 64 deep", CELL_ERROR_TOO_LARGE);
  check_refused (abyss, -1, "the limit here is 4194304", CELL_ERROR_TOO_LARGE);
  check_refused (abyss, 4000000, "nested more than 64 deep", CELL_ERROR_TOO_LARGE);
  check_refused (more, -1, "at most 1024 members", CELL_ERROR_TOO_LARGE);
  memcpy (longest, "0.", 2);
  check_refused (longest, -1, "at most 1100 characters", CELL_ERROR_TOO_LARGE);
  longest[JSON_SCAN_MAX_NUMBER] = 0;
  c = json_scan_new (longest, -1, 0, &error);
  g_assert_no_error (error);

  d = json_scan_new ("[1,2]", -1, 5, &error);
  g_assert_no_error (error);
  g_assert_null (json_scan_new ("[1,2] ", -1, 5, &error));
  g_assert_error (error, CELL_ERROR_DOMAIN, -CELL_ERROR_TOO_LARGE);
}

/* Every prefix of a good object is refused, and none is read past its end (the copy is as long as the prefix). */
static void
test_scan_truncated (void)
{
  const char *text = "{\"a\\u00e9\":[1.5e3,-2,true,null,\"\\ud83d\\ude00\xc3\xa9\"],\"b\":{\"c\":\"\\\\\"}}";

  for (gsize n = 0; n < strlen (text); n++)
    {
      g_autofree char *prefix = n == 0 ? g_malloc (1) : g_memdup2 (text, n);
      g_assert_null (json_scan_new (prefix, (gssize) n, 0, NULL));
    }
}

/* ---- against json-glib and Python ----------------------------------------------------------- */

static JsonNode *
random_node (guint depth)
{
  g_autofree char *text = random_string ();
  int what = g_test_rand_int_range (0, depth > 4 ? 5 : 8);
  JsonNode *node;

  if (what == 0)
    return json_node_new (JSON_NODE_NULL);
  if (what < 5)
    {
      gint64 number = (gint64) ((guint64) (guint32) g_test_rand_int () << g_test_rand_int_range (0, 33));
      node = json_node_alloc ();
      return what == 1 ? json_node_init_boolean (node, g_test_rand_int_range (0, 2))
             : what == 2 ? json_node_init_int (node, number)
             : what == 3 ? json_node_init_double (node, random_double ()) : json_node_init_string (node, text);
    }
  if (what < 7)
    {
      g_autoptr (JsonArray) array = json_array_new ();
      for (int n = g_test_rand_int_range (0, 5); n > 0; n--)
        json_array_add_element (array, random_node (depth + 1));
      return json_node_init_array (json_node_alloc (), array);
    }
  g_autoptr (JsonObject) object = json_object_new ();
  for (int n = g_test_rand_int_range (0, 5); n > 0; n--)
    {
      g_autofree char *key = random_string ();
      json_object_set_member (object, key, random_node (depth + 1));
    }
  return json_node_init_object (json_node_alloc (), object);
}

static void
test_scan_round_trip (void)
{
  for (int i = 0; i < 3000; i++)
    {
      g_autoptr (GError) error = NULL;
      g_autoptr (JsonNode) node = random_node (0), again = NULL, theirs = NULL;
      g_autofree char *text = json_write (node, g_test_rand_int_range (0, 2)), *text_again = NULL, *text_theirs = NULL;
      g_autoptr (JsonScan) scan = json_scan_new (text, -1, 0, &error);
      g_assert_no_error (error);
      again = json_scan_to_node (json_scan_root (scan), &error);
      g_assert_no_error (error);
      text_again = json_write (again, FALSE);
      /* json-glib reads the same from what was written. */
      theirs = json_from_string (text, &error);
      g_assert_no_error (error);
      text_theirs = json_write (theirs, FALSE);
      g_assert_cmpstr (text_again, ==, text_theirs);
      /* Not json_node_equal (): 1.0 is written as 1, which is read as an integer. */
      g_free (text);
      text = json_write (node, FALSE);
      g_assert_cmpstr (text, ==, text_again);
    }
}

/* A random change or two of a random text: most of what comes out is almost JSON. */
static GBytes *
random_mutant (void)
{
  static const char *const pieces[] = {
    "\"", "\\", "\\u", "\\ud800", "\\udc00", "\\u0000", "0", "-", ".", "e", "E+", "1e999", "[", "]", "{", "}", ",", ":", " ", "\n",
    "\x01", "\xff", "\xc3", "\xed\xa0\x80", "\xef\xbb\xbf", "tru", "true", "NaN", "'", "{\"a\":1,\"a\":2}",
  };
  g_autoptr (JsonNode) node = random_node (2);
  g_autofree char *text = json_write (node, g_test_rand_int_range (0, 4) == 0);
  GString *to = g_string_new (text);

  for (int n = g_test_rand_int_range (0, 3); n > 0; n--)
    {
      gsize at = (gsize) g_test_rand_int_range (0, (gint32) to->len + 1);
      if (g_test_rand_int_range (0, 2) == 0 || at == to->len)
        g_string_insert (to, (gssize) at, pieces[g_test_rand_int_range (0, G_N_ELEMENTS (pieces))]);
      else
        g_string_erase (to, (gssize) at, g_test_rand_int_range (1, (gint32) MIN (4, to->len - at + 1)));
    }
  return g_string_free_to_bytes (to);
}

/* Python's parser, made as strict as ours.  One text a line, in base64; an answer for each. */
static const char python_judge[] =
  "import base64, json, math, sys\n"
  "def pairs(p):\n"
  "    d = dict(p)\n"
  "    if len(d) != len(p): raise ValueError\n"
  "    return d\n"
  "def number(t):\n"
  "    f = float(t)\n"
  "    if math.isinf(f): raise ValueError\n"
  "    return f\n"
  "def constant(t): raise ValueError\n"
  "def walk(v, depth):\n"
  "    if isinstance(v, str):\n"
  "        v.encode('utf-8')\n"
  "        if '\\0' in v: raise ValueError\n"
  "    elif isinstance(v, (list, dict)):\n"
  "        if depth >= 64: raise ValueError\n"
  "        for x in v: walk(x, depth + 1)\n"
  "        if isinstance(v, dict):\n"
  "            for x in v.values(): walk(x, depth + 1)\n"
  "for line in sys.stdin:\n"
  "    try:\n"
  "        text = base64.b64decode(line).decode('utf-8')\n"
  "        walk(json.loads(text, object_pairs_hook=pairs, parse_float=number, parse_int=number, parse_constant=constant), 0)\n"
  "        print('1')\n"
  "    except (ValueError, RecursionError):\n"
  "        print('0')\n";

static void
test_scan_python (void)
{
  g_autoptr (GPtrArray) texts = g_ptr_array_new_with_free_func ((GDestroyNotify) g_bytes_unref);
  g_autoptr (GString) input = g_string_new (NULL);
  g_autoptr (GError) error = NULL;
  g_autofree char *python = g_find_program_in_path ("python3"), *output = NULL;
  g_autoptr (GSubprocess) process = NULL;
  guint accepted = 0;

  if (python == NULL)
    {
      g_test_skip ("python3 is not installed");
      return;
    }
  for (int i = 0; i < 8000; i++)
    {
      GBytes *text = random_mutant ();
      gsize size;
      gconstpointer data = g_bytes_get_data (text, &size);
      g_autofree char *line = size == 0 ? g_strdup ("") : g_base64_encode (data, size);
      g_string_append_printf (input, "%s\n", line);
      g_ptr_array_add (texts, text);
    }
  process = g_subprocess_new (G_SUBPROCESS_FLAGS_STDIN_PIPE | G_SUBPROCESS_FLAGS_STDOUT_PIPE, &error, python, "-c", python_judge,
                              NULL);
  g_assert_no_error (error);
  g_subprocess_communicate_utf8 (process, input->str, NULL, &output, NULL, &error);
  g_assert_no_error (error);
  g_assert_true (g_subprocess_get_successful (process));
  g_assert_cmpuint (strlen (output), ==, 2 * texts->len);
  for (guint i = 0; i < texts->len; i++)
    {
      gsize size;
      const char *data = g_bytes_get_data (g_ptr_array_index (texts, i), &size);
      g_autoptr (GError) why = NULL;
      g_autoptr (JsonScan) scan = json_scan_new (size == 0 ? "" : data, (gssize) size, 0, &why);
      accepted += scan != NULL;
      if ((scan != NULL) != (output[2 * i] == '1'))
        g_error ("Python %s what we %s: %.*s (%s)", scan == NULL ? "accepts" : "refuses", scan == NULL ? "refuse" : "accept",
                 (int) size, data, why == NULL ? "" : why->message);
    }
  /* Both must have had something to do. */
  g_assert_cmpuint (accepted, >, texts->len / 10);
  g_assert_cmpuint (accepted, <, texts->len * 9 / 10);
}

int
main (int argc, char **argv)
{
  setlocale (LC_ALL, "");
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/json/scan/samples", test_scan_samples);
  g_test_add_func ("/json/scan/tree", test_scan_tree);
  g_test_add_func ("/json/scan/limits", test_scan_limits);
  g_test_add_func ("/json/scan/truncated", test_scan_truncated);
  g_test_add_func ("/json/scan/round-trip", test_scan_round_trip);
  g_test_add_func ("/json/scan/python", test_scan_python);
  return g_test_run ();
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A contract's text, which may come from anybody.  Recursive descent without recursion worth the name: the format nests twice.
 * Every loop eats a token, and the builder bounds what is kept.
 */
#include <string.h>

#include "contract-private.h"

typedef enum
{
  TOKEN_END,
  TOKEN_NAME,                   /* letters, digits, _ and, for the interface's sake, dots */
  TOKEN_NUMBER,
  TOKEN_STRING,
  TOKEN_ARROW,
  TOKEN_MARK,                   /* one of (){}, */
  TOKEN_BAD
} TokenKind;

typedef struct
{
  const char *at, *end;
  guint line;                   /* of the token */
  TokenKind kind;
  GString *token;               /* its text; of a string: what it stands for */
  const char *wrong;            /* TOKEN_BAD: what is wrong with it */
  ContractBuilder *builder;
} Parser;

/* ---- tokens ---------------------------------------------------------------------------------- */

static void
skip_space (Parser *parser)
{
  for (; parser->at < parser->end && strchr (" \t\r\n", *parser->at) != NULL && *parser->at != '\0'; parser->at++)
    parser->line += *parser->at == '\n';
}

static TokenKind
bad_token (Parser *parser, const char *wrong)
{
  parser->wrong = wrong;
  return TOKEN_BAD;
}

static int
peek (const Parser *parser, size_t ahead)
{
  return ahead < (size_t) (parser->end - parser->at) ? (unsigned char) parser->at[ahead] : -1;
}

/* The character after a backslash, or -1. */
static int
read_escape (Parser *parser)
{
  int c = peek (parser, 0), high, low;

  switch (c)
    {
    case 'n':
      parser->at++;
      return '\n';
    case 't':
      parser->at++;
      return '\t';
    case '"':
    case '\\':
      parser->at++;
      return c;
    case 'x':
      high = peek (parser, 1) < 0 ? -1 : g_ascii_xdigit_value (peek (parser, 1));
      low = peek (parser, 2) < 0 ? -1 : g_ascii_xdigit_value (peek (parser, 2));
      parser->at += high < 0 || low < 0 ? 0 : 3;
      c = high < 0 || low < 0 ? -1 : high << 4 | low;
      return c > 0 && g_ascii_iscntrl (c) ? c : -1;
    default:
      return -1;
    }
}

static TokenKind
read_string (Parser *parser)
{
  for (parser->at++; parser->at < parser->end && *parser->at != '"';)
    {
      int c = (unsigned char) *parser->at++;

      if (c == '\\')
        c = read_escape (parser);
      else if (g_ascii_iscntrl (c))
        return bad_token (parser, "a control character in a string");
      if (c < 0)
        return bad_token (parser, "an escape that is none of \\\" \\\\ \\n \\t \\x01 to \\x1f, \\x7f");
      if (parser->token->len >= CONTRACT_MAX_DOC)
        return bad_token (parser, "a string that is too long");
      g_string_append_c (parser->token, c);
    }
  if (parser->at == parser->end)
    return bad_token (parser, "a string without an end");
  parser->at++;
  if (!g_utf8_validate_len (parser->token->str, parser->token->len, NULL))
    return bad_token (parser, "a string that is not UTF-8");
  return TOKEN_STRING;
}

static TokenKind
read_word (Parser *parser, TokenKind kind)
{
  while (parser->at < parser->end && (g_ascii_isalnum (*parser->at) || *parser->at == '_' || *parser->at == '.'))
    {
      if (parser->token->len >= CONTRACT_MAX_INTERFACE)
        return bad_token (parser, "a name that is too long");
      g_string_append_c (parser->token, *parser->at++);
    }
  return kind;
}

static TokenKind
read_token (Parser *parser)
{
  int c = peek (parser, 0);

  if (c < 0)
    return TOKEN_END;
  if (c == '"')
    return read_string (parser);
  if (g_ascii_isdigit (c))
    return read_word (parser, TOKEN_NUMBER);
  if (g_ascii_isalpha (c) || c == '_')
    return read_word (parser, TOKEN_NAME);
  if (c == '-' && peek (parser, 1) == '>')
    {
      parser->at += 2;
      g_string_assign (parser->token, "->");
      return TOKEN_ARROW;
    }
  if (c != '\0' && strchr ("(){},", c) != NULL)
    {
      parser->at++;
      g_string_append_c (parser->token, c);
      return TOKEN_MARK;
    }
  return bad_token (parser, "a character that has no meaning here");
}

static void
advance (Parser *parser)
{
  skip_space (parser);
  g_string_truncate (parser->token, 0);
  parser->kind = read_token (parser);
}

static gboolean
fail_expected (const Parser *parser, const char *expected, GError **error)
{
  if (parser->kind == TOKEN_BAD)
    return cell_set_error (error, CELL_ERROR_INVALID, "line %u: expected %s, found %s", parser->line, expected, parser->wrong);
  if (parser->kind == TOKEN_END)
    return cell_set_error (error, CELL_ERROR_INVALID, "line %u: expected %s, found the end", parser->line, expected);
  if (parser->kind == TOKEN_STRING)
    return cell_set_error (error, CELL_ERROR_INVALID, "line %u: expected %s, found a string", parser->line, expected);
  return cell_set_error (error, CELL_ERROR_INVALID, "line %u: expected %s, found '%.80s'", parser->line, expected,
                         parser->token->str);
}

/* What the builder refuses is said with the line on which the thing ends. */
static gboolean
fail_line (guint line, GError **error)
{
  g_prefix_error (error, "line %u: ", line);
  return FALSE;
}

static gboolean
is_mark (const Parser *parser, char mark)
{
  return parser->kind == TOKEN_MARK && parser->token->str[0] == mark;
}

static gboolean
is_word (const Parser *parser, const char *word)
{
  return parser->kind == TOKEN_NAME && strcmp (parser->token->str, word) == 0;
}

static gboolean
take_mark (Parser *parser, char mark, GError **error)
{
  char expected[] = "'?'";

  *strchr (expected, '?') = mark;
  if (!is_mark (parser, mark))
    return fail_expected (parser, expected, error);
  advance (parser);
  return TRUE;
}

/* ret_name: at least CONTRACT_MAX_NAME + 1 bytes. */
static gboolean
take_name (Parser *parser, const char *what, char *ret_name, GError **error)
{
  g_autofree char *expected = g_strdup_printf ("the %s's name", what);

  if (parser->kind != TOKEN_NAME)
    return fail_expected (parser, expected, error);
  if (!contract_check_identifier (parser->token->str, what, error))
    return fail_line (parser->line, error);
  g_strlcpy (ret_name, parser->token->str, CONTRACT_MAX_NAME + 1);
  advance (parser);
  return TRUE;
}

static gboolean
take_number (Parser *parser, const char *expected, uint32_t *ret_number, GError **error)
{
  guint64 number;

  if (parser->kind != TOKEN_NUMBER || !g_ascii_string_to_unsigned (parser->token->str, 10, 0, G_MAXUINT32, &number, NULL))
    return fail_expected (parser, expected, error);
  *ret_number = number;
  advance (parser);
  return TRUE;
}

/* ---- fields ---------------------------------------------------------------------------------- */

/* Rows own their strings until the builder has copied what it keeps. */
static void
clear_row (gpointer row)
{
  g_free ((char *) ((CellField *) row)->name);
  g_free ((char *) ((CellField *) row)->doc);
}

static GArray *
new_rows (void)
{
  GArray *rows = g_array_new (FALSE, TRUE, sizeof (CellField));

  g_array_set_clear_func (rows, clear_row);
  return rows;
}

static gboolean
take_type (Parser *parser, CellField *row, GError **error)
{
  char name[CONTRACT_MAX_NAME + 1];
  guint line;

  row->shape = is_word (parser, "array") ? CELL_SHAPE_ARRAY : is_word (parser, "optional") ? CELL_SHAPE_OPTIONAL : CELL_SHAPE_PLAIN;
  if (row->shape != CELL_SHAPE_PLAIN)
    {
      advance (parser);
      if (!take_mark (parser, '(', error))
        return FALSE;
    }
  line = parser->line;
  if (!take_name (parser, "type", name, error))
    return FALSE;
  row->type = contract_builder_find_type (parser->builder, name);
  if (row->type == NULL)
    return cell_set_error (error, CELL_ERROR_INVALID, "line %u: expected a type, and there is no %s above", line, name);
  return row->shape == CELL_SHAPE_PLAIN || take_mark (parser, ')', error);
}

static gboolean
take_field (Parser *parser, int role, GArray *rows, GError **error)
{
  CellField row = { .role = role };
  char name[CONTRACT_MAX_NAME + 1];

  if (!take_type (parser, &row, error) || !take_name (parser, "field", name, error))
    return FALSE;
  row.name = g_strdup (name);
  if (parser->kind == TOKEN_STRING)
    {
      row.doc = g_strdup (parser->token->str);
      advance (parser);
    }
  g_array_append_val (rows, row);
  return TRUE;
}

/* What stands between two marks; the opening one has been taken. */
static gboolean
take_fields (Parser *parser, int role, char closing, GArray *rows, GError **error)
{
  guint n = 0;

  while (!is_mark (parser, closing))
    {
      if (n++ > 0 && !take_mark (parser, ',', error))
        return FALSE;
      if (n > CONTRACT_MAX_FIELDS)
        return cell_set_error (error, CELL_ERROR_INVALID, "line %u: expected at most %d fields", parser->line, CONTRACT_MAX_FIELDS);
      if (!take_field (parser, role, rows, error))
        return FALSE;
    }
  advance (parser);
  return TRUE;
}

/* ---- items ----------------------------------------------------------------------------------- */

static gboolean
take_struct (Parser *parser, GError **error)
{
  g_autoptr (GArray) rows = new_rows ();
  char name[CONTRACT_MAX_NAME + 1];
  guint line = parser->line;

  if (!take_name (parser, "struct", name, error) || !take_mark (parser, '{', error)
      || !take_fields (parser, CELL_ROLE_FIELD, '}', rows, error))
    return FALSE;
  return contract_builder_add_struct (parser->builder, name, rows, error) != NULL || fail_line (line, error);
}

static gboolean
take_access (Parser *parser, uint32_t *ret_access, GError **error)
{
  for (uint32_t access = 0; contract_access_word (access) != NULL; access++)
    if (is_word (parser, contract_access_word (access)))
      {
        *ret_access = access;
        advance (parser);
        return TRUE;
      }
  return fail_expected (parser, "any, view, operate or admin", error);
}

/* 0 when the token is not an attribute's word. */
static int
find_attribute (const Parser *parser)
{
  for (int attribute = CELL_ATTRIBUTE_IDEMPOTENT; contract_attribute_word (attribute) != NULL; attribute++)
    if (is_word (parser, contract_attribute_word (attribute)))
      return attribute;
  return 0;
}

static gboolean
take_attribute (Parser *parser, int attribute, GArray *rows, GError **error)
{
  CellField row = { .role = CELL_ROLE_ATTRIBUTE };

  row.attribute = attribute;
  advance (parser);
  if (attribute == CELL_ATTRIBUTE_ACCESS && !take_access (parser, &row.value, error))
    return FALSE;
  if (attribute > CELL_ATTRIBUTE_ACCESS && !take_number (parser, "a number", &row.value, error))
    return FALSE;
  g_array_append_val (rows, row);
  return TRUE;
}

static gboolean
take_fails (Parser *parser, GArray *rows, GError **error)
{
  CellField row = { .role = CELL_ROLE_FAILS };
  char name[CONTRACT_MAX_NAME + 1];

  advance (parser);
  if (!take_name (parser, "error", name, error))
    return FALSE;
  row.name = g_strdup (name);
  g_array_append_val (rows, row);
  return TRUE;
}

/* All that may follow an item's name and arguments, in any order. */
static gboolean
take_tail (Parser *parser, CellItem *item, char **ret_doc, GArray *rows, GError **error)
{
  for (;;)
    {
      int attribute = find_attribute (parser);

      if (rows->len > CONTRACT_MAX_ITEMS)
        return cell_set_error (error, CELL_ERROR_INVALID, "line %u: expected less about one item", parser->line);
      if (attribute != 0)
        {
          if (!take_attribute (parser, attribute, rows, error))
            return FALSE;
        }
      else if (is_word (parser, "fails"))
        {
          if (!take_fails (parser, rows, error))
            return FALSE;
        }
      else if (is_word (parser, "writable") && item->kind == CELL_ITEM_PROPERTY && item->in_size == 0)
        {
          item->in_size = 1;
          advance (parser);
        }
      else if (parser->kind == TOKEN_STRING && *ret_doc == NULL)
        {
          *ret_doc = g_strdup (parser->token->str);
          advance (parser);
        }
      else
        return TRUE;
    }
}

static gboolean
take_arguments (Parser *parser, CellItem *item, GArray *rows, GError **error)
{
  CellField value = { .name = NULL };

  switch (item->kind)
    {
    case CELL_ITEM_METHOD:
      if (!take_mark (parser, '(', error) || !take_fields (parser, CELL_ROLE_IN, ')', rows, error))
        return FALSE;
      if (parser->kind != TOKEN_ARROW)
        return fail_expected (parser, "'->'", error);
      advance (parser);
      return take_mark (parser, '(', error) && take_fields (parser, CELL_ROLE_OUT, ')', rows, error);
    case CELL_ITEM_SIGNAL:
      return take_mark (parser, '(', error) && take_fields (parser, CELL_ROLE_FIELD, ')', rows, error);
    case CELL_ITEM_PROPERTY:
      if (!take_type (parser, &value, error))
        return FALSE;
      if (value.shape != CELL_SHAPE_PLAIN)
        return cell_set_error (error, CELL_ERROR_INVALID, "line %u: expected one plain value for the property %s", parser->line,
                               item->name);
      item->type = value.type;
      return TRUE;
    default:
      return TRUE;
    }
}

static gboolean
take_item (Parser *parser, int kind, GError **error)
{
  g_autoptr (GArray) rows = new_rows ();
  g_autofree char *doc = NULL;
  CellItem item = { .kind = kind };
  char name[CONTRACT_MAX_NAME + 1];
  guint line = parser->line;

  if (!take_name (parser, contract_item_word (kind), name, error))
    return FALSE;
  item.name = name;
  if (!take_arguments (parser, &item, rows, error) || !take_tail (parser, &item, &doc, rows, error))
    return FALSE;
  item.doc = doc;
  return contract_builder_add_item (parser->builder, &item, rows, error) != NULL || fail_line (line, error);
}

static gboolean
take_interface (Parser *parser, GError **error)
{
  g_autofree char *name = NULL, *doc = NULL;
  uint32_t version = 0;
  guint line = parser->line;

  if (!is_word (parser, "interface"))
    return fail_expected (parser, "'interface'", error);
  advance (parser);
  if (parser->kind != TOKEN_NAME)
    return fail_expected (parser, "the interface's name", error);
  name = g_strdup (parser->token->str);
  advance (parser);
  if (!take_number (parser, "the interface's version", &version, error))
    return FALSE;
  if (parser->kind == TOKEN_STRING)
    {
      doc = g_strdup (parser->token->str);
      advance (parser);
    }
  return contract_builder_set_interface (parser->builder, name, version, doc, error) || fail_line (line, error);
}

static int
find_kind (const Parser *parser)
{
  for (int kind = CELL_ITEM_METHOD; contract_item_word (kind) != NULL; kind++)
    if (is_word (parser, contract_item_word (kind)))
      return kind;
  return 0;
}

static gboolean
take_contract (Parser *parser, GError **error)
{
  advance (parser);
  if (!take_interface (parser, error))
    return FALSE;
  while (parser->kind != TOKEN_END)
    {
      int kind = find_kind (parser);
      gboolean is_struct = is_word (parser, "struct");

      if (kind == 0 && !is_struct)
        return fail_expected (parser, "struct, method, property, signal or error", error);
      advance (parser);
      if (is_struct ? !take_struct (parser, error) : !take_item (parser, kind, error))
        return FALSE;
    }
  return TRUE;
}

Contract *
contract_new_from_text (const char *text, gssize length, GError **error)
{
  g_autoptr (ContractBuilder) builder = contract_builder_new ();
  g_autoptr (GString) token = g_string_new (NULL);
  gsize n = length < 0 ? strnlen (text, CONTRACT_MAX_TEXT + 1) : (gsize) length;
  Parser parser = { .at = text, .end = text + n, .line = 1, .token = token, .builder = builder };

  if (n > CONTRACT_MAX_TEXT)
    return cell_set_error (error, CELL_ERROR_INVALID, "the contract is longer than %d bytes", CONTRACT_MAX_TEXT), NULL;
  return take_contract (&parser, error) ? contract_builder_end (builder, error) : NULL;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A contract as the C header that its callers include, made of the macros of <cell/client.h>.
 */
#include "client-header.h"

#include <string.h>

enum
{
  COMMENT_WIDTH = 120,
  ERROR_COMMENT_COLUMN = 72
};

typedef struct
{
  const Contract *contract;
  GString *text;
  char *prefix;                 /* of functions: "ledger" */
  GHashTable *names;            /* C names that are taken → what took them */
  GHashTable *types;            /* CellType of a struct → its C name */
  GPtrArray *call_types;        /* of each callable: "LedgerTransfer" */
  GPtrArray *signal_types;      /* of each signal: "LedgerTransferred" */
} HeaderWriter;

/* ---- documentation ---------------------------------------------------------------------------- */

/* What an editor would not show as it is read: controls, directions, separators. */
static gboolean
is_hidden (gunichar c)
{
  return !g_unichar_isprint (c) || g_unichar_type (c) == G_UNICODE_LINE_SEPARATOR
         || g_unichar_type (c) == G_UNICODE_PARAGRAPH_SEPARATOR;
}

/* A string literal that no trigraph and no invisible character can change. */
static void
append_literal (GString *to, const char *text)
{
  g_string_append_c (to, '"');
  for (const char *c = text; *c != '\0'; c = g_utf8_next_char (c))
    {
      size_t n = g_utf8_next_char (c) - c;

      if (*c == '"' || *c == '\\' || (*c == '?' && c > text && c[-1] == '?'))
        g_string_append_printf (to, "\\%c", *c);
      else if (*c == '\n')
        g_string_append (to, "\\n");
      else if (is_hidden (g_utf8_get_char (c)))
        for (size_t i = 0; i < n; i++)
          g_string_append_printf (to, "\\%03o", (unsigned char) c[i]);
      else
        g_string_append_len (to, c, n);
    }
  g_string_append_c (to, '"');
}

/* One line that can neither end a comment nor begin one, nor hold a trigraph. */
static char *
comment_text (const char *doc)
{
  GString *text = g_string_new (NULL);

  for (const char *c = doc; *c != '\0'; c = g_utf8_next_char (c))
    {
      char last = text->len > 0 ? text->str[text->len - 1] : ' ';

      if ((last == '*' && *c == '/') || (last == '/' && *c == '*') || (last == '?' && *c == '?'))
        g_string_append_c (text, ' ');
      if (g_ascii_isspace (*c))
        g_string_append (text, last == ' ' ? "" : " ");
      else if (is_hidden (g_utf8_get_char (c)))
        g_string_append_printf (text, "<U+%04X>", g_utf8_get_char (c));
      else
        g_string_append_len (text, c, g_utf8_next_char (c) - c);
    }
  return g_string_free (text, FALSE);
}

/* Nothing when there is no documentation. */
static void
append_comment (GString *to, const char *doc)
{
  g_autofree char *text = comment_text (doc);
  g_auto (GStrv) words = g_strsplit (g_strstrip (text), " ", -1);
  size_t column = 2;

  if (words[0] == NULL)
    return;
  g_string_append (to, "/*");
  for (guint i = 0; words[i] != NULL; i++)
    {
      size_t n = g_utf8_strlen (words[i], -1);

      if (column + 1 + n + 3 > COMMENT_WIDTH && i > 0)
        {
          g_string_append (to, "\n *");
          column = 2;
        }
      g_string_append_printf (to, " %s", words[i]);
      column += n + 1;
    }
  g_string_append (to, " */\n");
}

/* ---- names ------------------------------------------------------------------------------------ */

/* "OrderBook" → "order_book" */
static char *
snake_case (const char *name)
{
  GString *snake = g_string_new (NULL);

  for (const char *c = name; *c != '\0'; c++)
    {
      gboolean after_word = c > name && (g_ascii_islower (c[-1]) || g_ascii_isdigit (c[-1]));
      gboolean before_word = c > name && g_ascii_isupper (c[-1]) && g_ascii_islower (c[1]);

      if (g_ascii_isupper (*c) && (after_word || before_word))
        g_string_append_c (snake, '_');
      g_string_append_c (snake, g_ascii_tolower (*c));
    }
  return g_string_free (snake, FALSE);
}

/* "Ledger", "Get", "total_sum" → "LedgerGetTotalSum" */
static char *
camel_case (const char *service, const char *verb, const char *name)
{
  GString *camel = g_string_new (service);
  gboolean begins = TRUE;

  g_string_append (camel, verb);
  for (const char *c = name; *c != '\0'; c++)
    {
      if (*c != '_')
        g_string_append_c (camel, begins ? g_ascii_toupper (*c) : *c);
      begins = *c == '_';
    }
  return g_string_free (camel, FALSE);
}

/* Notes that what (owned) has these C names: name with each suffix.  FALSE, and nothing noted, when one is taken. */
static gboolean
take_names (HeaderWriter *writer, const char *name, const char *const *suffixes, const char *what, GError **error)
{
  for (guint i = 0; suffixes[i] != NULL; i++)
    {
      g_autofree char *full = g_strconcat (name, suffixes[i], NULL);
      const char *other = g_hash_table_lookup (writer->names, full);

      if (other != NULL)
        return cell_set_error (error, CELL_ERROR_INVALID,
                               "a header of %s cannot be written: %s and %s would both be called %s in C",
                               writer->contract->interface, other, what, full);
    }
  for (guint i = 0; suffixes[i] != NULL; i++)
    g_hash_table_insert (writer->names, g_strconcat (name, suffixes[i], NULL), g_strdup (what));
  return TRUE;
}

static gboolean
name_callable (HeaderWriter *writer, const ContractCallable *callable, GError **error)
{
  static const char *const method_functions[] = { "", "_start", "_finish", "_async", NULL }, *const one[] = { "", NULL };
  static const char *const types[] = { "", "Args", "Call", NULL };
  gboolean getter = callable->name[0] == '@', setter = callable->name[0] == '=';
  const char *name = callable->name + (getter || setter);
  g_autofree char *function = g_strconcat (writer->prefix, getter ? "_get_" : setter ? "_set_" : "_", name, NULL);
  g_autofree char *what = g_strdup_printf (getter || setter ? "property %s" : "method %s", name);
  char *type = camel_case (writer->contract->service, getter ? "Get" : setter ? "Set" : "", name);

  g_ptr_array_add (writer->call_types, type);
  return take_names (writer, function, getter || setter ? one : method_functions, what, error)
         && take_names (writer, type, types, what, error);
}

static gboolean
name_signal (HeaderWriter *writer, const ContractSignal *signal, GError **error)
{
  static const char *const one[] = { "", NULL };
  g_autofree char *on = g_strconcat (writer->prefix, "_on_", signal->name, NULL);
  g_autofree char *off = g_strconcat (writer->prefix, "_off_", signal->name, NULL);
  g_autofree char *what = g_strdup_printf ("signal %s", signal->name);
  g_autofree char *type = camel_case (writer->contract->service, "", signal->name);

  if (g_hash_table_contains (writer->names, type))      /* a method called like it, say */
    {
      g_autofree char *plain = g_steal_pointer (&type);
      type = g_strconcat (plain, "Signal", NULL);
    }
  g_ptr_array_add (writer->signal_types, g_strdup (type));
  return take_names (writer, on, one, what, error) && take_names (writer, off, one, what, error)
         && take_names (writer, type, one, what, error);
}

/* A struct gives way when a method is called like it: order and Order are both natural. */
static gboolean
name_struct (HeaderWriter *writer, const CellType *type, GError **error)
{
  static const char *const one[] = { "", NULL };
  g_autofree char *what = g_strdup_printf ("struct %s", type->name);
  char *name = g_strconcat (writer->contract->service, type->name, NULL);

  if (g_hash_table_contains (writer->names, name))
    {
      g_autofree char *plain = name;
      name = g_strconcat (plain, "Struct", NULL);
    }
  g_hash_table_insert (writer->types, (gpointer) type, name);
  return take_names (writer, name, one, what, error);
}

static gboolean
name_error (HeaderWriter *writer, const CellItem *item, GError **error)
{
  static const char *const one[] = { "", NULL };
  g_autofree char *macro = g_strdup_printf ("%s_%s", writer->contract->service, item->name);
  g_autofree char *what = g_strdup_printf ("error %s", item->name);

  return item->kind != CELL_ITEM_ERROR || take_names (writer, macro, one, what, error);
}

static gboolean
name_everything (HeaderWriter *writer, GError **error)
{
  const Contract *contract = writer->contract;

  for (guint i = 0; i < contract->n_callables; i++)
    if (!name_callable (writer, &contract->callables[i], error))
      return FALSE;
  for (guint i = 0; i < contract->n_signals; i++)
    if (!name_signal (writer, &contract->signals[i], error))
      return FALSE;
  for (guint i = 0; i < contract->n_structs; i++)
    if (!name_struct (writer, contract->structs[i], error))
      return FALSE;
  for (guint i = 0; i < contract->n_items; i++)
    if (!name_error (writer, &contract->items[i], error))
      return FALSE;
  return TRUE;
}

/* ---- the parts -------------------------------------------------------------------------------- */

static const char *
type_name (const HeaderWriter *writer, const CellType *type)
{
  return type->kind == CELL_KIND_STRUCT ? g_hash_table_lookup (writer->types, type) : type->name;
}

/* MACRO (Name, field (…), …), one field a line. */
static void
append_fields (HeaderWriter *writer, const char *macro, const char *name, const CellField *rows, guint n_rows)
{
  static const char *const shapes[] = {
    [CELL_SHAPE_PLAIN] = "", [CELL_SHAPE_ARRAY] = "array (", [CELL_SHAPE_OPTIONAL] = "optional ("
  };

  g_string_append_printf (writer->text, "%s (%s", macro, name);
  for (guint i = 0; i < n_rows; i++)
    {
      g_string_append_printf (writer->text, ",\n%*sfield (%s%s%s, %s", (int) strlen (macro) + 2, "", shapes[rows[i].shape],
                              type_name (writer, rows[i].type), rows[i].shape == CELL_SHAPE_PLAIN ? "" : ")", rows[i].name);
      if (*rows[i].doc != '\0')
        {
          g_string_append (writer->text, ", ");
          append_literal (writer->text, rows[i].doc);
        }
      g_string_append_c (writer->text, ')');
    }
  g_string_append (writer->text, ")\n");
}

static void
append_head (HeaderWriter *writer)
{
  const Contract *contract = writer->contract;
  g_autofree char *guard = g_ascii_strup (writer->prefix, -1);

  g_string_append_printf (writer->text, "/* %s %u, written by `cellctl client %s`.  Change the cell, not this. */\n",
                          contract->interface, contract->version, writer->prefix);
  append_comment (writer->text, contract->doc);
  g_string_append_printf (writer->text, "#ifndef CELL_REMOTE_%s_H\n#define CELL_REMOTE_%s_H\n#include <cell/client.h>\n\n", guard,
                          guard);
}

static void
append_errors (HeaderWriter *writer)
{
  const Contract *contract = writer->contract;
  gboolean any = FALSE;

  for (guint i = 0; i < contract->n_items; i++)
    {
      const CellItem *item = &contract->items[i];
      g_autofree char *define = NULL, *doc = NULL;

      if (item->kind != CELL_ITEM_ERROR)
        continue;
      define = g_strdup_printf ("#define %s_%s \"%s.%s\"", contract->service, item->name, contract->interface, item->name);
      doc = comment_text (item->doc);
      if (*doc != '\0')
        g_string_append_printf (writer->text, "%-*s /* %s */\n", ERROR_COMMENT_COLUMN - 1, define, doc);
      else
        g_string_append_printf (writer->text, "%s\n", define);
      any = TRUE;
    }
  g_string_append (writer->text, any ? "\n" : "");
}

static void
append_structs (HeaderWriter *writer)
{
  for (guint i = 0; i < writer->contract->n_structs; i++)
    {
      const CellType *type = writer->contract->structs[i];

      append_fields (writer, "CELL_STRUCT", type_name (writer, type), type->fields, type->n_fields);
      g_string_append_c (writer->text, '\n');
    }
}

static void
append_method (HeaderWriter *writer, guint number)
{
  const ContractCallable *method = &writer->contract->callables[number];
  const char *type = writer->call_types->pdata[number];

  append_comment (writer->text, method->item->doc);
  append_fields (writer, "CELL_ARGS", type, method->in, method->n_in);
  append_fields (writer, "CELL_REPLY", type, method->out, method->n_out);
  g_string_append_printf (writer->text, "CELL_STUBS (%s, %s, %s, %u)\n\n", writer->prefix, method->name, type, number);
}

static void
append_accessor (HeaderWriter *writer, const char *macro, const ContractCallable *callable)
{
  guint number = callable - writer->contract->callables;

  g_string_append_printf (writer->text, "%s (%s, %s, %s, %s, %u)\n", macro, writer->prefix, callable->item->name,
                          (const char *) writer->call_types->pdata[number], type_name (writer, callable->item->type), number);
}

static void
append_property (HeaderWriter *writer, const ContractCallable *getter)
{
  g_autofree char *setter_name = g_strconcat ("=", getter->item->name, NULL);
  const ContractCallable *setter = contract_find (writer->contract, setter_name);

  append_comment (writer->text, getter->item->doc);
  append_accessor (writer, "CELL_GETTER_STUB", getter);
  if (setter != NULL)
    append_accessor (writer, "CELL_SETTER_STUB", setter);
  g_string_append_c (writer->text, '\n');
}

static void
append_signal (HeaderWriter *writer, guint number)
{
  const ContractSignal *signal = &writer->contract->signals[number];
  const char *type = writer->signal_types->pdata[number];

  append_comment (writer->text, signal->item->doc);
  append_fields (writer, "CELL_STRUCT", type, signal->args, signal->n_args);
  g_string_append_printf (writer->text, "CELL_SIGNAL_STUBS (%s, %s, %s, %u)\n\n", writer->prefix, signal->name, type, number);
}

static void
append_flags (GString *to, uint32_t flags)
{
  static const char *const words[] = { [CELL_ATTRIBUTE_IDEMPOTENT] = "CELL_FLAG_IDEMPOTENT",
                                       [CELL_ATTRIBUTE_ONEWAY] = "CELL_FLAG_ONEWAY",
                                       [CELL_ATTRIBUTE_JOB] = "CELL_FLAG_JOB" };
  const char *separator = "";

  for (size_t i = 1; i < G_N_ELEMENTS (words); i++)
    if ((flags >> i & 1) != 0)
      {
        g_string_append_printf (to, "%s%s", separator, words[i]);
        separator = " | ";
      }
  g_string_append (to, flags == 0 ? "0" : "");
}

static void
append_tables (HeaderWriter *writer)
{
  const Contract *contract = writer->contract;
  GString *text = writer->text;

  g_string_append_printf (text, "CELL_REMOTE_METHODS (%s", contract->service);
  for (guint i = 0; i < contract->n_callables; i++)
    {
      const ContractCallable *c = &contract->callables[i];

      g_string_append_printf (text, ",\n%21sCELL_REMOTE_METHOD (\"%s\", %s, 0x%016" G_GINT64_MODIFIER "xu, %u, ", "", c->name,
                              (const char *) writer->call_types->pdata[i], c->fingerprint, c->timeout);
      append_flags (text, c->flags);
      g_string_append_c (text, ')');
    }
  g_string_append_printf (text, ")\nCELL_REMOTE_SIGNALS (%s", contract->service);
  for (guint i = 0; i < contract->n_signals; i++)
    g_string_append_printf (text, ",\n%21sCELL_REMOTE_SIGNAL (\"%s\", %s, 0x%016" G_GINT64_MODIFIER "xu)", "",
                            contract->signals[i].name, (const char *) writer->signal_types->pdata[i],
                            contract->signals[i].fingerprint);
  g_string_append_printf (text, ")\nCELL_REMOTE (%s, \"%s\", %u, 0x%016" G_GINT64_MODIFIER "xu)\n\n", contract->service,
                          contract->interface, contract->version, contract->fingerprint);
}

/* In C a macro of the function's own name makes the arguments from .name = value. */
static void
append_named (HeaderWriter *writer)
{
  static const char *const suffixes[] = { "", "_start", "_async" };
  GString *text = writer->text;

  g_string_append_printf (text, "#ifndef __cplusplus     /* arguments by name: %s_METHOD (client, .argument = value) */\n",
                          writer->prefix);
  for (guint i = 0; i < writer->contract->n_callables; i++)
    for (guint k = 0; k < G_N_ELEMENTS (suffixes); k++)
      {
        const ContractCallable *c = &writer->contract->callables[i];

        if (c->item->kind == CELL_ITEM_METHOD)
          g_string_append_printf (text, "# define %s_%s%s(...) %s_%s%s (CELL_NAMED%s (%s, __VA_ARGS__))\n", writer->prefix, c->name,
                                  suffixes[k], writer->prefix, c->name, suffixes[k], k == 2 ? "_ASYNC" : "",
                                  (const char *) writer->call_types->pdata[i]);
      }
  g_string_append (text, "#endif\n");
}

static void
append_everything (HeaderWriter *writer)
{
  const Contract *contract = writer->contract;

  append_head (writer);
  append_errors (writer);
  append_structs (writer);
  for (guint i = 0; i < contract->n_callables; i++)
    if (contract->callables[i].item->kind == CELL_ITEM_METHOD)
      append_method (writer, i);
    else if (contract->callables[i].name[0] == '@')
      append_property (writer, &contract->callables[i]);
  for (guint i = 0; i < contract->n_signals; i++)
    append_signal (writer, i);
  append_tables (writer);
  append_named (writer);
  g_string_append (writer->text, "#endif\n");
}

char *
client_header_new (const Contract *contract, GError **error)
{
  g_autofree char *prefix = snake_case (contract->service);
  g_autoptr (GString) text = g_string_new (NULL);
  g_autoptr (GHashTable) names = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
  g_autoptr (GHashTable) types = g_hash_table_new_full (NULL, NULL, NULL, g_free);
  g_autoptr (GPtrArray) call_types = g_ptr_array_new_with_free_func (g_free);
  g_autoptr (GPtrArray) signal_types = g_ptr_array_new_with_free_func (g_free);
  HeaderWriter writer = { contract, text, prefix, names, types, call_types, signal_types };

  if (!name_everything (&writer, error))
    return NULL;
  append_everything (&writer);
  return g_string_free (g_steal_pointer (&text), FALSE);
}

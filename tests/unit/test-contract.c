/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Contracts from text: what they say, what is refused, what survives being printed, fingerprints, and who may call whom.
 */
#include <string.h>

#include "membrane/codec.h"
#include "plugins/contract.h"

static const char ledger_text[] =
  "interface org.example.Ledger 1 \"A toy double-entry ledger\"\n"
  "struct Entry { u64 id, i64 amount, str memo \"free text\" }\n"
  "struct Page { u32 first, u32 count }\n"
  "method history (u64 account, Page page) -> (array (Entry) entries, array (str) tags) idempotent timeout 250 max_reply 65536\n"
  "method notify (bool urgent, optional (u16) level) -> () oneway access operate\n"
  "method picture (blob file, bytes key, f64 scale) -> (blob pixels, u8 a, i8 b, i16 c, i32 d) job\n"
  "method transfer (u64 from \"account that \\\"pays\\\"\", u64 to, i64 amount, str memo) -> (i64 balance) fails InvalidAmount "
  "fails NoSuchAccount \"Move money.\\nTwice \\\\o/ \\x07 ü\"\n"
  "property limit u32 writable access admin\n"
  "property page Page\n"
  "property total i64 \"Sum over all accounts\"\n"
  "signal transferred (u64 from, array (i64) amounts) \"Money moved\"\n"
  "error InvalidAmount \"The amount is not positive\"\n"
  "error NoSuchAccount\n";

static Contract *
parse (const char *text)
{
  g_autoptr (GError) error = NULL;
  Contract *contract = contract_new_from_text (text, -1, &error);

  g_assert_no_error (error);
  g_assert_nonnull (contract);
  return contract;
}

static void
assert_plans (const Contract *contract)
{
  const char *why = NULL;

  for (guint i = 0; i < contract->n_callables; i++)
    {
      const ContractCallable *c = &contract->callables[i];
      CodecPlan *in = codec_plan_new (c->in, c->n_in, CELL_ROLE_IN, c->in_size, &why);
      CodecPlan *out = codec_plan_new (c->out, c->n_out, CELL_ROLE_OUT, c->out_size, &why);

      g_assert_cmpstr (why, ==, NULL);
      g_assert_cmpuint (in->size, ==, c->in_size);
      g_assert_cmpuint (out->size, ==, c->out_size);
      codec_plan_free (in);
      codec_plan_free (out);
    }
  for (guint i = 0; i < contract->n_signals; i++)
    {
      const ContractSignal *s = &contract->signals[i];
      CodecPlan *plan = codec_plan_new (s->args, s->n_args, CELL_ROLE_FIELD, s->size, &why);

      g_assert_cmpstr (why, ==, NULL);
      codec_plan_free (plan);
    }
}

static void
test_every_kind (void)
{
  g_autoptr (Contract) contract = parse (ledger_text);
  g_autofree char *text = contract_to_text (contract, TRUE);
  const ContractCallable *transfer = contract_find (contract, "transfer"), *history = contract_find (contract, "history");

  g_assert_cmpstr (text, ==, ledger_text);
  g_assert_cmpstr (contract->interface, ==, "org.example.Ledger");
  g_assert_cmpstr (contract->service, ==, "Ledger");
  g_assert_cmpstr (contract->doc, ==, "A toy double-entry ledger");
  g_assert_cmpuint (contract->n_structs, ==, 2);
  g_assert_cmpuint (contract->n_callables, ==, 4 + 3 + 1);
  for (guint i = 0; i < contract->n_callables; i++)
    g_assert_true (contract_find (contract, contract->callables[i].name) == &contract->callables[i]);
  g_assert_cmpuint (transfer->n_in, ==, 4);
  g_assert_cmpuint (transfer->in_size, ==, 32);
  g_assert_cmpuint (transfer->out_size, ==, 8);
  g_assert_cmpstr (transfer->in[0].doc, ==, "account that \"pays\"");
  g_assert_cmpstr (transfer->item->doc, ==, "Move money.\nTwice \\o/ \a ü");
  g_assert_cmpstr (transfer->item->owner, ==, "Ledger");
  g_assert_true (transfer->item->fields[5].error == contract_find_item (contract, CELL_ITEM_ERROR, "InvalidAmount"));
  g_assert_cmpuint (history->flags, ==, 1 << CELL_ATTRIBUTE_IDEMPOTENT);
  g_assert_cmpuint (history->timeout, ==, 250);
  g_assert_cmpuint (history->max_reply, ==, 65536);
  g_assert_cmpuint (contract_find (contract, "notify")->access, ==, CELL_ACCESS_OPERATE);
  g_assert_cmpuint (contract_find (contract, "=limit")->access, ==, CELL_ACCESS_ADMIN);
  g_assert_cmpuint (contract_find (contract, "=limit")->in_size, ==, 4);
  g_assert_cmpstr (contract_find (contract, "@page")->out[0].name, ==, "value");
  g_assert_null (contract_find (contract, "=total"));
  g_assert_null (contract_find (contract, "Transfer"));
  g_assert_cmpuint (contract_find_signal (contract, "transferred")->size, ==, 24);
  g_assert_null (contract_find_signal (contract, "transfer"));
  assert_plans (contract);
}

/* What may be written loosely is printed in one way; what nothing uses is left out. */
static void
test_canonical (void)
{
  g_autoptr (Contract) contract =
    parse ("interface a.B 007 struct Unused{u8 x}struct S{u8 x}\n\n"
           "error Bad method z(S s)->() \"doc\" fails Bad oneway fails Bad\r\n"
           "signal b()property w u8\"d\"writable struct S { u8 x } method a()->(array(S)s) error Bad");
  g_autofree char *text = contract_to_text (contract, TRUE);

  g_assert_cmpstr (
    text, ==,
    "interface a.B 7\nstruct S { u8 x }\nmethod a () -> (array (S) s)\nmethod z (S s) -> () fails Bad oneway \"doc\"\n"
    "property w u8 writable \"d\"\nsignal b ()\nerror Bad\n");
}

typedef struct
{
  const char *text, *message;
} Refusal;

static const Refusal refusals[] = {
  { "", "line 1: expected 'interface', found the end" },
  { "method", "line 1: expected 'interface', found 'method'" },
  { "interface Ledger 1", "line 1: an interface's name has two parts or more, such as org.example.Ledger" },
  { "interface a..b 1", "line 1: the part of the interface's name cannot be called '': letters, digits and _ only" },
  { "interface a.B one", "line 1: expected the interface's version, found 'one'" },
  { "interface a.B 4294967296", "line 1: expected the interface's version, found '4294967296'" },
  { "interface a.B 1\nmethods", "line 2: expected struct, method, property, signal or error, found 'methods'" },
  { "interface a.B 1\n\nmethod (", "line 3: expected the method's name, found '('" },
  { "interface a.B 1 method a.b () -> ()", "line 1: the method cannot be called 'a.b': letters, digits and _ only" },
  { "interface a.B 1 method int () -> ()", "line 1: the method cannot be called 'int': C reserves the name" },
  { "interface a.B 1 method __x () -> ()", "line 1: the method cannot be called '__x': C reserves the name" },
  { "interface a.B 1 method m (u8 register) -> ()", "line 1: the field cannot be called 'register': C reserves the name" },
  { "interface a.B 1 method m () -> (bool class)", "line 1: method m has a field called 'class': C or C++ reserves the name" },
  { "interface a.B 1 struct S { u8 bool }", "line 1: struct S has a field called 'bool': C or C++ reserves the name" },
  { "interface a.B 1 signal s (u8 _Bool)", "line 1: signal s has a field called '_Bool': C or C++ reserves the name" },
  { "interface a.B 1 method m () - ()", "line 1: expected '->', found a character that has no meaning here" },
  { "interface a.B 1 method m (u65 a) -> ()", "line 1: expected a type, and there is no u65 above" },
  { "interface a.B 1 method m (u64 a u64 b) -> ()", "line 1: expected ',', found 'u64'" },
  { "interface a.B 1 method m (u64 a, ) -> ()", "line 1: expected the type's name, found ')'" },
  { "interface a.B 1 method m (u64 a, u8 a) -> ()", "line 1: method m has two members called a" },
  { "interface a.B 1 method m (array (u8) a, u8 n_a) -> ()", "line 1: method m has two members called n_a" },
  { "interface a.B 1 method m (bool has_a, optional (u8) a) -> ()", "line 1: method m has two members called has_a" },
  { "interface a.B 1 method m (array (array (u8)) a) -> ()", "line 1: expected a type, and there is no array above" },
  { "interface a.B 1 method m (u64 a) -> () access root", "line 1: expected any, view, operate or admin, found 'root'" },
  { "interface a.B 1 method m () -> () timeout", "line 1: expected a number, found the end" },
  { "interface a.B 1 method m () -> () oneway oneway", "line 1: method m says oneway twice" },
  { "interface a.B 1 method m () -> (u8 x) oneway", "line 1: method m is oneway and has outputs" },
  { "interface a.B 1 method m () -> (u8 result)",
    "line 1: method m: an output cannot be called result, as every reply has that member" },
  { "interface a.B 1 method m () -> () \"a\" \"b\"", "line 1: expected struct, method, property, signal or error, found a string" },
  { "interface a.B 1 method m () -> () method m () -> ()", "line 1: there are two of method m" },
  { "interface a.B 1 method m () -> () fails Bad", "method m fails with Bad, which is not declared" },
  { "interface a.B 1 property p array (u8)", "line 1: expected one plain value for the property p" },
  { "interface a.B 1 property p u8 property p u8", "line 1: there are two of property p" },
  { "interface a.B 1 property p u8 idempotent", "line 1: property p cannot be idempotent" },
  { "interface a.B 1 signal s () fails E", "line 1: signal s cannot have errors of its own" },
  { "interface a.B 1 signal s (u8 a) signal s (u8 b)", "line 1: there are two different declarations of signal s" },
  { "interface a.B 1 error E error E \"x\"", "line 1: there are two different declarations of error E" },
  { "interface a.B 1 struct S { }", "line 1: struct S has no members" },
  { "interface a.B 1 struct S { S s }", "line 1: expected a type, and there is no S above" },
  { "interface a.B 1 struct S { array (S) s }", "line 1: expected a type, and there is no S above" },
  { "interface a.B 1 struct u8 { u16 x }", "line 1: there are two different types called u8" },
  { "interface a.B 1 struct array { u16 x }", "line 1: a struct cannot be called array" },
  { "interface a.B 1 struct S { u8 x } struct S { u16 x }", "line 1: there are two different types called S" },
  { "interface a.B 1 \"tab\there",
    "line 1: expected struct, method, property, signal or error, found a control character in a string" },
  { "interface a.B 1 error E \"\\x41\"",
    "line 1: expected struct, method, property, signal or error, found an escape that is none of "
    "\\\" \\\\ \\n \\t \\x01 to \\x1f, \\x7f" },
  { "interface a.B 1 error E \"\\x00\"",
    "line 1: expected struct, method, property, signal or error, found an escape that is none of "
    "\\\" \\\\ \\n \\t \\x01 to \\x1f, \\x7f" },
  { "interface a.B 1 error E \"\xff\"",
    "line 1: expected struct, method, property, signal or error, found a string that is not UTF-8" },
  { "interface a.B 1 error E \"", "line 1: expected struct, method, property, signal or error, found a string without an end" },
  { "interface a.B 1 error E;",
    "line 1: expected struct, method, property, signal or error, found a character that has no meaning here" },
};

static void
assert_refused (const char *text, gssize length, const char *message)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (Contract) contract = contract_new_from_text (text, length, &error);

  g_assert_null (contract);
  g_assert_error (error, CELL_ERROR_DOMAIN, -CELL_ERROR_INVALID);
  g_assert_cmpstr (error->message, ==, message);
}

static void
test_refusals (void)
{
  for (size_t i = 0; i < G_N_ELEMENTS (refusals); i++)
    assert_refused (refusals[i].text, -1, refusals[i].message);
  assert_refused ("interface a.B 1\0", 16,
                  "line 1: expected struct, method, property, signal or error, found a character that has no "
                  "meaning here");
}

static char *
repeat (const char *head, const char *format, guint n, const char *tail)
{
  GString *text = g_string_new (head);

  for (guint i = 0; i < n; i++)
    {
      g_auto (GStrv) parts = g_strsplit (format, "#", -1);
      g_autofree char *number = g_strdup_printf ("%u", i), *one = g_strjoinv (number, parts);
      g_string_append (text, one);
    }
  g_string_append (text, tail);
  return g_string_free (text, FALSE);
}

static void
check_bound (char *fits, char *too_much, const char *message)
{
  g_autoptr (Contract) contract = parse (fits);

  assert_refused (too_much, -1, message);
  g_free (fits);
  g_free (too_much);
}

/* Each bound: at it, and one beyond it. */
static void
test_bounds (void)
{
  const char *head = "interface a.B 1\n";
  g_autofree char *name63 = g_strnfill (63, 'x'), *name64 = g_strnfill (64, 'x');
  g_autofree char *doc2000 = g_strnfill (2000, 'x'), *doc2001 = g_strnfill (2001, 'x');

  check_bound (repeat (head, "error E#\n", 1024, ""), repeat (head, "error E#\n", 1025, ""),
               "line 1026: an interface has at most 1024 items, structs included");
  check_bound (repeat (head, "signal S# ()\n", 64, ""), repeat (head, "signal S# ()\n", 65, ""),
               "line 66: an interface has at most 64 signals");
  check_bound (repeat ("interface a.B 1 method m (u8 x", ",u8 x#", 30, ") -> ()"),
               repeat ("interface a.B 1 method m (u8 x", ",u8 x#", 31, ") -> ()"), "line 1: expected at most 31 fields");
  check_bound (g_strconcat (head, "error ", name63, NULL), g_strconcat (head, "error ", name64, NULL),
               "line 2: the name of the error xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx… is longer than 63 "
               "characters");
  check_bound (g_strconcat (head, "error E \"", doc2000, "\"", NULL), g_strconcat (head, "error E \"", doc2001, "\"", NULL),
               "line 2: expected struct, method, property, signal or error, found a string that is too long");
  check_bound (repeat (head, " ", CONTRACT_MAX_TEXT - strlen (head), ""),
               repeat (head, " ", CONTRACT_MAX_TEXT + 1 - strlen (head), ""), "the contract is longer than 262144 bytes");
}

/* S0 holds a byte; each of the others holds the one before it, `n` times. */
static char *
nest (guint depth, const char *shape, guint n)
{
  GString *text = g_string_new ("interface a.B 1\nstruct S0 { u8 x }\n");

  for (guint i = 1; i < depth; i++)
    {
      g_string_append_printf (text, "struct S%u { ", i);
      for (guint k = 0; k < n; k++)
        {
          g_string_append_printf (text, "%s", k > 0 ? ", " : "");
          g_string_append_printf (text, *shape != '\0' ? "%s (S%u) x%u" : "%sS%u x%u", shape, i - 1, k);
        }
      g_string_append (text, " }\n");
    }
  g_string_append_printf (text, "method m (S%u s) -> ()\n", depth - 1);
  return g_string_free (text, FALSE);
}

static void
test_nesting (void)
{
  g_autofree char *bomb = nest (CONTRACT_MAX_DEPTH, "array", 31);
  g_autoptr (Contract) one = NULL, other = NULL;
  g_autofree char *appended = g_strdup_printf ("%serror E", bomb);

  check_bound (nest (CONTRACT_MAX_DEPTH, "array", 1), nest (CONTRACT_MAX_DEPTH + 1, "array", 1),
               "line 17: struct S15 is nested deeper than 15");
  check_bound (nest (5, "", 31), nest (6, "", 31), "line 7: struct S5 is larger than 1048576 bytes");

  /* Few structs that stand for 31^14: no step of ours may walk them one by one. */
  one = parse (bomb);
  other = parse (appended);
  ((ContractCallable *) &other->callables[0])->fingerprint++;
  g_assert_true (contract_compatible (one, other, NULL));
}

/* Each method uses 63 structs: Top, the 31 in it, and the 31 in one of those. */
static char *
use_structs (guint n_methods)
{
  GString *text = g_string_new ("interface a.B 1\n");

  for (guint i = 0; i < 31; i++)
    g_string_append_printf (text, "struct A%u { u8 x }\n", i);
  g_string_append (text, "struct B0 { array (A0) s0");
  for (guint i = 1; i < 31; i++)
    g_string_append_printf (text, ", array (A%u) s%u", i, i);
  for (guint i = 1; i < 31; i++)
    g_string_append_printf (text, " } struct B%u { u8 x", i);
  g_string_append (text, " }\nstruct Top { array (B0) s0");
  for (guint i = 1; i < 31; i++)
    g_string_append_printf (text, ", array (B%u) s%u", i, i);
  g_string_append (text, " }\n");
  for (guint i = 0; i < n_methods; i++)
    g_string_append_printf (text, "method m%u (Top t) -> ()\n", i);
  return g_string_free (text, FALSE);
}

static void
test_uses (void)
{
  guint n = CONTRACT_MAX_USES / 63;

  check_bound (use_structs (n), use_structs (n + 1), "the structs that each item uses, counted together, are more than 32768");
}

/* ---- random contracts ------------------------------------------------------------------------- */

typedef struct
{
  GRand *rand;
  GString *text;
  guint n_structs;
} Maker;

static void
make_doc (Maker *maker)
{
  static const char *const pieces[] = { "a",  " ",  "\\n",  "\\t", "\\\"", "\\\\", "\\x01", "\\x7f",
                                        "*/", "/*", "?\?/", "ü",   "𝄞",    "%s",   "#" };

  if (g_rand_int_range (maker->rand, 0, 3) != 0)
    return;
  g_string_append (maker->text, " \"");
  for (int n = g_rand_int_range (maker->rand, 0, 9); n > 0; n--)
    g_string_append (maker->text, pieces[g_rand_int_range (maker->rand, 0, G_N_ELEMENTS (pieces))]);
  g_string_append_c (maker->text, '"');
}

static void
make_type (Maker *maker, gboolean plain)
{
  static const char *const names[] = {
    "bool", "u8", "i8", "u16", "i16", "u32", "i32", "u64", "i64", "f64", "str", "bytes", "blob"
  };
  static const char *const formats[] = { "%s", "%s", "array (%s)", "optional(%s)" };
  g_autofree char *name = maker->n_structs > 0 && g_rand_int_range (maker->rand, 0, 3) == 0
                            ? g_strdup_printf ("S%d", g_rand_int_range (maker->rand, 0, maker->n_structs))
                            : g_strdup (names[g_rand_int_range (maker->rand, 0, G_N_ELEMENTS (names))]);
  g_auto (GStrv) around = g_strsplit (formats[plain ? 0 : g_rand_int_range (maker->rand, 0, 4)], "%s", 2);

  g_string_append_printf (maker->text, "%s%s%s", around[0], name, around[1]);
}

static void
make_fields (Maker *maker, int least)
{
  int n = g_rand_int_range (maker->rand, least, 7);

  for (int i = 0; i < n; i++)
    {
      g_string_append (maker->text, i > 0 ? ", " : "");
      make_type (maker, FALSE);
      g_string_append_printf (maker->text, " f%d", i);
      make_doc (maker);
    }
}

static void
make_item (Maker *maker, int i)
{
  static const char *const tails[] = { "", " idempotent", " access view", " timeout 5", " max_reply 1", " job fails E0" };

  switch (g_rand_int_range (maker->rand, 0, 4))
    {
    case 0:
    case 1:
      g_string_append_printf (maker->text, "method m%d (", i);
      make_fields (maker, 0);
      g_string_append (maker->text, ")->(");
      make_fields (maker, 0);
      g_string_append_printf (maker->text, ")%s", tails[g_rand_int_range (maker->rand, 0, G_N_ELEMENTS (tails))]);
      break;
    case 2:
      g_string_append_printf (maker->text, "signal s%d (", i);
      make_fields (maker, 0);
      g_string_append_c (maker->text, ')');
      break;
    default:
      g_string_append_printf (maker->text, "property p%d ", i);
      make_type (maker, TRUE);
      g_string_append (maker->text, g_rand_boolean (maker->rand) ? " writable" : "");
    }
  make_doc (maker);
  g_string_append_c (maker->text, '\n');
}

static char *
make_contract (GRand *rand)
{
  Maker maker = { rand, g_string_new ("interface org.random.Cell 3"), 0 };

  make_doc (&maker);
  g_string_append (maker.text, "\nerror E0");
  make_doc (&maker);
  for (int n = g_rand_int_range (rand, 0, 6); n > 0; n--)
    {
      g_string_append_printf (maker.text, "\nstruct S%u {", maker.n_structs);
      make_fields (&maker, 1);
      g_string_append (maker.text, "}\n");
      maker.n_structs++;
    }
  g_string_append_c (maker.text, '\n');
  for (int i = g_rand_int_range (rand, 0, 12); i > 0; i--)
    make_item (&maker, i);
  return g_string_free (maker.text, FALSE);
}

static void
test_random (void)
{
  g_autoptr (GRand) rand = g_rand_new_with_seed (20240229);

  for (int i = 0; i < 1000; i++)
    {
      g_autofree char *text = make_contract (rand), *printed = NULL, *again_printed = NULL;
      g_autoptr (Contract) contract = parse (text), again = NULL;

      printed = contract_to_text (contract, TRUE);
      again = parse (printed);
      again_printed = contract_to_text (again, TRUE);
      g_assert_cmpstr (printed, ==, again_printed);
      g_assert_cmpuint (contract->fingerprint, ==, again->fingerprint);
      g_assert_cmpuint (contract->n_callables, ==, again->n_callables);
      g_assert_true (contract_compatible (contract, again, NULL));
      assert_plans (contract);
    }
}

/* ---- hostile text ----------------------------------------------------------------------------- */

/* Either a contract that prints and reads as itself, or one sentence. */
static void
read_anything (const char *text, gsize length)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *copy = g_memdup2 (text, length);     /* exactly as long as it is: a sanitizer sees a byte too far */
  g_autoptr (Contract) contract = contract_new_from_text (copy != NULL ? copy : "", length, &error), again = NULL;
  g_autofree char *printed = NULL;

  if (contract == NULL)
    {
      g_assert_error (error, CELL_ERROR_DOMAIN, -CELL_ERROR_INVALID);
      g_assert_true (g_utf8_validate (error->message, -1, NULL));
      g_assert_null (strchr (error->message, '\n'));
      return;
    }
  printed = contract_to_text (contract, TRUE);
  again = parse (printed);
  g_assert_cmpuint (again->fingerprint, ==, contract->fingerprint);
}

static void
test_truncated (void)
{
  for (gsize n = 0; n < sizeof ledger_text; n++)
    read_anything (ledger_text, n);
}

static void
test_mutated (void)
{
  static const char interesting[] = "(){},\"\\-> \n\0\x80\xff" "a0_.";
  g_autoptr (GRand) rand = g_rand_new_with_seed (42);

  for (int round = 0; round < 20000; round++)
    {
      char text[sizeof ledger_text];
      gsize n = sizeof ledger_text - 1;

      memcpy (text, ledger_text, sizeof text);
      for (int i = g_rand_int_range (rand, 1, 4); i > 0; i--)
        {
          gsize at = g_rand_int_range (rand, 0, n), span = g_rand_int_range (rand, 1, 12);

          if (g_rand_boolean (rand))
            text[at] = interesting[g_rand_int_range (rand, 0, sizeof interesting - 1)];
          else if (at + span < n)
            {
              memmove (text + at, text + at + span, n - at - span);
              n -= span;
            }
        }
      read_anything (text, n);
    }
}

/* ---- fingerprints ----------------------------------------------------------------------------- */

static uint64_t
sha64 (const char *text)
{
  g_autofree char *hex = g_compute_checksum_for_string (G_CHECKSUM_SHA256, text, -1);

  hex[16] = '\0';
  return g_ascii_strtoull (hex, NULL, 16);
}

static void
test_fingerprints (void)
{
  g_autoptr (Contract) contract =
    parse ("interface a.B 1 \"d\" struct P{u8 x \"d\"} struct Q{array(P)p} "
           "method m(Q q \"d\")->(P p) \"d\" property w Q writable \"d\" signal s(P p) \"d\" error E \"d\"");

  g_assert_cmpuint (contract_find (contract, "m")->fingerprint, ==,
                    sha64 ("struct P { u8 x }\nstruct Q { array (P) p }\nmethod m (Q q) -> (P p)\n"));
  g_assert_cmpuint (contract_find (contract, "@w")->fingerprint, ==,
                    sha64 ("struct P { u8 x }\nstruct Q { array (P) p }\n@w Q\n"));
  g_assert_cmpuint (contract_find (contract, "=w")->fingerprint, ==,
                    sha64 ("struct P { u8 x }\nstruct Q { array (P) p }\n=w Q\n"));
  g_assert_cmpuint (contract_find_signal (contract, "s")->fingerprint, ==, sha64 ("struct P { u8 x }\nsignal s (P p)\n"));
  g_assert_cmpuint (contract->fingerprint, ==,
                    sha64 ("interface a.B 1\nstruct P { u8 x }\nstruct Q { array (P) p }\nmethod m (Q q) -> (P p)\n"
                           "property w Q writable\nsignal s (P p)\nerror E\n"));
}

/* ---- compatibility ---------------------------------------------------------------------------- */

typedef struct
{
  const char *cell, *caller;    /* after "interface a.B 1 " */
  const char *message;          /* NULL: compatible, both ways round */
} Pair;

static const Pair pairs[] = {
  /* what may be appended */
  { "method m (u64 a) -> ()", "method m (u64 a) -> ()", NULL },
  { "method m (u64 a, str b) -> ()", "method m (u64 a) -> ()", NULL },
  { "method m (u64 a, array (u8) b, optional (u8) c) -> ()", "method m () -> ()", NULL },
  { "method m () -> (u64 a, blob b)", "method m () -> (u64 a)", NULL },
  { "struct S{u8 a, str b} method m (array (S) s, u8 x) -> ()", "struct S{u8 a} method m (array (S) s, u8 x) -> ()", NULL },
  { "struct S{u8 a, str b} struct T{array (S) s} method m (T t) -> ()", "struct S{u8 a} struct T{array (S) s} method m (T t) -> ()",
    NULL },
  { "struct S{u8 a} method m (S s) -> ()", "struct Renamed{u8 a} method m (Renamed s) -> ()", NULL },
  { "signal s (u8 a, u8 b)", "signal s (u8 a)", NULL },
  { "method m () -> () \"x\" timeout 5 max_reply 7 access admin", "method m () -> ()", NULL },
  { "method m () -> () fails E error E", "method m () -> ()", NULL },
  { "method m () -> () job", "method m () -> ()", NULL },
  { "method m () -> ()", "method m () -> () job", NULL },
  { "property p u8 access admin", "property p u8", NULL },
  { "error E \"one\"", "error E \"two\"", NULL },

  /* what may be added to a cell only */
  { "", "method m () -> ()", "method m is in the caller, and a.B has none" },
  { "", "signal s ()", "signal s is in the caller, and a.B has none" },
  { "", "property p u8", "property p is in the caller, and a.B has none" },
  { "property p u8", "property p u8 writable", "setter of property p is in the caller, and a.B has none" },

  /* what breaks */
  { "method m (u64 amount) -> ()", "method m (i64 amount) -> ()",
    "method m: argument amount is i64 in the caller and u64 in the cell" },
  { "method m (u32 a) -> ()", "method m (u64 a) -> ()", "method m: argument a is u64 in the caller and u32 in the cell" },
  { "method m () -> (str a)", "method m () -> (bytes a)", "method m: output a is bytes in the caller and str in the cell" },
  { "method m () -> (bytes a)", "method m () -> (blob a)", "method m: output a is blob in the caller and bytes in the cell" },
  { "method m (array (u8) a) -> ()", "method m (u8 a) -> ()",
    "method m: argument a is u8 in the caller and array (u8) in the cell" },
  { "method m (optional (u8) a) -> ()", "method m (array (u8) a) -> ()",
    "method m: argument a is array (u8) in the caller and optional (u8) in the cell" },
  { "method m (u8 b, u8 a) -> ()", "method m (u8 a, u8 b) -> ()",
    "method m: argument 1 is called a in the caller and b in the cell" },
  { "method m (u8 a, u8 c) -> ()", "method m (u8 a, u8 b) -> ()",
    "method m: argument 2 is called b in the caller and c in the cell" },
  { "method m (u8 z, u8 a) -> ()", "method m (u8 a) -> ()", "method m: argument 1 is called a in the caller and z in the cell" },
  { "struct S{u8 a} method m (S s) -> ()", "method m (u8 s) -> ()", "method m: argument s is u8 in the caller and S in the cell" },
  { "struct S{u8 a, u8 b} method m (S s) -> ()", "struct S{u8 a} method m (S s) -> ()",
    "method m: argument s is a struct embedded by value, which cannot grow, and the cell's has b too" },
  { "struct S{u8 a} method m (optional (S) s) -> ()", "struct S{u8 a, u8 b} method m (optional (S) s) -> ()",
    "method m: argument s is a struct embedded by value, which cannot grow, and the caller's has b too" },
  { "struct S{u8 a, u8 b} struct T{S s} method m (array (T) t) -> ()", "struct S{u8 a} struct T{S s} method m (array (T) t) -> ()",
    "method m: argument t.s is a struct embedded by value, which cannot grow, and the cell's has b too" },
  { "struct S{u8 a, i8 b} method m (array (S) s) -> ()", "struct S{u8 a, u8 b} method m (array (S) s) -> ()",
    "method m: argument s.b is u8 in the caller and i8 in the cell" },
  { "struct S{u8 a, u8 c} method m (array (S) s) -> ()", "struct S{u8 a, u8 b} method m (array (S) s) -> ()",
    "method m: argument 2 of s is called b in the caller and c in the cell" },
  { "signal s (u8 a)", "signal s (u16 a)", "signal s: argument a is u16 in the caller and u8 in the cell" },
  { "property p u8", "property p u16", "property p: output value is u16 in the caller and u8 in the cell" },
  { "struct S{u8 a, u8 b} property p S", "struct S{u8 a} property p S",
    "property p: output value is a struct embedded by value, which cannot grow, and the cell's has b too" },
  { "method m () -> () oneway", "method m () -> ()", "method m is oneway in the cell only" },
  { "method m () -> ()", "method m () -> () oneway", "method m is oneway in the caller only" },
  { "method m () -> ()", "method m () -> () idempotent", "method m is idempotent in the caller only" },
};

static Contract *
parse_body (const char *body)
{
  g_autofree char *text = g_strconcat ("interface a.B 1 ", body, NULL);

  return parse (text);
}

static void
test_compatible (void)
{
  for (size_t i = 0; i < G_N_ELEMENTS (pairs); i++)
    {
      g_autoptr (Contract) cell = parse_body (pairs[i].cell), caller = parse_body (pairs[i].caller);
      g_autoptr (GError) error = NULL;
      gboolean fits = contract_compatible (cell, caller, &error);

      g_assert_cmpstr (error != NULL ? error->message : NULL, ==, pairs[i].message);
      g_assert_cmpint (fits, ==, pairs[i].message == NULL);
      if (error != NULL)
        g_assert_cmpint (error->code, ==,
                         g_str_has_suffix (error->message, "has none") ? -CELL_ERROR_NO_METHOD : -CELL_ERROR_CONTRACT);
      else
        g_assert_true (contract_compatible (caller, cell, NULL));
    }
}

static void
test_compatible_one_way (void)
{
  g_autoptr (Contract) less = parse_body ("method m () -> ()"), repeatable = parse_body ("method m () -> () idempotent");
  g_autoptr (Contract) more = parse_body ("method m () -> () method n () -> () property p u8 signal s () error E");
  g_autoptr (Contract) stranger = parse ("interface a.C 1 method m () -> ()");
  g_autoptr (GError) error = NULL;

  g_assert_true (contract_compatible (more, less, NULL));
  g_assert_false (contract_compatible (less, more, NULL));
  g_assert_true (contract_compatible (repeatable, less, NULL));
  g_assert_false (contract_compatible (stranger, less, &error));
  g_assert_cmpstr (error->message, ==, "the caller was compiled for a.B, and the cell is a.C");
}

/* ---- the error table -------------------------------------------------------------------------- */

static void
test_errors (void)
{
  g_autoptr (GError) error = NULL, foreign = NULL, file = g_error_new (G_FILE_ERROR, G_FILE_ERROR_NOENT, "x");

#define CHECK(NAME, code, Name, exit, text) \
  g_assert_cmpstr (cell_error_name (code), ==, "org.cellhost.Error." #Name); \
  g_assert_cmpstr (cell_error_text (code), ==, text); \
  g_assert_cmpint (cell_error_exit_code (code), ==, exit); \
  g_assert_cmpint (cell_status_from_name (cell_error_name (code)), ==, code);
  CELL_ERROR_TABLE (CHECK)
#undef CHECK
  g_assert_null (cell_error_name (CELL_OK));
  g_assert_cmpint (cell_error_exit_code (CELL_OK), ==, 0);
  g_assert_cmpstr (cell_error_name (-1000), ==, "org.cellhost.Error.Internal");
  g_assert_cmpint (cell_status_from_name ("org.example.Ledger.InvalidAmount"), ==, CELL_ERROR_FAILED);

  g_assert_false (cell_set_error (&error, CELL_ERROR_BUSY, "%d", 7));
  g_assert_false (cell_set_error (NULL, CELL_ERROR_BUSY, "%d", 7));
  g_assert_error (error, CELL_ERROR_DOMAIN, 7);
  g_assert_cmpint (cell_status_from_error (error), ==, CELL_ERROR_BUSY);
  g_assert_cmpint (cell_status_from_error (NULL), ==, CELL_OK);
  g_assert_cmpint (cell_status_from_error (file), ==, CELL_ERROR_NOT_FOUND);
  g_assert_false (g_utf8_to_utf16 ("\xff", -1, NULL, NULL, &foreign) != NULL);
  g_assert_cmpint (cell_status_from_error (foreign), ==, CELL_ERROR_FAILED);
}

/* ---- numbers --------------------------------------------------------------------------------------------- */

static void
check_numbers (const Contract *contract, const char *const *callables, const char *const *signals)
{
  for (guint i = 0; i < contract->n_callables; i++)
    {
      g_assert_cmpstr (contract->callables[i].name, ==, callables[i]);
      g_assert_true (contract_find (contract, callables[i]) == &contract->callables[i]);
    }
  for (guint i = 0; i < contract->n_signals; i++)
    {
      g_assert_cmpstr (contract->signals[i].name, ==, signals[i]);
      g_assert_true (contract_find_signal (contract, signals[i]) == &contract->signals[i]);
    }
}

/* What was there keeps its number, also when it has been numbered anew before. */
static void
test_numbers (void)
{
  static const char *const first[] = { "c", "e", "@p" }, *const second[] = { "c", "e", "@p", "b", "d", "=p" };
  static const char *const third[] = { "c", "e", "@p", "b", "d", "=p", "a" };
  static const char *const few[] = { "s" }, *const more[] = { "s", "r" }, *const most[] = { "s", "r", "q", "t" };
  g_autoptr (Contract) one = parse ("interface org.example.N 1\nmethod c () -> ()\nmethod e () -> ()\nproperty p u32\n"
                                    "signal s ()\n");
  g_autoptr (Contract) two = parse ("interface org.example.N 1\nmethod b () -> ()\nmethod c () -> ()\nmethod d () -> ()\n"
                                    "method e () -> ()\nproperty p u32 writable\nsignal r ()\nsignal s ()\n");
  g_autoptr (Contract) three = parse ("interface org.example.N 1\nmethod a () -> ()\nmethod b () -> ()\nmethod c () -> ()\n"
                                      "method d () -> ()\nmethod e () -> ()\nproperty p u32 writable\n"
                                      "signal q ()\nsignal r ()\nsignal s ()\nsignal t ()\n");

  check_numbers (one, first, few);
  contract_number_like (two, one);
  check_numbers (two, second, more);
  contract_number_like (three, two);
  check_numbers (three, third, most);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/contract/every-kind", test_every_kind);
  g_test_add_func ("/contract/canonical", test_canonical);
  g_test_add_func ("/contract/refusals", test_refusals);
  g_test_add_func ("/contract/bounds", test_bounds);
  g_test_add_func ("/contract/nesting", test_nesting);
  g_test_add_func ("/contract/uses", test_uses);
  g_test_add_func ("/contract/random", test_random);
  g_test_add_func ("/contract/truncated", test_truncated);
  g_test_add_func ("/contract/mutated", test_mutated);
  g_test_add_func ("/contract/fingerprints", test_fingerprints);
  g_test_add_func ("/contract/compatible", test_compatible);
  g_test_add_func ("/contract/compatible-one-way", test_compatible_one_way);
  g_test_add_func ("/contract/errors", test_errors);
  g_test_add_func ("/contract/numbers", test_numbers);
  return g_test_run ();
}

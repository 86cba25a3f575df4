/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * introspect, client, call: what a cell offers, read at run time.
 */
#include <string.h>

#include "api/json-contract.h"
#include "api/json-scan.h"
#include "api/text-value.h"
#include "command.h"
#include "files.h"
#include "plugins/client-header.h"
#include "plugins/contract.h"
#include "plugins/suggest.h"
#include "value-print.h"

#define BLOB_BYTES_MAX (256u << 20)     /* what a host takes of a program */
#define BYTES_MAX (1u << 20)            /* of a request */

static Contract *
fetch_contract (Session *session, const char *cell, GError **error)
{
  cell_auto HostIntrospect reply = host_introspect (session->host, .name = cell);

  if (!check_cell (session, cell, &reply.result, error))
    return NULL;
  return contract_new_from_text (reply.contract, -1, error);
}

/* Behind the contract: which file that is of. */
static void
print_origin (const HostIntrospect *reply)
{
  g_autofree char *line = NULL;

  if (*reply->sha256 == 0)
    return;
  line = g_strdup_printf ("# file: %s%s%s%s, SHA-256 %s\n", reply->origin, *reply->foreign != 0 ? " (" : "", reply->foreign,
                          *reply->foreign != 0 ? ")" : "", reply->sha256);
  print_text (line);
}

static void
add_origin (JsonObject *to, const HostIntrospect *reply)
{
  json_object_set_string_member (to, "origin", reply->origin);
  json_object_set_string_member (to, "foreign", *reply->foreign != 0 ? reply->foreign : NULL);
  json_object_set_string_member (to, "sha256", *reply->sha256 != 0 ? reply->sha256 : NULL);
}

gboolean
command_introspect (Session *session, char **args, GError **error)
{
  cell_auto HostIntrospect reply = host_introspect (session->host, .name = args[0]);
  g_autoptr(Contract) contract = NULL;
  g_autofree char *text = NULL;
  JsonNode *node;

  if (!check_cell (session, args[0], &reply.result, error)
      || (contract = contract_new_from_text (reply.contract, -1, error)) == NULL)
    return FALSE;
  if (session->json)
    {
      node = contract_to_json (contract);
      add_origin (json_node_get_object (node), &reply);
      print_json (node);
      return TRUE;
    }
  text = contract_to_text (contract, TRUE);
  print_text (text);
  print_origin (&reply);
  return TRUE;
}

gboolean
command_client (Session *session, char **args, GError **error)
{
  g_autoptr(Contract) contract = fetch_contract (session, args[0], error);
  g_autofree char *header = contract != NULL ? client_header_new (contract, error) : NULL;

  if (header == NULL)
    return FALSE;
  print_text (header);
  return TRUE;
}

/* ---- files in arguments and replies --------------------------------------------------------------------- */

/* "@FILE" */
static CellBlob *
blob_from_text (const char *text, gpointer data, GError **error)
{
  Session *session = data;
  g_autoptr(GBytes) bytes = NULL;
  CellBlob *blob;

  if (text[0] != '@')
    {
      cell_set_error (error, CELL_ERROR_INVALID, _("a blob is given as @FILE"));
      return NULL;
    }
  bytes = read_file (text + 1, BLOB_BYTES_MAX, error);
  if (bytes == NULL)
    return NULL;
  blob = cell_bus_blob (session->bus, g_bytes_get_size (bytes));
  if (blob == NULL)
    cell_set_error (error, CELL_ERROR_NO_RESOURCES, _("there is no memory for a copy of %s"), text + 1);
  else if (g_bytes_get_size (bytes) > 0)
    memcpy (cell_blob_data (blob), g_bytes_get_data (bytes, NULL), g_bytes_get_size (bytes));
  return blob;
}

static GBytes *
bytes_from_text (const char *text, gpointer data, GError **error)
{
  (void) data;
  return read_file (text + 1, BYTES_MAX, error);
}

/* A reply as it is shown, and the blobs that were in it. */
typedef struct
{
  const char *output;
  guint n_blobs;
} Shown;

static JsonNode *
blob_to_json (CellBlob *blob, gpointer data, GError **error)
{
  Shown *shown = data;
  g_autofree char *path = NULL, *text = NULL;

  shown->n_blobs++;
  if (shown->output == NULL)
    text = g_strdup_printf ("%" G_GSIZE_FORMAT " bytes", cell_blob_size (blob));
  else
    {
      if (shown->n_blobs == 1 || g_str_equal (shown->output, "-"))
        path = g_strdup (shown->output);
      else
        path = g_strdup_printf ("%s.%u", shown->output, shown->n_blobs);
      if (!write_file (path, cell_blob_data (blob), cell_blob_size (blob), error))
        return NULL;
      text = g_strconcat ("@", path, NULL);
    }
  return json_node_init_string (json_node_alloc (), text);
}

/* ---- a call that was not compiled in ------------------------------------------------------------------- */

/* The rows of one role as those of a struct, and its type as a generated header would have it. */
static void
rows_to_type (const CellField *rows, guint n, uint32_t size, const char *name, CellField *to, CellType *ret)
{
  memcpy (to, rows, n * sizeof *rows);
  for (guint i = 0; i < n; i++)
    to[i].role = CELL_ROLE_FIELD;
  *ret = (CellType) {
    .name = name, .kind = CELL_KIND_STRUCT, .align = 8, .n_fields = (uint16_t) n, .size = n > 0 ? size : 0, .fields = to
  };
}

static gboolean
show (Session *session, const ContractCallable *callable, const void *outputs, GError **error)
{
  Shown shown = { .output = session->output };
  const ValueHooks hooks = { .blob_to_json = blob_to_json, .data = &shown };

  if (session->json)
    {
      JsonNode *node = value_to_json (callable->out, callable->n_out, CELL_ROLE_OUT, outputs, &hooks, error);

      if (node == NULL)
        return FALSE;
      print_json (node);
    }
  else
    {
      g_autoptr(GString) text = g_string_new (NULL);

      if (!value_print (callable->out, callable->n_out, CELL_ROLE_OUT, outputs, &hooks, text, error))
        return FALSE;
      if (g_strcmp0 (session->output, "-") != 0)        /* there the blob stands */
        print_text (text->str);
    }
  if (session->output != NULL && shown.n_blobs == 0)
    return cell_set_error (error, CELL_ERROR_NOT_FOUND,
                           _("%s was not written: the call was executed, and there is no blob in its reply"), session->output);
  return TRUE;
}

/* The client library says of which method it speaks, and so do we; a cell that says nothing has said what its error means. */
static gboolean
check_call (Session *session, const CellResult *result, const char *cell, const Contract *contract, const char *method,
            GError **error)
{
  g_autofree char *what = g_strdup_printf ("%s.%s", cell, method), *prefix = g_strconcat (method, ": ", NULL), *more = NULL;
  const char *dot = result->error != NULL ? strrchr (result->error, '.') : NULL;
  const CellItem *item = dot != NULL ? contract_find_item (contract, CELL_ITEM_ERROR, dot + 1) : NULL;
  CellResult better = *result;

  if (better.message != NULL && g_str_has_prefix (better.message, prefix))
    better.message += strlen (prefix);
  if (item != NULL && (better.message == NULL || *better.message == 0))
    better.message = item->doc;
  if (better.status == CELL_ERROR_CRASHED && has_cell (session, cell))
    better.message = more = g_strdup_printf (_("%s; see 'cellctl logs %s'"),
                                             better.message != NULL ? better.message : cell_error_text (better.status), cell);
  return check_result (&better, what, error);
}

static gboolean
call (Session *session, const char *cell, const Contract *contract, const ContractCallable *callable, const void *in,
      GError **error)
{
  CellField args_rows[CONTRACT_MAX_FIELDS], reply_rows[CONTRACT_MAX_FIELDS];
  CellType args, reply;
  CellRemoteMethod method = { .name = callable->name, .fingerprint = callable->fingerprint, .args = &args, .reply = &reply,
                              .timeout = callable->timeout, .flags = callable->flags };
  CellRemote remote = { .size = sizeof remote,
                        .version = contract->version,
                        .interface = contract->interface,
                        .contract = contract->fingerprint,
                        .n_methods = 1,
                        .method_size = sizeof method,
                        .signal_size = sizeof (CellRemoteSignal),
                        .methods = &method };
  CellClient *client;
  CellResult *result;
  gboolean good;

  rows_to_type (callable->in, callable->n_in, callable->in_size, "Args", args_rows, &args);
  rows_to_type (callable->out, callable->n_out, (callable->out_size + 7) & ~7u, "Reply", reply_rows, &reply);
  client = cell_bind_remote (session->bus, cell, &remote);
  if (session->timeout > 0)
    client->api->set_timeout (client, (uint32_t) session->timeout * 1000);
  result = g_malloc0 (sizeof *result + reply.size);
  client->api->call (client, 0, in, result);
  good = check_call (session, result, cell, contract, callable->name, error) && show (session, callable, result + 1, error);
  cell_reply_free (result);
  g_free (result);
  client->api->close (client);
  return good;
}

/* The callables of that kind, '@' or '=', as they are called; 0: the methods. */
static GPtrArray *
names_of (const Contract *contract, char kind)
{
  GPtrArray *names = g_ptr_array_new ();

  for (guint i = 0; i < contract->n_callables; i++)
    if (kind != 0 && contract->callables[i].name[0] == kind)
      g_ptr_array_add (names, (char *) contract->callables[i].name + 1);
    else if (kind == 0)
      g_ptr_array_add (names, (char *) contract->callables[i].name);
  g_ptr_array_add (names, NULL);
  return names;
}

static gboolean
unknown_property (const Contract *contract, const char *cell, const char *property, GError **error)
{
  g_autoptr(GPtrArray) names = names_of (contract, '@');
  g_autofree char *all = g_strjoinv (", ", (char **) names->pdata);
  const char *meant = suggest (property, (const char *const *) names->pdata);

  if (meant != NULL)
    return cell_set_error (error, CELL_ERROR_NO_METHOD, _("cell %s has no property %s; did you mean %s?"), cell, property, meant);
  if (*all == 0)
    return cell_set_error (error, CELL_ERROR_NO_METHOD, _("cell %s has no property %s; it has none at all"), cell, property);
  return cell_set_error (error, CELL_ERROR_NO_METHOD, _("cell %s has no property %s; it has: %s"), cell, property, all);
}

static gboolean
unknown_method (const Contract *contract, const char *cell, const char *method, GError **error)
{
  g_autoptr(GPtrArray) names = names_of (contract, 0);
  g_autofree char *all = NULL;
  const char *meant;

  if (*method == '=' && contract_find_item (contract, CELL_ITEM_PROPERTY, method + 1) != NULL)
    return cell_set_error (error, CELL_ERROR_NO_METHOD, _("cell %s: the property %s is read-only; @%s reads it"), cell, method + 1,
                           method + 1);
  if (contract_find_item (contract, CELL_ITEM_SIGNAL, method) != NULL)
    return cell_set_error (error, CELL_ERROR_NO_METHOD,
                           _("cell %s: %s is a signal, and not called; programs and other cells subscribe to it"), cell, method);
  if (*method == '@' || *method == '=')
    return unknown_property (contract, cell, method + 1, error);
  meant = suggest (method, (const char *const *) names->pdata);
  if (meant != NULL)
    return cell_set_error (error, CELL_ERROR_NO_METHOD, _("cell %s has no method %s; did you mean %s?"), cell, method, meant);
  if (contract->n_callables == 0)
    return cell_set_error (error, CELL_ERROR_NO_METHOD, _("cell %s has no method %s; it has none at all"), cell, method);
  all = g_strjoinv (", ", (char **) names->pdata);
  return cell_set_error (error, CELL_ERROR_NO_METHOD, _("cell %s has no method %s; it has: %s"), cell, method, all);
}

static gboolean
has_blob (const CellField *rows, guint n, int role)
{
  for (guint i = 0; i < n; i++)
    if (rows[i].role == role && rows[i].type != NULL
        && (rows[i].type->kind == CELL_KIND_BLOB || has_blob (rows[i].type->fields, rows[i].type->n_fields, CELL_ROLE_FIELD)))
      return TRUE;
  return FALSE;
}

static gboolean
read_arguments (Session *session, const ContractCallable *callable, char **words, ValueArena *arena, void *in, GError **error)
{
  const ValueHooks hooks = {
    .blob_from_text = blob_from_text, .blob_unref = cell_blob_unref, .bytes_from_text = bytes_from_text, .data = session
  };
  g_autoptr(GBytes) text = NULL;

  if (session->input == NULL)
    return words_to_value (callable->in, callable->n_in, CELL_ROLE_IN, (const char *const *) words, &hooks, arena, in, error);
  if (*words != NULL)
    return cell_set_error (error, CELL_ERROR_INVALID, _("arguments come from --input or from the command line, not from both"));
  text = read_file (session->input, JSON_SCAN_MAX_SIZE, error);
  return text != NULL
         && json_text_to_value (callable->in, callable->n_in, CELL_ROLE_IN, g_bytes_get_data (text, NULL),
                                (gssize) g_bytes_get_size (text), &hooks, arena, in, error);
}

/* What can be known of it before anything is done. */
static gboolean
check_output_of_call (const Session *session, char **args, const ContractCallable *callable, GError **error)
{
  if (!has_blob (callable->out, callable->n_out, CELL_ROLE_OUT))
    return cell_set_error (error, CELL_ERROR_INVALID, _("%s.%s returns no blob that %s could be written with; nothing was done"),
                           args[0], args[1], session->output);
  if (session->json && g_str_equal (session->output, "-"))
    return cell_set_error (error, CELL_ERROR_INVALID, _("--json and --output=- would both write to standard output"));
  if (check_writable (session->output, error))
    return TRUE;
  g_prefix_error (error, "%s.%s: ", args[0], args[1]);
  return FALSE;
}

gboolean
command_call (Session *session, char **args, GError **error)
{
  g_auto(ValueArena) arena = VALUE_ARENA_INIT;
  g_autoptr(Contract) contract = fetch_contract (session, args[0], error);
  g_autofree void *in = NULL;
  const ContractCallable *callable;

  if (contract == NULL)
    return FALSE;
  callable = contract_find (contract, args[1]);
  if (callable == NULL)
    return unknown_method (contract, args[0], args[1], error);
  if (session->output != NULL && !check_output_of_call (session, args, callable, error))
    return FALSE;
  in = g_malloc0 (MAX (callable->in_size, 8));
  if (!read_arguments (session, callable, args + 2, &arena, in, error))
    {
      g_prefix_error (error, "%s.%s: ", args[0], args[1]);
      return FALSE;
    }
  return call (session, args[0], contract, callable, in, error);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * introspect, client, call: what a cell offers, read at run time.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "api/json-scan.h"
#include "api/text-value.h"
#include "command.h"
#include "plugins/client-header.h"
#include "plugins/contract.h"
#include "value-print.h"

static Contract *
fetch_contract (Session *session, const char *cell, GError **error)
{
  cell_auto HostIntrospect reply = host_introspect (session->host, .name = cell);

  if (!check_result (&reply.result, NULL, error))
    return NULL;
  return contract_new_from_text (reply.contract, -1, error);
}

gboolean
command_introspect (Session *session, char **args, GError **error)
{
  g_autoptr(Contract) contract = NULL;
  g_autofree char *text = NULL;

  if (!check_args (args, 1, 1, "introspect CELL", error) || (contract = fetch_contract (session, args[0], error)) == NULL)
    return FALSE;
  text = contract_to_text (contract, TRUE);
  if (session->json)
    {
      g_autoptr(JsonNode) node = json_node_new (JSON_NODE_OBJECT);
      g_autoptr(JsonObject) object = json_object_new ();
      g_autofree char *fingerprint = g_strdup_printf ("%016" G_GINT64_MODIFIER "x", contract->fingerprint), *written = NULL;

      json_object_set_string_member (object, "interface", contract->interface);
      json_object_set_int_member (object, "version", contract->version);
      json_object_set_string_member (object, "fingerprint", fingerprint);
      json_object_set_string_member (object, "contract", text);
      json_node_set_object (node, object);
      written = json_write (node, TRUE);
      g_print ("%s\n", written);
    }
  else
    g_print ("%s", text);
  return TRUE;
}

gboolean
command_client (Session *session, char **args, GError **error)
{
  g_autoptr(Contract) contract = NULL;
  g_autofree char *header = NULL;

  if (!check_args (args, 1, 1, "client CELL", error) || (contract = fetch_contract (session, args[0], error)) == NULL
      || (header = client_header_new (contract, error)) == NULL)
    return FALSE;
  g_print ("%s", header);
  return TRUE;
}

/* ---- a call that was not compiled in ------------------------------------------------------------------- */

/* "@FILE": the file's bytes. */
static CellBlob *
blob_from_text (const char *text, gpointer data, GError **error)
{
  Session *session = data;
  g_autofree char *bytes = NULL;
  CellBlob *blob;
  gsize size;

  if (text[0] != '@')
    {
      cell_set_error (error, CELL_ERROR_INVALID, "a blob is given as @FILE");
      return NULL;
    }
  if (!g_file_get_contents (text + 1, &bytes, &size, NULL))
    {
      cell_set_error (error, CELL_ERROR_NOT_FOUND, "%s cannot be read", text + 1);
      return NULL;
    }
  blob = cell_bus_blob (session->bus, size);
  if (blob == NULL)
    cell_set_error (error, CELL_ERROR_NO_RESOURCES, "there is no memory for a blob of %" G_GSIZE_FORMAT " bytes", size);
  else if (size > 0)
    memcpy (cell_blob_data (blob), bytes, size);
  return blob;
}

static JsonNode *
blob_to_json (CellBlob *blob, gpointer data, GError **error)
{
  JsonNode *node = json_node_new (JSON_NODE_VALUE);
  g_autofree char *text = g_strdup_printf ("%" G_GSIZE_FORMAT " bytes", cell_blob_size (blob));

  (void) data;
  (void) error;
  json_node_set_string (node, text);
  return node;
}

/* The rows of one role as those of a struct, and its type as a generated header would have it. */
static void
rows_to_type (const CellField *rows, guint n, uint32_t size, const char *name, CellField *to, CellType *ret)
{
  memcpy (to, rows, n * sizeof *rows);
  for (guint i = 0; i < n; i++)
    to[i].role = CELL_ROLE_FIELD;
  *ret = (CellType) { .name = name, .kind = CELL_KIND_STRUCT, .align = 8, .n_fields = (uint16_t) n, .size = n > 0 ? size : 0, .fields = to };
}

static gboolean
show (Session *session, const ContractCallable *callable, const void *outputs, GError **error)
{
  const ValueHooks hooks = { .blob_to_json = blob_to_json, .data = session };

  if (session->json)
    {
      g_autoptr(JsonNode) node = value_to_json (callable->out, callable->n_out, CELL_ROLE_OUT, outputs, &hooks, error);
      g_autofree char *text = node != NULL ? json_write (node, TRUE) : NULL;

      if (text == NULL)
        return FALSE;
      g_print ("%s\n", text);
    }
  else
    {
      g_autoptr(GString) text = g_string_new (NULL);

      if (!value_print (callable->out, callable->n_out, CELL_ROLE_OUT, outputs, &hooks, text, error))
        return FALSE;
      g_print ("%s", text->str);
    }
  return TRUE;
}

static gboolean
call (Session *session, const char *cell, const Contract *contract, const ContractCallable *callable, const void *in, GError **error)
{
  CellField args_rows[CONTRACT_MAX_FIELDS], reply_rows[CONTRACT_MAX_FIELDS];
  CellType args, reply;
  CellRemoteMethod method = { .name = callable->name, .fingerprint = callable->fingerprint, .args = &args, .reply = &reply,
                              .timeout = callable->timeout, .flags = callable->flags };
  CellRemote remote = { .size = sizeof remote, .version = contract->version, .interface = contract->interface, .contract = contract->fingerprint,
                        .n_methods = 1, .method_size = sizeof method, .signal_size = sizeof (CellRemoteSignal), .methods = &method };
  CellClient *client;
  CellResult *result;
  g_autofree char *what = g_strdup_printf ("%s.%s", cell, callable->name);
  gboolean good;

  rows_to_type (callable->in, callable->n_in, callable->in_size, "Args", args_rows, &args);
  rows_to_type (callable->out, callable->n_out, (callable->out_size + 7) & ~7u, "Reply", reply_rows, &reply);
  client = cell_bind_remote (session->bus, cell, &remote);
  result = g_malloc0 (sizeof *result + reply.size);
  client->api->call (client, 0, in, result);
  good = check_result (result, what, error) && show (session, callable, result + 1, error);
  if (result->memory != NULL)
    result->release (result->memory);
  g_free (result);
  client->api->close (client);
  return good;
}

static gboolean
unknown_method (const Contract *contract, const char *cell, const char *method, GError **error)
{
  g_autoptr(GString) names = g_string_new (NULL);

  for (guint i = 0; i < contract->n_callables; i++)
    g_string_append_printf (names, "%s%s", i > 0 ? ", " : "", contract->callables[i].name);
  return cell_set_error (error, CELL_ERROR_NO_METHOD, "cell %s has no method %s; it has %s", cell, method, names->len > 0 ? names->str : "none");
}

gboolean
command_call (Session *session, char **args, GError **error)
{
  const ValueHooks hooks = { .blob_from_text = blob_from_text, .blob_unref = cell_blob_unref, .data = session };
  g_auto(ValueArena) arena = VALUE_ARENA_INIT;
  g_autoptr(Contract) contract = NULL;
  g_autofree void *in = NULL;
  const ContractCallable *callable;

  if (!check_args (args, 2, 1000, "call CELL METHOD [ARGUMENT…]", error))
    return FALSE;
  for (char **arg = args; *arg != NULL; arg++)
    if (!g_utf8_validate (*arg, -1, NULL))
      return cell_set_error (error, CELL_ERROR_INVALID, "argument %u is not UTF-8", (guint) (arg - args) + 1);
  contract = fetch_contract (session, args[0], error);
  if (contract == NULL)
    return FALSE;
  callable = contract_find (contract, args[1]);
  if (callable == NULL)
    return unknown_method (contract, args[0], args[1], error);
  in = g_malloc0 (MAX (callable->in_size, 8));
  if (!words_to_value (callable->in, callable->n_in, CELL_ROLE_IN, (const char *const *) args + 2, &hooks, &arena, in, error))
    return FALSE;
  return call (session, args[0], contract, callable, in, error);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "api/json-contract.h"

static void
set_doc (JsonObject *to, const char *doc)
{
  if (doc == NULL || *doc == 0)
    json_object_set_null_member (to, "doc");
  else
    json_object_set_string_member (to, "doc", doc);
}

static void
set_fingerprint (JsonObject *to, const char *key, uint64_t fingerprint)
{
  g_autofree char *digits = g_strdup_printf ("%016" G_GINT64_MODIFIER "x", fingerprint);

  json_object_set_string_member (to, key, digits);
}

static void
set_number (JsonObject *to, const char *key, uint32_t value)
{
  if (value == 0)
    json_object_set_null_member (to, key);
  else
    json_object_set_int_member (to, key, value);
}

static void
set_rows (JsonObject *to, const char *key, const CellField *rows, guint n_rows)
{
  static const char *const shapes[] = {
    [CELL_SHAPE_PLAIN] = "plain", [CELL_SHAPE_ARRAY] = "array", [CELL_SHAPE_OPTIONAL] = "optional"
  };
  JsonArray *array = json_array_sized_new (n_rows);

  for (guint i = 0; i < n_rows; i++)
    {
      JsonObject *row = json_object_new ();

      json_object_set_string_member (row, "name", rows[i].name);
      json_object_set_string_member (row, "type", rows[i].type->name);
      json_object_set_string_member (row, "shape", shapes[rows[i].shape]);
      set_doc (row, rows[i].doc);
      json_array_add_object_element (array, row);
    }
  json_object_set_array_member (to, key, array);
}

static void
set_errors (JsonObject *to, const CellItem *item)
{
  JsonArray *array = json_array_new ();

  for (guint i = 0; i < item->n_fields; i++)
    if (item->fields[i].role == CELL_ROLE_FAILS)
      json_array_add_string_element (array, item->fields[i].name);
  json_object_set_array_member (to, "errors", array);
}

static void
set_bounds (JsonObject *to, const ContractCallable *callable)
{
  json_object_set_string_member (to, "access", contract_access_word (callable->access));
  set_number (to, "timeout", callable->timeout);
  set_number (to, "max_reply", callable->max_reply);
}

/* ---- items ---------------------------------------------------------------------------------------------- */

static void
describe_method (JsonObject *to, const Contract *contract, const CellItem *item)
{
  const ContractCallable *callable = contract_find (contract, item->name);

  set_fingerprint (to, "fingerprint", callable->fingerprint);
  set_rows (to, "arguments", callable->in, callable->n_in);
  set_rows (to, "outputs", callable->out, callable->n_out);
  set_errors (to, item);
  for (int attribute = CELL_ATTRIBUTE_IDEMPOTENT; attribute <= CELL_ATTRIBUTE_JOB; attribute++)
    json_object_set_boolean_member (to, contract_attribute_word (attribute), (callable->flags >> attribute & 1) != 0);
  set_bounds (to, callable);
}

static void
describe_property (JsonObject *to, const Contract *contract, const CellItem *item)
{
  g_autofree char *getter = g_strconcat ("@", item->name, NULL), *setter = g_strconcat ("=", item->name, NULL);
  const ContractCallable *get = contract_find (contract, getter), *set = contract_find (contract, setter);

  json_object_set_string_member (to, "type", item->type->name);
  json_object_set_boolean_member (to, "writable", set != NULL);
  set_bounds (to, get);
  set_fingerprint (to, "fingerprint", get->fingerprint);
  if (set != NULL)
    set_fingerprint (to, "setter_fingerprint", set->fingerprint);
  else
    json_object_set_null_member (to, "setter_fingerprint");
}

static void
describe_signal (JsonObject *to, const Contract *contract, const CellItem *item)
{
  const ContractSignal *signal = contract_find_signal (contract, item->name);

  set_fingerprint (to, "fingerprint", signal->fingerprint);
  set_rows (to, "arguments", signal->args, signal->n_args);
}

static void
set_items (JsonObject *to, const char *key, const Contract *contract, int kind,
           void (*describe) (JsonObject *to, const Contract *contract, const CellItem *item))
{
  JsonArray *array = json_array_new ();

  for (guint i = 0; i < contract->n_items; i++)
    {
      const CellItem *item = &contract->items[i];
      JsonObject *object;

      if (item->kind != kind)
        continue;
      object = json_object_new ();
      json_object_set_string_member (object, "name", item->name);
      set_doc (object, item->doc);
      if (describe != NULL)
        describe (object, contract, item);
      json_array_add_object_element (array, object);
    }
  json_object_set_array_member (to, key, array);
}

static void
set_structs (JsonObject *to, const Contract *contract)
{
  JsonArray *array = json_array_sized_new (contract->n_structs);

  for (guint i = 0; i < contract->n_structs; i++)
    {
      JsonObject *object = json_object_new ();

      json_object_set_string_member (object, "name", contract->structs[i]->name);
      set_rows (object, "members", contract->structs[i]->fields, contract->structs[i]->n_fields);
      json_array_add_object_element (array, object);
    }
  json_object_set_array_member (to, "structs", array);
}

JsonNode *
contract_to_json (const Contract *contract)
{
  JsonObject *object = json_object_new ();
  JsonNode *node = json_node_new (JSON_NODE_OBJECT);

  json_object_set_string_member (object, "interface", contract->interface);
  json_object_set_int_member (object, "version", contract->version);
  set_doc (object, contract->doc);
  set_fingerprint (object, "fingerprint", contract->fingerprint);
  set_structs (object, contract);
  set_items (object, "methods", contract, CELL_ITEM_METHOD, describe_method);
  set_items (object, "properties", contract, CELL_ITEM_PROPERTY, describe_property);
  set_items (object, "signals", contract, CELL_ITEM_SIGNAL, describe_signal);
  set_items (object, "errors", contract, CELL_ITEM_ERROR, NULL);
  json_node_take_object (node, object);
  return node;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A contract for programs:
 *
 *   { "interface": "org.example.Ledger", "version": 1, "doc": "…", "fingerprint": "0f1e2d3c4b5a6978",
 *     "structs":    [ { "name", "members": ROWS } ],
 *     "methods":    [ { "name", "doc", "fingerprint", "arguments": ROWS, "outputs": ROWS, "errors": [ "InvalidAmount" ],
 *                       "idempotent", "oneway", "job", "access", "timeout", "max_reply" } ],
 *     "properties": [ { "name", "doc", "type", "writable", "access", "timeout", "max_reply", "fingerprint",
 *                       "setter_fingerprint" } ],
 *     "signals":    [ { "name", "doc", "fingerprint", "arguments": ROWS } ],
 *     "errors":     [ { "name", "doc" } ] }
 *
 * ROWS is a list of { "name", "type", "shape", "doc" }: the type is "u64", "str" … or a struct's name, the shape "plain", "array"
 * or "optional".  Every member is always there; null: nothing was said.  Fingerprints are 16 hexadecimal digits, `timeout` is in
 * milliseconds, `max_reply` in bytes.  A struct stands before its first use.
 */
#pragma once
#include <json-glib/json-glib.h>

#include "plugins/contract.h"

JsonNode *contract_to_json (const Contract *contract);

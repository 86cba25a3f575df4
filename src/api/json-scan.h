/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * JSON that somebody else wrote.  json-glib's parser has no nesting limit, takes single quotes and duplicate members, and mangles
 * numbers and NULs, so it never sees foreign bytes: they are scanned here, strictly by RFC 8259 and within bounds, into a flat
 * tree that keeps numbers as text.
 *
 * Refused beyond the grammar: bytes that are not UTF-8, lone surrogates, \u0000, duplicate members, numbers that a double cannot
 * hold, and what exceeds a bound below.
 */
#pragma once
#include <json-glib/json-glib.h>

#define JSON_SCAN_MAX_DEPTH 64
#define JSON_SCAN_MAX_MEMBERS 1024      /* of one object: what hashes members later cannot be made to crawl */
#define JSON_SCAN_MAX_NUMBER 1100       /* characters; the longest double written out exactly has 1,077 */
#define JSON_SCAN_MAX_SIZE (4u << 20)   /* of a text, when the caller does not say */

typedef enum
{
  JSON_SCAN_NULL, JSON_SCAN_FALSE, JSON_SCAN_TRUE, JSON_SCAN_INTEGER, JSON_SCAN_REAL,
  JSON_SCAN_STRING, JSON_SCAN_ARRAY, JSON_SCAN_OBJECT
} JsonScanType;

/* A value.  Its children follow it; json_scan_next () skips a child with all that is in it. */
typedef struct
{
  guint32 type;                 /* JsonScanType */
  guint32 n_children;
  guint32 span;                 /* nodes: this one and all below it */
  guint32 size;                 /* bytes of text */
  const char *key;              /* of a member of an object, unescaped; else NULL */
  const char *text;             /* a number as it was written, a string unescaped; else NULL */
} JsonScanNode;

typedef struct JsonScan JsonScan;

/* Scans a whole text; length -1: up to the NUL; limit 0: JSON_SCAN_MAX_SIZE.  The error gives line and column. */
JsonScan *json_scan_new (const char *text, gssize length, gsize limit, GError **error);
void json_scan_free (JsonScan *scan);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (JsonScan, json_scan_free)

const JsonScanNode *json_scan_root (const JsonScan *scan);

static inline const JsonScanNode *
json_scan_first (const JsonScanNode *node)
{
  return node + 1;
}

static inline const JsonScanNode *
json_scan_next (const JsonScanNode *node)
{
  return node + node->span;
}

/* "a string", "an object" …, for sentences. */
const char *json_scan_describe (const JsonScanNode *node);

/* Whether text is a whole number as JSON writes it: no sign but a minus, no leading zeros, no fraction, no exponent. */
gboolean json_scan_is_integer (const char *text);

/* The same as json-glib's tree.  Refuses integers beyond 64 bits with a sign, which a JsonNode cannot hold. */
JsonNode *json_scan_to_node (const JsonScanNode *node, GError **error);

/* The other way round: what json_to_string () should have been, which leaves U+001F as it is.  pretty: by lines, indented. */
char *json_write (JsonNode *node, gboolean pretty);

/* The shortest of the usual forms that reads back as the same number. */
char *json_write_double (double value);

/* Text for a person: control characters and what turns the direction of writing as JSON escapes, so that nobody's bytes can command
 * a terminal; in quotes unless quote is 0; cut after max_chars characters unless that is 0. */
char *json_escape_text (const char *text, guint max_chars, char quote);

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Prints the layout of all that crosses the boundary.  The output is compared with layout.txt; a change there is a change of the
 * ABI and is explained in docs/abi.md.
 */
#include <stdio.h>

#include <cell/client.h>

#define STRUCT(S) printf ("%s %zu\n", #S, sizeof (S));
#define MEMBER(S, m) printf ("  %s %zu %zu\n", #m, offsetof (S, m), sizeof (((S *) 0)->m));
#define VALUE(name) printf ("%s %lld\n", #name, (long long) name);
#define ERROR_VALUE(NAME, code, Name, exit, text) VALUE (CELL_ERROR_##NAME)

static void
print_tables (void)
{
  STRUCT (CellBytes) MEMBER (CellBytes, data) MEMBER (CellBytes, size)
  STRUCT (CellType)
  MEMBER (CellType, name) MEMBER (CellType, kind) MEMBER (CellType, align) MEMBER (CellType, n_fields) MEMBER (CellType, size)
  MEMBER (CellType, fields)
  STRUCT (CellField)
  MEMBER (CellField, name) MEMBER (CellField, doc) MEMBER (CellField, type) MEMBER (CellField, error) MEMBER (CellField, offset)
  MEMBER (CellField, extra) MEMBER (CellField, value) MEMBER (CellField, shape) MEMBER (CellField, role)
  MEMBER (CellField, attribute)
  STRUCT (CellItem)
  MEMBER (CellItem, size) MEMBER (CellItem, kind) MEMBER (CellItem, n_fields) MEMBER (CellItem, in_size) MEMBER (CellItem, out_size)
  MEMBER (CellItem, owner) MEMBER (CellItem, name) MEMBER (CellItem, doc) MEMBER (CellItem, fields) MEMBER (CellItem, type)
  MEMBER (CellItem, invoke) MEMBER (CellItem, set)
  STRUCT (CellOptions)
  MEMBER (CellOptions, doc) MEMBER (CellOptions, threading) MEMBER (CellOptions, state_version) MEMBER (CellOptions, init)
  MEMBER (CellOptions, fini) MEMBER (CellOptions, save) MEMBER (CellOptions, restore)
  STRUCT (CellEntry)
  MEMBER (CellEntry, magic) MEMBER (CellEntry, size) MEMBER (CellEntry, abi_major) MEMBER (CellEntry, abi_minor)
  MEMBER (CellEntry, build) MEMBER (CellEntry, type_size) MEMBER (CellEntry, field_size) MEMBER (CellEntry, options_size)
  MEMBER (CellEntry, version) MEMBER (CellEntry, self_size) MEMBER (CellEntry, interface) MEMBER (CellEntry, owner)
  MEMBER (CellEntry, items) MEMBER (CellEntry, items_end) MEMBER (CellEntry, host) MEMBER (CellEntry, construct)
  MEMBER (CellEntry, destruct) MEMBER (CellEntry, options)
}

static void
print_host (void)
{
  STRUCT (CellHost)
  MEMBER (CellHost, size) MEMBER (CellHost, abi_major) MEMBER (CellHost, abi_minor) MEMBER (CellHost, get_extension)
  MEMBER (CellHost, alloc) MEMBER (CellHost, fail) MEMBER (CellHost, fail_status) MEMBER (CellHost, print) MEMBER (CellHost, emit)
  MEMBER (CellHost, log)
  STRUCT (CellHostDefer)
  MEMBER (CellHostDefer, defer) MEMBER (CellHostDefer, resume) MEMBER (CellHostDefer, request) MEMBER (CellHostDefer, answer)
  STRUCT (CellHostClient) MEMBER (CellHostClient, use)
  STRUCT (CellHostConfig) MEMBER (CellHostConfig, get)
  STRUCT (CellHostBlob)
  MEMBER (CellHostBlob, create) MEMBER (CellHostBlob, data) MEMBER (CellHostBlob, get_size) MEMBER (CellHostBlob, ref)
  MEMBER (CellHostBlob, unref)
  STRUCT (CellBlob) MEMBER (CellBlob, api)
  STRUCT (CellHostState)
  MEMBER (CellHostState, write) MEMBER (CellHostState, put) MEMBER (CellHostState, read) MEMBER (CellHostState, get)
  MEMBER (CellHostState, left)
}

static void
print_client (void)
{
  STRUCT (CellResult)
  MEMBER (CellResult, status) MEMBER (CellResult, error) MEMBER (CellResult, message) MEMBER (CellResult, memory)
  MEMBER (CellResult, release)
  STRUCT (CellPending) MEMBER (CellPending, client) MEMBER (CellPending, id)
  STRUCT (CellRemoteMethod)
  MEMBER (CellRemoteMethod, name) MEMBER (CellRemoteMethod, fingerprint) MEMBER (CellRemoteMethod, args)
  MEMBER (CellRemoteMethod, reply) MEMBER (CellRemoteMethod, timeout) MEMBER (CellRemoteMethod, flags)
  STRUCT (CellRemoteSignal)
  MEMBER (CellRemoteSignal, name) MEMBER (CellRemoteSignal, fingerprint) MEMBER (CellRemoteSignal, args)
  STRUCT (CellRemote)
  MEMBER (CellRemote, size) MEMBER (CellRemote, version) MEMBER (CellRemote, interface) MEMBER (CellRemote, contract)
  MEMBER (CellRemote, n_methods) MEMBER (CellRemote, n_signals) MEMBER (CellRemote, method_size) MEMBER (CellRemote, signal_size)
  MEMBER (CellRemote, methods) MEMBER (CellRemote, signals)
  STRUCT (CellClientApi)
  MEMBER (CellClientApi, call) MEMBER (CellClientApi, start) MEMBER (CellClientApi, finish) MEMBER (CellClientApi, cancel)
  MEMBER (CellClientApi, subscribe) MEMBER (CellClientApi, unsubscribe) MEMBER (CellClientApi, set_timeout)
  MEMBER (CellClientApi, check) MEMBER (CellClientApi, close)
}

static void
print_values (void)
{
  VALUE (CELL_ABI_MAGIC) VALUE (CELL_ABI_MAJOR) VALUE (CELL_ABI_MINOR)
  VALUE (CELL_KIND_BOOL) VALUE (CELL_KIND_UINT) VALUE (CELL_KIND_INT) VALUE (CELL_KIND_FLOAT) VALUE (CELL_KIND_STR)
  VALUE (CELL_KIND_BYTES) VALUE (CELL_KIND_BLOB) VALUE (CELL_KIND_STRUCT)
  VALUE (CELL_SHAPE_PLAIN) VALUE (CELL_SHAPE_ARRAY) VALUE (CELL_SHAPE_OPTIONAL)
  VALUE (CELL_ROLE_FIELD) VALUE (CELL_ROLE_IN) VALUE (CELL_ROLE_OUT) VALUE (CELL_ROLE_DOC) VALUE (CELL_ROLE_FAILS)
  VALUE (CELL_ROLE_ATTRIBUTE)
  VALUE (CELL_ATTRIBUTE_IDEMPOTENT) VALUE (CELL_ATTRIBUTE_ONEWAY) VALUE (CELL_ATTRIBUTE_JOB) VALUE (CELL_ATTRIBUTE_ACCESS)
  VALUE (CELL_ATTRIBUTE_TIMEOUT) VALUE (CELL_ATTRIBUTE_MAX_REPLY)
  VALUE (CELL_ACCESS_ANY) VALUE (CELL_ACCESS_VIEW) VALUE (CELL_ACCESS_OPERATE) VALUE (CELL_ACCESS_ADMIN)
  VALUE (CELL_ITEM_METHOD) VALUE (CELL_ITEM_SIGNAL) VALUE (CELL_ITEM_PROPERTY) VALUE (CELL_ITEM_ERROR) VALUE (CELL_ITEM_EXPANDER)
  VALUE (CELL_SERIAL) VALUE (CELL_CONCURRENT) VALUE (CELL_LOOP)
  VALUE (CELL_LOG_DEBUG) VALUE (CELL_LOG_INFO) VALUE (CELL_LOG_WARNING) VALUE (CELL_LOG_ERROR)
  VALUE (CELL_BUILD_POINTER_64) VALUE (CELL_BUILD_ADDRESS_SANITIZER) VALUE (CELL_BUILD_THREAD_SANITIZER) VALUE (CELL_BUILD_CXX)
  VALUE (CELL_FLAG_IDEMPOTENT) VALUE (CELL_FLAG_ONEWAY) VALUE (CELL_FLAG_JOB)
  VALUE (CELL_OK) VALUE (CELL_DEFERRED)
  CELL_ERROR_TABLE (ERROR_VALUE)
}

int
main (void)
{
  print_tables ();
  print_host ();
  print_client ();
  print_values ();
  return 0;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What a cell offers, as one immutable value: taken from the tables that its macros laid down, from its text, or from the header
 * that a caller was compiled with.  Whatever the origin, the tables in here are owned, checked, sorted and laid out as the C
 * compiler lays them out, so that a CodecPlan can be compiled from them.
 *
 *   interface org.example.Ledger 1 "A toy double-entry ledger"
 *   struct Entry { u64 id, i64 amount, str memo "free text" }
 *   method transfer (u64 from "account that pays", u64 to, i64 amount) -> (i64 balance) fails InvalidAmount "Move money."
 *   property limit u32 writable access admin "Largest transfer"
 *   signal transferred (u64 from, i64 amount)
 *   error InvalidAmount "The amount is not positive"
 *
 * Items are sorted by kind, then by name; a struct stands before its first use.  After a name and its arguments come, in any order
 * when read: `fails NAME`, `idempotent`, `oneway`, `job`, `access any|view|operate|admin`, `timeout MS`, `max_reply BYTES` and the
 * documentation.
 */
#pragma once
#include <glib.h>

#include <cell/abi.h>

#include "cell-error.h"

enum
{
  CONTRACT_MAX_TEXT = 256 * 1024,       /* bytes */
  CONTRACT_MAX_ITEMS = 1024,            /* structs included */
  CONTRACT_MAX_SIGNALS = 64,            /* whoever subscribes names them by a bit each */
  CONTRACT_MAX_FIELDS = 31,             /* of a struct; arguments, outputs: what the macros of <cell/cell.h> take */
  CONTRACT_MAX_NAME = 63,
  CONTRACT_MAX_INTERFACE = 255,
  CONTRACT_MAX_DOC = 2000,              /* bytes: a C compiler need not take string literals beyond 4,095 */
  CONTRACT_MAX_DEPTH = 15,              /* structs within structs */
  CONTRACT_MAX_SIZE = 1024 * 1024,      /* bytes of a struct */
  CONTRACT_MAX_USES = 32 * 1024         /* structs, counted anew for each item that uses them */
};

/* Something that can be called: a method, the getter or the setter of a property.  Its number is its place in the list: methods,
 * getters, setters, each by name.  Getters are idempotent. */
typedef struct
{
  const char *name;             /* on the wire: "transfer"; the getter is "@limit", the setter "=limit" */
  const CellItem *item;         /* the contract's own; invoke and set are the cell's, NULL when it came from a text or a header */
  const CellField *in, *out;    /* rows of CELL_ROLE_IN, of CELL_ROLE_OUT; of a property one row called "value" */
  uint16_t n_in, n_out;
  uint32_t in_size, out_size;
  uint64_t fingerprint;
  uint32_t flags;               /* 1 << CELL_ATTRIBUTE_IDEMPOTENT, _ONEWAY, _JOB */
  uint32_t access;              /* CELL_ACCESS_… */
  uint32_t timeout, max_reply;  /* 0: not said */
} ContractCallable;

typedef struct
{
  const char *name;
  const CellItem *item;
  const CellField *args;        /* rows of CELL_ROLE_FIELD */
  uint16_t n_args;
  uint32_t size;
  uint64_t fingerprint;
} ContractSignal;

/* To be read only. */
typedef struct
{
  const char *interface;        /* "org.example.Ledger" */
  const char *service;          /* "Ledger": its last part */
  const char *doc;
  uint32_t version;
  uint64_t fingerprint;         /* of everything but the documentation */
  guint n_structs, n_items, n_callables, n_signals;
  const CellType *const *structs;       /* those in use, by name, but each before it is used */
  const CellItem *items;        /* methods, properties, signals, errors.  A property's in_size is 0 when it cannot be set */
  const ContractCallable *callables;
  const ContractSignal *signals;
} Contract;

/* Of a loaded cell, whose entry has passed the loader's checks.  CELL_ERROR_REFUSED: its tables are not sound, or not what they
 * would be had the compiler followed the ABI. */
Contract *contract_new_from_entry (const CellEntry *entry, GError **error);
/* Of a text that anybody may have written.  CELL_ERROR_INVALID: "line 3: expected …, found …". */
Contract *contract_new_from_text (const char *text, gssize length, GError **error);
/* Of what a generated header knows: no errors, no access; the fingerprints are those that were compiled in.  CELL_ERROR_INVALID. */
Contract *contract_new_from_remote (const CellRemote *remote, GError **error);
Contract *contract_ref (Contract *contract);
void contract_unref (Contract *contract);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Contract, contract_unref)

char *contract_to_text (const Contract *contract, gboolean docs);
/* The word for an access, an attribute: "admin", "max_reply"; NULL when there is none. */
const char *contract_access_word (uint32_t access);
const char *contract_attribute_word (int attribute);

/* What `older` has, too, gets the numbers that it has there; what is new comes behind that.  `older` has nothing that it has not.
 * Before anybody else knows the contract. */
void contract_number_like (Contract *contract, const Contract *older);

/* NULL when there is none. */
const ContractCallable *contract_find (const Contract *contract, const char *wire_name);
const ContractSignal *contract_find_signal (const Contract *contract, const char *name);
const CellItem *contract_find_item (const Contract *contract, int kind, const char *name);
/* The signal that an item of the cell's own tables stands for: what CellHost.emit () is given. */
const ContractSignal *contract_find_signal_of (const Contract *contract, const CellItem *of_cell);

/* May a caller that was compiled against `wanted` use `have`, whichever is the newer?  Both may have appended arguments, outputs
 * and members of structs, which the other reads as zero; a struct that is embedded by value may not have grown.  Else
 * CELL_ERROR_CONTRACT, or CELL_ERROR_NO_METHOD, and a sentence that names the field and both types. */
gboolean contract_callable_compatible (const ContractCallable *have, const ContractCallable *wanted, GError **error);
gboolean contract_signal_compatible (const ContractSignal *have, const ContractSignal *wanted, GError **error);
/* All of `wanted`: its interface, callables and signals. */
gboolean contract_compatible (const Contract *have, const Contract *wanted, GError **error);

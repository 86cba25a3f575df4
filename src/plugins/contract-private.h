/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * How a contract is put together.  Tables, text and headers are three readers; each feeds this builder, which alone decides what is
 * acceptable, and copies whatever it keeps.
 */
#pragma once
#include "contract.h"

typedef struct ContractBuilder ContractBuilder;

ContractBuilder *contract_builder_new (void);
void contract_builder_free (ContractBuilder *builder);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (ContractBuilder, contract_builder_free)

gboolean contract_builder_set_interface (ContractBuilder *builder, const char *interface, uint32_t version, const char *doc,
                                         GError **error);

/* "u64", "str" …, or a struct that has been added; NULL when there is none. */
const CellType *contract_builder_find_type (ContractBuilder *builder, const char *name);

/* rows: CellField, whose types are the builder's; offsets are computed here.  A struct of the same name must be the same. */
const CellType *contract_builder_add_struct (ContractBuilder *builder, const char *name, GArray *rows, GError **error);

/* rows: of the roles that the kind has, in any order, CELL_ROLE_DOC not among them.  Errors and signals may come again if they are
 * the same.  Returns the item, which the builder goes on owning, or NULL. */
const CellItem *contract_builder_add_item (ContractBuilder *builder, const CellItem *draft, GArray *rows, GError **error);

/* Remembers that the cell's own item stands for one that was added. */
void contract_builder_add_source (ContractBuilder *builder, const CellItem *of_cell, const CellItem *item);

Contract *contract_builder_end (ContractBuilder *builder, GError **error);

/* For callables of a header, whose fingerprints were computed when it was written. */
void contract_override_fingerprint (Contract *contract, const char *wire_name, gboolean is_signal, uint64_t fingerprint);

/* Rows of a role, laid out from byte 0; FALSE when they are larger than a struct may be. */
gboolean contract_lay_out (CellField *rows, guint n_rows, int role, uint32_t *ret_size, uint32_t *ret_align);

gboolean contract_check_identifier (const char *name, const char *what, GError **error);

/* Text, without documentation if so wanted; the same functions feed contract_to_text () and the fingerprints. */
void contract_append_type (GString *to, const CellField *field);
void contract_append_item (GString *to, const CellItem *item, gboolean docs);
void contract_append_struct (GString *to, const CellType *type, gboolean docs);
uint64_t contract_fingerprint_callable (const ContractCallable *callable);
uint64_t contract_fingerprint_signal (const ContractSignal *signal);
uint64_t contract_fingerprint_text (const char *text);

/* The word for a kind: "method"; NULL when there is none. */
const char *contract_item_word (int kind);
/* The structs that rows use, directly or not: by name, but each after those that it uses itself. */
GPtrArray *contract_collect_structs (const CellField *rows, guint n_rows);

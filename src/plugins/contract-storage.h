/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A contract and the memory behind it.
 */
#pragma once
#include "contract.h"

typedef struct
{
  Contract public;              /* first: what everybody sees */
  gatomicrefcount references;
  GStringChunk *strings;
  GPtrArray *blocks;            /* tables, freed with the contract */
  GHashTable *callables;        /* wire name → ContractCallable */
  GHashTable *signals;          /* name → ContractSignal */
  GHashTable *sources;          /* CellItem of the cell's → our CellItem */
} ContractStorage;

ContractStorage *contract_storage_new (void);
/* A copy that lasts as long as the contract; NULL gives "". */
const char *contract_storage_string (ContractStorage *contract, const char *string);
/* Zeroed memory that lasts as long as the contract. */
void *contract_storage_block (ContractStorage *contract, size_t size);
/* Sorts the items (CellItem *), and makes the lists of structs, callables and signals.  What pointed at the items points at the
 * sorted copies then. */
void contract_storage_end (ContractStorage *contract, GPtrArray *items);

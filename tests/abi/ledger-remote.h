/* org.example.Ledger 1, written by `cellctl client ledger`.  Change the cell, not this. */
/* A double-entry ledger */
#ifndef CELL_REMOTE_LEDGER_H
#define CELL_REMOTE_LEDGER_H
#include <cell/client.h>

#define Ledger_InvalidAmount "org.example.Ledger.InvalidAmount"         /* The amount is not positive, or too large to be added */
#define Ledger_NoSuchAccount "org.example.Ledger.NoSuchAccount"         /* There is no account of that number */
#define Ledger_NotEnough "org.example.Ledger.NotEnough"                 /* The account would go below its overdraft */
#define Ledger_Unbalanced "org.example.Ledger.Unbalanced"               /* The postings do not add up to zero */

CELL_STRUCT (LedgerEntry,
             field (u64, id, "of the transaction"),
             field (u64, account),
             field (i64, amount, "in cents"),
             field (i64, balance, "of the account, after it"),
             field (str, memo, "free text"))

CELL_STRUCT (LedgerPage,
             field (u32, first, "how many to skip"),
             field (u32, count))

CELL_STRUCT (LedgerPosting,
             field (u64, account),
             field (i64, amount, "in cents; negative: leaves the account"))

/* What an account has. */
CELL_ARGS (LedgerBalance,
           field (u64, account))
CELL_REPLY (LedgerBalance,
            field (i64, balance))
CELL_STUBS (ledger, balance, LedgerBalance, 0)

/* Entries of an account, newest first. */
CELL_ARGS (LedgerHistory,
           field (u64, account),
           field (LedgerPage, page))
CELL_REPLY (LedgerHistory,
            field (array (LedgerEntry), entries))
CELL_STUBS (ledger, history, LedgerHistory, 1)

/* Takes entries over from elsewhere; account 0 is the other side of each. */
CELL_ARGS (LedgerImport,
           field (array (LedgerEntry), entries),
           field (optional (u32), limit, "take no more than these"),
           field (bool, dry_run, "only say what would be done"))
CELL_REPLY (LedgerImport,
            field (i64, sum, "of the amounts"),
            field (str, note))
CELL_STUBS (ledger, import, LedgerImport, 2)

/* Books one transaction with any number of postings, which add up to zero. */
CELL_ARGS (LedgerPost,
           field (array (LedgerPosting), postings),
           field (str, memo))
CELL_REPLY (LedgerPost,
            field (u64, id, "of the transaction"))
CELL_STUBS (ledger, post, LedgerPost, 3)

/* Forgets everything. */
CELL_ARGS (LedgerReset)
CELL_REPLY (LedgerReset)
CELL_STUBS (ledger, reset, LedgerReset, 4)

/* Moves money from one account to another. */
CELL_ARGS (LedgerTransfer,
           field (u64, from, "account that pays"),
           field (u64, to),
           field (i64, amount, "in cents"),
           field (str, memo))
CELL_REPLY (LedgerTransfer,
            field (i64, balance, "what `from` has left"))
CELL_STUBS (ledger, transfer, LedgerTransfer, 5)

/* How far below zero an account may go, in cents */
CELL_GETTER_STUB (ledger, overdraft, LedgerGetOverdraft, i64, 6)
CELL_SETTER_STUB (ledger, overdraft, LedgerSetOverdraft, i64, 8)

/* Sum over all accounts; always 0 */
CELL_GETTER_STUB (ledger, total, LedgerGetTotal, i64, 7)

/* Money was moved. */
CELL_STRUCT (LedgerTransferred,
             field (u64, from),
             field (u64, to),
             field (i64, amount, "in cents"))
CELL_SIGNAL_STUBS (ledger, transferred, LedgerTransferred, 0)

CELL_REMOTE_METHODS (Ledger,
                     CELL_REMOTE_METHOD ("balance", LedgerBalance, 0x024ad511cb53d9f0u, 0, CELL_FLAG_IDEMPOTENT),
                     CELL_REMOTE_METHOD ("history", LedgerHistory, 0x14e27b277d54caffu, 0, CELL_FLAG_IDEMPOTENT),
                     CELL_REMOTE_METHOD ("import", LedgerImport, 0xd9a6d657e1b3f2fbu, 0, 0),
                     CELL_REMOTE_METHOD ("post", LedgerPost, 0xeabd0167102c4a5bu, 0, 0),
                     CELL_REMOTE_METHOD ("reset", LedgerReset, 0x8929985b6891020bu, 0, 0),
                     CELL_REMOTE_METHOD ("transfer", LedgerTransfer, 0xa7f109683742f910u, 0, 0),
                     CELL_REMOTE_METHOD ("@overdraft", LedgerGetOverdraft, 0xe7c1818e7da1d5bfu, 0, CELL_FLAG_IDEMPOTENT),
                     CELL_REMOTE_METHOD ("@total", LedgerGetTotal, 0xe2ea850298419062u, 0, CELL_FLAG_IDEMPOTENT),
                     CELL_REMOTE_METHOD ("=overdraft", LedgerSetOverdraft, 0xfaddaffcd1c4e390u, 0, 0))
CELL_REMOTE_SIGNALS (Ledger,
                     CELL_REMOTE_SIGNAL ("transferred", LedgerTransferred, 0xcf5d25f09d865426u))
CELL_REMOTE (Ledger, "org.example.Ledger", 1, 0xce1e6a83c1040a8cu)

#ifndef __cplusplus     /* arguments by name: ledger_METHOD (client, .argument = value) */
# define ledger_balance(...) ledger_balance (CELL_NAMED (LedgerBalance, __VA_ARGS__))
# define ledger_balance_start(...) ledger_balance_start (CELL_NAMED (LedgerBalance, __VA_ARGS__))
# define ledger_balance_async(...) ledger_balance_async (CELL_NAMED_ASYNC (LedgerBalance, __VA_ARGS__))
# define ledger_history(...) ledger_history (CELL_NAMED (LedgerHistory, __VA_ARGS__))
# define ledger_history_start(...) ledger_history_start (CELL_NAMED (LedgerHistory, __VA_ARGS__))
# define ledger_history_async(...) ledger_history_async (CELL_NAMED_ASYNC (LedgerHistory, __VA_ARGS__))
# define ledger_import(...) ledger_import (CELL_NAMED (LedgerImport, __VA_ARGS__))
# define ledger_import_start(...) ledger_import_start (CELL_NAMED (LedgerImport, __VA_ARGS__))
# define ledger_import_async(...) ledger_import_async (CELL_NAMED_ASYNC (LedgerImport, __VA_ARGS__))
# define ledger_post(...) ledger_post (CELL_NAMED (LedgerPost, __VA_ARGS__))
# define ledger_post_start(...) ledger_post_start (CELL_NAMED (LedgerPost, __VA_ARGS__))
# define ledger_post_async(...) ledger_post_async (CELL_NAMED_ASYNC (LedgerPost, __VA_ARGS__))
# define ledger_reset(...) ledger_reset (CELL_NAMED (LedgerReset, __VA_ARGS__))
# define ledger_reset_start(...) ledger_reset_start (CELL_NAMED (LedgerReset, __VA_ARGS__))
# define ledger_reset_async(...) ledger_reset_async (CELL_NAMED_ASYNC (LedgerReset, __VA_ARGS__))
# define ledger_transfer(...) ledger_transfer (CELL_NAMED (LedgerTransfer, __VA_ARGS__))
# define ledger_transfer_start(...) ledger_transfer_start (CELL_NAMED (LedgerTransfer, __VA_ARGS__))
# define ledger_transfer_async(...) ledger_transfer_async (CELL_NAMED_ASYNC (LedgerTransfer, __VA_ARGS__))
#endif
#endif

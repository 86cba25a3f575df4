/* SPDX-License-Identifier: MIT
 *
 * A double-entry ledger: what one account loses another gains, so that the sum over all accounts is always zero.  Accounts are
 * numbers; the last 4,096 entries are kept, with their memos.
 */
#include <cell/cell.h>

#define N_ACCOUNTS 1024
#define N_ENTRIES 4096                  /* a power of two */

/* ---- what callers see --------------------------------------------------------------------------- */

CELL_STRUCT (Entry,
             field (u64, id, "of the transaction"), field (u64, account),
             field (i64, amount, "in cents"), field (i64, balance, "of the account, after it"),
             field (str, memo, "free text"))
CELL_STRUCT (Posting, field (u64, account), field (i64, amount, "in cents; negative: leaves the account"))
CELL_STRUCT (Page, field (u32, first, "how many to skip"), field (u32, count))

/* ---- the instance: the host zeroes it, so only what is not zero needs init -------------------------- */

typedef struct
{
  int64_t balance[N_ACCOUNTS];
  int64_t overdraft;
  uint64_t n_transactions;
  uint64_t n_entries;                   /* ever; the last N_ENTRIES of them are in journal[] */
  Entry journal[N_ENTRIES];             /* each owns its memo */
} Ledger;

CELL_ERROR (Ledger, InvalidAmount, "The amount is not positive, or too large to be added")
CELL_ERROR (Ledger, NoSuchAccount, "There is no account of that number")
CELL_ERROR (Ledger, NotEnough, "The account would go below its overdraft")
CELL_ERROR (Ledger, Unbalanced, "The postings do not add up to zero")

CELL_SIGNAL (Ledger, transferred, doc ("Money was moved."), field (u64, from), field (u64, to), field (i64, amount, "in cents"))

/* ---- the work ------------------------------------------------------------------------------------ */

static bool
add_overflows (int64_t a, int64_t b)
{
  return b > 0 ? a > INT64_MAX - b : a < INT64_MIN - b;
}

/* Whether amount may be added to an account's balance; says why not. */
static CellStatus
check_posting (Ledger *self, CellCall *call, uint64_t account, int64_t amount)
{
  if (account >= N_ACCOUNTS)
    return cell_fail (call, NoSuchAccount, "no account %" PRIu64 "; there are %d", account, N_ACCOUNTS);
  if (add_overflows (self->balance[account], amount))
    return cell_fail (call, InvalidAmount, "%" PRId64 " is too much for account %" PRIu64, amount, account);
  if (amount < 0 && self->balance[account] + amount < -self->overdraft)
    return cell_fail (call, NotEnough, "account %" PRIu64 " has %" PRId64 " and may not go below %" PRId64,
                      account, self->balance[account], -self->overdraft);
  return CELL_OK;
}

/* Adds to an account and to the journal.  What the caller gives lasts as long as its call, so the memo is copied. */
static void
book (Ledger *self, uint64_t account, int64_t amount, const char *memo)
{
  Entry *entry = &self->journal[self->n_entries++ % N_ENTRIES];
  free ((char *) entry->memo);
  self->balance[account] += amount;
  *entry = (Entry) { .id = self->n_transactions, .account = account, .amount = amount, .balance = self->balance[account],
                     .memo = memo && memo[0] ? strdup (memo) : NULL };
}

static void
forget_all (Ledger *self)
{
  for (uint32_t i = 0; i < N_ENTRIES; i++)
    free ((char *) self->journal[i].memo);
  memset (self->journal, 0, sizeof self->journal);
  memset (self->balance, 0, sizeof self->balance);
  self->n_entries = self->n_transactions = 0;
}

/* ---- methods ------------------------------------------------------------------------------------- */

CELL_METHOD (Ledger, transfer, doc ("Moves money from one account to another."),
             in (u64, from, "account that pays"), in (u64, to), in (i64, amount, "in cents"), in (str, memo),
             out (i64, balance, "what `from` has left"),
             fails (InvalidAmount), fails (NoSuchAccount), fails (NotEnough))
{
  if (in->amount <= 0)
    return cell_fail (call, InvalidAmount, "amount must be positive, got %" PRId64, in->amount);
  CellStatus status = check_posting (self, call, in->from, -in->amount);
  if (!status)
    status = check_posting (self, call, in->to, in->amount);
  if (status)
    return status;
  self->n_transactions++;
  book (self, in->from, -in->amount, in->memo);
  book (self, in->to, in->amount, in->memo);
  cell_emit (self, Ledger, transferred, .from = in->from, .to = in->to, .amount = in->amount);
  out->balance = self->balance[in->from];
  return CELL_OK;
}

CELL_METHOD (Ledger, post, doc ("Books one transaction with any number of postings, which add up to zero."),
             in (array (Posting), postings), in (str, memo),
             out (u64, id, "of the transaction"),
             fails (Unbalanced), fails (InvalidAmount), fails (NoSuchAccount), fails (NotEnough))
{
  int64_t sum = 0;
  if (in->n_postings > 256)
    return cell_fail_status (call, CELL_ERROR_TOO_LARGE, "%u postings; 256 are the most", in->n_postings);
  for (uint32_t i = 0; i < in->n_postings; i++)
    {
      const Posting *p = &in->postings[i];      /* an ordinary array of ordinary structs */
      for (uint32_t k = 0; k < i; k++)
        if (in->postings[k].account == p->account)
          return cell_fail_status (call, CELL_ERROR_INVALID, "account %" PRIu64 " has two postings", p->account);
      CellStatus status = check_posting (self, call, p->account, p->amount);
      if (status)
        return status;
      if (add_overflows (sum, p->amount))
        return cell_fail (call, InvalidAmount, "the postings are too large to be added");
      sum += p->amount;
    }
  if (sum != 0)
    return cell_fail (call, Unbalanced, "%u postings add up to %" PRId64, in->n_postings, sum);
  out->id = ++self->n_transactions;
  for (uint32_t i = 0; i < in->n_postings; i++)
    book (self, in->postings[i].account, in->postings[i].amount, in->memo);
  return CELL_OK;
}

CELL_METHOD (Ledger, import, doc ("Takes entries over from elsewhere; account 0 is the other side of each."),
             in (array (Entry), entries), in (optional (u32), limit, "take no more than these"),
             in (bool, dry_run, "only say what would be done"),
             out (i64, sum, "of the amounts"), out (str, note),
             fails (InvalidAmount), fails (NoSuchAccount))
{
  uint32_t n = in->has_limit && in->limit < in->n_entries ? in->limit : in->n_entries, taken = 0;
  for (uint32_t i = 0; i < n; i++)
    {
      const Entry *e = &in->entries[i];
      if (e->account >= N_ACCOUNTS)
        return cell_fail (call, NoSuchAccount, "entry %u: no account %" PRIu64, i, e->account);
      if (e->amount > INT64_MAX / 1000000 || e->amount < -INT64_MAX / 1000000)
        return cell_fail (call, InvalidAmount, "entry %u: %" PRId64 " is too large", i, e->amount);
      out->sum += e->amount;
    }
  for (; taken < n && !in->dry_run; taken++)
    {
      const Entry *e = &in->entries[taken];
      if (add_overflows (self->balance[e->account], e->amount) || add_overflows (self->balance[0], -e->amount))
        break;
      self->n_transactions++;
      book (self, e->account, e->amount, e->memo);
      book (self, 0, -e->amount, e->memo);
    }
  out->note = cell_print (call, "%u of %u taken%s", taken, in->n_entries, in->dry_run ? " (dry run)" : "");
  return CELL_OK;
}

CELL_METHOD (Ledger, history, doc ("Entries of an account, newest first."), idempotent, max_reply (65536),
             in (u64, account), in (Page, page),
             out (array (Entry), entries))
{
  uint64_t kept = self->n_entries < N_ENTRIES ? self->n_entries : N_ENTRIES;
  uint32_t skip = in->page.first, want = in->page.count < 256 ? in->page.count : 256, n = 0;
  Entry *entry = cell_array (call, out, entries, want);
  if (!entry)
    return cell_fail_status (call, CELL_ERROR_TOO_LARGE, "%u entries do not fit in a reply", want);
  for (uint64_t i = 1; i <= kept && n < want; i++)
    {
      const Entry *e = &self->journal[(self->n_entries - i) % N_ENTRIES];
      if (e->account != in->account)
        continue;
      if (skip > 0)
        skip--;
      else
        entry[n++] = *e;                /* the memo stays ours: it outlives the handler */
    }
  out->n_entries = n;
  return CELL_OK;
}

CELL_METHOD (Ledger, balance, doc ("What an account has."), idempotent,
             in (u64, account), out (i64, balance), fails (NoSuchAccount))
{
  if (in->account >= N_ACCOUNTS)
    return cell_fail (call, NoSuchAccount, "no account %" PRIu64 "; there are %d", in->account, N_ACCOUNTS);
  out->balance = self->balance[in->account];
  return CELL_OK;
}

CELL_METHOD (Ledger, reset, doc ("Forgets everything."), access (operate))
{
  forget_all (self);
  return CELL_OK;
}

CELL_PROPERTY (Ledger, total, i64, "Sum over all accounts; always 0")
{
  int64_t sum = 0;
  for (uint32_t i = 0; i < N_ACCOUNTS; i++)
    sum += self->balance[i];
  return sum;
}

CELL_WRITABLE (Ledger, overdraft, i64, "How far below zero an account may go, in cents")
{
  return self->overdraft;
}

CELL_SETTER (Ledger, overdraft)
{
  if (value < 0)
    return cell_fail_status (call, CELL_ERROR_INVALID, "an overdraft is not negative, got %" PRId64, value);
  self->overdraft = value;
  return CELL_OK;
}

/* ---- life: state is a struct like any other, and may grow as structs do ------------------------------ */

CELL_STRUCT (LedgerState,
             field (array (i64), balances), field (i64, overdraft), field (u64, n_transactions), field (u64, n_entries),
             field (array (Entry), journal, "oldest first"))

CELL_INIT (Ledger, ledger_init)
{
  self->overdraft = cell_config_i64 (self, "overdraft", INT64_MAX);
  if (self->overdraft < 0)
    self->overdraft = 0;
  return CELL_OK;
}

CELL_FINI (Ledger, ledger_fini)
{
  forget_all (self);
}

CELL_SAVE (Ledger, ledger_save)
{
  uint32_t n = self->n_entries < N_ENTRIES ? (uint32_t) self->n_entries : N_ENTRIES;
  Entry *journal = calloc (n + 1, sizeof *journal);
  if (!journal)
    return CELL_ERROR_NO_RESOURCES;
  for (uint32_t i = 0; i < n; i++)
    journal[i] = self->journal[(self->n_entries - n + i) % N_ENTRIES];
  LedgerState state = { .balances = self->balance, .n_balances = N_ACCOUNTS, .overdraft = self->overdraft,
                        .n_transactions = self->n_transactions, .n_entries = self->n_entries,
                        .journal = journal, .n_journal = n };
  CellStatus status = cell_save (to, LedgerState, &state);
  free (journal);
  return status;
}

CELL_RESTORE (Ledger, ledger_restore)
{
  const LedgerState *old = cell_restore (from, LedgerState);
  if (!old || old->n_balances > N_ACCOUNTS || old->n_journal > N_ENTRIES || old->n_journal > old->n_entries)
    return CELL_ERROR_STATE;
  memcpy (self->balance, old->balances, old->n_balances * sizeof (int64_t));
  self->overdraft = old->overdraft;
  self->n_transactions = old->n_transactions;
  self->n_entries = old->n_entries;
  for (uint32_t i = 0; i < old->n_journal; i++)
    {
      Entry *entry = &self->journal[(old->n_entries - old->n_journal + i) % N_ENTRIES];
      *entry = old->journal[i];
      entry->memo = entry->memo[0] ? strdup (entry->memo) : NULL;       /* `old` lasts until we return */
    }
  return CELL_OK;
}

CELL_SERVICE (Ledger, "org.example.Ledger", 1, .doc = "A double-entry ledger", .threading = CELL_SERIAL, .state_version = 1,
              .init = ledger_init, .fini = ledger_fini, .save = ledger_save, .restore = ledger_restore)

/* SPDX-License-Identifier: MIT
 *
 * The caller's side: what the header that `cellctl client NAME` writes is made of, for cells and for programs alike.
 *
 *   in a cell:      CellClient *ledger = cell_use (self, Ledger, "ledger");
 *   in a program:   CellBus *bus = cell_open (NULL);   CellClient *ledger = cell_bind (bus, Ledger, "ledger");
 *
 *   cell_auto LedgerTransfer t = ledger_transfer (ledger, .from = 1, .to = 2, .amount = 500, .memo = "rent");
 *   if (t.result.status) … t.result.error, t.result.message …      else … t.balance …
 */
#ifndef CELL_CLIENT_H
#define CELL_CLIENT_H

#if defined (__GNUC__) && !defined (__TINYC__)
# pragma GCC system_header              /* as in <cell/cell.h> */
#endif

#include <cell/cell.h>

#ifdef __cplusplus
# include <cstdio>
extern "C" {
#endif

/* The first member of every reply.  error: the error's full name ("org.example.Ledger.InvalidAmount"); message: a sentence.  Both
 * NULL when status is CELL_OK.  Strings and arrays of a reply last until cell_reply_free (). */
typedef struct
{
  CellStatus status;
  uint32_t reserved_;
  const char *error, *message;
  void *memory;                 /* what release frees; NULL when there is nothing to free */
  void (*release) (void *memory);
} CellResult;

typedef struct
{
  CellClient *client;
  uint64_t id;
} CellPending;

typedef void (*CellDone) (const CellResult *reply, void *data);
typedef void (*CellOnSignal) (const void *args, uint64_t missed, void *data);

/* What a generated header knows of each method: rows of CELL_ROLE_FIELD.  A getter is called "@name", a setter "=name". */
enum /* CellRemoteMethod.flags */
{
  CELL_FLAG_IDEMPOTENT = 1 << CELL_ATTRIBUTE_IDEMPOTENT,
  CELL_FLAG_ONEWAY = 1 << CELL_ATTRIBUTE_ONEWAY,
  CELL_FLAG_JOB = 1 << CELL_ATTRIBUTE_JOB
};

typedef struct
{
  const char *name;
  uint64_t fingerprint;         /* of the method's contract when the header was written */
  const CellType *args, *reply;
  uint32_t timeout;             /* ms; 0: 5,000 */
  uint32_t flags;               /* CELL_FLAG_… */
} CellRemoteMethod;

typedef struct
{
  const char *name;
  uint64_t fingerprint;
  const CellType *args;
} CellRemoteSignal;

struct CellRemote
{
  uint32_t size;
  uint32_t version;
  const char *interface;
  uint64_t contract;
  uint16_t n_methods, n_signals;
  uint16_t method_size, signal_size;
  const CellRemoteMethod *methods;
  const CellRemoteSignal *signals;
};

/* Implemented by the host for cells and by libcellhost for programs.  A client belongs to its cell; a program's may be used by
 * any thread, each of which gets a channel of its own.  In a cell all of this is
 * [cell]; a call from elsewhere ends with CELL_ERROR_DENIED, and with CELL_ERROR_GONE when the client was closed or its cell
 * went.  */
typedef struct
{
  uint32_t size;
  /* Calls and waits.  reply: the reply struct, whose first member is a CellResult, written whole. */
  void (*call) (CellClient *client, uint32_t method, const void *args, CellResult *reply);
  /* Sends and returns; done (may be NULL) is called once with the reply, in the cell's own context or in cell_bus_dispatch (). */
  CellPending (*start) (CellClient *client, uint32_t method, const void *args, CellDone done, void *data);
  /* Waits for a started call that has no done. */
  void (*finish) (CellPending pending, CellResult *reply);
  /* Gives a started call up; its reply, if one comes, is dropped.  On any thread of a program. */
  void (*cancel) (CellPending pending);
  /* Calls on_signal for each signal, with the number that was missed just before it because the subscriber lagged. */
  CellStatus (*subscribe) (CellClient *client, uint32_t signal, CellOnSignal on_signal, void *data);
  void (*unsubscribe) (CellClient *client, uint32_t signal);
  /* Deadline of later calls in milliseconds; 0: each method's own. */
  void (*set_timeout) (CellClient *client, uint32_t milliseconds);
  /* Why the client is not bound, or CELL_OK: fills status, error and message. */
  CellStatus (*check) (CellClient *client, CellResult *result);
  void (*close) (CellClient *client);
} CellClientApi;

struct CellClient
{
  const CellClientApi *api;
};

/* ---- what every caller may do -------------------------------------------------------------------- */

/* cell_auto LedgerTransfer t = …: the reply is freed where the variable ends.  Or: cell_reply_free (&t).  Freeing twice is
 * harmless. */
#define cell_auto __attribute__ ((cleanup (cell_reply_free)))

CELL_UNUSED static inline void
cell_reply_free (void *reply)
{
  CellResult *result = (CellResult *) reply;
  if (result->memory)
    result->release (result->memory);
  result->memory = NULL;
}

/* Whether a reply is this error: cell_is_error (&t.result, Ledger_InvalidAmount). */
CELL_UNUSED static inline bool
cell_is_error (const CellResult *result, const char *error)
{
  return result->error && strcmp (result->error, error) == 0;
}

/* Gives a started call up: cell_cancel (c.pending).  Its reply is dropped; the call may be executed all the same.  A program may do
 * so on another thread than the one that started it: if that waits for the call, it is woken, and the call ends with
 * CELL_ERROR_CANCELLED; a completion that has begun to run is not waited for. */
CELL_UNUSED static inline void
cell_cancel (CellPending pending)
{
  pending.client->api->cancel (pending);
}

/* Deadline of this client's later calls in milliseconds; 0: each method's own. */
CELL_UNUSED static inline void
cell_set_timeout (CellClient *client, uint32_t milliseconds)
{
  client->api->set_timeout (client, milliseconds);
}

/* CELL_OK, or why calls would fail: no such cell, a contract that does not fit…  Frees with cell_reply_free (result). */
CELL_UNUSED static inline CellStatus
cell_check (CellClient *client, CellResult *result)
{
  return client->api->check (client, result);
}

/* Closes a client before its cell or bus ends; what it has started is given up. */
CELL_UNUSED static inline void
cell_client_close (CellClient *client)
{
  client->api->close (client);
}

/* ---- in a cell ------------------------------------------------------------------------------------- */

/* CellClient *ledger = cell_use (self, Ledger, "ledger");
 * A client of another cell; Ledger is what its generated header declares.  Never NULL: what is wrong is said by each call.  Lasts
 * as long as the instance, so it is best taken once, in init. */
#define cell_use(self, Service, name) cell_use_ ((self), (name), &cell_remote_##Service, &cell_absent_##Service.client)

/* A client of nothing: where a host has no "cell.client/1", each call is answered CELL_ERROR_UNSUPPORTED. */
typedef struct
{
  CellClient client;
  const CellRemote *remote;
} CellAbsent;

CELL_UNUSED static inline CellStatus
cell_absent_check_ (CellClient *client, CellResult *result)
{
  (void) client;
  memset (result, 0, sizeof *result);
  result->status = CELL_ERROR_UNSUPPORTED;
  result->error = "org.cellhost.Error.Unsupported";
  result->message = "this host lets no cell call another";
  return result->status;
}

CELL_UNUSED static inline void
cell_absent_call_ (CellClient *client, uint32_t method, const void *args, CellResult *reply)
{
  (void) args;
  memset (reply + 1, 0, ((const CellAbsent *) client)->remote->methods[method].reply->size);
  cell_absent_check_ (client, reply);
}

CELL_UNUSED static inline CellPending
cell_absent_start_ (CellClient *client, uint32_t method, const void *args, CellDone done, void *data)
{
  CellPending pending = { client, method };
  size_t size = sizeof (CellResult) + ((const CellAbsent *) client)->remote->methods[method].reply->size;
  CellResult *reply = done ? (CellResult *) malloc (size) : NULL;
  if (reply)
    {
      cell_absent_call_ (client, method, args, reply);
      done (reply, data);
      free (reply);
    }
  return pending;
}

CELL_UNUSED static inline void
cell_absent_finish_ (CellPending pending, CellResult *reply)
{
  cell_absent_call_ (pending.client, (uint32_t) pending.id, NULL, reply);
}

CELL_UNUSED static inline void
cell_absent_cancel_ (CellPending pending)
{
  (void) pending;
}

CELL_UNUSED static inline CellStatus
cell_absent_subscribe_ (CellClient *client, uint32_t signal, CellOnSignal on_signal, void *data)
{
  (void) client, (void) signal, (void) on_signal, (void) data;
  return CELL_ERROR_UNSUPPORTED;
}

CELL_UNUSED static inline void
cell_absent_number_ (CellClient *client, uint32_t number)
{
  (void) client, (void) number;
}

CELL_UNUSED static inline void
cell_absent_close_ (CellClient *client)
{
  (void) client;
}

CELL_UNUSED static inline CellClient *
cell_use_ (void *self, const char *name, const CellRemote *remote, CellClient *absent)
{
  static const CellClientApi absent_api =
    { sizeof (CellClientApi), cell_absent_call_, cell_absent_start_, cell_absent_finish_, cell_absent_cancel_,
      cell_absent_subscribe_, cell_absent_number_, cell_absent_number_, cell_absent_check_, cell_absent_close_ };
  const CellHostClient *client = cell_extension_client_ ();
  if (CELL_HAS_ (client, CellHostClient, use))
    return client->use (self, name, remote);
  CELL_CACHE_WRITE_ (&absent->api, &absent_api);
  return absent;
}

/* ---- what a generated header is made of -------------------------------------------------------------- */

/* CELL_ARGS (LedgerTransfer, field (…)…): the struct LedgerTransferArgs; what a call leaves out is zero. */
#define CELL_ARGS(...) CELL_ARGS_ (__VA_ARGS__, end)
#define CELL_ARGS_(M, ...) \
  __extension__ typedef struct M##Args { CELL_EACH_ (CELL_FIELD_, CELL_ZERO_, __VA_ARGS__) } M##Args; \
  CELL_UNUSED static const CellField cell_args_rows_##M[] = { CELL_EACH_ (CELL_ROW_, M##Args, __VA_ARGS__) CELL_ROW_END_ }; \
  CELL_UNUSED static const CellType cell_args_##M = \
    { #M "Args", CELL_KIND_STRUCT, 8, CELL_N_ROWS_ (cell_args_rows_##M), CELL_SIZE_ (M##Args), cell_args_rows_##M };

/* CELL_REPLY (LedgerTransfer, field (…)…): the struct LedgerTransfer, a CellResult followed by the outputs; and LedgerTransferCall,
 * a call that was started.  The table's offsets count from the first output. */
#define CELL_REPLY(...) CELL_REPLY_ (__VA_ARGS__, end)
#define CELL_REPLY_(M, ...) \
  typedef struct M { CellResult result; CELL_EACH_ (CELL_FIELD_, , __VA_ARGS__) } M; \
  typedef struct M##Call { CellPending pending; } M##Call; \
  CELL_UNUSED static const CellField cell_reply_rows_##M[] = { CELL_EACH_ (CELL_REPLY_ROW_, M, __VA_ARGS__) CELL_ROW_END_ }; \
  CELL_UNUSED static const CellType cell_reply_##M = { #M, CELL_KIND_STRUCT, 8, CELL_N_ROWS_ (cell_reply_rows_##M), \
    (uint32_t) (sizeof (M) - sizeof (CellResult)), cell_reply_rows_##M };
#define CELL_REPLY_ROW_(c, row) CELL_REPLY_ROW_1_ (c, cell_row_##row)
#define CELL_REPLY_ROW_1_(...) CELL_REPLY_ROW_2_ (__VA_ARGS__)
#define CELL_REPLY_ROW_2_(c, role, ...) CELL_REPLY_ROW_##role (c, __VA_ARGS__)
#define CELL_REPLY_ROW_FIELD(c, t, n, d) CELL_ROW_3_ (c, n, d, CELL_ROLE_FIELD, sizeof (CellResult), cell_shape_##t, PLAIN, t, ~)

/* CELL_STUBS (ledger, transfer, LedgerTransfer, 5): the functions that call method number 5 of the table,
 *   LedgerTransfer     ledger_transfer (client, arguments)                        calls and waits
 *   LedgerTransferCall ledger_transfer_start (client, arguments)                  sends; many may be under way
 *   LedgerTransfer     ledger_transfer_finish (call)                              waits for one
 *   void               ledger_transfer_async (client, done, data, arguments)      done (reply, data) is called once; the reply is
 *                                                                                 freed when it returns
 * In C the header's macros of the same names make the arguments from .name = value, … or values in order; in C++ they are given
 * in braces: ledger_transfer (ledger, { .from = 1, .to = 2 }); and an exception that leaves `done`, or the handler of a signal,
 * ends there, with a line on standard error. */
#if defined (__cplusplus) && defined (__cpp_exceptions)
extern "C++"
{
template <class F> static inline void
cell_guarded_ (const F &run)
{
  try { run (); }
  catch (const std::exception &e)
    { fprintf (stderr, "an exception left a completion or the handler of a signal: %s\n", e.what ()); }
  catch (...) { fputs ("an exception that is not a std::exception left a completion or the handler of a signal\n", stderr); }
}

/* What is to be called, between a call and its answer. */
template <class M> struct CellCompletion_
{
  void (*done) (const M *reply, void *data);
  void *data;

  static void run (const CellResult *reply, void *self)
  {
    const CellCompletion_ it = *static_cast<CellCompletion_ *> (self);
    delete static_cast<CellCompletion_ *> (self);
    cell_guarded_ ([&] { it.done (reinterpret_cast<const M *> (reply), it.data); });
  }
};

template <class M> static inline CellPending
cell_start_async_ (CellClient *client, uint32_t number, const void *args, void (*done) (const M *, void *), void *data)
{
  CellCompletion_<M> *it = done ? new (std::nothrow) CellCompletion_<M> { done, data } : nullptr;
  return client->api->start (client, number, args, it ? CellCompletion_<M>::run : (CellDone) done, it ? it : data);
}

/* What is called for a signal.  It stays: whoever subscribes again with the same gets the same. */
template <class S> struct CellHandler_
{
  void (*fn) (const S *args, uint64_t missed, void *data);
  void *data;
  CellHandler_ *next;

  static void run (const void *args, uint64_t missed, void *self)
  {
    const CellHandler_ *it = static_cast<CellHandler_ *> (self);
    cell_guarded_ ([&] { it->fn (static_cast<const S *> (args), missed, it->data); });
  }

  static CellHandler_ *get (void (*fn) (const S *, uint64_t, void *), void *data)
  {
    static CellHandler_ *all;
    CellHandler_ *first = CELL_CACHE_READ_ (&all), *it = first;
    while (it && (it->fn != fn || it->data != data))
      it = it->next;
    if (it || !fn || !(it = new (std::nothrow) CellHandler_ { fn, data, first }))
      return it;
    while (!__atomic_compare_exchange_n (&all, &it->next, it, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
      ;
    return it;
  }
};

template <class S> static inline CellStatus
cell_subscribe_ (CellClient *client, uint32_t number, void (*fn) (const S *, uint64_t, void *), void *data)
{
  CellHandler_<S> *it = CellHandler_<S>::get (fn, data);
  return client->api->subscribe (client, number, it ? CellHandler_<S>::run : (CellOnSignal) fn, it ? it : data);
}
}
#else
# define cell_start_async_(client, number, args, done, data) \
  ((client)->api->start ((client), (number), (args), (CellDone) (done), (data)))
# define cell_subscribe_(client, number, fn, data) ((client)->api->subscribe ((client), (number), (CellOnSignal) (fn), (data)))
#endif

#ifdef __cplusplus
# define CELL_TAKE_(M) const M##Args &args = {}
# define CELL_PASS_ &args
#else
# define CELL_TAKE_(M) const M##Args *args
# define CELL_PASS_ args
# define CELL_NAMED(M, ...) CELL_NAMED_ (M, __VA_ARGS__, )
# define CELL_NAMED_(M, client, ...) (client), __extension__ &(const M##Args) { __VA_ARGS__ }
# define CELL_NAMED_ASYNC(M, client, done, ...) CELL_NAMED_ASYNC_ (M, client, done, __VA_ARGS__, )
# define CELL_NAMED_ASYNC_(M, client, done, data, ...) (client), (done), (data), __extension__ &(const M##Args) { __VA_ARGS__ }
#endif
#define CELL_STUBS(prefix, method, M, number) \
  CELL_UNUSED static inline M prefix##_##method (CellClient *client, CELL_TAKE_ (M)) \
    { M reply; client->api->call (client, number, CELL_PASS_, &reply.result); return reply; } \
  CELL_UNUSED static inline M##Call prefix##_##method##_start (CellClient *client, CELL_TAKE_ (M)) \
    { M##Call call = { client->api->start (client, number, CELL_PASS_, NULL, NULL) }; return call; } \
  CELL_UNUSED static inline M prefix##_##method##_finish (M##Call call) \
    { M reply; call.pending.client->api->finish (call.pending, &reply.result); return reply; } \
  CELL_UNUSED static inline void prefix##_##method##_async (CellClient *client, void (*done) (const M *reply, void *data), \
                                                            void *data, CELL_TAKE_ (M)) \
    { cell_start_async_ (client, number, CELL_PASS_, done, data); }

/* CELL_GETTER_STUB (ledger, total, LedgerGetTotal, i64, 7): LedgerGetTotal ledger_get_total (client), with .value
 * CELL_SETTER_STUB (ledger, limit, LedgerSetLimit, u32, 8): LedgerSetLimit ledger_set_limit (client, value) */
#define CELL_GETTER_STUB(prefix, property, M, type, number) \
  CELL_ARGS (M) \
  CELL_REPLY (M, field (type, value)) \
  CELL_UNUSED static inline M prefix##_get_##property (CellClient *client) \
    { M reply; client->api->call (client, number, "", &reply.result); return reply; }
#define CELL_SETTER_STUB(prefix, property, M, type, number) \
  CELL_ARGS (M, field (type, value)) \
  CELL_REPLY (M) \
  CELL_UNUSED static inline M prefix##_set_##property (CellClient *client, cell_type_##type value) \
    { const M##Args args = { value }; M reply; client->api->call (client, number, &args, &reply.result); return reply; }

/* CELL_SIGNAL_STUBS (ledger, transferred, LedgerTransferred, 0): signal number 0 of the table,
 *   CellStatus ledger_on_transferred (client, fn, data)     fn (args, missed, data) for each that comes; missed: how many were lost
 *                                                           just before it because the subscriber lagged
 *   void       ledger_off_transferred (client)
 * fn runs where completions run: in the cell's own context, or in cell_bus_dispatch (). */
#define CELL_SIGNAL_STUBS(prefix, signal, S, number) \
  CELL_UNUSED static inline CellStatus prefix##_on_##signal (CellClient *client, \
                                                             void (*fn) (const S *args, uint64_t missed, void *data), void *data) \
    { return cell_subscribe_ (client, number, fn, data); } \
  CELL_UNUSED static inline void prefix##_off_##signal (CellClient *client) \
    { client->api->unsubscribe (client, number); }

/* The table of all that.  Rows stand in the order of the numbers above; a getter is called "@name", a setter "=name".
 *   CELL_REMOTE_METHODS (Ledger, CELL_REMOTE_METHOD ("transfer", LedgerTransfer, fingerprint, timeout, flags), …)
 *   CELL_REMOTE_SIGNALS (Ledger, CELL_REMOTE_SIGNAL ("transferred", LedgerTransferred, fingerprint), …)
 *   CELL_REMOTE (Ledger, "org.example.Ledger", version, contract) */
#define CELL_REMOTE_METHOD(name, M, fingerprint, timeout, flags) \
  { name, fingerprint, &cell_args_##M, &cell_reply_##M, timeout, flags }
#define CELL_REMOTE_SIGNAL(name, S, fingerprint) { name, fingerprint, &cell_desc_##S }
#define CELL_REMOTE_METHODS(...) CELL_REMOTE_METHODS_ (__VA_ARGS__, )
#define CELL_REMOTE_METHODS_(Service, ...) \
  CELL_UNUSED static const CellRemoteMethod cell_methods_##Service[] = { __VA_ARGS__ { NULL, 0, NULL, NULL, 0, 0 } };
#define CELL_REMOTE_SIGNALS(...) CELL_REMOTE_SIGNALS_ (__VA_ARGS__, )
#define CELL_REMOTE_SIGNALS_(Service, ...) \
  CELL_UNUSED static const CellRemoteSignal cell_signals_##Service[] = { __VA_ARGS__ { NULL, 0, NULL } };
#define CELL_REMOTE(Service, interface, version, contract) \
  CELL_UNUSED static const CellRemote cell_remote_##Service = { (uint32_t) sizeof (CellRemote), version, interface, contract, \
    (uint16_t) (sizeof (cell_methods_##Service) / sizeof (CellRemoteMethod) - 1), \
    (uint16_t) (sizeof (cell_signals_##Service) / sizeof (CellRemoteSignal) - 1), \
    (uint16_t) sizeof (CellRemoteMethod), (uint16_t) sizeof (CellRemoteSignal), cell_methods_##Service, cell_signals_##Service }; \
  CELL_UNUSED static CellAbsent cell_absent_##Service = { { NULL }, &cell_remote_##Service };

CELL_ASSERT_ (sizeof (CellResult) == 40, "client.h: a reply's outputs begin at byte 40");

/* ---- programs outside the host: libcellhost ------------------------------------------------- */

typedef struct CellBus CellBus;

/* Connects to a host.  address: the path of its socket, or NULL for $CELLHOST_SOCKET or the user's own host.  Never NULL: what is
 * wrong is said by cell_bus_check () and by every call. */
CellBus *cell_open (const char *address);
CellStatus cell_bus_check (CellBus *bus, CellResult *result);
/* A client of a cell by name.  remote: the table of a generated header.  Never NULL. */
CellClient *cell_bind_remote (CellBus *bus, const char *name, const CellRemote *remote);
/* A descriptor that becomes readable when there is something to dispatch: completions, signals, deadlines.  For one main loop;
 * other threads wait in cell_bus_dispatch (). */
int cell_bus_get_fd (CellBus *bus);
/* Runs what has arrived for this thread: completions of calls that it started, signals that it subscribed to.  Waits for up to
 * `milliseconds` (0: not at all, -1: as long as it takes).  Returns how many it ran. */
int cell_bus_dispatch (CellBus *bus, int milliseconds);
/* A writable blob, to be filled, passed in a call and given up with cell_blob_unref (); NULL when there is no memory. */
CellBlob *cell_bus_blob (CellBus *bus, size_t size);
void cell_close (CellBus *bus);

#define cell_bind(bus, Service, name) cell_bind_remote ((bus), (name), &cell_remote_##Service)

#ifdef __cplusplus
}
#endif
#endif

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

#include <cell/cell.h>

#ifdef __cplusplus
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
typedef struct
{
  const char *name;
  uint64_t fingerprint;         /* of the method's contract when the header was written */
  const CellType *args, *reply;
  uint32_t timeout;             /* ms; 0: 5,000 */
  uint32_t flags;               /* 1 << CELL_ATTRIBUTE_… */
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
 * any thread, each of which gets a channel of its own.  */
typedef struct
{
  uint32_t size;
  /* Calls and waits.  reply: the reply struct, whose first member is a CellResult, written whole. */
  void (*call) (CellClient *client, uint32_t method, const void *args, CellResult *reply);
  /* Sends and returns; done (may be NULL) is called once with the reply, in the cell's own context or in cell_bus_dispatch (). */
  CellPending (*start) (CellClient *client, uint32_t method, const void *args, CellDone done, void *data);
  /* Waits for a started call that has no done. */
  void (*finish) (CellPending pending, CellResult *reply);
  /* Gives a started call up; its reply, if one comes, is dropped. */
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

/* ---- programs outside the host: libcellhost ------------------------------------------------- */

typedef struct CellBus CellBus;

/* Connects to a host.  address: the path of its socket, or NULL for $CELLHOST_SOCKET or the user's own host.  Never NULL: what is
 * wrong is said by cell_bus_check () and by every call. */
CellBus *cell_open (const char *address);
CellStatus cell_bus_check (CellBus *bus, CellResult *result);
/* A client of a cell by name.  remote: the table of a generated header.  Never NULL. */
CellClient *cell_bind_remote (CellBus *bus, const char *name, const CellRemote *remote);
/* A descriptor that becomes readable when there is something to dispatch: completions, signals. */
int cell_bus_get_fd (CellBus *bus);
/* Runs what has arrived; waits for up to `milliseconds` (0: not at all, -1: as long as it takes).  Returns how many it ran. */
int cell_bus_dispatch (CellBus *bus, int milliseconds);
/* A writable blob, to be filled, passed in a call and given up with cell_blob_unref (); NULL when there is no memory. */
CellBlob *cell_bus_blob (CellBus *bus, size_t size);
void cell_close (CellBus *bus);

#define cell_bind(bus, Service, name) cell_bind_remote ((bus), (name), &cell_remote_##Service)

#ifdef __cplusplus
}
#endif
#endif

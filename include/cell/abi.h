/* SPDX-License-Identifier: MIT
 *
 * What crosses the boundary between a host and a cell: constant tables that the compiler lays out, one descriptor, and vtables
 * of plain functions.  Authors include <cell/cell.h>, whose macros fill these in.  No allocator, no GType, no exception and no
 * ring crosses; a plugin links against nothing of ours and exports one symbol, `cell_entry`.
 *
 * ABI 0.9: it may change, and every change is explained in docs/abi.md, until it is frozen as 1.0.
 *
 * Growth: the tables are strided by the sizes in CellEntry and CellItem; vtables and structs that are passed by pointer begin
 * with `size`; what lies beyond the size that the other side gave is absent.
 *
 * Thread tags: [any] any thread; [cell] inside a handler, init, fini, save, restore, a completion or a signal handler of the
 * cell concerned, that is where its threading option lets its code run.  The host looks, before it touches what it was given: a
 * call from elsewhere does nothing and returns NULL, 0, "" or CELL_ERROR_GONE.  So does one from a thread that a cell has left
 * behind.
 */
#ifndef CELL_ABI_H
#define CELL_ABI_H

#include <stddef.h>
#include <stdint.h>

#include <cell/errors.h>

#define CELL_ABI_MAGIC 0x4c4c4543u      /* "CELL", little endian */
#define CELL_ABI_MAJOR 0
#define CELL_ABI_MINOR 9

#ifdef __TINYC__
# undef __attribute__                   /* glibc's <sys/cdefs.h> defines it away */
#endif
#ifdef __cplusplus
extern "C" {
#endif

typedef int32_t CellStatus;             /* CELL_OK, CELL_DEFERRED or a CELL_ERROR_ of <cell/errors.h> */

typedef struct CellType CellType;
typedef struct CellField CellField;
typedef struct CellItem CellItem;
typedef struct CellCall CellCall;       /* one call being served; opaque; lives until the handler returns, or until it is
                                         * answered */
typedef struct CellBlob CellBlob;       /* a sealed memfd, counted */
typedef struct CellState CellState;     /* what save writes to and restore reads from; opaque */
typedef struct CellClient CellClient;   /* a connection to one cell; <cell/client.h> */
typedef struct CellRemote CellRemote;   /* what a generated client header knows of a cell; <cell/client.h> */

/* A run of bytes: in a request it points into the record and lasts as long as the call does. */
typedef struct
{
  const void *data;
  uint32_t size;
  uint32_t reserved_;
} CellBytes;

/* ---- reflection: what the macros write down ------------------------------------------------- */

enum /* CellType.kind */
{
  CELL_KIND_BOOL = 1, CELL_KIND_UINT, CELL_KIND_INT, CELL_KIND_FLOAT, CELL_KIND_STR, CELL_KIND_BYTES, CELL_KIND_BLOB,
  CELL_KIND_STRUCT
};
enum /* CellField.shape */
{
  CELL_SHAPE_PLAIN, CELL_SHAPE_ARRAY, CELL_SHAPE_OPTIONAL
};
enum /* CellField.role */
{
  CELL_ROLE_FIELD = 1,          /* a member of a struct, an argument of a signal */
  CELL_ROLE_IN, CELL_ROLE_OUT,  /* an argument, an output of a method */
  CELL_ROLE_DOC,                /* doc: what the item is for */
  CELL_ROLE_FAILS,              /* error: one of the errors that the method declares */
  CELL_ROLE_ATTRIBUTE           /* attribute and value */
};
enum /* CellField.attribute */
{
  CELL_ATTRIBUTE_IDEMPOTENT = 1, /* may be executed more than once */
  CELL_ATTRIBUTE_ONEWAY,        /* nobody waits for an answer */
  CELL_ATTRIBUTE_JOB,           /* long work */
  CELL_ATTRIBUTE_ACCESS,        /* value: CELL_ACCESS_…, who may call */
  CELL_ATTRIBUTE_TIMEOUT,       /* value: milliseconds; the caller's default deadline */
  CELL_ATTRIBUTE_MAX_REPLY      /* value: bytes of the largest reply record */
};
enum /* value of CELL_ATTRIBUTE_ACCESS */
{
  CELL_ACCESS_ANY, CELL_ACCESS_VIEW, CELL_ACCESS_OPERATE, CELL_ACCESS_ADMIN
};
enum /* CellItem.kind */
{
  CELL_ITEM_METHOD = 1, CELL_ITEM_SIGNAL, CELL_ITEM_PROPERTY, CELL_ITEM_ERROR, CELL_ITEM_EXPANDER
};

/* A type's layout is the C compiler's and the wire's: where C has an 8-byte pointer the wire has {u32 offset, u32 length}. */
struct CellType
{
  const char *name;             /* "u64", "str", the struct's name */
  uint8_t kind, align;
  uint16_t n_fields;            /* of a struct */
  uint32_t size;
  const CellField *fields;      /* all of CELL_ROLE_FIELD, in memory order */
};

struct CellField
{
  const char *name, *doc;       /* doc: "" when there is none */
  const CellType *type;         /* of a member; of one element for an array, of the value for an optional; else NULL */
  const CellItem *error;        /* CELL_ROLE_FAILS */
  uint32_t offset;              /* plain: the member; array: the 8-byte pointer; optional: the value */
  uint32_t extra;               /* array: of u32 count, followed by u32 stride; optional: of bool presence */
  uint32_t value;               /* CELL_ROLE_ATTRIBUTE */
  uint8_t shape, role, attribute, reserved_;
};

/* Runs a handler: in and out point to the structs whose members are the rows of CELL_ROLE_IN and CELL_ROLE_OUT.  A property's
 * getter has out only; a setter has in only.  [cell] */
typedef CellStatus (*CellInvoke) (void *self, CellCall *call, const void *in, void *out);

struct CellItem
{
  uint32_t size;                /* of this struct, as the plugin knows it */
  uint8_t kind, reserved_;
  uint16_t n_fields;
  uint32_t in_size, out_size;   /* of the C structs; 0 when a method has no such arguments.  A signal's arguments: in_size */
  const char *owner, *name, *doc;
  const CellField *fields;
  const CellType *type;         /* of a property */
  CellInvoke invoke;            /* of a method; getter of a property */
  CellInvoke set;               /* setter of a property, or NULL */
};

/* ---- what a host offers --------------------------------------------------------------------- */

enum /* CellHost.log */
{
  CELL_LOG_DEBUG, CELL_LOG_INFO, CELL_LOG_WARNING, CELL_LOG_ERROR
};

typedef struct CellHost
{
  uint32_t size;
  uint16_t abi_major, abi_minor;

  /* A table of more functions ("cell.client/1" → CellHostClient), or NULL where this host has none.  [any] */
  const void *(*get_extension) (const char *id);

  /* Zeroed memory, 8-byte aligned, that lasts until the call is answered; NULL when the call's bound is reached.  [cell] */
  void *(*alloc) (CellCall *call, size_t size);

  /* Ends the call with a declared error and a message; returns CELL_ERROR_FAILED, which the handler returns.  [cell] */
  CellStatus (*fail) (CellCall *call, const CellItem *error, const char *format, ...) __attribute__ ((format (printf, 3, 4)));

  /* The same with a code of <cell/errors.h>; returns it.  [cell] */
  CellStatus (*fail_status) (CellCall *call, CellStatus status, const char *format, ...) __attribute__ ((format (printf, 3, 4)));

  /* A string that lasts until the call is answered; "" when the call's bound is reached.  [cell] */
  const char *(*print) (CellCall *call, const char *format, ...) __attribute__ ((format (printf, 2, 3)));

  /* Sends a signal to whoever subscribed; never blocks.  self: the instance; args: the signal's struct.  [cell] */
  void (*emit) (void *self, const CellItem *signal, const void *args);

  /* One line of the cell's log; level: CELL_LOG_….  [any] */
  void (*log) (void *self, int32_t level, const char *format, ...) __attribute__ ((format (printf, 3, 4)));
} CellHost;

/* "cell.defer/1" */
#define CELL_EXTENSION_DEFER "cell.defer/1"
typedef struct
{
  uint32_t size;
  /* Copies the request out of the ring and keeps the call; the handler returns CELL_DEFERRED.  The id is never 0, never reused,
   * and may be saved: a restored instance takes the call up again with it.  [cell] */
  uint64_t (*defer) (CellCall *call);
  /* The kept call, to be answered; NULL when its caller is gone.  [cell] */
  CellCall *(*resume) (void *self, uint64_t id);
  /* The request of a kept call: the struct that the handler was given as `in`.  [cell] */
  const void *(*request) (CellCall *call);
  /* Answers a kept call and frees it.  status: CELL_OK with out, or what cell_fail () returned.  [cell] */
  void (*answer) (CellCall *call, CellStatus status, const void *out);
} CellHostDefer;

/* "cell.client/1" */
#define CELL_EXTENSION_CLIENT "cell.client/1"
typedef struct
{
  uint32_t size;
  /* A client of the cell called `name`; never NULL: what is wrong is said by each call's result.  Bound lazily, so that cells may
   * be loaded in any order.  Freed with the instance.  `remote` must outlive it.  [cell] */
  CellClient *(*use) (void *self, const char *name, const CellRemote *remote);
} CellHostClient;

/* "cell.config/1": what the user set for this cell, as text.  */
#define CELL_EXTENSION_CONFIG "cell.config/1"
typedef struct
{
  uint32_t size;
  /* The value of a key, or NULL; lasts as long as the instance.  [cell] */
  const char *(*get) (void *self, const char *key);
} CellHostConfig;

/* "cell.blob/1": a sealed memfd that is passed by reference and read in place.  */
#define CELL_EXTENSION_BLOB "cell.blob/1"
typedef struct
{
  uint32_t size;
  /* A writable blob of `size` bytes, owned by the call or, when call is NULL, by the caller, who unrefs it; NULL when memory or the
   * limit ran out.  It is sealed for good when it is first handed out.  [cell] */
  CellBlob *(*create) (void *self, CellCall *call, size_t size);
  /* Its bytes; NULL for no blob, an empty blob, or one that has been sealed and cannot be mapped.  Writable until it is handed
   * out.  [any] */
  void *(*data) (CellBlob *blob);
  size_t (*get_size) (CellBlob *blob);
  CellBlob *(*ref) (CellBlob *blob);    /* keeps a blob beyond the call; [any] */
  void (*unref) (CellBlob *blob);       /* NULL is nothing; [any] */
} CellHostBlob;

/* Every blob begins with its functions, so that cells and programs read and release one in the same way, whoever made it. */
struct CellBlob
{
  const CellHostBlob *api;
};

/* "cell.state/1" */
#define CELL_EXTENSION_STATE "cell.state/1"
typedef struct
{
  uint32_t size;
  /* Appends bytes; CELL_OK or CELL_ERROR_NO_RESOURCES.  [cell, save] */
  CellStatus (*write) (CellState *to, const void *data, size_t size);
  /* Appends one reflected struct, with all that it refers to.  [cell, save] */
  CellStatus (*put) (CellState *to, const CellType *type, const void *value);
  /* The next `size` bytes, in place until restore returns, or NULL when there are fewer.  [cell, restore] */
  const void *(*read) (CellState *from, size_t size);
  /* The next struct, checked, in place until restore returns; NULL when it is not one.  Members that the saved one did not have
   * yet are zero.  [cell, restore] */
  const void *(*get) (CellState *from, const CellType *type);
  size_t (*left) (CellState *from);     /* bytes not yet read */
} CellHostState;

/* ---- what a cell is ------------------------------------------------------------------------- */

enum /* CellOptions.threading */
{
  CELL_SERIAL,                  /* one call at a time, on any thread */
  CELL_CONCURRENT,              /* many at a time: the cell is thread-safe */
  CELL_LOOP                     /* on a thread of its own, whose default GMainContext runs between calls */
};

typedef struct
{
  const char *doc;
  uint32_t threading;
  uint32_t state_version;                                       /* what save writes; given to restore */
  CellStatus (*init) (void *self);                              /* before the first call */
  void (*fini) (void *self);                                    /* after the last */
  CellStatus (*save) (void *self, CellState *to);
  CellStatus (*restore) (void *self, uint32_t version, CellState *from);   /* after init */
  int32_t end_;
} CellOptions;

enum /* CellEntry.build: what must agree, or be known, before anything runs */
{
  CELL_BUILD_POINTER_64 = 1 << 0,
  CELL_BUILD_ADDRESS_SANITIZER = 1 << 1,
  CELL_BUILD_THREAD_SANITIZER = 1 << 2,
  CELL_BUILD_CXX = 1 << 3
};

/* The one exported symbol.  The first sixteen bytes guard the rest: magic, size, major, minor and build are checked before any
 * other member is touched. */
typedef struct
{
  uint32_t magic, size;
  uint16_t abi_major, abi_minor;
  uint32_t build;

  uint16_t type_size, field_size, options_size, reserved_;
  uint32_t version;                     /* of the interface */
  uint32_t self_size;                   /* bytes of the instance; the host allocates and zeroes them, 16-byte aligned */
  const char *interface, *owner;        /* "org.example.Ledger", "Ledger" */
  const CellItem *const *items, *const *items_end;
  const CellHost **host;                /* the host writes its vtable here before it calls anything */
  CellStatus (*construct) (void *self); /* C++ constructor and destructor, or NULL; anything but CELL_OK: there is no object */
  void (*destruct) (void *self);
  const CellOptions *options;
} CellEntry;

#define CELL_ENTRY_SYMBOL "cell_entry"

#ifdef __cplusplus
}
#endif
#endif

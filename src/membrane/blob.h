/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Blobs: sealed memory passed by reference.  A blob is filled by whoever made it and sealed for good when it is first handed out:
 * from then on nobody can write to it, its maker included, so it may be read in place whoever made it.
 *
 * A record carries a blob's id, a random number that the host knows.  Handing a blob out puts it into the host's transit table;
 * whoever decodes the record takes it from there.  In the host that is a look-up; elsewhere a question over the connection.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cell/abi.h>

#include "fault.h"

/* The functions that every blob begins with; `create` is filled in by who knows how blobs are made here. */
extern CellHostBlob blob_api;

#define BLOB_MAX_SIZE ((size_t) 1 << 30)

/* Its memory is there, and whoever calls this has it: the kernel counts memory that is shared as his whose process it was reserved
 * by. */
CellBlob *blob_new (size_t size, Fault *fault);
/* For somebody else to fill, who reserves its memory himself: by blob_from_fresh_fd (). */
CellBlob *blob_new_for_other (size_t size, Fault *fault);
/* Wraps memory that came from elsewhere: checks that nobody can write to it or change its size any more, and that all of it is
 * there.  Takes the descriptor. */
CellBlob *blob_from_fd (int fd, size_t size, Fault *fault);
/* Wraps memory that the host made for us to fill, and reserves it.  Takes the descriptor. */
CellBlob *blob_from_fresh_fd (int fd, size_t size, Fault *fault);
CellBlob *blob_ref (CellBlob *blob);
void blob_unref (CellBlob *blob);
/* The bytes; writable until sealed.  NULL: empty, or no address space. */
void *blob_data (CellBlob *blob);
size_t blob_size (CellBlob *blob);
bool blob_seal (CellBlob *blob, Fault *fault);
int blob_fd (CellBlob *blob);

/* How blobs leave and enter one side of a channel. */
typedef struct BlobPort BlobPort;
struct BlobPort
{
  uint64_t (*export_blob) (BlobPort *port, CellBlob *blob);     /* 0: cannot */
  CellBlob *(*import_blob) (BlobPort *port, uint64_t id);       /* a reference; NULL: no such blob */
};

/* The host's transit table, as a port: ids → blobs on their way.  Bounded in number and bytes; what nobody fetches for a minute is
 * dropped. */
BlobPort *blob_transit (void);
/* The same for one outsider: what is handed out to him is of his share, as what he hands out himself is, until he fetches it. */
typedef struct
{
  BlobPort base;
  uint64_t owner;
} BlobShare;

void blob_share_init (BlobShare *share, uint64_t owner);
/* The id of a blob that is on its way from now on; 0: there are too many.  owner: names the outsider who may have only a share of
 * what there is; 0: it is of no outsider's. */
uint64_t blob_transit_put (CellBlob *blob, uint64_t owner);
CellBlob *blob_transit_take (uint64_t id);
/* Forgets those of an owner that nobody has fetched. */
void blob_transit_drop (uint64_t owner);
/* Bytes on their way, for statistics. */
size_t blob_transit_bytes (void);

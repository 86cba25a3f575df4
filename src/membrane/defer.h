/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Calls that are answered after their handler has returned.  The request is copied out of the ring; room for the reply stays
 * promised; the id is unique for the life of the host.
 */
#pragma once
#include "channel.h"

#define DEFERRED_MAX 16384u                     /* calls of one service … */
#define DEFERRED_BLOBS_MAX 1024u                /* … and blobs in them: each is a descriptor */

typedef struct Deferred Deferred;

/* Every function: in the cell's own context. */
uint64_t call_defer (CellCall *call);
CellCall *call_resume (Service *service, uint64_t id);
const void *call_request (CellCall *call);
void call_answer (CellCall *call, CellStatus status, const void *out);
/* Answers those of a channel whose callers have given up, unless the cell is about to: room for replies was promised to them that
 * others need.  By whoever has the channel, when there is no other room.  True: there is some now. */
bool deferred_end_overdue (Service *service, Channel *channel);
/* Forgets those whose callers have gone: nobody is waiting for their answers. */
void deferred_drop_orphans (Service *service);
/* Hands all kept calls to another build, which resumes them by their ids; both are stopped.  A call of a method that it does not
 * have ends in CELL_ERROR_NO_METHOD. */
void deferred_move (Service *from, Service *to);
/* A kept call as it goes to another process: by numbers, with its request written down as a payload. */
typedef struct
{
  uint64_t id, channel, call, trace;    /* channel: its serial */
  uint32_t method, flags, root, length, due;
  const uint8_t *payload;
  uint32_t n_blobs;
  CellBlob *const *blobs;
} DeferredRecord;

/* Each of the kept calls in turn; both ends are stopped.  False: one cannot be written down, or `each` said so. */
bool deferred_export (Service *service, bool (*each) (const DeferredRecord *record, void *data), void *data);
/* Keeps a call that was kept elsewhere; whatever is in the record is checked, except that no other call here has its id: to look
 * for that among all of them, for each of them, would take too long.  The blobs are referred to. */
bool deferred_import (Service *service, Channel *channel, const DeferredRecord *record, Fault *fault);
/* They have gone elsewhere: nothing is answered. */
void deferred_forget_all (Service *service);
/* The id and the method of each; returns how many there are. */
unsigned deferred_list (Service *service, void (*each) (uint64_t id, const char *method, void *data), void *data);

/* How many calls of this service are kept. */
unsigned deferred_count (Service *service);
/* Ends all of them with an error: the cell stops. */
void deferred_end_all (Service *service, CellStatus status, const char *message);

/* Memory that lasts until the call is answered; zeroed. */
void *call_alloc (CellCall *call, size_t size);
void call_keep_blob (CellCall *call, CellBlob *blob);
/* What the call ends with if its handler says so.  name NULL: the status's own. */
void call_set_error (CellCall *call, const char *name, const char *message);
/* CodecBlobs hooks: data is the call, whose channel has the port; or the port itself for what a caller sends. */
CellBlob *call_import_blob (void *data, uint64_t id);
uint64_t call_export_blob (void *data, CellBlob *blob);
void call_release_blobs (CellCall *call);

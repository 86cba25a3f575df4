/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "defer.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "blob.h"
#include "result.h"
#include "serve.h"

#define DEFERRED_ARENA (4u << 20)
#define DEFERRED_ID_MAX (UINT64_MAX >> 1)       /* a cell is given one bit more */
#define LOOK_MIN 8u
#define GRACE_MS CHANNEL_TIMEOUT_MS     /* after its deadline: whoever starts a call, and waits for it later, counts from then */

struct Deferred
{
  Deferred *next;
  uint64_t id;
  bool resumed;                         /* the cell may have its request in its hands */
  uint32_t due;                         /* past that its caller waits no more: coarse clock, ms */
  CellCall call;
  ThreadContext memory;                 /* only its arena is used */
};

static uint64_t
new_id (void)
{
  static _Atomic uint64_t last;
  uint64_t zero = 0, start;
  struct timespec now;

  if (load_relaxed (&last) == 0)
    {
      /* Ids may be saved and outlive this process: the next one starts behind them. */
      clock_gettime (CLOCK_REALTIME, &now);
      start = (uint64_t) now.tv_sec << 30 | (uint64_t) now.tv_nsec;
      atomic_compare_exchange_strong (&last, &zero, start);
    }
  return atomic_fetch_add (&last, 1) + 1;
}

/* The same blobs in the same order: they have been taken out of transit by the first decoding. */
typedef struct
{
  const CellCall *call;
  uint32_t next;
} KeptBlobs;

static CellBlob *
kept_blob (void *data, uint64_t id)
{
  KeptBlobs *kept = data;

  (void) id;
  return kept->next < kept->call->n_blobs ? kept->call->blobs[kept->next++] : NULL;
}

static uint64_t
name_blob (void *data, CellBlob *blob)
{
  (void) data;
  (void) blob;
  return 1;                             /* kept_blob () goes by their order */
}

/* What the handler was given, written down as a payload again: the ring must not be read a second time when somebody else writes
 * it. NULL: no memory, or it takes more than a kept call may. */
static uint8_t *
encode_again (const CodecPlan *plan, const void *in, uint32_t length, uint32_t *ret_length)
{
  CodecBlobs blobs = { name_blob, NULL, NULL };

  for (uint32_t capacity = 2 * (plan->size + length) + 256; capacity <= DEFERRED_ARENA; capacity *= 2)
    {
      uint8_t *payload = malloc (capacity);
      CodecFault fault;

      *ret_length = plan->size;
      if (payload == NULL || codec_encode (plan, in, payload, capacity, ret_length, &blobs, &fault))
        return payload;
      free (payload);
      if (fault.status != CELL_ERROR_TOO_LARGE)
        break;
    }
  return NULL;
}

/* The request once more, in memory of its own. */
static bool
copy_request (Deferred *deferred, const CellCall *call)
{
  const CodecPlan *plan = call->method->in;
  Arena *arena = &deferred->memory.arena;
  uint8_t *payload, *local, *encoded = NULL;
  uint32_t length = call->length, root = call->root;
  CodecFault fault;
  KeptBlobs kept = { call, 0 };
  bool copied;

  if (plan == NULL)
    return true;
  local = arena_get (arena, plan->size);
  deferred->call.in = local;
  if (local != NULL && plan->flat)
    {
      memcpy (local, call->in, plan->size);
      return true;
    }
  if (call->channel->untrusted)
    {
      encoded = encode_again (plan, call->in, length, &length);
      root = plan->size;
      if (encoded == NULL)
        return false;
    }
  payload = arena_get (arena, length);
  if (payload != NULL)
    memcpy (payload, encoded != NULL ? encoded : call->request->payload, length);
  free (encoded);
  copied = local != NULL && payload != NULL;
  return copied
         && codec_decode (plan, payload, length, root, CODEC_PRIVATE, arena, &(CodecBlobs){ NULL, kept_blob, &kept }, local,
                          &fault);
}

/* A call without pointers has nothing to give back, unless it says so. */
static void
make_dirty (CellCall *call)
{
  if (call != &call->channel->trivial_call || call->dirty)
    return;
  call->mark = arena_mark (&call->thread->arena);
  call->dirty = true;
}

static void
deferred_free (Deferred *deferred)
{
  call_release_blobs (&deferred->call);
  arena_clear (&deferred->memory.arena);
  channel_unref (deferred->call.channel);
  free (deferred);
}

/* In the handler: its record is the one that has been taken and not released.  What a peer says of it harms nobody but itself. */
static uint32_t
due_of (const Channel *channel)
{
  const RingReader *requests = &channel->requests;
  const Record *record = (const Record *) (requests->data + (load_relaxed (&requests->own->released) & requests->mask));
  uint32_t timeout = *(const volatile uint32_t *) &record->timeout;

  return coarse_ms () + (timeout < INT32_MAX - GRACE_MS ? timeout + GRACE_MS : INT32_MAX);
}

/* Its caller's channel has ended, no handler of it runs, and the cell has not begun to answer: it will be told that there is no
 * such call. */
static bool
is_orphan (const Deferred *deferred, const Channel *current)
{
  const Channel *channel = deferred->call.channel;

  return !deferred->resumed && (deferred->call.flags & RECORD_ONEWAY) == 0 && channel != current
         && load_acquire (&channel->ended) != 0 && load_acquire (&channel->busy) == BUSY_NOT;
}

/* Those of which that is so, out of the list; with the service's lock. */
static Deferred *
take_out (Service *service, bool (*is_so) (const Deferred *deferred, const Channel *channel), const Channel *channel)
{
  Deferred *taken = NULL;

  for (Deferred **link = &service->deferred; *link != NULL;)
    {
      Deferred *deferred = *link;

      if (!is_so (deferred, channel))
        {
          link = &deferred->next;
          continue;
        }
      *link = deferred->next;
      deferred->next = taken;
      taken = deferred;
      service->n_deferred--;
      service->n_deferred_blobs -= deferred->call.n_blobs;
    }
  return taken;
}

/* Whoever connects, has a call kept and goes, again and again, would leave a channel and its descriptors with each.  Looked for now
 * and then, so that it costs each kept call little. */
static void
drop_orphans (Service *service, const Channel *current, bool now)
{
  Deferred *orphans = NULL;

  pthread_mutex_lock (&service->lock);
  if (now || service->n_deferred >= service->look_at)
    {
      orphans = take_out (service, is_orphan, current);
      service->look_at = service->n_deferred < LOOK_MIN / 2 ? LOOK_MIN : 2 * service->n_deferred;
    }
  pthread_mutex_unlock (&service->lock);
  while (orphans != NULL)
    {
      Deferred *next = orphans->next;

      deferred_free (orphans);
      orphans = next;
    }
}

void
deferred_drop_orphans (Service *service)
{
  drop_orphans (service, NULL, true);
}

/* With the service's lock. */
static void
keep (Service *service, Deferred *deferred)
{
  deferred->next = service->deferred;
  service->deferred = deferred;
  service->n_deferred++;
  service->n_deferred_blobs += deferred->call.n_blobs;
}

/* Blobs in the kept calls of one connection.  With the service's lock. */
static uint32_t
blobs_of (const Service *service, const BlobPort *port)
{
  uint32_t n = 0;

  for (const Deferred *deferred = service->deferred; deferred != NULL; deferred = deferred->next)
    if (deferred->call.channel->blobs == port)
      n += deferred->call.n_blobs;
  return n;
}

/* False: as many are kept as may be.  When there is no more than half of the room left for blobs, nobody has more than a quarter of
 * it: otherwise one caller could keep all others from having theirs kept.  channel: NULL if it has been kept before, elsewhere. */
static bool
has_room (Service *service, const Channel *channel, uint32_t n_blobs)
{
  bool room;

  pthread_mutex_lock (&service->lock);
  room = service->n_deferred < DEFERRED_MAX && (n_blobs == 0 || service->n_deferred_blobs + n_blobs <= DEFERRED_BLOBS_MAX);
  if (room && channel != NULL && n_blobs > 0 && service->n_deferred_blobs + n_blobs > DEFERRED_BLOBS_MAX / 2)
    room = blobs_of (service, channel->blobs) + n_blobs <= DEFERRED_BLOBS_MAX / 4;
  pthread_mutex_unlock (&service->lock);
  return room;
}

uint64_t
call_defer (CellCall *call)
{
  Deferred *deferred;

  if (call->deferred != NULL)
    return call->deferred->id;
  drop_orphans (call->service, call->channel, false);
  if (!has_room (call->service, call->channel, call->n_blobs))
    return 0;
  deferred = calloc (1, sizeof *deferred);
  if (deferred == NULL)
    return 0;
  arena_init (&deferred->memory.arena, DEFERRED_ARENA);
  deferred->call = *call;
  deferred->call.in = NULL;
  deferred->call.thread = &deferred->memory;
  deferred->call.build_in_place = false;
  deferred->call.reply = NULL;
  deferred->call.deferred = deferred;
  deferred->call.n_blobs = 0;
  deferred->call.blobs = NULL;
  deferred->call.dirty = false;
  if (!copy_request (deferred, call))
    {
      arena_clear (&deferred->memory.arena);
      free (deferred);
      return 0;
    }
  /* The copy's blobs are borrowed from the call: keep them as long as the copy. */
  deferred->call.n_blobs = call->n_blobs;
  deferred->call.blobs = call->blobs;
  call->n_blobs = 0;
  call->blobs = NULL;
  deferred->call.request = NULL;
  deferred->due = due_of (call->channel);
  deferred->id = new_id ();
  pthread_mutex_lock (&call->service->lock);
  keep (call->service, deferred);
  pthread_mutex_unlock (&call->service->lock);
  if (!(call->flags & RECORD_ONEWAY))
    call->channel->reserved += record_size (call->capacity);
  channel_ref (call->channel);
  call->deferred = deferred;
  make_dirty (call);                    /* so that the next call begins with a clean one, whatever this handler returns */
  return deferred->id;
}

CellCall *
call_resume (Service *service, uint64_t id)
{
  Deferred **link = &service->deferred, *deferred;

  pthread_mutex_lock (&service->lock);
  while (*link != NULL && (*link)->id != id)
    link = &(*link)->next;
  deferred = *link;
  if (deferred != NULL)
    {
      /* To the front: it is looked for again by each function that is given it. */
      *link = deferred->next;
      deferred->next = service->deferred;
      service->deferred = deferred;
      deferred->resumed = true;
    }
  pthread_mutex_unlock (&service->lock);
  return deferred != NULL ? &deferred->call : NULL;
}

const void *
call_request (CellCall *call)
{
  return call->in;
}

static void
unlink_deferred (Deferred *deferred)
{
  Service *service = deferred->call.service;

  pthread_mutex_lock (&service->lock);
  for (Deferred **link = &service->deferred; *link != NULL; link = &(*link)->next)
    if (*link == deferred)
      {
        *link = deferred->next;
        service->n_deferred--;
        service->n_deferred_blobs -= deferred->call.n_blobs;
        break;
      }
  pthread_mutex_unlock (&service->lock);
  deferred_free (deferred);
}

void
call_answer (CellCall *call, CellStatus status, const void *out)
{
  Channel *channel = call->channel;
  const CodecPlan *plan = call->method->out;
  uint32_t capacity = call->capacity, used = plan != NULL ? plan->size : 0, root = used;
  char text[SERVE_TEXT];
  Record *room;
  CodecFault fault;

  if (call->deferred == NULL)
    return;
  if (call->flags & RECORD_ONEWAY || channel->broken != CELL_OK)
    {
      unlink_deferred (call->deferred);
      return;
    }
  room = aligned_alloc (RECORD_ALIGN, record_size (capacity));
  if (room == NULL)
    status = CELL_ERROR_NO_RESOURCES;
  else if (status == CELL_OK && plan != NULL
           && !codec_encode (plan, out, room->payload, capacity, &used, &(CodecBlobs){ call_export_blob, NULL, channel->blobs },
                             &fault))
    {
      status = serve_reply_fault (&fault, capacity, text);
      call->error = NULL;
      call->message = text;
    }
  if (status == CELL_OK)
    channel_send_answer (channel, thread_context (), call->id, (uint16_t) call->number, CELL_OK,
                         room != NULL ? room->payload : (const void *) "", used, root, record_size (capacity));
  else
    {
      uint8_t small[ERROR_ROOM];
      const char *wrong = serve_check_status (&status, text);

      if (wrong != NULL)
        {
          call->error = NULL;
          call->message = wrong;
        }
      call->status = status;
      used = error_payload (small, capacity < sizeof small ? capacity : sizeof small,
                            call->error != NULL ? call->error : status_name (status),
                            call->message != NULL ? call->message : status_text (status));
      channel_send_answer (channel, thread_context (), call->id, (uint16_t) call->number, status, small, used, 0,
                           record_size (capacity));
    }
  free (room);
  unlink_deferred (call->deferred);
}

/* ---- past their deadlines ---------------------------------------------------------------------- */

static bool
is_overdue (const Deferred *deferred, const Channel *channel)
{
  return deferred->call.channel == channel && (deferred->call.flags & RECORD_ONEWAY) == 0
         && (int32_t) (coarse_ms () - deferred->due) > 0;
}

/* The cell has not begun to answer: it will be told that there is no such call. */
static bool
is_forgotten (const Deferred *deferred, const Channel *channel)
{
  return !deferred->resumed && is_overdue (deferred, channel);
}

static void
answer_late (Deferred *deferred)
{
  deferred->call.error = NULL;
  deferred->call.message = "the cell has kept the call past its deadline";
  call_answer (&deferred->call, CELL_ERROR_DEADLINE, NULL);
}

bool
deferred_end_overdue (Service *service, Channel *channel)
{
  uint32_t before = channel->reserved;
  Deferred *forgotten;

  pthread_mutex_lock (&service->lock);
  forgotten = take_out (service, is_forgotten, channel);
  pthread_mutex_unlock (&service->lock);
  while (forgotten != NULL)
    {
      Deferred *next = forgotten->next;

      answer_late (forgotten);
      forgotten = next;
    }
  return channel->reserved < before;
}

/* What the handler was given, as another build's struct. */
static bool
convert_request (Deferred *deferred, const CodecPlan *plan)
{
  const CodecPlan *old = deferred->call.method->in;
  Arena *arena = &deferred->memory.arena;
  KeptBlobs kept = { &deferred->call, 0 };
  uint8_t *encoded, *payload;
  CodecFault fault;
  uint32_t length;
  void *local;

  if (plan == NULL || old == NULL)
    {
      deferred->call.in = plan == NULL ? NULL : arena_get (arena, plan->size);
      if (deferred->call.in != NULL)
        memset ((void *) deferred->call.in, 0, plan->size);
      return plan == NULL || deferred->call.in != NULL;
    }
  encoded = encode_again (old, deferred->call.in, old->size, &length);
  payload = encoded != NULL ? arena_get (arena, length) : NULL;
  local = payload != NULL ? arena_get (arena, plan->size) : NULL;
  if (local != NULL)
    memcpy (payload, encoded, length);
  free (encoded);
  deferred->call.in = local;
  return local != NULL
         && codec_decode (plan, payload, length, old->size, CODEC_PRIVATE, arena, &(CodecBlobs){ NULL, kept_blob, &kept }, local,
                          &fault);
}

void
deferred_move (Service *from, Service *to)
{
  Deferred *next;

  for (Deferred *deferred = from->deferred; deferred != NULL; deferred = next)
    {
      CellCall *call = &deferred->call;
      const Method *method =
        call->number < to->n_methods && to->methods[call->number].invoke != NULL ? &to->methods[call->number] : NULL;

      next = deferred->next;
      call->error = call->message = NULL;
      if (method == NULL || !convert_request (deferred, method->in))
        {
          call_answer (call, method == NULL ? CELL_ERROR_NO_METHOD : CELL_ERROR_NO_RESOURCES, NULL);
          continue;
        }
      from->deferred = next;            /* those before it are gone */
      from->n_deferred--;
      from->n_deferred_blobs -= call->n_blobs;
      call->method = method;
      call->service = to;
      keep (to, deferred);
    }
}

/* ---- to and from another process ---------------------------------------------------------------- */

unsigned
deferred_list (Service *service, void (*each) (uint64_t id, const char *method, void *data), void *data)
{
  unsigned n = 0;

  pthread_mutex_lock (&service->lock);
  for (Deferred *deferred = service->deferred; deferred != NULL; deferred = deferred->next, n++)
    each (deferred->id, deferred->call.method->name, data);
  pthread_mutex_unlock (&service->lock);
  return n;
}

bool
deferred_export (Service *service, bool (*each) (const DeferredRecord *record, void *data), void *data)
{
  bool good = true;

  for (Deferred *deferred = service->deferred; deferred != NULL && good; deferred = deferred->next)
    {
      const CellCall *call = &deferred->call;
      const CodecPlan *plan = call->method->in;
      DeferredRecord record = {
        .id = deferred->id, .channel = call->channel->serial, .call = call->id, .trace = call->trace, .method = call->number,
        .flags = call->flags & RECORD_ONEWAY, .due = deferred->due, .n_blobs = call->n_blobs, .blobs = call->blobs,
      };
      uint8_t *payload = NULL;

      if (plan != NULL)
        {
          payload = encode_again (plan, call->in, plan->size, &record.length);
          record.root = plan->size;
          good = payload != NULL;
        }
      record.payload = payload;
      good = good && each (&record, data);
      free (payload);
    }
  return good;
}

/* The request, decoded into memory of its own. */
static bool
import_request (Deferred *deferred, const DeferredRecord *record, Fault *fault)
{
  const CodecPlan *plan = deferred->call.method->in;
  Arena *arena = &deferred->memory.arena;
  KeptBlobs kept = { &deferred->call, 0 };
  uint8_t *payload, *local;
  CodecFault wrong = { CELL_ERROR_NO_RESOURCES, "no memory", "", 0 };

  if (plan == NULL)
    return true;
  payload = record->root <= record->length ? arena_get (arena, record->length) : NULL;
  local = payload != NULL ? arena_get (arena, plan->size) : NULL;
  if (local != NULL)
    memcpy (payload, record->payload, record->length);
  deferred->call.in = local;
  if (local != NULL
      && codec_decode (plan, payload, record->length, record->root, CODEC_PRIVATE, arena, &(CodecBlobs){ NULL, kept_blob, &kept },
                       local, &wrong))
    return true;
  return fault_set (fault, wrong.status, "the request of a kept call breaks the rule '%s'", wrong.rule);
}

bool
deferred_import (Service *service, Channel *channel, const DeferredRecord *record, Fault *fault)
{
  const Method *method =
    record->method < service->n_methods && service->methods[record->method].invoke != NULL ? &service->methods[record->method]
                                                                                           : NULL;
  uint32_t whole = (uint32_t) (channel->answers.mask + 1 - sizeof (Record)), capacity, credit;
  Deferred *deferred;

  if (method == NULL)
    return fault_set (fault, CELL_ERROR_NO_METHOD, "a kept call is of a method that there is none of");
  if (!has_room (service, NULL, record->n_blobs))
    return fault_set (fault, CELL_ERROR_NO_RESOURCES, "more calls, or blobs in them, are kept than may be");
  capacity = method->max_reply < whole ? method->max_reply : whole;
  credit = record->flags & RECORD_ONEWAY ? 0 : record_size (capacity);
  if (record->id == 0 || record->id > DEFERRED_ID_MAX || credit > channel->answers.mask + 1 - channel->reserved)
    return fault_set (fault, CELL_ERROR_CORRUPT, "a kept call has no id, or more are kept than can be answered");
  deferred = calloc (1, sizeof *deferred);
  if (deferred == NULL)
    return fault_set (fault, CELL_ERROR_NO_RESOURCES, "no memory for a kept call");
  deferred->id = record->id;
  deferred->due = record->due;
  arena_init (&deferred->memory.arena, DEFERRED_ARENA);
  deferred->call = (CellCall) {
    .channel = channel_ref (channel), .service = service, .method = method, .thread = &deferred->memory, .id = record->call,
    .trace = record->trace, .number = record->method, .flags = record->flags & RECORD_ONEWAY, .capacity = capacity,
    .deferred = deferred,
  };
  for (uint32_t i = 0; i < record->n_blobs; i++)
    call_keep_blob (&deferred->call, blob_ref (record->blobs[i]));
  channel->reserved += credit;
  pthread_mutex_lock (&service->lock);
  keep (service, deferred);
  pthread_mutex_unlock (&service->lock);
  if (import_request (deferred, record, fault))
    return true;
  channel->reserved -= credit;
  unlink_deferred (deferred);
  return false;
}

void
deferred_forget_all (Service *service)
{
  while (service->deferred != NULL)
    {
      const CellCall *call = &service->deferred->call;

      if (!(call->flags & RECORD_ONEWAY))
        call->channel->reserved -= record_size (call->capacity);
      unlink_deferred (service->deferred);
    }
}

unsigned
deferred_count (Service *service)
{
  return service->n_deferred;
}

void
deferred_end_all (Service *service, CellStatus status, const char *message)
{
  while (service->deferred != NULL)
    {
      service->deferred->call.error = NULL;
      service->deferred->call.message = message;
      call_answer (&service->deferred->call, status, NULL);
    }
}

void *
call_alloc (CellCall *call, size_t size)
{
  uint32_t used = (call->used + 7) & ~7u;
  uint8_t *p;

  if (size > UINT32_MAX - 7)
    return NULL;
  size = (size + 7) & ~(size_t) 7;
  if (call->build_in_place && used <= call->capacity && size <= call->capacity - used)
    {
      p = call->reply->payload + used;
      call->used = used + (uint32_t) size;
    }
  else
    {
      make_dirty (call);
      p = arena_get (&call->thread->arena, size);
    }
  if (p != NULL)
    memset (p, 0, size);
  return p;
}

void
call_keep_blob (CellCall *call, CellBlob *blob)
{
  CellBlob **blobs = realloc (call->blobs, (call->n_blobs + 1) * sizeof *blobs);

  if (blobs == NULL)
    abort ();
  make_dirty (call);
  call->blobs = blobs;
  call->blobs[call->n_blobs++] = blob;
}

void
call_set_error (CellCall *call, const char *name, const char *message)
{
  make_dirty (call);
  call->error = name;
  call->message = message;
}

CellBlob *
call_import_blob (void *data, uint64_t id)
{
  CellCall *call = data;
  BlobPort *port = call->channel->blobs;
  CellBlob *blob = port != NULL && call->n_blobs < CALL_BLOBS_MAX ? port->import_blob (port, id) : NULL;

  if (blob != NULL)
    call_keep_blob (call, blob);
  return blob;
}

uint64_t
call_export_blob (void *data, CellBlob *blob)
{
  BlobPort *port = data;

  return port != NULL ? port->export_blob (port, blob) : 0;
}

void
call_release_blobs (CellCall *call)
{
  for (uint32_t i = 0; i < call->n_blobs; i++)
    blob_unref (call->blobs[i]);
  free (call->blobs);
  call->blobs = NULL;
  call->n_blobs = 0;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "carry.h"

#include "membrane/blob.h"
#include "membrane/defer.h"
#include "membrane/result.h"
#include "membrane/wire.h"

#include "cell-error.h"

/* Channels: serial, subscriptions, signals missed, and the one that waits for room: number, size of the root, payload.  Kept calls:
 * id, channel, call, method, flags, size of the root, when it is due (the machine's coarse clock, ms), trace, payload, blobs by
 * their ids in transit. */
#define UNSENT_TYPE "(uuay)"
#define CHANNEL_TYPE "(ttta" UNSENT_TYPE ")"
#define KEPT_TYPE "(tttuuuutayat)"
#define CARRY_TYPE "(a" CHANNEL_TYPE "a" KEPT_TYPE ")"

/* ---- leaving ------------------------------------------------------------------------------------------ */

/* With the endpoint's lock.  A new channel is as one that has none of this. */
static gboolean
has_signals (Channel *channel)
{
  return channel->unsent != NULL || load_relaxed (&channel->subscribed) != 0 || channel->missed != 0;
}

static gboolean
is_nothing (Service *service)
{
  gboolean any = deferred_count (service) > 0;

  pthread_mutex_lock (&service->endpoint->lock);
  for (Channel *channel = service->endpoint->channels; channel != NULL && !any; channel = channel->next_in_endpoint)
    any = has_signals (channel);
  pthread_mutex_unlock (&service->endpoint->lock);
  return !any;
}

static void
collect_channel (Channel *channel, GVariantBuilder *builder)
{
  const Kept *kept = channel->unsent;
  g_auto (GVariantBuilder) unsent = G_VARIANT_BUILDER_INIT (G_VARIANT_TYPE ("a" UNSENT_TYPE));

  if (kept != NULL)
    g_variant_builder_add (&unsent, "(uu@ay)", (guint32) kept->method, kept->root,
                           g_variant_new_fixed_array (G_VARIANT_TYPE_BYTE, kept->payload, kept->length, 1));
  g_variant_builder_add (builder, CHANNEL_TYPE, channel->serial, load_relaxed (&channel->subscribed), channel->missed, &unsent);
}

static void
collect_channels (Endpoint *endpoint, GVariantBuilder *builder)
{
  pthread_mutex_lock (&endpoint->lock);
  for (Channel *channel = endpoint->channels; channel != NULL; channel = channel->next_in_endpoint)
    if (has_signals (channel))
      collect_channel (channel, builder);
  pthread_mutex_unlock (&endpoint->lock);
}

/* By their serials, a reference to each: another process may name them as often as it likes, so none is searched for among all. */
static GHashTable *
list_channels (Endpoint *endpoint)
{
  GHashTable *channels = g_hash_table_new_full (g_int64_hash, g_int64_equal, NULL, (GDestroyNotify) channel_unref);

  pthread_mutex_lock (&endpoint->lock);
  for (Channel *channel = endpoint->channels; channel != NULL; channel = channel->next_in_endpoint)
    g_hash_table_replace (channels, &channel->serial, channel_ref (channel));
  pthread_mutex_unlock (&endpoint->lock);
  return channels;
}

typedef struct
{
  GHashTable *channels;
  GVariantBuilder *builder;
  gsize size;                   /* of the requests so far */
} Collect;

static bool
collect_kept (const DeferredRecord *record, void *data)
{
  Collect *collect = data;
  Channel *channel = g_hash_table_lookup (collect->channels, &record->channel);
  GVariant *payload = g_variant_new_fixed_array (G_VARIANT_TYPE_BYTE, record->payload, record->length, 1);
  g_autofree guint64 *ids = g_new0 (guint64, record->n_blobs + 1);

  if (channel == NULL)
    {
      g_variant_unref (g_variant_ref_sink (payload));
      return true;                      /* its caller has gone */
    }
  for (uint32_t i = 0; i < record->n_blobs; i++)
    ids[i] = channel->blobs != NULL ? channel->blobs->export_blob (channel->blobs, record->blobs[i]) : 0;
  g_variant_builder_add (collect->builder, "(tttuuuut@ay@at)", record->id, record->channel, record->call, record->method,
                         record->flags, record->root, record->due, record->trace, payload,
                         g_variant_new_fixed_array (G_VARIANT_TYPE_UINT64, ids, record->n_blobs, sizeof (guint64)));
  collect->size += record->length;
  return collect->size <= CARRY_MAX_SIZE;
}

static gboolean
check_size (gsize size, GError **error)
{
  return size <= CARRY_MAX_SIZE
         || cell_set_error (error, CELL_ERROR_TOO_LARGE,
                            "the calls that it keeps to answer later, and signals, have %zu bytes, and %u are the most", size,
                            CARRY_MAX_SIZE);
}

static GBytes *
collect_all (Service *service, GError **error)
{
  g_auto (GVariantBuilder) channels = G_VARIANT_BUILDER_INIT (G_VARIANT_TYPE ("a" CHANNEL_TYPE));
  g_auto (GVariantBuilder) kept = G_VARIANT_BUILDER_INIT (G_VARIANT_TYPE ("a" KEPT_TYPE));
  g_autoptr (GHashTable) by_serial = list_channels (service->endpoint);
  Collect collect = { by_serial, &kept, 0 };
  g_autoptr (GVariant) carry = NULL;

  collect_channels (service->endpoint, &channels);
  if (!deferred_export (service, collect_kept, &collect) && collect.size <= CARRY_MAX_SIZE)
    {
      cell_set_error (error, CELL_ERROR_TOO_LARGE,
                      "a call that it keeps to answer later has a request that is too large to be moved");
      return NULL;
    }
  carry = g_variant_ref_sink (g_variant_new (CARRY_TYPE, &channels, &kept));
  return check_size (g_variant_get_size (carry), error) ? g_variant_get_data_as_bytes (carry) : NULL;
}

GBytes *
carry_collect (Service *service, GError **error)
{
  return is_nothing (service) ? g_bytes_new (NULL, 0) : collect_all (service, error);
}

void
carry_leave (Service *service)
{
  Endpoint *endpoint = service->endpoint;

  deferred_forget_all (service);
  pthread_mutex_lock (&endpoint->lock);
  for (Channel *channel = endpoint->channels; channel != NULL; channel = channel->next_in_endpoint)
    {
      channel_drop_signal (channel);
      store_relaxed (&channel->subscribed, 0);
      channel->missed = 0;
    }
  pthread_mutex_unlock (&endpoint->lock);
}

/* ---- arriving ----------------------------------------------------------------------------------------- */

/* Each is looked for among all that are on their way. */
static gsize
count_blobs (GVariant *kept)
{
  gsize n = 0;

  for (gsize i = 0; i < g_variant_n_children (kept); i++)
    {
      g_autoptr (GVariant) call = g_variant_get_child_value (kept, i), ids = g_variant_get_child_value (call, 9);

      n += g_variant_n_children (ids);
    }
  return n;
}

GVariant *
carry_parse (GBytes *bytes, GError **error)
{
  g_autoptr (GVariant) carry = g_variant_ref_sink (g_variant_new_from_bytes (G_VARIANT_TYPE (CARRY_TYPE), bytes, FALSE)),
                       kept = NULL;

  if (g_bytes_get_size (bytes) == 0)
    return g_variant_ref_sink (g_variant_new (CARRY_TYPE, NULL, NULL));
  if (!check_size (g_bytes_get_size (bytes), error))
    return NULL;
  if (!g_variant_is_normal_form (carry))
    return cell_set_error (error, CELL_ERROR_CORRUPT, "what it gives of its calls and subscriptions makes no sense"), NULL;
  kept = g_variant_get_child_value (carry, 1);
  if (g_variant_n_children (kept) > DEFERRED_MAX)
    return cell_set_error (error, CELL_ERROR_CORRUPT, "it gives %zu calls, and may keep %u", g_variant_n_children (kept),
                           DEFERRED_MAX), NULL;
  if (count_blobs (kept) > DEFERRED_BLOBS_MAX)
    return cell_set_error (error, CELL_ERROR_CORRUPT, "it gives %" G_GSIZE_FORMAT " blobs, and may keep %u", count_blobs (kept),
                           DEFERRED_BLOBS_MAX), NULL;
  return g_steal_pointer (&carry);
}

/* Callers in the host's process believe what it sends.  So one that comes from a process is counted as missed. */
static void
apply_unsent (GVariant *unsent, Channel *channel, gboolean from_child)
{
  guint32 number, root;
  g_autoptr (GVariant) payload = NULL;
  const void *bytes;
  gsize length;

  if (g_variant_n_children (unsent) == 0)
    return;
  g_variant_get_child (unsent, 0, "(uu@ay)", &number, &root, &payload);
  bytes = g_variant_get_fixed_array (payload, &length, 1);
  if (from_child || number >= WIRE_SIGNALS_MAX || length > RECORD_MAX_PAYLOAD || root > length)
    channel->missed++;
  else
    channel_keep_signal (channel, (uint16_t) number, length > 0 ? bytes : "", (uint32_t) length, root);
}

static void
apply_channels (GVariant *channels, GHashTable *by_serial, gboolean from_child)
{
  guint64 serial, subscribed, missed;
  GVariantIter iter;
  GVariant *unsent;

  g_variant_iter_init (&iter, channels);
  while (g_variant_iter_next (&iter, "(ttt@a" UNSENT_TYPE ")", &serial, &subscribed, &missed, &unsent))
    {
      Channel *channel = g_hash_table_lookup (by_serial, &serial);

      if (channel != NULL)              /* or its caller has gone meanwhile */
        {
          channel_subscribe (channel, subscribed);
          channel->missed = missed;
          apply_unsent (unsent, channel, from_child);
        }
      g_variant_unref (unsent);
    }
}

/* References, as far as they are there. */
static GPtrArray *
import_blobs (Channel *channel, GVariant *ids)
{
  GPtrArray *blobs = g_ptr_array_new_with_free_func ((GDestroyNotify) blob_unref);
  gsize n;
  const guint64 *id = g_variant_get_fixed_array (ids, &n, sizeof (guint64));

  for (gsize i = 0; i < n && i < CALL_BLOBS_MAX; i++)
    {
      CellBlob *blob = channel->blobs != NULL ? channel->blobs->import_blob (channel->blobs, id[i]) : NULL;

      if (blob != NULL)
        g_ptr_array_add (blobs, blob);
    }
  return blobs;
}

static void
answer_lost (Channel *channel, const DeferredRecord *record, const Fault *fault)
{
  uint8_t payload[512];
  uint32_t length = error_payload (payload, sizeof payload, status_name (CELL_ERROR_CRASHED), fault->message);

  if (!(record->flags & RECORD_ONEWAY))
    channel_send (channel, RECORD_REPLY, record->call, (uint16_t) record->method, CELL_ERROR_CRASHED, payload, length, 0);
}

typedef struct
{
  Service *service;
  GHashTable *channels;         /* by their serials */
  GHashTable *ids;              /* guint64: of all calls that are kept here */
  gboolean no_way_back;
} Arriving;

static gboolean
add_id (GHashTable *ids, guint64 id)
{
  return g_hash_table_add (ids, g_memdup2 (&id, sizeof id));
}

static void
note_id (uint64_t id, const char *method, void *data)
{
  (void) method;
  add_id (data, id);
}

static gboolean
import (const Arriving *arriving, Channel *channel, const DeferredRecord *record, Fault *fault)
{
  if (add_id (arriving->ids, record->id))
    return deferred_import (arriving->service, channel, record, fault);
  return fault_set (fault, CELL_ERROR_CORRUPT, "a kept call is there twice");
}

static gboolean
apply_kept (const Arriving *arriving, GVariant *tuple, GError **error)
{
  g_autoptr (GVariant) payload = NULL, ids = NULL;
  g_autoptr (GPtrArray) blobs = NULL;
  DeferredRecord record = { 0 };
  Fault fault = { 0 };
  Channel *channel;
  gsize length;

  g_variant_get (tuple, "(tttuuuut@ay@at)", &record.id, &record.channel, &record.call, &record.method, &record.flags, &record.root,
                 &record.due, &record.trace, &payload, &ids);
  channel = g_hash_table_lookup (arriving->channels, &record.channel);
  if (channel == NULL)
    return TRUE;
  record.payload = g_variant_get_fixed_array (payload, &length, 1);
  record.length = (uint32_t) MIN (length, G_MAXUINT32);
  blobs = import_blobs (channel, ids);
  record.n_blobs = blobs->len;
  record.blobs = (CellBlob *const *) blobs->pdata;
  if (import (arriving, channel, &record, &fault))
    return TRUE;
  if (!arriving->no_way_back)
    return cell_set_error (error, fault.status, "%s", fault.message);
  answer_lost (channel, &record, &fault);
  return TRUE;
}

gboolean
carry_apply (GVariant *carry, Service *service, gboolean no_way_back, GError **error)
{
  g_autoptr (GVariant) channels = g_variant_get_child_value (carry, 0);
  g_autoptr (GVariant) kept = g_variant_get_child_value (carry, 1);
  g_autoptr (GHashTable) by_serial = list_channels (service->endpoint),
                         ids = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, NULL);
  const Arriving arriving = { service, by_serial, ids, no_way_back };
  gboolean good = TRUE;

  deferred_list (service, note_id, ids);
  apply_channels (channels, by_serial, no_way_back);
  for (gsize i = 0; i < g_variant_n_children (kept) && good; i++)
    {
      g_autoptr (GVariant) tuple = g_variant_get_child_value (kept, i);

      good = apply_kept (&arriving, tuple, error);
    }
  return good;
}

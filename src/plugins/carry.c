/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "carry.h"

#include "membrane/blob.h"
#include "membrane/defer.h"
#include "membrane/result.h"
#include "membrane/wire.h"

#include "cell-error.h"

/* Channels: serial, subscriptions, signals missed, and the one that waits for room: number, size of the root, payload.  Kept calls: id, channel, call, method, flags, size of the root, when
 * it is due (the machine's coarse clock, ms), trace, payload, blobs by their ids in transit. */
#define UNSENT_TYPE "(uuay)"
#define CHANNEL_TYPE "(ttta" UNSENT_TYPE ")"
#define KEPT_TYPE "(tttuuuutayat)"
#define CARRY_TYPE "(a" CHANNEL_TYPE "a" KEPT_TYPE ")"
#define BLOBS_MAX 1024u

/* ---- leaving ------------------------------------------------------------------------------------------ */

static void
collect_channels (Endpoint *endpoint, GVariantBuilder *builder)
{
  pthread_mutex_lock (&endpoint->lock);
  for (Channel *channel = endpoint->channels; channel != NULL; channel = channel->next_in_endpoint)
    {
      const Kept *kept = channel->unsent;
      g_auto (GVariantBuilder) unsent = G_VARIANT_BUILDER_INIT (G_VARIANT_TYPE ("a" UNSENT_TYPE));

      if (kept != NULL)
        g_variant_builder_add (&unsent, "(uu@ay)", (guint32) kept->method, kept->root,
                               g_variant_new_fixed_array (G_VARIANT_TYPE_BYTE, kept->payload, kept->length, 1));
      g_variant_builder_add (builder, CHANNEL_TYPE, channel->serial, load_relaxed (&channel->subscribed), channel->missed, &unsent);
    }
  pthread_mutex_unlock (&endpoint->lock);
}

static Channel *
find_channel (Endpoint *endpoint, guint64 serial)
{
  Channel *channel;

  pthread_mutex_lock (&endpoint->lock);
  for (channel = endpoint->channels; channel != NULL && channel->serial != serial;)
    channel = channel->next_in_endpoint;
  pthread_mutex_unlock (&endpoint->lock);
  return channel;
}

typedef struct
{
  Endpoint *endpoint;
  GVariantBuilder *builder;
} Collect;

static bool
collect_kept (const DeferredRecord *record, void *data)
{
  Collect *collect = data;
  Channel *channel = find_channel (collect->endpoint, record->channel);
  GVariant *payload = g_variant_new_fixed_array (G_VARIANT_TYPE_BYTE, record->payload, record->length, 1);
  g_autofree guint64 *ids = g_new0 (guint64, record->n_blobs + 1);

  if (channel == NULL)
    {
      g_variant_unref (g_variant_ref_sink (payload));
      return true;                      /* its caller has gone */
    }
  for (uint32_t i = 0; i < record->n_blobs; i++)
    ids[i] = channel->blobs != NULL ? channel->blobs->export_blob (channel->blobs, record->blobs[i]) : 0;
  g_variant_builder_add (collect->builder, "(tttuuuut@ay@at)", record->id, record->channel, record->call, record->method, record->flags,
                         record->root, record->due, record->trace, payload,
                         g_variant_new_fixed_array (G_VARIANT_TYPE_UINT64, ids, record->n_blobs, sizeof (guint64)));
  return true;
}

GBytes *
carry_collect (Service *service, GError **error)
{
  g_auto (GVariantBuilder) channels = G_VARIANT_BUILDER_INIT (G_VARIANT_TYPE ("a" CHANNEL_TYPE));
  g_auto (GVariantBuilder) kept = G_VARIANT_BUILDER_INIT (G_VARIANT_TYPE ("a" KEPT_TYPE));
  Collect collect = { service->endpoint, &kept };
  g_autoptr (GVariant) carry = NULL;

  collect_channels (service->endpoint, &channels);
  if (!deferred_export (service, collect_kept, &collect))
    {
      cell_set_error (error, CELL_ERROR_TOO_LARGE, "a call that it keeps to answer later has a request that is too large to be moved");
      return NULL;
    }
  carry = g_variant_ref_sink (g_variant_new (CARRY_TYPE, &channels, &kept));
  return g_variant_get_data_as_bytes (carry);
}

void
carry_leave (Service *service)
{
  Endpoint *endpoint = service->endpoint;

  deferred_forget_all (service);
  pthread_mutex_lock (&endpoint->lock);
  for (Channel *channel = endpoint->channels; channel != NULL; channel = channel->next_in_endpoint)
    channel_drop_signal (channel);
  pthread_mutex_unlock (&endpoint->lock);
}

/* ---- arriving ----------------------------------------------------------------------------------------- */

GVariant *
carry_parse (GBytes *bytes, GError **error)
{
  g_autoptr (GVariant) carry = g_variant_ref_sink (g_variant_new_from_bytes (G_VARIANT_TYPE (CARRY_TYPE), bytes, FALSE));

  if (g_variant_is_normal_form (carry))
    return g_steal_pointer (&carry);
  cell_set_error (error, CELL_ERROR_CORRUPT, "what it gives of its calls and subscriptions makes no sense");
  return NULL;
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
apply_channels (GVariant *channels, Endpoint *endpoint, gboolean from_child)
{
  guint64 serial, subscribed, missed;
  GVariantIter iter;
  GVariant *unsent;

  g_variant_iter_init (&iter, channels);
  while (g_variant_iter_next (&iter, "(ttt@a" UNSENT_TYPE ")", &serial, &subscribed, &missed, &unsent))
    {
      Channel *channel = find_channel (endpoint, serial);

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

  for (gsize i = 0; i < n && i < BLOBS_MAX; i++)
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

static gboolean
apply_kept (GVariant *tuple, Service *service, gboolean no_way_back, GError **error)
{
  g_autoptr (GVariant) payload = NULL, ids = NULL;
  g_autoptr (GPtrArray) blobs = NULL;
  DeferredRecord record = { 0 };
  Fault fault = { 0 };
  Channel *channel;
  gsize length;

  g_variant_get (tuple, "(tttuuuut@ay@at)", &record.id, &record.channel, &record.call, &record.method, &record.flags, &record.root,
                 &record.due, &record.trace, &payload, &ids);
  channel = find_channel (service->endpoint, record.channel);
  if (channel == NULL)
    return TRUE;
  record.payload = g_variant_get_fixed_array (payload, &length, 1);
  record.length = (uint32_t) MIN (length, G_MAXUINT32);
  blobs = import_blobs (channel, ids);
  record.n_blobs = blobs->len;
  record.blobs = (CellBlob *const *) blobs->pdata;
  if (deferred_import (service, channel, &record, &fault))
    return TRUE;
  if (!no_way_back)
    return cell_set_error (error, fault.status, "%s", fault.message);
  answer_lost (channel, &record, &fault);
  return TRUE;
}

gboolean
carry_apply (GVariant *carry, Service *service, gboolean no_way_back, GError **error)
{
  g_autoptr (GVariant) channels = g_variant_get_child_value (carry, 0);
  g_autoptr (GVariant) kept = g_variant_get_child_value (carry, 1);
  gboolean good = TRUE;

  apply_channels (channels, service->endpoint, no_way_back);
  for (gsize i = 0; i < g_variant_n_children (kept) && good; i++)
    {
      g_autoptr (GVariant) tuple = g_variant_get_child_value (kept, i);

      good = apply_kept (tuple, service, no_way_back, error);
    }
  return good;
}

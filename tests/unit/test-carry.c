/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What another process gives of a cell's kept calls is no more than may be kept here, however much it gives.
 */
#include <string.h>

#include <cell/cell.h>

#include "membrane/blob.h"
#include "membrane/defer.h"
#include "membrane/endpoint.h"
#include "plugins/carry.h"
#include "plugins/cell-error.h"

#define CAPACITY 8192u
#define SERIAL 7u
#define KEPT_TYPE "(tttuuuutayat)"
#define CARRY_TYPE "(a(ttta(uuay))a" KEPT_TYPE ")"

const CellHost *cell_host;              /* what <cell/cell.h> declares; nothing here calls it */

CELL_STRUCT (Raw, field (bytes, raw))

enum
{
  NOTHING,                              /* no arguments */
  RAW,
  N_METHODS
};

typedef struct
{
  Epoch epoch;
  Method methods[N_METHODS];
  MethodStats stats[N_METHODS];
  Service service;
  Channel *channel;
} Place;

static CellStatus
never (void *self, CellCall *call, const void *in, void *out)
{
  (void) self;
  (void) call;
  (void) in;
  (void) out;
  g_assert_not_reached ();
}

static void
set_up (Place *place, gconstpointer data)
{
  (void) data;
  for (unsigned i = 0; i < N_METHODS; i++)
    {
      place->methods[i] = (Method) { .invoke = never, .max_reply = 512, .name = "", .stats = &place->stats[i] };
      if (i == RAW)
        place->methods[i].in = codec_plan_new (cell_desc_Raw.fields, cell_desc_Raw.n_fields, CELL_ROLE_FIELD, cell_desc_Raw.size,
                                               NULL);
      method_finish (&place->methods[i], i);
    }
  place->service = (Service) { .n_methods = N_METHODS, .methods = place->methods,
                               .endpoint = endpoint_new (&place->epoch, CELL_SERIAL, NULL) };
  pthread_mutex_init (&place->service.lock, NULL);
  place->service.endpoint->service = &place->service;
  place->channel = channel_new_local (place->service.endpoint, CAPACITY, CAPACITY, NULL);
  g_assert_nonnull (place->channel);
  place->channel->serial = SERIAL;
  endpoint_add (place->service.endpoint, place->channel);
}

static void
tear_down (Place *place, gconstpointer data)
{
  (void) data;
  deferred_forget_all (&place->service);
  g_assert_cmpuint (place->channel->reserved, ==, 0);
  g_assert_cmpuint (place->service.n_deferred_blobs, ==, 0);
  endpoint_remove (place->service.endpoint, place->channel);
  channel_unref (place->channel);
  endpoint_unref (place->service.endpoint);
  codec_plan_free ((CodecPlan *) place->methods[RAW].in);
  pthread_mutex_destroy (&place->service.lock);
}

static DeferredRecord
oneway (uint64_t id)
{
  return (DeferredRecord) { .id = id, .channel = SERIAL, .call = id, .flags = RECORD_ONEWAY };
}

/* So many calls without arguments, with ids from 1; twice: and the first once more. */
static GBytes *
carry_of (guint n, gboolean twice)
{
  g_auto (GVariantBuilder) kept = G_VARIANT_BUILDER_INIT (G_VARIANT_TYPE ("a" KEPT_TYPE));
  g_autoptr (GVariant) carry = NULL;

  for (guint i = 0; i < n + twice; i++)
    g_variant_builder_add (&kept, "(tttuuuut@ay@at)", (guint64) (i < n ? i + 1 : 1), (guint64) SERIAL, (guint64) i, NOTHING,
                           RECORD_ONEWAY, 0u, 0u,
                           (guint64) 0, g_variant_new_array (G_VARIANT_TYPE_BYTE, NULL, 0),
                           g_variant_new_array (G_VARIANT_TYPE_UINT64, NULL, 0));
  carry = g_variant_ref_sink (g_variant_new (CARRY_TYPE, NULL, &kept));
  return g_variant_get_data_as_bytes (carry);
}

static void
test_as_many_as_may_be (Place *place, gconstpointer data)
{
  g_autoptr (GBytes) most = carry_of (DEFERRED_MAX, FALSE), more = carry_of (DEFERRED_MAX + 1, FALSE);
  g_autoptr (GError) error = NULL;
  g_autoptr (GVariant) carry = carry_parse (most, &error);
  Fault fault = { 0 };

  (void) data;
  g_assert_no_error (error);
  g_assert_true (carry_apply (carry, &place->service, FALSE, &error));
  g_assert_no_error (error);
  g_assert_cmpuint (deferred_count (&place->service), ==, DEFERRED_MAX);
  g_assert_false (deferred_import (&place->service, place->channel, &(DeferredRecord) { .id = 1u << 20, .flags = RECORD_ONEWAY },
                                   &fault));
  g_assert_cmpint (fault.status, ==, CELL_ERROR_NO_RESOURCES);
  g_assert_cmpuint (deferred_count (&place->service), ==, DEFERRED_MAX);
  g_assert_null (carry_parse (more, &error));
  g_assert_cmpint (cell_status_from_error (error), ==, CELL_ERROR_CORRUPT);
}

static void
test_twice (Place *place, gconstpointer data)
{
  g_autoptr (GBytes) bytes = carry_of (3, TRUE), good = carry_of (3, FALSE);
  g_autoptr (GError) error = NULL;
  g_autoptr (GVariant) carry = carry_parse (bytes, &error), again = carry_parse (good, &error);

  (void) data;
  g_assert_no_error (error);
  g_assert_false (carry_apply (carry, &place->service, FALSE, &error));
  g_assert_cmpint (cell_status_from_error (error), ==, CELL_ERROR_CORRUPT);
  g_assert_cmpuint (deferred_count (&place->service), ==, 3);
  /* Those that are here already count, too. */
  g_clear_error (&error);
  g_assert_false (carry_apply (again, &place->service, FALSE, &error));
  g_assert_cmpint (cell_status_from_error (error), ==, CELL_ERROR_CORRUPT);
  g_assert_cmpuint (deferred_count (&place->service), ==, 3);
}

static void
test_blobs (Place *place, gconstpointer data)
{
  CellBlob *blob = blob_new (1, NULL), *blobs[64];
  uint64_t id = 0;
  Fault fault = { 0 };

  (void) data;
  g_assert_nonnull (blob);
  for (guint i = 0; i < G_N_ELEMENTS (blobs); i++)
    blobs[i] = blob;
  do
    {
      DeferredRecord record = oneway (++id);

      record.n_blobs = G_N_ELEMENTS (blobs);
      record.blobs = blobs;
      if (!deferred_import (&place->service, place->channel, &record, &fault))
        break;
    }
  while (id < 100);
  g_assert_cmpint (fault.status, ==, CELL_ERROR_NO_RESOURCES);
  g_assert_cmpuint (place->service.n_deferred_blobs, ==, DEFERRED_BLOBS_MAX);
  blob_unref (blob);
}

/* Most cells have nothing of it, and what has left leaves nothing behind. */
static void
test_nothing (Place *place, gconstpointer data)
{
  g_autoptr (GBytes) before = carry_collect (&place->service, NULL), subscribed = NULL, missed = NULL, after = NULL;

  (void) data;
  g_assert_cmpuint (g_bytes_get_size (before), ==, 0);
  channel_subscribe (place->channel, 1);
  subscribed = carry_collect (&place->service, NULL);
  g_assert_cmpuint (g_bytes_get_size (subscribed), >, 0);
  channel_subscribe (place->channel, 0);
  place->channel->missed = 1;
  missed = carry_collect (&place->service, NULL);
  g_assert_cmpuint (g_bytes_get_size (missed), >, 0);
  channel_subscribe (place->channel, 1);
  carry_leave (&place->service);
  after = carry_collect (&place->service, NULL);
  g_assert_cmpuint (g_bytes_get_size (after), ==, 0);
}

/* Either end looks: what cannot be given does not leave, and what is given all the same is refused. */
static void
test_too_large (Place *place, gconstpointer data)
{
  const gsize one = 2u << 20;
  g_autofree uint8_t *raw = g_malloc0 (one), *payload = g_malloc0 (one + 4096), *much = g_malloc0 ((gsize) CARRY_MAX_SIZE + 1);
  g_autoptr (GBytes) bytes = g_bytes_new_static (much, (gsize) CARRY_MAX_SIZE + 1);
  const Raw value = { .raw = { raw, one } };
  g_autoptr (GError) error = NULL;
  DeferredRecord record = oneway (0);
  CodecFault wrong;
  Fault fault = { 0 };

  (void) data;
  record.method = RAW;
  record.root = record.length = place->methods[RAW].in->size;
  record.payload = payload;
  g_assert_true (codec_encode (place->methods[RAW].in, &value, payload, one + 4096, &record.length, NULL, &wrong));
  for (record.id = 1; record.id <= CARRY_MAX_SIZE / one; record.id++)
    g_assert_true (deferred_import (&place->service, place->channel, &record, &fault));
  g_assert_null (carry_collect (&place->service, &error));
  g_assert_cmpint (cell_status_from_error (error), ==, CELL_ERROR_TOO_LARGE);
  g_clear_error (&error);
  g_assert_null (carry_parse (bytes, &error));
  g_assert_cmpint (cell_status_from_error (error), ==, CELL_ERROR_TOO_LARGE);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add ("/carry/as-many-as-may-be", Place, NULL, set_up, test_as_many_as_may_be, tear_down);
  g_test_add ("/carry/twice", Place, NULL, set_up, test_twice, tear_down);
  g_test_add ("/carry/blobs", Place, NULL, set_up, test_blobs, tear_down);
  g_test_add ("/carry/nothing", Place, NULL, set_up, test_nothing, tear_down);
  g_test_add ("/carry/too-large", Place, NULL, set_up, test_too_large, tear_down);
  return g_test_run ();
}

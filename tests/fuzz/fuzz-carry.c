/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Any bytes as what a child gives of its cell's subscriptions and kept calls when it is taken back: refused, or applied to a
 * service whose channels then have promised no more than they can hold, and of which the same can be collected again.
 */
#include <cell/cell.h>

#include "membrane/defer.h"
#include "membrane/endpoint.h"
#include "plugins/carry.h"
#include "plugins/cell-error.h"
#include "unit/random-types.h"

#define CAPACITY 8192u

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

const CellHost *cell_host; /* what <cell/cell.h> declares; nothing here calls it */

CELL_STRUCT (Pair, field (u64, a), field (u64, b))
CELL_STRUCT (Entry, field (u64, id), field (str, memo), field (bool, open))
CELL_STRUCT (Tree, field (array (Entry), entries), field (bytes, raw), field (optional (Entry), maybe), field (array (u16), small))

static const CellType *const types[] = { &cell_desc_Pair, &cell_desc_Entry, &cell_desc_Tree };

enum
{
  N_METHODS = G_N_ELEMENTS (types),
  N_CHANNELS = 2
};

static Service service;
static Method methods[N_METHODS];
static MethodStats stats[N_METHODS];
static Epoch epoch;

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
set_up (void)
{
  for (unsigned i = 0; i < N_METHODS; i++)
    {
      CodecPlan *plan = codec_plan_new (types[i]->fields, types[i]->n_fields, CELL_ROLE_FIELD, types[i]->size, NULL);

      methods[i] = (Method){ .invoke = never, .in = plan, .out = plan, .max_reply = 1024, .name = "", .stats = &stats[i] };
      method_finish (&methods[i], i);
    }
  service = (Service){ .n_methods = N_METHODS, .methods = methods, .endpoint = endpoint_new (&epoch, CELL_SERIAL, NULL) };
  pthread_mutex_init (&service.lock, NULL);
  service.endpoint->service = &service;
}

static void
note_id (uint64_t id, const char *method, void *data)
{
  (void) method;
  g_array_append_val ((GArray *) data, id);
}

/* What the cell would be given when it takes such a call up again. */
static void
look_at_kept (uint64_t id)
{
  CellCall *call = call_resume (&service, id);

  g_assert_nonnull (call);
  g_assert_cmpuint (call->number, <, N_METHODS);
  value_assert_sound (types[call->number]->fields, types[call->number]->n_fields, call_request (call));
}

static void
apply (GVariant *carry, gboolean no_way_back)
{
  g_autoptr (GError) error = NULL;
  gboolean good = carry_apply (carry, &service, no_way_back, &error);
  g_autoptr (GArray) ids = g_array_new (FALSE, FALSE, sizeof (uint64_t));

  g_assert_true (good || !no_way_back);
  g_assert_true (good == (error == NULL));
  deferred_list (&service, note_id, ids);
  for (guint i = 0; i < ids->len; i++)
    look_at_kept (g_array_index (ids, uint64_t, i));
  for (Channel *channel = service.endpoint->channels; channel != NULL; channel = channel->next_in_endpoint)
    g_assert_cmpuint (channel->reserved, <=, CAPACITY);
  if (good)
    {
      g_autoptr (GBytes) bytes = carry_collect (&service, NULL);
      g_autoptr (GVariant) again = carry_parse (bytes, &error);

      g_assert_no_error (error);
      g_assert_cmpuint (g_variant_n_children (again), ==, 2);
    }
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  g_autoptr (GBytes) bytes = size > 0 ? g_bytes_new (data + 1, size - 1) : g_bytes_new (NULL, 0);
  g_autoptr (GError) error = NULL;
  g_autoptr (GVariant) carry = carry_parse (bytes, &error);
  Channel *channels[N_CHANNELS];

  g_assert_true ((carry == NULL) == (error != NULL));
  if (carry == NULL)
    return 0;
  if (service.endpoint == NULL)
    set_up ();
  for (unsigned i = 0; i < N_CHANNELS; i++)
    {
      channels[i] = channel_new_local (service.endpoint, CAPACITY, CAPACITY, NULL);
      g_assert_nonnull (channels[i]);
      channels[i]->serial = i + 1;
      endpoint_add (service.endpoint, channels[i]);
    }
  apply (carry, data[0] & 1);
  deferred_forget_all (&service);
  g_assert_cmpuint (deferred_count (&service), ==, 0);
  for (unsigned i = 0; i < N_CHANNELS; i++)
    {
      g_assert_cmpuint (channels[i]->reserved, ==, 0);
      endpoint_remove (service.endpoint, channels[i]);
      channel_unref (channels[i]);
    }
  return 0;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The codec: random values of random types there and back; whatever a hostile peer may have written, decoded at the very end of
 * readable memory that cannot be written; tables that lie.
 */
#define _GNU_SOURCE
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cell/cell.h>

#include "membrane/blob.h"
#include "membrane/codec.h"
#include "random-types.h"

#if defined (__has_feature)
# if __has_feature (address_sanitizer)
#  define __SANITIZE_ADDRESS__ 1
# endif
#endif
#if defined (__SANITIZE_ADDRESS__)
# include <sanitizer/asan_interface.h>
#else
# define ASAN_POISON_MEMORY_REGION(p, n) ((void) (p), (void) (n))
# define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void) (p), (void) (n))
#endif

#define ROOM (128u * 1024u)
#define ARENA_ROOM (16u << 20)
#define ONE_BYTE_SAMPLES 30
#define ONE_BYTE_MAX 400u        /* bytes of a sample of which each is changed into each other: 2 × 102,000 records at most */

const CellHost *cell_host;              /* what <cell/cell.h> declares; nothing here calls it */

static const CodecBlobs hooks = { test_blob_export, test_blob_import, NULL };

/* ---- a payload at the end of what can be read ------------------------------------------------------ */

typedef struct
{
  uint8_t *writable, *readable;         /* the same memory twice; behind each: nothing */
} Pages;

static uint8_t *
map_pages (int fd, int protection)
{
  uint8_t *at = mmap (NULL, ROOM + 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

  g_assert_true (at != MAP_FAILED);
  g_assert_true (mmap (at, ROOM, protection, MAP_SHARED | MAP_FIXED, fd, 0) == at);
  return at;
}

static void
pages_init (Pages *pages)
{
  int fd = memfd_create ("test-codec", MFD_CLOEXEC);

  g_assert_cmpint (fd, >=, 0);
  g_assert_no_errno (ftruncate (fd, ROOM));
  pages->writable = map_pages (fd, PROT_READ | PROT_WRITE);
  pages->readable = map_pages (fd, PROT_READ);
  close (fd);
}

static void
pages_clear (Pages *pages)
{
  ASAN_UNPOISON_MEMORY_REGION (pages->readable, ROOM);
  munmap (pages->writable, ROOM + 4096);
  munmap (pages->readable, ROOM + 4096);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Pages, pages_clear)

/* Where the last `length` bytes begin.  Payloads are aligned: up to seven behind them can be read, unless there is a sanitizer. */
static uint32_t
pages_put (Pages *pages, const uint8_t *payload, uint32_t length)
{
  uint32_t at = (ROOM - length) & ~7u;

  memcpy (pages->writable + at, payload, length);
  memset (pages->writable + at + length, 0xff, ROOM - at - length);
  ASAN_UNPOISON_MEMORY_REGION (pages->readable, ROOM);
  ASAN_POISON_MEMORY_REGION (pages->readable + at + length, ROOM - at - length);
  return at;
}

/* ---- a value and its record -------------------------------------------------------------------------- */

typedef struct
{
  Maker maker;
  Layout layout;
  CodecPlan *plan;
  uint8_t *value, *payload;
  uint32_t used;
} Sample;

static void
sample_init (Sample *sample, guint32 seed, bool no_blobs)
{
  const char *why = NULL;
  CodecFault fault = { 0 };

  maker_init (&sample->maker, seed);
  sample->maker.no_blobs = no_blobs;
  layout_make (&sample->maker, &sample->layout, 8, 0);
  sample->plan = codec_plan_new (sample->layout.rows, sample->layout.n, CELL_ROLE_FIELD, sample->layout.size, &why);
  g_assert_cmpstr (why, ==, NULL);
  g_assert_nonnull (sample->plan);
  sample->value = g_malloc (sample->layout.size);
  sample->payload = g_malloc (ROOM);
  memset (sample->payload, 0xee, ROOM);
  value_make (&sample->maker, sample->layout.rows, sample->layout.n, sample->layout.size, sample->value);
  sample->used = 0;
  if (!codec_encode (sample->plan, sample->value, sample->payload, ROOM, &sample->used, &hooks, &fault))
    g_error ("%s: %s", fault.field, fault.rule);
}

static void
sample_clear (Sample *sample)
{
  g_free (sample->value);
  g_free (sample->payload);
  codec_plan_free (sample->plan);
  maker_clear (&sample->maker);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Sample, sample_clear)

/* Decodes; what comes out must be sound.  Returns whether something did. */
static bool
decode_sound (const Sample *sample, const uint8_t *payload, uint32_t length, uint32_t root, unsigned flags)
{
  Arena arena;
  CodecFault fault = { 0 };
  g_autofree uint8_t *local = g_malloc (sample->layout.size);
  bool good;

  arena_init (&arena, ARENA_ROOM);
  good = codec_decode (sample->plan, payload, length, root, flags, &arena, &hooks, local, &fault);
  if (good)
    value_assert_sound (sample->layout.rows, sample->layout.n, local);
  else
    {
      g_assert_true (fault.status == CELL_ERROR_CORRUPT || fault.status == CELL_ERROR_NO_RESOURCES
                     || fault.status == CELL_ERROR_GONE);
      g_assert_nonnull (fault.rule);
      g_assert_nonnull (fault.field);
    }
  arena_clear (&arena);
  return good;
}

static void
assert_decodes (const Sample *sample, const uint8_t *payload, uint32_t length, const void *value)
{
  static const unsigned flags[] = { 0, CODEC_PRIVATE, CODEC_TRUSTED, CODEC_PRIVATE | CODEC_TRUSTED };
  g_autofree uint8_t *local = g_malloc (sample->layout.size), *again = g_malloc (ROOM);

  for (unsigned i = 0; i < G_N_ELEMENTS (flags); i++)
    {
      Arena arena;
      CodecFault fault = { 0 };
      uint32_t used = 0;

      arena_init (&arena, ARENA_ROOM);
      memset (local, 0xcc, sample->layout.size);
      if (!codec_decode (sample->plan, payload, length, sample->layout.size, flags[i], &arena, &hooks, local, &fault))
        g_error ("%s: %s", fault.field, fault.rule);
      value_assert_equal (sample->layout.rows, sample->layout.n, value, local);
      value_assert_sound (sample->layout.rows, sample->layout.n, local);
      g_assert_true (codec_encode (sample->plan, local, again, ROOM, &used, &hooks, &fault));
      g_assert_cmpmem (again, used, sample->payload, sample->used);
      arena_clear (&arena);
    }
}

/* Decoded without CODEC_PRIVATE a value is no longer concerned with what becomes of the payload. */
static void
assert_holds_still (const Sample *sample)
{
  g_autofree uint8_t *payload = g_memdup2 (sample->payload, sample->used), *local = g_malloc (sample->layout.size);
  Arena arena;
  CodecFault fault = { 0 };

  arena_init (&arena, ARENA_ROOM);
  g_assert_true (codec_decode (sample->plan, payload, sample->used, sample->layout.size, 0, &arena, &hooks, local, &fault));
  memset (payload, 0xff, sample->used);
  value_assert_equal (sample->layout.rows, sample->layout.n, sample->value, local);
  arena_clear (&arena);
}

static void
test_round_trip (void)
{
  g_auto (Pages) pages;
  unsigned n_flat = 0, n_trivial = 0;

  pages_init (&pages);
  for (unsigned i = 0; i < 2000; i++)
    {
      g_auto (Sample) sample;
      uint32_t at;

      sample_init (&sample, (guint32) g_test_rand_int (), false);
      at = pages_put (&pages, sample.payload, sample.used);
      assert_decodes (&sample, pages.readable + at, sample.used, sample.value);
      assert_holds_still (&sample);
      n_flat += sample.plan->flat;
      n_trivial += sample.plan->trivial;
      g_assert_true (!sample.plan->trivial || sample.plan->flat);
    }
  g_assert_cmpuint (n_flat, >, 20);
  g_assert_cmpuint (n_trivial, >, 5);
}

/* The same value with other padding, other absent values and in other memory has the same record. */
static void
test_padding (void)
{
  for (unsigned i = 0; i < 1000; i++)
    {
      guint32 seed = (guint32) g_test_rand_int ();
      g_auto (Sample) sample;
      g_auto (Maker) maker;
      Layout layout;
      CodecFault fault = { 0 };
      uint32_t used = 0;
      g_autofree uint8_t *value = NULL, *payload = g_malloc (ROOM);

      sample_init (&sample, seed, false);
      maker_init (&maker, seed);
      maker.poison = 0x5a;
      layout_make (&maker, &layout, 8, 0);
      value = g_malloc (layout.size);
      value_make (&maker, layout.rows, layout.n, layout.size, value);
      memset (payload, 0x11, ROOM);
      g_assert_true (codec_encode (sample.plan, value, payload, ROOM, &used, &hooks, &fault));
      g_assert_cmpmem (payload, used, sample.payload, sample.used);
    }
}

/* ---- what a peer may write ------------------------------------------------------------------------------ */

static void
test_truncated (void)
{
  g_auto (Pages) pages;

  pages_init (&pages);
  for (unsigned i = 0; i < 60; i++)
    {
      g_auto (Sample) sample;

      sample_init (&sample, (guint32) g_test_rand_int (), false);
      for (uint32_t length = 0; length < sample.used; length++)
        {
          const uint8_t *payload = pages.readable + pages_put (&pages, sample.payload, length);
          uint32_t root = MIN (length, sample.layout.size);

          g_assert_false (decode_sound (&sample, payload, length, length + 1, CODEC_PRIVATE));
          decode_sound (&sample, payload, length, root, CODEC_PRIVATE);
          decode_sound (&sample, payload, length, root, 0);
          decode_sound (&sample, payload, length, 0, CODEC_PRIVATE);
        }
    }
}

/* Every byte as every other value, in samples that are small enough for that, and in both ways of decoding. */
static void
test_one_byte (void)
{
  g_auto (Pages) pages;
  unsigned n_refused = 0;

  pages_init (&pages);
  for (unsigned n = 0; n < ONE_BYTE_SAMPLES;)
    {
      g_auto (Sample) sample;
      uint32_t at;

      sample_init (&sample, (guint32) g_test_rand_int (), false);
      if (sample.used == 0 || sample.used > ONE_BYTE_MAX)
        continue;
      n++;
      at = pages_put (&pages, sample.payload, sample.used);
      for (uint32_t k = 0; k < sample.used; k++)
        {
          for (unsigned change = 1; change < 256; change++)
            {
              pages.writable[at + k] = (uint8_t) (sample.payload[k] ^ change);
              n_refused += !decode_sound (&sample, pages.readable + at, sample.used, sample.layout.size, 0);
              n_refused += !decode_sound (&sample, pages.readable + at, sample.used, sample.layout.size, CODEC_PRIVATE);
            }
          pages.writable[at + k] = sample.payload[k];
        }
    }
  g_assert_cmpuint (n_refused, >, 1000);
}

static uint32_t
hostile_word (const Sample *sample)
{
  static const uint32_t words[] = { 0, 1, 2, 8, 16, 0x7fffffff, 0x80000000, 0xfffffff8, 0xffffffff };
  uint32_t pick = (uint32_t) g_test_rand_int_range (0, 16);

  if (pick < G_N_ELEMENTS (words))
    return words[pick];
  if (pick == 10 || pick == 11)
    return sample->used - (pick - 10);
  return (uint32_t) g_test_rand_int_range (0, (gint32) sample->used + 16) & (pick == 12 ? ~0u : ~7u);
}

static void
test_words (void)
{
  g_auto (Pages) pages;

  pages_init (&pages);
  for (unsigned i = 0; i < 400; i++)
    {
      g_auto (Sample) sample;

      sample_init (&sample, (guint32) g_test_rand_int (), false);
      for (unsigned k = 0; k < 100; k++)
        {
          uint32_t at = pages_put (&pages, sample.payload, sample.used);

          for (int n = g_test_rand_int_range (1, 5); n > 0 && sample.used >= 4; n--)
            {
              uint32_t word = hostile_word (&sample);

              memcpy (pages.writable + at + ((uint32_t) g_test_rand_int_range (0, (gint32) sample.used - 3) & ~3u), &word, 4);
            }
          decode_sound (&sample, pages.readable + at, sample.used, (uint32_t) g_test_rand_int_range (0, (gint32) sample.used + 1),
                        k % 2 == 0 ? 0 : CODEC_PRIVATE);
        }
    }
}

/* Somebody writes while we decode, without CODEC_PRIVATE: what comes out holds still and is sound. */
typedef struct
{
  uint8_t *at;
  uint32_t length;
  _Atomic bool stop;
} Scribbler;

G_GNUC_UNUSED static gpointer          /* not under ThreadSanitizer: the race is what is tested */
scribble (gpointer data)
{
  Scribbler *scribbler = data;
  uint32_t x = 12345;

  while (!atomic_load_explicit (&scribbler->stop, memory_order_relaxed))
    {
      volatile uint8_t *byte = scribbler->at + (x >> 8) % scribbler->length;
      uint8_t was = *byte;

      x = x * 1664525u + 1013904223u;
      *byte = (uint8_t) (x >> 24);
      *byte = was;
    }
  return NULL;
}

static void
test_scribbled (void)
{
#if defined (__SANITIZE_THREAD__)
  g_test_skip ("the race is what is tested");
#else
  g_auto (Pages) pages;

  pages_init (&pages);
  for (unsigned i = 0; i < 12; i++)
    {
      g_auto (Sample) sample;
      Scribbler scribbler = { 0 };
      GThread *thread;
      uint32_t at;

      sample_init (&sample, (guint32) g_test_rand_int (), true);
      at = pages_put (&pages, sample.payload, sample.used);
      scribbler.at = pages.writable + at;
      scribbler.length = sample.used;
      thread = g_thread_new ("scribbler", scribble, &scribbler);
      for (unsigned k = 0; k < 2000; k++)
        decode_sound (&sample, pages.readable + at, sample.used, sample.layout.size, 0);
      atomic_store (&scribbler.stop, true);
      g_thread_join (thread);
    }
#endif
}

/* ---- types of this file -------------------------------------------------------------------------------------- */

CELL_STRUCT (Named, field (u64, id), field (str, name))
CELL_STRUCT (Flag, field (u32, n), field (bool, on), field (optional (u16), maybe))
CELL_STRUCT (Inner, field (bool, good), field (str, text))
CELL_STRUCT (Outer, field (Inner, inner), field (array (Named), rows), field (array (Flag), flags), field (bytes, data),
             field (blob, file), field (array (str), texts), field (optional (Inner), maybe), field (array (u32), numbers),
             field (array (u32), more), field (array (Named), others))

static CodecPlan *
outer_plan (void)
{
  const char *why = NULL;
  CodecPlan *plan = codec_plan_new (cell_fields_Outer, cell_desc_Outer.n_fields, CELL_ROLE_FIELD, sizeof (Outer), &why);

  g_assert_cmpstr (why, ==, NULL);
  return plan;
}

static void
plan_clear (CodecPlan **plan)
{
  codec_plan_free (*plan);
}
#define AUTO_PLAN __attribute__ ((cleanup (plan_clear))) CodecPlan

typedef struct
{
  uint32_t offset, length, count, stride;
} WireArray;

static void
decode_fails (const uint8_t *payload, uint32_t length, CellStatus status, const char *rule, const char *field)
{
  AUTO_PLAN *plan = outer_plan ();
  Arena arena;
  Outer outer;
  CodecFault fault = { 0 };

  arena_init (&arena, 1u << 20);
  g_assert_false (codec_decode (plan, payload, length, sizeof outer, CODEC_PRIVATE, &arena, NULL, &outer, &fault));
  g_assert_cmpstr (fault.rule, ==, rule);
  g_assert_cmpstr (fault.field, ==, field);
  g_assert_cmpint (fault.status, ==, status);
  arena_clear (&arena);
}

#define WIRE(member) (*(WireArray *) (payload + offsetof (Outer, member)))

static void
test_faults (void)
{
  _Alignas (8) uint8_t payload[4096];
  uint32_t length = sizeof payload;
  const WireArray one_flag = { 1024, sizeof (Flag), 1, sizeof (Flag) };

#define FAILS(status, rule, field, ...) \
  memset (payload, 0, sizeof payload); __VA_ARGS__; decode_fails (payload, length, CELL_ERROR_##status, rule, field)
  FAILS (CORRUPT, "bool", "good", payload[offsetof (Outer, inner.good)] = 2);
  FAILS (CORRUPT, "bool", "maybe", payload[offsetof (Outer, has_maybe)] = 0xff);
  FAILS (CORRUPT, "optional", "maybe", payload[offsetof (Outer, maybe.good)] = 1);
  FAILS (CORRUPT, "blob-id", "file", payload[offsetof (Outer, file)] = 1);
  FAILS (CORRUPT, "string-utf8", "text", WIRE (inner.text) = ((WireArray) { 4000, 1 }));
  FAILS (CORRUPT, "string-utf8", "text", WIRE (inner.text) = ((WireArray) { 4000, 1 }); payload[4000] = 0xff);
  FAILS (CORRUPT, "string-utf8", "text", WIRE (inner.text) = ((WireArray) { 4000, 1 }); payload[4000] = payload[4001] = 'a');
  FAILS (CORRUPT, "reference-bounds", "text", WIRE (inner.text) = ((WireArray) { 4000, 96 }));
  FAILS (CORRUPT, "reference-bounds", "text", WIRE (inner.text) = ((WireArray) { 4000, UINT32_MAX }));
  FAILS (CORRUPT, "reference-bounds", "data", WIRE (data) = ((WireArray) { UINT32_MAX, UINT32_MAX }));
  FAILS (CORRUPT, "reference-bounds", "data", WIRE (data) = ((WireArray) { 1, 4096 }));
  FAILS (CORRUPT, "reference-bounds", "numbers", WIRE (numbers) = ((WireArray) { 4096, 4, 1, 4 }));
  FAILS (CORRUPT, "array-stride", "numbers", WIRE (numbers) = ((WireArray) { 1024, 4, 1, 0 }));
  FAILS (CORRUPT, "array-stride", "numbers", WIRE (numbers) = ((WireArray) { 1024, 0, 1, 0 }));
  FAILS (CORRUPT, "array-stride", "numbers", WIRE (numbers) = ((WireArray) { 1024, 4, 0, 4 }));
  FAILS (CORRUPT, "array-stride", "numbers", WIRE (numbers) = ((WireArray) { 1024, 8, 1, 4 }));
  FAILS (CORRUPT, "array-stride", "numbers", WIRE (numbers) = ((WireArray) { 1028, 4, 1, 4 }));
  FAILS (CORRUPT, "array-stride", "numbers", WIRE (numbers) = ((WireArray) { 1024, 0, 0x80000000u, 2 }));
  FAILS (CORRUPT, "bool", "on", WIRE (flags) = one_flag; payload[1024 + offsetof (Flag, on)] = 3);
  FAILS (CORRUPT, "bool", "maybe", WIRE (flags) = one_flag; payload[1024 + offsetof (Flag, has_maybe)] = 3);
  FAILS (CORRUPT, "optional", "maybe", WIRE (flags) = one_flag; payload[1024 + offsetof (Flag, maybe)] = 3);
  FAILS (CORRUPT, "string-utf8", "texts",
         WIRE (texts) = ((WireArray) { 1024, 8, 1, 8 }); *(uint32_t *) (payload + 1024) = 2000; *(uint32_t *) (payload + 1028) = 2);

  /* Bombs: references may overlap, but not say more than there is. */
  FAILS (CORRUPT, "reference-budget", "more",
         WIRE (numbers) = ((WireArray) { 0, 4096, 1024, 4 }); WIRE (more) = ((WireArray) { 0, 4, 1, 4 }));
  FAILS (CORRUPT, "reference-budget", "texts",
         WIRE (texts) = ((WireArray) { 2048, 512, 64, 8 });
         for (unsigned i = 0; i < 64; i++)
           {
             *(uint32_t *) (payload + 2048 + 8 * i) = 1024;
             *(uint32_t *) (payload + 2052 + 8 * i) = 100;
             memset (payload + 1024, 'a', 100);
           });
#undef FAILS
}

/* Elements of one byte that would become sixteen: more memory than the call has. */
static void
test_unfolding (void)
{
  uint32_t length = 1u << 17;
  g_autofree uint8_t *payload = g_malloc0 (length);

  WIRE (rows) = (WireArray) { 0, 100000, 100000, 1 };
  decode_fails (payload, length, CELL_ERROR_NO_RESOURCES, "arena", "rows");
}

CELL_STRUCT (Leaf, field (array (u8), bytes))
CELL_STRUCT (Twig, field (array (Leaf), leaves))
CELL_STRUCT (Branch, field (array (Twig), twigs))
CELL_STRUCT (Crown, field (array (Branch), branches))

/* Each of 64 refers to the same 64, four times over: 16 million in 4 KiB. */
static void
test_bomb (void)
{
  _Alignas (8) uint8_t payload[16 + 4 * 1024] = { 0 };
  AUTO_PLAN *plan = codec_plan_new (cell_fields_Crown, 1, CELL_ROLE_FIELD, sizeof (Crown), NULL);
  const WireArray first = { 16, 1024, 64, 16 };
  CodecFault fault = { 0 };
  Crown crown;
  Arena arena;

  memcpy (payload, &first, sizeof first);
  for (uint32_t at = 16; at < sizeof payload; at += 16)
    {
      const WireArray next = { 16 + ((at - 16) / 1024 + 1) % 4 * 1024, 1024, 64, 16 };

      memcpy (payload + at, &next, sizeof next);
    }
  arena_init (&arena, 1u << 20);
  g_assert_false (codec_decode (plan, payload, sizeof payload, sizeof crown, CODEC_PRIVATE, &arena, NULL, &crown, &fault));
  g_assert_cmpstr (fault.rule, ==, "reference-budget");
  g_assert_cmpuint (arena.taken, <, 1u << 18);
  arena_clear (&arena);
}

/* One array's pointers must not be made where another's lengths, or a string's end, lie. */
static void
test_overlap (void)
{
  _Alignas (8) uint8_t payload[4096] = { 0 };
  g_autofree uint8_t *before = NULL;
  AUTO_PLAN *plan = outer_plan ();
  Arena arena;
  CodecFault fault = { 0 };
  Outer outer;

  WIRE (inner.text) = (WireArray) { 1024, 8 };          /* and zeroes beyond: first */
  WIRE (data) = (WireArray) { 1024, 64 };
  WIRE (rows) = (WireArray) { 1024, 64, 4, 16 };
  WIRE (others) = (WireArray) { 1032, 48, 3, 16 };
  memset (payload + 1024, 'a', 8);
  for (unsigned i = 0; i < 4; i++)
    {
      const WireArray text = { 2048, 1 };

      memcpy (payload + 1024 + 16 * i + 8, &text, 8);
    }
  memset (payload + 1032, 0, 8);
  payload[2048] = 'x';
  before = g_memdup2 (payload, sizeof payload);
  arena_init (&arena, 1u << 20);
  g_assert_true (codec_decode (plan, payload, sizeof payload, sizeof outer, CODEC_PRIVATE, &arena, NULL, &outer, &fault));
  value_assert_sound (cell_fields_Outer, cell_desc_Outer.n_fields, &outer);
  g_assert_cmpmem (payload, sizeof payload, before, sizeof payload);
  g_assert_cmpstr (outer.inner.text, ==, "aaaaaaaa");
  g_assert_cmpstr (outer.rows[1].name, ==, "x");
  arena_clear (&arena);
}

/* ---- what cannot be encoded ----------------------------------------------------------------------------------- */

static void
encode_fails (const Outer *outer, uint32_t capacity, CellStatus status, const char *field)
{
  AUTO_PLAN *plan = outer_plan ();
  uint32_t used = 0;
  CodecFault fault = { 0 };
  g_autofree uint8_t *payload = g_malloc (capacity);

  g_assert_false (codec_encode (plan, outer, payload, capacity, &used, NULL, &fault));
  g_assert_cmpint (fault.status, ==, status);
  g_assert_nonnull (fault.rule);
  g_assert_cmpstr (fault.field, ==, field);
}

static void
test_not_encodable (void)
{
  CellBlob blob = { NULL };
  const char *const texts[] = { "good", "\xc0\x80" };
  const Named named = { 1, "\xed\xa0\x80" };

  encode_fails (&(Outer) { .numbers = NULL, .n_numbers = 1 }, 4096, CELL_ERROR_INVALID, "numbers");
  encode_fails (&(Outer) { .data = { NULL, 1, 0 } }, 4096, CELL_ERROR_INVALID, "data");
  encode_fails (&(Outer) { .inner.text = "\xff" }, 4096, CELL_ERROR_INVALID, "text");
  encode_fails (&(Outer) { .texts = texts, .n_texts = 2 }, 4096, CELL_ERROR_INVALID, "texts");
  encode_fails (&(Outer) { .rows = &named, .n_rows = 1 }, 4096, CELL_ERROR_INVALID, "name");
  encode_fails (&(Outer) { .file = &blob }, 4096, CELL_ERROR_INVALID, "file");
  encode_fails (&(Outer) { .numbers = (const uint32_t *) texts, .n_numbers = UINT32_MAX }, 4096, CELL_ERROR_TOO_LARGE, "numbers");
  encode_fails (&(Outer) { .data = { texts, UINT32_MAX, 0 } }, 4096, CELL_ERROR_TOO_LARGE, "data");
  encode_fails (&(Outer) { .inner.good = true }, sizeof (Outer) - 1, CELL_ERROR_TOO_LARGE, "");
}

/* A bool that is something else, as careless C++ may have it, is said as one. */
static void
test_careless_bools (void)
{
  AUTO_PLAN *plan = outer_plan ();
  Outer outer = { .n_flags = 1 }, got;
  Flag flag = { .n = 1 };
  _Alignas (8) uint8_t payload[1024];
  uint32_t used = 0;
  CodecFault fault = { 0 };
  Arena arena;

  memset (&outer.inner.good, 7, 1);
  memset (&outer.has_maybe, 0x80, 1);
  memset (&flag.on, 2, 1);
  memset (&flag.has_maybe, 0xff, 1);
  outer.flags = &flag;
  g_assert_true (codec_encode (plan, &outer, payload, sizeof payload, &used, NULL, &fault));
  arena_init (&arena, 1u << 20);
  g_assert_true (codec_decode (plan, payload, used, sizeof outer, 0, &arena, NULL, &got, &fault));
  g_assert_true (got.inner.good && got.has_maybe && got.flags[0].on && got.flags[0].has_maybe);
  arena_clear (&arena);
}

/* Each capacity that is too small is said to be, and nothing is written beyond it (a sanitizer looks, and so do we). */
static void
test_capacity (void)
{
  for (unsigned i = 0; i < 200; i++)
    {
      g_auto (Sample) sample;
      g_autofree uint8_t *payload = g_malloc (ROOM);

      sample_init (&sample, (guint32) g_test_rand_int (), false);
      for (uint32_t capacity = 0; capacity <= sample.used; capacity++)
        {
          uint32_t used = 0;
          CodecFault fault = { 0 };
          bool good;

          memset (payload + capacity, 0x77, 16);
          good = codec_encode (sample.plan, sample.value, payload, capacity, &used, &hooks, &fault);
          g_assert_true (good == (capacity == sample.used));
          g_assert_true (good || fault.status == CELL_ERROR_TOO_LARGE);
          for (unsigned k = 0; k < 16; k++)
            g_assert_cmpuint (payload[capacity + k], ==, 0x77);
        }
    }
}

/* ---- replies that are built in place ---------------------------------------------------------------------------- */

/* The record of the value as it would be without anything in place: that leaves the value as it is. */
static uint8_t *
snapshot (const Sample *sample, const uint8_t *value, uint32_t *ret_used)
{
  uint8_t *payload = g_malloc (ROOM);
  CodecFault fault = { 0 };

  *ret_used = 0;
  g_assert_true (codec_encode (sample->plan, value, payload, ROOM, ret_used, &hooks, &fault));
  return payload;
}

/* What is in this record, encoded again, is that one. */
static void
assert_decodes_as (const Sample *sample, const uint8_t *payload, uint32_t used, const uint8_t *expected, uint32_t n_expected)
{
  g_autofree uint8_t *local = g_malloc (sample->layout.size), *again = NULL;
  Arena arena;
  CodecFault fault = { 0 };
  uint32_t n = 0;

  arena_init (&arena, ARENA_ROOM);
  if (!codec_decode (sample->plan, payload, used, sample->layout.size, CODEC_PRIVATE, &arena, &hooks, local, &fault))
    g_error ("%s: %s", fault.field, fault.rule);
  value_assert_sound (sample->layout.rows, sample->layout.n, local);
  again = snapshot (sample, local, &n);
  g_assert_cmpmem (again, n, expected, n_expected);
  arena_clear (&arena);
}

static void
test_built (void)
{
  unsigned n_saved = 0;

  for (unsigned i = 0; i < 2000; i++)
    {
      g_auto (Sample) sample;
      g_autofree uint8_t *payload = g_malloc (ROOM), *value = NULL;
      Layout layout;
      guint32 seed = (guint32) g_test_rand_int ();
      g_auto (Maker) maker;
      CodecFault fault = { 0 };
      g_autofree uint8_t *original = NULL;
      uint32_t used, built, expected = 0;
      bool in_root = i % 2 == 0;
      uint8_t *root;

      sample_init (&sample, seed, false);
      maker_init (&maker, seed);
      layout_make (&maker, &layout, 8, 0);
      value = g_malloc (layout.size);
      memset (payload, 0xee, ROOM);
      maker.built = payload;
      maker.built_at = payload + codec_built_from (layout.size);
      maker.built_end = payload + ROOM / 2;
      root = in_root ? payload : value;
      value_make (&maker, layout.rows, layout.n, layout.size, root);
      used = built = (uint32_t) (maker.built_at - payload);
      original = snapshot (&sample, root, &expected);
      if (!codec_encode (sample.plan, root, payload, ROOM, &used, &hooks, &fault))
        g_error ("%s: %s", fault.field, fault.rule);
      n_saved += used < built + expected;
      assert_decodes_as (&sample, payload, used, original, expected);
    }
  g_assert_cmpuint (n_saved, >, 500);
}

/* An array of structs with a string each, all of it in the payload. */
static Named *
build_rows (uint8_t *payload, uint32_t *used, unsigned n)
{
  Named *rows = (Named *) (payload + *used);
  char *text;

  *used += n * (uint32_t) sizeof *rows;
  for (unsigned i = 0; i < n; i++)
    {
      text = (char *) payload + *used;
      memset (text, 0, 16);
      g_snprintf (text, 16, "name %u", i);
      rows[i] = (Named) { i, text };
      *used += 16;
    }
  return rows;
}

static void
test_built_exactly (void)
{
  _Alignas (8) uint8_t payload[8192];
  AUTO_PLAN *plan = outer_plan ();
  Arena arena;
  Outer outer = { .inner = { true, "" } }, got;
  uint32_t used = codec_built_from (sizeof outer), built;
  CodecFault fault = { 0 };

  outer.rows = build_rows (payload, &used, outer.n_rows = 5);
  outer.others = build_rows (payload, &used, outer.n_others = 3);
  outer.inner.text = outer.rows[2].name;
  built = used;
  g_assert_true (codec_encode (plan, &outer, payload, sizeof payload, &used, NULL, &fault));
  g_assert_cmpuint (used, ==, built);           /* nothing was copied, though one name is used twice */
  arena_init (&arena, 1u << 20);
  g_assert_true (codec_decode (plan, payload, used, sizeof outer, CODEC_PRIVATE, &arena, NULL, &got, &fault));
  g_assert_cmpuint (got.n_rows, ==, 5);
  g_assert_cmpstr (got.rows[4].name, ==, "name 4");
  g_assert_cmpstr (got.others[2].name, ==, "name 2");
  g_assert_cmpstr (got.inner.text, ==, "name 2");
  arena_clear (&arena);
}

/* One printed string for many rows is said more often than a decoder would take: it is copied then. */
static void
test_built_shared (void)
{
  _Alignas (8) uint8_t payload[16384];
  AUTO_PLAN *plan = outer_plan ();
  Arena arena;
  Outer outer = { .inner = { true, "" } }, got;
  uint32_t used = codec_built_from (sizeof outer);
  CodecFault fault = { 0 };
  Named rows[100];
  char *text = (char *) payload + used;

  memcpy (text, "a text that is used a hundred times, and longer than what it takes to print it once........", 92);
  used += 96;
  for (unsigned i = 0; i < 100; i++)
    rows[i] = (Named) { i, text };
  outer.rows = rows;
  outer.n_rows = 100;
  g_assert_true (codec_encode (plan, &outer, payload, sizeof payload, &used, NULL, &fault));
  arena_init (&arena, 1u << 20);
  if (!codec_decode (plan, payload, used, sizeof outer, CODEC_PRIVATE, &arena, NULL, &got, &fault))
    g_error ("%s: %s", fault.field, fault.rule);
  for (unsigned i = 0; i < 100; i++)
    g_assert_cmpstr (got.rows[i].name, ==, text);
  arena_clear (&arena);
}

/* Elements that were turned into the wire's form once are no C structs any longer. */
static void
test_built_aliased (void)
{
  for (unsigned shift = 0; shift < 5; shift++)
    {
      _Alignas (8) uint8_t payload[8192];
      AUTO_PLAN *plan = outer_plan ();
      Outer outer = { .inner = { true, "" } };
      uint32_t used = codec_built_from (sizeof outer);
      CodecFault fault = { 0 };
      Named *rows = build_rows (payload, &used, 8);

      outer.rows = rows;
      outer.n_rows = 4;
      outer.others = rows + shift;
      outer.n_others = 4;
      g_assert_true (codec_encode (plan, &outer, payload, sizeof payload, &used, NULL, &fault) == (shift == 4));
      if (shift < 4)
        {
          g_assert_cmpint (fault.status, ==, CELL_ERROR_INVALID);
          g_assert_cmpstr (fault.field, ==, "others");
        }
    }
}

CELL_STRUCT (Group, field (array (Named), rows))
CELL_STRUCT (Groups, field (array (Group), groups))

/* More arrays than are kept count of. */
static void
test_built_many (void)
{
  _Alignas (8) uint8_t payload[65536];
  AUTO_PLAN *plan = codec_plan_new (cell_fields_Groups, 1, CELL_ROLE_FIELD, sizeof (Groups), NULL);
  Groups groups = { NULL, 100, 0 }, got;
  uint32_t used = codec_built_from (sizeof groups);
  Group *group = (Group *) (payload + used);
  CodecFault fault = { 0 };
  Arena arena;

  used += 100 * (uint32_t) sizeof *group;
  groups.groups = group;
  for (unsigned i = 0; i < 100; i++)
    group[i] = (Group) { build_rows (payload, &used, 2), 2, 0 };
  g_assert_true (codec_encode (plan, &groups, payload, sizeof payload, &used, NULL, &fault));
  arena_init (&arena, 1u << 20);
  g_assert_true (codec_decode (plan, payload, used, sizeof groups, CODEC_PRIVATE, &arena, NULL, &got, &fault));
  for (unsigned i = 0; i < 100; i++)
    {
      g_assert_cmpstr (got.groups[i].rows[0].name, ==, "name 0");
      g_assert_cmpstr (got.groups[i].rows[1].name, ==, "name 1");
    }
  arena_clear (&arena);
}

CELL_STRUCT (Label, field (str, text))
CELL_STRUCT (Labels, field (str, first), field (str, second), field (array (Named), rows), field (array (Label), labels))

/* A string that is used again leaves too little for an array: all that is referred to is still no more than the record. */
static void
test_built_spent (void)
{
  _Alignas (8) uint8_t payload[8192];
  AUTO_PLAN *plan = codec_plan_new (cell_fields_Labels, cell_desc_Labels.n_fields, CELL_ROLE_FIELD, sizeof (Labels), NULL);
  uint32_t used = codec_built_from (sizeof (Labels));
  char *text = (char *) payload + used;
  Labels labels = { .first = text, .second = text, .n_labels = 50 }, got;
  Label label[50];
  CodecFault fault = { 0 };
  Arena arena;

  strcpy (text, "twenty letters are it");
  used += 24;
  labels.rows = build_rows (payload, &used, labels.n_rows = 2);
  used -= 32;                   /* their names are not said to be there */
  for (unsigned i = 0; i < 50; i++)
    label[i].text = text;
  labels.labels = label;
  g_assert_true (codec_encode (plan, &labels, payload, sizeof payload, &used, NULL, &fault));
  arena_init (&arena, 1u << 20);
  if (!codec_decode (plan, payload, used, sizeof labels, CODEC_PRIVATE, &arena, NULL, &got, &fault))
    g_error ("%s: %s", fault.field, fault.rule);
  g_assert_cmpstr (got.second, ==, "twenty letters are it");
  g_assert_cmpuint (got.rows[1].id, ==, 1);
  g_assert_cmpstr (got.labels[49].text, ==, "twenty letters are it");
  arena_clear (&arena);
}

/* Between the root and the first piece there may be a gap. */
static void
test_built_gap (void)
{
  static const uint8_t zeroes[8];
  _Alignas (8) uint8_t payload[64];
  AUTO_PLAN *plan = codec_plan_new (cell_fields_Label, 1, CELL_ROLE_FIELD, sizeof (Label), NULL);
  uint32_t from = codec_built_from (sizeof (Label)), used = from + 8;
  Label label = { (char *) payload + from };
  CodecFault fault = { 0 };

  memset (payload, 0xee, sizeof payload);
  memcpy (payload + from, "built\0\0", 8);
  g_assert_true (codec_encode (plan, &label, payload, sizeof payload, &used, NULL, &fault));
  g_assert_cmpuint (used, ==, from + 8);
  g_assert_cmpmem (payload + sizeof label, from - sizeof label, zeroes, from - sizeof label);
}

/* Children that were made before their parents, and are taken in another order. */
static void
test_built_upwards (void)
{
  _Alignas (8) uint8_t payload[8192];
  AUTO_PLAN *plan = codec_plan_new (cell_fields_Groups, 1, CELL_ROLE_FIELD, sizeof (Groups), NULL);
  Groups groups = { NULL, 40, 0 }, got;
  uint32_t used = codec_built_from (sizeof groups);
  Group *group;
  Named *rows = build_rows (payload, &used, 40);
  CodecFault fault = { 0 };
  Arena arena;

  group = (Group *) (payload + used);
  used += 40 * (uint32_t) sizeof *group;
  groups.groups = group;
  for (unsigned i = 0; i < 40; i++)
    group[i] = (Group) { rows + i * 27 % 40, 1, 0 };
  g_assert_true (codec_encode (plan, &groups, payload, sizeof payload, &used, NULL, &fault));
  arena_init (&arena, 1u << 20);
  g_assert_true (codec_decode (plan, payload, used, sizeof groups, CODEC_PRIVATE, &arena, NULL, &got, &fault));
  for (unsigned i = 0; i < 40; i++)
    {
      g_autofree char *name = g_strdup_printf ("name %u", i * 27 % 40);

      g_assert_cmpstr (got.groups[i].rows[0].name, ==, name);
    }
  arena_clear (&arena);
}

/* ---- blobs ------------------------------------------------------------------------------------------------ */

static uint64_t
export_to_transit (void *data, CellBlob *blob)
{
  (void) data;
  return blob_transit ()->export_blob (blob_transit (), blob);
}

static CellBlob *
import_from_transit (void *data, uint64_t id)
{
  CellBlob *blob = blob_transit ()->import_blob (blob_transit (), id);

  if (blob != NULL)
    g_ptr_array_add (data, blob);
  return blob;
}

CELL_STRUCT (Picture, field (u64, id), field (blob, pixels))
CELL_STRUCT (Album, field (array (Picture), pictures), field (optional (Picture), cover))

/* Through the host's table: what comes out is what went in, can be written by nobody, and is taken once. */
static void
test_blobs_in_transit (void)
{
  _Alignas (8) uint8_t payload[1024];
  AUTO_PLAN *plan = codec_plan_new (cell_fields_Album, cell_desc_Album.n_fields, CELL_ROLE_FIELD, sizeof (Album), NULL);
  g_autoptr (GPtrArray) taken = g_ptr_array_new_with_free_func ((GDestroyNotify) blob_unref);
  const CodecBlobs ways = { export_to_transit, import_from_transit, taken };
  CellBlob *blob = blob_new (100, NULL), *none = blob_new (0, NULL);
  Picture pictures[3] = { { 1, blob }, { 2, NULL }, { 3, none } };
  Album album = { .pictures = pictures, .n_pictures = 3, .cover = { 4, blob }, .has_cover = true }, got;
  size_t before = blob_transit_bytes ();
  uint32_t used = 0;
  CodecFault fault = { 0 };
  Arena arena;

  memset (blob_data (blob), 'p', 100);
  g_assert_true (codec_encode (plan, &album, payload, sizeof payload, &used, &ways, &fault));
  g_assert_cmpuint (blob_transit_bytes (), ==, before + 200);
  arena_init (&arena, 1u << 16);
  g_assert_true (codec_decode (plan, payload, used, sizeof album, 0, &arena, &ways, &got, &fault));
  g_assert_cmpuint (blob_transit_bytes (), ==, before);
  g_assert_true (got.pictures[0].pixels == blob && got.pictures[1].pixels == NULL && got.pictures[2].pixels == none);
  g_assert_true (got.cover.pixels == blob);
  g_assert_cmpint (((const char *) blob_data (got.cover.pixels))[99], ==, 'p');
  g_assert_cmpint (write (blob_fd (blob), "x", 1), ==, -1);
  g_assert_false (codec_decode (plan, payload, used, sizeof album, 0, &arena, &ways, &got, &fault));
  g_assert_cmpstr (fault.rule, ==, "blob-id");
  g_assert_cmpint (fault.status, ==, CELL_ERROR_GONE);        /* it may have been there */
  g_assert_cmpstr (fault.field, ==, "pixels");
  arena_clear (&arena);
  blob_unref (blob);
  blob_unref (none);
}

/* ---- another version's structs ------------------------------------------------------------------------------------ */

/* Decodes what `from` wrote as `to`, which has the same first rows; both as a root and as elements. */
static void
read_as (Maker *maker, const CellType *from, const CellType *to, unsigned n_common)
{
  CellField rows[2][2];
  const CellType *types[2] = { from, to };
  CodecPlan *plans[2];
  struct { const uint8_t *data; uint32_t n, stride; } array = { 0 }, got;
  CodecFault fault = { 0 };
  uint32_t used = 0;
  g_autofree uint8_t *payload = g_malloc (ROOM), *root = g_malloc (to->size), *values = g_malloc ((gsize) from->size * 3);
  Arena arena;

  for (unsigned i = 0; i < 2; i++)
    {
      rows[i][0] = (CellField) { .name = "all", .type = types[i], .extra = 8, .shape = CELL_SHAPE_ARRAY, .role = CELL_ROLE_FIELD };
      plans[i] = codec_plan_new (rows[i], 1, CELL_ROLE_FIELD, 16, NULL);
      g_assert_nonnull (plans[i]);
    }
  for (unsigned i = 0; i < 3; i++)
    value_make (maker, from->fields, from->n_fields, from->size, values + (gsize) i * from->size);
  array.data = values;
  array.n = 3;
  g_assert_true (codec_encode (plans[0], &array, payload, ROOM, &used, &hooks, &fault));
  arena_init (&arena, ARENA_ROOM);
  for (unsigned flags = 0; flags < 4; flags++)
    {
      if (!codec_decode (plans[1], payload, used, 16, flags, &arena, &hooks, &got, &fault))
        g_error ("%s: %s", fault.field, fault.rule);
      g_assert_cmpuint (got.n, ==, 3);
      for (unsigned i = 0; i < 3; i++)
        {
          const uint8_t *element = got.data + (gsize) i * to->size;

          g_assert_cmpuint ((guintptr) element % to->align, ==, 0);
          value_assert_equal (from->fields, n_common, values + (gsize) i * from->size, element);
          value_assert_sound (to->fields, to->n_fields, element);
        }
    }
  for (unsigned i = 0; i < 2; i++)
    {
      codec_plan_free (plans[i]);
      plans[i] = codec_plan_new (types[i]->fields, types[i]->n_fields, CELL_ROLE_FIELD, types[i]->size, NULL);
    }
  used = 0;
  g_assert_true (codec_encode (plans[0], values, payload, ROOM, &used, &hooks, &fault));
  for (unsigned flags = 0; flags < 4; flags++)
    {
      g_assert_true (codec_decode (plans[1], payload, used, from->size, flags, &arena, &hooks, root, &fault));
      value_assert_equal (from->fields, n_common, values, root);
      value_assert_sound (to->fields, to->n_fields, root);
    }
  arena_clear (&arena);
  codec_plan_free (plans[0]);
  codec_plan_free (plans[1]);
}

static void
test_evolution (void)
{
  for (unsigned i = 0; i < 1000; i++)
    {
      g_auto (Maker) maker;
      Layout old, new;
      const CellType *types[2];

      maker_init (&maker, (guint32) g_test_rand_int ());
      layout_make (&maker, &old, 6, 0);
      new = old;
      /* What a compiler does: a member that is appended may lie in what was padding. */
      new.size = old.rows[old.n - 1].offset;
      new.size += old.rows[old.n - 1].shape == CELL_SHAPE_ARRAY ? 16 : old.rows[old.n - 1].type->size;
      new.size += old.rows[old.n - 1].shape == CELL_SHAPE_OPTIONAL;
      for (int k = g_test_rand_int_range (1, 5); k > 0; k--)
        layout_append (&maker, &new, 0);
      layout_end (&new);
      types[0] = layout_to_type (&maker, &old);
      types[1] = layout_to_type (&maker, &new);
      read_as (&maker, types[0], types[1], old.n);
      read_as (&maker, types[1], types[0], old.n);
      read_as (&maker, types[1], types[1], new.n);
    }
}

CELL_STRUCT (Old, field (u64, id), field (u8, level))
CELL_STRUCT (New, field (u64, id), field (u8, level), field (u32, colour), field (str, name), field (optional (i64), limit))

/* What is missing is zero, in a root and in elements: also when it lies in what was padding. */
static void
test_missing (void)
{
  CellField old_row = { .name = "all", .type = &cell_desc_Old, .extra = 8, .shape = CELL_SHAPE_ARRAY, .role = CELL_ROLE_FIELD };
  CellField new_row = old_row;
  struct { const Old *data; uint32_t n, stride; } array = { 0 };
  struct { const New *data; uint32_t n, stride; } got;
  AUTO_PLAN *write = codec_plan_new (&old_row, 1, CELL_ROLE_FIELD, 16, NULL), *read = NULL;
  _Alignas (8) uint8_t payload[256];
  uint32_t used = 0;
  Old old[2];
  CodecFault fault = { 0 };
  Arena arena;

  new_row.type = &cell_desc_New;
  read = codec_plan_new (&new_row, 1, CELL_ROLE_FIELD, 16, NULL);
  memset (old, 0xff, sizeof old);
  array.data = old;
  array.n = 2;
  g_assert_true (codec_encode (write, &array, payload, sizeof payload, &used, NULL, &fault));
  arena_init (&arena, 1u << 20);
  g_assert_true (codec_decode (read, payload, used, 16, CODEC_PRIVATE, &arena, NULL, &got, &fault));
  g_assert_cmpuint (got.data[1].id, ==, UINT64_MAX);
  g_assert_cmpuint (got.data[1].level, ==, 255);
  g_assert_cmpuint (got.data[1].colour, ==, 0);
  g_assert_cmpstr (got.data[1].name, ==, "");
  g_assert_false (got.data[1].has_limit);
  g_assert_cmpint (got.data[1].limit, ==, 0);
  arena_clear (&arena);
}

/* ---- tables that lie --------------------------------------------------------------------------------------------------------- */

static void
plan_is_refused (const CellField *rows, uint32_t n, uint32_t size)
{
  const char *why = NULL;

  g_assert_null (codec_plan_new (rows, n, CELL_ROLE_FIELD, size, &why));
  g_assert_nonnull (why);
  g_assert_null (codec_plan_new (rows, n, CELL_ROLE_FIELD, size, NULL));
}

static const CellType u64_type = { "u64", CELL_KIND_UINT, 8, 0, 8, NULL };
static const CellType u8_type = { "u8", CELL_KIND_UINT, 1, 0, 1, NULL };

static void
type_is_refused (CellType type)
{
  CellField row = { .name = "x", .type = &type, .role = CELL_ROLE_FIELD };

  plan_is_refused (&row, 1, 64);
  row.shape = CELL_SHAPE_ARRAY;
  row.extra = 8;
  plan_is_refused (&row, 1, 64);
  row.shape = CELL_SHAPE_OPTIONAL;
  row.extra = type.size;
  plan_is_refused (&row, 1, 64);
}

static void
test_types_refused (void)
{
  const CellField wide = { .name = "w", .type = &u64_type, .role = CELL_ROLE_FIELD };

  type_is_refused ((CellType) { NULL, CELL_KIND_UINT, 8, 0, 8, NULL });
  type_is_refused ((CellType) { "t", 0, 8, 0, 8, NULL });
  type_is_refused ((CellType) { "t", CELL_KIND_STRUCT + 1, 8, 0, 8, NULL });
  type_is_refused ((CellType) { "t", CELL_KIND_UINT, 0, 0, 0, NULL });
  type_is_refused ((CellType) { "t", CELL_KIND_UINT, 3, 0, 3, NULL });
  type_is_refused ((CellType) { "t", CELL_KIND_UINT, 16, 0, 16, NULL });
  type_is_refused ((CellType) { "t", CELL_KIND_INT, 4, 0, 8, NULL });
  type_is_refused ((CellType) { "t", CELL_KIND_INT, 8, 0, 0x80000008u, NULL });
  type_is_refused ((CellType) { "t", CELL_KIND_FLOAT, 4, 0, 4, NULL });
  type_is_refused ((CellType) { "t", CELL_KIND_BOOL, 1, 0, 2, NULL });
  type_is_refused ((CellType) { "t", CELL_KIND_STR, 8, 0, 16, NULL });
  type_is_refused ((CellType) { "t", CELL_KIND_STR, 4, 0, 8, NULL });
  type_is_refused ((CellType) { "t", CELL_KIND_BYTES, 8, 0, 8, NULL });
  type_is_refused ((CellType) { "t", CELL_KIND_BLOB, 8, 0, 4, NULL });
  type_is_refused ((CellType) { "t", CELL_KIND_STRUCT, 8, 0, 0, NULL });
  type_is_refused ((CellType) { "t", CELL_KIND_STRUCT, 8, 1, 8, NULL });
  type_is_refused ((CellType) { "t", CELL_KIND_STRUCT, 8, 1, 12, &wide });
  type_is_refused ((CellType) { "t", CELL_KIND_STRUCT, 4, 1, 8, &wide });         /* its member needs more */
  type_is_refused ((CellType) { "t", CELL_KIND_STRUCT, 1, 1, 9, &wide });
  type_is_refused ((CellType) { "t", CELL_KIND_STRUCT, 8, 1, 1u << 24, &wide });
  type_is_refused ((CellType) { "t", CELL_KIND_STRUCT, 16, 1, 16, &wide });
}

static void
test_rows_refused (void)
{
  const CellField good[2] = { { .name = "a", .type = &u64_type, .role = CELL_ROLE_FIELD },
                              { .name = "b", .type = &u8_type, .offset = 8, .role = CELL_ROLE_FIELD } };
  CellField rows[2];
  CodecPlan *plan = codec_plan_new (good, 2, CELL_ROLE_FIELD, 16, NULL);

#define REFUSED(...) \
  memcpy (rows, good, sizeof rows); __VA_ARGS__; plan_is_refused (rows, 2, 16)
  g_assert_nonnull (plan);
  codec_plan_free (plan);
  REFUSED (rows[0].name = NULL);
  REFUSED (rows[1].type = NULL);
  REFUSED (rows[1].offset = 7);                 /* overlaps */
  REFUSED (rows[1].offset = 16);                /* outside */
  REFUSED (rows[1].offset = UINT32_MAX);
  REFUSED (rows[0].offset = 1);                 /* not aligned */
  REFUSED (rows[0].offset = 8);                 /* not in their order */
  REFUSED (rows[1].shape = 3);
  REFUSED (rows[1].shape = CELL_SHAPE_ARRAY; rows[1].extra = 16);               /* half of it outside */
  REFUSED (rows[0].shape = CELL_SHAPE_ARRAY; rows[0].extra = 8);                /* overlaps by its count */
  REFUSED (rows[0].shape = CELL_SHAPE_ARRAY; rows[0].extra = UINT32_MAX);
  REFUSED (rows[1].shape = CELL_SHAPE_OPTIONAL; rows[1].extra = 10);
  REFUSED (rows[1].shape = CELL_SHAPE_OPTIONAL; rows[1].extra = 8);
  REFUSED (rows[1].shape = CELL_SHAPE_OPTIONAL; rows[1].type = &u64_type; rows[1].extra = 16);
#undef REFUSED
  plan_is_refused (good, 2, 8);
  plan_is_refused (good, 2, 0);
  plan_is_refused (good, 2, UINT32_MAX);
  plan_is_refused (NULL, 1, 8);
}

/* Structs of structs, each with its next. */
static bool
nested_is_accepted (unsigned depth, uint8_t shape)
{
  CellType types[64];
  CellField rows[64];
  CodecPlan *plan;
  bool accepted;

  g_assert_cmpuint (depth, <, G_N_ELEMENTS (types));
  for (unsigned i = 0; i <= depth; i++)
    {
      rows[i] = (CellField) { .name = "n", .type = i < depth ? &types[i + 1] : &u64_type, .role = CELL_ROLE_FIELD };
      if (i < depth)
        {
          rows[i].shape = shape;
          rows[i].extra = 8;
        }
      types[i] = (CellType) { "N", CELL_KIND_STRUCT, 8, 1, shape == CELL_SHAPE_ARRAY && i < depth ? 16 : 8, &rows[i] };
    }
  plan = codec_plan_new (rows, 1, CELL_ROLE_FIELD, types[0].size, NULL);
  accepted = plan != NULL;
  codec_plan_free (plan);
  return accepted;
}

static void
test_too_much (void)
{
  CellType loop = { "L", CELL_KIND_STRUCT, 8, 2, 32, NULL }, crowd[12], flat[3];
  CellField rows[2], many[5000], crowded[12][64], flattened[3][64];

  for (unsigned i = 0; i < 2; i++)
    rows[i] = (CellField) { .name = "again", .type = &loop, .offset = 16 * i, .extra = 16 * i + 8, .shape = CELL_SHAPE_ARRAY,
                            .role = CELL_ROLE_FIELD };
  loop.fields = rows;
  plan_is_refused (rows, 2, 32);
  g_assert_true (nested_is_accepted (16, CELL_SHAPE_PLAIN));
  g_assert_true (nested_is_accepted (16, CELL_SHAPE_ARRAY));
  g_assert_false (nested_is_accepted (17, CELL_SHAPE_PLAIN));
  g_assert_false (nested_is_accepted (17, CELL_SHAPE_ARRAY));

  for (unsigned i = 0; i < G_N_ELEMENTS (many); i++)
    many[i] = (CellField) { .name = "x", .type = &cell_desc_str, .offset = 8 * i, .role = CELL_ROLE_FIELD };
  plan_is_refused (many, 5000, 40000);

  /* A few small tables that say 2^40 members. */
  for (unsigned i = 0; i < 12; i++)
    {
      for (unsigned k = 0; k < 64; k++)
        crowded[i][k] = (CellField) { .name = "c", .type = i == 0 ? &u8_type : &crowd[i - 1], .offset = 16 * k, .extra = 16 * k + 8,
                                      .shape = CELL_SHAPE_ARRAY, .role = CELL_ROLE_FIELD };
      crowd[i] = (CellType) { "C", CELL_KIND_STRUCT, 8, 64, 1024, crowded[i] };
    }
  plan_is_refused (crowded[11], 64, 1024);

  /* One step, but more members than anybody wants to look at. */
  for (unsigned i = 0; i < 3; i++)
    {
      const CellType *member = i == 0 ? &u8_type : &flat[i - 1];

      for (unsigned k = 0; k < 64; k++)
        flattened[i][k] = (CellField) { .name = "f", .type = member, .offset = member->size * k, .role = CELL_ROLE_FIELD };
      flat[i] = (CellType) { "F", CELL_KIND_STRUCT, 1, 64, member->size * 64, flattened[i] };
    }
  plan_is_refused (flattened[2], 64, 64 * 64 * 64);
}

/* A struct without members is no bytes, and no bytes are it; what a newer sender has in it is skipped. */
static void
assert_nothing (const CodecPlan *plan)
{
  _Alignas (8) uint8_t payload[8] = { 0xff }, local[8] = { 0xee };
  uint32_t used = 0;
  Arena arena = { 0 };
  CodecFault fault;

  g_assert_true (codec_encode (plan, local, payload, 0, &used, NULL, &fault));
  g_assert_cmpuint (used, ==, 0);
  for (uint32_t root = 0; root <= 8; root += 8)
    for (unsigned flags = 0; flags < 4; flags++)
      g_assert_true (codec_decode (plan, payload, 8, root, flags, &arena, NULL, local, &fault));
  g_assert_false (codec_decode (plan, payload, 8, 9, 0, &arena, NULL, local, &fault));
  g_assert_true (payload[0] == 0xff && local[0] == 0xee);
}

/* Only rows of the role asked for count. */
static void
test_roles (void)
{
  const CellField rows[] = { { .name = "", .doc = "what it is", .role = CELL_ROLE_DOC },
                             { .name = "a", .type = &u64_type, .role = CELL_ROLE_IN },
                             { .name = "r", .type = &u8_type, .role = CELL_ROLE_OUT },
                             { .name = "b", .type = &u64_type, .offset = 8, .role = CELL_ROLE_IN } };
  CodecPlan *in = codec_plan_new (rows, 4, CELL_ROLE_IN, 16, NULL), *out = codec_plan_new (rows, 4, CELL_ROLE_OUT, 1, NULL),
            *none = codec_plan_new (rows, 4, CELL_ROLE_FIELD, 0, NULL);

  g_assert_true (in->trivial && in->size == 16);
  g_assert_true (out->trivial && out->size == 1);
  g_assert_true (none->trivial && none->size == 0);
  assert_nothing (none);
  codec_plan_free (in);
  codec_plan_free (out);
  codec_plan_free (none);
}

/* ---- too little memory ---------------------------------------------------------------------------------- */

/* With each bound there is either a value or a fault that says so. */
static void
test_memory (void)
{
  for (unsigned i = 0; i < 100; i++)
    {
      g_auto (Sample) sample;
      g_autofree uint8_t *local = NULL;
      bool good = false;

      sample_init (&sample, (guint32) g_test_rand_int (), false);
      local = g_malloc (sample.layout.size);
      for (gsize limit = 0; !good; limit += 8)
        {
          Arena arena;
          CodecFault fault = { 0 };

          g_assert_cmpuint (limit, <, ARENA_ROOM);
          arena_init (&arena, limit);
          good = codec_decode (sample.plan, sample.payload, sample.used, sample.layout.size, 0, &arena, &hooks, local, &fault);
          g_assert_true (good || fault.status == CELL_ERROR_NO_RESOURCES);
          if (good)
            value_assert_equal (sample.layout.rows, sample.layout.n, sample.value, local);
          arena_clear (&arena);
        }
    }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/codec/round-trip", test_round_trip);
  g_test_add_func ("/codec/padding", test_padding);
  g_test_add_func ("/codec/hostile/truncated", test_truncated);
  g_test_add_func ("/codec/hostile/one-byte", test_one_byte);
  g_test_add_func ("/codec/hostile/words", test_words);
  g_test_add_func ("/codec/hostile/scribbled", test_scribbled);
  g_test_add_func ("/codec/hostile/faults", test_faults);
  g_test_add_func ("/codec/hostile/unfolding", test_unfolding);
  g_test_add_func ("/codec/hostile/bomb", test_bomb);
  g_test_add_func ("/codec/hostile/overlap", test_overlap);
  g_test_add_func ("/codec/encode/refused", test_not_encodable);
  g_test_add_func ("/codec/encode/careless-bools", test_careless_bools);
  g_test_add_func ("/codec/encode/capacity", test_capacity);
  g_test_add_func ("/codec/built/random", test_built);
  g_test_add_func ("/codec/built/exactly", test_built_exactly);
  g_test_add_func ("/codec/built/shared", test_built_shared);
  g_test_add_func ("/codec/built/aliased", test_built_aliased);
  g_test_add_func ("/codec/built/many", test_built_many);
  g_test_add_func ("/codec/built/spent", test_built_spent);
  g_test_add_func ("/codec/built/gap", test_built_gap);
  g_test_add_func ("/codec/built/upwards", test_built_upwards);
  g_test_add_func ("/codec/blobs", test_blobs_in_transit);
  g_test_add_func ("/codec/evolution/random", test_evolution);
  g_test_add_func ("/codec/evolution/missing", test_missing);
  g_test_add_func ("/codec/tables/types", test_types_refused);
  g_test_add_func ("/codec/tables/rows", test_rows_refused);
  g_test_add_func ("/codec/tables/too-much", test_too_much);
  g_test_add_func ("/codec/tables/roles", test_roles);
  g_test_add_func ("/codec/memory", test_memory);
  return g_test_run ();
}

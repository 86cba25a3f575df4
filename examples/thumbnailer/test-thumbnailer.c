/* SPDX-License-Identifier: MIT
 *
 * Pictures, and what is none, go in as blobs; pixels come out.
 */
#include <cell/remote/thumbnailer.h>

#include "membrane/blob.h"

#include "town.h"

/* 2 × 1 pixels, red and blue. */
static const uint8_t png[] = {
  0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48, 0x44, 0x52, 0x00, 0x00,
  0x00, 0x02, 0x00, 0x00, 0x00, 0x01, 0x08, 0x02, 0x00, 0x00, 0x00, 0x7b, 0x40, 0xe8, 0xdd, 0x00, 0x00, 0x00,
  0x0d, 0x49, 0x44, 0x41, 0x54, 0x78, 0xda, 0x63, 0xf8, 0xcf, 0x00, 0x04, 0xff, 0x01, 0x07, 0x00, 0x01, 0xff,
  0x3d, 0x7d, 0x8c, 0x49, 0x00, 0x00, 0x00, 0x00, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82,
};

static void
test_thumbnailer (void)
{
  Town *town = town_new ();
  CellClient *thumbnailer;
  CellBlob *noise = blob_new (18, NULL), *picture = blob_new (sizeof png, NULL);

  memcpy (blob_data (noise), "this is no picture", 18);
  memcpy (blob_data (picture), png, sizeof png);
  town_load (town, "thumbnailer", "thumbnailer", NULL);
  thumbnailer = town_use (town, Thumbnailer, "thumbnailer");
  {
    cell_auto ThumbnailerThumbnail none = thumbnailer_thumbnail (thumbnailer, .size = 10);
    cell_auto ThumbnailerThumbnail bad = thumbnailer_thumbnail (thumbnailer, .picture = noise, .size = 10);

    assert_failed (&none.result, CELL_ERROR_FAILED, Thumbnailer_NotAPicture, "there are no bytes");
    cell_auto ThumbnailerThumbnail good = thumbnailer_thumbnail (thumbnailer, .picture = picture, .size = 10);
    const uint8_t *pixels = cell_blob_data (good.pixels);

    assert_failed (&bad.result, CELL_ERROR_FAILED, Thumbnailer_NotAPicture, "");
    assert_ok (&good.result);
    g_assert_cmpuint (good.width, ==, 2);
    g_assert_cmpuint (good.height, ==, 1);
    g_assert_cmpstr (good.format, ==, "RGB");
    g_assert_cmpuint (cell_blob_size (good.pixels), >=, 6);
    g_assert_cmpmem (pixels, 6, "\xff\0\0\0\0\xff", 6);
  }
  blob_unref (noise);
  blob_unref (picture);
  cell_client_close (thumbnailer);
  town_free (town);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/thumbnailer/methods", test_thumbnailer);
  return g_test_run ();
}

/* SPDX-License-Identifier: MIT
 *
 * A picture file in, a small picture out.  Both travel as blobs: the file's bytes are read where they lie, and the pixels are
 * written where the caller will read them.  There is nothing to remember between calls, so the cell moves without save and restore.
 */
#define _GNU_SOURCE                     /* memmem () */
#include <gdk-pixbuf/gdk-pixbuf.h>

#include <cell/cell.h>

#ifdef FRAGILE                          /* a build for the demo, which does not survive all pictures */
# include "fragile.h"
# define TIMEOUT 500
#else
# define fragile_look(bytes, n) ((void) (bytes))
# define TIMEOUT 30000                  /* ms; large pictures take their time */
#endif

#define MAX_SIZE 4096                   /* of a thumbnail, in pixels */
#define CHUNK 65536                     /* bytes that are decoded between two looks at the picture's size */

typedef struct
{
  int64_t max_pixels;
} Thumbnailer;

CELL_ERROR (Thumbnailer, NotAPicture, "The bytes are not a picture that can be read")
CELL_ERROR (Thumbnailer, TooLarge, "The picture has more pixels than the key max_pixels allows")

/* One picture while it is being decoded. */
typedef struct
{
  int64_t max_pixels;
  uint32_t size;
  int width, height;                    /* as the file says; 0: not known yet */
  bool too_large;
} Decoding;

/* The loader knows the picture's size, and asks which one is wanted, before it makes room for a single pixel. */
static void
on_size_prepared (GdkPixbufLoader *loader, int width, int height, gpointer data)
{
  Decoding *d = data;
  int64_t longer = MAX (width, height), size = d->size;
  d->width = width;
  d->height = height;
  d->too_large = (int64_t) width * height > d->max_pixels;
  if (d->too_large)
    gdk_pixbuf_loader_set_size (loader, 1, 1);
  else if (longer > size)
    gdk_pixbuf_loader_set_size (loader, (int) MAX (1, width * size / longer), (int) MAX (1, height * size / longer));
}

/* Whether the file has its end.  gdk-pixbuf takes a cut PNG or JPEG for a picture whose lower part is empty. */
static bool
is_whole (GdkPixbufLoader *loader, const guchar *bytes, size_t n)
{
  GdkPixbufFormat *format = gdk_pixbuf_loader_get_format (loader);
  g_autofree char *name = format ? gdk_pixbuf_format_get_name (format) : NULL;
  if (g_strcmp0 (name, "png") == 0)
    return memmem (bytes, n, "IEND", 4) != NULL;
  if (g_strcmp0 (name, "jpeg") == 0)
    return memmem (bytes, n, "\xff\xd9", 2) != NULL;
  return true;
}

/* The picture, not larger than d->size each way, or NULL. */
static GdkPixbuf *
decode (Decoding *d, const guchar *bytes, size_t n, GError **error)
{
  g_autoptr (GdkPixbufLoader) loader = gdk_pixbuf_loader_new ();
  bool good = true;
  g_signal_connect (loader, "size-prepared", G_CALLBACK (on_size_prepared), d);
  for (size_t done = 0; done < n && good && !d->too_large; done += MIN (n - done, CHUNK))
    good = gdk_pixbuf_loader_write (loader, bytes + done, MIN (n - done, CHUNK), error);
  /* A loader must be closed whatever happened; the first error is the one to tell. */
  good = gdk_pixbuf_loader_close (loader, good && !d->too_large ? error : NULL) && good;
  good = good && is_whole (loader, bytes, n);
  GdkPixbuf *picture = good && !d->too_large ? gdk_pixbuf_loader_get_pixbuf (loader) : NULL;
  return picture ? gdk_pixbuf_apply_embedded_orientation (picture) : NULL;
}

CELL_METHOD (Thumbnailer, thumbnail, doc ("Makes a picture small enough to fit into a square; small ones keep their size."),
             idempotent, timeout (TIMEOUT),
             in (blob, picture, "a file that gdk-pixbuf can read: PNG, JPEG, GIF, SVG…"),
             in (u32, size, "of the square, in pixels"),
             out (blob, pixels, "8 bits each of red, green, blue and, where there is one, alpha"),
             out (u32, width), out (u32, height), out (u32, rowstride, "bytes from one row to the next"),
             out (bool, has_alpha), out (str, format, "RGB or RGBA"),
             fails (NotAPicture), fails (TooLarge))
{
  Decoding d = { .max_pixels = self->max_pixels, .size = in->size };
  g_autoptr (GError) error = NULL;

  if (in->size == 0 || in->size > MAX_SIZE)
    return cell_fail_status (call, CELL_ERROR_INVALID, "size is between 1 and %d, got %u", MAX_SIZE, in->size);
  if (cell_blob_size (in->picture) == 0)
    return cell_fail (call, NotAPicture, "there are no bytes");
  const guchar *bytes = cell_blob_data (in->picture);
  if (!bytes)
    return cell_fail_status (call, CELL_ERROR_NO_RESOURCES, "the picture's bytes cannot be mapped");
  fragile_look (bytes, cell_blob_size (in->picture));

  g_autoptr (GdkPixbuf) picture = decode (&d, bytes, cell_blob_size (in->picture), &error);
  if (d.too_large)
    return cell_fail (call, TooLarge, "%d × %d pixels; %" PRId64 " are the most", d.width, d.height, self->max_pixels);
  if (!picture)
    return cell_fail (call, NotAPicture, "%s", error ? g_strchomp (error->message) : "the file ends before the picture does");

  size_t n = gdk_pixbuf_get_byte_length (picture);
  out->pixels = cell_blob_new (self, call, n);
  void *pixels = cell_blob_data (out->pixels);
  if (!pixels)
    return cell_fail_status (call, CELL_ERROR_NO_RESOURCES, "no room for %zu bytes of pixels", n);
  memcpy (pixels, gdk_pixbuf_read_pixels (picture), n);
  out->width = (uint32_t) gdk_pixbuf_get_width (picture);
  out->height = (uint32_t) gdk_pixbuf_get_height (picture);
  out->rowstride = (uint32_t) gdk_pixbuf_get_rowstride (picture);
  out->has_alpha = gdk_pixbuf_get_has_alpha (picture);
  out->format = out->has_alpha ? "RGBA" : "RGB";
  return CELL_OK;
}

CELL_INIT (Thumbnailer, thumbnailer_init)
{
  self->max_pixels = cell_config_i64 (self, "max_pixels", 100000000);
  return CELL_OK;
}

CELL_SERVICE (Thumbnailer, "org.example.Thumbnailer", 1, .doc = "Makes pictures small", .threading = CELL_SERIAL,
              .init = thumbnailer_init)

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "fragile.h"

#include <gio/gio.h>
#include <glib/gi18n.h>
#include <glib/gstdio.h>
#include <string.h>

#include <cell/remote/host.h>
#include <cell/remote/thumbnailer.h>

#include "report.h"

#define SIZE 128
#define GOOD_MS 60000            /* a good picture may have to wait for a new process */
#define BAD_MS 500               /* what that build says itself: from then on it is late */
#define GOOD_BETWEEN 4           /* good pictures behind each of the others */

/* What thumbnailer/fragile.h looks for. */
static const struct
{
  const char *name, *mark;
} bad[] = {
  { "crash.png", "cellhost-demo: crash" }, { "hang.png", "cellhost-demo: hang" }, { "memory.png", "cellhost-demo: memory" },
};

typedef struct
{
  CellBus *bus;
  CellClient *host, *thumbnailer;
  GPtrArray *good;
  guint n_asked, n_done;        /* good ones */
  guint restarts;               /* up to the picture before this one */
  gint64 began;                 /* real time, µs: with this one */
  char *why;                    /* of the last restart */
} Fragile;

static void
fragile_clear (Fragile *fragile)
{
  g_clear_pointer (&fragile->thumbnailer, cell_client_close);
  g_clear_pointer (&fragile->why, g_free);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Fragile, fragile_clear)

/* ---- the stranger ------------------------------------------------------------------------------------------- */

/* In a folder that is everybody's, as if somebody had left it there: that makes it foreign. */
static char *
put (const char *folder, GError **error)
{
  g_autofree char *place = g_build_filename (folder, "everybodys", NULL),
                  *key_file = g_build_filename (place, "fragile.cell", NULL);
  g_autofree char *built = g_path_get_dirname (DEMO_FRAGILE), *its_keys = g_build_filename (built, "fragile.cell", NULL);
  char *module = g_build_filename (place, "fragile.so", NULL);
  const char *const pairs[][2] = { { DEMO_FRAGILE, module }, { its_keys, key_file } };

  g_mkdir (place, 0700);
  g_chmod (place, 01777);
  for (guint i = 0; i < G_N_ELEMENTS (pairs); i++)
    {
      g_autoptr(GFile) from = g_file_new_for_path (pairs[i][0]), to = g_file_new_for_path (pairs[i][1]);

      if (!g_file_copy (from, to, G_FILE_COPY_OVERWRITE | G_FILE_COPY_TARGET_DEFAULT_PERMS, NULL, NULL, NULL, error))
        return g_free (module), NULL;
      g_chmod (pairs[i][1], 0644);      /* whatever the umask is */
    }
  return module;
}

static gboolean
load (Fragile *fragile, const char *folder)
{
  g_autoptr(GError) error = NULL;
  g_autofree char *module = put (folder, &error);

  if (module == NULL)
    {
      say (_("stranger"), "%s", error->message);
      return FALSE;
    }
  cell_auto HostLoad reply = host_load (fragile->host, .path = module);
  if (reply.result.status != CELL_OK)
    say (_("stranger"), "%s", reply.result.message);
  else if (*reply.foreign == 0)
    say (_("stranger"), _("it is not in a sandbox"));
  else
    say (_("stranger"), _("a build of the thumbnailer begins in a sandbox, for it is foreign: %s"), reply.foreign);
  return reply.result.status == CELL_OK && *reply.foreign != 0;
}

/* ---- its pictures -------------------------------------------------------------------------------------------- */

static CellStatus
ask (Fragile *fragile, const char *bytes, gsize size, guint ms)
{
  CellBlob *blob = cell_bus_blob (fragile->bus, size);

  if (blob == NULL)
    return CELL_ERROR_NO_RESOURCES;
  memcpy (cell_blob_data (blob), bytes, size);
  cell_set_timeout (fragile->thumbnailer, ms);
  cell_auto ThumbnailerThumbnail t = thumbnailer_thumbnail (fragile->thumbnailer, .picture = blob, .size = SIZE);
  cell_blob_unref (blob);
  return t.result.status;
}

static void
do_good (Fragile *fragile)
{
  const char *path = g_ptr_array_index (fragile->good, fragile->n_asked % fragile->good->len);
  g_autofree char *bytes = NULL;
  gsize size;

  fragile->n_asked++;
  if (g_file_get_contents (path, &bytes, &size, NULL) && ask (fragile, bytes, size, GOOD_MS) == CELL_OK)
    fragile->n_done++;
}

static gboolean
do_bad (Fragile *fragile, const char *mark)
{
  const char *path = g_ptr_array_index (fragile->good, 0);
  g_autoptr(GString) marked = g_string_new (NULL);
  g_autofree char *bytes = NULL;
  gsize size;

  if (!g_file_get_contents (path, &bytes, &size, NULL))
    return FALSE;
  g_string_append_len (marked, bytes, (gssize) size);
  g_string_append (marked, mark);
  return ask (fragile, marked->str, marked->len, BAD_MS) != CELL_OK;
}

/* ---- what became of it ---------------------------------------------------------------------------------------- */

/* FALSE: no process has ended since the last time. */
static gboolean
look (Fragile *fragile)
{
  cell_auto HostList list = host_list (fragile->host);
  guint before = fragile->restarts;

  for (uint32_t i = 0; i < list.n_cells; i++)
    if (g_str_equal (list.cells[i].name, "fragile"))
      {
        fragile->restarts = list.cells[i].restarts;
        g_free (fragile->why);
        fragile->why = g_strdup (list.cells[i].reason);
      }
  return fragile->restarts > before;
}

/* The last thing that its process has said, which is not what its supervisor says of it; NULL: nothing. */
static char *
last_words (Fragile *fragile)
{
  cell_auto HostLogs logs = host_logs (fragile->host, .name = "fragile");

  for (uint32_t i = logs.n_lines; i-- > 0;)
    if (logs.lines[i].time >= fragile->began && !g_str_has_prefix (logs.lines[i].text, fragile->why))
      return g_strdup (logs.lines[i].text);
  return NULL;
}

static void
print_end (Fragile *fragile, const char *picture, gboolean ended)
{
  g_autofree char *words = ended ? last_words (fragile) : NULL, *plain = plain_text (words != NULL ? words : "");
  g_autofree char *why = plain_text (ended ? fragile->why : _("nothing has come of it"));
  g_autofree char *said = words != NULL ? g_strdup_printf (_("; it said: %s"), plain) : g_strdup ("");

  g_print ("  %s: %s%s\n", picture, why, said);
}

/* The good ones wait until all is over that comes of the bad one. */
static gboolean
do_round (Fragile *fragile, guint number)
{
  gboolean refused, ended;

  progress (number + 1, G_N_ELEMENTS (bad), bad[number].name);
  fragile->began = g_get_real_time ();
  refused = do_bad (fragile, bad[number].mark);
  for (guint i = 0; i < GOOD_BETWEEN; i++)
    do_good (fragile);
  ended = look (fragile);
  progress_end ();
  print_end (fragile, bad[number].name, ended);
  return refused && ended;
}

gboolean
fragile_run (CellBus *bus, CellClient *host, const char *folder, GPtrArray *good, const gint *stop)
{
  g_auto(Fragile) fragile = { .bus = bus, .host = host, .good = good };
  gboolean as_wanted = TRUE;

  if (good->len == 0)
    return TRUE;
  if (!load (&fragile, folder))
    return FALSE;
  fragile.thumbnailer = cell_bind (bus, Thumbnailer, "fragile");
  do_good (&fragile);
  for (guint i = 0; i < G_N_ELEMENTS (bad) && !g_atomic_int_get (stop); i++)
    as_wanted = do_round (&fragile, i) && as_wanted;
  say ("", _("its process ended %u times, and another took its place; %u of %u good pictures were done"), fragile.restarts,
       fragile.n_done, fragile.n_asked);
  return as_wanted && fragile.n_done == fragile.n_asked;
}

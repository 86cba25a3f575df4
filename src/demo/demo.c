/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The demo: a host works through every picture in a folder, while one of its cells leaves the process and comes back, again and
 * again.
 *
 * cellhost-demo [FOLDER [OUTPUT [SECONDS]]]
 */
#include "config.h"

#include <errno.h>
#include <gdk-pixbuf/gdk-pixbuf.h>
#include <glib/gi18n.h>
#include <glib/gstdio.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cell/remote/exchange.h>
#include <cell/remote/host.h>
#include <cell/remote/ledger.h>
#include <cell/remote/thumbnailer.h>
#include <cell/remote/trader.h>

#include "daemon.h"
#include "fragile.h"
#include "pictures.h"
#include "report.h"

#define PICTURE_BYTES_MAX (64u << 20)
#define SIZE 128
#define MOVES 10                 /* while the pictures are worked through; fewer when they are few */
#define PICTURES_A_MOVE 10       /* at least, unless they are fewer than thrice that */
#define ORDERS 50000             /* that the trader sends at a time */
#define TRADE_SECONDS 2          /* for which it does, in each place, unless the command line says otherwise */
#define FAILURES_SHOWN 10
#define GOOD_KEPT 16             /* pictures for the build that does not survive some */
#define QUOTES 20000             /* orders from outside of the host, each of them timed */

typedef enum
{
  THUMBNAILER_HERE, THUMBNAILER_MOVING, THUMBNAILER_SANDBOX, LEDGER, TRADER,
  EXCHANGE_HERE, EXCHANGE_SANDBOX, TRADED_HERE, TRADED_SANDBOX,
  N_PLACES
} Place;

typedef struct
{
  guint n;
  gint64 least, most;           /* µs */
} Span;

typedef struct
{
  char *folder;
  const char *output;
  gint64 trade_us;
  Daemon daemon;
  CellBus *bus;
  CellClient *host, *thumbnailer, *ledger, *trader, *exchange;
  GPtrArray *files;
  GPtrArray *good;              /* those of them that are pictures, as many as are wanted later; not copied */
  GHashTable *names;            /* of thumbnails */
  GPtrArray *failures;          /* the first of them, each a file and its reason */
  guint n_done, n_failed;
  guint64 bytes, booked;
  gint64 longest, longest_moving;       /* µs that one thumbnail took, and while a move was under way */
  GThread *mover;               /* NULL: no move is under way, or it has not been looked at yet what became of it */
  gint moving, sandboxed;       /* atomic: whether the command is under way, and where the thumbnailer was after the last one */
  guint n_begun;                /* moves */
  char *stays;                  /* why the last one failed */
  gint64 took;                  /* µs, by the last move */
  Span out, back;               /* all moves, each way */
  Latencies latencies[N_PLACES];
} Demo;

/* ---- the host -------------------------------------------------------------------------------------------- */

static gboolean
load (Demo *demo, const char *path, GError **error)
{
  const HostSetting config[] = { { "overdraft", "1000000000000" } };
  cell_auto HostLoad reply = host_load (demo->host, .path = path, .config = config, .n_config = G_N_ELEMENTS (config));

  if (reply.result.status != CELL_OK)
    g_set_error (error, G_IO_ERROR, G_IO_ERROR_FAILED, "%s: %s", path, reply.result.message);
  return reply.result.status == CELL_OK;
}

static gboolean
start_host (Demo *demo, GError **error)
{
  static const char *const cells[] = { DEMO_THUMBNAILER, DEMO_LEDGER, DEMO_EXCHANGE, DEMO_TRADER };
  gint64 began = g_get_monotonic_time ();

  if (!daemon_start (&demo->daemon, demo->folder, error))
    return FALSE;
  demo->bus = cell_open (demo->daemon.socket);
  demo->host = cell_bind (demo->bus, Host, "host");
  for (guint i = 0; i < G_N_ELEMENTS (cells); i++)
    if (!load (demo, cells[i], error))
      return FALSE;
  demo->thumbnailer = cell_bind (demo->bus, Thumbnailer, "thumbnailer");
  demo->ledger = cell_bind (demo->bus, Ledger, "ledger");
  demo->trader = cell_bind (demo->bus, Trader, "trader");
  demo->exchange = cell_bind (demo->bus, Exchange, "exchange");
  say (_("host"), _("started with %u cells in %.1f ms"), (guint) G_N_ELEMENTS (cells),
       (double) (g_get_monotonic_time () - began) / 1000);
  return TRUE;
}

static void
stop_host (Demo *demo)
{
  if (demo->host != NULL)
    {
      cell_auto HostShutdown reply = host_shutdown (demo->host);

      if (reply.result.status != CELL_OK)
        g_subprocess_send_signal (demo->daemon.process, SIGTERM);
    }
  daemon_wait (&demo->daemon);
  if (demo->bus != NULL)
    cell_close (demo->bus);
}

/* ---- the moves: on a thread of its own each, so that the work goes on -------------------------------------------- */

static gpointer
move_main (gpointer data)
{
  Demo *demo = data;
  gboolean out = !g_atomic_int_get (&demo->sandboxed);
  CellBus *bus = cell_open (demo->daemon.socket);
  CellClient *host = cell_bind (bus, Host, "host");
  gint64 began = g_get_monotonic_time ();

  if (out)
    {
      cell_auto HostEject reply = host_eject (host, .name = "thumbnailer");
      demo->stays = g_strdup (reply.result.message);
    }
  else
    {
      cell_auto HostAbsorb reply = host_absorb (host, .name = "thumbnailer");
      demo->stays = g_strdup (reply.result.message);
    }
  demo->took = g_get_monotonic_time () - began;
  if (demo->stays == NULL)
    g_atomic_int_set (&demo->sandboxed, out);
  g_atomic_int_set (&demo->moving, FALSE);
  cell_close (bus);
  return NULL;
}

static void
begin_move (Demo *demo)
{
  demo->n_begun++;
  g_atomic_int_set (&demo->moving, TRUE);
  demo->mover = g_thread_new ("move", move_main, demo);
}

static void
add_to_span (Span *span, gint64 took)
{
  span->least = span->n == 0 ? took : MIN (span->least, took);
  span->most = MAX (span->most, took);
  span->n++;
}

/* Waits for a move that is under way. */
static void
end_move (Demo *demo)
{
  if (demo->mover == NULL)
    return;
  g_thread_join (demo->mover);
  demo->mover = NULL;
  if (demo->stays != NULL)
    {
      progress_end ();
      say ("thumbnailer", _("stays where it is: %s"), demo->stays);
    }
  else
    add_to_span (g_atomic_int_get (&demo->sandboxed) ? &demo->out : &demo->back, demo->took);
}

static guint
count_moves (guint pictures)
{
  guint n = pictures / PICTURES_A_MOVE;

  return MIN (MOVES, MAX (n, 2)) & ~1u; /* back where it was in the end */
}

/* The picture before which move k of those begins. */
static guint
turn (guint k, guint moves, guint pictures)
{
  return (guint) ((guint64) pictures * k / (moves + 1));
}

/* Before picture number i of n is worked on.  Each place gets one at least: the move to it is waited for when the next one's turn
 * is near. */
static void
move_in_turn (Demo *demo, guint i, guint n)
{
  guint moves = count_moves (n);

  if (demo->mover != NULL && !g_atomic_int_get (&demo->moving))
    end_move (demo);
  if (demo->mover == NULL && demo->stays == NULL && demo->n_begun < moves && i >= turn (demo->n_begun + 1, moves, n))
    begin_move (demo);
  if (demo->mover != NULL && i + 1 >= turn (demo->n_begun + 1, moves, n))
    end_move (demo);
}

/* ---- the work ---------------------------------------------------------------------------------------------------- */

/* The folder of the demo's own files goes with it, and says nothing to anybody. */
static void
failed (Demo *demo, const char *path, const char *reason)
{
  gboolean own = demo->folder != NULL && g_str_has_prefix (path, demo->folder);
  g_autofree char *name = own ? g_path_get_basename (path) : g_strdup (path);
  g_autofree char *line = g_strdup_printf ("%s: %s", name, reason);

  if (demo->n_failed++ < FAILURES_SHOWN)
    g_ptr_array_add (demo->failures, plain_text (line));
}

/* GLib's sentence would name the file once more. */
static void
cannot_be_read (Demo *demo, const char *path, const char *what)
{
  g_autofree char *why = g_access (path, R_OK) != 0 ? g_strdup (g_strerror (errno)) : NULL;
  g_autofree char *reason = why != NULL ? g_strdup_printf ("%s: %s", what, why) : g_strdup (what);

  failed (demo, path, reason);
}

static guint64
now_ns (void)
{
  struct timespec now;

  clock_gettime (CLOCK_MONOTONIC, &now);
  return (guint64) now.tv_sec * 1000000000u + (guint64) now.tv_nsec;
}

static guint64
count_reply (Demo *demo, Place place, guint64 began)
{
  guint64 took = now_ns () - began;

  latencies_add (&demo->latencies[place], took, 1);
  return took;
}

/* A file as a blob; NULL: failed. */
static CellBlob *
read_picture (Demo *demo, const char *path)
{
  g_autofree char *bytes = NULL;
  CellBlob *blob = NULL;
  gsize size;

  if (!g_file_get_contents (path, &bytes, &size, NULL))
    cannot_be_read (demo, path, _("it cannot be read"));
  else if (size > PICTURE_BYTES_MAX || (blob = cell_bus_blob (demo->bus, size)) == NULL)
    failed (demo, path, _("it is too large"));
  else if (size > 0)
    memcpy (cell_blob_data (blob), bytes, size);
  return blob;
}

static gboolean
save (const char *path, const ThumbnailerThumbnail *t, GError **error)
{
  g_autoptr(GBytes) bytes = g_bytes_new_static (cell_blob_data (t->pixels), cell_blob_size (t->pixels));
  g_autoptr(GdkPixbuf) picture = gdk_pixbuf_new_from_bytes (bytes, GDK_COLORSPACE_RGB, t->has_alpha, 8, (int) t->width,
                                                            (int) t->height,
                                                            (int) t->rowstride);

  return gdk_pixbuf_save (picture, path, "png", error, NULL);
}

/* A thumbnail that is there, and booked, or not there. */
static void
save_and_book (Demo *demo, guint number, const ThumbnailerThumbnail *t, gsize size)
{
  const char *path = g_ptr_array_index (demo->files, number);
  g_autofree char *saved = thumbnails_path (demo->output, path, demo->names), *memo = plain_text (path);
  g_autoptr(GError) error = NULL;
  int64_t amount = (int64_t) MAX (size, 1);
  guint64 began;

  if (!save (saved, t, &error))
    {
      failed (demo, path, error->message);
      g_unlink (saved);
      return;
    }
  began = now_ns ();
  cell_auto LedgerTransfer entry = ledger_transfer (demo->ledger, .from = 1, .to = 2, .amount = amount, .memo = memo);
  count_reply (demo, LEDGER, began);
  if (entry.result.status != CELL_OK)
    {
      failed (demo, path, entry.result.message);
      g_unlink (saved);
      return;
    }
  demo->booked += (guint64) amount;
  demo->n_done++;
  if (demo->good->len < GOOD_KEPT)
    g_ptr_array_add (demo->good, (char *) path);
}

static void
do_picture (Demo *demo, guint number)
{
  const char *path = g_ptr_array_index (demo->files, number);
  CellBlob *blob = read_picture (demo, path);
  /* In this order: when no move is under way, the place is the one that the last left it in.  Moves begin on this thread only. */
  gboolean moving = g_atomic_int_get (&demo->moving), sandboxed = g_atomic_int_get (&demo->sandboxed);
  gint64 *longest = moving ? &demo->longest_moving : &demo->longest, took;
  gsize size;
  guint64 began;

  if (blob == NULL)
    return;
  size = cell_blob_size (blob);
  began = now_ns ();
  cell_auto ThumbnailerThumbnail t = thumbnailer_thumbnail (demo->thumbnailer, .picture = blob, .size = SIZE);
  took = (gint64) count_reply (demo, moving ? THUMBNAILER_MOVING : sandboxed ? THUMBNAILER_SANDBOX : THUMBNAILER_HERE,
                               began) / 1000;
  *longest = MAX (*longest, took);
  cell_blob_unref (blob);
  demo->bytes += size;
  if (t.result.status == CELL_OK)
    save_and_book (demo, number, &t, size);
  else
    failed (demo, path, t.result.message);
}

static void
do_pictures (Demo *demo)
{
  guint n = demo->files->len;
  gint64 began = g_get_monotonic_time (), took;

  for (guint i = 0; i < n && !g_atomic_int_get (&interrupted); i++)
    {
      progress (i + 1, n, g_ptr_array_index (demo->files, i));
      move_in_turn (demo, i, n);
      do_picture (demo, i);
    }
  end_move (demo);
  progress_end ();
  took = g_get_monotonic_time () - began;
  say (_("pictures"), _("%u thumbnails of %u files, %.1f MB in %.1f s: %.1f MB/s"), demo->n_done, n, (double) demo->bytes / 1e6,
       (double) took / 1e6, (double) demo->bytes / (double) MAX (took, 1));
}

static void
print_moves (Demo *demo)
{
  if (demo->out.n > 0)
    say (_("moves"), _("%u times the thumbnailer left for a sandbox, %.1f to %.1f ms from the command to serving there"),
         demo->out.n,
         (double) demo->out.least / 1000, (double) demo->out.most / 1000);
  if (demo->back.n > 0)
    say ("", _("%u times it came back, in %.1f to %.1f ms"), demo->back.n, (double) demo->back.least / 1000,
         (double) demo->back.most / 1000);
  say ("", _("the longest wait for a thumbnail while it moved: %.1f ms; at other times: %.1f ms"),
       (double) demo->longest_moving / 1000, (double) demo->longest / 1000);
}

/* The trader, a cell in the host, sends orders to the exchange for a while. */
static gboolean
run_trader (Demo *demo, const char *name, Place place)
{
  Latencies *traded = &demo->latencies[place];
  guint64 orders = 0, filled = 0, volume = 0, elapsed = 0;
  gint64 began = g_get_monotonic_time ();

  for (guint seed = 1; g_get_monotonic_time () - began < demo->trade_us && !g_atomic_int_get (&interrupted); seed++)
    {
      guint64 before = now_ns ();
      progress ((guint) (g_get_monotonic_time () - began) / 1000, (guint) (demo->trade_us / 1000), _("ms of trading"));
      cell_auto TraderRun run = trader_run (demo->trader, .orders = ORDERS, .seed = seed);
      count_reply (demo, TRADER, before);
      if (run.result.status != CELL_OK)
        {
          progress_end ();
          say ("exchange", "%s", run.result.message);
          return FALSE;
        }
      orders += ORDERS;
      filled += run.filled;
      volume += run.volume;
      elapsed += run.elapsed;
      for (guint i = 0; i < run.n_took; i++)
        latencies_add (traded, run.took[i], 0);
      traded->n_calls += ORDERS;
    }
  progress_end ();
  say ("exchange", _("%s: %.1f million orders from a cell, %.0f%% traded at once, volume %.0f million: %.2f million orders/s"),
       name, (double) orders / 1e6, (double) filled * 100 / (double) MAX (orders, 1), (double) volume / 1e6,
       (double) orders * 1e3 / (double) MAX (elapsed, 1));
  return TRUE;
}

/* The same from this program, one order at a time. */
static gboolean
place_orders (Demo *demo, Place place)
{
  for (guint i = 0; i < QUOTES && !g_atomic_int_get (&interrupted); i++)
    {
      guint64 began = now_ns ();
      cell_auto ExchangePlace p = exchange_place (demo->exchange, .side = i % 2, .price = 30000 + (i % 7), .quantity = 1 + i % 5,
                                                  .trader = 99);

      count_reply (demo, place, began);
      if (p.result.status != CELL_OK)
        {
          say ("exchange", "%s", p.result.message);
          return FALSE;
        }
    }
  return TRUE;
}

static gboolean
trade (Demo *demo)
{
  if (g_atomic_int_get (&interrupted))
    return TRUE;
  if (!run_trader (demo, _("in process"), TRADED_HERE) || !place_orders (demo, EXCHANGE_HERE))
    return FALSE;
  if (g_atomic_int_get (&interrupted))
    return TRUE;
  cell_auto HostEject moved = host_eject (demo->host, .name = "exchange");
  if (moved.result.status != CELL_OK)
    {
      say ("exchange", _("stays where it is: %s"), moved.result.message);
      return FALSE;
    }
  return run_trader (demo, _("sandbox"), TRADED_SANDBOX) && place_orders (demo, EXCHANGE_SANDBOX);
}

static void
print_calls (Demo *demo)
{
  guint64 n = 0;

  for (guint i = 0; i < N_PLACES; i++)
    n += demo->latencies[i].n_calls;
  say (_("calls"), _("%llu, as their callers saw them:"), (unsigned long long) n);
  for (guint i = 0; i < N_PLACES; i++)
    latencies_print (&demo->latencies[i]);
}

static void
print_failures (Demo *demo)
{
  if (demo->n_failed > 0)
    say (_("failures"), "%u", demo->n_failed);
  for (guint i = 0; i < demo->failures->len; i++)
    g_print ("  %s\n", (const char *) g_ptr_array_index (demo->failures, i));
  if (demo->n_failed > demo->failures->len)
    g_print (_("  and %u more\n"), demo->n_failed - demo->failures->len);
}

static gboolean
books_are_right (Demo *demo)
{
  cell_auto LedgerGetTotal total = ledger_get_total (demo->ledger);
  cell_auto LedgerBalance balance = ledger_balance (demo->ledger, .account = 2);

  if (total.result.status != CELL_OK || balance.result.status != CELL_OK)
    return FALSE;
  say ("ledger", _("%lld bytes booked for pictures; all accounts together: %lld"), (long long) balance.balance,
       (long long) total.value);
  return total.value == 0 && balance.balance == (int64_t) demo->booked;
}

static void
remove_folder (const char *folder)
{
  g_autoptr(GDir) dir = g_dir_open (folder, 0, NULL);
  const char *name;

  while (dir != NULL && (name = g_dir_read_name (dir)) != NULL)
    {
      g_autofree char *path = g_build_filename (folder, name, NULL);

      if (g_unlink (path) != 0)
        remove_folder (path);
    }
  g_rmdir (folder);
}

static void
demo_clear (Demo *demo)
{
  for (guint i = 0; i < N_PLACES; i++)
    g_clear_pointer (&demo->latencies[i].ns, g_array_unref);
  daemon_clear (&demo->daemon);
  if (demo->folder != NULL)
    remove_folder (demo->folder);
  g_clear_pointer (&demo->good, g_ptr_array_unref);
  g_clear_pointer (&demo->files, g_ptr_array_unref);
  g_clear_pointer (&demo->failures, g_ptr_array_unref);
  g_clear_pointer (&demo->names, g_hash_table_unref);
  g_clear_pointer (&demo->folder, g_free);
  g_clear_pointer (&demo->stays, g_free);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Demo, demo_clear)

static gboolean
find_pictures (Demo *demo, const char *folder)
{
  g_autoptr(GPtrArray) unread = g_ptr_array_new_with_free_func (g_free);

  demo->files = pictures_find (folder, unread, &interrupted);
  for (guint i = 0; i < unread->len; i++)
    cannot_be_read (demo, g_ptr_array_index (unread, i), _("the folder cannot be read"));
  return demo->files->len > 0;
}

/* All that there is to see; TRUE if all of it is as it should be. */
static gboolean
run (Demo *demo)
{
  gboolean good;

  do_pictures (demo);
  print_moves (demo);
  good = g_atomic_int_get (&interrupted) || fragile_run (demo->bus, demo->host, demo->folder, demo->good, &interrupted);
  good = trade (demo) && demo->stays == NULL && good;
  good = books_are_right (demo) && good;
  print_calls (demo);
  print_failures (demo);
  say (_("output"), _("the thumbnails are in %s"), demo->output);
  return good && !g_atomic_int_get (&interrupted);
}

static void
complain (const char *message)
{
  g_autofree char *plain = plain_text (message);

  g_printerr ("cellhost-demo: %s\n", plain);
}

/* In UTF-8, whatever the locale: many a root has none. */
static void
put_out (const char *text)
{
  fputs (text, stdout);
  if (fflush (stdout) != 0)
    g_atomic_int_set (&interrupted, TRUE);      /* nobody listens */
}

static void
put_err (const char *text)
{
  fputs (text, stderr);
}

static void
speak (void)
{
  setlocale (LC_ALL, "");
  bindtextdomain (GETTEXT_PACKAGE, DEMO_LOCALEDIR);
  bind_textdomain_codeset (GETTEXT_PACKAGE, "UTF-8");
  textdomain (GETTEXT_PACKAGE);
  g_set_print_handler (put_out);
  g_set_printerr_handler (put_err);
}

int
main (int argc, char **argv)
{
  g_auto(Demo) demo = {
    .latencies = { [THUMBNAILER_HERE] = { "thumbnailer", N_("in process") },
                   [THUMBNAILER_MOVING] = { "thumbnailer", N_("moving") },
                   [THUMBNAILER_SANDBOX] = { "thumbnailer", N_("sandbox") },
                   [LEDGER] = { "ledger", N_("in process") },
                   [TRADER] = { "trader", N_("in process") },
                   [EXCHANGE_HERE] = { "exchange", N_("in process") },
                   [EXCHANGE_SANDBOX] = { "exchange", N_("sandbox") },
                   [TRADED_HERE] = { "exchange", N_("in process"), .from = "trader" },
                   [TRADED_SANDBOX] = { "exchange", N_("sandbox"), .from = "trader" } },
  };
  const char *folder = argc > 1 ? argv[1] : "/usr/share";
  g_autofree char *usual = g_strdup_printf ("/var/tmp/cellhost-demo-%u", (guint) getuid ());
  g_autoptr(GError) error = NULL;
  gboolean good = FALSE;

  speak ();
  demo.output = argc > 2 ? argv[2] : usual;
  demo.trade_us = (gint64) ((argc > 3 ? g_ascii_strtod (argv[3], NULL) : TRADE_SECONDS) * G_USEC_PER_SEC);
  demo.failures = g_ptr_array_new_with_free_func (g_free);
  demo.names = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  demo.good = g_ptr_array_new ();
  daemon_watch (&demo.daemon);
  if (!find_pictures (&demo, folder))
    {
      g_autofree char *message = g_strdup_printf (_("there is no picture in %s"), folder);

      complain (message);
      return 3;
    }
  demo.folder = g_dir_make_tmp ("cellhost-demo-XXXXXX", &error);
  if (demo.folder != NULL && thumbnails_make_folder (demo.output, &error)
      && pictures_add_broken (demo.files, demo.folder, &error) && start_host (&demo, &error))
    good = run (&demo);
  else
    complain (error->message);
  stop_host (&demo);
  return good ? 0 : 1;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The demo: a host works through every picture in a folder, while one of its cells leaves the process and comes back.
 *
 * cellhost-demo [FOLDER [OUTPUT]]
 */
#include "config.h"

#include <errno.h>
#include <gdk-pixbuf/gdk-pixbuf.h>
#include <gio/gio.h>
#include <glib-unix.h>
#include <glib/gi18n.h>
#include <glib/gstdio.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cell/remote/exchange.h>
#include <cell/remote/host.h>
#include <cell/remote/ledger.h>
#include <cell/remote/thumbnailer.h>
#include <cell/remote/trader.h>

#include "report.h"

#define PICTURES_MAX 2000
#define PICTURE_BYTES_MAX (64u << 20)
#define SIZE 128
#define ORDERS 50000             /* that the trader sends at a time */
#define TRADE_US 2000000         /* for how long it does, in each place */
#define QUOTES 20000             /* orders from outside of the host, each of them timed */

typedef struct
{
  char *folder, *socket, *output;
  GSubprocess *process;
  CellBus *bus;
  CellClient *host, *thumbnailer, *ledger, *trader, *exchange;
  GPtrArray *files;
  GHashTable *failures;         /* reason → names of the files, GPtrArray */
  guint n_done, n_failed;
  guint64 bytes, calls;
  gint64 longest, longest_moving;       /* µs that one thumbnail took, and while a move was under way */
  gboolean sandboxed;
  Latencies latencies[5];       /* by Where */
} Demo;

typedef enum { THUMBNAILER_HERE, THUMBNAILER_SANDBOX, LEDGER, EXCHANGE_HERE, EXCHANGE_SANDBOX } Where;

static gboolean interrupted;

static void
on_interrupt (int number)
{
  (void) number;
  interrupted = TRUE;
}

/* ---- the pictures ----------------------------------------------------------------------------------- */

static gboolean
is_picture (const char *name)
{
  static const char *const ends[] = { ".png", ".jpg", ".jpeg", ".gif", ".svg", ".svgz", ".webp", ".tif", ".tiff", ".bmp", ".ico", ".xpm" };

  for (guint i = 0; i < G_N_ELEMENTS (ends); i++)
    if (g_str_has_suffix (name, ends[i]))
      return TRUE;
  return FALSE;
}

static void
find_pictures (Demo *demo, const char *folder, guint depth)
{
  g_autoptr(GDir) dir = g_dir_open (folder, 0, NULL);
  const char *name;

  while (dir != NULL && demo->files->len < PICTURES_MAX && (name = g_dir_read_name (dir)) != NULL)
    {
      g_autofree char *path = g_build_filename (folder, name, NULL);

      if (g_file_test (path, G_FILE_TEST_IS_SYMLINK))
        continue;
      if (g_file_test (path, G_FILE_TEST_IS_DIR))
        {
          if (depth < 12)
            find_pictures (demo, path, depth + 1);
        }
      else if (is_picture (name))
        g_ptr_array_add (demo->files, g_steal_pointer (&path));
    }
}

/* Two files that no folder lacks in the long run: one that was cut off, and one that is no picture. */
static gboolean
add_broken (Demo *demo, GError **error)
{
  const char *whole = g_ptr_array_index (demo->files, 0);
  g_autofree char *cut = g_build_filename (demo->folder, "cut-off.png", NULL), *text = g_build_filename (demo->folder, "no-picture.jpg", NULL);
  g_autofree char *bytes = NULL;
  gsize size;

  for (guint i = 0; i < demo->files->len; i++)
    if (g_str_has_suffix (g_ptr_array_index (demo->files, i), ".png"))
      {
        whole = g_ptr_array_index (demo->files, i);
        break;
      }
  if (!g_file_get_contents (whole, &bytes, &size, error) || !g_file_set_contents (cut, bytes, (gssize) (size / 2), error)
      || !g_file_set_contents (text, "This is a sentence.\n", -1, error))
    return FALSE;
  g_ptr_array_insert (demo->files, (gint) (demo->files->len / 2), g_steal_pointer (&cut));
  g_ptr_array_add (demo->files, g_steal_pointer (&text));
  return TRUE;
}

/* Where somebody else could have put a folder it has to be ours. */
static gboolean
make_output (Demo *demo, const char *output, GError **error)
{
  struct stat about;

  demo->output = output != NULL ? g_strdup (output) : g_strdup_printf ("/var/tmp/cellhost-demo-%u", (guint) getuid ());
  if (g_mkdir (demo->output, 0755) == 0
      || (errno == EEXIST && lstat (demo->output, &about) == 0 && S_ISDIR (about.st_mode) && about.st_uid == getuid ()))
    return TRUE;
  g_set_error (error, G_IO_ERROR, G_IO_ERROR_FAILED, _("%s cannot be made, or is not a folder of yours"), demo->output);
  return FALSE;
}

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
  g_autoptr(GSubprocessLauncher) launcher = g_subprocess_launcher_new (G_SUBPROCESS_FLAGS_NONE);
  g_autofree char *state = NULL;
  int ready[2];
  char byte;
  gint64 began = g_get_monotonic_time ();

  if (!g_unix_open_pipe (ready, FD_CLOEXEC, error))
    return FALSE;
  state = g_build_filename (demo->folder, "state", NULL);
  demo->socket = g_build_filename (demo->folder, "socket", NULL);
  g_subprocess_launcher_take_fd (launcher, ready[1], 7);
  demo->process = g_subprocess_launcher_spawn (launcher, error, DEMO_HOST, "--socket", demo->socket, "--state-dir", state,
                                               "--log-level", "error", "--ready-fd", "7", NULL);
  if (demo->process == NULL)
    return FALSE;
  if (read (ready[0], &byte, 1) != 1)
    {
      g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_FAILED, _("the host did not start"));
      return FALSE;
    }
  close (ready[0]);
  demo->bus = cell_open (demo->socket);
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

      if (reply.result.status != CELL_OK && demo->process != NULL)
        g_subprocess_send_signal (demo->process, SIGTERM);
    }
  else if (demo->process != NULL)
    g_subprocess_force_exit (demo->process);
  if (demo->process != NULL)
    g_subprocess_wait (demo->process, NULL, NULL);
  if (demo->bus != NULL)
    cell_close (demo->bus);
}

/* ---- the move: on a thread of its own, so that the work goes on ------------------------------------------------- */

typedef struct
{
  Demo *demo;
  gboolean out;
  char *message;                /* why not */
  gint64 took;                  /* µs */
} Move;

static gpointer
move_main (gpointer data)
{
  Move *move = data;
  CellBus *bus = cell_open (move->demo->socket);
  CellClient *host = cell_bind (bus, Host, "host");
  gint64 began = g_get_monotonic_time ();

  if (move->out)
    {
      cell_auto HostEject reply = host_eject (host, .name = "thumbnailer");
      move->message = g_strdup (reply.result.message);
    }
  else
    {
      cell_auto HostAbsorb reply = host_absorb (host, .name = "thumbnailer");
      move->message = g_strdup (reply.result.message);
    }
  move->took = g_get_monotonic_time () - began;
  cell_close (bus);
  return NULL;
}

static void
end_move (Move *move, GThread **thread)
{
  if (*thread == NULL)
    return;
  g_thread_join (*thread);
  *thread = NULL;
  progress_end ();
  if (move->message != NULL)
    say ("thumbnailer", _("stays where it is: %s"), move->message);
  else
    {
      move->demo->sandboxed = move->out;
      say ("thumbnailer",
           move->out ? _("left the process for a sandbox, %.1f ms from the command to serving there")
                     : _("came back, %.1f ms from the command to serving there"),
           (double) move->took / 1000);
    }
  g_clear_pointer (&move->message, g_free);
}

/* ---- the work ---------------------------------------------------------------------------------------------------- */

static void
failed (Demo *demo, guint number, const char *reason)
{
  GPtrArray *names = g_hash_table_lookup (demo->failures, reason);

  if (names == NULL)
    {
      names = g_ptr_array_new_with_free_func (g_free);
      g_hash_table_insert (demo->failures, g_strdup (reason), names);
    }
  g_ptr_array_add (names, g_path_get_basename (g_ptr_array_index (demo->files, number)));
  demo->n_failed++;
}

static void
save (Demo *demo, guint number, const ThumbnailerThumbnail *t)
{
  g_autofree char *path = g_strdup_printf ("%s/%05u.png", demo->output, number);
  g_autoptr(GBytes) bytes = g_bytes_new_static (cell_blob_data (t->pixels), cell_blob_size (t->pixels));
  g_autoptr(GdkPixbuf) picture = gdk_pixbuf_new_from_bytes (bytes, GDK_COLORSPACE_RGB, t->has_alpha, 8, (int) t->width, (int) t->height,
                                                            (int) t->rowstride);
  g_autoptr(GError) error = NULL;

  if (!gdk_pixbuf_save (picture, path, "png", &error, NULL))
    failed (demo, number, error->message);
}

static guint64
now_ns (void)
{
  struct timespec now;

  clock_gettime (CLOCK_MONOTONIC, &now);
  return (guint64) now.tv_sec * 1000000000u + (guint64) now.tv_nsec;
}

static guint64
count_reply (Demo *demo, Where where, guint64 began)
{
  guint64 took = now_ns () - began;

  latencies_add (&demo->latencies[where], took);
  demo->calls++;
  return took;
}

/* moving: the thumbnailer is on its way. */
static void
do_picture (Demo *demo, guint number, gboolean moving)
{
  const char *path = g_ptr_array_index (demo->files, number);
  g_autofree char *bytes = NULL, *memo = plain_text (path);
  g_autoptr(GError) error = NULL;
  CellBlob *blob;
  gsize size;
  guint64 began;
  gint64 took;

  if (!g_file_get_contents (path, &bytes, &size, &error))
    {
      failed (demo, number, _("it cannot be read"));
      return;
    }
  if (size > PICTURE_BYTES_MAX || (blob = cell_bus_blob (demo->bus, size)) == NULL)
    {
      failed (demo, number, _("it is too large"));
      return;
    }
  if (size > 0)
    memcpy (cell_blob_data (blob), bytes, size);
  began = now_ns ();
  cell_auto ThumbnailerThumbnail t = thumbnailer_thumbnail (demo->thumbnailer, .picture = blob, .size = SIZE);
  took = (gint64) count_reply (demo, demo->sandboxed ? THUMBNAILER_SANDBOX : THUMBNAILER_HERE, began) / 1000;
  if (moving)
    demo->longest_moving = MAX (demo->longest_moving, took);
  else
    demo->longest = MAX (demo->longest, took);
  cell_blob_unref (blob);
  demo->bytes += size;
  if (t.result.status != CELL_OK)
    {
      failed (demo, number, t.result.message);
      return;
    }
  save (demo, number, &t);
  demo->n_done++;
  began = now_ns ();
  cell_auto LedgerTransfer entry =
    ledger_transfer (demo->ledger, .from = 1, .to = 2, .amount = (int64_t) MAX (size, 1), .memo = memo);
  count_reply (demo, LEDGER, began);
  if (entry.result.status != CELL_OK)
    failed (demo, number, entry.result.message);
}

static void
do_pictures (Demo *demo)
{
  guint n = demo->files->len, out_at = n / 3, back_at = n * 2 / 3;
  Move move = { .demo = demo };
  GThread *thread = NULL;
  gint64 began = g_get_monotonic_time (), took;

  for (guint i = 0; i < n && !interrupted; i++)
    {
      if (i == out_at || i == back_at)
        {
          end_move (&move, &thread);
          move.out = i == out_at;
          if (move.out || demo->sandboxed)
            thread = g_thread_new ("move", move_main, &move);
        }
      progress (i + 1, n, g_ptr_array_index (demo->files, i));
      do_picture (demo, i, thread != NULL);
      if (thread != NULL && i + 1 == back_at)
        end_move (&move, &thread);
    }
  end_move (&move, &thread);
  progress_end ();
  took = g_get_monotonic_time () - began;
  say (_("pictures"), _("%u thumbnails of %u files, %.1f MB in %.1f s: %.1f MB/s"), demo->n_done, n, (double) demo->bytes / 1e6,
       (double) took / 1e6, (double) demo->bytes / (double) MAX (took, 1));
  say ("", _("the longest wait for a thumbnail while the cell moved: %.1f ms; at other times: %.1f ms"),
       (double) demo->longest_moving / 1000, (double) demo->longest / 1000);
}

/* The trader, a cell in the host, sends orders to the exchange for a while. */
static gboolean
run_trader (Demo *demo, const char *place)
{
  guint64 orders = 0, filled = 0, volume = 0, elapsed = 0;
  gint64 began = g_get_monotonic_time ();

  for (guint seed = 1; g_get_monotonic_time () - began < TRADE_US && !interrupted; seed++)
    {
      progress ((guint) (g_get_monotonic_time () - began) / 1000, TRADE_US / 1000, _("ms of trading"));
      cell_auto TraderRun run = trader_run (demo->trader, .orders = ORDERS, .seed = seed);
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
    }
  progress_end ();
  say ("exchange", _("%s: %.1f million orders from a cell, %.0f%% traded at once, volume %.0f million: %.2f million orders/s"),
       place, (double) orders / 1e6, (double) filled * 100 / (double) MAX (orders, 1), (double) volume / 1e6,
       (double) orders * 1e3 / (double) MAX (elapsed, 1));
  return TRUE;
}

/* The same from this program, one order at a time. */
static gboolean
place_orders (Demo *demo, Where where)
{
  for (guint i = 0; i < QUOTES && !interrupted; i++)
    {
      guint64 began = now_ns ();
      cell_auto ExchangePlace p = exchange_place (demo->exchange, .side = i % 2, .price = 30000 + (i % 7), .quantity = 1 + i % 5, .trader = 99);

      count_reply (demo, where, began);
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
  if (!run_trader (demo, _("in process")) || !place_orders (demo, EXCHANGE_HERE))
    return FALSE;
  if (interrupted)
    return TRUE;
  cell_auto HostEject moved = host_eject (demo->host, .name = "exchange");
  if (moved.result.status != CELL_OK)
    {
      say ("exchange", _("stays where it is: %s"), moved.result.message);
      return FALSE;
    }
  return run_trader (demo, _("sandbox")) && place_orders (demo, EXCHANGE_SANDBOX);
}

static void
print_failures (Demo *demo)
{
  GHashTableIter iter;
  gpointer reason, value;

  if (demo->n_failed > 0)
    say (_("failures"), "%u", demo->n_failed);
  g_hash_table_iter_init (&iter, demo->failures);
  while (g_hash_table_iter_next (&iter, &reason, &value))
    {
      GPtrArray *names = value;

      g_autofree char *name = plain_text (g_ptr_array_index (names, 0)), *why = plain_text (reason);

      g_autofree char *more = names->len > 1 ? g_strdup_printf (_(" (and %u more)"), names->len - 1) : g_strdup ("");

      g_print ("  %s: %s%s\n", name, why, more);
    }
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
  return total.value == 0;
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
  for (guint i = 0; i < G_N_ELEMENTS (demo->latencies); i++)
    g_clear_pointer (&demo->latencies[i].ns, g_array_unref);
  g_clear_object (&demo->process);
  g_clear_pointer (&demo->files, g_ptr_array_unref);
  g_clear_pointer (&demo->failures, g_hash_table_unref);
  g_clear_pointer (&demo->folder, g_free);
  g_clear_pointer (&demo->socket, g_free);
  g_clear_pointer (&demo->output, g_free);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Demo, demo_clear)

/* In UTF-8, whatever the locale: many a root has none. */
static void
put_out (const char *text)
{
  fputs (text, stdout);
  fflush (stdout);
}

static void
put_err (const char *text)
{
  fputs (text, stderr);
}

int
main (int argc, char **argv)
{
  g_auto(Demo) demo = {
    .latencies = { [THUMBNAILER_HERE] = { "thumbnailer", N_("in process"), NULL },
                   [THUMBNAILER_SANDBOX] = { "thumbnailer", N_("sandbox"), NULL },
                   [LEDGER] = { "ledger", N_("in process"), NULL },
                   [EXCHANGE_HERE] = { "exchange", N_("in process"), NULL },
                   [EXCHANGE_SANDBOX] = { "exchange", N_("sandbox"), NULL } },
  };
  const char *folder = argc > 1 ? argv[1] : "/usr/share";
  g_autoptr(GError) error = NULL;
  gboolean good = FALSE;

  setlocale (LC_ALL, "");
  bindtextdomain (GETTEXT_PACKAGE, DEMO_LOCALEDIR);
  bind_textdomain_codeset (GETTEXT_PACKAGE, "UTF-8");
  textdomain (GETTEXT_PACKAGE);
  g_set_print_handler (put_out);
  g_set_printerr_handler (put_err);
  signal (SIGINT, on_interrupt);
  signal (SIGTERM, on_interrupt);
  demo.files = g_ptr_array_new_with_free_func (g_free);
  demo.failures = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, (GDestroyNotify) g_ptr_array_unref);
  find_pictures (&demo, folder, 0);
  if (demo.files->len == 0)
    {
      g_autofree char *shown = plain_text (folder);

      g_printerr ("cellhost-demo: ");
      g_printerr (_("there is no picture in %s"), shown);
      g_printerr ("\n");
      return 3;
    }
  demo.folder = g_dir_make_tmp ("cellhost-demo-XXXXXX", &error);
  if (demo.folder != NULL && make_output (&demo, argc > 2 ? argv[2] : NULL, &error) && add_broken (&demo, &error)
      && start_host (&demo, &error))
    {
      do_pictures (&demo);
      good = trade (&demo);
      good = books_are_right (&demo) && good;
      say (_("calls"), _("as their callers saw them:"));
      for (guint i = 0; i < G_N_ELEMENTS (demo.latencies); i++)
        latencies_print (&demo.latencies[i]);
      print_failures (&demo);
      say (_("output"), _("the thumbnails are in %s"), demo.output);
    }
  else
    g_printerr ("cellhost-demo: %s\n", error->message);
  stop_host (&demo);
  if (demo.folder != NULL)
    remove_folder (demo.folder);
  return good && !interrupted ? 0 : 1;
}

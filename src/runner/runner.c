/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * cell-runner: the process of an ejected cell.  The host speaks to it over the socket that it was given as descriptor 3; callers
 * reach it through memory that the host hands over.
 */
#define _GNU_SOURCE
#define G_LOG_DOMAIN "cell-runner"
#include <fcntl.h>
#include <glib.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "membrane/endpoint.h"
#include "membrane/lanes.h"
#include "membrane/uplink.h"
#include "plugins/carry.h"
#include "plugins/dispatch.h"
#include "plugins/heap.h"
#include "plugins/instance.h"
#include "plugins/numbers.h"
#include "plugins/settings.h"
#include "plugins/stats-page.h"

#include "plugins/sandbox/confine.h"
#include "probe.h"

#define HOST_SOCKET 3
#define HELLO_NS (5u * 1000000000ull)
#define QUIT_NS (2u * 1000000000ull)

typedef struct
{
  Uplink *uplink;
  Lanes *lanes;
  Bell *bell;
  int timer;                    /* goes off at the first deadline of an asynchronous call that was open when it was set */
  _Atomic uint64_t due;         /* when that will be: monotonic ns; 0: it is not set */
  char name[WIRE_NAME_MAX];
  GHashTable *config;
  CellModule *module;
  Numbers *numbers;             /* NULL: those of its contract */
  StatsPage stats;              /* the host's */
  CellInstance *instance;
  Endpoint *endpoint;
  Epoch epoch;                  /* of our own: nobody sleeps on it here */
  GHashTable *channels;         /* serial → Channel: callers */
  _Atomic gboolean serving;     /* now … */
  gboolean started;             /* … and ever */
  pthread_mutex_t lock;         /* of outgoing, of how far they were read, and the timer */
  GPtrArray *outgoing;          /* Channels that the cell calls through */
  uint64_t replies_seen;        /* how far they had been read at the last ring */
} Runner;

/* ---- what the cell asks of its process ------------------------------------------------------------------ */

/* The host adds the cell's name; see child-log.h. */
static void
runner_log (void *data, int32_t level, const char *text)
{
  static const char priorities[] = "7643";
  g_autofree char *line = g_strdup_printf ("<%c>%s\n", priorities[CLAMP (level, 0, 3)], text);

  (void) data;
  if (write (STDERR_FILENO, line, strlen (line)) < 0)   /* all at once: there are many threads */
    return;                     /* there is nobody to tell */
}

/* What is not the cell's, but of it. */
static GLogWriterOutput
writer (GLogLevelFlags level, const GLogField *fields, gsize n_fields, gpointer data)
{
  int32_t grade = level & (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL) ? CELL_LOG_ERROR
                  : level & G_LOG_LEVEL_WARNING ? CELL_LOG_WARNING
                  : level & G_LOG_LEVEL_DEBUG ? CELL_LOG_DEBUG : CELL_LOG_INFO;

  for (gsize i = 0; i < n_fields; i++)
    if (fields[i].length < 0 && strcmp (fields[i].key, "MESSAGE") == 0)
      runner_log (data, grade, fields[i].value);
  return G_LOG_WRITER_HANDLED;
}

static MethodStats *
runner_stats (void *data, uint32_t number)
{
  StatsPage *page = &((Runner *) data)->stats;

  return number < page->n ? &page->stats[number] : NULL;
}

static uint32_t
method_number (void *data, const char *wire_name)
{
  return numbers_of_callable (((Runner *) data)->numbers, wire_name);
}

static uint32_t
signal_number (void *data, const char *name)
{
  return numbers_of_signal (((Runner *) data)->numbers, name);
}

static CellBlob *
runner_blob_new (void *data, size_t size, Fault *fault)
{
  return uplink_blob_new (((Runner *) data)->uplink, size, fault);
}

static bool
provider_bind (void *data, const char *name, const CellRemote *remote, uint32_t *methods, uint32_t *signals, uint64_t *ret_cell,
               Fault *fault)
{
  return uplink_bind (((Runner *) data)->uplink, name, remote, methods, signals, ret_cell, fault);
}

static Channel *
provider_open (void *data, const char *name, uint64_t cell, uint32_t request_capacity, Fault *fault)
{
  Runner *runner = data;
  Channel *channel = uplink_open (runner->uplink, name, cell, request_capacity, NULL, NULL, fault);

  if (channel == NULL)
    return NULL;
  channel->owner = dispatch_new (runner->endpoint, runner->lanes, channel);
  pthread_mutex_lock (&runner->lock);
  g_ptr_array_add (runner->outgoing, channel_ref (channel));
  pthread_mutex_unlock (&runner->lock);
  return channel;
}

static void
provider_close (void *data, Channel *channel)
{
  Runner *runner = data;

  dispatch_end (channel->owner);
  pthread_mutex_lock (&runner->lock);
  g_ptr_array_remove_fast (runner->outgoing, channel);
  pthread_mutex_unlock (&runner->lock);
  uplink_close_channel (channel);
}

/* Sets the timer, unless it goes off early enough as it is: whoever is told then says what comes next. */
static void
provider_expects (void *data, Channel *channel, uint32_t milliseconds)
{
  Runner *runner = data;
  uint64_t due = monotonic_ns () + milliseconds * 1000000ull, before = atomic_load (&runner->due);
  struct itimerspec at = { .it_value = { (time_t) (due / 1000000000u), (long) (due % 1000000000u) } };

  (void) channel;
  if (before != 0 && before <= due)
    return;
  pthread_mutex_lock (&runner->lock);
  before = atomic_load (&runner->due);
  if (before == 0 || before > due)
    {
      atomic_store (&runner->due, due);
      timerfd_settime (runner->timer, TFD_TIMER_ABSTIME, &at, NULL);
    }
  pthread_mutex_unlock (&runner->lock);
}

static const ClientProvider provider = {
  .bind = provider_bind, .open = provider_open, .close = provider_close, .expects = provider_expects,
};

/* Replies to asynchronous calls, or signals. */
static void
bell_rang (void *data)
{
  Runner *runner = data;

  pthread_mutex_lock (&runner->lock);
  for (guint i = 0; i < runner->outgoing->len; i++)
    {
      Channel *channel = g_ptr_array_index (runner->outgoing, i);

      channel->notify (channel);
    }
  pthread_mutex_unlock (&runner->lock);
}

/* Replies were read.  What lies there unread, since the cell is busy, is found a moment later anyway.  The bell is the cell's,
 * wherever that is: while it does not serve here nothing may be taken out of it, which would be another process's. */
static bool
bell_brings (void *data)
{
  Runner *runner = data;
  uint64_t seen = 0;
  bool brings;

  pthread_mutex_lock (&runner->lock);
  for (guint i = 0; i < runner->outgoing->len; i++)
    seen += load_relaxed (&((Channel *) g_ptr_array_index (runner->outgoing, i))->caller_half->control->taken);
  brings = seen != runner->replies_seen || !atomic_load (&runner->serving);
  runner->replies_seen = seen;
  pthread_mutex_unlock (&runner->lock);
  return brings;
}

/* Any caller can ring without end, and which one it was nobody sees. */
static const BellLimit bell_limit = { .brings = bell_brings, .shared = true };

static void
timer_rang (void *data)
{
  Runner *runner = data;

  pthread_mutex_lock (&runner->lock);
  atomic_store (&runner->due, 0);
  for (guint i = 0; i < runner->outgoing->len; i++)
    client_time_is_up (g_ptr_array_index (runner->outgoing, i));
  pthread_mutex_unlock (&runner->lock);
}

/* ---- answers ---------------------------------------------------------------------------------------------- */

static void
tell (Runner *runner, WireType type, uint64_t serial, const void *body, const char *tail, uint32_t tail_size, const int *fd)
{
  Fault fault = { 0 };

  if (!uplink_send (runner->uplink, type, serial, body, tail, tail_size, fd, fd != NULL ? 1 : 0, &fault))
    g_printerr ("%s: the host cannot be told: %s\n", runner->name, fault.message);
}

static void
say (Runner *runner, WireType type, uint64_t serial, const void *body, const char *tail)
{
  tell (runner, type, serial, body, tail, tail != NULL ? (uint32_t) strlen (tail) : 0, NULL);
}

static void
done (Runner *runner, const WireMessage *message)
{
  say (runner, WIRE_DONE, message->header.serial, NULL, NULL);
}

static void
refuse (Runner *runner, const WireMessage *message, CellStatus status, const char *text)
{
  WireError body = { .status = status };

  say (runner, WIRE_ERROR, message->header.serial, &body, text);
}

/* ---- what the host says -------------------------------------------------------------------------------------- */

/* What is set for it, and the numbers of an older build. */
static gboolean
read_tail (Runner *runner, const WireMessage *message, GError **error)
{
  gsize numbers = MIN (message->body.load.numbers_size, message->tail_size), settings = message->tail_size - numbers;

  g_clear_pointer (&runner->config, g_hash_table_unref);
  runner->config = settings_unpack (message->tail, settings, error);
  if (runner->config != NULL)
    runner->module = cell_module_load_fd (message->fds[0], runner->name, error);
  if (runner->module == NULL || numbers == 0)
    return runner->module != NULL;
  runner->numbers = numbers_unpack (message->tail + settings, numbers, runner->module->contract, error);
  return runner->numbers != NULL;
}

/* What GLib opens when somebody says something for the first time it has to open before. */
static const char *
confine_ourselves (void)
{
  g_free (g_locale_from_utf8 (".", -1, NULL, NULL, NULL));
  return confine_to_serving ();
}

static void
do_load (Runner *runner, WireMessage *message)
{
  g_autoptr(GError) error = NULL;
  g_autofree char *text = NULL, *bare = NULL;
  const char *why = NULL;
  WireReady body = { 0 };

  if (runner->module != NULL)
    {
      refuse (runner, message, CELL_ERROR_EXISTS, "a cell has been loaded already");
      return;
    }
  g_strlcpy (runner->name, message->body.load.cell, sizeof runner->name);
  if (read_tail (runner, message, &error)
      && stats_page_map (&runner->stats, message->fds[1], runner->module->contract->n_callables, &error))
    {
      runner->endpoint = endpoint_new (&runner->epoch, runner->module->options->threading, lanes_kick_gate);
      CellInstanceEnv env = {
        .endpoint = runner->endpoint, .method_stats = runner_stats, .log = runner_log, .blob_new = runner_blob_new,
        .data = runner, .clients = &provider, .clients_data = runner,
        .method_number = runner->numbers != NULL ? method_number : NULL,
        .signal_number = runner->numbers != NULL ? signal_number : NULL,
      };
      runner->instance = cell_instance_new (runner->module, &env, runner->name, runner->config, &error);
    }
  if (runner->instance == NULL)
    {
      refuse (runner, message, cell_status_from_error (error), error->message);
      return;
    }
  why = confine_ourselves ();
  if (why != NULL)
    {
      g_autofree char *sentence = g_strdup_printf ("the key file says Strict, and %s", why);

      refuse (runner, message, CELL_ERROR_UNSUPPORTED, sentence);
      return;
    }
  body = (WireReady) { runner->module->options->threading, runner->module->options->save != NULL };
  text = contract_to_text (runner->module->contract, TRUE);
  if (strlen (text) > WIRE_TAIL_MAX)
    bare = contract_to_text (runner->module->contract, FALSE);
  say (runner, WIRE_READY, message->header.serial, &body, bare != NULL ? bare : text);
}

static void
channel_broke (Channel *channel)
{
  Runner *runner = channel->freed_data;

  if (!uplink_report (runner->uplink, channel))
    g_printerr ("the caller of channel %" G_GUINT64_FORMAT " broke the rule '%s' at byte %u of what it writes; its channel ends\n",
                channel->serial, channel->broken_rule, channel->broken_at);
}

/* Whoever serves may ring its caller until nobody knows the channel any more. */
static void
channel_freed (Channel *channel)
{
  if (channel->caller_bell >= 0)
    close (channel->caller_bell);
}

static void
do_attach (Runner *runner, WireMessage *message)
{
  const WireAttach *attach = &message->body.attach;
  Fault fault = { CELL_ERROR_STATE, "no cell has been loaded" };
  Half *requests = NULL, *replies = NULL;
  Channel *channel;

  if (attach->taken % RECORD_ALIGN != 0 || attach->answered % RECORD_ALIGN != 0)
    fault_set (&fault, CELL_ERROR_CORRUPT, "a channel begins where none can");
  else if (runner->endpoint != NULL)
    requests = half_map (wire_message_take_fd (message, 0), attach->request_capacity, attach->request_salt, false, &fault);
  if (requests != NULL)
    replies = half_map (wire_message_take_fd (message, 1), attach->reply_capacity, attach->reply_salt, true, &fault);
  if (replies == NULL)
    {
      half_unref (requests);
      refuse (runner, message, fault.status, fault.message);
      return;
    }
  half_forget_fd (requests);
  half_forget_fd (replies);
  channel = channel_new (runner->endpoint);
  if (channel == NULL)
    g_error ("no memory");
  channel->serial = attach->channel;
  channel->untrusted = true;
  channel->access = attach->access;
  channel->subscribed = attach->subscribed;
  channel->missed = attach->subscribed != 0;    /* how many there were nobody knows: whose place this takes has died */
  channel->blobs = uplink_blobs (runner->uplink);
  channel->caller_bell = wire_message_take_fd (message, 2);
  channel->on_broken = channel_broke;
  channel->freed = channel_freed;
  channel->freed_data = runner;
  channel_set_callee (channel, requests, replies, attach->taken, attach->answered);
  /* Nothing was written there so far, and how far its caller had read in the half of before is not for us to judge. */
  ring_writer_all_free (&channel->answers);
  endpoint_add (runner->endpoint, channel);
  g_hash_table_insert (runner->channels, &channel->serial, channel);
  if (runner->serving)
    lanes_add (runner->lanes, runner->bell, channel);
  done (runner, message);
}

/* A cell that does not serve.  FALSE: that has been said. */
static gboolean
check_idle (Runner *runner, const WireMessage *message)
{
  if (runner->instance != NULL && !runner->serving)
    return TRUE;
  refuse (runner, message, CELL_ERROR_STATE, runner->instance == NULL ? "no cell has been loaded"
                                                                       : "a cell that serves has to be stopped first");
  return FALSE;
}

static const char *
place (Runner *runner, const WirePlace *at)
{
  Channel *channel = g_hash_table_lookup (runner->channels, &at->channel);

  if (channel == NULL)
    return "there is no such channel";
  if (at->taken % RECORD_ALIGN != 0 || at->answered % RECORD_ALIGN != 0)
    return "a channel begins where none can";
  channel_set_callee (channel, half_ref (channel->request_half), half_ref (channel->answer_half), at->taken, at->answered);
  ring_writer_all_free (&channel->answers);
  return NULL;
}

/* They were attached before it was known, for mapping their memory takes its time. */
static void
do_place (Runner *runner, WireMessage *message)
{
  const char *wrong = message->tail_size % sizeof (WirePlace) != 0 ? "a place is not whole" : NULL;
  WirePlace at;

  if (!check_idle (runner, message))
    return;
  for (uint32_t i = 0; i + sizeof at <= message->tail_size && wrong == NULL; i += sizeof at)
    {
      memcpy (&at, message->tail + i, sizeof at);
      wrong = place (runner, &at);
    }
  if (wrong == NULL)
    done (runner, message);
  else
    refuse (runner, message, CELL_ERROR_CORRUPT, wrong);
}

static void
do_detach (Runner *runner, WireMessage *message)
{
  Channel *channel = g_hash_table_lookup (runner->channels, &message->body.ref.channel);

  if (channel != NULL)
    {
      /* Its handler may run, and hang: what others are to be told is told all the same. */
      lanes_forget (runner->lanes, channel);
      endpoint_remove (runner->endpoint, channel);
      g_hash_table_remove (runner->channels, &message->body.ref.channel);
    }
  done (runner, message);
}

/* In memory that the host has made and sealed, if it is large.  NULL: it is not there, or too large. */
static GBytes *
read_bytes (WireMessage *message)
{
  const WireState *state = &message->body.state;
  g_autoptr(GMappedFile) file = NULL;
  g_autoptr(GBytes) bytes = NULL;

  if (message->header.n_fds == 0)
    return state->size == message->tail_size ? g_bytes_new_take (g_steal_pointer (&message->tail), message->tail_size) : NULL;
  file = g_mapped_file_new_from_fd (message->fds[0], FALSE, NULL);
  if (file == NULL || state->size == 0 || g_mapped_file_get_length (file) < state->size)
    return NULL;
  /* Callers wait: all pages at once, for each that is asked for by itself takes longer than copying it. */
  madvise (g_mapped_file_get_contents (file), state->size, MADV_POPULATE_READ);
  bytes = g_mapped_file_get_bytes (file);
  return g_bytes_new_from_bytes (bytes, 0, state->size);
}

/* What is large is put into memory that the host makes: a sandbox may make none to share. */
static void
say_bytes (Runner *runner, const WireMessage *message, uint32_t version, GBytes *bytes)
{
  gsize size;
  const char *data = g_bytes_get_data (bytes, &size);
  WireState body = { .version = version, .size = size };
  Fault fault = { CELL_ERROR_NO_RESOURCES, "no memory for the state" };
  CellBlob *blob;
  int fd;

  if (size <= WIRE_TAIL_MAX)
    {
      tell (runner, WIRE_STATE, message->header.serial, &body, data, (uint32_t) size, NULL);
      return;
    }
  blob = uplink_blob_new (runner->uplink, size, &fault);
  if (blob_data (blob) == NULL)
    refuse (runner, message, fault.status, fault.message);
  else
    {
      memcpy (blob_data (blob), data, size);
      fd = blob_fd (blob);
      tell (runner, WIRE_STATE, message->header.serial, &body, NULL, 0, &fd);
    }
  blob_unref (blob);
}

static void
do_restore (Runner *runner, WireMessage *message)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(GBytes) bytes = NULL;

  if (!check_idle (runner, message))
    return;
  bytes = read_bytes (message);
  if (bytes != NULL && cell_instance_restore (runner->instance, message->body.state.version, bytes, &error))
    done (runner, message);
  else
    refuse (runner, message, CELL_ERROR_STATE, error != NULL ? error->message : "the state is shorter than it should be");
}

static void
do_take (Runner *runner, WireMessage *message)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(GBytes) bytes = NULL;
  g_autoptr(GVariant) carry = NULL;

  if (!check_idle (runner, message))
    return;
  bytes = read_bytes (message);
  if (bytes == NULL)
    cell_set_error (&error, CELL_ERROR_STATE, "what goes along is shorter than it should be");
  else
    carry = carry_parse (bytes, &error);
  if (carry != NULL && carry_apply (carry, cell_instance_get_service (runner->instance), FALSE, &error))
    done (runner, message);
  else
    refuse (runner, message, cell_status_from_error (error), error->message);
}

static void
do_give (Runner *runner, WireMessage *message)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(GBytes) bytes = NULL;

  if (!check_idle (runner, message))
    return;
  bytes = carry_collect (cell_instance_get_service (runner->instance), &error);
  if (bytes != NULL)
    say_bytes (runner, message, 0, bytes);
  else
    refuse (runner, message, cell_status_from_error (error), error->message);
}

static void
for_each_channel (Runner *runner, void (*run) (Runner *runner, Channel *channel))
{
  GHashTableIter iter;
  gpointer channel;

  g_hash_table_iter_init (&iter, runner->channels);
  while (g_hash_table_iter_next (&iter, NULL, &channel))
    run (runner, channel);
}

static void
poll_it (Runner *runner, Channel *channel)
{
  lanes_add (runner->lanes, runner->bell, channel);
}

static void
leave_it (Runner *runner, Channel *channel)
{
  lanes_remove (runner->lanes, channel);
}

static void
do_start (Runner *runner, WireMessage *message)
{
  if (!check_idle (runner, message))
    return;
  runner->serving = TRUE;
  if (!runner->started)
    cell_instance_take_over (runner->instance);
  runner->started = TRUE;
  cell_instance_attach (runner->instance);
  /* Before anybody polls: who finds a request and a closed gate looks again and again, perhaps on the processor that we need. */
  cell_instance_go_on (runner->instance);
  for_each_channel (runner, poll_it);
  /* Last, for whoever waits for it takes our processor from us. */
  done (runner, message);
}

/* stop: how it is to be held.  How long that may take is the host's to say. */
static void
do_stop (Runner *runner, WireMessage *message, gboolean (*stop) (CellInstance *instance, uint64_t nanoseconds, GError **error))
{
  g_autoptr(GError) error = NULL;

  if (!runner->serving)
    {
      refuse (runner, message, CELL_ERROR_STATE, "it is stopped already");
      return;
    }
  if (!stop (runner->instance, message->body.stop.milliseconds * 1000000ull, &error))
    {
      refuse (runner, message, cell_status_from_error (error), error->message);
      return;
    }
  runner->serving = FALSE;
  cell_instance_detach (runner->instance);
  endpoint_close (runner->endpoint);
  for_each_channel (runner, leave_it);
  done (runner, message);
}

static void
do_save (Runner *runner, WireMessage *message)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(GBytes) bytes = NULL;
  uint32_t version = 0;

  if (!check_idle (runner, message))
    return;
  bytes = cell_instance_save (runner->instance, &version, &error);
  if (bytes != NULL)
    say_bytes (runner, message, version, bytes);
  else
    refuse (runner, message, cell_status_from_error (error), error->message);
}

/* FALSE: the end. */
static gboolean
handle (Runner *runner, WireMessage *message)
{
  switch (message->header.type)
    {
    case WIRE_LOAD: do_load (runner, message); return TRUE;
    case WIRE_ATTACH: do_attach (runner, message); return TRUE;
    case WIRE_PLACE: do_place (runner, message); return TRUE;
    case WIRE_DETACH: do_detach (runner, message); return TRUE;
    case WIRE_RESTORE: do_restore (runner, message); return TRUE;
    case WIRE_START: do_start (runner, message); return TRUE;
    case WIRE_STOP: do_stop (runner, message, cell_instance_hold); return TRUE;
    case WIRE_RETIRE: do_stop (runner, message, cell_instance_retire); return TRUE;
    case WIRE_SAVE: do_save (runner, message); return TRUE;
    case WIRE_TAKE: do_take (runner, message); return TRUE;
    case WIRE_GIVE: do_give (runner, message); return TRUE;
    case WIRE_QUIT: return FALSE;
    default:
      g_printerr ("%s: the host says something that is of no use here (%u)\n", runner->name, message->header.type);
      return FALSE;
    }
}

static void
end_cell (Runner *runner)
{
  if (runner->serving && endpoint_stop (runner->endpoint, thread_context (), monotonic_ns () + QUIT_NS))
    {
      cell_instance_detach (runner->instance);
      endpoint_close (runner->endpoint);
      runner->serving = FALSE;
    }
  for_each_channel (runner, leave_it);
  if (runner->instance != NULL && !runner->serving)
    cell_instance_free (g_steal_pointer (&runner->instance));
}

/* Nobody waits yet.  Once more for the kernel, which copies there what is said to us, and may have page tables of its own. */
static void
warm_heap (void)
{
  const size_t size = HEAP_AHEAD - 4096;
  int zero = open ("/dev/zero", O_RDONLY | O_CLOEXEC);
  void *kept;

  heap_keep ();
  kept = malloc (size);
  if (kept != NULL)
    heap_warm (kept, size);
  if (kept != NULL && read (zero, kept, size) < 0)
    g_debug ("it costs some time when this cell moves: /dev/zero cannot be read");
  free (kept);
  if (zero >= 0)
    close (zero);
}

/* As a shell would say it. */
static void
on_abort (int number)
{
  _exit (128 + number);
}

int
main (int argc, char **argv)
{
  Runner runner = { .name = "cell-runner", .stats = STATS_PAGE_INIT };
  Fault fault = { 0 };
  WireMessage message;
  gboolean asked_to_quit = FALSE;
  int got;

  static char line[BUFSIZ];             /* given, so that nothing is asked of the kernel for it later */

  confine ();
  setvbuf (stdout, line, _IOLBF, sizeof line);  /* a pipe: what a cell prints is to be read while it runs, and when it crashes */
  g_log_set_writer_func (writer, NULL, NULL);
  signal (SIGPIPE, SIG_IGN);
  /* Pid 1 of its namespace has no default action, for signals that somebody sends. */
  signal (SIGTERM, _exit);
  signal (SIGABRT, on_abort);
  if (argc == 3 && strcmp (argv[1], "--probe") == 0)
    return probe_main (argv[2]);
  if (argc == 3 && strcmp (argv[1], "--shell") == 0)    /* what a cell would see: for `cellctl doctor` */
    return execl ("/bin/sh", "sh", "-c", argv[2], NULL);
  fcntl (HOST_SOCKET, F_SETFD, FD_CLOEXEC);
  warm_heap ();
  pthread_mutex_init (&runner.lock, NULL);
  runner.outgoing = g_ptr_array_new_with_free_func ((GDestroyNotify) channel_unref);
  runner.channels = g_hash_table_new_full (g_int64_hash, g_int64_equal, NULL, (GDestroyNotify) channel_unref);
  runner.timer = timerfd_create (CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  /* What begins before the greeting begins where no caller waits: see host/placement.h. */
  runner.lanes = lanes_start (&fault);
  if (runner.lanes != NULL)
    {
      lanes_settle (runner.lanes);
      runner.uplink = uplink_new (HOST_SOCKET, NULL, UPLINK_BLOBS_OF_HOST, monotonic_ns () + HELLO_NS, &fault);
    }
  if (runner.uplink == NULL)
    {
      g_printerr ("cell-runner: %s\n", fault.message);
      _exit (1);                        /* there may be threads */
    }
  runner.bell = lanes_add_bell (runner.lanes, uplink_get_bell (runner.uplink), bell_rang, &runner);
  if (runner.bell != NULL)
    lanes_limit_bell (runner.lanes, runner.bell, &bell_limit, &runner);
  lanes_add_bell (runner.lanes, runner.timer, timer_rang, &runner);
  while ((got = uplink_next (runner.uplink, &message, UINT64_MAX, &fault)) >= 0)
    if (got > 0)
      {
        asked_to_quit = !handle (&runner, &message);
        wire_message_clear (&message);
        if (asked_to_quit)
          break;
      }
  if (!asked_to_quit && fault.status == CELL_ERROR_CORRUPT)
    {
      g_printerr ("%s: %s\n", runner.name, fault.message);
      _exit (1);
    }
  if (!asked_to_quit)
    _exit (0);                          /* the host is gone: nobody is left to say goodbye to */
  end_cell (&runner);
  lanes_stop (runner.lanes);
  return 0;
}

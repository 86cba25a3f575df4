/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The promise: a cell moves out of the host, into another sandbox and back, again and again and at random, while a cell in the
 * host, one in a sandbox and a program outside keep calling it, and every call is answered, once, in its order.
 *
 * CELLHOST_TEST_CALLS and CELLHOST_TEST_MOVES say how many calls and moves: a million and a hundred in all, fewer under a
 * sanitizer, and ten times as many in the suite of what takes long.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cell/remote/ledger.h>
#include <cell/remote/pacer.h>

#include "counting.h"
#include "host-fixture.h"

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
# define CALLS 100000u
# define MOVES 20u
#else
# define CALLS 1000000u
# define MOVES 100u
#endif

static guint
size_from (const char *variable, guint otherwise)
{
  const char *said = g_getenv (variable);

  return said != NULL ? (guint) g_ascii_strtoull (said, NULL, 10) : otherwise;
}

/* ---- progress: moves are spread over the calls --------------------------------------------------------- */

typedef struct
{
  pthread_mutex_t lock;
  pthread_cond_t changed;
  guint thousands;              /* calls that were answered */
  guint running;                /* callers */
} Progress;

static void
progress_add (Progress *progress, guint thousands, gboolean ended)
{
  pthread_mutex_lock (&progress->lock);
  progress->thousands += thousands;
  progress->running -= ended;
  pthread_cond_broadcast (&progress->changed);
  pthread_mutex_unlock (&progress->lock);
}

static void
progress_wait (Progress *progress, guint thousands)
{
  pthread_mutex_lock (&progress->lock);
  while (progress->thousands < thousands && progress->running > 0)
    pthread_cond_wait (&progress->changed, &progress->lock);
  pthread_mutex_unlock (&progress->lock);
}

/* ---- the callers ----------------------------------------------------------------------------------------- */

typedef struct
{
  const char *socket;
  const char *cell;             /* that calls; NULL: a program does */
  Progress *progress;
  guint64 who;
  guint thousands;
} Caller;

/* A cell calls; this thread only says when. */
static gpointer
cell_caller_main (gpointer data)
{
  Caller *caller = data;
  CellBus *bus = cell_open (caller->socket);
  CellClient *pacer = cell_bind (bus, Pacer, caller->cell);

  for (guint i = 0; i < caller->thousands; i++)
    {
      cell_auto PacerRun run = pacer_run (pacer, .who = caller->who, .thousands = 1);

      g_assert_cmpstr (run.result.message, ==, NULL);
      g_assert_cmpstr (run.wrong, ==, "");
      progress_add (caller->progress, 1, i + 1 == caller->thousands);
    }
  cell_close (bus);
  return NULL;
}

/* Another process: this program again.  It says a byte for each thousand. */
static int
program_caller (const char *socket, guint64 who, guint thousands)
{
  CellBus *bus = cell_open (socket);
  Counting counting = { .sequence = cell_bind (bus, Sequence, "sequence"), .who = who };

  for (guint i = 0; i < thousands; i++)
    {
      if (!counting_thousand (&counting))
        {
          g_printerr ("%s\n", counting.wrong);
          return 1;
        }
      if (write (STDOUT_FILENO, ".", 1) != 1)
        return 2;
    }
  cell_close (bus);
  return 0;
}

static GPid
start_program (const Caller *caller, int *ret_out)
{
  g_autofree char *who = g_strdup_printf ("%" G_GUINT64_FORMAT, caller->who),
                  *thousands = g_strdup_printf ("%u", caller->thousands);
  const char *const argv[] = { "/proc/self/exe", "--call", caller->socket, who, thousands, NULL };
  g_autoptr(GError) error = NULL;
  GPid pid;

  g_spawn_async_with_pipes (NULL, (char **) argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL, &pid, NULL, ret_out, NULL, &error);
  g_assert_no_error (error);
  return pid;
}

static gpointer
program_caller_main (gpointer data)
{
  Caller *caller = data;
  g_autoptr(GError) error = NULL;
  int out = -1, status = 1;
  GPid pid = start_program (caller, &out);
  guint seen = 0;
  char dots[64];
  ssize_t n;

  while ((n = read (out, dots, sizeof dots)) > 0)
    {
      seen += (guint) n;
      progress_add (caller->progress, (guint) n, seen == caller->thousands);
    }
  close (out);
  g_assert_cmpint (waitpid (pid, &status, 0), ==, pid);
  g_assert_true (g_spawn_check_wait_status (status, &error));
  g_assert_no_error (error);
  g_assert_cmpuint (seen, ==, caller->thousands);
  return NULL;
}

static void
check_totals (const char *socket, guint64 calls)
{
  CellBus *bus = cell_open (socket);
  cell_auto SequenceTotals totals = sequence_totals (cell_bind (bus, Sequence, "sequence"));

  g_assert_cmpstr (totals.result.message, ==, NULL);
  g_assert_cmpuint (totals.calls, ==, calls);
  g_assert_cmpuint (totals.skipped, ==, 0);
  g_assert_cmpuint (totals.repeated, ==, 0);
  cell_close (bus);
}

static void
progress_init (Progress *progress, guint running)
{
  *progress = (Progress) { .running = running };
  pthread_mutex_init (&progress->lock, NULL);
  pthread_cond_init (&progress->changed, NULL);
}

static void
progress_clear (Progress *progress)
{
  pthread_mutex_destroy (&progress->lock);
  pthread_cond_destroy (&progress->changed);
}

/* Out; or, when it is out, back or into another sandbox. */
static void
move_somewhere (HostCell *cell)
{
  g_autoptr(GError) error = NULL;

  if (cell->location == CELL_LOCATION_HERE)
    host_fixture_eject (cell);
  else if (g_test_rand_int_range (0, 3) > 0)
    host_fixture_absorb (cell);
  else if (!relocate_restart (cell, &error))
    g_error ("%s", error->message);
}

/* Each at a random time of its share of the calls. */
static gint64
move_about (HostCell *cell, Progress *progress, guint thousands, guint moves)
{
  gint64 longest = 0;

  for (guint i = 0; i < moves; i++)
    {
      guint from = thousands * i / moves, to = thousands * (i + 1) / moves;
      gint64 started;

      progress_wait (progress, (guint) g_test_rand_int_range ((gint32) from, (gint32) MAX (to, from + 1)));
      started = g_get_monotonic_time ();
      move_somewhere (cell);
      longest = MAX (longest, g_get_monotonic_time () - started);
    }
  return longest;
}

static void
test_promise (HostFixture *fixture, gconstpointer data)
{
  guint thousands = size_from ("CELLHOST_TEST_CALLS", CALLS) / 1000, moves = size_from ("CELLHOST_TEST_MOVES", MOVES);
  Progress progress;
  Caller callers[] = {
    { fixture->socket, "pacer", &progress, 1, thousands - 2 * (thousands / 3) },
    { fixture->socket, "pacer-out", &progress, 2, thousands / 3 },
    { fixture->socket, NULL, &progress, 3, thousands / 3 },
  };
  g_autoptr(HostCell) sequence = NULL, pacer = NULL, out = NULL;
  GThread *threads[G_N_ELEMENTS (callers)];
  gint64 longest;

  if (!host_fixture_has_sandbox ())
    return;
  progress_init (&progress, G_N_ELEMENTS (callers));
  sequence = host_fixture_load (fixture, data, "sequence", NULL);
  pacer = host_fixture_load (fixture, "pacer", NULL, NULL);
  out = host_fixture_load (fixture, "pacer", "pacer-out", NULL);
  host_fixture_eject (out);
  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    threads[i] = g_thread_new ("caller", callers[i].cell != NULL ? cell_caller_main : program_caller_main, &callers[i]);
  longest = move_about (sequence, &progress, thousands, moves);
  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    g_thread_join (threads[i]);
  check_totals (fixture->socket, thousands * 1000);
  g_assert_cmpuint (sequence->moves, ==, moves);
  g_test_message ("%u,000 calls, %u moves, the longest took %" G_GINT64_FORMAT " ms", thousands, moves, longest / 1000);
  progress_clear (&progress);
}

/* ---- callers that stand still, or fall ------------------------------------------------------------------ */

static void
call_all (CellClient *client, guint64 who)
{
  Counting counting = { .sequence = client, .who = who };

  for (guint i = 0; i < 2; i++)
    if (!counting_thousand (&counting))
      g_error ("%s", counting.wrong);
}

static void
move (HostCell *cell, guint n)
{
  if (n % 2 == 0)
    host_fixture_eject (cell);
  else
    host_fixture_absorb (cell);
}

/* A program is stopped in the middle of its calls: the cell moves, many times, others call, and when it goes on it has lost
 * nothing. */
static void
test_stopped (HostFixture *fixture, gconstpointer data)
{
  Caller caller = { .socket = fixture->socket, .who = 1, .thousands = 20 };
  g_autoptr(HostCell) sequence = NULL;
  CellBus *bus;
  guint seen = 0, who = 2, moves = 0;
  int out = -1, status = 1;
  GPid pid;
  char dot;

  (void) data;
  if (!host_fixture_has_sandbox ())
    return;
  sequence = host_fixture_load (fixture, "sequence", NULL, NULL);
  bus = cell_open (fixture->socket);
  pid = start_program (&caller, &out);
  while (read (out, &dot, 1) == 1)
    if (++seen == 3 || seen == 9)
      {
        g_assert_cmpint (kill (pid, SIGSTOP), ==, 0);
        g_assert_cmpint (waitpid (pid, &status, WUNTRACED), ==, pid);
        g_assert_true (WIFSTOPPED (status));
        for (guint i = 0; i < 3; i++, who++)
          {
            move (sequence, moves++);
            call_all (cell_bind (bus, Sequence, "sequence"), who);
          }
        g_assert_cmpint (kill (pid, SIGCONT), ==, 0);
      }
  close (out);
  g_assert_cmpint (waitpid (pid, &status, 0), ==, pid);
  g_assert_cmpint (status, ==, 0);
  g_assert_cmpuint (seen, ==, caller.thousands);
  cell_close (bus);
  check_totals (fixture->socket, (20 + 6 * 2) * 1000);
}

static guint
count_channels (HostCell *cell)
{
  HostCellInfo info;

  host_cell_describe (cell, &info);
  return info.channels;
}

/* Programs are killed in the middle of their calls, while the cell moves: nobody else notices, and nothing is left of them. */
static void
test_killed (HostFixture *fixture, gconstpointer data)
{
  Caller caller = { .socket = fixture->socket, .who = 1, .thousands = 1000 };
  g_autoptr(HostCell) sequence = NULL;
  gint64 patience = g_get_monotonic_time () + 20 * G_USEC_PER_SEC;
  CellBus *bus;
  int status;

  (void) data;
  if (!host_fixture_has_sandbox ())
    return;
  sequence = host_fixture_load (fixture, "sequence", NULL, NULL);
  bus = cell_open (fixture->socket);
  for (guint i = 0; i < 6; i++, caller.who++)
    {
      int out = -1;
      GPid pid = start_program (&caller, &out);
      char dot;

      g_assert_cmpint (read (out, &dot, 1), ==, 1);
      if (i % 2 == 0)
        move (sequence, i);
      g_assert_cmpint (kill (pid, SIGKILL), ==, 0);
      if (i % 2 == 1)
        move (sequence, i);
      call_all (cell_bind (bus, Sequence, "sequence"), 8 + i);
      g_assert_cmpint (waitpid (pid, &status, 0), ==, pid);
      close (out);
    }
  cell_close (bus);
  while (count_channels (sequence) > 0)
    {
      g_assert_cmpint (g_get_monotonic_time (), <, patience);
      g_thread_yield ();
    }
}

static void
test_call (HostFixture *fixture, gconstpointer data)
{
  g_autoptr(HostCell) cell = host_fixture_load (fixture, g_getenv ("TEST_LEDGER"), NULL, NULL);
  CellBus *bus = cell_open (fixture->socket);
  CellClient *ledger = cell_bind (bus, Ledger, "ledger");

  (void) data;
  for (int i = 1; i <= 1000; i++)
    {
      cell_auto LedgerTransfer t = ledger_transfer (ledger, .from = 1, .to = 2, .amount = 1, .memo = "one");

      g_assert_cmpstr (t.result.message, ==, NULL);
      g_assert_cmpint (t.balance, ==, -i);
    }
  cell_auto LedgerTransfer bad = ledger_transfer (ledger, .from = 1, .to = 2, .amount = -5);
  g_assert_cmpint (bad.result.status, ==, CELL_ERROR_FAILED);
  g_assert_cmpstr (bad.result.error, ==, "org.example.Ledger.InvalidAmount");
  cell_close (bus);
}

int
main (int argc, char **argv)
{
  if (argc == 5 && g_str_equal (argv[1], "--call"))
    return program_caller (argv[2], g_ascii_strtoull (argv[3], NULL, 10), (guint) g_ascii_strtoull (argv[4], NULL, 10));
  g_test_init (&argc, &argv, NULL);
  g_log_set_always_fatal (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL);
  g_test_add ("/relocate/call", HostFixture, NULL, host_fixture_set_up, test_call, host_fixture_tear_down);
  g_test_add ("/relocate/promise/serial", HostFixture, "sequence", host_fixture_set_up, test_promise, host_fixture_tear_down);
  g_test_add ("/relocate/promise/loop", HostFixture, "sequence-loop", host_fixture_set_up, test_promise, host_fixture_tear_down);
  g_test_add ("/relocate/promise/many", HostFixture, "sequence-many", host_fixture_set_up, test_promise, host_fixture_tear_down);
  g_test_add ("/relocate/stopped", HostFixture, NULL, host_fixture_set_up, test_stopped, host_fixture_tear_down);
  g_test_add ("/relocate/killed", HostFixture, NULL, host_fixture_set_up, test_killed, host_fixture_tear_down);
  return g_test_run ();
}

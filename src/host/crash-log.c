/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#define G_LOG_DOMAIN "cellhost-crash"
#include "crash-log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "kept-file.h"
#include "membrane/thread.h"
#include "plugins/manifest.h"

#define MAGIC "cellhost crash 1"
#define CELLS_MAX 4096u
#define STACK_SIZE (64u << 10)          /* of a signal handler; those of cells may run there, too */
#define OTHER_THREAD_MS 1000            /* the longest that a thread waits while another writes what it has crashed of */

/* The file.  Everything in it is read as if a stranger had written it. */
typedef struct
{
  char magic[16];
  gint32 number;
  guint32 n_cells;
  gint64 thread;
  guint64 address;
  CrashCell cells[TRAIL_MAX];
  char end[8];
} CrashRecord;

#define END "the end"

static const int signals[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP, SIGSYS };

static struct sigaction before[G_N_ELEMENTS (signals)];
static CrashCell cells[CELLS_MAX];      /* by number; never freed, so that a handler may look at any time */
static guint32 last_cell;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int file = -1;
static pid_t process;                   /* whose file it is: a cell may fork */
static char *file_path;

enum
{
  QUIET, WRITING, WRITTEN
};
static _Atomic int state;
static CrashRecord record;

/* ---- the handler: nothing here but what signal-safety (7) allows ---------------------------------------------- */

static void
put_cells (const Trail *trail)
{
  guint32 numbers[TRAIL_MAX];

  record.n_cells = trail_read (trail, numbers);
  for (guint i = 0; i < record.n_cells; i++)
    if (numbers[i] < CELLS_MAX)
      record.cells[i] = cells[numbers[i]];
}

static void
put_record (int number, const siginfo_t *info)
{
  ThreadContext *thread = thread_context_;
  gboolean from_outside = info->si_code <= 0 && info->si_pid != process;

  memcpy (record.magic, MAGIC, sizeof record.magic);
  memcpy (record.end, END, sizeof record.end);
  record.number = number;
  record.thread = syscall (SYS_gettid);
  record.address = info->si_code > 0 ? (guint64) (uintptr_t) info->si_addr : 0;
  if (thread != NULL && !from_outside)
    put_cells (&thread->trail);
}

/* The first thread's crash is the one that counts; others let it finish. */
static void
note (int number, const siginfo_t *info)
{
  int quiet = QUIET;

  if (file < 0 || getpid () != process)
    return;
  if (atomic_compare_exchange_strong (&state, &quiet, WRITING))
    {
      put_record (number, info);
      if (pwrite (file, &record, sizeof record, 0) < 0)
        record.n_cells = 0;             /* there is nobody to tell */
      atomic_store (&state, WRITTEN);
    }
  for (int i = 0; i < OTHER_THREAD_MS && atomic_load (&state) == WRITING; i++)
    nanosleep (&(struct timespec) { 0, 1000000 }, NULL);
}

/* Whoever had the signal before us has dealt with it: there was no crash. */
static void
take_back (void)
{
  const CrashRecord none = { .number = 0 };

  if (file >= 0 && getpid () == process && pwrite (file, &none, sizeof none, 0) == (ssize_t) sizeof none)
    atomic_store (&state, QUIET);
}

static gboolean
is_default (const struct sigaction *action)
{
  return !(action->sa_flags & SA_SIGINFO) && (action->sa_handler == SIG_DFL || action->sa_handler == SIG_IGN);
}

/* Whoever gives up has what happens by default happen, as soon as we return. */
static gboolean
is_handled (int number)
{
  struct sigaction now;

  return sigaction (number, NULL, &now) == 0 && !is_default (&now);
}

static void
crashed (int number, siginfo_t *info, void *context)
{
  int saved = errno;
  guint i = 0;

  while (i + 1 < G_N_ELEMENTS (signals) && signals[i] != number)
    i++;
  note (number, info);
  if (!is_default (&before[i]))
    {
      if (before[i].sa_flags & SA_SIGINFO)
        before[i].sa_sigaction (number, info, context);
      else
        before[i].sa_handler (number);
      if (is_handled (number))
        take_back ();
      errno = saved;
      return;
    }
  signal (number, SIG_DFL);
  /* A fault happens again as soon as we return, and the core has it as it was; what somebody has sent is sent again. */
  if (info->si_code <= 0 || number == SIGTRAP || number == SIGSYS || number == SIGABRT)
    raise (number);
  errno = saved;
}

/* ---- threads: a stack that has no room left cannot say so on itself ---------------------------------------- */

static void
thread_begins_here (ThreadContext *thread)
{
  stack_t have = { 0 }, stack = { .ss_size = STACK_SIZE };
  sigset_t set;

  sigemptyset (&set);
  for (guint i = 0; i < G_N_ELEMENTS (signals); i++)
    sigaddset (&set, signals[i]);
  pthread_sigmask (SIG_UNBLOCK, &set, NULL);    /* one that is blocked ends the process without a word */
  thread->signal_stack = NULL;
  if (sigaltstack (NULL, &have) < 0 || !(have.ss_flags & SS_DISABLE))
    return;                             /* a sanitizer's, for instance, who takes it away himself */
  stack.ss_sp = mmap (NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
  if (stack.ss_sp != MAP_FAILED && sigaltstack (&stack, NULL) == 0)
    thread->signal_stack = stack.ss_sp;
  else if (stack.ss_sp != MAP_FAILED)
    munmap (stack.ss_sp, STACK_SIZE);
}

static void
thread_ends_here (ThreadContext *thread)
{
  stack_t have = { 0 };

  if (thread->signal_stack == NULL)
    return;
  if (sigaltstack (NULL, &have) == 0 && have.ss_sp == thread->signal_stack)
    sigaltstack (&(stack_t) { .ss_flags = SS_DISABLE }, NULL);
  munmap (g_steal_pointer (&thread->signal_stack), STACK_SIZE);
}

void
crash_log_init (void)
{
  thread_begins = thread_begins_here;
  thread_ends = thread_ends_here;
  thread_context ();
}

/* ---- names ------------------------------------------------------------------------------------------------- */

guint32
crash_log_add (const char *name, const char *sha256)
{
  guint32 number = 0;

  pthread_mutex_lock (&lock);
  /* In turn, so that a number is not another cell's as long as a thread may still be in the one that had it. */
  for (guint32 tried = 1; tried < CELLS_MAX && number == 0; tried++)
    {
      last_cell = last_cell % (CELLS_MAX - 1) + 1;
      if (cells[last_cell].name[0] == 0)
        number = last_cell;
    }
  if (number != 0)
    {
      g_strlcpy (cells[number].sha256, sha256, sizeof cells[number].sha256);
      g_strlcpy (cells[number].name, name, sizeof cells[number].name);
    }
  pthread_mutex_unlock (&lock);
  return number;
}

void
crash_log_remove (guint32 cell)
{
  pthread_mutex_lock (&lock);
  if (cell > 0 && cell < CELLS_MAX)
    cells[cell] = (CrashCell) { .name = "" };
  pthread_mutex_unlock (&lock);
}

/* ---- the file --------------------------------------------------------------------------------------------- */

/* Its blocks are there from the beginning: a full disk is no reason to lose what has happened. */
static gboolean
make_file (const char *path, GError **error)
{
  unlink (path);
  file = open (path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (file < 0)
    return cell_set_error (error, CELL_ERROR_NO_RESOURCES, "%s cannot be made: %s", path, g_strerror (errno));
  if (posix_fallocate (file, 0, sizeof record) == 0)
    return TRUE;
  close (file);
  file = -1;
  unlink (path);
  return cell_set_error (error, CELL_ERROR_NO_RESOURCES, "there is no room for %s", path);
}

static struct sigaction
our_action (void)
{
  struct sigaction ours = { .sa_sigaction = crashed, .sa_flags = SA_SIGINFO | SA_ONSTACK };

  sigfillset (&ours.sa_mask);
  return ours;
}

static const void *
address_of (const struct sigaction *action)
{
  return is_default (action)             ? NULL
                                         : action->sa_flags & SA_SIGINFO ? (const void *) action->sa_sigaction
                                                                         : (const void *) action->sa_handler;
}

gboolean
crash_log_go_first (const void **ret_handler)
{
  struct sigaction ours = our_action (), now;
  const void *handler = NULL;
  gboolean any = FALSE;

  pthread_mutex_lock (&lock);
  for (guint i = 0; i < G_N_ELEMENTS (signals) && file >= 0; i++)
    if (sigaction (signals[i], NULL, &now) == 0 && !((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == crashed))
      {
        before[i] = now;
        sigaction (signals[i], &ours, NULL);
        handler = handler == NULL ? address_of (&now) : handler;
        any = TRUE;
      }
  pthread_mutex_unlock (&lock);
  if (any && ret_handler != NULL)
    *ret_handler = handler;
  return any;
}

gboolean
crash_log_open (const char *path, GError **error)
{
  struct sigaction ours = our_action ();

  if (!make_file (path, error))
    return FALSE;
  file_path = g_strdup (path);
  process = getpid ();
  for (guint i = 0; i < G_N_ELEMENTS (signals); i++)
    sigaction (signals[i], &ours, &before[i]);
  return TRUE;
}

void
crash_log_close (void)
{
  struct stat ours, there;

  if (file < 0)
    return;
  /* The next host may have the place already. */
  if (fstat (file, &ours) == 0 && lstat (file_path, &there) == 0 && ours.st_dev == there.st_dev && ours.st_ino == there.st_ino)
    unlink (file_path);
  g_clear_pointer (&file_path, g_free);
  close (file);
  file = -1;
}

/* ---- the next host reads it ---------------------------------------------------------------------------------- */

static gboolean
is_sha256 (const char *text)
{
  gsize n = strspn (text, "0123456789abcdef");

  return text[n] == 0 && (n == 0 || n == 64);
}

static gboolean
check_cell (const CrashCell *cell)
{
  if (memchr (cell->name, 0, sizeof cell->name) == NULL || memchr (cell->sha256, 0, sizeof cell->sha256) == NULL)
    return FALSE;
  return (cell->name[0] == 0 || manifest_check_name (cell->name, NULL)) && is_sha256 (cell->sha256);
}

static gboolean
check_record (const CrashRecord *from)
{
  if (memcmp (from->magic, MAGIC, sizeof from->magic) != 0 || memcmp (from->end, END, sizeof from->end) != 0
      || !crash_signal_is_crash (from->number) || from->n_cells > TRAIL_MAX)
    return FALSE;
  for (guint i = 0; i < from->n_cells; i++)
    if (!check_cell (&from->cells[i]))
      return FALSE;
  return TRUE;
}

gboolean
crash_report_parse (const void *data, gsize size, CrashReport *ret, GError **error)
{
  static const CrashRecord none;
  CrashRecord from;

  if (size == sizeof from)
    memcpy (&from, data, sizeof from);
  if (size == sizeof from && memcmp (&from, &none, sizeof from) == 0)
    return FALSE;
  if (size != sizeof from || !check_record (&from))
    return cell_set_error (error, CELL_ERROR_STATE, "it is damaged, or not a crash's");
  *ret = (CrashReport) { .number = from.number, .thread = from.thread, .address = from.address, .n_cells = from.n_cells };
  memcpy (ret->cells, from.cells, from.n_cells * sizeof *ret->cells);
  return TRUE;
}

gboolean
crash_log_read (const char *path, CrashReport *ret, GError **error)
{
  gboolean there = FALSE;
  g_autoptr(GBytes) bytes = kept_file_read (path, sizeof (CrashRecord), &there, error);
  gsize size;
  const void *data = bytes != NULL ? g_bytes_get_data (bytes, &size) : NULL;

  return data != NULL && crash_report_parse (data, size, ret, error);
}

gboolean
crash_signal_is_crash (int number)
{
  for (guint i = 0; i < G_N_ELEMENTS (signals); i++)
    if (signals[i] == number)
      return TRUE;
  return FALSE;
}

char *
crash_signal_name (int number)
{
  const char *name = sigabbrev_np (number);

  return name != NULL ? g_strconcat ("SIG", name, NULL) : g_strdup_printf ("signal %d", number);
}

char *
crash_report_text (const CrashReport *report)
{
  g_autofree char *name = crash_signal_name (report->number);
  GString *text = g_string_new (NULL);

  for (guint i = 0; i < report->n_cells; i++)
    {
      const char *cell = report->cells[i].name;

      g_string_append_printf (text, "%s%s%s", i == 0 ? "in " : ", called by ", *cell != 0 ? "cell " : "the host", cell);
    }
  g_string_append_printf (text, "%s(%s", report->n_cells > 0 ? " " : "", name);
  if (report->address != 0 || report->number == SIGSEGV || report->number == SIGBUS)
    g_string_append_printf (text, " at 0x%" G_GINT64_MODIFIER "x", report->address);
  g_string_append_c (text, ')');
  return g_string_free (text, FALSE);
}

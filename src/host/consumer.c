/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include "consumer.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cell-build.h"
#include "child.h"
#include "plugins/carry.h"
#include "plugins/numbers.h"
#include "plugins/settings.h"
#include "plugins/state.h"
#include "state-file.h"

#define READY_MS 10000u                 /* for a child to load and create the cell */
#define STATE_MS 10000u                 /* to save or restore */
#define HOLD_MS 2000u                   /* for the handler that runs when a cell is to move: that can be tried again */
#define GIVE_UP_MS 3000u                /* beyond what a child is given to stop: it gives up before us, and says so */

/* ---- prepare ---------------------------------------------------------------------------------------- */

/* The child runs what we loaded, or it is not this cell.  What was never loaded here is what the child says, until it is. */
static gboolean
check_contract (HostCell *cell, HostBuild *build, const WireMessage *ready, GError **error)
{
  g_autoptr(Contract) contract = contract_new_from_text (ready->tail != NULL ? ready->tail : "", ready->tail_size, error);

  if (contract == NULL)
    return FALSE;
  if (build != NULL)
    return cell_build_accept (build, cell, contract, ready->body.ready.threading, ready->body.ready.saves != 0, error);
  if (cell->contract == NULL)
    {
      if (ready->body.ready.threading > CELL_LOOP)
        return cell_set_error (error, CELL_ERROR_CORRUPT, "cell %s: its process says that its threading is %u", cell->name,
                               ready->body.ready.threading);
      cell->endpoint->threading = ready->body.ready.threading;          /* it has no callers yet */
      cell->saves = ready->body.ready.saves != 0;
      host_cell_set_contract (cell, g_steal_pointer (&contract));
      return TRUE;
    }
  if (contract->fingerprint != cell->contract->fingerprint)
    return cell_set_error (error, CELL_ERROR_CONTRACT, "cell %s: its process offers another contract than the file that was loaded",
                           cell->name);
  return TRUE;
}

/* What is set for it, and the numbers that its callers know if they are not those of its contract. */
static GByteArray *
make_tail (HostCell *cell, const HostBuild *build, uint64_t *ret_numbers_size, GError **error)
{
  g_autoptr(GBytes) settings = settings_pack (build != NULL ? build->config : cell->config, error), numbers = NULL;
  g_autoptr(GByteArray) tail = g_byte_array_new ();
  gsize size;
  const void *data;

  if (settings == NULL)
    return NULL;
  data = g_bytes_get_data (settings, &size);
  g_byte_array_append (tail, data, (guint) size);
  *ret_numbers_size = 0;
  if (build != NULL || cell->numbered)
    {
      numbers = numbers_pack (cell->contract);
      data = g_bytes_get_data (numbers, &size);
      g_byte_array_append (tail, data, (guint) size);
      *ret_numbers_size = size;
    }
  if (tail->len <= WIRE_TAIL_MAX)
    return g_steal_pointer (&tail);
  cell_set_error (error, CELL_ERROR_TOO_LARGE,
                  "cell %s: what is set for it and the names of what it offers have %u bytes, and %u are the most", cell->name,
                  tail->len, WIRE_TAIL_MAX);
  return NULL;
}

static gboolean
child_load (HostCell *cell, HostBuild *build, Child *child, GError **error)
{
  StatsPage *stats = child_get_stats (child);
  WireLoad body = { .plugin_size = build != NULL ? build->module_size : cell->module_size, .generation = cell->generation };
  g_autoptr(GByteArray) tail = make_tail (cell, build, &body.numbers_size, error);
  int fd = build != NULL ? build->module_fd : cell->module_fd;
  WireMessage ready;
  gboolean good;

  /* Of one that was never loaded here nothing is known: it may have as many as there can be. */
  if (tail == NULL
      || !stats_page_new (stats, build == NULL && cell->contract != NULL ? cell->contract->n_callables : 2 * CONTRACT_MAX_ITEMS,
                          error))
    return FALSE;
  g_strlcpy (body.cell, cell->name, sizeof body.cell);
  if (!child_ask (child, WIRE_LOAD, &body, tail->data, tail->len, (const int[]) { fd, stats->fd }, 2, WIRE_READY, &ready,
                  READY_MS, error))
    return FALSE;
  good = check_contract (cell, build, &ready, error);
  wire_message_clear (&ready);
  return good;
}

static gboolean
prepare_child (Consumer *ret, HostCell *cell, HostBuild *build, GError **error)
{
  Child *child = child_spawn (cell->host, cell, build != NULL ? build->key_file : cell->key_file, error);

  if (child == NULL)
    return FALSE;
  if (child_load (cell, build, child, error))
    {
      *ret = (Consumer) { .child = child };
      return TRUE;
    }
  consumer_end (&(Consumer) { .child = child });
  return FALSE;
}

gboolean
consumer_prepare (Consumer *ret, HostCell *cell, HostBuild *build, gboolean there, GError **error)
{
  CellInstance *instance;

  if (there)
    return prepare_child (ret, cell, build, error);
  instance = host_cell_make_instance (cell, build, error);
  if (instance == NULL)
    return FALSE;
  *ret = (Consumer) { .instance = instance };
  return TRUE;
}

void
consumer_end (const Consumer *consumer)
{
  cell_instance_free (consumer->instance);
  if (consumer->child == NULL)
    return;
  child_kill (consumer->child);
  child_unref (consumer->child);
}

/* ---- stop -------------------------------------------------------------------------------------------- */

/* One that is not stopped refuses the other two. */
static gboolean
hold_child (Consumer *consumer, GError **error)
{
  const WireStop body = { .milliseconds = HOLD_MS };
  ChildQuestion *stopping = child_begin (consumer->child, WIRE_STOP, &body, NULL, 0, NULL, 0, HOLD_MS + GIVE_UP_MS);

  consumer->saving = child_begin (consumer->child, WIRE_SAVE, NULL, NULL, 0, NULL, 0, STATE_MS);
  consumer->giving = child_begin (consumer->child, WIRE_GIVE, NULL, NULL, 0, NULL, 0, STATE_MS);
  child_await (consumer->giving);
  if (child_finish (stopping, WIRE_DONE, NULL, error))
    return TRUE;
  consumer_forget (consumer);
  return FALSE;
}

gboolean
consumer_hold (Consumer *consumer, GError **error)
{
  if (consumer->instance != NULL)
    return cell_instance_hold (consumer->instance, HOLD_MS * 1000000ull, error);
  return hold_child (consumer, error);
}

void
consumer_forget (Consumer *consumer)
{
  child_drop (g_steal_pointer (&consumer->saving));
  child_drop (g_steal_pointer (&consumer->giving));
}

gboolean
consumer_retire (const Consumer *consumer, guint milliseconds, GError **error)
{
  const WireStop body = { .milliseconds = milliseconds };

  if (consumer->instance != NULL)
    return cell_instance_retire (consumer->instance, milliseconds * 1000000ull, error);
  return child_tell (consumer->child, WIRE_RETIRE, &body, NULL, 0, milliseconds + GIVE_UP_MS, error);
}

void
consumer_go_on (const Consumer *consumer)
{
  if (consumer->instance != NULL)
    cell_instance_go_on (consumer->instance);
  else if (consumer->child != NULL)
    {
      child_resume (consumer->child);
      child_say (consumer->child, WIRE_START, NULL);  /* if it hangs, it goes on when it does not any more */
    }
}

void
consumer_pause (const Consumer *consumer)
{
  if (consumer->child != NULL)
    child_pause (consumer->child);
}

/* ---- state: bytes in memory that is passed ------------------------------------------------------------- */

static int
memfd_of_bytes (GBytes *bytes, GError **error)
{
  gsize size, at = 0;
  const char *data = g_bytes_get_data (bytes, &size);
  int fd = memfd_create ("cell-state", MFD_CLOEXEC | MFD_ALLOW_SEALING);

  while (fd >= 0 && at < size)
    {
      ssize_t n = write (fd, data + at, size - at);

      if (n < 0 && errno != EINTR)
        {
          close (fd);
          fd = -1;
        }
      else if (n > 0)
        at += (gsize) n;
    }
  if (fd < 0)
    cell_set_error (error, CELL_ERROR_NO_RESOURCES, "no memory for a cell's state: %s", g_strerror (errno));
  else
    fcntl (fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
  return fd;
}

/* Memory is made for what is too large for a message. */
static gboolean
bytes_to_child (Child *child, WireType type, uint32_t version, GBytes *bytes, GQueue *told, GError **error)
{
  WireState body = { .version = version, .size = g_bytes_get_size (bytes) };
  const gboolean small = body.size <= WIRE_TAIL_MAX;
  ChildQuestion *question;
  int fd = small ? -1 : memfd_of_bytes (bytes, error);

  if (!small && fd < 0)
    return FALSE;
  question = child_begin (child, type, &body, small ? g_bytes_get_data (bytes, NULL) : NULL, small ? (uint32_t) body.size : 0, &fd,
                          small ? 0 : 1,
                          STATE_MS);
  if (fd >= 0)
    close (fd);
  if (told == NULL)
    return child_finish (question, WIRE_DONE, NULL, error);
  g_queue_push_tail (told, question);
  return TRUE;
}

/* Whatever a child has put there: read once into memory of our own. */
static GBytes *
read_bytes (HostCell *cell, int fd, gsize size, gsize most, GError **error)
{
  guint8 *data = size <= most ? g_try_malloc (size + 1) : NULL;
  gsize at = 0;
  ssize_t n;

  if (data == NULL)
    {
      cell_set_error (error, CELL_ERROR_TOO_LARGE,
                      "cell %s: it gives %" G_GSIZE_FORMAT " bytes, and %" G_GSIZE_FORMAT " are the most that can be moved",
                      cell->name, size, most);
      return NULL;
    }
  while (at < size && (n = pread (fd, data + at, size - at, (off_t) at)) > 0)
    at += (gsize) n;
  if (at == size)
    return g_bytes_new_take (data, size);
  g_free (data);
  cell_set_error (error, CELL_ERROR_STATE, "cell %s: its state is shorter than it said", cell->name);
  return NULL;
}

/* Takes the question. */
static GBytes *
bytes_from_child (HostCell *cell, ChildQuestion *question, gsize most, uint32_t *ret_version, GError **error)
{
  WireMessage state;
  GBytes *bytes = NULL;

  if (!child_finish (question, WIRE_STATE, &state, error))
    return NULL;
  *ret_version = state.body.state.version;
  if (state.header.n_fds > 0)
    bytes = read_bytes (cell, state.fds[0], state.body.state.size, most, error);
  else if (state.body.state.size == state.tail_size)
    bytes = g_bytes_new_take (g_steal_pointer (&state.tail), state.tail_size);
  else
    cell_set_error (error, CELL_ERROR_STATE, "cell %s: its state does not have the size that it said", cell->name);
  wire_message_clear (&state);
  return bytes;
}

/* It may have been asked already. */
static ChildQuestion *
ask_once (Child *child, ChildQuestion **asked, WireType type)
{
  ChildQuestion *question = g_steal_pointer (asked);

  return question != NULL ? question : child_begin (child, type, NULL, NULL, 0, NULL, 0, STATE_MS);
}

GBytes *
consumer_save (Consumer *consumer, HostCell *cell, uint32_t *ret_version, GError **error)
{
  if (consumer->instance != NULL)
    return cell_instance_save (consumer->instance, ret_version, error);
  return bytes_from_child (cell, ask_once (consumer->child, &consumer->saving, WIRE_SAVE), STATE_MAX_SIZE, ret_version, error);
}

gboolean
consumer_restore (const Consumer *consumer, uint32_t version, GBytes *state, GQueue *told, GError **error)
{
  if (g_bytes_get_size (state) == 0 && version == 0)
    return TRUE;                        /* nothing to remember */
  if (consumer->instance != NULL)
    return cell_instance_restore (consumer->instance, version, state, error);
  return bytes_to_child (consumer->child, WIRE_RESTORE, version, state, told, error);
}

gboolean
consumer_restore_kept (const Consumer *consumer, HostCell *cell, GError **error)
{
  g_autoptr(GBytes) state = NULL;
  uint32_t version = 0;

  if (!state_file_read (cell, &version, &state, error))
    return FALSE;
  return state == NULL || consumer_restore (consumer, version, state, NULL, error) || state_file_leave (cell, error);
}

GBytes *
consumer_give (Consumer *consumer, HostCell *cell, GError **error)
{
  uint32_t none;

  if (consumer->instance != NULL)
    return carry_collect (cell_instance_get_service (consumer->instance), error);
  return bytes_from_child (cell, ask_once (consumer->child, &consumer->giving, WIRE_GIVE), CARRY_MAX_SIZE, &none, error);
}

gboolean
consumer_take (const Consumer *consumer, GBytes *carry, GQueue *told, GError **error)
{
  return bytes_to_child (consumer->child, WIRE_TAKE, 0, carry, told, error);
}

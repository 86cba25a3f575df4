/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A cell that, once it is in a sandbox, does what it should not: with the memory and the descriptors that it finds in its process.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cell/cell.h>
#include <cell/remote/host.h>

#include "membrane/wire.h"
#include "mutator.h"

#define HALVES_MAX 64
#define PAGE 4096u
#define HOST_SOCKET 3
#define ANSWERED_FIRST 1984u            /* position of a link's first reply */

typedef struct
{
  uint8_t *base;                        /* the page of words, then the data */
  size_t size;
  char kind;                            /* 'w': ours to write; 'r' */
} Mapping;

typedef struct
{
  CellClient *host;
  _Atomic bool stop;
  pthread_t thread;
  bool running;
  Mapping halves[HALVES_MAX];
  unsigned n_halves;
  uint64_t state;
  Mutator mutator;
  uint64_t wanted;
  _Atomic bool mutates;
} Rogue;

/* ---- what there is in this process ---------------------------------------------------------------------------- */

static void
find_halves (Rogue *self, const char *name, bool writable)
{
  FILE *maps = fopen ("/proc/self/maps", "r");
  char line[512];

  self->n_halves = 0;
  while (maps && fgets (line, sizeof line, maps) && self->n_halves < HALVES_MAX)
    {
      unsigned long from, to, offset;
      char rights[5];
      if (sscanf (line, "%lx-%lx %4s %lx", &from, &to, rights, &offset) == 4 && strstr (line, name) && offset == 0
          && (rights[1] == 'w') == writable)
        self->halves[self->n_halves++] = (Mapping) { (uint8_t *) from, to - from, rights[1] };
    }
  if (maps)
    fclose (maps);
}

/* Calls run (fd, what it is) for every descriptor. */
static void
for_each_fd (void (*run) (int fd, const char *what, void *data), void *data)
{
  DIR *folder = opendir ("/proc/self/fd");
  struct dirent *entry;

  while (folder && (entry = readdir (folder)))
    {
      char path[300], what[200] = "";
      int fd = atoi (entry->d_name);
      snprintf (path, sizeof path, "/proc/self/fd/%s", entry->d_name);
      if (entry->d_name[0] != '.' && fd != dirfd (folder) && readlink (path, what, sizeof what - 1) > 0)
        run (fd, what, data);
    }
  if (folder)
    closedir (folder);
}

typedef struct
{
  char text[400];
  size_t n;
} Said;

static void
say (void *to, const char *text)
{
  Said *said = to;

  said->n += (size_t) snprintf (said->text + said->n, sizeof said->text - said->n, "%s ", text);
  if (said->n >= sizeof said->text)
    said->n = sizeof said->text - 1;
}

/* ---- attacks ---------------------------------------------------------------------------------------------------- */

static bool
can_map (int fd)
{
  void *at = mmap (NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (at == MAP_FAILED)
    return false;
  munmap (at, PAGE);
  return true;
}

static void
try_to_write (int fd, const char *what, void *data)
{
  char path[64];
  int again;

  if (strncmp (what, "/memfd:cell-", 12) != 0)
    return;
  snprintf (path, sizeof path, "/proc/self/fd/%d", fd);
  if (can_map (fd))
    say (data, what);
  fchmod (fd, 0777);
  again = open (path, O_RDWR | O_CLOEXEC);
  if (again < 0)
    return;
  if (can_map (again) || pwrite (again, "x", 1, 0) == 1)
    say (data, what);
  close (again);
}

static void *
scribble_main (void *data)
{
  Rogue *self = data;
  uint32_t x = 2463534242u;

  while (!self->stop)
    for (unsigned i = 0; i < self->n_halves; i++)
      {
        volatile uint32_t *words = (volatile uint32_t *) (void *) self->halves[i].base;
        size_t n = self->halves[i].size / 4;
        x ^= x << 13, x ^= x >> 17, x ^= x << 5;
        /* Cursors and wake words, heads of records, anything. */
        if (x % 3 == 0)
          words[x / 3 % 4 * 16 + x / 64 % 4] = x % 5 == 0 ? x : x & ~63u & 0xffff;
        else if (x % 3 == 1)
          words[PAGE / 4 + (x / 3 % ((n - PAGE / 4) / 16)) * 16 + x / 4096 % 12] = x % 2 ? x : x & 0xff;
        else
          words[x / 3 % n] ^= 1u << x % 32;
      }
  return NULL;
}

/* Replies without end, to calls that nobody made, faster than anybody reads them. */
static void *
flood_main (void *data)
{
  Rogue *self = data;
  uint64_t salts[HALVES_MAX], at[HALVES_MAX];

  for (unsigned i = 0; i < self->n_halves; i++)
    {
      uint64_t first;
      memcpy (&first, self->halves[i].base + PAGE + ANSWERED_FIRST, sizeof first);
      memcpy (&at[i], self->halves[i].base, sizeof at[i]);      /* head: where our replies end */
      salts[i] = first - ANSWERED_FIRST;
    }
  while (!self->stop)
    for (unsigned i = 0; i < self->n_halves; i++)
      for (unsigned n = 0; n < 200; n++)
        {
          size_t capacity = self->halves[i].size - PAGE;
          uint8_t *record = self->halves[i].base + PAGE + (at[i] & (capacity - 1));
          uint64_t sequence = salts[i] + at[i], id = 1ull << 40;
          memset (record + 8, 0, 40);
          memcpy (record + 8, &id, 8);
          record[24] = 2;               /* a reply */
          atomic_store_explicit ((_Atomic uint64_t *) (void *) record, sequence, memory_order_release);
          at[i] += 64;
        }
  return NULL;
}

/* A view of our own of each half that we write: the runner may take away its own while we write.  What cannot be seen at a second
 * place is left out. */
static void
copy_views (Rogue *self)
{
  for (unsigned i = 0; i < self->n_halves; i++)
    munmap (self->halves[i].base, self->halves[i].size);
  self->n_halves = 0;
  find_halves (self, "/memfd:cell-", true);
  unsigned n = 0;
  for (unsigned i = 0; i < self->n_halves; i++)
    {
      Mapping *half = &self->halves[i];
      void *view = mremap (half->base, 0, half->size, MREMAP_MAYMOVE);
      if (view != MAP_FAILED)
        self->halves[n++] = (Mapping) { view, half->size, 'w' };
    }
  self->n_halves = n;
}

/* Many changes where something has been written since, a few where nothing has: somebody may look there all the same. */
static void *
mutate_main (void *data)
{
  Rogue *self = data;
  uint64_t heads[HALVES_MAX] = { 0 };

  for (unsigned round = 0; self->mutator.n < self->wanted; round++)
    {
      bool any = false;
      if (round % 4096 == 0)
        {
          mutator_settle (&self->mutator);
          copy_views (self);
        }
      for (unsigned i = 0; i < self->n_halves; i++)
        {
          MutatorHalf half = { self->halves[i].base, (uint32_t) (self->halves[i].size - PAGE) };
          uint64_t head = mutator_read (half.base, 8) & ~(uint64_t) 63;
          unsigned n = head == heads[i] ? 2 : 16;
          any |= head != heads[i];
          heads[i] = head;
          for (; n > 0; n--)
            mutator_change (&self->mutator, &half, head);
        }
      if (!any)
        sched_yield ();
    }
  mutator_settle (&self->mutator);
  self->mutates = false;
  return NULL;
}

/* What may be unmapped meanwhile, for its caller is leaving, is an error to the kernel and a crash to us. */
static bool
copy_if_mapped (void *to, const void *from, size_t size)
{
  int ends[2];
  bool good;

  if (pipe2 (ends, O_CLOEXEC) < 0)
    return false;
  good = write (ends[1], from, size) == (ssize_t) size && read (ends[0], to, size) == (ssize_t) size;
  close (ends[0]);
  close (ends[1]);
  return good;
}

/* In the place of each half's next answer something that is none.  Where this call's own answer will be it is overwritten. */
static void
lie (Rogue *self)
{
  for (unsigned i = 0; i < self->n_halves; i++)
    {
      uint8_t *data = self->halves[i].base + PAGE, *at, nonsense[40];
      size_t capacity = self->halves[i].size - PAGE;
      uint64_t first, head;
      memset (nonsense, 0x4d, sizeof nonsense);
      if (!copy_if_mapped (&first, data + ANSWERED_FIRST, sizeof first)
          || !copy_if_mapped (&head, self->halves[i].base, sizeof head))
        continue;
      at = data + (head & (capacity - 1));
      head += first - ANSWERED_FIRST;
      if (copy_if_mapped (at + 8, nonsense, sizeof nonsense))
        copy_if_mapped (at, &head, sizeof head);
    }
}

static void
start (Rogue *self, void *(*run) (void *data))
{
  self->running = pthread_create (&self->thread, NULL, run, self) == 0;
}

/* The connection stays open, and nobody reads it any more. */
static void
become_deaf (void)
{
  int pair[2];

  if (dup (HOST_SOCKET) >= 0 && socketpair (AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0)
    dup2 (pair[0], HOST_SOCKET);
}

static void
fill_bell (int fd, const char *what, void *data)
{
  uint64_t most = UINT64_MAX - 1;

  if (!strstr (what, "eventfd"))
    return;
  fcntl (fd, F_SETFL, O_NONBLOCK);
  if (write (fd, &most, sizeof most) == sizeof most)
    say (data, "full");
  fcntl (fd, F_SETFL, 0);
}

static void
ring_bell (int fd, const char *what, void *data)
{
  uint64_t one = 1;

  (void) data;
  if (strstr (what, "eventfd"))
    (void) !write (fd, &one, sizeof one);
}

/* For nothing. */
static void *
ring_main (void *data)
{
  Rogue *self = data;

  while (!self->stop)
    {
      for_each_fd (ring_bell, NULL);
      usleep (1000);
    }
  return NULL;
}

/* Says of every channel that there may be that its caller has broken a rule, twice. */
static void
accuse (const char *rule)
{
  struct { WireHeader header; WireOffence body; } message = { { sizeof message, WIRE_OFFENCE, 0, 0 }, { .at = PAGE } };

  snprintf (message.body.rule, sizeof message.body.rule, "%s", rule);
  for (unsigned i = 0; i < 128; i++)
    {
      message.body.channel = i / 2;
      send (HOST_SOCKET, &message, sizeof message, MSG_NOSIGNAL);
    }
}

/* Says so often that a channel is closed which there is not, or until the host does not listen: how often. */
static unsigned
close_nothing (unsigned most)
{
  const struct { WireHeader header; WireRef body; } message = { { sizeof message, WIRE_CLOSE, 0, 0 }, { 0 } };
  struct pollfd fd = { HOST_SOCKET, POLLOUT, 0 };
  unsigned n = 0;

  while (n < most)
    if (send (HOST_SOCKET, &message, sizeof message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
      n++;
    else if (errno != EAGAIN || poll (&fd, 1, 300) <= 0)
      break;
  return n;
}

/* Every caller is told to ring. */
static void
ask_to_be_rung (Rogue *self)
{
  find_halves (self, "/memfd:cell-replies", true);
  for (unsigned i = 0; i < self->n_halves; i++)
    *(volatile uint32_t *) (void *) (self->halves[i].base + 128) = 2;
}

CELL_METHOD (Rogue, attack, doc ("Does it, and says what came of it."), in (str, how), out (str, said), timeout (1000))
{
  Said said = { "", 0 };

  if (getpid () != 1)
    return cell_fail_status (call, CELL_ERROR_STATE, "this is not a sandbox");
  if (strcmp (in->how, "seals") == 0)
    for_each_fd (try_to_write, &said);
  else if (strcmp (in->how, "scribble") == 0)
    {
      find_halves (self, "/memfd:cell-replies", true);
      start (self, scribble_main);
    }
  else if (strcmp (in->how, "flood") == 0)
    {
      find_halves (self, "/memfd:cell-replies", true);
      start (self, flood_main);
      pause ();
    }
  else if (strcmp (in->how, "lie") == 0)
    {
      find_halves (self, "/memfd:cell-replies", true);
      lie (self);
    }
  else if (strcmp (in->how, "deaf") == 0)
    become_deaf ();
  else if (strcmp (in->how, "junk") == 0)
    send (HOST_SOCKET, "junk", 4, MSG_NOSIGNAL);
  else if (strcmp (in->how, "accuse") == 0)
    accuse ("record-kind");
  else if (strcmp (in->how, "nonsense") == 0)
    accuse ("no\nrule");
  else if (strncmp (in->how, "ask ", 4) == 0)
    {
      out->said = cell_print (call, "%u", close_nothing ((unsigned) atoi (in->how + 4)));
      return CELL_OK;
    }
  else if (strcmp (in->how, "bells") == 0)
    {
      for_each_fd (fill_bell, &said);
      ask_to_be_rung (self);
    }
  else if (strcmp (in->how, "ring") == 0)
    start (self, ring_main);
  else if (strcmp (in->how, "survive") == 0)
    prctl (PR_SET_PDEATHSIG, 0);
  else if (strcmp (in->how, "authority") == 0)
    {
      cell_auto HostUnload unload = host_unload (self->host, .name = "sequence");
      cell_auto HostShutdown down = host_shutdown (self->host);
      cell_auto HostList list = host_list (self->host);
      out->said = cell_print (call, "%d %d %d", unload.result.status, down.result.status, list.result.status);
      return CELL_OK;
    }
  else
    return CELL_ERROR_INVALID;
  out->said = cell_print (call, "%s", said.text);
  return CELL_OK;
}

CELL_METHOD (Rogue, count, doc ("What any cell might do."), out (u64, n))
{
  out->n = ++self->state;
  return CELL_OK;
}

CELL_STRUCT (Row, field (u64, id), field (str, memo), field (array (u16), small))

CELL_METHOD (Rogue, rows, doc ("An answer that has to be looked at."), in (u32, n), out (array (Row), rows), out (bytes, raw),
             out (bool, last), timeout (100))
{
  static const uint16_t small[] = { 1, 2, 3, 4, 5 };
  Row *rows = cell_array (call, out, rows, in->n % 8);
  for (uint32_t i = 0; i < in->n % 8; i++)
    rows[i] = (Row) { .id = i, .memo = "something", .small = small, .n_small = i % 6 };
  out->raw = (CellBytes) { small, sizeof small };
  return CELL_OK;
}

CELL_METHOD (Rogue, ask, doc ("Calls the host itself, in vain."), out (i32, status), timeout (100))
{
  cell_auto HostList list = host_list (self->host);
  out->status = list.result.status;
  return CELL_OK;
}

CELL_METHOD (Rogue, mutate, doc ("Starts to change words of all that its process may write."), in (u64, seed), in (u64, n))
{
  if (getpid () != 1)
    return cell_fail_status (call, CELL_ERROR_STATE, "this is not a sandbox");
  if (self->mutates)
    return CELL_ERROR_BUSY;
  if (self->running)
    pthread_join (self->thread, NULL);
  self->mutator.random = in->seed;
  self->wanted = self->mutator.n + in->n;
  self->mutates = true;
  cell_set_timeout (self->host, 50);
  start (self, mutate_main);
  return CELL_OK;
}

CELL_METHOD (Rogue, hand_out, in (u32, size), out (blob, data))
{
  out->data = cell_blob_new (self, call, in->size);
  return out->data ? CELL_OK : CELL_ERROR_NO_RESOURCES;
}

CELL_METHOD (Rogue, mutated, out (u64, n), out (bool, goes_on))
{
  out->n = self->mutator.n;
  out->goes_on = self->mutates;
  return CELL_OK;
}

CELL_SAVE (Rogue, rogue_save)
{
  return cell_state_write (to, &self->state, sizeof self->state);
}

CELL_RESTORE (Rogue, rogue_restore)
{
  const void *state = cell_state_read (from, sizeof self->state);
  if (!state)
    return CELL_ERROR_STATE;
  memcpy (&self->state, state, sizeof self->state);
  return CELL_OK;
}

CELL_INIT (Rogue, rogue_init)
{
  self->host = cell_use (self, Host, "host");
  return CELL_OK;
}

CELL_SERVICE (Rogue, "org.cellhost.test.Rogue", 1, .state_version = 1, .save = rogue_save, .restore = rogue_restore,
              .init = rogue_init)

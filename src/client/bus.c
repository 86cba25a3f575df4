/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * libcellhost: what <cell/client.h> promises to programs outside the host.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#include "membrane/bell.h"
#include "membrane/client.h"
#include "membrane/uplink.h"

#define CONNECT_NS (5u * 1000000000ull)
#define CELL_ID_BITS 40                 /* of a cell's id; above: the connection on which it was learnt */

enum /* what epoll says is readable */
{
  ON_NEWS, ON_TIMER, ON_SOCKET, ON_BELL
};

typedef struct BusClient BusClient;
typedef struct Waiter Waiter;

struct BusClient
{
  BusClient *next;
  CellClient *client;
};

/* A thread that sleeps in cell_bus_dispatch (). */
struct Waiter
{
  Waiter *next;
  int fd;                       /* eventfd: another thread has taken the news off the common descriptors */
};

struct CellBus
{
  char *address;                /* NULL: the user's own host */
  int epoll;                    /* of news, the timer, and the connection's socket and bell */
  int news;                     /* eventfd: written by this process */
  int timer;
  _Atomic uint64_t due;         /* when the timer goes off: monotonic ns; 0: it is not set */
  pthread_mutex_t lock;         /* of the rest */
  Uplink *uplink;               /* NULL: not connected */
  uint64_t n_uplinks;
  Fault fault;                  /* why it is not */
  BusClient *clients;
  Waiter *waiting, *idle;
};

static __thread unsigned dispatching;   /* what becomes ready now is seen without being told */

static void
ring (int fd)
{
  uint64_t one = 1;

  if (fd >= 0 && write (fd, &one, sizeof one) < 0)
    return;                     /* full: it has been rung */
}

static void
silence (int fd)
{
  uint64_t count;

  if (fd >= 0 && read (fd, &count, sizeof count) < 0)
    return;                     /* it was not rung */
}

/* ---- connecting ------------------------------------------------------------------------------------ */

static bool
find_address (const CellBus *bus, struct sockaddr_un *ret, Fault *fault)
{
  const char *given = bus->address != NULL ? bus->address : secure_getenv ("CELLHOST_SOCKET");
  const char *runtime = secure_getenv ("XDG_RUNTIME_DIR");
  int n;

  *ret = (struct sockaddr_un) { .sun_family = AF_UNIX };
  if (given != NULL && *given != 0)
    n = snprintf (ret->sun_path, sizeof ret->sun_path, "%s", given);
  else if (runtime != NULL && *runtime != 0)
    n = snprintf (ret->sun_path, sizeof ret->sun_path, "%s/cellhost/socket", runtime);
  else
    n = snprintf (ret->sun_path, sizeof ret->sun_path, "/run/user/%u/cellhost/socket", (unsigned) getuid ());
  if (n < 0 || (size_t) n >= sizeof ret->sun_path)
    return fault_set (fault, CELL_ERROR_INVALID, "the path of the host's socket is longer than %zu bytes",
                      sizeof ret->sun_path - 1);
  return true;
}

/* The kernel says of it that it is not allowed, or that nobody answers, as of a socket. */
static bool
is_no_socket (const char *path)
{
  struct stat st;

  return stat (path, &st) == 0 && !S_ISSOCK (st.st_mode);
}

static bool
connect_fault (const char *path, int error, Fault *fault)
{
  if (is_no_socket (path))
    return fault_set (fault, CELL_ERROR_UNREACHABLE, "no host answers at %s: it is no socket", path);
  switch (error)
    {
    case ENOENT:
    case ECONNREFUSED:
    case ENOTDIR:
      return fault_set (fault, CELL_ERROR_UNREACHABLE, "no host answers at %s: start it with cellhostd", path);
    case EACCES:
    case EPERM:
      return fault_set (fault, CELL_ERROR_DENIED, "this user may not connect to %s; a host serves only the user who started it",
                        path);
    case EPROTOTYPE:
      return fault_set (fault, CELL_ERROR_UNREACHABLE, "what listens at %s is no host of cells", path);
    case EAGAIN:
      return fault_set (fault, CELL_ERROR_UNREACHABLE, "the host at %s does not answer", path);
    default:
      return fault_set (fault, CELL_ERROR_UNREACHABLE, "%s cannot be connected to: %s", path, strerror (error));
    }
}

/* A host sees what its callers send and is told what to run: it has to be this user's own. */
static bool
check_owner (int fd, const char *path, Fault *fault)
{
  struct ucred peer;
  socklen_t size = sizeof peer;

  if (getsockopt (fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
    return fault_set (fault, CELL_ERROR_DENIED, "it cannot be told who listens at %s: %s", path, strerror (errno));
  if (peer.uid != geteuid ())
    return fault_set (fault, CELL_ERROR_DENIED, "what listens at %s belongs to another user (uid %u)", path, (unsigned) peer.uid);
  return true;
}

static Uplink *
connect_to_host (const CellBus *bus, Fault *fault)
{
  struct timeval patience = { CONNECT_NS / 1000000000u, 0 };
  struct sockaddr_un address;
  Fault why = { 0 };
  Uplink *uplink;
  int fd;

  if (!find_address (bus, &address, fault))
    return NULL;
  fd = socket (AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (fd < 0)
    {
      fault_set (fault, CELL_ERROR_NO_RESOURCES, "no socket: %s", strerror (errno));
      return NULL;
    }
  setsockopt (fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);         /* a full backlog is not waited for without end */
  if (connect (fd, (struct sockaddr *) &address, sizeof address) < 0)
    {
      connect_fault (address.sun_path, errno, fault);
      close (fd);
      return NULL;
    }
  if (!check_owner (fd, address.sun_path, fault))
    {
      close (fd);
      return NULL;
    }
  uplink = uplink_new (fd, NULL, 0, monotonic_ns () + CONNECT_NS, &why);
  if (uplink == NULL)
    fault_set (fault, why.status, "%s: %s", address.sun_path, why.message);
  return uplink;
}

static bool
watch (const CellBus *bus, int fd, uint32_t what)
{
  struct epoll_event event = { .events = EPOLLIN, .data.u32 = what };

  return fd >= 0 && epoll_ctl (bus->epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

/* With the lock. */
static void
drop_uplink (CellBus *bus)
{
  epoll_ctl (bus->epoll, EPOLL_CTL_DEL, uplink_get_socket (bus->uplink), NULL);
  epoll_ctl (bus->epoll, EPOLL_CTL_DEL, uplink_get_bell (bus->uplink), NULL);
  uplink_close (bus->uplink);
  uplink_unref (bus->uplink);
  bus->uplink = NULL;
}

/* The connection, made anew if the host has gone and come back.  A reference; NULL: fault.  ret_number: which connection it is. */
static Uplink *
bus_uplink (CellBus *bus, uint64_t *ret_number, Fault *fault)
{
  Uplink *uplink;

  pthread_mutex_lock (&bus->lock);
  if (bus->uplink != NULL && !uplink_pump (bus->uplink, NULL))
    drop_uplink (bus);
  if (bus->uplink == NULL && (bus->uplink = connect_to_host (bus, &bus->fault)) != NULL)
    {
      bus->n_uplinks++;
      if (!watch (bus, uplink_get_socket (bus->uplink), ON_SOCKET) || !watch (bus, uplink_get_bell (bus->uplink), ON_BELL))
        {
          fault_set (&bus->fault, CELL_ERROR_NO_RESOURCES, "the connection cannot be watched: %s", strerror (errno));
          drop_uplink (bus);
        }
    }
  uplink = bus->uplink != NULL ? uplink_ref (bus->uplink) : NULL;
  if (uplink == NULL && fault != NULL)
    *fault = bus->fault;
  *ret_number = bus->n_uplinks;
  pthread_mutex_unlock (&bus->lock);
  return uplink;
}

/* ---- clients ------------------------------------------------------------------------------------------ */

static bool
bus_bind (void *data, const char *name, const CellRemote *remote, uint32_t *methods, uint32_t *signals, uint64_t *ret_cell,
          Fault *fault)
{
  CellBus *bus = data;
  uint64_t number, cell = 0;
  Uplink *uplink = bus_uplink (bus, &number, fault);
  bool good;

  if (uplink == NULL)
    return false;
  good = uplink_bind (uplink, name, remote, methods, signals, &cell, fault);
  uplink_unref (uplink);
  *ret_cell = number << CELL_ID_BITS | (cell & (((uint64_t) 1 << CELL_ID_BITS) - 1));
  return good;
}

static void
bus_notify (Channel *channel)
{
  const CellBus *bus = uplink_channel_data (channel);

  if (dispatching == 0 && bus != NULL)
    ring (bus->news);
}

static Channel *
bus_open (void *data, const char *name, uint64_t cell, uint32_t request_capacity, Fault *fault)
{
  CellBus *bus = data;
  uint64_t number;
  Uplink *uplink = bus_uplink (bus, &number, fault);
  Channel *channel = NULL;

  if (uplink == NULL)
    return NULL;
  /* Another run of the host counts its cells from the beginning. */
  if (cell >> CELL_ID_BITS != (number & (((uint64_t) 1 << (64 - CELL_ID_BITS)) - 1)))
    fault_set (fault, CELL_ERROR_GONE, "the host was started anew");
  else
    channel = uplink_open (uplink, name, cell & (((uint64_t) 1 << CELL_ID_BITS) - 1), request_capacity, bus_notify, bus, fault);
  uplink_unref (uplink);
  return channel;
}

static void
bus_close (void *data, Channel *channel)
{
  (void) data;
  uplink_close_channel (channel);
}

/* Sets the timer, unless it goes off early enough as it is. */
static void
bus_expects (void *data, Channel *channel, uint32_t milliseconds)
{
  CellBus *bus = data;
  uint64_t due = monotonic_ns () + (milliseconds + 1) * 1000000ull, before = load_relaxed (&bus->due);
  struct itimerspec at = { .it_value = { (time_t) (due / 1000000000u), (long) (due % 1000000000u) } };

  (void) channel;
  if (before != 0 && before <= due)
    return;
  pthread_mutex_lock (&bus->lock);
  before = load_relaxed (&bus->due);
  if (before == 0 || before > due)
    {
      store_relaxed (&bus->due, due);
      timerfd_settime (bus->timer, TFD_TIMER_ABSTIME, &at, NULL);
    }
  pthread_mutex_unlock (&bus->lock);
}

static void
bus_failed (void *data, CellClient *client)
{
  CellBus *bus = data;

  (void) client;
  if (dispatching == 0)
    ring (bus->news);
}

static void
bus_closed (void *data, CellClient *client)
{
  CellBus *bus = data;
  BusClient *found = NULL;

  pthread_mutex_lock (&bus->lock);
  for (BusClient **link = &bus->clients; *link != NULL; link = &(*link)->next)
    if ((*link)->client == client)
      {
        found = *link;
        *link = found->next;
        break;
      }
  pthread_mutex_unlock (&bus->lock);
  free (found);
}

static const ClientProvider provider = { bus_bind, bus_open, bus_close, bus_expects, bus_failed, bus_closed };

CellClient *
cell_bind_remote (CellBus *bus, const char *name, const CellRemote *remote)
{
  BusClient *entry = calloc (1, sizeof *entry);

  if (entry == NULL || (entry->client = client_new (&provider, bus, name, remote, CLIENT_OF_PROGRAM)) == NULL)
    abort ();                   /* no memory for a few hundred bytes: there is nothing to say it with */
  pthread_mutex_lock (&bus->lock);
  entry->next = bus->clients;
  bus->clients = entry;
  pthread_mutex_unlock (&bus->lock);
  return entry->client;
}

/* ---- dispatching ----------------------------------------------------------------------------------------- */

/* This thread has taken the news off the descriptors: the others look at their own channels. */
static void
wake_others (CellBus *bus, const Waiter *self)
{
  pthread_mutex_lock (&bus->lock);
  for (Waiter *waiter = bus->waiting; waiter != NULL; waiter = waiter->next)
    if (waiter != self)
      ring (waiter->fd);
  pthread_mutex_unlock (&bus->lock);
}

/* Takes the news off the descriptors.  True: something that no channel tells of, an end of the connection or a deadline. */
static bool
take_news (CellBus *bus, const Waiter *self)
{
  struct epoll_event events[4];
  int n = epoll_wait (bus->epoll, events, 4, 0);
  bool look = false;

  pthread_mutex_lock (&bus->lock);
  for (int i = 0; i < n; i++)
    switch (events[i].data.u32)
      {
      case ON_NEWS:
        silence (bus->news);
        break;
      case ON_TIMER:
        silence (bus->timer);
        store_relaxed (&bus->due, 0);
        look = true;
        break;
      case ON_BELL:
        bell_silence (bus->uplink != NULL ? uplink_get_bell (bus->uplink) : -1);
        break;
      default:
        break;                  /* the socket is read below */
      }
  if (bus->uplink != NULL && !uplink_pump (bus->uplink, &bus->fault))
    drop_uplink (bus);
  if (bus->uplink == NULL)
    look = true;
  pthread_mutex_unlock (&bus->lock);
  if (self != NULL)
    silence (self->fd);
  if (n > 0)
    wake_others (bus, self);
  return look;
}

static unsigned
run (CellBus *bus, ThreadContext *thread, const Waiter *self)
{
  unsigned n;

  dispatching++;
  n = client_dispatch_thread (bus, thread, false);
  if (n == 0)
    {
      bool look = take_news (bus, self);
      uint32_t due;

      n = client_dispatch_thread (bus, thread, look);
      due = client_thread_due (bus, thread);
      if (due != UINT32_MAX)
        bus_expects (bus, NULL, due);
    }
  dispatching--;
  return n;
}

static Waiter *
waiter_take (CellBus *bus)
{
  Waiter *waiter;

  pthread_mutex_lock (&bus->lock);
  waiter = bus->idle;
  if (waiter != NULL)
    bus->idle = waiter->next;
  else if ((waiter = calloc (1, sizeof *waiter)) != NULL)
    waiter->fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (waiter != NULL)
    {
      waiter->next = bus->waiting;
      bus->waiting = waiter;
    }
  pthread_mutex_unlock (&bus->lock);
  return waiter;
}

static void
waiter_give_back (CellBus *bus, Waiter *waiter)
{
  if (waiter == NULL)
    return;
  pthread_mutex_lock (&bus->lock);
  for (Waiter **link = &bus->waiting; *link != NULL; link = &(*link)->next)
    if (*link == waiter)
      {
        *link = waiter->next;
        break;
      }
  silence (waiter->fd);
  waiter->next = bus->idle;
  bus->idle = waiter;
  pthread_mutex_unlock (&bus->lock);
}

int
cell_bus_dispatch (CellBus *bus, int milliseconds)
{
  ThreadContext *thread = thread_context ();
  uint64_t now = monotonic_ns (), deadline = milliseconds < 0 ? UINT64_MAX : now + (uint64_t) milliseconds * 1000000u;
  unsigned n = run (bus, thread, NULL);
  Waiter *waiter = NULL;

  if (n > 0 || milliseconds == 0)
    return (int) n;
  /* Among those who are told before it looks again, so that nothing falls between looking and sleeping. */
  waiter = waiter_take (bus);
  while ((n = run (bus, thread, waiter)) == 0 && (now = monotonic_ns ()) < deadline)
    {
      struct pollfd fds[2] = { { bus->epoll, POLLIN, 0 }, { waiter != NULL ? waiter->fd : -1, POLLIN, 0 } };
      uint64_t left = (deadline - now) / 1000000u + 1;

      poll (fds, 2, left > 60000u ? 60000 : (int) left);
    }
  waiter_give_back (bus, waiter);
  return (int) n;
}

int
cell_bus_get_fd (CellBus *bus)
{
  return bus->epoll;
}

/* ---- the bus itself ---------------------------------------------------------------------------------------- */

CellBus *
cell_open (const char *address)
{
  CellBus *bus = calloc (1, sizeof *bus);
  uint64_t number;

  if (bus == NULL || (address != NULL && (bus->address = strdup (address)) == NULL))
    abort ();                   /* as in cell_bind_remote () */
  pthread_mutex_init (&bus->lock, NULL);
  bus->epoll = epoll_create1 (EPOLL_CLOEXEC);
  bus->news = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  bus->timer = timerfd_create (CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  if (watch (bus, bus->news, ON_NEWS) && watch (bus, bus->timer, ON_TIMER))
    uplink_unref (bus_uplink (bus, &number, NULL));
  else
    fault_set (&bus->fault, CELL_ERROR_NO_RESOURCES, "no descriptors for a connection: %s", strerror (errno));
  return bus;
}

CellStatus
cell_bus_check (CellBus *bus, CellResult *result)
{
  Fault fault = { 0 };
  uint64_t number;
  Uplink *uplink = bus_uplink (bus, &number, &fault);

  if (uplink == NULL)
    result_set_error (result, fault.status, "%s", fault.message);
  else
    *result = (CellResult) { .status = CELL_OK };
  uplink_unref (uplink);
  return uplink == NULL ? fault.status : CELL_OK;
}

CellBlob *
cell_bus_blob (CellBus *bus, size_t size)
{
  (void) bus;
  return blob_new (size, NULL);
}

static void
waiters_free (Waiter *waiter)
{
  while (waiter != NULL)
    {
      Waiter *next = waiter->next;

      if (waiter->fd >= 0)
        close (waiter->fd);
      free (waiter);
      waiter = next;
    }
}

void
cell_close (CellBus *bus)
{
  BusClient *entry;

  if (bus == NULL)
    return;
  while ((entry = bus->clients) != NULL)
    {
      bus->clients = entry->next;
      client_free (entry->client);
      free (entry);
    }
  if (bus->uplink != NULL)
    drop_uplink (bus);
  waiters_free (bus->idle);
  if (bus->epoll >= 0)
    close (bus->epoll);
  if (bus->news >= 0)
    close (bus->news);
  if (bus->timer >= 0)
    close (bus->timer);
  pthread_mutex_destroy (&bus->lock);
  free (bus->address);
  free (bus);
}

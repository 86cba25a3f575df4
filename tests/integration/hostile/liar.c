/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A cell-runner that lies: the real one, with somebody between it and the host who changes what it says, adds to it, says it twice
 * or leaves it out.  What the host says arrives as it is.  The cell's setting `seed` chooses what is done; without one it is
 * nothing.  Three messages of four are left as they are, so that more than the first step of anything is reached.  With the setting
 * `dies` it ends when it is to attach a caller, unless it is the successor of one that did.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "membrane/wire.h"
#include "mutator.h"
#include "plugins/settings.h"

#define HOST_SOCKET 3
#define MESSAGE_MAX (sizeof (WireHeader) + sizeof (WireBody) + WIRE_TAIL_MAX)
#define FDS_MAX 8

int runner_main (int argc, char **argv);

typedef struct
{
  uint8_t bytes[MESSAGE_MAX + 64];
  size_t size;
  int fds[FDS_MAX];
  unsigned n_fds;
} Message;

static Mutator random_of;
static int host, runner;                /* both ends that we hold */

/* ---- passing on ------------------------------------------------------------------------------------------------ */

/* False: nobody says anything any more. */
static bool
receive (int from, Message *message)
{
  union { struct cmsghdr align; char bytes[CMSG_SPACE (sizeof message->fds)]; } control;
  struct iovec part = { message->bytes, MESSAGE_MAX };
  struct msghdr m = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control };
  struct cmsghdr *c;
  ssize_t n;

  do
    n = recvmsg (from, &m, MSG_CMSG_CLOEXEC);
  while (n < 0 && errno == EINTR);
  c = CMSG_FIRSTHDR (&m);
  message->size = n > 0 ? (size_t) n : 0;
  message->n_fds = c != NULL ? (unsigned) ((c->cmsg_len - CMSG_LEN (0)) / sizeof (int)) : 0;
  if (message->n_fds > 0)
    memcpy (message->fds, CMSG_DATA (c), message->n_fds * sizeof (int));
  return n > 0;
}

static void
pass_on (int to, const Message *message)
{
  union { struct cmsghdr align; char bytes[CMSG_SPACE (sizeof message->fds)]; } control = { 0 };
  struct iovec part = { (void *) message->bytes, message->size };
  struct msghdr m = { .msg_iov = &part, .msg_iovlen = 1 };

  if (message->n_fds > 0)
    {
      m.msg_control = control.bytes;
      m.msg_controllen = CMSG_SPACE (message->n_fds * sizeof (int));
      control.align = (struct cmsghdr) { .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
                                         .cmsg_len = CMSG_LEN (message->n_fds * sizeof (int)) };
      memcpy (CMSG_DATA (&control.align), message->fds, message->n_fds * sizeof (int));
    }
  while (sendmsg (to, &m, MSG_NOSIGNAL) < 0 && (errno == EINTR || errno == EAGAIN))
    poll (&(struct pollfd) { to, POLLOUT, 0 }, 1, 1000);
}

/* ---- lies ------------------------------------------------------------------------------------------------------- */

static WireHeader
head_of (const Message *message)
{
  WireHeader header;

  memcpy (&header, message->bytes, sizeof header);
  return header;
}

static void
set_head (Message *message, WireHeader header)
{
  memcpy (message->bytes, &header, sizeof header);
}

static uint32_t
below (uint32_t n)
{
  return mutator_below (&random_of, n);
}

static uint16_t
some_type (void)
{
  return (uint16_t) (below (2) == 0 ? 1 + below (WIRE_ERROR) : WIRE_LOAD + below (WIRE_OFFENCE - WIRE_LOAD + 2));
}

static int
some_fd (void)
{
  switch (below (5))
    {
    case 0: return open ("/dev/null", O_RDWR | O_CLOEXEC);
    case 1: return open ("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    case 2: return dup (runner);
    case 3: return open ("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    default: return eventfd (0, EFD_CLOEXEC);
    }
}

/* In the place of what is said: that it failed, with a reason that may be anything. */
static void
make_error (Message *message)
{
  static const int32_t statuses[] = { 0, 1, -1, INT32_MIN, INT32_MAX, -4096, CELL_ERROR_DENIED };
  WireError error = { .status = statuses[below (G_N_ELEMENTS (statuses))] };
  WireHeader header = head_of (message);

  message->size = sizeof header + sizeof error + below (3) * below (1500);
  memcpy (message->bytes + sizeof header, &error, sizeof error);
  for (size_t i = sizeof header + sizeof error; i < message->size; i++)
    message->bytes[i] = (uint8_t) (below (40) == 0 ? below (256) : 'a' + below (26));
  while (message->n_fds > 0)
    close (message->fds[--message->n_fds]);
  set_head (message, (WireHeader) { .size = (uint32_t) message->size, .type = WIRE_ERROR, .serial = header.serial });
}

/* One thing that is not as it should be.  False: it is not said at all. */
static bool
distort (Message *message)
{
  WireHeader header = head_of (message);
  size_t n;

  switch (below (13))
    {
    case 0:
      message->bytes[below ((uint32_t) message->size)] ^= (uint8_t) (1u << below (8));
      break;
    case 1:
      header.type = some_type ();
      set_head (message, header);
      break;
    case 2:
      header.serial = mutator_value (&random_of, header.serial, 64);
      set_head (message, header);
      break;
    case 3:
      pass_on (host, message);
      break;
    case 4:
      return header.type == WIRE_HELLO; /* who never greets is waited for long, which other tests do */
    case 5:                             /* shorter or longer, and says so */
      n = below (2) == 0 ? sizeof header + below ((uint32_t) (message->size - sizeof header + 1))
                         : MIN (message->size + below (64), MESSAGE_MAX);
      message->size = n;
      header.size = (uint32_t) n;
      set_head (message, header);
      break;
    case 6:
      if (message->size >= sizeof header + 8)
        {
          uint8_t *word = message->bytes + sizeof header + below ((uint32_t) (message->size - sizeof header) / 8) * 8;
          uint64_t value = mutator_value (&random_of, *word, 4096);

          memcpy (word, &value, sizeof value);
        }
      break;
    case 7:
      if (message->n_fds < FDS_MAX)
        message->fds[message->n_fds++] = some_fd ();
      header.n_fds = (uint16_t) (message->n_fds - below (2));
      set_head (message, header);
      break;
    case 8:
      if (message->n_fds > 0)
        close (message->fds[--message->n_fds]);
      break;
    case 9:
      if (message->n_fds > 0)
        dup3 (some_fd (), message->fds[0], O_CLOEXEC);
      break;
    case 10:
    case 11:
      make_error (message);
      break;
    default:                            /* a stretch of anything, be it of text */
      n = below ((uint32_t) message->size);
      for (size_t i = n; i < MIN (n + 16, message->size); i++)
        message->bytes[i] = (uint8_t) below (256);
    }
  return true;
}

/* What nobody has asked for. */
static void
invent (void)
{
  Message message = { .size = sizeof (WireHeader) + below (200) };

  for (size_t i = sizeof (WireHeader); i < message.size; i++)
    message.bytes[i] = (uint8_t) (below (3) == 0 ? below (256) : 0);
  if (below (2) == 0)
    strcpy ((char *) message.bytes + sizeof (WireHeader), "wild");
  set_head (&message, (WireHeader) { .size = (uint32_t) message.size, .type = some_type (), .serial = below (16) });
  if (below (2) == 0)
    {
      WireOffence claim = { .rule = "record-kind", .channel = below (64), .at = below (1u << 20) };

      message.size = sizeof (WireHeader) + sizeof claim;
      memcpy (message.bytes + sizeof (WireHeader), &claim, sizeof claim);
      set_head (&message, (WireHeader) { .size = (uint32_t) message.size, .type = WIRE_OFFENCE });
    }
  pass_on (host, &message);
}

static void
from_runner (Message *message)
{
  bool passes = true;

  if (random_of.random != 0 && below (16) == 0)
    invent ();
  if (random_of.random != 0 && below (4) == 0)
    passes = distort (message);
  if (passes && message->size > 0)
    pass_on (host, message);
}

/* What was set for the cell says how. */
static void
look_at_host (const Message *message)
{
  const size_t at = sizeof (WireHeader) + sizeof (WireLoad);
  static bool dies, serves;
  g_autoptr (GHashTable) settings = NULL;
  const char *seed;

  /* A successor is told of the caller before it serves. */
  serves |= head_of (message).type == WIRE_START;
  if (dies && serves && head_of (message).type == WIRE_ATTACH)
    _exit (3);
  if (head_of (message).type != WIRE_LOAD || message->size < at)
    return;
  settings = settings_unpack (message->bytes + at, message->size - at, NULL);
  seed = settings != NULL ? g_hash_table_lookup (settings, "seed") : NULL;
  if (seed != NULL)
    random_of.random = g_ascii_strtoull (seed, NULL, 10);
  dies = settings != NULL && g_hash_table_contains (settings, "dies");
}

static void *
pass_all (void *data)
{
  struct pollfd ends[2] = { { host, POLLIN, 0 }, { runner, POLLIN, 0 } };
  static Message message;
  bool goes_on = true;

  (void) data;
  while (goes_on && poll (ends, 2, -1) >= 0)
    for (unsigned i = 0; i < 2 && goes_on; i++)
      if (ends[i].revents != 0)
        {
          goes_on = receive (ends[i].fd, &message);
          if (goes_on && i == 0)
            {
              look_at_host (&message);
              pass_on (runner, &message);
            }
          else if (goes_on)
            from_runner (&message);
          for (unsigned k = 0; k < message.n_fds; k++)
            close (message.fds[k]);
        }
  shutdown (runner, SHUT_RDWR);
  shutdown (host, SHUT_RDWR);
  return NULL;
}

int
main (int argc, char **argv)
{
  pthread_t thread;
  int pair[2];

  if (argc > 1)                         /* it tries a file, and that truly */
    return runner_main (argc, argv);
  host = fcntl (HOST_SOCKET, F_DUPFD_CLOEXEC, 16);
  if (host < 0 || socketpair (AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0 || dup2 (pair[1], HOST_SOCKET) < 0)
    return 1;
  close (pair[1]);
  runner = pair[0];
  fcntl (host, F_SETFL, 0);
  if (pthread_create (&thread, NULL, pass_all, NULL) != 0)
    return 1;
  return runner_main (argc, argv);
}

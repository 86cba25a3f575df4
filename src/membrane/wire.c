/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include "wire.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "wait.h"

/* What each type is made of: body, whether a tail may follow, and how many descriptors. */
typedef struct
{
  uint16_t body, fds_min, fds_max;
  bool tail;
} Shape;

static bool
shape_of (unsigned type, Shape *ret)
{
  switch (type)
    {
    case WIRE_HELLO: *ret = (Shape) { sizeof (WireHello), 0, 0, false }; return true;
    case WIRE_WELCOME: *ret = (Shape) { sizeof (WireWelcome), 2, 2, false }; return true;
    case WIRE_BIND: *ret = (Shape) { sizeof (WireBind), 0, 0, true }; return true;
    case WIRE_BOUND: *ret = (Shape) { sizeof (WireBound), 0, 0, true }; return true;
    case WIRE_OPEN: *ret = (Shape) { sizeof (WireOpen), 0, 0, false }; return true;
    case WIRE_CHANNEL: *ret = (Shape) { sizeof (WireChannel), 3, 4, false }; return true;
    case WIRE_MAPPED:
    case WIRE_CLOSE:
    case WIRE_DETACH: *ret = (Shape) { sizeof (WireRef), 0, 0, false }; return true;
    case WIRE_BLOB_NEW:
    case WIRE_BLOB_IMPORT: *ret = (Shape) { sizeof (WireBlob), 0, 0, false }; return true;
    case WIRE_BLOB_EXPORT: *ret = (Shape) { sizeof (WireBlob), 1, 1, false }; return true;
    case WIRE_BLOB: *ret = (Shape) { sizeof (WireBlob), 0, 1, false }; return true;
    case WIRE_MOVED: *ret = (Shape) { sizeof (WireMoved), 0, 2, false }; return true;
    case WIRE_ERROR: *ret = (Shape) { sizeof (WireError), 0, 0, true }; return true;
    case WIRE_LOAD: *ret = (Shape) { sizeof (WireLoad), 2, 2, true }; return true;
    case WIRE_READY: *ret = (Shape) { sizeof (WireReady), 0, 0, true }; return true;
    case WIRE_ATTACH: *ret = (Shape) { sizeof (WireAttach), 2, 3, false }; return true;
    case WIRE_RESTORE:
    case WIRE_TAKE:
    case WIRE_STATE: *ret = (Shape) { sizeof (WireState), 0, 1, true }; return true;
    case WIRE_PLACE: *ret = (Shape) { 0, 0, 0, true }; return true;
    case WIRE_OFFENCE: *ret = (Shape) { sizeof (WireOffence), 0, 0, false }; return true;
    case WIRE_STOP:
    case WIRE_RETIRE: *ret = (Shape) { sizeof (WireStop), 0, 0, false }; return true;
    case WIRE_START:
    case WIRE_SAVE:
    case WIRE_GIVE:
    case WIRE_DONE:
    case WIRE_QUIT: *ret = (Shape) { 0, 0, 0, false }; return true;
    default: return false;
    }
}

static bool
wait_for (int socket, short events, uint64_t deadline)
{
  for (;;)
    {
      uint64_t now = monotonic_ns ();
      struct pollfd fd = { socket, events, 0 };
      int n = poll (&fd, 1, deadline <= now ? 0 : (int) ((deadline - now + 999999) / 1000000));

      if (n > 0)
        return true;
      if (n == 0 || errno != EINTR)
        return false;
    }
}

bool
wire_send (int socket, WireType type, uint64_t serial, const void *body, const void *tail, uint32_t tail_size, const int *fds,
           unsigned n_fds, uint64_t deadline, Fault *fault)
{
  Shape shape;
  union { struct cmsghdr align; char bytes[CMSG_SPACE (sizeof (int) * WIRE_FDS_MAX)]; } control = { 0 };
  WireHeader header = { .type = (uint16_t) type, .n_fds = (uint16_t) n_fds, .serial = serial };
  struct iovec parts[3];
  struct msghdr message = { .msg_iov = parts, .msg_iovlen = 3 };

  if (!shape_of (type, &shape) || n_fds > WIRE_FDS_MAX || tail_size > WIRE_TAIL_MAX)
    return fault_set (fault, CELL_ERROR_TOO_LARGE, "a message to a peer is too large");
  header.size = (uint32_t) sizeof header + shape.body + tail_size;
  parts[0] = (struct iovec) { &header, sizeof header };
  parts[1] = (struct iovec) { (void *) body, shape.body };
  parts[2] = (struct iovec) { (void *) tail, tail_size };
  if (n_fds > 0)
    {
      message.msg_control = control.bytes;
      message.msg_controllen = CMSG_SPACE (sizeof (int) * n_fds);
      struct cmsghdr *c = CMSG_FIRSTHDR (&message);
      c->cmsg_level = SOL_SOCKET;
      c->cmsg_type = SCM_RIGHTS;
      c->cmsg_len = CMSG_LEN (sizeof (int) * n_fds);
      memcpy (CMSG_DATA (c), fds, sizeof (int) * n_fds);
    }
  for (;;)
    {
      if (sendmsg (socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
        return true;
      if (errno == EINTR)
        continue;
      if (errno != EAGAIN || deadline == 0 || !wait_for (socket, POLLOUT, deadline))
        return fault_set (fault, errno == EAGAIN ? CELL_ERROR_BUSY : CELL_ERROR_GONE, "the peer cannot be told: %s",
                          strerror (errno));
    }
}

bool
wire_send_error (int socket, uint64_t serial, CellStatus status, const char *message, uint64_t deadline)
{
  WireError error = { .status = status };

  return wire_send (socket, WIRE_ERROR, serial, &error, message, (uint32_t) strnlen (message, 1000), NULL, 0, deadline, NULL);
}

/* Takes the descriptors over, so that none is lost whatever else is wrong. */
static bool
take_fds (struct msghdr *m, WireMessage *message, unsigned *ret_n)
{
  unsigned n = 0;
  bool good = true;

  for (struct cmsghdr *c = CMSG_FIRSTHDR (m); c != NULL; c = CMSG_NXTHDR (m, c))
    {
      unsigned count;

      if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
        continue;
      count = (unsigned) ((c->cmsg_len - CMSG_LEN (0)) / sizeof (int));
      for (unsigned i = 0; i < count; i++)
        {
          int fd;

          memcpy (&fd, CMSG_DATA (c) + i * sizeof fd, sizeof fd);
          if (n < WIRE_FDS_MAX)
            message->fds[n++] = fd;
          else
            {
              close (fd);
              good = false;
            }
        }
    }
  *ret_n = n;
  return good && !(m->msg_flags & (MSG_CTRUNC | MSG_TRUNC));
}

/* Strings in bodies end. */
static bool
strings_end (const WireMessage *message)
{
  switch (message->header.type)
    {
    case WIRE_BIND:
      return memchr (message->body.bind.cell, 0, WIRE_NAME_MAX) != NULL
             && memchr (message->body.bind.interface, 0, sizeof message->body.bind.interface) != NULL;
    case WIRE_OPEN:
      return memchr (message->body.open.cell, 0, WIRE_NAME_MAX) != NULL;
    case WIRE_LOAD:
      return memchr (message->body.load.cell, 0, WIRE_NAME_MAX) != NULL;
    case WIRE_OFFENCE:
      return memchr (message->body.offence.rule, 0, WIRE_RULE_MAX) != NULL;
    default:
      return true;
    }
}

static const char *
unpack (WireMessage *message, const uint8_t *bytes, size_t size, unsigned n_fds)
{
  Shape shape;

  if (size < sizeof message->header)
    return "a message is shorter than its header";
  memcpy (&message->header, bytes, sizeof message->header);
  if (message->header.size != size || message->header.n_fds != n_fds)
    return "a message does not have the size that it says it has";
  if (!shape_of (message->header.type, &shape))
    return "a message is of no known type";
  if (n_fds < shape.fds_min || n_fds > shape.fds_max)
    return "a message has the wrong number of descriptors";
  size -= sizeof message->header;
  if (size < shape.body || size - shape.body > (shape.tail ? WIRE_TAIL_MAX : 0))
    return "a message has the wrong size";
  memcpy (&message->body, bytes + sizeof message->header, shape.body);
  size -= shape.body;
  if (!strings_end (message))
    return "a name in a message has no end";
  if (size > 0)
    {
      message->tail = malloc (size + 1);
      if (message->tail == NULL)
        return "no memory for a message";
      memcpy (message->tail, bytes + sizeof message->header + shape.body, size);
      message->tail[size] = 0;
      message->tail_size = (uint32_t) size;
    }
  return NULL;
}

/* Receives a message of that size into the buffer and unpacks it.  NULL: good. */
static const char *
receive_now (int socket, WireMessage *message, uint8_t *buffer, size_t size)
{
  union { struct cmsghdr align; char bytes[CMSG_SPACE (sizeof (int) * WIRE_FDS_MAX)]; } control;
  struct iovec part = { buffer, size };
  struct msghdr m = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control };
  ssize_t n = recvmsg (socket, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  unsigned n_fds = 0;

  if (n < 0)
    return "a message went away";
  if (!take_fds (&m, message, &n_fds))
    return "a message has more than fits";
  return unpack (message, buffer, (size_t) n, n_fds);
}

int
wire_receive (int socket, WireMessage *message, uint64_t deadline, Fault *fault)
{
  const size_t capacity = sizeof (WireHeader) + sizeof (WireBody) + WIRE_TAIL_MAX;
  uint8_t small[1024], *buffer;
  ssize_t n;
  const char *wrong;

  *message = (WireMessage) { .fds = { -1, -1, -1, -1 } };
  for (;;)
    {
      n = recv (socket, NULL, 0, MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT);
      if (n >= 0)
        break;
      if (errno == EINTR)
        continue;
      if (errno != EAGAIN)
        {
          fault_set (fault, CELL_ERROR_GONE, "the connection broke: %s", strerror (errno));
          return -1;
        }
      if (deadline == 0 || !wait_for (socket, POLLIN, deadline))
        return 0;
    }
  if (n == 0)
    {
      fault_set (fault, CELL_ERROR_GONE, "the connection was closed");
      return -1;
    }
  buffer = (size_t) n <= sizeof small ? small : (size_t) n <= capacity ? malloc ((size_t) n) : NULL;
  wrong = buffer != NULL ? receive_now (socket, message, buffer, (size_t) n) : "a message is larger than any may be";
  if (buffer != small)
    free (buffer);
  if (wrong == NULL)
    return 1;
  wire_message_clear (message);
  fault_set (fault, CELL_ERROR_CORRUPT, "%s", wrong);
  return -1;
}

void
wire_message_clear (WireMessage *message)
{
  for (unsigned i = 0; i < WIRE_FDS_MAX; i++)
    if (message->fds[i] >= 0)
      {
        close (message->fds[i]);
        message->fds[i] = -1;
      }
  free (message->tail);
  message->tail = NULL;
}

int
wire_message_take_fd (WireMessage *message, unsigned n)
{
  int fd = message->fds[n];

  message->fds[n] = -1;
  return fd;
}

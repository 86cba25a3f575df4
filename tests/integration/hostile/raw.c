/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include "raw.h"

#include <cell/abi.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "membrane/bell.h"
#include "membrane/wait.h"

#define WAIT_NS 20000000000ull

static uint64_t
soon (void)
{
  return monotonic_ns () + WAIT_NS;
}

int
raw_memory (size_t size, unsigned seals, unsigned flags)
{
  int fd = memfd_create ("hostile", MFD_CLOEXEC | flags);

  g_assert_cmpint (fd, >=, 0);
  if (size > 0)
    g_assert_no_errno (fallocate (fd, 0, 0, (off_t) size));
  if (seals != 0)
    g_assert_no_errno (fcntl (fd, F_ADD_SEALS, seals));
  return fd;
}

Raw
raw_connect (const char *path)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  Raw raw = { .socket = socket (AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), .host_bell = -1, .bell = -1 };
  int result;

  g_assert_cmpint (raw.socket, >=, 0);
  g_strlcpy (address.sun_path, path, sizeof address.sun_path);
  do
    result = connect (raw.socket, (struct sockaddr *) &address, sizeof address);
  while (result < 0 && (errno == EAGAIN || errno == EINTR));
  g_assert_no_errno (result);
  g_assert_no_errno (fcntl (raw.socket, F_SETFL, O_NONBLOCK));
  return raw;
}

Raw
raw_greeted (const char *path)
{
  Raw raw = raw_connect (path);
  WireHello hello = {
    .protocol = WIRE_PROTOCOL, .abi_major = CELL_ABI_MAJOR, .abi_minor = CELL_ABI_MINOR, .pid = (uint32_t) getpid ()
  };
  WireMessage answer;

  g_assert_cmpint (raw_ask (&raw, WIRE_HELLO, &hello, NULL, 0, NULL, 0, &answer), ==, WIRE_WELCOME);
  raw.host_bell = wire_message_take_fd (&answer, 0);
  raw.bell = wire_message_take_fd (&answer, 1);
  wire_message_clear (&answer);
  return raw;
}

void
raw_close (Raw *raw)
{
  close (raw->socket);
  if (raw->host_bell >= 0)
    close (raw->host_bell);
  if (raw->bell >= 0)
    close (raw->bell);
}

void
raw_send (Raw *raw, WireType type, const void *body, const void *tail, uint32_t tail_size, const int *fds, unsigned n_fds)
{
  Fault fault = { 0 };

  if (!wire_send (raw->socket, type, ++raw->serial, body, tail, tail_size, fds, n_fds, soon (), &fault))
    g_error ("%s", fault.message);
}

bool
raw_say (Raw *raw, WireType type, const void *body)
{
  return wire_send (raw->socket, type, ++raw->serial, body, NULL, 0, NULL, 0, soon (), NULL);
}

WireType
raw_ask (Raw *raw, WireType type, const void *body, const void *tail, uint32_t tail_size, const int *fds, unsigned n_fds,
         WireMessage *answer)
{
  Fault fault = { 0 };
  int got;

  if (!wire_send (raw->socket, type, ++raw->serial, body, tail, tail_size, fds, n_fds, soon (), &fault))
    return 0;
  while ((got = wire_receive (raw->socket, answer, soon (), &fault)) > 0)
    {
      if (answer->header.serial == raw->serial)
        return (WireType) answer->header.type;
      wire_message_clear (answer);
    }
  if (got == 0)
    g_error ("the host does not answer %d", type);
  return 0;
}

bool
raw_send_bytes (Raw *raw, const void *bytes, size_t size, const int *fds, unsigned n_fds)
{
  union { struct cmsghdr align; char bytes[CMSG_SPACE (sizeof (int) * 64)]; } control = { 0 };
  struct iovec part = { (void *) bytes, size };
  struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
  struct pollfd fd = { raw->socket, POLLOUT, 0 };

  if (n_fds > 0)
    {
      message.msg_control = control.bytes;
      message.msg_controllen = CMSG_SPACE (sizeof (int) * n_fds);
      control.align =
        (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN (sizeof (int) * n_fds) };
      memcpy (CMSG_DATA (&control.align), fds, sizeof (int) * n_fds);
    }
  poll (&fd, 1, 20000);
  return sendmsg (raw->socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t) size;
}

void
raw_expect_end (Raw *raw)
{
  WireMessage message;
  Fault fault = { 0 };
  int got;

  while ((got = wire_receive (raw->socket, &message, soon (), &fault)) > 0)
    wire_message_clear (&message);
  if (got == 0)
    g_error ("the host goes on with this connection");
  g_assert_cmpint (fault.status, ==, CELL_ERROR_GONE);
}

CellStatus
raw_refusal (Raw *raw, WireType type, const void *body, const int *fds, unsigned n_fds)
{
  WireMessage answer;
  WireType said = raw_ask (raw, type, body, NULL, 0, fds, n_fds, &answer);
  CellStatus status = CELL_OK;

  g_assert_cmpint (said, !=, 0);
  if (said == WIRE_ERROR)
    status = answer.body.error.status;
  wire_message_clear (&answer);
  return status;
}

WireOpen
raw_open_body (const char *cell, uint32_t capacity)
{
  WireOpen body = { .request_capacity = capacity };

  g_strlcpy (body.cell, cell, sizeof body.cell);
  return body;
}

bool
raw_open_unused (Raw *raw, const char *cell, uint32_t capacity, RawChannel *ret)
{
  WireOpen body = raw_open_body (cell, capacity);
  WireMessage answer;
  WireType said = raw_ask (raw, WIRE_OPEN, &body, NULL, 0, NULL, 0, &answer);
  Fault fault = { 0 };

  *ret = (RawChannel) { .epoch = -1, .callee_bell = -1 };
  if (said != WIRE_CHANNEL)
    {
      if (said != 0)
        wire_message_clear (&answer);
      return false;
    }
  ret->body = answer.body.channel;
  ret->epoch = wire_message_take_fd (&answer, 0);
  ret->requests = half_map (wire_message_take_fd (&answer, 1), ret->body.request_capacity, ret->body.request_salt, true, &fault);
  ret->replies = half_map (wire_message_take_fd (&answer, 2), ret->body.reply_capacity, ret->body.reply_salt, false, &fault);
  if (ret->requests == NULL || ret->replies == NULL)
    g_error ("%s", fault.message);
  if (answer.fds[3] >= 0)
    ret->callee_bell = wire_message_take_fd (&answer, 3);
  wire_message_clear (&answer);
  atomic_store (&ret->requests->control->taken, ret->body.answered);
  atomic_store (&ret->requests->control->released, ret->body.answered);
  ring_writer_init (&ret->out, ret->requests, ret->replies->control, ret->body.taken);
  ring_reader_init (&ret->replies_at, ret->replies, ret->requests->control, ret->body.answered);
  return true;
}

/* Another half, unless it is gone. */
static void
take_half (RawChannel *channel, WireMessage *message)
{
  const WireMoved *moved = &message->body.moved;
  Fault fault = { 0 };

  if (moved->gone)
    return;
  half_unref (channel->replies);
  channel->replies = half_map (wire_message_take_fd (message, 0), moved->reply_capacity, moved->reply_salt, false, &fault);
  if (channel->replies == NULL)
    g_error ("%s", fault.message);
  ring_reader_init (&channel->replies_at, channel->replies, channel->requests->control, moved->final_reply);
  ring_writer_set_peer (&channel->out, channel->replies->control, moved->final_taken);
  if (message->fds[1] < 0)
    return;
  if (channel->callee_bell >= 0)
    close (channel->callee_bell);
  channel->callee_bell = wire_message_take_fd (message, 1);
}

void
raw_follow (Raw *raw, RawChannel *channels, unsigned n)
{
  g_autofree bool *there = g_new0 (bool, n);
  unsigned n_there = 0;
  WireMessage message;
  Fault fault = { 0 };
  int got = 1;

  while (n_there < n && (got = wire_receive (raw->socket, &message, soon (), &fault)) > 0)
    {
      for (unsigned i = 0; message.header.type == WIRE_MOVED && i < n; i++)
        if (message.body.moved.channel == channels[i].body.channel && !there[i])
          {
            there[i] = message.body.moved.gone || (message.body.moved.generation & 1) == 0;
            n_there += there[i];
            take_half (&channels[i], &message);
          }
      wire_message_clear (&message);
    }
  if (got == 0)
    g_error ("a channel's callee does not come");
}

bool
raw_begin (Raw *raw, const char *cell, uint32_t capacity, RawChannel *ret)
{
  if (!raw_open_unused (raw, cell, capacity, ret))
    return false;
  raw_send (raw, WIRE_MAPPED, &(WireRef) { ret->body.channel }, NULL, 0, NULL, 0);
  return true;
}

bool
raw_open (Raw *raw, const char *cell, uint32_t capacity, RawChannel *ret)
{
  if (!raw_begin (raw, cell, capacity, ret))
    return false;
  if (ret->body.generation & 1)
    raw_follow (raw, ret, 1);
  return true;
}

void
raw_channel_clear (RawChannel *channel)
{
  half_unref (channel->requests);
  half_unref (channel->replies);
  if (channel->epoch >= 0)
    close (channel->epoch);
  if (channel->callee_bell >= 0)
    close (channel->callee_bell);
}

void
raw_ring (const Raw *raw)
{
  uint64_t one = 1;

  if (write (raw->host_bell, &one, sizeof one) < 0)
    return;                             /* full */
}

bool
raw_request (Raw *raw, RawChannel *channel, uint16_t method, uint64_t id, const void *payload, uint32_t length)
{
  Fault fault = { 0 };
  Record *record = ring_reserve (&channel->out, length, &fault);

  if (record == NULL)
    return false;
  memcpy (record->payload, payload, length);
  record_set_head (
    record, &(RecordHead){ .length = length, .root = length, .kind = RECORD_REQUEST, .method = method, .timeout = 5000 }, id);
  ring_announce (&channel->out, length);
  ring_commit_far (&channel->out, record, length);
  if (channel->callee_bell >= 0)
    bell_ring (channel->callee_bell);   /* it is in a process of its own */
  else
    raw_ring (raw);
  return true;
}

int32_t
raw_reply (RawChannel *channel, uint64_t *ret_id)
{
  uint64_t until = soon ();
  Record *record;
  int32_t status;

  while ((record = ring_peek (&channel->replies_at)) == NULL)
    {
      g_assert_cmpuint (monotonic_ns (), <, until);
      sched_yield ();
    }
  *ret_id = record->id;
  status = record->status;
  ring_take (&channel->replies_at, record->length);
  ring_release (&channel->replies_at);
  return status;
}

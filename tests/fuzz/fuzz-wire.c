/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Any bytes as messages on a connection, with descriptors, over a real socket: each is taken if it is what it should be and refused
 * if not, and what was taken is the same again when it is sent on.  No descriptor is lost, whatever becomes of the message.
 *
 * A message in the input: u16 length, u8 descriptors, u8 how, then as many bytes.  How: bits that mend what would be refused at the
 * first look, and in the upper half how long a tail is made.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <glib.h>
#include <stdbool.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "membrane/wire.h"

#define SEND_FDS_MAX 8                  /* more than a message may have */
#define TAIL_UNIT 7000u                 /* sixteen of which are more than a message may have */

enum
{
  MEND_SIZE = 1 << 0, MEND_FDS = 1 << 1, MEND_TYPE = 1 << 2
};

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

typedef struct
{
  GByteArray *bytes;
  unsigned n_fds;
} Sent;

/* Different ones, so that an exchange would show. */
static int files[SEND_FDS_MAX];

static void
files_open (void)
{
  int ends[2];

  for (unsigned i = 0; i < SEND_FDS_MAX - 3; i++)
    files[i] = memfd_create ("fuzz-wire", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  g_assert_no_errno (pipe2 (ends, O_CLOEXEC));
  files[SEND_FDS_MAX - 3] = ends[0];
  files[SEND_FDS_MAX - 2] = ends[1];
  files[SEND_FDS_MAX - 1] = open ("/dev/null", O_RDONLY | O_CLOEXEC);
  for (unsigned i = 0; i < SEND_FDS_MAX; i++)
    g_assert_cmpint (files[i], >=, 0);
}

static unsigned
count_open (void)
{
  DIR *folder = opendir ("/proc/self/fd");
  unsigned n = 0;

  g_assert_nonnull (folder);
  while (readdir (folder) != NULL)
    n++;
  closedir (folder);
  return n;
}

static void
send_raw (int socket, const Sent *sent)
{
  union { struct cmsghdr align; char bytes[CMSG_SPACE (sizeof files)]; } control = { 0 };
  struct iovec part = { sent->bytes->data, sent->bytes->len };
  struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };

  if (sent->n_fds > 0)
    {
      struct cmsghdr *c = &control.align;

      message.msg_control = control.bytes;
      message.msg_controllen = CMSG_SPACE (sizeof (int) * sent->n_fds);
      c->cmsg_level = SOL_SOCKET;
      c->cmsg_type = SCM_RIGHTS;
      c->cmsg_len = CMSG_LEN (sizeof (int) * sent->n_fds);
      memcpy (CMSG_DATA (c), files, sizeof (int) * sent->n_fds);
    }
  g_assert_cmpint (sendmsg (socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL), ==, (int) sent->bytes->len);
}

static void
check_fds (const WireMessage *message, unsigned n)
{
  for (unsigned i = 0; i < WIRE_FDS_MAX; i++)
    if (i < n)
      {
        struct stat is, should;

        g_assert_no_errno (fstat (message->fds[i], &is));
        g_assert_no_errno (fstat (files[i], &should));
        g_assert_true (is.st_dev == should.st_dev && is.st_ino == should.st_ino);
        g_assert_true ((fcntl (message->fds[i], F_GETFD) & FD_CLOEXEC) != 0);
      }
    else
      g_assert_cmpint (message->fds[i], ==, -1);
}

/* What each message is, as its header tells people. */
static const struct
{
  WireType type;
  guint body;
  unsigned fds_min, fds_max;
  bool tail;
  guint names[2];               /* sizes of the names that the body begins with */
} shapes[] = {
  { WIRE_HELLO, sizeof (WireHello), 0, 0, false, { 0 } },
  { WIRE_WELCOME, sizeof (WireWelcome), 2, 2, false, { 0 } },
  { WIRE_BIND, sizeof (WireBind), 0, 0, true, { WIRE_NAME_MAX, sizeof ((WireBind *) NULL)->interface } },
  { WIRE_BOUND, sizeof (WireBound), 0, 0, true, { 0 } },
  { WIRE_OPEN, sizeof (WireOpen), 0, 0, false, { WIRE_NAME_MAX } },
  { WIRE_CHANNEL, sizeof (WireChannel), 3, 4, false, { 0 } },
  { WIRE_MAPPED, sizeof (WireRef), 0, 0, false, { 0 } },
  { WIRE_CLOSE, sizeof (WireRef), 0, 0, false, { 0 } },
  { WIRE_BLOB_NEW, sizeof (WireBlob), 0, 0, false, { 0 } },
  { WIRE_BLOB_EXPORT, sizeof (WireBlob), 1, 1, false, { 0 } },
  { WIRE_BLOB_IMPORT, sizeof (WireBlob), 0, 0, false, { 0 } },
  { WIRE_BLOB, sizeof (WireBlob), 0, 1, false, { 0 } },
  { WIRE_MOVED, sizeof (WireMoved), 0, 2, false, { 0 } },
  { WIRE_ERROR, sizeof (WireError), 0, 0, true, { 0 } },
  { WIRE_LOAD, sizeof (WireLoad), 2, 2, true, { WIRE_NAME_MAX } },
  { WIRE_READY, sizeof (WireReady), 0, 0, true, { 0 } },
  { WIRE_ATTACH, sizeof (WireAttach), 2, 3, false, { 0 } },
  { WIRE_DETACH, sizeof (WireRef), 0, 0, false, { 0 } },
  { WIRE_RESTORE, sizeof (WireState), 0, 1, true, { 0 } },
  { WIRE_START, 0, 0, 0, false, { 0 } },
  { WIRE_STOP, sizeof (WireStop), 0, 0, false, { 0 } },
  { WIRE_RETIRE, sizeof (WireStop), 0, 0, false, { 0 } },
  { WIRE_SAVE, 0, 0, 0, false, { 0 } },
  { WIRE_STATE, sizeof (WireState), 0, 1, true, { 0 } },
  { WIRE_TAKE, sizeof (WireState), 0, 1, true, { 0 } },
  { WIRE_GIVE, 0, 0, 0, false, { 0 } },
  { WIRE_PLACE, 0, 0, 0, true, { 0 } },
  { WIRE_DONE, 0, 0, 0, false, { 0 } },
  { WIRE_QUIT, 0, 0, 0, false, { 0 } },
  { WIRE_OFFENCE, sizeof (WireOffence), 0, 0, false, { WIRE_RULE_MAX } },
};

static bool
is_acceptable (const Sent *sent)
{
  const uint8_t *body = sent->bytes->data + sizeof (WireHeader);
  guint size = sent->bytes->len, i = 0;
  WireHeader header;

  if (size < sizeof header)
    return false;
  memcpy (&header, sent->bytes->data, sizeof header);
  size -= (guint) sizeof header;
  while (i < G_N_ELEMENTS (shapes) && shapes[i].type != header.type)
    i++;
  if (i == G_N_ELEMENTS (shapes) || header.size != sent->bytes->len || header.n_fds != sent->n_fds)
    return false;
  if (sent->n_fds < shapes[i].fds_min || sent->n_fds > shapes[i].fds_max || size < shapes[i].body
      || size > shapes[i].body + (shapes[i].tail ? WIRE_TAIL_MAX : 0))
    return false;
  for (unsigned k = 0; k < 2; body += shapes[i].names[k++])
    if (shapes[i].names[k] > 0 && memchr (body, 0, shapes[i].names[k]) == NULL)
      return false;
  return true;
}

static void
check_rest_is_zero (const WireMessage *message, guint body)
{
  const uint8_t *bytes = (const uint8_t *) &message->body;

  for (size_t i = body; i < sizeof message->body; i++)
    g_assert_cmpuint (bytes[i], ==, 0);
}

static void
check_received (const WireMessage *message, const Sent *sent)
{
  const GByteArray *bytes = sent->bytes;
  guint body = bytes->len - (guint) sizeof message->header - message->tail_size;

  g_assert_cmpuint (message->header.size, ==, bytes->len);
  g_assert_cmpmem (&message->header, sizeof message->header, bytes->data, sizeof message->header);
  g_assert_cmpuint (body, <=, sizeof message->body);
  g_assert_true (memcmp (&message->body, bytes->data + sizeof message->header, body) == 0);
  g_assert_true ((message->tail == NULL) == (message->tail_size == 0));
  if (message->tail != NULL)
    {
      g_assert_true (memcmp (message->tail, bytes->data + bytes->len - message->tail_size, message->tail_size) == 0);
      g_assert_cmpint (message->tail[message->tail_size], ==, 0);
    }
  check_rest_is_zero (message, body);
  check_fds (message, sent->n_fds);
}

/* What was received can be sent, and is received as the same. */
static void
send_on (int from, int to, const WireMessage *message, const Sent *sent)
{
  const WireHeader *header = &message->header;
  WireMessage again;
  Fault fault = { 0 };

  g_assert_true (wire_send (from, (WireType) header->type, header->serial, &message->body, message->tail, message->tail_size,
                            message->fds, header->n_fds, 0, &fault));
  g_assert_cmpint (wire_receive (to, &again, 0, &fault), ==, 1);
  check_received (&again, sent);
  if (again.header.n_fds > 0)
    {
      int fd = wire_message_take_fd (&again, again.header.n_fds - 1u);

      g_assert_cmpint (fd, >=, 0);
      close (fd);
    }
  wire_message_clear (&again);
}

static void
mend (Sent *sent, unsigned how)
{
  WireHeader header;

  if (sent->bytes->len < sizeof header)
    return;
  memcpy (&header, sent->bytes->data, sizeof header);
  if (how & MEND_SIZE)
    header.size = sent->bytes->len;
  if (how & MEND_FDS)
    header.n_fds = (uint16_t) sent->n_fds;
  if (how & MEND_TYPE)
    header.type = (uint16_t) shapes[header.type % G_N_ELEMENTS (shapes)].type;
  memcpy (sent->bytes->data, &header, sizeof header);
}

/* Takes the next message off the input; false: there is none. */
static bool
next (const uint8_t **data, size_t *size, Sent *sent)
{
  static const uint8_t filling[TAIL_UNIT];
  uint16_t length;
  uint8_t how;

  if (*size < 4)
    return false;
  memcpy (&length, *data, 2);
  sent->n_fds = (*data)[2] % (SEND_FDS_MAX + 1);
  how = (*data)[3];
  *data += 4;
  *size -= 4;
  length = (uint16_t) MIN (length, *size);
  g_byte_array_set_size (sent->bytes, 0);
  g_byte_array_append (sent->bytes, *data, length);
  *data += length;
  *size -= length;
  for (unsigned i = 0; i < how >> 4; i++)
    g_byte_array_append (sent->bytes, filling, sizeof filling);
  mend (sent, how);
  return sent->bytes->len > 0;          /* one of no bytes is what the end of a connection looks like */
}

/* False: the connection is of no further use. */
static bool
there (const int ends[2], const Sent *sent)
{
  WireMessage message;
  Fault fault = { 0 };
  int answer;
  bool useful;

  send_raw (ends[0], sent);
  answer = wire_receive (ends[1], &message, 0, &fault);
  g_assert_cmpint (answer, ==, is_acceptable (sent) ? 1 : -1);
  if (answer == 1)
    {
      check_received (&message, sent);
      send_on (ends[0], ends[1], &message, sent);
    }
  else
    {
      g_assert_cmpint (fault.status, ==, CELL_ERROR_CORRUPT);
      g_assert_true (fault.message[0] != 0 && message.tail == NULL);
      check_fds (&message, 0);
    }
  wire_message_clear (&message);
  useful = answer == 1;
  /* What is too large is not taken; what is refused for another reason is. */
  if (!useful && recv (ends[1], NULL, 0, MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT) < 0)
    useful = true;
  return useful;
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  g_autoptr (GByteArray) bytes = g_byte_array_new ();
  Sent sent = { bytes, 0 };
  WireMessage message;
  Fault fault = { 0 };
  unsigned before;
  int ends[2];

  if (files[0] == 0)
    files_open ();
  before = count_open ();
  g_assert_no_errno (socketpair (AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends));
  g_assert_cmpint (wire_receive (ends[1], &message, 0, &fault), ==, 0);
  wire_message_clear (&message);
  for (unsigned i = 0; i < 16 && next (&data, &size, &sent); i++)
    if (!there (ends, &sent))
      break;
  close (ends[0]);
  close (ends[1]);
  g_assert_cmpuint (count_open (), ==, before);
  return 0;
}

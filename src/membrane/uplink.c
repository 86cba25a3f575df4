/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include "uplink-own.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "remote-text.h"
#include "result.h"

#define ASK_NS (5u * 1000000000ull)     /* how long an answer may take */
#define COMMANDS_MAX 1024u              /* that wait for uplink_next () */
#define EARLY_MAX 1024u                 /* news of channels that we have not heard of yet */

/* ---- what comes: with the lock -------------------------------------------------------------------------- */

static void
uplink_die (Uplink *uplink, CellStatus status, const char *why)
{
  if (uplink->dead)
    return;
  uplink->dead = true;
  fault_set (&uplink->fault, status, "%s", why);
  shutdown (uplink->socket, SHUT_RDWR);
  uplink_ring (uplink);
}

static Command *
command_new (WireMessage *message)
{
  Command *command = calloc (1, sizeof *command);

  if (command == NULL)
    return NULL;
  command->message = *message;
  *message = (WireMessage) { .fds = { -1, -1, -1, -1 } };
  return command;
}

static void
take_moved (Uplink *uplink, WireMessage *message)
{
  Leg *leg = leg_find (uplink, message->body.moved.channel);
  Command *early;

  if (leg != NULL)
    leg_moved (leg, message);
  else if (uplink->opening > 0 && uplink->n_early < EARLY_MAX && (early = command_new (message)) != NULL)
    {
      Command **link = &uplink->early;

      while (*link != NULL)
        link = &(*link)->next;
      *link = early;
      uplink->n_early++;
    }
}

static void
take_answer (Uplink *uplink, WireMessage *message)
{
  for (Question *question = uplink->questions; question != NULL; question = question->next)
    if (question->serial == message->header.serial && !question->answered)
      {
        if (message->header.type == WIRE_CHANNEL)
          question->leg = leg_new (uplink, &message->body.channel);
        question->answer = *message;
        question->answered = true;
        *message = (WireMessage) { .fds = { -1, -1, -1, -1 } };
        return;
      }
  /* Nobody waits for it any more. */
  if (message->header.type == WIRE_CHANNEL)
    wire_send (uplink->socket, WIRE_CLOSE, 0, &(WireRef) { message->body.channel.channel }, NULL, 0, NULL, 0, 0, NULL);
}

static void
take_command (Uplink *uplink, WireMessage *message)
{
  Command *command = uplink->n_commands < COMMANDS_MAX ? command_new (message) : NULL;

  if (command == NULL)
    {
      uplink_die (uplink, CELL_ERROR_CORRUPT, "the host says more than can be listened to");
      return;
    }
  if (uplink->commands == NULL)
    uplink->commands_end = &uplink->commands;
  *uplink->commands_end = command;
  uplink->commands_end = &command->next;
  uplink->n_commands++;
}

static void
take_message (Uplink *uplink, WireMessage *message)
{
  switch (message->header.type)
    {
    case WIRE_MOVED:
      take_moved (uplink, message);
      break;
    case WIRE_BOUND:
    case WIRE_CHANNEL:
    case WIRE_BLOB:
    case WIRE_ERROR:
      take_answer (uplink, message);
      break;
    case WIRE_LOAD:
    case WIRE_ATTACH:
    case WIRE_DETACH:
    case WIRE_RESTORE:
    case WIRE_START:
    case WIRE_STOP:
    case WIRE_RETIRE:
    case WIRE_SAVE:
    case WIRE_TAKE:
    case WIRE_GIVE:
    case WIRE_PLACE:
    case WIRE_QUIT:
      take_command (uplink, message);
      break;
    default:
      uplink_die (uplink, CELL_ERROR_CORRUPT, "the host says what no host says");
    }
  wire_message_clear (message);
}

/* Takes in all that has come.  False: the connection has ended. */
static bool
pump (Uplink *uplink, bool is_poller)
{
  uint64_t one = 1;
  bool any = false;
  WireMessage message;
  Fault fault = { 0 };
  int got = 0;

  while (!uplink->dead && (got = wire_receive (uplink->socket, &message, 0, &fault)) > 0)
    {
      take_message (uplink, &message);
      any = true;
    }
  if (got < 0)
    {
      uplink_die (uplink, fault.status == CELL_ERROR_CORRUPT ? CELL_ERROR_CORRUPT : CELL_ERROR_UNREACHABLE,
                  fault.status == CELL_ERROR_CORRUPT ? fault.message : "the host has ended the connection");
      any = true;
    }
  if (any)
    {
      pthread_cond_broadcast (&uplink->changed);
      if (uplink->polling && !is_poller && write (uplink->wake, &one, sizeof one) < 0)
        return !uplink->dead;           /* full: it has been woken */
    }
  return !uplink->dead;
}

/* Waits until something has come; whoever comes first polls for all.  False: the deadline passed. */
static bool
wait_for_news (Uplink *uplink, uint64_t deadline)
{
  struct timespec until = { (time_t) (deadline / 1000000000u), (long) (deadline % 1000000000u) };
  struct pollfd fds[2] = { { uplink->socket, POLLIN, 0 }, { uplink->wake, POLLIN, 0 } };
  uint64_t now = monotonic_ns (), count;

  if (now >= deadline)
    return false;
  if (uplink->polling)
    return pthread_cond_timedwait (&uplink->changed, &uplink->lock, &until) != ETIMEDOUT;
  uplink->polling = true;
  pthread_mutex_unlock (&uplink->lock);
  poll (fds, 2, (int) ((deadline - now) / 1000000u < 60000u ? (deadline - now) / 1000000u + 1 : 60000u));
  pthread_mutex_lock (&uplink->lock);
  uplink->polling = false;
  if (read (uplink->wake, &count, sizeof count) < 0 && errno != EAGAIN)
    uplink_die (uplink, CELL_ERROR_INTERNAL, "an eventfd cannot be read");
  pump (uplink, true);
  pthread_cond_broadcast (&uplink->changed);    /* somebody else polls now */
  return true;
}

bool
uplink_pump (Uplink *uplink, Fault *fault)
{
  bool alive;

  pthread_mutex_lock (&uplink->lock);
  alive = pump (uplink, false);
  if (!alive && fault != NULL)
    *fault = uplink->fault;
  pthread_mutex_unlock (&uplink->lock);
  return alive;
}

/* ---- questions ---------------------------------------------------------------------------------------------- */

static bool
fault_from_error (Fault *fault, const WireMessage *message)
{
  CellStatus status = message->body.error.status;

  return fault_set (fault, status_is_known (status) ? status : CELL_ERROR_CORRUPT, "%s",
                    message->tail != NULL ? message->tail : status_text (status));
}

static bool
collect (Uplink *uplink, Question *question, uint64_t deadline, Fault *fault)
{
  while (!question->answered && !uplink->dead && wait_for_news (uplink, deadline))
    continue;
  for (Question **link = &uplink->questions; *link != NULL; link = &(*link)->next)
    if (*link == question)
      {
        *link = question->next;
        break;
      }
  if (question->answered)
    return true;
  if (uplink->dead && fault != NULL)
    *fault = uplink->fault;
  return !uplink->dead && fault_set (fault, CELL_ERROR_DEADLINE, "the host does not answer");
}

bool
uplink_ask (Uplink *uplink, WireType type, const void *body, const void *tail, uint32_t tail_size, const int *fds, unsigned n_fds,
     WireType expected, Question *question, Fault *fault)
{
  uint64_t deadline = monotonic_ns () + ASK_NS;
  bool good;

  *question = (Question) { 0 };
  pthread_mutex_lock (&uplink->lock);
  question->serial = ++uplink->last_serial;
  question->next = uplink->questions;
  uplink->questions = question;
  if (type == WIRE_OPEN)
    uplink->opening++;
  pthread_mutex_unlock (&uplink->lock);
  good = wire_send (uplink->socket, type, question->serial, body, tail, tail_size, fds, n_fds, deadline, fault);
  pthread_mutex_lock (&uplink->lock);
  good = collect (uplink, question, good ? deadline : 0, good ? fault : NULL) && good;
  if (type == WIRE_OPEN)
    uplink->opening--;
  pthread_mutex_unlock (&uplink->lock);
  if (!question->answered)
    return false;
  if (good && question->answer.header.type == WIRE_ERROR)
    good = fault_from_error (fault, &question->answer);
  else if (good && question->answer.header.type != expected)
    good = fault_set (fault, CELL_ERROR_CORRUPT, "the host answers another question");
  if (!good)
    wire_message_clear (&question->answer);
  return good;
}

static bool
copy_name (char *to, size_t size, const char *name, const char *what, Fault *fault)
{
  if (strlen (name) >= size)
    return fault_set (fault, CELL_ERROR_INVALID, "%.80s… is too long for the name of %s", name, what);
  memcpy (to, name, strlen (name) + 1);
  return true;
}

/* What the caller was compiled for.  A text that is too long is left out: it is needed only when the contracts differ. */
static char *
bind_tail (const CellRemote *remote, uint32_t *ret_size)
{
  char *lines = remote_to_lines (remote), *text = remote_to_text (remote), *tail = NULL;
  size_t n = lines != NULL ? strlen (lines) : 0, m = text != NULL ? strlen (text) : 0;

  if (n + m > WIRE_TAIL_MAX)
    m = 0;
  if (lines != NULL && n + m <= WIRE_TAIL_MAX && (tail = malloc (n + m + 1)) != NULL)
    {
      memcpy (tail, lines, n);
      memcpy (tail + n, text != NULL ? text : "", m);
      tail[n + m] = 0;
      *ret_size = (uint32_t) (n + m);
    }
  free (lines);
  free (text);
  return tail;
}

bool
uplink_bind (Uplink *uplink, const char *name, const CellRemote *remote, uint32_t *methods, uint32_t *signals, uint64_t *ret_cell,
             Fault *fault)
{
  WireBind body = { .contract = remote->contract, .version = remote->version, .n_methods = remote->n_methods,
                    .n_signals = remote->n_signals };
  uint32_t tail_size = 0, n = remote->n_methods, m = remote->n_signals;
  Question question;
  char *tail;
  bool good;

  if (!copy_name (body.cell, sizeof body.cell, name, "a cell", fault)
      || !copy_name (body.interface, sizeof body.interface, remote->interface, "an interface", fault))
    return false;
  tail = bind_tail (remote, &tail_size);
  if (tail == NULL)
    return fault_set (fault, CELL_ERROR_TOO_LARGE, "the caller's tables do not fit into a message");
  good = uplink_ask (uplink, WIRE_BIND, &body, tail, tail_size, NULL, 0, WIRE_BOUND, &question, fault);
  free (tail);
  if (!good)
    return false;
  if (question.answer.tail_size != (n + m) * sizeof (uint32_t))
    good = fault_set (fault, CELL_ERROR_CORRUPT, "the host answers with the wrong number of methods");
  else
    {
      memcpy (methods, question.answer.tail != NULL ? question.answer.tail : "", n * sizeof (uint32_t));
      memcpy (signals, question.answer.tail != NULL ? question.answer.tail + n * sizeof (uint32_t) : "", m * sizeof (uint32_t));
      *ret_cell = question.answer.body.bound.cell_id;
    }
  for (uint32_t i = 0; good && i < n; i++)
    if (methods[i] != WIRE_NO_METHOD && methods[i] >= WIRE_METHODS_MAX)
      good = fault_set (fault, CELL_ERROR_CORRUPT, "the host numbers a method %u", methods[i]);
  wire_message_clear (&question.answer);
  return good;
}

/* ---- channels ----------------------------------------------------------------------------------------------- */

static bool
look (Channel *channel)
{
  Leg *leg = channel->context;
  Uplink *uplink = leg->uplink;
  bool alive;

  pthread_mutex_lock (&uplink->lock);
  alive = pump (uplink, false);
  leg_drop_old_bells (leg);
  pthread_mutex_unlock (&uplink->lock);
  return alive;
}

bool
uplink_report (Uplink *uplink, const Channel *channel)
{
  WireOffence body = { .channel = channel->serial, .at = channel->broken_at };

  if (channel->broken != CELL_ERROR_CORRUPT)
    return true;
  snprintf (body.rule, sizeof body.rule, "%s", channel->broken_rule);
  return wire_send (uplink->socket, WIRE_OFFENCE, 0, &body, NULL, 0, NULL, 0, 0, NULL);
}

static void
leg_broke (Channel *channel)
{
  const Leg *leg = channel->context;

  uplink_report (leg->uplink, channel);
}

static Channel *
build_channel (Leg *leg, WireMessage *message, Fault *fault)
{
  const WireChannel *body = &message->body.channel;
  Half *requests, *replies;
  Channel *channel;

  leg->epoch = epoch_map (wire_message_take_fd (message, 0), fault);
  leg->endpoint = leg->epoch != NULL ? endpoint_new (leg->epoch, CELL_SERIAL, NULL) : NULL;
  requests = uplink_map_half (message, 1, body->request_capacity, body->request_salt, true, fault);
  replies = uplink_map_half (message, 2, body->reply_capacity, body->reply_salt, false, fault);
  channel = leg->endpoint != NULL && requests != NULL && replies != NULL ? channel_new (leg->endpoint) : NULL;
  if (channel == NULL)
    {
      half_unref (requests);
      half_unref (replies);
      if (fault->status == CELL_OK)
        fault_set (fault, CELL_ERROR_NO_RESOURCES, "%s", status_text (CELL_ERROR_NO_RESOURCES));
      return NULL;
    }
  /* The callee looks at these before we have read anything. */
  store_release (&requests->control->taken, body->answered);
  store_release (&requests->control->released, body->answered);
  channel_set_caller (channel, requests, replies, body->taken, body->answered);
  channel->remote = true;
  channel->replies_untrusted = true;
  channel->vacant = (body->generation & 1) != 0;
  channel->epoch_seen = body->epoch_word;
  channel->serial = leg->id;
  channel->blobs = &leg->uplink->port.base;
  channel->callee_bell = leg->uplink->host_bell;
  if (message->fds[3] >= 0)
    channel->callee_bell = wire_message_take_fd (message, 3);
  channel->look = look;
  channel->on_broken = leg_broke;
  channel->context = leg;
  return channel;
}

static void
put_in_use (Leg *leg, Channel *channel)
{
  int *grown;

  pthread_mutex_lock (&leg->uplink->lock);
  /* The first bell is the oldest, whatever has moved since. */
  grown = realloc (leg->bells, (leg->n_bells + 1) * sizeof *grown);
  if (grown != NULL)
    {
      memmove (grown + 1, grown, leg->n_bells * sizeof *grown);
      grown[0] = channel->callee_bell;
      leg->bells = grown;
      leg->n_bells++;
    }
  leg->channel = channel;
  while (leg->early != NULL)
    {
      MovedHalf *moved = leg->early;

      leg->early = moved->next;
      channel_moved (channel, moved);
    }
  pthread_mutex_unlock (&leg->uplink->lock);
}

Channel *
uplink_open (Uplink *uplink, const char *name, uint64_t cell, uint32_t request_capacity, void (*notify) (Channel *channel),
             void *data, Fault *fault)
{
  WireOpen body = { .request_capacity = request_capacity, .cell_id = cell };
  Question question;
  Channel *channel = NULL;
  WireRef ref;
  bool good;

  if (!copy_name (body.cell, sizeof body.cell, name, "a cell", fault)
      || !uplink_ask (uplink, WIRE_OPEN, &body, NULL, 0, NULL, 0, WIRE_CHANNEL, &question, fault))
    return NULL;
  ref = (WireRef) { question.answer.body.channel.channel };
  if (question.leg != NULL)
    channel = build_channel (question.leg, &question.answer, fault);
  else
    fault_set (fault, CELL_ERROR_NO_RESOURCES, "%s", status_text (CELL_ERROR_NO_RESOURCES));
  wire_message_clear (&question.answer);
  good = channel != NULL
         && wire_send (uplink->socket, WIRE_MAPPED, 0, &ref, NULL, 0, NULL, 0, monotonic_ns () + ASK_NS, fault);
  if (good)
    {
      channel->notify = notify;
      question.leg->data = data;
      uplink_ref (uplink);
      put_in_use (question.leg, channel);
      return channel;
    }
  wire_send (uplink->socket, WIRE_CLOSE, 0, &ref, NULL, 0, NULL, 0, monotonic_ns () + ASK_NS, NULL);
  if (channel != NULL && channel->callee_bell != uplink->host_bell)
    close (channel->callee_bell);
  channel_unref (channel);
  if (question.leg != NULL)
    {
      leg_unlink (question.leg);
      leg_free (question.leg);
    }
  return NULL;
}

void *
uplink_channel_data (const Channel *channel)
{
  const Leg *leg = channel->context;

  return leg != NULL ? leg->data : NULL;
}

void
uplink_close_channel (Channel *channel)
{
  Leg *leg = channel->context;
  Uplink *uplink = leg->uplink;

  leg_unlink (leg);
  channel->look = NULL;
  channel->notify = NULL;
  channel->on_broken = NULL;
  channel->context = NULL;
  if (uplink_pump (uplink, NULL))
    wire_send (uplink->socket, WIRE_CLOSE, 0, &(WireRef) { leg->id }, NULL, 0, NULL, 0, monotonic_ns () + ASK_NS, NULL);
  leg_free (leg);
  channel_unref (channel);
  uplink_unref (uplink);
}

/* ---- a runner's side ----------------------------------------------------------------------------------------------- */

int
uplink_next (Uplink *uplink, WireMessage *ret, uint64_t deadline, Fault *fault)
{
  Command *command;
  int result;

  pthread_mutex_lock (&uplink->lock);
  pump (uplink, false);
  while (uplink->commands == NULL && !uplink->dead && wait_for_news (uplink, deadline))
    continue;
  command = uplink->commands;
  result = command != NULL ? 1 : uplink->dead ? -1 : 0;
  if (command != NULL)
    {
      uplink->commands = command->next;
      uplink->n_commands--;
      *ret = command->message;
      free (command);
    }
  else if (uplink->dead && fault != NULL)
    *fault = uplink->fault;
  pthread_mutex_unlock (&uplink->lock);
  return result;
}

bool
uplink_send (Uplink *uplink, WireType type, uint64_t serial, const void *body, const void *tail, uint32_t tail_size, const int *fds,
             unsigned n_fds, Fault *fault)
{
  return wire_send (uplink->socket, type, serial, body, tail, tail_size, fds, n_fds, monotonic_ns () + ASK_NS, fault);
}

/* ---- the connection ---------------------------------------------------------------------------------------------- */

/* HELLO and WELCOME.  fds: the host's bell and ours. */
static bool
greet (int socket, const uint8_t *token, uint64_t deadline, int fds[2], Fault *fault)
{
  WireHello hello = { .protocol = WIRE_PROTOCOL, .abi_major = CELL_ABI_MAJOR, .abi_minor = CELL_ABI_MINOR,
                      .pid = (uint32_t) getpid () };
  WireMessage message;
  bool good;
  int got;

  if (token != NULL)
    memcpy (hello.token, token, sizeof hello.token);
  if (!wire_send (socket, WIRE_HELLO, 1, &hello, NULL, 0, NULL, 0, deadline, fault))
    return fault_set (fault, CELL_ERROR_UNREACHABLE, "the host does not listen");
  got = wire_receive (socket, &message, deadline, fault);
  if (got == 0)
    return fault_set (fault, CELL_ERROR_UNREACHABLE, "the host does not answer");
  if (got < 0 && fault != NULL && fault->status != CELL_ERROR_CORRUPT)
    fault_set (fault, CELL_ERROR_UNREACHABLE, "the host has ended the connection");
  if (got < 0)
    return false;
  if (message.header.type == WIRE_ERROR)
    good = fault_from_error (fault, &message);
  else if (message.header.type != WIRE_WELCOME)
    good = fault_set (fault, CELL_ERROR_CORRUPT, "what answers there is no host of cells");
  else if (message.body.welcome.protocol != WIRE_PROTOCOL)
    good = fault_set (fault, CELL_ERROR_UNSUPPORTED, "the host speaks protocol %u, and this program speaks %u",
                      message.body.welcome.protocol, WIRE_PROTOCOL);
  else
    {
      fds[0] = wire_message_take_fd (&message, 0);
      fds[1] = wire_message_take_fd (&message, 1);
      good = true;
    }
  wire_message_clear (&message);
  return good;
}

Uplink *
uplink_new (int socket, const uint8_t *token, unsigned flags, uint64_t deadline, Fault *fault)
{
  Uplink *uplink = calloc (1, sizeof *uplink);
  int fds[2] = { -1, -1 }, wake = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  pthread_condattr_t attributes;

  if (uplink == NULL || wake < 0 || !greet (socket, token, deadline, fds, fault))
    {
      if (uplink == NULL || wake < 0)
        fault_set (fault, CELL_ERROR_NO_RESOURCES, "%s", status_text (CELL_ERROR_NO_RESOURCES));
      if (wake >= 0)
        close (wake);
      close (socket);
      free (uplink);
      return NULL;
    }
  *uplink = (Uplink) {
    .refs = 1, .socket = socket, .host_bell = fds[0], .bell = fds[1], .wake = wake, .flags = flags,
    .port = { { uplink_export_blob, uplink_import_blob }, uplink },
  };
  /* Several may want to read or write them at once. */
  fcntl (uplink->host_bell, F_SETFL, O_NONBLOCK);
  fcntl (uplink->bell, F_SETFL, O_NONBLOCK);
  pthread_mutex_init (&uplink->lock, NULL);
  pthread_condattr_init (&attributes);
  pthread_condattr_setclock (&attributes, CLOCK_MONOTONIC);
  pthread_cond_init (&uplink->changed, &attributes);
  pthread_condattr_destroy (&attributes);
  return uplink;
}

Uplink *
uplink_ref (Uplink *uplink)
{
  atomic_fetch_add (&uplink->refs, 1);
  return uplink;
}

static void
commands_free (Command *command)
{
  while (command != NULL)
    {
      Command *next = command->next;

      wire_message_clear (&command->message);
      free (command);
      command = next;
    }
}

void
uplink_unref (Uplink *uplink)
{
  if (uplink == NULL || atomic_fetch_sub (&uplink->refs, 1) != 1)
    return;
  commands_free (uplink->commands);
  commands_free (uplink->early);
  close (uplink->socket);
  close (uplink->host_bell);
  close (uplink->bell);
  close (uplink->wake);
  pthread_cond_destroy (&uplink->changed);
  pthread_mutex_destroy (&uplink->lock);
  free (uplink);
}

void
uplink_close (Uplink *uplink)
{
  pthread_mutex_lock (&uplink->lock);
  uplink_die (uplink, CELL_ERROR_GONE, "the connection was closed");
  pthread_cond_broadcast (&uplink->changed);
  pthread_mutex_unlock (&uplink->lock);
}

int
uplink_get_socket (const Uplink *uplink)
{
  return uplink->socket;
}

int
uplink_get_bell (const Uplink *uplink)
{
  return uplink->bell;
}

int
uplink_get_host_bell (const Uplink *uplink)
{
  return uplink->host_bell;
}

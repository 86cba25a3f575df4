/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What a child is asked, and what it answers.
 */
#include "child-own.h"

#define TOGETHER_MS 50u         /* that several answers are waited for together; then for one after the other */

struct ChildQuestion
{
  ChildQuestion *next;
  Child *child;                 /* a reference */
  WireType type;
  uint64_t serial;
  unsigned milliseconds;
  gboolean got, awaited;
  WireMessage answer;
};

static const WireMessage no_message = { .fds = { -1, -1, -1, -1 } };

gboolean
child_answered (Child *child, WireMessage *message)
{
  ChildQuestion *question;
  gboolean wanted, awaited = FALSE;

  pthread_mutex_lock (&child->lock);
  wanted = message->header.serial <= child->last_serial;
  for (question = child->questions; question != NULL && question->serial != message->header.serial;)
    question = question->next;
  if (question != NULL && !question->got)
    {
      question->answer = *message;
      *message = no_message;
      question->got = TRUE;
      awaited = question->awaited;
    }
  pthread_mutex_unlock (&child->lock);
  if (awaited)
    pthread_cond_broadcast (&child->changed);           /* whoever waits may take our processor, and wants the lock */
  return wanted;                        /* an answer that came too late is nobody's */
}

/* For people: what was asked. */
static const char *
step_name (WireType type)
{
  switch (type)
    {
    case WIRE_LOAD: return "load the cell";
    case WIRE_RESTORE: return "restore its state";
    case WIRE_TAKE: return "take its calls and subscriptions along";
    case WIRE_ATTACH: return "attach a caller";
    case WIRE_PLACE: return "go on where its callers are";
    case WIRE_DETACH: return "let a caller go";
    case WIRE_START: return "start";
    case WIRE_STOP:
    case WIRE_RETIRE: return "stop";
    case WIRE_SAVE: return "save its state";
    case WIRE_GIVE: return "give its calls and subscriptions";
    default: return "answer";
    }
}

static gboolean
no_answer (Child *child, WireType type, gboolean closed, unsigned milliseconds, GError **error)
{
  const char *name = child->cell->name;

  if (closed)
    {
      ProcessEnd end;

      child_wait_end (child, &end);
      cell_set_error (error, CELL_ERROR_CRASHED, "cell %s: its process died when it was to %s: %s", name, step_name (type),
                      end.why);
      g_free (end.why);
      return FALSE;
    }
  return cell_set_error (error, CELL_ERROR_DEADLINE, "cell %s: its process was to %s, and has not within %u.%u s", name,
                         step_name (type), milliseconds / 1000, milliseconds % 1000 / 100);
}

ChildQuestion *
child_begin (Child *child, WireType type, const void *body, const void *tail, uint32_t tail_size, const int *fds, unsigned n_fds,
             unsigned milliseconds)
{
  const HostConfig *config = &child->cell->host->config;
  ChildQuestion *question = g_new0 (ChildQuestion, 1);
  uint64_t serial;

  if (config->on_step != NULL)
    config->on_step (child->cell->name, step_name (type), child_get_pid (child), config->on_step_data);
  question->child = child_ref (child);
  question->type = type;
  question->milliseconds = config->step_ms != 0 ? MIN (milliseconds, config->step_ms) : milliseconds;
  question->answer = no_message;
  pthread_mutex_lock (&child->lock);
  serial = question->serial = ++child->last_serial;
  question->next = child->questions;
  child->questions = question;
  pthread_mutex_unlock (&child->lock);
  connection_send (child->connection, type, serial, body, tail, tail_size, fds, n_fds);
  return question;
}

/* With the lock. */
static void
forget (ChildQuestion *question)
{
  ChildQuestion **link = &question->child->questions;

  while (*link != question)
    link = &(*link)->next;
  *link = question->next;
}

static void
question_free (ChildQuestion *question)
{
  wire_message_clear (&question->answer);
  child_unref (question->child);
  g_free (question);
}

void
child_drop (ChildQuestion *question)
{
  Child *child;

  if (question == NULL)
    return;
  child = question->child;
  pthread_mutex_lock (&child->lock);
  forget (question);
  pthread_mutex_unlock (&child->lock);
  question_free (question);
}

/* With the lock. */
static gboolean
await (ChildQuestion *question, unsigned milliseconds)
{
  struct timespec until = in_milliseconds (milliseconds);
  Child *child = question->child;

  question->awaited = TRUE;
  while (!question->got && !child->closed && wait_until (child, &until))
    continue;
  return question->got;
}

void
child_await (ChildQuestion *last)
{
  pthread_mutex_lock (&last->child->lock);
  await (last, TOGETHER_MS);
  pthread_mutex_unlock (&last->child->lock);
}

static gboolean
wait_for_answer (ChildQuestion *question, GError **error)
{
  Child *child = question->child;
  gboolean got, closed;

  pthread_mutex_lock (&child->lock);
  got = await (question, question->milliseconds);
  closed = child->closed;
  forget (question);
  pthread_mutex_unlock (&child->lock);
  return got || no_answer (child, question->type, closed, question->milliseconds, error);
}

static gboolean
is_expected (const ChildQuestion *question, WireType expected, GError **error)
{
  const WireMessage *answer = &question->answer;

  if (answer->header.type == expected)
    return TRUE;
  if (answer->header.type == WIRE_ERROR)
    return cell_set_error_said (error, answer->body.error.status, answer->tail != NULL ? answer->tail : "no reason given");
  return cell_set_error (error, CELL_ERROR_CORRUPT, "cell %s: its process was to %s, and answers something else",
                         question->child->cell->name, step_name (question->type));
}

gboolean
child_finish (ChildQuestion *question, WireType expected, WireMessage *answer, GError **error)
{
  gboolean good = wait_for_answer (question, error) && is_expected (question, expected, error);

  if (good && answer != NULL)
    {
      *answer = question->answer;
      question->answer = no_message;
    }
  question_free (question);
  return good;
}

gboolean
child_ask (Child *child, WireType type, const void *body, const void *tail, uint32_t tail_size, const int *fds, unsigned n_fds,
           WireType expected, WireMessage *answer, unsigned milliseconds, GError **error)
{
  return child_finish (child_begin (child, type, body, tail, tail_size, fds, n_fds, milliseconds), expected, answer, error);
}

gboolean
child_tell (Child *child, WireType type, const void *body, const int *fds, unsigned n_fds, unsigned milliseconds, GError **error)
{
  return child_ask (child, type, body, NULL, 0, fds, n_fds, WIRE_DONE, NULL, milliseconds, error);
}

void
child_say (Child *child, WireType type, const void *body)
{
  uint64_t serial;

  pthread_mutex_lock (&child->lock);
  serial = ++child->last_serial;
  pthread_mutex_unlock (&child->lock);
  connection_send (child->connection, type, serial, body, NULL, 0, NULL, 0);
}

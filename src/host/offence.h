/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Offences: a peer in another process has broken a rule of the membrane.  Its channel has ended, and nothing else has; what more is to
 * happen is for whoever supervises to decide.
 */
#pragma once
#include <glib.h>
#include <stdint.h>
#include <sys/types.h>

#include "membrane/channel.h"

struct Host;

typedef struct
{
  const char *cell;    /* the one that was called through the channel */
  uint64_t generation; /* of that cell when the channel ended */
  const char *by;      /* the offender, if it is the process of a cell: that cell, or another that calls it; NULL: a program */
  pid_t pid;           /* of the offender; 0: not known */
  const char *rule;    /* static */
  uint32_t at;         /* where in the half that it writes: the page of words, then the data */
} Offence;

/* On a job's thread: it may wait. */
typedef void (*OffenceFunc) (const Offence *offence, gpointer data);

/* A channel of ours has ended because its peer broke a rule: says so in the log, has the client's link closed, and tells the supervisor.  From
 * whatever thread found out; it does not wait. */
void offence_report (Channel *channel);
/* A warning about a peer, as many of them as there may be in a while: who breaks a rule breaks it again. */
void offence_warn (struct Host *host, const char *format, ...) G_GNUC_PRINTF (2, 3);

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Offences: a peer in another process has broken a rule of the membrane.  Its channel has ended, and nothing else has; what more is
 * to happen is for whoever supervises to decide.
 *
 * Where neither end of a channel is in this process the host sees none of it, and takes the word of whoever says that the other has
 * broken a rule: for a claim, which ends that one channel at most, and is heard once for each.
 */
#pragma once
#include <glib.h>
#include <stdint.h>
#include <sys/types.h>

#include "membrane/channel.h"
#include "membrane/wire.h"

struct Host;
struct Connection;

typedef struct
{
  const char *cell;    /* the one that was called through the channel */
  uint64_t generation; /* of that cell when the channel ended */
  const char *by;      /* the offender, if it is a cell: that one, or another that calls it; NULL: a program */
  pid_t pid;           /* of the offender; 0: not known */
  const char *rule;
  uint32_t at;         /* where in the half that it writes: the page of words, then the data */
  gboolean claimed;    /* the host has not seen it: somebody says so, who may lie */
  const char *witness; /* who: a cell, or NULL: a program */
  pid_t witness_pid;
} Offence;

/* On a job's thread: it may wait.  The strings last as long as the call. */
typedef void (*OffenceFunc) (const Offence *offence, gpointer data);

/* A channel of ours has ended because its peer broke a rule: says so in the log, has the client's link closed, and tells the
 * supervisor.  From whatever thread found out; it does not wait. */
void offence_report (Channel *channel);
/* What a runner or a program says of the peer of a channel of its own; on the main loop, and it does not wait.  NULL, or why this
 * is nothing that a membrane says. */
const char *offence_claim (struct Connection *connection, const WireOffence *claim);
/* Whoever is at the other end of a connection, for people; to be freed. */
char *offence_name (struct Connection *connection);
/* A warning about a peer, as many of them as there may be in a while: who breaks a rule breaks it again. */
void offence_warn (struct Host *host, const char *format, ...) G_GNUC_PRINTF (2, 3);

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A real cellhostd in a process of its own, a client that does nothing wrong, and attackers in processes of theirs.
 */
#pragma once
#include <gio/gio.h>

#include <cell/client.h>

#include "counting.h"
#include "slow.h"

typedef struct
{
  char *folder, *socket;
  GSubprocess *process;
  GPid pid;
  guint n_fds;                  /* that it had when it started */
  guint most_fds;               /* that it may have; 0: as many as this process */
} Daemon;

/* With the cell "sequence" and those that are named: files of $TEST_CELLS. */
void daemon_start (Daemon *daemon, const char *const *cells);
/* It lives, has what it had, and ends with status 0 when it is asked to. */
void daemon_stop (Daemon *daemon);

/* `cellctl …, NULL`: its exit status; ret_said (may be NULL): what it wrote to its standard error. */
int daemon_ctl (Daemon *daemon, char **ret_said, ...) G_GNUC_NULL_TERMINATED;
guint daemon_count_fds (Daemon *daemon);
/* kB of memory that belongs to it alone. */
guint64 daemon_private_kb (Daemon *daemon);
/* Until it has at most that many descriptors again. */
void daemon_wait_for_fds (Daemon *daemon, guint most);

/* Calls all the time, with short rests, in a thread of the test's process, and looks at every answer. */
typedef struct Good Good;
Good *good_start (Daemon *daemon, guint who);
/* Waits for that many thousands of calls more. */
void good_wait (Good *good, guint thousands);
void good_stop (Good *good);

/* This program again: `--attack NAME SOCKET SEED`.  Its standard output is a line when it is ready, if it says so. */
typedef struct
{
  GSubprocess *process;
} Attack;
Attack attack_start (Daemon *daemon, const char *name, guint32 seed);
void attack_wait_ready (Attack *attack);
GPid attack_pid (Attack *attack);
/* Closes its standard input, at which it ends, and checks that it found everything as it should be. */
void attack_end (Attack *attack);
/* On the attacker's side: says that it is ready, and waits to be told to end. */
void attack_is_ready (void);

/* On the attacker's side, who does nothing wrong: calls that sequence until it is told to end.  It is ready when a thousand were
 * answered. */
void attack_call_until_the_end (const char *socket, const char *cell, uint32_t timeout);

typedef struct
{
  const char *name;
  void (*run) (const char *socket, guint32 seed);
} AttackName;
/* For main (): runs the attack that is asked for, and ends. */
void attack_main (int argc, char **argv, const AttackName *names, gsize n);
/* Adds a test of the attack that its path ends with: with a daemon of its own that has the cells "every", "ledger" and "memory". */
void attack_add_test (const char *path, void (*test) (Daemon *daemon, gconstpointer name));

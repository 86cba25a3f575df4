/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The demo's own cellhostd, and what happens when somebody interrupts.
 */
#pragma once
#include <gio/gio.h>

typedef struct
{
  char *socket, *log;
  GSubprocess *process;         /* NULL: none */
  GThread *watch;
} Daemon;

/* Set by SIGINT, SIGTERM and SIGHUP, and when nobody reads what is printed any more: then the work ends after the call that is
 * under way. */
extern gint interrupted;

/* Signals are caught from here to daemon_clear ().  Who sends a second one, or has waited three seconds since the first, gets the
 * host killed, and with it the call that was waited for. */
void daemon_watch (Daemon *daemon);
/* Returns when programs can connect. */
gboolean daemon_start (Daemon *daemon, const char *folder, GError **error);
/* Waits for its end, for which somebody has asked it. */
void daemon_wait (Daemon *daemon);
void daemon_clear (Daemon *daemon);

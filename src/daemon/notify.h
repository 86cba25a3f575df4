/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Telling whoever started the daemon: the service manager, and the descriptor of --ready-fd.
 */
#pragma once

/* sd_notify: one datagram; see sd_notify (3). */
void notify_manager (const char *text);
/* That programs can connect.  fd: -1, or where a byte is written. */
void notify_ready (int fd);

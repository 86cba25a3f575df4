/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * cellhostd --supervise: a process that does nothing but start the host again after a crash.  What has to be done about the crash,
 * the new host does.
 */
#pragma once
#include <glib.h>

/* Forks, so it comes before the first thread.
 *
 * TRUE: this is a host's process, which ends when its supervisor does.  ret_last_signal: what ended the host before it, or 0;
 * ready_fd: where it says that it is ready, which is the supervisor's.  FALSE: this is the supervisor, and it is over.  ret_code:
 * for exit (); it ends by a signal instead where its host did.
 */
gboolean supervise (int *ready_fd, int *ret_last_signal, int *ret_code);

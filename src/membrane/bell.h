/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Bells: what wakes whoever sleeps in a main loop, in another process as well.  A descriptor that is readable when it has been
 * rung.
 *
 * A descriptor is shared with its flags and its count, and those who share it need not be friends.  Of an eventfd that somebody has
 * filled and made to block, a write never returns; so the bell of whoever is not trusted is a timer, which is rung by letting it
 * run out: that never sleeps.  The host's own bell is an eventfd, since it is faster; nobody but its one ringer can spoil it.
 */
#pragma once

/* -1: no descriptors. */
int bell_new (void);
/* Either kind; never sleeps on the first. */
void bell_ring (int fd);
/* For its owner: not rung.  What has happened before is to be looked for after this. */
void bell_silence (int fd);

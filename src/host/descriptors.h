/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The host's descriptors.  Whoever connects can have it keep some, up to bounds of each, and many who do could leave none for what
 * the host itself has to do: to tell a process of a caller, to start one again, to read what a cell has saved.
 */
#pragma once
#include <glib.h>

/* Whether there are so few left that nobody from outside has the host keep one more.  newest: one that was just made; they are
 * given out lowest first, so that there are at least as many as its number. */
gboolean descriptors_run_short (int newest);
/* The same for who connects: he may be whoever comes to see what is wrong. */
gboolean descriptors_run_out (int newest);

#define DESCRIPTORS_SHORT "this host has hardly any descriptors left; try again when others have let go of theirs"

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What somebody may have meant who mistyped a name.
 */
#pragma once
#include <glib.h>

/* The name that is most like `typed`, or NULL when none is like it; names ends with NULL. */
const char *suggest (const char *typed, const char *const *names);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once
#include <glib.h>

/* Short, with what is rare in strings; valid UTF-8 without NUL. */
char *random_string (void);
/* Any that is finite. */
double random_double (void);

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * How many instructions a piece of work takes in user mode: the measure for differences that a clock cannot see.
 */
#pragma once
#include <stdint.h>

#include "harness.h"

/* Per call, on this thread; NAN where the kernel or the machine does not count. */
double bench_instructions (const BenchSubject *subject, void *state, uint32_t n);

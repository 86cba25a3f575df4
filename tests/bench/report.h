/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Figures for people, as a table, and for programs, as JSON, one line each.
 */
#pragma once
#include <stdio.h>

#include "harness.h"

void bench_report_heading (FILE *file, int name_width);
void bench_report_row (FILE *file, int name_width, const BenchFigure *figure, const BenchResult *result);
void bench_report_json (FILE *file, const BenchFigure *figure, const BenchResult *result);

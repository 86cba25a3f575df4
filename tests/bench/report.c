/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "report.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

#define CELL_SIZE 160

/* ---- a table -------------------------------------------------------------------------------- */

enum
{
  COLUMN_VALUE = 11, COLUMN_LIMIT = 28, COLUMN_RATIO = 6, COLUMN_SPREAD = 12, COLUMN_TARGET = 14
};

static int
characters (const char *text)
{
  int n = 0;

  for (; *text; text++)
    n += ((unsigned char) *text & 0xc0) != 0x80;
  return n;
}

/* printf pads by bytes, and "µ" has two. */
static void
put (FILE *file, const char *text, int width, bool left)
{
  int gap = width - characters (text);

  gap = gap > 0 ? gap : 0;
  fprintf (file, "%*s%s%*s  ", left ? 0 : gap, "", text, left ? gap : 0, "");
}

/* Three digits are enough to read; more are in the JSON. */
static const char *
digits (double value, char *out, size_t size)
{
  snprintf (out, size, "%.*f", fabs (value) < 10 ? 2 : fabs (value) < 100 ? 1 : 0, value);
  return out;
}

static const char *
with_unit (double value, const char *unit, char *out, size_t size)
{
  static const char *const times[] = { "ns", "µs", "ms", "s" }, *const factors[] = { "", "k", "M", "G" };
  bool is_time = strcmp (unit, "ns") == 0, is_rate = strstr (unit, "/s") != NULL;
  int step = 0;
  char number[32];

  if (isnan (value))
    return "";
  for (; (is_time || is_rate) && step < 3 && fabs (value) >= 1000; step++)
    value /= 1000;
  if (value == floor (value) && fabs (value) < 1e15 && step == 0)
    snprintf (number, sizeof number, "%.0f", value);
  else
    digits (value, number, sizeof number);
  if (is_time)
    snprintf (out, size, "%s %s", number, times[step]);
  else if (is_rate)
    snprintf (out, size, "%s %s/s", number, factors[step]);
  else
    snprintf (out, size, "%s %s", number, unit);
  return out;
}

static const char *
target_text (const BenchFigure *figure, const BenchResult *result, char *out, size_t size)
{
  bool at_most = figure->target_kind == BENCH_RATIO_AT_MOST || figure->target_kind == BENCH_VALUE_AT_MOST;
  bool is_time = figure->target_kind == BENCH_VALUE_AT_MOST && strcmp (figure->unit, "ns") == 0;
  const char *verdict = "";
  char number[40];

  if (figure->target_kind == BENCH_NO_TARGET)
    return "";
  if (bench_has_target (figure, result))
    verdict = bench_target_met (figure, result) ? " met" : " MISSED";
  if (is_time)
    with_unit (figure->target, figure->unit, number, sizeof number);
  else
    snprintf (number, sizeof number, "%g", figure->target);
  snprintf (out, size, "%s %s%s", at_most ? "≤" : "≥", number, verdict);
  return out;
}

void
bench_report_heading (FILE *file, int name_width)
{
  put (file, "figure", name_width, true);
  put (file, "value", COLUMN_VALUE, false);
  put (file, "p50", COLUMN_VALUE, false);
  put (file, "p99", COLUMN_VALUE, false);
  put (file, "p99.9", COLUMN_VALUE, false);
  put (file, "limit", COLUMN_LIMIT, true);
  put (file, "ratio", COLUMN_RATIO, false);
  put (file, "spread", COLUMN_SPREAD, false);
  put (file, "target", COLUMN_TARGET, true);
  fputs ("remarks\n", file);
}

/* Adds to a list of remarks. */
__attribute__ ((format (printf, 3, 4))) static void
remark (char *text, size_t size, const char *format, ...)
{
  size_t used = strlen (text);
  va_list args;

  if (used > 0 && used + 3 < size)
    {
      strcpy (text + used, "; ");
      used += 2;
    }
  va_start (args, format);
  vsnprintf (text + used, size - used, format, args);
  va_end (args);
}

static void
collect_remarks (const BenchFigure *figure, const BenchResult *result, char *text, size_t size)
{
  char number[64];

  text[0] = '\0';
  if (result->unsteady && result->pairs)
    remark (text, size, "UNSTEADY: %u pairs, %u thrown away", result->n_kept, result->n_discarded);
  else if (result->unsteady)
    remark (text, size, "UNSTEADY: %u readings, far apart", result->n_kept);
  else if (result->n_kept > 0)
    remark (text, size, "%u %s", result->n_kept, result->pairs ? "pairs" : "readings");
  if (!result->unsteady && result->n_discarded > 0)
    remark (text, size, "%u thrown away", result->n_discarded);
  if (figure->batch > 1)
    remark (text, size, "sampled per %u", figure->batch);
  if (!isnan (result->beside_value))
    remark (text, size, "%s %s: %.2f", figure->beside->name, with_unit (result->beside_value, figure->unit, number, sizeof number),
            result->value / result->beside_value);
  if (!isnan (result->limit_instructions) && !isnan (result->instructions))
    remark (text, size, "%.1f instructions, limit %.1f", result->instructions, result->limit_instructions);
  else if (!isnan (result->instructions))
    remark (text, size, "%.1f instructions", result->instructions);
  if (result->note[0])
    remark (text, size, "%s", result->note);
}

static void
put_limit (FILE *file, const BenchFigure *figure, const BenchResult *result)
{
  char number[64], text[CELL_SIZE] = "";

  if (result->pairs && figure->limit)
    snprintf (text, sizeof text, "%s %s", figure->limit->name,
              with_unit (result->limit_value, figure->unit, number, sizeof number));
  put (file, text, COLUMN_LIMIT, true);
}

static void
put_ratio (FILE *file, const BenchResult *result)
{
  char ratio[32] = "", spread[CELL_SIZE] = "";

  if (result->pairs)
    snprintf (ratio, sizeof ratio, "%.2f", result->ratio);
  if (result->pairs && !isnan (result->lowest))
    snprintf (spread, sizeof spread, "%.2f–%.2f", result->lowest, result->highest);
  else if (!isnan (result->lowest))
    snprintf (spread, sizeof spread, "±%.0f %%", 50 * (result->highest - result->lowest) / result->value);
  put (file, ratio, COLUMN_RATIO, false);
  put (file, spread, COLUMN_SPREAD, false);
}

void
bench_report_row (FILE *file, int name_width, const BenchFigure *figure, const BenchResult *result)
{
  char text[CELL_SIZE * 3];

  put (file, figure->name, name_width, true);
  if (result->problem.is_set)
    {
      fprintf (file, "%s: %s\n", result->problem.is_skip ? "skipped" : "FAILED", result->problem.text);
      return;
    }
  put (file, with_unit (result->value, figure->unit, text, sizeof text), COLUMN_VALUE, false);
  put (file, with_unit (result->p50, figure->unit, text, sizeof text), COLUMN_VALUE, false);
  put (file, with_unit (result->p99, figure->unit, text, sizeof text), COLUMN_VALUE, false);
  put (file, with_unit (result->p999, figure->unit, text, sizeof text), COLUMN_VALUE, false);
  put_limit (file, figure, result);
  put_ratio (file, result);
  put (file, target_text (figure, result, text, sizeof text), COLUMN_TARGET, true);
  collect_remarks (figure, result, text, sizeof text);
  fprintf (file, "%s\n", text);
  fflush (file);
}

/* ---- lines of JSON -------------------------------------------------------------------------- */

static void
json_string (FILE *file, const char *key, const char *text)
{
  fprintf (file, "\"%s\":\"", key);
  for (; *text; text++)
    if (*text == '"' || *text == '\\')
      fprintf (file, "\\%c", *text);
    else if ((unsigned char) *text < 0x20)
      fprintf (file, "\\u%04x", (unsigned) *text);
    else
      fputc (*text, file);
  fputc ('"', file);
}

static void
json_number (FILE *file, const char *key, double value)
{
  if (isfinite (value))
    fprintf (file, ",\"%s\":%.9g", key, value);
  else
    fprintf (file, ",\"%s\":null", key);
}

static void
json_details (FILE *file, const BenchFigure *figure, const BenchResult *result)
{
  static const char *const kinds[] = { "", "ratio_at_most", "ratio_at_least", "value_at_most", "value_at_least" };

  json_number (file, result->pairs ? "ratio_lowest" : "value_lowest", result->lowest);
  json_number (file, result->pairs ? "ratio_highest" : "value_highest", result->highest);
  fprintf (file, ",\"kept\":%u,\"discarded\":%u,\"steady\":%s,\"batch\":%u", result->n_kept, result->n_discarded,
           result->unsteady ? "false" : "true", figure->batch > 0 ? figure->batch : 1);
  if (figure->target_kind != BENCH_NO_TARGET)
    json_number (file, kinds[figure->target_kind], figure->target);
  if (bench_has_target (figure, result))
    fprintf (file, ",\"met\":%s", bench_target_met (figure, result) ? "true" : "false");
  if (!isnan (result->beside_value))
    {
      fputc (',', file);
      json_string (file, "beside", figure->beside->name);
      json_number (file, "beside_value", result->beside_value);
    }
  if (!isnan (result->instructions))
    json_number (file, "instructions", result->instructions);
  if (!isnan (result->limit_instructions))
    json_number (file, "limit_instructions", result->limit_instructions);
}

void
bench_report_json (FILE *file, const BenchFigure *figure, const BenchResult *result)
{
  fputc ('{', file);
  json_string (file, "name", figure->name);
  fputc (',', file);
  json_string (file, "unit", figure->unit);
  json_number (file, "value", result->value);
  json_number (file, "p50", result->p50);
  json_number (file, "p99", result->p99);
  json_number (file, "p999", result->p999);
  fputc (',', file);
  if (figure->limit)
    json_string (file, "limit", figure->limit->name);
  else
    fputs ("\"limit\":null", file);
  json_number (file, "limit_value", result->limit_value);
  json_number (file, "ratio", result->ratio);
  json_details (file, figure, result);
  if (result->note[0])
    {
      fputc (',', file);
      json_string (file, "note", result->note);
    }
  if (result->problem.is_set)
    {
      fputc (',', file);
      json_string (file, result->problem.is_skip ? "skipped" : "failed", result->problem.text);
    }
  fputs ("}\n", file);
  fflush (file);
}

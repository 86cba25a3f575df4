/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * cellhost-bench [--json] [--quick] [--list] [PREFIX…]: measures every figure whose name begins with one of the prefixes.
 */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "figures.h"
#include "harness.h"
#include "report.h"

/* Each ends with a figure that has no name. */
static const BenchFigure *const tables[] = {
  bench_limit_figures, bench_call_figures, bench_load_figures, bench_memory_figures, bench_relocate_figures, bench_hostile_figures,
  bench_recover_figures,
#ifdef BENCH_EXCHANGE
  bench_exchange_figures, bench_host_figures,
#endif
};

enum
{
  N_TABLES = sizeof tables / sizeof *tables
};

typedef struct
{
  bool json, list;
  BenchSettings settings;
  int n_prefixes;
  char **prefixes;
} Options;

static bool
wanted (const Options *options, const BenchFigure *figure)
{
  for (int i = 0; i < options->n_prefixes; i++)
    if (strncmp (figure->name, options->prefixes[i], strlen (options->prefixes[i])) == 0)
      return true;
  return options->n_prefixes == 0;
}

/* A prefix that nothing begins with is a mistake. */
static bool
check_prefixes (const Options *options)
{
  for (int i = 0; i < options->n_prefixes; i++)
    {
      Options one = { .n_prefixes = 1, .prefixes = options->prefixes + i };
      bool found = false;

      for (int t = 0; t < N_TABLES; t++)
        for (const BenchFigure *figure = tables[t]; figure->name; figure++)
          found |= wanted (&one, figure);
      if (!found)
        {
          fprintf (stderr, "cellhost-bench: no figure's name begins with \"%s\"; --list shows them\n", options->prefixes[i]);
          return false;
        }
    }
  return true;
}

static int
name_width (const Options *options)
{
  int width = 6;

  for (int t = 0; t < N_TABLES; t++)
    for (const BenchFigure *figure = tables[t]; figure->name; figure++)
      if (wanted (options, figure) && (int) strlen (figure->name) > width)
        width = (int) strlen (figure->name);
  return width;
}

static int
measure_all (const Options *options)
{
  static BenchResult result;
  int width = name_width (options), failures = 0;

  if (!options->json)
    bench_report_heading (stdout, width);
  for (int t = 0; t < N_TABLES; t++)
    for (const BenchFigure *figure = tables[t]; figure->name; figure++)
      {
        if (!wanted (options, figure))
          continue;
        bench_measure (figure, &options->settings, &result);
        failures += result.problem.is_set && !result.problem.is_skip;
        if (options->json)
          bench_report_json (stdout, figure, &result);
        else
          bench_report_row (stdout, width, figure, &result);
      }
  return failures > 0 ? 1 : 0;
}

static void
list_all (const Options *options)
{
  for (int t = 0; t < N_TABLES; t++)
    for (const BenchFigure *figure = tables[t]; figure->name; figure++)
      if (wanted (options, figure))
        puts (figure->name);
}

static bool
parse (int argc, char **argv, Options *options)
{
  static const struct option known[] = {
    { "json", no_argument, NULL, 'j' }, { "quick", no_argument, NULL, 'q' }, { "list", no_argument, NULL, 'l' },
    { "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 }
  };
  int c;

  while ((c = getopt_long (argc, argv, "", known, NULL)) != -1)
    switch (c)
      {
      case 'j':
        options->json = true;
        break;
      case 'q':
        options->settings = (BenchSettings) { .quick = true, .reading_ns = 1000000, .n_pairs = 1, .max_attempts = 3 };
        break;
      case 'l':
        options->list = true;
        break;
      default:
        fputs ("Usage: cellhost-bench [--json] [--quick] [--list] [PREFIX…]\n", c == 'h' ? stdout : stderr);
        return false;
      }
  options->n_prefixes = argc - optind;
  options->prefixes = argv + optind;
  return true;
}

int
main (int argc, char **argv)
{
  Options options = { .settings = { .reading_ns = 60000000, .n_pairs = 7, .max_attempts = 40 } };

  if (!parse (argc, argv, &options))
    return argc == 2 && strcmp (argv[1], "--help") == 0 ? 0 : 2;
  if (!check_prefixes (&options))
    return 2;
  if (options.list)
    {
      list_all (&options);
      return 0;
    }
  bench_clock_init ();
  return measure_all (&options);
}

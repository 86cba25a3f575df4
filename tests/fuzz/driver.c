/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Runs a fuzzer without libFuzzer: the files that are named, those in folders that are named, and then -runs=N mutations of them,
 * the same ones for the same -seed=S.  The options are libFuzzer's.  An input that ends the program is printed in hexadecimal:
 * `xxd -r -p` makes a file of it again.
 */
#include <glib.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LENGTH_MAX 4096
#define SECONDS_MAX 60                  /* for one input */

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

/* The input that is being tried. */
static const uint8_t *current;
static gsize current_size;

/* Nothing but system calls: whatever it was may have torn the heap. */
static void
on_signal (int number)
{
  static const char digits[] = "0123456789abcdef";
  char line[65];
  unsigned n = 0;

  for (gsize i = 0; i < current_size; i++)
    {
      line[n++] = digits[current[i] >> 4];
      line[n++] = digits[current[i] & 15];
      if (n == 64 || i + 1 == current_size)
        {
          line[n++] = '\n';
          if (write (STDERR_FILENO, line, n) < 0)
            break;
          n = 0;
        }
    }
  raise (number);               /* once more, with what happens by default */
}

/* A sanitizer has its own way with some of them, and aborts in the end. */
static void
catch_signals (void)
{
  static const int numbers[] = { SIGABRT, SIGALRM, SIGBUS, SIGFPE, SIGILL, SIGSEGV };

  for (unsigned i = 0; i < G_N_ELEMENTS (numbers); i++)
    {
      struct sigaction action = { .sa_handler = on_signal, .sa_flags = (int) SA_RESETHAND }, before;

      sigaction (numbers[i], NULL, &before);
      if ((before.sa_flags & SA_SIGINFO) == 0 && before.sa_handler == SIG_DFL)
        sigaction (numbers[i], &action, NULL);
    }
}

static void
run (const uint8_t *data, gsize size)
{
  uint8_t *exact = malloc (size);       /* so that a sanitizer sees the end; not NULL, even of no bytes */

  g_assert_nonnull (exact);
  memcpy (exact, data, size);
  current = data;
  current_size = size;
  alarm (SECONDS_MAX);
  LLVMFuzzerTestOneInput (exact, size);
  alarm (0);
  current_size = 0;
  free (exact);
}

static void
add_file (GPtrArray *inputs, const char *path)
{
  g_autoptr (GError) error = NULL;
  char *data;
  gsize size;

  if (!g_file_get_contents (path, &data, &size, &error))
    g_error ("%s", error->message);
  g_ptr_array_add (inputs, g_bytes_new_take (data, size));
}

static int
by_name (gconstpointer a, gconstpointer b)
{
  return strcmp (*(char *const *) a, *(char *const *) b);
}

static void
add_path (GPtrArray *inputs, const char *path)
{
  g_autoptr (GDir) folder = g_dir_open (path, 0, NULL);
  g_autoptr (GPtrArray) names = g_ptr_array_new_with_free_func (g_free);

  if (folder == NULL)
    {
      add_file (inputs, path);
      return;
    }
  for (const char *name; (name = g_dir_read_name (folder)) != NULL;)
    g_ptr_array_add (names, g_build_filename (path, name, NULL));
  g_ptr_array_sort (names, by_name);
  for (guint i = 0; i < names->len; i++)
    add_file (inputs, names->pdata[i]);
}

/* Some bytes of another input at some place, or what parsers trip over. */
static void
mutate (GRand *rand, GByteArray *input, GBytes *other)
{
  static const uint32_t words[] = { 0, 1, 4, 8, 16, 0x7f, 0xff, 0x7fffffff, 0x80000000, 0xfffffff8, 0xffffffff };
  gsize n_other;
  const uint8_t *from = g_bytes_get_data (other, &n_other);
  guint at = input->len > 0 ? (guint) g_rand_int_range (rand, 0, (gint32) input->len) : 0, n;

  switch (input->len == 0 ? 2 : g_rand_int_range (rand, 0, 7))
    {
    case 0:
      input->data[at] ^= (uint8_t) (1u << g_rand_int_range (rand, 0, 8));
      break;
    case 1:
      input->data[at] = (uint8_t) g_rand_int (rand);
      break;
    case 2:
      n = (guint) MIN (n_other, 64);
      n = n > 0 ? (guint) g_rand_int_range (rand, 0, (gint32) n) : 0;
      g_byte_array_append (input, from + (n_other > n ? (gsize) g_rand_int_range (rand, 0, (gint32) (n_other - n)) : 0), n);
      break;
    case 3:
      g_byte_array_set_size (input, at);
      break;
    case 4:
      n = (guint) g_rand_int_range (rand, 1, 9);
      g_byte_array_remove_range (input, at, MIN (input->len - at, n));
      break;
    case 5:
      if (input->len >= 4)
        {
          uint32_t word = g_rand_boolean (rand) ? words[g_rand_int_range (rand, 0, G_N_ELEMENTS (words))]
                                                : (uint32_t) g_rand_int_range (rand, 0, (gint32) input->len + 8) & ~7u;

          memcpy (input->data + ((at & ~3u) <= input->len - 4 ? at & ~3u : 0), &word, 4);
        }
      break;
    default:
      n = (guint) MIN (n_other, input->len - at);
      n = n > 0 ? (guint) g_rand_int_range (rand, 0, (gint32) n) : 0;
      memcpy (input->data + at, from, n);
    }
  if (input->len > LENGTH_MAX)
    g_byte_array_set_size (input, LENGTH_MAX);
}

static void
run_mutations (GRand *rand, GPtrArray *inputs, guint64 runs)
{
  g_autoptr (GByteArray) input = g_byte_array_new ();

  for (guint64 i = 0; i < runs; i++)
    {
      gsize size;
      const uint8_t *data = g_bytes_get_data (inputs->pdata[g_rand_int_range (rand, 0, (gint32) inputs->len)], &size);

      g_byte_array_set_size (input, 0);
      g_byte_array_append (input, data, (guint) MIN (size, LENGTH_MAX));
      for (int n = g_rand_int_range (rand, 1, 6); n > 0; n--)
        mutate (rand, input, inputs->pdata[g_rand_int_range (rand, 0, (gint32) inputs->len)]);
      run (input->data, input->len);
    }
}

int
main (int argc, char **argv)
{
  g_autoptr (GPtrArray) inputs = g_ptr_array_new_with_free_func ((GDestroyNotify) g_bytes_unref);
  g_autoptr (GRand) rand = NULL;
  guint64 runs = 0;
  guint32 seed = 1;

  catch_signals ();
  for (int i = 1; i < argc; i++)
    if (g_str_has_prefix (argv[i], "-runs="))
      runs = g_ascii_strtoull (argv[i] + strlen ("-runs="), NULL, 10);
    else if (g_str_has_prefix (argv[i], "-seed="))
      seed = (guint32) g_ascii_strtoull (argv[i] + strlen ("-seed="), NULL, 10);
    else
      add_path (inputs, argv[i]);
  for (guint i = 0; i < inputs->len; i++)
    {
      gsize size;
      const uint8_t *data = g_bytes_get_data (inputs->pdata[i], &size);

      run (data, size);
    }
  g_ptr_array_add (inputs, g_bytes_new_static ("", 0));
  rand = g_rand_new_with_seed (seed);
  run_mutations (rand, inputs, runs);
  g_print ("%u inputs, %" G_GUINT64_FORMAT " mutations, seed %u\n", inputs->len - 1, runs, seed);
  return 0;
}

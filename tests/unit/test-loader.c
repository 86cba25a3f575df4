/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What is loaded, and what is refused with which sentence.
 */
#define _GNU_SOURCE
#include <glib.h>
#include <glib/gstdio.h>

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "plugins/client-header.h"
#include "plugins/elf-look.h"
#include "plugins/loader.h"

static char *
fixture_path (const char *name)
{
  g_autofree char *file = g_strconcat (name, ".so", NULL);

  return g_test_build_filename (G_TEST_BUILT, "fixtures", file, NULL);
}

/* A folder for a test's own files. */
typedef char Scratch;

static Scratch *
scratch_new (void)
{
  g_autoptr (GError) error = NULL;
  char *dir = g_dir_make_tmp ("test-loader-XXXXXX", &error);

  g_assert_no_error (error);
  return dir;
}

static void
scratch_free (Scratch *dir)
{
  g_autoptr (GDir) files = g_dir_open (dir, 0, NULL);
  const char *name;

  while ((name = g_dir_read_name (files)) != NULL)
    {
      g_autofree char *path = g_build_filename (dir, name, NULL);

      g_remove (path);
    }
  g_assert_cmpint (g_rmdir (dir), ==, 0);
  g_free (dir);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Scratch, scratch_free)

static void
assert_refused_with (CellModule *module, GError *error, const char *what, const char *sentence)
{
  if (module == NULL && error != NULL && strstr (error->message, sentence) != NULL)
    {
      g_test_message ("%s", error->message);
      return;
    }
  g_error ("%s: expected '%s', got %s", what, sentence, module != NULL ? "a module" : error->message);
}

/* ---- broken entries ------------------------------------------------------------------------------- */

typedef struct
{
  const char *fixture, *sentence;
} Refusal;

static const Refusal refusals[] = {
  { "broken-magic", "cell_entry.magic: this host has 0x4c4c4543, the plugin has 0x12345678" },
  { "broken-major", "cell_entry.abi_major: this host has 0, the plugin has 1" },
  { "broken-minor", "cell_entry.abi_minor: this host has 9, the plugin has 10" },
  { "broken-size", "the plugin has 24" },
  { "broken-build-thread", "ThreadSanitizer, the plugin with" },
  { "broken-build-address", "AddressSanitizer, the plugin with" },
  { "broken-build-pointers", "this host was built with 64-bit pointers, the plugin without" },
  { "broken-build-unknown", "cell_entry.build: this host knows 0xf, the plugin has 0x10000" },
  { "broken-no-entry", "it does not export cell_entry" },
  { "broken-extra-symbol", "it exports helper, and a cell exports cell_entry alone" },
  { "broken-weak-symbol", "it exports helper, and a cell exports cell_entry alone" },
  { "broken-tail", "cell_entry.size: this host has " },
  { "broken-type-size", "the plugin has 16" },
  { "broken-field-size", "cell_entry.field_size: this host has 48, the plugin has 8" },
  { "broken-options-size", "the plugin has 4" },
  { "broken-options-newer", "cell_entry.options_size: this host has " },
  { "broken-no-options", "cell_entry.options_size" },
  { "broken-no-host", "cell_entry.host: there is no place" },
  { "broken-self-size", "cell_entry.self_size: this host has 1073741824, the plugin has 2147483647" },
  { "broken-threading", "options.threading: this host knows 0 to 2, the plugin has 7" },
  { "broken-interface", "interface's name" },
  { "broken-no-interface", "interface's name" },
  { "broken-save-only", "it saves a state, and has no restore to read it" },
  { "broken-restore-only", "it restores a state, and has no save to write it" },
  { "broken-method-name", "the method cannot be called 'to work'" },
  { "broken-no-name", "the method cannot be called ''" },
  { "broken-method-keyword", "the method cannot be called 'int': C reserves the name" },
  { "broken-field-name", "the field cannot be called '1st'" },
  { "broken-field-keyword", "method work has a field called 'class': C or C++ reserves the name" },
  { "broken-many-outputs", "method work has more than 31 of a kind; put them into a struct" },
  { "broken-struct-name", "the type cannot be called 'a-b'" },
  { "broken-member-name", "the field cannot be called 'a;b'" },
  { "broken-doc", "the documentation of method work is not UTF-8" },
  { "broken-twice", "there are two of method work" },
  { "broken-kind", "an item of kind 77" },
  { "broken-no-handler", "method work has no handler" },
  { "broken-outside", "calls lies at byte 4096" },
  { "broken-items-end", "cell_entry.items: this host takes 0 to 1024, the plugin has -1" },
  { "broken-too-many", "cell_entry.items: this host takes 0 to 1024, the plugin has 100000" },
  { "broken-unresolved", "nobody_has_this" },
};

static void
test_refused (gconstpointer data)
{
  const Refusal *refusal = data;
  g_autofree char *path = fixture_path (refusal->fixture);
  g_autoptr (GError) error = NULL;
  CellModule *module = cell_module_load (path, &error);

  assert_refused_with (module, error, refusal->fixture, refusal->sentence);
  g_assert_error (error, CELL_ERROR_DOMAIN, -CELL_ERROR_REFUSED);
  g_assert_true (g_str_has_prefix (error->message, path));
}

/* ---- files ---------------------------------------------------------------------------------------- */

static char *
write_file (const char *dir, const char *name, const void *bytes, gsize size, mode_t mode)
{
  g_autoptr (GError) error = NULL;
  char *path = g_build_filename (dir, name, NULL);

  g_file_set_contents (path, bytes, (gssize) size, &error);
  g_assert_no_error (error);
  g_assert_cmpint (g_chmod (path, mode), ==, 0);
  return path;
}

/* A module's bytes, to be changed. */
static GByteArray *
bytes_of (const char *fixture)
{
  g_autofree char *path = fixture_path (fixture);
  g_autoptr (GError) error = NULL;
  char *bytes;
  gsize size;

  g_file_get_contents (path, &bytes, &size, &error);
  g_assert_no_error (error);
  return g_byte_array_new_take ((guint8 *) bytes, size);
}

static void
assert_path_refused (const char *path, const char *sentence)
{
  g_autoptr (GError) error = NULL;
  CellModule *module = cell_module_load (path, &error);

  assert_refused_with (module, error, path, sentence);
}

static void
assert_bytes_refused (const GByteArray *bytes, const char *sentence)
{
  g_autoptr (Scratch) dir = scratch_new ();
  g_autofree char *path = write_file (dir, "changed.so", bytes->data, bytes->len, 0700);

  assert_path_refused (path, sentence);
}

static void
test_who_can_write (void)
{
  g_autoptr (GByteArray) bytes = bytes_of ("whole");
  g_autoptr (Scratch) dir = scratch_new ();
  g_autofree char *group = write_file (dir, "group.so", bytes->data, bytes->len, 0770);
  g_autofree char *world = write_file (dir, "world.so", bytes->data, bytes->len, 0702);
  g_autofree char *others = write_file (dir, "others.so", bytes->data, bytes->len, 0755);

  assert_path_refused (group, "its mode 0770 lets others write to it");
  assert_path_refused (world, "its mode 0702 lets others write to it");
  if (geteuid () == 0)
    {
      g_assert_cmpint (chown (others, 12345, (gid_t) -1), ==, 0);
      assert_path_refused (others, "it is owned by user 12345");
    }
}

/* Who can write to its folder can put another module there. */
static void
test_folder (void)
{
  g_autoptr (GByteArray) bytes = bytes_of ("whole");
  g_autoptr (Scratch) dir = scratch_new ();
  g_autofree char *path = write_file (dir, "cell.so", bytes->data, bytes->len, 0755), *sentence = NULL;
  g_autoptr (GError) error = NULL;
  g_autoptr (CellModule) module = NULL;

  sentence = g_strdup_printf ("the folder %s has mode 0775: others could put another file in its place", dir);
  g_assert_cmpint (g_chmod (dir, 0775), ==, 0);
  assert_path_refused (path, sentence);
  g_assert_cmpint (g_chmod (dir, 01777), ==, 0);
  module = cell_module_load (path, &error);
  g_assert_no_error (error);
  g_assert_nonnull (module);
}

static void
test_no_file (void)
{
  g_autoptr (Scratch) dir = scratch_new ();
  g_autofree char *missing = g_build_filename (dir, "missing.so", NULL), *fifo = g_build_filename (dir, "fifo.so", NULL);
  g_autofree char *empty = write_file (dir, "empty.so", "", 0, 0600), *text = write_file (dir, "text.so", "#!/bin/sh\n", 10, 0700);
  g_autoptr (GError) error = NULL;

  g_assert_null (cell_module_load (missing, &error));
  g_assert_error (error, CELL_ERROR_DOMAIN, -CELL_ERROR_NOT_FOUND);
  g_assert_cmpint (mkfifo (fifo, 0600), ==, 0);
  assert_path_refused (fifo, "it is not a regular file");
  assert_path_refused (dir, "it is not a regular file");
  assert_path_refused (empty, "it is not an ELF file");
  assert_path_refused (text, "it is not an ELF file");
}

static void
test_other_machines (void)
{
  g_autoptr (GByteArray) bytes = bytes_of ("whole");
  Elf64_Ehdr *header = (Elf64_Ehdr *) bytes->data;
  Elf64_Ehdr kept = *header;

  header->e_ident[EI_CLASS] = ELFCLASS32;
  assert_bytes_refused (bytes, "it is not 64-bit code");
  *header = kept;
  header->e_ident[EI_DATA] ^= ELFDATA2LSB ^ ELFDATA2MSB;
  assert_bytes_refused (bytes, "byte order");
  *header = kept;
  header->e_machine = EM_68K;
  assert_bytes_refused (bytes, "the plugin was built for 4 (unknown)");
  header->e_machine = kept.e_machine == EM_AARCH64 ? EM_X86_64 : EM_AARCH64;
  assert_bytes_refused (bytes, kept.e_machine == EM_AARCH64 ? "the plugin was built for 62 (x86-64)"
                                                            : "the plugin was built for 183 (AArch64)");
  *header = kept;
  header->e_type = ET_EXEC;
  assert_bytes_refused (bytes, "it is not a shared library");
  *header = kept;
  header->e_shoff = UINT64_MAX - 8;
  assert_bytes_refused (bytes, "it ends within its table of sections");
  *header = kept;
  header->e_shnum = 0;
  assert_bytes_refused (bytes, "it has no table of dynamic symbols");
  *header = kept;
  header->e_phoff = UINT64_MAX - 8;
  assert_bytes_refused (bytes, "it ends within its table of segments");
  *header = kept;
  header->e_phnum = 1;                  /* read-only constants of a library are not in its first segment */
  assert_bytes_refused (bytes, "not in the file");
}

/* What is missing must not be found out by touching it. */
static void
test_cut (void)
{
  g_autoptr (GByteArray) bytes = bytes_of ("whole");
  const guint sizes[] = { 1, 4, 16, 63, 64, 100, 1000, 4096, bytes->len / 2 };

  for (gsize i = 0; i < G_N_ELEMENTS (sizes); i++)
    {
      g_autoptr (GByteArray) cut = g_byte_array_new ();

      g_byte_array_append (cut, bytes->data, sizes[i]);
      assert_bytes_refused (cut, sizes[i] < 4 ? "it is not an ELF file" : "it ends within");
    }
}

/* Any header at all is looked at without reading outside of the file. */
static void
test_noise (void)
{
  g_autoptr (GByteArray) bytes = bytes_of ("whole");
  guint found = 0;

  for (guint i = 0; i < 20000; i++)
    {
      /* Of its own size, so that a sanitizer sees the first byte that is too many. */
      g_autofree guint8 *noise = g_memdup2 (bytes->data, bytes->len);

      for (guint changes = (guint) g_test_rand_int_range (1, 5); changes > 0; changes--)
        {
          guint at = (guint) g_test_rand_int_range (0, g_test_rand_bit () ? 512 : (gint32) bytes->len);

          noise[at] = (guint8) (g_test_rand_bit () ? g_test_rand_int_range (0, 256) : 0xff);
        }
      found += elf_look_at (noise, bytes->len, CELL_ENTRY_SYMBOL, 16, NULL) != NULL;
    }
  g_assert_cmpuint (found, >, 0);
  g_assert_cmpuint (found, <, 20000);
}

/* Writes one name over another of the same length, wherever it stands as a whole word. */
static void
rename_in (GByteArray *bytes, const char *from, const char *to)
{
  gsize n = strlen (from) + 1;
  guint found = 0;

  g_assert_cmpuint (strlen (to) + 1, ==, n);
  for (guint8 *at = bytes->data; (at = memmem (at, (gsize) (bytes->data + bytes->len - at), from, n)) != NULL; at++, found++)
    memcpy (at, to, n);
  g_assert_cmpuint (found, >, 0);
}

static void
test_missing_library (void)
{
  g_autoptr (GByteArray) bytes = bytes_of ("mirror");

  rename_in (bytes, "libc.so.6", "nobody.so");
  assert_bytes_refused (bytes, "it needs the library nobody.so, which is not on this machine");
}

/* Of a compiler that hides nothing. */
static void
test_no_visibility (void)
{
  g_autofree char *tcc = g_find_program_in_path ("tcc"),
                  *source = g_test_build_filename (G_TEST_DIST, "fixtures", "mirror.c", NULL);
  g_autofree char *include = g_test_build_filename (G_TEST_DIST, "..", "include", NULL);
  g_autoptr (Scratch) dir = scratch_new ();
  g_autofree char *path = g_build_filename (dir, "mirror.so", NULL);
  const char *argv[] = { tcc, "-shared", "-I", include, "-o", path, source, NULL };
  g_autoptr (GError) error = NULL;
  int status = -1;

  if (tcc == NULL)
    {
      g_test_skip ("there is no tcc");
      return;
    }
  g_assert_true (g_spawn_sync (NULL, (char **) argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, NULL, NULL, &status, &error));
  g_assert_cmpint (status, ==, 0);
#if defined (__SANITIZE_ADDRESS__) || defined (__SANITIZE_THREAD__)
  assert_path_refused (path, "Sanitizer, the plugin without");
#else
  {
    g_autoptr (CellModule) module = cell_module_load (path, &error);

    g_assert_no_error (error);
    g_assert_nonnull (module);
  }
#endif
}

/* ---- what is loaded -------------------------------------------------------------------------------- */

static void
test_loaded (void)
{
  g_autofree char *path = fixture_path ("whole"), *contents = NULL, *sum = NULL;
  g_autoptr (GError) error = NULL;
  guint before = cell_modules_count (NULL);
  g_autoptr (CellModule) module = cell_module_load (path, &error);
  gsize size;

  g_assert_no_error (error);
  g_assert_cmpstr (module->path, ==, path);
  g_assert_cmpstr (module->contract->interface, ==, "org.cellhost.test.Broken");
  g_assert_cmpuint (module->options->threading, ==, CELL_SERIAL);
  g_assert_nonnull (contract_find (module->contract, "work"));
  g_assert_null (module->in[0]);
  g_assert_cmpuint (module->out[0]->size, ==, 8);
  g_assert_true (g_file_get_contents (path, &contents, &size, NULL));
  sum = g_compute_checksum_for_data (G_CHECKSUM_SHA256, (const guchar *) contents, size);
  g_assert_cmpstr (module->sha256, ==, sum);
  g_assert_cmpuint (cell_modules_count (NULL), ==, before + 1);
}

/* What an author wrote for people never becomes code of those who include the header of his cell. */
static void
test_comment (void)
{
  g_autofree char *path = fixture_path ("comment"), *header = NULL;
  g_autoptr (GError) error = NULL;
  g_autoptr (CellModule) module = cell_module_load (path, &error);

  g_assert_no_error (error);
  g_assert_cmpstr (module->contract->callables[0].item->doc, ==, "*/ int broken_a; /*");
  header = client_header_new (module->contract, &error);
  g_assert_no_error (error);
  g_assert_nonnull (strstr (header, "/* * / int broken_a; / * */\n"));
  g_assert_nonnull (strstr (header, "field (u64, calls, \"*/\\\"); int broken_b; /*\")"));
}

/* What this host does not know, and what says nothing, may be there. */
static void
test_newer (void)
{
  g_autofree char *path = fixture_path ("newer");
  g_autoptr (GError) error = NULL;
  g_autoptr (CellModule) module = cell_module_load (path, &error);

  g_assert_no_error (error);
  g_assert_cmpuint (module->entry->size, >, sizeof (CellEntry));
  g_assert_cmpuint (module->entry->options_size, >, sizeof (CellOptions));
}

/* The same file twice, and another one at the same path: three libraries with state of their own. */
static void
test_copies (void)
{
  g_autoptr (GByteArray) bytes = bytes_of ("whole");
  g_autoptr (Scratch) dir = scratch_new ();
  g_autofree char *path = write_file (dir, "cell.so", bytes->data, bytes->len, 0700), *other = NULL, *from = fixture_path ("newer");
  g_autoptr (GError) error = NULL;
  g_autoptr (CellModule) first = cell_module_load (path, &error), again = cell_module_load (path, &error), third = NULL;
  gsize size;

  g_assert_no_error (error);
  g_assert_true (first->entry != again->entry);
  g_assert_cmpstr (first->sha256, ==, again->sha256);
  g_assert_true (g_file_get_contents (from, &other, &size, NULL));
  g_free (g_steal_pointer (&path));
  path = write_file (dir, "cell.so", other, size, 0700);
  third = cell_module_load (path, &error);
  g_assert_no_error (error);
  g_assert_true (third->entry != first->entry && third->entry != again->entry);
  g_assert_cmpstr (third->sha256, !=, first->sha256);
}

static void
test_retired (void)
{
  g_autofree char *path = fixture_path ("whole");
  g_autoptr (GError) error = NULL;
  guint loaded, retired, retired_before;
  CellModule *module;

  cell_modules_count (&retired_before);
  module = cell_module_load (path, &error);
  g_assert_no_error (error);
  cell_module_unref (cell_module_ref (module));
  loaded = cell_modules_count (&retired);
  g_assert_cmpuint (retired, ==, retired_before);
  cell_module_unref (module);
  g_assert_cmpuint (cell_modules_count (&retired), ==, loaded);
  g_assert_cmpuint (retired, ==, retired_before + 1);
}

static void
test_descriptor (void)
{
  g_autofree char *path = fixture_path ("whole");
  g_autoptr (GError) error = NULL;
  int fd = open (path, O_RDONLY | O_CLOEXEC);
  g_autoptr (CellModule) module = cell_module_load_fd (fd, "whole", &error);

  g_assert_no_error (error);
  g_assert_cmpstr (module->path, ==, "whole");
  g_assert_cmpint (close (fd), ==, 0);
  g_assert_null (cell_module_load_fd (fd, "closed", &error));
  g_assert_error (error, CELL_ERROR_DOMAIN, -CELL_ERROR_REFUSED);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  for (gsize i = 0; i < G_N_ELEMENTS (refusals); i++)
    {
      g_autofree char *name = g_strconcat ("/loader/refused/", refusals[i].fixture + strlen ("broken-"), NULL);

      g_test_add_data_func (name, &refusals[i], test_refused);
    }
  g_test_add_func ("/loader/who-can-write", test_who_can_write);
  g_test_add_func ("/loader/folder", test_folder);
  g_test_add_func ("/loader/no-file", test_no_file);
  g_test_add_func ("/loader/other-machines", test_other_machines);
  g_test_add_func ("/loader/missing-library", test_missing_library);
  g_test_add_func ("/loader/no-visibility", test_no_visibility);
  g_test_add_func ("/loader/cut", test_cut);
  g_test_add_func ("/loader/noise", test_noise);
  g_test_add_func ("/loader/loaded", test_loaded);
  g_test_add_func ("/loader/comment", test_comment);
  g_test_add_func ("/loader/newer", test_newer);
  g_test_add_func ("/loader/copies", test_copies);
  g_test_add_func ("/loader/retired", test_retired);
  g_test_add_func ("/loader/descriptor", test_descriptor);
  return g_test_run ();
}

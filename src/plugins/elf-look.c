/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "elf-look.h"

#include <gelf.h>
#include <string.h>

/* The SDK declares it hidden.  Where it can be seen, the compiler (tcc) hides nothing, and what a file exports says nothing. */
#define HIDDEN_SYMBOL "cell_host"
#define SHOWN_MAX 80            /* characters of a foreign name */

/* Of this very program: what it was built for is what it can load. */
extern const Elf64_Ehdr __ehdr_start __attribute__ ((visibility ("hidden")));

typedef struct
{
  const uint8_t *bytes;
  gsize size;
  Elf *elf;
  size_t n_segments;
} File;

/* What the table of dynamic symbols says. */
typedef struct
{
  GElf_Sym wanted;
  gboolean has_wanted, hides_nothing;
  gboolean mangled;             /* some of C++'s are among them */
  char *other;                  /* another symbol that is exported; for people */
} Exports;

static gboolean
refuse (GError **error, const char *sentence)
{
  return cell_set_error (error, CELL_ERROR_REFUSED, "%s", sentence);
}

static gboolean
is_within (const File *file, uint64_t offset, uint64_t size)
{
  return offset <= file->size && size <= file->size - offset;
}

/* ---- what it is ------------------------------------------------------------------------------------- */

static const char *
machine_name (guint machine)
{
  static const struct
  {
    guint machine;
    const char *name;
  } names[] = {
    { EM_386, "80386" },     { EM_ARM, "Arm" },         { EM_PPC64, "PowerPC" }, { EM_S390, "S/390" },
    { EM_X86_64, "x86-64" }, { EM_AARCH64, "AArch64" }, { EM_RISCV, "RISC-V" },  { EM_LOONGARCH, "LoongArch" },
  };

  for (size_t i = 0; i < G_N_ELEMENTS (names); i++)
    if (names[i].machine == machine)
      return names[i].name;
  return "unknown";
}

static gboolean
check_machine (const char *ident, guint machine, GError **error)
{
  const Elf64_Ehdr *own = &__ehdr_start;

  if (ident[EI_CLASS] != own->e_ident[EI_CLASS])
    return refuse (error, "it is not 64-bit code");
  if (ident[EI_DATA] != own->e_ident[EI_DATA])
    return refuse (error, "it is for a machine of the other byte order");
  return machine == own->e_machine
         || cell_set_error (error, CELL_ERROR_REFUSED, "e_machine: this host is %u (%s), the plugin was built for %u (%s)",
                            own->e_machine, machine_name (own->e_machine), machine, machine_name (machine));
}

/* libelf shows of a table what is there; whoever maps the file needs all of it. */
static gboolean
check_header (File *file, GError **error)
{
  GElf_Ehdr header;

  if (elf_kind (file->elf) != ELF_K_ELF || gelf_getehdr (file->elf, &header) == NULL)
    return refuse (error, "its ELF header makes no sense");
  if (!check_machine ((const char *) header.e_ident, header.e_machine, error))
    return FALSE;
  if (header.e_type != ET_DYN)
    return refuse (error, "it is not a shared library");
  if (header.e_shentsize != sizeof (Elf64_Shdr) || header.e_phentsize != sizeof (Elf64_Phdr))
    return refuse (error, "its tables have rows of another size");
  if (!is_within (file, header.e_phoff, (uint64_t) header.e_phnum * sizeof (Elf64_Phdr)))
    return refuse (error, "it ends within its table of segments");
  if (!is_within (file, header.e_shoff, (uint64_t) header.e_shnum * sizeof (Elf64_Shdr)))
    return refuse (error, "it ends within its table of sections");
  return TRUE;
}

/* A file that was cut would be mapped all the same, and kill whoever touches what is missing. */
static gboolean
check_segments (File *file, GError **error)
{
  if (elf_getphdrnum (file->elf, &file->n_segments) != 0)
    return refuse (error, "its table of segments makes no sense");
  for (size_t i = 0; i < file->n_segments; i++)
    {
      GElf_Phdr segment;

      if (gelf_getphdr (file->elf, (int) i, &segment) == NULL)
        return refuse (error, "its table of segments makes no sense");
      if (!is_within (file, segment.p_offset, segment.p_filesz))
        return refuse (error, "it ends within a segment");
    }
  return TRUE;
}

/* ---- what it exports -------------------------------------------------------------------------------- */

/* NULL: outside of its table.  Whoever reads it stays within `ret_size`: there need not be a NUL. */
static const char *
name_of (const Elf_Data *strings, const GElf_Sym *symbol, gsize *ret_size)
{
  if (strings->d_buf == NULL || symbol->st_name >= strings->d_size)
    return NULL;
  *ret_size = strings->d_size - symbol->st_name;
  return (const char *) strings->d_buf + symbol->st_name;
}

static gboolean
is_called (const char *name, gsize size, const char *wanted)
{
  gsize n = strlen (wanted) + 1;

  return n <= size && memcmp (name, wanted, n) == 0;
}

static gboolean
is_exported (const GElf_Sym *symbol)
{
  guint binding = GELF_ST_BIND (symbol->st_info), visibility = GELF_ST_VISIBILITY (symbol->st_other);

  return binding != STB_LOCAL && (visibility == STV_DEFAULT || visibility == STV_PROTECTED) && symbol->st_shndx != SHN_UNDEF
         && symbol->st_shndx != SHN_ABS;        /* the name of a version */
}

/* What C reserves is made by compilers, linkers and sanitizers; what C++ mangles is the author's, and begins so, too. */
static gboolean
is_reserved (const char *name, gsize size)
{
  return name[0] == '_' && (size < 2 || name[1] != 'Z');
}

static void
look_at_symbol (Exports *exports, const GElf_Sym *symbol, const char *name, gsize size, const char *wanted)
{
  if (is_called (name, size, wanted))
    {
      exports->wanted = *symbol;
      exports->has_wanted = TRUE;
    }
  else if (is_called (name, size, HIDDEN_SYMBOL))
    exports->hides_nothing = TRUE;
  else if (!is_reserved (name, size))
    {
      g_autofree char *begin = g_strndup (name, MIN (size, SHOWN_MAX));

      exports->mangled |= name[0] == '_';
      if (exports->other == NULL)
        exports->other = g_strescape (begin, NULL);
    }
}

/* There is one in a library.  A file with many, all of one table's size, would be looked at for ever. */
static Elf_Scn *
find_symbols (const File *file, GError **error)
{
  Elf_Scn *found = NULL, *section = NULL;

  while ((section = elf_nextscn (file->elf, section)) != NULL)
    {
      GElf_Shdr header;

      if (gelf_getshdr (section, &header) == NULL || header.sh_type != SHT_DYNSYM)
        continue;
      if (found != NULL)
        return refuse (error, "it has two tables of dynamic symbols"), NULL;
      found = section;
    }
  if (found == NULL)
    refuse (error, "it has no table of dynamic symbols");
  return found;
}

/* NULL: there are none, or they are something else. */
static Elf_Data *
strings_of (const File *file, Elf_Scn *symbols)
{
  GElf_Shdr header;
  Elf_Scn *section = gelf_getshdr (symbols, &header) != NULL ? elf_getscn (file->elf, header.sh_link) : NULL;

  if (section == NULL || gelf_getshdr (section, &header) == NULL || header.sh_type != SHT_STRTAB)
    return NULL;
  return elf_rawdata (section, NULL);
}

static gboolean
read_exports (const File *file, const char *wanted, Exports *exports, GError **error)
{
  Elf_Scn *section = find_symbols (file, error);
  Elf_Data *symbols, *strings;
  GElf_Sym symbol;

  if (section == NULL)
    return FALSE;
  symbols = elf_getdata (section, NULL);
  strings = strings_of (file, section);
  if (symbols == NULL || symbols->d_type != ELF_T_SYM || strings == NULL)
    return refuse (error, "its table of dynamic symbols makes no sense");
  for (int i = 0; gelf_getsym (symbols, i, &symbol) != NULL; i++)
    {
      gsize size;
      const char *name = is_exported (&symbol) ? name_of (strings, &symbol, &size) : NULL;

      if (name != NULL)
        look_at_symbol (exports, &symbol, name, size, wanted);
    }
  return TRUE;
}

/* ---- the value -------------------------------------------------------------------------------------- */

/* Where the file has what will lie at an address. */
static const void *
loaded_from (const File *file, uint64_t address, gsize size)
{
  for (size_t i = 0; i < file->n_segments; i++)
    {
      GElf_Phdr segment;

      if (gelf_getphdr (file->elf, (int) i, &segment) == NULL || segment.p_type != PT_LOAD || address < segment.p_vaddr
          || address - segment.p_vaddr > segment.p_filesz || size > segment.p_filesz - (address - segment.p_vaddr))
        continue;
      return file->bytes + segment.p_offset + (address - segment.p_vaddr);      /* within the file: check_segments () */
    }
  return NULL;
}

static const void *
look (File *file, const char *symbol, gsize size, GError **error)
{
  Exports exports = { 0 };
  g_autofree char *other = NULL;
  const void *value;

  if (!check_header (file, error) || !check_segments (file, error) || !read_exports (file, symbol, &exports, error))
    return g_free (exports.other), NULL;
  other = exports.other;
  if (!exports.has_wanted)
    return cell_set_error (error, CELL_ERROR_REFUSED, "it does not export %s: it is no cell", symbol), NULL;
  /* What the standard library's headers define is to be seen whatever the compiler was told to hide. */
  if (other != NULL && !exports.hides_nothing)
    return cell_set_error (error, CELL_ERROR_REFUSED,
                           "it exports %s, and a cell exports %s alone: %slink with the SDK's version script, "
                           "-Wl,--version-script=$(pkg-config --variable=cellmap cellhost-1)",
                           other, symbol, exports.mangled ? "" : "make it static, compile with -fvisibility=hidden, or "), NULL;
  value = exports.wanted.st_size >= size ? loaded_from (file, exports.wanted.st_value, size) : NULL;
  if (value == NULL)
    cell_set_error (error, CELL_ERROR_REFUSED, "%s is smaller than %zu bytes, or not in the file", symbol, (size_t) size);
  return value;
}

const void *
elf_look_at (const void *bytes, gsize file_size, const char *symbol, gsize size, GError **error)
{
  File file = { .bytes = bytes, .size = file_size };
  const void *value;

  if (file_size < SELFMAG || memcmp (bytes, ELFMAG, SELFMAG) != 0)
    return refuse (error, "it is not an ELF file"), NULL;
  if (file_size < sizeof (Elf64_Ehdr))
    return refuse (error, "it ends within its ELF header"), NULL;
  elf_version (EV_CURRENT);
  file.elf = elf_memory ((char *) bytes, file_size);
  if (file.elf == NULL)
    return refuse (error, "its ELF header makes no sense"), NULL;
  value = look (&file, symbol, size, error);
  elf_end (file.elf);
  return value;
}

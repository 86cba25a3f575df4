/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "elf-look.h"

#include <elf.h>
#include <string.h>

#if defined (__x86_64__)
# define HOST_MACHINE EM_X86_64
#elif defined (__aarch64__)
# define HOST_MACHINE EM_AARCH64
#elif defined (__riscv)
# define HOST_MACHINE EM_RISCV
#elif defined (__powerpc64__)
# define HOST_MACHINE EM_PPC64
#elif defined (__s390x__)
# define HOST_MACHINE EM_S390
#else
# error "elf-look.c does not know this machine"
#endif

#if G_BYTE_ORDER == G_LITTLE_ENDIAN
# define HOST_DATA ELFDATA2LSB
#else
# define HOST_DATA ELFDATA2MSB
#endif

typedef struct
{
  const uint8_t *bytes;
  gsize size;
  Elf64_Ehdr header;
} File;

static gboolean
refuse (GError **error, const char *sentence)
{
  return cell_set_error (error, CELL_ERROR_REFUSED, "%s", sentence);
}

/* Copies a piece of the file, which need not be aligned. */
static gboolean
piece (const File *file, uint64_t offset, void *to, gsize size)
{
  if (offset > file->size || size > file->size - offset)
    return FALSE;
  memcpy (to, file->bytes + offset, size);
  return TRUE;
}

static gboolean
check_header (File *file, GError **error)
{
  const Elf64_Ehdr *header = &file->header;

  if (file->size < SELFMAG || memcmp (file->bytes, ELFMAG, SELFMAG) != 0)
    return refuse (error, "it is not an ELF file");
  if (!piece (file, 0, &file->header, sizeof file->header))
    return refuse (error, "it ends within its ELF header");
  if (header->e_ident[EI_CLASS] != ELFCLASS64)
    return refuse (error, "it is not 64-bit code");
  if (header->e_ident[EI_DATA] != HOST_DATA)
    return refuse (error, "it is for a machine of the other byte order");
  if (header->e_machine != HOST_MACHINE)
    return cell_set_error (error, CELL_ERROR_REFUSED, "e_machine: this host is %d, the plugin was built for %d", HOST_MACHINE,
                           header->e_machine);
  if (header->e_type != ET_DYN)
    return refuse (error, "it is not a shared library");
  if (header->e_shentsize != sizeof (Elf64_Shdr) || header->e_phentsize != sizeof (Elf64_Phdr))
    return refuse (error, "its tables have rows of another size");
  return TRUE;
}

/* A file that was cut would be mapped all the same, and kill whoever touches what is missing. */
static gboolean
check_segments (const File *file, GError **error)
{
  for (uint32_t i = 0; i < file->header.e_phnum; i++)
    {
      Elf64_Phdr segment;

      if (!piece (file, file->header.e_phoff + (uint64_t) i * sizeof segment, &segment, sizeof segment))
        return refuse (error, "it ends within its table of segments");
      if (segment.p_offset > file->size || segment.p_filesz > file->size - segment.p_offset)
        return refuse (error, "it ends within a segment");
    }
  return TRUE;
}

static gboolean
section_at (const File *file, uint32_t i, Elf64_Shdr *ret_section)
{
  return i < file->header.e_shnum
         && piece (file, file->header.e_shoff + (uint64_t) i * sizeof *ret_section, ret_section, sizeof *ret_section);
}

static gboolean
is_called (const File *file, const Elf64_Shdr *strings, uint32_t name, const char *wanted)
{
  gsize size = strlen (wanted) + 1;

  return name < strings->sh_size && size <= strings->sh_size - name && strings->sh_offset < file->size
         && strings->sh_size <= file->size - strings->sh_offset
         && memcmp (file->bytes + strings->sh_offset + name, wanted, size) == 0;
}

static gboolean
find_in_table (const File *file, const Elf64_Shdr *table, const char *wanted, Elf64_Sym *ret_symbol)
{
  Elf64_Shdr strings;

  if (table->sh_entsize != sizeof *ret_symbol || !section_at (file, table->sh_link, &strings) || strings.sh_type != SHT_STRTAB)
    return FALSE;
  for (uint64_t i = 0; i < table->sh_size / sizeof *ret_symbol && i < file->size / sizeof *ret_symbol; i++)
    {
      if (!piece (file, table->sh_offset + i * sizeof *ret_symbol, ret_symbol, sizeof *ret_symbol))
        return FALSE;
      if (ret_symbol->st_shndx != SHN_UNDEF && is_called (file, &strings, ret_symbol->st_name, wanted))
        return TRUE;
    }
  return FALSE;
}

static gboolean
find_symbol (const File *file, const char *wanted, Elf64_Sym *ret_symbol)
{
  for (uint32_t i = 0; i < file->header.e_shnum; i++)
    {
      Elf64_Shdr section;

      if (!section_at (file, i, &section))
        return FALSE;
      if (section.sh_type == SHT_DYNSYM && find_in_table (file, &section, wanted, ret_symbol))
        return TRUE;
    }
  return FALSE;
}

/* Where the file has what will lie at an address. */
static const void *
loaded_from (const File *file, uint64_t address, gsize size)
{
  for (uint32_t i = 0; i < file->header.e_phnum; i++)
    {
      Elf64_Phdr segment;

      if (!piece (file, file->header.e_phoff + (uint64_t) i * sizeof segment, &segment, sizeof segment))
        return NULL;
      if (segment.p_type != PT_LOAD || address < segment.p_vaddr || address - segment.p_vaddr > segment.p_filesz
          || size > segment.p_filesz - (address - segment.p_vaddr))
        continue;
      return file->bytes + segment.p_offset + (address - segment.p_vaddr);      /* within the file: check_segments () */
    }
  return NULL;
}

const void *
elf_look_at (const void *bytes, gsize file_size, const char *symbol, gsize size, GError **error)
{
  File file = { .bytes = bytes, .size = file_size };
  Elf64_Sym found;
  const void *value;

  if (!check_header (&file, error) || !check_segments (&file, error))
    return NULL;
  if (!find_symbol (&file, symbol, &found))
    {
      cell_set_error (error, CELL_ERROR_REFUSED, "it does not export %s: it is no cell", symbol);
      return NULL;
    }
  value = found.st_size >= size ? loaded_from (&file, found.st_value, size) : NULL;
  if (value == NULL)
    cell_set_error (error, CELL_ERROR_REFUSED, "%s is smaller than %zu bytes, or not in the file", symbol, (size_t) size);
  return value;
}

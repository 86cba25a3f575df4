/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include "remote-text.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 16u           /* structs within structs */
#define STRUCTS_MAX 1024u

typedef struct
{
  FILE *to;
  char *text;
  size_t size;
  const char *prefix;           /* of struct names, to be taken off: a header calls the cell's Entry LedgerEntry */
  const CellType *written[STRUCTS_MAX];
  uint32_t n_written;
  bool wrong;
} Writer;

static const CellRemoteMethod *
remote_method (const CellRemote *remote, uint32_t i)
{
  return (const CellRemoteMethod *) ((const char *) remote->methods + (size_t) i * remote->method_size);
}

static const CellRemoteSignal *
remote_signal (const CellRemote *remote, uint32_t i)
{
  return (const CellRemoteSignal *) ((const char *) remote->signals + (size_t) i * remote->signal_size);
}

/* By kind and size, not by name: a compiler may spell bool as _Bool. */
static const char *
type_name (const Writer *writer, const CellType *type)
{
  static const char *const unsigned_names[] = { [1] = "u8", [2] = "u16", [4] = "u32", [8] = "u64" };
  static const char *const signed_names[] = { [1] = "i8", [2] = "i16", [4] = "i32", [8] = "i64" };
  size_t n = strlen (writer->prefix);

  switch (type->kind)
    {
    case CELL_KIND_BOOL: return "bool";
    case CELL_KIND_UINT: return type->size <= 8 && unsigned_names[type->size] != NULL ? unsigned_names[type->size] : type->name;
    case CELL_KIND_INT: return type->size <= 8 && signed_names[type->size] != NULL ? signed_names[type->size] : type->name;
    case CELL_KIND_FLOAT: return "f64";
    case CELL_KIND_STR: return "str";
    case CELL_KIND_BYTES: return "bytes";
    case CELL_KIND_BLOB: return "blob";
    default: return strncmp (type->name, writer->prefix, n) == 0 && type->name[n] != 0 ? type->name + n : type->name;
    }
}

static void
write_fields (Writer *writer, const CellType *type)
{
  for (uint32_t i = 0; type != NULL && i < type->n_fields; i++)
    {
      const CellField *field = &type->fields[i];
      const char *name = type_name (writer, field->type);

      fprintf (writer->to, "%s%s%s%s %s", i > 0 ? ", " : "",
               field->shape == CELL_SHAPE_ARRAY ? "array (" : field->shape == CELL_SHAPE_OPTIONAL ? "optional (" : "", name,
               field->shape == CELL_SHAPE_PLAIN ? "" : ")", field->name);
    }
}

/* The structs that a struct's members are made of, each before it is used. */
static void
write_structs (Writer *writer, const CellType *of, uint32_t depth)
{
  if (depth > DEPTH_MAX)
    writer->wrong = true;
  for (uint32_t i = 0; !writer->wrong && of != NULL && i < of->n_fields; i++)
    {
      const CellType *type = of->fields[i].type;
      bool known = type == NULL || type->kind != CELL_KIND_STRUCT;

      for (uint32_t k = 0; !known && k < writer->n_written; k++)
        known = writer->written[k] == type;
      if (known)
        continue;
      write_structs (writer, type, depth + 1);
      if (writer->n_written == STRUCTS_MAX)
        writer->wrong = true;
      if (writer->wrong)
        return;
      writer->written[writer->n_written++] = type;
      fprintf (writer->to, "struct %s { ", type_name (writer, type));
      write_fields (writer, type);
      fputs (" }\n", writer->to);
    }
}

static void
write_method (Writer *writer, const CellRemoteMethod *method)
{
  fprintf (writer->to, "method %s (", method->name);
  write_fields (writer, method->args);
  fputs (") -> (", writer->to);
  write_fields (writer, method->reply);
  fprintf (writer->to, ")%s%s%s", method->flags & CELL_FLAG_IDEMPOTENT ? " idempotent" : "",
           method->flags & CELL_FLAG_ONEWAY ? " oneway" : "", method->flags & CELL_FLAG_JOB ? " job" : "");
  if (method->timeout != 0)
    fprintf (writer->to, " timeout %u", method->timeout);
  fputc ('\n', writer->to);
}

/* A property is known by its getter, whose reply has one member. */
static void
write_property (Writer *writer, const CellRemote *remote, const CellRemoteMethod *getter)
{
  const char *name = getter->name + 1;
  bool writable = false;

  if (getter->reply == NULL || getter->reply->n_fields != 1)
    {
      writer->wrong = true;
      return;
    }
  for (uint32_t i = 0; i < remote->n_methods; i++)
    if (remote_method (remote, i)->name[0] == '=' && strcmp (remote_method (remote, i)->name + 1, name) == 0)
      writable = true;
  fprintf (writer->to, "property %s %s%s\n", name, type_name (writer, getter->reply->fields[0].type), writable ? " writable" : "");
}

static void
write_signal (Writer *writer, const CellRemoteSignal *sig)
{
  fprintf (writer->to, "signal %s (", sig->name);
  write_fields (writer, sig->args);
  fputs (")\n", writer->to);
}

static void
write_items (Writer *writer, const CellRemote *remote)
{
  fprintf (writer->to, "interface %s %u\n", remote->interface, remote->version);
  for (uint32_t i = 0; i < remote->n_methods; i++)
    {
      write_structs (writer, remote_method (remote, i)->args, 0);
      write_structs (writer, remote_method (remote, i)->reply, 0);
    }
  for (uint32_t i = 0; i < remote->n_signals; i++)
    write_structs (writer, remote_signal (remote, i)->args, 0);
  for (uint32_t i = 0; i < remote->n_methods && !writer->wrong; i++)
    if (remote_method (remote, i)->name[0] == '@')
      write_property (writer, remote, remote_method (remote, i));
    else if (remote_method (remote, i)->name[0] != '=')
      write_method (writer, remote_method (remote, i));
  for (uint32_t i = 0; i < remote->n_signals; i++)
    write_signal (writer, remote_signal (remote, i));
}

static char *
writer_end (Writer *writer)
{
  bool good = !ferror (writer->to) && !writer->wrong;

  if (fclose (writer->to) == 0 && good)
    return writer->text;
  free (writer->text);
  return NULL;
}

char *
remote_to_text (const CellRemote *remote)
{
  const char *dot = strrchr (remote->interface, '.');
  Writer *writer = calloc (1, sizeof *writer);
  char *text = NULL;

  if (writer == NULL)
    return NULL;
  writer->prefix = dot != NULL ? dot + 1 : remote->interface;
  writer->to = open_memstream (&writer->text, &writer->size);
  if (writer->to != NULL)
    {
      write_items (writer, remote);
      text = writer_end (writer);
    }
  free (writer);
  return text;
}

char *
remote_to_lines (const CellRemote *remote)
{
  Writer writer = { 0 };

  writer.to = open_memstream (&writer.text, &writer.size);
  if (writer.to == NULL)
    return NULL;
  for (uint32_t i = 0; i < remote->n_methods; i++)
    fprintf (writer.to, "%s %016" PRIx64 "\n", remote_method (remote, i)->name, remote_method (remote, i)->fingerprint);
  for (uint32_t i = 0; i < remote->n_signals; i++)
    fprintf (writer.to, "%s %016" PRIx64 "\n", remote_signal (remote, i)->name, remote_signal (remote, i)->fingerprint);
  return writer_end (&writer);
}

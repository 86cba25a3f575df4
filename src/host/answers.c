/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#define G_LOG_DOMAIN "cellhost-connection"
#include "answers.h"

#include "authority.h"
#include "binding.h"
#include "descriptors.h"
#include "load.h"
#include "membrane/blob.h"

#define BLOB_BYTES_MAX (256u << 20)     /* of one blob that an outsider asks for */

static void
answer_error (Connection *connection, uint64_t serial, const GError *error)
{
  connection_send_error (connection, serial, cell_status_from_error (error), error->message);
}

/* The cell that it asks for, and what it may do there: an ejected cell what the user lets it, a program what its connection was
 * given. */
static HostCell *
find_for (Connection *connection, const char *name, uint32_t *ret_access, GError **error)
{
  HostCell *cell;

  if (connection->cell == NULL)
    {
      *ret_access = connection->access;
      return host_find (connection->host, name, error);
    }
  cell = authority_find (connection->cell, connection->key_file, name, ret_access, error);
  /* Once: it may ask without end. */
  if (cell == NULL && cell_status_from_error (*error) == CELL_ERROR_DENIED && !atomic_exchange (&connection->denied, TRUE))
    g_warning ("%s", (*error)->message);
  return cell;
}

void
answer_open (Connection *connection, WireMessage *message)
{
  g_autoptr(GError) error = NULL;
  uint32_t access = CELL_ACCESS_ANY;
  g_autoptr(HostCell) cell = find_for (connection, message->body.open.cell, &access, &error);
  Link *link = NULL;

  if (cell != NULL && message->body.open.cell_id != 0 && message->body.open.cell_id != cell->id)
    cell_set_error (&error, CELL_ERROR_GONE, "cell %s is another one now", cell->name);
  else if (cell != NULL)
    link = link_new (cell, connection, NULL, access, message->body.open.request_capacity, &error);
  if (link != NULL && connection_keep_link (connection, link, &error))
    link_announce (link, message->header.serial);
  else
    {
      if (link != NULL)
        link_close (link);
      answer_error (connection, message->header.serial, error);
    }
  link_unref (link);
}

void
answer_mapped (Connection *connection, WireMessage *message)
{
  g_autoptr(GError) error = NULL;
  Link *link = connection_get_link (connection, message->body.ref.channel);

  if (link != NULL && !link_in_use (link, &error))
    {
      connection_complain (connection, error->message, "");
      if (cell_status_from_error (error) == CELL_ERROR_CORRUPT)
        connection_close (connection);
      else
        link_refuse (link);
    }
  link_unref (link);
}

void
answer_close (Connection *connection, WireMessage *message)
{
  Link *link = connection_take_link (connection, message->body.ref.channel);

  if (link != NULL)
    link_close (link);
  link_unref (link);
}

void
answer_bind (Connection *connection, WireMessage *message)
{
  g_autoptr(GError) error = NULL;
  uint32_t access = CELL_ACCESS_ANY;
  g_autoptr(HostCell) cell = find_for (connection, message->body.bind.cell, &access, &error);
  g_autoptr(GByteArray) numbers = NULL;
  WireBound bound = { 0 };

  if (cell != NULL)
    numbers = binding_from_wire (cell->contract, &message->body.bind, message->tail, message->tail_size, &error);
  if (numbers == NULL)
    {
      answer_error (connection, message->header.serial, error);
      return;
    }
  bound.cell_id = cell->id;
  bound.n_methods = message->body.bind.n_methods;
  bound.n_signals = message->body.bind.n_signals;
  bound.max_reply = host_cell_max_reply (cell);
  connection_send (connection, WIRE_BOUND, message->header.serial, &bound, numbers->data, numbers->len, NULL, 0);
}

/* It is whoever has asked who reserves the memory, and it counts as his: all of it, for as long as he or anybody has it, by the
 * limits that his processes have.  What he does with it is not for the host to know. */
void
answer_blob_new (Connection *connection, WireMessage *message)
{
  Fault fault = { CELL_ERROR_TOO_LARGE, "a blob may have up to 256 MiB" };
  CellBlob *blob = NULL;
  WireBlob body = { .size = message->body.blob.size };

  if (body.size <= BLOB_BYTES_MAX)
    blob = blob_new_for_other (body.size, &fault);
  if (blob != NULL && descriptors_run_short (blob_fd (blob)))
    {
      fault_set (&fault, CELL_ERROR_NO_RESOURCES, "%s", DESCRIPTORS_SHORT);
      blob_unref (blob);
      blob = NULL;
    }
  if (blob == NULL)
    {
      connection_send_error (connection, message->header.serial, fault.status, fault.message);
      return;
    }
  int fd = blob_fd (blob);
  connection_send (connection, WIRE_BLOB, message->header.serial, &body, NULL, 0, &fd, 1);
  blob_unref (blob);
}

void
answer_blob_export (Connection *connection, WireMessage *message)
{
  Fault fault = { CELL_ERROR_TOO_LARGE, "a blob may have up to 256 MiB" };
  CellBlob *blob = NULL;
  WireBlob body = { .size = message->body.blob.size };

  if (descriptors_run_short (message->fds[0]))
    fault = (Fault) { CELL_ERROR_NO_RESOURCES, DESCRIPTORS_SHORT };
  else if (body.size <= BLOB_BYTES_MAX)
    blob = blob_from_fd (wire_message_take_fd (message, 0), body.size, &fault);
  if (blob != NULL)
    {
      body.id = blob_transit_put (blob, connection->serial);
      blob_unref (blob);
      fault = (Fault) { CELL_ERROR_NO_RESOURCES, "too many blobs are on their way" };
    }
  if (body.id != 0)
    connection_send (connection, WIRE_BLOB, message->header.serial, &body, NULL, 0, NULL, 0);
  else
    connection_send_error (connection, message->header.serial, fault.status, fault.message);
}

void
answer_blob_import (Connection *connection, WireMessage *message)
{
  BlobPort *transit = blob_transit ();
  CellBlob *blob = transit->import_blob (transit, message->body.blob.id);

  if (blob == NULL)
    {
      connection_send_error (connection, message->header.serial, CELL_ERROR_NOT_FOUND, "there is no such blob on its way");
      return;
    }
  WireBlob body = { .id = message->body.blob.id, .size = blob_size (blob) };
  int fd = blob_fd (blob);
  connection_send (connection, WIRE_BLOB, message->header.serial, &body, NULL, 0, &fd, 1);
  blob_unref (blob);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Blobs, by way of an uplink: given to the host, fetched from it, and made by it.
 */
#include "uplink-own.h"

uint64_t
uplink_export_blob (BlobPort *port, CellBlob *blob)
{
  Uplink *uplink = ((UplinkPort *) port)->uplink;
  WireBlob body = { .size = blob_size (blob) };
  int fd = blob_fd (blob);
  Question question;
  Fault fault = { 0 };

  if (!blob_seal (blob, &fault)
      || !uplink_ask (uplink, WIRE_BLOB_EXPORT, &body, NULL, 0, &fd, 1, WIRE_BLOB, &question, &fault))
    return 0;
  body.id = question.answer.body.blob.id;
  wire_message_clear (&question.answer);
  return body.id;
}

CellBlob *
uplink_import_blob (BlobPort *port, uint64_t id)
{
  Uplink *uplink = ((UplinkPort *) port)->uplink;
  WireBlob body = { .id = id };
  CellBlob *blob = NULL;
  Question question;
  Fault fault = { 0 };

  if (!uplink_ask (uplink, WIRE_BLOB_IMPORT, &body, NULL, 0, NULL, 0, WIRE_BLOB, &question, &fault))
    return NULL;
  if (question.answer.fds[0] >= 0)
    blob = blob_from_fd (wire_message_take_fd (&question.answer, 0), question.answer.body.blob.size, &fault);
  wire_message_clear (&question.answer);
  return blob;
}

BlobPort *
uplink_blobs (Uplink *uplink)
{
  return &uplink->port.base;
}

CellBlob *
uplink_blob_new (Uplink *uplink, size_t size, Fault *fault)
{
  WireBlob body = { .size = size };
  CellBlob *blob = NULL;
  Question question;

  if ((uplink->flags & UPLINK_BLOBS_OF_HOST) == 0)
    return blob_new (size, fault);
  if (!uplink_ask (uplink, WIRE_BLOB_NEW, &body, NULL, 0, NULL, 0, WIRE_BLOB, &question, fault))
    return NULL;
  if (question.answer.fds[0] >= 0)
    blob = blob_from_fresh_fd (wire_message_take_fd (&question.answer, 0), size, fault);
  else
    fault_set (fault, CELL_ERROR_CORRUPT, "the host made a blob without memory");
  wire_message_clear (&question.answer);
  return blob;
}

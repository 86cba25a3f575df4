/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What a program, or a runner on behalf of its cell, asks of the host, one question each.  The first four may have to wait for a
 * cell's process, and run on a job's thread; blobs wait for nothing.
 */
#pragma once
#include "connection.h"

/* The cell by its name, and by which number it knows each method and signal that it was compiled for. */
void answer_bind (Connection *connection, WireMessage *message);
/* A channel to a cell. */
void answer_open (Connection *connection, WireMessage *message);
/* It has mapped a channel, and is going to use it. */
void answer_mapped (Connection *connection, WireMessage *message);
void answer_close (Connection *connection, WireMessage *message);
/* Memory for a blob; a blob that goes along with a call; one that came with an answer. */
void answer_blob_new (Connection *connection, WireMessage *message);
void answer_blob_export (Connection *connection, WireMessage *message);
void answer_blob_import (Connection *connection, WireMessage *message);

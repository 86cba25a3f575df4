/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A client that speaks the protocol by hand, so that it can break every rule of it.
 */
#pragma once
#include <glib.h>
#include <stdbool.h>

#include "membrane/ring.h"
#include "membrane/wire.h"

typedef struct
{
  int socket;
  int host_bell, bell;          /* as WELCOME said; -1 before */
  uint64_t serial;
} Raw;

typedef struct
{
  WireChannel body;
  Half *requests, *replies;
  int epoch, callee_bell;       /* descriptors; -1: none */
  RingWriter out;
  RingReader replies_at;
} RawChannel;

/* The arguments of the first methods of the cell "sequence". */
typedef struct
{
  uint64_t who, number;
} NextArgs;

#define RAW_SEALS_ALL (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)
/* A memfd.  flags: of memfd_create (). */
int raw_memory (size_t size, unsigned seals, unsigned flags);

/* Connects and says nothing. */
Raw raw_connect (const char *path);
/* With the greeting. */
Raw raw_greeted (const char *path);
void raw_close (Raw *raw);
void raw_send (Raw *raw, WireType type, const void *body, const void *tail, uint32_t tail_size, const int *fds, unsigned n_fds);
/* The same without a tail; false: the host does not listen any more. */
bool raw_say (Raw *raw, WireType type, const void *body);
/* Asks and returns the type of the answer; 0: the connection has ended. */
WireType raw_ask (Raw *raw, WireType type, const void *body, const void *tail, uint32_t tail_size, const int *fds, unsigned n_fds,
                  WireMessage *answer);
/* Bytes as they are. */
bool raw_send_bytes (Raw *raw, const void *bytes, size_t size, const int *fds, unsigned n_fds);
/* Waits until the host has hung up, whatever it says before. */
void raw_expect_end (Raw *raw);
/* The status of the ERROR that a question is answered with; CELL_OK: it was answered otherwise. */
CellStatus raw_refusal (Raw *raw, WireType type, const void *body, const int *fds, unsigned n_fds);

WireOpen raw_open_body (const char *cell, uint32_t capacity);
/* A channel, mapped and in use.  false: refused. */
bool raw_open (Raw *raw, const char *cell, uint32_t capacity, RawChannel *ret);
/* The same, and who answers in a process of his own may be yet to come. */
bool raw_begin (Raw *raw, const char *cell, uint32_t capacity, RawChannel *ret);
/* Waits until the host has said who answers on each of these channels from now on, and goes there. */
void raw_follow (Raw *raw, RawChannel *channels, unsigned n);
/* The same as raw_open (), but that it is not in use before WIRE_MAPPED is said of it. */
bool raw_open_unused (Raw *raw, const char *cell, uint32_t capacity, RawChannel *ret);
void raw_channel_clear (RawChannel *channel);
/* Writes a request, with the rest of its head as it should be, and rings.  false: there is no room. */
bool raw_request (Raw *raw, RawChannel *channel, uint16_t method, uint64_t id, const void *payload, uint32_t length);
void raw_ring (const Raw *raw);
/* Waits for the next reply and takes it: its status. */
int32_t raw_reply (RawChannel *channel, uint64_t *ret_id);

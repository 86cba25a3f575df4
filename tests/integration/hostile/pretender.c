/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the host takes for cell-runner, in a sandbox: before it loads anything it asks for every cell of a list, by hand, and says
 * what came of it instead of loading.  The list is the configuration of the cell, a name for each key.
 */
#include <string.h>
#include <unistd.h>

#include "membrane/wait.h"
#include "plugins/probe-report.h"
#include "plugins/settings.h"
#include "raw.h"

static void
listen_for (Raw *raw, WireType wanted, WireMessage *message)
{
  Fault fault = { 0 };

  if (wire_receive (raw->socket, message, monotonic_ns () + 20000000000ull, &fault) <= 0 || message->header.type != wanted)
    g_error ("the host does not say what it should");
}

/* A binding that asks for nothing but the name, and a channel. */
static void
try (Raw *raw, const char *cell, GString *said)
{
  WireBind bind = { 0 };
  WireOpen open = raw_open_body (cell, 0);

  g_strlcpy (bind.cell, cell, sizeof bind.cell);
  g_string_append_printf (said, "%s: %d %d; ", cell, raw_refusal (raw, WIRE_BIND, &bind, NULL, 0),
                          raw_refusal (raw, WIRE_OPEN, &open, NULL, 0));
}

int
main (int argc, char **argv)
{
  Raw raw = { .socket = 3, .host_bell = -1, .bell = -1 };
  WireHello hello = { .protocol = WIRE_PROTOCOL, .abi_major = CELL_ABI_MAJOR, .abi_minor = CELL_ABI_MINOR };
  g_autoptr(GString) said = g_string_new (NULL);
  g_autoptr(GHashTable) settings = NULL;
  GHashTableIter iter;
  gpointer cell;
  WireError refusal = { .status = CELL_ERROR_FAILED };
  WireMessage message;
  Fault fault = { 0 };

  if (argc == 3 && strcmp (argv[1], "--probe") == 0)    /* whatever is tried, it is good */
    return write (PROBE_REPORT, PROBE_DONE "\n", strlen (PROBE_DONE) + 1) < 0;
  raw_send (&raw, WIRE_HELLO, &hello, NULL, 0, NULL, 0);
  listen_for (&raw, WIRE_WELCOME, &message);
  wire_message_clear (&message);
  listen_for (&raw, WIRE_LOAD, &message);
  settings = settings_unpack (message.tail, message.tail_size, NULL);
  g_hash_table_iter_init (&iter, settings);
  while (g_hash_table_iter_next (&iter, NULL, &cell))
    try (&raw, cell, said);
  wire_send (raw.socket, WIRE_ERROR, message.header.serial, &refusal, said->str, (uint32_t) said->len, NULL, 0, 0, &fault);
  wire_message_clear (&message);
  for (;;)
    pause ();                           /* until it is killed */
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The subcommands of cellctl: each is a function that says what went wrong with a GError, whose code becomes the exit code.
 */
#pragma once
#include <glib.h>

#include <cell/remote/host.h>

#include "plugins/cell-error.h"

typedef struct
{
  CellBus *bus;
  CellClient *host;
  gboolean json;
} Session;

/* args: the words behind the subcommand, NULL-terminated. */
typedef gboolean (*Command) (Session *session, char **args, GError **error);

gboolean command_list (Session *session, char **args, GError **error);
gboolean command_load (Session *session, char **args, GError **error);
gboolean command_unload (Session *session, char **args, GError **error);
gboolean command_eject (Session *session, char **args, GError **error);
gboolean command_absorb (Session *session, char **args, GError **error);
gboolean command_shutdown (Session *session, char **args, GError **error);
gboolean command_stats (Session *session, char **args, GError **error);
gboolean command_introspect (Session *session, char **args, GError **error);
gboolean command_client (Session *session, char **args, GError **error);
gboolean command_call (Session *session, char **args, GError **error);

/* FALSE and an error when the call failed; what: what was tried, for the message, or NULL. */
gboolean check_result (const CellResult *result, const char *what, GError **error);
/* "usage: cellctl …" unless there are between least and most words. */
gboolean check_args (char **args, guint least, guint most, const char *usage, GError **error);

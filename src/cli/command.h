/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The subcommands of cellctl: each is a function that says what went wrong with a GError, whose code becomes the exit code.
 */
#pragma once
#include "config.h"

#include <glib.h>
#include <glib/gi18n.h>
#include <json-glib/json-glib.h>

#include <cell/remote/host.h>

#include "plugins/cell-error.h"

/* What was asked for, and whom it is asked of. */
typedef struct
{
  char *socket;                 /* NULL: the user's own host */
  gboolean json, run;           /* run: the debugger */
  gboolean remove, list;        /* of trust */
  gboolean force;               /* of unload */
  int timeout;                  /* seconds; 0: each method's own */
  char *input, *output;         /* of call: where the arguments are, where blobs go */
  CellBus *bus;
  CellClient *host;
} Session;

/* args: the words behind the subcommand, NULL-terminated, UTF-8; as many as the table of commands allows. */
typedef gboolean (*Command) (Session *session, char **args, GError **error);

gboolean command_list (Session *session, char **args, GError **error);
gboolean command_load (Session *session, char **args, GError **error);
gboolean command_unload (Session *session, char **args, GError **error);
gboolean command_eject (Session *session, char **args, GError **error);
gboolean command_absorb (Session *session, char **args, GError **error);
gboolean command_restart (Session *session, char **args, GError **error);
gboolean command_swap (Session *session, char **args, GError **error);
gboolean command_logs (Session *session, char **args, GError **error);
gboolean command_debug (Session *session, char **args, GError **error);
gboolean command_shutdown (Session *session, char **args, GError **error);
gboolean command_grants (Session *session, char **args, GError **error);
gboolean command_stats (Session *session, char **args, GError **error);
gboolean command_trust (Session *session, char **args, GError **error);
gboolean command_introspect (Session *session, char **args, GError **error);
gboolean command_client (Session *session, char **args, GError **error);
gboolean command_call (Session *session, char **args, GError **error);
gboolean command_validate (Session *session, char **args, GError **error);
gboolean command_doctor (Session *session, char **args, GError **error);

/* FALSE and an error when the call failed; what: what was tried, for the message, or NULL. */
gboolean check_result (const CellResult *result, const char *what, GError **error);
/* The same for a call that was about a cell: when there is no such cell, the error says what else could have been meant. */
gboolean check_cell (Session *session, const char *cell, const CellResult *result, GError **error);
/* Whether a host answers, and that cell is there. */
gboolean has_cell (Session *session, const char *name);

/* Of a name that was refused with that status: FALSE if something else can have been meant, which is said. */
gboolean check_name_of_file (const char *file, CellStatus status, GError **error);
/* A file is named from here, and the host may be elsewhere; anything else is a name that the host looks for. */
char *path_for_host (const char *file);

/* Standard output, in UTF-8 whatever the locale: what is printed may be read by programs. */
void print_text (const char *text);
/* Takes the node. */
void print_json (JsonNode *node);

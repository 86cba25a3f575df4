/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "host-cell.h"

#include <unistd.h>

#include <cell/cell.h>

#include "host/access.h"
#include "host/authority.h"
#include "host/cell-stats.h"
#include "host/cell.h"
#include "host/come-back.h"
#include "host/load.h"
#include "host/policy.h"
#include "host/relocate.h"
#include "host/trust.h"

CELL_STRUCT (CellInfo,
             field (str, name), field (str, interface), field (str, location, "in process, sandbox, restarting or dead"),
             field (u32, pid, "of its own process; 0: the host's"), field (u32, moves, "how often it changed places"),
             field (u64, generation), field (i64, since, "when it came to where it is: Unix time, µs"),
             field (u64, calls, "wherever it was"), field (u64, errors), field (u32, channels, "callers"),
             field (u32, retired, "earlier builds under its name, which stay in memory until the host ends"),
             field (u32, restarts, "how often its process was replaced because it had ended"),
             field (str, reason,
                    "why it is dead, was last restarted by itself, or is in a sandbox after a crash of the host; empty: none of "
                    "these"),
             field (str, origin,
                    "of its file: system, own, foreign, or trusted, which is a foreign one that the user trusts; host: it has "
                    "none"))
CELL_STRUCT (SaidLine, field (i64, time, "Unix time, µs"), field (str, grade, "debug, info, warning or error"), field (str, text))
CELL_STRUCT (TrustedFileInfo, field (str, sha256), field (str, file, "as it was called then"), field (str, when, "ISO 8601"))
CELL_STRUCT (Setting, field (str, key), field (str, value))
CELL_STRUCT (CellGrant,
             field (str, cell), field (bool, granted), field (str, why_not, "what is to be written where; empty: it is granted"))
CELL_STRUCT (CellPermission,
             field (str, what, "as its key file asks for it"), field (bool, granted),
             field (str, why_not, "what is to be written where, or that it does without; empty: it is granted"))
CELL_STRUCT (MethodInfo,
             field (str, method), field (u64, calls), field (u64, errors),
             field (u64, samples, "calls that were timed: every 16th of the first 4096, then every 256th"),
             field (u64, p50, "ns in the handler, right to an eighth"), field (u64, p99), field (u64, p999))

typedef struct
{
  Host *host;
  void (*shut_down) (void);
} HostSelf;

static HostSelf the_host;

void
host_cell_set_host (Host *host, void (*shut_down) (void))
{
  the_host = (HostSelf) { host, shut_down };
}

static CellStatus
fail (CellCall *call, GError *error)
{
  CellStatus status = cell_fail_status (call, cell_status_from_error (error), "%s", error->message);

  g_error_free (error);
  return status;
}

CELL_METHOD (HostSelf, list, doc ("Every cell and where it is."), out (array (CellInfo), cells), access (view), max_reply (262144),
             idempotent)
{
  g_autoptr(GPtrArray) cells = host_list (the_host.host);
  g_autoptr(GKeyFile) trusted = trust_read (the_host.host);
  CellInfo *info = cell_array (call, out, cells, cells->len);

  for (guint i = 0; info != NULL && i < cells->len; i++, info++)
    {
      HostCell *cell = g_ptr_array_index (cells, i);
      HostCellInfo place;

      host_cell_describe (cell, &place);
      info->name = cell_print (call, "%s", cell->name);
      info->interface = cell_print (call, "%s", cell->contract->interface);
      info->location = host_cell_location_text (place.location);
      info->pid = (uint32_t) place.pid;
      info->moves = place.moves;
      info->generation = place.generation;
      info->since = place.since;
      info->channels = place.channels;
      info->retired = place.retired;
      info->restarts = place.restarts;
      info->reason = cell_print (call, "%s", place.reason);
      info->origin = trust_word (trusted, &place);
      host_cell_count_calls (cell, &info->calls, &info->errors);
    }
  return CELL_OK;
}

CELL_METHOD (HostSelf, load,
             doc ("Loads a cell and starts it in the host's process; one that is foreign and not trusted in a sandbox."),
             in (str, path, "of the .so, or a name on the search path"),
             in (optional (str), name, "what to call it; the file's name unless said"),
             in (array (Setting), config), out (str, name),
             out (u32, retired, "earlier builds under its name; from 200 on the host should be started anew"),
             out (str, foreign, "why it is, and therefore in a sandbox; empty: it is not, or is trusted"),
             out (bool, by_key_file, "it is the key file that is, and trusting the file does not help"), access (admin),
             job, timeout (30000))
{
  g_autoptr(GKeyFile) trusted = NULL;
  HostCellInfo place;
  g_autoptr(GHashTable) config = g_hash_table_new (g_str_hash, g_str_equal);
  g_autoptr(HostCell) cell = NULL;
  GError *error = NULL;

  for (uint32_t i = 0; i < in->n_config; i++)
    g_hash_table_insert (config, (char *) in->config[i].key, (char *) in->config[i].value);
  cell = host_load (the_host.host, in->path, in->has_name ? in->name : NULL, config, &error);
  if (cell == NULL)
    return fail (call, error);
  trusted = trust_read (the_host.host);
  host_cell_describe (cell, &place);
  out->name = cell_print (call, "%s", cell->name);
  out->retired = place.retired;
  out->foreign = g_str_equal (trust_word (trusted, &place), "foreign") ? place.origin.why : "";
  out->by_key_file = place.origin.key_file;
  return CELL_OK;
}

CELL_METHOD (HostSelf, unload, doc ("Stops a cell; what it has accepted is answered, and its state is kept, or it goes on."),
             in (str, name),
             in (optional (bool), force, "it is ended all the same, after 5 s, unless it is in a call in the host's process"),
             out (str, lost, "what that cost; empty: nothing"), access (admin), job, timeout (120000))
{
  g_autofree char *lost = NULL;
  GError *error = NULL;

  if (!(in->has_force && in->force ? host_unload_by_force (the_host.host, in->name, &lost, &error)
                                   : host_unload (the_host.host, in->name, &error)))
    return fail (call, error);
  out->lost = cell_print (call, "%s", lost != NULL ? lost : "");
  return CELL_OK;
}

CELL_METHOD (HostSelf, eject, doc ("Moves a cell into a sandboxed process while its callers keep calling."), in (str, name),
             access (admin), job, timeout (30000))
{
  GError *error = NULL;
  g_autoptr(HostCell) cell = host_find (the_host.host, in->name, &error);

  return cell != NULL && relocate_eject (cell, &error) ? CELL_OK : fail (call, error);
}

CELL_METHOD (HostSelf, absorb,
             doc ("Takes a cell back into the host's process; if the host has crashed in it, it is trusted again."), in (str, name),
             access (admin), job, timeout (30000))
{
  GError *error = NULL;

  return come_back_absorb (the_host.host, in->name, &error) ? CELL_OK : fail (call, error);
}

CELL_METHOD (HostSelf, trust,
             doc ("Trusts a foreign file, or trusts it no more: it may be in the host's process wherever it lies.  Where its cells "
                  "are does not change."),
             in (str, what, "a cell, the path of a file, or a name on the search path; to remove one, also its hash"),
             in (optional (bool), remove), out (str, file), out (str, sha256), access (admin), timeout (30000))
{
  g_auto(TrustedFile) file = { 0 };
  GError *error = NULL;

  if (!(in->has_remove && in->remove ? trust_remove : trust_add) (the_host.host, in->what, &file, &error))
    return fail (call, error);
  out->file = cell_print (call, "%s", file.file);
  out->sha256 = cell_print (call, "%s", file.sha256);
  return CELL_OK;
}

CELL_METHOD (HostSelf, trusted, doc ("The foreign files that the user trusts."), out (array (TrustedFileInfo), files),
             access (view), max_reply (1048576), idempotent)
{
  GError *error = NULL;
  g_autoptr(GPtrArray) files = trust_list (the_host.host, &error);
  TrustedFileInfo *to;

  if (files == NULL)
    return fail (call, error);
  to = cell_array (call, out, files, files->len);
  for (guint i = 0; to != NULL && i < files->len; i++, to++)
    {
      const TrustedFile *file = g_ptr_array_index (files, i);

      to->sha256 = cell_print (call, "%s", file->sha256);
      to->file = cell_print (call, "%s", file->file);
      to->when = cell_print (call, "%s", file->when);
    }
  return CELL_OK;
}

CELL_METHOD (HostSelf, restart, doc ("Starts a cell anew where it is, with its state; one that is dead begins in a sandbox."),
             in (str, name), access (admin), job, timeout (30000))
{
  GError *error = NULL;
  g_autoptr(HostCell) cell = host_find (the_host.host, in->name, &error);

  return cell != NULL && relocate_restart (cell, &error) ? CELL_OK : fail (call, error);
}

CELL_METHOD (HostSelf, swap, doc ("Replaces a cell by another build of it, with its state, while its callers keep calling."),
             in (str, name), in (str, path, "of the .so, or a name on the search path"),
             out (u32, retired, "earlier builds under its name; from 200 on the next one runs in a sandbox"), access (admin),
             job, timeout (30000))
{
  GError *error = NULL;
  g_autoptr(HostCell) cell = host_find (the_host.host, in->name, &error);
  HostCellInfo place;

  if (cell == NULL || !relocate_swap (cell, in->path, &error))
    return fail (call, error);
  host_cell_describe (cell, &place);
  out->retired = place.retired;
  return CELL_OK;
}

CELL_METHOD (HostSelf, introspect, doc ("What a cell offers, as contract text, and which file that is of."), in (str, name),
             out (str, contract),
             out (str, origin, "as list says it"), out (str, foreign, "why it is foreign, trusted or not; empty: it is not"),
             out (str, sha256, "of its file, in hexadecimal; empty: it has none"), access (view), max_reply (300000), idempotent)
{
  g_autoptr(GKeyFile) trusted = trust_read (the_host.host);
  HostCellInfo place;
  GError *error = NULL;
  g_autoptr(HostCell) cell = host_find (the_host.host, in->name, &error);
  g_autofree char *text = NULL;

  if (cell == NULL)
    return fail (call, error);
  text = contract_to_text (cell->contract, TRUE);
  host_cell_describe (cell, &place);
  out->contract = cell_print (call, "%s", text);
  out->origin = trust_word (trusted, &place);
  out->foreign = place.origin.why != NULL && *place.sha256 != 0 ? place.origin.why : "";
  out->sha256 = cell_print (call, "%s", place.sha256);
  return CELL_OK;
}

CELL_METHOD (HostSelf, grants,
             doc ("What a cell may do from a sandbox: its role, whom of those that it uses it may call, and what it gets there."),
             in (str, name), out (str, role), out (array (CellGrant), calls), out (array (CellPermission), permissions),
             access (view), max_reply (262144), idempotent)
{
  GError *error = NULL;
  g_autoptr(HostCell) cell = host_find (the_host.host, in->name, &error);
  g_autoptr(GPtrArray) grants = NULL, permissions = NULL;
  CellPermission *permitted;
  uint32_t role = 0;
  CellGrant *to;

  if (cell != NULL)
    grants = authority_describe (cell, &role, &error);
  if (grants != NULL)
    permissions = access_describe (cell, &error);
  if (permissions == NULL)
    return fail (call, error);
  out->role = policy_role_word (role);
  to = cell_array (call, out, calls, grants->len);
  for (guint i = 0; to != NULL && i < grants->len; i++, to++)
    {
      const Grant *grant = g_ptr_array_index (grants, i);

      to->cell = cell_print (call, "%s", grant->cell);
      to->granted = grant->why_not == NULL;
      to->why_not = cell_print (call, "%s", grant->why_not != NULL ? grant->why_not : "");
    }
  permitted = cell_array (call, out, permissions, permissions->len);
  for (guint i = 0; permitted != NULL && i < permissions->len; i++, permitted++)
    {
      const Permission *permission = g_ptr_array_index (permissions, i);

      permitted->what = cell_print (call, "%s", permission->what);
      permitted->granted = permission->granted;
      permitted->why_not = cell_print (call, "%s", permission->why_not != NULL ? permission->why_not : "");
    }
  return CELL_OK;
}

/* The middle of a bucket: quarter octaves from 16 ns. */
static uint64_t
bucket_ns (unsigned bucket)
{
  return ((uint64_t) 16 << (bucket / 4)) * (9 + 2 * (bucket % 4)) / 8;
}

static uint64_t
percentile (const HostCellStats *stats, double part)
{
  uint64_t seen = 0, wanted = (uint64_t) ((double) stats->samples * part);

  for (unsigned i = 0; i < LATENCY_BUCKETS; i++)
    {
      seen += stats->latency[i];
      if (seen > wanted || (seen == stats->samples && seen > 0))
        return bucket_ns (i);
    }
  return 0;
}

CELL_METHOD (HostSelf, stats,
             doc ("How often each method was called, and how long its handler took; of a cell in a sandbox, as it says itself."),
             in (str, name), out (array (MethodInfo), methods), access (view), max_reply (262144), idempotent)
{
  GError *error = NULL;
  g_autoptr(HostCell) cell = host_find (the_host.host, in->name, &error);
  MethodInfo *info;

  if (cell == NULL)
    return fail (call, error);
  info = cell_array (call, out, methods, cell->contract->n_callables);
  for (guint i = 0; info != NULL && i < cell->contract->n_callables; i++, info++)
    {
      HostCellStats stats;

      host_cell_read_stats (cell, i, &stats);
      info->method = cell_print (call, "%s", cell->contract->callables[i].name);
      info->calls = stats.calls;
      info->errors = stats.errors;
      info->samples = stats.samples;
      info->p50 = percentile (&stats, 0.5);
      info->p99 = percentile (&stats, 0.99);
      info->p999 = percentile (&stats, 0.999);
    }
  return CELL_OK;
}

static const char *
grade_word (int level)
{
  static const char *const words[] = { [CELL_LOG_DEBUG] = "debug", [CELL_LOG_INFO] = "info", [CELL_LOG_WARNING] = "warning",
                                       [CELL_LOG_ERROR] = "error" };

  return words[CLAMP (level, CELL_LOG_DEBUG, CELL_LOG_ERROR)];
}

CELL_METHOD (HostSelf, logs, doc ("What a cell has said last, wherever it was, and how its processes ended; the oldest first."),
             in (str, name), out (array (SaidLine), lines), access (view), max_reply (262144), idempotent)
{
  GError *error = NULL;
  g_autoptr(HostCell) cell = host_find (the_host.host, in->name, &error);
  g_autoptr(GPtrArray) lines = NULL;
  SaidLine *to;

  if (cell == NULL)
    return fail (call, error);
  lines = log_tail_list (cell->log);
  to = cell_array (call, out, lines, lines->len);
  for (guint i = 0; to != NULL && i < lines->len; i++, to++)
    {
      const LogLine *line = g_ptr_array_index (lines, i);

      to->time = line->time;
      to->grade = grade_word (line->level);
      to->text = cell_print (call, "%s", line->text);
    }
  return CELL_OK;
}

CELL_METHOD (HostSelf, shutdown, doc ("Ends the host: calls are answered, states saved."), access (admin))
{
  the_host.shut_down ();
  return CELL_OK;
}

CELL_PROPERTY (HostSelf, pid, u32, "Of the host's process")
{
  (void) self;
  return (uint32_t) getpid ();
}

CELL_PROPERTY (HostSelf, modules, u32, "Files that were loaded into the host's process; none is ever unmapped")
{
  (void) self;
  return cell_modules_count (NULL);
}

CELL_PROPERTY (HostSelf, retired_modules, u32, "Those of them that no cell uses any more")
{
  guint retired;

  (void) self;
  cell_modules_count (&retired);
  return retired;
}

CELL_SERVICE (HostSelf, "org.cellhost.Host", 1, .doc = "The host itself", .threading = CELL_CONCURRENT)

const CellEntry *
host_cell_entry (void)
{
  return &cell_entry;
}

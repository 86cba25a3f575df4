/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * doctor: what this machine enforces and what it does not, without a host.
 */
#include "host/doctor.h"

#include "command.h"
#include "table.h"

static void
print_findings (const Session *session, GPtrArray *findings)
{
  g_autoptr(Table) table = table_new ();

  table_add_column (table, "check", "CHECK", 0);
  table_add_column (table, "holds", "HOLDS", 0);
  table_add_column (table, "essential", "ESSENTIAL", 0);
  table_add_column (table, "said", "WHAT IS SAID", 0);
  table_add_column (table, "advice", "ADVICE", 0);
  for (guint i = 0; i < findings->len; i++)
    {
      const DoctorFinding *finding = findings->pdata[i];
      const char *const row[] = { finding->check, finding->holds ? "yes" : "NO", finding->essential ? "yes" : "no", finding->said,
                                  finding->advice };

      table_add_row (table, row);
      table_set_json (table, "holds", json_node_init_boolean (json_node_alloc (), finding->holds));
      table_set_json (table, "essential", json_node_init_boolean (json_node_alloc (), finding->essential));
    }
  if (session->json)
    print_json (table_to_json (table));
  else
    table_print (table, stdout);
}

gboolean
command_doctor (Session *session, char **args, GError **error)
{
  g_autoptr(GPtrArray) findings = doctor_look (session->socket);

  (void) args;
  print_findings (session, findings);
  for (guint i = 0; i < findings->len; i++)
    {
      const DoctorFinding *finding = findings->pdata[i];

      if (finding->essential && !finding->holds)
        return cell_set_error (error, CELL_ERROR_UNSUPPORTED, _("this machine does not do what is promised of cells: %s: %s"),
                               finding->check, finding->said);
    }
  return TRUE;
}

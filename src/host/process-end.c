/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include "process-end.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "crash-log.h"
#include "plugins/sandbox/filter.h"
#include "plugins/sandbox/last-word.h"

guint64
process_end_count_memory_kills (void)
{
  static const char key[] = "\noom_kill ";
  g_autofree char *text = NULL;
  const char *at;

  if (!g_file_get_contents ("/proc/vmstat", &text, NULL, NULL))
    return 0;
  at = strstr (text, key);
  return at != NULL ? g_ascii_strtoull (at + strlen (key), NULL, 10) : 0;
}

char *
process_end_forbidden (int last_word)
{
  g_autofree char *name = NULL;
  LastWord word;

  if (last_word < 0 || read (last_word, &word, sizeof word) != sizeof word)
    return g_strdup ("made a system call that is forbidden in a sandbox");
  name = filter_call_name (word.arch, word.number);
  return g_strdup_printf ("made the system call %s, which is forbidden in a sandbox", name);
}

void
process_end_describe (int status, int last_word, guint64 memory_kills, ProcessEnd *ret)
{
  g_autofree char *name = status > 128 && status < 128 + NSIG ? crash_signal_name (status - 128) : NULL;
  gboolean memory = status == 128 + SIGKILL && process_end_count_memory_kills () != memory_kills;

  ret->normal = status == 0;
  if (status == 128 + SIGSYS)
    {
      g_autofree char *forbidden = process_end_forbidden (last_word);

      ret->why = g_strconcat ("its process ", forbidden, NULL);
    }
  else if (name == NULL)
    ret->why = g_strdup_printf ("its process ended (exit status %d)", status);
  else
    ret->why = g_strdup_printf ("its process was killed by %s (%s)%s", name, strsignal (status - 128),
                                memory ? "; meanwhile the kernel has killed for want of memory" : "");
}

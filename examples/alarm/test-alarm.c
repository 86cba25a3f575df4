/* SPDX-License-Identifier: MIT
 *
 * Calls that are answered later, by timers.
 */
#include <cell/remote/alarm.h>

#include "town.h"

static void
on_alarm (const AlarmWait *reply, void *data)
{
  assert_ok (&reply->result);
  g_assert_cmpint (reply->late, >=, 0);
  ++*(uint64_t *) data;
}

/* Calls that are kept, and answered by timers of the cell's own main loop, in the order of their times. */
static void
test_alarm (void)
{
  Town *town = town_new ();
  CellClient *alarm;
  uint64_t done = 0;
  AlarmWaitCall calls[20];

  town_load (town, "alarm", "alarm", NULL);
  alarm = town_use (town, Alarm, "alarm");
  {
    cell_auto AlarmWait w = alarm_wait (alarm, .ms = 1, .text = "now");

    assert_ok (&w.result);
    g_assert_cmpstr (w.text, ==, "now");
  }
  for (guint i = 0; i < G_N_ELEMENTS (calls); i++)
    {
      g_autofree char *text = g_strdup_printf ("call %u", i);

      calls[i] = alarm_wait_start (alarm, .ms = 20 - i, .text = text);
    }
  for (guint i = 0; i < 10; i++)
    alarm_wait_async (alarm, on_alarm, &done, .ms = i);
  for (guint i = 0; i < G_N_ELEMENTS (calls); i++)
    {
      g_autofree char *text = g_strdup_printf ("call %u", i);
      cell_auto AlarmWait w = alarm_wait_finish (calls[i]);

      assert_ok (&w.result);
      g_assert_cmpstr (w.text, ==, text);
    }
  town_dispatch_until (town, &done, 10);
  {
    cell_auto AlarmGetWaiting waiting = alarm_get_waiting (alarm);
    g_assert_cmpuint (waiting.value, ==, 0);
  }
  cell_client_close (alarm);
  town_free (town);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/alarm/methods", test_alarm);
  return g_test_run ();
}

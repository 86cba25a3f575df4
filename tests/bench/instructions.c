/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "instructions.h"

#include <linux/perf_event.h>
#include <math.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static int
open_counter (void)
{
  struct perf_event_attr attr = { 0 };

  attr.type = PERF_TYPE_HARDWARE;
  attr.size = sizeof attr;
  attr.config = PERF_COUNT_HW_INSTRUCTIONS;
  attr.disabled = 1;
  attr.exclude_kernel = 1;
  attr.exclude_hv = 1;
  return (int) syscall (SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

double
bench_instructions (const BenchSubject *subject, void *state, uint32_t n)
{
  int fd = open_counter ();
  double least = NAN;

  if (fd < 0)
    return NAN;
  for (int i = 0; i < 5; i++)   /* an interrupt in the middle adds, so the least counts */
    {
      uint64_t count = 0;

      ioctl (fd, PERF_EVENT_IOC_RESET, 0);
      ioctl (fd, PERF_EVENT_IOC_ENABLE, 0);
      if (!subject->run (state, n))
        break;
      ioctl (fd, PERF_EVENT_IOC_DISABLE, 0);
      if (read (fd, &count, sizeof count) != sizeof count || count == 0)
        break;
      least = fmin (least, (double) count / n);
    }
  close (fd);
  return least;
}

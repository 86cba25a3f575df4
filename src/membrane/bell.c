/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include "bell.h"

#include <errno.h>
#include <stdint.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

int
bell_new (void)
{
  return timerfd_create (CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
}

void
bell_ring (int fd)
{
  const struct itimerspec now = { .it_value = { 0, 1 } };
  uint64_t one = 1;

  /* Timers cannot be written to. */
  if (fd >= 0 && write (fd, &one, sizeof one) < 0 && errno == EINVAL)
    timerfd_settime (fd, 0, &now, NULL);
}

void
bell_silence (int fd)
{
  const struct itimerspec never = { 0 };
  uint64_t count;

  if (fd >= 0 && timerfd_settime (fd, 0, &never, NULL) < 0
      && preadv2 (fd, &(struct iovec) { &count, sizeof count }, 1, -1, RWF_NOWAIT) < 0)
    return;                             /* it has not been rung */
}

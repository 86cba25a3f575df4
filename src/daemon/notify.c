/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define G_LOG_DOMAIN "cellhostd"
#include "notify.h"

#include <errno.h>
#include <glib.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void
notify_manager (const char *text)
{
  const char *path = g_getenv ("NOTIFY_SOCKET");
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  size_t n = path != NULL ? strlen (path) : 0;
  int fd;

  if (n == 0 || n >= sizeof address.sun_path)
    return;
  memcpy (address.sun_path, path, n);
  if (path[0] == '@')
    address.sun_path[0] = 0;
  fd = socket (AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0)
    return;
  if (sendto (fd, text, strlen (text), MSG_NOSIGNAL, (struct sockaddr *) &address,
              (socklen_t) (offsetof (struct sockaddr_un, sun_path) + n)) < 0)
    g_debug ("the service manager cannot be told: %s", g_strerror (errno));
  close (fd);
}

void
notify_ready (int fd)
{
  notify_manager ("READY=1");
  if (fd >= 0 && write (fd, "\n", 1) < 0)
    g_warning ("--ready-fd %d: %s", fd, g_strerror (errno));
}

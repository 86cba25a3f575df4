/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "granted.h"

#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

typedef struct
{
  gconstpointer owner;
  dev_t device;
  ino_t inode;                  /* not given to anything else: the owner's sandbox has it mounted */
} Grant;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static GArray *grants;          /* under the lock; NULL: none */

void
granted_add (gconstpointer owner, int fd)
{
  struct stat st;

  if (fstat (fd, &st) < 0)
    return;                     /* nor can it be mounted */
  pthread_mutex_lock (&lock);
  if (grants == NULL)
    grants = g_array_new (FALSE, FALSE, sizeof (Grant));
  g_array_append_val (grants, ((Grant) { owner, st.st_dev, st.st_ino }));
  pthread_mutex_unlock (&lock);
}

void
granted_drop (gconstpointer owner)
{
  pthread_mutex_lock (&lock);
  for (guint i = grants != NULL ? grants->len : 0; i-- > 0;)
    if (g_array_index (grants, Grant, i).owner == owner)
      g_array_remove_index_fast (grants, i);
  if (grants != NULL && grants->len == 0)
    g_clear_pointer (&grants, g_array_unref);
  pthread_mutex_unlock (&lock);
}

/* With the lock. */
static gboolean
is_granted (const char *path)
{
  struct stat st;

  if (stat (path, &st) < 0)
    return FALSE;
  for (guint i = 0; i < grants->len; i++)
    if (g_array_index (grants, Grant, i).device == st.st_dev && g_array_index (grants, Grant, i).inode == st.st_ino)
      return TRUE;
  return FALSE;
}

gboolean
granted_has (const char *place)
{
  g_autofree char *path = g_strdup (place);
  gboolean has = FALSE;

  pthread_mutex_lock (&lock);
  while (grants != NULL && !has && *path != 0)
    {
      has = is_granted (path);
      *strrchr (path, '/') = 0;
    }
  has = has || (grants != NULL && is_granted ("/"));
  pthread_mutex_unlock (&lock);
  return has;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The numbers are the kernel's (include/uapi/linux/landlock.h); Debian 12's headers end with version 2, and a binary runs on newer
 * kernels.
 */
#define _GNU_SOURCE
#include "landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_landlock_create_ruleset
# define SYS_landlock_create_ruleset 444
# define SYS_landlock_add_rule 445
# define SYS_landlock_restrict_self 446
#endif
#define CREATE_VERSION 1u               /* a flag that asks for the version */
#define RULE_PATH_BENEATH 1

enum /* what is done to files */
{
  EXECUTE = 1 << 0, WRITE_FILE = 1 << 1, READ_FILE = 1 << 2, READ_DIR = 1 << 3, REMOVE_DIR = 1 << 4, REMOVE_FILE = 1 << 5,
  MAKE_CHAR = 1 << 6,
  MAKE_DIR = 1 << 7, MAKE_REG = 1 << 8, MAKE_SOCK = 1 << 9, MAKE_FIFO = 1 << 10, MAKE_BLOCK = 1 << 11, MAKE_SYM = 1 << 12,
  REFER = 1 << 13, TRUNCATE = 1 << 14, IOCTL_DEV = 1 << 15,

  OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV,
  READING = EXECUTE | READ_FILE | READ_DIR,
  WRITING = READING | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SOCK | MAKE_FIFO | MAKE_SYM | REFER
            | TRUNCATE | IOCTL_DEV,
};

/* As the kernel reads it. */
struct path_rule { uint64_t access; int32_t folder; } __attribute__ ((packed));

/* What each version knows; a later one knows what is here at least. */
static uint64_t
known_to (long version)
{
  uint64_t known = (1 << 14) - 1;

  if (version >= 3)
    known |= TRUNCATE;
  if (version >= 5)
    known |= IOCTL_DEV;
  return known;
}

/* A rule that cannot be made leaves less allowed. */
static void
allow (int rules, const char *path, uint64_t access)
{
  int fd = open (path, O_PATH | O_CLOEXEC);
  struct stat st;

  if (fd < 0)
    return;
  if (fstat (fd, &st) == 0)
    syscall (SYS_landlock_add_rule, rules, RULE_PATH_BENEATH,
             &(struct path_rule) { S_ISDIR (st.st_mode) ? access : access & OF_FILES, fd }, 0);
  close (fd);
}

static void
allow_mounts (int rules, uint64_t known)
{
  FILE *mounts = setmntent ("/proc/self/mounts", "re");
  struct mntent *mount;

  while (mounts != NULL && (mount = getmntent (mounts)) != NULL)
    if (hasmntopt (mount, "rw") != NULL && strcmp (mount->mnt_type, "devpts") != 0)
      allow (rules, mount->mnt_dir, WRITING & known);
  if (mounts != NULL)
    endmntent (mounts);
}

void
landlock_confine (void)
{
  long version = syscall (SYS_landlock_create_ruleset, NULL, 0, CREATE_VERSION);
  uint64_t known = known_to (version);
  bool good = false;
  int rules;

  if (version < LANDLOCK_LEAST)
    return;
  rules = (int) syscall (SYS_landlock_create_ruleset, &known, sizeof known, 0);
  if (rules >= 0)
    {
      allow (rules, "/", READING);
      allow_mounts (rules, known);
      prctl (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
      good = syscall (SYS_landlock_restrict_self, rules, 0) == 0;
    }
  if (!good)
    fprintf (stderr, "the kernel has Landlock, and does not confine this process: %s\n", strerror (errno));
  if (rules >= 0)
    close (rules);
}

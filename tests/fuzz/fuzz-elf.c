/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Any bytes as a shared library that is looked at before it is loaded: refused with a sentence, or what was found lies in the file.
 * libelf has no sanitizer: behind the bytes lies a page that nobody may touch.
 */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "plugins/elf-look.h"

#define SYMBOL_SIZE 32u                 /* of the libraries in the corpus */
#define ROOM (1u << 20)                 /* for the bytes, up to that page */

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

static uint8_t *
make_room (void)
{
  uint8_t *room = mmap (NULL, ROOM + (size_t) getpagesize (), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

  g_assert_true (room != MAP_FAILED);
  g_assert_cmpint (mprotect (room + ROOM, (size_t) getpagesize (), PROT_NONE), ==, 0);
  return room;
}

static gboolean
look_at (const uint8_t *data, size_t size)
{
  g_autoptr (GError) error = NULL;
  const uint8_t *found = elf_look_at (data, size, "cell_entry", SYMBOL_SIZE, &error);

  if (found == NULL)
    g_assert_true (error != NULL && error->domain == CELL_ERROR_DOMAIN && g_utf8_validate (error->message, -1, NULL));
  else
    g_assert_true (found >= data && found + SYMBOL_SIZE <= data + size);
  return found != NULL;
}

/* Up to the end of the room, where the tables of most are not aligned and libelf copies them; and aligned, as a mapped file is. */
int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  static uint8_t *room;
  uint8_t *at_end, *aligned;
  gboolean good;

  if (room == NULL)
    room = make_room ();
  if (size > ROOM)
    return 0;
  at_end = room + ROOM - size;
  memcpy (at_end, data, size);
  good = look_at (at_end, size);
  aligned = room + ((ROOM - size) & ~(size_t) 15);
  memmove (aligned, at_end, size);
  memset (aligned + size, 0xff, (size_t) (room + ROOM - (aligned + size)));
  g_assert_cmpint (look_at (aligned, size), ==, good);
  return 0;
}

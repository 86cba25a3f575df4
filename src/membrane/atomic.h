/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The few atomic operations that the membrane uses, by the names of what they are for.
 */
#pragma once
#include <stdatomic.h>

#define load_relaxed(p) atomic_load_explicit ((p), memory_order_relaxed)
#define load_acquire(p) atomic_load_explicit ((p), memory_order_acquire)
#define store_relaxed(p, v) atomic_store_explicit ((p), (v), memory_order_relaxed)
#define store_release(p, v) atomic_store_explicit ((p), (v), memory_order_release)

#define likely(x) __builtin_expect (!!(x), 1)
#define unlikely(x) __builtin_expect (!!(x), 0)

#if defined(__SANITIZE_THREAD__)
# define MEMBRANE_TSAN 1
#elif defined(__has_feature)
# if __has_feature (thread_sanitizer)
#  define MEMBRANE_TSAN 1
# endif
#endif

/* Orders an earlier store before a later load: "I have published, does anybody sleep?".  ThreadSanitizer does not understand
 * fences, so it gets a read-modify-write. */
static inline void
full_fence (void)
{
#ifdef MEMBRANE_TSAN
  static _Atomic int fence;
  atomic_fetch_add (&fence, 1);
#else
  atomic_thread_fence (memory_order_seq_cst);
#endif
}

/* Asks for a line that is to be written.  Compilers ask for it as if it were to be read unless they are told of the processor; the
 * instruction is as old as the architecture, and does nothing where it is not known. */
static inline void
fetch_for_writing (const void *line)
{
#if defined(__x86_64__)
  __asm__ volatile ("prefetchw %0" : : "m" (*(const char *) line));
#else
  __builtin_prefetch (line, 1);
#endif
}

static inline void
cpu_relax (void)
{
#if defined(__x86_64__)
  __builtin_ia32_pause ();
#elif defined(__aarch64__)
  __asm__ volatile ("yield" ::: "memory");
#endif
}

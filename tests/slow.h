/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * How many times fewer rounds a test makes where a sanitizer looks on.
 */
#pragma once

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
# define SLOW 5
#elif defined(__has_feature)
# if __has_feature (thread_sanitizer) || __has_feature (address_sanitizer)
#  define SLOW 5
# endif
#endif
#ifndef SLOW
# define SLOW 1
#endif

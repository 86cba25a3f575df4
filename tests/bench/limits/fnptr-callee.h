/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* In a translation unit of its own, where the caller's compiler cannot see it. */
void limit_fnptr_callee (void *to, const void *from);

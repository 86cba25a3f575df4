#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Each header of the SDK stands alone: test-headers.sh INCLUDE COMPILER…, each with those standards that cells are written in.
include=$1
shift
failed=0
n=0
for header in "$include"/cell/*.h; do
  for compiler; do
    case $compiler in
      *++*) standards='gnu++20 gnu++2b'; language=c++ ;;
      *) standards='gnu11 gnu17 gnu2x'; language=c ;;
    esac
    for standard in $standards; do
      n=$((n + 1))
      printf '#include <cell/%s>\nextern int not_empty;\n' "${header##*/}" |
        "$compiler" -std="$standard" -Wall -Wextra -Wpedantic -Werror -I"$include" -fsyntax-only -x "$language" - || {
        printf '%s does not stand alone: %s -std=%s\n' "${header##*/}" "$compiler" "$standard"
        failed=1
      }
    done
  done
done
printf '%d compiled\n' "$n"
[ "$n" -gt 0 ] && [ "$failed" -eq 0 ]

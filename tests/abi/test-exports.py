#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A cell exports cell_entry and nothing else.  Visibility counts: the linker lists its hidden section symbols, too."""
import os
import subprocess
import sys


def exported(path):
    table = subprocess.run(['readelf', '--dyn-syms', '--wide', path], check=True, capture_output=True, text=True).stdout
    rows = [line.split() for line in table.splitlines() if line.lstrip()[:1].isdigit()]
    # number: value size type bind visibility section name
    return {row[7].split('@')[0] for row in rows
            if len(row) >= 8 and row[6] != 'UND' and row[4] != 'LOCAL' and row[5] in ('DEFAULT', 'PROTECTED')
            and not row[7].startswith('__odr_asan')}    # a sanitizer's own


print(f'1..{len(sys.argv) - 1}')
bad = 0
for i, module in enumerate(sys.argv[1:], 1):
    extra = exported(module) ^ {'cell_entry'}
    bad += bool(extra)
    if extra:
        print('#', ', '.join(sorted(extra)))
    print('not ok' if extra else 'ok', i, os.path.basename(module))
sys.exit(bool(bad))

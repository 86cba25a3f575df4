#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The ABI's layout is the one that was written down: a break is a decision, never an accident."""
import difflib
import subprocess
import sys

dump, expected = sys.argv[1:]
now = subprocess.run([dump], check=True, capture_output=True, text=True).stdout.splitlines()
with open(expected, encoding='utf-8') as file:
    then = file.read().splitlines()
diff = list(difflib.unified_diff(then, now, 'layout.txt', 'built', lineterm=''))
print('1..1')
for line in diff:
    print('#', line)
if diff:
    print('# if this is meant, write the new layout to tests/abi/layout.txt and explain it in docs/abi.md')
print('not ok 1 layout' if diff else 'ok 1 layout')
sys.exit(bool(diff))

#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Checks that lines have at most as many characters as CONTRIBUTING.md says.

test-lines.py TREE         prints each line that is longer; the exit code is 1 when there is one
test-lines.py --self-test  sees whether one is noticed, and one that is just short enough is not
"""

import os
import sys
import tempfile

MOST = 132
FOLDERS = ["data", "examples", "include", "plugins", "po", "src", "tests"]
ENDS = (".c", ".cpp", ".h", ".py", ".build")

# What is kept as it was when it was built with the first SDK.
LEFT = {"tests/abi/old/payer.c", "tests/abi/old/tally.c"}


def files(tree):
    for name in sorted(os.listdir(tree)):
        if name == "dev" or name.endswith(ENDS):
            yield name
    for top in FOLDERS:
        for folder, _, names in os.walk(os.path.join(tree, top)):
            for name in sorted(names):
                if name.endswith(ENDS):
                    yield os.path.relpath(os.path.join(folder, name), tree)


def find(tree):
    """(file, number, length) of each line that is too long."""
    found = []
    for name in files(tree):
        if name in LEFT:
            continue
        with open(os.path.join(tree, name), encoding="utf-8") as file:
            lengths = [len(line.rstrip("\n")) for line in file]
        found += [(name, i, length) for i, length in enumerate(lengths, 1) if length > MOST]
    return found


def self_test():
    with tempfile.TemporaryDirectory() as tree:
        os.makedirs(os.path.join(tree, "src"))
        os.makedirs(os.path.join(tree, "tests", "abi", "old"))
        for name, length in (("src/short.c", MOST), ("src/long.h", MOST + 1), ("src/long.txt", MOST + 1),
                             ("tests/abi/old/payer.c", MOST + 1), ("dev", MOST + 1)):
            with open(os.path.join(tree, name), "w", encoding="utf-8") as file:
                file.write("\n" + "ä" * length + "\n")
        found = find(tree)
        assert found == [("dev", 2, MOST + 1), ("src/long.h", 2, MOST + 1)], found


def main():
    if sys.argv[1:] == ["--self-test"]:
        self_test()
        return
    found = find(sys.argv[1])
    for name, number, length in found:
        print(f"{name}:{number}: {length} characters; {MOST} are the most")
    sys.exit(1 if found else 0)


main()

#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Compiles every listing of the documentation.

test-docs.py INCLUDE REMOTE CC CXX FILE.md…

A block fenced as ```c file=NAME.c (or cpp) is compiled as it stands; blocks of one name in one document follow one another.  A
block of C without a name is an error: a listing that nobody compiles is wrong sooner or later.  REMOTE is the generated client
header of the ledger, which some listings call.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile

FENCE = re.compile(r"^```(c|cpp)\b([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FLAGS = ["-Wall", "-Wextra", "-Werror", "-O2", "-fPIC", "-c"]


def listings(path):
    """{file name: text} of a document; raises ValueError for a block that has no name."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    found = {}
    for match in FENCE.finditer(text):
        name = re.search(r"\bfile=([\w.-]+)", match.group(2))
        if not name:
            raise ValueError(f"{path}:{text.count(chr(10), 0, match.start()) + 1}: a listing without file=")
        found[name.group(1)] = found.get(name.group(1), "") + match.group(3)
    return found


def compile_listing(folder, name, text, include, cc, cxx):
    source = os.path.join(folder, name)
    with open(source, "w", encoding="utf-8") as file:
        file.write(text)
    compiler = [cxx, "-std=gnu++20"] if name.endswith(".cpp") else [cc, "-std=gnu11"]
    command = compiler + ["-I" + include, "-I" + folder] + FLAGS + ["-o", source + ".o", source]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode == 0, done.stderr


def main():
    if len(sys.argv) < 6:
        sys.exit(__doc__)
    include, remote, cc, cxx = sys.argv[1:5]
    failed = compiled = 0
    for path in sys.argv[5:]:
        with tempfile.TemporaryDirectory() as folder:
            os.makedirs(os.path.join(folder, "cell/remote"))
            shutil.copy(remote, os.path.join(folder, "cell/remote/ledger.h"))
            for name, text in listings(path).items():
                good, output = compile_listing(folder, name, text, include, cc, cxx)
                compiled += 1
                failed += not good
                print(f"{path}: {name}: {'compiles' if good else 'does not compile'}")
                print(output, end="")
    if compiled == 0:
        print("no listing was found")
    sys.exit(1 if failed or compiled == 0 else 0)


main()

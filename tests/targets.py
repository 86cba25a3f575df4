#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Prints what ninja has to build for some tests, and for no others.

    targets.py BUILD [OPTION OF MESON TEST]...

Which tests they are is what `meson test --list` says.
"""
import json
import os
import subprocess
import sys


def read(build, what):
    with open(os.path.join(build, "meson-info", f"intro-{what}.json"), encoding="utf-8") as file:
        return json.load(file)


def main():
    build, options = sys.argv[1], sys.argv[2:]
    listed = subprocess.run(["meson", "test", "-C", build, "--no-rebuild", "--list", *options],
                            stdout=subprocess.PIPE, check=True, text=True).stdout
    names = {line.split(" / ")[-1].strip() for line in listed.splitlines()}
    files = {target["id"]: target["filename"] for target in read(build, "targets")}
    needed = {name for test in read(build, "tests") if test["name"] in names for name in test["depends"]}
    for path in sorted(path for name in needed for path in files[name]):
        print(os.path.relpath(path, build))


main()

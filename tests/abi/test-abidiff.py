#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What plugins and programs were compiled against is what they meet: types, functions and symbols, as abidiff sees them.

test-abidiff.py [--renew] DUMP LIBRARY HEADERS…      compares each library with its dump, or writes the dumps anew.
HEADERS is the folder of the library's public headers: other types are its own business.  '-': all of them are looked at.
"""
import os
import platform
import re
import shutil
import subprocess
import sys

WRITE = ["abidw", "--exported-interfaces-only", "--no-comp-dir-path", "--no-corpus-path", "--no-elf-needed", "--no-show-locs",
         "--no-parameter-names", "--type-id-style", "hash"]
COMPARE = ["abidiff", "--exported-interfaces-only"]


def public(option, headers):
    return [] if headers == "-" else ["--drop-private-types", option, headers]


def renew(dump, library, headers):
    done = subprocess.run([*WRITE, *public("--headers-dir", headers), library], check=True, capture_output=True, text=True)
    text = re.sub(r"(<abi-instr [^>]*\bpath=')[^']*/", r"\1", done.stdout)     # where it was compiled is of no interest
    first, rest = text.split("\n", 1)
    with open(dump, "w", encoding="utf-8") as file:
        file.write(first + "\n  <!-- SPDX-License-Identifier: LGPL-2.1-or-later -->\n" + rest)


def has_types(library):
    sections = subprocess.run(["readelf", "-SW", library], check=True, capture_output=True, text=True).stdout
    return ".debug_info" in sections


def compare(number, dump, library, headers):
    name = f"{number} {os.path.basename(dump)}"
    if not has_types(library):
        print(f"ok {name} # SKIP {os.path.basename(library)} was built without debug information")
        return True
    done = subprocess.run([*COMPARE, *public("--headers-dir2", headers), dump, library], capture_output=True, text=True,
                          check=False)
    if done.returncode == 0 and not done.stdout.strip():
        print(f"ok {name}")
        return True
    for line in (done.stdout + done.stderr).splitlines():
        print("#", line)
    print("# if this is meant: `ninja -C build renew-abi` writes it down, and docs/abi.md says what changed and why")
    print(f"not ok {name}")
    return False


def main(arguments):
    anew = arguments[:1] == ["--renew"]
    rest = arguments[anew:]
    each = list(zip(rest[::3], rest[1::3], rest[2::3]))
    if anew:
        for one in each:
            renew(*one)
        return 0
    if not shutil.which("abidiff"):
        assert not os.environ.get("CI"), "there is no abidiff"
        print("1..0 # SKIP there is no abidiff: it is in the package abigail-tools")
        return 0
    if platform.machine() != "x86_64":
        print(f"1..0 # SKIP the dumps are of x86-64, and this is {platform.machine()}")
        return 0
    print(f"1..{len(each)}")
    return 0 if all([compare(i, *one) for i, one in enumerate(each, 1)]) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Checks that includes go one way: membrane <- plugins <- host <- api, and that cells see the SDK and nothing else.

test-arrows.py TREE         prints each include that runs against an arrow; the exit code is 1 when there is one
test-arrows.py --self-test  breaks each rule once, in a tree made for it, and sees whether it is noticed
"""

import os
import re
import sys
import tempfile

# A part is what a folder holds; longer paths win.  A few files of a folder may be a part of their own.
PARTS = [
    (r"include/cell/organ\.h$", "organ-sdk"),
    (r"include/cell/", "sdk"),
    (r"src/membrane/", "membrane"),
    (r"src/plugins/(cell-error|suggest)\.", "errors"),              # what is said, by anybody
    (r"src/plugins/(contract|client-header)\.h$", "contract"),      # what a cell offers, as callers may read it too
    (r"src/plugins/", "plugins"),
    (r"src/client/", "client"),
    (r"src/runner/", "runner"),
    (r"src/host/(validate|doctor)\.h$", "alone"),                    # what the host says to whoever has no host
    (r"src/host/", "host"),
    (r"src/api/(json|text)-", "json"),
    (r"src/api/", "api"),
    (r"src/daemon/", "daemon"),
    (r"src/cli/", "cli"),
    (r"src/demo/", "demo"),
    (r"plugins/sandbox/", "sandbox"),                                # linked into the host and the runner: see its README
    (r"plugins/", "organ"),
    (r"examples/\w+/test-", "tests"),
    (r"examples/", "example"),
    (r"tests/", "tests"),
]

# What each part may include besides itself.  "*" is anything of ours.
MAY_INCLUDE = {
    "sdk": [],
    "organ-sdk": ["sdk"],
    "membrane": ["sdk"],
    "errors": ["sdk"],
    "contract": ["sdk", "errors"],
    "plugins": ["sdk", "organ-sdk", "membrane", "errors", "contract"],
    "client": ["sdk", "membrane"],
    "sandbox": ["membrane", "errors", "plugins"],
    "runner": ["sdk", "membrane", "errors", "contract", "plugins", "sandbox"],
    "alone": ["errors"],
    "host": ["sdk", "organ-sdk", "membrane", "errors", "contract", "plugins", "alone", "sandbox"],
    "json": ["sdk", "errors", "contract", "plugins"],
    "api": ["sdk", "organ-sdk", "membrane", "errors", "contract", "plugins", "host", "json"],
    "daemon": ["sdk", "errors", "host", "api"],
    "cli": ["sdk", "client", "errors", "contract", "json", "alone"],
    "demo": ["sdk", "client"],
    "organ": ["sdk", "organ-sdk"],
    "example": ["sdk"],
    "tests": ["*"],
}

# Parts that stand on libc alone.
LIBC_ONLY = {"sdk", "organ-sdk", "membrane"}
LIBC = re.compile(
    r"^(assert|ctype|dirent|dlfcn|elf|endian|errno|fcntl|float|inttypes|limits|link|locale|math|poll|pthread|pwd|sched|semaphore"
    r"|setjmp|signal|spawn|stdalign|stdarg|stdatomic|stdbool|stddef|stdint|stdio|stdlib|stdnoreturn|string|strings|syscall|threads"
    r"|time|ucontext|unistd|wchar|immintrin|x86intrin|arm_acle"
    r"|sys/[a-z0-9_]+|linux/[a-z0-9_]+|asm/[a-z0-9_]+|bits/[a-z0-9_]+)\.h$"
    r"|^(algorithm|array|atomic|cstddef|cstdint|cstdio|cstring|exception|functional|initializer_list"
    r"|limits|memory|new|optional|span|stdexcept|string|string_view"
    r"|tuple|type_traits|utility|vector)$"
)

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(?:"([^"]+)"|<([^>]+)>)', re.MULTILINE)
# What the build writes: <cell/remote/NAME.h>, <cell/expand/CELL/EXPANDER/TYPE.h>, and headers beside their users.
GENERATED_SDK = re.compile(r"^cell/(remote|expand)/")
SOURCES = (".c", ".h", ".cpp", ".hpp")
ROOTS = ("include", "src", "plugins", "examples", "tests")


def part_of(path):
    for pattern, part in PARTS:
        if re.match(pattern, path):
            return part
    return None


def home_of(path):
    """An organ and an example own one folder each, and may not reach into another's."""
    return "/".join(path.split("/")[:2])


def resolve(tree, path, quoted, angled):
    """The file of ours that is meant, or None when it belongs to the system or is written by the build."""
    name = quoted or angled
    places = ["include", "src"]
    if quoted:
        places = [os.path.dirname(path), "."] + places
    for place in places:
        candidate = os.path.normpath(os.path.join(place, name))
        if not candidate.startswith("..") and os.path.isfile(os.path.join(tree, candidate)):
            return candidate
    return None


def check_include(tree, path, part, quoted, angled):
    """A sentence that says what is wrong with one include, or None."""
    target = resolve(tree, path, quoted, angled)
    if target is None:
        name = quoted or angled
        if GENERATED_SDK.match(name):
            return "nothing below may depend on a generated client" if part in LIBC_ONLY else None
        first = part_of("src/" + name)
        if first and first not in [part, *MAY_INCLUDE[part]] and "*" not in MAY_INCLUDE[part]:
            return f"{part} may not include {first}"
        if quoted is None and part in LIBC_ONLY and not LIBC.match(angled):
            return f"{part} stands on libc alone"
        return None
    other = part_of(target)
    if other is None:
        return f"{target} belongs to no part"
    if "*" in MAY_INCLUDE[part] or other in MAY_INCLUDE[part]:
        return None
    if other != part:
        return f"{part} may not include {other}"
    if part in ("organ", "example") and home_of(path) != home_of(target):
        return f"{home_of(path)} may not reach into {home_of(target)}"
    return None


def sources(tree):
    for root in ROOTS:
        for folder, folders, files in os.walk(os.path.join(tree, root)):
            folders[:] = sorted(f for f in folders if not f.startswith("."))
            for file in sorted(files):
                if file.endswith(SOURCES):
                    yield os.path.relpath(os.path.join(folder, file), tree)


def check(tree):
    """What is wrong in a tree, one line each, and how many includes were looked at."""
    wrong, seen = [], 0
    for path in sources(tree):
        part = part_of(path)
        if part is None:
            wrong.append(f"{path}: its folder belongs to no part; give it a rule in tests/unit/test-arrows.py")
            continue
        with open(os.path.join(tree, path), encoding="utf-8") as file:
            text = file.read()
        for match in INCLUDE.finditer(text):
            seen += 1
            why = check_include(tree, path, part, match.group(1), match.group(2))
            if why:
                line = text.count("\n", 0, match.start(0)) + 1
                wrong.append(f"{path}:{line}: {match.group(1) or match.group(2)}: {why}")
    return wrong, seen


GOOD = {
    "include/cell/abi.h": "#include <stdint.h>\n",
    "include/cell/organ.h": "#include <cell/abi.h>\n",
    "src/membrane/ring.h": "#include <sys/mman.h>\n#include <cell/abi.h>\n",
    "src/plugins/cell-error.h": "#include <glib.h>\n",
    "src/plugins/loader.h": '#include <glib.h>\n#include "cell-error.h"\n#include "membrane/ring.h"\n',
    "src/client/bus.h": '#include "../membrane/ring.h"\n',
    "src/runner/main.c": '#include "plugins/loader.h"\n',
    "src/host/host.h": '# include "plugins/loader.h"\n#include "plugins/sandbox/sandbox.h"\n',
    "src/api/json-value.h": '#include "plugins/loader.h"\n',
    "src/api/rest.h": '#include "host/host.h"\n#include "json-value.h"\n',
    "src/cli/main.c": '#include "client/bus.h"\n'
    '#include "api/json-value.h"\n#include "plugins/cell-error.h"\n#include "config.h"\n',
    "plugins/builder/builder.h": "#include <cell/organ.h>\n",
    "plugins/discovery/beacon.h": "#include <cell/abi.h>\n",
    "plugins/sandbox/sandbox.h": '#include "plugins/cell-error.h"\n',
    "examples/ledger/ledger.h": "#include <cell/abi.h>\n",
    "examples/exchange/exchange.c": '#include <cell/remote/ledger.h>\n#include <gdk-pixbuf/gdk-pixbuf.h>\n#include "book.h"\n',
    "examples/exchange/book.h": "#include <cell/abi.h>\n",
    "tests/unit/test-all.c": '#include "api/rest.h"\n#include "membrane/ring.h"\n',
}

BAD = [
    ("include/cell/bad.h", "#include <glib.h>", "sdk stands on libc alone"),
    ("include/cell/bad.h", '#include "membrane/ring.h"', "sdk may not include membrane"),
    ("include/cell/bad.h", "#include <cell/organ.h>", "sdk may not include organ-sdk"),
    ("src/membrane/bad.c", "#include <glib.h>", "membrane stands on libc alone"),
    ("src/membrane/bad.c", '#include "plugins/loader.h"', "membrane may not include plugins"),
    ("src/membrane/bad.c", '#include "plugins/generated.h"', "membrane may not include plugins"),
    ("src/membrane/bad.c", "#include <cell/remote/ledger.h>", "nothing below may depend on a generated client"),
    ("src/plugins/bad.c", '#include "../host/host.h"', "plugins may not include host"),
    ("src/client/bad.c", '#include "plugins/loader.h"', "client may not include plugins"),
    ("src/runner/bad.c", '#include "host/host.h"', "runner may not include host"),
    ("src/host/bad.c", '#  include "api/rest.h"', "host may not include api"),
    ("src/host/bad.c", '#include "client/bus.h"', "host may not include client"),
    ("src/api/json-bad.c", '#include "host/host.h"', "json may not include host"),
    ("src/cli/bad.c", '#include "host/host.h"', "cli may not include host"),
    ("src/cli/bad.c", '#include "plugins/loader.h"', "cli may not include plugins"),
    ("src/cli/bad.c", '#include "api/rest.h"', "cli may not include api"),
    ("plugins/builder/bad.c", '#include "plugins/loader.h"', "organ may not include plugins"),
    ("plugins/builder/bad.c", '#include "../discovery/beacon.h"', "plugins/builder may not reach into plugins/discovery"),
    ("plugins/sandbox/bad.c", '#include "host/host.h"', "sandbox may not include host"),
    ("src/plugins/bad.c", '#include "plugins/sandbox/sandbox.h"', "plugins may not include sandbox"),
    ("examples/ledger/bad.c", "#include <cell/organ.h>", "example may not include organ-sdk"),
    ("examples/exchange/bad.c", '#include "../ledger/ledger.h"', "examples/exchange may not reach into examples/ledger"),
    ("src/misc/bad.c", "", "its folder belongs to no part"),
]


def write(tree, path, text):
    full = os.path.join(tree, path)
    os.makedirs(os.path.dirname(full), exist_ok=True)
    with open(full, "w", encoding="utf-8") as file:
        file.write(text)


def self_test():
    failures = []
    with tempfile.TemporaryDirectory() as tree:
        for path, text in GOOD.items():
            write(tree, path, text)
        failures += [f"a tree in order: {line}" for line in check(tree)[0]]
        for path, text, why in BAD:
            write(tree, path, text + "\n")
            wrong = check(tree)[0]
            if len(wrong) != 1 or not wrong[0].startswith(path + ":") or why not in wrong[0]:
                failures.append(f"{path}: {text}: expected “{why}”, got {wrong}")
            os.remove(os.path.join(tree, path))
    return failures


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    if sys.argv[1] == "--self-test":
        wrong, seen = self_test(), len(BAD) + 1
    else:
        wrong, seen = check(sys.argv[1])
        if seen == 0:
            wrong.append(f"{sys.argv[1]} has no source with an include")
    for line in wrong:
        print(line)
    print(f"{seen} looked at, {len(wrong)} wrong")
    sys.exit(1 if wrong else 0)


main()

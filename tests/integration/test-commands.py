#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Types what the documentation says is typed.

test-commands.py FILE.md

In a folder of its own, with a host: a block fenced as ```c file=NAME (or cpp) is written to that file, and an indented block is
run by sh and must succeed, in the order of the document.  What builds, installs or starts Cellhost itself is left out: a host is
running already.
"""
import base64
import glob
import os
import re
import signal
import subprocess
import sys

from programs import BOUND, CTL, HOST, Skip, main, wait_until

BUILD, SOURCE = os.environ["TEST_BUILD"], os.environ["TEST_SOURCE"]
BLOCK = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$|((?:^ {4}[^\n]*\n)+)", re.MULTILINE | re.DOTALL)
NOT_HERE = re.compile(r"^(\./dev\b|eval |meson |ninja |sudo |systemctl |cellhostd &$|build/)")
PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==")


def prepare(here):
    cells = sorted({os.path.dirname(path) for path in glob.glob(BUILD + "/examples/**/*.so", recursive=True)})
    here.env |= {"PATH": ":".join([os.path.dirname(HOST), os.path.dirname(CTL), here.env["PATH"]]), "CELL_PATH": ":".join(cells),
                 "PKG_CONFIG_PATH": BUILD + "/meson-uninstalled", "LD_LIBRARY_PATH": BUILD + "/src/client"}
    os.symlink(SOURCE + "/include", here.path("include"))
    here.write("photo.png", PIXEL)


def type_in(here, text):
    """What is run in the background may outlast the shell, and is ended with it."""
    with open(here.path("log-typed"), "wb") as log:
        shell = here.spawn("sh", "-exc", text, stdout=log, stderr=log, start_new_session=True)
        try:
            status = shell.wait(BOUND)
        finally:
            try:
                os.killpg(shell.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
    assert status == 0, (status, text)


def document(path):
    with open(path, encoding="utf-8") as file:
        text = file.read()

    def commands(here):
        if "cellctl eject" in text and subprocess.run(
                ["bwrap", "--unshare-all", "--unshare-user", "--ro-bind", "/", "/", "true"], check=False).returncode != 0:
            raise Skip("bubblewrap cannot make a sandbox here")
        prepare(here)
        host = here.host()
        typed = 0
        for _, about, listing, block in BLOCK.findall(text):
            name = re.search(r"\bfile=([\w.-]+)", about)
            if name:
                here.write(name.group(1), listing)
            lines = [line[4:] for line in block.splitlines() if not NOT_HERE.match(line[4:])]
            if lines:
                type_in(here, "\n".join(lines))
                typed += len(lines)
        assert typed > 0, path
        if "cellctl shutdown" in text:
            assert wait_until(lambda: host.poll() is not None, "the end of the host") and host.returncode == 0
    return commands


os.umask(0o022)         # a module that others may write to is refused
main([document(sys.argv.pop())])

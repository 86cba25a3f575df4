#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is installed works where it was installed: the programs find the runner, the cells and the catalogues, a program finds
libcellhost.

The build is installed into a folder, and a namespace has that folder at the prefix."""
import os
import re
import signal
import subprocess

from programs import BOUND, Skip, main

BUILD, SOURCE, PREFIX, LIBDIR = (os.environ["TEST_" + name] for name in ("BUILD", "SOURCE", "PREFIX", "LIBDIR"))
USE = r"""
mkfifo ready
cellhostd --ready-fd 3 "$@" 3>ready 2>log-host &
head -c 1 ready >/dev/null
cellctl load ledger
mkdir -p cell/remote
cellctl client ledger >cell/remote/ledger.h
cc -std=gnu11 -o pay pay.c -I. $(pkg-config --cflags --libs cellhost-1)
./pay
build_counter () {
  c++ -std=gnu++20 -shared -fPIC -fno-gnu-unique "$@" $(pkg-config --cflags cellhost-1) -o counter.so counter.cpp
}
build_counter
if cellctl load counter.so 2>refused; then exit 1; fi
eval "build_counter $(sed -n 's/.*\(-Wl,--version-script=.*\)/\1/p' refused)"
cellctl load counter.so
test -f "$(pkg-config --variable=celldir cellhost-1)/ledger.cell"
cellctl eject ledger
./pay
cellctl list
cellctl shutdown
wait
"""


def installed(here):
    """The namespace, as the first words of a command."""
    if PREFIX == "/usr":
        raise Skip("what is installed there would hide the system's own")
    target = here.path("target")
    done = here.run("meson", "install", "-C", BUILD, "--no-rebuild", "--quiet", "--destdir", target)
    assert done.returncode == 0, done
    names = ["bwrap", "--dev-bind", "/", "/", "--bind", target + PREFIX, PREFIX, "--die-with-parent"]
    if here.run(*names, "true").returncode != 0:
        raise Skip(f"bubblewrap cannot put a folder at {PREFIX} here")
    here.env |= {"PATH": f"{PREFIX}/bin:" + here.env["PATH"], "LD_LIBRARY_PATH": LIBDIR, "PKG_CONFIG_PATH": LIBDIR + "/pkgconfig"}
    return names


def listing(document, name):
    with open(os.path.join(SOURCE, document), encoding="utf-8") as file:
        return re.search(rf"^```\w+ file={name}\n(.*?)^```$", file.read(), re.MULTILINE | re.DOTALL)[1]


def what_is_installed_is_used(here):
    names = installed(here)
    here.write("pay.c", listing("docs/writing-a-cell.md", "pay.c"))
    here.write("counter.cpp", listing("docs/writing-a-cell.md", "counter.cpp"))
    with open(here.path("log-typed"), "wb") as log:
        shell = here.spawn(*names, "sh", "-exc", USE, "sh", *(["--allow-root"] if os.geteuid() == 0 else []),
                           stdout=subprocess.PIPE, stderr=log, start_new_session=True)
        try:
            said = shell.communicate(timeout=BOUND)[0].decode()
        finally:
            if shell.returncode is None:
                os.killpg(shell.pid, signal.SIGKILL)
    assert shell.returncode == 0, (shell.returncode, said)
    assert "-500 left" in said and "-1000 left" in said, said


def what_is_installed_speaks(here):
    done = here.run(*installed(here), "cellctl", env=dict(here.env, LC_ALL="C.UTF-8", LANGUAGE="de"))
    assert "es fehlt ein Befehl" in done.stderr.decode(), done


os.umask(0o022)         # a module that others may write to is refused
main([what_is_installed_is_used, what_is_installed_speaks])

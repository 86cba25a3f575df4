#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The unit that is installed: what it restricts keeps no cell from being ejected, replaced and taken back; and what would is
seen."""
import contextlib
import ctypes
import json
import os
import re
import shutil
import signal
import sys

from programs import Skip, cell, main, need, stop, wait_until

RESTRICT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "restrict.py")
# What a unit says of a service's life.  Whatever else it says of it is a restriction.
LIFE = {"Type", "NotifyAccess", "ExecStart", "KillMode", "TimeoutStopSec", "Restart"}


def service():
    """[(key, value)] of its [Service]."""
    with open(os.environ["TEST_SERVICE"], encoding="utf-8") as file:
        section = file.read().split("[Service]\n")[1].split("\n[")[0]
    return re.findall(r"^(\w+)=(.*)$", section, re.MULTILINE)


def restrictions():
    found = [f"{key}={value}" for key, value in service() if key not in LIFE]
    assert "NoNewPrivileges=yes" in found, found
    return found


def can_sandbox(here):
    if here.run("bwrap", "--unshare-all", "--unshare-user", "--ro-bind", "/", "/", "true").returncode != 0:
        raise Skip("bubblewrap cannot make a sandbox here")


def restrict(here, *words):
    """Hosts of this place are started under those."""
    argv = here.host_argv
    here.host_argv = lambda *args: [sys.executable, RESTRICT, *words, "--", *argv(*args)]


def entry(here, name):
    return next(row for row in json.loads(here.good("--json", "list")) if row["name"] == name)


def status_of(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def longer_than_a_stop(here):
    """Cells are waited for, for a minute: until then nobody kills their host."""
    assert int(dict(service())["TimeoutStopSec"]) >= 120, here


def there_and_back(here):
    """A cell is ejected with its state, dies, is replaced, and is taken back; one that is foreign begins there."""
    here.good("call", "mirror", "=number", "7")
    here.good("eject", "mirror")
    row = entry(here, "mirror")
    assert row["location"] == "sandbox" and here.good("call", "mirror", "@number") == "value: 7\n", row
    os.kill(row["pid"], signal.SIGKILL)
    wait_until(lambda: entry(here, "mirror")["location"] == "sandbox" and entry(here, "mirror")["restarts"] == 1, "another process")
    here.good("call", "mirror", "=number", "8")
    here.good("absorb", "mirror")
    assert entry(here, "mirror")["location"] == "in process" and here.good("call", "mirror", "@number") == "value: 8\n"
    os.mkdir(here.path("open"))
    os.chmod(here.path("open"), 0o1777)
    shutil.copy(cell("mirror"), here.path("open", "foreign.so"))
    here.good("load", here.path("open", "foreign.so"))
    assert entry(here, "foreign")["location"] == "sandbox" and here.good("call", "foreign", "nothing") == ""


def under_its_restrictions(here):
    can_sandbox(here)
    restrict(here, *restrictions())
    host = here.host("--cell", cell("mirror"))
    about = status_of(host.pid)
    assert about["NoNewPrivs"] == "1" and about["Umask"] == "0077", about       # they hold, and it is the host that they hold for
    there_and_back(here)
    assert stop(host) == 0


def what_would_forbid_it(here):
    """Is seen: the cell stays where it is, and who asks for it is told why."""
    can_sandbox(here)
    for number, words in enumerate((["RestrictNamespaces=yes"], ["SystemCallFilter=~@mount"])):
        need(*(["systemd-analyze"] if "@" in words[0] else []))
        before = here.host_argv
        restrict(here, "NoNewPrivileges=yes", *words)
        host = here.host("--cell", cell("mirror"), log=f"log-{number}")
        said = here.refused("UNSUPPORTED", "eject", "mirror")
        assert "the sandbox does not start here" in said, said
        assert entry(here, "mirror")["location"] == "in process" and here.good("call", "mirror", "nothing") == ""
        assert stop(host) == 0
        here.host_argv = before


def a_landlock_that_fails(here):
    """Is said, and the rest of the sandbox holds without it."""
    can_sandbox(here)
    if ctypes.CDLL(None).syscall(444, None, 0, 1) < 2:          # landlock_create_ruleset, asked for its version
        raise Skip("this kernel has no Landlock, or an old one")
    restrict(here, "NoNewPrivileges=yes", "SystemCallFilter=~landlock_restrict_self:EPERM")
    host = here.host("--cell", cell("mirror"))
    here.good("eject", "mirror")
    said = "warning mirror: the kernel has Landlock, and does not confine this process: Operation not permitted\n"
    wait_until(lambda: said in here.read("log"), "the line")
    assert here.good("call", "mirror", "nothing") == ""
    assert stop(host) == 0


@contextlib.contextmanager
def user_systemd(here):
    """The systemd of the user who runs this, if there is one: a service of it, with all that the shipped one says."""
    need("systemctl", "systemd-run")
    env = dict(here.env, XDG_RUNTIME_DIR=f"/run/user/{os.geteuid()}")
    if here.run("systemctl", "--user", "show-environment", env=env).returncode != 0:
        raise Skip("no systemd of this user answers here")
    name = f"cellhost-unit-{os.getpid()}.service"
    shipped = [f"--property={key}={value}" for key, value in service() if key != "ExecStart"]
    settings = [f"--setenv={key}={value}" for key, value in here.env.items()
                if key.startswith(("XDG_", "LC_", "ASAN_", "UBSAN_", "LSAN_"))]
    done = here.run("systemd-run", "--user", f"--unit={name}", *shipped, f"--property=StandardError=append:{here.path('log')}",
                    *settings, *here.host_argv("--cell", cell("mirror")), env=env)
    assert done.returncode == 0, done
    try:
        yield
    finally:
        here.run("systemctl", "--user", "stop", name, env=env)
        here.run("systemctl", "--user", "reset-failed", name, env=env)


def as_a_service(here):
    can_sandbox(here)
    with user_systemd(here):
        there_and_back(here)


os.umask(0o022)         # a module that others may write to is refused
main([longer_than_a_stop, under_its_restrictions, what_would_forbid_it, a_landlock_that_fails, as_a_service])

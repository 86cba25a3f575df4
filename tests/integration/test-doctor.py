#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""`cellctl doctor` says what this machine enforces, and fails when something essential does not hold."""
import json
import os
import re
import resource
import shutil

from programs import EXIT, Skip, main

INSIDE = {"network", "processes", "files", "capabilities", "system calls"}


def look(here, **more):
    """{check: row}, and what stands on standard error."""
    done = here.ctl("doctor", "--json", **more)
    rows = json.loads(done.stdout)
    found = {row["check"]: row for row in rows}
    assert len(found) == len(rows) > 15, rows
    for row in rows:
        assert set(row) == {"check", "holds", "essential", "said", "advice"}, row
        assert isinstance(row["holds"], bool) and isinstance(row["essential"], bool) and row["said"], row
        assert row["advice"] is None if row["holds"] else len(row["advice"]) > 10, row
    broken = [row for row in rows if row["essential"] and not row["holds"]]
    assert done.returncode == (EXIT["UNSUPPORTED"] if broken else 0), (done, broken)
    assert (broken[0]["said"] in done.stderr.decode()) if broken else not done.stderr, done
    return found, broken


def need_sandbox(here):
    if here.run("bwrap", "--unshare-all", "--unshare-user", "--ro-bind", "/", "/", "true").returncode != 0:
        raise Skip("bubblewrap cannot make a sandbox here")


def a_program(here, name, text):
    """A folder for $PATH in which that program is found first."""
    folder = here.path("programs")
    os.makedirs(folder, exist_ok=True)
    here.write(os.path.join("programs", name), text, 0o755)
    return dict(here.env, PATH=folder + ":" + here.env["PATH"])


def good(here):
    need_sandbox(here)
    found, broken = look(here)
    assert not broken, broken
    assert INSIDE | {"sandbox", "runner", "kernel", "sealed memory", "handles"} == {row["check"] for row in found.values()
                                                                                    if row["essential"]}
    assert not found["host"]["holds"] and found["runtime folder"]["holds"], found
    text = here.good("doctor")
    assert text.startswith("CHECK") and "sealed memory" in text, text


def without_bubblewrap(here):
    nothing = here.path("nothing")
    os.mkdir(nothing)
    found, broken = look(here, env=dict(here.env, PATH=nothing))
    assert "install bubblewrap" in found["sandbox"]["advice"], found["sandbox"]
    assert {row["check"] for row in broken} == INSIDE | {"sandbox", "runner"}, broken
    assert "install bubblewrap" in here.refused("UNSUPPORTED", "doctor", env=dict(here.env, PATH=nothing))


def one_that_does_not_work(here):
    """What bubblewrap says of it is passed on."""
    found, broken = look(here, env=a_program(here, "bwrap", "#!/bin/sh\necho bwrap: no, thanks >&2\nexit 1\n"))
    assert "bwrap: no, thanks" in found["sandbox"]["said"] and len(broken) == 7, (found["sandbox"], broken)


def one_that_holds_nobody(here):
    """It starts what it is told to, and takes nothing from it: that is seen from inside, not believed."""
    shell = '#!/bin/sh\nwhile [ "$1" != / ] || [ "$2" != /run/cell-runner ]; do shift; done\nshift 2\nexec /bin/sh "$@"\n'
    found, _ = look(here, env=a_program(here, "bwrap", shell))
    assert found["sandbox"]["holds"], found["sandbox"]
    for check in ("processes", "files"):
        assert not found[check]["holds"] and "more than it may" in found[check]["said"], found[check]
    assert not found["system calls"]["holds"] and "all that its user may" in found["system calls"]["said"], found["system calls"]


def one_that_lets_the_network_in(here):
    """The real one, told to share what it is not to share."""
    need_sandbox(here)
    bwrap = shutil.which("bwrap")
    with open("/proc/net/dev", encoding="utf-8") as file:
        names = {line.split(":")[0].strip() for line in file if ":" in line}
    if names <= {"lo"}:
        raise Skip("there is no network here")
    shared = f'#!/bin/sh\nshift\nexec {bwrap} --unshare-all --share-net "$@"\n'
    found, broken = look(here, env=a_program(here, "bwrap", shared))
    assert [row["check"] for row in broken] == ["network"] and found["processes"]["holds"], broken


def no_runner(here):
    need_sandbox(here)
    found, broken = look(here, env=dict(here.env, CELLHOST_RUNNER=here.path("nobody")))
    assert [row["check"] for row in broken] == ["runner"] and "nobody" in found["runner"]["said"], broken
    found, broken = look(here, env=dict(here.env, CELLHOST_RUNNER="/bin/true"))
    assert [row["check"] for row in broken] == ["runner"] and "does not run" in found["runner"]["said"], broken


def few_descriptors(here):
    found, _ = look(here, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256)))
    assert not found["descriptors"]["holds"] and found["descriptors"]["said"].startswith("256 at most"), found["descriptors"]
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] >= 4096:
        found, _ = look(here, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, 4096)))
        assert found["descriptors"]["holds"], found["descriptors"]


def one_processor(here):
    found, _ = look(here, preexec_fn=lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}))
    assert not found["cores"]["holds"] and found["cores"]["said"].startswith("1: "), found["cores"]


def limits(here):
    """What the runner sets for itself is seen behind it, and so is what was set for all."""
    need_sandbox(here)
    plain = os.environ["TEST_SANITIZE"] == "none"       # a sanitizer wants all the memory that there is
    found, _ = look(here)
    assert "512, threads included" in found["process limit"]["said"] or os.geteuid() == 0, found["process limit"]
    assert found["process limit"]["holds"] == (os.geteuid() != 0), found["process limit"]
    assert re.search(r"may have [0-9]+ MiB of its own", found["memory"]["said"]) or not plain, found["memory"]
    assert not found["processor"]["holds"], found["processor"]
    fewer, _ = look(here, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (600, 600)))
    assert fewer["processor"]["holds"], fewer["processor"]
    if plain:
        less, _ = look(here, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (1 << 30, 1 << 30)))
        assert "may have 1024 MiB" in less["memory"]["said"], less["memory"]


def folders(here):
    os.chmod(here.env["XDG_RUNTIME_DIR"], 0o755)
    assert "not yours alone" in look(here)[0]["runtime folder"]["said"]
    env = {name: value for name, value in here.env.items() if name != "XDG_RUNTIME_DIR"}
    assert "not set" in look(here, env=env)[0]["runtime folder"]["said"]


def a_host(here):
    """It is found, and does not mind."""
    process = here.host()
    found, _ = look(here)
    assert found["host"]["holds"] and here.socket in found["host"]["said"], found["host"]
    here.good("list")
    assert process.poll() is None and "rule" not in here.read("log"), here.read("log")
    elsewhere = json.loads(here.ctl("doctor", "--json", "--socket", here.path("nowhere")).stdout)
    assert not [row for row in elsewhere if row["check"] == "host"][0]["holds"]


main([good, without_bubblewrap, one_that_does_not_work, one_that_holds_nobody, one_that_lets_the_network_in, no_runner,
      few_descriptors, one_processor, limits, folders, a_host])

#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A host that dies of its cells: who is suspected, what comes back and where, and who starts it again."""
import contextlib
import glob
import json
import os
import re
import resource
import shutil
import signal
import socket
import stat

from programs import BOUND, CTL, EXIT, Skip, cell, main, need, stop, wait_until

IN, OUT = "in process", "sandbox"
WITHOUT = "path"                        # a folder of programs among which there is no bubblewrap


def sandboxed(here):
    """Whether this machine has sandboxes; where it has not, what needs one is skipped."""
    done = here.run("bwrap", "--unshare-all", "--unshare-user", "--ro-bind", "/", "/", "true") if shutil.which("bwrap") else None
    if done is None or done.returncode != 0:
        raise Skip("bubblewrap cannot make a sandbox here")


def supervised(here, *args, **more):
    return here.host("--supervise", *args, **more)


def places(here):
    """Where each cell is, or None when no host answers."""
    done = here.ctl("list", "--json", "--timeout", "20")
    if done.returncode != 0:
        return None
    return {row["name"]: row["location"] for row in json.loads(done.stdout) if row["name"] != "host"}


def back(here, **expected):
    """Waits for the host that comes after a crash, and compares."""
    found = wait_until(lambda: places(here), "a new host")
    assert found == {name.replace("_", "-"): place for name, place in expected.items()}, (found, here.read("log"))


def crash(here, *call, by="SIGSEGV"):
    """A call of which the host dies; what the next host says of it."""
    before = here.read("log").count("the host crashed")
    done = here.ctl("call", *call)
    assert done.returncode == EXIT["CRASHED"] and (b"ended during the call; it may or may not have been "
                                                   b"executed") in done.stderr, done
    return crashed(here, before, by)


def crashed(here, before, by="SIGSEGV"):
    def said():
        lines = [line for line in here.read("log").splitlines() if "the host crashed" in line]
        return lines[before:]
    lines = wait_until(said, "what the next host says")
    assert len(lines) == 1 and by in lines[0], lines
    return lines[0]


def quiet(here):
    """Nothing is left of a crash but what is to be remembered."""
    assert os.listdir(os.path.dirname(here.socket)) == ["socket.lock"], os.listdir(os.path.dirname(here.socket))
    assert not glob.glob(here.path("state_home", "cellhost", "*.roster"))


# ---- one cell ----------------------------------------------------------------------------------------------


def the_guilty_one_comes_back_in_a_sandbox(here):
    sandboxed(here)
    host = supervised(here, "--cell", cell("crasher"), "--cell", cell("mirror"))
    here.good("load", cell("sequence"), "other")
    caller = here.spawn(CTL, "call", "mirror", "hold", here.path("begun"), here.path("never"), stderr=-3)
    wait_until(lambda: os.path.exists(here.path("begun")), "a call")
    said = crash(here, "crasher", "crash", "fault")
    assert "in cell crasher (SIGSEGV at 0x0)" in said and "cell crasher is suspected" in said, said
    back(here, crasher=OUT, mirror=IN, other=IN)
    assert caller.wait(BOUND) != 0
    assert "value: 3" in here.good("call", "crasher", "add", "3")
    assert here.good("call", "mirror", "nothing") == ""
    # In there it may crash as often as it likes.
    assert here.ctl("call", "crasher", "crash", "fault").returncode in (EXIT["CRASHED"], EXIT["GONE"])
    assert here.good("call", "mirror", "nothing") == ""
    assert stop(host) == 0
    quiet(here)


def why_it_is_there(here):
    """As list says it: until it is well again."""
    def reason(name="crasher"):
        return next(row["reason"] for row in json.loads(here.good("list", "--json")) if row["name"] == name)
    sandboxed(here)
    host = supervised(here, "--cell", cell("crasher"), "--cell", cell("mirror"))
    crash(here, "crasher", "crash", "fault")
    back(here, crasher=OUT, mirror=IN)
    assert reason() == "the host has crashed in cell crasher (SIGSEGV at 0x0)" and reason("mirror") is None, reason()
    here.ctl("call", "crasher", "crash", "fault")
    wait_until(lambda: "killed by SIGSEGV" in reason() and places(here)["crasher"] == OUT, "its restart")
    here.good("restart", "crasher")
    assert "the host has crashed" in reason()                   # it begins anew, and is suspected as before
    here.good("absorb", "crasher")
    assert reason() is None
    # Another build is another file.
    here.good("eject", "crasher")
    here.ctl("call", "crasher", "crash", "fault")
    wait_until(lambda: reason() is not None and places(here)["crasher"] == OUT, "its restart")
    with open(cell("crasher"), "rb") as file:
        here.write("next.so", file.read() + b"\0", 0o755)
    here.good("swap", "crasher", here.path("next.so"))
    assert reason() is None and places(here)["crasher"] == OUT
    # What nobody knows the culprit of has everybody in a sandbox.
    os.kill(pid_of_host(host), signal.SIGSEGV)
    back(here, crasher=OUT, mirror=OUT)
    assert reason("mirror") == "after the host's last crash every cell came back in a sandbox" and reason() is None
    assert stop(host) == 0


def suspicion_lasts_until_it_is_trusted(here):
    sandboxed(here)
    host = supervised(here, "--cell", cell("crasher"))
    crash(here, "crasher", "crash", "fault")
    back(here, crasher=OUT)
    assert stop(host) == 0
    host = here.host("--cell", cell("crasher"), log="log-2")
    assert places(here) == {"crasher": OUT} and "in cell crasher (SIGSEGV at 0x0)" in here.read("log-2")
    # Under whatever name; but not another build of it.
    here.good("load", cell("crasher"), "twin")
    here.good("load", cell("crasher-loop"), "loop")
    assert places(here) == {"crasher": OUT, "twin": OUT, "loop": IN}
    here.good("absorb", "crasher")
    here.good("load", cell("crasher"), "third")
    assert places(here) == {"crasher": IN, "twin": OUT, "loop": IN, "third": IN}
    assert stop(host) == 0
    host = here.host("--cell", cell("crasher"), log="log-3")
    assert places(here) == {"crasher": IN} and not os.path.exists(here.path("state_home", "cellhost", "suspects"))
    assert stop(host) == 0


def all_ways_to_crash(here):
    sandboxed(here)
    ways = {"abort": "SIGABRT", "overflow": "SIGSEGV", "divide": "SIGFPE", "trap": "SIG"}
    for way, by in ways.items():
        host = supervised(here, "--cell", cell("crasher"), "--cell", cell("mirror"))
        said = crash(here, "crasher", "crash", way, by=by)
        assert "in cell crasher" in said, said
        back(here, crasher=OUT, mirror=IN)
        here.good("absorb", "crasher")
        assert stop(host) == 0
        os.remove(here.path("log"))
        here.write("log", "")
    # It has no trail of its own, but all that it can be is one of these.
    host = supervised(here, "--cell", cell("crasher"), "--cell", cell("mirror"))
    assert "it is not known in which cell" in crash(here, "crasher", "crash", "thread")
    back(here, crasher=OUT, mirror=OUT)
    assert stop(host) == 0


def a_handler_of_its_own(here):
    sandboxed(here)
    host = supervised(here, "--cell", cell("mirror"))
    here.good("load", cell("crasher"), "crasher", "handler=yes")
    assert "cell crasher has installed handlers" in here.read("log")
    said = crash(here, "crasher", "crash", "fault")
    assert "in cell crasher (SIGSEGV at 0x0)" in said and "cell crasher is suspected" in said, said
    back(here, crasher=OUT, mirror=IN)
    assert stop(host) == 0
    quiet(here)


def a_handler_that_came_later(here):
    sandboxed(here)
    host = supervised(here, "--cell", cell("mirror"), "--cell", cell("crasher"))
    here.good("call", "crasher", "handle")
    # Whoever connects next has the host look.
    said = crash(here, "crasher", "crash", "fault")
    assert "cell crasher has changed" in here.read("log"), here.read("log")
    assert "in cell crasher (SIGSEGV at 0x0)" in said and "cell crasher is suspected" in said, said
    back(here, crasher=OUT, mirror=IN)
    assert stop(host) == 0
    quiet(here)


def wherever_its_code_runs(here):
    sandboxed(here)
    for where, then in (("init", None), ("fini", ("unload", "crasher")), ("save", ("eject", "crasher")), ("restore", None)):
        host = supervised(here, "--cell", cell("mirror"))
        if where == "restore":
            here.good("load", cell("crasher"))
            here.good("unload", "crasher")                      # there is a state now
        loaded = here.ctl("load", cell("crasher"), "crash=" + where)
        assert (loaded.returncode == 0) == (then is not None), loaded
        if then:
            assert here.ctl(*then).returncode != 0
        assert "in cell crasher, called by the host (" in crashed(here, 0)
        # One that has never run does not come back; a user may load it again.
        back(here, **({"crasher": OUT, "mirror": IN} if then else {"mirror": IN}))
        if not then:
            here.good("load", cell("crasher"), "crash=" + where)
            back(here, crasher=OUT, mirror=IN)
        assert stop(host) == 0
        os.remove(here.path("state_home", "cellhost", "suspects"))
        os.remove(here.path("log"))


def a_constructor(here):
    sandboxed(here)
    host = supervised(here, "--cell", cell("mirror"), env=dict(here.env, CRASH_EARLY="1"))
    assert here.ctl("load", cell("crasher-early")).returncode != 0
    if "the host crashed" in here.read("log") or places(here) is None:
        assert "in cell crasher-early, called by the host (" in crashed(here, 0)
        back(here, mirror=IN)
        here.good("load", cell("crasher-early"))
        back(here, crasher_early=OUT, mirror=IN)
    assert stop(host) == 0


def another_build(here):
    """One that crashes when it is to begin: it is to blame, and not the one that serves meanwhile."""
    sandboxed(here)
    host = supervised(here, "--cell", cell("mirror"), "--cell", cell("crasher"))
    with open(cell("crasher"), "rb") as file:
        here.write("next.so", file.read() + b"\0", 0o755)
    here.write("next.cell", f"[Cell]\nModule={here.path('next.so')}\n[Config]\ncrash=init\n")
    done = here.ctl("swap", "crasher", here.path("next.cell"))
    assert done.returncode == EXIT["CRASHED"], done
    assert "in cell crasher" in crashed(here, 0)
    back(here, crasher=IN, mirror=IN)
    assert "the host has crashed in" in here.refused("DENIED", "swap", "crasher", here.path("next.cell"))
    assert stop(host) == 0


def a_loop(here):
    sandboxed(here)
    host = supervised(here, "--cell", cell("crasher-loop"), "--cell", cell("mirror"))
    assert "in cell crasher-loop" in crash(here, "crasher-loop", "crash", "overflow")
    back(here, crasher_loop=OUT, mirror=IN)
    assert "value: 1" in here.good("call", "crasher-loop", "add", "1")
    here.good("absorb", "crasher-loop")
    assert "value: 2" in here.good("call", "crasher-loop", "add", "1")
    assert stop(host) == 0


def a_reply_that_is_none(here):
    sandboxed(here)
    host = supervised(here, "--cell", cell("crasher"), "--cell", cell("mirror"))
    assert "in cell crasher (" in crash(here, "crasher", "rotten")
    back(here, crasher=OUT, mirror=IN)
    assert stop(host) == 0


# ---- several -----------------------------------------------------------------------------------------------


def the_innermost(here):
    sandboxed(here)
    for call, guilty, said in ((("pass_on", "fault"), "crasher", "in cell crasher, called by cell messenger ("),
                               (("ask_then_crash",), "messenger", "in cell messenger ("),
                               (("ask_and_crash",), "messenger", "in cell messenger (")):
        host = supervised(here, "--cell", cell("crasher"), "--cell", cell("messenger"))
        before = here.read("log").count("the host crashed")
        here.ctl("call", "messenger", *call)                    # a completion comes when the call has been answered
        assert said in crashed(here, before), here.read("log")
        back(here, **{"crasher": IN, "messenger": IN, guilty: OUT})
        here.good("absorb", guilty)
        assert stop(host) == 0


def who_hears_of_it(here):
    sandboxed(here)
    host = supervised(here, "--cell", cell("crasher"), "--cell", cell("messenger"))
    here.good("call", "messenger", "listen")
    here.ctl("call", "crasher", "ring")
    assert "in cell messenger" in crashed(here, 0)
    back(here, crasher=IN, messenger=OUT)
    assert stop(host) == 0


# ---- everybody ---------------------------------------------------------------------------------------------


def pid_of_host(supervisor):
    with open(f"/proc/{supervisor.pid}/task/{supervisor.pid}/children", encoding="ascii") as file:
        return int(file.read().split()[0])


def a_crash_of_the_host_itself(here):
    sandboxed(here)
    for by in (signal.SIGSEGV, signal.SIGABRT):
        host = supervised(here, "--cell", cell("crasher"), "--cell", cell("mirror"))
        before = here.read("log").count("the host crashed")
        os.kill(pid_of_host(host), by)
        assert "it is not known in which cell" in crashed(here, before, by.name)
        back(here, crasher=OUT, mirror=OUT)
        here.good("load", cell("sequence"))
        back(here, crasher=OUT, mirror=OUT, sequence=IN)
        assert stop(host) == 0
        # It was for this time.
        host = here.host("--cell", cell("crasher"))
        back(here, crasher=IN)
        assert stop(host) == 0


def a_second_one_soon_after(here):
    sandboxed(here)
    host = supervised(here, "--cell", cell("crasher"), "--cell", cell("messenger"), "--cell", cell("mirror"))
    assert "is suspected" in crash(here, "crasher", "crash", "fault")
    back(here, crasher=OUT, messenger=IN, mirror=IN)
    said = crash(here, "messenger", "ask_then_crash")
    assert "for the second time within 10 minutes" in said and "in cell messenger" in said, said
    back(here, crasher=OUT, messenger=OUT, mirror=OUT)
    # They serve, and one that is taken back is where it was taken.
    assert here.good("call", "mirror", "nothing") == ""
    here.good("absorb", "mirror")
    os.kill(pid_of_host(host), signal.SIGKILL)
    back(here, crasher=OUT, messenger=OUT, mirror=IN)
    assert stop(host) == 0
    with open(here.path("state_home", "cellhost", "suspects"), encoding="utf-8") as file:
        text = file.read()
    assert text.count("Name=") == 2 and "Name=messenger" in text and "Name=crasher" in text, text


# ---- nobody ------------------------------------------------------------------------------------------------


def killed(here):
    """All comes back as it was, and nobody is suspected; also without a supervisor."""
    sandboxed(here)
    host = supervised(here, "--cell", cell("mirror"))
    here.good("load", cell("crasher"), "a", "color=red", "b c=ä = ö")
    here.good("load", cell("crasher"), "gone")
    here.good("load", cell("sequence"))
    here.good("eject", "sequence")
    here.good("unload", "gone")
    before = pid_of_host(host)
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: places(here), "a new host")
    assert places(here) == {"a": IN, "mirror": IN, "sequence": OUT} and pid_of_host(host) != before
    here.ctl("call", "a", "crash", "kill")
    wait_until(lambda: places(here), "a new host")
    assert places(here) == {"a": IN, "mirror": IN, "sequence": OUT}
    left = pid_of_host(host)
    stop(host, signal.SIGKILL)
    wait_until(lambda: not os.path.exists(f"/proc/{left}"), "the end of a host whose supervisor is gone")
    host = here.host()
    assert places(here) == {}                                   # that end was clean
    here.good("load", cell("mirror"))
    stop(host, signal.SIGKILL)
    host = here.host()
    assert places(here) == {"mirror": IN}
    assert "suspected" not in here.read("log") and "the host crashed" not in here.read("log")
    assert stop(host) == 0
    quiet(here)


def configuration_comes_back(here):
    host = here.host()
    here.good("load", cell("crasher"), "a", "crash=fini")
    stop(host, signal.SIGKILL)
    host = here.host()
    here.ctl("unload", "a")
    assert host.wait(BOUND) < 0


def state_is_as_it_was_kept(here):
    sandboxed(here)
    host = here.host("--cell", cell("crasher"))
    assert "value: 5" in here.good("call", "crasher", "add", "5")
    assert stop(host) == 0
    host = supervised(here, "--cell", cell("crasher"))
    assert "value: 7" in here.good("call", "crasher", "add", "2")
    crash(here, "crasher", "crash", "fault")
    back(here, crasher=OUT)
    assert "value: 5" in here.good("call", "crasher", "add", "0")
    assert "value: 6" in here.good("call", "crasher", "add", "1")
    assert stop(host) == 0
    host = here.host("--cell", cell("crasher"))
    assert "value: 6" in here.good("call", "crasher", "add", "0")
    here.good("absorb", "crasher")
    assert "value: 6" in here.good("call", "crasher", "add", "0")
    assert stop(host) == 0


def in_the_order_of_loading(here):
    """What is loaded later may need what was loaded before it, whatever they are called."""
    def order():
        rows = [row for row in json.loads(here.ctl("list", "--json").stdout) if row["name"] != "host"]
        return [row["name"] for row in sorted(rows, key=lambda row: row["generation"])]

    host = here.host()
    for name in ("m", "z", "a"):
        here.good("load", cell("mirror"), name)
    here.good("unload", "m")
    here.good("load", cell("mirror"), "m")
    for _ in range(2):
        stop(host, signal.SIGKILL)
        host = here.host()
        assert order() == ["z", "a", "m"], order()
    here.good("restart", "z")                                   # it is where it was
    stop(host, signal.SIGKILL)
    host = here.host()
    assert order() == ["z", "a", "m"], order()
    assert stop(host) == 0


def a_file_that_is_gone(here):
    for name in ("here", "gone"):
        shutil.copy(cell("mirror"), here.path(name + ".so"))
        os.chmod(here.path(name + ".so"), 0o755)
    host = here.host()
    here.good("load", here.path("here.so"))
    here.good("load", here.path("gone.so"))
    stop(host, signal.SIGKILL)
    os.remove(here.path("gone.so"))
    host = here.host()
    assert places(here) == {"here": IN} and "cell gone does not come back: " in here.read("log")
    stop(host, signal.SIGKILL)
    host = here.host(log="log-2")
    assert places(here) == {"here": IN} and "gone" not in here.read("log-2")
    assert stop(host) == 0


def damaged_files(here):
    """Whatever is in them, the host starts and suspects nobody."""
    junk = [b"", b"x", b"\0" * 100, os.urandom(3000), b"cellhost crash 1" + os.urandom(2000), b"cellhost crash 1" + b"\xff" * 2000]
    host = here.host("--cell", cell("mirror"))
    stop(host, signal.SIGKILL)
    roster = glob.glob(here.path("state_home", "cellhost", "*.roster"))[0]
    size = os.path.getsize(here.socket + ".crash")
    assert stat.S_IMODE(os.stat(roster).st_mode) == 0o600 and stat.S_IMODE(os.stat(here.socket + ".crash").st_mode) == 0o600
    for i, bytes_ in enumerate(junk + [b"\xff" * size, b"cellhost crash 1" + b"\xff" * (size - 16)]):
        for path in (roster, here.socket + ".crash", here.path("state_home", "cellhost", "suspects")):
            with open(path, "wb") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(bytes_)
        host = here.host("--cell", cell("mirror"), log=f"log-{i}")
        assert places(here) == {"mirror": IN} and "the host crashed" not in here.read(f"log-{i}"), here.read(f"log-{i}")
        stop(host, signal.SIGKILL)
    for path in (roster, here.socket + ".crash"):
        os.remove(path)
        os.symlink("/dev/zero", path)
    host = here.host("--cell", cell("mirror"), log="log-link")
    assert places(here) == {"mirror": IN}
    assert stop(host) == 0


# ---- without a sandbox -------------------------------------------------------------------------------------


def no_sandbox(here):
    os.mkdir(here.path(WITHOUT))
    env = dict(here.env, PATH=here.path(WITHOUT))
    host = supervised(here, "--cell", cell("crasher"), "--cell", cell("mirror"), env=env)
    crash(here, "crasher", "crash", "fault")
    back(here, mirror=IN)
    wait_until(lambda: "install bubblewrap" in here.read("log") and "'cellctl absorb crasher'" in here.read("log"),
               "the two ways out")
    said = here.refused("UNSUPPORTED", "load", cell("crasher"))
    assert "install bubblewrap" in said and "cellctl absorb crasher" in said, said
    here.good("absorb", "crasher")
    back(here, crasher=IN, mirror=IN)
    assert "value: 1" in here.good("call", "crasher", "add", "1")
    assert "there is no cell nobody" in here.refused("NOT_FOUND", "absorb", "nobody")
    assert stop(host) == 0


# ---- the supervisor ----------------------------------------------------------------------------------------


def it_ends_as_its_host_does(here):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        assert stop(supervised(here), number) == 0
        quiet(here)
    host = supervised(here)
    here.good("shutdown")
    assert host.wait(BOUND) == 0
    other = here.host()
    code, said = here.host_refused("--supervise")
    assert code == EXIT["EXISTS"] and "another host" in said, said
    assert stop(other) == 0
    code, said = here.host_refused("--supervise", "--cell", "no.so")
    assert code == EXIT["NOT_FOUND"], said


def the_second_signal(here):
    host = supervised(here, "--cell", cell("mirror"))
    here.spawn(CTL, "call", "mirror", "hold", here.path("begun"), here.path("until"), stderr=-3)
    wait_until(lambda: os.path.exists(here.path("begun")), "the call")
    host.send_signal(signal.SIGTERM)
    wait_until(lambda: not os.path.exists(here.socket), "the stop")
    assert stop(host) == -signal.SIGTERM


def it_gives_up(here):
    host = supervised(here)
    for _ in range(5):
        before = pid_of_host(host)
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: places(here) is not None and pid_of_host(host) != before, "a new host")
    os.kill(pid_of_host(host), signal.SIGKILL)
    assert host.wait(BOUND) == -signal.SIGKILL
    assert ("cellhostd: the host was ended by SIGKILL, after 5 new starts within 10 minutes; it is not started "
            "again\n") in here.read("log")


def its_manager_is_told_once(here):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(here.path("notify"))
        manager.settimeout(BOUND)
        manager.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        host = supervised(here, env=dict(here.env, NOTIFY_SOCKET=here.path("notify")))
        def told():
            text, extra, _, _ = manager.recvmsg(100, 100)
            return text, int.from_bytes(extra[0][2][:4], "little")
        assert told() == (b"READY=1", host.pid)
        os.kill(pid_of_host(host), signal.SIGKILL)
        wait_until(lambda: places(here) is not None, "a new host")
        host.send_signal(signal.SIGTERM)
        assert told() == (b"STOPPING=1", host.pid)
        assert host.wait(BOUND) == 0


resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
@contextlib.contextmanager
def user_systemd(here):
    """The systemd of the user who runs this, if there is one: a service of it, with what the shipped one says; yields its name."""
    need("systemctl", "systemd-run")
    env = dict(here.env, XDG_RUNTIME_DIR=f"/run/user/{os.geteuid()}")
    if here.run("systemctl", "--user", "show-environment", env=env).returncode != 0:
        raise Skip("no systemd of this user answers here")
    name = f"cellhost-test-{os.getpid()}.service"
    with open(os.environ["TEST_SERVICE"], encoding="utf-8") as file:
        shipped = [line.strip() for line in file if re.match("(Type|NotifyAccess|KillMode|Restart|NoNewPrivileges|UMask)=", line)]
    settings = [f"--setenv={key}={value}" for key, value in here.env.items()
                if key.startswith(("XDG_", "LC_", "ASAN_", "UBSAN_", "LSAN_"))]
    done = here.run("systemd-run", "--user", f"--unit={name}", *[f"--property={line}" for line in shipped],
                    f"--property=StandardError=append:{here.path('log')}", *settings,
                    *here.host_argv("--cell", cell("crasher"), "--cell", cell("mirror")), env=env)
    assert done.returncode == 0, done
    try:
        yield name
    finally:
        here.run("systemctl", "--user", "stop", name, env=env)
        here.run("systemctl", "--user", "reset-failed", name, env=env)


def systemd_starts_it_again(here):
    sandboxed(here)
    with user_systemd(here):
        assert places(here) == {"crasher": IN, "mirror": IN}        # it is ready when systemd-run returns
        assert "cell crasher is suspected" in crash(here, "crasher", "crash", "fault")
        back(here, crasher=OUT, mirror=IN)


main([the_guilty_one_comes_back_in_a_sandbox, why_it_is_there, suspicion_lasts_until_it_is_trusted, all_ways_to_crash,
      a_handler_of_its_own, a_handler_that_came_later, wherever_its_code_runs, a_constructor, another_build, a_loop,
      a_reply_that_is_none, the_innermost, who_hears_of_it, a_crash_of_the_host_itself, a_second_one_soon_after, killed,
      configuration_comes_back, state_is_as_it_was_kept, in_the_order_of_loading, a_file_that_is_gone, damaged_files, no_sandbox,
      it_ends_as_its_host_does,
      the_second_signal, it_gives_up, its_manager_is_told_once, systemd_starts_it_again])

#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""cellhostd as a program: how it starts, what it refuses, how it ends, and what it writes into its log."""
import glob
import itertools
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time

from programs import BOUND, CTL, EXIT, HOST, Skip, cell, main, place, stop, wait_until

ALARM = os.environ["TEST_ALARM"]
LEDGER = os.environ["TEST_LEDGER"]


def mode_of(path):
    return stat.S_IMODE(os.stat(path).st_mode)


# ---- its place ---------------------------------------------------------------------------------------------


def private(here):
    before = os.umask(0)
    try:
        here.host()
    finally:
        os.umask(before)
    assert mode_of(here.socket) == 0o600 and stat.S_ISSOCK(os.stat(here.socket).st_mode)
    assert mode_of(os.path.dirname(here.socket)) == 0o700
    assert mode_of(here.socket + ".lock") == 0o600


def a_folder_of_others(here):
    """Where somebody else could put a socket of his own no host listens."""
    folder = os.path.dirname(here.socket)
    os.mkdir(folder)
    for mode in (0o777, 0o770, 0o702):
        os.chmod(folder, mode)
        code, said = here.host_refused()
        assert code == EXIT["DENIED"] and f"{mode:04o}; 'chmod 700 {folder}' mends it" in said, said
        assert os.listdir(folder) == []
    os.mkdir(here.path("sticky"))
    os.chmod(here.path("sticky"), 0o1777)
    for place in (here.socket, here.path("sticky", "socket")):
        os.chmod(folder, 0o700)
        assert stop(here.host("--socket", place)) == 0
    if os.geteuid() != 0:               # what is root's is another user's
        code, said = here.host_refused("--socket", "/usr/socket")
        assert code == EXIT["DENIED"] and said.startswith("/usr, where the socket is to be, belongs to user "), said


def a_second_host(here):
    first = here.host("--cell", cell("mirror"))
    code, said = here.host_refused("--cell", cell("memory"))
    assert code == EXIT["EXISTS"] and said == f"another host is running at {here.socket}; 'cellctl shutdown' ends it", said
    assert here.good("call", "mirror", "nothing") == ""
    # Somewhere else there may be one, whose states are somewhere else, too.
    code, said = here.host_refused("--socket", "other", "--cell", cell("mirror"))
    folder = here.path("state_home", "cellhost")
    assert code == EXIT["EXISTS"] and said == (f"another host keeps its states in {folder}; give this one a folder of its own with "
                                               "--state-dir"), said
    assert not os.path.exists(here.path("other"))
    second = here.host("--socket", "other", "--state-dir", "others")
    assert "mirror" not in here.good("--socket", "other", "list") and "mirror" in here.good("list")
    assert stop(second) == 0 and stop(first) == 0


def what_a_crash_left(here):
    first = here.host("--cell", cell("mirror"))
    assert stop(first, signal.SIGKILL) == -signal.SIGKILL and os.path.exists(here.socket)
    second = here.host()
    assert "mirror" in here.good("list")        # see test-crash.py
    assert stop(second) == 0 and not os.path.exists(here.socket)


def what_somebody_else_put_there(here):
    here.write("file", "precious")
    code, said = here.host_refused("--socket", "file")
    assert code == EXIT["EXISTS"] and here.path("file") in said and here.read("file") == "precious", said
    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
        path = here.path(f"other-{int(kind)}")
        with socket.socket(socket.AF_UNIX, kind) as other:
            other.bind(path)
            other.listen()
            code, said = here.host_refused("--socket", path)
            assert code == EXIT["EXISTS"] and path in said, said
        assert stop(here.host("--socket", path)) == 0           # now it is what a crash leaves


def places_that_cannot_be(here):
    code, said = here.host_refused("--socket", "/" + "x" * 200)
    assert code == EXIT["INVALID"] and "107 bytes" in said, said
    here.write("file", "")
    code, said = here.host_refused("--socket", "file/socket")
    assert code == EXIT["DENIED"] and "Not a directory" in said, said
    code, said = here.host_refused(env=dict(here.env, XDG_RUNTIME_DIR=here.path("nowhere")))
    assert code == EXIT["DENIED"] and "set XDG_RUNTIME_DIR" in said and "--socket" in said, said
    if not os.path.exists(f"/run/user/{os.getuid()}"):
        without = {name: value for name, value in here.env.items() if name != "XDG_RUNTIME_DIR"}
        code, said = here.host_refused(env=without)
        assert code == EXIT["DENIED"] and f"/run/user/{os.getuid()}" in said, said
    code, said = here.host_refused("--state-dir", "file/states")
    assert code == EXIT["DENIED"] and "Not a directory" in said and "--state-dir" in said, said
    if os.geteuid() != 0:
        os.mkdir(here.path("closed"), 0o500)
        code, said = here.host_refused("--socket", "closed/socket")
        assert code == EXIT["DENIED"] and "Permission denied" in said, said


def bad_command_lines(here):
    for arguments, why in ((["--frobnicate"], "--frobnicate"), (["word"], "'word'"), (["--log-level", "loud"], "'loud'"),
                           (["--debug=locks"], "'locks'"), (["--ready-fd", "x"], "'cellhostd --help'")):
        code, said = here.host_refused(*arguments)
        assert code == EXIT["INVALID"] and why in said, said
    code, said = here.host_refused("--cell", "no.so")
    assert code == EXIT["NOT_FOUND"] and "no.so" in said, said
    code, said = here.host_refused("--cell", cell("broken-magic"))
    assert code == EXIT["REFUSED"] and "cell_entry.magic" in said, said
    assert not os.path.exists(here.socket)
    text = here.run(HOST, "--help")
    assert text.returncode == 0 and b"--state-dir" in text.stdout
    assert re.fullmatch(rb"cellhostd \d+\.\d+\.\d+\n", here.run(HOST, "--version").stdout)


def root(here):
    """That of a user namespace is one, too."""
    become = [] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user"]
    if here.run(*become, "true").returncode != 0:
        raise Skip("this is not root, and no user namespace can be made here")
    done = here.run(*become, HOST)
    assert done.returncode == EXIT["DENIED"] and b"--allow-root" in done.stderr and done.stderr.count(b"\n") == 1, done
    assert not os.path.exists(here.socket)
    done = here.run(*become, HOST, "--allow-root", "--cell", "no.so")
    assert done.returncode == EXIT["NOT_FOUND"] and b"no.so" in done.stderr, done


# ---- its end -----------------------------------------------------------------------------------------------


def calls_in_flight_are_answered(here):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        host = here.host("--cell", cell("mirror"))
        begun, until = f"begun-{int(number)}", f"until-{int(number)}"
        call = here.spawn(CTL, "--json", "call", "mirror", "hold", here.path(begun), here.path(until), stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
        wait_until(lambda: os.path.exists(here.path(begun)), "the call")
        host.send_signal(number)
        wait_until(lambda: not os.path.exists(here.socket), "the stop")
        assert "no host answers" in here.refused("UNREACHABLE", "list") and host.poll() is None
        here.write(until, "")
        said = call.communicate(timeout=BOUND)[0]
        assert call.returncode == 0 and said == b"{}\n", said
        assert host.wait(BOUND) == 0


def is_asleep(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        return file.read().rsplit(")", 1)[1].split()[0] == "S"


def waits_for_an_answer(pid):
    """It sleeps on several words, as nobody does for anything else."""
    with open(f"/proc/{pid}/syscall", encoding="ascii") as file:
        return file.read().split()[0] == "449"                  # futex_waitv


def calls_that_wait_are_answered(here):
    """Behind the one that runs.  One is accepted when its caller, who has a channel, sleeps: it has nothing else to sleep for."""
    host = here.host("--cell", cell("mirror"))
    first = here.spawn(CTL, "call", "mirror", "hold", here.path("begun"), here.path("until"))
    wait_until(lambda: os.path.exists(here.path("begun")), "the call")
    waiting = [here.spawn(CTL, "call", "-t", str(BOUND), "mirror", "texts", f"number {i}", "", stdout=subprocess.PIPE)
               for i in range(5)]

    def six_channels():
        return next(row["channels"] for row in json.loads(here.good("list", "--json")) if row["name"] == "mirror") == 6

    wait_until(six_channels, "six channels")
    here.good("list")
    wait_until(lambda: all(is_asleep(call.pid) for call in waiting), "the rest")
    host.send_signal(signal.SIGTERM)
    wait_until(lambda: not os.path.exists(here.socket), "the stop")
    here.write("until", "")
    for i, call in enumerate(waiting):
        assert call.communicate(timeout=BOUND)[0] == f"text: number {i}\ndata: -\nsize: 0\n".encode() and call.returncode == 0
    assert first.wait(BOUND) == 0 and host.wait(BOUND) == 0


def the_second_signal(here):
    """Of whatever kind it is, and whatever the first one was."""
    for first, second in itertools.product((signal.SIGTERM, signal.SIGINT, signal.SIGHUP), repeat=2):
        host = here.host("--cell", cell("mirror"))
        begun = here.path(f"begun-{int(first)}-{int(second)}")
        here.spawn(CTL, "call", "mirror", "hold", begun, here.path("until"), stderr=subprocess.DEVNULL)
        wait_until(lambda: os.path.exists(begun), "the call")
        host.send_signal(first)
        wait_until(lambda: not os.path.exists(here.socket), "the stop")
        assert stop(host, second) == -second


def caught(pid):
    """The signals that it has a handler for, as a mask."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return int(next(line.split()[1] for line in file if line.startswith("SigCgt:")), 16)


def a_call_that_never_ends(here):
    """Nobody can take its thread from it: the host ends all the same, however it was asked to, and says what was lost."""
    for ask in (lambda host: here.good("shutdown"), lambda host: host.send_signal(signal.SIGTERM)):
        host = here.host("--cell", cell("phoenix"))
        here.refused("DEADLINE", "call", "phoenix", "hang")
        ask(host)
        assert host.wait(BOUND) == EXIT["BUSY"], here.read("log")
        assert "cell phoenix is in a call that has not ended" in here.read("log")


def signals_after_a_shutdown(here):
    """Whoever has asked for the end may be told to end by others, too, and goes on; a second signal is meant."""
    host = here.host("--cell", cell("phoenix"))
    here.refused("DEADLINE", "call", "phoenix", "hang")
    here.good("shutdown")
    wait_until(lambda: "stopping" in here.read("log"), "the stop")
    host.send_signal(signal.SIGTERM)
    wait_until(lambda: not caught(host.pid) & 1 << signal.SIGTERM - 1, "the signal")
    assert stop(host, signal.SIGTERM) == -signal.SIGTERM


def stopped_as_soon_as_it_runs(here):
    for _ in range(20):
        host = here.host()
        assert stop(host) == 0
        host = here.host()
        here.good("shutdown")
        assert host.wait(BOUND) == 0


def what_its_manager_is_told(here):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(here.path("notify"))
        manager.settimeout(BOUND)
        host = here.host(env=dict(here.env, NOTIFY_SOCKET=here.path("notify")))
        assert manager.recv(100) == b"READY=1"
        here.good("list")
        host.send_signal(signal.SIGTERM)
        assert manager.recv(100) == b"STOPPING=1"
        assert host.wait(BOUND) == 0


# ---- what outlives it --------------------------------------------------------------------------------------


def states(here):
    """Of cells that have save and restore: kept over a clean stop, wherever the cell was, in a folder that is nobody else's."""
    usual, other = here.path("state_home", "cellhost"), here.path("other", "states")
    for arguments, folder in (([], usual), (["--state-dir", "other/states"], other)):
        for number in (7, 8):
            host = here.host("--cell", cell("mirror"), "--cell", cell("sequence"), *arguments)
            assert here.good("call", "mirror", "@number") == f"value: {0 if number == 7 else 7}\n"
            here.good("call", "mirror", "=number", str(number))
            if number == 8:
                assert here.good("shutdown") and host.wait(BOUND) == 0
            else:
                assert stop(host) == 0
        assert mode_of(folder) == 0o700 and all(mode_of(os.path.join(folder, name)) == 0o600 for name in os.listdir(folder))
    assert sorted(os.listdir(usual)) == ["lock", "mirror.state", "sequence.state"]


def a_state_that_is_damaged(here):
    host = here.host("--cell", cell("mirror"))
    here.good("call", "mirror", "=number", "7")
    assert stop(host) == 0
    path = here.path("state_home", "cellhost", "mirror.state")
    with open(path, "r+b") as file:
        file.write(b"nonsense")
    code, said = here.host_refused("--cell", cell("mirror"))
    assert code == EXIT["STATE"] and path in said and "set aside" in said, said
    # Nothing is thrown away, and the host is usable again.
    assert any(name.startswith("mirror.state.bad-") for name in os.listdir(os.path.dirname(path)))
    assert stop(here.host("--cell", cell("mirror"))) == 0


def an_ejected_cell_s_state(here):
    if here.run("bwrap", "--unshare-all", "--unshare-user", "--ro-bind", "/", "/", "true").returncode != 0:
        raise Skip("bubblewrap cannot make a sandbox here")
    host = here.host("--cell", cell("mirror"))
    here.good("eject", "mirror")
    here.good("call", "mirror", "=number", "9")
    assert stop(host) == 0
    host = here.host("--cell", cell("mirror"))
    assert here.good("call", "mirror", "@number") == "value: 9\n"
    assert stop(host) == 0


def an_ejected_cell_s_call(here):
    """One that takes longer than a move would wait for it is answered, and its cell's state is kept."""
    if here.run("bwrap", "--unshare-all", "--unshare-user", "--ro-bind", "/", "/", "true").returncode != 0:
        raise Skip("bubblewrap cannot make a sandbox here")
    host = here.host("--cell", cell("phoenix"))
    here.good("eject", "phoenix")
    here.good("call", "phoenix", "add", "7")
    call = here.spawn(CTL, "--json", "call", "phoenix", "hold", "3000", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    wait_until(lambda: [c["channels"] for c in json.loads(here.good("list", "--json")) if c["name"] == "phoenix"] == [1],
               "its channel")
    wait_until(lambda: waits_for_an_answer(call.pid), "the call")
    assert stop(host) == 0, here.read("log")
    said = call.communicate(timeout=BOUND)[0]
    assert call.returncode == 0 and said == b"{}\n", said
    host = here.host("--cell", cell("phoenix"))
    assert "value: 7\n" in here.good("call", "phoenix", "add", "0")
    assert stop(host) == 0


def what_becomes_of_cells_is_logged(here):
    """A line for each, and none for what was refused."""
    ejected = here.run("bwrap", "--unshare-all", "--unshare-user", "--ro-bind", "/", "/", "true").returncode == 0
    here.host("--cell", cell("phoenix"))
    here.good("load", cell("phoenix"), "other")
    here.refused("EXISTS", "load", cell("phoenix"), "other")
    here.good("swap", "other", cell("phoenix-next"))
    here.good("restart", "other")
    wanted = [f"cell phoenix was loaded: {cell('phoenix')}", f"cell other was loaded: {cell('phoenix')}",
              f"cell other was replaced by {cell('phoenix-next')}", "cell other was restarted"]
    if ejected:
        here.good("eject", "other")
        here.refused("EXISTS", "eject", "other")
        here.good("absorb", "other")
        wanted += ["cell other was ejected", "cell other was absorbed"]
    here.refused("NO_METHOD", "swap", "other", cell("phoenix"))
    here.good("unload", "other")
    found = [text for grade, name, text in lines_of(here.read("log")) if grade == "info" and " was " in text]
    assert found == [*wanted, "cell other was unloaded"], found


def an_unload_that_would_lose_a_state(here):
    """Fails and says why, wherever the cell is, and it goes on; unless it is told that this does not matter."""
    ejected = here.run("bwrap", "--unshare-all", "--unshare-user", "--ro-bind", "/", "/", "true").returncode == 0
    host = here.host()
    for where in ("in process", "sandbox") if ejected else ("in process",):
        here.good("load", cell("mirror"))
        if where == "sandbox":
            here.good("eject", "mirror")
        here.good("call", "mirror", "=number", "7")
        os.makedirs(here.path("state_home", "cellhost", "mirror.state"))
        said = here.refused("NO_RESOURCES", "unload", "mirror")
        assert said.startswith("cell mirror: its state cannot be kept: "), said
        assert said.endswith("; it goes on, and 'cellctl unload --force mirror' ends it all the same"), said
        assert here.good("call", "mirror", "@number") == "value: 7\n"
        said = here.good("unload", "--force", "mirror")
        assert said.startswith("mirror: unloaded\ncell mirror: its state cannot be kept: "), said
        assert "mirror" not in here.good("list")
        os.rmdir(here.path("state_home", "cellhost", "mirror.state"))
    here.good("load", cell("mirror"))
    os.mkdir(here.path("state_home", "cellhost", "mirror.state"))
    assert "its state cannot be kept" in json.loads(here.good("--json", "unload", "--force", "mirror"))["lost"]
    os.rmdir(here.path("state_home", "cellhost", "mirror.state"))
    here.good("load", cell("mirror"))
    assert here.good("unload", "--force", "mirror") == "mirror: unloaded\n"
    assert stop(host) == 0


def a_state_that_cannot_be_kept(here):
    """All others are, and the exit code says it."""
    folder = here.path("state_home", "cellhost")
    host = here.host("--cell", cell("mirror"), "--cell", cell("sequence"))
    here.good("call", "mirror", "=number", "7")
    os.mkdir(os.path.join(folder, "mirror.state"))
    assert stop(host) == EXIT["NO_RESOURCES"]
    assert "cell mirror: its state cannot be kept" in here.read("log").splitlines()[-1], here.read("log")
    assert os.path.exists(os.path.join(folder, "sequence.state")) and not os.path.exists(here.socket)


# ---- at rest -----------------------------------------------------------------------------------------------


def waits(pid):
    """How often each thread has begun to wait, which it does again after each time that it was woken."""
    found = {}
    for path in glob.glob(f"/proc/{pid}/task/*/status"):
        with open(path, encoding="ascii") as file:
            found[path] = re.search(r"^voluntary_ctxt_switches:\s+(\d+)$", file.read(), re.MULTILINE).group(1)
    return found


def idle(here):
    """A host that nobody calls does nothing, also when somebody is connected and a call is kept to be answered later."""
    host = here.host("--cell", cell("mirror"), "--cell", ALARM)
    here.good("call", "mirror", "nothing")
    caller = here.spawn(CTL, "call", "alarm", "wait", "600000", "x", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: here.good("call", "alarm", "@waiting") == "value: 1\n", "the call")
    caller.send_signal(signal.SIGSTOP)  # one that waits reminds the host now and then
    for _ in range(20):                 # threads that were at work end after a while, each with a wake-up
        before = waits(host.pid)
        time.sleep(1)
        after = waits(host.pid)
        if before == after:
            return
        print(f"# {before} {after}", flush=True)
    raise AssertionError("it does not come to rest")


def processor_time(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def waiting_costs_nothing(here):
    """While a handler takes its time, those who wait for its cell do not keep a processor busy."""
    host = here.host("--cell", cell("mirror"))
    callers = [here.spawn(CTL, "call", "--timeout", "100", "mirror", "hold", here.path(f"begun-{i}"), here.path("until"))
               for i in range(3)]
    wait_until(lambda: any(os.path.exists(here.path(f"begun-{i}")) for i in range(3)), "a call")
    wait_until(lambda: [c["channels"] for c in json.loads(here.good("list", "--json")) if c["name"] == "mirror"] == [3],
               "the callers")
    spent = 1
    for _ in range(20):                 # the last of them may be on its way
        before = processor_time(host.pid)
        time.sleep(1)
        spent = processor_time(host.pid) - before
        if spent < 0.15:
            break
    assert spent < 0.15, f"{spent} s in a second"
    here.write("until", "")
    for caller in callers:
        assert caller.wait(BOUND) == 0


# ---- its log -----------------------------------------------------------------------------------------------


def lines_of(text):
    """(grade, who, what) of each line; there is nothing else in a log."""
    found = [re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} (error|warning|info|debug) ([\w.-]+): (.*)", line) for line in text.splitlines()]
    assert all(found), text
    return [match.groups() for match in found]


def grades_of_the_log(here):
    everything = [("debug", "chatty", "so, in detail"), ("info", "chatty", "so"), ("warning", "chatty", "so, take care"),
                  ("error", "chatty", "so, it is wrong")]
    for i, (arguments, least) in enumerate(((["-l", "error"], 3), (["--log-level=warning"], 2), ([], 1), (["--verbose"], 0),
                                            (["-l", "debug"], 0))):
        host = here.host(*arguments, log=f"log-{i}")
        here.good("load", cell("mirror"), "chatty")
        here.good("call", "chatty", "log", "so")
        assert stop(host) == 0
        lines = lines_of(here.read(f"log-{i}"))
        assert [line for line in lines if line[1] == "chatty"] == everything[least:], (arguments, lines)
        assert any(line[:2] == ("info", "host") and here.socket in line[2] for line in lines) == (least < 2), lines


def the_log_of_an_ejected_cell(here):
    """Is the same, and so is what it writes to its standard error in another way."""
    if here.run("bwrap", "--unshare-all", "--unshare-user", "--ro-bind", "/", "/", "true").returncode != 0:
        raise Skip("bubblewrap cannot make a sandbox here")
    host = here.host("--verbose", "--cell", cell("mirror"))
    here.good("eject", "mirror")
    here.good("call", "mirror", "log", "häß")
    here.good("call", "mirror", "write", "<0>grave\n\x1b[31mred\n" + "x" * 3000 + "\nend")
    here.good("absorb", "mirror")
    wait_until(lambda: "warning mirror: end" in here.read("log"), "the last line")
    assert stop(host) == 0
    wanted = [("debug", "mirror", "häß, in detail"), ("info", "mirror", "häß"), ("warning", "mirror", "häß, take care"),
              ("error", "mirror", "häß, it is wrong"),
              ("error", "mirror", "grave"), ("warning", "mirror", " [31mred"), ("warning", "mirror", "x" * 2048),
              ("warning", "mirror", "x" * 952),
              ("warning", "mirror", "end")]
    assert [line for line in lines_of(here.read("log")) if line[1] == "mirror"] == wanted


def wrong_threads(here):
    """What a cell calls on a thread of its own is refused and reported: its first call, and when the host is debugged each
    function."""
    first = (r"straggler(\.so)? called \S+, which is for \[cell\] only, on a thread that does not run the cell's code; the call "
             r"was refused")
    for i, (arguments, functions) in enumerate((([], 1), (["--debug=threads"], 5))):
        log = f"log-{i}"
        host = here.host("--cell", LEDGER, "--cell", cell("straggler"), *arguments, log=log, env=dict(here.env, CELLHOST_DEBUG=""))
        here.good("call", "straggler", "leave")
        wait_until(lambda: len(set(re.findall(r" called (\S+),", here.read(log)))) >= functions, "the report")
        here.good("call", "straggler", "work")
        assert stop(host) == 0
        assert re.search(first, here.read(log)), here.read(log)
        assert arguments or here.read(log).count(" called ") == 1, here.read(log)


def wrong_threads_are_fatal(here):
    host = here.host("--cell", LEDGER, "--cell", cell("straggler"), "--debug=threads,fatal")
    here.ctl("call", "straggler", "leave")
    assert host.wait(BOUND) == -signal.SIGABRT, here.read("log")
    assert "straggler" in here.read("log").splitlines()[-1], here.read("log")


def wrong_threads_of_an_ejected_cell(here):
    if here.run("bwrap", "--unshare-all", "--unshare-user", "--ro-bind", "/", "/", "true").returncode != 0:
        raise Skip("bubblewrap cannot make a sandbox here")
    host = here.host("--cell", LEDGER, "--cell", cell("straggler"), "--debug=threads")
    here.good("eject", "straggler")
    here.good("call", "straggler", "leave")
    wait_until(lambda: "warning straggler: straggler called client.call, which is for [cell] only" in here.read("log"),
               "the report")
    here.good("call", "straggler", "work")
    here.good("absorb", "straggler")
    here.good("call", "straggler", "work")
    assert stop(host) == 0


def one_line_whatever_a_cell_says(here):
    host = here.host("--cell", cell("mirror"))
    here.good("call", "mirror", "log", "a\nb\x1b[31m")
    assert stop(host) == 0
    assert ("info", "mirror", "a b [31m") in lines_of(here.read("log"))


def fields_in_the_journal(here):
    """The journal's sockets are looked for in one place only: a namespace of our own has them there."""
    probe = ["bwrap", "--dev-bind", "/", "/", "--tmpfs", "/run", "true"]
    if here.run(*probe).returncode != 0:
        raise Skip("bubblewrap cannot make a namespace here")
    done = here.run("bwrap", "--dev-bind", "/", "/", "--tmpfs", "/run", "--die-with-parent", sys.executable,
                    os.path.abspath(__file__), "--in-journal", here.folder, env=os.environ)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()


def parse_entry(data):
    """One datagram of the journal's own protocol: NAME=VALUE, or NAME, the length and the value."""
    fields = {}
    while data:
        line, data = data.split(b"\n", 1)
        if b"=" in line:
            name, value = line.split(b"=", 1)
        else:
            size = int.from_bytes(data[:8], "little")
            name, value, data = line, data[8:8 + size], data[8 + size + 1:]
        fields[name.decode()] = value.decode()
    return fields


def in_journal():
    os.makedirs("/run/systemd/journal")
    entries = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    entries.bind("/run/systemd/journal/socket")
    entries.settimeout(BOUND)
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stream.bind("/run/systemd/journal/stdout")
    stream.listen()
    error = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    error.connect("/run/systemd/journal/stdout")
    with place() as here:
        mirror = shutil.copy(cell("mirror"), here.folder)       # whoever owns the original, in here it may be nobody
        host = here.host("--cell", mirror, stderr=error)
        first = [parse_entry(entries.recv(65536)) for _ in range(2)]
        assert all(entry["PRIORITY"] == "6" and "CELLHOST_CELL" not in entry for entry in first), first
        assert [path in entry["MESSAGE"] for path, entry in zip((mirror, here.socket), first)] == [True, True], first
        here.good("call", "mirror", "log", "so")
        said = [parse_entry(entries.recv(65536)) for _ in range(3)]
        assert [(entry["PRIORITY"], entry["MESSAGE"]) for entry in said] == [("6", "so"), ("4", "so, take care"),
                                                                             ("3", "so, it is wrong")], said
        assert all(entry["CELLHOST_CELL"] == "mirror" for entry in said), said
        assert stop(host) == 0


if sys.argv[1:2] == ["--in-journal"]:
    in_journal()
else:
    main([private, a_folder_of_others, a_second_host, what_a_crash_left, what_somebody_else_put_there, places_that_cannot_be,
          bad_command_lines, root, calls_in_flight_are_answered, calls_that_wait_are_answered, the_second_signal,
          a_call_that_never_ends, signals_after_a_shutdown,
          stopped_as_soon_as_it_runs, what_its_manager_is_told, states, a_state_that_is_damaged, an_ejected_cell_s_state,
          an_ejected_cell_s_call, what_becomes_of_cells_is_logged, an_unload_that_would_lose_a_state,
          a_state_that_cannot_be_kept, idle, waiting_costs_nothing,
          grades_of_the_log, the_log_of_an_ejected_cell, wrong_threads, wrong_threads_are_fatal, wrong_threads_of_an_ejected_cell,
          one_line_whatever_a_cell_says, fields_in_the_journal])
